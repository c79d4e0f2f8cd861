//! Which segment has the last analysis of a trace that was analysed more than once.
//!
//! This is asked for every analysis that an answer looks at, and kept for as long as spans are. So it is as small as
//! whole ids allow, and whoever holds an older state of it shares nearly all of it. Memory for it is bounded: the oldest go
//! to files, where a filter tells of nearly all traces that they are in none. Files are derived: a start makes them anew
//! of what the segments say of themselves.

mod file;
mod files;
mod filter;
mod listing;
mod run;

use std::io;
use std::path::Path;
use std::sync::Arc;

use hashbrown::HashMap;
use span_store::SegmentId;
use trace_model::TraceId;

use files::Files;
use run::{Entry, Run, id_of, key_of};

/// The last analyses of traces.
#[derive(Debug, Clone, Default)]
pub struct Revisions {
    /// Oldest first, each less than half as long as the one before it.
    runs: Vec<Arc<Run>>,
    /// What memory has no room for; without a folder for it memory has room for all.
    files: Option<Files>,
    /// Whether some are missing, because a segment could not be read.
    lacking: bool,
}

impl Revisions {
    /// Of no trace. They take about this many bytes of memory at most; the rest goes into a folder, which is emptied.
    ///
    /// # Errors
    /// If the folder cannot be made or emptied.
    pub fn open(dir: &Path, bytes: usize) -> io::Result<Self> {
        Ok(Self { files: Some(Files::none_in(dir, bytes)?), ..Self::default() })
    }

    /// Of no trace, with the same bound and folder.
    fn emptied(&self) -> Self {
        Self { files: self.files.as_ref().map(Files::emptied), ..Self::default() }
    }

    /// Whether all can be told.
    fn is_whole(&self) -> bool {
        !self.lacking && !self.files.as_ref().is_some_and(Files::have_failed)
    }

    /// Adds a segment that is newer than all before it, by the traces that were analysed again in it.
    ///
    /// # Errors
    /// If memory has no room for all and a file cannot be written; then memory has what it has no room for, and the next
    /// segment that is added has it tried again.
    pub(crate) fn add(
        &mut self,
        segment: SegmentId,
        traces: impl Iterator<Item = TraceId>,
    ) -> io::Result<()> {
        let entries: Vec<Entry> = traces.map(|id| Entry { key: key_of(&id), segment }).collect();
        if !entries.is_empty() {
            let mut run = Run::of(entries);
            while let Some(older) = self.runs.pop_if(|older| older.len() <= 2 * run.len()) {
                run = Run::of([older.entries(), run.entries()].concat());
            }
            self.runs.push(Arc::new(run));
        }
        self.move_out()
    }

    fn move_out(&mut self) -> io::Result<()> {
        let Some(files) = &mut self.files else { return Ok(()) };
        while self.runs.iter().map(|run| run.len()).sum::<usize>() > files.entries_max()
            && let Some(oldest) = self.runs.first()
        {
            files.add(oldest)?;
            self.runs.remove(0);
        }
        Ok(())
    }

    /// The segment with the last analysis of a trace, if it was analysed again.
    ///
    /// # Errors
    /// If a file cannot be read, or a segment could not be.
    pub(crate) fn last(&self, id: &TraceId) -> io::Result<Option<SegmentId>> {
        if self.lacking {
            return Err(io::Error::other("revisions: a segment could not be read"));
        }
        let key = key_of(id);
        let found = self.runs.iter().rev().find_map(|run| run.find(&key));
        match &self.files {
            Some(files) if found.is_none() => files.last(&key),
            _ => Ok(found),
        }
    }

    /// Traces that were analysed again in segments after this one, as far as memory has them.
    pub(crate) fn since(&self, segment: Option<SegmentId>) -> impl Iterator<Item = TraceId> + '_ {
        let entries = self.runs.iter().flat_map(|run| run.entries());
        entries.filter(move |entry| Some(entry.segment) > segment).filter_map(|entry| id_of(&entry.key))
    }

    /// Whether files may have traces that were analysed again in segments after this one.
    pub(crate) fn has_files_since(&self, segment: Option<SegmentId>) -> bool {
        self.files.as_ref().is_some_and(|files| files.reach_beyond(segment))
    }

    /// Traces that were analysed again in segments after this one, as far as files have them.
    ///
    /// # Errors
    /// If a file cannot be read.
    pub(crate) fn since_in_files(&self, segment: Option<SegmentId>) -> io::Result<Vec<TraceId>> {
        let entries = self.files.iter().flat_map(|files| files.since(segment));
        entries.filter_map(|entry| entry.map(|entry| id_of(&entry.key)).transpose()).collect()
    }

    /// Segments take the place of others, as `into` says of each that goes.
    pub(crate) fn rename(&mut self, into: &HashMap<SegmentId, SegmentId>) {
        let now = |id: SegmentId| into.get(&id).copied().unwrap_or(id);
        self.map(|entry| Some(Entry { segment: now(entry.segment), ..entry }));
        self.files.iter_mut().for_each(|files| files.rename(into));
    }

    /// Forgets all segments before this one; all that there are for `None`.
    pub(crate) fn forget_before(&mut self, oldest: Option<SegmentId>) {
        self.map(|entry| oldest.is_some_and(|oldest| entry.segment >= oldest).then_some(entry));
        self.files.iter_mut().for_each(|files| files.forget_before(oldest));
    }

    fn map(&mut self, change: impl Fn(Entry) -> Option<Entry>) {
        for run in &mut self.runs {
            if !run.entries().iter().all(|entry| change(*entry) == Some(*entry)) {
                *run = Arc::new(Run::of(run.entries().iter().copied().filter_map(&change).collect()));
            }
        }
        self.runs.retain(|run| run.len() > 0);
    }
}

#[cfg(test)]
mod tests;
