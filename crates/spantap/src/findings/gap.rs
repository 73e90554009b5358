//! Time that nobody accounts for: a span is open, no child is, and no thread is inside. So it waits, and no span says for what.
//!
//! That is known only if the program counts the time in which threads were inside (`busy_ns`) or the kernel did. A span without children
//! says by its own name what it waits for. A loop that waits for the next message looks the same, but has the same child before and
//! after; and the end of a response that is streamed is the end of a request.

use std::collections::HashMap;
use std::sync::Arc;

use opentelemetry_proto::tonic::trace::v1::span::SpanKind;

use super::evidence::{Evidence, Groups};
use super::finding::{Finding, Kind};
use super::looked::Looked;
use super::names::{NameId, Names};
use crate::span::attributes::count;
use crate::text::{grouped, readable};
use crate::trace::Part;

/// How long it has to be, in nanoseconds, and of the span: one part in so many.
const LEAST_NS: u64 = 10_000_000;
const LEAST_SHARE: u64 = 5;
/// In how many traces, and of how many spans with children: one in so many.
const LEAST_TRACES: u64 = 3;
const LEAST_OF_SPANS: u64 = 5;

/// The most places in a span at which it waits. More say that its tasks wait for a thread.
const MOST_PLACES: usize = 2;

/// The span, and the names of the children before and after.
type Key = (NameId, Option<NameId>, Option<NameId>);

/// The gaps that were seen.
#[derive(Default, Debug)]
pub(super) struct Gaps {
    gaps: Groups<Key, Evidence>,
    /// How many spans of a name have children and a known busy time.
    spans: HashMap<NameId, u64>,
}

impl Gaps {
    pub(super) fn look(&mut self, looked: &Looked<'_>) {
        // A child that is missing looks like a gap.
        if !looked.is_whole {
            return;
        }
        for (place, name) in looked.named() {
            if looked.children(place).next().is_none() {
                continue;
            }
            let Some(mut unexplained_ns) = unexplained_ns(looked, place) else { continue };
            // There are only so many names.
            *self.spans.entry(name).or_default() += 1;
            let span = &looked.spans[place];
            let least_ns = LEAST_NS.max(span.duration_ns() / LEAST_SHARE);
            if unexplained_ns < least_ns {
                continue;
            }
            for (before, after, ns) in between_children(looked, place) {
                // At least half of it: the rest of the time inside may be anywhere.
                let gap_ns = ns.min(unexplained_ns);
                if ns >= least_ns && gap_ns >= ns / 2 && is_no_loop(looked, place, before, after) {
                    unexplained_ns -= gap_ns;
                    let of = |child: Option<usize>| child.and_then(|child| looked.names[child]);
                    let gap = self.gaps.of((name, of(before), of(after)));
                    gap.into_iter().for_each(|gap| gap.add(looked.trace_id, gap_ns));
                }
            }
        }
    }

    pub(super) fn found(&self, names: &Names) -> Vec<Finding> {
        let mut places: HashMap<NameId, Vec<Finding>> = HashMap::new();
        for (key, evidence) in self.gaps.iter() {
            let finding = self.finding(*key, evidence, names);
            places.entry(key.0).or_default().extend(finding);
        }
        // A task that waits for a thread does so anywhere.
        places.into_values().filter(|of| of.len() <= MOST_PLACES).flatten().collect()
    }

    fn finding(&self, (span, before, after): Key, evidence: &Evidence, names: &Names) -> Option<Finding> {
        let spans = self.spans.get(&span).copied().unwrap_or(0);
        if evidence.traces < LEAST_TRACES || evidence.times < spans / LEAST_OF_SPANS {
            return None;
        }
        let span = names.of(span);
        let [before, after] = [before, after].map(|of| of.map(|of| Arc::clone(&names.of(of).name)));
        let place = match (&before, &after) {
            (Some(before), Some(after)) => format!("between {before} and {after}"),
            (None, Some(after)) => format!("before {after}"),
            (Some(before), None) => format!("after {before}"),
            (None, None) => return None,
        };
        let text = |name: Option<Arc<str>>| name.map(|name| name.to_string());
        Some(Finding {
            kind: Kind::Gap,
            service: Arc::clone(&span.service),
            name: Arc::clone(&span.name),
            what: format!(
                "{} waits {} {place}, and no span says for what",
                span.name,
                readable(evidence.average_ns())
            ),
            why: format!(
                "no child was open and no thread was inside, in {} of {} such spans, for up to {}",
                grouped(evidence.times),
                grouped(spans),
                readable(evidence.most_ns)
            ),
            cost_ns: evidence.cost_ns,
            times: evidence.times,
            traces: evidence.traces,
            trace_ids: evidence.trace_ids(),
            details: [
                ("after".to_owned(), text(before).into()),
                ("before".to_owned(), text(after).into()),
                ("spans".to_owned(), spans.into()),
            ]
            .into_iter()
            .collect(),
        })
    }

    pub(super) fn examples(&self, each: &mut dyn FnMut(u128)) {
        self.gaps.iter().for_each(|(_, gap)| gap.example(each));
    }

    pub(super) fn left_out(&self) -> u64 {
        self.gaps.left_out()
    }
}

/// For how long no child was open and no thread inside, at least. `None` if that is not known.
fn unexplained_ns(looked: &Looked<'_>, place: usize) -> Option<u64> {
    let breakdown = looked.breakdowns[place].as_ref()?;
    // With an account, the time on a CPU is never 0.
    if breakdown.ns(Part::Cpu) > 0 || breakdown.ns(Part::Idle) > 0 {
        return Some(breakdown.ns(Part::Idle));
    }
    let busy_ns = looked.spans[place].undecoded().attribute("busy_ns").as_ref().and_then(count);
    // It may have been busy while a child was open, or not.
    busy_ns.map(|busy_ns| breakdown.self_ns().unwrap_or(0).saturating_sub(busy_ns))
}

/// The parts of the span in which no child is open: the child that ended before, the one that begins after, and the time.
fn between_children(looked: &Looked<'_>, place: usize) -> Vec<(Option<usize>, Option<usize>, u64)> {
    let (start_ns, end_ns) = looked.spans[place].times;
    let (mut until_ns, mut last, mut gaps) = (start_ns, None, Vec::new());
    for child in looked.children(place) {
        let (from_ns, to_ns) = looked.spans[child].times;
        if from_ns.min(end_ns) > until_ns {
            gaps.push((last, Some(child), from_ns.min(end_ns) - until_ns));
        }
        if to_ns >= until_ns {
            (until_ns, last) = (to_ns, Some(child));
        }
    }
    if end_ns > until_ns {
        gaps.push((last, None, end_ns - until_ns));
    }
    gaps
}

/// Whether the children at both ends are there once each, and it is no end of a request.
fn is_no_loop(looked: &Looked<'_>, place: usize, before: Option<usize>, after: Option<usize>) -> bool {
    let is_once = |child: Option<usize>| {
        let Some(name) = child.map(|child| looked.names[child]) else { return true };
        name.is_some() && looked.children(place).filter(|of| looked.names[*of] == name).take(2).count() == 1
    };
    let is_request = looked.parent(place).is_none()
        || [SpanKind::Server, SpanKind::Consumer]
            .iter()
            .any(|kind| looked.spans[place].kind() == *kind as i32);
    is_once(before) && is_once(after) && (after.is_some() || !is_request)
}

#[cfg(test)]
mod tests {
    use crate::findings::made::{MS, Made, found, sentences, span};

    /// A request with 20 ms between two calls, of which a thread was inside for so long.
    fn waits(number: u64, at: u64, busy_ns: Option<u64>, names: [&str; 2]) -> Vec<Made> {
        let id = |of: u64| number << 16 | of;
        let request = span(id(1), 0, "GET /", (at, at + 30 * MS)).server();
        vec![
            busy_ns.map_or(request.clone(), |ns| request.number("busy_ns", ns)),
            span(id(2), id(1), names[0], (at, at + 5 * MS)),
            span(id(3), id(1), names[1], (at + 25 * MS, at + 30 * MS)),
        ]
    }

    #[test]
    fn a_wait_that_no_span_explains_is_found() {
        let found = found(10, 1000 * MS, |number, at| waits(number, at, Some(MS), ["load", "store"]));
        assert_eq!(
            sentences(&found),
            ["gap: GET / waits 19.0 ms between load and store, and no span says for what"]
        );
        assert!(found.findings[0].why.contains("in 10 of 10 such spans"), "{}", found.findings[0].why);
    }

    #[test]
    fn spans_of_which_the_busy_time_is_not_known_do_not_count() {
        let found = found(100, 1000 * MS, |number, at| {
            waits(number, at, (number % 10 == 0).then_some(MS), ["load", "store"])
        });
        assert_eq!(found.findings.len(), 1);
        assert!(found.findings[0].why.contains("in 10 of 10 such spans"), "{}", found.findings[0].why);
    }

    #[test]
    fn time_that_is_explained_is_no_gap() {
        let none = |what: &str, traces: u64, made: &dyn Fn(u64, u64) -> Vec<Made>| {
            let found = found(traces, 1000 * MS, made);
            assert_eq!(sentences(&found), [""; 0], "{what}");
        };
        none("nothing says when a thread was inside", 10, &|number, at| {
            waits(number, at, None, ["load", "store"])
        });
        none("a thread was inside", 10, &|number, at| waits(number, at, Some(25 * MS), ["load", "store"]));
        none("a loop waits for the next message", 10, &|number, at| {
            waits(number, at, Some(MS), ["message", "message"])
        });
        none("seldom", 2, &|number, at| waits(number, at, Some(MS), ["load", "store"]));
        none("in a few of many", 100, &|number, at| {
            let mut spans = waits(number, at, Some(MS), ["load", "store"]);
            if number % 10 > 0 {
                spans[2] = span(number << 16 | 3, number << 16 | 1, "store", (at + 5 * MS, at + 30 * MS));
            }
            spans
        });
        none("without children", 10, &|number, at| {
            waits(number, at, Some(MS), ["load", "store"]).into_iter().take(1).collect()
        });
        none("a response is streamed", 10, &|number, at| {
            let mut spans = waits(number, at, Some(MS), ["load", "store"]);
            spans.truncate(2);
            spans
        });
        none("at any place, as of a runtime without a free thread", 10, &|number, at| {
            let id = |of: u64| number << 16 | of;
            let mut spans = vec![span(id(1), 0, "GET /", (at, at + 64 * MS)).server().number("busy_ns", MS)];
            for (call, name) in [(1, "a"), (2, "b"), (3, "c")] {
                let from = at + call * 16 * MS;
                spans.push(span(id(call + 1), id(1), name, (from, from + MS)));
            }
            spans
        });
        none("the kernel knows", 10, &|number, at| {
            let mut spans = waits(number, at, Some(MS), ["load", "store"]);
            let request = spans.remove(0).number("kernel.on_cpu_ns", MS).number("kernel.disk_ns", 19 * MS);
            spans.insert(0, request);
            spans
        });
    }
}
