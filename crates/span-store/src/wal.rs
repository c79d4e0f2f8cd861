//! A look at RocksDB's write-ahead files before it opens them: is a record in the middle damaged, and how does the last
//! one end?
//!
//! RocksDB stops at the first bad record (`PointInTime`) and says nothing. At the end there is nothing else to do, but
//! a write that was cut short, and so never acknowledged, is told from one that was whole. In the middle it would drop
//! good frames that follow, so then the store is opened with another mode. This reads what both modes read, checksums
//! only, and the numbers of the frames.
//!
//! The format has been the same since LevelDB: blocks of 32 KiB; in them fragments of `crc32c u32, length u16, type
//! u8`, with a further u32 in types from 5 to 8; whole records are write batches: `sequence u64, count u32`, then the
//! puts.

use std::path::{Path, PathBuf};

use crate::error::StoreError;

const BLOCK: usize = 32 << 10;
const HEADER: usize = 7;
const RECYCLED_HEADER: usize = 11;

/// What the write-ahead files hold.
#[derive(Debug, Default)]
pub(crate) struct Scan {
    /// Places that cannot be read, oldest first.
    pub(crate) bad: Vec<BadPlace>,
    /// Whether good records follow a place where some are missing.
    pub(crate) hole: bool,
    /// The greatest frame number seen.
    pub(crate) last_frame: Option<u64>,
    /// The files, oldest first.
    pub(crate) files: Vec<PathBuf>,
    next_sequence: Option<u64>,
    /// How many of the bad places have a good record after them.
    passed: usize,
}

/// A place in a write-ahead file that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BadPlace {
    pub(crate) file: String,
    pub(crate) offset: u64,
    /// The last frame before it, if one is known.
    pub(crate) after_frame: Option<u64>,
    /// Whether the file ends within a record of which nothing is wrong so far. Whoever wrote it stopped on the way.
    pub(crate) torn: bool,
}

/// Reads all write-ahead files of a database.
pub(crate) fn scan(db_dir: &Path) -> Result<Scan, StoreError> {
    let mut scan = Scan { files: files(db_dir)?, ..Scan::default() };
    for path in scan.files.clone() {
        let bytes =
            std::fs::read(&path).map_err(|source| StoreError::Folder { dir: path.clone(), source })?;
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        scan.file(&name, &bytes);
    }
    Ok(scan)
}

/// Tells `each` the frames in the write-ahead files that can be read, in the order they were written: their numbers and
/// their bytes.
///
/// # Errors
/// If a file cannot be read.
pub(crate) fn read_frames(db_dir: &Path, each: &mut dyn FnMut(u64, &[u8])) -> Result<(), StoreError> {
    let mut scan = Scan::default();
    for path in files(db_dir)? {
        let bytes =
            std::fs::read(&path).map_err(|source| StoreError::Folder { dir: path.clone(), source })?;
        scan.records("", &bytes, &mut |batch| {
            if let Some((_, _, entries)) = batch_header(batch)
                && let (Some(seq), Some(frame)) = (frame_number(entries), frame_value(entries))
            {
                each(seq, frame);
            }
        });
    }
    Ok(())
}

/// Bytes of the write-ahead files of a database.
///
/// # Errors
/// If its folder cannot be read.
pub(crate) fn bytes(db_dir: &Path) -> Result<u64, StoreError> {
    // One that is gone by now takes no room.
    Ok(files(db_dir)?.iter().filter_map(|path| path.metadata().ok()).map(|file| file.len()).sum())
}

fn files(db_dir: &Path) -> Result<Vec<PathBuf>, StoreError> {
    let entries = match std::fs::read_dir(db_dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(StoreError::Folder { dir: db_dir.to_path_buf(), source }),
    };
    let numbered = entries.flatten().filter_map(|entry| {
        let path = entry.path();
        let number: u64 = path.file_stem()?.to_str()?.parse().ok()?;
        (path.extension()? == "log").then_some((number, path))
    });
    let mut numbered: Vec<(u64, PathBuf)> = numbered.collect();
    numbered.sort_unstable();
    Ok(numbered.into_iter().map(|(_, path)| path).collect())
}

impl Scan {
    /// The first place that cannot be read and that no good record follows: there the log ends.
    pub(crate) fn end(&self) -> Option<&BadPlace> {
        self.bad.get(self.passed)
    }

    /// The places before that.
    pub(crate) fn before_end(&self) -> &[BadPlace] {
        self.bad.get(..self.passed).unwrap_or_default()
    }

    fn file(&mut self, name: &str, bytes: &[u8]) {
        self.records(name, bytes, &mut |_| {});
    }

    /// Reads a file and tells `each` its whole write batches.
    fn records(&mut self, name: &str, bytes: &[u8], each: &mut dyn FnMut(&[u8])) {
        let mut record: Vec<u8> = Vec::new();
        let mut inside = false;
        let mut at = 0;
        while at < bytes.len() {
            let end = (at / BLOCK + 1) * BLOCK;
            let block = &bytes[at..end.min(bytes.len())];
            if block.len() < HEADER {
                // The filler of a block, or a header that was cut.
                if end > bytes.len() && block.iter().any(|&b| b != 0) {
                    self.note(name, at, true);
                }
                at = end;
                continue;
            }
            let Some(fragment) = Fragment::read(block) else {
                inside = false;
                // Preallocated room that was never written is no damage.
                if bytes[at..].iter().all(|&b| b == 0) {
                    break;
                }
                self.note(name, at, end > bytes.len() && is_cut(block, end - at));
                at = end;
                continue;
            };
            at += fragment.length;
            match fragment.kind {
                Kind::Full => {
                    inside = false;
                    self.record(fragment.payload);
                    each(fragment.payload);
                }
                Kind::First => {
                    record.clear();
                    record.extend_from_slice(fragment.payload);
                    inside = true;
                }
                Kind::Middle | Kind::Last if !inside => {}
                Kind::Middle => record.extend_from_slice(fragment.payload),
                Kind::Last => {
                    record.extend_from_slice(fragment.payload);
                    inside = false;
                    self.record(&record);
                    each(&record);
                }
                Kind::Other => {}
            }
        }
        if inside {
            self.note(name, bytes.len(), true);
        }
    }

    fn note(&mut self, file: &str, offset: usize, torn: bool) {
        self.bad.push(BadPlace {
            file: file.to_owned(),
            offset: offset as u64,
            after_frame: self.last_frame,
            torn,
        });
    }

    /// A whole write batch.
    fn record(&mut self, batch: &[u8]) {
        let Some((sequence, count, entries)) = batch_header(batch) else { return };
        // Batches follow one another without a gap, also from file to file.
        if !self.bad.is_empty() && self.next_sequence.is_none_or(|next| sequence > next) {
            self.hole = true;
        }
        self.passed = self.bad.len();
        self.next_sequence = Some(sequence + u64::from(count));
        if let Some(frame) = frame_number(entries) {
            self.last_frame = self.last_frame.max(Some(frame));
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Full,
    First,
    Middle,
    Last,
    /// About the file and not a part of a record.
    Other,
}

struct Fragment<'a> {
    kind: Kind,
    payload: &'a [u8],
    /// With its header.
    length: usize,
}

impl<'a> Fragment<'a> {
    /// The fragment at the beginning of what is left of a block, if it is whole.
    fn read(block: &'a [u8]) -> Option<Self> {
        let crc = u32::from_le_bytes(block.get(..4)?.try_into().ok()?);
        let size = usize::from(u16::from_le_bytes(block.get(4..6)?.try_into().ok()?));
        let kind = *block.get(6)?;
        if kind == 0 && size == 0 {
            return None;
        }
        let recycled = (5..=8).contains(&kind) || kind == 11 || kind == 131;
        let header = if recycled { RECYCLED_HEADER } else { HEADER };
        let length = header + size;
        if crc32c::crc32c(block.get(6..length)?) != unmask(crc) {
            return None;
        }
        let kind = match kind {
            1 | 5 => Kind::Full,
            2 | 6 => Kind::First,
            3 | 7 => Kind::Middle,
            4 | 8 => Kind::Last,
            _ => Kind::Other,
        };
        Some(Self { kind, payload: &block[header..length], length })
    }
}

/// Whether the fragment at the end of a file lacks its end and nothing else. `room` is what is left of its block. A
/// length that was hit may also point behind the file: then the checksum is right for fewer bytes.
fn is_cut(block: &[u8], room: usize) -> bool {
    let (Some(crc), Some(size)) = (block.first_chunk().copied(), block.get(4..6)) else { return true };
    let length = HEADER + usize::from(u16::from_le_bytes([size[0], size[1]]));
    if length <= block.len() || length > room {
        return false;
    }
    let stored = unmask(u32::from_le_bytes(crc));
    let mut crc = 0;
    let whole = block[6..].iter().any(|&byte| {
        crc = crc32c::crc32c_append(crc, &[byte]);
        crc == stored
    });
    !whole
}

/// RocksDB stores checksums turned and shifted, so that a checksum of checksums is not always the same.
fn unmask(crc: u32) -> u32 {
    crc.wrapping_sub(0xa282_ead8).rotate_left(15)
}

fn batch_header(batch: &[u8]) -> Option<(u64, u32, &[u8])> {
    let sequence = u64::from_le_bytes(batch.get(..8)?.try_into().ok()?);
    let count = u32::from_le_bytes(batch.get(8..12)?.try_into().ok()?);
    Some((sequence, count, batch.get(12..)?))
}

/// The key of a batch that puts one frame: the frame's number. Catalog records have other keys.
fn frame_number(entries: &[u8]) -> Option<u64> {
    const PUT_IN_FAMILY: u8 = 5;
    let rest = entries.strip_prefix(&[PUT_IN_FAMILY])?;
    let rest = skip_varint(rest)?;
    let (&length, key) = rest.split_first()?;
    if length != 8 {
        return None;
    }
    Some(u64::from_be_bytes(key.get(..8)?.try_into().ok()?))
}

/// The value of a batch that puts one frame.
fn frame_value(entries: &[u8]) -> Option<&[u8]> {
    const KEY: usize = 8;
    let rest = skip_varint(entries.get(1..)?)?.get(1 + KEY..)?;
    let mut length = 0_usize;
    for (at, &byte) in rest.iter().take(5).enumerate() {
        length |= usize::from(byte & 0x7f) << (7 * at);
        if byte < 0x80 {
            let value = rest.get(at + 1..)?;
            return value.get(..length);
        }
    }
    None
}

fn skip_varint(bytes: &[u8]) -> Option<&[u8]> {
    let end = bytes.iter().take(5).position(|byte| byte & 0x80 == 0)?;
    bytes.get(end + 1..)
}

#[cfg(test)]
mod fuzz;

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn batch(sequence: u64, frame: u64, size: usize) -> Vec<u8> {
        let mut out = sequence.to_le_bytes().to_vec();
        out.extend_from_slice(&1_u32.to_le_bytes());
        out.extend_from_slice(&[5, 9, 8]);
        out.extend_from_slice(&frame.to_be_bytes());
        out.resize(out.len() + size, 7);
        out
    }

    pub(super) fn mask(crc: u32) -> u32 {
        crc.rotate_right(15).wrapping_add(0xa282_ead8)
    }

    /// Writes a record as RocksDB does.
    pub(super) fn put(file: &mut Vec<u8>, mut record: &[u8]) {
        let mut first = true;
        loop {
            let room = BLOCK - file.len() % BLOCK;
            if room < HEADER {
                file.resize(file.len() + room, 0);
                continue;
            }
            let (part, rest) = record.split_at(record.len().min(room - HEADER));
            let kind = match (first, rest.is_empty()) {
                (true, true) => 1,
                (true, false) => 2,
                (false, false) => 3,
                (false, true) => 4,
            };
            let mut body = vec![kind];
            body.extend_from_slice(part);
            file.extend_from_slice(&mask(crc32c::crc32c(&body)).to_le_bytes());
            file.extend_from_slice(&(part.len() as u16).to_le_bytes());
            file.extend_from_slice(&body);
            (record, first) = (rest, false);
            if record.is_empty() {
                return;
            }
        }
    }

    fn sample() -> Vec<u8> {
        let mut file = Vec::new();
        for n in 0..12 {
            put(&mut file, &batch(100 + n, n + 1, 9_000));
        }
        file
    }

    fn scanned(files: &[&[u8]]) -> Scan {
        let mut scan = Scan::default();
        for (n, file) in files.iter().enumerate() {
            scan.file(&n.to_string(), file);
        }
        scan
    }

    #[test]
    fn a_whole_file_is_whole() {
        let scan = scanned(&[&sample()]);
        assert_eq!((scan.bad.len(), scan.hole, scan.last_frame), (0, false, Some(12)));
    }

    #[test]
    fn the_value_of_a_frame_is_found_and_a_cut_one_is_none() {
        for length in [0, 1, 127, 128, 300, 70_000] {
            let mut entries = vec![5, 0x81, 0x01, 8];
            entries.extend_from_slice(&9_u64.to_be_bytes());
            let mut left = length;
            while left >= 0x80 {
                entries.push(left as u8 | 0x80);
                left >>= 7;
            }
            entries.push(left as u8);
            entries.resize(entries.len() + length, 7);
            assert_eq!(frame_number(&entries), Some(9));
            assert_eq!(frame_value(&entries), Some(&vec![7; length][..]));
            assert_eq!(frame_value(&entries[..entries.len() - 1]), None, "{length}");
        }
    }

    #[test]
    fn a_cut_end_is_no_hole_and_a_flipped_byte_before_it_is_one() {
        let file = sample();
        for cut in (1..file.len()).step_by(997) {
            let scan = scanned(&[&file[..cut]]);
            assert!(!scan.hole && scan.bad.len() <= 1, "cut at {cut}: {scan:?}");
        }
        for at in (0..file.len()).step_by(997) {
            let mut damaged = file.clone();
            damaged[at] ^= 0x55;
            let scan = scanned(&[&damaged]);
            let in_last = at >= file.len() - 9_000;
            assert!(!scan.bad.is_empty(), "flipped at {at}");
            assert!(scan.hole || in_last || at > 98_304, "flipped at {at}: {scan:?}");
        }
    }

    #[test]
    fn a_record_that_was_cut_is_told_from_a_whole_one_that_is_damaged() {
        let file = sample();
        for cut in (1..file.len()).step_by(499).chain(file.len() - 300..file.len()) {
            let scan = scanned(&[&file[..cut]]);
            assert!(scan.end().is_none_or(|end| end.torn), "cut at {cut}: {scan:?}");
        }
        let last = file.len() - 9_000 - HEADER;
        for at in (last - 30..last + 40).chain(file.len() - 40..file.len()) {
            let mut damaged = file.clone();
            damaged[at] ^= 0x55;
            let scan = scanned(&[&damaged]);
            assert_eq!(scan.end().map(|end| end.torn), Some(false), "flipped at {at}: {scan:?}");
        }
    }

    #[test]
    fn the_log_ends_after_the_last_good_record_only() {
        let mut first = sample();
        first.truncate(first.len() - 100);
        let torn = scanned(&[&first]);
        assert_eq!(torn.end().map(|end| (end.torn, end.after_frame)), Some((true, Some(11))));
        let mut next = Vec::new();
        put(&mut next, &batch(111, 12, 10));
        let scan = scanned(&[&first, &next]);
        assert_eq!((scan.end(), scan.before_end().len()), (None, 1), "it goes on from there");
    }

    #[test]
    fn a_torn_end_is_no_hole_if_the_next_file_goes_on_from_it() {
        let mut first = sample();
        first.truncate(first.len() - 100);
        let mut next = Vec::new();
        put(&mut next, &batch(111, 12, 10));
        assert!(!scanned(&[&first, &next]).hole);
        let mut late = Vec::new();
        put(&mut late, &batch(112, 13, 10));
        assert!(scanned(&[&first, &late]).hole);
    }
}
