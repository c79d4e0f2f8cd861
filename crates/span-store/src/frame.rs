//! A log frame: the requests of one group commit, as the clients sent them, compressed with LZ4.
//!
//! ```text
//! 0      u8  version = 1
//! 1      u8  flags (bit 0: lz4)
//! 2..6   u32 inflated length of the payload
//! 6..10  u32 number of requests
//! 10..18 u64 xxh3-64 of the inflated payload
//! 18..26 u64 arrival, unix nanoseconds
//! 26..   payload: { varint length, ExportTraceServiceRequest } ...
//! ```
//! Integers are little-endian.

use bytes::Bytes;
use trace_model::UnixNanos;
use xxhash_rust::xxh3::xxh3_64;

const VERSION: u8 = 1;
const LZ4: u8 = 1;
const HEADER: usize = 26;
/// No frame is written larger than this; a larger one on disk is damage.
const PAYLOAD_MAX: usize = 512 << 20;
/// No LZ4 block inflates to more than this many times its length: a byte of match length adds 255.
const LZ4_RATIO_MAX: usize = 255;

/// A frame, read back.
#[derive(Debug)]
pub struct Frame {
    /// When its requests arrived, by the server's clock.
    pub arrival: UnixNanos,
    /// The requests, in the order they were committed.
    pub requests: Vec<Bytes>,
}

/// Why a stored frame cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Shorter than its header says.
    #[error("log frame is cut short")]
    Short,
    /// An unknown version.
    #[error("log frame has version {0}, this version reads {VERSION}")]
    Version(u8),
    /// The payload is not what was written.
    #[error("log frame is damaged")]
    Damaged,
    /// It had been written, and is not there any more.
    #[error("log frame is lost")]
    Lost,
    /// The database cannot read it.
    #[error("log frame cannot be read: {0}")]
    Unreadable(String),
}

/// Builds frames, keeping its buffers.
#[derive(Debug, Default)]
pub(crate) struct FrameWriter {
    payload: Vec<u8>,
    frame: Vec<u8>,
}

impl FrameWriter {
    /// The bytes of a frame of these requests; `None` if they are too much for one.
    pub(crate) fn write(&mut self, requests: &[Bytes], arrival: UnixNanos) -> Option<&[u8]> {
        // One giant request must not keep its memory for ever.
        if self.payload.capacity().max(self.frame.capacity()) > 32 << 20 {
            *self = Self::default();
        }
        self.payload.clear();
        for request in requests {
            put_varint(&mut self.payload, request.len() as u64);
            self.payload.extend_from_slice(request);
        }
        if self.payload.len() > PAYLOAD_MAX {
            return None;
        }
        // It only grows: room that was made once is not filled with zeros again.
        let most = HEADER + lz4_flex::block::get_maximum_output_size(self.payload.len());
        if self.frame.len() < most {
            self.frame.resize(most, 0);
        }
        let (header, packed) = self.frame.split_at_mut(HEADER);
        header[..2].copy_from_slice(&[VERSION, LZ4]);
        header[2..6].copy_from_slice(&(self.payload.len() as u32).to_le_bytes());
        header[6..10].copy_from_slice(&(requests.len() as u32).to_le_bytes());
        header[10..18].copy_from_slice(&xxh3_64(&self.payload).to_le_bytes());
        header[18..26].copy_from_slice(&arrival.0.to_le_bytes());
        let packed = lz4_flex::block::compress_into(&self.payload, packed).ok()?;
        self.frame.get(..HEADER + packed)
    }
}

/// The inflated bytes of a frame's payload, as it says itself; 0 if that cannot be.
pub(crate) fn inflated_length(bytes: &[u8]) -> usize {
    let length = u32_at(bytes, 2) as usize;
    if length > PAYLOAD_MAX.min(bytes.len().saturating_mul(LZ4_RATIO_MAX)) { 0 } else { length }
}

impl Frame {
    /// Reads a frame.
    ///
    /// # Errors
    /// If the bytes are not a whole frame of a known version.
    pub fn read(bytes: &[u8]) -> Result<Self, FrameError> {
        let (header, packed) = bytes.split_at_checked(HEADER).ok_or(FrameError::Short)?;
        if header[0] != VERSION {
            return Err(FrameError::Version(header[0]));
        }
        let length = u32_at(header, 2) as usize;
        let count = u32_at(header, 6);
        if length > PAYLOAD_MAX {
            return Err(FrameError::Damaged);
        }
        // Taken before anything is allocated: the stored length alone must not decide how much.
        if length > packed.len().saturating_mul(LZ4_RATIO_MAX) {
            return Err(FrameError::Damaged);
        }
        let payload = if header[1] & LZ4 != 0 {
            lz4_flex::block::decompress(packed, length).map_err(|_| FrameError::Damaged)?
        } else {
            packed.to_vec()
        };
        if payload.len() != length || xxh3_64(&payload) != u64_at(header, 10) {
            return Err(FrameError::Damaged);
        }
        let requests = split(&Bytes::from(payload), count)?;
        Ok(Self { arrival: UnixNanos(u64_at(header, 18)), requests })
    }
}

fn split(payload: &Bytes, count: u32) -> Result<Vec<Bytes>, FrameError> {
    let mut requests = Vec::new();
    let mut at = 0;
    while at < payload.len() {
        // Empty requests take a byte each and would take many times that in memory.
        if requests.len() == count as usize {
            return Err(FrameError::Damaged);
        }
        let (length, used) = read_varint(&payload[at..]).ok_or(FrameError::Damaged)?;
        at += used;
        let end = at.checked_add(length as usize).filter(|&end| end <= payload.len());
        let end = end.ok_or(FrameError::Damaged)?;
        requests.push(payload.slice(at..end));
        at = end;
    }
    if requests.len() == count as usize { Ok(requests) } else { Err(FrameError::Damaged) }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|b| b.try_into().ok()).map_or(0, u32::from_le_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..at + 8).and_then(|b| b.try_into().ok()).map_or(0, u64::from_le_bytes)
}

fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn read_varint(bytes: &[u8]) -> Option<(u64, usize)> {
    let mut value = 0;
    for (at, &byte) in bytes.iter().take(10).enumerate() {
        // The tenth byte holds only the top bit of a 64-bit number.
        if at == 9 && byte > 1 {
            return None;
        }
        value |= u64::from(byte & 0x7f) << (7 * at);
        if byte < 0x80 {
            return Some((value, at + 1));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Vec<u8> {
        let requests = [Bytes::from(vec![7; 300]), Bytes::new(), Bytes::from_static(b"abc")];
        FrameWriter::default().write(&requests, UnixNanos(42)).unwrap().to_vec()
    }

    #[test]
    fn a_frame_reads_back_as_it_was_written() {
        let frame = Frame::read(&sample()).unwrap();
        assert_eq!(frame.arrival, UnixNanos(42));
        assert_eq!(frame.requests.len(), 3);
        assert_eq!(&frame.requests[2][..], b"abc");
        // Each request and its length.
        assert_eq!(inflated_length(&sample()), 300 + 2 + 1 + 3 + 1);
    }

    #[test]
    fn a_length_that_the_block_cannot_have_is_refused_before_memory_is_taken() {
        let mut bytes = sample();
        bytes[2..6].copy_from_slice(&(PAYLOAD_MAX as u32).to_le_bytes());
        assert_eq!(Frame::read(&bytes).unwrap_err(), FrameError::Damaged);
        let zeros = [Bytes::from(vec![0; 1 << 20])];
        let squeezed = FrameWriter::default().write(&zeros, UnixNanos(1)).unwrap().to_vec();
        assert_eq!(Frame::read(&squeezed).unwrap().requests, zeros, "as small as a block gets");
    }

    #[test]
    fn a_varint_over_64_bits_is_none() {
        let mut longest = [0xff; 10];
        longest[9] = 1;
        assert_eq!(read_varint(&longest), Some((u64::MAX, 10)));
        longest[9] = 2;
        assert_eq!(read_varint(&longest), None);
    }

    #[test]
    fn every_cut_and_every_flipped_byte_is_noticed() {
        let whole = sample();
        for cut in 0..whole.len() {
            assert!(Frame::read(&whole[..cut]).is_err(), "cut at {cut}");
        }
        // The arrival and the unused flag bits are not covered by the checksum.
        for at in (0..18).chain(26..whole.len()).filter(|&at| at != 1) {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x55;
            assert!(Frame::read(&bytes).is_err(), "flipped at {at}");
        }
    }
}
