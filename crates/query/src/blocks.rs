//! Blocks of derived files: each with its checksum, so that what is read is what was written.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use xxhash_rust::xxh3::xxh3_64;

/// Bytes of a block.
pub(crate) const BLOCK: usize = 4096;
/// Bytes of what is in it; the xxh3-64 of these follows.
pub(crate) const CONTENT: usize = BLOCK - 8;

/// A block of this content; what is left of it is zero.
pub(crate) fn seal(content: &[u8]) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    block[..CONTENT].iter_mut().zip(content).for_each(|(to, from)| *to = *from);
    let sum = xxh3_64(&block[..CONTENT]);
    block[CONTENT..].copy_from_slice(&sum.to_le_bytes());
    block
}

/// The block at this offset.
///
/// # Errors
/// If it cannot be read or is not what was written.
pub(crate) fn read(file: &File, offset: u64) -> io::Result<[u8; BLOCK]> {
    let mut block = [0; BLOCK];
    file.read_exact_at(&mut block, offset)?;
    if xxh3_64(&block[..CONTENT]) != u64_at(&block, CONTENT) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "damaged block"));
    }
    Ok(block)
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|b| b.try_into().ok()).map_or(0, u32::from_le_bytes)
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..at + 8).and_then(|b| b.try_into().ok()).map_or(0, u64::from_le_bytes)
}
