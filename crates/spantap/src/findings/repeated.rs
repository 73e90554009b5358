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
