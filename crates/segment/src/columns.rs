//! Columns of whole numbers.
//!
//! [`Packed`]: every value above the least one in the same number of bits, and the few that need more listed
//! apart; any value is read without the others. [`put_lengths`]: every value in as many bits as it has, for
//! times, whose sizes differ widely; read as a whole.

use std::borrow::Cow;

use crate::bits::{BitWriter, bit_length, bits_at};
use crate::codec::{Cursor, Packer, ReadError, put, put_mark, unpack_stream};
use crate::dictionary::Dictionary;

/// Columns of times are often whole micro- or milliseconds.
const SCALES: [u64; 3] = [1, 1_000, 1_000_000];
/// What the place of a listed value costs, in bits, when a width is chosen.
const PLACE_BITS: usize = 12;

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
    column: Vec<u64>,
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

/// The greatest scale that divides all; nearly always decided by the first value.
fn scale_of(values: &[u64]) -> usize {
    let all = |divides: fn(u64) -> bool| values.iter().all(|value| divides(*value));
    match () {
        () if !all(|value| value.is_multiple_of(SCALES[1])) => 0,
        () if !all(|value| value.is_multiple_of(SCALES[2])) => 1,
        () => 2,
    }
}

/// Divides by a scale; written out, because dividing by a constant costs a tenth.
#[inline]
fn scaled(value: u64, scale: usize) -> u64 {
    match scale {
        0 => value,
        1 => value / SCALES[1],
        _ => value / SCALES[2],
    }
}

/// Writes a column to be read value by value.
pub(crate) fn put_packed(streams: &mut Streams, values: impl Iterator<Item = u64>) {
    let mut values_of = std::mem::take(&mut streams.column);
    values_of.clear();
    let (mut least, mut most) = (u64::MAX, 0);
    values_of.extend(values.inspect(|value| {
        least = least.min(*value);
        most = most.max(*value);
    }));
    put_column(streams, &mut values_of, least, most);
    streams.column = values_of;
}

fn put_column(streams: &mut Streams, values: &mut [u64], least: u64, most: u64) {
    if least >= most {
        // A constant, or nothing: no bits at all.
        put(&mut streams.heads, 0);
        put(&mut streams.heads, most);
        return;
    }
    let scale = if most < SCALES[1] { 0 } else { scale_of(values) };
    let base = scaled(least, scale);
    match scale {
        0 => values.iter_mut().for_each(|value| *value -= base),
        1 => values.iter_mut().for_each(|value| *value = *value / SCALES[1] - base),
        _ => values.iter_mut().for_each(|value| *value = *value / SCALES[2] - base),
    }
    let (width, listed) = width_of(values, scaled(most, scale) - base);
    let heads = &mut streams.heads;
    put(heads, u64::from(width) + 65 * scale as u64 + if listed > 0 { 195 } else { 0 });
    put(heads, base);
    if listed > 0 {
        put(heads, listed as u64);
        for (at, value) in values.iter_mut().enumerate().filter(|(_, value)| bit_length(**value) > width) {
            put(heads, at as u64);
            put(heads, std::mem::take(value));
        }
    }
    if width > 0 {
        let mut writer = BitWriter::new(&mut streams.bits, values.len() * width as usize);
        values.iter().for_each(|value| writer.put(*value, width));
        writer.finish();
    }
}

/// The cheapest width, and how many values are too large for it.
fn width_of(values: &[u64], most: u64) -> (u32, usize) {
    let widest = bit_length(most) as usize;
    if widest == 1 {
        // Listing pays only if hardly any value is set.
        let set = values.iter().sum::<u64>() as usize;
        return if set * (PLACE_BITS + 8) < values.len() { (0, set) } else { (1, 0) };
    }
    let mut counts = [0_u32; 65];
    values.iter().for_each(|value| counts[bit_length(*value) as usize] += 1);
    let (mut best, mut larger, mut listed_bits) = ((usize::MAX, 0, 0), 0, 0);
    for width in (0..=widest).rev() {
        let cost = values.len() * width + listed_bits;
        if cost < best.0 {
            best = (cost, width as u32, larger);
        }
        larger += counts[width] as usize;
        listed_bits += counts[width] as usize * (PLACE_BITS + 8 * width.div_ceil(7));
    }
    (best.1, best.2)
}

/// A column that was written by [`put_packed`].
#[derive(Debug)]
pub(crate) struct Packed {
    start: usize,
    width: u32,
    scale: u64,
    base: u64,
    listed: Vec<(u32, u64)>,
}

impl Packed {
    /// Reads the head of a column of `count` values, whose bits begin at `bits_start` of `bits`; moves that to
    /// their end.
    pub(crate) fn read(
        heads: &mut Cursor<'_>,
        bits: &[u8],
        bits_start: &mut usize,
        count: usize,
    ) -> Result<Self, ReadError> {
        let head = heads.u64()?;
        if head >= 2 * 195 {
            return Err(heads.damaged());
        }
        let (width, scale) = ((head % 65) as u32, SCALES[(head % 195 / 65) as usize]);
        let base = heads.u64()?;
        let mut listed = Vec::new();
        if head >= 195 {
            for _ in 0..heads.count()? {
                listed.push((heads.u32()?, heads.u64()?));
            }
        }
        let start = *bits_start;
        *bits_start = start + (count * width as usize).div_ceil(8);
        if *bits_start > bits.len() {
            return Err(heads.damaged());
        }
        Ok(Self { start, width, scale, base, listed })
    }

    #[inline]
    pub(crate) fn get(&self, bits: &[u8], at: usize) -> u64 {
        let mut value = bits_at(bits, self.start * 8 + at * self.width as usize, self.width);
        if !self.listed.is_empty()
            && let Ok(found) = self.listed.binary_search_by_key(&(at as u32), |(at, _)| *at)
        {
            value = self.listed[found].1;
        }
        self.unscaled(value)
    }

    #[inline]
    fn unscaled(&self, value: u64) -> u64 {
        value.wrapping_add(self.base).wrapping_mul(self.scale)
    }

    /// All of `count` values, which takes a third of getting one after the other.
    fn all(&self, bits: &[u8], count: usize) -> Vec<u64> {
        /// So wide a value lies in eight bytes wherever it begins in the first.
        const ONE_LOAD: u32 = 57;
        if self.width == 0 && self.listed.is_empty() {
            return vec![self.unscaled(0); count];
        }
        let bits = bits.get(self.start..).unwrap_or_default();
        let mask = if self.width < ONE_LOAD { (1 << self.width) - 1 } else { 0 };
        let value = |nth: usize| {
            let at = nth * self.width as usize;
            let value = match bits.get(at / 8..).and_then(|rest| rest.first_chunk()) {
                Some(chunk) if mask > 0 => u64::from_le_bytes(*chunk) >> (at % 8) & mask,
                _ => bits_at(bits, at, self.width),
            };
            self.unscaled(value)
        };
        let mut values: Vec<u64> = (0..count).map(value).collect();
        for &(at, value) in &self.listed {
            if let Some(place) = values.get_mut(at as usize) {
                *place = self.unscaled(value);
            }
        }
        values
    }

    /// Bytes of memory beside the block's own.
    pub(crate) fn bytes(&self) -> usize {
        size_of::<Self>() + self.listed.len() * 16
    }
}

/// A [`Packed`] column with its bits.
#[derive(Debug)]
pub(crate) struct PackedColumn<'a> {
    column: Packed,
    bits: &'a [u8],
}

impl PackedColumn<'_> {
    #[inline]
    pub(crate) fn get(&self, at: usize) -> u64 {
        self.column.get(self.bits, at)
    }
}

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

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn values() -> impl Strategy<Value = Vec<u64>> {
        let value = prop_oneof![0..5_u64, any::<u64>(), (0..64_u32).prop_map(|n| 1 << n), Just(u64::MAX)];
        (vec(value, 0..200), 0..3_usize, any::<u64>()).prop_map(|(values, scale, base)| {
            values.into_iter().map(|value| value.wrapping_add(base) / SCALES[scale] * SCALES[scale]).collect()
        })
    }

    /// Listing a value is not free: times of some minutes are packed, and one that is far off is listed.
    #[test]
    fn wide_values_are_listed_only_if_they_are_few() {
        let mut times: Vec<u64> = (0..200_u64).map(|n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 26).collect();
        let mut streams = Streams::default();
        put_packed(&mut streams, times.iter().copied());
        assert!(streams.heads.len() < 50, "{} bytes of heads", streams.heads.len());
        assert!(streams.bits.len() <= 200 * 38_usize.div_ceil(8));
        times.iter_mut().for_each(|time| *time >>= 30);
        times[7] = u64::MAX;
        streams.clear();
        put_packed(&mut streams, times.iter().copied());
        assert!(streams.bits.len() <= 200, "{} bytes of bits", streams.bits.len());
    }

    proptest! {
        #[test]
        fn columns_come_back(values in values()) {
            let mut streams = Streams::default();
            put_packed(&mut streams, values.iter().copied());
            put_lengths(&mut streams, values.iter().copied());
            let (mut heads, mut lengths) = (Cursor::new(&streams.heads, "x"), Cursor::new(&streams.lengths, "x"));
            let mut start = 0;
            let packed = Packed::read(&mut heads, &streams.bits, &mut start, values.len()).unwrap();
            let read: Vec<_> = (0..values.len()).map(|at| packed.get(&streams.bits, at)).collect();
            prop_assert_eq!(&read, &values);
            prop_assert_eq!(&packed.all(&streams.bits, values.len()), &values);
            let (again, begin) = (&mut Cursor::new(&streams.lengths, "x"), start);
            let column = LengthColumn::read(&mut heads, &mut lengths, &streams.bits, &mut start, values.len()).unwrap();
            prop_assert_eq!(column.len(), values.len());
            prop_assert_eq!(&column.collect::<Vec<_>>(), &values);
            // Every other value is passed over, then all that are left.
            let mut head = Cursor::new(&streams.heads[streams.heads.len() - 1..], "x");
            let mut column = LengthColumn::read(&mut head, again, &streams.bits, &mut begin.clone(), values.len()).unwrap();
            for value in values.iter().step_by(2) {
                prop_assert_eq!(column.next(), Some(*value));
                column.pass(1);
            }
            column.pass(values.len());
            prop_assert_eq!(column.next(), None);
            prop_assert_eq!(start, streams.bits.len());
            prop_assert!(heads.is_empty() && lengths.is_empty());
        }
    }
}
