//! Which traces are due to be analysed.

use std::cmp::Reverse;

use trace_model::{TraceId, UnixNanos};

use super::{Assembler, Options};
use crate::open_trace::{OpenTrace, Phase};

impl Assembler {
    /// The traces that are due at `now`, and those that the bound on memory forces out. They are finished from
    /// here on.
    pub fn poll(&mut self, now: UnixNanos) -> Vec<TraceId> {
        let due = self.due(now, usize::MAX);
        due.iter().for_each(|id| self.finish(id));
        due
    }

    /// The traces that are due at `now`, and those that the bound on memory forces out, `most` at a time. Each is to be
    /// analysed, and is open until [`finish`](Self::finish) says that it was. Traces that were taken back for spans
    /// which then all turned out to be repeated are let go.
    pub fn due(&mut self, now: UnixNanos, most: usize) -> Vec<TraceId> {
        let mut due = Vec::new();
        // What is finished goes as soon as it is sealed: more of it now would not make more room.
        let over = self.spans.saturating_sub(self.options.spans_max);
        let mut excess = over.saturating_sub(self.finished_spans);
        while due.len() < most
            && let Some(&Reverse((at, id))) = self.schedule.deadlines.peek()
        {
            if at > now && excess == 0 {
                break;
            }
            self.schedule.deadlines.pop();
            let Some(trace) = self.traces.get_mut(&id) else { continue };
            if trace.phase == Phase::Finished {
                continue;
            }
            let deadline = deadline(trace, &self.options);
            if deadline > now && excess == 0 {
                self.schedule.deadlines.push(Reverse((deadline, id)));
                continue;
            }
            excess = excess.saturating_sub(trace.span_count());
            if !trace.unanalysed {
                self.schedule.open -= 1;
                self.spans -= trace.span_count();
                self.in_part -= usize::from(trace.is_partly_held());
                self.traces.remove(&id);
                continue;
            }
            self.finished_early += u64::from(deadline > now);
            due.push(id);
        }
        due
    }

    /// A trace that was due has been analysed.
    pub fn finish(&mut self, id: &TraceId) {
        let Some(trace) = self.traces.get_mut(id).filter(|trace| trace.phase == Phase::Open) else { return };
        trace.phase = Phase::Finished;
        trace.unanalysed = false;
        trace.late = true;
        self.schedule.open -= 1;
        self.finished_spans += trace.span_count();
    }

    /// A trace that was due cannot be analysed yet: it is due again at `at`.
    pub fn postpone(&mut self, id: TraceId, at: UnixNanos) {
        self.schedule.deadlines.push(Reverse((at, id)));
    }

    /// When [`poll`](Self::poll) may next have something to say; `None` while nothing is open.
    pub fn next_deadline(&self) -> Option<UnixNanos> {
        self.schedule.deadlines.peek().map(|Reverse((at, _))| *at)
    }
}

fn deadline(trace: &OpenTrace, options: &Options) -> UnixNanos {
    let quiet = if trace.root_seen == UnixNanos(u64::MAX) {
        trace.last_seen.saturating_add(options.idle_long)
    } else {
        let after_root = trace.root_seen.saturating_add(options.root_wait);
        after_root.max(trace.last_seen.saturating_add(options.idle_short))
    };
    // To analyse it, it has to be read: not for every late span anew.
    let quiet = match trace.is_partly_held() {
        true => quiet.max(trace.last_seen.saturating_add(options.idle_long)),
        false => quiet,
    };
    quiet.min(trace.first_seen.saturating_add(options.max_age))
}
