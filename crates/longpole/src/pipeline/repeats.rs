//! Rows of a batch that are stored already, of traces that are held in part.

use hashbrown::{HashMap, HashSet};
use query::{Assembly, SpanIdentity, State, identity_of, stored_among};
use segment::LiveBatch;
use trace_assemble::OpenTrace;
use trace_model::TraceId;

/// Which rows of one batch are stored.
#[derive(Debug, Default)]
pub(super) struct Repeats {
    checked: HashSet<TraceId>,
    /// Rising.
    stored: Vec<usize>,
}

impl Repeats {
    /// The rows that have to be looked for: those of traces held in part that were not looked for yet.
    pub(super) fn unchecked(&self, assembly: &Assembly, batch: &LiveBatch) -> Vec<usize> {
        if assembly.assembler.traces_held_in_part() == 0 {
            return Vec::new();
        }
        let in_part = |id: &TraceId| assembly.assembler.get(id).is_some_and(OpenTrace::is_partly_held);
        let wanted = |at: &usize| {
            let id = &batch.rows[*at].trace_id;
            !self.checked.contains(id) && in_part(id)
        };
        (0..batch.rows.len()).filter(wanted).collect()
    }

    /// Looks these rows up in the store. What cannot be read counts as not stored.
    pub(super) fn look_up(&mut self, state: &State, batch: &LiveBatch, rows: Vec<usize>) {
        let mut by_trace: HashMap<TraceId, Vec<usize>> = HashMap::new();
        for at in rows {
            by_trace.entry(batch.rows[at].trace_id).or_default().push(at);
        }
        for (id, rows) in by_trace {
            let keys: Vec<SpanIdentity> = rows.iter().map(|at| identity_of(&batch.rows[*at].node)).collect();
            match stored_among(state, id, keys) {
                Ok(stored) => {
                    self.stored.extend(
                        rows.iter().filter(|at| stored.contains(&identity_of(&batch.rows[**at].node))),
                    );
                }
                Err(error) => {
                    state.count(&state.counters.lookups_failed, 1);
                    tracing::error!(trace = %id, %error, "cannot look for stored spans");
                }
            }
            self.checked.insert(id);
        }
        self.stored.sort_unstable();
        self.stored.dedup();
    }

    /// The trace was taken back anew: what was looked up of it may be less than is stored by now.
    pub(super) fn forget(&mut self, id: &TraceId) {
        self.checked.remove(id);
    }

    /// Whether a row is stored.
    pub(super) fn is_stored(&self, row: u32) -> bool {
        !self.stored.is_empty() && self.stored.binary_search(&(row as usize)).is_ok()
    }

    /// The rows that are stored.
    pub(super) fn into_stored(self) -> impl Iterator<Item = u32> {
        self.stored.into_iter().map(|row| row as u32)
    }
}
