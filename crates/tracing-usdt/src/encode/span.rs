//! A closed span as all formats encode it: interprets fields such as `otel.name`, and adds the layer's own
//! attributes.

use std::borrow::Cow;
use std::ops::Deref;

use tracing_core::Metadata;

use super::value::value_text;
use crate::callsite::Encoded;
use crate::fields::{BEGAN_BEFORE, Entry, UNFINISHED, Vocabulary};
use crate::span::{ClosedSpan, Elapsed, Event};

/// An attribute of a span or an event: a field of the program, or one that the layer adds.
pub(super) enum Attribute<'a> {
    Field(Entry<'a>),
    Text(&'static str, &'a str),
    Number(&'static str, u64),
    /// An attribute whose value is true.
    Flag(&'static str),
}

/// The attributes that are the same for all spans of a callsite.
pub(super) fn fixed_attributes<'a>(metadata: &'a Metadata<'_>, write: &mut dyn FnMut(Attribute<'a>)) {
    let added = [
        Some(Attribute::Text("level", metadata.level().as_str())),
        Some(Attribute::Text("target", metadata.target())),
        metadata.file().map(|file| Attribute::Text("code.file.path", file)),
        metadata.line().map(|line| Attribute::Number("code.line.number", line.into())),
        metadata.module_path().map(|path| Attribute::Text("code.module.name", path)),
    ];
    added.into_iter().flatten().for_each(write);
}

/// A closed span with what is needed to encode it.
pub(super) struct SpanView<'a> {
    span: &'a ClosedSpan<'a>,
    pub(super) encoded: &'a Encoded,
    pub(super) vocabulary: &'a Vocabulary,
    is_plain: bool,
    is_in_batch: bool,
}

impl<'a> Deref for SpanView<'a> {
    type Target = ClosedSpan<'a>;

    fn deref(&self) -> &ClosedSpan<'a> {
        self.span
    }
}

impl<'a> SpanView<'a> {
    pub(super) fn new(
        span: &'a ClosedSpan<'a>,
        encoded: &'a Encoded,
        vocabulary: &'a Vocabulary,
        is_in_batch: bool,
    ) -> Self {
        let is_plain = encoded.is_plain && !span.record.has_reserved_name && *vocabulary == Vocabulary::ALL;
        Self { span, encoded, vocabulary, is_plain, is_in_batch }
    }
}

impl SpanView<'_> {
    /// Whether no field has a special meaning and all attributes are enabled, so that the callsite's encoded
    /// parts apply.
    pub(super) fn is_plain(&self) -> bool {
        self.is_plain
    }

    /// The text of a field that has a special meaning; `None` if the field is not set or its meaning is
    /// disabled.
    fn interpreted_field(&self, name: &str) -> Option<Cow<'_, str>> {
        let is_interpreted = !self.is_plain() && self.vocabulary.is_special(name);
        if is_interpreted { self.fields().get(name).map(value_text) } else { None }
    }

    /// The name from the field `otel.name`, which replaces the callsite's.
    pub(super) fn name_field(&self) -> Option<Cow<'_, str>> {
        self.interpreted_field("otel.name")
    }

    pub(super) fn kind(&self) -> Kind {
        let given = self.interpreted_field("otel.kind");
        let named = |kind: &Kind| given.as_ref().is_some_and(|given| kind.name().eq_ignore_ascii_case(given));
        let known = [Kind::Server, Kind::Client, Kind::Producer, Kind::Consumer];
        known.into_iter().find(named).unwrap_or(Kind::Internal)
    }

    /// The status from the span's `otel.status_*` fields, else from the events inside it, else from its field
    /// `error`. A description alone means an error, as in tracing-opentelemetry.
    pub(super) fn status(&self) -> Status<'_> {
        if !self.vocabulary.status || (self.is_plain() && self.record.error.is_none()) {
            return Status::Unset;
        }
        let code = self.interpreted_field("otel.status_code").map(|code| code.to_ascii_lowercase());
        if code.as_deref() == Some("ok") {
            return Status::Ok;
        }
        let description = self.interpreted_field("otel.status_description");
        let from_events = || self.record.error.filter(|error| !error.is_empty()).map(Cow::from);
        // The text `true` is no description.
        let field = self.error_field().map(|text| if text == "true" { Cow::default() } else { text });
        let is_failed = code.as_deref() == Some("error") || self.record.error.is_some();
        match (description.or_else(from_events), field) {
            (Some(description), _) => Status::Error(description),
            (None, field) if is_failed => Status::Error(field.unwrap_or_default()),
            (None, Some(field)) => Status::ErrorField(field),
            (None, None) => Status::Unset,
        }
    }

    /// The text of the field `error`, unless its value denies an error.
    pub(super) fn error_field(&self) -> Option<Cow<'_, str>> {
        if self.is_plain() {
            return None;
        }
        self.fields().get("error").filter(|error| !error.means_no_error()).map(value_text)
    }

    /// Whether the span has a field that becomes an attribute of this name.
    pub(super) fn has_field(&self, key: &str) -> bool {
        !self.vocabulary.is_special(key) && self.fields().get(key).is_some()
    }

    /// The fields that become attributes.
    pub(super) fn field_attributes(&self, write: &mut dyn FnMut(Attribute<'_>)) {
        let interpreted = |field: &Entry<'_>| !self.is_plain() && self.vocabulary.is_special(field.name);
        self.fields()
            .entries()
            .filter(|field| !interpreted(field))
            .for_each(|field| write(Attribute::Field(field)));
    }

    /// The callsite's attributes, for a span that is not plain; see [`Encoded`] for others.
    pub(super) fn fixed_attributes(&self, write: &mut dyn FnMut(Attribute<'_>)) {
        fixed_attributes(self.callsite.metadata, &mut |attribute| self.write_unless_field(attribute, write));
    }

    /// The attributes of this span that the layer adds.
    pub(super) fn own_attributes(&self, write: &mut dyn FnMut(Attribute<'_>)) {
        let (record, elapsed) = (self.record, self.elapsed);
        let shortened = u64::from(record.dropped.fields.shortened);
        if record.began_before {
            self.write_unless_field(Attribute::Flag(BEGAN_BEFORE), write);
            return;
        }
        let thread = record.thread();
        let added = [
            (thread.id != 0).then_some(Attribute::Number("thread.id", thread.id)),
            (!thread.name.is_empty()).then_some(Attribute::Text("thread.name", thread.name)),
            Some(Attribute::Number("busy_ns", elapsed.busy_ns)),
            Some(Attribute::Number("idle_ns", elapsed.duration_ns.saturating_sub(elapsed.busy_ns))),
            (shortened > 0).then_some(Attribute::Number("tracing_usdt.shortened_values_count", shortened)),
        ];
        added.into_iter().flatten().for_each(|attribute| self.write_unless_field(attribute, write));
        if record.is_unfinished {
            self.write_unless_field(Attribute::Flag(UNFINISHED), write);
        }
    }

    /// The busy time, and for how long threads said that they were in the span; for a batch, where the attribute `busy_ns` does
    /// not tell both.
    pub(super) fn entered_times(&self) -> Option<(u64, u64)> {
        let Elapsed { busy_ns, entered_ns, .. } = self.elapsed;
        let is_told = !self.record.began_before && (self.is_plain() || self.writes_busy());
        (self.is_in_batch && !(is_told && entered_ns == busy_ns)).then_some((busy_ns, entered_ns))
    }

    fn writes_busy(&self) -> bool {
        self.vocabulary.busy_and_idle && !self.has_field("busy_ns")
    }

    /// Writes the attribute, unless it is disabled or a field has its name: no key may come twice.
    fn write_unless_field<'a>(&self, attribute: Attribute<'a>, write: &mut dyn FnMut(Attribute<'a>)) {
        let (Attribute::Text(key, _) | Attribute::Number(key, _) | Attribute::Flag(key)) = &attribute else {
            return;
        };
        if self.is_plain() || (self.vocabulary.has(key) && !self.has_field(key)) {
            write(attribute);
        }
    }
}

impl Event<'_> {
    /// The message; without one, `exception` or the callsite's name.
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
        // A record of the `log` crate has its location in fields, which `Builder::with_location` disables
        // like any other.
        let is_enabled = |name: &str| !self.fields.callsite().is_log_bridge || vocabulary.has(name);
        let fields = self.fields.entries().filter(|field| field.name != "message" && is_enabled(field.name));
        fields.for_each(|field| write(Attribute::Field(field)));
    }
}

/// A span's kind, with OTLP's numbers.
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
    /// An error that only the field `error` shows, with its text.
    ErrorField(Cow<'a, str>),
}
