//! The log: frames in the order they were acknowledged, in generations that are dropped whole.

use std::collections::VecDeque;

use rocksdb::IteratorMode;

use crate::error::StoreError;
use crate::frame::{Frame, FrameError};
use crate::partition::Db;

/// A generation of the log: one column family that holds consecutive frames.
#[derive(Debug, Clone)]
pub(crate) struct Generation {
    pub(crate) number: u64,
    pub(crate) family: String,
    pub(crate) last_seq: Option<u64>,
    pub(crate) bytes: u64,
}

impl Generation {
    pub(crate) fn new(number: u64) -> Self {
        Self { number, family: format!("log-{number:016x}"), last_seq: None, bytes: 0 }
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
    /// Set when a generation was begun and the WAL has not been switched since.
    pub(crate) switch_wal: bool,
}

impl LogState {
    pub(crate) fn bytes(&self) -> u64 {
        self.generations.iter().map(|generation| generation.bytes).sum()
    }

    /// Generations whose every frame is at or below `sealed`, and which are not written to any more.
    pub(crate) fn take_sealed(&mut self, sealed: u64) -> Vec<Generation> {
        let mut done = Vec::new();
        while self.generations.len() > 1
            && self.generations.front().is_some_and(|g| g.last_seq.is_none_or(|last| last <= sealed))
        {
            done.extend(self.generations.pop_front());
        }
        done
    }
}

/// A frame found in the log at start.
#[derive(Debug)]
pub struct Replayed {
    /// Its number.
    pub seq: u64,
    /// What was in it, or why it cannot be read.
    pub frame: Result<Frame, FrameError>,
}

/// Tells `each` the frames with these numbers, in order. Stops early when it says so.
pub(crate) fn replay(
    db: &Db,
    generations: &[Generation],
    frames: std::ops::Range<u64>,
    each: &mut dyn FnMut(Replayed) -> bool,
) -> Result<(), StoreError> {
    for generation in generations {
        let Some(family) = db.cf_handle(&generation.family) else { continue };
        for item in db.iterator_cf(&family, IteratorMode::Start) {
            let (key, value) = item?;
            let Ok(seq) = <[u8; 8]>::try_from(&*key).map(u64::from_be_bytes) else { continue };
            if frames.contains(&seq) && !each(Replayed { seq, frame: Frame::read(&value) }) {
                return Ok(());
            }
        }
    }
    Ok(())
}
