//! The bound on memory: what is held, what there is room for, and what is let go of.

use hashbrown::hash_map::Entry;
use trace_model::TraceId;

use super::Assembler;
use crate::open_trace::Phase;

/// One part in so many of the spans that may be held is worth a segment of its own.
const SEALED_AT_ONCE: usize = 16;

impl Assembler {
    /// Skeletons held.
    pub fn held_spans(&self) -> usize {
        self.spans
    }

    /// Traces that the bound on memory finished before their time, since the beginning.
    pub fn finished_early(&self) -> u64 {
        self.finished_early
    }

    /// Whether more is held than should be, of which enough goes as soon as it is sealed: under steady load there is always
    /// something, and a segment for every little would be many.
    pub fn waits_for_sealing(&self) -> bool {
        self.spans > self.options.spans_max && self.finished_spans > self.options.spans_max / SEALED_AT_ONCE
    }

    /// How many spans there is room for, and at most for one trace.
    pub fn room(&self) -> usize {
        self.options.spans_max.saturating_sub(self.spans).min(self.options.trace_held_max)
    }

    /// The bound on the spans that are held.
    pub fn spans_max(&self) -> usize {
        self.options.spans_max
    }

    /// Traces of which not all spans are held.
    pub fn traces_held_in_part(&self) -> usize {
        self.in_part
    }

    /// Lets go of what was sealed of traces that have grown too large to be held whole. Who observes has to look for
    /// repeats of it from here on.
    pub fn trim(&mut self) {
        if self.large.is_empty() || self.trimmed_batch == self.sealed_batch {
            return;
        }
        self.trimmed_batch = self.sealed_batch;
        let mut large = std::mem::take(&mut self.large);
        large.retain(|id| {
            let Some(trace) = self.traces.get_mut(id) else { return false };
            if trace.span_count() > self.options.trace_held_max {
                let was_whole = !trace.is_partly_held();
                let gone = trace.let_go(&self.hasher, self.sealed_batch);
                self.in_part += usize::from(was_whole && trace.is_partly_held());
                self.spans -= gone;
                if trace.phase == Phase::Finished {
                    self.finished_spans -= gone;
                }
            }
            trace.span_count() > self.options.trace_held_max
        });
        self.large.append(&mut large);
    }

    /// Every span up to and including live batch `up_to_batch` has been sealed.
    pub fn sealed(&mut self, up_to_batch: u64) {
        self.sealed_batch = self.sealed_batch.max(up_to_batch);
    }

    /// The last analysis of a trace has been sealed: lets go of the trace if it is finished and none of its spans
    /// is live.
    pub fn release(&mut self, id: &TraceId) {
        let Entry::Occupied(entry) = self.traces.entry(*id) else { return };
        let trace = entry.get();
        if trace.phase == Phase::Open || trace.last_batch > self.sealed_batch {
            return;
        }
        self.spans -= trace.span_count();
        self.finished_spans -= trace.span_count();
        self.in_part -= usize::from(trace.is_partly_held());
        entry.remove();
        if self.traces.capacity() > 4 * self.traces.len() + 1024 {
            self.traces.shrink_to(2 * self.traces.len());
        }
    }
}
