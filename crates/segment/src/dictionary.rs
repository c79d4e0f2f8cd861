//! Dictionaries for small segments: what earlier segments had in their texts. A segment of some hundred spans repeats
//! hardly anything within itself, but nearly all of the segment before.
//!
//! Chunk blocks, their tables and contexts are compressed with one; other values do not shrink by it, and the meta
//! must be readable without, so that a dictionary that is lost loses no more than its segments' spans.

use std::io;

use zstd::dict::DecoderDictionary;

use crate::codec::{Blocks, Packer, ReadError, after_mark, fetch, unpack};
use crate::columns::Unpacked;
use crate::contexts::ContextBlock;
use crate::keys::Key;

/// Bytes of a trained dictionary. More did not save more.
pub const DICTIONARY_BYTES: usize = 16 << 10;
/// A stored dictionary that is larger is damage.
const STORED_MAX: usize = 1 << 20;
/// A longer value is sampled by its beginning.
const SAMPLE_MAX: usize = 64 << 10;
/// Segments that training needs.
const SEGMENTS_MIN: usize = 8;
/// Of so many segments one is held out, to judge by.
const HELD_OUT: usize = 4;
/// A new dictionary must leave no more than so many percent of what the one in use leaves.
const ADOPTED_PERCENT: u64 = 95;

/// A dictionary, ready to read with.
pub struct Dictionary {
    id: u32,
    bytes: Vec<u8>,
    decoder: DecoderDictionary<'static>,
}

impl std::fmt::Debug for Dictionary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Dictionary({}, {} bytes)", self.id, self.bytes.len())
    }
}

impl Dictionary {
    /// Takes a dictionary under the number that segments name it by, from 1.
    ///
    /// # Errors
    /// If the bytes are not a dictionary.
    pub fn new(id: u32, bytes: Vec<u8>) -> Result<Self, ReadError> {
        const DAMAGED: ReadError = ReadError::Damaged("dictionary");
        if id == 0 || bytes.is_empty() || bytes.len() > STORED_MAX {
            return Err(DAMAGED);
        }
        let decoder = DecoderDictionary::try_copy(&bytes).map_err(|_| DAMAGED)?;
        Ok(Self { id, bytes, decoder })
    }

    /// Its number, from 1.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// What is stored of it.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(crate) fn decoder(&self) -> &DecoderDictionary<'static> {
        &self.decoder
    }
}

/// What a segment has for training: the values that a dictionary is used for.
pub type Samples = Vec<Vec<u8>>;

/// The samples of a segment with so many chunk blocks and contexts; at most `bytes_max` of them.
///
/// # Errors
/// If the store fails or a value is damaged.
pub fn dictionary_samples(
    blocks: &dyn Blocks,
    chunk_blocks: u32,
    bytes_max: usize,
) -> Result<Samples, ReadError> {
    const WHAT: &str = "sample";
    let dictionary = blocks.dictionary();
    let mut left = bytes_max;
    let mut samples = Samples::new();
    let mut take = |sample: &[u8]| {
        let sample = &sample[..sample.len().min(SAMPLE_MAX).min(left)];
        left -= sample.len();
        samples.push(sample.to_vec());
    };
    if let Some(tables) = blocks.get(Key::Tables)? {
        take(&unpack(&tables, dictionary, WHAT)?);
    }
    if let Some(contexts) = blocks.get(Key::Contexts(ContextBlock::number_of(0)))? {
        take(&unpack(&contexts, dictionary, WHAT)?);
    }
    for number in 0..chunk_blocks {
        let stored = fetch(blocks, Key::Chunk(number))?;
        // Format 1 had other blocks.
        let Some(marked) = after_mark(&stored) else { break };
        take(&Unpacked::read_with(marked, dictionary, WHAT)?.text);
    }
    Ok(samples)
}

/// A dictionary that is worth being used, and what it was found to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retrained {
    /// The dictionary.
    pub bytes: Vec<u8>,
    /// Bytes of the held-out samples with the one in use, or without any.
    pub before: u64,
    /// With this one.
    pub after: u64,
}

/// Trains a dictionary on three of four segments, and compares it with the one in use on the others.
///
/// `None` if there are too few samples, or it is not at least 5 % better.
///
/// # Errors
/// If the compressor fails.
pub fn retrain(segments: &[Samples], in_use: Option<&Dictionary>) -> io::Result<Option<Retrained>> {
    if segments.len() < SEGMENTS_MIN {
        return Ok(None);
    }
    let held_out = |at: &usize| at % HELD_OUT == HELD_OUT - 1;
    let some = |out: bool| {
        let of = segments.iter().enumerate().filter(move |(at, _)| held_out(at) == out);
        of.flat_map(|(_, samples)| samples).filter(|sample| !sample.is_empty())
    };
    let trained: Vec<&[u8]> = some(false).map(Vec::as_slice).collect();
    // It fails where there is too little that repeats.
    let Ok(bytes) = zstd::dict::from_samples(&trained, DICTIONARY_BYTES) else { return Ok(None) };
    let before = packed_bytes(some(true), in_use.map(Dictionary::bytes))?;
    let after = packed_bytes(some(true), Some(&bytes))?;
    let better = after * 100 <= before * ADOPTED_PERCENT && after < before;
    Ok(better.then_some(Retrained { bytes, before, after }))
}

fn packed_bytes<'a>(
    samples: impl Iterator<Item = &'a Vec<u8>>,
    dictionary: Option<&[u8]>,
) -> io::Result<u64> {
    let mut packer = Packer::of_small(dictionary)?;
    let mut sum = 0;
    for sample in samples {
        sum += packer.pack(sample)?.len() as u64;
    }
    Ok(sum)
}
