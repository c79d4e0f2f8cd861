//! A log frame: the requests of one group commit, as the clients sent them, compressed with LZ4.
//!
//! ```text
//! 0      u8  version = 2
//! 1..9   u64 xxh3-64 of all that follows
//! 9..13  u32 inflated length of the payload
//! 13..17 u32 number of requests
//! 17..25 u64 arrival, unix nanoseconds
//! 25..   payload: { varint length, ExportTraceServiceRequest } ...
//! ```
//! Integers are little-endian. The payload is cut into blocks of [`BLOCK`] bytes, the last one shorter, each stored as
//! `{ u32 stored length, LZ4 block }`. A block fits the nearest caches, and its positions fit 16 bits: a quarter less
//! time than one block of megabytes, for an eighth more bytes. The checksum is of what is stored, which is a fifth of what
//! would be inflated. Version 1 ([`v1`]) is read, and not written any more.
//!
//! Every later version begins with the version and, in the same place, the xxh3-64 of all that follows, seeded with the
//! version. So a newer frame is known for one by every reader from now on, and is not taken for a damaged one, nor the other
//! way round: the checksum of version 2 does not cover the first byte.

use bytes::Bytes;
use trace_model::UnixNanos;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

mod v1;

/// The version that is written, and the newest that is read.
pub(crate) const VERSION: u8 = 2;
const HEADER: usize = 25;
/// Where that begins which the checksum is of.
const CHECKED: usize = 9;
/// Inflated bytes of a block: the most whose positions the compressor keeps in 16 bits.
const BLOCK: usize = 65_534;
/// The stored length before a block.
const BLOCK_HEAD: usize = 4;
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
    /// A newer version.
    #[error("log frame has version {0}, this one reads {old} and {VERSION}", old = v1::VERSION)]
    Version(u8),
    /// The payload is not what was written.
    #[error("log frame is damaged")]
    Damaged,
    /// It had been written, and is not there any more.
    #[error("log frame is lost")]
    Lost,
    /// The database finds that it is not what was written.
    #[error("log frame cannot be read: {0}")]
    Unreadable(String),
    /// The database failed to read it, and may not the next time.
    #[error("log frame cannot be read: {0}")]
    Failed(String),
}

/// Builds frames, keeping its buffers.
#[derive(Debug, Default)]
pub(crate) struct FrameWriter {
    /// The block that is being filled, where it is not a piece of one request.
    block: Vec<u8>,
    frame: Vec<u8>,
    /// Bytes of `frame` that are written.
    end: usize,
}

impl FrameWriter {
    /// The bytes of a frame of these requests; `None` if they are too much for one.
    pub(crate) fn write(&mut self, requests: &[Bytes], arrival: UnixNanos) -> Option<&[u8]> {
        let mut heads: Vec<Vec<u8>> = Vec::with_capacity(requests.len());
        heads.extend(requests.iter().map(|request| varint(request.len() as u64)));
        let length = heads.iter().map(Vec::len).chain(requests.iter().map(Bytes::len)).sum();
        if length > PAYLOAD_MAX {
            return None;
        }
        self.make_room(length);
        for (head, request) in heads.iter().zip(requests) {
            self.push(head)?;
            self.push(request)?;
        }
        self.close_block()?;
        let frame = self.frame.get_mut(..self.end)?;
        frame[0] = VERSION;
        frame[9..13].copy_from_slice(&(length as u32).to_le_bytes());
        frame[13..17].copy_from_slice(&(requests.len() as u32).to_le_bytes());
        frame[17..25].copy_from_slice(&arrival.0.to_le_bytes());
        let checksum = xxh3_64(&frame[CHECKED..]);
        frame[1..CHECKED].copy_from_slice(&checksum.to_le_bytes());
        Some(frame)
    }

    /// Room for a payload of this length, however badly it compresses.
    fn make_room(&mut self, length: usize) {
        // One giant request must not keep its memory for ever.
        if self.frame.capacity() > 32 << 20 {
            self.frame = Vec::new();
        }
        let block = BLOCK_HEAD + lz4_flex::block::get_maximum_output_size(BLOCK);
        let most = HEADER + (length / BLOCK + 1) * block;
        // It only grows: room that was made once is not filled with zeros again.
        if self.frame.len() < most {
            self.frame.resize(most, 0);
        }
        self.block.clear();
        self.block.reserve_exact(BLOCK);
        self.end = HEADER;
    }

    fn push(&mut self, mut bytes: &[u8]) -> Option<()> {
        while !bytes.is_empty() {
            let (fits, rest) = bytes.split_at(bytes.len().min(BLOCK - self.block.len()));
            if fits.len() == BLOCK {
                // As it lies there: most of a large request is never copied.
                put_block(&mut self.frame, &mut self.end, fits)?;
            } else {
                self.block.extend_from_slice(fits);
            }
            if self.block.len() == BLOCK {
                self.close_block()?;
            }
            bytes = rest;
        }
        Some(())
    }

    fn close_block(&mut self) -> Option<()> {
        if !self.block.is_empty() {
            put_block(&mut self.frame, &mut self.end, &self.block)?;
            self.block.clear();
        }
        Some(())
    }
}

/// Compresses a block to where the frame ends so far.
fn put_block(frame: &mut [u8], end: &mut usize, block: &[u8]) -> Option<()> {
    let (head, packed) = frame.get_mut(*end..)?.split_at_mut_checked(BLOCK_HEAD)?;
    let stored = lz4_flex::block::compress_into(block, packed).ok()?;
    head.copy_from_slice(&(stored as u32).to_le_bytes());
    *end += BLOCK_HEAD + stored;
    Some(())
}

/// The inflated bytes of a frame's payload, as it says itself; 0 if that cannot be.
pub(crate) fn inflated_length(bytes: &[u8]) -> usize {
    let at = if bytes.first() == Some(&v1::VERSION) { v1::LENGTH_AT } else { 9 };
    inflates_to(bytes, u32_at(bytes, at)).unwrap_or(0)
}

/// The version of a whole frame of a version that came later than this one.
pub(crate) fn newer_version(bytes: &[u8]) -> Option<u8> {
    let version = bytes.first().copied().filter(|&version| version > VERSION)?;
    let checked = bytes.get(CHECKED..)?;
    (xxh3_64_with_seed(checked, version.into()) == u64_at(bytes, 1)).then_some(version)
}

/// The length as a number of bytes, if so few stored ones can inflate to it. Asked before anything is allocated: the
/// stored length alone must not decide how much.
fn inflates_to(stored: &[u8], length: u32) -> Option<usize> {
    let most = PAYLOAD_MAX.min(stored.len().saturating_mul(LZ4_RATIO_MAX));
    Some(length as usize).filter(|&length| length <= most)
}

impl Frame {
    /// Reads a frame.
    ///
    /// # Errors
    /// If the bytes are not a whole frame of a known version.
    pub fn read(bytes: &[u8]) -> Result<Self, FrameError> {
        match bytes.first() {
            None => Err(FrameError::Short),
            Some(&v1::VERSION) => v1::read(bytes),
            Some(&VERSION) => Self::read_blocks(bytes),
            Some(_) => Err(newer_version(bytes).map_or(FrameError::Damaged, FrameError::Version)),
        }
    }

    fn read_blocks(bytes: &[u8]) -> Result<Self, FrameError> {
        let (header, blocks) = bytes.split_at_checked(HEADER).ok_or(FrameError::Short)?;
        if xxh3_64(&bytes[CHECKED..]) != u64_at(header, 1) {
            return Err(FrameError::Damaged);
        }
        let length = inflates_to(blocks, u32_at(header, 9)).ok_or(FrameError::Damaged)?;
        let payload = inflate(blocks, length).ok_or(FrameError::Damaged)?;
        let requests = split(&Bytes::from(payload), u32_at(header, 13))?;
        Ok(Self { arrival: UnixNanos(u64_at(header, 17)), requests })
    }
}

fn inflate(mut blocks: &[u8], length: usize) -> Option<Vec<u8>> {
    let mut payload = vec![0; length];
    for block in payload.chunks_mut(BLOCK) {
        let (head, rest) = blocks.split_at_checked(BLOCK_HEAD)?;
        let (packed, rest) = rest.split_at_checked(u32_at(head, 0) as usize)?;
        let inflated = lz4_flex::block::decompress_into(packed, block).ok()?;
        if inflated != block.len() {
            return None;
        }
        blocks = rest;
    }
    blocks.is_empty().then_some(payload)
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

fn varint(mut value: u64) -> Vec<u8> {
    let mut out = Vec::with_capacity(5);
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
    out
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
    fn requests_are_cut_anywhere_into_blocks_and_come_back_whole() {
        let mut writer = FrameWriter::default();
        for sizes in [&[BLOCK - 3][..], &[BLOCK, 1], &[BLOCK - 4, 5, 3 * BLOCK + 7, 0], &[]] {
            let requests: Vec<Bytes> =
                sizes.iter().map(|&size| (0..size).map(|at| ((at * at) >> 5) as u8).collect()).collect();
            let frame = Frame::read(writer.write(&requests, UnixNanos(9)).unwrap()).unwrap();
            assert_eq!(frame.requests, requests, "{sizes:?}");
        }
    }

    #[test]
    fn a_length_that_the_block_cannot_have_is_refused_before_memory_is_taken() {
        let mut bytes = sample();
        bytes[9..13].copy_from_slice(&(PAYLOAD_MAX as u32).to_le_bytes());
        let checksum = xxh3_64(&bytes[CHECKED..]);
        bytes[1..CHECKED].copy_from_slice(&checksum.to_le_bytes());
        assert_eq!(inflated_length(&bytes), 0);
        assert_eq!(Frame::read(&bytes).unwrap_err(), FrameError::Damaged);
        let zeros = [Bytes::from(vec![0; 1 << 20])];
        let squeezed = FrameWriter::default().write(&zeros, UnixNanos(1)).unwrap().to_vec();
        assert_eq!(Frame::read(&squeezed).unwrap().requests, zeros, "as small as a block gets");
    }

    #[test]
    fn a_newer_version_is_told_from_a_version_that_was_hit() {
        let mut bytes = sample();
        for version in (0..=u8::MAX).filter(|&version| version != VERSION) {
            bytes[0] = version;
            assert_eq!(newer_version(&bytes), None);
            assert!(!matches!(Frame::read(&bytes), Ok(_) | Err(FrameError::Version(_))), "{version}");
        }
        for version in VERSION + 1..=u8::MAX {
            let body = [7; 3];
            let checksum = xxh3_64_with_seed(&body, version.into()).to_le_bytes();
            let newer = [&[version][..], &checksum, &body].concat();
            assert_eq!(newer_version(&newer), Some(version));
            assert_eq!(Frame::read(&newer).unwrap_err(), FrameError::Version(version));
        }
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
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x55;
            assert!(Frame::read(&bytes).is_err(), "flipped at {at}");
        }
    }
}
