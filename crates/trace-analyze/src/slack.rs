//! Slack: how much later a span may end before its root does.
//!
//! A span's parent goes on when the last child has ended, and a sibling that started after the span
//! ended may have waited for it, so it moves when the span reaches the end of the sibling's last
//! predecessor.
//!
//! ```text
//! R |==============================|
//! A     |=====|                          slack 6: then it ends with B, and delays C
//! B     |===========|                    0: C started after it, so it may have waited for it
//! C                   |=========|        0: R waited for it
//! D                   |===|              slack 6: then it ends with C
//! ```
//!
//! Formula: with `M` the last end of the parent's children, and `m(d)` the last end of the siblings that
//! ended before `d` started, `slack(c) = min(slack(parent) + M, min over d that started after c ended of
//! slack(d) + m(d)) - c.end`. This is the barrier model of [`crate::what_if`].

use trace_model::{NanoDuration, Trace, UnixNanos};

use crate::path::CriticalPath;
use crate::policy::{Interval, Overrun};
use crate::self_time::inclusive;
use crate::tree::Tree;

/// The slack of a span that nobody waits for: detached, asynchronous, or outside the tree.
pub const UNLIMITED_SLACK: NanoDuration = NanoDuration(u64::MAX);

/// How much later each span may end, in nanoseconds, before the end of the path's root moves. Zero for
/// spans on the path, [`UNLIMITED_SLACK`] for spans that the root does not wait for. Indexed like
/// [`Trace::spans`].
///
/// Children that end after their parent are cut there ([`Overrun::Clip`]), whatever the path's options
/// were.
pub fn slack(trace: &Trace, path: &CriticalPath) -> Vec<NanoDuration> {
    let tree = Tree::below(trace, path.root as usize);
    let awaited = tree.awaited(trace, Overrun::Clip);
    let on_path: Vec<bool> = inclusive(trace, path).iter().map(|part| part.0 > 0).collect();
    let mut slack = vec![UNLIMITED_SLACK; trace.len()];
    let mut group = Vec::new();
    for i in tree.spans().iter().map(|i| *i as usize) {
        if on_path[i] || i == path.root as usize {
            slack[i] = NanoDuration(0);
        }
        if awaited[i].is_none() {
            continue;
        }
        group.clear();
        group.extend(
            trace.children(i).iter().filter_map(|c| Some(Child { span: *c, at: awaited[*c as usize]? })),
        );
        share_out(&group, &mut slack, i);
        for child in group.iter().filter(|child| on_path[child.span as usize]) {
            slack[child.span as usize] = NanoDuration(0);
        }
    }
    slack
}

struct Child {
    span: u32,
    at: Interval,
}

/// Sets the slack of all awaited children of span `parent`, which come sorted by start.
fn share_out(group: &[Child], slack: &mut [NanoDuration], parent: usize) {
    let Some(last) = group.iter().map(|child| child.at.end).max() else { return };
    let mut ends: Vec<UnixNanos> = group.iter().map(|child| child.at.end).collect();
    ends.sort_unstable();
    // Latest start first: whoever waited for a child started after it ended, so it is done by then.
    let limit = last.saturating_add(slack[parent]);
    let mut limits = vec![limit; group.len() + 1];
    for (k, child) in group.iter().enumerate().rev() {
        let follower = group.partition_point(|other| other.at.start < child.at.end);
        let own = limits[follower].since(child.at.end);
        slack[child.span as usize] = own;
        let before = ends.partition_point(|end| *end <= child.at.start);
        let barrier = before.checked_sub(1).map(|i| ends[i].saturating_add(own));
        limits[k] = limits[k + 1].min(barrier.unwrap_or(limit));
    }
}
