//! Finds the reasons among what has changed: a span that only takes longer because one that it calls does is no reason.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use super::finding::{CalledMore, Cause, Change, Finding, Why};
use super::judge::Judged;
use super::measured::Measured;
use super::names::{Name, NameId, Names};
use super::tally::{Tallies, Tally};
use crate::trace::Part;

/// The share of a change that the own time of a span has to have, so that the span is a reason by itself beside what it calls.
const SHARE_OF_A_REASON: f64 = 0.25;

/// The least share of a change that is listed as a part of it.
const LEAST_SHARE: f64 = 0.01;

/// The share of spans with an account of the kernel from which on their own time is divided by it.
const ACCOUNTED: f64 = 0.9;

/// What is known of everything that has changed.
pub(super) struct Reasons<'a> {
    names: &'a Names,
    tallies: &'a [Tallies; 2],
    judged: &'a Judged,
    /// What each name calls, on either side.
    called: BTreeMap<NameId, BTreeSet<NameId>>,
}

/// Where the change of a name comes from.
#[derive(Clone, Copy, PartialEq)]
enum Origin {
    Itself,
    Called(NameId),
}

impl<'a> Reasons<'a> {
    pub(super) fn new(names: &'a Names, tallies: &'a [Tallies; 2], judged: &'a Judged) -> Self {
        let mut called: BTreeMap<NameId, BTreeSet<NameId>> = BTreeMap::new();
        for (caller, of) in tallies.iter().flat_map(|of| of.calls.keys()) {
            called.entry(*caller).or_default().insert(*of);
        }
        Self { names, tallies, judged, called }
    }

    /// All findings: the reasons, those with the most time first, and then what follows from them.
    pub(super) fn findings(&self) -> Vec<Finding> {
        let mut ids: BTreeSet<NameId> = self.judged.changes.keys().copied().collect();
        ids.extend(self.judged.calls.keys().map(|(caller, _)| *caller));
        let mut found: Vec<(f64, Finding)> =
            ids.into_iter().filter_map(|id| Some((self.weight(id), self.finding(id)?))).collect();
        found.sort_by(|(weight, one), (other_weight, other)| {
            let follows = |of: &Finding| of.why != Why::Itself;
            let order = follows(one).cmp(&follows(other)).then(other_weight.total_cmp(weight));
            order.then_with(|| one.name.cmp(&other.name))
        });
        found.into_iter().map(|(_, finding)| finding).collect()
    }

    /// How much time the change takes in all spans together.
    fn weight(&self, id: NameId) -> f64 {
        let spans = self.tally(1, id).map_or(0.0, Tally::count);
        self.change(id, Measured::Mean).abs() * spans
    }

    fn finding(&self, id: NameId) -> Option<Finding> {
        let changes = self.judged.changes.get(&id).cloned().unwrap_or_default();
        let calls = self.judged.calls.range((id, 0)..=(id, NameId::MAX));
        let calls = calls.filter_map(|((_, called), change)| {
            Some(CalledMore { name: self.name(*called)?, change: *change })
        });
        let calls: Vec<CalledMore> = calls.collect();
        let has_times = changes.iter().any(|change| change.measured.is_duration());
        let percentile = |measured| match measured {
            Measured::P95 => Some(1),
            Measured::P50 => Some(0),
            Measured::P99 => Some(2),
            _ => None,
        };
        // The 95th is what most look at, and it is there with fewer spans than the 99th.
        let by_preference = [Measured::P95, Measured::P50, Measured::P99];
        let changed =
            by_preference.into_iter().find(|of| changes.iter().any(|change| change.measured == *of));
        let percentile = changed.and_then(percentile).unwrap_or(0);
        let why = match self.root(id) {
            root if root == id => Why::Itself,
            root => Why::Follows(self.name(root)?),
        };
        Some(Finding {
            name: self.name(id)?,
            figures: [0, 1].map(|side| self.tally(side, id).map(Tally::figures).unwrap_or_default()),
            causes: if has_times || !calls.is_empty() { self.causes(id) } else { Vec::new() },
            calls,
            why,
            traces: [0, 1].map(|side| self.tally(side, id)?.trace_near(percentile)),
            changes,
        })
    }

    fn name(&self, id: NameId) -> Option<Name> {
        self.names.all().get(id).cloned()
    }

    fn tally(&self, side: usize, id: NameId) -> Option<&Tally> {
        self.tallies.get(side)?.names.get(&id)
    }

    /// By how much a measure is greater on the second side.
    fn change(&self, id: NameId, measured: Measured) -> f64 {
        let value = |side| self.tally(side, id).map_or(0.0, |tally| tally.value(measured));
        value(1) - value(0)
    }

    /// How much of a span's time the calls of a name take.
    fn call_ns(&self, side: usize, caller: NameId, called: NameId) -> f64 {
        let calls = self.tallies.get(side).and_then(|of| of.calls.get(&(caller, called)));
        let spans = self.tally(side, caller).map_or(0.0, Tally::count);
        calls.map_or(0.0, |calls| calls.ns / spans.max(1.0))
    }

    /// How much more of a caller's time the calls of a name take.
    fn change_of_call(&self, caller: NameId, called: NameId) -> f64 {
        self.call_ns(1, caller, called) - self.call_ns(0, caller, called)
    }

    fn called(&self, caller: NameId) -> impl Iterator<Item = NameId> {
        self.called.get(&caller).into_iter().flatten().copied()
    }

    /// The same without the caller, if it calls itself.
    fn others(&self, caller: NameId) -> impl Iterator<Item = NameId> {
        self.called(caller).filter(move |called| *called != caller)
    }

    /// The change of a duration that stands for the name: `None` if no duration has changed.
    fn direction(&self, id: NameId) -> Option<f64> {
        let of = self.judged.changes.get(&id)?;
        let is_whole = |change: &&Change| change.measured.is_duration() && change.measured != Measured::Own;
        let sign = |change: &Change| (change.after - change.before).signum();
        let mut whole = of.iter().filter(is_whole);
        let first = whole.next().map(sign)?;
        // If half of the spans got faster and a few much slower, the average decides, because it is what the causes divide.
        match whole.all(|change| sign(change) == first) {
            true => Some(first),
            false => Some(self.change(id, Measured::Mean).signum()),
        }
    }

    fn origin(&self, id: NameId) -> Origin {
        let calls_more = self.judged.calls.range((id, 0)..=(id, NameId::MAX)).next().is_some();
        match (self.origin_by_time(id), self.origin_by_errors(id)) {
            // That is a change of its own, even if what is called has changed, too.
            _ if calls_more => Origin::Itself,
            (Some(Origin::Called(called)), None | Some(Origin::Called(_))) => Origin::Called(called),
            (None, Some(Origin::Called(called))) => Origin::Called(called),
            _ => Origin::Itself,
        }
    }

    /// Where the change of the duration comes from. `None` if no duration has changed.
    fn origin_by_time(&self, id: NameId) -> Option<Origin> {
        let direction = self.direction(id)?;
        let own = direction * self.change(id, Measured::Own);
        let (change, called) = self
            .others(id)
            .map(|called| (direction * self.change_of_call(id, called), called))
            .max_by(|(one, _), (other, _)| one.total_cmp(other))
            .unwrap_or((0.0, id));
        let of = self.judged.changes.get(&id)?;
        let is_own_real = of.iter().any(|change| {
            change.measured == Measured::Own && (change.after - change.before).signum() == direction
        });
        let is_reason = change <= own.max(0.0) || is_own_real && own >= SHARE_OF_A_REASON * (own + change);
        // Without a change of its own, what is called is no finding to point at.
        let follows = self.direction(called) == Some(direction);
        Some(if is_reason || !follows { Origin::Itself } else { Origin::Called(called) })
    }

    /// Where the change of the errors comes from: a span often fails because one that it calls does.
    fn origin_by_errors(&self, id: NameId) -> Option<Origin> {
        let more = self.more_errors(id)?;
        let most = self
            .others(id)
            .filter(|called| self.more_errors(*called).is_some())
            .map(|called| (self.more_that_fail_together(id, called) / more, called))
            .max_by(|(one, _), (other, _)| one.total_cmp(other));
        Some(
            most.filter(|(share, _)| *share >= 0.5)
                .map_or(Origin::Itself, |(_, called)| Origin::Called(called)),
        )
    }

    /// How many more of the spans of the second side have an error. `None` if that has not changed.
    fn more_errors(&self, id: NameId) -> Option<f64> {
        let mut of = self.judged.changes.get(&id)?.iter();
        let change = of.find(|change| change.measured == Measured::Errors)?;
        Some((change.after - change.before) * self.tally(1, id).map_or(0.0, Tally::count))
    }

    /// How many more spans of the second side have an error together with one that they call: others call it, too, and it may fail
    /// without any consequence.
    fn more_that_fail_together(&self, caller: NameId, called: NameId) -> f64 {
        let share = |side: usize| {
            let calls = self.tallies.get(side).and_then(|of| of.calls.get(&(caller, called)));
            let spans = self.tally(side, caller).map_or(0.0, Tally::count);
            calls.map_or(0.0, |calls| calls.failed as f64 / spans.max(1.0))
        };
        (share(1) - share(0)) * self.tally(1, caller).map_or(0.0, Tally::count)
    }

    /// The name where the reason is.
    fn root(&self, id: NameId) -> NameId {
        let (mut at, mut seen) = (id, HashSet::from([id]));
        while let Origin::Called(called) = self.origin(at) {
            // Names that call each other: none of them is the reason of the others.
            if !seen.insert(called) {
                return id;
            }
            at = called;
        }
        at
    }

    /// The parts of the change of the average duration.
    fn causes(&self, id: NameId) -> Vec<Cause> {
        let mut causes = Vec::new();
        let mut add =
            |what, called: Option<Name>, change_ns: f64| causes.push(Cause { what, called, change_ns });
        if self.is_accounted(id) {
            for part in Part::ALL.into_iter().filter(|part| *part != Part::Called) {
                let average = |side| {
                    let tally = self.tally(side, id);
                    tally.map_or(0.0, |tally| tally.breakdown.ns(part) as f64 / tally.count().max(1.0))
                };
                add(part.word(), None, average(1) - average(0));
            }
        } else {
            add("self", None, self.change(id, Measured::Own));
        }
        for called in self.called(id) {
            add("called", self.name(called), self.change_of_call(id, called));
        }
        let largest = causes.iter().map(|cause: &Cause| cause.change_ns.abs()).fold(0.0, f64::max);
        causes.retain(|cause| cause.change_ns.abs() > LEAST_SHARE * largest);
        causes.sort_by(|one, other| other.change_ns.abs().total_cmp(&one.change_ns.abs()));
        causes
    }

    /// Whether both sides say what the threads did.
    fn is_accounted(&self, id: NameId) -> bool {
        (0..2).all(|side| {
            let tally = self.tally(side, id);
            tally.is_some_and(|tally| tally.accounted as f64 >= ACCOUNTED * tally.count())
        })
    }
}
