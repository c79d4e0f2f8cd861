//! Trains dictionaries for small segments out of those that are stored, and lets go of those that nothing needs.

use segment::{BuildError, ReadError, Samples, retrain};
use span_store::{SegmentId, SpanStore, StoreError};
use trace_model::{NanoDuration, UnixNanos};

use crate::damage::Reader;
use crate::sealed::SealedSegment;
use crate::state::State;

/// Training is tried at most this often.
const INTERVAL: NanoDuration = NanoDuration::from_secs(60 * 60);
/// And only after as many small segments were sealed.
const NEW_SEGMENTS_MIN: usize = 8;
/// The newest small segments are sampled, as many as this at most.
const SEGMENTS_MAX: usize = 64;
/// Bytes of samples of one segment, so 4 MiB in all.
const SAMPLES_MAX: usize = 64 << 10;
/// A segment of more stored bytes has no use for a dictionary.
const SMALL_BYTES: u64 = 512 << 10;

/// When dictionaries were last trained, and on what.
#[derive(Debug, Default)]
pub struct DictionaryTrainer {
    tried: Option<UnixNanos>,
    newest: Option<SegmentId>,
}

/// Why dictionaries could not be looked after.
#[derive(Debug, thiserror::Error)]
pub enum DictionaryError {
    /// A segment cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The store fails.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The compressor fails.
    #[error(transparent)]
    Train(#[from] BuildError),
}

/// What a training found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trained {
    /// Whether the dictionary is in use now; if not, too many are stored.
    pub adopted: bool,
    /// Bytes of samples that were held out, with the dictionary in use before, or none.
    pub before: u64,
    /// With this one.
    pub after: u64,
}

impl DictionaryTrainer {
    /// Trains a dictionary if it is time, which the store takes if it is at least 5 % better than the one in use,
    /// and drops those that no segment needs. `None` if nothing better was found, or it was not time.
    ///
    /// # Errors
    /// If segments cannot be read or the store fails. It is tried again after the usual time.
    pub fn tend(
        &mut self,
        state: &State,
        store: &SpanStore,
        now: UnixNanos,
    ) -> Result<Option<Trained>, DictionaryError> {
        let trained = self.train(state, store, now);
        if trained.is_err() {
            state.housekeeping.lock().dictionaries.failed += 1;
        }
        let dropped = drop_unused(state, store);
        state.housekeeping.lock().dictionaries.stored = store.dictionaries() as u64;
        dropped.and(trained)
    }

    fn train(
        &mut self,
        state: &State,
        store: &SpanStore,
        now: UnixNanos,
    ) -> Result<Option<Trained>, DictionaryError> {
        // A clock that went back must not put it off for long.
        let is_early = self.tried.is_some_and(|tried| now >= tried && now.since(tried) < INTERVAL);
        if is_early {
            return Ok(None);
        }
        let view = state.snapshot_of_stored();
        let small: Vec<_> = view.sealed.iter().filter(|segment| is_small(segment)).collect();
        let is_new = |segment: &SealedSegment| self.newest.is_none_or(|newest| segment.id > newest);
        if small.iter().filter(|segment| is_new(segment)).count() < NEW_SEGMENTS_MIN {
            return Ok(None);
        }
        self.tried = Some(now);
        self.newest = small.iter().map(|segment| segment.id).max();
        let recent = &small[small.len().saturating_sub(SEGMENTS_MAX)..];
        let reader = Reader::new(state);
        let sampled = recent.iter().map(|segment| reader.readable(segment, segment.samples(SAMPLES_MAX)));
        let samples: Vec<Samples> = sampled.filter_map(Result::transpose).collect::<Result<_, _>>()?;
        let in_use = store.dictionary();
        let found = retrain(&samples, in_use.as_deref()).map_err(BuildError::from)?;
        state.housekeeping.lock().dictionaries.trained += 1;
        let Some(found) = found else { return Ok(None) };
        let adopted = store.add_dictionary(&found.bytes)?.is_some();
        state.housekeeping.lock().dictionaries.adopted += u64::from(adopted);
        Ok(Some(Trained { adopted, before: found.before, after: found.after }))
    }
}

fn is_small(segment: &SealedSegment) -> bool {
    segment.meta.spans > 0 && segment.meta.bytes < SMALL_BYTES
}

fn drop_unused(state: &State, store: &SpanStore) -> Result<(), DictionaryError> {
    // Nobody merges or retires meanwhile, so what is stored has its handles here.
    let _keeping = state.keeping.lock();
    // What was set aside has none, and may be read at the next start.
    if !state.damaged.lock().is_empty() {
        return Ok(());
    }
    let dropped = store.drop_dictionaries()?;
    state.housekeeping.lock().dictionaries.dropped += dropped as u64;
    Ok(())
}
