//! Numbers of any width in a row of bits.

/// Appends numbers of any width, the lowest bits first.
pub(crate) struct BitWriter<'a> {
    out: &'a mut Vec<u8>,
    pending: u64,
    count: u32,
}

impl<'a> BitWriter<'a> {
    /// For so many bits at most; more only take longer.
    pub(crate) fn new(out: &'a mut Vec<u8>, bits: usize) -> Self {
        out.reserve(bits / 8 + 16);
        Self { out, pending: 0, count: 0 }
    }

    /// `value` has no more than `width` bits, and `width` is at most 64.
    #[inline]
    pub(crate) fn put(&mut self, value: u64, width: u32) {
        self.pending |= value << self.count;
        let count = self.count + width;
        if count < 64 {
            self.count = count;
            return;
        }
        self.out.extend_from_slice(&self.pending.to_le_bytes());
        // What did not fit; nothing if all of it did.
        let written = 64 - self.count;
        self.pending = if written < 64 { value >> written } else { 0 };
        self.count = count - 64;
    }

    pub(crate) fn finish(self) {
        let bytes = self.pending.to_le_bytes();
        self.out.extend_from_slice(&bytes[..self.count.div_ceil(8) as usize]);
    }
}

/// `width` bits from bit `at` on; 0 where the bytes end.
#[inline]
pub(crate) fn bits_at(bytes: &[u8], at: usize, width: u32) -> u64 {
    let (byte, shift) = (at / 8, (at % 8) as u32);
    let value = match bytes.get(byte..).and_then(|rest| rest.first_chunk::<9>()) {
        // One load of eight bytes: a copy of as many as there are waits for itself to be read back.
        Some(&[low @ .., high]) => {
            let low = u64::from_le_bytes(low) >> shift;
            // In two steps, since a shift by 64 is none.
            low | u64::from(high) << 1 << (63 - shift)
        }
        None => bits_at_end(bytes, byte, shift),
    };
    if width >= 64 { value } else { value & ((1 << width) - 1) }
}

/// Where fewer than nine bytes are left.
#[cold]
fn bits_at_end(bytes: &[u8], byte: usize, shift: u32) -> u64 {
    let mut window = [0; 16];
    let rest = bytes.get(byte..).unwrap_or_default();
    let taken = rest.len().min(9);
    window[..taken].copy_from_slice(&rest[..taken]);
    (u128::from_le_bytes(window) >> shift) as u64
}

/// Bits that a value has, leading zeros left out.
pub(crate) const fn bit_length(value: u64) -> u32 {
    64 - value.leading_zeros()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One bit after the other.
    fn slowly(bytes: &[u8], at: usize, width: u32) -> u64 {
        let bit = |at: usize| u64::from(bytes.get(at / 8).is_some_and(|byte| byte >> (at % 8) & 1 == 1));
        (0..width).fold(0, |value, nth| value | bit(at + nth as usize) << nth)
    }

    #[test]
    fn bits_are_the_same_wherever_they_lie_and_none_beyond_the_end() {
        let bytes: Vec<u8> = (0..24_u8).map(|n| n.wrapping_mul(151) ^ 0x5a).collect();
        for length in [0, 1, 8, 9, 10, 24] {
            for at in 0..bytes.len() * 8 + 20 {
                for width in 0..=64 {
                    let bytes = &bytes[..length];
                    assert_eq!(
                        bits_at(bytes, at, width),
                        slowly(bytes, at, width),
                        "{width} bits at {at} of {length}"
                    );
                }
            }
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let values: Vec<(u64, u32)> =
            (0..=64).map(|width| (u64::MAX.checked_shr(64 - width).unwrap_or(0), width)).collect();
        let mut bytes = Vec::new();
        let mut writer = BitWriter::new(&mut bytes, 0);
        values.iter().for_each(|(value, width)| writer.put(*value, *width));
        writer.finish();
        let mut at = 0;
        for (value, width) in values {
            assert_eq!(bits_at(&bytes, at, width), value, "{width}");
            at += width as usize;
        }
        assert_eq!(bytes.len(), at.div_ceil(8));
    }
}
