//! Hashes of many segments in a file, for those that memory has no room for.
//!
//! ```text
//! 0      8 B  "LPHASHES"
//! 8      u32  version = 1
//! 12     u32  number of segments
//! 16     u64  number of entries
//! 24     u64  latest arrival in any of the segments, unix nanoseconds
//! 32..   u32 a segment
//! ..     u64  xxh3-64 of all before it
//! ..     blocks of 4096 B: 681 entries (u32 hash, u16 index of the segment), 2 B of nothing, u64 xxh3-64
//! ```
//! Integers are little-endian; the last block is filled up with its last entry. The file is derived: without it
//! the segments' own lists are read.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use span_store::SegmentId;
use xxhash_rust::xxh3::xxh3_64;

use super::run::Run;
use crate::blocks::{self, BLOCK, CONTENT, u32_at, u64_at};

const MAGIC: &[u8; 8] = b"LPHASHES";
const VERSION: u32 = 1;
const HEADER: usize = 32;
const ENTRY: usize = 6;
const ENTRIES: usize = CONTENT / ENTRY;
/// More segments than a run ever has; a larger number is damage.
const SEGMENTS_MAX: usize = 1 << 16;

/// A run in a file. Its index, one hash a block, is in memory.
#[derive(Debug)]
pub(super) struct FileRun {
    path: PathBuf,
    file: File,
    data: u64,
    /// The first hash of each block.
    firsts: Vec<u32>,
    pub(super) segments: Vec<SegmentId>,
    pub(super) arrival_max: u64,
}

impl FileRun {
    /// Writes a run into a folder.
    pub(super) fn write(dir: &Path, run: &Run) -> io::Result<Self> {
        let (first, last) = (run.segments.first(), run.segments.last());
        let name = format!("{:08x}-{:08x}.run", first.map_or(0, |id| id.0), last.map_or(0, |id| id.0));
        let path = dir.join(name);
        let unfinished = path.with_extension("tmp");
        let mut out = io::BufWriter::with_capacity(1 << 18, File::create(&unfinished)?);
        out.write_all(&header(run))?;
        let entries: Vec<(u32, u16)> = run.entries().collect();
        for block in entries.chunks(ENTRIES) {
            out.write_all(&encode(block))?;
        }
        out.flush()?;
        std::fs::rename(&unfinished, &path)?;
        Self::open(&path)
    }

    /// Opens a run.
    ///
    /// # Errors
    /// If the file is not a whole run of this version.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let damaged = || io::Error::new(io::ErrorKind::InvalidData, "not a run of trace hashes");
        let file = File::open(path)?;
        let mut header = [0; HEADER];
        file.read_exact_at(&mut header, 0)?;
        let segments = u32_at(&header, 12) as usize;
        if &header[..8] != MAGIC || u32_at(&header, 8) != VERSION || segments > SEGMENTS_MAX {
            return Err(damaged());
        }
        let mut head = vec![0; HEADER + segments * 4 + 8];
        file.read_exact_at(&mut head, 0)?;
        let (head, sum) = head.split_at(HEADER + segments * 4);
        let blocks = u64_at(head, 16).div_ceil(ENTRIES as u64);
        let data = head.len() as u64 + 8;
        let length = blocks.checked_mul(BLOCK as u64).and_then(|blocks| blocks.checked_add(data));
        if xxh3_64(head) != u64_at(sum, 0) || length != Some(file.metadata()?.len()) {
            return Err(damaged());
        }
        let mut run = Self {
            path: path.to_path_buf(),
            file,
            data,
            firsts: Vec::with_capacity(blocks as usize),
            segments: (0..segments).map(|at| SegmentId(u32_at(head, HEADER + at * 4))).collect(),
            arrival_max: u64_at(head, 24),
        };
        for number in 0..blocks {
            let block = run.block(number)?;
            run.firsts.push(u32_at(&block, 0));
        }
        Ok(run)
    }

    fn block(&self, number: u64) -> io::Result<[u8; BLOCK]> {
        blocks::read(&self.file, self.data + number * BLOCK as u64)
    }

    /// Adds the segments that have this hash; all of the run's if it cannot be read.
    pub(super) fn find(&self, hash: u32, found: &mut Vec<SegmentId>) {
        let before = found.len();
        if self.try_find(hash, found).is_err() {
            found.truncate(before);
            found.extend(&self.segments);
        }
    }

    fn try_find(&self, hash: u32, found: &mut Vec<SegmentId>) -> io::Result<()> {
        let first = self.firsts.partition_point(|first| *first < hash).saturating_sub(1);
        for number in first..self.firsts.len() {
            if self.firsts[number] > hash {
                break;
            }
            let block = self.block(number as u64)?;
            for entry in block[..ENTRIES * ENTRY].chunks_exact(ENTRY) {
                let segment = self.segments.get(usize::from(u16::from_le_bytes([entry[4], entry[5]])));
                if u32_at(entry, 0) == hash && segment.is_some_and(|id| found.last() != Some(id)) {
                    found.extend(segment);
                }
            }
        }
        Ok(())
    }

    /// Removes the file; its segments are gone.
    pub(super) fn remove(&self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

fn header(run: &Run) -> Vec<u8> {
    let mut head = MAGIC.to_vec();
    head.extend_from_slice(&VERSION.to_le_bytes());
    head.extend_from_slice(&(run.segments.len() as u32).to_le_bytes());
    head.extend_from_slice(&(run.len() as u64).to_le_bytes());
    head.extend_from_slice(&run.arrival_max.to_le_bytes());
    run.segments.iter().for_each(|id| head.extend_from_slice(&id.0.to_le_bytes()));
    let sum = xxh3_64(&head);
    head.extend_from_slice(&sum.to_le_bytes());
    head
}

fn encode(entries: &[(u32, u16)]) -> [u8; BLOCK] {
    let mut block = Vec::with_capacity(CONTENT);
    for at in 0..ENTRIES {
        if let Some((hash, place)) = entries.get(at).or(entries.last()) {
            block.extend_from_slice(&hash.to_le_bytes());
            block.extend_from_slice(&place.to_le_bytes());
        }
    }
    blocks::seal(&block)
}

#[cfg(test)]
mod fuzz;

#[cfg(test)]
mod tests {
    use super::*;

    fn run() -> Run {
        let of = |segment: u32| {
            let mut hashes: Vec<u32> =
                (0..5_000).map(|n| (segment * 5_000 + n).wrapping_mul(0x9e37_79b9)).collect();
            hashes.sort_unstable();
            Run::of(SegmentId(segment), hashes, u64::from(segment))
        };
        Run::merge(&of(3), &of(7))
    }

    #[test]
    fn a_run_in_a_file_finds_what_the_run_in_memory_finds() {
        let dir = tempfile::tempdir().unwrap();
        let run = run();
        FileRun::write(dir.path(), &run).unwrap();
        let path = dir.path().join("00000003-00000007.run");
        let file = FileRun::open(&path).unwrap();
        assert_eq!((file.arrival_max, &file.segments), (7, &run.segments));
        for (hash, place) in run.entries() {
            let mut found = Vec::new();
            file.find(hash, &mut found);
            assert!(found.contains(&run.segments[usize::from(place)]), "{hash}");
            let mut found = Vec::new();
            file.find(hash ^ 1, &mut found);
            assert_eq!(found.is_empty(), !run.has(hash ^ 1));
        }
        file.remove();
        assert!(!path.exists());
    }

    #[test]
    fn damage_is_noticed_and_hides_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let whole = FileRun::write(dir.path(), &run()).unwrap();
        let bytes = std::fs::read(&whole.path).unwrap();
        for at in (0..bytes.len()).step_by(997).chain(0..64) {
            let mut flipped = bytes.clone();
            flipped[at] ^= 0x10;
            let path = dir.path().join("flipped.run");
            std::fs::write(&path, &flipped).unwrap();
            assert!(FileRun::open(&path).is_err(), "flipped at {at}");
            std::fs::write(&path, &bytes[..at]).unwrap();
            assert!(FileRun::open(&path).is_err(), "cut at {at}");
        }
        // Damage after it was opened: every segment may hold the trace.
        std::fs::write(&whole.path, vec![0; bytes.len()]).unwrap();
        let mut found = Vec::new();
        whole.find(1 << 31, &mut found);
        assert_eq!(found, [SegmentId(3), SegmentId(7)]);
    }
}
