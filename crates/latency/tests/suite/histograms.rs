//! Quantiles against sorted lists, merging against one histogram of all, the encoding there and back.

use latency::{LatencyHistogram, RELATIVE_ERROR_MAX};
use proptest::prelude::*;
use trace_model::NanoDuration;

const DAY: u64 = 86_400_000_000_000;

fn of(samples: &[(u64, bool)]) -> LatencyHistogram {
    let mut histogram = LatencyHistogram::new();
    for (nanos, error) in samples {
        histogram.record(NanoDuration(*nanos), *error);
    }
    histogram
}

/// Durations of every magnitude, some equal, some zero, some at the ends of buckets.
fn nanos() -> impl Strategy<Value = u64> {
    let any_size = (any::<u64>(), 17..64u32).prop_map(|(n, bits)| (n >> bits).min(DAY));
    let edge = (0..1_000_000u64, -1..2i64).prop_map(|(us, by)| (us * 1000).saturating_add_signed(by));
    prop_oneof![4 => any_size, 2 => edge, 1 => Just(0), 1 => Just(5_000_000)]
}

fn samples(max: usize) -> impl Strategy<Value = Vec<(u64, bool)>> {
    prop::collection::vec((nanos(), any::<bool>()), 0..max)
}

fn encoded(histogram: &LatencyHistogram) -> Vec<u8> {
    let mut out = Vec::new();
    histogram.encode(&mut out);
    out
}

proptest! {
    #[test]
    fn quantiles_are_at_most_a_bucket_above_the_exact_ones(samples in samples(300), permille in 0..=1000usize) {
        let histogram = of(&samples);
        let mut sorted: Vec<u64> = samples.iter().map(|s| s.0).collect();
        sorted.sort_unstable();
        let q = permille as f64 / 1000.0;
        let Some(value) = histogram.quantile(q) else {
            prop_assert!(sorted.is_empty());
            return Ok(());
        };
        let rank = (permille * sorted.len()).div_ceil(1000).max(1);
        let exact = sorted[rank - 1];
        prop_assert!(value.0 >= exact, "{} < {}", value.0, exact);
        prop_assert!(value.0 as f64 <= exact as f64 * (1.0 + RELATIVE_ERROR_MAX) + 1000.0, "{} for {}", value.0, exact);
        prop_assert!(value <= histogram.max().unwrap());
    }

    #[test]
    fn what_is_kept_exactly_is_exact(samples in samples(300)) {
        let histogram = of(&samples);
        let all = || samples.iter().map(|s| s.0);
        let sum: u128 = all().map(u128::from).sum();
        prop_assert_eq!(histogram.count(), samples.len() as u64);
        prop_assert_eq!(histogram.sum_nanos(), sum);
        prop_assert_eq!(histogram.min().map(|d| d.0), all().min());
        prop_assert_eq!(histogram.max().map(|d| d.0), all().max());
        prop_assert_eq!(histogram.errors(), samples.iter().filter(|s| s.1).count() as u64);
        prop_assert_eq!(histogram.zeros(), all().filter(|n| *n == 0).count() as u64);
        prop_assert_eq!(histogram.mean().map(|d| u128::from(d.0)), sum.checked_div(samples.len() as u128));
    }

    #[test]
    fn merging_is_recording_all_in_any_order(
        (a, b, shuffled) in (samples(150), samples(150)).prop_flat_map(|(a, b)| {
            let all = a.iter().chain(&b).copied().collect::<Vec<_>>();
            (Just(a), Just(b), Just(all).prop_shuffle())
        })
    ) {
        let want = of(&shuffled);
        let (mut ab, mut ba) = (of(&a), of(&b));
        ab.merge(&of(&b));
        ba.merge(&of(&a));
        prop_assert_eq!(&ab, &want);
        prop_assert_eq!(&ba, &want);
        prop_assert_eq!(encoded(&ab), encoded(&want));
    }

    #[test]
    fn merging_is_associative(a in samples(50), b in samples(50), c in samples(50)) {
        let [a, b, c] = [a, b, c].map(|samples| of(&samples));
        let merged = |x: &LatencyHistogram, y: &LatencyHistogram| { let mut x = x.clone(); x.merge(y); x };
        prop_assert_eq!(merged(&merged(&a, &b), &c), merged(&a, &merged(&b, &c)));
    }

    #[test]
    fn bucket_ends_count_exactly(samples in samples(200), limit in nanos()) {
        let histogram = of(&samples);
        let at_most = |limit: u64| samples.iter().filter(|s| s.0 <= limit).count() as u64;
        let mut sum = 0;
        for (end, count) in histogram.buckets() {
            prop_assert!(count > 0);
            sum += count;
            prop_assert_eq!(sum, at_most(end.0));
            prop_assert_eq!(histogram.cumulative_le(end), sum);
        }
        prop_assert_eq!(sum, histogram.count());
        let counted = histogram.cumulative_le(NanoDuration(limit));
        let bucket_below = (limit as f64 / (1.0 + RELATIVE_ERROR_MAX) - 1000.0).max(0.0) as u64;
        prop_assert!(counted <= at_most(limit) && counted >= at_most(bucket_below));
    }

    #[test]
    fn the_encoding_goes_there_and_back(samples in samples(300), after in any::<[u8; 3]>()) {
        let histogram = of(&samples);
        let mut bytes = encoded(&histogram);
        bytes.extend(after);
        let mut rest = &bytes[..];
        prop_assert_eq!(LatencyHistogram::decode(&mut rest).unwrap(), histogram);
        prop_assert_eq!(rest, after);
    }

    #[test]
    fn no_bytes_panic_and_what_is_read_can_be_written(
        bytes in prop::collection::vec(any::<u8>(), 0..60),
        samples in samples(6),
        at in any::<prop::sample::Index>(),
        flip in 1..=255u8,
    ) {
        let mut valid = encoded(&of(&samples));
        let cut = at.index(valid.len());
        prop_assert!(LatencyHistogram::decode(&mut &valid[..cut]).is_err());
        valid[cut] ^= flip;
        let behind_format: Vec<u8> = std::iter::once(1).chain(bytes.iter().copied()).collect();
        for bytes in [&bytes, &valid, &behind_format] {
            let mut rest = &bytes[..];
            match LatencyHistogram::decode(&mut rest) {
                Ok(histogram) => {
                    let again = encoded(&histogram);
                    prop_assert_eq!(LatencyHistogram::decode(&mut &again[..]).unwrap(), histogram);
                }
                Err(_) => prop_assert_eq!(rest, &bytes[..]),
            }
        }
    }
}

#[test]
fn an_empty_histogram_has_no_answers() {
    let empty = LatencyHistogram::new();
    assert_eq!((empty.min(), empty.max(), empty.mean(), empty.quantile(0.5)), (None, None, None, None));
    assert_eq!(empty.cumulative_le(NanoDuration(5)), 0);
    assert_eq!(encoded(&empty), [1, 0]);
    assert!(empty.low_confidence(0.0));
    let mut one = of(&[(7_000, false)]);
    one.merge(&empty);
    assert_eq!(one, of(&[(7_000, false)]));
}

#[test]
fn one_duration_is_its_own_quantile_and_takes_little_room() {
    let one = of(&[(123_456_789, true)]);
    for q in [0.0, 0.5, 1.0, -3.0, 7.0] {
        assert_eq!(one.quantile(q), Some(NanoDuration(123_456_789)));
    }
    assert_eq!(one.quantile(f64::NAN), None);
    assert!(one.memory_bytes() < 200, "{} bytes", one.memory_bytes());
    assert!(encoded(&one).len() < 32);
}

#[test]
fn many_durations_take_a_bounded_room() {
    let many: Vec<_> = (0..100_000).map(|n| (n * n * 37, false)).collect();
    let histogram = of(&many);
    assert!(histogram.memory_bytes() < 16 * 1024, "{} bytes", histogram.memory_bytes());
}

#[test]
fn ranks_are_not_off_by_one_for_want_of_decimals() {
    let hundred = of(&(1..=100).map(|n| (n * 1000, false)).collect::<Vec<_>>());
    for percent in 1..=100 {
        let value = hundred.quantile(f64::from(percent) / 100.0);
        assert_eq!(value, Some(NanoDuration(u64::from(percent as u32) * 1000)));
    }
}

#[test]
fn confidence_needs_one_duration_beyond_the_quantile() {
    let of_count = |n| of(&vec![(1, false); n]);
    assert!(of_count(999).low_confidence(0.999));
    assert!(!of_count(1000).low_confidence(0.999));
    assert!(of_count(99).low_confidence(0.99));
    assert!(!of_count(100).low_confidence(0.99));
    assert!(!of_count(2).low_confidence(0.5));
    assert!(of_count(5000).low_confidence(1.0));
    assert!(of_count(5000).low_confidence(f64::NAN));
}

#[test]
fn beyond_a_day_durations_are_counted_and_the_maximum_is_exact() {
    let long = of(&[(1_000, false), (DAY + 1, false), (u64::MAX, false)]);
    assert_eq!(long.overflow(), 2);
    assert_eq!(long.max(), Some(NanoDuration(u64::MAX)));
    assert_eq!(long.sum_nanos(), 1_000 + u128::from(DAY) + 1 + u128::from(u64::MAX));
    assert_eq!(long.quantile(0.3), Some(NanoDuration(1_000)));
    assert_eq!(long.quantile(0.6), Some(NanoDuration(u64::MAX)));
    assert_eq!(LatencyHistogram::decode(&mut &encoded(&long)[..]).unwrap(), long);
}

#[test]
fn counts_beyond_64_bits_saturate_and_still_decode() {
    let mut much = of(&[(1_000, true), (9_000, false)]);
    for _ in 0..70 {
        let same = much.clone();
        much.merge(&same);
    }
    assert_eq!((much.count(), much.errors()), (u64::MAX, u64::MAX));
    assert_eq!(LatencyHistogram::decode(&mut &encoded(&much)[..]).unwrap(), much);
    assert!(much.quantile(0.99).is_some());
}
