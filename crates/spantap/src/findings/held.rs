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
    /// Holds of which nobody knows what began on the thread meanwhile.
    unknown: u64,
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
        // It proves nothing.
        if judged.is_unknown {
            return;
        }
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
            // A child that is missing may be what took the time.
            if !looked.is_whole || duration_ns < LEAST_NS || is_inside(LEAST_BUSY) != Some(true) {
                continue;
            }
            let Some((causes_ns, held_ns)) = held(looked, place, thread_id) else { continue };
            let hold = Hold::new((name, causes_ns), looked.trace_id, span.times, held_ns);
            if let Some(judged) = self.threads.holds(thread, hold) {
                self.unknown += u64::from(judged.is_unknown);
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
        let open = self.threads.open().filter(|of| of.is_shared && !of.is_refuted && !of.is_unknown);
        open.for_each(|judged| each(judged.hold.trace_id));
    }

    /// There were traces in this time that nobody looks at.
    pub(super) fn skip(&mut self, times: (u64, u64)) {
        self.threads.skip(times);
    }

    /// How many spans seemed to hold a thread, and nobody knows what began on it meanwhile.
    pub(super) fn unknown(&self) -> u64 {
        self.unknown + self.threads.open().filter(|judged| judged.is_unknown).count() as u64
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

#[cfg(test)]
mod tests {
    use crate::findings::made::{MS, Made, found, sentences, span, trace};
    use crate::findings::{Findings, Found};
    use crate::trace::{Shown, breakdowns, finder};

    /// Requests on one thread: short ones that wait for something, one each 2 ms, and a long one now and then, which holds the thread, so
    /// that the short ones come later.
    fn on_one_thread(hold_ns: u64, change: impl Fn(u64, Made) -> Vec<Made>) -> Found {
        shown_on_one_thread(hold_ns, Shown::Complete, |_| false, change)
    }

    fn shown_on_one_thread(
        hold_ns: u64,
        shown: Shown,
        is_skipped: impl Fn(u64) -> bool,
        change: impl Fn(u64, Made) -> Vec<Made>,
    ) -> Found {
        let mut findings = Findings::default();
        let mut at = 0;
        for number in 1..=200_u64 {
            let id = |of: u64| number << 16 | of;
            let spans = if number % 20 == 0 {
                let long = span(id(1), 0, "render", (at, at + hold_ns))
                    .number("thread.id", 3)
                    .number("busy_ns", hold_ns);
                let spans = change(number, long);
                at += hold_ns;
                spans
            } else {
                at += 2 * MS;
                vec![span(id(1), 0, "query", (at, at + MS)).number("thread.id", 3).number("busy_ns", MS / 10)]
            };
            let mut trace = trace(number.into(), spans);
            trace.shown = shown;
            match trace.spans[0].name() == "query" && is_skipped(number) {
                true => findings.skip(&trace),
                false => findings.add(&trace, &breakdowns(&trace.spans, &finder())),
            }
        }
        findings.found()
    }

    #[test]
    fn a_span_that_holds_a_worker_thread_is_found_with_what_it_does() {
        let found = on_one_thread(50 * MS, |_, of| vec![of]);
        assert_eq!(
            sentences(&found),
            [
                "held_thread: render holds a thread that other tasks need for 50.0 ms at a time, up to 50.0 ms: what it does, only a recording with --pid or --exe has"
            ]
        );
        assert_eq!((found.findings[0].times, found.findings[0].cost_ns), (10, 500 * MS));
        for (state, words) in [
            ("kernel.on_cpu_ns", "it computes"),
            ("kernel.disk_ns", "it waits for the disk"),
            ("kernel.lock_ns", "it waits for a lock"),
            ("kernel.sleep_ns", "it sleeps"),
        ] {
            // What it does most of the time, with a part that it needs for anything, and some time without a CPU.
            let cpu_ns = if state == "kernel.on_cpu_ns" { 48 * MS } else { MS };
            let found = on_one_thread(50 * MS, |_, of| {
                let of = of.number("kernel.on_cpu_ns", cpu_ns).number("kernel.run_queue_ns", MS);
                vec![if state == "kernel.on_cpu_ns" { of } else { of.number(state, 48 * MS) }]
            });
            let causes = found.findings.iter().map(|of| of.what.rsplit(": ").next().unwrap_or_default());
            assert_eq!(causes.collect::<Vec<_>>(), [words], "{state}");
        }
    }

    #[test]
    fn gaps_that_a_held_thread_may_explain_are_counted() {
        let found = on_one_thread(50 * MS, |number, of| {
            let id = |of: u64| number << 16 | of;
            let waits = span(id(2), 0, "GET /", (0, 20 * MS)).number("busy_ns", MS);
            vec![of, waits, span(id(3), id(2), "store", (15 * MS, 20 * MS))]
        });
        assert!(sentences(&found)[0].starts_with("held_thread: render"), "{:?}", sentences(&found));
        assert_eq!(found.findings.len(), 1);
        assert!(found.lacks[0].starts_with("1 gap is not shown"), "{:?}", found.lacks);
    }

    #[test]
    fn a_span_that_others_are_not_kept_from_is_not_found() {
        let none = |what: &str, found: Found| assert_eq!(sentences(&found), [""; 0], "{what}");
        none("spans are missing", shown_on_one_thread(50 * MS, Shown::Waited, |_| false, |_, of| vec![of]));
        // One that is still open when the hold begins.
        none(
            "others were skipped",
            shown_on_one_thread(50 * MS, Shown::Complete, |number| number % 20 == 19, |_, of| vec![of]),
        );
        none("short", on_one_thread(15 * MS, |_, of| vec![of]));
        none(
            "it yields",
            on_one_thread(50 * MS, |number, _| {
                vec![
                    span(number << 16 | 1, 0, "render", (0, 50 * MS))
                        .number("thread.id", 3)
                        .number("busy_ns", 20 * MS),
                ]
            }),
        );
        none(
            "its child did most",
            on_one_thread(60 * MS, |number, of| {
                let child = of.child(number << 16 | 2, "elsewhere", 60);
                vec![of, child]
            }),
        );
        none(
            "the kernel saw it on another thread",
            on_one_thread(50 * MS, |number, of| {
                vec![
                    of,
                    span(number << 16 | 2, number << 16 | 1, "run queue", (0, MS))
                        .number("thread.id", 4)
                        .kernel(),
                ]
            }),
        );
        none(
            "it waited for a CPU",
            on_one_thread(50 * MS, |_, of| {
                vec![of.number("kernel.on_cpu_ns", 5 * MS).number("kernel.run_queue_ns", 45 * MS)]
            }),
        );
        // Others begin on the thread that made it, because it was entered elsewhere.
        none(
            "others begin meanwhile",
            found(200, 2 * MS, |number, at| {
                let long = if number % 20 == 0 { 50 * MS } else { MS };
                let busy = if number % 20 == 0 { long } else { MS / 10 };
                vec![
                    span(
                        number << 16 | 1,
                        0,
                        if number % 20 == 0 { "render" } else { "query" },
                        (at, at + long),
                    )
                    .number("thread.id", 3)
                    .number("busy_ns", busy),
                ]
            }),
        );
        let many = |number: u64, what: &str, (from, to): (u64, u64)| {
            span(number << 16 | 1, 0, what, (from, to)).number("thread.id", 3)
        };
        // As by `spawn_blocking`: others begin meanwhile, but so many do afterwards that those are forgotten.
        let mut findings = Findings::default();
        let mut number = 0;
        let mut add = |what: &str, times: (u64, u64), busy_ns: u64| {
            number += 1;
            let trace = trace(number.into(), vec![many(number, what, times).number("busy_ns", busy_ns)]);
            findings.add(&trace, &breakdowns(&trace.spans, &finder()));
        };
        for round in 0..4 {
            let at = round * 10_000 * MS;
            for start in (2..50).step_by(2).chain(60..1_200) {
                add("query", (at + start * MS, at + (start + 1) * MS), MS / 10);
            }
            add("render", (at, at + 50 * MS), 50 * MS);
        }
        let unknown = findings.found();
        none("what began meanwhile was forgotten", unknown.clone());
        assert!(unknown.lacks[0].starts_with("4 spans that may have held a thread"), "{:?}", unknown.lacks);
        // A thread for each request: nobody else needs it.
        none(
            "no task waits on it",
            found(200, 60 * MS, |number, at| {
                let long = if number % 20 == 0 { 50 * MS } else { MS };
                vec![
                    span(
                        number << 16 | 1,
                        0,
                        if number % 20 == 0 { "render" } else { "query" },
                        (at, at + long),
                    )
                    .number("thread.id", 3)
                    .number("busy_ns", long),
                ]
            }),
        );
    }
}
