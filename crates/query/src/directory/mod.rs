//! Which segments may hold a trace: one list of hashes for many segments, so that looking a trace up costs a few
//! cache misses and not one for each segment.
//!
//! Segments are added in the order of their sealing, but at a start behind those that files have. Neighbouring runs of similar size are merged, so there are
//! about log n of them. Memory for them is bounded: the oldest go to files, where a look-up reads one block a
//! run.

mod file;
mod run;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use hashbrown::{HashMap, HashSet};
use span_store::SegmentId;

use file::FileRun;
use run::Run;

/// Entries of one run at most.
const RUN_MAX: usize = 4 << 20;
/// Bytes of memory an entry takes: hash, place, and its part of the index.
const ENTRY_BYTES: usize = 7;

/// Hashes of the traces of many segments.
#[derive(Debug, Clone)]
pub struct TraceDirectory {
    /// In the order in which they were added.
    runs: Vec<Arc<Run>>,
    /// In no order of arrival: a start keeps files, and adds segments that are older than theirs behind them; and a clock
    /// may have stepped back.
    files: Vec<Arc<FileRun>>,
    /// Segments in neither, because no file could be written; their own lists are read. In no order either.
    unlisted: Vec<SegmentId>,
    /// Segments that others took the place of: what was a trace of the one is a trace of the other.
    renamed: Arc<HashMap<SegmentId, SegmentId>>,
    /// Where files go; without it the oldest segments become unlisted.
    dir: Option<PathBuf>,
    entries: usize,
    entries_max: usize,
}

impl Default for TraceDirectory {
    fn default() -> Self {
        Self::with_memory(64 << 20)
    }
}

impl TraceDirectory {
    /// An empty directory that takes about this many bytes of memory at most, and no files.
    pub fn with_memory(bytes: usize) -> Self {
        Self {
            runs: Vec::new(),
            files: Vec::new(),
            unlisted: Vec::new(),
            renamed: Arc::default(),
            dir: None,
            entries: 0,
            entries_max: bytes / ENTRY_BYTES,
        }
    }

    /// A directory that takes about this many bytes of memory at most, and goes on with the files of a folder.
    /// Files that cannot be read are removed: they are made again.
    ///
    /// # Errors
    /// If the folder cannot be made or listed.
    pub fn open(dir: &Path, bytes: usize) -> std::io::Result<Self> {
        std::fs::create_dir_all(dir)?;
        let mut files = Vec::new();
        for entry in std::fs::read_dir(dir)? {
            let path = entry?.path();
            match FileRun::open(&path) {
                Ok(run) => files.push(Arc::new(run)),
                Err(_) => std::fs::remove_file(&path)?,
            }
        }
        files.sort_unstable_by_key(|run| run.segments.first().copied());
        Ok(Self { files, dir: Some(dir.to_path_buf()), ..Self::with_memory(bytes) })
    }

    /// Keeps those files that hold nothing but some of these segments, each once; returns the segments in them.
    pub(crate) fn keep_files_of(&mut self, stored: &HashSet<SegmentId>) -> HashSet<SegmentId> {
        let mut held = HashSet::new();
        self.files.retain(|run| {
            let keep = run.segments.iter().any(|id| stored.contains(id))
                && run.segments.iter().all(|id| !held.contains(id));
            if keep {
                held.extend(&run.segments);
            } else {
                run.remove();
            }
            keep
        });
        held
    }

    /// Adds a segment by its sorted hashes.
    pub(crate) fn add(&mut self, segment: SegmentId, hashes: Vec<u32>, arrival_max: u64) {
        if hashes.is_empty() {
            return;
        }
        self.entries += hashes.len();
        self.runs.push(Arc::new(Run::of(segment, hashes, arrival_max)));
        while let [.., older, newer] = &self.runs[..]
            && older.len() <= 2 * newer.len()
            && older.len() + newer.len() <= RUN_MAX
            && older.segments.len() + newer.segments.len() < usize::from(u16::MAX)
        {
            let merged = Arc::new(Run::merge(older, newer));
            self.runs.truncate(self.runs.len() - 2);
            self.runs.push(merged);
        }
        while self.entries > self.entries_max && self.runs.len() > 1 {
            self.move_out_oldest();
        }
    }

    fn move_out_oldest(&mut self) {
        let oldest = self.runs.remove(0);
        self.entries -= oldest.len();
        match self.dir.as_deref().map(|dir| FileRun::write(dir, &oldest)) {
            Some(Ok(file)) => self.files.push(Arc::new(file)),
            // Exact still, and slower.
            _ => self.unlisted.extend(&oldest.segments),
        }
    }

    /// Adds a segment whose hashes could not be read.
    pub(crate) fn add_unlisted(&mut self, segment: SegmentId) {
        self.unlisted.push(segment);
    }

    /// Forgets segments that are gone.
    pub(crate) fn remove(&mut self, is_gone: &dyn Fn(SegmentId) -> bool) {
        let renamed = Arc::clone(&self.renamed);
        let is_gone = &|id: SegmentId| is_gone(renamed.get(&id).copied().unwrap_or(id));
        self.unlisted.retain(|id| !is_gone(*id));
        self.runs.retain(|run| !run.segments.iter().all(|id| is_gone(*id)));
        self.files.retain(|run| {
            let keep = !run.segments.iter().all(|id| is_gone(*id));
            if !keep {
                run.remove();
            }
            keep
        });
        self.entries = self.runs.iter().map(|run| run.len()).sum();
    }

    /// Segments take the place of others, as `into` says of each; the lists stay as they are.
    pub(crate) fn rename(&mut self, into: &[(SegmentId, SegmentId)]) {
        Arc::make_mut(&mut self.renamed).extend(into.iter().copied());
        self.unlisted.iter_mut().for_each(|id| *id = self.renamed.get(id).copied().unwrap_or(*id));
        self.unlisted.sort_unstable();
        self.unlisted.dedup();
    }

    /// The listed segments that may hold a trace with this hash and took arrivals since then, newest first.
    pub(crate) fn find(&self, hash: u32, since: u64) -> Vec<SegmentId> {
        let mut found = Vec::new();
        for run in self.runs.iter().rev().filter(|run| run.arrival_max >= since) {
            run.find(hash, &mut found);
        }
        for run in self.files.iter().rev().filter(|run| run.arrival_max >= since) {
            run.find(hash, &mut found);
        }
        found.iter_mut().for_each(|id| *id = self.renamed.get(id).copied().unwrap_or(*id));
        found.sort_unstable_by(|a, b| b.cmp(a));
        found.dedup();
        found
    }

    /// Whether any listed segment may hold a trace with this hash: in memory, if it took arrivals since
    /// `in_memory`, or in a file, if it took arrivals since `in_files`.
    pub(crate) fn may_hold(&self, hash: u32, in_memory: u64, in_files: u64) -> bool {
        let mut found = Vec::new();
        for run in self.files.iter().filter(|run| run.arrival_max >= in_files) {
            run.find(hash, &mut found);
        }
        !found.is_empty() || self.runs.iter().rev().any(|run| run.arrival_max >= in_memory && run.has(hash))
    }

    /// Whether some of it is not in memory.
    pub(crate) fn has_files(&self) -> bool {
        !self.files.is_empty() || !self.unlisted.is_empty()
    }

    /// Segments whose own lists have to be read.
    pub(crate) fn unlisted(&self) -> &[SegmentId] {
        &self.unlisted
    }

    /// Bytes of memory in use, about.
    pub fn bytes(&self) -> usize {
        self.entries * ENTRY_BYTES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Spread as a hash function spreads, and the same on every run.
    fn hashes(segment: u32, count: u32) -> Vec<u32> {
        let mut all: Vec<u32> =
            (0..count).map(|n| (segment * 1_000_003 + n).wrapping_mul(0x9e37_79b9)).collect();
        all.sort_unstable();
        all
    }

    #[test]
    fn merged_segments_are_found_by_the_traces_of_all() {
        let mut directory = TraceDirectory::default();
        (0..6).for_each(|segment| directory.add(SegmentId(segment), vec![7, 100 + segment], 0));
        directory.add_unlisted(SegmentId(9));
        directory.add_unlisted(SegmentId(10));
        directory.rename(&[(1, 3), (2, 3), (9, 10)].map(|(from, to)| (SegmentId(from), SegmentId(to))));
        assert_eq!(directory.find(7, 0), [5, 4, 3, 0].map(SegmentId));
        assert_eq!(directory.find(101, 0), [SegmentId(3)]);
        assert_eq!(directory.unlisted(), [SegmentId(10)]);
        directory.remove(&|id| ![0, 4, 5].contains(&id.0));
        assert!(directory.unlisted().is_empty());
        directory.remove(&|_| true);
        assert_eq!(directory.bytes(), 0);
    }

    #[test]
    fn every_hash_is_found_in_its_segment_and_in_no_other() {
        let mut directory = TraceDirectory::default();
        for segment in 0..100 {
            directory.add(SegmentId(segment), hashes(segment, 50 + segment), u64::from(segment));
        }
        assert!(directory.runs.len() <= 8, "{} runs", directory.runs.len());
        for segment in 0..100 {
            for hash in hashes(segment, 50 + segment) {
                assert_eq!(directory.find(hash, 0), [SegmentId(segment)]);
                assert!(directory.may_hold(hash, u64::from(segment), 0));
            }
        }
        assert!(directory.find(1, 0).is_empty() && !directory.may_hold(1, 0, 0));
        let newest = hashes(99, 1)[0];
        assert!(directory.find(newest, 100).is_empty(), "nothing arrived since");
    }

    #[test]
    fn a_trace_in_two_segments_is_found_in_both_newest_first() {
        let mut directory = TraceDirectory::default();
        for segment in 0..5 {
            directory.add(SegmentId(segment), vec![7, 1 << 31, u32::MAX], 0);
        }
        assert_eq!(directory.find(u32::MAX, 0), [4, 3, 2, 1, 0].map(SegmentId));
        directory.remove(&|id| id < SegmentId(5));
        assert!(directory.runs.is_empty() && directory.bytes() == 0);
    }

    #[test]
    fn the_oldest_go_to_files_when_there_is_no_more_room() {
        let dir = tempfile::tempdir().unwrap();
        let mut directory = TraceDirectory::open(dir.path(), 1_000 * ENTRY_BYTES).unwrap();
        for segment in 0..50 {
            directory.add(SegmentId(segment), hashes(segment, 100), u64::from(segment));
            assert!(directory.entries <= 1_000);
        }
        assert!(directory.unlisted().is_empty() && !directory.files.is_empty());
        let found_all = |directory: &TraceDirectory, from: u32| {
            (from..50).all(|segment| directory.find(hashes(segment, 1)[0], 0) == [SegmentId(segment)])
        };
        assert!(found_all(&directory, 0));
        assert!(directory.may_hold(hashes(0, 1)[0], 50, 0) && !directory.may_hold(hashes(0, 1)[0], 0, 50));

        let mut again = TraceDirectory::open(dir.path(), 1_000 * ENTRY_BYTES).unwrap();
        let held = again.keep_files_of(&(0..50).map(SegmentId).collect());
        for segment in (0..50).map(SegmentId).filter(|id| !held.contains(id)) {
            again.add(segment, hashes(segment.0, 100), 0);
        }
        assert!(held.len() >= 40 && found_all(&again, 0));
        again.remove(&|id| id.0 < 30);
        assert!(found_all(&again, 30));
        again.keep_files_of(&HashSet::new());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    /// A start keeps the files of segments that were not merged, and lists those that were, older ones, behind them.
    #[test]
    fn a_trace_is_found_in_a_new_file_before_an_old_one() {
        let dir = tempfile::tempdir().unwrap();
        let room = 300 * ENTRY_BYTES;
        let mut directory = TraceDirectory::open(dir.path(), room).unwrap();
        let add = |directory: &mut TraceDirectory, segments: std::ops::Range<u32>| {
            segments.for_each(|segment| {
                directory.add(SegmentId(segment), hashes(segment, 100), u64::from(segment));
            });
        };
        add(&mut directory, 20..40);
        let mut again = TraceDirectory::open(dir.path(), room).unwrap();
        let kept = again.keep_files_of(&(20..40).map(SegmentId).collect());
        assert!(kept.contains(&SegmentId(30)));
        add(&mut again, 0..20);
        let last = again.files.last().unwrap().arrival_max;
        assert!(last < 20, "an old one is the last: {last}");
        assert!(again.may_hold(hashes(30, 1)[0], 100, 30));
        assert!(!again.may_hold(hashes(30, 1)[0], 100, 50));
    }

    #[test]
    fn without_a_folder_the_oldest_are_unlisted() {
        let mut directory = TraceDirectory::with_memory(1_000 * ENTRY_BYTES);
        (0..50).for_each(|segment| directory.add(SegmentId(segment), hashes(segment, 100), 0));
        let unlisted = directory.unlisted().to_vec();
        assert!(unlisted.len() >= 40 && unlisted.is_sorted());
    }
}
