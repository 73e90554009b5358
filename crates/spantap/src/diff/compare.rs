//! Compares two sides, in two passes over their files.

use std::collections::HashMap;

use super::cause::Reasons;
use super::finding::{Change, ChangeOf, Diff, NotJudged, OneSided, SideOf, TooFew};
use super::judge::{Judged, judge};
use super::measured::Measured;
use super::names::{NameId, Names};
use super::sides::{Choice, Sides};
use super::survey::{Survey, Surveyed, split, whole};
use super::tally::Tallies;
use crate::search::{Files, Read};

/// Compares two sides. The memory is that of the ids of all traces, without a limit, of the percentiles and sums of at most 5,000 names, and of the
/// spans that are gathered to traces: at most 512 MiB, with more passes if that is not enough.
pub fn compare(sides: Sides<'_>, choice: &Choice) -> Diff {
    let mut names = Names::default();
    let (files, surveys, crossing, beyond, read) = survey(sides, choice, &mut names);
    let thresholds = thresholds(&surveys);
    let [before, after] = surveys;
    let tallies = [
        Tallies::of(files[0], before, &names, &thresholds, choice),
        Tallies::of(files[1], after, &names, &thresholds, choice),
    ];
    let mut diff = differences(&names, &tallies);
    diff.crossing_traces = crossing;
    diff.left_out_spans += beyond;
    diff.read = read;
    diff
}

type Both<'a> = ([&'a Files; 2], [Survey; 2], u64, u64, [Read; 2]);

fn survey<'a>(sides: Sides<'a>, choice: &Choice, names: &mut Names) -> Both<'a> {
    match sides {
        Sides::Files { before, after } => {
            let [one, other] = [before, after].map(|files| whole(files, choice, names));
            let ([first], [second]) = (one.sides, other.sides);
            let beyond = one.beyond + other.beyond;
            ([before, after], [first, second], one.crossing + other.crossing, beyond, [one.read, other.read])
        }
        Sides::Split { files, at_ns } => {
            let found = split(files, at_ns, choice, names);
            ([files; 2], found.sides, found.crossing, found.beyond, [found.read, Read::default()])
        }
    }
}

/// The percentiles of each name, of both sides together.
fn thresholds([before, after]: &[Survey; 2]) -> HashMap<NameId, [u64; 3]> {
    let of = |(id, surveyed): (&NameId, &Surveyed)| {
        let mut both = surveyed.measure.clone();
        if let Some(other) = after.names.get(id) {
            both.merge(&other.measure);
        }
        (*id, Measured::PERCENTS.map(|percent| both.percentile_ns(percent)))
    };
    before.names.iter().map(of).collect()
}

fn differences(names: &Names, tallies: &[Tallies; 2]) -> Diff {
    let [before, after] = tallies;
    let judged = judge(before, after);
    let name = |id: NameId| names.all().get(id).cloned();
    let one_sided = |ids: &[NameId], of: &Tallies| -> Vec<OneSided> {
        let one = |id: &NameId| {
            let tally = of.names.get(id)?;
            Some(OneSided { name: name(*id)?, figures: tally.figures(), trace: tally.trace_near(0) })
        };
        let mut all: Vec<OneSided> = ids.iter().filter_map(one).collect();
        all.sort_by(|one, other| one.name.cmp(&other.name));
        all
    };
    let too_few = judged.too_few.iter().filter_map(|id| {
        let spans = [before, after].map(|of| of.names.get(id).map_or(0, |tally| tally.measure.calls));
        Some(TooFew { name: name(*id)?, spans })
    });
    let mut too_few: Vec<TooFew> = too_few.collect();
    too_few.sort_by(|one, other| one.name.cmp(&other.name));
    let change_of = |(id, called, change): &(NameId, Option<NameId>, Change)| {
        Some(ChangeOf { name: name(*id)?, called: called.and_then(name), change: *change })
    };
    let not_judged = judged.not_judged.iter();
    let not_judged =
        not_judged.filter_map(|(id, of)| Some(NotJudged { name: name(*id)?, measures: of.clone() }));
    let mut not_judged: Vec<NotJudged> = not_judged.collect();
    not_judged.sort_by(|one, other| one.name.cmp(&other.name));
    let Judged { compared, ref new, ref vanished, .. } = judged;
    Diff {
        sides: [before, after].map(|of| SideOf { spans: of.spans, traces: of.traces }),
        compared,
        small: judged.small.iter().filter_map(change_of).collect(),
        uneven: judged.uneven.iter().filter_map(change_of).collect(),
        new: one_sided(new, after),
        vanished: one_sided(vanished, before),
        too_few,
        not_judged,
        judged: judged.judged.clone(),
        findings: Reasons::new(names, tallies, &judged).findings(),
        crossing_traces: 0,
        left_out_spans: before.left_out + after.left_out,
        left_out_calls: before.beyond + after.beyond,
        unread_traces: before.unread + after.unread,
        read: Default::default(),
    }
}

#[cfg(test)]
mod tests;
