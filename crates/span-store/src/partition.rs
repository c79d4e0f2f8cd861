//! Partitions: sealed segments by time of arrival, one column family a slice of time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rocksdb::{AsColumnFamilyRef, DBWithThreadMode, MultiThreaded};
use segment::{Blocks, Key, ReadError};

use crate::database::Database;

pub(crate) type Db = DBWithThreadMode<MultiThreaded>;

/// A sealed segment's number: rises by one a segment, never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SegmentId(pub u32);

/// A slice of time and its column family.
#[derive(Debug)]
pub(crate) struct Partition {
    /// Number of the slice since the epoch.
    pub(crate) slice: u64,
    pub(crate) family: String,
    pub(crate) dropped: AtomicBool,
}

impl Partition {
    pub(crate) fn new(slice: u64) -> Self {
        Self { slice, family: family_name(slice), dropped: AtomicBool::new(false) }
    }
}

pub(crate) fn family_name(slice: u64) -> String {
    format!("p-{slice:016x}")
}

pub(crate) fn slice_of(family: &str) -> Option<u64> {
    u64::from_str_radix(family.strip_prefix("p-")?, 16).ok()
}

/// A segment's number, then the key within it. Segments so have disjoint key ranges.
pub(crate) fn full_key(id: SegmentId, key: Key) -> Vec<u8> {
    let mut bytes = id.0.to_be_bytes().to_vec();
    bytes.extend_from_slice(&key.to_bytes());
    bytes
}

/// Reads the values of one sealed segment.
#[derive(Clone)]
pub struct SegmentHandle {
    pub(crate) db: Arc<Database>,
    pub(crate) partition: Arc<Partition>,
    pub(crate) id: SegmentId,
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

    /// The name of its partition's column family.
    pub fn partition_name(&self) -> &str {
        &self.partition.family
    }

    /// Whether retention has dropped the segment since.
    pub fn is_dropped(&self) -> bool {
        self.partition.dropped.load(Ordering::Acquire)
    }
}

impl Blocks for SegmentHandle {
    fn get(&self, key: Key) -> Result<Option<Vec<u8>>, ReadError> {
        let db = self.db.get().map_err(|error| ReadError::Store(error.to_string()))?;
        let family = db
            .cf_handle(&self.partition.family)
            .ok_or_else(|| ReadError::Store(format!("partition {} was dropped", self.partition.family)))?;
        read(&db, &family, &full_key(self.id, key))
    }
}

fn read(db: &Db, family: &impl AsColumnFamilyRef, key: &[u8]) -> Result<Option<Vec<u8>>, ReadError> {
    let value = db.get_pinned_cf(family, key).map_err(|error| ReadError::Store(error.to_string()))?;
    Ok(value.map(|pinned| pinned.to_vec()))
}
