//! All open traces, their deadlines and the bound on their memory.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use hashbrown::HashMap;
use hashbrown::hash_map::Entry;
use trace_model::{NanoDuration, SpanNode, TraceId, UnixNanos};

use crate::open_trace::{HeldSpan, Location, OpenTrace, Phase};

/// When traces are finished, and how much may be held.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// How long to wait after the root came. Default 5 s.
    pub root_wait: NanoDuration,
    /// How long a trace with a root must be quiet. Default 5 s.
    pub idle_short: NanoDuration,
    /// How long a trace without a root must be quiet. Default 60 s.
    pub idle_long: NanoDuration,
    /// The age at which a trace is analysed whatever it waits for. Default 15 min.
    pub max_age: NanoDuration,
    /// Spans held at most (about 100 B each); above it the traces due next are finished early. Default 4 million.
    pub spans_max: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            root_wait: NanoDuration::from_secs(5),
            idle_short: NanoDuration::from_secs(5),
            idle_long: NanoDuration::from_secs(60),
            max_age: NanoDuration::from_secs(15 * 60),
            spans_max: 4_000_000,
        }
    }
}

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
    traces: HashMap<TraceId, OpenTrace>,
    /// One entry an open trace, at or before its true deadline; corrected when it comes up.
    deadlines: BinaryHeap<Reverse<(UnixNanos, TraceId)>>,
    spans: usize,
    open: usize,
    finished_early: u64,
}

impl Assembler {
    /// An assembler that holds nothing yet.
    pub fn new(options: Options) -> Self {
        Self {
            options,
            traces: HashMap::new(),
            deadlines: BinaryHeap::new(),
            spans: 0,
            open: 0,
            finished_early: 0,
        }
    }

    /// Whether the trace is held. If not, and it may have been sealed, [`reopen`](Self::reopen) it first.
    #[inline]
    pub fn holds(&self, id: &TraceId) -> bool {
        self.traces.contains_key(id)
    }

    /// The trace, if it is held.
    pub fn get(&self, id: &TraceId) -> Option<&OpenTrace> {
        self.traces.get(id)
    }

    /// All held traces, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = (&TraceId, &OpenTrace)> {
        self.traces.iter()
    }

    /// Traces that are not finished.
    pub fn open_traces(&self) -> usize {
        self.open
    }

    /// Skeletons held.
    pub fn held_spans(&self) -> usize {
        self.spans
    }

    /// Traces that the bound on memory finished before their time, since the beginning.
    pub fn finished_early(&self) -> u64 {
        self.finished_early
    }

    /// Takes back a trace that was sealed, with all its stored spans; a late span is about to come.
    pub fn reopen(&mut self, id: TraceId, nodes: impl IntoIterator<Item = SpanNode>, now: UnixNanos) {
        for node in nodes {
            self.observe(id, node, Location::Sealed, now);
        }
        if let Some(trace) = self.traces.get_mut(&id) {
            trace.revised = true;
        }
    }

    /// Remembers that sealed spans of a held trace were looked for among arrivals since `since`.
    pub fn note_searched(&mut self, id: &TraceId, since: UnixNanos) {
        if let Some(trace) = self.traces.get_mut(id) {
            trace.searched_since = trace.searched_since.min(since);
        }
    }

    /// Takes note of one span. Reopens its trace if that was finished.
    pub fn observe(&mut self, id: TraceId, node: SpanNode, location: Location, now: UnixNanos) -> Seen {
        let trace = match self.traces.entry(id) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => {
                self.open += 1;
                let trace = entry.insert(OpenTrace::new(now));
                self.deadlines.push(Reverse((now.saturating_add(self.options.idle_short), id)));
                trace
            }
        };
        if trace.contains(&node) {
            return Seen::Duplicate;
        }
        if trace.phase == Phase::Finished {
            trace.phase = Phase::Open;
            trace.revised = true;
            trace.first_seen = now;
            self.open += 1;
            self.deadlines.push(Reverse((now.saturating_add(self.options.idle_short), id)));
        }
        trace.last_seen = now;
        if node.parent.is_none() && trace.root_seen.is_none() {
            trace.root_seen = Some(now);
        }
        trace.push(HeldSpan { node, location });
        self.spans += 1;
        Seen::New
    }

    /// The traces that are due at `now`, and those that the bound on memory forces out. They are finished from
    /// here on.
    pub fn poll(&mut self, now: UnixNanos) -> Vec<TraceId> {
        let mut due = Vec::new();
        let mut excess = self.spans.saturating_sub(self.options.spans_max);
        while let Some(&Reverse((at, id))) = self.deadlines.peek() {
            if at > now && excess == 0 {
                break;
            }
            self.deadlines.pop();
            let Some(trace) = self.traces.get_mut(&id) else { continue };
            if trace.phase == Phase::Finished {
                continue;
            }
            let deadline = deadline(trace, &self.options);
            if deadline > now && excess == 0 {
                self.deadlines.push(Reverse((deadline, id)));
                continue;
            }
            if deadline > now {
                self.finished_early += 1;
                excess = excess.saturating_sub(trace.spans().len());
            }
            trace.phase = Phase::Finished;
            self.open -= 1;
            due.push(id);
        }
        due
    }

    /// When [`poll`](Self::poll) may next have something to say; `None` while nothing is open.
    pub fn next_deadline(&self) -> Option<UnixNanos> {
        self.deadlines.peek().map(|Reverse((at, _))| *at)
    }

    /// Every span up to and including live batch `up_to_batch` has been sealed, and with them the analyses of
    /// `analysed` traces. Lets go of finished traces that are wholly sealed.
    pub fn sealed(&mut self, up_to_batch: u64, analysed: &dyn Fn(&TraceId) -> bool) {
        let mut freed = 0;
        self.traces.retain(|id, trace| {
            trace.mark_sealed(up_to_batch);
            let keep = trace.phase == Phase::Open || !analysed(id) || !trace.is_wholly_sealed();
            freed += if keep { 0 } else { trace.spans().len() };
            keep
        });
        self.spans -= freed;
        if self.traces.capacity() > 4 * self.traces.len() + 1024 {
            self.traces.shrink_to(2 * self.traces.len());
        }
    }
}

fn deadline(trace: &OpenTrace, options: &Options) -> UnixNanos {
    let quiet = match trace.root_seen {
        Some(root) => {
            root.saturating_add(options.root_wait).max(trace.last_seen.saturating_add(options.idle_short))
        }
        None => trace.last_seen.saturating_add(options.idle_long),
    };
    quiet.min(trace.first_seen.saturating_add(options.max_age))
}

#[cfg(test)]
mod tests {
    use super::*;
    use trace_model::{OperationId, ServiceId, SpanId, SpanKind, StatusCode};

    const S: u64 = 1_000_000_000;

    fn trace_id(n: u8) -> TraceId {
        TraceId::new([n; 16]).unwrap()
    }

    fn node(span: u8, parent: Option<u8>) -> SpanNode {
        SpanNode {
            span_id: SpanId::new([span; 8]).unwrap(),
            parent: parent.map(|p| SpanId::new([p; 8]).unwrap()),
            start: UnixNanos(0),
            end: UnixNanos(10),
            content: u64::from(span),
            service: ServiceId(0),
            operation: OperationId(0),
            kind: SpanKind::Internal,
            status: StatusCode::Unset,
        }
    }

    fn live(batch: u64) -> Location {
        Location::Live { batch, row: 0 }
    }

    #[test]
    fn a_trace_with_a_root_is_finished_after_the_short_quiet() {
        let mut assembler = Assembler::new(Options::default());
        assembler.observe(trace_id(1), node(1, None), live(0), UnixNanos(0));
        assembler.observe(trace_id(1), node(2, Some(1)), live(0), UnixNanos(3 * S));
        assert!(assembler.poll(UnixNanos(7 * S)).is_empty());
        assert_eq!(assembler.poll(UnixNanos(8 * S)), [trace_id(1)]);
        assert_eq!(assembler.open_traces(), 0);
    }

    #[test]
    fn a_trace_without_a_root_waits_longer_but_not_past_its_greatest_age() {
        let mut assembler = Assembler::new(Options::default());
        assembler.observe(trace_id(1), node(2, Some(1)), live(0), UnixNanos(0));
        assert!(assembler.poll(UnixNanos(59 * S)).is_empty());
        assert_eq!(assembler.poll(UnixNanos(60 * S)), [trace_id(1)]);
        for second in 0..1_000 {
            let mut span = node(3, Some(1));
            span.content = 1_000 + second;
            assembler.observe(trace_id(2), span, live(0), UnixNanos(second * S));
        }
        assert_eq!(assembler.poll(UnixNanos(900 * S)), [trace_id(2)]);
    }

    #[test]
    fn a_repeated_span_is_recognised_in_small_and_large_traces() {
        let mut assembler = Assembler::new(Options::default());
        for span in 1..=100 {
            assert_eq!(assembler.observe(trace_id(1), node(span, None), live(0), UnixNanos(0)), Seen::New);
            assert_eq!(assembler.observe(trace_id(1), node(1, None), live(0), UnixNanos(0)), Seen::Duplicate);
        }
        assert_eq!(assembler.held_spans(), 100);
    }

    #[test]
    fn a_late_span_reopens_and_a_sealed_finished_trace_is_let_go() {
        let mut assembler = Assembler::new(Options::default());
        assembler.observe(trace_id(1), node(1, None), live(0), UnixNanos(0));
        assert_eq!(assembler.poll(UnixNanos(10 * S)).len(), 1);
        assembler.observe(trace_id(1), node(2, Some(1)), live(1), UnixNanos(11 * S));
        assert!(assembler.get(&trace_id(1)).unwrap().is_revised());
        assembler.sealed(0, &|_| true);
        assert!(assembler.holds(&trace_id(1)), "open again, so it stays");
        assert_eq!(assembler.poll(UnixNanos(20 * S)).len(), 1);
        assembler.sealed(1, &|_| false);
        assert!(assembler.holds(&trace_id(1)), "its analysis is not sealed");
        assembler.sealed(1, &|_| true);
        assert!(!assembler.holds(&trace_id(1)));
        assert_eq!(assembler.held_spans(), 0);
    }

    #[test]
    fn the_bound_on_spans_finishes_the_traces_due_next() {
        let mut assembler = Assembler::new(Options { spans_max: 5, ..Options::default() });
        for n in 1..=9 {
            assembler.observe(trace_id(n), node(n, None), live(0), UnixNanos(u64::from(n)));
        }
        let forced = assembler.poll(UnixNanos(20));
        assert_eq!(forced, (1..=4).map(trace_id).collect::<Vec<_>>());
        assert_eq!(assembler.finished_early(), 4);
    }
}
