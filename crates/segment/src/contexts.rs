//! Contexts (resource and scope bytes), each stored once a segment, in blocks of 64.

use hashbrown::HashMap;
use xxhash_rust::xxh3::xxh3_128;

use crate::codec::{Blocks, Cursor, Packer, ReadError, fetch, put, unpack};
use crate::keys::Key;

const PER_BLOCK: usize = 64;

#[derive(Default)]
pub(crate) struct ContextTable<'a> {
    numbers: HashMap<u128, u32>,
    list: Vec<&'a [u8]>,
}

impl<'a> ContextTable<'a> {
    pub(crate) fn intern(&mut self, context: &'a [u8]) -> u32 {
        let next = self.list.len() as u32;
        let number = *self.numbers.entry(xxh3_128(context)).or_insert(next);
        if number == next {
            self.list.push(context);
        }
        number
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
        let raw = unpack(&fetch(blocks, Key::Contexts(number))?, "context block")?;
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
