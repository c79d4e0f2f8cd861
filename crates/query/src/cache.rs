//! A small cache of inflated blocks: the traces of one answer often share blocks, and inflating is most of what
//! fetching a trace costs.

use std::sync::Arc;

use hashbrown::HashMap;
use parking_lot::Mutex;
use segment::{ChunkBlock, ContextBlock, ReadError};
use span_store::SegmentId;

use crate::state::SealedSegment;

/// Blocks of each kind that are kept; they are about 64 KiB each.
const BLOCKS_MAX: usize = 96;
/// A block larger than this, which a giant trace makes, is not kept. Bytes.
const BLOCK_BYTES_MAX: usize = 512 << 10;

/// Inflated chunk and context blocks, the least recently used ones let go.
#[derive(Debug, Default)]
pub struct BlockCache {
    chunks: Mutex<Recent<ChunkBlock>>,
    contexts: Mutex<Recent<ContextBlock>>,
}

impl BlockCache {
    pub(crate) fn chunk(&self, segment: &SealedSegment, number: u32) -> Result<Arc<ChunkBlock>, ReadError> {
        let key = (segment.id, number);
        if let Some(found) = self.chunks.lock().get(key) {
            return Ok(found);
        }
        let block = Arc::new(ChunkBlock::read(&segment.handle, number)?);
        if block.bytes() <= BLOCK_BYTES_MAX {
            self.chunks.lock().put(key, Arc::clone(&block));
        }
        Ok(block)
    }

    pub(crate) fn contexts(
        &self,
        segment: &SealedSegment,
        number: u32,
    ) -> Result<Arc<ContextBlock>, ReadError> {
        let key = (segment.id, number);
        if let Some(found) = self.contexts.lock().get(key) {
            return Ok(found);
        }
        let block = Arc::new(ContextBlock::read(&segment.handle, number)?);
        if block.bytes() <= BLOCK_BYTES_MAX {
            self.contexts.lock().put(key, Arc::clone(&block));
        }
        Ok(block)
    }
}

type BlockKey = (SegmentId, u32);

#[derive(Debug)]
struct Recent<T> {
    blocks: HashMap<BlockKey, (u64, Arc<T>)>,
    uses: u64,
}

impl<T> Default for Recent<T> {
    fn default() -> Self {
        Self { blocks: HashMap::new(), uses: 0 }
    }
}

impl<T> Recent<T> {
    fn get(&mut self, key: BlockKey) -> Option<Arc<T>> {
        self.uses += 1;
        let (used, block) = self.blocks.get_mut(&key)?;
        *used = self.uses;
        Some(Arc::clone(block))
    }

    fn put(&mut self, key: BlockKey, block: Arc<T>) {
        if self.blocks.len() >= BLOCKS_MAX {
            let oldest = self.blocks.iter().min_by_key(|(_, (used, _))| *used).map(|(key, _)| *key);
            if let Some(oldest) = oldest {
                self.blocks.remove(&oldest);
            }
        }
        self.blocks.insert(key, (self.uses, block));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_recently_used_block_goes_first() {
        let mut recent = Recent::default();
        for number in 0..BLOCKS_MAX as u32 {
            recent.put((SegmentId(0), number), Arc::new(number));
            recent.get((SegmentId(0), 0));
        }
        recent.put((SegmentId(1), 0), Arc::new(7));
        assert_eq!(recent.blocks.len(), BLOCKS_MAX);
        assert!(recent.get((SegmentId(0), 0)).is_some(), "it was used all the time");
        assert!(recent.get((SegmentId(0), 1)).is_none(), "it was not");
    }
}
