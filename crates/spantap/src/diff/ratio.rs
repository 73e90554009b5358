//! The statistic: whether a ratio, such as the errors of the calls, is another one on the other side.
//!
//! Spans that are near in time resemble each other: they share a cache, a lock, a busy neighbour, a trace. If they counted as
//! independent, chance would look like change. So the spans of each side are divided by time into [`BLOCKS`] blocks, and only
//! what differs between blocks says how much chance there is:
//!
//! * The variance of a ratio is that of ratio estimates from clusters: `B/(B-1) Σ (x_k - R n_k)² / (Σ n_k)²`, where a block has
//!   `n_k` of what is counted and the sum `x_k`. (Cochran, Sampling Techniques, 6.4 and 9A.)
//! * Blocks that follow each other may still resemble each other. The variance grows by `(1 + r) / (1 - r)`, where `r` is the
//!   correlation between them: exact for a process that forgets exponentially. (Bartlett's formula for an autoregression.)
//! * Welch's test compares the two ratios, without assuming that the variances are equal.
//! * Stretches, of several blocks each, have to agree: all of them on one side are above all of them on the other.
//!
//! Nothing is assumed of the distribution of the durations, except that the sums of blocks are not far from normal.

use super::student::two_sided;

/// The number of blocks of each side.
pub(super) const BLOCKS: usize = 32;

/// The number of stretches that have to agree.
const STRETCHES: usize = 4;

/// Fewer blocks with spans say nothing of chance.
const FEWEST_BLOCKS: usize = 12;

/// The correlation between blocks beyond which even many blocks say nothing.
const MOST_CORRELATED: f64 = 0.9;

/// A sum, and what it is the sum of, in each block.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ratio<'a> {
    pub(super) of: &'a [f64],
    pub(super) per: &'a [f64],
}

/// How the ratio may vary.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Kind {
    /// The share of spans that have a property. It varies at least as if the spans were independent.
    Share,
    Average,
}

impl Ratio<'_> {
    pub(super) fn value(&self) -> f64 {
        quotient(self.of.iter().sum(), self.per.iter().sum())
    }

    fn per_all(&self) -> f64 {
        self.per.iter().sum()
    }

    /// How far each block is from the ratio, the blocks without spans left out.
    fn residuals(&self) -> Vec<f64> {
        let value = self.value();
        let blocks = self.of.iter().zip(self.per).filter(|(_, per)| **per > 0.0);
        blocks.map(|(of, per)| of - value * per).collect()
    }

    /// Of each stretch.
    fn stretches(&self) -> impl Iterator<Item = f64> {
        let size = self.of.len().div_ceil(STRETCHES).max(1);
        let sums = |list: &[f64]| list.chunks(size).map(|of| of.iter().sum()).collect::<Vec<f64>>();
        let (of, per) = (sums(self.of), sums(self.per));
        of.into_iter().zip(per).filter(|(_, per)| *per > 0.0).map(|(of, per)| quotient(of, per))
    }
}

/// The probability that the two ratios differ as much as this by chance. 1 if stretches disagree, and `None` if there is too
/// little to say.
pub(super) fn chance(before: Ratio<'_>, after: Ratio<'_>, kind: Kind) -> Option<f64> {
    let residuals = [before.residuals(), after.residuals()];
    if residuals.iter().any(|of| of.len() < FEWEST_BLOCKS) {
        return None;
    }
    let difference = after.value() - before.value();
    if difference == 0.0 || !do_stretches_agree(&before, &after) {
        return Some(1.0);
    }
    let correlation = correlation(&residuals);
    let growth = (1.0 + correlation) / (1.0 - correlation);
    let variance = |ratio: &Ratio<'_>, residuals: &[f64]| {
        let blocks = residuals.len() as f64;
        let squares: f64 = residuals.iter().map(|of| of * of).sum();
        blocks / (blocks - 1.0) * squares / ratio.per_all().powi(2) * growth
    };
    let variances = [variance(&before, &residuals[0]), variance(&after, &residuals[1])];
    let sum = variances[0] + variances[1];
    // Welch and Satterthwaite.
    let freedom =
        residuals.iter().zip(variances).map(|(of, variance)| variance.powi(2) / (of.len() as f64 - 1.0));
    let freedom = quotient(sum.powi(2), freedom.sum());
    let least = if kind == Kind::Share { independent(&before, &after) } else { 0.0 };
    // Blocks that are all alike say nothing of their variance; that of independent spans is known from all of them.
    let freedom = if sum < least { before.per_all() + after.per_all() } else { freedom };
    let statistic = difference.abs() / sum.max(least).sqrt();
    Some(if statistic.is_finite() { two_sided(statistic, freedom) } else { 0.0 })
}

/// The variance of the difference of two shares if all spans were independent, and nothing changed.
fn independent(before: &Ratio<'_>, after: &Ratio<'_>) -> f64 {
    let (one, other) = (before.per_all(), after.per_all());
    let share = quotient(before.of.iter().chain(after.of).sum(), one + other).clamp(0.0, 1.0);
    share * (1.0 - share) * (1.0 / one + 1.0 / other)
}

/// Whether each stretch of one side is above each stretch of the other.
fn do_stretches_agree(before: &Ratio<'_>, after: &Ratio<'_>) -> bool {
    let range = |ratio: &Ratio<'_>| {
        let all = ratio.stretches();
        all.fold((f64::INFINITY, f64::NEG_INFINITY), |(least, most), of| (least.min(of), most.max(of)))
    };
    let ((least, most), (other_least, other_most)) = (range(before), range(after));
    most < other_least || other_most < least
}

/// How much a block resembles the one before it. Never negative: that would take blocks for more than they are.
fn correlation(sides: &[Vec<f64>; 2]) -> f64 {
    // Each side counts the same, however much its blocks vary.
    let of_side = |of: &Vec<f64>| {
        let products: f64 = of.windows(2).map(|pair| pair[0] * pair[1]).sum();
        let squares: f64 = of.iter().map(|of| of * of).sum();
        let blocks = of.len() as f64;
        // The residuals add up to nothing, which makes neighbours look less alike: by (1 + 4r)/B. (Kendall and Marriott.)
        if squares > 0.0 { (products / squares + 1.0 / blocks) / (1.0 - 4.0 / blocks) } else { 0.0 }
    };
    let both = (of_side(&sides[0]) + of_side(&sides[1])) / 2.0;
    both.clamp(0.0, MOST_CORRELATED)
}

fn quotient(of: f64, per: f64) -> f64 {
    if per == 0.0 { 0.0 } else { of / per }
}

#[cfg(test)]
mod tests;
