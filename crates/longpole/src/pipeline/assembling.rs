//! The assembling stage: drops repeated spans, makes the rest visible, finishes quiet traces, and cuts
//! segments.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::time::Duration;

use hashbrown::HashMap;
use parking_lot::MutexGuard;
use query::{Assembly, Nodes, Refusal, State};
use segment::{LiveBatch, TraceRow};
use span_store::SpanStore;
use trace_assemble::{ByTrace, OpenAtCut, OpenTrace, Phase};
use trace_model::{NanoDuration, TraceId, UnixNanos};

use super::clocks::{CLOCK_SLACK, OffClock};
use super::committer::{Committed, Waiting};
use super::finishing::Finishing;
use super::repeats::Repeats;
use super::{Clock, SealOptions, recovery};

/// Batches after which a segment is cut, whatever their bytes: each costs every query a little.
const BATCHES_MAX: usize = 32_768;
/// What a span counts at least towards a segment, bytes: its row and its part of what sealing builds, which short spans
/// have as well as long ones.
const SPAN_BYTES_MIN: usize = 256;
/// When a large trace is looked at again that could not be analysed because another one was being read.
const BUSY: NanoDuration = NanoDuration::from_secs(1);
/// While single groups are refused for room, and others come, a segment is cut for that so often at most: each costs every
/// query a little.
const ROOM_INTERVAL: NanoDuration = NanoDuration::from_secs(1);
/// The longest wait for the next frame; deadlines are checked at least this often.
const TICK: Duration = Duration::from_millis(50);

/// What goes into one segment.
#[derive(Debug)]
pub(super) struct Cut {
    pub(super) batches: Vec<Arc<LiveBatch>>,
    pub(super) frames: Option<(u64, u64)>,
    pub(super) last_batch: u64,
    pub(super) analysed: Vec<Arc<TraceRow>>,
    pub(super) open: OpenAtCut,
    /// The latest arrival of all that was taken in up to this cut. It stands for a segment of analyses alone, which
    /// must not seem younger than what is cut after it.
    pub(super) arrival: UnixNanos,
}

#[derive(Debug)]
pub(super) struct Assembling {
    state: Arc<State>,
    store: Arc<SpanStore>,
    options: SealOptions,
    clock: Clock,
    sealer: SyncSender<Cut>,
    stopping: Arc<AtomicBool>,
    /// The rows of the batch that is being taken in.
    by_trace: ByTrace,
    pending: Vec<Arc<LiveBatch>>,
    pending_bytes: usize,
    pending_frames: Option<(u64, u64)>,
    /// Traces that were analysed since the last cut.
    pending_analysed: Vec<TraceId>,
    next_batch: u64,
    last_cut: UnixNanos,
    /// When the last was made for want of room.
    last_cut_for_room: UnixNanos,
    /// The latest arrival, earlier processes included.
    latest_arrival: UnixNanos,
}

impl Assembling {
    pub(super) fn new(
        state: Arc<State>,
        store: Arc<SpanStore>,
        options: SealOptions,
        clock: Clock,
        sealer: SyncSender<Cut>,
        stopping: Arc<AtomicBool>,
    ) -> Self {
        let last_cut = clock.now();
        let latest =
            state.view.read().sealed.iter().map(|segment| segment.meta.arrival_max).max().unwrap_or(0);
        Self {
            state,
            store,
            options,
            clock,
            sealer,
            stopping,
            by_trace: ByTrace::default(),
            pending: Vec::new(),
            pending_bytes: 0,
            pending_frames: None,
            pending_analysed: Vec::new(),
            next_batch: 1,
            last_cut,
            last_cut_for_room: UnixNanos(0),
            latest_arrival: UnixNanos(latest),
        }
    }

    pub(super) fn run(mut self, frames: &Receiver<Committed>) {
        if !self.recover() {
            // Nothing is cut: a segment of later frames would make the log forget those that are not in.
            return;
        }
        loop {
            match frames.recv_timeout(TICK) {
                Ok(committed) => self.take(committed),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            self.finish_quiet(self.clock.now());
            self.cut_if_due(self.clock.now());
        }
        // What is still open stays open: the last segment names it, and the next start goes on from there.
        self.cut(self.clock.now());
    }

    /// Takes in what earlier processes left. False if the process was asked to stop before that was done.
    pub(super) fn recover(&mut self) -> bool {
        let (store, state, clock) = (Arc::clone(&self.store), Arc::clone(&self.state), self.clock.clone());
        let stopping = Arc::clone(&self.stopping);
        recovery::run(self, &store, &state, &clock, &stopping)
    }

    /// Takes in one frame and acknowledges it: whoever is told that spans are kept finds them when it asks.
    pub(super) fn take(&mut self, committed: Committed) {
        let Committed { seq, batches, waiting } = committed;
        for batch in batches {
            self.take_batch(batch);
        }
        // Before the cut, which may wait for the sealer.
        waiting.into_iter().for_each(Waiting::acknowledge);
        let low = self.pending_frames.map_or(seq, |(low, _)| low);
        self.pending_frames = Some((low, seq));
        if self.pending_bytes >= self.options.bytes || self.pending.len() >= BATCHES_MAX {
            self.cut(self.clock.now());
        }
    }

    fn take_batch(&mut self, mut batch: LiveBatch) {
        batch.number = self.next_batch;
        self.next_batch += 1;
        self.by_trace.arrange(batch.rows.iter().map(|row| row.trace_id));
        let mut repeated = Vec::new();
        let mut late = 0;
        {
            let (mut assembly, searched, repeats) = self.assembly_with_stored(&batch);
            let at = self.clock.now();
            for (id, rows) in self.by_trace.traces() {
                let rows = rows.filter(|row| !repeats.is_stored(*row));
                let nodes = rows.map(|row| (row, batch.rows[row as usize].node));
                late += assembly.assembler.observe_rows(id, batch.number, nodes, at, &mut repeated);
            }
            repeated.extend(repeats.into_stored());
            for (id, since) in &searched {
                assembly.assembler.note_searched(id, *since);
            }
            if !repeated.is_empty() {
                take_out(&mut assembly, &mut batch, &mut repeated, &self.by_trace);
            }
        }
        self.latest_arrival = self.latest_arrival.max(batch.arrival);
        let off = OffClock::of(batch.rows.iter().map(|row| &row.node), batch.arrival);
        let counters = &self.state.counters;
        self.state.count(&counters.ahead_of_clock, off.ahead);
        self.state.count(&counters.behind_clock, off.behind);
        self.state.count(&counters.spans, batch.rows.len() as u64);
        self.state.count(&counters.duplicates, repeated.len() as u64);
        self.state.count(&counters.late, late);
        let bytes = batch.request.len().max(batch.context_bytes.len());
        self.pending_bytes += bytes.max(batch.rows.len() * SPAN_BYTES_MIN);
        if !batch.rows.is_empty() {
            let batch = Arc::new(batch);
            self.state.add_live(Arc::clone(&batch));
            self.pending.push(batch);
        }
    }

    /// The assembly, locked, with every trace of the batch reopened that may have been sealed; and how far back
    /// each was looked for. The look-up reads the store and so runs without the lock; in the meantime the sealer
    /// may let go of a trace, hence the look again. A trace that was found is open and stays, one that was not is
    /// not looked for twice, so this ends.
    ///
    /// Rows of traces that are held in part are compared with the store here: nobody else lets go of what is held of a
    /// trace that stays, so that after the look-up they are compared with all the rest.
    fn assembly_with_stored(&self, batch: &LiveBatch) -> (MutexGuard<'_, Assembly>, Searched, Repeats) {
        let mut searched = Searched::new();
        let mut repeats = Repeats::default();
        loop {
            let mut assembly = self.state.assembly.lock();
            // Before a trace is reopened: it is open since this arrival.
            assembly.assembler.note_arrival(batch.arrival);
            let wanted = to_search(&assembly, batch, &self.by_trace, &searched);
            let unchecked = if wanted.is_empty() { repeats.unchecked(&assembly, batch) } else { Vec::new() };
            if wanted.is_empty() && unchecked.is_empty() {
                return (assembly, searched, repeats);
            }
            drop(assembly);
            repeats.look_up(&self.state, batch, unchecked);
            let stored = self.state.view.read().stored();
            // In the order of the blocks that hold them, so that each is inflated once.
            let mut wanted: Vec<_> = wanted.into_iter().collect();
            wanted.sort_unstable();
            for (id, since) in wanted {
                // In memory looking further back costs nothing and joins a late span with its trace however old.
                match stored.may_hold(&id, UnixNanos(0), since) {
                    // All of it, not only what came since: its analysis replaces an earlier one.
                    Ok(true) => {
                        self.reopen(id, self.clock.now());
                        repeats.forget(&id);
                    }
                    Ok(false) => {}
                    Err(error) => {
                        self.state.count(&self.state.counters.lookups_failed, 1);
                        tracing::error!(trace = %id, %error, "cannot look for a stored trace");
                    }
                }
                searched.insert(id, since);
            }
        }
    }

    /// Takes a sealed trace back, whole if there is room for it.
    pub(super) fn reopen(&self, id: TraceId, at: UnixNanos) {
        self.state.count(&self.state.counters.reopen_lookups, 1);
        let room = {
            let assembly = self.state.assembly.lock();
            let in_part = assembly.assembler.get(&id).is_some_and(OpenTrace::is_partly_held);
            if in_part { 0 } else { assembly.assembler.room() }
        };
        let (nodes, sealed) = match query::stored_nodes(&self.state, id, room) {
            Ok(found) => found,
            Err(error) => {
                self.state.count(&self.state.counters.lookups_failed, 1);
                tracing::error!(trace = %id, %error, "cannot read a stored trace");
                return;
            }
        };
        let mut assembly = self.state.assembly.lock();
        match nodes {
            Nodes::All(nodes) if nodes.is_empty() => return,
            Nodes::All(nodes) => assembly.assembler.reopen(id, nodes, at),
            Nodes::Sums(totals) => {
                self.state.count(&self.state.counters.held_in_part, 1);
                assembly.assembler.reopen_partly(id, totals, sealed, at);
            }
        }
        assembly.assembler.note_searched(&id, UnixNanos(0));
    }

    /// Goes on with a trace that was open when an earlier process ended.
    pub(super) fn resume(&self, id: TraceId, listed: UnixNanos, nodes: Nodes, at: UnixNanos) {
        let mut assembly = self.state.assembly.lock();
        match nodes {
            Nodes::All(nodes) => assembly.assembler.resume(id, nodes, listed, at),
            Nodes::Sums(totals) => {
                self.state.count(&self.state.counters.held_in_part, 1);
                assembly.assembler.reopen_partly(id, totals, 0, at);
                assembly.assembler.resumed(id, listed);
            }
        }
        assembly.assembler.note_searched(&id, UnixNanos(0));
    }

    /// The number of the last batch that was taken in.
    pub(super) fn last_batch(&self) -> u64 {
        self.next_batch - 1
    }

    /// Analyses the traces that are due. Only this thread changes what is held of them, so it is done without the
    /// assembly's lock, one trace after the other.
    pub(super) fn finish_quiet(&mut self, at: UnixNanos) {
        let due = {
            let mut assembly = self.state.assembly.lock();
            assembly.assembler.trim();
            assembly.assembler.due(at, usize::MAX)
        };
        let finishing = Finishing::new(&self.state);
        for id in due {
            if finishing.may_be_stored(&id) {
                self.reopen(id, at);
            }
            let analysed = finishing.analyse(id);
            let mut assembly = self.state.assembly.lock();
            match analysed {
                Some(row) => {
                    assembly.analysed.insert(id, Arc::new(row));
                    assembly.assembler.finish(&id);
                    self.pending_analysed.push(id);
                }
                None => assembly.assembler.postpone(id, at.saturating_add(BUSY)),
            }
        }
    }

    pub(super) fn cut_if_due(&mut self, at: UnixNanos) {
        let waiting = !self.pending.is_empty() || !self.pending_analysed.is_empty();
        let for_room = self.pending_frames.is_some() && self.is_short_of_room(at);
        let due = || {
            at.since(self.last_cut) >= self.options.interval
                || self.state.assembly.lock().assembler.waits_for_sealing()
        };
        if for_room {
            self.last_cut_for_room = at;
        }
        if for_room || (waiting && due()) {
            self.cut(at);
        }
        if !waiting {
            self.last_cut = at;
        }
    }

    /// Whether the log should go now: on a full disk, sealing is what lets it go and so makes room. While only some groups
    /// are too large for what there is, others go on coming, and each would be a segment.
    fn is_short_of_room(&self, at: UnixNanos) -> bool {
        let is_full = || self.state.refuses(Refusal::Disk).is_some();
        // Also when the clock has stepped back.
        let is_due = || at < self.last_cut_for_room || at.since(self.last_cut_for_room) >= ROOM_INTERVAL;
        self.state.is_short_of_room() && (is_full() || is_due())
    }

    /// Hands everything that is pending to the sealer; waits if another cut waits for it already.
    pub(super) fn cut(&mut self, at: UnixNanos) {
        self.last_cut = at;
        if self.pending.is_empty() && self.pending_analysed.is_empty() && self.pending_frames.is_none() {
            return;
        }
        let (analysed, open) = self.take_analysed();
        let cut = Cut {
            batches: std::mem::take(&mut self.pending),
            frames: self.pending_frames.take(),
            last_batch: self.next_batch - 1,
            analysed,
            open,
            arrival: self.latest_arrival,
        };
        self.pending_bytes = 0;
        if self.sealer.send(cut).is_err() {
            tracing::error!("the sealer has ended; what was cut stays in the log");
        }
    }

    /// The analyses since the last cut that still stand, and which traces are open.
    fn take_analysed(&mut self) -> (Vec<Arc<TraceRow>>, OpenAtCut) {
        let mut ids = std::mem::take(&mut self.pending_analysed);
        // A trace may have been reopened and analysed again.
        ids.sort_unstable();
        ids.dedup();
        let mut assembly = self.state.assembly.lock();
        let finished =
            |id: &TraceId| assembly.assembler.get(id).is_some_and(|trace| trace.phase() == Phase::Finished);
        let analysed = ids
            .iter()
            .filter(|id| finished(id))
            .filter_map(|id| assembly.analysed.get(id).cloned())
            .collect();
        (analysed, assembly.assembler.cut())
    }
}

/// How far back each trace was looked for.
type Searched = HashMap<TraceId, UnixNanos>;

/// Traces of a batch that may have been sealed and were not looked for, or not as far back: those that are not
/// held, and those of which a span began long before the ones they were looked for with.
fn to_search(assembly: &Assembly, batch: &LiveBatch, by_trace: &ByTrace, searched: &Searched) -> Searched {
    let mut wanted = Searched::new();
    for (id, rows) in by_trace.traces() {
        let starts = rows.map(|row| batch.rows[row as usize].node.start);
        // A clock that is ahead must not hide what arrived before it says.
        let earliest = starts.fold(batch.arrival, UnixNanos::min);
        let since = earliest.saturating_sub(CLOCK_SLACK);
        let known = assembly.assembler.get(&id).map(OpenTrace::searched_since);
        let reach = known.into_iter().chain(searched.get(&id).copied()).min();
        if reach.is_none_or(|reach| since < reach) {
            wanted.insert(id, since);
        }
    }
    wanted
}

/// Takes repeated spans out of a batch that has been observed; the rest of its rows move up.
fn take_out(assembly: &mut Assembly, batch: &mut LiveBatch, repeated: &mut [u32], by_trace: &ByTrace) {
    repeated.sort_unstable();
    let mut row = 0;
    batch.rows.retain(|_| {
        row += 1;
        repeated.binary_search(&(row - 1)).is_err()
    });
    let before = |row: u32| repeated.partition_point(|gone| *gone < row) as u32;
    for (id, _) in by_trace.traces() {
        assembly.assembler.renumber(&id, batch.number, &mut |row| row - before(row));
    }
}
