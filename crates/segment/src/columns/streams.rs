//! The streams of a block, written and read.

use std::borrow::Cow;

use crate::codec::{Cursor, Packer, ReadError, put_mark, unpack_stream};
use crate::dictionary::Dictionary;

/// The streams of a block that is being written. Each is compressed by itself, or not at all, because what is in
/// it is of one kind.
#[derive(Debug, Default)]
pub(crate) struct Streams {
    /// What says how to read the others.
    pub(crate) heads: Vec<u8>,
    /// Bit lengths of values.
    pub(crate) lengths: Vec<u8>,
    /// Packed bits: not compressible.
    pub(crate) bits: Vec<u8>,
    /// Strings.
    pub(crate) text: Vec<u8>,
    /// The column that is being written.
    pub(super) column: Vec<u64>,
}

impl Streams {
    pub(crate) fn clear(&mut self) {
        for stream in [&mut self.heads, &mut self.lengths, &mut self.bits, &mut self.text] {
            stream.clear();
        }
    }

    /// The value to store.
    pub(crate) fn pack(&self, packer: &mut Packer) -> std::io::Result<Vec<u8>> {
        let mut out = Vec::with_capacity(self.bits.len() + self.heads.len() + self.text.len() / 2 + 64);
        put_mark(&mut out);
        for stream in [&self.heads, &self.lengths, &self.text] {
            packer.pack_stream(stream, &mut out)?;
        }
        out.extend_from_slice(&self.bits);
        Ok(out)
    }
}

/// The streams of a stored value.
#[derive(Debug)]
pub(crate) struct Unpacked<'a> {
    pub(crate) heads: Cow<'a, [u8]>,
    pub(crate) lengths: Cow<'a, [u8]>,
    pub(crate) text: Cow<'a, [u8]>,
    pub(crate) bits: &'a [u8],
}

impl<'a> Unpacked<'a> {
    /// Takes a value apart, given what follows its mark.
    pub(crate) fn read(marked: &'a [u8], what: &'static str) -> Result<Self, ReadError> {
        Self::read_with(marked, None, what)
    }

    /// Takes a value apart whose streams may need a dictionary.
    pub(crate) fn read_with(
        marked: &'a [u8],
        dictionary: Option<&Dictionary>,
        what: &'static str,
    ) -> Result<Self, ReadError> {
        let mut cursor = Cursor::new(marked, what);
        let mut stream = || unpack_stream(&mut cursor, dictionary);
        let (heads, lengths, text) = (stream()?, stream()?, stream()?);
        let bits = cursor.bytes(cursor.left())?;
        Ok(Self { heads, lengths, text, bits })
    }
}
