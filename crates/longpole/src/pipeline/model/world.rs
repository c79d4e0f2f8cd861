//! The stages and their store, without threads.

mod failing;
mod image;
mod partitions;

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, channel, sync_channel};

use bytes::Bytes;
use ingest::{Admitted, Charge, CommitError, prepare};
use parking_lot::Mutex;
use query::{BlockCache, Engine, NameTable, Revisions, State, TraceDirectory};
use span_store::{Expired, FreeMin, SegmentId, SpanStore, StoreOptions};
use tempfile::TempDir;
use tokio::sync::oneshot::{self, error::TryRecvError};
use trace_assemble::{Assembler, Options};
use trace_model::{NanoDuration, TraceId, UnixNanos};

pub(super) use failing::Failing;
use failing::close_until_waited_for;
pub(super) use partitions::Gone;

use super::flawed::{self, Flaw};
use super::oracle::Oracle;
use super::spans::{BASE, SECOND, Span};
use crate::pipeline::assembling::{Assembling, Cut};
use crate::pipeline::committer::{self, Committed};
use crate::pipeline::guard::Guard;
use crate::pipeline::house::House;
use crate::pipeline::sealer::{BUILDS, Sealer};
use crate::pipeline::watch::DiskWatch;
use crate::pipeline::{Clock, SealOptions};

/// Frames and cuts that wait in a life at most; more would block its one thread.
const WAITING_MAX: usize = 256;

#[derive(Debug, Clone, Copy)]
pub(super) struct Setting {
    pub(super) seal: SealOptions,
    pub(super) assemble: Options,
    pub(super) store: StoreOptions,
    /// Spans of one trace that are analysed together.
    pub(super) trace_spans_max: usize,
    /// Bytes of memory for the directory of traces, the rest of which is in files; `None` for all that it needs.
    pub(super) directory: Option<usize>,
    /// Bytes of memory for what is known of traces that were analysed again, the rest of which is in files.
    pub(super) revisions: usize,
}

impl Default for Setting {
    /// No cut but those that are asked for.
    fn default() -> Self {
        let interval = NanoDuration::from_secs(1_000_000);
        Self {
            seal: SealOptions { interval, ..SealOptions::default() },
            assemble: Options::default(),
            store: StoreOptions::default(),
            trace_spans_max: 2_000_000,
            directory: None,
            revisions: 1 << 20,
        }
    }
}

/// A sealed segment as the model knows it.
struct Sealed {
    slice: u64,
    bytes: u64,
    /// Content hashes of its spans.
    spans: HashSet<u64>,
    /// Traces of which it has an analysis.
    analysed: HashSet<TraceId>,
}

/// What happens while a stage next asks for the time.
type Hook = Arc<Mutex<Option<Box<dyn FnOnce() + Send>>>>;

/// Has something happen after the time was asked for so often.
fn after(asks: u32, hook: &Hook, happens: Box<dyn FnOnce() + Send>) {
    if asks == 0 {
        return happens();
    }
    let next = Arc::clone(hook);
    *hook.lock() = Some(Box::new(move || after(asks - 1, &next, happens)));
}

/// What outlives the process.
struct Outer {
    dir: TempDir,
    setting: Setting,
    time: Arc<AtomicU64>,
    hook: Hook,
    /// During the next start, after a stage has asked for the time so often, the store cannot be opened again for a while.
    closes_after: Option<u32>,
    sealed: BTreeMap<SegmentId, Sealed>,
    seen: HashSet<TraceId>,
    /// Content hashes of the spans of each frame that was committed, also of those that had come before.
    frames: Vec<(u64, Vec<u64>)>,
    /// The trace of each span that was committed.
    contents: HashMap<u64, TraceId>,
}

type Answer = oneshot::Receiver<Result<(), CommitError>>;

pub(super) struct World {
    pub(super) state: Arc<State>,
    pub(super) engine: Engine,
    pub(super) clock: Clock,
    store: Arc<SpanStore>,
    disk: DiskWatch,
    to_assembling: SyncSender<Committed>,
    committed: Receiver<Committed>,
    /// Frames that assembling has yet to take in.
    arrived: VecDeque<Committed>,
    unanswered: Vec<Answer>,
    assembling: Assembling,
    cuts: Receiver<Cut>,
    waiting: VecDeque<Cut>,
    sealer: Sealer,
    outer: Outer,
}

impl World {
    pub(super) fn open(dir: TempDir, setting: Setting) -> Self {
        let (time, hook) = (Arc::new(AtomicU64::new(BASE)), Hook::default());
        let (read, meanwhile) = (Arc::clone(&time), Arc::clone(&hook));
        let clock = Clock::new(move || {
            let happens = meanwhile.lock().take();
            if let Some(happens) = happens {
                happens();
            }
            UnixNanos(read.load(Ordering::Relaxed))
        });
        let outer = Outer {
            dir,
            setting,
            time,
            hook,
            closes_after: None,
            sealed: BTreeMap::new(),
            seen: HashSet::new(),
            frames: Vec::new(),
            contents: HashMap::new(),
        };
        Self::begin(outer, clock)
    }

    /// A process begins: as `serve` does it, without the threads.
    fn begin(mut outer: Outer, clock: Clock) -> Self {
        let (store, segments, damaged) = SpanStore::open(outer.dir.path(), outer.setting.store).unwrap();
        assert_eq!(damaged, Vec::<String>::new());
        let found: Vec<SegmentId> = segments.iter().map(|stored| stored.handle.id()).collect();
        assert!(found.iter().eq(outer.sealed.keys()), "{found:?} are stored");
        let store = Arc::new(store);
        let names = Arc::new(NameTable::default());
        let hashes = outer.dir.path().join("trace-hashes");
        let directory = match outer.setting.directory {
            Some(bytes) => TraceDirectory::open(&hashes, bytes).unwrap(),
            None => TraceDirectory::default(),
        };
        let (assembler, blocks) = (Assembler::new(outer.setting.assemble), BlockCache::default());
        let state = State::with_memory(names, assembler, blocks, directory);
        let revised = outer.dir.path().join("revisions");
        let state = state.with_revisions(Revisions::open(&revised, outer.setting.revisions).unwrap());
        let state = Arc::new(state.with_trace_spans_max(outer.setting.trace_spans_max));
        state.add_stored(segments);
        state.add_stored_rollups(&store, &outer.sealed.keys().copied().collect());
        let (to_assembling, committed) = sync_channel(WAITING_MAX);
        let (to_sealer, cuts) = sync_channel(WAITING_MAX);
        let stopping = Arc::new(AtomicBool::new(false));
        let of_sealer = (Arc::clone(&state), Arc::clone(&store));
        let sealer = Sealer::new(of_sealer.0, of_sealer.1, clock.clone(), Arc::clone(&stopping));
        // How full the machine's disk is must not decide.
        let any_space = StoreOptions { free_min: FreeMin::Bytes(1), ..outer.setting.store };
        let disk = DiskWatch::new(Arc::clone(&state), Arc::clone(&store), &any_space, 1);
        let (seal, of_state) = (outer.setting.seal, Arc::clone(&state));
        let of_store = Arc::clone(&store);
        let mut assembling = Assembling::new(of_state, of_store, seal, clock.clone(), to_sealer, stopping);
        let opened_again = outer.closes_after.take().map(|asks| {
            let (state, store) = (Arc::clone(&state), Arc::clone(&store));
            let (done, opened_again) = channel();
            after(asks, &outer.hook, Box::new(move || close_until_waited_for(state, store, done)));
            opened_again
        });
        assert!(assembling.recover());
        if let Some(opened_again) = opened_again {
            opened_again.recv().unwrap();
        }
        let engine = Engine::new(Arc::clone(&state), Arc::clone(&store));
        let waiting = VecDeque::new();
        let mut world = Self {
            state,
            engine,
            clock,
            store,
            disk,
            to_assembling,
            committed,
            arrived: VecDeque::new(),
            unanswered: Vec::new(),
            assembling,
            cuts,
            waiting,
            sealer,
            outer,
        };
        world.keep_few_cuts_waiting();
        world
    }

    /// The process is killed and begins anew with what the system has of its files.
    pub(super) fn die(self, copy: bool) -> Self {
        let image = copy.then(|| image::of(self.outer.dir.path()));
        self.begin_anew(image)
    }

    /// The next process begins with this copy of the folder, or with what is there.
    fn begin_anew(self, image: Option<TempDir>) -> Self {
        let Self {
            state,
            engine,
            clock,
            store,
            disk,
            to_assembling,
            committed,
            arrived,
            unanswered: _,
            assembling,
            cuts,
            waiting,
            sealer,
            mut outer,
        } = self;
        // Whoever holds something of the store keeps it open, and it must be closed before it is opened again.
        drop((
            state,
            engine,
            store,
            disk,
            to_assembling,
            committed,
            arrived,
            assembling,
            cuts,
            waiting,
            sealer,
        ));
        outer.dir = image.unwrap_or(outer.dir);
        Self::begin(outer, clock)
    }

    /// The process is killed. While the next one starts, after a stage has asked for the time so often, the store cannot
    /// be opened again until that is seen to be waited for.
    pub(super) fn die_and_close_after(mut self, asks: u32) -> Self {
        self.outer.closes_after = Some(asks);
        self.die(false)
    }

    pub(super) fn now(&self) -> UnixNanos {
        UnixNanos(self.outer.time.load(Ordering::Relaxed))
    }

    pub(super) fn wait(&mut self, seconds: u64) {
        self.outer.time.fetch_add(seconds * SECOND, Ordering::Relaxed);
    }

    /// Commits these requests as one group. They are acknowledged when they are taken in, and not before.
    pub(super) fn commit(&mut self, requests: &[Vec<Span>]) {
        let sound = |spans: &Vec<Span>| spans.iter().map(|span| (span.clone(), None)).collect();
        self.commit_in_part(&requests.iter().map(sound).collect::<Vec<_>>());
    }

    /// The same with requests in which some spans are unsound: these are told to be left out, and the others are kept.
    pub(super) fn commit_in_part(&mut self, requests: &[Vec<(Span, Option<Flaw>)>]) {
        let mut answers = self.offer(requests);
        for answer in &mut answers {
            assert_eq!(answer.try_recv(), Err(TryRecvError::Empty), "acknowledged before it can be queried");
        }
        self.unanswered.extend(answers);
    }

    /// Hands these requests to the committer as ingest does.
    fn offer(&mut self, requests: &[Vec<(Span, Option<Flaw>)>]) -> Vec<Answer> {
        let mut answers = Vec::new();
        let mut group: Vec<Admitted> = Vec::new();
        for spans in requests {
            self.outer.seen.extend(spans.iter().map(|(span, _)| span.trace_id));
            let mut prepared = prepare(flawed::request(spans), &self.state.names, &flawed::LIMITS).unwrap();
            let unsound = spans.iter().filter(|(_, flaw)| flaw.is_some()).count();
            assert_eq!(prepared.rejected, unsound as u64, "the client is told how many are left out");
            if prepared.rejected > 0 {
                // Of such a request the log gets nothing.
                if prepared.batch.rows.is_empty() {
                    continue;
                }
                prepared = prepared.without_rejected(&flawed::LIMITS).unwrap();
            }
            let (done, answer) = oneshot::channel();
            answers.push(answer);
            group.push(Admitted { prepared, done, permit: Charge::apart() });
        }
        let next = &self.to_assembling;
        assert!(committer::commit(&self.store, &self.state, &self.disk, &self.clock, &mut group, next));
        for committed in self.committed.try_iter() {
            let rows = || committed.batches.iter().flat_map(|batch| &batch.rows);
            self.outer.frames.push((committed.seq, rows().map(|row| row.node.content).collect()));
            self.outer.contents.extend(rows().map(|row| (row.node.content, row.trace_id)));
            self.arrived.push_back(committed);
        }
        answers
    }

    /// Has these requests in one frame of the log, and tells nobody.
    pub(super) fn log(&mut self, requests: &[Bytes]) {
        self.store.append(requests, self.now()).unwrap();
    }

    /// How often something happened, as `status` tells it.
    pub(super) fn counted(&self, name: &str) -> u64 {
        let status = self.engine.status();
        status.counters.iter().find(|(known, _)| *known == name).unwrap().1
    }

    /// Takes everything in, waits until it is quiet, and seals it.
    pub(super) fn settle(&mut self) {
        self.take_all();
        self.wait(1_000);
        self.tick();
        self.seal_all();
    }

    pub(super) fn take_all(&mut self) {
        while let Some(committed) = self.arrived.pop_front() {
            self.assembling.take(committed);
            self.keep_few_cuts_waiting();
        }
        for mut answer in self.unanswered.drain(..) {
            assert_eq!(answer.try_recv(), Ok(Ok(())), "acknowledged");
        }
    }

    pub(super) fn tick(&mut self) {
        self.assembling.finish_quiet(self.now());
        self.assembling.cut_if_due(self.now());
        self.keep_few_cuts_waiting();
    }

    pub(super) fn cut(&mut self) {
        self.assembling.cut(self.now());
        self.keep_few_cuts_waiting();
    }

    /// As between threads: with so many cuts under way, whoever makes one more waits for the oldest.
    fn keep_few_cuts_waiting(&mut self) {
        self.waiting.extend(self.cuts.try_iter());
        while self.waiting.len() > BUILDS {
            self.seal();
        }
    }

    /// Seals the oldest cut, if there is one.
    pub(super) fn seal(&mut self) {
        let Some(cut) = self.waiting.pop_front() else { return };
        self.sealer.seal(&cut);
        let view = self.state.snapshot();
        let last = view.sealed.last().unwrap();
        self.note(last.id, last.handle.disk_bytes(), &cut);
        self.store.keep_house().unwrap();
    }

    /// How many cuts wait for the sealer.
    pub(super) fn cuts_waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Publishes the oldest cut, if there is one, and tells nobody.
    pub(super) fn publish(&mut self) {
        let Some(cut) = self.waiting.pop_front() else { return };
        let stored = self.sealer.publish(&cut).unwrap();
        self.note(stored.handle.id(), stored.handle.disk_bytes(), &cut);
    }

    fn note(&mut self, id: SegmentId, bytes: u64, cut: &Cut) {
        let spans = cut.batches.iter().flat_map(|batch| &batch.rows).map(|row| row.node.content).collect();
        let slice = self.now().0 / self.slice();
        let analysed = cut.analysed.iter().map(|row| row.trace_id).collect();
        let before = self.outer.sealed.insert(id, Sealed { slice, bytes, spans, analysed });
        assert!(before.is_none(), "segment {} is made twice", id.0);
    }

    pub(super) fn seal_all(&mut self) {
        self.take_all();
        self.cut();
        while !self.waiting.is_empty() {
            self.seal();
        }
    }

    /// Has the sealer seal the oldest cut just when a stage next asks for the time. Whether that has happened.
    pub(super) fn seal_in_between(&mut self) -> impl Fn() -> bool + use<> {
        let cut = self.waiting.pop_front().unwrap();
        let stopping = Arc::new(AtomicBool::new(false));
        let sealer =
            Sealer::new(Arc::clone(&self.state), Arc::clone(&self.store), self.clock.clone(), stopping);
        *self.outer.hook.lock() = Some(Box::new(move || sealer.seal(&cut)));
        let hook = Arc::clone(&self.outer.hook);
        move || hook.lock().is_none()
    }

    /// All cuts that wait are sealed by the real threads, in a process that is stopping or is not.
    pub(super) fn seal_side_by_side(&mut self, stopping: bool) {
        let (to_sealer, cuts) = sync_channel(WAITING_MAX);
        self.waiting.drain(..).for_each(|cut| to_sealer.send(cut).unwrap());
        drop(to_sealer);
        let (_house, sealed) = House::new(Arc::clone(&self.state), Arc::clone(&self.store));
        let stopping = Arc::new(AtomicBool::new(stopping));
        let sealer =
            Sealer::new(Arc::clone(&self.state), Arc::clone(&self.store), self.clock.clone(), stopping);
        sealer.run(cuts, &sealed);
    }

    /// The second of two cuts is built, then the first one from the beginning; published are both in order.
    pub(super) fn seal_overtaken(&mut self) {
        let (first, second) = (self.waiting.pop_front().unwrap(), self.waiting.pop_front().unwrap());
        let draft = self.sealer.draft(&second, self.store.number_segment());
        assert!(draft.is_some());
        self.sealer.seal_with(&first, None);
        self.sealer.seal_with(&second, draft);
    }

    /// Where the file of a segment is built.
    pub(super) fn draft_path(&self, id: SegmentId) -> PathBuf {
        self.store.dir().join(format!("ingest/segment-{:08}.sst", id.0))
    }

    /// One that looks after this world's store, with a ballast of none.
    pub(super) fn guard(&self) -> Guard {
        let watch = Arc::new(self.watch());
        let stopping = Arc::new(AtomicBool::new(false));
        Guard::new(Arc::clone(&self.state), Arc::clone(&self.store), watch, 0, stopping)
    }

    /// How full the machine's disk is must not decide.
    fn watch(&self) -> DiskWatch {
        let any_space = StoreOptions { free_min: FreeMin::Bytes(1), ..self.outer.setting.store };
        DiskWatch::new(Arc::clone(&self.state), Arc::clone(&self.store), &any_space, 1)
    }

    pub(super) fn oldest_partition(&self) -> Option<Expired> {
        self.store.oldest_partition()
    }

    pub(super) fn dir(&self) -> &Path {
        self.outer.dir.path()
    }

    /// Traces that came and of which nothing is left.
    pub(super) fn absent(&self, oracle: &Oracle) -> Vec<TraceId> {
        self.outer.seen.iter().copied().filter(|id| !oracle.traces.contains_key(id)).collect()
    }
}
