//! Getting over errors of the database without a hand: what failed, since when, and opening again.

use std::time::{Duration, Instant};

use parking_lot::Mutex;
use segment::Key;

use crate::error::StoreError;
use crate::partition::{SegmentId, full_key};
use crate::store::SpanStore;

/// Written to see whether writing works.
const PROBE_KEY: &[u8] = b"\x03probe";

/// What failed and has not worked since.
#[derive(Debug, Default)]
pub(crate) struct Health {
    failing: Mutex<Option<Failing>>,
    /// Segments whose ingestion ended in an error and may have happened all the same.
    doubtful: Mutex<Vec<(SegmentId, String)>>,
}

#[derive(Debug, Clone)]
struct Failing {
    since: Instant,
    full: bool,
    reason: String,
}

/// A write that failed and has not worked since.
#[derive(Debug, Clone)]
pub struct Failure {
    /// For how long.
    pub lasted: Duration,
    /// Whether the disk was full.
    pub full: bool,
    /// What was said.
    pub reason: String,
}

impl Health {
    /// Hands a result on, and remembers since when writes fail.
    pub(crate) fn note<T>(&self, result: Result<T, StoreError>) -> Result<T, StoreError> {
        if let Err(error @ (StoreError::Rocks(_) | StoreError::Closed | StoreError::Build(_))) = &result {
            let mut failing = self.failing.lock();
            let since = failing.as_ref().map_or_else(Instant::now, |failing| failing.since);
            let full = error.is_full() || failing.as_ref().is_some_and(|failing| failing.full);
            *failing = Some(Failing { since, full, reason: error.to_string() });
        }
        result
    }

    pub(crate) fn doubt(&self, id: SegmentId, family: &str) {
        self.doubtful.lock().push((id, family.to_owned()));
    }
}

impl SpanStore {
    /// The failure that has not been got over yet.
    pub fn failure(&self) -> Option<Failure> {
        let failing = self.health.failing.lock().clone()?;
        Some(Failure { lasted: failing.since.elapsed(), full: failing.full, reason: failing.reason })
    }

    /// Whether writing works, by trying; if it does, what failed before is forgotten.
    ///
    /// # Errors
    /// What RocksDB says.
    pub fn probe(&self) -> Result<(), StoreError> {
        self.db.get()?.put(PROBE_KEY, b"")?;
        *self.health.failing.lock() = None;
        Ok(())
    }

    /// Closes the database and opens it again, which is what gets RocksDB over an error of its log. Readers and
    /// writers wait. All that was acknowledged is there afterwards, and frames go on with the next number.
    ///
    /// # Errors
    /// If it cannot be opened; then it stays closed, reads and writes fail, and this may be tried again.
    pub fn reopen(&self) -> Result<(), StoreError> {
        let _nobody_appends = self.frames.lock();
        self.db.reopen()?;
        self.take_up_log()?;
        self.probe()
    }

    /// Goes on with the log that is there.
    fn take_up_log(&self) -> Result<(), StoreError> {
        let current = {
            let mut log = self.log.lock();
            let db = self.db.get()?;
            // Making it may have failed half-way.
            log.spare = log.spare.take().filter(|spare| db.cf_handle(&spare.family).is_some());
            let mut last = 0;
            for generation in &mut log.generations {
                generation.measure(&db);
                last = last.max(generation.last_seq.unwrap_or(0));
            }
            // A write that failed may have reached the file all the same; its number is not used again.
            log.next_seq = log.next_seq.max(last + 1);
            log.switch_wal = true;
            log.generations.back().is_some_and(|newest| db.cf_handle(&newest.family).is_some())
        };
        if current { Ok(()) } else { self.begin_generation() }
    }

    /// Takes out segments that were ingested although that ended in an error: they are built again.
    pub(crate) fn forget_doubtful(&self) -> Result<(), StoreError> {
        let doubtful = self.health.doubtful.lock().clone();
        for (id, name) in &doubtful {
            let db = self.db.get()?;
            let Some(family) = db.cf_handle(name) else { continue };
            let last = full_key(*id, Key::Meta);
            if db.get_pinned_cf(&family, &last)?.is_some() {
                let first = id.0.to_be_bytes().to_vec();
                db.delete_file_in_range_cf(&family, first, last)?;
            }
        }
        self.health.doubtful.lock().retain(|doubt| !doubtful.contains(doubt));
        Ok(())
    }
}
