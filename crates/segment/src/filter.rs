//! A blocked Bloom filter over trace ids: 12 bits an id, one cache line a look-up, about 0.8 % false hits.

use trace_model::TraceId;

use crate::ReadError;

const BITS_PER_TRACE: usize = 12;
const PROBES: u32 = 6;
const BLOCK_BYTES: usize = 64;

/// Says of a trace id whether it may be in a segment; never "no" for one that is.
#[derive(Debug, Clone)]
pub struct TraceFilter {
    blocks: Vec<u8>,
}

impl TraceFilter {
    /// A filter for about this many ids.
    pub fn with_capacity(traces: usize) -> Self {
        let blocks = (traces * BITS_PER_TRACE).div_ceil(BLOCK_BYTES * 8).max(1);
        Self { blocks: vec![0; blocks * BLOCK_BYTES] }
    }

    /// The filter as it was stored.
    ///
    /// # Errors
    /// If the length is not that of a filter.
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Self, ReadError> {
        if bytes.is_empty() || !bytes.len().is_multiple_of(BLOCK_BYTES) {
            return Err(ReadError::Damaged("trace filter"));
        }
        Ok(Self { blocks: bytes })
    }

    /// The bytes to store.
    pub fn as_bytes(&self) -> &[u8] {
        &self.blocks
    }

    /// Adds an id.
    pub fn insert(&mut self, id: &TraceId) {
        let (start, mut bits) = self.place(id);
        for _ in 0..PROBES {
            let bit = (bits & 511) as usize;
            self.blocks[start + bit / 8] |= 1 << (bit % 8);
            bits >>= 9;
        }
    }

    /// Whether the id may have been added.
    pub fn may_contain(&self, id: &TraceId) -> bool {
        let (start, mut bits) = self.place(id);
        for _ in 0..PROBES {
            let bit = (bits & 511) as usize;
            if self.blocks[start + bit / 8] & (1 << (bit % 8)) == 0 {
                return false;
            }
            bits >>= 9;
        }
        true
    }

    fn place(&self, id: &TraceId) -> (usize, u64) {
        let hash = xxhash_rust::xxh3::xxh3_128(id.as_bytes());
        let blocks = (self.blocks.len() / BLOCK_BYTES) as u64;
        // Multiply and shift maps the upper half evenly onto the blocks without a division.
        let block = ((u128::from((hash >> 64) as u64) * u128::from(blocks)) >> 64) as usize;
        (block * BLOCK_BYTES, hash as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u64) -> TraceId {
        let mut bytes = [7; 16];
        bytes[..8].copy_from_slice(&n.to_le_bytes());
        TraceId::new(bytes).unwrap()
    }

    #[test]
    fn what_was_added_is_found_and_little_else() {
        let mut filter = TraceFilter::with_capacity(10_000);
        (0..10_000).for_each(|n| filter.insert(&id(n)));
        let filter = TraceFilter::from_bytes(filter.as_bytes().to_vec()).unwrap();
        assert!((0..10_000).all(|n| filter.may_contain(&id(n))));
        let false_hits = (10_000..110_000).filter(|&n| filter.may_contain(&id(n))).count();
        assert!(false_hits < 2_000, "{false_hits} of 100,000");
    }
}
