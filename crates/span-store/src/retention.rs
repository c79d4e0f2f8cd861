//! Retention: which partitions go, by age and by bytes, and letting go of what nobody reads any more.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use rocksdb::{WriteBatch, WriteOptions};
use trace_model::UnixNanos;

use crate::error::StoreError;
use crate::open::NEXT_SEGMENT_KEY;
use crate::partition::{Db, Partition, PartitionId};
use crate::store::SpanStore;

/// In the catalog: the last sealed frame when a partition was last retired.
const SEALED_KEY: &[u8] = b"\x04sealed";

/// The last frame that is known to have been sealed from partitions that are gone.
pub(crate) fn noted_sealed(db: &Db) -> Result<u64, StoreError> {
    let noted = db.get(SEALED_KEY)?;
    Ok(noted.and_then(|bytes| bytes.first_chunk::<8>().copied()).map_or(0, u64::from_be_bytes))
}

/// Writes that down in a new database.
pub(crate) fn note_sealed(db: &Db, sealed: u64) -> Result<(), StoreError> {
    if sealed == 0 {
        return Ok(());
    }
    Ok(db.put(SEALED_KEY, sealed.to_be_bytes())?)
}

/// A partition that retention takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expired {
    /// Which.
    pub partition: PartitionId,
    /// Bytes of its files.
    pub bytes: u64,
}

/// A partition that may be taken out of the store. Dropping it leaves the partition where it is.
#[derive(Debug)]
#[must_use = "the partition goes when this is finished"]
pub struct Retirement<'a> {
    store: &'a SpanStore,
    id: PartitionId,
}

impl Retirement<'_> {
    /// Takes the partition out of the store. Its files go when the last handle to a segment in it has gone: at once, or
    /// when the house is next kept.
    pub fn finish(self) {
        self.store.take_out(self.id);
        if let Err(error) = self.store.drop_retired() {
            tracing::warn!(%error, "a partition that was taken out still has its files; dropping them is tried again");
        }
    }
}

impl SpanStore {
    /// The partitions that retention takes at `now`, oldest first. The newest goes by age alone.
    pub fn expired(&self, now: UnixNanos) -> Vec<Expired> {
        let partitions = self.partitions.read();
        let bytes_of = |partition: &Partition| partition.bytes.load(Ordering::Acquire);
        let mut stored: u64 = partitions.iter().map(|partition| bytes_of(partition)).sum();
        let mut gone = Vec::new();
        for (at, partition) in partitions.iter().enumerate() {
            // It ended before that and takes no segments any more, also if it is the newest: nothing has come since.
            let too_old = partition.id.end.saturating_add(self.options.retention) <= now;
            let too_much = stored > self.options.bytes_max && at + 1 < partitions.len();
            if !too_old && !too_much {
                break;
            }
            let bytes = bytes_of(partition);
            stored = stored.saturating_sub(bytes);
            gone.push(Expired { partition: partition.id, bytes });
        }
        gone
    }

    /// Prepares to take a partition out of the store: all of it that can fail. Nothing has gone until
    /// [`finish`](Retirement::finish), and without that nothing does.
    ///
    /// # Errors
    /// If RocksDB fails.
    pub fn begin_retirement(&self, id: PartitionId) -> Result<Retirement<'_>, StoreError> {
        self.health.note(self.note_what_goes())?;
        Ok(Retirement { store: self, id })
    }

    fn take_out(&self, id: PartitionId) {
        // A segment that enters it now, by a clock that went back, is in it or finds it gone.
        let _switch = self.switch.lock();
        let mut partitions = self.partitions.write();
        if let Some(at) = partitions.iter().position(|partition| partition.id == id) {
            self.retired.lock().push(partitions.remove(at));
        }
    }

    /// Which frames are sealed and which numbers segments have had is known from segments, and those that knew may go.
    /// Without this note, a start would take frames that are still in the log for spans that were never sealed, and new
    /// segments for those that a rollup stands for. It is true also of a partition that stays.
    fn note_what_goes(&self) -> Result<(), StoreError> {
        let mut note = WriteBatch::default();
        note.put(SEALED_KEY, self.sealed_seq().to_be_bytes());
        note.put(NEXT_SEGMENT_KEY, self.next_segment().0.to_be_bytes());
        let mut synced = WriteOptions::default();
        synced.set_sync(true);
        Ok(self.db.get()?.write_opt(note, &synced)?)
    }

    /// The generation of a new partition of this slice: above those that were taken out and still have their family, because
    /// what is in that goes with it. A clock that went back, or a slow reader, leads here.
    pub(crate) fn free_generation(&self, id: PartitionId) -> u32 {
        let retired = self.retired.lock();
        let leaving = retired.iter().map(|leaving| leaving.id);
        let of_slice = leaving.filter(|leaving| (leaving.begin, leaving.end) == (id.begin, id.end));
        of_slice.map(|leaving| leaving.generation + 1).max().unwrap_or(0)
    }

    /// Drops what was taken out of the store and is not read any more.
    ///
    /// # Errors
    /// If RocksDB fails; it is tried again when the house is next kept.
    pub fn drop_retired(&self) -> Result<(), StoreError> {
        let rollups = self.drop_retired_rollups();
        self.drop_retired_partitions().and(rollups)
    }

    fn drop_retired_partitions(&self) -> Result<(), StoreError> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::StoreOptions;

    /// Whether a family that has no handle is on the disk is asked of a file that is damaged here.
    #[test]
    fn what_cannot_be_dropped_keeps_nothing_else_from_being_kept() {
        let dir = tempfile::tempdir().unwrap();
        let (store, ..) = SpanStore::open(dir.path(), StoreOptions::default()).unwrap();
        let (begin, end) = (UnixNanos(0), UnixNanos(1));
        let stuck = Partition::new(PartitionId { begin, end, generation: 0 });
        store.retired.lock().push(Arc::new(stuck));
        let rollup = store
            .publish_rollup(&mut |sink| sink(segment::Key::Meta, b"meta").map_err(segment::BuildError::Sink));
        store.retire_rollup(&rollup.unwrap());
        let current = dir.path().join("rocksdb/CURRENT");
        let whole = std::fs::read(&current).unwrap();
        std::fs::write(&current, b"MANIFEST-none\n").unwrap();
        store.keep_house().unwrap_err();
        assert!(store.log.lock().spare.is_some(), "the log goes on");
        assert!(store.rollups.is_all_dropped());
        assert_eq!(store.retired.lock().len(), 1);
        std::fs::write(&current, whole).unwrap();
        store.keep_house().unwrap();
        assert!(store.retired.lock().is_empty());
    }
}
