//! Latency histograms and exemplars: what is kept of the durations of many spans.
//!
//! - [`LatencyHistogram`] keeps counts in the buckets of an HDR histogram with two significant digits,
//!   so quantiles are off by at most [`RELATIVE_ERROR_MAX`], and merging is exact.
//! - [`ExemplarSet`] keeps a few of the spans themselves, chosen so that merging does not depend on the
//!   order.
//! - [`LongestFirst`] makes both at less cost, from durations that are sorted.
//! - [`BucketSums`] keeps sums of something else by the same buckets.
//!
//! All are small while they hold little, and have a compact encoding for storage.

mod bucket_sums;
mod buckets;
mod codec;
mod counts;
mod exemplar;
mod histogram;
mod longest_first;

pub use bucket_sums::BucketSums;
pub use buckets::index_of as bucket_of;
pub use codec::{DecodeError, HistogramParts};
pub use exemplar::{Exemplar, ExemplarRoles, ExemplarSet};
pub use histogram::LatencyHistogram;
pub use longest_first::LongestFirst;

/// The most by which a quantile may exceed the exact one, as a fraction of it: the width of a bucket.
/// To this comes up to 1 microsecond for durations being counted in whole microseconds.
pub const RELATIVE_ERROR_MAX: f64 = 1.0 / 128.0;
