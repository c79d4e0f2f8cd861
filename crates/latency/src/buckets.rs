//! Which bucket a duration falls into: the arithmetic of HdrHistogram with two significant digits.
//!
//! A duration counts as the smallest whole number of microseconds that is not below it, at least 1 and
//! at most those of 24 hours. Up to 255 µs every microsecond has a bucket; from there on each doubling
//! has 128 buckets, so a bucket is never wider than 1/128 of its lower end:
//!
//! ```text
//! µs     1 2 3 ... 255 | 256-257 258-259 ... 510-511 | 512-515 ... 1020-1023 | 1024-1031 ...
//! width  1             | 2                           | 4                     | 8
//! bucket 1 2 3 ... 255 | 256     257     ... 383     | 384     ... 511       | 512      ...
//! ```
//!
//! Rounding up makes the upper end of a bucket an exact limit: all durations in buckets up to the one
//! that ends at 5 ms are at most 5 ms.

use trace_model::NanoDuration;

/// Buckets per doubling, beyond the first two.
const HALF: u64 = 128;
/// log2 of twice that.
const SUB_BITS: u32 = 8;

const NANOS_PER_MICRO: u64 = 1_000;

/// The longest duration with a bucket of its own: 24 hours.
pub(crate) const LONGEST: NanoDuration = NanoDuration::from_secs(24 * 60 * 60);

/// How many buckets there are. Bucket 0 is never used.
pub(crate) const BUCKETS: u16 = index_of_micros(LONGEST.0 / NANOS_PER_MICRO) + 1;

/// The number of the bucket of a duration. Those beyond 24 hours share the last one.
#[inline]
pub const fn index_of(duration: NanoDuration) -> u16 {
    let nanos = if duration.0 > LONGEST.0 { LONGEST.0 } else { duration.0 };
    let micros = nanos.div_ceil(NANOS_PER_MICRO);
    index_of_micros(if micros == 0 { 1 } else { micros })
}

const fn index_of_micros(micros: u64) -> u16 {
    // How often the number must be halved to have at most 8 bits.
    let halvings = (u64::BITS - (micros | (2 * HALF - 1)).leading_zeros()) - SUB_BITS;
    // At most 29 * 128 + 255, because of the limit of 24 hours.
    (halvings as u64 * HALF + (micros >> halvings)) as u16
}

/// The longest duration of a bucket.
#[inline]
pub(crate) fn upper_bound(index: u16) -> NanoDuration {
    let index = u64::from(index.min(BUCKETS - 1));
    let halvings = (index / HALF).saturating_sub(1);
    let above = (index - halvings * HALF + 1) << halvings;
    NanoDuration((above - 1) * NANOS_PER_MICRO)
}

#[cfg(test)]
mod tests {
    use hdrhistogram::Histogram;
    use proptest::prelude::*;

    use super::*;

    fn oracle() -> Histogram<u64> {
        Histogram::new_with_bounds(1, LONGEST.0 / 1000, 2).unwrap()
    }

    proptest! {
        #[test]
        fn buckets_are_those_of_hdrhistogram(a in 1..86_400_000_000u64, bits in 0..37u32) {
            let oracle = oracle();
            let micros = (a >> bits).max(1);
            let index = index_of(NanoDuration(micros * 1000));
            let highest = oracle.highest_equivalent(micros);
            prop_assert_eq!(upper_bound(index), NanoDuration(highest * 1000));
            prop_assert_eq!(index_of(NanoDuration(oracle.lowest_equivalent(micros) * 1000)), index);
            prop_assert_eq!(index_of(NanoDuration(highest.min(86_400_000_000) * 1000)), index);
            if highest < 86_400_000_000 {
                prop_assert_eq!(index_of(NanoDuration(highest * 1000 + 1)), index + 1);
            }
        }
    }

    #[test]
    fn the_ends_of_the_range() {
        assert_eq!(index_of(NanoDuration(0)), 1);
        assert_eq!(index_of(NanoDuration(1)), 1);
        assert_eq!(index_of(NanoDuration(1000)), 1);
        assert_eq!(index_of(NanoDuration(1001)), 2);
        assert_eq!(index_of(LONGEST), BUCKETS - 1);
        assert_eq!(index_of(NanoDuration(u64::MAX)), BUCKETS - 1);
        assert!(upper_bound(BUCKETS - 1) >= LONGEST);
        assert_eq!(upper_bound(u16::MAX), upper_bound(BUCKETS - 1));
        assert_eq!(oracle().distinct_values(), 3968);
    }
}
