//! A report of spans that are still open: a datagram without closed spans, and with the open ones in a place that only
//! readers of such reports look at. So nobody takes an open span for one that has ended.

use super::sequence::Sequence;
use super::{Encoder, Format};
use crate::json;
use crate::protobuf::{Message, fixed64, integer};
use crate::span::ClosedSpan;

/// What a report says besides its spans.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct OpenReport {
    /// When the layer looked, in nanoseconds since 1970.
    pub(crate) at_ns: u64,
    /// The spans are open for at least so long.
    pub(crate) threshold_ns: u64,
    /// How many such spans there are. The report may hold fewer.
    pub(crate) count: u64,
}

/// The number of the report in the protobuf request, where OpenTelemetry defines no field of this number; and those of its
/// fields.
const NUMBER: u32 = 1018;
const AT: u32 = 1;
// The field 2 has the spans, as in a `ScopeSpans`.
const THRESHOLD: u32 = 3;
const COUNT: u32 = 4;

/// A report being written.
pub(crate) struct OpenReportWriter<'a> {
    encoder: &'a Encoder,
    out: &'a mut Vec<u8>,
    /// In protobuf.
    message: Option<Message>,
    has_spans: bool,
}

impl<'a> OpenReportWriter<'a> {
    /// Begins a report in the empty `out`. Zipkin's format has none: it has no place that its readers ignore.
    pub(crate) fn open(
        encoder: &'a Encoder,
        out: &'a mut Vec<u8>,
        report: &OpenReport,
        sequence: &Sequence,
    ) -> Option<Self> {
        let OpenReport { at_ns, threshold_ns, count } = *report;
        if encoder.format() == Format::Zipkin {
            return None;
        }
        encoder.open(out);
        encoder.close(out, Some(sequence));
        let message = match encoder.format() {
            Format::OtlpProtobuf => {
                let message = Message::open(out, NUMBER);
                fixed64(out, AT, at_ns);
                integer(out, THRESHOLD, threshold_ns);
                integer(out, COUNT, count);
                Some(message)
            }
            Format::OtlpJson | Format::Zipkin => {
                // The report is the last member of the request.
                out.pop();
                out.extend_from_slice(b",\"tracingUsdtOpen\":{\"timeUnixNano\":");
                json::number_text(out, at_ns);
                out.extend_from_slice(b",\"thresholdNano\":");
                json::number_text(out, threshold_ns);
                out.extend_from_slice(b",\"count\":");
                json::number(out, count);
                out.extend_from_slice(b",\"spans\":[");
                None
            }
        };
        Some(Self { encoder, out, message, has_spans: false })
    }

    /// Adds a span, unless the datagram would then have more than `limit` bytes and has a span already.
    pub(crate) fn add(&mut self, span: &ClosedSpan<'_>, limit: usize) -> bool {
        let before = self.out.len();
        if self.message.is_none() && self.has_spans {
            self.out.push(b',');
        }
        self.encoder.write_span(self.out, span);
        if self.has_spans && self.out.len() > limit {
            self.out.truncate(before);
            return false;
        }
        self.has_spans = true;
        true
    }

    pub(crate) fn close(self) {
        match self.message {
            Some(message) => message.close(self.out),
            None => self.out.extend_from_slice(b"]}}"),
        }
    }
}
