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

pub(crate) use json::{hex, json_string, value_text};
pub(crate) use span::{Fixed, has_meaning};

use span::Telling;

use crate::context::Ids;
use crate::fields::FieldsView;
use crate::process::PerProcess;
use crate::resource::Resource;
use crate::span::ClosedSpan;
use crate::vocabulary::Vocabulary;

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

/// Writes the datagrams of one process.
pub(crate) struct Encoder {
    format: Format,
    resource: Resource,
    vocabulary: Vocabulary,
    /// What a datagram begins with. A forked child has a pid of its own.
    open: PerProcess<Vec<u8>>,
    /// Zipkin's way to say who sends.
    local_endpoint: Vec<u8>,
}

impl Encoder {
    pub(crate) fn new(format: Format, resource: Resource, vocabulary: Vocabulary) -> Self {
        let open = PerProcess::new(opening(format, &resource));
        let local_endpoint = zipkin::local_endpoint(&resource);
        Self { format, resource, vocabulary, open, local_endpoint }
    }

    pub(crate) fn format(&self) -> Format {
        self.format
    }

    /// Begins a datagram in the empty `out`.
    pub(crate) fn open(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.opening());
    }

    /// Adds a span.
    pub(crate) fn span(&self, out: &mut Vec<u8>, span: &ClosedSpan<'_>) {
        self.comma(out);
        let span = Telling::new(span, &self.vocabulary);
        match self.format {
            Format::Zipkin => zipkin::span(out, &span, &self.resource, &self.local_endpoint),
            Format::Otlp => otlp::span(out, &span),
        }
    }

    /// Adds the span that tells of losses.
    pub(crate) fn losses(&self, out: &mut Vec<u8>, losses: &Losses<'_>) {
        self.comma(out);
        match self.format {
            Format::Zipkin => zipkin::losses(out, losses, &self.local_endpoint),
            Format::Otlp => otlp::losses(out, losses),
        }
    }

    /// Ends the datagram, with its place in the sequence of all that the layer sends.
    pub(crate) fn close(&self, out: &mut Vec<u8>, sequence: Option<&Sequence>) {
        match self.format {
            Format::Zipkin => zipkin::close(out, sequence),
            Format::Otlp => otlp::close(out, sequence),
        }
    }

    fn comma(&self, out: &mut Vec<u8>) {
        if out.len() > self.opening().len() {
            out.push(b',');
        }
    }

    fn opening(&self) -> &[u8] {
        self.open.get(|| opening(self.format, &self.resource))
    }
}

fn opening(format: Format, resource: &Resource) -> Vec<u8> {
    match format {
        Format::Zipkin => zipkin::OPEN.to_vec(),
        Format::Otlp => otlp::open(resource),
    }
}

/// Where a datagram stands in the sequence of all that one layer sends in one process. Spans that its socket took, but that the
/// receiver never got, show as a gap before the next datagram: a receiver that is killed takes along what waited for it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Sequence {
    /// In hex, drawn at random by each layer in each process.
    pub(crate) sender: [u8; 16],
    /// How many spans the socket had taken when this datagram was made.
    pub(crate) sent_before: u64,
    /// How many spans it holds, without the one that reports losses.
    pub(crate) spans: u64,
    /// How many spans were reported as lost before: a report, too, may lie in the queue of a receiver that is killed.
    pub(crate) lost_before: u64,
}

impl Sequence {
    /// Neither protobuf's JSON nor Zipkin's has a member of this name, and the readers of both pass over names that
    /// they don't know.
    fn write_member(&self, out: &mut Vec<u8>) {
        // In a few steps: inline delivery does it for each span.
        out.reserve(128);
        out.extend_from_slice(b",\"tracingUsdt\":{\"sender\":\"");
        out.extend_from_slice(&self.sender);
        out.extend_from_slice(b"\",\"sentBefore\":");
        json::number(out, self.sent_before);
        out.extend_from_slice(b",\"spans\":");
        json::number(out, self.spans);
        if self.lost_before > 0 {
            out.extend_from_slice(b",\"lostBefore\":");
            json::number(out, self.lost_before);
        }
        out.push(b'}');
    }
}

/// Spans that did not reach the receiver.
pub(crate) struct Losses<'a> {
    pub(crate) context: Ids,
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

/// `fields` as a JSON object with their types kept, for the probes; without those named in `except`.
pub(crate) fn fields_object(fields: FieldsView<'_>, except: &[&str]) -> CString {
    let mut out = Vec::new();
    let mut object = json::Object::open(&mut out);
    json::fields_into(&mut object, fields, except);
    object.close();
    // JSON has no NUL: inside strings it is escaped.
    CString::new(out).unwrap_or_default()
}
