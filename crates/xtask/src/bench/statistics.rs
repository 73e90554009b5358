//! Median, interquartile range and quantiles of several values. A crate for it would save no code.

pub(super) fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    quantile(&sorted(values), 0.5)
}

/// The median and the interquartile range.
pub(super) fn median_and_spread(values: impl IntoIterator<Item = f64>) -> (f64, f64) {
    let values = sorted(values);
    (quantile(&values, 0.5), quantile(&values, 0.75) - quantile(&values, 0.25))
}

pub(super) fn quantiles<const N: usize>(values: impl IntoIterator<Item = f64>, at: [f64; N]) -> [f64; N] {
    let values = sorted(values);
    at.map(|at| quantile(&values, at))
}

fn sorted(values: impl IntoIterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    values
}

/// Interpolates between the two neighbouring values.
fn quantile(sorted: &[f64], at: f64) -> f64 {
    let Some(last) = sorted.len().checked_sub(1) else { return f64::NAN };
    let position = last as f64 * at;
    let (below, above) = (sorted[position.floor() as usize], sorted[position.ceil() as usize]);
    below + (above - below) * position.fract()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_fall_between_values() {
        let values = [1.0, 2.0, 4.0, 8.0];
        assert_eq!([0.0, 0.5, 0.75, 1.0].map(|at| quantile(&values, at)), [1.0, 3.0, 5.0, 8.0]);
        assert_eq!(median_and_spread([8.0, 1.0, 4.0, 2.0]), (3.0, 3.25));
        assert_eq!(median([7.0]), 7.0);
        assert_eq!(quantiles([8.0, 1.0, 4.0, 2.0], [0.5, 1.0]), [3.0, 8.0]);
    }
}
