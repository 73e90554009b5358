//! What all deliveries share: the way out, the encoder, and the reports of losses.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::long_open::LongOpenSpans;
use super::reported::{LastReport, ReportedLosses};
use super::stats::{Counters, Dropped, Outcome, Stats};
use super::way::Way;
use crate::clock::{Monotonic, wall_offset};
use crate::encode::{Encoder, Losses};
use crate::error::Reporter;
use crate::propagation::{Ids, TraceId};
use crate::span::{OpenSpansView, UnfinishedSpan};

/// A datagram holds as many spans as fit, or one larger span.
pub(super) const DATAGRAM_BYTES: usize = 32 * 1024;

pub(super) struct Outlet {
    pub(super) way: Way,
    pub(super) encoder: Arc<Encoder>,
    pub(super) reporter: Arc<Reporter>,
    /// How long a closing thread may wait for room.
    pub(super) max_wait: Duration,
    /// The spans that are still open, if they are to be sent when the program ends.
    pub(super) unfinished: Option<OpenSpansView>,
    /// The spans that are reported while they are open.
    pub(super) long_open: Option<LongOpenSpans>,
}

impl Outlet {
    /// Sends a datagram that tells of `spans` spans: those in it, or those that it reports as lost.
    pub(super) fn send(&self, datagram: &[u8], spans: u64, max_wait: Duration) -> Outcome {
        self.way.send(datagram, spans, max_wait, &self.reporter)
    }

    /// Sends the datagram. While the receiver's queue is full, `patience` returns how long to wait before the
    /// next attempt; `None` gives up.
    pub(super) fn send_patiently(
        &self,
        datagram: &[u8],
        spans: u64,
        patience: &dyn Fn() -> Option<Duration>,
    ) -> Outcome {
        let mut outcome = self.send(datagram, spans, Duration::ZERO);
        while outcome == Outcome::QueueFull {
            let Some(wait) = patience() else { break };
            outcome = self.send(datagram, spans, wait);
        }
        outcome
    }

    pub(super) fn take_unfinished(&self) -> Vec<UnfinishedSpan> {
        self.unfinished.as_ref().map(OpenSpansView::take).unwrap_or_default()
    }

    /// Reports that the socket takes no datagram of this size.
    pub(super) fn report_too_large(&self, bytes: usize) {
        self.way.report_too_large(bytes, &self.reporter);
    }

    pub(super) fn has_receiver(&self) -> bool {
        self.way.has_receiver(&self.reporter)
    }

    /// How many spans were lost in total; 0 if all of them have been reported, in the stream, or by an
    /// [`Error::Connect`] where there never was a receiver.
    ///
    /// `None` without a socket: the consumer of a probe says itself what it misses.
    ///
    /// [`Error::Connect`]: crate::Error::Connect
    pub(super) fn undelivered(&self, stats: Stats, reported: &ReportedLosses) -> Option<Undelivered<'_>> {
        let path = self.way.path()?;
        let is_all_without_receiver = stats.dropped.no_receiver == stats.dropped.lost();
        let is_reported =
            stats.sent == 0 && is_all_without_receiver && self.reporter.has_reported_connect_here();
        let is_all_reported = is_reported || self.has_reported(stats.dropped, reported);
        let spans = if is_all_reported { 0 } else { stats.dropped.lost() };
        Some(Undelivered { spans, path, reporter: &self.reporter })
    }

    /// Whether all losses have been reported in the stream.
    pub(super) fn has_reported(&self, losses: Dropped, reported: &ReportedLosses) -> bool {
        self.way.missed_by_receiver(losses).lost() == reported.total.load(Ordering::Relaxed)
    }

    /// Reports new losses in the stream, not too often, except if `is_last`. Returns the outcome of the report; `None` if
    /// there was none.
    pub(super) fn report_losses(
        &self,
        counters: &Counters,
        reported: &ReportedLosses,
        is_last: bool,
    ) -> Option<Outcome> {
        let losses = self.way.missed_by_receiver(counters.read().dropped);
        if self.has_reported(losses, reported) {
            return None;
        }
        // Another thread that is reporting reports for all.
        let mut last_report = reported.last.try_lock().ok()?;
        let now = Monotonic::of_kernel();
        if !self.way.keeps_for_later() && !self.way.has_known_receiver() {
            // A consumer that comes later has not missed them.
            *last_report = LastReport { dropped: losses, at: now };
            reported.total.store(losses.lost(), Ordering::Release);
            return None;
        }
        if now.since(last_report.at) < self.way.report_interval_ns() && !is_last {
            return None;
        }
        let new: Vec<(&'static str, u64)> = losses
            .losses()
            .into_iter()
            .zip(last_report.dropped.losses())
            .map(|((reason, all), (_, before))| (reason, all.saturating_sub(before)))
            .filter(|(_, spans)| *spans > 0)
            .collect();
        if new.is_empty() {
            return None;
        }
        let wall = wall_offset(now);
        let (trace_id, span_id) = TraceId::begin();
        let report = Losses {
            ids: Ids { trace_id, span_id, sampled: true, random: true },
            start_ns: wall.nanos(last_report.at),
            end_ns: wall.nanos(now),
            reasons: &new,
        };
        let mut datagram = Vec::new();
        self.encoder.open(&mut datagram);
        self.encoder.losses(&mut datagram, &report);
        self.encoder.close(&mut datagram, Some(&counters.sequence(0, reported.total())));
        // Does not wait for room: the next report includes these losses.
        // A consumer of the probe that has no room counts these as missed.
        let spans = new.iter().map(|(_, spans)| spans).sum();
        let outcome = self.send(&datagram, spans, Duration::ZERO);
        if outcome == Outcome::Sent {
            *last_report = LastReport { dropped: losses, at: now };
            reported.total.store(losses.lost(), Ordering::Release);
        }
        Some(outcome)
    }
}

/// The losses of one layer when the program ends, if not all of them have been reported.
pub(super) struct Undelivered<'a> {
    /// All lost spans; 0 if all have been reported.
    pub(super) spans: u64,
    pub(super) path: &'a Path,
    pub(super) reporter: &'a Reporter,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encode::{Format, Resource};
    use crate::fields::Vocabulary;

    /// Otherwise the sender thread would stay awake for a report that nobody can receive.
    #[test]
    fn losses_are_done_with_when_no_consumer_of_the_probe_is_left() {
        let reporter = Arc::new(Reporter::default());
        let resource = Arc::new(Resource::new(None, Vec::new(), false, &reporter));
        let encoder = Arc::new(Encoder::new(Format::OtlpProtobuf, resource, Vocabulary::ALL));
        let outlet = Outlet {
            way: Way::Probe,
            encoder,
            reporter,
            max_wait: Duration::ZERO,
            unfinished: None,
            long_open: None,
        };
        let (counters, reported) = (Counters::new(), ReportedLosses::new());
        counters.close(Outcome::NoReceiver, 2);
        assert!(outlet.has_reported(counters.read().dropped, &reported), "nobody misses them");
        counters.close(Outcome::QueueFull, 3);
        assert!(!outlet.has_reported(counters.read().dropped, &reported));
        assert_eq!(outlet.report_losses(&counters, &reported, false), None);
        assert!(outlet.has_reported(counters.read().dropped, &reported));
    }
}
