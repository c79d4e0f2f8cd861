//! What-if replay: how long a request would take if some of its spans were faster.
//!
//! The tree is timed anew from the leaves up. A leaf's time shrinks; a span's own time between and after
//! its children shrinks; a child starts as long after its last predecessor as it did (the barrier
//! model: a child may have waited for every sibling that ended before it started, so no saving is
//! promised that the trace does not support).
//!
//! ```text
//! as recorded                      B twice as fast
//! R |=====================|        R |================|
//! A   |====|                       A   |====|
//! B          |==========|          B          |=====|
//! D          |===|                 D          |===|
//! ```
//!
//! ```text
//! leaf:   dur'(s) = (end - start) f(s)
//! else:   end'(c) = m' + (c.start - m) f(s) + dur'(c)      for children c in order of start, with
//!         m  = last end of the siblings that ended before c started, or s.start
//!         m' = the last of their new ends, or 0
//!         dur'(s) = max end'(c) + (s.end - max c.end) f(s)
//! ```
//!
//! The saving can be far too small where a gateway records a call twice, as siblings that both span it:
//! the other one still takes its time. So show the upper bound, `k` times the exclusive time on the
//! path, beside it.
//!
//! `f` is `1 - k` for the spans meant and 1 for the others. The arithmetic is in thousandths of a
//! nanosecond and exact; only the result is rounded, up.

use trace_model::{NanoDuration, SpanNode, Trace, UnixNanos};

use crate::policy::{Interval, Overrun};
use crate::tree::Tree;

/// A length of time in thousandths of a nanosecond.
type Milli = u128;

/// The duration of `root` if the own time of every span that `target` picks shrank by
/// `faster_permille` thousandths (0 to 1000; more counts as 1000). With 0 it is exactly the root's
/// duration. The saving is never more than `faster_permille` of the target's exclusive time on the
/// critical path. Zero if there is no such span.
pub fn what_if(
    trace: &Trace,
    root: usize,
    target: &dyn Fn(&SpanNode) -> bool,
    faster_permille: u32,
) -> NanoDuration {
    let tree = Tree::below(trace, root);
    let mut replay = Replay {
        trace,
        awaited: tree.awaited(trace, Overrun::Clip),
        durations: vec![0; trace.len()],
        group: Vec::new(),
    };
    let faster = 1000 - Milli::from(faster_permille.min(1000));
    for i in tree.spans().iter().rev() {
        let factor = if target(&trace.spans()[*i as usize]) { faster } else { 1000 };
        replay.time(*i, factor);
    }
    let whole = replay.durations.get(root).map_or(0, |milli| milli.div_ceil(1000));
    NanoDuration(u64::try_from(whole).unwrap_or(u64::MAX))
}

struct Replay<'a> {
    trace: &'a Trace,
    awaited: Vec<Option<Interval>>,
    /// The new duration of every span that is timed already.
    durations: Vec<Milli>,
    group: Vec<Child>,
}

/// An awaited child: where it was, and where it ends now, counted from its parent's start.
struct Child {
    was: Interval,
    duration: Milli,
    ends: Milli,
}

impl Replay<'_> {
    /// Times a span whose children are timed.
    fn time(&mut self, i: u32, factor: Milli) {
        let Some(span) = self.awaited[i as usize] else { return };
        let awaited = |c: &u32| {
            let duration = self.durations[*c as usize];
            Some(Child { was: self.awaited[*c as usize]?, duration, ends: 0 })
        };
        self.group.clear();
        self.group.extend(self.trace.children(i as usize).iter().filter_map(awaited));
        replay_children(&mut self.group, span.start, factor);
        let was = self.group.iter().map(|child| child.was.end).max().unwrap_or(span.start);
        let now = self.group.iter().map(|child| child.ends).max().unwrap_or(0);
        self.durations[i as usize] = now + own(was, span.end, factor);
    }
}

/// The span's own time from one instant to another, at its speed.
fn own(from: UnixNanos, to: UnixNanos, factor: Milli) -> Milli {
    Milli::from(to.since(from).0) * factor
}

/// Finds when each child ends now. Children come sorted by start.
fn replay_children(group: &mut [Child], start: UnixNanos, factor: Milli) {
    let mut by_end: Vec<usize> = (0..group.len()).collect();
    by_end.sort_unstable_by_key(|k| group[*k].was.end);
    let mut ended = by_end.into_iter().peekable();
    let (mut was, mut now) = (start, 0);
    for k in 0..group.len() {
        // Whoever ended before this child started also started before it, so its new end is known.
        while let Some(d) = ended.next_if(|d| group[*d].was.end <= group[k].was.start) {
            was = group[d].was.end;
            now = group[d].ends.max(now);
        }
        group[k].ends = now + own(was, group[k].was.start, factor) + group[k].duration;
    }
}
