//! What merging and retention have done since the process began, for `status` and `/metrics`.

use trace_model::UnixNanos;

/// What retention freed of one kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Freed {
    /// Partitions, or rollups.
    pub partitions: u64,
    /// Segments in them; none for rollups.
    pub segments: u64,
    /// Spans in them.
    pub spans: u64,
    /// Bytes of their files.
    pub bytes: u64,
    /// When it last happened.
    pub last: Option<UnixNanos>,
}

/// What merging did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Merged {
    /// Partitions whose segments were merged.
    pub partitions: u64,
    /// Segments before, in all of them.
    pub segments_before: u64,
    /// Segments after.
    pub segments_after: u64,
    /// Partitions that could not be merged.
    pub failed: u64,
}

/// The dictionaries of small segments.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Dictionaries {
    /// How many are stored.
    pub stored: u64,
    /// Times that one was trained.
    pub trained: u64,
    /// Of these, that it was better than the one in use and took its place.
    pub adopted: u64,
    /// Dropped because no segment needed them any more.
    pub dropped: u64,
    /// Times that training failed.
    pub failed: u64,
}

/// What merging and retention have done since the process began.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Housekeeping {
    /// Merging of small segments.
    pub merged: Merged,
    /// Spans that retention took.
    pub spans: Freed,
    /// Rollups that became coarser ones or went: by minute, by hour, by day.
    pub rollups: [Freed; 3],
    /// Times that a partition stayed because one of its traces was being changed by a late span.
    pub postponed: u64,
    /// Training of dictionaries.
    pub dictionaries: Dictionaries,
}

/// The rollups of one width that are stored.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RollupTotals {
    /// Files.
    pub rollups: u64,
    /// Bytes of their files.
    pub bytes: u64,
    /// Spans in their histograms.
    pub spans: u64,
    /// Traces in their critical paths.
    pub traces: u64,
    /// When the oldest of what they are made of arrived.
    pub oldest: Option<UnixNanos>,
}
