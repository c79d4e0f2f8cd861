//! Quantiles of a few thousand samples, by nearest rank.

/// The value at quantile `q` of 0 to 1: the least sample that at least that part of all samples does not exceed.
/// None without samples. Sorts them.
pub fn quantile<T: Ord + Copy>(samples: &mut [T], q: f64) -> Option<T> {
    samples.sort_unstable();
    let rank = (q * samples.len() as f64).ceil() as usize;
    samples.get(rank.clamp(1, samples.len().max(1)) - 1).copied()
}

/// The middle one, or the mean of the two in the middle. None without values.
pub fn median(values: &[f64]) -> Option<f64> {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    let upper = *values.get(middle)?;
    Some(if values.len().is_multiple_of(2) { f64::midpoint(values[middle - 1], upper) } else { upper })
}

/// Adds the samples that a prober did not take while it waited for a long one, as HdrHistogram does: it would have
/// begun one every `interval`, and each would have waited for the same end.
pub fn with_the_omitted(samples: &[u64], interval: u64) -> Vec<u64> {
    let mut all = Vec::with_capacity(samples.len());
    for sample in samples {
        let mut waited = *sample;
        all.push(waited);
        while interval > 0 && waited > interval {
            waited -= interval;
            all.push(waited);
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_samples() {
        let mut samples: Vec<u64> = (1..=200).rev().collect();
        assert_eq!(quantile(&mut samples, 0.0), Some(1));
        assert_eq!(quantile(&mut samples, 0.5), Some(100));
        assert_eq!(quantile(&mut samples, 0.99), Some(198));
        assert_eq!(quantile(&mut samples, 1.0), Some(200));
        assert_eq!(quantile(&mut [3, 1, 2], 0.5), Some(2));
        assert_eq!(quantile(&mut [7], 0.99), Some(7));
        assert_eq!(quantile::<u64>(&mut [], 0.5), None);
    }

    #[test]
    fn medians() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), Some(2.5));
        assert_eq!(median(&[]), None);
    }

    #[test]
    fn a_stall_counts_for_all_that_would_have_waited() {
        assert_eq!(with_the_omitted(&[20, 350, 100], 100), [20, 350, 250, 150, 50, 100]);
        assert_eq!(with_the_omitted(&[20, 350], 0), [20, 350]);
    }
}
