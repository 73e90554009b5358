//! Finds which differences are no chance, among all names at once.

use std::collections::{BTreeMap, BTreeSet};

use super::finding::Change;
use super::measured::Measured;
use super::names::NameId;
use super::ratio::{BLOCKS, chance};
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
                let found: Vec<Change> =
                    Measured::OF_A_NAME.into_iter().filter_map(|of| difference(one, other, of)).collect();
                if found.is_empty() {
                    judged.too_few.push(id);
                    continue;
                }
                judged.compared += 1;
                for measured in Measured::OF_A_NAME {
                    judged.count(id, measured, found.iter().any(|change| change.measured == measured));
                }
                candidates.extend(found.into_iter().map(|change| Candidate { to: To::Name(id), change }));
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
                    candidates.push(Candidate { to, change });
                }
            }
        }
    }
    candidates.extend(calls(before, after, &mut judged));
    let chances: Vec<f64> = candidates.iter().map(|candidate| candidate.change.chance).collect();
    for (Candidate { to, change }, is_real) in candidates.into_iter().zip(holm(&chances, CHANCE)) {
        judged.put(to, change, is_real);
    }
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
            _ if !(is_real && is_large) => {}
            To::Name(id) => self.changes.entry(id).or_default().push(change),
            To::Calls(caller, called) => _ = self.calls.insert((caller, called), change),
        }
    }
}

/// `None` if there are too few spans.
fn difference(before: &Tally, after: &Tally, measured: Measured) -> Option<Change> {
    if !are_enough(before, after, measured) {
        return None;
    }
    let chance = chance(before.ratio(measured), after.ratio(measured), measured.kind())?;
    Some(Change { measured, before: before.value(measured), after: after.value(measured), chance })
}

fn are_enough(before: &Tally, after: &Tally, measured: Measured) -> bool {
    let is_spread = |tally: &Tally| tally.spread() >= LEAST_SPREAD || tally.range_ns() >= LEAST_RANGE_NS;
    let is_enough = |tally: &Tally| tally.count() >= measured.fewest_spans() && is_spread(tally);
    is_enough(before) && is_enough(after)
}

/// A name that is on one side only. If it were on both, it would be in each block of that side by chance: with the probability that
/// a span is on that side.
fn one_sided(tally: &Tally, [before, after]: [&Tallies; 2], is_new: bool) -> Change {
    let (this, other) = if is_new { (after, before) } else { (before, after) };
    let share = this.spans as f64 / (this.spans + other.spans).max(1) as f64;
    let chance = (2.0 * share.powi(tally.spread() as i32)).min(1.0);
    let (before, after) = if is_new { (0.0, tally.count()) } else { (tally.count(), 0.0) };
    Change { measured: Measured::Calls, before, after, chance }
}

/// How often names call others.
fn calls(before: &Tallies, after: &Tallies, judged: &mut Judged) -> Vec<Candidate> {
    let pairs: BTreeSet<(NameId, NameId)> = before.calls.keys().chain(after.calls.keys()).copied().collect();
    let candidate = |(caller, called): (NameId, NameId)| {
        let (one, other) = (before.names.get(&caller)?, after.names.get(&caller)?);
        if !are_enough(one, other, Measured::Calls) {
            return None;
        }
        let pair = (caller, called);
        let (one, other) = (one.ratio_of(before.calls.get(&pair)), other.ratio_of(after.calls.get(&pair)));
        let chance = chance(one, other, Measured::Calls.kind());
        judged.count(caller, Measured::Calls, chance.is_some());
        let chance = chance?;
        let change = Change { measured: Measured::Calls, before: one.value(), after: other.value(), chance };
        Some(Candidate { to: To::Calls(caller, called), change })
    };
    pairs.into_iter().filter_map(candidate).collect()
}
