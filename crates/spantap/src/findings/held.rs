//! A span holds a thread that other tasks need, such as a worker of tokio: it computes, or waits in a way that keeps the thread.
//!
//! A span names the thread that made it, and how long threads were inside. If that is all of its time, it did not yield; but it may have
//! been entered on another thread, as by `spawn_blocking`. So there is more to prove: that tasks which wait share the thread, that
//! none of other traces began anything on it meanwhile, and that by the thread's usual rate some would have.

use std::sync::Arc;

use super::evidence::{Evidence, Groups};
use super::finding::{Finding, Kind};
use super::looked::Looked;
use super::names::{NameId, Names};
use super::threads::{Hold, Judged, Thread, Threads};
use crate::span::attributes::count;
use crate::text::readable;
use crate::trace::Part;

/// How long a span has to hold a thread. A poll should take less than a millisecond.
const LEAST_NS: u64 = 20_000_000;
/// Of how much of its time a thread has to be inside, in percent.
const LEAST_BUSY: u64 = 90;
/// How often it has to be seen.
const LEAST_TIMES: u64 = 3;
/// How many spans of others would have begun meanwhile, at least.
const LEAST_EXPECTED: f64 = 5.0;
/// Of so many holds, one may be refuted: a clock is not exact.
const MOST_REFUTED: u64 = 10;
/// A span that is inside for less than this part of its time leaves the thread and comes back, in percent.
const MOST_BUSY_OF_TASK: u64 = 50;
/// And it has to last so long.
const LEAST_OF_TASK_NS: u64 = 500_000;

/// The span that holds, and for how long its thread did what meanwhile, if that is known.
type Key = (NameId, Option<[u64; CAUSES]>);

const CAUSES: usize = 6;

/// What a thread does while it is held.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Cause {
    Computes,
    Disk,
    Network,
    Lock,
    Sleep,
    Blocked,
}

impl Cause {
    const ALL: [(Self, Part); CAUSES] = [
        (Self::Computes, Part::Cpu),
        (Self::Disk, Part::Disk),
        (Self::Network, Part::Network),
        (Self::Lock, Part::Lock),
        (Self::Sleep, Part::Sleep),
        (Self::Blocked, Part::Blocked),
    ];

    fn words(self) -> &'static str {
        match self {
            Self::Computes => "it computes",
            Self::Disk => "it waits for the disk",
            Self::Network => "it waits for a socket",
            Self::Lock => "it waits for a lock",
            Self::Sleep => "it sleeps",
            Self::Blocked => "it waits in the kernel",
        }
    }

    fn id(self) -> &'static str {
        match self {
            Self::Computes => "cpu",
            Self::Disk => "disk",
            Self::Network => "network",
            Self::Lock => "lock",
            Self::Sleep => "sleep",
            Self::Blocked => "blocked",
        }
    }
}

/// A finding, and what others need to know of it.
pub(super) struct FoundHeld {
    pub(super) finding: Finding,
    pub(super) service: Arc<str>,
    pub(super) name: Arc<str>,
    pub(super) is_for_a_lock: bool,
}

/// The threads, and the spans that held them.
#[derive(Default, Debug)]
pub(super) struct Held {
    threads: Threads<Key>,
    groups: Groups<NameId, Group>,
}

#[derive(Clone, Default, Debug)]
struct Group {
    evidence: Evidence,
    refuted: u64,
    expected: f64,
    /// For how long threads did what.
    causes_ns: [u64; CAUSES],
}

impl Group {
    fn add(&mut self, judged: &Judged<Key>) {
        match judged.is_refuted || !judged.is_shared {
            true => self.refuted += 1,
            false => {
                self.evidence.add(judged.hold.trace_id, judged.hold.cost_ns);
                self.expected += judged.expected;
                let (_, causes_ns) = judged.hold.group;
                let each = self.causes_ns.iter_mut().zip(causes_ns.unwrap_or_default());
                each.for_each(|(sum, ns)| *sum = sum.saturating_add(ns));
            }
        }
    }
}

impl Held {
    pub(super) fn look(&mut self, looked: &Looked<'_>) {
        for (place, name) in looked.named() {
            let span = &looked.spans[place];
            let number = |key: &str| span.undecoded().attribute(key).as_ref().and_then(count);
            let Some(thread_id) = number("thread.id") else { continue };
            let thread = Thread::of(span, thread_id);
            let duration_ns = span.duration_ns();
            let busy_ns = number("busy_ns");
            let is_inside = |percent: u64| {
                busy_ns.map(|ns| u128::from(ns) * 100 >= u128::from(duration_ns) * u128::from(percent))
            };
            let is_task = duration_ns >= LEAST_OF_TASK_NS && is_inside(MOST_BUSY_OF_TASK) == Some(false);
            self.threads.began(thread, looked.trace_id, span.times.0, is_task);
            if duration_ns < LEAST_NS || is_inside(LEAST_BUSY) != Some(true) {
                continue;
            }
            let Some((causes_ns, held_ns)) = held(looked, place, thread_id) else { continue };
            let hold = Hold::new((name, causes_ns), looked.trace_id, span.times, held_ns);
            if let Some(judged) = self.threads.holds(thread, hold) {
                self.groups.of(judged.hold.group.0).into_iter().for_each(|group| group.add(&judged));
            }
        }
    }

    pub(super) fn found(&self, names: &Names) -> Vec<FoundHeld> {
        let mut all = self.groups.clone();
        let mut open: Vec<_> = self.threads.open().collect();
        open.sort_by_key(|judged| (judged.hold.trace_id, judged.hold.from_ns));
        for judged in open {
            all.of(judged.hold.group.0).into_iter().for_each(|group| group.add(&judged));
        }
        all.iter().filter_map(|(key, group)| finding(*key, group, names)).collect()
    }

    pub(super) fn examples(&self, each: &mut dyn FnMut(u128)) {
        self.groups.iter().for_each(|(_, group)| group.evidence.example(each));
        self.threads.open().for_each(|judged| each(judged.hold.trace_id));
    }

    pub(super) fn left_out(&self) -> u64 {
        self.threads.left_out() + self.groups.left_out()
    }
}

/// What the thread of a span did, and for how long the span had it for itself. `None` if it did not have it for long, or ran on another
/// thread.
fn held(looked: &Looked<'_>, place: usize, thread_id: u64) -> Option<(Option<[u64; CAUSES]>, u64)> {
    let breakdown = looked.breakdowns[place].as_ref()?;
    let own_ns = breakdown.self_ns()?;
    // What a child did is the child's.
    if own_ns < looked.spans[place].duration_ns() / 2 {
        return None;
    }
    // The kernel knows where it ran.
    let of_kernel =
        looked.all_children(place).iter().map(|child| &looked.spans[*child]).filter(|child| child.is_kernel);
    let mut threads =
        of_kernel.filter_map(|child| child.undecoded().attribute("thread.id").as_ref().and_then(count));
    if threads.any(|id| id != thread_id) {
        return None;
    }
    if breakdown.ns(Part::Cpu) == 0 {
        return (own_ns >= LEAST_NS).then_some((None, own_ns));
    }
    // Who waits for a CPU does not hold a thread for a reason of its own.
    let causes_ns = Cause::ALL.map(|(_, part)| breakdown.ns(part));
    let held_ns = causes_ns.iter().sum();
    (held_ns >= LEAST_NS).then_some((Some(causes_ns), held_ns))
}

fn finding(name: NameId, group: &Group, names: &Names) -> Option<FoundHeld> {
    let Group { evidence, refuted, expected, causes_ns } = group;
    if evidence.times < LEAST_TIMES || *refuted > evidence.times / MOST_REFUTED || *expected < LEAST_EXPECTED
    {
        return None;
    }
    let named = names.of(name);
    let by_cause = causes_ns.iter().zip(Cause::ALL).max_by_key(|(ns, _)| **ns);
    let cause = by_cause.filter(|(ns, _)| **ns > 0).map(|(_, (cause, _))| cause);
    let cause_words = cause.map_or("what it does, only a recording with --pid or --exe has", Cause::words);
    let finding = Finding {
        kind: Kind::HeldThread,
        service: Arc::clone(&named.service),
        name: Arc::clone(&named.name),
        what: format!(
            "{} holds a thread that other tasks need for {} at a time, up to {}: {cause_words}",
            named.name,
            readable(evidence.average_ns()),
            readable(evidence.most_ns)
        ),
        why: format!(
            "it did not yield, and no span of another trace began on its thread meanwhile, where some {expected:.0} would have"
        ),
        cost_ns: evidence.cost_ns,
        times: evidence.times,
        traces: evidence.traces,
        trace_ids: evidence.trace_ids(),
        details: [
            ("cause".to_owned(), cause.map(Cause::id).into()),
            ("longest_ns".to_owned(), evidence.most_ns.into()),
        ]
        .into_iter()
        .collect(),
    };
    let (service, name) = (Arc::clone(&named.service), Arc::clone(&named.name));
    // Without an account, it may be.
    let is_for_a_lock = matches!(cause, Some(Cause::Lock) | None);
    Some(FoundHeld { finding, service, name, is_for_a_lock })
}
