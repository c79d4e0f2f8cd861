//! Rows of a batch that are stored already, of traces that are held in part.

use hashbrown::HashSet;
use query::{Assembly, State, identity_of, stored_among};
use segment::LiveBatch;
use trace_assemble::{ByTrace, OpenTrace};
use trace_model::TraceId;

/// Which rows of one batch are stored.
#[derive(Debug, Default)]
pub(super) struct Repeats {
    checked: HashSet<TraceId>,
    /// Rising.
    rows: Vec<u32>,
}

impl Repeats {
    /// The rows that have to be looked for, by trace: those of traces held in part that were not looked for yet.
    pub(super) fn unchecked(&self, assembly: &Assembly, by_trace: &ByTrace) -> Vec<(TraceId, Vec<u32>)> {
        if assembly.assembler.traces_held_in_part() == 0 {
            return Vec::new();
        }
        let in_part = |id: &TraceId| assembly.assembler.get(id).is_some_and(OpenTrace::is_partly_held);
        let wanted = by_trace.traces().filter(|(id, _)| !self.checked.contains(id) && in_part(id));
        wanted.map(|(id, rows)| (id, rows.collect())).collect()
    }

    /// Looks rows up in the store. What cannot be read counts as not stored.
    pub(super) fn look_up(&mut self, state: &State, batch: &LiveBatch, wanted: Vec<(TraceId, Vec<u32>)>) {
        for (id, rows) in wanted {
            let identity = |row: &u32| identity_of(&batch.rows[*row as usize].node);
            match stored_among(state, id, rows.iter().map(identity).collect()) {
                Ok(stored) => self.rows.extend(rows.iter().filter(|row| stored.contains(&identity(row)))),
                Err(error) => tracing::error!(trace = %id, %error, "cannot look for stored spans"),
            }
            self.checked.insert(id);
        }
        self.rows.sort_unstable();
        self.rows.dedup();
    }

    /// The trace was taken back anew: what was looked up of it may be less than is stored by now.
    pub(super) fn forget(&mut self, id: &TraceId) {
        self.checked.remove(id);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The rows that are stored, rising.
    pub(super) fn rows(&self) -> &[u32] {
        &self.rows
    }

    pub(super) fn are_stored(&self, row: u32) -> bool {
        self.rows.binary_search(&row).is_ok()
    }
}
