//! The result of a comparison.

use std::collections::{BTreeMap, BTreeSet};

use super::measured::Measured;
use super::names::Name;
use crate::search::Read;

/// How two sides differ.
#[derive(Debug)]
pub struct Diff {
    /// The first side, and the second.
    pub sides: [SideOf; 2],
    /// How many names have enough spans on both sides to be compared.
    pub compared: usize,
    /// What has changed. The reasons come first, those with the most time before others; what follows from them comes last.
    pub findings: Vec<Finding>,
    /// Changes that are no chance, but too small to be shown. A condition may ask for them.
    pub small: Vec<ChangeOf>,
    /// What has changed in a part of the time only, or too unevenly to say that it will stay so.
    pub uneven: Vec<ChangeOf>,
    /// Names of the second side only.
    pub new: Vec<OneSided>,
    /// Names of the first side only.
    pub vanished: Vec<OneSided>,
    /// Names of which there is too little to say.
    pub too_few: Vec<TooFew>,
    /// The measures of compared names of which there is too little to say: a percentile takes more spans than an average.
    pub not_judged: Vec<NotJudged>,
    /// In how many names there was enough to say; nothing if in none.
    pub judged: BTreeMap<Measured, usize>,
    /// Traces that were left out, because they have spans of both sides.
    pub crossing_traces: u64,
    /// Spans that were left out, because their trace was too large or there were too many names.
    pub left_out_spans: u64,
    /// Calls that were left out, because too many names call others.
    pub left_out_calls: u64,
    /// Traces that were found and could not be read again.
    pub unread_traces: u64,
    /// What else the files of each side had; the second has nothing if the files are the same.
    pub read: [Read; 2],
}

/// How much was read of a side.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct SideOf {
    /// How many spans, without kernel activity.
    pub spans: u64,
    /// How many traces.
    pub traces: u64,
}

/// What has changed in the spans of a name.
#[derive(Clone, PartialEq, Debug)]
pub struct Finding {
    /// The name.
    pub name: Name,
    /// The spans of each side.
    pub figures: [Figures; 2],
    /// What has changed.
    pub changes: Vec<Change>,
    /// What it calls more or less often.
    pub calls: Vec<CalledMore>,
    /// Where the change of the average duration comes from, the largest part first; without parts of less than a hundredth of the
    /// largest. Empty if neither a duration nor the calls have changed.
    pub causes: Vec<Cause>,
    /// Why it has changed.
    pub why: Why,
    /// A trace of each side with a span near the percentile that changed.
    pub traces: [Option<u128>; 2],
}

/// Why a finding has changed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Why {
    /// The reason is in these spans.
    Itself,
    /// These spans call others, directly or not, that have changed.
    Follows(Name),
}

/// The spans of a name on one side. Times are in nanoseconds.
#[derive(Clone, Copy, PartialEq, Default, Debug)]
pub struct Figures {
    /// How many.
    pub spans: u64,
    /// How many have an error.
    pub errors: u64,
    /// The 50th, 95th and 99th percentile of the duration, to within 1 %.
    pub percentiles_ns: [u64; 3],
    /// The average duration.
    pub mean_ns: f64,
    /// The average time in which no child was open.
    pub own_ns: f64,
}

/// A change that is no chance.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Change {
    /// Of what.
    pub measured: Measured,
    /// On the first side.
    pub before: f64,
    /// On the second side.
    pub after: f64,
    /// How likely such a difference would be by chance, for this measure by itself.
    pub chance: f64,
}

/// A name that is called more often, or less.
#[derive(Clone, PartialEq, Debug)]
pub struct CalledMore {
    /// What is called.
    pub name: Name,
    /// The calls of each caller.
    pub change: Change,
}

/// A part of the change of an average duration.
#[derive(Clone, PartialEq, Debug)]
pub struct Cause {
    /// What the threads did, as `top` calls it, or `self` if that is not known on both sides; or `called`.
    pub what: &'static str,
    /// What was called.
    pub called: Option<Name>,
    /// How much longer, in nanoseconds for each span; negative if it is shorter.
    pub change_ns: f64,
}

/// A name that one side does not have.
#[derive(Clone, PartialEq, Debug)]
pub struct OneSided {
    /// The name.
    pub name: Name,
    /// The spans of the other side.
    pub figures: Figures,
    /// A trace of the other side.
    pub trace: Option<u128>,
}

/// A name of which there is too little to say.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TooFew {
    /// The name.
    pub name: Name,
    /// How many spans each side has.
    pub spans: [u64; 2],
}

/// A change without what it is due to.
#[derive(Clone, PartialEq, Debug)]
pub struct ChangeOf {
    /// The name.
    pub name: Name,
    /// What is called more or less often, if it is that.
    pub called: Option<Name>,
    /// What has changed.
    pub change: Change,
}

/// What could not be judged of a name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NotJudged {
    /// The name.
    pub name: Name,
    /// What.
    pub measures: BTreeSet<Measured>,
}

impl Diff {
    /// Whether something has changed. Errors count even if they come in a part of the time only.
    pub fn is_different(&self) -> bool {
        let is_same = self.findings.is_empty() && self.new.is_empty() && self.vanished.is_empty();
        !is_same || self.uneven_errors().next().is_some()
    }

    /// The errors among what has changed unevenly.
    pub fn uneven_errors(&self) -> impl Iterator<Item = &ChangeOf> {
        self.uneven.iter().filter(|of| of.change.measured == Measured::Errors)
    }

    /// Whether spans that were in the files could not be read.
    pub fn is_damaged(&self) -> bool {
        self.unread_traces > 0 || self.read.iter().any(Read::is_damaged)
    }
}

impl Finding {
    /// Everything that has changed; calls come with what is called.
    pub fn all_changes(&self) -> impl Iterator<Item = (Option<&Name>, &Change)> {
        let calls = self.calls.iter().map(|called| (Some(&called.name), &called.change));
        self.changes.iter().map(|change| (None, change)).chain(calls)
    }
}

impl Change {
    /// By how much it has changed, relative to what it was. Infinite if there was nothing.
    pub fn relative(&self) -> f64 {
        match (self.before, self.after - self.before) {
            (_, 0.0) => 0.0,
            (0.0, change) => change.signum() * f64::INFINITY,
            (before, change) => change / before,
        }
    }
}
