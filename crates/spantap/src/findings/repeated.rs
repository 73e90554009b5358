//! N+1: a span makes many calls of one name, one after the other, that differ only in a value. One call for all would do.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use super::call::{Call, is_place_in_a_list};
use super::evidence::{Evidence, Groups};
use super::finding::{Finding, Kind};
use super::looked::Looked;
use super::names::{NameId, Names};
use crate::text::readable;

/// The fewest calls in one span.
const LEAST_CALLS: usize = 10;
/// What the calls have to take together, in nanoseconds, and of the span: one part in so many.
const LEAST_NS: u64 = 2_000_000;
const LEAST_SHARE: u64 = 5;
/// Of so many calls in a row, one may overlap with the one before.
const MOST_OVERLAPS: usize = 10;
/// The calls that are compared. More make it no surer.
const COMPARED: usize = 32;
/// The most attributes in which the calls may differ.
const MOST_DIFFERENCES: usize = 3;

/// The calls that were seen, by the name of the span that makes them and their name.
#[derive(Default, Debug)]
pub(super) struct Repeated(Groups<(NameId, NameId), Calls>);

#[derive(Default, Debug)]
struct Calls {
    evidence: Evidence,
    calls: u64,
    most: usize,
    /// The attributes in which they differ.
    differ: BTreeSet<String>,
}

impl Repeated {
    pub(super) fn look(&mut self, looked: &Looked<'_>) {
        for (parent, of_parent) in looked.named() {
            if looked.all_children(parent).len() < LEAST_CALLS {
                continue;
            }
            let mut by_name: BTreeMap<NameId, Vec<usize>> = BTreeMap::new();
            for child in looked.children(parent) {
                if let Some(name) = looked.names[child] {
                    by_name.entry(name).or_default().push(child);
                }
            }
            for (name, calls) in by_name {
                let Some((cost_ns, differ)) = repeated(looked, parent, &calls) else { continue };
                let Some(found) = self.0.of((of_parent, name)) else { continue };
                found.evidence.add(looked.trace_id, cost_ns);
                found.calls += calls.len() as u64;
                found.most = found.most.max(calls.len());
                let room = MOST_DIFFERENCES.saturating_sub(found.differ.len());
                found.differ.extend(differ.into_iter().take(room));
            }
        }
    }

    pub(super) fn found(&self, names: &Names) -> Vec<Finding> {
        let finding = |(key, calls): (&(NameId, NameId), &Calls)| {
            let (parent, call) = (names.of(key.0), names.of(key.1));
            let Calls { evidence, calls, most, differ } = calls;
            let (average, each_ns) = (calls / evidence.times.max(1), evidence.cost_ns / (*calls).max(1));
            let times = if average == *most as u64 {
                format!("{average} times")
            } else {
                format!("{average} times on average, up to {most},")
            };
            let differ = differ.iter().cloned().collect::<Vec<_>>();
            Finding {
                kind: Kind::RepeatedCalls,
                service: parent.service.clone(),
                name: parent.name.clone(),
                what: format!(
                    "{} calls {} {times} one after the other, {} each",
                    parent.name,
                    call.name,
                    readable(each_ns)
                ),
                why: format!(
                    "the calls differ only in {}, so that one call for all may do",
                    differ.join(", ")
                ),
                cost_ns: evidence.cost_ns,
                times: evidence.times,
                traces: evidence.traces,
                trace_ids: evidence.trace_ids(),
                details: [
                    ("call".to_owned(), (*call.name).into()),
                    ("calls".to_owned(), (*calls).into()),
                    ("most_calls".to_owned(), (*most).into()),
                    ("differ_in".to_owned(), differ.into()),
                ]
                .into_iter()
                .collect(),
            }
        };
        self.0.iter().map(finding).collect()
    }

    pub(super) fn examples(&self, each: &mut dyn FnMut(u128)) {
        self.0.iter().for_each(|(_, calls)| calls.evidence.example(each));
    }

    pub(super) fn left_out(&self) -> u64 {
        self.0.left_out()
    }
}

/// What the calls take together and in what they differ, if one call may do. They are in the order of their start.
fn repeated(looked: &Looked<'_>, parent: usize, calls: &[usize]) -> Option<(u64, BTreeSet<String>)> {
    let spans = looked.spans;
    if calls.len() < LEAST_CALLS {
        return None;
    }
    let cost_ns = calls.iter().fold(0_u64, |sum, call| sum.saturating_add(spans[*call].duration_ns()));
    let of_parent_ns = spans[parent].duration_ns() / LEAST_SHARE;
    let overlaps = calls.windows(2).filter(|pair| spans[pair[1]].times.0 < spans[pair[0]].times.1).count();
    if cost_ns < LEAST_NS.max(of_parent_ns) || overlaps > calls.len() / MOST_OVERLAPS {
        return None;
    }
    let step = calls.len().div_ceil(COMPARED);
    let mut values: BTreeMap<String, (usize, HashSet<String>)> = BTreeMap::new();
    let mut compared = 0;
    for call in calls.iter().step_by(step) {
        let call = Call::of(looked, *call)?;
        compared += 1;
        for (key, value) in call.given() {
            let (times, values) = values.entry(key.to_owned()).or_default();
            *times += 1;
            values.insert(value);
        }
    }
    // Calls with other attributes are other calls, whatever their name.
    let is_in_all = values.values().all(|(times, _)| *times == compared);
    let differ: BTreeSet<String> =
        values.into_iter().filter(|(_, (_, values))| values.len() > 1).map(|(key, _)| key).collect();
    let is_few = (1..=MOST_DIFFERENCES).contains(&differ.len());
    (is_in_all && is_few && !differ.iter().any(|key| is_place_in_a_list(key))).then_some((cost_ns, differ))
}

#[cfg(test)]
mod tests {
    use crate::findings::made::{MS, Made, found, many_calls, sentences, span};

    #[test]
    fn many_calls_that_differ_in_a_value_are_found() {
        let found =
            found(4, 1000 * MS, |number, at| many_calls(number, at, 20, |call, of| of.number("item", call)));
        assert_eq!(
            sentences(&found),
            ["repeated_calls: GET /cart calls load_item 20 times one after the other, 1.00 ms each"]
        );
        let finding = &found.findings[0];
        assert_eq!((finding.cost_ns, finding.times, finding.traces), (80 * MS, 4, 4));
        assert!(finding.why.starts_with("the calls differ only in item,"), "{}", finding.why);
        assert_eq!(found.total_ns, 4 * 22 * MS);
    }

    /// As of a function with the attribute `instrument`, which makes a query.
    #[test]
    fn functions_that_do_little_but_a_call_are_calls() {
        let with_inner = |inner_ns: u64| {
            found(4, 1000 * MS, |number, at| {
                let id = |of: u64| number << 16 | of;
                let mut spans = vec![span(id(1), 0, "GET /cart", (at, at + 30 * MS)).server()];
                for call in 0..20 {
                    let from = at + (call + 1) * MS;
                    let text = "SELECT * FROM items WHERE id = ?";
                    let inner = span(id(100 + call), id(2 + call), "query", (from, from + inner_ns));
                    spans.push(span(id(2 + call), id(1), "load_item", (from, from + MS)).number("id", call));
                    spans.push(inner.text("db.query.text", text));
                }
                spans
            })
        };
        let found = with_inner(MS * 9 / 10);
        assert_eq!(
            sentences(&found),
            ["repeated_calls: GET /cart calls load_item 20 times one after the other, 1.00 ms each"]
        );
        assert!(
            found.findings[0].why.starts_with("the calls differ only in id,"),
            "{}",
            found.findings[0].why
        );
        assert_eq!(sentences(&with_inner(MS / 2)), [""; 0], "most is work of its own");
    }

    #[test]
    fn calls_that_one_call_could_not_replace_are_not_found() {
        let none = |what: &str, made: &dyn Fn(u64, u64) -> Vec<Made>| {
            let found = found(4, 1000 * MS, made);
            assert_eq!(sentences(&found), [""; 0], "{what}");
        };
        none("few", &|number, at| many_calls(number, at, 9, |call, of| of.number("item", call)));
        none("the same call", &|number, at| many_calls(number, at, 20, |_, of| of.number("item", 7)));
        none("pages", &|number, at| many_calls(number, at, 20, |call, of| of.number("page", call)));
        none("with other fields", &|number, at| {
            many_calls(number, at, 20, |call, of| {
                of.number("item", call).number(["a", "b"][call as usize % 2], 1)
            })
        });
        none("with many other values", &|number, at| {
            many_calls(number, at, 20, |call, of| {
                ["a", "b", "c", "d"].into_iter().fold(of, |of, key| of.number(key, call))
            })
        });
        none("of its own code", &|number, at| {
            let id = |of: u64| number << 16 | of;
            let mut spans = vec![span(id(1), 0, "resize", (at, at + 30 * MS))];
            spans.extend((0..20).map(|call| {
                let from = at + call * MS;
                span(id(call + 2), id(1), "resize_row", (from, from + MS)).number("row", call)
            }));
            spans
        });
        none("at the same time", &|number, at| {
            let mut spans = many_calls(number, at, 20, |call, of| of.number("item", call));
            let id = |of: u64| number << 16 | of;
            spans.truncate(1);
            spans.extend((0..20).map(|call| {
                span(id(call + 2), id(1), "load_item", (at + call, at + 20 * MS))
                    .client()
                    .number("item", call)
            }));
            spans
        });
        none("a small part of a span", &|number, at| {
            let mut spans = many_calls(number, at, 20, |call, of| of.number("item", call));
            spans[0] = span(number << 16 | 1, 0, "GET /cart", (at, at + 500 * MS)).server();
            spans
        });
    }
}
