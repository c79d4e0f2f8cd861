//! Values that are compressed with a dictionary, either or both of them damaged.
//!
//! The first byte says which value it is; then come the dictionary and, for a chunk block, the tables of its segment, each
//! behind its length, and the value as it is stored. With 3, the rest is a dictionary, and a segment is built with it.

use std::sync::LazyLock;

use segment::{Blocks, ChunkTables, Dictionary, Key, ReadError, dictionary_samples};

use super::sample::{Memory, sealed, try_sealed};
use super::{put_part, read_chunks, read_contexts, take_part, target};
use crate::Dice;
use crate::drive::{Draw, Target};

/// What is read with a dictionary.
pub const DICTIONARY: Target = target("dictionary", run, draw);

/// As segments name it.
const ID: u32 = 1;
const KEYS: [Key; 3] = [Key::Chunk(0), Key::Tables, Key::Contexts(0)];

#[derive(Debug)]
struct With {
    values: Memory,
    dictionary: Dictionary,
}

impl Blocks for With {
    fn get(&self, key: Key) -> Result<Option<Vec<u8>>, ReadError> {
        self.values.get(key)
    }

    fn dictionary(&self) -> Option<&Dictionary> {
        Some(&self.dictionary)
    }
}

fn run(input: &[u8]) -> bool {
    let (kind, mut rest) = input.split_first().unwrap_or((&0, &[]));
    let Some(key) = KEYS.get(usize::from(kind % 4)) else { return built_with(rest) };
    let dictionary = taken(take_part(&mut rest));
    let mut values = Memory::default();
    if matches!(key, Key::Chunk(_)) {
        values.0.insert(Key::Tables.to_bytes(), take_part(&mut rest).to_vec());
    }
    values.0.insert(key.to_bytes(), rest.to_vec());
    let Some(dictionary) = dictionary else { return false };
    let blocks = With { values, dictionary };
    // As a training reads it.
    let sampled = clear(dictionary_samples(&blocks, u32::from(matches!(key, Key::Chunk(_))), 1 << 20));
    sampled
        & match key {
            Key::Chunk(_) => read_chunks(&blocks),
            Key::Tables => clear(ChunkTables::read(&blocks)),
            _ => read_contexts(&blocks),
        }
}

fn taken(bytes: &[u8]) -> Option<Dictionary> {
    let taken = Dictionary::new(ID, bytes.to_vec());
    assert!(matches!(taken, Ok(_) | Err(ReadError::Damaged("dictionary"))));
    taken.ok()
}

/// Whether it was read; if not, the error says that what is stored is not what was written.
fn clear<T>(read: Result<T, ReadError>) -> bool {
    assert!(!matches!(read, Err(ReadError::Store(_) | ReadError::Format(_))));
    read.is_ok()
}

/// What is built with any dictionary that is taken is read with it, and with no dictionary it is not.
fn built_with(bytes: &[u8]) -> bool {
    let Some(dictionary) = taken(bytes) else { return false };
    let plain = sealed(&mut Dice::new(1));
    // The compressor may refuse what the decompressor takes; then nothing is written.
    let Ok(values) = try_sealed(&mut Dice::new(1), Some(&dictionary)) else { return false };
    let blocks = With { values, dictionary };
    assert!(read_chunks(&blocks) && read_contexts(&blocks));
    let samples = dictionary_samples(&blocks, 1, 1 << 20).unwrap();
    assert_eq!(samples, dictionary_samples(&plain, 1, 1 << 20).unwrap());
    true
}

/// Dictionaries to draw from: trained ones, and bytes that are taken as they are.
static DRAWN: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let dice = &mut Dice::new(7);
    let samples: Vec<Vec<u8>> = (0..64).flat_map(|_| samples(dice)).collect();
    let trained = [300, 2_000].map(|bytes| zstd::dict::from_samples(&samples, bytes).unwrap());
    let mut drawn = trained.to_vec();
    drawn.push(samples.concat()[..100].to_vec());
    drawn
});

fn samples(dice: &mut Dice) -> Vec<Vec<u8>> {
    dictionary_samples(&sealed(dice), 1, 1 << 20).unwrap()
}

fn draw() -> Draw {
    Box::new(|dice| {
        let bytes = &DRAWN[dice.below(DRAWN.len())];
        let kind = dice.below(7) / 2;
        let Some(key) = KEYS.get(kind) else {
            return [&[3][..], bytes].concat();
        };
        let dictionary = Dictionary::new(ID, bytes.clone()).unwrap();
        let mut values = try_sealed(dice, Some(&dictionary)).unwrap().0;
        let mut input = vec![kind as u8];
        put_part(&mut input, bytes);
        if matches!(key, Key::Chunk(_)) {
            put_part(&mut input, &values[&Key::Tables.to_bytes()]);
        }
        input.extend(values.remove(&key.to_bytes()).unwrap());
        input
    })
}
