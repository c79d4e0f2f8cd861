//! A sealed segment as it is known in memory: what tells whether a question concerns it. The directories of its
//! blocks are read when they are needed, and cached.

use segment::{Blocks, Key, ReadError, Samples, SegmentMeta, dictionary_samples, trace_hashes};
use span_store::{SegmentHandle, SegmentId, StoredSegment};
use trace_model::{OperationId, ServiceId, SpanKind, UnixNanos};

use crate::chunk_directory::ChunkDirectory;
use crate::names::NameTable;
use crate::request::Window;

/// Segments for which a question starts a thread: each takes from a tenth of a millisecond to a few.
pub(crate) const SEGMENTS_WORTH: usize = 4;

/// A sealed segment with what is kept of it in memory.
#[derive(Debug)]
pub struct SealedSegment {
    /// Its number; later segments have greater ones.
    pub id: SegmentId,
    /// Reads its values.
    pub handle: SegmentHandle,
    /// What it says about itself, without operations and directories of blocks: those are in [`Detail`].
    pub meta: SegmentMeta,
    /// The process-wide number of each of its services.
    pub services: Vec<ServiceId>,
    /// The longest span of each of its services, nanoseconds.
    pub(crate) longest: Vec<u64>,
    pub(crate) traces: TraceExtent,
    pub(crate) chunks: ChunkDirectory,
    /// Whether an analysis in it replaces an earlier one.
    pub(crate) has_revisions: bool,
}

/// What the analysed traces of a segment span.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct TraceExtent {
    pub(crate) rows: u64,
    pub(crate) longest: u64,
    pub(crate) start_min: u64,
    pub(crate) start_max: u64,
}

impl TraceExtent {
    fn of(meta: &SegmentMeta) -> Self {
        let blocks = &meta.trace_blocks;
        Self {
            rows: blocks.iter().map(|block| u64::from(block.rows)).sum(),
            longest: blocks.iter().map(|block| block.duration_max).max().unwrap_or(0),
            start_min: blocks.iter().map(|block| block.start_min).min().unwrap_or(0),
            start_max: blocks.iter().map(|block| block.start_max).max().unwrap_or(0),
        }
    }

    /// Whether a trace may have started in the window.
    pub(crate) fn overlaps(&self, window: Window) -> bool {
        self.rows > 0 && self.start_min < window.end.0 && self.start_max >= window.start.0
    }
}

impl SealedSegment {
    /// Takes a stored segment into memory.
    pub fn new(stored: StoredSegment, names: &NameTable) -> Self {
        let StoredSegment { handle, mut meta } = stored;
        let services: Vec<ServiceId> =
            meta.services.iter().map(|name| names.service_id(Some(name.as_bytes()))).collect();
        let mut longest = vec![0; services.len()];
        for operation in &meta.operations {
            if let Some(longest) = longest.get_mut(operation.service as usize) {
                *longest = operation.duration_max.max(*longest);
            }
        }
        let traces = TraceExtent::of(&meta);
        let chunks = ChunkDirectory::take(&mut meta);
        let has_revisions = !meta.revised_traces.is_empty();
        meta.services = Vec::new();
        meta.operations = Vec::new();
        meta.row_blocks = Vec::new();
        meta.trace_blocks = Vec::new();
        meta.revised_traces = Vec::new();
        Self { id: handle.id(), handle, meta, services, longest, traces, chunks, has_revisions }
    }

    /// The process-wide number of a service of this segment.
    pub fn service(&self, local: u32) -> ServiceId {
        self.services.get(local as usize).copied().unwrap_or(ServiceId(u32::MAX))
    }

    /// Whether a span may have started in the window.
    pub(crate) fn has_spans_in(&self, window: Window) -> bool {
        self.meta.spans > 0
            && self.meta.start_min < window.end.0
            && UnixNanos(self.meta.start_max) >= window.start
    }

    /// The longest span of a service, or of any, nanoseconds; `None` if the service is not here.
    pub(crate) fn longest_of(&self, service: Option<ServiceId>) -> Option<u64> {
        let Some(service) = service else { return self.longest.iter().max().copied() };
        let at = self.services.iter().position(|id| *id == service)?;
        self.longest.get(at).copied()
    }

    /// The sorted hashes of its traces, from the store.
    pub(crate) fn hashes(&self) -> Result<Vec<u32>, ReadError> {
        trace_hashes(&self.handle, self.chunks.blocks())
    }

    /// What a dictionary may be trained on, from the store; so many bytes at most.
    pub(crate) fn samples(&self, bytes_max: usize) -> Result<Samples, ReadError> {
        dictionary_samples(&self.handle, self.chunks.blocks(), bytes_max)
    }

    /// Whether the list of hashes in the store has this one.
    pub(crate) fn lists(&self, hash: u32) -> Result<bool, ReadError> {
        Ok(self.hashes()?.binary_search(&hash).is_ok())
    }
}

/// A segment's operations and the directories of its blocks.
#[derive(Debug)]
pub struct Detail {
    /// What the segment says about itself, without names.
    pub meta: SegmentMeta,
    /// The process-wide number of each of its operations.
    pub operations: Vec<OperationId>,
}

impl Detail {
    /// Reads it from the store.
    ///
    /// # Errors
    /// If the store fails or the meta is damaged.
    pub(crate) fn read(segment: &SealedSegment, names: &NameTable) -> Result<Self, ReadError> {
        let bytes = segment.handle.get(Key::Meta)?.ok_or(ReadError::Missing(Key::Meta))?;
        let mut meta = span_store::decode_meta(&bytes)?;
        let operations = meta.operations.iter().map(|operation| {
            let kind = SpanKind::from_wire(u64::from(operation.kind));
            names.operation_id(segment.service(operation.service), kind, operation.name.as_bytes())
        });
        let operations = operations.collect();
        // The names live in the table; one copy is enough.
        meta.services = Vec::new();
        // Memory has these anyway.
        drop(ChunkDirectory::take(&mut meta));
        meta.operations.iter_mut().for_each(|operation| operation.name = String::new());
        meta.revised_traces = Vec::new();
        Ok(Self { meta, operations })
    }

    /// The process-wide number of an operation of the segment.
    pub fn operation(&self, local: u32) -> OperationId {
        self.operations.get(local as usize).copied().unwrap_or(OperationId(u32::MAX))
    }

    /// The segment's number of the service of one of its operations.
    pub(crate) fn service_of(&self, local: u32) -> u32 {
        self.meta.operations.get(local as usize).map_or(u32::MAX, |operation| operation.service)
    }

    /// Bytes of memory, about.
    pub(crate) fn bytes(&self) -> usize {
        let meta = &self.meta;
        size_of_val(&self.operations[..])
            + size_of_val(&meta.operations[..])
            + size_of_val(&meta.row_blocks[..])
            + size_of_val(&meta.trace_blocks[..])
            + size_of_val(&meta.service_totals[..])
            + 1024
    }
}
