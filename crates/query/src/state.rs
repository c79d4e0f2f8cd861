//! What is known at this moment: sealed segments, live batches, open traces. Written by the pipeline, read by
//! queries.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use hashbrown::{HashMap, HashSet};
use latency::{ExemplarSet, LatencyHistogram};
use parking_lot::{Mutex, RwLock};
use segment::{Blocks, Key, LiveBatch, ReadError, SegmentMeta, TraceFilter, TraceRow};
use span_store::{SegmentHandle, SegmentId, StoredSegment};
use trace_assemble::Assembler;
use trace_model::{OperationId, ServiceId, SpanKind, TraceId, UnixNanos};

use crate::cache::BlockCache;
use crate::names::NameTable;

/// A sealed segment with what is kept of it in memory.
#[derive(Debug)]
pub struct SealedSegment {
    /// Its number; later segments have greater ones.
    pub id: SegmentId,
    /// Reads its values.
    pub handle: SegmentHandle,
    /// What it says about itself.
    pub meta: SegmentMeta,
    /// The process-wide number of each of its services.
    pub services: Vec<ServiceId>,
    /// The process-wide number of each of its operations.
    pub operations: Vec<OperationId>,
    /// Over the traces of its spans.
    pub filter: TraceFilter,
}

impl SealedSegment {
    /// Takes a stored segment into memory.
    ///
    /// # Errors
    /// If the filter cannot be read.
    pub fn load(stored: StoredSegment, names: &NameTable) -> Result<Self, ReadError> {
        let StoredSegment { handle, mut meta } = stored;
        let filter = handle.get(Key::Filter)?.ok_or(ReadError::Missing(Key::Filter))?;
        let services: Vec<ServiceId> =
            meta.services.iter().map(|name| names.service_id(Some(name.as_bytes()))).collect();
        let operations = meta
            .operations
            .iter()
            .map(|operation| {
                let service =
                    services.get(operation.service as usize).copied().unwrap_or(ServiceId(u32::MAX));
                let kind = SpanKind::from_wire(u64::from(operation.kind));
                names.operation_id(service, kind, operation.name.as_bytes())
            })
            .collect();
        // The names live in the table now; one copy is enough.
        meta.services = Vec::new();
        meta.operations.iter_mut().for_each(|operation| operation.name = String::new());
        Ok(Self {
            id: handle.id(),
            handle,
            meta,
            services,
            operations,
            filter: TraceFilter::from_bytes(filter)?,
        })
    }

    /// The process-wide number of an operation of this segment.
    pub fn operation(&self, local: u32) -> OperationId {
        self.operations.get(local as usize).copied().unwrap_or(OperationId(u32::MAX))
    }

    /// The process-wide number of a service of this segment.
    pub fn service(&self, local: u32) -> ServiceId {
        self.services.get(local as usize).copied().unwrap_or(ServiceId(u32::MAX))
    }
}

/// A moment's view of sealed segments and live spans; together they hold every acknowledged span once.
#[derive(Debug, Clone, Default)]
pub struct View {
    /// Oldest first.
    pub sealed: Arc<Vec<Arc<SealedSegment>>>,
    /// In order of arrival.
    pub live: Vec<Arc<LiveBatch>>,
    /// The segment with the last analysis of each trace that was analysed more than once.
    pub revised: Arc<HashMap<TraceId, SegmentId>>,
}

impl View {
    /// Whether a later segment replaces the analysis of this trace in this segment.
    pub fn is_replaced(&self, id: &TraceId, segment: SegmentId) -> bool {
        self.revised.get(id).is_some_and(|&last| last > segment)
    }
}

/// Open traces, and the analyses that are not sealed yet.
#[derive(Debug)]
pub struct Assembly {
    /// Open traces, and finished ones until they are sealed.
    pub assembler: Assembler,
    /// The analysis of each finished trace that the assembler holds.
    pub analysed: HashMap<TraceId, Arc<TraceRow>>,
}

/// Outcomes that are counted, for `status` and `/metrics`.
#[derive(Debug, Default)]
pub struct Counters {
    /// Spans acknowledged and not known before.
    pub spans: AtomicU64,
    /// Spans that had come before.
    pub duplicates: AtomicU64,
    /// Spans for traces that had been finished.
    pub late: AtomicU64,
    /// Segments sealed.
    pub seals: AtomicU64,
    /// Log frames found damaged at start.
    pub damaged_frames: AtomicU64,
    /// Look-ups of a trace in sealed segments on arrival of a span.
    pub reopen_lookups: AtomicU64,
}

/// Everything that is known at this moment.
#[derive(Debug)]
pub struct State {
    /// Names by number.
    pub names: Arc<NameTable>,
    /// Lock this before the view and not after: a trace leaves the assembly only after its segment has entered
    /// the view, so who looks in this order misses nothing.
    pub assembly: Mutex<Assembly>,
    /// Sealed and live.
    pub view: RwLock<View>,
    /// Since the process began, by operation.
    pub metrics: Mutex<HashMap<OperationId, (LatencyHistogram, ExemplarSet)>>,
    /// Counted outcomes.
    pub counters: Counters,
    /// What was set aside as damaged.
    pub damaged: Mutex<Vec<String>>,
    /// Inflated blocks.
    pub blocks: BlockCache,
    /// Traces that were open at the last cut of an earlier process; taken by whoever reopens them.
    pub open_at_start: Mutex<Vec<TraceId>>,
    /// Why queries are not answered yet.
    pub not_ready: Mutex<Option<String>>,
    /// Why spans are refused, by what refuses them.
    refusing: Mutex<[Option<String>; 2]>,
}

/// What may refuse spans.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub enum Refusal {
    /// The log cannot be written.
    Log = 0,
    /// Segments cannot be sealed.
    Sealing = 1,
}

impl State {
    /// A state of nothing.
    pub fn new(names: Arc<NameTable>, assembler: Assembler) -> Self {
        Self {
            names,
            assembly: Mutex::new(Assembly { assembler, analysed: HashMap::new() }),
            view: RwLock::default(),
            metrics: Mutex::default(),
            counters: Counters::default(),
            damaged: Mutex::default(),
            blocks: BlockCache::default(),
            open_at_start: Mutex::default(),
            not_ready: Mutex::new(Some("starting".to_owned())),
            refusing: Mutex::default(),
        }
    }

    /// Says why spans are refused, or that they are not any more.
    pub fn set_refusing(&self, by: Refusal, why: Option<String>) {
        let mut refusing = self.refusing.lock();
        if refusing[by as usize] != why {
            refusing[by as usize] = why;
        }
    }

    /// Why spans are refused; empty when all is well.
    pub fn refusing(&self) -> Vec<String> {
        self.refusing.lock().iter().flatten().cloned().collect()
    }

    /// The view of this moment.
    pub fn snapshot(&self) -> View {
        self.view.read().clone()
    }

    /// Makes live batches visible.
    pub fn add_live(&self, batch: Arc<LiveBatch>) {
        self.view.write().live.push(batch);
    }

    /// Takes sealed segments in that were there at start.
    pub fn add_stored(&self, segments: Vec<StoredSegment>) {
        if let Some(last) = segments.iter().max_by_key(|stored| stored.handle.id()) {
            match segment::open_traces(&last.handle) {
                Ok(open) => *self.open_at_start.lock() = open,
                Err(error) => self.damaged.lock().push(format!("segment {}: {error}", last.handle.id().0)),
            }
        }
        let mut sealed = Vec::with_capacity(segments.len());
        for stored in segments {
            let id = stored.handle.id();
            match SealedSegment::load(stored, &self.names) {
                Ok(segment) => sealed.push(Arc::new(segment)),
                Err(error) => self.damaged.lock().push(format!("segment {}: {error}", id.0)),
            }
        }
        sealed.sort_unstable_by_key(|segment| segment.id);
        let revised = sealed.iter().flat_map(|segment| revisions(segment)).collect();
        let mut view = self.view.write();
        view.revised = Arc::new(revised);
        view.sealed = Arc::new(sealed);
    }

    /// A segment was published: it takes the place of the live batches up to `last_batch` and of the analyses in
    /// `analysed`, in one step for whoever looks.
    pub fn replace_live(&self, segment: Arc<SealedSegment>, last_batch: u64, analysed: &[Arc<TraceRow>]) {
        {
            let mut view = self.view.write();
            view.live.retain(|batch| batch.number > last_batch);
            let revised: Vec<_> = revisions(&segment).collect();
            if !revised.is_empty() {
                Arc::make_mut(&mut view.revised).extend(revised);
            }
            Arc::make_mut(&mut view.sealed).push(segment);
        }
        let mut assembly = self.assembly.lock();
        let Assembly { assembler, analysed: kept } = &mut *assembly;
        for row in analysed {
            if kept.get(&row.trace_id).is_some_and(|current| Arc::ptr_eq(current, row)) {
                kept.remove(&row.trace_id);
            }
        }
        // What is finished and has no analysis waiting has its last analysis in this segment or before it.
        assembler.sealed(last_batch, &|id| !kept.contains_key(id));
    }

    /// Retention takes segments away.
    pub fn remove_sealed(&self, gone: &[SegmentId]) {
        let gone: HashSet<SegmentId> = gone.iter().copied().collect();
        let mut view = self.view.write();
        let kept = view.sealed.iter().filter(|segment| !gone.contains(&segment.id)).cloned().collect();
        view.sealed = Arc::new(kept);
        let oldest = view.sealed.first().map(|segment| segment.id);
        Arc::make_mut(&mut view.revised).retain(|_, id| oldest.is_some_and(|oldest| *id >= oldest));
    }

    /// Adds one to a counter.
    pub fn count(&self, counter: &AtomicU64, by: u64) {
        counter.fetch_add(by, Ordering::Relaxed);
    }

    /// Sealed segments whose spans may have arrived at or after `since`, newest first.
    pub fn segments_since(view: &View, since: UnixNanos) -> impl Iterator<Item = &Arc<SealedSegment>> {
        view.sealed.iter().rev().filter(move |segment| segment.meta.arrival_max >= since.0)
    }
}

fn revisions(segment: &SealedSegment) -> impl Iterator<Item = (TraceId, SegmentId)> + '_ {
    let ids = segment.meta.revised_traces.chunks_exact(16).filter_map(|id| TraceId::try_from(id).ok());
    ids.map(|id| (id, segment.id))
}
