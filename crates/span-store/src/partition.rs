//! Partitions: sealed segments by time of arrival, one column family a slice of time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rocksdb::{AsColumnFamilyRef, DBWithThreadMode, ErrorKind, MultiThreaded};
use segment::{Blocks, Dictionary, Key, ReadError};
use trace_model::UnixNanos;

use crate::database::Database;
use crate::error::StoreError;

pub(crate) type Db = DBWithThreadMode<MultiThreaded>;

/// A sealed segment's number: rises by one a segment, never used twice. A segment that takes the place of others
/// has the number of the last of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SegmentId(pub u32);

/// Which partition a segment lies in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartitionId {
    /// The first instant of arrival.
    pub begin: UnixNanos,
    /// The first instant after it.
    pub end: UnixNanos,
    /// Rises whenever its segments are merged, and above one of the same time that is being dropped.
    pub generation: u32,
}

/// A slice of time and its column family.
#[derive(Debug)]
pub(crate) struct Partition {
    pub(crate) id: PartitionId,
    pub(crate) family: String,
    /// Bytes of its files.
    pub(crate) bytes: AtomicU64,
    pub(crate) dropped: AtomicBool,
}

impl Partition {
    pub(crate) fn new(id: PartitionId) -> Self {
        let family = format!("p-{:016x}-{:016x}-{:04x}", id.begin.0, id.end.0, id.generation);
        Self::of_family(id, family)
    }

    pub(crate) fn of_family(id: PartitionId, family: String) -> Self {
        Self { id, family, bytes: AtomicU64::new(0), dropped: AtomicBool::new(false) }
    }

    pub(crate) fn contains(&self, at: UnixNanos) -> bool {
        self.id.begin <= at && at < self.id.end
    }
}

/// What a partition's family says of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FamilyName {
    Whole(PartitionId),
    /// The first form: the number of a slice, of a width that the name does not tell.
    Slice(u64),
}

impl FamilyName {
    /// `None` for a family that is not a partition's.
    pub(crate) fn parse(family: &str) -> Option<Self> {
        let hex = |text: &str| u64::from_str_radix(text, 16).ok();
        let mut parts = family.strip_prefix("p-")?.split('-');
        let first = hex(parts.next()?)?;
        let Some(end) = parts.next() else { return Some(Self::Slice(first)) };
        let generation = u32::try_from(hex(parts.next()?)?).ok()?;
        let id = PartitionId { begin: UnixNanos(first), end: UnixNanos(hex(end)?), generation };
        parts.next().is_none().then_some(Self::Whole(id))
    }
}

/// A segment's number, then the key within it. Segments so have disjoint key ranges.
pub(crate) fn full_key(id: SegmentId, key: Key) -> Vec<u8> {
    let mut bytes = id.0.to_be_bytes().to_vec();
    bytes.extend_from_slice(&key.to_bytes());
    bytes
}

/// Reads the values of one sealed segment. While a handle lives, what it reads stays, even if retention or a merge
/// has taken the segment out of the store.
#[derive(Clone)]
pub struct SegmentHandle {
    pub(crate) db: Arc<Database>,
    pub(crate) partition: Arc<Partition>,
    pub(crate) id: SegmentId,
    pub(crate) bytes: u64,
    /// The dictionary that its meta names.
    pub(crate) dictionary: Option<Arc<Dictionary>>,
}

impl std::fmt::Debug for SegmentHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SegmentHandle({} in {})", self.id.0, self.partition.family)
    }
}

impl SegmentHandle {
    /// The segment's number.
    pub fn id(&self) -> SegmentId {
        self.id
    }

    /// The partition that it lies in.
    pub fn partition(&self) -> PartitionId {
        self.partition.id
    }

    /// The name of its partition's column family.
    pub fn partition_name(&self) -> &str {
        &self.partition.family
    }

    /// Bytes of its file.
    pub fn disk_bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether its partition has been dropped since.
    pub fn is_dropped(&self) -> bool {
        self.partition.dropped.load(Ordering::Acquire)
    }
}

impl Blocks for SegmentHandle {
    fn get(&self, key: Key) -> Result<Option<Vec<u8>>, ReadError> {
        let db = self.db.get().map_err(closed)?;
        let family = db
            .cf_handle(&self.partition.family)
            .ok_or_else(|| ReadError::Store(format!("partition {} was dropped", self.partition.family)))?;
        read(&db, &family, key, &full_key(self.id, key))
    }

    fn dictionary(&self) -> Option<&Dictionary> {
        self.dictionary.as_deref()
    }
}

/// Why a database that is not open cannot be read.
pub(crate) fn closed(error: StoreError) -> ReadError {
    match error {
        StoreError::Closed => ReadError::Closed,
        other => ReadError::Store(other.to_string()),
    }
}

pub(crate) fn read(
    db: &Db,
    family: &impl AsColumnFamilyRef,
    key: Key,
    full_key: &[u8],
) -> Result<Option<Vec<u8>>, ReadError> {
    let failed = |error: rocksdb::Error| match error.kind() {
        ErrorKind::Corruption => ReadError::Corrupt { key, reason: error.into_string() },
        _ => ReadError::Store(error.into_string()),
    };
    let value = db.get_pinned_cf(family, full_key).map_err(failed)?;
    Ok(value.map(|pinned| pinned.to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_family_says_which_partition_it_is() {
        let id = PartitionId { begin: UnixNanos(1 << 60), end: UnixNanos(1 << 61), generation: 3 };
        let family = Partition::new(id).family;
        assert_eq!(FamilyName::parse(&family), Some(FamilyName::Whole(id)));
        assert_eq!(FamilyName::parse("p-00000000000000ff"), Some(FamilyName::Slice(255)));
        for other in ["default", "log-0000000000000001", "p-", "p-1-2", "p-1-2-x", "p-1-2-3-4", "rollup"] {
            assert_eq!(FamilyName::parse(other), None, "{other}");
        }
    }
}
