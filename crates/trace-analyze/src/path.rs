//! The critical path: its options and its shape.
//!
//! The path of a root divides the root's time among the spans of its tree, each moment to the span that
//! the response was waiting for. It is found by walking backward from the end: a span owns the time back
//! to the end of the last child that ended before; then the walk goes through that child, and goes on
//! in the parent where the child started.
//!
//! ```text
//!   0         20        40        60        80        100
//! R |=================================================|
//! A      |==============|
//! B           |===================|
//! C                                    |=========|
//!
//!   R---------B-------------------R----C---------R----   the path
//! ```
//!
//! A is not on the path: B had begun before A ended, so nothing waited for A alone. The trace shows
//! only what did happen; that C had to wait for B is likely, but not known.

use trace_model::{AnomalyKind, NanoDuration, Trace, UnixNanos};

use crate::flags::Flags;
use crate::policy::{Overrun, tree_flags};
use crate::tree::Tree;
use crate::{completion, walk};

/// Whose end the path leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Extent {
    /// The root's: what its caller waited for.
    #[default]
    Response,
    /// That of the last span below the root, asynchronous ones included: when all was done.
    Trace,
}

/// How to find a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct PathOptions {
    /// What to make of children that end after their parent.
    pub overrun: Overrun,
    /// Whose end the path leads to.
    pub extent: Extent,
    /// Siblings that overlap by at most this still count as one after the other. Zero by default.
    pub epsilon: NanoDuration,
}

/// A stretch of the path, owned by one span. Never empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PathSegment {
    /// The span that owns the stretch, as an index into [`Trace::spans`].
    pub span: u32,
    /// Set where the time is the network's or the queue's and not the span's: `(client span, server
    /// span)`. That is a CLIENT's own time around a SERVER of another service, or the gap between the
    /// end of a sender and the start of its receiver (`Extent::Trace` only). `span` is the first of the
    /// two then.
    pub edge: Option<(u32, u32)>,
    /// Where the stretch begins.
    pub start: UnixNanos,
    /// Where it ends.
    pub end: UnixNanos,
}

impl PathSegment {
    /// The length of the stretch.
    pub const fn duration(&self) -> NanoDuration {
        self.end.since(self.start)
    }
}

/// The critical path of one root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CriticalPath {
    /// The root, as an index into [`Trace::spans`].
    pub root: u32,
    /// Where the path begins: the root's start (with `Extent::Trace` it can be earlier, if a clock is
    /// wrong).
    pub start: UnixNanos,
    /// Where it ends: the root's end, or with `Extent::Trace` the last end below it.
    pub end: UnixNanos,
    /// The path from `start` to `end` without a gap, ascending. Empty if the root is.
    pub segments: Vec<PathSegment>,
    /// Remarks on the trace.
    pub flags: Flags,
}

impl CriticalPath {
    /// The length of the path, which is the sum of its segments.
    pub const fn duration(&self) -> NanoDuration {
        self.end.since(self.start)
    }
}

/// Finds the critical path of the tree below `root`, an index into [`Trace::spans`] that need not be a
/// root of the trace. O(n log n). The path is empty if there is no such span.
pub fn critical_path(trace: &Trace, root: usize, options: &PathOptions) -> CriticalPath {
    let tree = Tree::below(trace, root);
    let mut segments = match options.extent {
        Extent::Response => walk::response(trace, &tree, options),
        Extent::Trace => completion::path(trace, &tree, options),
    };
    segments.reverse();
    let at = trace.spans().get(root).map(|span| span.start).unwrap_or_default();
    let mut flags = tree_flags(trace, &tree, options.overrun);
    flags.insert(trace_flags(trace));
    CriticalPath {
        root: u32::try_from(root).unwrap_or(u32::MAX),
        start: segments.first().map_or(at, |segment| segment.start),
        end: segments.last().map_or(at, |segment| segment.end),
        segments,
        flags,
    }
}

fn trace_flags(trace: &Trace) -> Flags {
    let found = |kind| trace.has_anomaly(kind);
    let mut flags = Flags::default();
    flags.insert_if(Flags::MISSING_PARENT, found(AnomalyKind::MissingParent));
    flags.insert_if(Flags::CYCLE, found(AnomalyKind::Cycle) || found(AnomalyKind::SelfParent));
    flags.insert_if(Flags::ID_CONFLICT, found(AnomalyKind::IdConflict));
    flags.insert_if(Flags::MULTIPLE_ROOTS, trace.roots().len() > 1);
    flags
}
