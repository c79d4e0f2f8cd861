//! What is found damaged while it is read: it is left out of answers, and reported once.
//!
//! Opening the store sets aside what tells of its damage there. The blocks of a segment are read only when they are asked
//! for, so damage to one of them shows then, and must cost no more than the block: every reader passes what it read
//! through here. From then on the segment is in the state's list, and all answers say that something is missing.
//! A store that fails is another matter: it may not do so the next time, and stays an error.

use segment::ReadError;

use crate::answer::Incomplete;
use crate::rollups::Rollup;
use crate::sealed::SealedSegment;
use crate::state::State;

/// The reason of answers that lack what is damaged.
const REASON: &str = "damaged_segment";
/// Entries that an answer names one by one; `status` has all.
const NAMED_MAX: usize = 8;

impl State {
    /// What was read of a segment; `None` if retention has dropped the segment meanwhile, or if this part of it is damaged,
    /// which is reported.
    pub(crate) fn readable<T>(
        &self,
        segment: &SealedSegment,
        read: Result<T, ReadError>,
    ) -> Result<Option<T>, ReadError> {
        match read {
            Ok(value) => Ok(Some(value)),
            Err(_) if segment.handle.is_dropped() => Ok(None),
            Err(error) if self.note_segment(segment, &error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// What was read of a rollup; `None` if this part of it is damaged, which is reported.
    pub(crate) fn readable_of_rollup<T>(
        &self,
        rollup: &Rollup,
        read: Result<T, ReadError>,
    ) -> Result<Option<T>, ReadError> {
        match read {
            Ok(value) => Ok(Some(value)),
            Err(error) if error.is_damage() => {
                self.note_damage(&of_rollup(rollup.handle.number()), &error);
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Reports a segment if this is damage, and whether it is.
    pub(crate) fn note_segment(&self, segment: &SealedSegment, error: &ReadError) -> bool {
        let is_damage = error.is_damage();
        if is_damage {
            // The partition's name lets the entry go with its partition.
            let of = format!("segment {} in {}", segment.id.0, segment.handle.partition_name());
            self.note_damage(&of, error);
        }
        is_damage
    }

    /// Puts something into the list of what is damaged and into the log, unless it is there. So the list has one entry a
    /// segment however many of its blocks are damaged and however often they are asked for.
    pub(crate) fn note_damage(&self, of: &str, error: &ReadError) {
        let mut damaged = self.damaged.lock();
        let is_of = |text: &String| text.strip_prefix(of).is_some_and(|rest| rest.starts_with(':'));
        if damaged.iter().any(is_of) {
            return;
        }
        damaged.push(format!("{of}: {error}"));
        drop(damaged);
        tracing::error!(%error, "{of} is damaged; what cannot be read of it is left out of answers");
    }

    /// These rollups are gone, and so is what was damaged of them.
    pub(crate) fn forget_rollups(&self, gone: &[u64]) {
        let of: Vec<String> = gone.iter().map(|number| format!("{}:", of_rollup(*number))).collect();
        self.damaged.lock().retain(|text| !of.iter().any(|of| text.starts_with(of)));
    }

    /// What answers lack for damage. Ask after looking: what was found on the way is in it.
    pub(crate) fn damage(&self) -> Vec<Incomplete> {
        let damaged = self.damaged.lock();
        let named = damaged.iter().take(NAMED_MAX).cloned();
        let more = damaged.len().checked_sub(NAMED_MAX).filter(|more| *more > 0);
        let more = more.map(|more| format!("{more} more, which /api/v1/status names"));
        named.chain(more).map(|detail| Incomplete { reason: REASON, detail }).collect()
    }
}

fn of_rollup(number: u64) -> String {
    format!("rollup {number}")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use trace_assemble::{Assembler, Options};

    use super::*;
    use crate::names::NameTable;

    fn state() -> State {
        State::new(Arc::new(NameTable::default()), Assembler::new(Options::default()))
    }

    #[test]
    fn one_thing_is_listed_once_and_its_like_beside_it() {
        let state = state();
        for block in ["row block", "path block", "row block"] {
            state.note_damage("segment 1 in p", &ReadError::Damaged(block));
        }
        state.note_damage("segment 12 in p", &ReadError::Damaged("row block"));
        state.note_damage("segment 1", &ReadError::Damaged("row block"));
        let list = ["segment 1 in p: damaged row block", "segment 12 in p: damaged row block"];
        assert_eq!(*state.damaged.lock(), [list[0], list[1], "segment 1: damaged row block"]);
    }

    #[test]
    fn answers_name_a_few_and_count_the_rest() {
        let state = state();
        let note = |n: u32| state.note_damage(&format!("rollup {n}"), &ReadError::Damaged("it"));
        (1..=8).for_each(note);
        assert_eq!(state.damage().len(), 8);
        (9..=11).for_each(note);
        let damage = state.damage();
        assert_eq!((damage.len(), damage[8].reason), (9, "damaged_segment"));
        assert!(damage[8].detail.starts_with("3 more"), "{:?}", damage[8]);
        state.forget_rollups(&[1, 2, 3, 99]);
        assert_eq!((state.damage().len(), state.damaged.lock()[0].as_str()), (8, "rollup 4: damaged it"));
    }
}
