//! The assembling stage: drops repeated spans, makes the rest visible, finishes quiet traces, and cuts
//! segments.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::time::Duration;

use hashbrown::{HashMap, HashSet};
use query::{State, analyse};
use segment::{LiveBatch, TraceRow};
use span_store::SpanStore;
use trace_assemble::{Location, Phase, Seen};
use trace_model::{NanoDuration, StatusCode, TraceId, UnixNanos};

use super::committer::Committed;
use super::{SealOptions, now, recovery};

/// How far a client's clock may be ahead: a span cannot be stored from longer before it began than this.
const CLOCK_SLACK: NanoDuration = NanoDuration::from_secs(60);
/// A trace is looked for in segments that arrived since this long before its span began, so that analysis
/// joins a late span with what came up to an hour before it. Counts of spans do not depend on it.
const LOOK_BACK: NanoDuration = NanoDuration::from_secs(3600);
/// The longest wait for the next frame; deadlines are checked at least this often.
const TICK: Duration = Duration::from_millis(50);

/// What goes into one segment.
#[derive(Debug)]
pub(super) struct Cut {
    pub(super) batches: Vec<Arc<LiveBatch>>,
    pub(super) frames: Option<(u64, u64)>,
    pub(super) last_batch: u64,
    pub(super) analysed: Vec<Arc<TraceRow>>,
    pub(super) open: Vec<TraceId>,
}

#[derive(Debug)]
pub(super) struct Assembling {
    state: Arc<State>,
    store: Arc<SpanStore>,
    options: SealOptions,
    sealer: SyncSender<Cut>,
    pending: Vec<Arc<LiveBatch>>,
    pending_bytes: usize,
    pending_frames: Option<(u64, u64)>,
    pending_analysed: usize,
    /// Traces whose latest analysis went into a cut already.
    cut_analysed: HashSet<TraceId>,
    next_batch: u64,
    last_cut: UnixNanos,
}

impl Assembling {
    pub(super) fn new(
        state: Arc<State>,
        store: Arc<SpanStore>,
        options: SealOptions,
        sealer: SyncSender<Cut>,
    ) -> Self {
        Self {
            state,
            store,
            options,
            sealer,
            pending: Vec::new(),
            pending_bytes: 0,
            pending_frames: None,
            pending_analysed: 0,
            cut_analysed: HashSet::new(),
            next_batch: 1,
            last_cut: now(),
        }
    }

    pub(super) fn run(mut self, frames: &Receiver<Committed>) {
        let (store, state) = (Arc::clone(&self.store), Arc::clone(&self.state));
        recovery::run(&mut self, &store, &state);
        loop {
            match frames.recv_timeout(TICK) {
                Ok(committed) => self.take(committed, true),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            self.finish_quiet(now());
            self.cut_if_due(now());
        }
        // What is still open stays open: the last segment names it, and the next start goes on from there.
        self.cut(now());
    }

    /// Takes in one frame.
    pub(super) fn take(&mut self, committed: Committed, count_metrics: bool) {
        let Committed { seq, batches } = committed;
        for batch in batches {
            self.take_batch(batch, count_metrics);
        }
        let low = self.pending_frames.map_or(seq, |(low, _)| low);
        self.pending_frames = Some((low, seq));
        if self.pending_bytes >= self.options.bytes {
            self.cut(now());
        }
    }

    fn take_batch(&mut self, mut batch: LiveBatch, count_metrics: bool) {
        batch.number = self.next_batch;
        self.next_batch += 1;
        let searched = self.reopen_stored(&batch);
        let before = batch.rows.len();
        let mut late = 0;
        {
            let mut assembly = self.state.assembly.lock();
            let mut kept = 0_u32;
            let arrival = now();
            batch.rows.retain(|row| {
                let location = Location::Live { batch: batch.number, row: kept };
                let was_finished =
                    assembly.assembler.get(&row.trace_id).is_some_and(|t| t.phase() == Phase::Finished);
                let seen = assembly.assembler.observe(row.trace_id, row.node, location, arrival);
                kept += u32::from(seen == Seen::New);
                late += u64::from(was_finished && seen == Seen::New);
                seen == Seen::New
            });
            for (id, since) in &searched {
                assembly.assembler.note_searched(id, *since);
            }
        }
        let counters = &self.state.counters;
        self.state.count(&counters.spans, batch.rows.len() as u64);
        self.state.count(&counters.duplicates, (before - batch.rows.len()) as u64);
        self.state.count(&counters.late, late);
        if count_metrics {
            self.count_metrics(&batch);
        }
        self.pending_bytes += batch.request.len();
        if !batch.rows.is_empty() {
            let batch = Arc::new(batch);
            self.state.add_live(Arc::clone(&batch));
            self.pending.push(batch);
        }
    }

    /// A span of a trace that is not held may belong to one that was sealed, and so may a span that began long
    /// before those that its trace was looked for with: look where the filters say. Returns how far back each
    /// trace was looked for.
    fn reopen_stored(&mut self, batch: &LiveBatch) -> HashMap<TraceId, UnixNanos> {
        let mut search: HashMap<TraceId, UnixNanos> = HashMap::new();
        {
            let assembly = self.state.assembly.lock();
            for row in &batch.rows {
                let start = row.node.start;
                let known = assembly.assembler.get(&row.trace_id);
                if known.is_none_or(|trace| start.saturating_sub(CLOCK_SLACK) < trace.searched_since()) {
                    let since = start.saturating_sub(LOOK_BACK);
                    let earliest = search.entry(row.trace_id).or_insert(since);
                    *earliest = since.min(*earliest);
                }
            }
        }
        if search.is_empty() {
            return search;
        }
        let view = self.state.snapshot();
        let arrival = now();
        for (id, since) in &search {
            let may_be_stored =
                State::segments_since(&view, *since).any(|segment| segment.filter.may_contain(id));
            if may_be_stored {
                self.reopen(*id, *since, arrival);
            }
        }
        search
    }

    pub(super) fn reopen(&mut self, id: TraceId, since: UnixNanos, arrival: UnixNanos) {
        self.state.count(&self.state.counters.reopen_lookups, 1);
        match query::stored_nodes(&self.state, id, since) {
            Ok(nodes) if nodes.is_empty() => {}
            Ok(nodes) => {
                let late = nodes.len();
                let mut assembly = self.state.assembly.lock();
                assembly.assembler.reopen(id, nodes, arrival);
                assembly.assembler.note_searched(&id, since);
                tracing::trace!(trace = %id, spans = late, "reopened");
            }
            Err(error) => tracing::error!(trace = %id, %error, "cannot read a stored trace"),
        }
    }

    fn count_metrics(&self, batch: &LiveBatch) {
        let mut metrics = self.state.metrics.lock();
        for row in &batch.rows {
            let node = &row.node;
            let error = node.status == StatusCode::Error;
            let (histogram, exemplars) = metrics.entry(node.operation).or_default();
            histogram.record(node.duration(), error);
            let exemplar = latency::Exemplar {
                trace_id: row.trace_id,
                span_id: node.span_id,
                duration: node.duration(),
                time: node.end,
            };
            exemplars.observe(exemplar, error);
        }
    }

    fn finish_quiet(&mut self, at: UnixNanos) {
        let mut assembly = self.state.assembly.lock();
        let due = assembly.assembler.poll(at);
        for id in due {
            let Some(trace) = assembly.assembler.get(&id) else { continue };
            if let Some(row) = analyse(id, trace.nodes(), trace.is_revised()) {
                assembly.analysed.insert(id, Arc::new(row));
                self.cut_analysed.remove(&id);
                self.pending_analysed += 1;
            }
        }
    }

    fn cut_if_due(&mut self, at: UnixNanos) {
        let waiting = !self.pending.is_empty() || self.pending_analysed > 0;
        if waiting && at.since(self.last_cut) >= self.options.interval {
            self.cut(at);
        }
        if !waiting {
            self.last_cut = at;
        }
    }

    /// Hands everything that is pending to the sealer; waits if that still works on the last cut.
    fn cut(&mut self, at: UnixNanos) {
        self.last_cut = at;
        if self.pending.is_empty() && self.pending_analysed == 0 && self.pending_frames.is_none() {
            return;
        }
        let (analysed, open) = self.take_analysed();
        let cut = Cut {
            batches: std::mem::take(&mut self.pending),
            frames: self.pending_frames.take(),
            last_batch: self.next_batch - 1,
            analysed,
            open,
        };
        self.pending_bytes = 0;
        self.pending_analysed = 0;
        if self.sealer.send(cut).is_err() {
            tracing::error!("the sealer has ended; what was cut stays in the log");
        }
    }

    /// Analyses that no cut has taken, and traces with spans up to this cut whose analysis is still to come.
    fn take_analysed(&mut self) -> (Vec<Arc<TraceRow>>, Vec<TraceId>) {
        let assembly = self.state.assembly.lock();
        let mut analysed = Vec::new();
        for (id, row) in &assembly.analysed {
            let finished = assembly.assembler.get(id).is_some_and(|trace| trace.phase() == Phase::Finished);
            if finished && self.cut_analysed.insert(*id) {
                analysed.push(Arc::clone(row));
            }
        }
        // Names of analyses that were sealed meanwhile are of no more use.
        self.cut_analysed.retain(|id| assembly.analysed.contains_key(id));
        let open = assembly
            .assembler
            .iter()
            .filter(|(_, trace)| trace.phase() == Phase::Open)
            .map(|(id, _)| *id)
            .collect();
        (analysed, open)
    }
}
