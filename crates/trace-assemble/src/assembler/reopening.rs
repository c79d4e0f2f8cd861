//! Taking traces back that were sealed, or that an earlier process left open.

use trace_model::{SpanNode, TraceId, UnixNanos};

use super::Assembler;
use crate::open_trace::Phase;
use crate::skeleton::Location;
use crate::totals::Totals;

impl Assembler {
    /// Takes back a trace that was sealed, with all its stored spans; a late span may be about to come. If none
    /// does, the trace is let go again without a new analysis.
    pub fn reopen(&mut self, id: TraceId, nodes: impl IntoIterator<Item = SpanNode>, now: UnixNanos) {
        let held = self.holds(&id);
        let nodes = nodes.into_iter().map(|node| (node, Location::Sealed));
        self.hold(id, nodes, now, |_| {});
        self.note_reopened(&id, held);
    }

    /// Like [`reopen`](Self::reopen), for a trace with more stored spans than there is room for: they are not held, and
    /// the caller has to look for repeats of them. `totals` are over all that was sealed up to live batch
    /// `sealed`.
    pub fn reopen_partly(&mut self, id: TraceId, totals: Totals, sealed: u64, now: UnixNanos) {
        let held = self.holds(&id);
        let has_root = totals.root().is_some();
        let trace = self.open(id, now);
        trace.last_seen = now;
        if has_root {
            trace.root_seen = trace.root_seen.min(now);
        }
        let hasher = self.hasher.clone();
        if let Some(trace) = self.traces.get_mut(&id) {
            self.in_part += usize::from(!trace.is_partly_held());
            self.spans -= trace.put_away(&hasher, totals, sealed);
        }
        self.note_reopened(&id, held);
    }

    fn note_reopened(&mut self, id: &TraceId, held: bool) {
        if let Some(trace) = self.traces.get_mut(id) {
            trace.revised = true;
            trace.late = true;
            // What was held has to be analysed again, together with what was sealed.
            trace.unanalysed |= held && trace.phase == Phase::Open;
        }
    }

    /// Takes back a trace that was open when an earlier process ended, named by a cut that took arrivals from
    /// `listed` on. Its analysis is still to come.
    pub fn resume(
        &mut self,
        id: TraceId,
        nodes: impl IntoIterator<Item = SpanNode>,
        listed: UnixNanos,
        now: UnixNanos,
    ) {
        self.reopen(id, nodes, now);
        self.resumed(id, listed);
    }

    /// The trace that was just reopened was open when an earlier process ended; see [`resume`](Self::resume).
    pub fn resumed(&mut self, id: TraceId, listed: UnixNanos) {
        if let Some(trace) = self.traces.get_mut(&id) {
            trace.unanalysed = true;
            trace.late = false;
            trace.open_since = listed;
            // Rising, whatever the order in which traces are taken back; falling is the cheap one.
            let at = self.schedule.opened.partition_point(|(at, _)| *at < listed);
            self.schedule.opened.insert(at, (listed, id));
        }
    }

    /// Remembers that sealed spans of a held trace were looked for among arrivals since `since`.
    pub fn note_searched(&mut self, id: &TraceId, since: UnixNanos) {
        if let Some(trace) = self.traces.get_mut(id) {
            trace.searched_since = trace.searched_since.min(since);
        }
    }
}
