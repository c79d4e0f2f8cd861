//! The histogram: counts per bucket, and beside them what can be kept exactly.

use trace_model::NanoDuration;

use crate::buckets::{LONGEST, index_of, upper_bound};
use crate::counts::Counts;

/// The durations of many spans: a count per bucket of at most 1/128 width, and the exact number, sum,
/// least and greatest.
///
/// Merging histograms gives exactly the histogram of all their durations, in any order and grouping.
/// Numbers of spans saturate at `u64::MAX`. An empty histogram and one of few durations take about a
/// hundred bytes, one of many at most 16 KiB (32 KiB once a bucket counts more than 2^32).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LatencyHistogram {
    pub(crate) counts: Counts,
    pub(crate) count: u64,
    pub(crate) errors: u64,
    pub(crate) zeros: u64,
    pub(crate) overflow: u64,
    pub(crate) sum: u128,
    /// Both zero while there is no duration.
    pub(crate) min: NanoDuration,
    pub(crate) max: NanoDuration,
}

impl LatencyHistogram {
    /// A histogram of nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds one duration; `error` if its span failed.
    pub fn record(&mut self, duration: NanoDuration, error: bool) {
        self.counts.add(index_of(duration), 1);
        self.record_beside(duration, error);
    }

    /// Adds one duration to all but the counts per bucket, for who keeps these elsewhere.
    pub(crate) fn record_beside(&mut self, duration: NanoDuration, error: bool) {
        self.widen(duration, duration);
        self.count = self.count.saturating_add(1);
        self.errors = self.errors.saturating_add(u64::from(error));
        self.zeros = self.zeros.saturating_add(u64::from(duration.0 == 0));
        self.overflow = self.overflow.saturating_add(u64::from(duration > LONGEST));
        self.sum = self.sum.saturating_add(u128::from(duration.0));
    }

    /// Adds all durations of another histogram.
    pub fn merge(&mut self, other: &Self) {
        if other.count == 0 {
            return;
        }
        self.counts.merge(&other.counts);
        self.widen(other.min, other.max);
        self.count = self.count.saturating_add(other.count);
        self.errors = self.errors.saturating_add(other.errors);
        self.zeros = self.zeros.saturating_add(other.zeros);
        self.overflow = self.overflow.saturating_add(other.overflow);
        self.sum = self.sum.saturating_add(other.sum);
    }

    /// To be called before the count grows.
    fn widen(&mut self, min: NanoDuration, max: NanoDuration) {
        self.min = if self.count == 0 { min } else { self.min.min(min) };
        self.max = self.max.max(max);
    }

    /// How many durations there are.
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// How many of them belong to spans that failed.
    pub const fn errors(&self) -> u64 {
        self.errors
    }

    /// How many of them are exactly zero. They are in the bucket that ends at 1 µs.
    pub const fn zeros(&self) -> u64 {
        self.zeros
    }

    /// How many of them are longer than 24 hours. They are in the last bucket.
    pub const fn overflow(&self) -> u64 {
        self.overflow
    }

    /// The exact sum of all durations in nanoseconds.
    pub const fn sum_nanos(&self) -> u128 {
        self.sum
    }

    /// The exact least duration.
    pub fn min(&self) -> Option<NanoDuration> {
        (self.count > 0).then_some(self.min)
    }

    /// The exact greatest duration.
    pub fn max(&self) -> Option<NanoDuration> {
        (self.count > 0).then_some(self.max)
    }

    /// The mean, rounded down to whole nanoseconds.
    pub fn mean(&self) -> Option<NanoDuration> {
        let mean = self.sum.checked_div(u128::from(self.count))?;
        Some(NanoDuration(u64::try_from(mean).unwrap_or(u64::MAX)))
    }

    /// The duration that a fraction `q` (0 to 1) of all durations does not exceed: that of the nearest
    /// rank, `ceil(q n)` and at least 1, given as the upper end of its bucket but never more than the
    /// exact maximum. With `x` the exact duration of that rank the result is at least `x` and at most
    /// `x (1 + 1/128) + 1 µs`. If that rank lies beyond 24 hours the result is the maximum.
    ///
    /// `q` outside 0 to 1 counts as the nearer of the two. `None` if there are no durations, or `q` is
    /// not a number.
    pub fn quantile(&self, q: f64) -> Option<NanoDuration> {
        if self.count == 0 || q.is_nan() {
            return None;
        }
        let rank = nearest_rank(q, self.count);
        if rank > self.count - self.overflow {
            return Some(self.max);
        }
        let mut seen = 0u64;
        let bucket = self.counts.iter().find(|(_, count)| {
            seen = seen.saturating_add(*count);
            seen >= rank
        });
        Some(bucket.map_or(self.max, |(bucket, _)| upper_bound(bucket).min(self.max)))
    }

    /// Whether there are too few durations for the quantile to mean much: fewer than `1 / (1 - q)`, so
    /// that it is just the maximum. The 99.9th percentile needs 1,000 durations; `q = 1` never has enough, nor has NaN.
    pub fn low_confidence(&self, q: f64) -> bool {
        // Room for 1 - q not being exact.
        let beyond = self.count as f64 * (1.0 - q);
        q.is_nan() || beyond < 1.0 - 1e-9
    }

    /// The buckets that hold anything, ascending: the longest duration that falls into the bucket, and
    /// how many do. The last bucket also holds everything beyond 24 hours.
    pub fn buckets(&self) -> impl Iterator<Item = (NanoDuration, u64)> + '_ {
        self.counts.iter().map(|(bucket, count)| (upper_bound(bucket), count))
    }

    /// The numbers of the buckets that hold anything, rising, and how many durations fall into each. The first is
    /// that of the least duration and the last that of the greatest, see [`bucket_of`](crate::bucket_of).
    pub fn bucket_counts(&self) -> impl Iterator<Item = (u16, u64)> + '_ {
        self.counts.iter()
    }

    /// How many durations are at most `limit`, as far as the buckets tell: those of all buckets that end
    /// at or below it. Exact if `limit` is the end of a bucket, as every whole number of microseconds up
    /// to 255 is, or if it is zero or at least the maximum; otherwise too small by those of one bucket.
    pub fn cumulative_le(&self, limit: NanoDuration) -> u64 {
        if limit >= self.max {
            return self.count;
        }
        let below = self.buckets().take_while(|(end, _)| *end <= limit);
        let sum = below.fold(0u64, |sum, (_, count)| sum.saturating_add(count));
        sum.max(self.zeros)
    }

    /// The bytes of memory it takes.
    pub fn memory_bytes(&self) -> usize {
        size_of::<Self>() + self.counts.heap_bytes()
    }
}

/// `ceil(q n)`, within 1 to `n`.
fn nearest_rank(q: f64, n: u64) -> u64 {
    // 0.07 * 100 is a little more than 7; the factor takes such errors away before rounding up.
    let rank = (q.clamp(0.0, 1.0) * n as f64 * (1.0 - 1e-12)).ceil();
    // Float to integer saturates.
    (rank as u64).clamp(1, n)
}
