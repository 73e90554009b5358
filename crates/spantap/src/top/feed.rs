//! Brings spans into the model: as they arrive, or from files.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::model::Model;
use crate::capture::{Filter, Pace, Spans};
use crate::query::Query;
use crate::search::{Arrived, BEFORE, Files, Replay as Recorded, Tail};
use crate::terminal::Feed;
use crate::text::time_ago;
use crate::trace::{Assembly, EncodedSpan, Limits, Trace};

/// How often the clock of the model is set when no span arrives.
const TICK: Duration = Duration::from_millis(100);

/// The spans that are counted while the model is locked, at most: a screen that waits for it must not wait for long.
const AT_ONCE: usize = 256;

pub(super) fn lock(model: &Mutex<Model>) -> MutexGuard<'_, Model> {
    model.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The time of spans that arrive. A machine's clock that is set does not change it.
#[derive(Clone, Copy)]
pub(super) struct Clock {
    began: Instant,
    began_ns: u64,
}

impl Clock {
    pub(super) fn start() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { began: Instant::now(), began_ns: u64::try_from(since.as_nanos()).unwrap_or(u64::MAX) }
    }

    /// In nanoseconds since 1970.
    pub(super) fn now_ns(self) -> u64 {
        self.began_ns.saturating_add(u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }
}

/// Takes spans as they arrive, until the feed is closed.
pub(super) fn take(feed: &Feed, model: &Mutex<Model>, clock: Clock) {
    let mut assembly = Assembly::new(Limits::default());
    let mut show = |trace: &Trace<EncodedSpan>| lock(model).trace(trace);
    loop {
        let until = assembly.next_due().map_or(TICK, |due| due.saturating_duration_since(Instant::now()));
        let received = feed.next(until.min(TICK));
        let now = Instant::now();
        match received {
            Ok(spans) => {
                count(&spans, model, clock.now_ns());
                spans.into_iter().for_each(|span| assembly.add(span, now, &mut show));
            }
            Err(RecvTimeoutError::Timeout) => lock(model).set_time(clock.now_ns()),
            Err(RecvTimeoutError::Disconnected) => {
                assembly.finish(now, &mut show);
                return;
            }
        }
        assembly.due(now, &mut show);
    }
}

fn count(spans: &[EncodedSpan], model: &Mutex<Model>, now_ns: u64) {
    for spans in spans.chunks(AT_ONCE) {
        let mut model = lock(model);
        model.set_time(now_ns);
        spans.iter().for_each(|span| model.span(span));
    }
}

/// How files are read.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Way {
    /// As fast as possible.
    AtOnce,
    /// At the pace at which they were recorded: so many seconds of the recording in one.
    Replay(f64),
    /// While they are recorded.
    Follow,
}

/// Files that are read, and read again for each new query: the answer is about all of their spans.
pub(super) struct Reader {
    pub(super) paths: Vec<PathBuf>,
    pub(super) way: Way,
    pub(super) model: Arc<Mutex<Model>>,
    /// The next query.
    pub(super) queries: Receiver<Option<Query>>,
    pub(super) is_reading: Arc<AtomicBool>,
    /// What there is to say of the files once they were read.
    pub(super) read: Arc<Mutex<Vec<String>>>,
}

/// What there is to say of the files if they were read, and the next query if there is one already.
type Answer = (Option<Vec<String>>, Option<Option<Query>>);

impl Reader {
    /// Reads until nobody asks any more.
    pub(super) fn run(self) {
        let files = Files::open(&self.paths);
        let mut query = None;
        loop {
            self.is_reading.store(true, Ordering::Relaxed);
            let (lines, next) = match self.way {
                Way::Replay(speed) => self.in_order(&files, query, Some(Pace::new(speed))),
                Way::Follow => self.follow(),
                // The spans of several files are read side by side, so that their traces come together.
                Way::AtOnce if self.paths.len() > 1 => self.in_order(&files, query, None),
                Way::AtOnce => self.read(&files, query),
            };
            self.is_reading.store(false, Ordering::Relaxed);
            if let Some(lines) = lines {
                let lines = lines.into_iter().chain(files.older()).collect();
                *self.read.lock().unwrap_or_else(PoisonError::into_inner) = lines;
            }
            query = match next.map_or_else(|| self.queries.recv().ok(), Some) {
                Some(query) => query,
                None => return,
            };
        }
    }

    /// Reads the files in the order in which their spans arrived, at a pace if there is one. Then a new query does not begin
    /// it again: from then on, it chooses.
    fn in_order(&self, files: &Files, mut query: Option<Query>, mut pace: Option<Pace>) -> Answer {
        *lock(&self.model) = Model::new(0);
        let filter = Filter::default();
        let mut spans = Recorded::new(files, &filter);
        let mut replay: Option<Replay<'_>> = None;
        for Arrived { at_ns, span } in spans.by_ref() {
            match self.queries.try_recv() {
                Ok(next) if pace.is_none() => return (None, Some(next)),
                Ok(next) => {
                    lock(&self.model).choose(next.clone());
                    query = next;
                }
                Err(TryRecvError::Disconnected) => return (None, Some(None)),
                Err(TryRecvError::Empty) => {}
            }
            // The clock goes on with the spans, so a wait is never for long.
            pace.iter_mut().for_each(|pace| _ = pace.wait_until(at_ns, &|| false));
            let replay = replay.get_or_insert_with(|| Replay::new(&self.model, at_ns, query.clone()));
            replay.add(vec![span], at_ns);
        }
        replay.into_iter().for_each(Replay::finish);
        (Some(spans.read().lines()), None)
    }

    /// Reads what is added to the files, until nobody asks any more.
    fn follow(&self) -> Answer {
        let clock = Clock::start();
        *lock(&self.model) = Model::new(clock.now_ns());
        // The spans of the last seconds, as `view` does: those of traces that are not complete yet.
        let first = Filter { since_ns: time_ago(BEFORE), ..Filter::default() };
        let mut tail = Tail::open(&self.paths, &first, Filter::default());
        let mut assembly = Assembly::new(Limits::default());
        let mut show = |trace: &Trace<EncodedSpan>| lock(&self.model).trace(trace);
        loop {
            match self.queries.try_recv() {
                Ok(query) => lock(&self.model).choose(query),
                Err(TryRecvError::Disconnected) => return (None, Some(None)),
                Err(TryRecvError::Empty) => {}
            }
            lock(&self.model).set_time(clock.now_ns());
            let has_more = tail.read_some(|span| {
                lock(&self.model).span(&span);
                assembly.add(span, Instant::now(), &mut show);
            });
            assembly.due(Instant::now(), &mut show);
            self.is_reading.store(has_more, Ordering::Relaxed);
            if tail.is_over() {
                return (Some(tail.end().lines()), None);
            }
            if !has_more {
                sleep(TICK);
            }
        }
    }

    /// Reads the file. If there is another query, it counts no more, and returns the query.
    fn read(&self, files: &Files, query: Option<Query>) -> Answer {
        *lock(&self.model) = Model::new(0);
        let mut replay: Option<Replay<'_>> = None;
        let mut next = None;
        let each = |spans: Spans| -> (u64, Vec<EncodedSpan>) {
            let arrived_ns = spans.iter().map(|(span, _)| spans.arrived_ns(span)).max();
            let spans = spans.iter().map(|(span, field)| EncodedSpan::new(&spans.process, span, field));
            (arrived_ns.unwrap_or(0), spans.collect())
        };
        let take = |(end_ns, spans): (u64, Vec<EncodedSpan>)| {
            if next.is_some() {
                return;
            }
            match self.queries.try_recv() {
                Ok(query) => next = Some(query),
                // Nobody looks any more.
                Err(TryRecvError::Disconnected) => next = Some(None),
                Err(TryRecvError::Empty) => {
                    let replay =
                        replay.get_or_insert_with(|| Replay::new(&self.model, end_ns, query.clone()));
                    replay.add(spans, end_ns);
                }
            }
        };
        let read = files.read(&Filter::default(), each, take);
        match next {
            Some(query) => (None, Some(query)),
            None => {
                replay.into_iter().for_each(Replay::finish);
                (Some(read.lines()), None)
            }
        }
    }
}

/// Spans from files, whose clock is that of their ends.
struct Replay<'a> {
    model: &'a Mutex<Model>,
    assembly: Assembly,
    began: Instant,
    began_ns: u64,
    now_ns: u64,
}

impl<'a> Replay<'a> {
    fn new(model: &'a Mutex<Model>, began_ns: u64, query: Option<Query>) -> Self {
        let mut new = Model::new(began_ns);
        new.choose(query);
        new.keep_all_findings();
        *lock(model) = new;
        let (assembly, began) = (Assembly::new(Limits::default()), Instant::now());
        Self { model, assembly, began, began_ns, now_ns: began_ns }
    }

    fn add(&mut self, spans: Vec<EncodedSpan>, end_ns: u64) {
        // The files of several hosts, or of several programs, are not in one order.
        self.now_ns = self.now_ns.max(end_ns);
        let now = self.now();
        count(&spans, self.model, self.now_ns);
        let mut show = |trace: &Trace<EncodedSpan>| lock(self.model).trace(trace);
        spans.into_iter().for_each(|span| self.assembly.add(span, now, &mut show));
        self.assembly.due(now, &mut show);
    }

    /// The time of the file, as the assembly of traces measures it.
    fn now(&self) -> Instant {
        let elapsed = Duration::from_nanos(self.now_ns - self.began_ns);
        self.began.checked_add(elapsed).unwrap_or(self.began)
    }

    fn finish(mut self) {
        let now = self.now();
        self.assembly.finish(now, &mut |trace| lock(self.model).trace(trace));
    }
}
