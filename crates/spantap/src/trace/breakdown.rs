//! Where the time of spans goes: to what they called, and what their threads did in the rest.

use std::collections::HashMap;
use std::sync::Arc;

use memchr::memmem::Finder;

use super::encoded::EncodedSpan;
use super::self_time::{Timed, own_times_ns, times_in_parents_ns};
use crate::process::Process;
use crate::span::account::{Account, KEYS};
use crate::span::attributes::{count, find};

/// A part of a span's time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Part {
    /// A thread ran.
    Cpu,
    /// A thread was ready, and waited for a CPU: in the queue, preempted or throttled.
    RunQueue,
    /// A thread waited for block I/O.
    Disk,
    /// A thread waited for a socket.
    Network,
    /// A thread waited for another thread.
    Lock,
    /// A thread waited for a timer, a pipe, another program or the like.
    Sleep,
    /// A thread waited and could not be interrupted, but not for block I/O.
    Blocked,
    /// No child was open, and nothing tells what the threads did.
    Own,
    /// No child was open, and no thread was inside, as in a task that waits.
    Idle,
    /// A child was open.
    Called,
}

/// The number of parts.
pub(crate) const PARTS: usize = 10;

impl Part {
    /// All parts, in the order in which they are drawn.
    pub(crate) const ALL: [Self; PARTS] = [
        Self::Cpu,
        Self::RunQueue,
        Self::Disk,
        Self::Network,
        Self::Lock,
        Self::Sleep,
        Self::Blocked,
        Self::Own,
        Self::Idle,
        Self::Called,
    ];

    /// Its name.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::RunQueue => "run queue",
            Self::Disk => "disk",
            Self::Network => "network",
            Self::Lock => "lock",
            Self::Sleep => "sleep",
            Self::Blocked => "blocked",
            Self::Own => "own time",
            Self::Idle => "idle",
            Self::Called => "called spans",
        }
    }

    /// The part for each state of an [`Account`].
    const OF_STATES: [Self; KEYS.len()] = [
        Self::Cpu,
        Self::RunQueue,
        Self::RunQueue,
        Self::RunQueue,
        Self::Sleep,
        Self::Network,
        Self::Lock,
        Self::Disk,
        Self::Blocked,
        Self::Own,
        Self::Own,
    ];
}

/// The time of spans by [`Part`], in nanoseconds.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct Breakdown {
    /// The number of spans.
    pub(crate) spans: u64,
    ns: [u64; PARTS],
}

impl Breakdown {
    pub(crate) fn ns(&self, part: Part) -> u64 {
        self.ns[part as usize]
    }

    /// The whole duration.
    pub(crate) fn total_ns(&self) -> u64 {
        self.ns.iter().fold(0, |sum, ns| sum.saturating_add(*ns))
    }

    /// The time in which no child was open, for each span.
    pub(crate) fn self_ns(&self) -> Option<u64> {
        (self.total_ns() - self.ns(Part::Called)).checked_div(self.spans)
    }

    pub(crate) fn add(&mut self, other: &Self) {
        self.spans += other.spans;
        self.ns.iter_mut().zip(other.ns).for_each(|(sum, ns)| *sum = sum.saturating_add(ns));
    }

    /// One span that lasted `duration_ns`, of which no child was open for `own_ns`. In that time its threads did what
    /// `states` says, if it is known.
    fn of_span(duration_ns: u64, own_ns: u64, states: Option<[u64; KEYS.len()]>) -> Self {
        let mut breakdown = Self { spans: 1, ns: [0; PARTS] };
        breakdown.ns[Part::Called as usize] = duration_ns.saturating_sub(own_ns);
        let mut left = own_ns;
        for (part, ns) in Part::OF_STATES.into_iter().zip(states.unwrap_or_default()) {
            // Several threads inside at once have more time than there is.
            let ns = ns.min(left);
            left -= ns;
            breakdown.ns[part as usize] += ns;
        }
        let rest = if states.is_some() { Part::Idle } else { Part::Own };
        breakdown.ns[rest as usize] += left;
        breakdown
    }
}

/// What the threads of a span did.
struct Known {
    states: [u64; KEYS.len()],
    process: Arc<Process>,
    thread: Option<u64>,
}

impl Known {
    fn of(span: &EncodedSpan, accounts: &Finder<'_>) -> Option<Self> {
        let of = if span.contains(accounts) { span.decode() } else { None }?;
        let thread = find(&of.span.attributes, "thread.id").and_then(count);
        let states = Account::of(&of.span.attributes)?.0;
        Some(Self { states, process: of.process, thread })
    }

    /// Whether both were made in one thread, so that the second was most likely entered within the first.
    fn is_same_thread(&self, other: &Self) -> bool {
        let (one, other_process) = (&self.process, &other.process);
        one.sender == other_process.sender
            && one.service == other_process.service
            && self.thread == other.thread
    }
}

/// The parent of each span of a trace, its times, and the places of the spans in the order of their start. Kernel activity is no
/// call, and is left out of the second.
fn timed(spans: &[EncodedSpan]) -> (Vec<Timed>, Vec<usize>) {
    let places: HashMap<u64, usize> =
        spans.iter().enumerate().rev().map(|(place, span)| (span.span_id, place)).collect();
    let parent = |place: usize, span: &EncodedSpan| {
        let parent = span.parent_id.and_then(|id| places.get(&id)).copied();
        parent.filter(|parent| *parent != place)
    };
    let timed: Vec<_> =
        spans.iter().enumerate().map(|(place, span)| (parent(place, span), span.times)).collect();
    let mut by_start: Vec<usize> = (0..spans.len()).filter(|place| !spans[*place].is_kernel).collect();
    by_start.sort_by_key(|place| spans[*place].times.0);
    (timed, by_start)
}

/// A span as a call: the place of its caller, and how much of the caller's time it takes, as [`breakdowns`] counts it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct CallTime {
    pub(crate) parent: usize,
    pub(crate) in_parent_ns: u64,
}

/// The call that each span of a trace is. `None` for kernel activity, and for a span whose parent is not there.
pub(crate) fn call_times(spans: &[EncodedSpan]) -> Vec<Option<CallTime>> {
    let (timed, by_start) = timed(spans);
    let times = times_in_parents_ns(&timed, by_start.iter().copied());
    let each = spans.iter().zip(timed).zip(times);
    each.map(|((span, (parent, _)), in_parent_ns)| {
        Some(CallTime { parent: parent.filter(|_| !span.is_kernel)?, in_parent_ns })
    })
    .collect()
}

/// Where the time of each span of a trace goes. `None` for kernel activity, which is no call.
pub(crate) fn breakdowns(spans: &[EncodedSpan], accounts: &Finder<'_>) -> Vec<Option<Breakdown>> {
    let (timed, by_start) = timed(spans);
    let own_ns = own_times_ns(&timed, by_start.iter().copied());

    let known: Vec<Option<Known>> = spans.iter().map(|span| Known::of(span, accounts)).collect();
    let mut states: Vec<Option<[u64; KEYS.len()]>> =
        known.iter().map(|known| known.as_ref().map(|known| known.states)).collect();
    for (child, (parent, _)) in timed.iter().enumerate() {
        let (Some(of_child), Some(parent)) = (&known[child], *parent) else { continue };
        let is_same = known[parent].as_ref().is_some_and(|of_parent| of_parent.is_same_thread(of_child));
        // What a thread did in a child, it did in the parent as well, if it was inside both.
        if let Some(own) = states[parent].as_mut().filter(|_| is_same) {
            own.iter_mut().zip(of_child.states).for_each(|(own, ns)| *own = own.saturating_sub(ns));
        }
    }
    let each = spans.iter().zip(own_ns).zip(states);
    each.map(|((span, own_ns), states)| {
        (!span.is_kernel).then(|| Breakdown::of_span(span.duration_ns(), own_ns, states))
    })
    .collect()
}

/// Finds the spans that may have an account.
pub(crate) fn finder() -> Finder<'static> {
    // The states of the kernel are in the order of their keys, and a span's time on a CPU is never zero.
    Finder::new(KEYS[0])
}
