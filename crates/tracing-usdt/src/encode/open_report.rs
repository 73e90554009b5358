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
    /// The bytes of the report without spans.
    empty_bytes: usize,
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
        let empty_bytes = out.len();
        Some(Self { encoder, out, message, has_spans: false, empty_bytes })
    }

    /// Adds a span, unless the datagram would then have more than `limit` bytes. Returns whether another one may fit: false
    /// if the datagram is full, and true if the span alone is too large.
    pub(crate) fn add(&mut self, span: &ClosedSpan<'_>, limit: usize) -> bool {
        let before = self.out.len();
        if self.message.is_none() && self.has_spans {
            self.out.push(b',');
        }
        self.encoder.write_span(self.out, span);
        if self.out.len() > limit {
            let alone = self.empty_bytes + self.out.len() - before;
            self.out.truncate(before);
            return alone > limit;
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::callsite::{self, tests::metadata};
    use crate::clock::Monotonic;
    use crate::encode::Resource;
    use crate::error::Reporter;
    use crate::fields::Vocabulary;
    use crate::span::{Identity, Record, RecordView, Timing};

    #[test]
    fn a_span_that_is_too_large_for_a_report_is_left_out_and_hides_no_other() {
        let resource = Resource::new(Some("shop".into()), Vec::new(), false, &Reporter::default());
        let encoder = Encoder::new(Format::OtlpJson, Arc::new(resource), Vocabulary::ALL);
        let sequence = Sequence { sender: *b"0123456789abcdef", sent_before: 0, spans: 0, lost_before: 0 };
        let start = Monotonic::now();
        let add = |writer: &mut OpenReportWriter<'_>, trace_state: &str, limit| {
            let record = Record::default();
            let span = ClosedSpan {
                identity: &Identity::first_of_sampled_trace(),
                callsite: callsite::of(metadata()),
                start_ns: 1,
                elapsed: Timing::start(start).finish(|| start),
                record: &RecordView { trace_state, ..record.view() },
            };
            writer.add(&span, limit)
        };
        let mut out = Vec::new();
        let report = OpenReport { at_ns: 1, threshold_ns: 1, count: 4 };
        let mut writer =
            OpenReportWriter::open(&encoder, &mut out, &report, &sequence).expect("OTLP has reports");
        let (large, limit) = ("x".repeat(8000), 8000);
        assert!(add(&mut writer, &large, limit), "another one may fit");
        assert!(add(&mut writer, "first=1", limit));
        assert!(add(&mut writer, &large, limit), "another one may fit");
        let half = "y".repeat(limit / 2);
        assert!(add(&mut writer, &half, limit));
        assert!(!add(&mut writer, &half, limit), "it is full");
        writer.close();
        let datagram: serde_json::Value = serde_json::from_slice(&out).expect("a report is JSON");
        let spans = datagram["tracingUsdtOpen"]["spans"].as_array().expect("a list").clone();
        assert_eq!(spans.iter().map(|span| &span["traceState"]).collect::<Vec<_>>(), ["first=1", &half]);
        assert!(out.len() <= limit + 3, "with its end");
    }
}
