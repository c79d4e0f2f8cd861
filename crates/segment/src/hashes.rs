//! Hashes of the trace ids of a segment: sorted, 32 bits each, so that looking a trace up is a binary search and
//! many segments' lists merge into one.
//!
//! Two traces of one segment of 100,000 share a hash with one in 43,000 look-ups; who finds a hash looks at the
//! chunk block to be sure.

use trace_model::TraceId;

use crate::chunks::ChunkBlock;
use crate::codec::{Blocks, ReadError};
use crate::keys::Key;

/// The hash of a trace id.
pub fn trace_hash(id: &TraceId) -> u32 {
    (xxhash_rust::xxh3::xxh3_64(id.as_bytes()) >> 32) as u32
}

pub(crate) fn encode(mut hashes: Vec<u32>) -> Vec<u8> {
    hashes.sort_unstable();
    hashes.iter().flat_map(|hash| hash.to_le_bytes()).collect()
}

/// The sorted hashes of a segment's traces. A segment of the first format, which has none, is read through for
/// them: `blocks_count` is the number of its chunk blocks.
///
/// # Errors
/// If the store fails or the value is damaged.
pub fn trace_hashes(blocks: &dyn Blocks, blocks_count: u32) -> Result<Vec<u32>, ReadError> {
    let Some(bytes) = blocks.get(Key::Hashes)? else { return hashes_of_chunks(blocks, blocks_count) };
    let words = bytes.chunks(4).map(|word| word.try_into().map(u32::from_le_bytes));
    let hashes: Vec<u32> = words.collect::<Result<_, _>>().map_err(|_| ReadError::Damaged("trace hashes"))?;
    if hashes.is_sorted() { Ok(hashes) } else { Err(ReadError::Damaged("trace hashes")) }
}

fn hashes_of_chunks(blocks: &dyn Blocks, blocks_count: u32) -> Result<Vec<u32>, ReadError> {
    let mut ids = Vec::new();
    for number in 0..blocks_count {
        ids.extend(ChunkBlock::read(blocks, number)?.trace_ids()?);
    }
    // A trace may go on in the next block.
    ids.dedup();
    let mut hashes: Vec<u32> = ids.iter().map(trace_hash).collect();
    hashes.sort_unstable();
    Ok(hashes)
}

/// Which traces were open at a segment's cut, by their number within the segment; rising.
///
/// # Errors
/// If the store fails.
pub fn open_numbers(blocks: &dyn Blocks) -> Result<Vec<u32>, ReadError> {
    let bits = blocks.get(Key::Open)?.unwrap_or_default();
    let set = |at: &u32| bits.get(*at as usize / 8).is_some_and(|byte| byte >> (at % 8) & 1 == 1);
    Ok((0..bits.len() as u32 * 8).filter(set).collect())
}

/// One bit a trace, lowest first; empty if none is set.
#[derive(Debug, Default)]
pub(crate) struct OpenBits(Vec<u8>);

impl OpenBits {
    pub(crate) fn set(&mut self, number: u32) {
        let byte = number as usize / 8;
        if self.0.len() <= byte {
            self.0.resize(byte + 1, 0);
        }
        self.0[byte] |= 1 << (number % 8);
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}
