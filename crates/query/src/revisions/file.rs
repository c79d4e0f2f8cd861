//! Last analyses in a file, for those that memory has no room for.
//!
//! Blocks of 4096 B: 204 entries (16 B key, u32 segment, little-endian), sorted by key over all blocks; then 8 B of nothing
//! and a checksum. It has no header, because it is read by none but the process that wrote it.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use span_store::SegmentId;
use xxhash_rust::xxh3::xxh3_64;

use super::filter::Filter;
use super::run::{Entry, Key};
use crate::blocks::{self, BLOCK, CONTENT, u32_at};

const ENTRY: usize = 20;
const ENTRIES: usize = CONTENT / ENTRY;

/// A run in a file. What tells where to look is in memory.
#[derive(Debug)]
pub(super) struct FileRun {
    file: OwnFile,
    /// The highest bytes of the first key of each block.
    firsts: Vec<u32>,
    filter: Filter,
    len: usize,
    /// The newest segment in it.
    pub(super) newest: SegmentId,
    /// Whether reading from it has failed.
    failed: AtomicBool,
}

/// A file that goes with its last user.
#[derive(Debug)]
struct OwnFile {
    path: PathBuf,
    file: File,
}

impl Drop for OwnFile {
    fn drop(&mut self) {
        // One that stays is removed at the next start.
        let _ = std::fs::remove_file(&self.path);
    }
}

impl FileRun {
    /// Writes a run of sorted entries, of which there are `most`. Its filter takes no more than this room, bytes.
    ///
    /// # Errors
    /// If it cannot be written or an entry cannot be read; then nothing is left of it.
    pub(super) fn write(
        path: PathBuf,
        entries: impl Iterator<Item = io::Result<Entry>>,
        most: usize,
        room: usize,
    ) -> io::Result<Self> {
        let file = File::options().read(true).write(true).create(true).truncate(true).open(&path)?;
        let file = OwnFile { path, file };
        let mut run = Self {
            file,
            firsts: Vec::with_capacity(most.div_ceil(ENTRIES)),
            filter: Filter::new(most, room),
            len: 0,
            newest: SegmentId(0),
            failed: AtomicBool::new(false),
        };
        let mut out = BufWriter::with_capacity(1 << 18, run.file.file.try_clone()?);
        let mut block = Vec::with_capacity(CONTENT);
        for entry in entries {
            let Entry { key, segment } = entry?;
            if block.is_empty() {
                run.firsts.push(prefix(&key));
            }
            run.filter.insert(hash_of(&key));
            run.newest = run.newest.max(segment);
            run.len += 1;
            block.extend_from_slice(&key);
            block.extend_from_slice(&segment.0.to_le_bytes());
            if block.len() == ENTRIES * ENTRY {
                out.write_all(&blocks::seal(&block))?;
                block.clear();
            }
        }
        if !block.is_empty() {
            out.write_all(&blocks::seal(&block))?;
        }
        out.flush()?;
        run.firsts.shrink_to_fit();
        Ok(run)
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn filter_bytes(&self) -> usize {
        self.filter.bytes()
    }

    /// Whether reading from it has failed.
    pub(super) fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Relaxed)
    }

    /// Whether a key with this hash may be in it.
    pub(super) fn may_have(&self, hash: u64) -> bool {
        self.filter.may_have(hash)
    }

    /// The segment of a key.
    ///
    /// # Errors
    /// If the block that would have it cannot be read.
    pub(super) fn find(&self, key: &Key) -> io::Result<Option<SegmentId>> {
        let prefix = prefix(key);
        let mut after = self.firsts.partition_point(|first| *first <= prefix);
        if after == 0 {
            return Ok(None);
        }
        let mut at = self.firsts.partition_point(|first| *first < prefix).saturating_sub(1);
        // Ids that are not random may have many blocks with the same highest bytes.
        let mut block = self.block(at)?;
        while after - at > 1 {
            let middle = at + (after - at) / 2;
            let read = self.block(middle)?;
            if read[..16] <= key[..] {
                (at, block) = (middle, read);
            } else {
                after = middle;
            }
        }
        let entries = block[..self.entries_of(at) * ENTRY].as_chunks::<ENTRY>().0;
        let found = entries.binary_search_by(|entry| entry[..16].cmp(&key[..])).ok();
        Ok(found.and_then(|at| entries.get(at)).map(|entry| SegmentId(u32_at(entry, 16))))
    }

    /// All entries, by key.
    pub(super) fn entries(&self) -> impl Iterator<Item = io::Result<Entry>> + '_ {
        (0..self.firsts.len()).flat_map(|number| match self.block(number) {
            Ok(block) => entries_of(&block, self.entries_of(number)),
            Err(error) => vec![Err(error)],
        })
    }

    fn entries_of(&self, block: usize) -> usize {
        self.len.saturating_sub(block * ENTRIES).min(ENTRIES)
    }

    fn block(&self, number: usize) -> io::Result<[u8; BLOCK]> {
        blocks::read(&self.file.file, (number * BLOCK) as u64).map_err(|error| {
            self.failed.store(true, Ordering::Relaxed);
            io::Error::new(error.kind(), format!("{}: {error}", self.file.path.display()))
        })
    }

    #[cfg(test)]
    pub(super) fn path(&self) -> &std::path::Path {
        &self.file.path
    }
}

fn entries_of(block: &[u8; BLOCK], count: usize) -> Vec<io::Result<Entry>> {
    let entries = block[..count * ENTRY].as_chunks::<ENTRY>().0.iter();
    let entry = |bytes: &[u8; ENTRY]| {
        let key = *bytes.first_chunk::<16>()?;
        Some(Ok(Entry { key, segment: SegmentId(u32_at(bytes, 16)) }))
    };
    entries.filter_map(entry).collect()
}

fn prefix(key: &Key) -> u32 {
    let [a, b, c, d, ..] = *key;
    u32::from_be_bytes([a, b, c, d])
}

pub(super) fn hash_of(key: &Key) -> u64 {
    xxh3_64(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file_of(dir: &std::path::Path, keys: &[u128]) -> FileRun {
        let entry = |key: &u128| Ok(Entry { key: key.to_be_bytes(), segment: SegmentId(*key as u32) });
        FileRun::write(dir.join("it.run"), keys.iter().map(entry), keys.len(), 0).unwrap()
    }

    /// Also where ids have the same highest bytes over many blocks.
    #[test]
    fn every_entry_is_found_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        for shift in [116, 90, 1] {
            for count in [1, ENTRIES, ENTRIES + 1, 9 * ENTRIES + 7] {
                let keys: Vec<u128> = (1..=count as u128).map(|n| (n << shift) + n).collect();
                let file = file_of(dir.path(), &keys);
                assert_eq!((file.len(), file.newest), (count, SegmentId(*keys.last().unwrap() as u32)));
                for key in &keys {
                    let found = file.find(&key.to_be_bytes()).unwrap();
                    assert_eq!(found, Some(SegmentId(*key as u32)), "{key:x} of {count}");
                    let near =
                        [key - 1, key + 1 + (1 << (shift - 1))].map(|key| file.find(&key.to_be_bytes()));
                    assert!(near.into_iter().all(|found| found.unwrap().is_none()), "beside {key:x}");
                }
                let read: Vec<u128> =
                    file.entries().map(|entry| u128::from_be_bytes(entry.unwrap().key)).collect();
                assert_eq!(read, keys);
            }
        }
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "each went with its user");
    }
}
