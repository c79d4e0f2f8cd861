//! Which children a span waits for, and for how long: the policies on spans that break the rules.

use trace_model::{NanoDuration, SpanKind, SpanNode, Trace, UnixNanos};

use crate::flags::Flags;
use crate::tree::Tree;

/// What to make of a child that ends after its parent.
///
/// ```text
/// parent  |=========|
/// child        |=========|       Clip: the parent waited for the part inside
///              |====|            Exclude: it did not wait at all
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Overrun {
    /// Cut the child at the parent's end. Overruns are mostly clocks that disagree by a little.
    #[default]
    Clip,
    /// Cut an overrun of at most 1 ms or 1 % of the parent, and that of a SERVER below its CLIENT (a
    /// timeout); any other child was not waited for.
    Auto,
    /// A child that ends later was not waited for.
    Exclude,
}

/// The part of a child that its parent waited for. Never empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Interval {
    pub(crate) start: UnixNanos,
    pub(crate) end: UnixNanos,
}

impl Interval {
    /// The span's own interval, `None` if it is empty.
    pub(crate) fn of(span: &SpanNode) -> Option<Self> {
        (span.start < span.end).then_some(Self { start: span.start, end: span.end })
    }

    /// What of the span lies in here, `None` if nothing does.
    pub(crate) fn clip(self, span: &SpanNode) -> Option<Self> {
        let (start, end) = (self.start.max(span.start), self.end.min(span.end));
        (start < end).then_some(Self { start, end })
    }
}

/// By how much a child may overrun under [`Overrun::Auto`]: `max(1 ms, 1 % of the parent)`.
fn tolerance(parent: &SpanNode) -> NanoDuration {
    NanoDuration::from_millis(1).max(NanoDuration(parent.duration().0 / 100))
}

fn is_message(parent: &SpanNode, child: &SpanNode) -> bool {
    parent.kind == SpanKind::Producer && child.kind == SpanKind::Consumer
}

fn is_call(parent: &SpanNode, child: &SpanNode) -> bool {
    parent.kind == SpanKind::Client && child.kind == SpanKind::Server
}

/// Whether the parent may have waited for the child, as far as kinds and the overrun policy say. That
/// the intervals meet is left to [`Interval::clip`].
pub(crate) fn may_block(parent: &SpanNode, child: &SpanNode, overrun: Overrun) -> bool {
    if is_message(parent, child) {
        return false;
    }
    if child.end <= parent.end {
        return true;
    }
    match overrun {
        Overrun::Clip => true,
        Overrun::Auto => child.end.since(parent.end) <= tolerance(parent) || is_call(parent, child),
        Overrun::Exclude => false,
    }
}

/// The remarks on one edge of the tree.
fn edge_flags(parent: &SpanNode, child: &SpanNode, overrun: Overrun) -> Flags {
    let mut flags = Flags::default();
    let (Some(outer), Some(_)) = (Interval::of(parent), Interval::of(child)) else { return flags };
    let message = is_message(parent, child);
    if !message && parent.start <= child.start && child.end <= parent.end {
        return flags;
    }
    if message {
        flags.insert(Flags::PRODUCER_CONSUMER);
        return flags;
    }
    let over = child.end.since(parent.end);
    let late = is_call(parent, child) && over > tolerance(parent);
    flags.insert_if(Flags::SERVER_OUTLIVED_CLIENT, late);
    if outer.clip(child).is_none() {
        flags.insert(Flags::DETACHED);
        return flags;
    }
    flags.insert_if(Flags::OVERRUN, over > NanoDuration(0));
    flags.insert_if(Flags::UNDERRUN, child.start < parent.start);
    flags.insert_if(Flags::DETACHED, !may_block(parent, child, overrun));
    flags
}

/// The remarks on all edges of a tree, and on its spans.
pub(crate) fn tree_flags(trace: &Trace, tree: &Tree, overrun: Overrun) -> Flags {
    let mut flags = Flags::default();
    let spans = trace.spans();
    let Some(root) = tree.spans().first() else { return flags };
    flags.insert_if(Flags::END_BEFORE_START, spans[*root as usize].end < spans[*root as usize].start);
    for i in tree.spans().iter().skip(1).map(|i| *i as usize) {
        flags.insert_if(Flags::END_BEFORE_START, spans[i].end < spans[i].start);
        if let Some(parent) = trace.parent(i) {
            flags.insert(edge_flags(&spans[parent], &spans[i], overrun));
        }
    }
    flags
}
