//! Rollups: the histograms and critical paths of spans that are not kept any more, by minute, hour or day.
//!
//! A rollup is a sorted list of keys and values, as a segment is, and reads by itself: names are numbered within it.
//!
//! | first byte | then | value |
//! | --- | --- | --- |
//! | `50` | first bucket u32, part u32 | latency histograms of a service in the buckets of a block |
//! | `51` | first bucket u32, part u32 | what the critical paths of traces that began in these buckets are made of: of all roots together, without operations; or by root, of those that belong to one service |
//! | `ff` | | [`RollupMeta`], which commits the rollup |
//!
//! A block ends when it has 512 KiB, but only between two buckets, and otherwise after an hour of minutes, a day of hours, or
//! 32 days. Up to format 2 it was in one part. In format 1 a block always had all of these buckets, and its
//! number in the place of its first bucket.

mod blocks;
mod build;
mod paths;
mod read;
mod summing;

pub use blocks::{Part, RollupBlock};
pub use build::{HistogramRows, PathRows, RollupInput, RollupSource, build_rollup};
pub use longpole_proto::rollup::RollupMeta;
pub use paths::{ItemKey, ItemSums, PathExemplar, PathGrouping, PathSums};
pub use read::{RolledHistogram, RolledPaths, decode_meta, rolled_histograms, rolled_paths};
pub use summing::PathSumming;

use trace_model::UnixNanos;

/// The format of rollups written now. Readers take this one and those before it.
pub const ROLLUP_FORMAT: u32 = 3;

/// How wide the buckets of a rollup are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u32)]
pub enum Tier {
    /// A minute.
    Minute = 1,
    /// An hour.
    Hour = 2,
    /// A day of UTC.
    Day = 3,
}

impl Tier {
    /// All of them, the finest first.
    pub const ALL: [Self; 3] = [Self::Minute, Self::Hour, Self::Day];

    pub(crate) fn from_stored(number: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|tier| *tier as u32 == number)
    }

    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Minute => "minute",
            Self::Hour => "hour",
            Self::Day => "day",
        }
    }

    /// The width of a bucket, nanoseconds.
    pub const fn width(self) -> u64 {
        match self {
            Self::Minute => UnixNanos::PER_MINUTE,
            Self::Hour => 60 * UnixNanos::PER_MINUTE,
            Self::Day => 24 * 60 * UnixNanos::PER_MINUTE,
        }
    }

    /// The next coarser one.
    pub const fn coarser(self) -> Option<Self> {
        match self {
            Self::Minute => Some(Self::Hour),
            Self::Hour => Some(Self::Day),
            Self::Day => None,
        }
    }

    /// The bucket of an instant.
    pub const fn bucket(self, at: UnixNanos) -> u32 {
        // The narrowest is a minute, and u64::MAX nanoseconds are 307,445,734 of them.
        (at.0 / self.width()) as u32
    }

    /// The first instant of a bucket.
    pub const fn start(self, bucket: u32) -> UnixNanos {
        UnixNanos((bucket as u64).saturating_mul(self.width()))
    }

    /// Buckets of a block at most.
    pub(crate) const fn per_block(self) -> u32 {
        match self {
            Self::Minute => 60,
            Self::Hour => 24,
            Self::Day => 32,
        }
    }
}
