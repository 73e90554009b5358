//! What began on a thread and when: whether a span had the thread for itself.

use std::collections::{HashMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};

use crate::trace::EncodedSpan;

/// The most threads that are known.
const MAX_THREADS: usize = 512;
/// The latest starts and holds of a thread that are compared with new ones.
const MAX_STARTS: usize = 1_024;
const MAX_HOLDS: usize = 64;
/// The stretches of time that are known to have traces that nobody looked at.
const MAX_SKIPPED: usize = 64;

/// A thread of a process. Thread ids are numbers of the kernel, unless a sender makes them up.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct Thread {
    process: u64,
    id: u64,
}

impl Thread {
    pub(super) fn of(span: &EncodedSpan, id: u64) -> Self {
        let mut hasher = DefaultHasher::new();
        (&span.process.service, span.process.sender).hash(&mut hasher);
        Self { process: hasher.finish(), id }
    }
}

/// A span that seems to have held a thread.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hold<G> {
    pub(super) group: G,
    pub(super) trace_id: u128,
    pub(super) from_ns: u64,
    pub(super) to_ns: u64,
    /// How long it held the thread without others that it waited for.
    pub(super) cost_ns: u64,
    /// A span of another trace began on the thread meanwhile.
    is_refuted: bool,
    /// What began on the thread meanwhile may be forgotten.
    is_unknown: bool,
}

impl<G> Hold<G> {
    pub(super) fn new(group: G, trace_id: u128, (from_ns, to_ns): (u64, u64), cost_ns: u64) -> Self {
        Self { group, trace_id, from_ns, to_ns, cost_ns, is_refuted: false, is_unknown: false }
    }

    fn has(&self, trace_id: u128, at_ns: u64) -> bool {
        trace_id != self.trace_id && self.from_ns < at_ns && at_ns < self.to_ns
    }
}

/// A hold that is certain or refuted by now.
#[derive(Clone, Copy, Debug)]
pub(super) struct Judged<G> {
    pub(super) hold: Hold<G>,
    pub(super) is_refuted: bool,
    /// Whether nobody knows what began on the thread meanwhile.
    pub(super) is_unknown: bool,
    /// How many spans would have begun in that time by the rate at which they begin on the thread, with such times.
    pub(super) expected: f64,
    /// Whether tasks that wait are on the thread: spans that leave it and come back.
    pub(super) is_shared: bool,
}

#[derive(Debug)]
struct Timeline<G> {
    starts: VecDeque<(u64, u128)>,
    /// The latest start that was forgotten.
    forgotten_ns: u64,
    holds: VecDeque<Hold<G>>,
    all_starts: u64,
    times: (u64, u64),
    waiting: u64,
}

impl<G: Copy> Timeline<G> {
    fn judge(&self, hold: Hold<G>, skipped: &Skipped) -> Judged<G> {
        let all_ns = self.times.1.saturating_sub(self.times.0).max(1);
        let expected = self.all_starts as f64 / all_ns as f64 * (hold.to_ns - hold.from_ns) as f64;
        let is_unknown = !hold.is_refuted && (hold.is_unknown || skipped.has((hold.from_ns, hold.to_ns)));
        let is_shared = self.waiting >= LEAST_WAITING;
        Judged { hold, is_refuted: hold.is_refuted, is_unknown, expected, is_shared }
    }
}

/// The fewest spans that wait for a thread to be one of an async runtime.
const LEAST_WAITING: u64 = 5;

/// The times in which there were traces that nobody looked at.
#[derive(Default, Debug)]
struct Skipped {
    /// The latest ones. Those that touch are one.
    times: VecDeque<(u64, u64)>,
    /// Of the time before, nothing is known.
    before_ns: u64,
}

impl Skipped {
    fn add(&mut self, (from_ns, to_ns): (u64, u64)) {
        if let Some((first_ns, last_ns)) = self.times.back_mut()
            && from_ns <= *last_ns
            && *first_ns <= to_ns
        {
            (*first_ns, *last_ns) = ((*first_ns).min(from_ns), (*last_ns).max(to_ns));
            return;
        }
        self.times.push_back((from_ns, to_ns));
        if self.times.len() > MAX_SKIPPED
            && let Some((_, to_ns)) = self.times.pop_front()
        {
            self.before_ns = self.before_ns.max(to_ns);
        }
    }

    fn has(&self, (from_ns, to_ns): (u64, u64)) -> bool {
        from_ns < self.before_ns || self.times.iter().any(|(first, last)| from_ns <= *last && *first <= to_ns)
    }
}

/// The threads.
#[derive(Debug)]
pub(super) struct Threads<G> {
    skipped: Skipped,
    threads: HashMap<Thread, Timeline<G>>,
    left_out: u64,
}

impl<G> Default for Threads<G> {
    fn default() -> Self {
        Self { skipped: Skipped::default(), threads: HashMap::new(), left_out: 0 }
    }
}

impl<G: Copy> Threads<G> {
    fn of(&mut self, thread: Thread, at_ns: u64) -> Option<&mut Timeline<G>> {
        if self.threads.len() >= MAX_THREADS && !self.threads.contains_key(&thread) {
            self.left_out += 1;
            return None;
        }
        let new = || Timeline {
            starts: VecDeque::new(),
            forgotten_ns: 0,
            holds: VecDeque::new(),
            all_starts: 0,
            times: (at_ns, at_ns),
            waiting: 0,
        };
        let of = self.threads.entry(thread).or_insert_with(new);
        of.times = (of.times.0.min(at_ns), of.times.1.max(at_ns));
        Some(of)
    }

    /// A span began on the thread. `is_waiting` says whether it leaves the thread in between.
    pub(super) fn began(&mut self, thread: Thread, trace_id: u128, at_ns: u64, is_waiting: bool) {
        let Some(of) = self.of(thread, at_ns) else { return };
        of.all_starts += 1;
        of.waiting += u64::from(is_waiting);
        of.holds.iter_mut().filter(|hold| hold.has(trace_id, at_ns)).for_each(|hold| hold.is_refuted = true);
        if of.starts.len() >= MAX_STARTS
            && let Some((at_ns, _)) = of.starts.pop_front()
        {
            of.forgotten_ns = of.forgotten_ns.max(at_ns);
        }
        of.starts.push_back((at_ns, trace_id));
    }

    /// A span seems to hold the thread. Returns an earlier hold that is judged now.
    pub(super) fn holds(&mut self, thread: Thread, mut hold: Hold<G>) -> Option<Judged<G>> {
        let of = self.of(thread, hold.from_ns)?;
        hold.is_unknown = hold.from_ns < of.forgotten_ns;
        hold.is_refuted = of.starts.iter().any(|(at_ns, trace_id)| hold.has(*trace_id, *at_ns));
        of.holds.push_back(hold);
        let oldest = if of.holds.len() > MAX_HOLDS { of.holds.pop_front() } else { None };
        let of = self.threads.get(&thread)?;
        oldest.map(|hold| of.judge(hold, &self.skipped))
    }

    /// There were traces in this time that nobody looks at.
    pub(super) fn skip(&mut self, times: (u64, u64)) {
        self.skipped.add(times);
    }

    /// The holds that are not judged yet, as they would be.
    pub(super) fn open(&self) -> impl Iterator<Item = Judged<G>> {
        self.threads.values().flat_map(|of| of.holds.iter().map(|hold| of.judge(*hold, &self.skipped)))
    }

    pub(super) fn left_out(&self) -> u64 {
        self.left_out
    }
}
