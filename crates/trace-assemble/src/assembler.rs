//! All open traces, their deadlines and the bound on their memory.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use hashbrown::hash_map::Entry;
use hashbrown::{DefaultHashBuilder, HashMap};
use trace_model::{NanoDuration, SpanNode, TraceId, UnixNanos};

use crate::open_trace::{OpenTrace, Phase};
use crate::skeleton::{HeldSpan, Location};
use crate::totals::Totals;

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
    /// Spans held at most (about 80 B each); above it the traces due next are finished early. Default 4 million.
    pub spans_max: usize,
    /// Spans of one trace that are held at most, besides those that are not sealed. Default 500,000.
    pub trace_held_max: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            root_wait: NanoDuration::from_secs(5),
            idle_short: NanoDuration::from_secs(5),
            idle_long: NanoDuration::from_secs(60),
            max_age: NanoDuration::from_secs(15 * 60),
            spans_max: 4_000_000,
            trace_held_max: 500_000,
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

/// What a cut needs to know of open traces, so that a start after a crash finds them again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenAtCut {
    /// Open traces of which a span came since the last cut.
    pub touched: Vec<TraceId>,
    /// Every open trace is among `touched` of this cut or of one that took arrivals from here on; `None` if no
    /// trace is open.
    pub since: Option<UnixNanos>,
}

/// All traces that are open, or finished and not yet sealed.
#[derive(Debug)]
pub struct Assembler {
    options: Options,
    traces: HashMap<TraceId, Box<OpenTrace>>,
    hasher: DefaultHashBuilder,
    /// One entry an open trace, at or before its true deadline; corrected when it comes up.
    deadlines: BinaryHeap<Reverse<(UnixNanos, TraceId)>>,
    /// When each open trace was opened, oldest first; entries of traces no longer open are skipped.
    opened: VecDeque<(UnixNanos, TraceId)>,
    touched: Vec<TraceId>,
    /// When what is observed now arrived, if that was said.
    arrived: UnixNanos,
    /// Counts cuts, from 1.
    cut: u32,
    sealed_batch: u64,
    spans: usize,
    /// Of `spans`, those of finished traces: they go once they are sealed.
    finished_spans: usize,
    open: usize,
    /// Traces held in part.
    in_part: usize,
    finished_early: u64,
    /// Traces that have grown beyond `trace_held_max`; each may be named twice, or be gone.
    large: Vec<TraceId>,
    /// What was sealed when the large ones were last looked at.
    trimmed_batch: u64,
}

impl Assembler {
    /// An assembler that holds nothing yet.
    pub fn new(options: Options) -> Self {
        Self {
            options,
            traces: HashMap::new(),
            hasher: DefaultHashBuilder::default(),
            deadlines: BinaryHeap::new(),
            opened: VecDeque::new(),
            touched: Vec::new(),
            arrived: UnixNanos(u64::MAX),
            cut: 1,
            sealed_batch: 0,
            spans: 0,
            finished_spans: 0,
            open: 0,
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
            let at = self.opened.partition_point(|(at, _)| *at < listed);
            self.opened.insert(at, (listed, id));
        }
    }

    /// Remembers that sealed spans of a held trace were looked for among arrivals since `since`.
    pub fn note_searched(&mut self, id: &TraceId, since: UnixNanos) {
        if let Some(trace) = self.traces.get_mut(id) {
            trace.searched_since = trace.searched_since.min(since);
        }
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
            self.open += 1;
            self.deadlines.push(Reverse((now.saturating_add(self.options.idle_short), id)));
            self.opened.push_back((arrived, id));
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
        let trace = match self.traces.entry(id) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => {
                self.open += 1;
                self.deadlines.push(Reverse((now.saturating_add(self.options.idle_short), id)));
                self.opened.push_back((arrived, id));
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
                self.open += 1;
                self.deadlines.push(Reverse((now.saturating_add(self.options.idle_short), id)));
                self.opened.push_back((arrived, id));
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
            && let Some(&Reverse((at, id))) = self.deadlines.peek()
        {
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
            excess = excess.saturating_sub(trace.span_count());
            if !trace.unanalysed {
                self.open -= 1;
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
        self.open -= 1;
        self.finished_spans += trace.span_count();
    }

    /// A trace that was due cannot be analysed yet: it is due again at `at`.
    pub fn postpone(&mut self, id: TraceId, at: UnixNanos) {
        self.deadlines.push(Reverse((at, id)));
    }

    /// Whether more is held than should be, of which something goes as soon as it is sealed.
    pub fn waits_for_sealing(&self) -> bool {
        self.spans > self.options.spans_max && self.finished_spans > 0
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

    /// When [`poll`](Self::poll) may next have something to say; `None` while nothing is open.
    pub fn next_deadline(&self) -> Option<UnixNanos> {
        self.deadlines.peek().map(|Reverse((at, _))| *at)
    }

    /// A cut is made here: says which traces are open. What comes from now on belongs to the next cut.
    pub fn cut(&mut self) -> OpenAtCut {
        let mut touched = std::mem::take(&mut self.touched);
        touched.retain(|id| self.traces.get(id).is_some_and(|trace| trace.phase == Phase::Open));
        self.cut = self.cut.wrapping_add(1).max(1);
        while let Some((at, id)) = self.opened.front() {
            let trace = self.traces.get(id);
            if trace.is_some_and(|trace| trace.phase == Phase::Open && trace.open_since == *at) {
                break;
            }
            self.opened.pop_front();
        }
        OpenAtCut { touched, since: self.opened.front().map(|(at, _)| *at) }
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
        assembler.observe(trace_id(1), &node(1, None), live(0), UnixNanos(0));
        assembler.observe(trace_id(1), &node(2, Some(1)), live(0), UnixNanos(3 * S));
        assert!(assembler.poll(UnixNanos(7 * S)).is_empty());
        assert_eq!(assembler.poll(UnixNanos(8 * S)), [trace_id(1)]);
        assert_eq!(assembler.open_traces(), 0);
    }

    #[test]
    fn a_trace_without_a_root_waits_longer_but_not_past_its_greatest_age() {
        let mut assembler = Assembler::new(Options::default());
        assembler.observe(trace_id(1), &node(2, Some(1)), live(0), UnixNanos(0));
        assert!(assembler.poll(UnixNanos(59 * S)).is_empty());
        assert_eq!(assembler.poll(UnixNanos(60 * S)), [trace_id(1)]);
        for second in 0..1_000 {
            let mut span = node(3, Some(1));
            span.content = 1_000 + second;
            assembler.observe(trace_id(2), &span, live(0), UnixNanos(second * S));
        }
        assert_eq!(assembler.poll(UnixNanos(900 * S)), [trace_id(2)]);
    }

    #[test]
    fn a_repeated_span_is_recognised_in_small_and_large_traces() {
        let mut assembler = Assembler::new(Options::default());
        for span in 1..=100 {
            assert_eq!(assembler.observe(trace_id(1), &node(span, None), live(0), UnixNanos(0)), Seen::New);
            assert_eq!(
                assembler.observe(trace_id(1), &node(1, None), live(0), UnixNanos(0)),
                Seen::Duplicate
            );
        }
        assert_eq!(assembler.held_spans(), 100);
    }

    #[test]
    fn a_late_span_reopens_and_a_sealed_finished_trace_is_let_go() {
        let mut assembler = Assembler::new(Options::default());
        assembler.observe(trace_id(1), &node(1, None), live(1), UnixNanos(0));
        assert_eq!(assembler.poll(UnixNanos(10 * S)).len(), 1);
        assembler.observe(trace_id(1), &node(2, Some(1)), live(2), UnixNanos(11 * S));
        assert!(assembler.get(&trace_id(1)).unwrap().is_revised());
        assembler.sealed(1);
        assembler.release(&trace_id(1));
        assert!(assembler.holds(&trace_id(1)), "open again, so it stays");
        assert_eq!(assembler.poll(UnixNanos(20 * S)).len(), 1);
        assembler.release(&trace_id(1));
        assert!(assembler.holds(&trace_id(1)), "one of its spans is live");
        assembler.sealed(2);
        assembler.release(&trace_id(1));
        assert!(!assembler.holds(&trace_id(1)));
        assert_eq!(assembler.held_spans(), 0);
    }

    #[test]
    fn a_trace_taken_back_for_repeated_spans_only_is_let_go_without_an_analysis() {
        let mut assembler = Assembler::new(Options::default());
        assembler.reopen(trace_id(1), [node(1, None), node(2, Some(1))], UnixNanos(0));
        assert_eq!(assembler.observe(trace_id(1), &node(2, Some(1)), live(1), UnixNanos(1)), Seen::Duplicate);
        assert!(assembler.poll(UnixNanos(60 * S)).is_empty());
        assert_eq!((assembler.held_spans(), assembler.open_traces()), (0, 0));
    }

    #[test]
    fn rows_are_observed_as_single_spans_are() {
        let rows = [(0, node(1, None)), (2, node(2, Some(1))), (3, node(2, Some(1))), (5, node(3, Some(1)))];
        let mut assembler = Assembler::new(Options::default());
        let mut repeated = Vec::new();
        assert_eq!(assembler.observe_rows(trace_id(1), 1, rows.into_iter(), UnixNanos(S), &mut repeated), 0);
        assert_eq!(repeated, [3]);
        // Rows 3 and 4 were taken out.
        assembler.renumber(&trace_id(1), 1, &mut |row| if row > 3 { row - 2 } else { row });
        let places = |assembler: &Assembler| {
            assembler.spans(&trace_id(1)).map(|span| span.location).collect::<Vec<_>>()
        };
        assert_eq!(places(&assembler), [0, 2, 3].map(|row| Location::Live { batch: 1, row }));
        assert_eq!(assembler.poll(UnixNanos(10 * S)), [trace_id(1)]);
        let late = [(7, node(1, None)), (8, node(4, Some(1)))];
        assert_eq!(
            assembler.observe_rows(trace_id(1), 2, late.into_iter(), UnixNanos(11 * S), &mut repeated),
            1
        );
        assembler.renumber(&trace_id(1), 2, &mut |row| row - 8);
        let late = Location::Live { batch: 2, row: 0 };
        assert_eq!((repeated, places(&assembler)[3], places(&assembler).len()), (vec![3, 7], late, 4));
        let nothing =
            assembler.observe_rows(trace_id(2), 2, [].into_iter(), UnixNanos(11 * S), &mut Vec::new());
        assert_eq!(nothing, 0);
        assert!(!assembler.holds(&trace_id(2)), "nothing came of it");
    }

    #[test]
    fn every_open_trace_is_named_by_a_cut_since_the_one_told() {
        let mut assembler = Assembler::new(Options::default());
        let nothing = OpenAtCut { touched: Vec::new(), since: None };
        assert_eq!(assembler.cut(), nothing);
        // Without a root it is open for a minute; the other is finished before the second cut.
        assembler.observe(trace_id(1), &node(2, Some(1)), live(1), UnixNanos(S));
        assembler.observe(trace_id(2), &node(1, None), live(1), UnixNanos(2 * S));
        let both = OpenAtCut { touched: vec![trace_id(1), trace_id(2)], since: Some(UnixNanos(S)) };
        assert_eq!(assembler.cut(), both);
        assert_eq!(assembler.poll(UnixNanos(10 * S)), [trace_id(2)]);
        assembler.observe(trace_id(3), &node(1, None), live(2), UnixNanos(10 * S));
        let third = OpenAtCut { touched: vec![trace_id(3)], since: Some(UnixNanos(S)) };
        assert_eq!(assembler.cut(), third);
        assert_eq!(assembler.poll(UnixNanos(61 * S)), [trace_id(3), trace_id(1)]);
        assert_eq!(assembler.cut(), nothing);
    }

    #[test]
    fn a_cut_tells_arrivals_and_not_when_they_were_observed() {
        let mut assembler = Assembler::new(Options::default());
        assembler.note_arrival(UnixNanos(S));
        assembler.observe(trace_id(1), &node(1, None), live(1), UnixNanos(2 * S));
        assert_eq!(assembler.cut().since, Some(UnixNanos(S)));
        assert_eq!(assembler.poll(UnixNanos(20 * S)), [trace_id(1)]);
        // A late span opens it again.
        assembler.note_arrival(UnixNanos(21 * S));
        assembler.observe(trace_id(1), &node(2, Some(1)), live(2), UnixNanos(22 * S));
        assert_eq!(assembler.cut().since, Some(UnixNanos(21 * S)));
    }

    #[test]
    fn a_resumed_trace_is_analysed_and_keeps_the_place_where_it_is_named() {
        let mut assembler = Assembler::new(Options::default());
        assembler.resume(trace_id(1), [node(1, None)], UnixNanos(3), UnixNanos(100 * S));
        assert_eq!(assembler.cut(), OpenAtCut { touched: Vec::new(), since: Some(UnixNanos(3)) });
        assert_eq!(assembler.poll(UnixNanos(105 * S)), [trace_id(1)]);
        assert_eq!(assembler.cut().since, None);
        assembler.release(&trace_id(1));
        assert_eq!(assembler.held_spans(), 0);
    }

    #[test]
    fn the_bound_on_spans_finishes_the_traces_due_next() {
        let mut assembler = Assembler::new(Options { spans_max: 5, ..Options::default() });
        for n in 1..=9 {
            assembler.observe(trace_id(n), &node(n, None), live(0), UnixNanos(u64::from(n)));
        }
        let forced = assembler.poll(UnixNanos(20));
        assert_eq!(forced, (1..=4).map(trace_id).collect::<Vec<_>>());
        assert_eq!(assembler.finished_early(), 4);
    }

    #[test]
    fn what_is_finished_and_waits_for_sealing_forces_nothing_else_out() {
        let mut assembler = Assembler::new(Options { spans_max: 5, ..Options::default() });
        for n in 1..=9 {
            assembler.observe(trace_id(n), &node(n, None), live(1), UnixNanos(u64::from(n)));
        }
        assert_eq!(assembler.poll(UnixNanos(20)).len(), 4);
        assert!(assembler.poll(UnixNanos(21)).is_empty(), "enough goes with the next seal");
        assert!(assembler.waits_for_sealing() && assembler.room() == 0);
        assembler.sealed(1);
        (1..=4).for_each(|n| assembler.release(&trace_id(n)));
        assert_eq!((assembler.held_spans(), assembler.finished_early()), (5, 4));
        assert!(!assembler.waits_for_sealing());
        // A late span opens one again; what was finished of it does not count twice.
        assert_eq!(assembler.poll(UnixNanos(60 * S)).len(), 5);
        assembler.observe(trace_id(9), &node(10, Some(9)), live(2), UnixNanos(61 * S));
        assembler.observe(trace_id(8), &node(11, Some(8)), live(2), UnixNanos(61 * S));
        assert!(assembler.poll(UnixNanos(61 * S)).is_empty());
        assembler.sealed(2);
        assert_eq!(assembler.poll(UnixNanos(120 * S)).len(), 2);
        (1..=9).for_each(|n| assembler.release(&trace_id(n)));
        assert_eq!((assembler.held_spans(), assembler.finished_spans), (0, 0));
    }

    #[test]
    fn a_trace_that_grows_too_large_keeps_what_is_not_sealed_and_sums_of_the_rest() {
        let mut assembler = Assembler::new(Options { trace_held_max: 10, ..Options::default() });
        let all: Vec<SpanNode> = (1..=60)
            .map(|n| SpanNode { start: UnixNanos(n.into()), ..node(n, (n > 1).then_some(1)) })
            .collect();
        for (at, node) in all.iter().enumerate() {
            assembler.observe(trace_id(1), node, live(at as u64 / 20 + 1), UnixNanos(0));
        }
        assembler.trim();
        assert_eq!(assembler.held_spans(), 60, "nothing of it is sealed");
        assembler.sealed(2);
        assembler.trim();
        let mut wanted = Totals::default();
        wanted.extend(&all);
        {
            let trace = assembler.get(&trace_id(1)).unwrap();
            assert!(trace.is_partly_held() && trace.has_root());
            assert_eq!((trace.span_count(), trace.totals()), (20, wanted));
            assert_eq!(trace.extent(), (UnixNanos(1), UnixNanos(60)));
        }
        assert_eq!((assembler.held_spans(), assembler.traces_held_in_part()), (20, 1));
        assert_eq!(assembler.observe(trace_id(1), &all[50], live(4), UnixNanos(0)), Seen::Duplicate);
        // It waits for longer, since to analyse it it has to be read.
        assert!(assembler.poll(UnixNanos(59 * S)).is_empty());
        assert_eq!(assembler.poll(UnixNanos(60 * S)), [trace_id(1)]);
        assembler.sealed(3);
        assembler.release(&trace_id(1));
        assert_eq!((assembler.held_spans(), assembler.traces_held_in_part()), (0, 0));
    }

    #[test]
    fn a_trace_taken_back_in_part_is_let_go_or_analysed_like_a_whole_one() {
        let stored = [node(1, None), node(2, Some(1))];
        let mut totals = Totals::default();
        totals.extend(&stored);
        let mut assembler = Assembler::new(Options::default());
        assembler.reopen_partly(trace_id(1), totals.clone(), 0, UnixNanos(0));
        assert_eq!((assembler.open_traces(), assembler.traces_held_in_part()), (1, 1));
        assert!(assembler.poll(UnixNanos(60 * S)).is_empty(), "nothing new came");
        assert_eq!((assembler.open_traces(), assembler.traces_held_in_part()), (0, 0));

        // Of what is held already, what had been sealed when it was read is in the sums.
        assembler.observe(trace_id(1), &node(1, None), live(7), UnixNanos(61 * S));
        assembler.observe(trace_id(1), &node(3, Some(1)), live(8), UnixNanos(61 * S));
        assembler.reopen_partly(trace_id(1), totals, 7, UnixNanos(62 * S));
        let trace = assembler.get(&trace_id(1)).unwrap();
        assert_eq!((trace.span_count(), trace.totals().spans, trace.is_revised()), (1, 3, true));
        assert_eq!(assembler.held_spans(), 1);
        assert_eq!(assembler.poll(UnixNanos(122 * S)), [trace_id(1)]);
    }

    #[test]
    fn a_cut_reaches_back_to_the_earliest_of_the_resumed_traces() {
        for order in [[1, 2, 3], [3, 2, 1], [2, 3, 1]] {
            let mut assembler = Assembler::new(Options::default());
            for n in order {
                let listed = UnixNanos(u64::from(n) * S);
                assembler.resume(trace_id(n), [node(n, Some(9))], listed, UnixNanos(50 * S));
            }
            assert_eq!(assembler.cut().since, Some(UnixNanos(S)), "{order:?}");
        }
    }
}
