//! The traces that the report shows: the slowest ones, and the slowest of those with errors.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use crate::text::{bytes, counted};
use crate::trace::tree::rows;
use crate::trace::{EncodedSpan, Trace};
use crate::view;

/// The most traces of each kind.
const MAX_TRACES: usize = 100;
/// The most spans of a trace.
const MAX_SPANS: usize = 1_000;
/// The most bytes of all traces. Browsers are slow with larger files, and issue trackers refuse them.
const MAX_BYTES: usize = 8 << 20;

/// A trace as the page has it.
pub(super) struct Shown {
    /// The object of `spantap view --json`, with the ids of its spans that are kernel activity, and of the rows of the table that
    /// its spans are in.
    pub(super) json: Vec<u8>,
    left_out: u64,
}

/// The traces by their duration and id, with the longest last.
#[derive(Default)]
pub(super) struct Kept {
    slow: BTreeMap<(u64, u128), Shown>,
    failed: BTreeMap<(u64, u128), Shown>,
    traces: u64,
}

impl Kept {
    /// Adds a trace that has spans of these rows of the table.
    pub(super) fn add(&mut self, trace: &Trace<EncodedSpan>, rows: &BTreeSet<usize>) {
        self.traces += 1;
        let (start_ns, end_ns) = trace.times();
        let key = (end_ns.saturating_sub(start_ns), trace.id);
        let is_failed = trace.has_error();
        for (list, is_wanted) in [(&mut self.slow, true), (&mut self.failed, is_failed)] {
            let is_among =
                list.len() < MAX_TRACES || list.first_key_value().is_some_and(|(least, _)| *least < key);
            if is_wanted && is_among {
                list.insert(key, shown(trace, rows));
                if list.len() > MAX_TRACES {
                    list.pop_first();
                }
            }
        }
    }

    /// The traces for the page, the longest first, and how many others there were.
    pub(super) fn chosen(&self) -> (Vec<&Shown>, u64) {
        let mut chosen: BTreeMap<(u64, u128), &Shown> = BTreeMap::new();
        let (mut slow, mut failed) = (self.slow.iter().rev(), self.failed.iter().rev());
        let mut size = 0;
        // In turns, so that both have their share of the size.
        loop {
            let next = [failed.next(), slow.next()];
            if next.iter().all(Option::is_none) {
                break;
            }
            for (key, trace) in next.into_iter().flatten() {
                if chosen.contains_key(key) || size + trace.json.len() > MAX_BYTES {
                    continue;
                }
                size += trace.json.len();
                chosen.insert(*key, trace);
            }
        }
        let left_out = self.traces.saturating_sub(chosen.len() as u64);
        (chosen.into_values().rev().collect(), left_out)
    }

    /// A line about traces of which spans are left out.
    pub(super) fn shortened(&self, chosen: &[&Shown]) -> Option<String> {
        let spans = chosen.iter().map(|trace| trace.left_out).sum();
        (spans > 0).then(|| {
            let (spans, most) =
                (counted(spans, "span is", "spans are"), counted(MAX_SPANS as u64, "span", "spans"));
            format!(
                "{spans} not in their traces: a trace has at most {most} here, and all traces {}",
                bytes(MAX_BYTES as u64)
            )
        })
    }
}

fn shown(trace: &Trace<EncodedSpan>, of_table: &BTreeSet<usize>) -> Shown {
    let mut decoded = trace.decode();
    let before = decoded.spans.len();
    if before > MAX_SPANS {
        // The first rows: parents come before their children.
        let wanted: HashSet<usize> = rows(&decoded).iter().take(MAX_SPANS).map(|row| row.arrival).collect();
        let mut place = 0..;
        decoded.spans.retain(|_| place.next().is_some_and(|place| wanted.contains(&place)));
        decoded.left_out += (before - MAX_SPANS) as u64;
    }
    let kernel = trace.spans.iter().filter(|span| span.is_kernel);
    let ids: Vec<String> = kernel.take(MAX_SPANS).map(|span| format!("\"{:016x}\"", span.span_id)).collect();
    let of_table: Vec<String> = of_table.iter().map(usize::to_string).collect();
    let mut json =
        format!("{{\"kernel\":[{}],\"rows\":[{}],", ids.join(","), of_table.join(",")).into_bytes();
    let mut object = Vec::new();
    // Writing to a list does not fail.
    let _ = view::json(&decoded, &mut object);
    // The members of the object are in the new one.
    json.extend_from_slice(object.get(1..).unwrap_or_default());
    Shown { json, left_out: decoded.left_out }
}
