//! Retention: which partitions go, by age and by bytes, and letting go of what nobody reads any more.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use rocksdb::WriteOptions;
use trace_model::UnixNanos;

use crate::error::StoreError;
use crate::partition::{Db, Partition, PartitionId};
use crate::store::SpanStore;

/// In the catalog: the last sealed frame when a partition was last retired.
const SEALED_KEY: &[u8] = b"\x04sealed";

/// The last frame that is known to have been sealed from partitions that are gone.
pub(crate) fn noted_sealed(db: &Db) -> Result<u64, StoreError> {
    let noted = db.get(SEALED_KEY)?;
    Ok(noted.and_then(|bytes| bytes.first_chunk::<8>().copied()).map_or(0, u64::from_be_bytes))
}

/// A partition that retention takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expired {
    /// Which.
    pub partition: PartitionId,
    /// Bytes of its files.
    pub bytes: u64,
}

impl SpanStore {
    /// The partitions that retention takes at `now`, oldest first. The newest always stays.
    pub fn expired(&self, now: UnixNanos) -> Vec<Expired> {
        let partitions = self.partitions.read();
        let bytes_of = |partition: &Partition| partition.bytes.load(Ordering::Acquire);
        let mut stored: u64 = partitions.iter().map(|partition| bytes_of(partition)).sum();
        let mut gone = Vec::new();
        for partition in partitions.iter().take(partitions.len().saturating_sub(1)) {
            let too_old = partition.id.end.saturating_add(self.options.retention) <= now;
            if !too_old && stored <= self.options.bytes_max {
                break;
            }
            let bytes = bytes_of(partition);
            stored = stored.saturating_sub(bytes);
            gone.push(Expired { partition: partition.id, bytes });
        }
        gone
    }

    /// Takes a partition out of the store. Its files go when the last handle to a segment in it has gone: at once,
    /// or when the house is next kept.
    ///
    /// # Errors
    /// If RocksDB fails.
    pub fn retire_partition(&self, id: PartitionId) -> Result<(), StoreError> {
        // First: what is taken out is dropped when the house is next kept, whatever became of this.
        self.note_sealed()?;
        self.take_out(id);
        self.drop_retired()
    }

    fn take_out(&self, id: PartitionId) {
        let mut partitions = self.partitions.write();
        if let Some(at) = partitions.iter().position(|partition| partition.id == id) {
            self.retired.lock().push(partitions.remove(at));
        }
    }

    /// Which frames are sealed is known from segments, and those that knew may go: without this note, a start would
    /// take frames that are still in the log for spans that were never sealed.
    fn note_sealed(&self) -> Result<(), StoreError> {
        let mut synced = WriteOptions::default();
        synced.set_sync(true);
        Ok(self.db.get()?.put_opt(SEALED_KEY, self.sealed_seq().to_be_bytes(), &synced)?)
    }

    /// Drops what was taken out of the store and is not read any more.
    ///
    /// # Errors
    /// If RocksDB fails; it is tried again when the house is next kept.
    pub fn drop_retired(&self) -> Result<(), StoreError> {
        self.drop_retired_rollups()?;
        let mut retired = self.retired.lock();
        let mut at = 0;
        while let Some(partition) = retired.get(at) {
            // A handle is made of another handle or of the store's list: one that is alone stays alone.
            if Arc::strong_count(partition) > 1 {
                at += 1;
                continue;
            }
            if !self.db.drop_family(&partition.family)? {
                at += 1;
                continue;
            }
            partition.dropped.store(true, Ordering::Release);
            retired.swap_remove(at);
        }
        Ok(())
    }
}
