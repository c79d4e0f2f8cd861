//! Columns of which any value is read without the others.

use super::{SCALES, Streams, scale_of, scaled};
use crate::bits::{BitWriter, bit_length, bits_at};
use crate::codec::{Cursor, ReadError, put};

/// What the place of a listed value costs, in bits, when a width is chosen.
const PLACE_BITS: usize = 12;

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
    pub(super) fn all(&self, bits: &[u8], count: usize) -> Vec<u64> {
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
    pub(super) column: Packed,
    pub(super) bits: &'a [u8],
}

impl PackedColumn<'_> {
    #[inline]
    pub(crate) fn get(&self, at: usize) -> u64 {
        self.column.get(self.bits, at)
    }
}
