//! A histogram and its exemplars from durations that come sorted: no look-up of buckets, no array of counts, and
//! an exemplar is only made where it may be kept.

use trace_model::NanoDuration;

use crate::buckets::index_of;
use crate::codec::HistogramParts;
use crate::exemplar::{Exemplar, ExemplarSet, band_of};
use crate::histogram::LatencyHistogram;

/// The durations of many spans, told longest first. It encodes to the bytes that a [`LatencyHistogram`] and an
/// [`ExemplarSet`] of the same spans encode to.
#[derive(Debug, Clone, Default)]
pub struct LongestFirst {
    /// All but the counts per bucket.
    beside: LatencyHistogram,
    /// Falling; no count is zero.
    buckets: Vec<(u16, u64)>,
    exemplars: ExemplarSet,
    /// The band of the last duration, and the least hash in it.
    band: u32,
    least: u64,
    /// The longest duration, and the longest of a span that failed.
    longest: [Option<NanoDuration>; 2],
}

impl LongestFirst {
    /// Adds a span that is not longer than the one before; `error` if it failed.
    ///
    /// `hash` is its [`Exemplar::hash_of`]; `exemplar` makes the exemplar that it would be.
    #[inline]
    pub fn record(
        &mut self,
        duration: NanoDuration,
        error: bool,
        hash: u64,
        exemplar: impl Fn() -> Exemplar,
    ) {
        self.beside.record_beside(duration, error);
        let bucket = index_of(duration);
        match self.buckets.last_mut() {
            Some((last, count)) if *last == bucket => *count += 1,
            _ => self.buckets.push((bucket, 1)),
        }
        // Of equally long ones the exemplars' own order decides.
        let is_longest = |longest: Option<NanoDuration>| longest.is_none_or(|longest| longest == duration);
        let failed = error && is_longest(self.longest[1]);
        if failed || is_longest(self.longest[0]) {
            self.longest[0].get_or_insert(duration);
            if failed {
                self.longest[1].get_or_insert(duration);
            }
            self.exemplars.observe_slow(exemplar(), error);
        }
        let band = band_of(duration);
        if band != self.band {
            (self.band, self.least) = (band, u64::MAX);
        }
        if hash <= self.least || self.beside.count() == 1 {
            self.least = hash;
            self.exemplars.observe_band(exemplar(), hash);
        }
    }

    /// How many durations there are.
    pub fn count(&self) -> u64 {
        self.beside.count()
    }

    /// The longest.
    pub fn longest(&self) -> Option<NanoDuration> {
        self.beside.max()
    }

    /// The numbers of the histogram; `None` if there are no durations.
    pub fn parts(&self) -> Option<HistogramParts> {
        self.beside.parts()
    }

    /// Its buckets by number, rising, with their counts.
    pub fn bucket_counts(&self) -> impl ExactSizeIterator<Item = (u16, u64)> + '_ {
        self.buckets.iter().rev().copied()
    }

    /// The exemplars.
    pub fn exemplars(&self) -> &ExemplarSet {
        &self.exemplars
    }

    /// Appends the histogram's encoding.
    pub fn encode_histogram(&self, out: &mut Vec<u8>) {
        self.beside.encode_with(self.buckets.len(), self.bucket_counts(), out);
    }

    /// Appends the encoding of the exemplars.
    pub fn encode_exemplars(&self, out: &mut Vec<u8>) {
        self.exemplars.encode(out);
    }
}
