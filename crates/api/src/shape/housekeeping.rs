//! What merging and retention did, the rollups there are, and dictionaries.

use std::collections::BTreeMap;

use query::{Dictionaries, Freed, Merged, RollupTotals, StatusAnswer};
use serde::Serialize;

use super::Text;

/// The widths of rollups, in the order of `StatusAnswer::rollups`.
pub(crate) const TIERS: [&str; 3] = ["minute", "hour", "day"];

#[derive(Debug, Serialize)]
pub(crate) struct HousekeepingShape {
    merged: MergedShape,
    freed: FreedShape,
    postponed: u64,
    rollups: BTreeMap<&'static str, RollupShape>,
    dictionaries: DictionariesShape,
}

#[derive(Debug, Serialize)]
struct DictionariesShape {
    stored: u64,
    trained: u64,
    adopted: u64,
    dropped: u64,
    failed: u64,
}

#[derive(Debug, Serialize)]
struct MergedShape {
    partitions: u64,
    segments_before: u64,
    segments_after: u64,
    failed: u64,
}

#[derive(Debug, Serialize)]
struct FreedShape {
    partitions: u64,
    segments: u64,
    spans: u64,
    bytes: u64,
    last_unix_nano: Option<Text<u64>>,
}

#[derive(Debug, Serialize)]
struct RollupShape {
    rollups: u64,
    bytes: u64,
    spans: u64,
    traces: u64,
    oldest_unix_nano: Option<Text<u64>>,
    freed: FreedRollups,
}

#[derive(Debug, Serialize)]
struct FreedRollups {
    rollups: u64,
    spans: u64,
    bytes: u64,
    last_unix_nano: Option<Text<u64>>,
}

impl From<&StatusAnswer> for HousekeepingShape {
    fn from(status: &StatusAnswer) -> Self {
        let done = &status.housekeeping;
        let rollups = TIERS.into_iter().zip(status.rollups.iter().zip(&done.rollups));
        Self {
            merged: (&done.merged).into(),
            freed: (&done.spans).into(),
            postponed: done.postponed,
            rollups: rollups.map(|(tier, (totals, freed))| (tier, rollup(totals, freed))).collect(),
            dictionaries: (&done.dictionaries).into(),
        }
    }
}

fn rollup(totals: &RollupTotals, freed: &Freed) -> RollupShape {
    RollupShape {
        rollups: totals.rollups,
        bytes: totals.bytes,
        spans: totals.spans,
        traces: totals.traces,
        oldest_unix_nano: totals.oldest.map(|at| Text(at.0)),
        freed: FreedRollups {
            rollups: freed.partitions,
            spans: freed.spans,
            bytes: freed.bytes,
            last_unix_nano: freed.last.map(|at| Text(at.0)),
        },
    }
}

impl From<&Dictionaries> for DictionariesShape {
    fn from(dictionaries: &Dictionaries) -> Self {
        Self {
            stored: dictionaries.stored,
            trained: dictionaries.trained,
            adopted: dictionaries.adopted,
            dropped: dictionaries.dropped,
            failed: dictionaries.failed,
        }
    }
}

impl From<&Merged> for MergedShape {
    fn from(merged: &Merged) -> Self {
        Self {
            partitions: merged.partitions,
            segments_before: merged.segments_before,
            segments_after: merged.segments_after,
            failed: merged.failed,
        }
    }
}

impl From<&Freed> for FreedShape {
    fn from(freed: &Freed) -> Self {
        Self {
            partitions: freed.partitions,
            segments: freed.segments,
            spans: freed.spans,
            bytes: freed.bytes,
            last_unix_nano: freed.last.map(|at| Text(at.0)),
        }
    }
}
