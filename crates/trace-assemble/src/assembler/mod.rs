//! All open traces, their deadlines and the bound on their memory.

mod bound;
mod cut;
mod finishing;
mod options;
mod reopening;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use hashbrown::hash_map::Entry;
use hashbrown::{DefaultHashBuilder, HashMap};
use trace_model::{SpanNode, TraceId, UnixNanos};

use crate::open_trace::{OpenTrace, Phase};
use crate::skeleton::{HeldSpan, Location};
pub use cut::OpenAtCut;
pub use options::Options;

/// What became of an observed span.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// It is held now.
    New,
    /// The same span (id and bytes) had come before; it is not held twice.
    Duplicate,
}

/// All traces that are open, or finished and not yet sealed.
#[derive(Debug)]
pub struct Assembler {
    options: Options,
    traces: HashMap<TraceId, Box<OpenTrace>>,
    hasher: DefaultHashBuilder,
    schedule: Schedule,
    touched: Vec<TraceId>,
    /// When what is observed now arrived, if that was said.
    arrived: UnixNanos,
    /// Counts cuts, from 1.
    cut: u32,
    sealed_batch: u64,
    spans: usize,
    /// Of `spans`, those of finished traces: they go once they are sealed.
    finished_spans: usize,
    /// Traces held in part.
    in_part: usize,
    finished_early: u64,
    /// Traces that have grown beyond `trace_held_max`; each may be named twice, or be gone.
    large: Vec<TraceId>,
    /// What was sealed when the large ones were last looked at.
    trimmed_batch: u64,
}

/// Which traces are open.
#[derive(Debug, Default)]
struct Schedule {
    /// One entry an open trace, at or before its true deadline; corrected when it comes up.
    deadlines: BinaryHeap<Reverse<(UnixNanos, TraceId)>>,
    /// When each open trace was opened, oldest first; entries of traces no longer open are skipped.
    opened: VecDeque<(UnixNanos, TraceId)>,
    open: usize,
}

impl Schedule {
    /// A trace is open from now on, since `arrived`, and `due` at the earliest.
    fn open(&mut self, id: TraceId, arrived: UnixNanos, due: UnixNanos) {
        self.open += 1;
        self.deadlines.push(Reverse((due, id)));
        self.opened.push_back((arrived, id));
    }
}

impl Assembler {
    /// An assembler that holds nothing yet.
    pub fn new(options: Options) -> Self {
        Self {
            options,
            traces: HashMap::new(),
            hasher: DefaultHashBuilder::default(),
            schedule: Schedule::default(),
            touched: Vec::new(),
            arrived: UnixNanos(u64::MAX),
            cut: 1,
            sealed_batch: 0,
            spans: 0,
            finished_spans: 0,
            in_part: 0,
            finished_early: 0,
            large: Vec::new(),
            trimmed_batch: 0,
        }
    }

    /// Whether the trace is held. If not, and it may have been sealed, [`reopen`](Self::reopen) it first.
    #[inline]
    pub fn holds(&self, id: &TraceId) -> bool {
        self.traces.contains_key(id)
    }

    /// The trace, if it is held.
    pub fn get(&self, id: &TraceId) -> Option<&OpenTrace> {
        self.traces.get(id).map(|trace| &**trace)
    }

    /// The spans of a held trace in order of arrival, and where their bytes are.
    pub fn spans(&self, id: &TraceId) -> impl Iterator<Item = HeldSpan> + '_ {
        self.get(id).into_iter().flat_map(|trace| trace.spans(self.sealed_batch))
    }

    /// All held traces, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = (&TraceId, &OpenTrace)> {
        self.traces.iter().map(|(id, trace)| (id, &**trace))
    }

    /// Traces that are not finished.
    pub fn open_traces(&self) -> usize {
        self.schedule.open
    }

    /// What is observed from here on arrived at `at`, before the `now` of its observation: segments tell their extent
    /// by arrival, so a trace must be open since then for the segment that names it.
    pub fn note_arrival(&mut self, at: UnixNanos) {
        self.arrived = at;
    }

    /// Takes note of one span. Reopens its trace if that was finished.
    pub fn observe(&mut self, id: TraceId, node: &SpanNode, location: Location, now: UnixNanos) -> Seen {
        let mut seen = Seen::New;
        self.hold(id, std::iter::once((*node, location)), now, |_| seen = Seen::Duplicate);
        seen
    }

    /// Takes note of spans of one trace, all of one live batch, with their rows in it. The rows of spans that had come
    /// before are added to `repeated`. How many of the others are late.
    pub fn observe_rows(
        &mut self,
        id: TraceId,
        batch: u64,
        rows: impl Iterator<Item = (u32, SpanNode)>,
        now: UnixNanos,
        repeated: &mut Vec<u32>,
    ) -> u64 {
        let nodes = rows.map(|(row, node)| (node, Location::Live { batch, row }));
        self.hold(id, nodes, now, |location| {
            if let Location::Live { row, .. } = location {
                repeated.push(row);
            }
        })
    }

    /// Rows of a live batch were taken out of it: those that are left have the numbers that `renumber` says.
    pub fn renumber(&mut self, id: &TraceId, batch: u64, renumber: &mut dyn FnMut(u32) -> u32) {
        if let Some(trace) = self.traces.get_mut(id) {
            trace.renumber(batch, renumber);
        }
    }

    /// The trace, open; a new one if it is not held.
    fn open(&mut self, id: TraceId, now: UnixNanos) -> &mut OpenTrace {
        let arrived = self.arrived.min(now);
        let due = now.saturating_add(self.options.idle_short);
        let trace = self.traces.entry(id).or_insert_with(|| {
            let mut trace = OpenTrace::new(now, arrived);
            trace.phase = Phase::Finished;
            Box::new(trace)
        });
        if trace.phase == Phase::Finished {
            trace.phase = Phase::Open;
            trace.first_seen = now;
            trace.open_since = arrived;
            self.finished_spans -= trace.span_count();
            self.schedule.open(id, arrived, due);
        }
        trace
    }

    /// How many of the new spans are late. `repeated` is told of spans that had come before.
    fn hold(
        &mut self,
        id: TraceId,
        nodes: impl Iterator<Item = (SpanNode, Location)>,
        now: UnixNanos,
        mut repeated: impl FnMut(Location),
    ) -> u64 {
        let mut nodes = nodes.peekable();
        if nodes.peek().is_none() {
            return 0;
        }
        let arrived = self.arrived.min(now);
        let due = now.saturating_add(self.options.idle_short);
        let trace = match self.traces.entry(id) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => {
                self.schedule.open(id, arrived, due);
                entry.insert(Box::new(OpenTrace::new(now, arrived)))
            }
        };
        let mut new = 0;
        while let Some((node, location)) = nodes.next() {
            if trace.contains(&self.hasher, &node) {
                repeated(location);
                continue;
            }
            if trace.phase == Phase::Finished {
                trace.phase = Phase::Open;
                trace.revised = true;
                trace.first_seen = now;
                trace.open_since = arrived;
                self.finished_spans -= trace.span_count();
                self.schedule.open(id, arrived, due);
            }
            trace.last_seen = now;
            if node.parent.is_none() && trace.root_seen == UnixNanos(u64::MAX) {
                trace.root_seen = now;
            }
            trace.push(&self.hasher, &node, location, nodes.size_hint().1.unwrap_or(0));
            self.spans += 1;
            new += 1;
            if trace.span_count() == self.options.trace_held_max + 1 {
                self.large.push(id);
            }
            if location != Location::Sealed {
                trace.unanalysed = true;
                if trace.touched != self.cut {
                    trace.touched = self.cut;
                    self.touched.push(id);
                }
            }
        }
        if trace.late { new } else { 0 }
    }
}

#[cfg(test)]
mod tests;
