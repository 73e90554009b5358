//! The spans that are open for long, as their processes last reported them.
//!
//! They are apart from the spans that have ended: no sink, no metric and no trace has them. [`OpenSpans`] is shared by the
//! thread that decodes, which keeps it up to date, and those that show it. `life` finds out whether a process still runs, and
//! `ended` is what a process leaves.

mod ended;
mod life;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;

pub use ended::EndedProcess;

use crate::decode::OpenReport;
use crate::process::{Process, Sender};
use life::Life;

/// The most senders whose reports are kept. Each takes a file descriptor while it has open spans.
const MAX_REPORTS: usize = 200;

/// The most bytes of all spans that are kept, encoded. Of spans beyond them, only the number is known.
const MAX_BYTES: usize = 16 << 20;

/// After so long without a report, a process of which nobody knows whether it still runs is forgotten.
const FORGET_UNKNOWN: Duration = Duration::from_secs(60);

/// How long after the end of a process its last datagrams may still be in the socket, and in a queue that is never empty.
const GRACE: Duration = Duration::from_millis(500);
const MAX_GRACE: Duration = Duration::from_secs(5);

/// A span that is open for long.
#[derive(Clone, Debug)]
pub struct OpenSpan {
    /// The process that the span is in.
    pub process: Arc<Process>,
    /// The span so far, without events and links. Its end is the time of the report.
    pub span: Arc<Span>,
    /// When the report arrived.
    pub reported: Instant,
}

impl OpenSpan {
    /// How long the span is open `now`, in nanoseconds.
    pub fn age_ns(&self, now: Instant) -> u64 {
        let Span { start_time_unix_nano: start, end_time_unix_nano: end, .. } = *self.span;
        let since = now.saturating_duration_since(self.reported).as_nanos();
        end.saturating_sub(start).saturating_add(u64::try_from(since).unwrap_or(u64::MAX))
    }
}

/// How many spans are open for long.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OpenCount {
    /// In all processes, with those that no report has room for.
    pub spans: u64,
    /// For how long at least, in nanoseconds. If processes have different thresholds, the lowest.
    pub threshold_ns: u64,
}

/// The open spans of all processes.
#[derive(Debug, Default)]
pub struct OpenSpans {
    reports: Mutex<Reports>,
    /// So that spans that close cost next to nothing while none is open for long.
    is_empty: IsEmpty,
    /// Whether the source has nothing that was sent and not taken in.
    has_caught_up: AtomicBool,
}

#[derive(Debug)]
struct IsEmpty(AtomicBool);

impl Default for IsEmpty {
    fn default() -> Self {
        Self(AtomicBool::new(true))
    }
}

/// By process, and by the sender's number: a process may have several layers.
type Reports = HashMap<(Sender, u64), Last>;

/// The last report of a sender.
#[derive(Debug)]
struct Last {
    process: Arc<Process>,
    life: Life,
    arrived: Instant,
    threshold_ns: u64,
    count: u64,
    spans: Vec<Held>,
    /// The ids of these spans.
    ids: HashSet<u64>,
    bytes: usize,
    /// When the process was first found to have ended.
    ended: Option<Instant>,
}

#[derive(Debug)]
struct Held {
    span: Arc<Span>,
    /// Whether [`OpenSpans::take_new`] has returned or counted it.
    is_known: bool,
}

impl Last {
    fn open(&self, held: &Held) -> OpenSpan {
        let (process, span) = (Arc::clone(&self.process), Arc::clone(&held.span));
        OpenSpan { process, span, reported: self.arrived }
    }
}

impl OpenSpans {
    fn reports(&self) -> MutexGuard<'_, Reports> {
        self.reports.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_empty(&self, reports: &Reports) {
        self.is_empty.0.store(reports.is_empty(), Ordering::Relaxed);
    }

    /// Takes a report of `process`, in place of the earlier one of the same `sender`, its number in the member `tracingUsdt`.
    pub fn report(&self, process: &Arc<Process>, sender: u64, report: OpenReport) {
        let mut reports = self.reports();
        let key = (process.sender, sender);
        let before = reports.remove(&key);
        if report.count > 0 {
            if reports.len() >= MAX_REPORTS {
                // For example of processes that were stopped.
                let oldest = reports.iter().min_by_key(|(_, last)| last.arrived).map(|(key, _)| *key);
                oldest.and_then(|oldest| reports.remove(&oldest));
            }
            let others: usize = reports.values().map(|last| last.bytes).sum();
            let bytes: usize = report.spans.iter().map(Message::encoded_len).sum();
            let fits = others + bytes <= MAX_BYTES;
            let known: HashSet<&[u8]> = before
                .iter()
                .flat_map(|last| &last.spans)
                .filter(|held| held.is_known)
                .map(|held| &*held.span.span_id)
                .collect();
            let held = |span: Span| Held { is_known: known.contains(&*span.span_id), span: Arc::new(span) };
            let spans: Vec<Held> = report.spans.into_iter().filter(|_| fits).map(held).collect();
            let ids = spans.iter().filter_map(|held| id(&held.span)).collect();
            let life = before.map_or_else(|| Life::of(process.sender), |last| last.life);
            let last = Last {
                process: Arc::clone(process),
                life,
                arrived: Instant::now(),
                threshold_ns: report.threshold_ns,
                count: report.count,
                spans,
                ids,
                bytes: if fits { bytes } else { 0 },
                ended: None,
            };
            reports.insert(key, last);
        }
        self.set_empty(&reports);
    }

    /// Whether no span is open for long.
    pub fn is_empty(&self) -> bool {
        self.is_empty.0.load(Ordering::Relaxed)
    }

    /// Removes spans of a process that have ended by now.
    pub(crate) fn closed(&self, of: Sender, ids: impl Iterator<Item = u64>) {
        let mut reports = self.reports();
        let of_sender = reports.iter_mut().filter(|((sender, _), _)| *sender == of);
        let mut open: Vec<&mut Last> = of_sender.map(|(_, last)| last).collect();
        if open.is_empty() {
            return;
        }
        for closed in ids {
            for last in open.iter_mut().filter_map(|last| last.ids.remove(&closed).then_some(last)) {
                last.spans.retain(|held| id(&held.span) != Some(closed));
                last.count = last.count.saturating_sub(1);
            }
        }
        reports.retain(|_, last| last.count > 0);
        self.set_empty(&reports);
    }

    /// Whether the source has nothing that was sent and not taken in.
    pub(crate) fn set_caught_up(&self, has_caught_up: bool) {
        self.has_caught_up.store(has_caught_up, Ordering::Relaxed);
    }

    /// The open spans, those that are open for longest first.
    pub fn list(&self) -> Vec<OpenSpan> {
        let reports = self.reports();
        let mut open: Vec<OpenSpan> =
            reports.values().flat_map(|last| last.spans.iter().map(|held| last.open(held))).collect();
        sort(&mut open);
        open
    }

    /// How many spans are open for long; `None` if none is.
    pub fn count(&self) -> Option<OpenCount> {
        let reports = self.reports();
        let threshold_ns = reports.values().map(|last| last.threshold_ns).min()?;
        Some(OpenCount { spans: reports.values().map(|last| last.count).sum(), threshold_ns })
    }

    /// The spans that were reported for the first time since the last call: those `most` that are open for longest, and the
    /// number of the others.
    pub fn take_new(&self, most: usize) -> (Vec<OpenSpan>, u64) {
        let mut reports = self.reports();
        let mut new = Vec::new();
        for last in reports.values_mut() {
            let Last { process, arrived, spans, .. } = last;
            for held in spans.iter_mut().filter(|held| !held.is_known) {
                held.is_known = true;
                let (process, span) = (Arc::clone(process), Arc::clone(&held.span));
                new.push(OpenSpan { process, span, reported: *arrived });
            }
        }
        sort(&mut new);
        let others = new.len().saturating_sub(most);
        new.truncate(most);
        (new, others as u64)
    }

    /// Forgets processes that have ended or executed another program, and returns them with the spans that were open by
    /// their last report. To be called about once a second: what a process sent before its end must have been taken in. At
    /// the end of the collector, `is_last`, it has been.
    pub fn take_ended(&self, is_last: bool) -> Vec<EndedProcess> {
        let has_caught_up = self.has_caught_up.load(Ordering::Relaxed);
        let now = Instant::now();
        let mut reports = self.reports();
        let mut ended = Vec::new();
        for (key, last) in reports.iter_mut() {
            if !last.life.has_ended() {
                continue;
            }
            let since = now.saturating_duration_since(*last.ended.get_or_insert(now));
            if is_last || (since >= GRACE && has_caught_up) || since >= MAX_GRACE {
                ended.push(*key);
            }
        }
        let ended = ended.into_iter().filter_map(|key| Some(EndedProcess::of(reports.remove(&key)?, now)));
        let ended = ended.collect();
        reports.retain(|_, last| {
            !(last.life.is_unknown() && now.saturating_duration_since(last.arrived) > FORGET_UNKNOWN)
        });
        self.set_empty(&reports);
        ended
    }
}

fn id(span: &Span) -> Option<u64> {
    Some(u64::from_be_bytes((&*span.span_id).try_into().ok()?))
}

/// Those that are open for longest first.
fn sort(open: &mut [OpenSpan]) {
    let now = Instant::now();
    open.sort_by_cached_key(|open| (std::cmp::Reverse(open.age_ns(now)), open.span.span_id.clone()));
}
