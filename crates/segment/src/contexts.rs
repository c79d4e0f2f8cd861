//! Contexts (resource and scope bytes), each stored once a segment, in blocks of 64.

use hashbrown::HashMap;

use crate::codec::{Blocks, Cursor, Packer, ReadError, fetch, put, unpack};
use crate::keys::Key;

const PER_BLOCK: usize = 64;
/// Contexts that are numbered in a segment, and bytes of them; spans of further ones carry their own.
const CONTEXTS_MAX: usize = 64 << 10;
const BYTES_MAX: usize = 16 << 20;
/// A larger context is not numbered, so that a block of them stays small.
const CONTEXT_MAX: usize = 64 << 10;
/// Not looked up yet.
const UNKNOWN: u32 = u32::MAX;
/// Not numbered.
const OWN: u32 = u32::MAX - 1;

/// How a span tells its context.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ContextRef<'a> {
    /// By number.
    Number(u32),
    /// By its bytes.
    Own(&'a [u8]),
}

#[derive(Default)]
pub(crate) struct ContextTable<'a> {
    numbers: HashMap<&'a [u8], u32>,
    list: Vec<&'a [u8]>,
    bytes: usize,
    /// For each batch, what its contexts are called here: looked up once, and not once a span.
    known: Vec<Vec<u32>>,
}

impl<'a> ContextTable<'a> {
    /// What the context that a batch has at `index` is called.
    pub(crate) fn of_batch(
        &mut self,
        batch: usize,
        index: u32,
        bytes: impl FnOnce() -> &'a [u8],
    ) -> ContextRef<'a> {
        if self.known.len() <= batch {
            self.known.resize_with(batch + 1, Vec::new);
        }
        match self.known[batch].get(index as usize).copied().unwrap_or(UNKNOWN) {
            UNKNOWN => {}
            OWN => return ContextRef::Own(bytes()),
            number => return ContextRef::Number(number),
        }
        let context = bytes();
        let interned = self.intern(context);
        let known = &mut self.known[batch];
        if known.len() <= index as usize {
            known.resize(index as usize + 1, UNKNOWN);
        }
        known[index as usize] = interned.unwrap_or(OWN);
        interned.map_or(ContextRef::Own(context), ContextRef::Number)
    }

    fn intern(&mut self, context: &'a [u8]) -> Option<u32> {
        if let Some(number) = self.numbers.get(context) {
            return Some(*number);
        }
        let room = self.list.len() < CONTEXTS_MAX && self.bytes + context.len() <= BYTES_MAX;
        if !room || context.len() > CONTEXT_MAX {
            return None;
        }
        let number = self.list.len() as u32;
        self.bytes += context.len();
        self.list.push(context);
        self.numbers.insert(context, number);
        Some(number)
    }

    pub(crate) fn blocks(&self, packer: &mut Packer) -> std::io::Result<Vec<Vec<u8>>> {
        self.list
            .chunks(PER_BLOCK)
            .map(|contexts| {
                let mut raw = Vec::new();
                for context in contexts {
                    put(&mut raw, context.len() as u64);
                    raw.extend_from_slice(context);
                }
                packer.pack(&raw)
            })
            .collect()
    }
}

/// A decoded block of contexts.
#[derive(Debug)]
pub struct ContextBlock {
    contexts: Vec<Vec<u8>>,
}

impl ContextBlock {
    /// The block that holds a context.
    pub fn number_of(context: u32) -> u32 {
        context / PER_BLOCK as u32
    }

    /// Reads a block.
    ///
    /// # Errors
    /// If the store fails or the block is damaged.
    pub fn read(blocks: &dyn Blocks, number: u32) -> Result<Self, ReadError> {
        let raw = unpack(&fetch(blocks, Key::Contexts(number))?, blocks.dictionary(), "context block")?;
        let mut cursor = Cursor::new(&raw, "context block");
        let mut contexts = Vec::new();
        while !cursor.is_empty() {
            if contexts.len() == PER_BLOCK {
                return Err(cursor.damaged());
            }
            contexts.push(cursor.sized()?.to_vec());
        }
        Ok(Self { contexts })
    }

    /// Bytes of its contexts.
    pub fn bytes(&self) -> usize {
        self.contexts.iter().map(Vec::len).sum()
    }

    /// A context of this block.
    ///
    /// # Errors
    /// If the block does not hold it.
    pub fn get(&self, context: u32) -> Result<&[u8], ReadError> {
        self.contexts
            .get(context as usize % PER_BLOCK)
            .map(Vec::as_slice)
            .ok_or(ReadError::Damaged("context block"))
    }
}
