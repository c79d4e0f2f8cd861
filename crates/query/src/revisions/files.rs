//! The files of last analyses: all older than what is in memory.
//!
//! What changes the numbers of segments, or has them go, is noted beside the files and not written into them: whoever looks
//! sees through it, and the next merge of files writes what is seen.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use hashbrown::HashMap;
use span_store::SegmentId;

use super::file::{FileRun, hash_of};
use super::run::{Entry, Key, Run};

/// Bytes that an entry takes in memory, with its part of the index.
const ENTRY_BYTES: usize = 21;

/// Entries of one file at most. Merging two takes a third of a second then, and the sealer waits for it.
const MERGED_MAX: usize = 2 << 20;

/// Where files go, and how much memory there is.
#[derive(Debug)]
struct Folder {
    path: PathBuf,
    entries_max: usize,
    filters_max: usize,
    /// The number of the next file.
    next: AtomicU64,
}

impl Folder {
    fn next(&self) -> PathBuf {
        self.path.join(format!("{:08x}.run", self.next.fetch_add(1, Ordering::Relaxed)))
    }
}

#[derive(Debug, Clone)]
pub(super) struct Files {
    folder: Arc<Folder>,
    /// Oldest first, each less than half as long as the one before it, but for those that are full and unless merging failed.
    list: Vec<Filed>,
    /// Segments that others took the place of since their numbers were written.
    renamed: Arc<HashMap<SegmentId, SegmentId>>,
    /// Segments before this one are gone.
    oldest: Option<SegmentId>,
}

#[derive(Debug, Clone)]
struct Filed {
    run: Arc<FileRun>,
    /// No segment in it is newer, by the numbers of now.
    newest: SegmentId,
}

impl Files {
    /// None in a folder, which is emptied. A quarter of the bytes is for runs in memory, the rest for the filters of files.
    pub(super) fn none_in(dir: &Path, bytes: usize) -> io::Result<Self> {
        std::fs::create_dir_all(dir)?;
        for entry in std::fs::read_dir(dir)? {
            std::fs::remove_file(entry?.path())?;
        }
        let folder = Folder {
            path: dir.to_path_buf(),
            entries_max: bytes / 4 / ENTRY_BYTES,
            filters_max: bytes - bytes / 4,
            next: AtomicU64::new(0),
        };
        Ok(Self::none(Arc::new(folder)))
    }

    fn none(folder: Arc<Folder>) -> Self {
        Self { folder, list: Vec::new(), renamed: Arc::default(), oldest: None }
    }

    /// None in the same folder.
    pub(super) fn emptied(&self) -> Self {
        Self::none(Arc::clone(&self.folder))
    }

    /// Entries that memory has room for.
    pub(super) fn entries_max(&self) -> usize {
        self.folder.entries_max
    }

    /// Writes a run that is newer than all before it.
    ///
    /// # Errors
    /// If it cannot be written; then nothing has changed.
    pub(super) fn add(&mut self, run: &Run) -> io::Result<()> {
        let entries = run.entries().iter().copied().map(Ok);
        let written = FileRun::write(self.folder.next(), entries, run.len(), self.room(&self.list))?;
        self.list.push(Filed::new(written));
        if let Err(error) = self.merge() {
            // There are more of them than need be, and no fewer entries.
            tracing::warn!(%error, "cannot merge files of revisions; this is tried again with the next one");
        }
        Ok(())
    }

    /// Bytes that the filter of one more file may take. Some are left for files to come, which are smaller.
    fn room(&self, others: &[Filed]) -> usize {
        let taken: usize = others.iter().map(|filed| filed.run.filter_bytes()).sum();
        self.folder.filters_max.saturating_sub(taken) / 4 * 3
    }

    fn merge(&mut self) -> io::Result<()> {
        while let [others @ .., older, newer] = &self.list[..]
            && older.run.len() <= 2 * newer.run.len()
            && older.run.len() + newer.run.len() <= MERGED_MAX
        {
            let most = older.run.len() + newer.run.len();
            let entries = of_both(&older.run, &newer.run).filter_map(|entry| self.entry_now(entry));
            let merged = FileRun::write(self.folder.next(), entries, most, self.room(others))?;
            self.list.truncate(self.list.len() - 2);
            self.list.extend((merged.len() > 0).then(|| Filed::new(merged)));
        }
        Ok(())
    }

    fn entry_now(&self, entry: io::Result<Entry>) -> Option<io::Result<Entry>> {
        match entry {
            Ok(entry) => self.now(entry.segment).map(|segment| Ok(Entry { segment, ..entry })),
            Err(error) => Some(Err(error)),
        }
    }

    /// The number that a segment has now, unless it is gone.
    fn now(&self, segment: SegmentId) -> Option<SegmentId> {
        let now = self.renamed.get(&segment).copied().unwrap_or(segment);
        (Some(now) >= self.oldest).then_some(now)
    }

    /// The segment with the last analysis of a trace.
    ///
    /// # Errors
    /// If a file cannot be read.
    pub(super) fn last(&self, key: &Key) -> io::Result<Option<SegmentId>> {
        if self.list.is_empty() {
            return Ok(None);
        }
        let hash = hash_of(key);
        for Filed { run, .. } in self.list.iter().rev() {
            if run.may_have(hash)
                && let Some(segment) = run.find(key)?
            {
                return Ok(self.now(segment));
            }
        }
        Ok(None)
    }

    /// Whether there may be segments after this one in them.
    pub(super) fn reach_beyond(&self, segment: Option<SegmentId>) -> bool {
        self.list.iter().any(|filed| Some(filed.newest) > segment)
    }

    /// Entries of segments after this one. Files without are not read.
    pub(super) fn since(&self, segment: Option<SegmentId>) -> impl Iterator<Item = io::Result<Entry>> + '_ {
        let files = self.list.iter().filter(move |filed| Some(filed.newest) > segment);
        let entries = files.flat_map(|filed| filed.run.entries()).filter_map(|entry| self.entry_now(entry));
        entries.filter(move |entry| entry.as_ref().map_or(true, |entry| Some(entry.segment) > segment))
    }

    pub(super) fn rename(&mut self, into: &HashMap<SegmentId, SegmentId>) {
        let Some(newest) = self.list.iter().map(|filed| filed.newest).max() else { return };
        let in_files = || into.iter().filter(|(from, _)| **from <= newest);
        let renamed = Arc::make_mut(&mut self.renamed);
        for number in renamed.values_mut() {
            *number = into.get(number).copied().unwrap_or(*number);
        }
        renamed.extend(in_files());
        for filed in &mut self.list {
            let numbers = in_files().filter(|(from, _)| **from <= filed.newest).map(|(_, number)| *number);
            filed.newest = numbers.max().map_or(filed.newest, |number| number.max(filed.newest));
        }
    }

    pub(super) fn forget_before(&mut self, oldest: Option<SegmentId>) {
        self.list.retain(|filed| oldest.is_some_and(|oldest| filed.newest >= oldest));
        self.oldest = self.oldest.max(oldest);
        if self.list.is_empty() {
            self.renamed = Arc::default();
        } else if self.renamed.values().any(|number| Some(*number) < oldest) {
            Arc::make_mut(&mut self.renamed).retain(|_, number| Some(*number) >= oldest);
        }
    }

    /// Whether reading from one of them has failed.
    pub(super) fn have_failed(&self) -> bool {
        self.list.iter().any(|filed| filed.run.has_failed())
    }

    #[cfg(test)]
    pub(super) fn paths(&self) -> Vec<PathBuf> {
        self.list.iter().map(|filed| filed.run.path().to_path_buf()).collect()
    }

    #[cfg(test)]
    pub(super) fn filter_bytes(&self) -> usize {
        self.list.iter().map(|filed| filed.run.filter_bytes()).sum()
    }
}

impl Filed {
    fn new(run: FileRun) -> Self {
        Self { newest: run.newest, run: Arc::new(run) }
    }
}

/// The entries of two files by key, one a trace: that of the newer file.
fn of_both<'a>(older: &'a FileRun, newer: &'a FileRun) -> impl Iterator<Item = io::Result<Entry>> + 'a {
    let (mut older, mut newer) = (older.entries().peekable(), newer.entries().peekable());
    std::iter::from_fn(move || match (older.peek(), newer.peek()) {
        (Some(Ok(a)), Some(Ok(b))) if a.key < b.key => older.next(),
        (Some(Ok(a)), Some(Ok(b))) => {
            if a.key == b.key {
                older.next();
            }
            newer.next()
        }
        (Some(Err(_)), _) | (Some(_), None) => older.next(),
        _ => newer.next(),
    })
}
