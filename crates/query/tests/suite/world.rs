//! A store with everything around it, driven step by step as the pipeline does.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use hashbrown::HashSet;
use otlp_wire::{Walked, WireLimits, walk};
use query::{
    Engine, NameTable, Nodes, Retired, Revisions, Room, State, analyse, merge, mergeable, open_at_end,
    retire_partition, stored_nodes,
};
use segment::{LiveBatch, SegmentInput, SpanRow, TraceRow, build};
use span_store::{Expired, SpanStore, StoreOptions, StoredSegment};
use trace_assemble::{Assembler, Location, OpenAtCut, Options, Phase, Seen};
use trace_model::{NanoDuration, SpanNode, TraceId, UnixNanos};

use crate::checks::Asked;
use crate::spans::{BASE, SECOND, STEP};

/// The width of a partition.
const SLICE: NanoDuration = NanoDuration::from_secs(60);
const LOOK_BACK: NanoDuration = NanoDuration::from_secs(3600);

/// What goes into one segment.
pub(crate) struct Cut {
    batches: Vec<Arc<LiveBatch>>,
    frames: Option<(u64, u64)>,
    last_batch: u64,
    analysed: Vec<Arc<TraceRow>>,
    open: OpenAtCut,
}

pub(crate) struct World {
    dir: PathBuf,
    pub(crate) state: Arc<State>,
    pub(crate) engine: Engine,
    pub(crate) store: Arc<SpanStore>,
    pub(crate) now: UnixNanos,
    pending: Vec<Arc<LiveBatch>>,
    frames: Option<(u64, u64)>,
    pending_analysed: HashSet<TraceId>,
    next_batch: u64,
}

/// A state over stored segments that answers.
pub(crate) fn state_of(segments: Vec<StoredSegment>) -> Arc<State> {
    filled(State::new(Arc::new(NameTable::default()), Assembler::new(Options::default())), segments)
}

/// One that has no more than three traces that were analysed again in memory, the others in files.
fn state_with_files(dir: &Path, segments: Vec<StoredSegment>) -> Arc<State> {
    let state = State::new(Arc::new(NameTable::default()), Assembler::new(Options::default()));
    let revisions = Revisions::open(&dir.join("revisions"), 3 * 4 * 21).unwrap();
    filled(state.with_revisions(revisions), segments)
}

fn filled(state: State, segments: Vec<StoredSegment>) -> Arc<State> {
    state.add_stored(segments);
    *state.not_ready.lock() = None;
    Arc::new(state)
}

/// Does this while the database is closed, because opening it again fails.
pub(crate) fn while_closed(dir: &Path, store: &SpanStore, then: impl FnOnce()) {
    let lock = dir.join("rocksdb/LOCK");
    std::fs::remove_file(&lock).unwrap();
    std::fs::create_dir(&lock).unwrap();
    assert!(store.reopen().is_err());
    then();
    std::fs::remove_dir(&lock).unwrap();
    store.reopen().unwrap();
}

fn batch_of(request: Bytes, names: &NameTable) -> LiveBatch {
    let mut walked = Walked::new();
    walk(&request, &WireLimits::default(), &mut walked).unwrap();
    assert_eq!(walked.rejected_spans, 0);
    let (mut context_bytes, mut contexts, mut context) = (Vec::new(), Vec::new(), Vec::new());
    for group in 0..walked.groups.len() as u32 {
        walked.context(group, &request, &mut context);
        contexts.push((context_bytes.len() as u32, context.len() as u32));
        context_bytes.extend_from_slice(&context);
    }
    let rows = walked.spans.iter().map(|span| {
        let service = names.service_id(walked.service(span.group, &request));
        let node = SpanNode {
            span_id: span.span_id,
            parent: span.parent,
            start: span.start,
            end: span.end,
            content: span.content,
            service,
            operation: names.operation_id(service, span.kind, span.name_bytes(&request)),
            kind: span.kind,
            status: span.status,
        };
        let (offset, len) = span.span;
        SpanRow { trace_id: span.trace_id, node, offset, len, context: span.group }
    });
    let rows = rows.collect();
    LiveBatch { number: 0, seq: 0, arrival: UnixNanos(0), request, context_bytes, contexts, rows }
}

impl World {
    pub(crate) fn open(dir: &Path) -> Self {
        Self::open_at(dir, UnixNanos(BASE))
    }

    pub(crate) fn open_at(dir: &Path, now: UnixNanos) -> Self {
        let options = StoreOptions { slice: Some(SLICE), ..StoreOptions::default() };
        let (store, segments, damaged) = SpanStore::open(dir, options).unwrap();
        assert_eq!(damaged, Vec::<String>::new());
        let ids = segments.iter().map(|stored| stored.handle.id()).collect();
        let (store, state) = (Arc::new(store), state_with_files(dir, segments));
        state.add_stored_rollups(&store, &ids);
        let mut world = Self {
            dir: dir.to_path_buf(),
            engine: Engine::new(Arc::clone(&state), Arc::clone(&store)),
            state,
            store,
            now,
            pending: Vec::new(),
            frames: None,
            pending_analysed: HashSet::new(),
            next_batch: 1,
        };
        world.recover();
        world
    }

    fn recover(&mut self) {
        let now = self.now;
        let room = Room { spans: usize::MAX >> 1, of_trace: usize::MAX >> 1 };
        open_at_end(&self.state, room, &mut |id, listed, nodes| {
            let Nodes::All(nodes) = nodes else { panic!("there is room") };
            self.state.assembly.lock().assembler.resume(id, nodes, listed, now);
        })
        .unwrap();
        let store = Arc::clone(&self.store);
        let mut each = |replayed: span_store::Replayed| {
            for request in replayed.frame.unwrap().requests {
                self.take(replayed.seq, request);
            }
            true
        };
        store.replay(0, &mut each).unwrap();
    }

    /// As after `kill -9`: only what is stored is left.
    pub(crate) fn restart(self) -> Self {
        let (dir, now) = (self.dir.clone(), self.now);
        drop(self);
        Self::open_at(&dir, now)
    }

    pub(crate) fn wait(&mut self, seconds: u64) {
        self.now = UnixNanos(self.now.0 + seconds * SECOND);
    }

    pub(crate) fn deliver(&mut self, request: Bytes) {
        let seq = self.store.append(std::slice::from_ref(&request), self.now).unwrap();
        self.take(seq, request);
    }

    fn take(&mut self, seq: u64, request: Bytes) {
        let mut batch = batch_of(request, &self.state.names);
        (batch.seq, batch.arrival, batch.number) = (seq, self.now, self.next_batch);
        self.next_batch += 1;
        self.frames = Some((self.frames.map_or(seq, |(low, _)| low), seq));
        for row in &batch.rows {
            let held = self.state.assembly.lock().assembler.holds(&row.trace_id);
            let since = row.node.start.saturating_sub(LOOK_BACK);
            let stored = self.state.snapshot().stored();
            if !held && stored.may_hold(&row.trace_id, since, since).unwrap() {
                self.reopen(row.trace_id);
            }
        }
        let mut kept = 0;
        batch.rows.retain(|row| {
            let location = Location::Live { batch: batch.number, row: kept };
            let mut assembly = self.state.assembly.lock();
            let seen = assembly.assembler.observe(row.trace_id, &row.node, location, self.now);
            kept += u32::from(seen == Seen::New);
            seen == Seen::New
        });
        if !batch.rows.is_empty() {
            let batch = Arc::new(batch);
            self.state.add_live(Arc::clone(&batch));
            self.pending.push(batch);
        }
    }

    fn reopen(&self, id: TraceId) {
        let (Nodes::All(nodes), _) = stored_nodes(&self.state, id, usize::MAX).unwrap() else { panic!() };
        if !nodes.is_empty() {
            self.state.assembly.lock().assembler.reopen(id, nodes, self.now);
        }
    }

    pub(crate) fn finish_quiet(&mut self) {
        let mut assembly = self.state.assembly.lock();
        for id in assembly.assembler.poll(self.now) {
            let trace = assembly.assembler.get(&id).unwrap();
            let row = analyse(id, trace.nodes(), trace.is_revised()).unwrap();
            assembly.analysed.insert(id, Arc::new(row));
            self.pending_analysed.insert(id);
        }
    }

    pub(crate) fn cut(&mut self) -> Cut {
        let mut assembly = self.state.assembly.lock();
        let phase = |id: &TraceId| assembly.assembler.get(id).map(trace_assemble::OpenTrace::phase);
        let finished = self.pending_analysed.drain().filter(|id| phase(id) == Some(Phase::Finished));
        let analysed = finished.filter_map(|id| assembly.analysed.get(&id).cloned()).collect();
        Cut {
            batches: std::mem::take(&mut self.pending),
            frames: self.frames.take(),
            last_batch: self.next_batch - 1,
            analysed,
            open: assembly.assembler.cut(),
        }
    }

    pub(crate) fn seal(&self, cut: &Cut) {
        let dictionary = self.store.dictionary();
        let input = SegmentInput {
            batches: &cut.batches,
            frames: cut.frames,
            analysed: &cut.analysed,
            open: &cut.open.touched,
            open_since: cut.open.since,
            names: &*self.state.names,
            dictionary: dictionary.as_deref(),
            now: self.now,
        };
        let stored = self.store.publish(self.now, &mut |sink| build(&input, sink)).unwrap();
        self.state.replace_live(stored, cut.last_batch, &cut.analysed).unwrap();
        self.store.keep_house().unwrap();
    }

    /// Merges the partitions that are over.
    pub(crate) fn merge(&self, raw_bytes_max: usize) {
        for segments in mergeable(&self.state.snapshot(), self.now, raw_bytes_max) {
            let outcome =
                merge(&self.state, &self.store, &segments, raw_bytes_max, &|| false).unwrap().unwrap();
            assert!(outcome.before == segments.len() && outcome.after <= outcome.before, "{outcome:?}");
        }
        self.store.keep_house().unwrap();
    }

    /// Retires the oldest of several partitions, if there are several; whether it went.
    pub(crate) fn retire(&self, insist: bool) -> Option<Retired> {
        let view = self.state.snapshot();
        let partition = view.sealed.first()?.handle.partition();
        if view.sealed.iter().all(|segment| segment.handle.partition() == partition) {
            return None;
        }
        let expired = Expired { partition, bytes: 1 };
        Some(retire_partition(&self.state, &self.store, &expired, insist, self.now).unwrap())
    }

    /// Does this while the database is closed, because opening it again fails.
    pub(crate) fn while_closed(&self, then: impl FnOnce()) {
        while_closed(&self.dir, &self.store, then);
    }

    /// What checks ask.
    pub(crate) fn asked(&self) -> Asked<'_> {
        Asked { engine: &self.engine, state: &self.state, step: STEP }
    }

    /// Ends this life of the store and returns its folder.
    pub(crate) fn close(self) -> PathBuf {
        self.dir.clone()
    }
}
