//! The backward walk through one span and everything it waited for.
//!
//! Each open span is a frame on an explicit stack, so a chain of 100,000 spans needs no deep call stack.
//! The children of all frames lie in one arena, those of the innermost frame on top.

use std::cmp::Reverse;

use trace_model::{SpanKind, Trace, UnixNanos};

use crate::path::{PathOptions, PathSegment};
use crate::policy::{Interval, may_block};
use crate::tree::Tree;

/// Frames and children that room is made for at once; more of them are rare.
const ROOM: usize = 16;

/// A child that the walk may enter.
#[derive(Clone, Copy)]
struct Kid {
    span: u32,
    at: Interval,
}

/// A span that the walk is in.
struct Frame {
    span: u32,
    edge: Option<(u32, u32)>,
    /// Where the walk leaves the span for its parent.
    from: UnixNanos,
    /// How far back the walk has come.
    to: UnixNanos,
    /// Where the span's children begin in the arena, and the next one to look at.
    kids: usize,
    next: usize,
}

/// A walk in progress. Segments come out latest first.
struct Walk<'a> {
    trace: &'a Trace,
    options: &'a PathOptions,
    frames: Vec<Frame>,
    arena: Vec<Kid>,
    segments: Vec<PathSegment>,
}

/// The path of the root's own interval, latest segment first.
pub(crate) fn response(trace: &Trace, tree: &Tree, options: &PathOptions) -> Vec<PathSegment> {
    let Some(root) = tree.spans().first() else { return Vec::new() };
    // Of the tree and not of the trace, which may have many roots.
    let spans = tree.spans().len();
    let mut segments = Vec::with_capacity(spans + spans / 2);
    if let Some(whole) = Interval::of(&trace.spans()[*root as usize]) {
        through(trace, *root, whole, options, &mut segments);
    }
    segments
}

/// Appends the path of a span within `bounds`, latest segment first.
pub(crate) fn through(
    trace: &Trace,
    span: u32,
    bounds: Interval,
    options: &PathOptions,
    segments: &mut Vec<PathSegment>,
) {
    let taken = std::mem::take(segments);
    let room = trace.len().min(ROOM);
    let (frames, arena) = (Vec::with_capacity(room), Vec::with_capacity(room));
    let mut walk = Walk { trace, options, frames, arena, segments: taken };
    walk.enter(span, bounds);
    while walk.step() {}
    *segments = walk.segments;
}

impl Walk<'_> {
    /// Opens a frame for the part `at` of a span.
    fn enter(&mut self, span: u32, at: Interval) {
        let kids = self.arena.len();
        let spans = self.trace.spans();
        for child in self.trace.children(span as usize) {
            let node = &spans[*child as usize];
            if may_block(&spans[span as usize], node, self.options.overrun)
                && let Some(at) = at.clip(node)
            {
                self.arena.push(Kid { span: *child, at });
            }
        }
        // Last end first; of equal ends the longest, then the smallest id. The index settles the rest.
        if self.arena.len() - kids > 1 {
            self.arena[kids..].sort_unstable_by_key(|kid| {
                (Reverse(kid.at.end), kid.at.start, spans[kid.span as usize].span_id, kid.span)
            });
        }
        let edge = network_edge(self.trace, span);
        self.frames.push(Frame { span, edge, from: at.start, to: at.end, kids, next: kids });
    }

    /// Goes on to the next child of the innermost frame, or out of the frame. False when all are left.
    fn step(&mut self) -> bool {
        let Some(frame) = self.frames.last_mut() else { return false };
        // A child that is passed over stays so: the walk only goes back in time.
        let reach = frame.to.saturating_add(self.options.epsilon);
        let fits = |kid: &Kid| kid.at.end <= reach && kid.at.start < frame.to;
        let passed = self.arena[frame.next..].iter().position(fits);
        match passed {
            Some(passed) => {
                let kid = self.arena[frame.next + passed];
                let end = kid.at.end.min(frame.to);
                emit(&mut self.segments, frame, end);
                frame.to = kid.at.start;
                frame.next += passed + 1;
                self.enter(kid.span, Interval { start: kid.at.start, end });
            }
            None => {
                emit(&mut self.segments, frame, frame.from);
                self.arena.truncate(frame.kids);
                self.frames.pop();
            }
        }
        true
    }
}

/// Gives the frame's span the time from `start` to where the walk has come.
fn emit(segments: &mut Vec<PathSegment>, frame: &Frame, start: UnixNanos) {
    if start < frame.to {
        segments.push(PathSegment { span: frame.span, edge: frame.edge, start, end: frame.to });
    }
}

/// The edge that owns a CLIENT span's own time: to its first SERVER child of another service.
pub(crate) fn network_edge(trace: &Trace, client: u32) -> Option<(u32, u32)> {
    let spans = trace.spans();
    let span = spans.get(client as usize).filter(|span| span.kind == SpanKind::Client)?;
    let is_remote = |i: &&u32| {
        let child = &spans[**i as usize];
        child.kind == SpanKind::Server && child.service != span.service
    };
    trace.children(client as usize).iter().find(is_remote).map(|server| (client, *server))
}
