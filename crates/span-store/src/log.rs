//! The log: frames in the order they were acknowledged, in generations that are dropped whole.

use std::collections::VecDeque;

use rocksdb::ErrorKind;

use crate::database::Database;
use crate::error::StoreError;
use crate::frame::{Frame, FrameError, inflated_length, newer_version};
use crate::owed::{self, Owed};
use crate::partition::Db;

/// A generation of the log: one column family that holds consecutive frames.
#[derive(Debug, Clone)]
pub(crate) struct Generation {
    pub(crate) number: u64,
    pub(crate) family: String,
    pub(crate) first_seq: Option<u64>,
    pub(crate) last_seq: Option<u64>,
    pub(crate) bytes: u64,
    /// What sealing its frames takes.
    pub(crate) owed: Owed,
    /// The last frame of a newer version, and which version.
    pub(crate) newer: Option<(u64, u8)>,
}

impl Generation {
    pub(crate) fn new(number: u64) -> Self {
        Self {
            number,
            family: format!("log-{number:016x}"),
            first_seq: None,
            last_seq: None,
            bytes: 0,
            owed: Owed::default(),
            newer: None,
        }
    }

    /// Learns from the database what it holds. Frames that cannot be read count for nothing.
    pub(crate) fn measure(&mut self, db: &Db) {
        let Some(family) = db.cf_handle(&self.family) else { return };
        let mut frames = db.raw_iterator_cf(&family);
        frames.seek_to_first();
        self.first_seq = frames.key().and_then(number);
        (self.bytes, self.owed) = (0, Owed::default());
        while let Some((key, value)) = frames.item() {
            self.bytes += value.len() as u64;
            if let Some(seq) = number(key) {
                self.owed.add(seq, owed::of_frame(value.len(), inflated_length(value)));
                self.newer = newer_version(value).map(|version| (seq, version)).or(self.newer);
            }
            frames.next();
        }
        frames.seek_to_last();
        self.last_seq = frames.key().and_then(number);
    }
}

pub(crate) fn generation_of(family: &str) -> Option<u64> {
    u64::from_str_radix(family.strip_prefix("log-")?, 16).ok()
}

/// The generations, and where the next frame goes.
#[derive(Debug)]
pub(crate) struct LogState {
    /// Oldest first; the last one is written to.
    pub(crate) generations: VecDeque<Generation>,
    /// Made ahead of its use, because making one takes milliseconds.
    pub(crate) spare: Option<Generation>,
    pub(crate) next_seq: u64,
    pub(crate) next_number: u64,
    /// Set when a generation was begun or dropped and the WAL has not been switched since.
    pub(crate) switch_wal: bool,
}

impl LogState {
    pub(crate) fn bytes(&self) -> u64 {
        self.generations.iter().map(|generation| generation.bytes).sum()
    }

    /// What sealing all frames above this one takes.
    pub(crate) fn owed(&self, sealed: u64) -> u64 {
        self.generations.iter().map(|generation| generation.owed.above(sealed)).sum()
    }

    /// The families of generations whose every frame is at or below `sealed`, and which are not written to any more.
    pub(crate) fn sealed(&self, sealed: u64) -> Vec<String> {
        let written_to = self.generations.len().saturating_sub(1);
        let is_sealed = |g: &&Generation| g.last_seq.is_none_or(|last| last <= sealed);
        let done = self.generations.iter().take(written_to).take_while(is_sealed);
        done.map(|generation| generation.family.clone()).collect()
    }

    /// Forgets a generation whose family is gone. Its WAL goes with the next switch.
    pub(crate) fn forget(&mut self, family: &str) {
        self.generations.retain(|generation| generation.family != family);
        self.switch_wal = true;
    }
}

/// A frame of the log at start.
#[derive(Debug)]
pub struct Replayed {
    /// Its number.
    pub seq: u64,
    /// What was in it, or why it cannot be read.
    pub frame: Result<Frame, FrameError>,
}

fn number(key: &[u8]) -> Option<u64> {
    <[u8; 8]>::try_from(key).ok().map(u64::from_be_bytes)
}

/// Tells `each` the frames with these numbers, in order, also those that are gone or damaged. Stops early when it
/// says so. The database is held for one frame at a time: who is told may wait for others who need it.
pub(crate) fn replay(
    database: &Database,
    generations: &[Generation],
    frames: std::ops::Range<u64>,
    each: &mut dyn FnMut(Replayed) -> bool,
) -> Result<(), StoreError> {
    for seq in frames {
        let frame = frame(database, generations, seq)?;
        if !each(Replayed { seq, frame }) {
            break;
        }
    }
    Ok(())
}

/// A frame of the log. A frame that failed to be written may be in an earlier generation than its successor of the
/// same number, so the latest counts.
fn frame(
    database: &Database,
    generations: &[Generation],
    seq: u64,
) -> Result<Result<Frame, FrameError>, StoreError> {
    let db = database.get()?;
    let mut outcome = Err(FrameError::Lost);
    let holds = |g: &&Generation| {
        g.first_seq.is_none_or(|first| first <= seq) && g.last_seq.is_none_or(|last| seq <= last)
    };
    for generation in generations.iter().rev().filter(holds) {
        let Some(family) = db.cf_handle(&generation.family) else { continue };
        match db.get_pinned_cf(&family, seq.to_be_bytes()) {
            Ok(None) => {}
            Ok(Some(bytes)) => match Frame::read(&bytes) {
                Ok(frame) => return Ok(Ok(frame)),
                Err(error) => outcome = Err(error),
            },
            Err(error) if error.kind() == ErrorKind::Corruption => {
                outcome = Err(FrameError::Unreadable(error.into_string()));
            }
            Err(error) => return Ok(Err(FrameError::Failed(error.into_string()))),
        }
    }
    Ok(outcome)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use bytes::Bytes;
    use prost::Message as _;
    use segment::{BuildError, Key, SegmentMeta};
    use trace_model::UnixNanos;

    use super::*;
    use crate::{SpanStore, StoreOptions};

    const GENERATIONS: u64 = 20;
    /// Frames of a third of a generation's bytes.
    const FRAMES: u64 = GENERATIONS * 3;

    /// Asserts that no byte of any generation was ever flushed: what a flush takes leaves the memtable. How many there are.
    fn all_in_memtables(store: &SpanStore) -> usize {
        let generations: Vec<Generation> = store.log.lock().generations.iter().cloned().collect();
        let db = store.db.get().unwrap();
        for generation in &generations {
            let family = db.cf_handle(&generation.family).unwrap();
            let said = |name: &str| db.property_int_value_cf(&family, name).unwrap().unwrap();
            let frames = match (generation.first_seq, generation.last_seq) {
                (Some(first), Some(last)) => last - first + 1,
                _ => 0,
            };
            let kept = said("rocksdb.num-entries-active-mem-table");
            assert_eq!((kept, said("rocksdb.num-immutable-mem-table")), (frames, 0), "{generation:?}");
        }
        let files = db.live_files().unwrap();
        assert!(files.iter().all(|file| generation_of(&file.column_family_name).is_none()), "{files:?}");
        generations.len()
    }

    fn seal(store: &SpanStore, seq_low: u64, seq_high: u64) {
        let meta = SegmentMeta { format: segment::FORMAT, seq_low, seq_high, ..SegmentMeta::default() };
        store
            .publish(UnixNanos(1), &mut |sink| {
                sink(Key::Meta, &meta.encode_to_vec()).map_err(BuildError::Sink)?;
                Ok(meta.clone())
            })
            .unwrap();
    }

    fn wal_files(dir: &Path) -> usize {
        let entries = std::fs::read_dir(dir.join("rocksdb")).unwrap();
        entries
            .filter(|entry| entry.as_ref().unwrap().path().extension().is_some_and(|end| end == "log"))
            .count()
    }

    #[test]
    fn generations_are_dropped_without_ever_being_flushed() {
        let dir = tempfile::tempdir().unwrap();
        // Of the size that they have in use.
        let options = StoreOptions { ballast: 0, ..StoreOptions::default() };
        let (store, ..) = SpanStore::open(dir.path(), options).unwrap();
        let mut noise = 1_u64;
        let words = std::iter::repeat_with(|| {
            noise ^= noise << 13;
            noise ^= noise >> 7;
            noise ^= noise << 17;
            noise.to_le_bytes()
        });
        let request: Vec<u8> = words.take(options.generation_bytes as usize / 3 / 8 + 1).flatten().collect();
        let request = Bytes::from(request);
        let (mut sealed, mut most) = (0, 0);
        for seq in 1..=FRAMES {
            assert_eq!(store.append(std::slice::from_ref(&request), UnixNanos(seq)).unwrap(), seq);
            most = most.max(all_in_memtables(&store));
            store.keep_house().unwrap();
            // Two generations behind, as under load.
            if seq % 3 == 0 && seq > 6 {
                seal(&store, sealed + 1, seq - 6);
                sealed = seq - 6;
                all_in_memtables(&store);
                store.keep_house().unwrap();
            }
        }
        assert!((2..=6).contains(&most), "{most} at a time");
        let last = store.log.lock().generations.back().map(|generation| generation.number);
        assert!(last >= Some(GENERATIONS - 1), "{last:?} is the last");
        assert!(wal_files(dir.path()) <= 6, "files go with what was in them");
    }
}
