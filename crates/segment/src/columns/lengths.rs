//! Columns of values by their lengths.

use super::{SCALES, Streams, scale_of, scaled};
use crate::bits::{BitWriter, bit_length, bits_at};
use crate::codec::{Cursor, ReadError, put};

/// Writes a column to be read as a whole.
pub(crate) fn put_lengths(streams: &mut Streams, values: impl Iterator<Item = u64>) {
    let mut values_of = std::mem::take(&mut streams.column);
    values_of.clear();
    values_of.extend(values);
    put_by_length(streams, &values_of);
    streams.column = values_of;
}

/// Writes a column of falling values as the steps down, the first value from itself.
pub(crate) fn put_falling(streams: &mut Streams, values: impl Iterator<Item = u64> + Clone) {
    let before = values.clone().take(1).chain(values.clone());
    put_lengths(streams, before.zip(values).map(|(before, value)| before - value));
}

fn put_by_length(streams: &mut Streams, values: &[u64]) {
    let scale = scale_of(values);
    put(&mut streams.heads, scale as u64);
    streams.lengths.reserve(values.len());
    let mut writer = BitWriter::new(&mut streams.bits, values.len() * 32);
    for &value in values {
        let value = scaled(value, scale);
        let length = bit_length(value);
        streams.lengths.push(length as u8);
        if length > 1 {
            // The highest bit is known from the length.
            writer.put(value & !(1 << (length - 1)), length - 1);
        }
    }
    writer.finish();
}

/// A column that was written by [`put_lengths`]. It is read from its beginning, and passes over what is not wanted.
#[derive(Debug)]
pub(crate) struct LengthColumn<'a> {
    bits: &'a [u8],
    /// Of the values that are left.
    lengths: &'a [u8],
    /// The bit where they begin.
    at: usize,
    scale: u64,
}

impl<'a> LengthColumn<'a> {
    /// Reads the head of a column of `count` values, whose bits begin at `bits_start` of `bits`; moves that to
    /// their end.
    pub(crate) fn read(
        heads: &mut Cursor<'_>,
        lengths: &mut Cursor<'a>,
        bits: &'a [u8],
        bits_start: &mut usize,
        count: usize,
    ) -> Result<Self, ReadError> {
        let scale = *SCALES.get(heads.u64()? as usize).ok_or_else(|| heads.damaged())?;
        let lengths = lengths.bytes(count)?;
        let at = *bits_start * 8;
        *bits_start = (at + bits_of(lengths)).div_ceil(8);
        let too_long = lengths.iter().fold(0, |most, length| most.max(*length)) > 64;
        if too_long || *bits_start > bits.len() {
            return Err(heads.damaged());
        }
        Ok(Self { bits, lengths, at, scale })
    }

    /// Passes over so many values.
    pub(crate) fn pass(&mut self, count: usize) {
        let (passed, rest) = self.lengths.split_at(count.min(self.lengths.len()));
        self.at += bits_of(passed);
        self.lengths = rest;
    }
}

/// The highest bit of a value is known from its length.
fn bits_of(lengths: &[u8]) -> usize {
    // By few enough that the sum of bytes fits 16 bits, which is many at once for the processor.
    let sum = |part: &[u8]| part.iter().map(|length| u16::from(length.saturating_sub(1))).sum::<u16>();
    lengths.chunks(128).map(|part| usize::from(sum(part))).sum()
}

impl Iterator for LengthColumn<'_> {
    type Item = u64;

    #[inline]
    fn next(&mut self) -> Option<u64> {
        let (&length, rest) = self.lengths.split_first()?;
        self.lengths = rest;
        let width = u32::from(length.saturating_sub(1));
        let low = bits_at(self.bits, self.at, width);
        self.at += width as usize;
        let value = if length == 0 { 0 } else { low | 1 << width };
        Some(value.wrapping_mul(self.scale))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.lengths.len(), Some(self.lengths.len()))
    }
}

impl ExactSizeIterator for LengthColumn<'_> {}
