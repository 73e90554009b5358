//! All rules together: what they decide about a trace, and when nothing can change that any more.

use std::time::Instant;

use anyhow::{Result, ensure};

use super::rate::Bucket;
use super::ratio::Ratio;
use super::rule::{Rule, Share};
use crate::query::Subject;

/// The most rules: a set of them is the bits of a number.
const MAX_RULES: usize = 64;

/// The rules of `--keep`. A trace is kept if one of them keeps it.
#[derive(Clone, Debug)]
pub struct Rules(Vec<Rule>);

impl Rules {
    /// Checks that the rules fit together.
    ///
    /// # Errors
    ///
    /// There are none or too many, or two are the same.
    pub fn new(rules: Vec<Rule>) -> Result<Self> {
        ensure!(!rules.is_empty(), "there is no rule");
        ensure!(rules.len() <= MAX_RULES, "--keep is given {} times; the most are {MAX_RULES}", rules.len());
        for (index, rule) in rules.iter().enumerate() {
            let is_same = |other: &Rule| other.to_string() == rule.to_string();
            ensure!(
                !rules[..index].iter().any(is_same),
                "--keep '{}' is given twice: leave one out",
                rule.label()
            );
            let label = |other: &Rule| other.label() == rule.label();
            ensure!(
                !rules[..index].iter().any(label),
                "two rules of --keep begin alike, and only their beginning is in the attributes and counts: put \
                 what differs first, in '{}'",
                rule.label()
            );
        }
        Ok(Self(rules))
    }

    /// Which rules can't do what the user may expect. `has_kernel` says whether spans have what the kernel did during them.
    pub fn notes(&self, has_kernel: bool) -> Vec<String> {
        let mut notes = Vec::new();
        let ratios = || self.0.iter().filter_map(|rule| Some((rule, ratio(rule)?)));
        for rule in self.0.iter().filter(|rule| !has_kernel && rule.asks_kernel()) {
            notes.push(format!(
                "--keep '{}': only spans of spantap attach with --kernel sched have the values that begin with \
                 kernel; here they are missing, so a comparison with them is false",
                rule.label()
            ));
        }
        let all = ratios().find(|(rule, ratio)| rule.query.is_none() && ratio.is_all());
        if let Some((rule, _)) = all {
            notes.push(format!("--keep '{}' keeps every trace, so nothing is dropped", rule.label()));
        }
        for (rule, of) in ratios() {
            let larger = ratios().find(|(other, ratio)| other.query.is_none() && ratio.exceeds(of));
            if let Some((larger, _)) = larger {
                let (label, larger) = (rule.label(), larger.label());
                notes.push(format!(
                    "--keep '{label}' adds nothing: '{larger}' keeps the same traces and more"
                ));
            }
        }
        let whole = || self.0.iter().filter(|rule| rule.share == Share::All);
        for rule in whole() {
            let query = rule.to_string();
            let same = |other: &&Rule| {
                other.share != Share::All && other.query.as_ref().is_some_and(|of| of.to_string() == query)
            };
            for other in self.0.iter().filter(same) {
                let (label, rule) = (other.label(), rule.label());
                notes.push(format!("--keep '{label}' adds nothing: '{rule}' keeps the same traces and more"));
            }
            let not = [format!("not {query}"), format!("not ({query})")];
            if let Some(other) = whole().find(|other| not.contains(&other.to_string())) {
                let (label, rule) = (other.label(), rule.label());
                notes.push(format!("--keep '{rule}' and '{label}' keep every trace, so nothing is dropped"));
            }
        }
        notes
    }

    /// The rules.
    pub fn iter(&self) -> impl Iterator<Item = &Rule> {
        self.0.iter()
    }
}

fn ratio(rule: &Rule) -> Option<Ratio> {
    match rule.share {
        Share::Ratio(ratio) => Some(ratio),
        Share::All | Share::Rate(_) => None,
    }
}

/// The rules that apply to a trace.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) struct Applying(u64);

impl Applying {
    fn has(self, place: usize) -> bool {
        self.0 >> place & 1 == 1
    }

    fn add(&mut self, place: usize) {
        self.0 |= 1 << place;
    }
}

/// What was decided about a trace.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Decision {
    Dropped,
    Kept(Kept),
}

/// Why a trace is kept.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Kept {
    /// The place of the rule.
    pub(super) rule: u8,
    /// How many traces it stands for.
    pub(super) weight: f64,
    /// Spans that came before were dropped.
    pub(super) is_incomplete: bool,
}

impl Kept {
    fn by(place: usize, weight: f64) -> Self {
        // There are at most `MAX_RULES`.
        Self { rule: place as u8, weight, is_incomplete: false }
    }
}

/// Decides by the rules.
#[derive(Debug)]
pub(super) struct Judge {
    rules: Rules,
    /// The bucket of each rate, by its rule's place.
    buckets: Vec<(usize, Bucket)>,
    /// The rules that apply to every trace.
    always: Applying,
}

impl Judge {
    pub(super) fn new(rules: Rules, now: Instant) -> Self {
        let (mut buckets, mut always) = (Vec::new(), Applying::default());
        for (place, rule) in rules.0.iter().enumerate() {
            if let Share::Rate(rate) = rule.share {
                buckets.push((place, Bucket::new(rate, now)));
            }
            if rule.query.is_none() {
                always.add(place);
            }
        }
        Self { rules, buckets, always }
    }

    fn rules(&self) -> impl Iterator<Item = (usize, &Rule)> {
        self.rules.0.iter().enumerate()
    }

    /// The rules that apply to a trace of which nothing is known.
    pub(super) fn always(&self) -> Applying {
        self.always
    }

    /// Adds the rules that apply because of this span.
    pub(super) fn look(&self, applying: &mut Applying, subject: &Subject<'_>) {
        for (place, rule) in self.rules() {
            if !applying.has(place) && rule.query.as_ref().is_some_and(|query| query.matches(subject)) {
                applying.add(place);
            }
        }
    }

    /// The first of the rules that keep all that they apply to.
    fn whole(&self, applying: Applying) -> Option<usize> {
        let mut rules = self.rules().filter(|(place, _)| applying.has(*place));
        Some(rules.find(|(_, rule)| rule.share == Share::All)?.0)
    }

    /// The largest of the ratios.
    fn largest(&self, applying: Applying) -> Option<(usize, Ratio)> {
        let ratios = self.rules().filter(|(place, _)| applying.has(*place));
        let ratios = ratios.filter_map(|(place, rule)| Some((place, ratio(rule)?)));
        ratios.reduce(|a, b| if b.1.exceeds(a.1) { b } else { a })
    }

    /// Whether further spans of the trace can't change the decision.
    pub(super) fn is_settled(&self, trace_id: u128, applying: Applying) -> bool {
        let largest = self.largest(applying).map(|(_, ratio)| ratio);
        self.whole(applying).is_some()
            || self.rules().filter(|(place, _)| !applying.has(*place)).all(|(_, rule)| match rule.share {
                Share::All | Share::Rate(_) => false,
                Share::Ratio(ratio) => {
                    !ratio.keeps(trace_id) || largest.is_some_and(|largest| !ratio.exceeds(largest))
                }
            })
    }

    /// Decides about a trace. To be asked once for each.
    pub(super) fn decide(&mut self, trace_id: u128, applying: Applying, now: Instant) -> Decision {
        if let Some(place) = self.whole(applying) {
            return Decision::Kept(Kept::by(place, 1.0));
        }
        let kept = self.largest(applying).filter(|(_, ratio)| ratio.keeps(trace_id));
        let mut rates = self.buckets.iter_mut().filter(|(place, _)| applying.has(*place)).peekable();
        if let Some((place, ratio)) = kept {
            let weight = if rates.peek().is_some() { 1.0 } else { ratio.weight() };
            return Decision::Kept(Kept::by(place, weight));
        }
        while let Some((place, bucket)) = rates.next() {
            if let Some(weight) = bucket.take(now) {
                return Decision::Kept(Kept::by(*place, weight));
            }
            if rates.peek().is_none() {
                bucket.refuse();
            }
        }
        Decision::Dropped
    }

    /// The traces that rates have refused and that no kept one stands for yet.
    pub(super) fn unrepresented(&self) -> u64 {
        self.buckets.iter().map(|(_, bucket)| bucket.refused()).sum()
    }

    /// A better decision, because of a span that came after the one that was made: the span is kept with a greater
    /// probability than those before it. A rate takes no late spans, since its place is gone.
    pub(super) fn improve(&self, made: Decision, trace_id: u128, subject: &Subject<'_>) -> Option<Kept> {
        let share = match made {
            Decision::Dropped => None,
            Decision::Kept(kept) => Some(self.rules.0.get(usize::from(kept.rule))?.share),
        };
        let is_better = |rule: &Rule| match (rule.share, share) {
            (Share::Rate(_), _) | (_, Some(Share::All)) | (Share::Ratio(_), Some(Share::Rate(_))) => false,
            (Share::All, _) => true,
            (Share::Ratio(ratio), Some(Share::Ratio(now))) => ratio.exceeds(now),
            (Share::Ratio(ratio), None) => ratio.keeps(trace_id),
        };
        let better = self.rules().filter(|(_, rule)| is_better(rule));
        let mut applying = Applying::default();
        for (place, rule) in better {
            if rule.query.as_ref().is_some_and(|query| query.matches(subject)) {
                applying.add(place);
            }
        }
        let best = match self.whole(applying) {
            Some(place) => Kept::by(place, 1.0),
            None => self.largest(applying).map(|(place, ratio)| Kept::by(place, ratio.weight()))?,
        };
        let is_incomplete = match made {
            Decision::Dropped => true,
            Decision::Kept(kept) => kept.is_incomplete,
        };
        Some(Kept { is_incomplete, ..best })
    }
}
