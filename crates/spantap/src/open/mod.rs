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
use crate::span::{ALLOCATION, DecodedSize};
use life::Life;

/// The most senders whose reports are kept. Each takes a file descriptor while it has open spans. That there are more is known.
const MAX_REPORTS: usize = 200;

/// The most memory of all spans that are kept, in bytes, roughly. Of spans beyond them, only the number is known.
const MAX_BYTES: usize = 16 << 20;

/// After so long without a report, a sender is silent: it may be stopped, or reports no longer. Its spans are not shown. Senders
/// report at least once a second.
const SILENT: Duration = Duration::from_secs(5);

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
    /// Whether there are more, in processes that are not counted because there are too many.
    pub has_more: bool,
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

#[derive(Debug, Default)]
struct Reports {
    /// By process, and by the sender's number: a process may have several layers.
    last: HashMap<(Sender, u64), Last>,
    /// When a report was last refused for want of room.
    refused: Option<Instant>,
}

impl Reports {
    /// Makes room for another sender. Returns false if there is none.
    fn make_room(&mut self, now: Instant) -> bool {
        if self.last.len() < MAX_REPORTS {
            return true;
        }
        let silent = self.last.iter().filter(|(_, last)| last.is_silent(now));
        let oldest = silent.min_by_key(|(_, last)| last.arrived).map(|(key, _)| *key);
        oldest.is_some_and(|oldest| self.last.remove(&oldest).is_some())
    }

    /// The reports of senders that are not silent.
    fn current(&self, now: Instant) -> impl Iterator<Item = &Last> {
        self.last.values().filter(move |last| !last.is_silent(now))
    }
}

/// The last report of a sender.
#[derive(Debug)]
struct Last {
    process: Arc<Process>,
    life: Life,
    arrived: Instant,
    threshold_ns: u64,
    count: u64,
    /// Those for which there is memory.
    spans: Vec<Held>,
    /// The ids of all spans of the report that have not closed since.
    ids: HashSet<u64>,
    /// Whether the report had spans.
    has_listed: bool,
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

    fn is_silent(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.arrived) > SILENT
    }

    /// Whether all spans of the report have closed. Then those for which it had no room have closed, too, as far as is known.
    fn has_closed(&self) -> bool {
        self.has_listed && self.ids.is_empty()
    }
}

impl OpenSpans {
    fn reports(&self) -> MutexGuard<'_, Reports> {
        self.reports.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_empty(&self, reports: &Reports) {
        self.is_empty.0.store(reports.last.is_empty(), Ordering::Relaxed);
    }

    /// Takes a report of `process`, in place of the earlier one of the same `sender`, its number in the member `tracingUsdt`.
    pub fn report(&self, process: &Arc<Process>, sender: u64, report: OpenReport) {
        let (mut reports, now) = (self.reports(), Instant::now());
        let key = (process.sender, sender);
        let before = reports.last.remove(&key);
        if report.count > 0 {
            if !reports.make_room(now) {
                reports.refused = Some(now);
                return;
            }
            let others: usize = reports.last.values().map(|last| last.bytes).sum();
            let bytes: usize = report.spans.iter().map(memory).sum();
            let fits = others + bytes <= MAX_BYTES;
            let known: HashSet<&[u8]> = before
                .iter()
                .flat_map(|last| &last.spans)
                .filter(|held| held.is_known)
                .map(|held| &*held.span.span_id)
                .collect();
            let held = |span: Span| Held { is_known: known.contains(&*span.span_id), span: Arc::new(span) };
            let ids: HashSet<u64> = report.spans.iter().filter_map(id).collect();
            let spans: Vec<Held> = report.spans.into_iter().filter(|_| fits).map(held).collect();
            let life = before.map_or_else(|| Life::of(process.sender), |last| last.life);
            let last = Last {
                process: Arc::clone(process),
                life,
                arrived: now,
                threshold_ns: report.threshold_ns,
                count: report.count,
                spans,
                has_listed: !ids.is_empty(),
                ids,
                bytes: if fits { bytes } else { 0 },
                ended: None,
            };
            reports.last.insert(key, last);
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
        let of_sender = reports.last.iter_mut().filter(|((sender, _), _)| *sender == of);
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
        reports.last.retain(|_, last| last.count > 0);
        self.set_empty(&reports);
    }

    /// Whether the source has nothing that was sent and not taken in.
    pub(crate) fn set_caught_up(&self, has_caught_up: bool) {
        self.has_caught_up.store(has_caught_up, Ordering::Relaxed);
    }

    /// The open spans, those that are open for longest first.
    pub fn list(&self) -> Vec<OpenSpan> {
        let reports = self.reports();
        let current = reports.current(Instant::now());
        let mut open: Vec<OpenSpan> =
            current.flat_map(|last| last.spans.iter().map(|held| last.open(held))).collect();
        sort(&mut open);
        open
    }

    /// How many spans are open for long; `None` if none is.
    pub fn count(&self) -> Option<OpenCount> {
        let (reports, now) = (self.reports(), Instant::now());
        let threshold_ns = reports.current(now).map(|last| last.threshold_ns).min()?;
        // Senders choose the numbers.
        let spans = reports.current(now).map(|last| last.count).fold(0, u64::saturating_add);
        let has_more = reports.refused.is_some_and(|at| now.saturating_duration_since(at) <= SILENT);
        Some(OpenCount { spans, threshold_ns, has_more })
    }

    /// The spans that were reported for the first time since the last call, and that `is_chosen` chooses: those `most` that are
    /// open for longest, and the number of the others.
    pub fn take_new(&self, most: usize, is_chosen: impl Fn(&OpenSpan) -> bool) -> (Vec<OpenSpan>, u64) {
        let mut reports = self.reports();
        let mut new = Vec::new();
        for last in reports.last.values_mut() {
            let Last { process, arrived, spans, .. } = last;
            for held in spans.iter_mut().filter(|held| !held.is_known) {
                held.is_known = true;
                let (process, span) = (Arc::clone(process), Arc::clone(&held.span));
                new.push(OpenSpan { process, span, reported: *arrived });
            }
        }
        drop(reports);
        new.retain(is_chosen);
        sort(&mut new);
        let others = new.len().saturating_sub(most);
        new.truncate(most);
        (new, others as u64)
    }

    /// Forgets processes that have ended or executed another program, and returns them with the spans that were open by
    /// their last report, unless all that the report lists have closed. To be called about once a second: what a process sent before its end must have been taken in. At
    /// the end of the collector, `is_last`, it has been.
    pub fn take_ended(&self, is_last: bool) -> Vec<EndedProcess> {
        let has_caught_up = self.has_caught_up.load(Ordering::Relaxed);
        let now = Instant::now();
        let mut reports = self.reports();
        let mut ended = Vec::new();
        for (key, last) in &mut reports.last {
            if !last.life.has_ended() {
                continue;
            }
            let since = now.saturating_duration_since(*last.ended.get_or_insert(now));
            if is_last || (since >= GRACE && has_caught_up) || since >= MAX_GRACE {
                ended.push(*key);
            }
        }
        let ended = ended.into_iter().filter_map(|key| reports.last.remove(&key));
        let ended = ended.filter(|last| !last.has_closed()).map(|last| EndedProcess::of(last, now));
        let ended = ended.collect();
        reports.last.retain(|_, last| {
            !(last.life.is_unknown() && now.saturating_duration_since(last.arrived) > FORGET_UNKNOWN)
        });
        self.set_empty(&reports);
        ended
    }
}

/// Roughly the memory of a span, in bytes.
fn memory(span: &Span) -> usize {
    size_of::<Held>() + size_of::<Span>() + 4 * ALLOCATION + span.encoded_len() + DecodedSize::of(span).0
}

fn id(span: &Span) -> Option<u64> {
    Some(u64::from_be_bytes((&*span.span_id).try_into().ok()?))
}

/// Those that are open for longest first.
fn sort(open: &mut [OpenSpan]) {
    let now = Instant::now();
    open.sort_by_cached_key(|open| (std::cmp::Reverse(open.age_ns(now)), open.span.span_id.clone()));
}
