//! The second pass: the sums of each name, by blocks of time.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use super::blocks::Blocks;
use super::finding::Figures;
use super::measured::Measured;
use super::names::{NameId, Names};
use super::ratio::{BLOCKS, Ratio};
use super::sides::Choice;
use super::survey::Survey;
use crate::graph::Measure;
use crate::query::{Query, Subject};
use crate::search::{Files, load};
use crate::trace::{Breakdown, EncodedSpan, Part, Trace, breakdowns, call_times, finder};

/// The most pairs of a caller and what it calls. A pair takes 300 bytes on each side.
const MOST_CALLS: usize = 50_000;

/// The sums of each block.
type Column = [f64; BLOCKS];

/// The sums of a side.
#[derive(Default, Debug)]
pub(super) struct Tallies {
    pub(super) names: HashMap<NameId, Tally>,
    /// By the caller, and what it calls.
    pub(super) calls: HashMap<(NameId, NameId), Called>,
    /// Of all spans.
    blocks: Blocks,
    pub(super) spans: u64,
    pub(super) traces: u64,
    /// Spans that were too many for the memory of a trace.
    pub(super) left_out: u64,
    /// Traces that the first pass has found, and the second has not.
    pub(super) unread: u64,
    /// Calls beyond the limit of pairs.
    pub(super) beyond: u64,
}

/// The spans of a name.
#[derive(Debug)]
pub(super) struct Tally {
    blocks: Blocks,
    /// The percentiles of both sides together.
    thresholds_ns: [u64; 3],
    /// Those of this side.
    percentiles_ns: [u64; 3],
    /// The blocks of all spans of this side in which there is one of these, as bits.
    seen_in: u32,
    spans: Column,
    beyond: [Column; 3],
    durations: Column,
    own: Column,
    errors: Column,
    pub(super) measure: Measure,
    pub(super) breakdown: Breakdown,
    /// How many spans have an account of the kernel.
    pub(super) accounted: u64,
    /// A span near each percentile: how far it is, and its trace.
    near: [Option<(u64, u128)>; 3],
}

/// The calls of a name by the spans of another.
#[derive(Debug)]
pub(super) struct Called {
    calls: Column,
    /// How many of them have an error, as their caller does.
    pub(super) failed: u64,
    /// How long they took of the callers' time, together.
    pub(super) ns: f64,
}

impl Tallies {
    /// Adds up the spans of the traces in `survey`. `thresholds` gives the percentiles of both sides together.
    pub(super) fn of(
        files: &Files,
        survey: Survey,
        names: &Names,
        thresholds: &HashMap<NameId, [u64; 3]>,
        choice: &Choice,
    ) -> Self {
        let mut tallies = Self::new(&survey, thresholds);
        let accounts = finder();
        let found = load(files, &survey.trace_ids, |trace| {
            tallies.add(trace, &breakdowns(&trace.spans, &accounts), names, choice);
            true
        });
        tallies.unread = (survey.trace_ids.len() as u64).saturating_sub(found as u64);
        tallies
    }

    /// Without any spans yet.
    pub(super) fn new(survey: &Survey, thresholds: &HashMap<NameId, [u64; 3]>) -> Self {
        let mut tallies = Self { blocks: survey.starts.blocks(), ..Self::default() };
        for (id, surveyed) in &survey.names {
            let of = |percent| surveyed.measure.percentile_ns(percent);
            let thresholds_ns = thresholds.get(id).copied().unwrap_or_default();
            let percentiles_ns = Measured::PERCENTS.map(of);
            tallies.names.insert(*id, Tally::new(surveyed.starts.blocks(), thresholds_ns, percentiles_ns));
        }
        tallies
    }

    /// Adds the spans of a trace.
    pub(super) fn add(
        &mut self,
        trace: &Trace<EncodedSpan>,
        breakdowns: &[Option<Breakdown>],
        names: &Names,
        Choice { query, times_ns: (since_ns, until_ns) }: &Choice,
    ) {
        self.traces += 1;
        self.left_out += trace.left_out;
        let ids: Vec<Option<NameId>> =
            trace.spans.iter().map(|span| names.known(&span.process.service, span.name())).collect();
        let mut chosen = vec![false; ids.len()];
        for (place, (span, breakdown)) in trace.spans.iter().zip(breakdowns).enumerate() {
            let Some(breakdown) = breakdown else { continue };
            // The percentiles and the blocks are those of the spans in this time; a trace may be far longer.
            let (start_ns, end_ns) = span.times;
            if start_ns > *until_ns || end_ns.max(start_ns) < *since_ns {
                continue;
            }
            self.spans += 1;
            let chooses = |query: &Query| {
                let decoded = span.decode();
                decoded.is_some_and(|of| query.matches(&Subject::new(&of.span, &of.process)))
            };
            let Some(tally) = ids[place].and_then(|id| self.names.get_mut(&id)) else { continue };
            if query.as_ref().is_none_or(chooses) {
                chosen[place] = true;
                tally.add(trace.id, span, breakdown);
                tally.seen_in |= 1 << self.blocks.of(span.times.0);
            }
        }
        for (place, call) in call_times(&trace.spans).into_iter().enumerate() {
            let Some(call) = call.filter(|call| chosen[call.parent]) else { continue };
            let (Some(caller), Some(called)) = (ids[call.parent], ids[place]) else { continue };
            let Some(tally) = self.names.get(&caller) else { continue };
            let block = tally.blocks.of(trace.spans[call.parent].times.0);
            let is_full = self.calls.len() >= MOST_CALLS;
            match self.calls.entry((caller, called)) {
                Entry::Vacant(_) if is_full => self.beyond += 1,
                calls => {
                    let calls = calls.or_insert_with(|| Called { calls: [0.0; BLOCKS], failed: 0, ns: 0.0 });
                    calls.calls[block] += 1.0;
                    let have_failed = trace.spans[call.parent].is_error && trace.spans[place].is_error;
                    calls.failed += u64::from(have_failed);
                    calls.ns += call.in_parent_ns as f64;
                }
            }
        }
    }
}

impl Tally {
    fn new(blocks: Blocks, thresholds_ns: [u64; 3], percentiles_ns: [u64; 3]) -> Self {
        let zero = [0.0; BLOCKS];
        Self {
            blocks,
            thresholds_ns,
            percentiles_ns,
            seen_in: 0,
            spans: zero,
            beyond: [zero; 3],
            durations: zero,
            own: zero,
            errors: zero,
            measure: Measure::default(),
            breakdown: Breakdown::default(),
            accounted: 0,
            near: [None; 3],
        }
    }

    fn add(&mut self, trace_id: u128, span: &EncodedSpan, breakdown: &Breakdown) {
        let (block, duration_ns) = (self.blocks.of(span.times.0), span.duration_ns());
        self.spans[block] += 1.0;
        self.durations[block] += duration_ns as f64;
        self.own[block] += duration_ns.saturating_sub(breakdown.ns(Part::Called)) as f64;
        self.errors[block] += f64::from(u8::from(span.is_error));
        for (beyond, threshold) in self.beyond.iter_mut().zip(self.thresholds_ns) {
            beyond[block] += f64::from(u8::from(duration_ns > threshold));
        }
        for (near, percentile) in self.near.iter_mut().zip(self.percentiles_ns) {
            let distance = duration_ns.abs_diff(percentile);
            if near.is_none_or(|(nearest, _)| distance < nearest) {
                *near = Some((distance, trace_id));
            }
        }
        self.measure.add(duration_ns, span.is_error);
        self.breakdown.add(breakdown);
        self.accounted += u64::from(breakdown.ns(Part::Cpu) > 0);
    }

    /// What says whether a measure has changed, for each block: of percentiles, the share of spans beyond that of both sides
    /// together.
    pub(super) fn ratio(&self, measured: Measured) -> Ratio<'_> {
        let of = match measured {
            Measured::P50 => &self.beyond[0],
            Measured::P95 => &self.beyond[1],
            Measured::P99 => &self.beyond[2],
            Measured::Mean => &self.durations,
            Measured::Own => &self.own,
            Measured::Errors => &self.errors,
            Measured::Calls => &[0.0; BLOCKS],
        };
        Ratio { of, per: &self.spans }
    }

    /// The calls for each of these spans.
    pub(super) fn ratio_of<'a>(&'a self, called: Option<&'a Called>) -> Ratio<'a> {
        Ratio { of: called.map_or(&[0.0; BLOCKS], |called| &called.calls), per: &self.spans }
    }

    /// The value of a measure.
    pub(super) fn value(&self, measured: Measured) -> f64 {
        match measured {
            Measured::P50 => self.measure.percentile_ns(50) as f64,
            Measured::P95 => self.measure.percentile_ns(95) as f64,
            Measured::P99 => self.measure.percentile_ns(99) as f64,
            _ => self.ratio(measured).value(),
        }
    }

    pub(super) fn figures(&self) -> Figures {
        Figures {
            spans: self.measure.calls,
            errors: self.measure.errors,
            percentiles_ns: Measured::PERCENTS.map(|percent| self.measure.percentile_ns(percent)),
            mean_ns: self.value(Measured::Mean),
            own_ns: self.value(Measured::Own),
        }
    }

    pub(super) fn count(&self) -> f64 {
        self.measure.calls as f64
    }

    /// In how many blocks of all spans of this side there is one of these: few if they all came at once.
    pub(super) fn spread(&self) -> u32 {
        self.seen_in.count_ones()
    }

    /// In how much time nearly all of them started.
    pub(super) fn range_ns(&self) -> u64 {
        self.blocks.range_ns()
    }

    /// A trace with a span near this percentile.
    pub(super) fn trace_near(&self, percentile: usize) -> Option<u128> {
        self.near.get(percentile).copied().flatten().map(|(_, trace_id)| trace_id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Such as those of a file that is truncated meanwhile.
    #[test]
    fn traces_that_the_second_pass_does_not_find_are_counted() {
        let survey = Survey { trace_ids: vec![1, 2], ..Survey::default() };
        let (names, choice) = (Names::default(), Choice::default());
        let tallies = Tallies::of(&Files::open(&[]), survey, &names, &HashMap::new(), &choice);
        assert_eq!(tallies.unread, 2);
    }
}
