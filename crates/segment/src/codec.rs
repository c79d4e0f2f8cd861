//! Varints, bounded reads and the compression of blocks.

use std::borrow::Cow;
use std::io;
use std::sync::{Mutex, PoisonError};

use zstd::bulk::{Compressor, Decompressor};
use zstd::zstd_safe::CParameter;

use crate::dictionary::Dictionary;

/// Blocks hold at most this many bytes when inflated; a larger one is damage, not data. One trace block of a
/// giant trace is the largest thing there is.
pub(crate) const INFLATED_MAX: usize = 1 << 30;

/// A shorter stream is not worth the compressor's start.
const STREAM_MIN: usize = 48;
/// See [`put_mark`].
const MARK: [u8; 4] = [2, b'L', b'P', 0xff];

/// No zstd frame inflates to more than this many times its length: its blocks inflate to 128 KiB at most and take
/// four bytes at least.
const ZSTD_RATIO_MAX: usize = 32 << 10;

/// zstd level of blocks: the fastest that still finds most of what repeats.
const LEVEL: i32 = 1;
/// The level in small segments. They are made when little comes, so there is time, and 3 % are found besides.
const SMALL_LEVEL: i32 = 6;
/// A segment of fewer bytes of requests is small. In a larger one a dictionary saves less than 1 %.
pub(crate) const SMALL_BYTES: usize = 2 << 20;

/// Where a segment's values are fetched from.
pub trait Blocks: Send + Sync + std::fmt::Debug {
    /// The value of a key, `None` where there is none.
    ///
    /// # Errors
    /// If the store cannot read, or finds the value damaged.
    fn get(&self, key: crate::Key) -> Result<Option<Vec<u8>>, ReadError>;

    /// The dictionary that the segment's meta names, if it names one.
    fn dictionary(&self) -> Option<&Dictionary> {
        None
    }
}

/// Why something stored could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The store failed.
    #[error("cannot read the store: {0}")]
    Store(String),
    /// The store cannot be read for the moment.
    #[error("cannot read the store: the database is being opened again")]
    Closed,
    /// The bytes are not what was written.
    #[error("damaged {0}")]
    Damaged(&'static str),
    /// The store found that the bytes under a key are not what was written.
    #[error("damaged {key:?}: {reason}")]
    Corrupt {
        /// The key.
        key: crate::Key,
        /// What the store said.
        reason: String,
    },
    /// A key that the segment's meta promises is not there.
    #[error("missing {0:?}")]
    Missing(crate::Key),
    /// Written by a newer version.
    #[error("segment format {0} is newer than this version reads ({newest})", newest = crate::FORMAT)]
    Format(u32),
}

impl ReadError {
    /// Whether it is the bytes that are at fault: then reading them again ends in the same. A store that fails may not
    /// do so the next time.
    pub fn is_damage(&self) -> bool {
        matches!(self, Self::Damaged(_) | Self::Corrupt { .. } | Self::Missing(_))
    }

    /// Whether it is sure to pass. A store that fails at one place while it is open may do so for ever.
    pub fn is_passing(&self) -> bool {
        matches!(self, Self::Closed)
    }
}

pub(crate) fn fetch(blocks: &dyn Blocks, key: crate::Key) -> Result<Vec<u8>, ReadError> {
    blocks.get(key)?.ok_or(ReadError::Missing(key))
}

pub(crate) fn put(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Whether two strings are the same; in place, because most are short.
#[inline(always)]
pub(crate) fn same(a: &[u8], b: &[u8]) -> bool {
    match (a.last_chunk::<8>(), b.last_chunk::<8>()) {
        (Some(last_a), Some(last_b)) if a.len() == b.len() => {
            last_a == last_b && a.chunks_exact(8).zip(b.chunks_exact(8)).all(|(a, b)| a == b)
        }
        _ => a == b,
    }
}

/// A reader that ends in an error, never in a panic.
#[derive(Debug)]
pub(crate) struct Cursor<'a> {
    rest: &'a [u8],
    what: &'static str,
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(bytes: &'a [u8], what: &'static str) -> Self {
        Self { rest: bytes, what }
    }

    /// What is read, for errors.
    pub(crate) fn what(&self) -> &'static str {
        self.what
    }

    pub(crate) fn damaged(&self) -> ReadError {
        ReadError::Damaged(self.what)
    }

    /// Nothing must be left: bytes behind the last value are not what was written.
    pub(crate) fn end(&self) -> Result<(), ReadError> {
        if self.rest.is_empty() { Ok(()) } else { Err(self.damaged()) }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Bytes not read yet.
    pub(crate) fn left(&self) -> usize {
        self.rest.len()
    }

    pub(crate) fn bytes(&mut self, count: usize) -> Result<&'a [u8], ReadError> {
        let (head, tail) = self.rest.split_at_checked(count).ok_or(ReadError::Damaged(self.what))?;
        self.rest = tail;
        Ok(head)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], ReadError> {
        self.bytes(N)?.try_into().map_err(|_| ReadError::Damaged(self.what))
    }

    pub(crate) fn u64(&mut self) -> Result<u64, ReadError> {
        let mut value = 0;
        for (at, &byte) in self.rest.iter().take(10).enumerate() {
            // The tenth byte holds only the top bit of a 64-bit number.
            if at == 9 && byte > 1 {
                return Err(self.damaged());
            }
            value |= u64::from(byte & 0x7f) << (7 * at);
            if byte < 0x80 {
                self.rest = &self.rest[at + 1..];
                return Ok(value);
            }
        }
        Err(self.damaged())
    }

    pub(crate) fn u32(&mut self) -> Result<u32, ReadError> {
        u32::try_from(self.u64()?).map_err(|_| self.damaged())
    }

    /// A count of things that take at least one byte each, so that a damaged count cannot ask for memory.
    pub(crate) fn count(&mut self) -> Result<usize, ReadError> {
        let count = self.u64()? as usize;
        if count > self.rest.len() { Err(self.damaged()) } else { Ok(count) }
    }

    pub(crate) fn sized(&mut self) -> Result<&'a [u8], ReadError> {
        let count = self.count()?;
        self.bytes(count)
    }
}

/// Compresses blocks, keeping its tables between them.
#[allow(missing_debug_implementations, reason = "the compressor has none")]
pub(crate) struct Packer {
    zstd: Compressor<'static>,
}

impl Packer {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self { zstd: Compressor::new(LEVEL)? })
    }

    /// For a small segment, and with a dictionary if there is one.
    pub(crate) fn of_small(dictionary: Option<&[u8]>) -> io::Result<Self> {
        let mut zstd = match dictionary {
            Some(bytes) => Compressor::with_dictionary(SMALL_LEVEL, bytes)?,
            None => Compressor::new(SMALL_LEVEL)?,
        };
        // The meta names the dictionary; four bytes in each frame would name it again.
        zstd.set_parameter(CParameter::DictIdFlag(false))?;
        Ok(Self { zstd })
    }

    /// u32 inflated length, then a zstd frame.
    pub(crate) fn pack(&mut self, raw: &[u8]) -> io::Result<Vec<u8>> {
        let length = u32::try_from(raw.len()).map_err(|_| io::Error::other("block over 4 GiB"))?;
        let packed = self.zstd.compress(raw)?;
        let mut out = Vec::with_capacity(packed.len() + 4);
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(&packed);
        Ok(out)
    }

    /// Appends a stream of a block: varint inflated length, varint stored length, then a zstd frame, or the
    /// bytes as they are if that is no more.
    pub(crate) fn pack_stream(&mut self, raw: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
        if u32::try_from(raw.len()).is_err() {
            return Err(io::Error::other("block over 4 GiB"));
        }
        put(out, raw.len() as u64);
        let packed = if raw.len() < STREAM_MIN { Vec::new() } else { self.zstd.compress(raw)? };
        let stored = if packed.is_empty() || packed.len() >= raw.len() { raw } else { &packed };
        put(out, stored.len() as u64);
        out.extend_from_slice(stored);
        Ok(())
    }
}

/// What begins a block that is not one zstd frame: as an inflated length it would be damage.
pub(crate) fn put_mark(out: &mut Vec<u8>) {
    out.extend_from_slice(&MARK);
}

/// The bytes after the mark; `None` for a block of one zstd frame.
pub(crate) fn after_mark(bytes: &[u8]) -> Option<&[u8]> {
    bytes.strip_prefix(&MARK)
}

pub(crate) fn unpack_stream<'a>(
    cursor: &mut Cursor<'a>,
    dictionary: Option<&Dictionary>,
) -> Result<Cow<'a, [u8]>, ReadError> {
    let length = cursor.u64()? as usize;
    let stored = cursor.sized()?;
    if stored.len() == length {
        return Ok(Cow::Borrowed(stored));
    }
    inflate(stored, length, dictionary, cursor.what).map(Cow::Owned)
}

pub(crate) fn unpack(
    packed: &[u8],
    dictionary: Option<&Dictionary>,
    what: &'static str,
) -> Result<Vec<u8>, ReadError> {
    let mut cursor = Cursor::new(packed, what);
    let length = u32::from_le_bytes(cursor.array()?) as usize;
    inflate(cursor.rest, length, dictionary, what)
}

/// Memory is taken only for what the frame itself says, too.
fn inflate(
    frame: &[u8],
    length: usize,
    dictionary: Option<&Dictionary>,
    what: &'static str,
) -> Result<Vec<u8>, ReadError> {
    let said = zstd::zstd_safe::get_frame_content_size(frame);
    // The stored length alone must not decide how much memory is taken.
    let most = INFLATED_MAX.min(frame.len().saturating_mul(ZSTD_RATIO_MAX));
    if length > most || !matches!(said, Ok(Some(said)) if said == length as u64) {
        return Err(ReadError::Damaged(what));
    }
    let inflated = match dictionary {
        Some(dictionary) => Decompressor::with_prepared_dictionary(dictionary.decoder())
            .and_then(|mut zstd| zstd.decompress(frame, length)),
        None => with_plain(|zstd| zstd.decompress(frame, length)),
    };
    let raw = inflated.map_err(|_| ReadError::Damaged(what))?;
    if raw.len() == length { Ok(raw) } else { Err(ReadError::Damaged(what)) }
}

/// Decompressors that are kept for the next to come; making one costs as much as a small frame.
const IDLE_MAX: usize = 4;
static IDLE: Mutex<Vec<Decompressor<'static>>> = Mutex::new(Vec::new());

fn with_plain<T>(work: impl FnOnce(&mut Decompressor<'static>) -> io::Result<T>) -> io::Result<T> {
    let idle = || IDLE.lock().unwrap_or_else(PoisonError::into_inner);
    let kept = idle().pop();
    let mut zstd = kept.map_or_else(Decompressor::new, Ok)?;
    let done = work(&mut zstd);
    let mut idle = idle();
    if idle.len() < IDLE_MAX {
        idle.push(zstd);
    }
    done
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_varint_over_64_bits_is_damage() {
        let mut longest = [0xff; 10];
        longest[9] = 1;
        assert_eq!(Cursor::new(&longest, "a number").u64().unwrap(), u64::MAX);
        longest[9] = 2;
        assert!(Cursor::new(&longest, "a number").u64().is_err());
    }

    #[test]
    fn a_length_that_the_frame_cannot_have_is_damage() {
        let packed = Packer::new().unwrap().pack(b"a few bytes").unwrap();
        assert_eq!(unpack(&packed, None, "block").unwrap(), b"a few bytes");
        let mut swollen = packed;
        swollen[..4].copy_from_slice(&(INFLATED_MAX as u32).to_le_bytes());
        assert!(unpack(&swollen, None, "block").is_err());
        let zeros = vec![0; 64 << 20];
        let squeezed = Packer::new().unwrap().pack(&zeros).unwrap();
        assert_eq!(unpack(&squeezed, None, "block").unwrap(), zeros, "as small as a frame gets");
    }
}
