//! The traces that the report shows: the slowest ones, and the slowest of those with errors.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::rc::Rc;

use prost::Message;

use super::escape;
use crate::span::is_error;
use crate::text::{bytes, counted};
use crate::trace::tree::{Place, Row, rows};
use crate::trace::{EncodedSpan, Trace};
use crate::view;

/// The most traces of each kind.
const MAX_TRACES: usize = 100;
/// The most spans of a trace.
const MAX_SPANS: usize = 1_000;
/// The most bytes of a trace. One that is larger leaves no room for others.
const MAX_BYTES_OF_TRACE: usize = 1 << 20;
/// The most bytes of all traces. Browsers are slow with larger files, and issue trackers refuse them.
const MAX_BYTES: usize = 8 << 20;
/// The most ids in a line about traces.
const MAX_IDS: usize = 5;

/// A trace as the page has it.
pub(super) struct Shown {
    /// The object of `spantap view --json`, with the ids of its spans that are kernel activity, and of the rows of the table that
    /// its spans are in. It is escaped for a block of HTML.
    pub(super) json: Vec<u8>,
    left_out: u64,
}

/// The duration of a trace and its id.
type Key = (u64, u128);

/// The longest traces, the longest last.
#[derive(Default)]
struct Longest {
    traces: BTreeMap<Key, Rc<Shown>>,
    bytes: usize,
    /// The longest for which there is no room.
    shut_out: Option<Key>,
}

impl Longest {
    fn takes(&self, key: Key) -> bool {
        self.shut_out.is_none_or(|longest| longest < key)
    }

    fn add(&mut self, key: Key, trace: &Rc<Shown>) {
        self.bytes += trace.json.len();
        self.traces.insert(key, Rc::clone(trace));
        while self.traces.len() > MAX_TRACES || self.bytes > MAX_BYTES {
            let Some((key, shortest)) = self.traces.pop_first() else { break };
            self.bytes -= shortest.json.len();
            self.shut_out = Some(key);
        }
    }
}

/// The traces of the page.
#[derive(Default)]
pub(super) struct Kept {
    slow: Longest,
    failed: Longest,
    traces: u64,
    /// Those of which not even one span fits, as far as they are slow enough.
    too_large: BTreeSet<u128>,
}

impl Kept {
    /// Adds a trace that has spans of these rows of the table.
    pub(super) fn add(&mut self, trace: &Trace<EncodedSpan>, rows: &BTreeSet<usize>) {
        self.traces += 1;
        let (start_ns, end_ns) = trace.times();
        let key = (end_ns.saturating_sub(start_ns), trace.id);
        let is_failed = trace.has_error();
        let lists = [(&mut self.slow, true), (&mut self.failed, is_failed)];
        let mut wanted =
            lists.into_iter().filter(|(list, is_wanted)| *is_wanted && list.takes(key)).peekable();
        if wanted.peek().is_none() {
            return;
        }
        match shown(trace, rows, MAX_BYTES_OF_TRACE).map(Rc::new) {
            Some(shown) => wanted.for_each(|(list, _)| list.add(key, &shown)),
            None if self.too_large.len() < MAX_IDS => _ = self.too_large.insert(trace.id),
            None => {}
        }
    }

    /// The traces for the page, the longest first, and how many others there were.
    pub(super) fn chosen(&self) -> (Vec<&Shown>, u64) {
        let mut chosen: BTreeMap<Key, &Shown> = BTreeMap::new();
        let mut lists = [&self.failed, &self.slow].map(|list| Some(list.traces.iter().rev()));
        let mut size = 0;
        // In turns, so that both have their share of the size. Each ends with the first one that does not fit.
        while lists.iter().any(Option::is_some) {
            for list in &mut lists {
                let next = list.as_mut().and_then(Iterator::next);
                match next {
                    Some((key, _)) if chosen.contains_key(key) => {}
                    Some((key, trace)) if size + trace.json.len() <= MAX_BYTES => {
                        size += trace.json.len();
                        chosen.insert(*key, trace);
                    }
                    _ => *list = None,
                }
            }
        }
        let left_out = self.traces.saturating_sub(chosen.len() as u64);
        (chosen.into_values().rev().collect(), left_out)
    }

    /// A line about traces that can't be shortened enough.
    pub(super) fn too_large(&self) -> Option<String> {
        let ids: Vec<String> = self.too_large.iter().map(|id| format!("{id:032x}")).collect();
        (!ids.is_empty())
            .then(|| format!("slow traces are not here because of very large fields: {}", ids.join(", ")))
    }

    /// A line about traces of which spans are left out.
    pub(super) fn shortened(&self, chosen: &[&Shown]) -> Option<String> {
        let spans = chosen.iter().map(|trace| trace.left_out).sum();
        (spans > 0).then(|| {
            let (spans, most) =
                (counted(spans, "span is", "spans are"), counted(MAX_SPANS as u64, "span", "spans"));
            format!(
                "{spans} not in their traces: a trace has at most {most} and {} here, and all traces {}",
                bytes(MAX_BYTES_OF_TRACE as u64),
                bytes(MAX_BYTES as u64)
            )
        })
    }
}

/// The trace with the most important of its rows. `None` if the first one is larger than `most`.
fn shown(trace: &Trace<EncodedSpan>, of_table: &BTreeSet<usize>, most: usize) -> Option<Shown> {
    let kernel: HashSet<[u8; 8]> =
        trace.spans.iter().filter(|span| span.is_kernel).map(|span| span.span_id.to_be_bytes()).collect();
    let trace = trace.decode();
    let rows = rows(&trace);
    let mut wanted = important(&rows);
    wanted.truncate(fitting(&rows, &wanted, most));
    while !wanted.is_empty() {
        let mut kept = wanted.clone();
        kept.sort_unstable();
        let is_kernel = |row: &&usize| kernel.contains(&*rows[**row].span.span.span_id);
        let id = |row: &usize| format!("\"{}\"", const_hex::encode(&rows[*row].span.span.span_id));
        let ids: Vec<String> = kept.iter().filter(is_kernel).map(id).collect();
        let of_table: Vec<String> = of_table.iter().map(usize::to_string).collect();
        let mut json =
            format!("{{\"kernel\":[{}],\"rows\":[{}],", ids.join(","), of_table.join(",")).into_bytes();
        let mut object = Vec::new();
        // Writing to a list does not fail.
        let _ = view::json_of_rows(&trace, &rows, &kept, &mut object);
        // The members of the object are in the new one.
        let _ = escape(object.get(1..).unwrap_or_default(), &mut json);
        if json.len() <= most {
            json.shrink_to_fit();
            return Some(Shown { json, left_out: trace.left_out + (rows.len() - kept.len()) as u64 });
        }
        // As many as fit if all have the same size; fewer at least.
        let fewer = kept.len() * most / json.len();
        wanted.truncate(fewer.clamp(1, kept.len()).min(kept.len() - 1));
    }
    None
}

/// Some rows, the most important first, each after its parent: the first one, those that failed, and those at the beginning.
fn important(rows: &[Row<'_>]) -> Vec<usize> {
    let mut chosen: Vec<usize> = Vec::new();
    let mut is_chosen = vec![false; rows.len()];
    let failed = (0..rows.len()).filter(|row| is_error(&rows[*row].span.span));
    for row in (0..rows.len().min(1)).chain(failed).chain(0..rows.len()) {
        let (mut way, mut at) = (Vec::new(), Some(row));
        while let Some(up) = at.filter(|up| !is_chosen[*up]) {
            is_chosen[up] = true;
            way.push(up);
            at = match rows[up].place {
                Place::Child(parent) => Some(parent),
                Place::Root | Place::ParentMissing | Place::Circle => None,
            };
        }
        chosen.extend(way.into_iter().rev());
        if chosen.len() >= MAX_SPANS {
            chosen.truncate(MAX_SPANS);
            break;
        }
    }
    chosen
}

/// How many of the wanted rows can fit, because JSON is not shorter than protobuf. At least one.
fn fitting(rows: &[Row<'_>], wanted: &[usize], most: usize) -> usize {
    let (mut bytes, mut processes) = (0, HashSet::new());
    let fits = |row: &&usize| {
        let span = rows[**row].span;
        bytes += span.span.encoded_len();
        if processes.insert(std::sync::Arc::as_ptr(&span.process).addr()) {
            bytes += span.process.resource_bytes();
        }
        bytes <= most
    };
    wanted.iter().take_while(fits).count().max(wanted.len().min(1))
}
