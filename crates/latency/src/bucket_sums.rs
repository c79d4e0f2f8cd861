//! Sums by bucket of duration: how much of something belongs to the spans of each duration.

use trace_model::NanoDuration;

use crate::buckets::{BUCKETS, index_of};
use crate::codec::{DecodeError, put, take, take_byte};

const SUMS_FORMAT: u8 = 1;

/// A sum for each bucket of duration, in the buckets of [`LatencyHistogram`](crate::LatencyHistogram), so that a part
/// of it can be told by any quantile of such a histogram without a remainder. Merging is exact, in any order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BucketSums {
    /// Rising. Apart from the sums, beside which each would take sixteen bytes.
    buckets: Vec<u16>,
    /// Of each bucket; none is zero.
    sums: Vec<u128>,
}

impl BucketSums {
    /// The bytes of memory it takes.
    pub fn memory_bytes(&self) -> usize {
        size_of::<Self>()
            + self.buckets.capacity() * size_of::<u16>()
            + self.sums.capacity() * size_of::<u128>()
    }

    /// Adds `value` to the bucket of a duration.
    pub fn add(&mut self, duration: NanoDuration, value: u64) {
        let bucket = index_of(duration);
        let mut near = self.buckets.partition_point(|own| *own < bucket);
        self.add_near(bucket, u128::from(value), &mut near);
    }

    /// Adds `value` to a bucket, whose number is that of [`bucket_of`](crate::bucket_of); one that does not exist counts as the
    /// last. `near` is where the bucket was that was added to before, and is where this one is afterwards: who adds by
    /// rising or falling duration has hardly anything to search.
    pub fn add_near(&mut self, bucket: u16, value: u128, near: &mut usize) {
        if value == 0 {
            return;
        }
        let bucket = bucket.min(BUCKETS - 1);
        let mut at = (*near).min(self.buckets.len());
        while at > 0 && self.buckets[at - 1] >= bucket {
            at -= 1;
        }
        while at < self.buckets.len() && self.buckets[at] < bucket {
            at += 1;
        }
        *near = at;
        if self.buckets.get(at) == Some(&bucket) {
            self.sums[at] = self.sums[at].saturating_add(value);
        } else {
            self.buckets.insert(at, bucket);
            self.sums.insert(at, value);
        }
    }

    /// Buckets, rising, with their sums.
    fn iter(&self) -> impl Iterator<Item = (u16, u128)> {
        self.buckets.iter().copied().zip(self.sums.iter().copied())
    }

    /// Adds all of another.
    pub fn merge(&mut self, other: &Self) {
        let mut at = 0;
        for (bucket, value) in other.iter() {
            // Both rise, so the next is near.
            at += self.buckets[at..].iter().take_while(|own| **own < bucket).count();
            if self.buckets.get(at) == Some(&bucket) {
                self.sums[at] = self.sums[at].saturating_add(value);
            } else {
                self.buckets.insert(at, bucket);
                self.sums.insert(at, value);
            }
        }
    }

    /// The sum over all durations.
    pub fn total(&self) -> u128 {
        self.sums.iter().fold(0, |sum, value| sum.saturating_add(*value))
    }

    /// The sum over the durations up to the end of the bucket that `limit` lies in: exactly those that are at most
    /// `limit`, if that is a quantile of a histogram of the same durations.
    pub fn through(&self, limit: NanoDuration) -> u128 {
        let last = index_of(limit);
        let upto = self.iter().take_while(|(bucket, _)| *bucket <= last);
        upto.fold(0, |sum, (_, value)| sum.saturating_add(value))
    }

    /// Appends the encoding: a format byte, a count, and for each bucket the step from the one before and the sum,
    /// all varints.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(SUMS_FORMAT);
        put(out, self.sums.len() as u64);
        let mut last = 0;
        for (bucket, value) in self.iter() {
            put(out, bucket - last);
            put(out, value);
            last = bucket;
        }
    }

    /// Takes encoded sums off the front of `bytes`.
    ///
    /// # Errors
    /// If the bytes are not encoded sums; `bytes` is left as it was.
    pub fn decode(bytes: &mut &[u8]) -> Result<Self, DecodeError> {
        let mut rest = *bytes;
        match take_byte(&mut rest)? {
            SUMS_FORMAT => {}
            other => return Err(DecodeError::Format(other)),
        }
        let mut sums = Self::default();
        let mut bucket = 0_u16;
        for nth in 0..take::<u16>(&mut rest)? {
            let (step, value) = (take::<u16>(&mut rest)?, take::<u128>(&mut rest)?);
            bucket = bucket.checked_add(step).filter(|b| *b < BUCKETS).ok_or(DecodeError::TooLarge)?;
            if value == 0 || (nth > 0 && step == 0) {
                return Err(DecodeError::Inconsistent("an empty or repeated bucket"));
            }
            sums.buckets.push(bucket);
            sums.sums.push(value);
        }
        *bytes = rest;
        Ok(sums)
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::LatencyHistogram;

    proptest! {
        #[test]
        fn a_quantile_cuts_the_sums_exactly(drawn in vec((0..40_000_000_u64, 0..1_000_u64), 1..60), q in 0.0..=1.0) {
            let (mut histogram, mut sums) = (LatencyHistogram::new(), BucketSums::default());
            for (duration, value) in &drawn {
                histogram.record(NanoDuration(*duration), false);
                sums.add(NanoDuration(*duration), *value);
            }
            let limit = histogram.quantile(q).unwrap();
            let wanted: u64 = drawn.iter().filter(|(at, _)| *at <= limit.0).map(|(_, value)| value).sum();
            prop_assert_eq!(sums.through(limit), u128::from(wanted));
            prop_assert_eq!(sums.total(), u128::from(drawn.iter().map(|(_, value)| value).sum::<u64>()));
        }

        #[test]
        fn wherever_one_looks_first_the_sums_are_the_same(drawn in vec((0..90_u16, 0..9_u64), 0..60), start in 0..99_usize) {
            let (mut sums, mut near, mut wanted) = (BucketSums::default(), start, std::collections::BTreeMap::new());
            for (bucket, value) in &drawn {
                sums.add_near(*bucket, u128::from(*value), &mut near);
                *wanted.entry(*bucket).or_insert(0) += u128::from(*value);
            }
            wanted.retain(|_, sum| *sum > 0);
            prop_assert_eq!(sums.iter().collect::<Vec<_>>(), wanted.into_iter().collect::<Vec<_>>());
        }

        #[test]
        fn merging_and_storing_change_nothing(drawn in vec((any::<u64>(), any::<u64>()), 0..40), cut in 0..40_usize) {
            let sums = |of: &[(u64, u64)]| {
                let mut sums = BucketSums::default();
                of.iter().for_each(|(at, value)| sums.add(NanoDuration(*at), *value));
                sums
            };
            let (left, right) = drawn.split_at(cut.min(drawn.len()));
            let mut merged = sums(right);
            merged.merge(&sums(left));
            prop_assert_eq!(&merged, &sums(&drawn));
            let mut bytes = Vec::new();
            merged.encode(&mut bytes);
            prop_assert_eq!(BucketSums::decode(&mut &bytes[..]).unwrap(), merged);
            for end in 0..bytes.len() {
                prop_assert!(BucketSums::decode(&mut &bytes[..end]).is_err());
            }
        }
    }
}
