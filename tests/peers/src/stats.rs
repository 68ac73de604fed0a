//! Medians, ratios of rounds, and how sure they are.

/// The median; NaN of nothing.
pub fn median(values: &[f64]) -> f64 {
    let sorted = sorted(values);
    match sorted.len() {
        0 => f64::NAN,
        length if length % 2 == 1 => sorted[length / 2],
        length => (sorted[length / 2 - 1] + sorted[length / 2]) / 2.0,
    }
}

/// The interval that holds the true median in 95 of 100 cases, from the order of the values alone;
/// of fewer than six values all that there are (94 of 100 with five).
pub fn interval(values: &[f64]) -> (f64, f64) {
    let sorted = sorted(values);
    let Some(last) = sorted.len().checked_sub(1) else { return (f64::NAN, f64::NAN) };
    // How many values may be left out at each end: the chance that the true median lies beyond the
    // next one is that of so many heads among so many coins.
    let coins = sorted.len() as f64;
    let (mut term, mut sum, mut out) = (0.5_f64.powf(coins), 0.0, 0);
    while sum + term <= 0.025 && out < last / 2 {
        sum += term;
        term *= (coins - out as f64) / (out as f64 + 1.0);
        out += 1;
    }
    let out = out.saturating_sub(1);
    (sorted[out], sorted[last - out])
}

fn sorted(values: &[f64]) -> Vec<f64> {
    let mut sorted: Vec<f64> = values.iter().copied().filter(|value| value.is_finite()).collect();
    sorted.sort_by(f64::total_cmp);
    sorted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_few_values_is_in_their_middle() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
        assert!(median(&[]).is_nan());
    }

    #[test]
    fn the_interval_leaves_out_what_the_table_of_signs_says() {
        let values = |count: u32| (1..=count).map(f64::from).collect::<Vec<_>>();
        // The well-known places for 95 %: 1 of 6, 2 of 9, 4 of 15, 6 of 20.
        assert_eq!(interval(&values(5)), (1.0, 5.0));
        assert_eq!(interval(&values(6)), (1.0, 6.0));
        assert_eq!(interval(&values(9)), (2.0, 8.0));
        assert_eq!(interval(&values(15)), (4.0, 12.0));
        assert_eq!(interval(&values(20)), (6.0, 15.0));
    }
}
