//! Calls one after the other that could run at the same time.
//!
//! Most calls that follow each other do so for a reason, so there has to be evidence that the second does not need the first:
//!
//! * the same program made them in the other order, or at the same time; or
//! * both only read, from different peers, and all that the second was given was known before the first began: from the spans
//!   around them, from what ended before, or from what the first was given. What is the same in all traces is known, too. At least one
//!   value has to differ from trace to trace and be known, because what no value shows may come from the first.
//!
//! The names of calls such as `check_token` or `connect` say that what follows depends on them anyway.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use super::call::{Call, given, known_and_others, words};
use super::evidence::{Evidence, Groups};
use super::finding::{Finding, Kind};
use super::looked::Looked;
use super::names::{NameId, Names};
use crate::text::{counted, readable};

/// The children of a span that are looked at: of more, it is not clear which belong together.
const MOST_CHILDREN: usize = 64;
/// How long each of the two has to take, in nanoseconds, and of the trace: one part in so many.
const LEAST_NS: u64 = 1_000_000;
const LEAST_SHARE: u64 = 20;
/// What may lie between them, in nanoseconds and of the shorter one: one part in so many. More is work on an answer.
const MOST_BETWEEN_NS: u64 = 100_000;
const MOST_BETWEEN_SHARE: u64 = 20;
/// The fewest traces in which they were serial.
const LEAST_TRACES: u64 = 5;
/// In how many traces they have to be otherwise, and how many of all: one in so many.
const LEAST_OTHERWISE: u64 = 2;
const LEAST_OTHERWISE_SHARE: u64 = 20;
/// The spans around a call whose attributes are known.
const MOST_ANCESTORS: usize = 8;
/// The attributes of a call that are looked at.
const MOST_KEYS: usize = 32;

/// The parent and the two calls, in the order in which they were made.
type Key = (NameId, NameId, NameId);

/// Pairs of calls.
#[derive(Default, Debug)]
pub(super) struct Serial(Groups<Key, Pair>);

#[derive(Default, Debug)]
struct Pair {
    evidence: Evidence,
    /// How often they ran at the same time.
    together: u64,
    /// How often they were reads from different peers.
    reads: u64,
    /// The values of the second call, by their key.
    values: BTreeMap<String, Values>,
}

/// The values of an attribute: their words that were known before the first call, and the others.
#[derive(Debug)]
struct Values {
    known: Option<u64>,
    others: u64,
    has_other_known: bool,
    has_other_others: bool,
}

impl Serial {
    pub(super) fn look(&mut self, looked: &Looked<'_>) {
        let least_ns = LEAST_NS.max(looked.duration_ns() / LEAST_SHARE);
        for (parent, of_parent) in looked.named() {
            if !(2..=MOST_CHILDREN).contains(&looked.all_children(parent).len())
                || looked.spans[parent].duration_ns() < 2 * least_ns
            {
                continue;
            }
            let children: Vec<usize> = looked.children(parent).collect();
            for pair in children.windows(2) {
                let &[first, second] = pair else { continue };
                let is_long = |place: usize| looked.spans[place].duration_ns() >= least_ns;
                let (Some(a), Some(b)) = (looked.names[first], looked.names[second]) else { continue };
                let is_once =
                    |name| children.iter().filter(|of| looked.names[**of] == Some(name)).count() == 1;
                if a != b && is_long(first) && is_long(second) && is_once(a) && is_once(b) {
                    self.add(looked, (of_parent, a, b), first, second);
                }
            }
        }
    }

    fn add(&mut self, looked: &Looked<'_>, key: Key, first: usize, second: usize) {
        let (one, other) = (&looked.spans[first], &looked.spans[second]);
        let shorter_ns = one.duration_ns().min(other.duration_ns());
        let most_between_ns = MOST_BETWEEN_NS.max(shorter_ns / MOST_BETWEEN_SHARE);
        let is_late = other.times.0.saturating_sub(one.times.1) > most_between_ns;
        if is_late || one.is_error || other.is_error {
            return;
        }
        let calls = (Call::of(looked, first), Call::of(looked, second));
        let (Some(a), Some(b)) = calls else { return };
        if other.times.0 < one.times.1 {
            // One after the other as well, if only a moment is common to both.
            let common_ns = one.times.1.min(other.times.1) - other.times.0;
            let is_together = common_ns >= shorter_ns / 2;
            self.0.of(key).into_iter().for_each(|pair| pair.together += u64::from(is_together));
            return;
        }
        let saved_ns = looked.path_ns(first).min(looked.path_ns(second));
        if saved_ns < shorter_ns / 2 || a.is_guard() || b.is_guard() {
            return;
        }
        let Some(pair) = self.0.of(key) else { return };
        pair.evidence.add(looked.trace_id, saved_ns);
        let are_of_different_peers = a.peer().is_some() && b.peer().is_some() && a.peer() != b.peer();
        if a.is_read() && b.is_read() && are_of_different_peers {
            pair.reads += 1;
            let known = known_before(looked, first, &a);
            for (key, value) in b.given().take(MOST_KEYS) {
                let (known, others) = known_and_others(&value, &known);
                if let Some(values) = pair.values.get_mut(key) {
                    values.has_other_known |=
                        known.is_some() && values.known.is_some() && values.known != known;
                    values.has_other_others |= values.others != others;
                    values.known = values.known.or(known);
                } else if pair.values.len() < MOST_KEYS {
                    let new = Values { known, others, has_other_known: false, has_other_others: false };
                    pair.values.insert(key.to_owned(), new);
                }
            }
        }
    }

    pub(super) fn found(&self, names: &Names) -> Vec<Finding> {
        self.0.iter().filter_map(|(key, pair)| self.finding(*key, pair, names)).collect()
    }

    fn finding(&self, (parent, a, b): Key, pair: &Pair, names: &Names) -> Option<Finding> {
        let Pair { evidence, reads, values, .. } = pair;
        let other = self.0.get(&(parent, b, a));
        let turned = other.map_or(0, |of| of.evidence.times);
        let together = pair.together + other.map_or(0, |of| of.together);
        // Of two orders, the usual one is shown.
        if evidence.traces < LEAST_TRACES || (turned, b) > (evidence.times, a) {
            return None;
        }
        let otherwise = turned + together;
        let all = evidence.times + otherwise;
        // A program that makes them at the same time may be too busy to do so, now and then.
        if together > evidence.times {
            return None;
        }
        let is_in_any_order = otherwise >= LEAST_OTHERWISE.max(all / LEAST_OTHERWISE_SHARE);
        let is_given_what_was_known = *reads == evidence.times
            && values.values().all(|of| !of.has_other_others)
            && values.values().any(|of| of.has_other_known);
        let (parent, a, b) = (names.of(parent), names.of(a), names.of(b));
        let why = if is_in_any_order {
            format!("they ran at the same time or in the other order {}", counted(otherwise, "time", "times"))
        } else if is_given_what_was_known {
            let known = values.iter().filter(|(_, of)| of.has_other_known).map(|(key, _)| &**key);
            format!(
                "both read, from different peers, and {} got nothing that was not known before {} began ({})",
                b.name,
                a.name,
                known.collect::<Vec<_>>().join(", ")
            )
        } else {
            return None;
        };
        Some(Finding {
            kind: Kind::SerialCalls,
            service: Arc::clone(&parent.service),
            name: Arc::clone(&parent.name),
            what: format!(
                "{} calls {} and then {}, which could be at the same time and save {} each time",
                parent.name,
                a.name,
                b.name,
                readable(evidence.average_ns())
            ),
            why,
            cost_ns: evidence.cost_ns,
            times: evidence.times,
            traces: evidence.traces,
            trace_ids: evidence.trace_ids(),
            details: [
                ("first".to_owned(), (*a.name).into()),
                ("second".to_owned(), (*b.name).into()),
                ("otherwise".to_owned(), otherwise.into()),
            ]
            .into_iter()
            .collect(),
        })
    }

    pub(super) fn examples(&self, each: &mut dyn FnMut(u128)) {
        self.0.iter().for_each(|(_, pair)| pair.evidence.example(each));
    }

    pub(super) fn left_out(&self) -> u64 {
        self.0.left_out()
    }
}

/// The words of all values that were known when the first call began.
fn known_before(looked: &Looked<'_>, first: usize, call: &Call) -> HashSet<String> {
    let mut known = HashSet::new();
    let mut add = |value: &str| known.extend(words(value).map(str::to_owned));
    call.given().take(MOST_KEYS).for_each(|(_, value)| add(&value));
    let start_ns = looked.spans[first].times.0;
    let siblings = looked.parent(first).into_iter().flat_map(|parent| looked.children(parent));
    let ended = siblings.filter(|place| looked.spans[*place].times.1 <= start_ns);
    for place in looked.ancestors(first).take(MOST_ANCESTORS).chain(ended) {
        if let Some(of) = looked.spans[place].decode() {
            given(&of.span).take(MOST_KEYS).for_each(|(_, value)| add(&value));
        }
    }
    known
}

#[cfg(test)]
mod tests {
    use crate::findings::made::{MS, Made, found, sentences, span};

    /// A request for an order that asks for a price and then for the stock.
    fn two_calls(number: u64, at: u64, change: impl Fn(&str, Made) -> Made) -> Vec<Made> {
        let id = |of: u64| number << 16 | of;
        let call = |of: u64, name: &str, peer: &str, from: u64, to: u64| {
            let made = span(id(of), id(1), name, (at + from * MS, at + to * MS)).client();
            change(name, made.text("http.request.method", "GET").text("server.address", peer))
        };
        vec![
            span(id(1), 0, "GET /orders", (at, at + 12 * MS)).server().number("order", number),
            call(2, "fetch_price", "prices.example", 1, 6),
            call(3, "fetch_stock", "stock.example", 6, 11),
        ]
    }

    #[test]
    fn calls_that_need_nothing_of_each_other_are_found() {
        let found =
            found(10, 1000 * MS, |number, at| two_calls(number, at, |_, of| of.number("order", number)));
        assert_eq!(
            sentences(&found),
            [
                "serial_calls: GET /orders calls fetch_price and then fetch_stock, which could be at the same time and save 5.00 ms each time"
            ]
        );
        assert_eq!(found.findings[0].cost_ns, 10 * 5 * MS);
        assert!(
            found.findings[0].why.contains("before fetch_price began (order)"),
            "{}",
            found.findings[0].why
        );
    }

    #[test]
    fn calls_that_may_need_each_other_are_not_found() {
        let none = |what: &str, change: &dyn Fn(u64, &str, Made) -> Made| {
            let found =
                found(10, 1000 * MS, |number, at| two_calls(number, at, |name, of| change(number, name, of)));
            assert_eq!(sentences(&found), [""; 0], "{what}");
        };
        none("nothing says what they were given", &|_, _, of| of);
        none("the second was given something new", &|number, name, of| match name {
            "fetch_stock" => of.number("order", number).text("sku", format!("sku {}", number * 7919)),
            _ => of.number("order", number),
        });
        none("all values are always the same", &|_, _, of| of.number("order", 4711));
        none("one changes something", &|number, name, mut of| {
            if name == "fetch_price" {
                of = span(
                    number << 16 | 2,
                    number << 16 | 1,
                    name,
                    (number * 1000 * MS + MS, number * 1000 * MS + 6 * MS),
                )
                .client();
                of = of.text("http.request.method", "POST").text("server.address", "prices.example");
            }
            of.number("order", number)
        });
        none("the same peer", &|number, _, of| of.number("order", number).text("peer.service", "all"));
        none("the first failed", &|number, name, of| {
            let of = of.number("order", number);
            if name == "fetch_price" { of.failed("no") } else { of }
        });
        // What a name says.
        let found = found(10, 1000 * MS, |number, at| {
            let mut spans = two_calls(number, at, |_, of| of.number("order", number));
            spans[1] = span(number << 16 | 2, number << 16 | 1, "check_token", (at + MS, at + 6 * MS))
                .client()
                .text("http.request.method", "GET")
                .text("server.address", "auth.example")
                .number("order", number);
            spans
        });
        assert_eq!(sentences(&found), [""; 0]);
    }

    /// With the word of the statement in an attribute of its own, as the conventions want it.
    #[test]
    fn statements_that_lock_what_they_read_are_no_reads() {
        let with = |end: &str| {
            found(10, 1000 * MS, |number, at| {
                let id = |of: u64| number << 16 | of;
                let query = |of: u64, name: &str, from: u64| {
                    let times = (at + from * MS, at + (from + 5) * MS);
                    let made = span(id(of), id(1), name, times).client().text("server.address", name);
                    let text = format!("SELECT a FROM b WHERE c = $1 {end}");
                    made.text("db.operation.name", "SELECT")
                        .text("db.query.text", text)
                        .number("order", number)
                };
                let root = span(id(1), 0, "GET /orders", (at, at + 12 * MS)).number("order", number);
                vec![root, query(2, "prices", 1), query(3, "stock", 6)]
            })
        };
        assert_eq!(with("").findings.len(), 1);
        assert_eq!(sentences(&with("FOR UPDATE")), [""; 0]);
        assert_eq!(sentences(&with("for no key update")), [""; 0]);
    }

    #[test]
    fn calls_that_ran_in_both_orders_are_found_whatever_they_are() {
        let found = found(20, 1000 * MS, |number, at| {
            let id = |of: u64| number << 16 | of;
            let (one, other) = if number % 4 == 0 { ((1, 6), (6, 11)) } else { ((6, 11), (1, 6)) };
            let times = |(from, to): (u64, u64)| (at + from * MS, at + to * MS);
            vec![
                span(id(1), 0, "GET /orders", (at, at + 12 * MS)),
                span(id(2), id(1), "reserve", times(one)).client(),
                span(id(3), id(1), "charge", times(other)).client(),
            ]
        });
        assert_eq!(
            sentences(&found),
            [
                "serial_calls: GET /orders calls charge and then reserve, which could be at the same time and save 5.00 ms each time"
            ]
        );
        assert_eq!(found.findings[0].why, "they ran at the same time or in the other order 5 times");
    }

    #[test]
    fn calls_that_are_mostly_made_at_the_same_time_are_not_found() {
        let with_serial = |is_serial: &dyn Fn(u64) -> bool| {
            found(30, 1000 * MS, |number, at| {
                let id = |of: u64| number << 16 | of;
                let (from, to) = if is_serial(number) { (6, 11) } else { (1, 6) };
                vec![
                    span(id(1), 0, "GET /orders", (at, at + 12 * MS)),
                    span(id(2), id(1), "reserve", (at + MS, at + 6 * MS)).client(),
                    span(id(3), id(1), "charge", (at + from * MS, at + to * MS)).client(),
                ]
            })
        };
        // A program that is too busy now and then.
        assert_eq!(sentences(&with_serial(&|number| number % 3 == 0)), [""; 0]);
        assert_eq!(with_serial(&|number| number % 3 > 0).findings.len(), 1);
    }

    #[test]
    fn calls_beside_the_critical_path_are_not_found() {
        let found = found(10, 1000 * MS, |number, at| {
            let mut spans = two_calls(number, at, |_, of| of.number("order", number));
            spans.push(span(number << 16 | 4, number << 16 | 1, "render", (at + MS, at + 12 * MS)));
            spans
        });
        assert_eq!(sentences(&found), [""; 0]);
    }
}
