//! What is found damaged while it is read: it is left out of answers, and reported once.
//!
//! Opening the store sets aside what tells of its damage there. The blocks of a segment are read only when they are asked
//! for, so damage to one of them shows then, and must cost no more than the block: every reader passes what it read
//! through here. From then on the segment is in the state's list, and an answer says that something is missing if the
//! question met it, or if it may matter there ([`Reach`]).
//! A store that fails is another matter: it may not do so the next time, and stays an error.

use std::collections::BTreeSet;
use std::ops::Deref;
use std::sync::Arc;

use parking_lot::Mutex;
use segment::ReadError;

use crate::answer::Incomplete;
use crate::reach::{Asked, Reach};
use crate::rollups::Rollup;
use crate::sealed::SealedSegment;
use crate::state::State;

/// The reason of answers that lack what is damaged.
const REASON: &str = "damaged_segment";
/// Entries that an answer names one by one; `status` has all.
const NAMED_MAX: usize = 8;

/// An entry of the list of what is damaged.
#[derive(Debug)]
pub(crate) struct Damage {
    /// What it is; one entry each.
    of: String,
    /// The same with what is wrong with it.
    text: Arc<str>,
    reach: Reach,
}

impl State {
    /// Puts something into the list of what is damaged of which nobody knows where it matters: all answers say so.
    pub fn note_damaged(&self, text: String) {
        self.damaged.lock().push(Damage { text: text.as_str().into(), of: text, reach: Reach::Unknown });
    }

    /// What was set aside as damaged, or found damaged since; one entry a segment.
    pub fn damaged(&self) -> Vec<String> {
        self.damaged.lock().iter().map(|damage| damage.text.to_string()).collect()
    }

    /// Takes out of the list what is gone, by the texts of its entries.
    pub fn forget_damaged(&self, is_gone: impl Fn(&str) -> bool) {
        self.damaged.lock().retain(|damage| !is_gone(&damage.text));
    }

    /// Reports a segment if this is damage: its entry.
    pub(crate) fn note_segment(&self, segment: &SealedSegment, error: &ReadError) -> Option<Arc<str>> {
        // The partition's name lets the entry go with its partition.
        let of = || format!("segment {} in {}", segment.id.0, segment.handle.partition_name());
        error.is_damage().then(|| self.note_damage(of(), Reach::of_segment(segment), error))
    }

    /// Puts something into the list of what is damaged and into the log, unless it is there. So the list has one entry a
    /// segment however many of its blocks are damaged and however often they are asked for.
    pub(crate) fn note_damage(&self, of: String, reach: Reach, error: &ReadError) -> Arc<str> {
        let mut damaged = self.damaged.lock();
        if let Some(known) = damaged.iter().find(|damage| damage.of == of) {
            return Arc::clone(&known.text);
        }
        let text: Arc<str> = format!("{of}: {error}").into();
        damaged.push(Damage { of: of.clone(), text: Arc::clone(&text), reach });
        drop(damaged);
        tracing::error!(%error, "{of} is damaged; what cannot be read of it is left out of answers");
        text
    }

    /// These rollups are gone, and so is what was damaged of them.
    pub(crate) fn forget_rollups(&self, gone: &[u64]) {
        let of: Vec<String> = gone.iter().map(|number| of_rollup(*number)).collect();
        self.damaged.lock().retain(|damage| !of.contains(&damage.of));
    }
}

pub(crate) fn of_rollup(number: u64) -> String {
    format!("rollup {number}")
}

/// Reads for one question or one task, and knows what of it could not be read for damage. It has all that the state has.
#[derive(Debug)]
pub(crate) struct Reader<'a> {
    state: &'a State,
    /// Entries of the list that were met.
    met: Mutex<BTreeSet<Arc<str>>>,
}

impl Deref for Reader<'_> {
    type Target = State;

    fn deref(&self) -> &State {
        self.state
    }
}

impl<'a> Reader<'a> {
    pub(crate) fn new(state: &'a State) -> Self {
        Self { state, met: Mutex::default() }
    }

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
            Err(error) => match self.state.note_segment(segment, &error) {
                Some(entry) => {
                    self.met.lock().insert(entry);
                    Ok(None)
                }
                None => Err(error),
            },
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
                let of = of_rollup(rollup.handle.number());
                let entry = self.state.note_damage(of, Reach::of_rollup(rollup), &error);
                self.met.lock().insert(entry);
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Analyses are made without what was met.
    pub(crate) fn note_analysed_without(&self) {
        let met = self.met.lock();
        if met.is_empty() {
            return;
        }
        for damage in self.state.damaged.lock().iter_mut().filter(|damage| met.contains(&damage.text)) {
            if let Reach::Segment { analysed_without, .. } = &mut damage.reach {
                *analysed_without = true;
            }
        }
    }

    /// What the answer lacks or may lack for damage: what was met, even if it has been forgotten since, and what may matter to
    /// a question like this. Ask after looking.
    pub(crate) fn damage(&self, asked: Asked) -> Vec<Incomplete> {
        let mut texts: Vec<Arc<str>> = self.met.lock().iter().cloned().collect();
        let met = texts.len();
        for damage in self.state.damaged.lock().iter().filter(|damage| damage.reach.concerns(asked)) {
            if !texts[..met].contains(&damage.text) {
                texts.push(Arc::clone(&damage.text));
            }
        }
        let more = texts.len().checked_sub(NAMED_MAX).filter(|more| *more > 0);
        let more = more.map(|more| format!("{more} more, which /api/v1/status names"));
        let named = texts.iter().take(NAMED_MAX).map(|text| text.to_string());
        named.chain(more).map(|detail| Incomplete { reason: REASON, detail }).collect()
    }
}

#[cfg(test)]
mod tests {
    use trace_assemble::{Assembler, Options};
    use trace_model::UnixNanos;

    use super::*;
    use crate::names::NameTable;
    use crate::reach::Extent;
    use crate::request::Window;

    fn state() -> State {
        State::new(Arc::new(NameTable::default()), Assembler::new(Options::default()))
    }

    /// Of something that happened from 100 to 200.
    const REACH: Reach = {
        let extent = Extent { first: 100, last: 200 };
        Reach::Segment { starts: extent, ends: extent, last: 200, analysed_without: false }
    };

    fn note(state: &State, of: &str, block: &'static str) -> Arc<str> {
        state.note_damage(of.to_owned(), REACH, &ReadError::Damaged(block))
    }

    fn from(start: u64) -> Window {
        Window { start: UnixNanos(start), end: UnixNanos(u64::MAX) }
    }

    fn details(reader: &Reader<'_>, asked: Asked) -> Vec<String> {
        reader.damage(asked).into_iter().map(|why| why.detail).collect()
    }

    #[test]
    fn one_thing_is_listed_once_and_its_like_beside_it() {
        let state = state();
        for block in ["row block", "path block", "row block"] {
            note(&state, "segment 1 in p", block);
        }
        note(&state, "segment 12 in p", "row block");
        note(&state, "segment 1", "row block");
        let list = ["segment 1 in p: damaged row block", "segment 12 in p: damaged row block"];
        assert_eq!(state.damaged(), [list[0], list[1], "segment 1: damaged row block"]);
    }

    #[test]
    fn answers_name_a_few_and_count_the_rest() {
        let state = state();
        let all = |n: u32| {
            let sums = Reach::Sums { ends: Extent::ALL, traces: Extent::ALL };
            state.note_damage(format!("rollup {n}"), sums, &ReadError::Damaged("it"));
        };
        let damage = || Reader::new(&state).damage(Asked::Paths(from(0)));
        (1..=8).for_each(all);
        assert_eq!(damage().len(), 8);
        (9..=11).for_each(all);
        assert_eq!((damage().len(), damage()[8].reason), (9, "damaged_segment"));
        assert!(damage()[8].detail.starts_with("3 more"), "{:?}", damage()[8]);
        state.forget_rollups(&[1, 2, 3, 99]);
        assert_eq!((damage().len(), &*state.damaged()[0]), (8, "rollup 4: damaged it"));
    }

    #[test]
    fn an_answer_tells_what_it_met_and_what_may_matter_to_it() {
        let state = state();
        let met = note(&state, "segment 1 in p", "row block");
        note(&state, "segment 2 in p", "row block");
        let reader = Reader::new(&state);
        reader.met.lock().insert(Arc::clone(&met));
        let both = ["segment 1 in p: damaged row block", "segment 2 in p: damaged row block"];
        assert_eq!(details(&reader, Asked::Spans(from(201))), both[..1]);
        assert_eq!(details(&reader, Asked::Spans(from(200))), both);
        assert_eq!(details(&Reader::new(&state), Asked::Spans(from(201))), [""; 0]);
        state.forget_damaged(|text| text.starts_with("segment "));
        assert_eq!(details(&reader, Asked::Spans(from(200))), both[..1], "it lacks that all the same");

        state.note_damaged("log frame 3: lost".to_owned());
        assert_eq!(details(&Reader::new(&state), Asked::Trace), ["log frame 3: lost"]);
    }

    #[test]
    fn what_analyses_were_made_without_may_matter_to_traces_of_any_time() {
        let state = state();
        let met = note(&state, "segment 1 in p", "row block");
        note(&state, "segment 2 in p", "row block");
        let reader = Reader::new(&state);
        let of_traces = || details(&Reader::new(&state), Asked::Traces(from(201)));
        reader.note_analysed_without();
        assert_eq!(of_traces(), [""; 0]);
        reader.met.lock().insert(met);
        reader.note_analysed_without();
        assert_eq!(of_traces(), ["segment 1 in p: damaged row block"]);
        assert_eq!(details(&Reader::new(&state), Asked::Spans(from(201))), [""; 0]);
    }
}
