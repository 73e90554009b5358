//! N+1: a span makes many calls of one name, one after the other, that differ only in a value. One call for all would do.
//!
//! Calls of one name may ask for different things. So they are told apart by whom they ask, and by their statement or URL without the
//! values in it.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use super::call::{Asked, Call};
use super::evidence::{Evidence, Groups};
use super::finding::{Finding, Kind};
use super::looked::Looked;
use super::names::{NameId, Names, shortened};
use super::shape::is_place_in_a_list;
use crate::text::readable;

/// The fewest calls in one span.
const LEAST_CALLS: usize = 10;
/// What the calls have to take together, in nanoseconds, and of the span: one part in so many.
const LEAST_NS: u64 = 2_000_000;
const LEAST_SHARE: u64 = 5;
/// Of so many calls in a row, one may overlap with the one before.
const MOST_OVERLAPS: usize = 10;
/// The calls that are compared: so many of the first and of the others. More make it no surer.
const COMPARED: usize = 32;
/// The most attributes in which the calls may differ.
const MOST_DIFFERENCES: usize = 3;

/// The name of the span that makes the calls, theirs, and what they ask for.
type Key = (NameId, NameId, u64);

/// The calls that were seen.
#[derive(Default, Debug)]
pub(super) struct Repeated(Groups<Key, Calls>);

#[derive(Default, Debug)]
struct Calls {
    evidence: Evidence,
    calls: u64,
    most: usize,
    /// The attributes in which they differ.
    differ: BTreeSet<String>,
    statement: Option<String>,
}

/// What many calls have in common.
struct Alike {
    cost_ns: u64,
    /// The attributes in which they differ. Empty if their values are not recorded.
    differ: BTreeSet<String>,
    statement: Option<String>,
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
                // Before any of them is decoded.
                if !is_much(looked, parent, &calls) {
                    continue;
                }
                for (asked, calls) in by_what_they_ask(looked, calls).unwrap_or_default() {
                    let Some(alike) = alike(looked, parent, &calls) else { continue };
                    let Some(found) = self.0.of((of_parent, name, asked.what)) else { continue };
                    found.evidence.add(looked.trace_id, alike.cost_ns);
                    found.calls += calls.len() as u64;
                    found.most = found.most.max(calls.len());
                    let room = MOST_DIFFERENCES.saturating_sub(found.differ.len());
                    found.differ.extend(alike.differ.into_iter().take(room));
                    found.statement = alike.statement.or(found.statement.take());
                }
            }
        }
    }

    pub(super) fn found(&self, names: &Names) -> Vec<Finding> {
        let finding = |(key, calls): (&Key, &Calls)| {
            let (parent, call) = (names.of(key.0), names.of(key.1));
            let Calls { evidence, calls, most, differ, statement } = calls;
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
                why: if differ.is_empty() {
                    "the statement is the same, and its values are not recorded: if they differ, one call for all may do"
                        .to_owned()
                } else {
                    format!("the calls differ only in {}, so that one call for all may do", differ.join(", "))
                },
                cost_ns: evidence.cost_ns,
                times: evidence.times,
                traces: evidence.traces,
                trace_ids: evidence.trace_ids(),
                details: [
                    ("call".to_owned(), (*call.name).into()),
                    ("calls".to_owned(), (*calls).into()),
                    ("most_calls".to_owned(), (*most).into()),
                    ("differ_in".to_owned(), differ.into()),
                    ("statement".to_owned(), statement.as_deref().into()),
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

fn cost_ns(looked: &Looked<'_>, calls: &[usize]) -> u64 {
    calls.iter().fold(0, |sum, call| sum.saturating_add(looked.spans[*call].duration_ns()))
}

/// Whether there are so many calls, and they take so long, that they matter to the span that makes them.
fn is_much(looked: &Looked<'_>, parent: usize, calls: &[usize]) -> bool {
    let least_ns = LEAST_NS.max(looked.spans[parent].duration_ns() / LEAST_SHARE);
    calls.len() >= LEAST_CALLS && cost_ns(looked, calls) >= least_ns
}

/// The calls that are compared.
fn compared(looked: &Looked<'_>, calls: &[usize]) -> impl Iterator<Item = Option<Call>> {
    // The first ones, because a loop may make several calls in turn, and some of all.
    let step = calls.len().div_ceil(COMPARED);
    let some = calls.iter().skip(COMPARED).step_by(step);
    calls.iter().take(COMPARED).chain(some).map(|call| Call::of(looked, *call))
}

/// The calls that ask for the same, in the order of their start. `None` if not all are calls.
fn by_what_they_ask(looked: &Looked<'_>, calls: Vec<usize>) -> Option<BTreeMap<Asked, Vec<usize>>> {
    let some: BTreeSet<Asked> =
        compared(looked, &calls).map(|call| Some(call?.asked())).collect::<Option<_>>()?;
    if let (1, Some(asked)) = (some.len(), some.first()) {
        return Some([(*asked, calls)].into());
    }
    let mut by_asked: BTreeMap<Asked, Vec<usize>> = BTreeMap::new();
    for place in calls {
        by_asked.entry(Call::of(looked, place)?.asked()).or_default().push(place);
    }
    Some(by_asked)
}

/// What the calls have in common, if one call may do.
fn alike(looked: &Looked<'_>, parent: usize, calls: &[usize]) -> Option<Alike> {
    let spans = looked.spans;
    let overlaps = calls.windows(2).filter(|pair| spans[pair[1]].times.0 < spans[pair[0]].times.1).count();
    if !is_much(looked, parent, calls) || overlaps > calls.len() / MOST_OVERLAPS {
        return None;
    }
    let mut values: BTreeMap<String, (usize, HashSet<String>)> = BTreeMap::new();
    let (mut places, mut number, mut lacks_values, mut statement) = (HashSet::new(), 0, true, None);
    for call in compared(looked, calls) {
        let call = call?;
        number += 1;
        if call.reads_on() {
            return None;
        }
        places.insert(call.place_in_a_list());
        lacks_values &= call.has_values_that_are_not_recorded();
        statement = statement.or_else(|| call.statement());
        for (key, value) in call.given() {
            let (times, values) = values.entry(key.to_owned()).or_default();
            *times += 1;
            values.insert(value);
        }
    }
    // Calls with other attributes are other calls, whatever their name.
    let is_in_all = values.values().all(|(times, _)| *times == number);
    let differ: BTreeSet<String> =
        values.into_iter().filter(|(_, (_, values))| values.len() > 1).map(|(key, _)| key).collect();
    let is_few = (1..=MOST_DIFFERENCES).contains(&differ.len()) || (differ.is_empty() && lacks_values);
    let are_parts_of_a_list = places.len() > 1 || differ.iter().any(|key| is_place_in_a_list(key));
    let statement = statement.map(|text| shortened(&text).to_owned());
    (is_in_all && is_few && !are_parts_of_a_list).then(|| Alike {
        cost_ns: cost_ns(looked, calls),
        differ,
        statement,
    })
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

    /// As libraries do that follow OpenTelemetry: the values are not recorded.
    #[test]
    fn a_statement_that_is_made_again_and_again_with_values_is_found() {
        let calls = |text: &str, library: &str| {
            found(4, 1000 * MS, |number, at| {
                let mut spans = many_calls(number, at, 0, |_, of| of);
                spans[0] = span(number << 16 | 1, 0, "GET /cart", (at, at + 30 * MS)).server();
                spans.extend((0..20).map(|call| {
                    let from = at + (call + 1) * MS;
                    let made =
                        span(number << 16 | (2 + call), number << 16 | 1, "SELECT shop", (from, from + MS));
                    made.client().text("db.query.text", text).text(library, "postgresql")
                }));
                spans
            })
        };
        let found = calls("SELECT * FROM items WHERE id = $1", "db.system.name");
        assert_eq!(
            sentences(&found),
            ["repeated_calls: GET /cart calls SELECT shop 20 times one after the other, 1.00 ms each"]
        );
        let finding = &found.findings[0];
        assert!(
            finding.why.starts_with("the statement is the same, and its values are not"),
            "{}",
            finding.why
        );
        assert_eq!(finding.details["statement"], "SELECT * FROM items WHERE id = ?");
        assert_eq!(sentences(&calls("SELECT * FROM items", "db.system.name")), [""; 0], "without values");
        assert_eq!(
            sentences(&calls("SELECT * FROM t LIMIT 9 OFFSET $1", "db.system.name")),
            [""; 0],
            "pages"
        );
        assert_eq!(sentences(&calls("SELECT * FROM items WHERE id = $1", "item")), [""; 0], "the same value");
    }

    #[test]
    fn calls_of_one_name_that_ask_for_the_same_are_found_among_others() {
        let found = found(4, 1000 * MS, |number, at| {
            many_calls(number, at, 40, |call, of| {
                let of = of.text("server.address", "db");
                of.text(
                    "db.statement",
                    if call % 2 == 0 {
                        format!("SELECT a FROM b WHERE c = {call}")
                    } else {
                        format!("SELECT a FROM {}", "t".repeat(call as usize))
                    },
                )
            })
        });
        assert_eq!(
            sentences(&found),
            ["repeated_calls: GET /cart calls load_item 20 times one after the other, 1.00 ms each"]
        );
        assert!(found.findings[0].why.contains("differ only in db.statement,"), "{}", found.findings[0].why);
    }

    /// As the client layer of this project names its spans.
    #[test]
    fn calls_of_a_url_with_other_values_are_found_and_other_calls_are_not() {
        let calls = |url: &dyn Fn(u64) -> String, key: &str, value: &dyn Fn(u64) -> String| {
            let found = found(4, 1000 * MS, |number, at| {
                let mut spans = vec![span(number << 16 | 1, 0, "GET /cart", (at, at + 30 * MS)).server()];
                spans.extend((0..20).map(|call| {
                    let from = at + (call + 1) * MS;
                    let made =
                        span(number << 16 | (2 + call), number << 16 | 1, "GET", (from, from + MS)).client();
                    made.text("http.request.method", "GET").text("url.full", url(call)).text(key, value(call))
                }));
                spans
            });
            sentences(&found)
        };
        let same = |_| "a".to_owned();
        assert_eq!(
            calls(&|call| format!("http://a/items/{call}"), "server.address", &same),
            ["repeated_calls: GET /cart calls GET 20 times one after the other, 1.00 ms each"]
        );
        type Value<'a> = &'a dyn Fn(u64) -> String;
        let none: [(&str, Value<'_>, &str, Value<'_>); 6] = [
            ("hosts", &|_| "http://a/items/1".into(), "server.address", &|call| format!("host{call}")),
            ("hosts in URLs", &|call| format!("http://10.0.0.{call}/"), "server.port", &same),
            ("other paths", &|call| format!("http://a/{}", "x".repeat(call as usize)), "server.port", &same),
            ("pages", &|call| format!("http://a/items?page={call}"), "server.address", &same),
            ("tables", &|_| "http://a/1".into(), "db.collection.name", &|call| format!("t{call}")),
            ("connections", &|_| "http://a/1".into(), "network.local.port", &|call| call.to_string()),
        ];
        for (what, url, key, value) in none {
            assert_eq!(calls(url, key, value), [""; 0], "{what}");
        }
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
