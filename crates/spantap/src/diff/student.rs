//! The distribution of a statistic if nothing has changed, and the correction for many of them.

/// How likely Student's t is at least this far from zero, on both sides. The degrees of freedom are rounded down to 1 or an even number, for
/// which there is a finite sum (Abramowitz and Stegun, 26.7.4); fewer of them make chance more likely.
pub(super) fn two_sided(t: f64, freedom: f64) -> f64 {
    if freedom < 2.0 {
        return std::f64::consts::FRAC_2_PI * 1.0_f64.atan2(t.abs());
    }
    let halves = ((freedom / 2.0).floor() as u64).clamp(1, 500);
    let freedom = 2.0 * halves as f64;
    let cos_squared = freedom / (freedom + t * t);
    let sin = (1.0 - cos_squared).sqrt();
    let (mut term, mut sum) = (1.0, 1.0);
    for half in 1..halves {
        term *= cos_squared * (2 * half - 1) as f64 / (2 * half) as f64;
        sum += term;
    }
    // Below 1e-15 there is only rounding.
    (1.0 - sin * sum).clamp(0.0, 1.0)
}

/// Which of several results are no chance, given how likely each would be by chance: the probability that any of them is
/// chance is at most `most`. (Holm's method, which assumes nothing of how they depend on each other.)
pub(super) fn holm(chances: &[f64], most: f64) -> Vec<bool> {
    let mut order: Vec<usize> = (0..chances.len()).collect();
    order.sort_by(|one, other| chances[*one].total_cmp(&chances[*other]));
    let mut are_real = vec![false; chances.len()];
    for (rank, place) in order.into_iter().enumerate() {
        if chances[place] > most / (chances.len() - rank) as f64 {
            break;
        }
        are_real[place] = true;
    }
    are_real
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tails_are_those_of_published_tables() {
        // Two-sided quantiles of Student's t, from tables.
        for (t, freedom, chance) in [
            (12.706, 1.0, 0.05),
            (4.303, 2.0, 0.05),
            (2.228, 10.0, 0.05),
            (3.169, 10.0, 0.01),
            (2.000, 60.0, 0.05),
            (3.460, 60.0, 0.001),
        ] {
            let found = two_sided(t, freedom);
            assert!((found / chance - 1.0).abs() < 0.01, "{t} with {freedom}: {found}");
        }
        assert_eq!(two_sided(0.0, 10.0), 1.0);
        assert!(two_sided(9.0, 60.0) < 1e-11);
        assert_eq!(two_sided(0.0, 1.0), 1.0);
        // An odd number is rounded down.
        assert_eq!(two_sided(2.0, 11.9), two_sided(2.0, 10.0));
    }

    #[test]
    fn the_correction_grows_with_the_number_of_results() {
        assert_eq!(holm(&[0.04], 0.05), [true]);
        assert_eq!(holm(&[0.04, 0.9], 0.05), [false, false]);
        // Once one of them is taken, the next is one of fewer.
        assert_eq!(holm(&[0.04, 0.01, 0.03], 0.05), [false, true, false]);
        assert_eq!(holm(&[0.04, 0.01, 0.02], 0.05), [true, true, true]);
        assert_eq!(holm(&[], 0.05), [false; 0]);
    }
}
