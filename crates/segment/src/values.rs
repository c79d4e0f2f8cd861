//! The shapes and strings of a segment: what many of its spans share, stored once.

use std::hash::BuildHasher;
use std::sync::Arc;

use hashbrown::{DefaultHashBuilder, HashTable};

use crate::codec::{Blocks, Cursor, Packer, ReadError, put, same, unpack};
use crate::keys::Key;
use crate::shape::Shape;

/// Shapes of a segment; spans of further ones are kept as they are.
const SHAPES_MAX: usize = 4_096;
/// Strings of a segment that are told from strings seen before.
const STRINGS_MAX: usize = 64 << 10;
/// Bytes of all shapes, and of all numbered strings.
const BYTES_MAX: usize = 1 << 20;
/// Bytes of all strings that are watched.
const WATCHED_MAX: usize = 4 << 20;
/// A longer string is not numbered.
const STRING_MAX: usize = 4 << 10;
/// Strings that were asked for lately; a power of two.
const RECENT: usize = 1 << RECENT_BITS;
const RECENT_BITS: u32 = 10;
/// Not numbered, or not yet.
const UNNUMBERED: u32 = u32::MAX;

/// A string that is watched, by its place among [`ValueTable::watched`].
#[derive(Clone, Copy)]
struct Entry {
    start: u32,
    len: u32,
    number: u32,
}

impl Entry {
    #[inline]
    fn bytes(self, watched: &[u8]) -> &[u8] {
        watched.get(self.start as usize..(self.start + self.len) as usize).unwrap_or_default()
    }
}

/// Numbers shapes and strings in the order of their first use.
#[derive(Default)]
pub(crate) struct ValueTable {
    hasher: DefaultHashBuilder,
    shapes: HashTable<u32>,
    shape_list: Vec<Vec<u8>>,
    shape_bytes: usize,
    strings: HashTable<u32>,
    /// Entries, by [`quick_hash`]: most strings were asked for a moment ago, and the table's hash, which nobody
    /// outside can aim at, costs more than all else.
    recent: Vec<u32>,
    entries: Vec<Entry>,
    /// Their bytes, together: where the clients' messages have them, each would be waited for.
    watched: Vec<u8>,
    numbered: Vec<u32>,
    numbered_bytes: usize,
}

impl ValueTable {
    /// The number of a shape; `None` if there is no room for another.
    pub(crate) fn shape(&mut self, program: &[u8]) -> Option<u32> {
        let hash = self.hasher.hash_one(program);
        if let Some(found) = self.shapes.find(hash, |&at| self.shape_list[at as usize] == program) {
            return Some(*found);
        }
        if self.shape_list.len() == SHAPES_MAX || self.shape_bytes + program.len() > BYTES_MAX {
            return None;
        }
        let number = self.shape_list.len() as u32;
        self.shape_bytes += program.len();
        self.shape_list.push(program.to_vec());
        let (list, hasher) = (&self.shape_list, &self.hasher);
        self.shapes.insert_unique(hash, number, |&at| hasher.hash_one(&list[at as usize][..]));
        Some(number)
    }

    /// How many strings are numbered.
    pub(crate) fn strings(&self) -> usize {
        self.numbered.len()
    }

    /// The number of a string; `None` the first time, or if it cannot have one. A string is worth a number only
    /// if it comes again.
    #[inline]
    pub(crate) fn string(&mut self, text: &[u8]) -> Option<u32> {
        let slot = quick_hash(text);
        match self.recent.get(slot) {
            Some(&at) if self.is(at, text) => self.number(at),
            _ => self.look_up(text, slot),
        }
    }

    #[inline]
    fn is(&self, at: u32, text: &[u8]) -> bool {
        self.entries.get(at as usize).is_some_and(|entry| same(entry.bytes(&self.watched), text))
    }

    fn look_up(&mut self, text: &[u8], slot: usize) -> Option<u32> {
        if text.len() > STRING_MAX {
            return None;
        }
        self.recent.resize(RECENT, u32::MAX);
        let hash = self.hasher.hash_one(text);
        if let Some(&at) = self.strings.find(hash, |&at| self.is(at, text)) {
            self.recent[slot] = at;
            return self.number(at);
        }
        if self.entries.len() < STRINGS_MAX && self.watched.len() + text.len() <= WATCHED_MAX {
            let at = self.entries.len() as u32;
            self.recent[slot] = at;
            let (start, len) = (self.watched.len() as u32, text.len() as u32);
            self.watched.extend_from_slice(text);
            self.entries.push(Entry { start, len, number: UNNUMBERED });
            let (entries, watched, hasher) = (&self.entries, &self.watched, &self.hasher);
            let rehash = |&at: &u32| hasher.hash_one(entries[at as usize].bytes(watched));
            self.strings.insert_unique(hash, at, rehash);
        }
        None
    }

    fn number(&mut self, at: u32) -> Option<u32> {
        let entry = &mut self.entries[at as usize];
        if entry.number == UNNUMBERED {
            if self.numbered_bytes + entry.len as usize > BYTES_MAX {
                return None;
            }
            self.numbered_bytes += entry.len as usize;
            entry.number = self.numbered.len() as u32;
            self.numbered.push(at);
        }
        Some(entry.number)
    }

    /// The value to store.
    pub(crate) fn block(&self, packer: &mut Packer) -> std::io::Result<Vec<u8>> {
        let mut raw =
            Vec::with_capacity(self.numbered_bytes + self.shape_bytes + self.numbered.len() * 2 + 64);
        let strings = || self.numbered.iter().map(|&at| self.entries[at as usize].bytes(&self.watched));
        put(&mut raw, self.shape_list.len() as u64);
        self.shape_list.iter().for_each(|shape| put_sized(&mut raw, shape));
        put(&mut raw, self.numbered.len() as u64);
        strings().for_each(|string| put(&mut raw, string.len() as u64));
        strings().for_each(|string| raw.extend_from_slice(string));
        packer.pack(&raw)
    }
}

/// A slot among the recent strings.
#[inline]
fn quick_hash(text: &[u8]) -> usize {
    let (front, back) = match (text.first_chunk::<8>(), text.last_chunk::<8>()) {
        (Some(front), Some(back)) => (u64::from_le_bytes(*front), u64::from_le_bytes(*back)),
        _ => (text.iter().fold(0, |front, byte| front << 8 | u64::from(*byte)), 0),
    };
    let mixed = (front ^ back.rotate_left(29) ^ text.len() as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> (u64::BITS - RECENT_BITS)) as usize
}

fn put_sized(out: &mut Vec<u8>, bytes: &[u8]) {
    put(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// The shapes and strings that the chunk blocks of a segment point to.
#[derive(Debug, Default)]
pub struct ChunkTables {
    shapes: Vec<Shape>,
    strings: Vec<(u32, u32)>,
    text: Vec<u8>,
}

impl ChunkTables {
    /// Reads the tables of a segment; empty ones for a segment of format 1, which has none.
    ///
    /// # Errors
    /// If the store fails or they are damaged.
    pub fn read(blocks: &dyn Blocks) -> Result<Arc<Self>, ReadError> {
        let Some(packed) = blocks.get(Key::Tables)? else { return Ok(Arc::default()) };
        let raw = unpack(&packed, blocks.dictionary(), "chunk tables")?;
        let mut cursor = Cursor::new(&raw, "chunk tables");
        let shapes = (0..cursor.count()?).map(|_| Shape::read(cursor.sized()?)).collect::<Result<_, _>>()?;
        let lengths = (0..cursor.count()?).map(|_| cursor.u32()).collect::<Result<Vec<_>, _>>()?;
        let mut strings = Vec::with_capacity(lengths.len());
        let mut text = Vec::new();
        for length in lengths {
            strings.push((text.len() as u32, length));
            text.extend_from_slice(cursor.bytes(length as usize)?);
        }
        if cursor.is_empty() { Ok(Arc::new(Self { shapes, strings, text })) } else { Err(cursor.damaged()) }
    }

    /// Bytes of memory.
    pub fn bytes(&self) -> usize {
        let shapes: usize = self.shapes.iter().map(Shape::bytes).sum();
        shapes + self.strings.len() * 8 + self.text.len()
    }

    pub(crate) fn shape(&self, number: u32) -> Option<&Shape> {
        self.shapes.get(number as usize)
    }

    pub(crate) fn string(&self, number: u32) -> Option<&[u8]> {
        let (start, length) = *self.strings.get(number as usize)?;
        self.text.get(start as usize..start as usize + length as usize)
    }
}
