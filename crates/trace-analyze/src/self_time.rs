//! Time that belongs to single spans: self time, and their parts of a path.
//!
//! Self time is a span's duration less the union of its children, cut at the span:
//!
//! ```text
//! R |==============================|   self time: the parts marked s
//! A     |=========|
//! B           |=========|
//! C                           |=========|   (the part inside R counts)
//!   ssss                 sssss
//! ```
//!
//! It knows nothing of the path: a child off the path takes away self time as well.

use trace_model::{NanoDuration, SpanNode, Trace};

use crate::path::CriticalPath;
use crate::tree::Tree;

/// Each span's self time in nanoseconds: its duration less the union of its children's intervals cut at
/// its own. Indexed like [`Trace::spans`]; zero for spans that end before they start.
pub fn self_times(trace: &Trace) -> Vec<NanoDuration> {
    let spans = trace.spans();
    let covered = |i: usize| {
        let children = trace.children(i).iter().map(|child| &spans[*child as usize]);
        covered_by(&spans[i], children)
    };
    (0..spans.len()).map(|i| NanoDuration(spans[i].duration().0.saturating_sub(covered(i)))).collect()
}

/// How much of the span its children cover, in nanoseconds. Children come sorted by start.
fn covered_by<'a>(span: &SpanNode, children: impl Iterator<Item = &'a SpanNode>) -> u64 {
    let mut to = span.start;
    let mut covered = 0;
    for child in children {
        let (start, end) = (child.start.max(to), child.end.min(span.end));
        if start < end {
            covered += end.since(start).0;
            to = end;
        }
    }
    covered
}

/// Each span's own part of the path in nanoseconds, edges counted to their first span. Indexed like
/// [`Trace::spans`]; the sum is exactly the length of the path.
pub fn exclusive(trace: &Trace, path: &CriticalPath) -> Vec<NanoDuration> {
    let mut own = vec![NanoDuration(0); trace.len()];
    for segment in &path.segments {
        if let Some(sum) = own.get_mut(segment.span as usize) {
            sum.0 = sum.0.saturating_add(segment.duration().0);
        }
    }
    own
}

/// Each span's part of the path with that of the spans below it, in nanoseconds. Indexed like
/// [`Trace::spans`]; the root's is the length of the path.
pub fn inclusive(trace: &Trace, path: &CriticalPath) -> Vec<NanoDuration> {
    inclusive_in(trace, path, &Tree::below(trace, path.root as usize))
}

/// [`inclusive`], given the tree below the path's root.
pub(crate) fn inclusive_in(trace: &Trace, path: &CriticalPath, tree: &Tree) -> Vec<NanoDuration> {
    let mut sums = exclusive(trace, path);
    let below_root = tree.spans().iter().skip(1).rev();
    for i in below_root {
        let own = sums[*i as usize].0;
        if let Some(parent) = trace.parent(*i as usize) {
            sums[parent].0 = sums[parent].0.saturating_add(own);
        }
    }
    sums
}
