//! A closed span as every format tells it: what its fields mean, and what is known besides.

use std::borrow::Cow;

use super::json::value_text;
use crate::clock::Monotonic;
use crate::fields::Value;
use crate::identity::Identity;
use crate::span::{Elapsed, Event, Record};

pub(crate) struct Span<'a> {
    pub(crate) identity: Identity,
    pub(crate) start: Monotonic,
    pub(crate) elapsed: Elapsed,
    pub(crate) record: &'a Record,
}

/// Something said of a span or an event, by the user or by us.
pub(super) enum Attribute<'a> {
    Field(&'a Value),
    Text(&'a str),
    Number(u64),
}

/// Fields that say something about the span instead of being an attribute of it.
const INTERPRETED: [&str; 4] = ["otel.name", "otel.kind", "otel.status_code", "otel.status_description"];

/// The attributes that we add, in the order of [`Span::attributes`].
pub(super) const OURS: [&str; 10] = [
    "level",
    "target",
    "code.file.path",
    "code.line.number",
    "code.module.name",
    "thread.id",
    "thread.name",
    "busy_ns",
    "idle_ns",
    "tracing_usdt.shortened_values_count",
];

impl Span<'_> {
    pub(super) fn name(&self) -> Cow<'_, str> {
        let given = self.record.fields().get("otel.name");
        given.map_or(Cow::Borrowed(self.record.metadata.name()), value_text)
    }

    pub(super) fn kind(&self) -> Kind {
        let given = self.record.fields().get("otel.kind").map(value_text);
        let named = |kind: &Kind| given.as_ref().is_some_and(|given| kind.name().eq_ignore_ascii_case(given));
        let known = [Kind::Server, Kind::Client, Kind::Producer, Kind::Consumer];
        known.into_iter().find(named).unwrap_or(Kind::Internal)
    }

    /// What the span's own fields say stands; else what an event inside it told. A description
    /// alone means an error, as in tracing-opentelemetry.
    pub(super) fn status(&self) -> Status {
        let field = |key| self.record.fields().get(key).map(|value| value_text(value).into_owned());
        let code = field("otel.status_code").map(|code| code.to_ascii_lowercase());
        let description = field("otel.status_description");
        match (code.as_deref(), description, self.record.event_error()) {
            (Some("ok"), ..) => Status::Ok,
            (_, Some(description), _) => Status::Error(description),
            (_, None, Some(error)) => Status::Error(error.to_owned()),
            (Some("error"), None, None) => Status::Error(String::new()),
            _ => Status::Unset,
        }
    }

    /// Whether a field of the user's is an attribute of this name.
    pub(super) fn has_field(&self, key: &str) -> bool {
        !INTERPRETED.contains(&key) && self.record.fields().get(key).is_some()
    }

    /// The fields first; then ours, where no field has the name already, so that no key comes twice.
    pub(super) fn attributes(&self, mut write: impl FnMut(&str, Attribute<'_>)) {
        let record = self.record;
        for (key, value) in record.fields().iter().filter(|(key, _)| !INTERPRETED.contains(key)) {
            write(key, Attribute::Field(value));
        }
        let metadata = record.metadata;
        let shortened = u64::from(record.left_out.shortened);
        let ours = [
            Some(Attribute::Text(metadata.level().as_str())),
            Some(Attribute::Text(metadata.target())),
            metadata.file().map(Attribute::Text),
            metadata.line().map(|line| Attribute::Number(line.into())),
            metadata.module_path().map(Attribute::Text),
            record.thread.id.map(Attribute::Number),
            record.thread.name.as_deref().map(Attribute::Text),
            Some(Attribute::Number(self.elapsed.busy_ns)),
            Some(Attribute::Number(self.elapsed.duration_ns.saturating_sub(self.elapsed.busy_ns))),
            (shortened > 0).then_some(Attribute::Number(shortened)),
        ];
        for (key, attribute) in OURS.into_iter().zip(ours) {
            if let Some(attribute) = attribute.filter(|_| !self.has_field(key)) {
                write(key, attribute);
            }
        }
    }
}

impl Event {
    pub(super) fn attributes(&self, mut write: impl FnMut(&str, Attribute<'_>)) {
        let metadata = self.metadata;
        for (key, text) in [("level", metadata.level().as_str()), ("target", metadata.target())] {
            if self.fields.get(key).is_none() {
                write(key, Attribute::Text(text));
            }
        }
        for (key, value) in self.fields.iter() {
            write(key, Attribute::Field(value));
        }
    }
}

/// With the numbers of OTLP.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Kind {
    Internal = 1,
    Server = 2,
    Client = 3,
    Producer = 4,
    Consumer = 5,
}

impl Kind {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Internal => "INTERNAL",
            Self::Server => "SERVER",
            Self::Client => "CLIENT",
            Self::Producer => "PRODUCER",
            Self::Consumer => "CONSUMER",
        }
    }
}

pub(super) enum Status {
    Unset,
    Ok,
    /// With its description, which may be empty.
    Error(String),
}
