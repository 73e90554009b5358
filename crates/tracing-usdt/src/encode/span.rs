//! A closed span as every format tells it: what its fields mean, and what is known besides.

use std::borrow::Cow;
use std::ops::Deref;

use tracing_core::Metadata;

use super::json::{json_string, value_text};
use super::{otlp, zipkin};
use crate::fields::{Entry, text_cost};
use crate::span::{ClosedSpan, Event};
use crate::vocabulary::Vocabulary;

/// Something said of a span or an event, by the user or by us.
pub(super) enum Attribute<'a> {
    Field(Entry<'a>),
    Text(&'static str, &'a str),
    Number(&'static str, u64),
    /// It is true.
    Flag(&'static str),
}

/// What we say of a span besides its fields, unless a field of that name does.
pub(super) const OURS: [&str; 11] = [
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
    UNFINISHED,
];

/// The program ended before the span did.
const UNFINISHED: &str = "tracing_usdt.unfinished";

/// What each span of a callsite says alike, as JSON.
pub(crate) struct Fixed {
    /// The name, as a string.
    pub(super) name: Box<str>,
    /// The attributes, as each format has them.
    pub(super) zipkin: String,
    pub(super) otlp: String,
    /// No field has a name that means something to us.
    plain: bool,
    /// What an event of the callsite costs beyond its fields.
    pub(crate) event_cost: usize,
}

/// Whether a field of this name says something about the span, or stands for what we would say.
pub(crate) fn has_meaning(name: &str) -> bool {
    Vocabulary::ALL.interprets(name) || OURS.contains(&name) || zipkin::TAGS.contains(&name)
}

impl Fixed {
    pub(crate) fn new(metadata: &Metadata<'_>, fields: &[&str]) -> Self {
        Self {
            name: json_string(metadata.name()),
            zipkin: zipkin::members(|write| fixed_attributes(metadata, write)),
            otlp: otlp::members(|write| fixed_attributes(metadata, write)),
            plain: !fields.iter().any(|name| has_meaning(name)),
            event_cost: text_cost(metadata.name()) + text_cost(metadata.target()),
        }
    }
}

fn fixed_attributes<'a>(metadata: &'a Metadata<'_>, write: &mut dyn FnMut(Attribute<'a>)) {
    let ours = [
        Some(Attribute::Text("level", metadata.level().as_str())),
        Some(Attribute::Text("target", metadata.target())),
        metadata.file().map(|file| Attribute::Text("code.file.path", file)),
        metadata.line().map(|line| Attribute::Number("code.line.number", line.into())),
        metadata.module_path().map(|path| Attribute::Text("code.module.name", path)),
    ];
    ours.into_iter().flatten().for_each(write);
}

/// A span as it is told.
pub(super) struct Telling<'a> {
    span: &'a ClosedSpan<'a>,
    pub(super) vocabulary: &'a Vocabulary,
    is_plain: bool,
}

impl<'a> Deref for Telling<'a> {
    type Target = ClosedSpan<'a>;

    fn deref(&self) -> &ClosedSpan<'a> {
        self.span
    }
}

impl<'a> Telling<'a> {
    pub(super) fn new(span: &'a ClosedSpan<'a>, vocabulary: &'a Vocabulary) -> Self {
        let is_plain = span.callsite.fixed.plain && !span.record.told && *vocabulary == Vocabulary::ALL;
        Self { span, vocabulary, is_plain }
    }
}

impl Telling<'_> {
    /// What is said of it is known from the callsite, and no field says anything about it.
    pub(super) fn is_plain(&self) -> bool {
        self.is_plain
    }

    /// A field that says something about the span.
    fn said(&self, name: &str) -> Option<Cow<'_, str>> {
        let is_said = !self.is_plain() && self.vocabulary.interprets(name);
        if is_said { self.fields().get(name).map(value_text) } else { None }
    }

    /// The name that a field gives; by default it is the callsite's.
    pub(super) fn given_name(&self) -> Option<Cow<'_, str>> {
        self.said("otel.name")
    }

    pub(super) fn kind(&self) -> Kind {
        let given = self.said("otel.kind");
        let named = |kind: &Kind| given.as_ref().is_some_and(|given| kind.name().eq_ignore_ascii_case(given));
        let known = [Kind::Server, Kind::Client, Kind::Producer, Kind::Consumer];
        known.into_iter().find(named).unwrap_or(Kind::Internal)
    }

    /// The span's own fields decide, then the events inside it, then its field `error`. A description
    /// alone means an error, as in tracing-opentelemetry.
    pub(super) fn status(&self) -> Status<'_> {
        if !self.vocabulary.status || (self.is_plain() && self.record.error.is_none()) {
            return Status::Unset;
        }
        let code = self.said("otel.status_code").map(|code| code.to_ascii_lowercase());
        if code.as_deref() == Some("ok") {
            return Status::Ok;
        }
        let described = self.said("otel.status_description");
        let told = || self.record.error.filter(|error| !error.is_empty()).map(Cow::from);
        // `true` describes nothing.
        let field = self.error_field().map(|text| if text == "true" { Cow::default() } else { text });
        let is_failed = code.as_deref() == Some("error") || self.record.error.is_some();
        match (described.or_else(told), field) {
            (Some(description), _) => Status::Error(description),
            (None, field) if is_failed => Status::Error(field.unwrap_or_default()),
            (None, Some(field)) => Status::ErrorField(field),
            (None, None) => Status::Unset,
        }
    }

    /// What the field `error` says, unless it says that there was none.
    pub(super) fn error_field(&self) -> Option<Cow<'_, str>> {
        if self.is_plain() {
            return None;
        }
        self.fields().get("error").filter(|error| !error.denies_error()).map(value_text)
    }

    /// Whether a field of the user's is an attribute of this name.
    pub(super) fn has_field(&self, key: &str) -> bool {
        !self.vocabulary.interprets(key) && self.fields().get(key).is_some()
    }

    /// The fields, as attributes.
    pub(super) fn field_attributes(&self, write: &mut dyn FnMut(Attribute<'_>)) {
        let interpreted = |field: &Entry<'_>| !self.is_plain() && self.vocabulary.interprets(field.name);
        self.fields()
            .entries()
            .filter(|field| !interpreted(field))
            .for_each(|field| write(Attribute::Field(field)));
    }

    /// What is to be said of each span of the callsite, where it is not plain; see [`Fixed`].
    pub(super) fn fixed_attributes(&self, write: &mut dyn FnMut(Attribute<'_>)) {
        fixed_attributes(self.callsite.metadata, &mut |attribute| self.unless_said(attribute, write));
    }

    /// What we know of this one.
    pub(super) fn own_attributes(&self, write: &mut dyn FnMut(Attribute<'_>)) {
        let (record, elapsed) = (self.record, self.elapsed);
        let shortened = u64::from(record.left_out.fields.shortened);
        let ours = [
            (record.thread_id != 0).then_some(Attribute::Number("thread.id", record.thread_id)),
            (!record.thread_name.is_empty()).then_some(Attribute::Text("thread.name", record.thread_name)),
            Some(Attribute::Number("busy_ns", elapsed.busy_ns)),
            Some(Attribute::Number("idle_ns", elapsed.duration_ns.saturating_sub(elapsed.busy_ns))),
            (shortened > 0).then_some(Attribute::Number("tracing_usdt.shortened_values_count", shortened)),
        ];
        ours.into_iter().flatten().for_each(|attribute| self.unless_said(attribute, write));
        if record.is_unfinished {
            self.unless_said(Attribute::Flag(UNFINISHED), write);
        }
    }

    /// No key comes twice.
    fn unless_said<'a>(&self, attribute: Attribute<'a>, write: &mut dyn FnMut(Attribute<'a>)) {
        let (Attribute::Text(key, _) | Attribute::Number(key, _) | Attribute::Flag(key)) = &attribute else {
            return;
        };
        if self.is_plain() || (self.vocabulary.has(key) && !self.has_field(key)) {
            write(attribute);
        }
    }
}

impl Event<'_> {
    /// The message; an exception or the callsite's name, where there is none.
    pub(super) fn name(&self) -> Cow<'_, str> {
        match self.fields.get("message") {
            Some(message) => value_text(message),
            None if self.fields.get("exception.message").is_some() => "exception".into(),
            None => self.fields.callsite().metadata.name().into(),
        }
    }

    pub(super) fn attributes(&self, vocabulary: &Vocabulary, write: &mut dyn FnMut(Attribute<'_>)) {
        let metadata = self.fields.callsite().metadata;
        for (key, text) in [("level", metadata.level().as_str()), ("target", metadata.target())] {
            if vocabulary.has(key) && self.fields.get(key).is_none() {
                write(Attribute::Text(key, text));
            }
        }
        // Of a record of the `log` crate, what its callsite would say is fields.
        let is_said = |name: &str| !self.fields.callsite().is_log_bridge || vocabulary.has(name);
        let fields = self.fields.entries().filter(|field| field.name != "message" && is_said(field.name));
        fields.for_each(|field| write(Attribute::Field(field)));
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

pub(super) enum Status<'a> {
    Unset,
    Ok,
    /// With its description, which may be empty.
    Error(Cow<'a, str>),
    /// The same, where nothing but the field `error` says so.
    ErrorField(Cow<'a, str>),
}
