//! Last analyses as the segments tell them themselves.

use std::sync::Arc;

use segment::{Blocks, Key, ReadError};
use span_store::{SegmentId, StoredSegment, in_parts};
use trace_model::TraceId;

use super::Revisions;
use crate::damage::Reader;
use crate::sealed::SealedSegment;
use crate::state::State;

/// Segments whose lists are held at one time.
const AT_ONCE: usize = 16;

impl State {
    /// The last analyses of now. If not all could be read they are made anew.
    pub(crate) fn whole_revisions(&self) -> Revisions {
        let (known, sealed) = {
            let view = self.view.read();
            (view.revisions.clone(), Arc::clone(&view.sealed))
        };
        if known.is_whole() {
            return known;
        }
        let anew = self.list_revisions(&sealed, known.emptied());
        if anew.lacking { known } else { anew }
    }

    /// Adds what these segments, oldest first, say of themselves.
    pub(crate) fn list_revisions(&self, sealed: &[Arc<SealedSegment>], none: Revisions) -> Revisions {
        let mut revisions = none;
        let with_any: Vec<_> = sealed.iter().filter(|segment| segment.has_revisions).collect();
        for some in with_any.chunks(AT_ONCE) {
            let read =
                |part: &[&Arc<SealedSegment>]| part.iter().map(|one| self.revised(one)).collect::<Vec<_>>();
            let lists = in_parts(some, 1, read);
            for (segment, list) in some.iter().zip(lists.into_iter().flatten()) {
                match list {
                    Ok(traces) => self.add_revisions(&mut revisions, segment.id, traces),
                    Err(error) => {
                        let segment = segment.id.0;
                        tracing::error!(segment, %error, "cannot read which traces a segment has analysed again");
                        revisions.lacking = true;
                    }
                }
            }
        }
        revisions
    }

    fn revised(&self, segment: &SealedSegment) -> Result<Vec<TraceId>, ReadError> {
        let meta = segment.handle.get(Key::Meta).and_then(|bytes| {
            let bytes = bytes.ok_or(ReadError::Missing(Key::Meta))?;
            span_store::decode_meta(&bytes)
        });
        // Of one whose meta is damaged nothing is answered.
        let Some(meta) = Reader::new(self).readable(segment, meta)? else { return Ok(Vec::new()) };
        Ok(StoredSegment { handle: segment.handle.clone(), meta }.revisions().collect())
    }

    /// Adds a segment, the newest.
    pub(crate) fn add_revisions(&self, revisions: &mut Revisions, segment: SegmentId, traces: Vec<TraceId>) {
        if let Err(error) = revisions.add(segment, traces.into_iter()) {
            self.count(&self.counters.revisions_not_written, 1);
            tracing::warn!(%error, "cannot write which traces were analysed again; they take memory until it can be");
        }
    }
}
