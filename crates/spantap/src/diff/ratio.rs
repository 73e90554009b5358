//! The statistic: whether a ratio, such as the errors of the calls, is another one on the other side.
//!
//! Spans that are near in time resemble each other: they share a cache, a lock, a busy neighbour, a trace. If they counted as
//! independent, chance would look like change. So the spans of each side are divided by time into [`BLOCKS`] blocks, and only
//! what differs between blocks says how much chance there is:
//!
//! * The variance of a ratio is that of ratio estimates from clusters: `B/(B-1) Σ (x_k - R n_k)² / (Σ n_k)²`, where a block has
//!   `n_k` of what is counted and the sum `x_k`. (Cochran, Sampling Techniques, 6.4 and 9A.)
//! * Blocks that follow each other may still resemble each other. The variance grows by `(1 + r) / (1 - r)`, where `r` is the
//!   correlation between them: exact for a process that forgets exponentially. (Bartlett's formula for an autoregression.) The
//!   blocks are worth so many times fewer independent ones, which are the degrees of freedom. Each side has an `r` of its own:
//!   what disturbed one of them need not have disturbed the other.
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

/// The correlation between blocks from which on even many blocks say nothing: 32 of them are worth less than two.
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

impl<'a> Ratio<'a> {
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

    /// The stretches that have spans.
    fn parts(&self) -> impl Iterator<Item = Ratio<'a>> + use<'a> {
        let size = self.of.len().div_ceil(STRETCHES).max(1);
        let parts = self.of.chunks(size).zip(self.per.chunks(size)).map(|(of, per)| Ratio::<'a> { of, per });
        parts.filter(|part| part.per_all() > 0.0)
    }

    /// The ratio of each stretch.
    fn stretches(&self) -> impl Iterator<Item = f64> + use<'a> {
        self.parts().map(|part| part.value())
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
    let errors = [StandardError::of(&before, &residuals[0])?, StandardError::of(&after, &residuals[1])?];
    let least = if kind == Kind::Share { independent(&before, &after) } else { 0.0 };
    welch(difference, errors, least, before.per_all() + after.per_all())
}

/// The probability that a stretch of one side differs as much as one does from all of the other side by chance, in the direction
/// in which all of both sides differ. `None` if there is too little to say, or no stretch is beyond all of the other side.
pub(super) fn chance_in_a_stretch(before: Ratio<'_>, after: Ratio<'_>, kind: Kind) -> Option<f64> {
    let difference = after.value() - before.value();
    let of = |side: Ratio<'_>, other: Ratio<'_>, sign: f64| {
        let residuals = other.residuals();
        if residuals.len() < FEWEST_BLOCKS || side.residuals().len() < FEWEST_BLOCKS {
            return None;
        }
        let error = StandardError::of(&other, &residuals)?;
        let correlation = correlation(side.parts().map(|part| part.residuals()));
        let is_beyond = |part: &Ratio<'_>| other.stretches().all(|of| sign * (part.value() - of) > 0.0);
        let chance = |part: Ratio<'_>| {
            let residuals = part.residuals();
            let errors = [StandardError::with(&part, &residuals, correlation)?, error];
            let least = if kind == Kind::Share { independent(&part, &other) } else { 0.0 };
            welch(part.value() - other.value(), errors, least, part.per_all() + other.per_all())
        };
        side.parts().filter(is_beyond).filter_map(chance).min_by(f64::total_cmp)
    };
    let sign = difference.signum();
    let both = [of(after, before, sign), of(before, after, -sign)];
    let least = both.into_iter().flatten().min_by(f64::total_cmp)?;
    // Each of the stretches could have been the one. (Bonferroni's correction.)
    Some((2.0 * STRETCHES as f64 * least).min(1.0))
}

/// How far a ratio may be from what it is in the long run.
#[derive(Clone, Copy)]
struct StandardError {
    variance: f64,
    freedom: f64,
}

impl StandardError {
    /// `None` if the blocks resemble their neighbours so much that they say nothing.
    fn of(ratio: &Ratio<'_>, residuals: &[f64]) -> Option<Self> {
        Self::with(ratio, residuals, correlation(std::iter::once(residuals.to_vec())))
    }

    fn with(ratio: &Ratio<'_>, residuals: &[f64], correlation: f64) -> Option<Self> {
        if correlation >= MOST_CORRELATED || residuals.len() < 2 {
            return None;
        }
        let growth = (1.0 + correlation) / (1.0 - correlation);
        let blocks = residuals.len() as f64;
        let squares: f64 = residuals.iter().map(|of| of * of).sum();
        Some(Self {
            variance: blocks / (blocks - 1.0) * squares / ratio.per_all().powi(2) * growth,
            freedom: (blocks / growth - 1.0).max(1.0),
        })
    }
}

/// How likely such a difference is by chance. `least` is the variance of independent spans, of which there are so many.
fn welch(difference: f64, errors: [StandardError; 2], least: f64, spans: f64) -> Option<f64> {
    let sum: f64 = errors.iter().map(|of| of.variance).sum();
    if sum.is_nan() || difference.is_nan() {
        return None;
    }
    if sum.max(least) == 0.0 {
        return Some(if difference == 0.0 { 1.0 } else { 0.0 });
    }
    // Welch and Satterthwaite.
    let freedom = errors.iter().map(|of| of.variance.powi(2) / of.freedom).sum();
    // Blocks that are all alike say nothing of their variance; that of independent spans is known from all of them.
    let freedom = if sum < least { spans } else { quotient(sum.powi(2), freedom) };
    let statistic = difference.abs() / sum.max(least).sqrt();
    statistic.is_finite().then(|| two_sided(statistic, freedom))
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

/// How much a block resembles the one before it, in all of these stretches together. Never negative: that would take blocks for more
/// than they are.
fn correlation(stretches: impl Iterator<Item = Vec<f64>>) -> f64 {
    let (mut products, mut squares, mut blocks, mut count) = (0.0, 0.0, 0.0_f64, 0.0_f64);
    for residuals in stretches {
        products += residuals.windows(2).map(|pair| pair[0] * pair[1]).sum::<f64>();
        squares += residuals.iter().map(|of| of * of).sum::<f64>();
        blocks += residuals.len() as f64;
        count += 1.0;
    }
    if squares == 0.0 {
        return 0.0;
    }
    // The residuals add up to nothing, which makes neighbours look less alike: by (1 + 4r)/B. (Kendall and Marriott.)
    let blocks = blocks / count;
    let found = (products / squares + 1.0 / blocks) / (1.0 - 4.0 / blocks).max(0.1);
    found.clamp(0.0, MOST_CORRELATED)
}

fn quotient(of: f64, per: f64) -> f64 {
    if per == 0.0 { 0.0 } else { of / per }
}

#[cfg(test)]
mod tests;
