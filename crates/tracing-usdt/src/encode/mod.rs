//! From a finished span to the text of a datagram.
//!
//! `span` says what there is to tell, `zipkin` and `otlp` tell it in their way, `json` writes.

mod json;
mod otlp;
#[cfg(test)]
mod properties;
mod span;
mod zipkin;

use std::ffi::CString;

pub(crate) use json::value_text;
pub(crate) use span::Span;

use crate::context::SpanContext;
use crate::fields::Fields;
use crate::resource::Resource;

/// What a datagram holds.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
#[non_exhaustive]
pub enum Format {
    /// A JSON array of Zipkin v2 spans, as `/api/v2/spans` takes it.
    #[default]
    Zipkin,
    /// An OTLP/JSON `ExportTraceServiceRequest`, as `/v1/traces` takes it.
    Otlp,
}

impl Format {
    /// The datagram that holds this one span.
    pub(crate) fn datagram(self, span: &Span<'_>, resource: &Resource) -> Vec<u8> {
        match self {
            Self::Zipkin => zipkin::datagram(span, resource),
            Self::Otlp => otlp::datagram(span, resource),
        }
    }

    /// The datagram that tells of losses: a span of its own trace over the interval they fell in.
    pub(crate) fn losses(self, losses: &Losses<'_>, resource: &Resource) -> Vec<u8> {
        match self {
            Self::Zipkin => zipkin::losses(losses, resource),
            Self::Otlp => otlp::losses(losses, resource),
        }
    }
}

/// Spans that did not reach the receiver.
pub(crate) struct Losses<'a> {
    pub(crate) context: SpanContext,
    pub(crate) start_ns: u64,
    pub(crate) end_ns: u64,
    /// How many for each reason.
    pub(crate) reasons: &'a [(&'static str, u64)],
}

impl Losses<'_> {
    const NAME: &'static str = "tracing_usdt.dropped";

    fn attributes(&self) -> impl Iterator<Item = (String, u64)> {
        self.reasons.iter().map(|(reason, spans)| (format!("{}.{reason}", Self::NAME), *spans))
    }
}

/// `fields` as a JSON object with their types kept, for the probes.
pub(crate) fn fields_object(fields: &Fields) -> CString {
    let mut out = Vec::new();
    let mut object = json::Object::open(&mut out);
    json::fields_into(&mut object, fields);
    object.close();
    nul_terminated(out)
}

/// JSON as a C string. JSON has no NUL: inside strings it is escaped.
pub(crate) fn nul_terminated(json: Vec<u8>) -> CString {
    CString::new(json).unwrap_or_default()
}
