//! One trace that is being put together.

use hashbrown::HashSet;
use trace_model::{SpanId, SpanNode, UnixNanos};

/// Above this many spans a trace keeps a hash set to recognise repeated ones; below it a scan is faster.
const SCAN_MAX: usize = 24;

/// Where a span's bytes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Location {
    /// In a live batch, by the batch's number and the row in it.
    Live {
        /// Number of the batch, rising in order of arrival.
        batch: u64,
        /// Row within the batch.
        row: u32,
    },
    /// In sealed segments.
    Sealed,
}

/// A span that is held, and where its bytes are.
#[derive(Debug, Clone, Copy)]
pub struct HeldSpan {
    /// The skeleton.
    pub node: SpanNode,
    /// Where its bytes are.
    pub location: Location,
}

/// Whether a trace still waits for spans.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Spans may be on their way.
    Open,
    /// It was quiet for long enough; held only until its spans and its analysis are sealed.
    Finished,
}

/// A trace that is being put together.
#[derive(Debug)]
pub struct OpenTrace {
    spans: Vec<HeldSpan>,
    seen: Option<HashSet<(SpanId, u64)>>,
    pub(crate) first_seen: UnixNanos,
    pub(crate) last_seen: UnixNanos,
    pub(crate) root_seen: Option<UnixNanos>,
    pub(crate) phase: Phase,
    /// Whether an earlier analysis of this trace may have been sealed.
    pub(crate) revised: bool,
    /// Whether some of its spans lie in sealed segments.
    pub(crate) partly_sealed: bool,
    /// What was sealed of it from arrivals since then is held; what arrived earlier was not looked for.
    pub(crate) searched_since: UnixNanos,
}

impl OpenTrace {
    pub(crate) fn new(now: UnixNanos) -> Self {
        Self {
            spans: Vec::new(),
            seen: None,
            first_seen: now,
            last_seen: now,
            root_seen: None,
            phase: Phase::Open,
            revised: false,
            partly_sealed: false,
            searched_since: UnixNanos(u64::MAX),
        }
    }

    /// The spans that have come, in order of arrival.
    pub fn spans(&self) -> &[HeldSpan] {
        &self.spans
    }

    /// The skeletons alone.
    pub fn nodes(&self) -> Vec<SpanNode> {
        self.spans.iter().map(|held| held.node).collect()
    }

    /// Open or finished.
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// Whether an earlier analysis of this trace may have been sealed.
    pub fn is_revised(&self) -> bool {
        self.revised
    }

    /// Whether some of its spans lie in sealed segments.
    pub fn is_partly_sealed(&self) -> bool {
        self.partly_sealed
    }

    /// What was sealed of it from arrivals since then is held; what arrived earlier was not looked for.
    pub fn searched_since(&self) -> UnixNanos {
        self.searched_since
    }

    pub(crate) fn contains(&self, node: &SpanNode) -> bool {
        match &self.seen {
            Some(seen) => seen.contains(&(node.span_id, node.content)),
            None => self
                .spans
                .iter()
                .any(|held| held.node.span_id == node.span_id && held.node.content == node.content),
        }
    }

    pub(crate) fn push(&mut self, held: HeldSpan) {
        if let Some(seen) = &mut self.seen {
            seen.insert((held.node.span_id, held.node.content));
        } else if self.spans.len() >= SCAN_MAX {
            self.seen = Some(
                self.spans.iter().chain([&held]).map(|held| (held.node.span_id, held.node.content)).collect(),
            );
        }
        self.partly_sealed |= held.location == Location::Sealed;
        if self.spans.len() == self.spans.capacity() {
            // Doubling would leave a third of all memory for open traces unused.
            self.spans.reserve_exact(self.spans.len() / 4 + 4);
        }
        self.spans.push(held);
    }

    /// Every span of it has been sealed: forget where the bytes were.
    pub(crate) fn mark_sealed(&mut self, up_to_batch: u64) {
        for held in &mut self.spans {
            if matches!(held.location, Location::Live { batch, .. } if batch <= up_to_batch) {
                held.location = Location::Sealed;
                self.partly_sealed = true;
            }
        }
    }

    pub(crate) fn is_wholly_sealed(&self) -> bool {
        self.spans.iter().all(|held| held.location == Location::Sealed)
    }
}
