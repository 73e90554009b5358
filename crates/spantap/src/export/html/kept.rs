//! The traces that the report shows: the slowest ones, the slowest of those with errors, and those that findings show.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::rc::Rc;
use std::sync::Arc;

use prost::Message;

use super::escape;
use crate::findings::{Finding, Found};
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
    pub(super) id: u128,
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
    /// Those that a finding may show.
    examples: BTreeMap<u128, (Key, Rc<Shown>)>,
    bytes_of_examples: usize,
    traces: u64,
    /// Those of which not even one span fits, as far as they are slow enough.
    too_large: BTreeSet<u128>,
}

impl Kept {
    /// Adds a trace that has spans of these rows of the table, and that a finding may show or not.
    pub(super) fn add(&mut self, trace: &Trace<EncodedSpan>, rows: &BTreeSet<usize>, is_example: bool) {
        self.traces += 1;
        let (start_ns, end_ns) = trace.times();
        let key = (end_ns.saturating_sub(start_ns), trace.id);
        let is_failed = trace.has_error();
        let lists = [(&mut self.slow, true), (&mut self.failed, is_failed)];
        let mut wanted =
            lists.into_iter().filter(|(list, is_wanted)| *is_wanted && list.takes(key)).peekable();
        if wanted.peek().is_none() && !is_example {
            return;
        }
        match shown(trace, rows, MAX_BYTES_OF_TRACE).map(Rc::new) {
            Some(shown) => {
                wanted.for_each(|(list, _)| list.add(key, &shown));
                if is_example {
                    self.bytes_of_examples += shown.json.len();
                    self.examples.insert(trace.id, (key, shown));
                }
            }
            None if self.too_large.len() < MAX_IDS => _ = self.too_large.insert(trace.id),
            None => {}
        }
    }

    /// Whether the traces that findings may show take too much memory.
    pub(super) fn has_too_many_examples(&self) -> bool {
        self.bytes_of_examples > 2 * MAX_BYTES
    }

    /// Keeps the traces that these findings show first, those of the most important ones if there are too many.
    pub(super) fn keep_examples(&mut self, found: &Found) {
        let mut kept = BTreeMap::new();
        self.bytes_of_examples = 0;
        for id in self.shown_by(found) {
            if let Some((id, (key, shown))) = self.examples.remove_entry(&id)
                && self.bytes_of_examples + shown.json.len() <= MAX_BYTES
            {
                self.bytes_of_examples += shown.json.len();
                kept.insert(id, (key, shown));
            }
        }
        self.examples = kept;
    }

    /// The first of the traces of each finding that is here.
    pub(super) fn shown_by(&self, found: &Found) -> Vec<u128> {
        let first =
            |finding: &Finding| finding.trace_ids.iter().find(|id| self.examples.contains_key(id)).copied();
        found.findings.iter().filter_map(first).collect()
    }

    /// The traces for the page, the longest first, and how many others there were. `first` are those that findings show.
    pub(super) fn chosen(&self, first: &[u128]) -> (Vec<&Shown>, u64) {
        let mut chosen: BTreeMap<Key, &Shown> = BTreeMap::new();
        let mut lists = [&self.failed, &self.slow].map(|list| Some(list.traces.iter().rev()));
        let mut size = 0;
        for (key, trace) in first.iter().filter_map(|id| self.examples.get(id)) {
            if !chosen.contains_key(key) && size + trace.json.len() <= MAX_BYTES {
                size += trace.json.len();
                chosen.insert(*key, trace);
            }
        }
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
        (!ids.is_empty()).then(|| {
            format!("slow traces are not here because their fields are too large, such as {}", ids.join(", "))
        })
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
            return Some(Shown {
                id: trace.id,
                json,
                left_out: trace.left_out + (rows.len() - kept.len()) as u64,
            });
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
        if processes.insert(Arc::as_ptr(&span.process).addr()) {
            bytes += span.process.resource.encoded_len();
        }
        bytes <= most
    };
    wanted.iter().take_while(fits).count().max(wanted.len().min(1))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // a failing test is a panic
mod tests {
    use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
    use opentelemetry_proto::tonic::trace::v1::{Span, Status};
    use serde_json::{Value, json};

    use super::*;
    use crate::export::made::{span, trace};
    use crate::findings::Kind;
    use crate::span::attributes::attribute;

    fn failed(span: Span) -> Span {
        Span { status: Some(Status { code: 2, message: String::new() }), ..span }
    }

    fn with_text(span: Span, length: usize) -> Span {
        Span { attributes: vec![attribute("text", Any::StringValue("<".repeat(length)))], ..span }
    }

    fn read(shown: &Shown) -> Value {
        serde_json::from_slice(&shown.json).unwrap()
    }

    #[test]
    fn a_shortened_trace_has_the_numbers_of_the_whole() {
        let last = MAX_SPANS as u64 + 500;
        let mut spans = vec![span(1, 0, 0..10_000)];
        spans.extend((2..last).map(|id| span(id, 1, id..id + 1)));
        // At the end: a failed span below others, one without its parent, and kernel activity that is left out.
        spans.push(span(last, 1, 9_000..9_900));
        spans.push(failed(span(last + 1, last, 9_100..9_800)));
        spans.push(failed(span(last + 2, 77_777, 9_950..11_000)));
        let mut whole = trace(1, spans);
        whole.spans[1_400].is_kernel = true;
        whole.spans[10].is_kernel = true;
        let shown = shown(&whole, &BTreeSet::from([3]), MAX_BYTES_OF_TRACE).unwrap();
        let (json, decoded) = (read(&shown), whole.decode());
        let mut all = Vec::new();
        view::json(&decoded, &mut all).unwrap();
        let all: Value = serde_json::from_slice(&all).unwrap();
        for same in ["errors", "duration_ns", "missing_parents", "start_time"] {
            assert_eq!(json[same], all[same], "{same}");
        }
        assert_eq!((&json["errors"], &json["missing_parents"]), (&json!(2), &json!(1)));
        assert_eq!((&json["left_out_spans"], shown.left_out), (&json!(502), 502));
        assert_eq!((&json["rows"], json["kernel"].as_array().unwrap().len()), (&json!([3]), 1));
        let of = |json: &Value, id: u64| {
            let id = format!("{id:016x}");
            json["spans"].as_array().unwrap().iter().find(|span| span["span_id"] == *id).unwrap().clone()
        };
        assert_eq!(json["spans"].as_array().unwrap().len(), MAX_SPANS);
        for id in [1, 2, last, last + 1, last + 2] {
            let (kept, before) = (of(&json, id), of(&all, id));
            for same in ["self_ns", "critical_path_ns", "depth", "offset_ns"] {
                assert_eq!(kept[same], before[same], "{id}, {same}");
            }
        }
        // The parent is found by its new place.
        let parent = of(&json, last + 1)["parent"].as_u64().unwrap() as usize;
        assert_eq!(json["spans"][parent]["span_id"], format!("{last:016x}"));
        let on_path = |part: &Value| json["spans"][part["span"].as_u64().unwrap() as usize].clone();
        assert!(json["critical_path"].as_array().unwrap().iter().all(|part| {
            let (span, number) = (on_path(part), |of: &Value, key| of[key].as_u64().unwrap());
            number(&span, "offset_ns") <= number(part, "offset_ns")
                && number(part, "duration_ns") <= number(&span, "critical_path_ns")
        }));
    }

    #[test]
    fn a_trace_is_shortened_until_it_fits() {
        // Escaped, the text takes six times as many bytes.
        let mut spans = vec![span(1, 0, 0..100)];
        spans.extend((2..100).map(|id| with_text(span(id, 1, id..id + 1), 10_000)));
        spans.push(failed(span(200, 1, 99..100)));
        let shown = shown(&trace(1, spans), &BTreeSet::new(), MAX_BYTES_OF_TRACE).unwrap();
        assert!(
            (MAX_BYTES_OF_TRACE / 2..=MAX_BYTES_OF_TRACE).contains(&shown.json.len()),
            "{}",
            shown.json.len()
        );
        let json = read(&shown);
        let spans = json["spans"].as_array().unwrap();
        assert_eq!(
            (spans[0]["span_id"].as_str().unwrap(), spans.last().unwrap()["error"].clone()),
            ("0000000000000001", json!(true))
        );
        // Not even its first row fits.
        let mut kept = Kept::default();
        kept.add(
            &trace(0xabc, vec![with_text(span(1, 0, 0..100), MAX_BYTES_OF_TRACE)]),
            &BTreeSet::new(),
            false,
        );
        assert_eq!((kept.chosen(&[]).0.len(), kept.chosen(&[]).1), (0, 1));
        assert!(kept.too_large().unwrap().contains("00000abc"), "{:?}", kept.too_large());
    }

    #[test]
    fn traces_are_bounded_while_they_are_added() {
        let mut kept = Kept::default();
        for id in 1..=40 {
            // Some are long before others.
            let duration = (id * 7) % 41;
            let whole = vec![with_text(failed(span(1, 0, 0..duration)), 100_000)];
            kept.add(&trace(id.into(), whole), &BTreeSet::new(), false);
            for list in [&kept.slow, &kept.failed] {
                assert!(list.bytes <= MAX_BYTES);
                assert_eq!(list.bytes, list.traces.values().map(|trace| trace.json.len()).sum::<usize>());
            }
        }
        let shared = kept.slow.traces.values().zip(kept.failed.traces.values());
        assert!(shared.into_iter().all(|(slow, failed)| Rc::ptr_eq(slow, failed)));
        let (chosen, left_out) = kept.chosen(&[]);
        let durations: Vec<u64> =
            chosen.iter().map(|one| read(one)["duration_ns"].as_u64().unwrap()).collect();
        let longest: Vec<u64> = (0..chosen.len() as u64).map(|place| 40 - place).collect();
        assert_eq!((&durations, left_out), (&longest, 40 - chosen.len() as u64));
        assert!(chosen.len() >= 12, "{}", chosen.len());
    }

    /// Findings with these traces.
    fn found(traces: &[&[u128]]) -> Found {
        let finding = |ids: &&[u128]| Finding {
            kind: Kind::Gap,
            service: "".into(),
            name: "".into(),
            what: String::new(),
            why: String::new(),
            cost_ns: 1,
            times: 1,
            traces: 1,
            trace_ids: ids.to_vec(),
            details: serde_json::Map::new(),
        };
        Found { findings: traces.iter().map(finding).collect(), ..Found::default() }
    }

    #[test]
    fn a_finding_shows_the_first_of_its_traces_that_is_there() {
        let mut kept = Kept::default();
        for id in [2, 3, 4] {
            kept.add(&trace(id, vec![with_text(span(1, 0, 0..1), 1_000)]), &BTreeSet::new(), true);
        }
        let findings = found(&[&[1, 3], &[2], &[1]]);
        assert_eq!(kept.shown_by(&findings), [3, 2]);
        kept.keep_examples(&findings);
        assert_eq!(kept.examples.keys().copied().collect::<Vec<_>>(), [2, 3]);
        // Of many, those of the first findings.
        for id in 5..50 {
            kept.add(&trace(id, vec![with_text(span(1, 0, 0..1), 160_000)]), &BTreeSet::new(), true);
        }
        let ids: Vec<[u128; 1]> = (2..50).map(|id| [id]).collect();
        kept.keep_examples(&found(&ids.iter().map(|id| &id[..]).collect::<Vec<_>>()));
        assert!(kept.bytes_of_examples <= MAX_BYTES && kept.examples.len() < 20);
        assert_eq!(kept.examples.keys().next(), Some(&2));
    }

    #[test]
    fn traces_of_findings_are_on_the_page_however_short_and_bounded() {
        let mut kept = Kept::default();
        let whole = |duration: u64, length: usize| vec![with_text(span(1, 0, 0..duration), length)];
        kept.add(&trace(0xf, whole(1, 10)), &BTreeSet::new(), true);
        (2..=2 * MAX_TRACES as u64)
            .for_each(|id| kept.add(&trace(id.into(), whole(id, 10)), &BTreeSet::new(), false));
        let durations = |first: &[u128]| -> Vec<u64> {
            kept.chosen(first).0.iter().map(|one| read(one)["duration_ns"].as_u64().unwrap()).collect()
        };
        assert_eq!((durations(&[0xf]).last(), durations(&[0xf]).len()), (Some(&1), MAX_TRACES + 1));
        assert_eq!((durations(&[]).last(), durations(&[]).len()), (Some(&101), MAX_TRACES));
        // Escaped, the text takes six times as many bytes.
        for id in 1000..1100 {
            kept.add(&trace(id, whole(1, 100_000)), &BTreeSet::new(), true);
            if kept.has_too_many_examples() {
                kept.keep_examples(&found(&[&[0xf0, 0xf], &[id]]));
            }
            assert!(kept.bytes_of_examples <= 2 * MAX_BYTES);
        }
        assert!(kept.examples.contains_key(&0xf));
    }
}
