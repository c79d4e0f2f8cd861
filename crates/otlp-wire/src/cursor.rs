//! Reads protobuf fields one after the other, checking every length against its parent.

use crate::error::{WireError, WireFault};

/// A position in a message. The slice begins where the outermost message does and ends where
/// this message does, so `pos` is at once an index and the offset to name in an error.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cursor<'a> {
    buf: &'a [u8],
    pos: usize,
}

/// A field: its number and its value in the shape the wire type gives it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Field<'a> {
    pub(crate) number: u32,
    pub(crate) value: Value<'a>,
}

/// A field's value. Matching on number and value at once makes a known number with the wrong wire
/// type fall through to "unknown", as protobuf has it.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Value<'a> {
    Varint(u64),
    Fixed64(u64),
    Fixed32(u32),
    /// A length-delimited payload, as a cursor over it.
    Bytes(Cursor<'a>),
}

impl<'a> Value<'a> {
    /// The payload, if it is one.
    pub(crate) fn bytes(self) -> Option<&'a [u8]> {
        match self {
            Self::Bytes(payload) => Some(payload.rest()),
            _ => None,
        }
    }
}

impl<'a> Cursor<'a> {
    /// A cursor over a whole message.
    pub(crate) fn new(message: &'a [u8]) -> Self {
        Self { buf: message, pos: 0 }
    }

    /// Offset of the next byte to read.
    #[inline]
    pub(crate) fn pos(&self) -> usize {
        self.pos
    }

    /// The same message from an offset on, at which a field begins.
    #[inline]
    pub(crate) fn at(self, pos: usize) -> Self {
        Self { pos, ..self }
    }

    /// Offset of the first byte behind the message.
    #[inline]
    pub(crate) fn end(&self) -> usize {
        self.buf.len()
    }

    /// The bytes not read yet.
    #[inline]
    pub(crate) fn rest(&self) -> &'a [u8] {
        // `pos` never passes the end, so the default is never taken; it spares a panic path.
        self.buf.get(self.pos..).unwrap_or_default()
    }

    /// Offset and length of the bytes not read yet. Exact for messages up to `u32::MAX` bytes,
    /// which `walk` has made sure of.
    #[inline]
    pub(crate) fn range(&self) -> (u32, u32) {
        (self.pos as u32, (self.buf.len() - self.pos) as u32)
    }

    /// The next field, `None` at the end of the message.
    #[inline(always)]
    pub(crate) fn next(&mut self) -> Result<Option<Field<'a>>, WireError> {
        if self.pos >= self.buf.len() {
            return Ok(None);
        }
        let at = self.pos;
        let key = self.varint()?;
        let number = (key >> 3) as u32;
        if number == 0 || key > u64::from(u32::MAX) {
            return Err(bad_key(at, key));
        }
        let value = match key & 7 {
            2 => Value::Bytes(self.payload()?),
            0 => Value::Varint(self.varint()?),
            1 => Value::Fixed64(self.fixed64()?),
            5 => Value::Fixed32(self.fixed32()?),
            3 | 4 => return Err(WireError::at(at, WireFault::Group)),
            other => return Err(WireError::at(at, WireFault::WireType(other as u8))),
        };
        Ok(Some(Field { number, value }))
    }

    /// A varint. Nearly all of them (keys, short lengths) are one byte long.
    #[inline(always)]
    pub(crate) fn varint(&mut self) -> Result<u64, WireError> {
        match self.buf.get(self.pos) {
            Some(&byte) if byte < 0x80 => {
                self.pos += 1;
                Ok(u64::from(byte))
            }
            _ => self.long_varint(),
        }
    }

    #[inline(never)]
    fn long_varint(&mut self) -> Result<u64, WireError> {
        let mut value = 0u64;
        for (index, &byte) in self.rest().iter().take(10).enumerate() {
            // The tenth byte holds only the top bit of a 64-bit number.
            if index == 9 && byte > 1 {
                return Err(WireError::at(self.pos, WireFault::VarintTooLong));
            }
            value |= u64::from(byte & 0x7f) << (7 * index);
            if byte < 0x80 {
                self.pos += index + 1;
                return Ok(value);
            }
        }
        Err(WireError::at(self.pos, WireFault::VarintTruncated))
    }

    #[inline(always)]
    fn payload(&mut self) -> Result<Self, WireError> {
        let at = self.pos;
        let length = self.varint()?;
        let left = self.buf.len() - self.pos;
        if length > left as u64 {
            return Err(past_parent(at, length, left));
        }
        let start = self.pos;
        self.pos += length as usize;
        Ok(Self { buf: self.buf.get(..self.pos).unwrap_or_default(), pos: start })
    }

    #[inline]
    fn fixed64(&mut self) -> Result<u64, WireError> {
        let Some(bytes) = self.rest().first_chunk::<8>() else {
            return Err(WireError::at(self.pos, WireFault::Fixed64Truncated));
        };
        self.pos += 8;
        Ok(u64::from_le_bytes(*bytes))
    }

    #[inline]
    fn fixed32(&mut self) -> Result<u32, WireError> {
        let Some(bytes) = self.rest().first_chunk::<4>() else {
            return Err(WireError::at(self.pos, WireFault::Fixed32Truncated));
        };
        self.pos += 4;
        Ok(u32::from_le_bytes(*bytes))
    }
}

#[cold]
#[inline(never)]
fn bad_key(at: usize, key: u64) -> WireError {
    let fault = if key > u64::from(u32::MAX) { WireFault::FieldTooLarge } else { WireFault::FieldZero };
    WireError::at(at, fault)
}

#[cold]
#[inline(never)]
fn past_parent(at: usize, length: u64, left: usize) -> WireError {
    let left = u32::try_from(left).unwrap_or(u32::MAX);
    WireError::at(at, WireFault::LengthPastParent { length, left })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(bytes: &[u8]) -> (u64, WireFault) {
        let mut cursor = Cursor::new(bytes);
        loop {
            match cursor.next() {
                Ok(Some(_)) => {}
                Ok(None) => panic!("{bytes:x?} was accepted"),
                Err(error) => return (error.offset, error.fault),
            }
        }
    }

    #[test]
    fn every_fault_is_named_with_its_offset() {
        assert_eq!(fault(&[0x00, 0x01]), (0, WireFault::FieldZero));
        assert_eq!(fault(&[0x08, 0x01, 0x0b]), (2, WireFault::Group));
        assert_eq!(fault(&[0x0c]), (0, WireFault::Group));
        assert_eq!(fault(&[0x0e]), (0, WireFault::WireType(6)));
        assert_eq!(fault(&[0x0f]), (0, WireFault::WireType(7)));
        assert_eq!(fault(&[0x0a, 0x03, 1, 2]), (1, WireFault::LengthPastParent { length: 3, left: 2 }));
        assert_eq!(fault(&[0x0d, 1, 2, 3]), (1, WireFault::Fixed32Truncated));
        assert_eq!(fault(&[0x09, 1, 2, 3, 4, 5, 6, 7]), (1, WireFault::Fixed64Truncated));
        assert_eq!(fault(&[0x08, 0x80]), (1, WireFault::VarintTruncated));
        assert_eq!(fault(&[0x08]), (1, WireFault::VarintTruncated));
        assert_eq!(fault(&[0x80, 0x80, 0x80, 0x80, 0x10]), (0, WireFault::FieldTooLarge));
    }

    #[test]
    fn varints_reach_up_to_64_bits_and_no_further() {
        let mut most = vec![0xff; 9];
        most.push(0x01);
        assert_eq!(Cursor::new(&most).varint(), Ok(u64::MAX));
        most[9] = 0x02;
        assert_eq!(Cursor::new(&most).varint().unwrap_err().fault, WireFault::VarintTooLong);
        most[9] = 0x81;
        assert_eq!(Cursor::new(&most).varint().unwrap_err().fault, WireFault::VarintTooLong);
        // A longer form than needed is legal.
        assert_eq!(Cursor::new(&[0x81, 0x80, 0x00]).varint(), Ok(1));
    }
}
