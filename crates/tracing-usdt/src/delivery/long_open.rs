//! Reports of spans that have been open for long, so that a hang is visible while it hangs.
//!
//! The sender thread looks at the open spans now and then, as long as somebody asks for it and receives. A report has the
//! oldest of them, and replaces the report before it. So a report that is lost is repaired by the next one.

use std::time::Duration;

use super::ring_codec::{self, SpanRecord};
use crate::clock::{Monotonic, wall_offset};
use crate::encode::{Encoder, OpenReport, OpenReportWriter, Sequence};
use crate::span::{ClosedSpan, LongOpen, OpenSpansView, RecordView};

/// The most spans of a report; a datagram may have room for fewer.
const MAX_REPORTED: usize = 256;

/// How often to look: twice in the time after which a span is reported, within these bounds.
const MIN_INTERVAL: Duration = Duration::from_millis(50);
const MAX_INTERVAL: Duration = Duration::from_secs(1);

/// How soon to look again if a report was due and could not be sent.
const RETRY_INTERVAL: Duration = MIN_INTERVAL;

/// What to report.
pub(super) struct LongOpenSpans {
    pub(super) spans: OpenSpansView,
    /// Spans that are open for less are not reported.
    pub(super) threshold: Duration,
    /// Whether to report spans of traces that are not sampled.
    pub(super) with_unsampled: bool,
}

impl LongOpenSpans {
    fn threshold_ns(&self) -> u64 {
        u64::try_from(self.threshold.as_nanos()).unwrap_or(u64::MAX)
    }

    fn report_at(&self, now: Monotonic, count: usize) -> OpenReport {
        let (at_ns, threshold_ns) = (wall_offset(now).nanos(now), self.threshold_ns());
        OpenReport { at_ns, threshold_ns, count: count as u64 }
    }
}

/// A report, ready to be sent.
pub(super) struct Report {
    pub(super) datagram: Vec<u8>,
    has_spans: bool,
}

/// What the sender thread remembers from one look to the next.
pub(super) struct Looks {
    last: Monotonic,
    /// The last look found something to say that was not sent.
    is_unsent: bool,
    /// The receiver's last report had spans.
    has_reported: bool,
    /// The largest report, if the socket has refused a larger one.
    max_bytes: usize,
}

impl Looks {
    pub(super) fn new() -> Self {
        let last = Monotonic::of_kernel();
        Self { last, is_unsent: false, has_reported: false, max_bytes: usize::MAX }
    }

    /// How long to wait until the next look.
    pub(super) fn next_in(&self, spans: &LongOpenSpans) -> Duration {
        let interval = (spans.threshold / 2).clamp(MIN_INTERVAL, MAX_INTERVAL);
        let interval = if self.is_unsent { RETRY_INTERVAL } else { interval };
        interval.saturating_sub(Duration::from_nanos(Monotonic::of_kernel().since(self.last)))
    }

    /// Finds the spans to report. `None` if there is nothing to say.
    pub(super) fn look(&mut self, spans: &LongOpenSpans) -> Option<LongOpen> {
        (self.last, self.is_unsent) = (Monotonic::of_kernel(), false);
        let before = Monotonic::from_ns(self.last.as_ns().checked_sub(spans.threshold_ns())?);
        let found = spans.spans.find_long_open(before, MAX_REPORTED, spans.with_unsampled);
        // That there are none any more is said once.
        self.is_unsent = !found.is_empty() || self.has_reported;
        self.is_unsent.then_some(found)
    }

    /// A report of those of `found` that are still open, in a datagram of up to `limit` bytes. `None` if there is nothing to
    /// say.
    ///
    /// From before this until the report is sent, no closed span may be sent: otherwise, a span could arrive as closed, and
    /// then as open.
    pub(super) fn report(
        &mut self,
        spans: &LongOpenSpans,
        found: &LongOpen,
        encoder: &Encoder,
        sequence: &Sequence,
        limit: usize,
    ) -> Option<Report> {
        let limit = limit.min(self.max_bytes);
        let (mut records, mut bytes) = (Vec::new(), 0);
        let now = Monotonic::now();
        let gone = spans.spans.copy_long_open(found, now, spans.with_unsampled, |span| {
            let record = SpanRecord::new(span).to_bytes();
            // A span takes more bytes when it is encoded. One that does not fit alone is left out.
            if record.len() < limit {
                bytes += record.len();
                records.push(record);
            }
            bytes < limit
        });
        let count = found.count.saturating_sub(gone);
        if count == 0 && !self.has_reported {
            self.is_unsent = false;
            return None;
        }
        let report = spans.report_at(now, count);
        let mut datagram = Vec::new();
        let mut writer = OpenReportWriter::open(encoder, &mut datagram, &report, sequence)?;
        for record in &records {
            let add = |span: &ClosedSpan<'_>| {
                let record = &RecordView { is_unfinished: true, ..*span.record };
                writer.add(&ClosedSpan { record, ..*span }, limit)
            };
            if ring_codec::read(record, add) == Some(false) {
                break;
            }
        }
        writer.close();
        Some(Report { datagram, has_spans: count > 0 })
    }

    /// A report that nothing is open any more, if the receiver's last report says something else.
    pub(super) fn last_report(
        &self,
        spans: &LongOpenSpans,
        encoder: &Encoder,
        sequence: &Sequence,
    ) -> Option<Report> {
        if !self.has_reported {
            return None;
        }
        let mut datagram = Vec::new();
        let report = spans.report_at(Monotonic::now(), 0);
        OpenReportWriter::open(encoder, &mut datagram, &report, sequence)?.close();
        Some(Report { datagram, has_spans: false })
    }

    /// The receiver has got the report.
    pub(super) fn sent(&mut self, report: &Report) {
        (self.has_reported, self.is_unsent) = (report.has_spans, false);
    }

    /// The socket takes no datagram of this size. Spans that leave no room for others are then left out.
    pub(super) fn refused(&mut self, report: &Report) {
        self.max_bytes = report.datagram.len() / 2;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::span::{OpenSpans, Origin};

    #[test]
    fn a_report_that_could_not_be_sent_is_tried_again_soon() {
        let spans = OpenSpans::new(Origin::Own).view();
        let spans = LongOpenSpans { spans, threshold: Duration::from_secs(10), with_unsampled: false };
        let mut looks = Looks::new();
        assert!(looks.next_in(&spans) > RETRY_INTERVAL);
        assert!(looks.look(&spans).is_none() && looks.next_in(&spans) > RETRY_INTERVAL, "nothing to say");
        // That there are none any more.
        looks.has_reported = true;
        assert!(looks.look(&spans).is_some() && looks.next_in(&spans) <= RETRY_INTERVAL);
        looks.sent(&Report { datagram: Vec::new(), has_spans: false });
        assert!(looks.next_in(&spans) > RETRY_INTERVAL);
    }
}
