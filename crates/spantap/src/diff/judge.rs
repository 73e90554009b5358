//! Finds which differences are no chance, among all names at once.

use std::collections::{BTreeMap, BTreeSet};

use super::finding::Change;
use super::measured::Measured;
use super::names::NameId;
use super::ratio::{BLOCKS, Ratio, chance, chance_in_a_stretch};
use super::student::holm;
use super::tally::{Tallies, Tally};

/// How likely anything at all is reported if nothing has changed.
const CHANCE: f64 = 0.001;

/// The spans of a name have to be in so many blocks of all spans of their side, or to take so much time. Spans that all came at
/// once, such as at the start of a program, say little of other times: whatever disturbed them may have disturbed them all.
const LEAST_SPREAD: u32 = BLOCKS as u32 / 8;
const LEAST_RANGE_NS: u64 = 1_000_000_000;

/// What is no chance.
#[derive(Default, Debug)]
pub(super) struct Judged {
    /// The changes of each name, in the order of the measures. No name is without one.
    pub(super) changes: BTreeMap<NameId, Vec<Change>>,
    /// The changes in how often a name calls another.
    pub(super) calls: BTreeMap<(NameId, NameId), Change>,
    /// What is no chance, but too small to be shown, with what is called.
    pub(super) small: Vec<(NameId, Option<NameId>, Change)>,
    /// What has changed in a part of the time only, or too unevenly for a verdict, with what is called.
    pub(super) uneven: Vec<(NameId, Option<NameId>, Change)>,
    pub(super) new: Vec<NameId>,
    pub(super) vanished: Vec<NameId>,
    pub(super) too_few: Vec<NameId>,
    /// The measures of names in `compared` of which there is too little to say.
    pub(super) not_judged: BTreeMap<NameId, BTreeSet<Measured>>,
    /// In how many names there was enough to say.
    pub(super) judged: BTreeMap<Measured, usize>,
    /// How many names have enough spans.
    pub(super) compared: usize,
}

/// A difference, and where it goes if it is no chance.
struct Candidate {
    to: To,
    change: Change,
    /// How likely a stretch of it is by chance.
    in_a_stretch: f64,
    /// Whether there is enough to say of all of it.
    is_judged: bool,
}

#[derive(Clone, Copy)]
enum To {
    Name(NameId),
    Calls(NameId, NameId),
    New(NameId),
    Vanished(NameId),
}

/// Compares the names of both sides.
pub(super) fn judge(before: &Tallies, after: &Tallies) -> Judged {
    let mut judged = Judged::default();
    let mut candidates = Vec::new();
    let ids: BTreeSet<NameId> = before.names.keys().chain(after.names.keys()).copied().collect();
    let known = |of: &'_ Tallies, id| of.names.get(&id).is_some_and(|tally| tally.count() > 0.0);
    for id in ids {
        match (before.names.get(&id), after.names.get(&id)) {
            (Some(one), Some(other)) if known(before, id) && known(after, id) => {
                let found = Measured::OF_A_NAME.into_iter().filter_map(|of| difference(id, one, other, of));
                let found: Vec<Candidate> = found.collect();
                if found.is_empty() {
                    judged.too_few.push(id);
                    continue;
                }
                judged.compared += 1;
                for measured in Measured::OF_A_NAME {
                    let is_of = |of: &Candidate| of.is_judged && of.change.measured == measured;
                    judged.count(id, measured, found.iter().any(is_of));
                }
                candidates.extend(found);
            }
            (one, other) => {
                let is_new = known(after, id);
                let (Some(tally), sides) = (if is_new { other } else { one }, [before, after]) else {
                    continue;
                };
                if tally.count() == 0.0 {
                    continue;
                }
                let change = one_sided(tally, sides, is_new);
                if tally.count() < Measured::Calls.fewest_spans() {
                    judged.too_few.push(id);
                } else {
                    let to = if is_new { To::New(id) } else { To::Vanished(id) };
                    candidates.push(Candidate { to, change, in_a_stretch: 1.0, is_judged: true });
                }
            }
        }
    }
    candidates.extend(calls(before, after, &mut judged));
    let real =
        |chance: fn(&Candidate) -> f64| holm(&candidates.iter().map(chance).collect::<Vec<f64>>(), CHANCE);
    let (real, uneven) = (real(|of| of.change.chance), real(|of| of.in_a_stretch));
    let mut left = Vec::new();
    for (candidate, (is_real, is_uneven)) in candidates.into_iter().zip(real.into_iter().zip(uneven)) {
        judged.put(candidate.to, candidate.change, is_real);
        if is_uneven && !is_real {
            left.push(candidate);
        }
    }
    left.into_iter().for_each(|candidate| judged.put_uneven(candidate));
    judged
}

impl Judged {
    fn count(&mut self, id: NameId, measured: Measured, is_judged: bool) {
        match is_judged {
            true => *self.judged.entry(measured).or_default() += 1,
            false => _ = self.not_judged.entry(id).or_default().insert(measured),
        }
    }

    fn put(&mut self, to: To, change: Change, is_real: bool) {
        let is_large = change.measured.is_large(change.before, change.after);
        match to {
            To::New(id) if is_real => self.new.push(id),
            To::Vanished(id) if is_real => self.vanished.push(id),
            To::New(id) | To::Vanished(id) => self.too_few.push(id),
            _ if !is_real => {}
            To::Name(id) if !is_large => self.small.push((id, None, change)),
            To::Calls(caller, called) if !is_large => self.small.push((caller, Some(called), change)),
            To::Name(id) => self.changes.entry(id).or_default().push(change),
            To::Calls(caller, called) => _ = self.calls.insert((caller, called), change),
        }
    }

    /// Beside a duration that has changed all the time, the others of the name say nothing more.
    fn put_uneven(&mut self, Candidate { to, change, in_a_stretch, .. }: Candidate) {
        let (id, called) = match to {
            To::Name(id) => (id, None),
            To::Calls(caller, called) => (caller, Some(called)),
            To::New(_) | To::Vanished(_) => return,
        };
        let is_known = |of: &Change| of.measured.is_duration() && change.measured.is_duration();
        let is_known = self.changes.get(&id).is_some_and(|of| of.iter().any(is_known));
        if !is_known && change.measured.is_large(change.before, change.after) {
            self.uneven.push((id, called, Change { chance: in_a_stretch, ..change }));
        }
    }
}

/// `None` if there is too little to say.
fn difference(id: NameId, before: &Tally, after: &Tally, measured: Measured) -> Option<Candidate> {
    if !are_enough(before, after, measured) {
        return None;
    }
    let values = [before, after].map(|of| of.value(measured));
    candidate(To::Name(id), measured, values, [before.ratio(measured), after.ratio(measured)])
}

/// `None` if there is too little to say.
fn candidate(
    to: To,
    measured: Measured,
    [before, after]: [f64; 2],
    [one, other]: [Ratio<'_>; 2],
) -> Option<Candidate> {
    let found = chance(one, other, measured.kind());
    let in_a_stretch = chance_in_a_stretch(one, other, measured.kind());
    if found.is_none() && in_a_stretch.is_none() {
        return None;
    }
    let change = Change { measured, before, after, chance: found.unwrap_or(1.0) };
    Some(Candidate { to, change, in_a_stretch: in_a_stretch.unwrap_or(1.0), is_judged: found.is_some() })
}

fn are_enough(before: &Tally, after: &Tally, measured: Measured) -> bool {
    let is_spread = |tally: &Tally| tally.spread() >= LEAST_SPREAD || tally.range_ns() >= LEAST_RANGE_NS;
    let is_enough = |tally: &Tally| tally.count() >= measured.fewest_spans() && is_spread(tally);
    is_enough(before) && is_enough(after)
}

/// A name that is on one side only. The blocks of that side that have it could be any blocks of both sides: how likely is it that they
/// all are on that side, if blocks are counted that are as large on the other side? (A hypergeometric distribution.)
fn one_sided(tally: &Tally, [before, after]: [&Tallies; 2], is_new: bool) -> Change {
    let (this, other) = if is_new { (after, before) } else { (before, after) };
    let chance = chance_on_one_side(tally.spread(), other.spans as f64 / this.spans.max(1) as f64);
    let (before, after) = if is_new { (0.0, tally.count()) } else { (tally.count(), 0.0) };
    Change { measured: Measured::Calls, before, after, chance }
}

/// The probability that so many blocks are all on one side. The other side is so many times as large.
fn chance_on_one_side(spread: u32, other: f64) -> f64 {
    let (this, other) = (BLOCKS as f64, BLOCKS as f64 * other);
    let next = |block: u32| (this - f64::from(block)) / (this + other - f64::from(block));
    (2.0 * (0..spread.min(BLOCKS as u32)).map(next).product::<f64>()).min(1.0)
}

/// How often names call others.
fn calls(before: &Tallies, after: &Tallies, judged: &mut Judged) -> Vec<Candidate> {
    let pairs: BTreeSet<(NameId, NameId)> = before.calls.keys().chain(after.calls.keys()).copied().collect();
    let of_pair = |(caller, called): (NameId, NameId)| {
        let (one, other) = (before.names.get(&caller)?, after.names.get(&caller)?);
        if !are_enough(one, other, Measured::Calls) {
            return None;
        }
        let pair = (caller, called);
        let (one, other) = (one.ratio_of(before.calls.get(&pair)), other.ratio_of(after.calls.get(&pair)));
        let values = [one.value(), other.value()];
        let found = candidate(To::Calls(caller, called), Measured::Calls, values, [one, other]);
        judged.count(caller, Measured::Calls, found.as_ref().is_some_and(|of| of.is_judged));
        found
    };
    pairs.into_iter().filter_map(of_pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Also on the longer side, however many other names there are.
    #[test]
    fn a_name_that_is_everywhere_on_one_side_is_new() {
        for other in [3.0, 1.0, 0.33, 0.2] {
            let chance = chance_on_one_side(BLOCKS as u32, other);
            assert!(chance < CHANCE / 1_000.0, "{chance} with {other}");
        }
        // It could have come later.
        assert!(chance_on_one_side(BLOCKS as u32, 0.01) > CHANCE);
        assert!(chance_on_one_side(4, 1.0) > CHANCE);
        assert_eq!(chance_on_one_side(0, 1.0), 1.0);
    }
}
