//! Encodes closed spans as a datagram.
//!
//! `span` interprets a span's fields and decides which attributes it has; `zipkin` and `otlp` write it in
//! their formats, with the parts that `callsite` has encoded before and the values that `value` encodes.
//! `resource` describes the process, `losses` reports lost spans and `open_report` open ones, and `sequence` is a datagram's
//! place among all that its sender sends. `format` names the formats, and `properties` tests them.

mod callsite;
mod format;
mod losses;
mod open_report;
mod otlp;
#[cfg(test)]
mod properties;
mod resource;
mod sequence;
mod span;
mod value;
mod zipkin;

pub use format::Format;
pub(crate) use losses::Losses;
pub(crate) use open_report::{OpenReport, OpenReportWriter};
pub(crate) use resource::Resource;
pub(crate) use sequence::Sequence;
pub(crate) use value::{fields_object, value_text};

use std::sync::Arc;

use span::SpanView;

use crate::fields::Vocabulary;
use crate::process::PerProcess;
use crate::span::ClosedSpan;

/// Writes the datagrams of one process.
pub(crate) struct Encoder {
    format: Format,
    resource: Arc<Resource>,
    vocabulary: Vocabulary,
    /// For the probe `batch_emit`.
    is_for_batches: bool,
    /// The beginning of each datagram. It has the pid in OTLP, so a forked child has its own.
    open: PerProcess<Vec<u8>>,
    /// Zipkin's `localEndpoint`.
    local_endpoint: Vec<u8>,
}

impl Encoder {
    pub(crate) fn new(format: Format, resource: Arc<Resource>, vocabulary: Vocabulary) -> Self {
        let open = PerProcess::new(opening(format, &resource));
        let local_endpoint = zipkin::local_endpoint(&resource);
        Self { format, resource, vocabulary, is_for_batches: false, open, local_endpoint }
    }

    /// The encoder for `span_emit`, which has text: of the same format, or JSON instead of protobuf.
    pub(crate) fn for_text(self: &Arc<Self>) -> Arc<Self> {
        match self.format {
            Format::Zipkin | Format::OtlpJson => self.clone(),
            Format::OtlpProtobuf => {
                Arc::new(Self::new(Format::OtlpJson, self.resource.clone(), self.vocabulary))
            }
        }
    }

    /// The encoder for `batch_emit`, which has protobuf.
    pub(crate) fn for_batches(&self) -> Self {
        let protobuf = Self::new(Format::OtlpProtobuf, self.resource.clone(), self.vocabulary);
        Self { is_for_batches: true, ..protobuf }
    }

    /// OpenTelemetry's `ProcessContext` of this process, in protobuf.
    pub(crate) fn process_context(&self) -> Vec<u8> {
        otlp::protobuf::process_context(&self.resource)
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
        self.separate(out);
        self.write_span(out, span);
    }

    fn write_span(&self, out: &mut Vec<u8>, span: &ClosedSpan<'_>) {
        let span =
            SpanView::new(span, callsite::encoded(span.callsite), &self.vocabulary, self.is_for_batches);
        match self.format {
            Format::Zipkin => zipkin::span(out, &span, &self.resource, &self.local_endpoint),
            Format::OtlpJson => otlp::json::span(out, &span),
            Format::OtlpProtobuf => otlp::protobuf::span(out, &span),
        }
    }

    /// Adds the span that reports losses.
    pub(crate) fn losses(&self, out: &mut Vec<u8>, losses: &Losses<'_>) {
        self.separate(out);
        match self.format {
            Format::Zipkin => zipkin::losses(out, losses, &self.local_endpoint),
            Format::OtlpJson => otlp::json::losses(out, losses),
            Format::OtlpProtobuf => otlp::protobuf::losses(out, losses),
        }
    }

    /// Ends the datagram, with its place in the sequence of all that the sender sends.
    pub(crate) fn close(&self, out: &mut Vec<u8>, sequence: Option<&Sequence>) {
        match self.format {
            Format::Zipkin => zipkin::close(out, sequence),
            Format::OtlpJson => otlp::json::close(out, sequence),
            Format::OtlpProtobuf => otlp::protobuf::close(out, self.opening().len(), sequence),
        }
    }

    /// Separates a span from the one before.
    fn separate(&self, out: &mut Vec<u8>) {
        if self.format != Format::OtlpProtobuf && out.len() > self.opening().len() {
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
        Format::OtlpJson => otlp::json::open(resource),
        Format::OtlpProtobuf => otlp::protobuf::open(resource),
    }
}
