//! A bounded cache of what was read: inflated blocks, since the traces of one answer often share blocks and
//! inflating is most of what fetching a trace costs, and the directories of segments.

use std::sync::Arc;

use hashbrown::HashMap;
use parking_lot::Mutex;
use segment::{ChunkBlock, ChunkTables, ContextBlock, ReadError};
use span_store::SegmentId;

use crate::names::NameTable;
use crate::sealed::{Detail, SealedSegment};

/// Inflated blocks and directories, the least recently used ones let go.
#[derive(Debug)]
pub struct BlockCache {
    chunks: Mutex<Recent<ChunkBlock>>,
    /// What the chunk blocks of each segment share.
    tables: Mutex<Recent<Arc<ChunkTables>>>,
    contexts: Mutex<Recent<ContextBlock>>,
    details: Mutex<Recent<Detail>>,
}

impl Default for BlockCache {
    fn default() -> Self {
        Self::with_memory(32 << 20)
    }
}

impl BlockCache {
    /// A cache that takes about this many bytes at most.
    pub fn with_memory(bytes: usize) -> Self {
        Self {
            chunks: Mutex::new(Recent::new(bytes / 4)),
            tables: Mutex::new(Recent::new(bytes / 8)),
            contexts: Mutex::new(Recent::new(bytes / 8)),
            details: Mutex::new(Recent::new(bytes / 2)),
        }
    }

    pub(crate) fn chunk(&self, segment: &SealedSegment, number: u32) -> Result<Arc<ChunkBlock>, ReadError> {
        let read = || ChunkBlock::read_with(&segment.handle, number, || self.tables(segment));
        through(&self.chunks, BlockKey::of(segment, number), read, ChunkBlock::bytes)
    }

    fn tables(&self, segment: &SealedSegment) -> Result<Arc<ChunkTables>, ReadError> {
        let read = || ChunkTables::read(&segment.handle);
        let tables = through(&self.tables, BlockKey::of(segment, 0), read, |tables| tables.bytes())?;
        Ok(Arc::clone(&tables))
    }

    pub(crate) fn contexts(
        &self,
        segment: &SealedSegment,
        number: u32,
    ) -> Result<Arc<ContextBlock>, ReadError> {
        let read = || ContextBlock::read(&segment.handle, number);
        through(&self.contexts, BlockKey::of(segment, number), read, ContextBlock::bytes)
    }

    /// Operations and directories of a segment.
    ///
    /// # Errors
    /// If the store fails or the segment's meta is damaged.
    pub fn detail(&self, segment: &SealedSegment, names: &NameTable) -> Result<Arc<Detail>, ReadError> {
        through(&self.details, BlockKey::of(segment, 0), || Detail::read(segment, names), Detail::bytes)
    }

    /// The same for one of so many segments that keeping them would only push each other out of the cache.
    ///
    /// # Errors
    /// If the store fails or the segment's meta is damaged.
    pub(crate) fn detail_of_many(
        &self,
        segment: &SealedSegment,
        names: &NameTable,
    ) -> Result<Arc<Detail>, ReadError> {
        let found = self.details.lock().get(BlockKey::of(segment, 0));
        found.map_or_else(|| Detail::read(segment, names).map(Arc::new), Ok)
    }
}

/// From the cache, or read without holding its lock.
fn through<T>(
    cache: &Mutex<Recent<T>>,
    key: BlockKey,
    read: impl FnOnce() -> Result<T, ReadError>,
    bytes: impl FnOnce(&T) -> usize,
) -> Result<Arc<T>, ReadError> {
    if let Some(found) = cache.lock().get(key) {
        return Ok(found);
    }
    let value = Arc::new(read()?);
    let bytes = bytes(&value);
    cache.lock().put(key, Arc::clone(&value), bytes);
    Ok(value)
}

/// A segment that takes the place of others has the number of one of them, in a later generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct BlockKey {
    segment: SegmentId,
    generation: u32,
    number: u32,
}

impl BlockKey {
    fn of(segment: &SealedSegment, number: u32) -> Self {
        Self { segment: segment.id, generation: segment.handle.partition().generation, number }
    }
}

#[derive(Debug)]
struct Entry<T> {
    used: u64,
    bytes: usize,
    value: Arc<T>,
}

#[derive(Debug)]
struct Recent<T> {
    entries: HashMap<BlockKey, Entry<T>>,
    uses: u64,
    bytes: usize,
    bytes_max: usize,
}

impl<T> Recent<T> {
    fn new(bytes_max: usize) -> Self {
        Self { entries: HashMap::new(), uses: 0, bytes: 0, bytes_max }
    }

    fn get(&mut self, key: BlockKey) -> Option<Arc<T>> {
        self.uses += 1;
        let entry = self.entries.get_mut(&key)?;
        entry.used = self.uses;
        Some(Arc::clone(&entry.value))
    }

    /// Makes room for it and keeps it, unless it alone would take most of the room.
    fn put(&mut self, key: BlockKey, value: Arc<T>, bytes: usize) {
        if bytes > self.bytes_max / 4 {
            return;
        }
        while self.bytes + bytes > self.bytes_max {
            let oldest = self.entries.iter().min_by_key(|(_, entry)| entry.used).map(|(key, _)| *key);
            let Some(gone) = oldest.and_then(|oldest| self.entries.remove(&oldest)) else { break };
            self.bytes -= gone.bytes;
        }
        self.bytes += bytes;
        let before = self.entries.insert(key, Entry { used: self.uses, bytes, value });
        self.bytes -= before.map_or(0, |entry| entry.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_recently_used_block_goes_first_and_bytes_are_bounded() {
        let mut recent = Recent::new(1_000);
        let key = |segment, number| BlockKey { segment: SegmentId(segment), generation: 0, number };
        for number in 0..20 {
            recent.put(key(0, number), Arc::new(number), 100);
            recent.get(key(0, 0));
            assert!(recent.bytes <= 1_000);
        }
        assert!(recent.get(key(0, 0)).is_some(), "it was used all the time");
        assert!(recent.get(key(0, 1)).is_none(), "it was not");
        recent.put(key(0, 19), Arc::new(19), 150);
        assert_eq!(recent.bytes, recent.entries.values().map(|entry| entry.bytes).sum::<usize>());
        recent.put(key(1, 0), Arc::new(0), 300);
        assert!(recent.get(key(1, 0)).is_none(), "too large to keep");
    }
}
