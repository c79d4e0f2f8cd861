//! Reads the columns of a block one after the other.

use super::{LengthColumn, Packed, PackedColumn, Unpacked};
use crate::codec::{Cursor, ReadError};

/// Reads the columns of a block one after the other, whole. Counts are checked before memory is taken.
#[derive(Debug)]
pub(crate) struct ColumnReader<'a> {
    heads: Cursor<'a>,
    lengths: Cursor<'a>,
    bits: &'a [u8],
    bits_start: usize,
}

impl<'a> ColumnReader<'a> {
    pub(crate) fn new(unpacked: &'a Unpacked<'_>, what: &'static str) -> Self {
        let (heads, lengths) = (Cursor::new(&unpacked.heads, what), Cursor::new(&unpacked.lengths, what));
        Self { heads, lengths, bits: unpacked.bits, bits_start: 0 }
    }

    pub(crate) fn number(&mut self) -> Result<u64, ReadError> {
        self.heads.u64()
    }

    /// How many rows there are.
    pub(crate) fn count(&mut self, most: usize) -> Result<usize, ReadError> {
        let count = self.heads.u64()?;
        if count > most as u64 { Err(self.heads.damaged()) } else { Ok(count as usize) }
    }

    /// How many values lists of these lengths have, given that a column by length is still to come for them.
    pub(crate) fn total(&self, lists: &[u32]) -> Result<usize, ReadError> {
        let total: u64 = lists.iter().map(|length| u64::from(*length)).sum();
        if total > self.lengths.left() as u64 { Err(self.heads.damaged()) } else { Ok(total as usize) }
    }

    /// Bytes as they are.
    pub(crate) fn plain(&mut self, length: usize) -> Result<&'a [u8], ReadError> {
        let (start, end) = (self.bits_start, self.bits_start + length);
        self.bits_start = end;
        self.bits.get(start..end).ok_or_else(|| self.heads.damaged())
    }

    pub(crate) fn packed(&mut self, count: usize) -> Result<Vec<u64>, ReadError> {
        let column = Packed::read(&mut self.heads, self.bits, &mut self.bits_start, count)?;
        Ok(column.all(self.bits, count))
    }

    pub(crate) fn packed_u32(&mut self, count: usize) -> Result<Vec<u32>, ReadError> {
        let numbers = self.packed(count)?;
        if numbers.iter().fold(0, |all, number| all | number) > u64::from(u32::MAX) {
            return Err(self.heads.damaged());
        }
        Ok(numbers.into_iter().map(|number| number as u32).collect())
    }

    /// A column of values in places that are looked up.
    pub(crate) fn packed_later(&mut self, count: usize) -> Result<PackedColumn<'a>, ReadError> {
        let column = Packed::read(&mut self.heads, self.bits, &mut self.bits_start, count)?;
        Ok(PackedColumn { column, bits: self.bits })
    }

    pub(crate) fn lengths(&mut self, count: usize) -> Result<Vec<u64>, ReadError> {
        Ok(self.lengths_later(count)?.collect())
    }

    /// A column of which not every value is wanted.
    pub(crate) fn lengths_later(&mut self, count: usize) -> Result<LengthColumn<'a>, ReadError> {
        LengthColumn::read(&mut self.heads, &mut self.lengths, self.bits, &mut self.bits_start, count)
    }

    pub(crate) fn falling(&mut self, first: u64, count: usize) -> Result<Vec<u64>, ReadError> {
        let mut values = self.lengths(count)?;
        let mut value = first;
        for step in &mut values {
            value = value.checked_sub(*step).ok_or_else(|| self.heads.damaged())?;
            *step = value;
        }
        Ok(values)
    }

    /// Everything must have been read.
    pub(crate) fn finish(self) -> Result<(), ReadError> {
        let whole = self.heads.is_empty() && self.lengths.is_empty() && self.bits_start == self.bits.len();
        if whole { Ok(()) } else { Err(self.heads.damaged()) }
    }
}
