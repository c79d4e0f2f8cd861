//! The path to the last thing that happened below a root, asynchronous work included.
//!
//! The walk begins at the span that ends last and goes through it as a response does; from its start it
//! goes on in the parent, up to the root. Where the receiver starts after its sender has ended, the gap
//! is time in a queue, and belongs to the edge.
//!
//! ```text
//! R |==================|
//! P     |====|                        PRODUCER
//! C                 |=============|   CONSUMER, below P
//!
//!   R---P----~~~~~~~C--------------   path; ~ is the edge P-C
//! ```

use std::cmp::Reverse;

use trace_model::{Trace, UnixNanos};

use crate::path::{PathOptions, PathSegment};
use crate::policy::Interval;
use crate::tree::Tree;
use crate::walk;

/// The segments of the path to the last end in the tree, latest first.
pub(crate) fn path(trace: &Trace, tree: &Tree, options: &PathOptions) -> Vec<PathSegment> {
    let mut segments = Vec::new();
    let (Some(root), Some(last)) = (tree.spans().first(), last_to_end(trace, tree)) else {
        return segments;
    };
    let mut at = last;
    let mut to = end_of(trace, last);
    loop {
        let start = trace.spans()[at as usize].start;
        if start < to {
            walk::through(trace, at, Interval { start, end: to }, options, &mut segments);
            to = start;
        }
        let Some(parent) = trace.parent(at as usize).filter(|_| at != *root) else { return segments };
        let parent = parent as u32;
        let sent = end_of(trace, parent);
        if sent < to {
            segments.push(PathSegment { span: parent, edge: Some((parent, at)), start: sent, end: to });
            to = sent;
        }
        at = parent;
    }
}

fn end_of(trace: &Trace, i: u32) -> UnixNanos {
    let span = &trace.spans()[i as usize];
    span.end.max(span.start)
}

/// The span of the tree that ends last; of several, the one that starts first.
fn last_to_end(trace: &Trace, tree: &Tree) -> Option<u32> {
    tree.spans().iter().copied().min_by_key(|i| (Reverse(end_of(trace, *i)), *i))
}
