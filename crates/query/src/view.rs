//! A moment's view of what is stored and what is live.

use std::sync::Arc;

use segment::{LiveBatch, ReadError, trace_hash};
use span_store::SegmentId;
use trace_model::{TraceId, UnixNanos};

use crate::directory::TraceDirectory;
use crate::revisions::Revisions;
use crate::rollups::Rollup;
use crate::sealed::SealedSegment;

/// A moment's view of sealed segments and live spans; together they hold every acknowledged span once.
#[derive(Debug, Clone, Default)]
pub struct View {
    /// Oldest first.
    pub sealed: Arc<Vec<Arc<SealedSegment>>>,
    /// In order of arrival.
    pub live: Vec<Arc<LiveBatch>>,
    /// Live batches up to this one were sealed.
    pub sealed_batch: u64,
    /// The segment with the last analysis of each trace that was analysed more than once.
    pub revisions: Revisions,
    /// Which sealed segments may hold a trace.
    pub directory: Arc<TraceDirectory>,
    /// What is left of spans that are not kept any more; none of them of a time that has segments.
    pub rollups: Arc<Vec<Arc<Rollup>>>,
}

impl View {
    /// Whether a later segment replaces the analysis of this trace in this segment.
    ///
    /// # Errors
    /// If that cannot be read. It is made anew when the next segment is sealed.
    pub fn is_replaced(&self, id: &TraceId, segment: SegmentId) -> Result<bool, ReadError> {
        let last = self.revisions.last(id).map_err(|error| ReadError::Store(error.to_string()))?;
        Ok(last.is_some_and(|last| last > segment))
    }

    /// Whoever looks at segments for seconds must not keep in memory what was live when it began: segments are sealed
    /// meanwhile, and each question would hold two of them.
    pub(crate) fn let_go_of_live(&mut self) {
        self.live = Vec::new();
        self.directory = Arc::default();
    }

    /// The same without what is live, which is not copied for it, and without the directory of traces.
    pub(crate) fn stored_alone(&self) -> Self {
        Self {
            sealed: Arc::clone(&self.sealed),
            live: Vec::new(),
            sealed_batch: self.sealed_batch,
            revisions: self.revisions.clone(),
            directory: Arc::default(),
            rollups: Arc::clone(&self.rollups),
        }
    }

    /// What is stored, without what is live.
    pub fn stored(&self) -> Stored {
        Stored { sealed: Arc::clone(&self.sealed), directory: Arc::clone(&self.directory) }
    }

    fn segment(&self, id: SegmentId) -> Option<&Arc<SealedSegment>> {
        find_segment(&self.sealed, id)
    }

    /// The sealed segments that may hold a trace.
    ///
    /// # Errors
    /// If the store fails.
    pub fn segments_of(&self, id: &TraceId) -> Result<Vec<Arc<SealedSegment>>, ReadError> {
        let hash = trace_hash(id);
        let listed = self.directory.find(hash, 0);
        let mut found: Vec<_> = listed.iter().filter_map(|id| self.segment(*id)).cloned().collect();
        // One that took the place of others may be both.
        let unlisted = self.directory.unlisted().iter().rev().filter(|id| !listed.contains(id));
        for segment in unlisted.filter_map(|id| self.segment(*id)) {
            if lists(segment, hash)? {
                found.push(Arc::clone(segment));
            }
        }
        Ok(found)
    }
}

/// Sealed segments, and which of them may hold a trace.
#[derive(Debug, Clone)]
pub struct Stored {
    sealed: Arc<Vec<Arc<SealedSegment>>>,
    directory: Arc<TraceDirectory>,
}

impl Stored {
    /// Whether some look-ups mean reading from files.
    pub fn has_files(&self) -> bool {
        self.directory.has_files()
    }

    /// Whether the trace may be in a segment: in one whose hashes are in memory if it took arrivals since
    /// `listed`, in another if it took arrivals since `unlisted`, because that means reading from a file.
    ///
    /// # Errors
    /// If the store fails.
    pub fn may_hold(&self, id: &TraceId, listed: UnixNanos, unlisted: UnixNanos) -> Result<bool, ReadError> {
        let hash = trace_hash(id);
        if self.directory.may_hold(hash, listed.0, unlisted.0) {
            return Ok(true);
        }
        for segment in self.directory.unlisted().iter().rev().filter_map(|id| find_segment(&self.sealed, *id))
        {
            if segment.meta.arrival_max >= unlisted.0 && lists(segment, hash)? {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// Whether a segment's own list has this hash. Without its list, a damaged one may hold any trace: its blocks tell.
fn lists(segment: &SealedSegment, hash: u32) -> Result<bool, ReadError> {
    match segment.lists(hash) {
        Err(_) if segment.handle.is_dropped() => Ok(false),
        Err(error) if error.is_damage() => Ok(true),
        other => other,
    }
}

pub(crate) fn find_segment(sealed: &[Arc<SealedSegment>], id: SegmentId) -> Option<&Arc<SealedSegment>> {
    sealed.binary_search_by_key(&id, |segment| segment.id).ok().map(|at| &sealed[at])
}
