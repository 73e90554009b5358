//! The first pass: which names there are, their percentiles, and when their spans are.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use super::blocks::Starts;
use super::names::{NameId, Names};
use super::sides::Choice;
use crate::capture::{Filter, Spans};
use crate::graph::Measure;
use crate::query::{Query, Subject};
use crate::search::{Files, Read};
use crate::span::name_of_field;

/// What the first pass has found of a side.
#[derive(Default, Debug)]
pub(super) struct Survey {
    pub(super) names: HashMap<NameId, Surveyed>,
    /// The traces, in the order in which they were read.
    pub(super) trace_ids: Vec<u128>,
    /// The starts of all spans.
    pub(super) starts: Starts,
}

/// The spans of a name.
#[derive(Default, Debug)]
pub(super) struct Surveyed {
    pub(super) measure: Measure,
    pub(super) starts: Starts,
}

/// What the first pass has found of files.
pub(super) struct Surveys<const SIDES: usize> {
    pub(super) sides: [Survey; SIDES],
    /// Traces that belong to both sides.
    pub(super) crossing: u64,
    /// Spans of names beyond the limit.
    pub(super) beyond: u64,
    pub(super) read: Read,
}

/// Spans of a process.
struct Batch {
    service: String,
    /// With whether a span of this name is compared.
    names: Vec<(String, bool)>,
    spans: Vec<Seen>,
}

struct Seen {
    trace_id: u128,
    times: (u64, u64),
    /// The place among the names.
    name: usize,
    is_error: bool,
    /// Whether it is one of those that are compared.
    is_chosen: bool,
}

/// Surveys files whose spans are all of one side.
pub(super) fn whole(files: &Files, choice: &Choice, names: &mut Names) -> Surveys<1> {
    survey(files, choice, names, |_| Some(0))
}

/// Surveys files that are divided at a time.
pub(super) fn split(files: &Files, at_ns: u64, choice: &Choice, names: &mut Names) -> Surveys<2> {
    survey(files, choice, names, |(start, end)| match () {
        () if start >= at_ns => Some(1),
        () if end < at_ns => Some(0),
        () => None,
    })
}

fn survey<const SIDES: usize>(
    files: &Files,
    choice: &Choice,
    names: &mut Names,
    side: impl Fn((u64, u64)) -> Option<usize>,
) -> Surveys<SIDES> {
    let mut sides = std::array::from_fn(|_| Survey::default());
    let (mut crossing, mut beyond) = (0, 0);
    // The side of each trace; `None` if it has spans of both.
    let mut traces: HashMap<u128, Option<usize>> = HashMap::new();
    let take = |batch: Batch| {
        let ids = batch.names.iter().map(|(name, is_chosen)| names.id(&batch.service, name, *is_chosen));
        let ids: Vec<Option<NameId>> = ids.collect();
        for seen in &batch.spans {
            let side = side(seen.times);
            match traces.entry(seen.trace_id) {
                Entry::Vacant(new) => {
                    new.insert(side);
                    match side.and_then(|side| sides.get_mut(side)) {
                        Some(Survey { trace_ids, .. }) => trace_ids.push(seen.trace_id),
                        None => crossing += 1,
                    }
                }
                Entry::Occupied(mut known) if known.get().is_some() && *known.get() != side => {
                    known.insert(None);
                    crossing += 1;
                }
                Entry::Occupied(_) => {}
            }
            let Some(survey) = side.and_then(|side| sides.get_mut(side)) else { continue };
            survey.starts.add(seen.times.0);
            if !seen.is_chosen {
                continue;
            }
            let Some(id) = ids.get(seen.name).copied().flatten() else {
                beyond += 1;
                continue;
            };
            let surveyed: &mut Surveyed = survey.names.entry(id).or_default();
            let (start, end) = seen.times;
            surveyed.measure.add(end.saturating_sub(start), seen.is_error);
            surveyed.starts.add(start);
        }
    };
    let query = choice.query.clone();
    let each = move |spans: Spans| Batch::new(&spans, query.as_ref());
    let (since_ns, until_ns) = choice.times_ns;
    let read = files.read(&Filter { traces: None, since_ns, until_ns }, each, take);
    for (side, survey) in sides.iter_mut().enumerate() {
        survey.trace_ids.retain(|id| traces.get(id).copied().flatten() == Some(side));
    }
    Surveys { sides, crossing, beyond, read }
}

impl Batch {
    fn new(spans: &Spans, query: Option<&Query>) -> Self {
        let mut batch = Self { service: spans.process.service.clone(), names: Vec::new(), spans: Vec::new() };
        let mut places = HashMap::new();
        for (span, field) in spans.iter() {
            // Kernel activity is no call.
            if span.is_kernel {
                continue;
            }
            let chooses = |query: &Query| query.matches(&Subject::encoded(span, field, &spans.process));
            let name = *places.entry(name_of_field(field)).or_insert_with_key(|name| {
                batch.names.push(((*name).to_owned(), false));
                batch.names.len() - 1
            });
            let is_chosen = query.is_none_or(chooses);
            if let Some((_, has_chosen)) = batch.names.get_mut(name) {
                *has_chosen |= is_chosen;
            }
            batch.spans.push(Seen {
                trace_id: span.trace_id,
                times: span.times,
                name,
                is_error: span.is_error,
                is_chosen,
            });
        }
        batch
    }
}
