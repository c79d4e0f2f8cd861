//! Gathers what is told of a trace span by span, in bounded memory.

use std::cmp::Reverse;
use std::sync::Arc;

use trace_assemble::Totals;
use trace_model::{SpanId, SpanNode, UnixNanos};

use crate::gate::{Gate, Pass};

/// Spans of one trace above which it is read while no other of that size is.
pub(crate) const LARGE: usize = 65_536;

/// The spans of a trace, or what is left of them if there are more than were asked for.
#[derive(Debug)]
pub enum Nodes {
    /// All of them.
    All(Vec<SpanNode>),
    /// Sums over all of them.
    Sums(Totals),
}

impl Nodes {
    /// How many spans there are.
    pub fn count(&self) -> u64 {
        match self {
            Self::All(nodes) => nodes.len() as u64,
            Self::Sums(totals) => totals.spans,
        }
    }
}

/// Keeps all spans, or sums over them once there are too many.
#[derive(Debug)]
pub(crate) struct Gathering {
    nodes: Nodes,
    most: usize,
    gate: Option<Arc<Gate>>,
    pass: Option<Pass>,
}

impl Gathering {
    /// Keeps `most` spans at most. Above the usual it waits at the gate, if there is one.
    pub(crate) fn new(most: usize, gate: Option<&Arc<Gate>>) -> Self {
        Self { nodes: Nodes::All(Vec::new()), most, gate: gate.cloned(), pass: None }
    }

    pub(crate) fn add(&mut self, node: &SpanNode) {
        match &mut self.nodes {
            Nodes::All(nodes) if nodes.len() < self.most => {
                if nodes.len() == LARGE && self.pass.is_none() {
                    self.pass = self.gate.as_ref().map(Gate::enter);
                }
                if nodes.len() == nodes.capacity() {
                    // Doubling would leave a third of it unused.
                    nodes.reserve_exact(nodes.len() / 4 + 16);
                }
                nodes.push(*node);
            }
            Nodes::All(_) => {
                self.sum_up();
                self.add(node);
            }
            Nodes::Sums(totals) => totals.add(node),
        }
    }

    /// Spans that are kept.
    pub(crate) fn kept(&self) -> usize {
        match &self.nodes {
            Nodes::All(nodes) => nodes.len(),
            Nodes::Sums(_) => 0,
        }
    }

    /// Keeps no span from here on.
    pub(crate) fn sum_up(&mut self) {
        if let Nodes::All(nodes) = &self.nodes {
            let mut totals = Totals::default();
            totals.extend(nodes);
            self.nodes = Nodes::Sums(totals);
            self.pass = None;
        }
    }

    /// What was gathered, and the way through the gate if it took one.
    pub(crate) fn done(self) -> (Nodes, Option<Pass>) {
        (self.nodes, self.pass)
    }
}

/// A span's place in its trace: by start, the longer first, then by id and content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct SpanPlace {
    /// Its start.
    pub start: UnixNanos,
    /// Its end, the later first.
    pub end: Reverse<UnixNanos>,
    /// Its id.
    pub span_id: SpanId,
    /// The hash of its message.
    pub content: u64,
}

impl From<&SpanNode> for SpanPlace {
    fn from(node: &SpanNode) -> Self {
        Self { start: node.start, end: Reverse(node.end), span_id: node.span_id, content: node.content }
    }
}

/// What lies in the order of a trace's spans.
pub(crate) trait Placed {
    /// Where.
    fn place(&self) -> SpanPlace;
    /// How much of it counts against a bound on bytes.
    fn bytes(&self) -> usize;
}

impl Placed for SpanNode {
    fn place(&self) -> SpanPlace {
        self.into()
    }

    fn bytes(&self) -> usize {
        0
    }
}

/// Keeps the spans that come first, so many or so many bytes of them.
#[derive(Debug)]
pub(crate) struct First<T> {
    spans: Vec<T>,
    bytes: usize,
    after: Option<SpanPlace>,
    most: usize,
    bytes_most: usize,
    /// Whether spans were left out that come after those kept.
    more: bool,
}

impl<T: Placed> First<T> {
    pub(crate) fn new(after: Option<SpanPlace>, most: usize, bytes_most: usize) -> Self {
        Self { spans: Vec::new(), bytes: 0, after, most: most.max(1), bytes_most, more: false }
    }

    pub(crate) fn add(&mut self, span: T) {
        if self.after.is_some_and(|after| span.place() <= after) {
            return;
        }
        self.bytes = self.bytes.saturating_add(span.bytes());
        if self.spans.len() == self.spans.capacity() {
            self.spans.reserve_exact(self.spans.len() / 4 + 16);
        }
        self.spans.push(span);
        if self.spans.len() > self.most.saturating_add(self.most / 4 + 16)
            || self.bytes > self.bytes_most.saturating_mul(2)
        {
            self.prune();
        }
    }

    fn prune(&mut self) {
        self.spans.sort_unstable_by_key(T::place);
        self.spans.dedup_by_key(|span| span.place());
        let mut kept = 0;
        self.bytes = 0;
        for span in self.spans.iter().take(self.most) {
            if kept > 0 && self.bytes + span.bytes() > self.bytes_most {
                break;
            }
            self.bytes += span.bytes();
            kept += 1;
        }
        self.more |= kept < self.spans.len();
        self.spans.truncate(kept);
    }

    /// The spans in order, and whether there are more.
    pub(crate) fn done(mut self) -> (Vec<T>, bool) {
        self.prune();
        (self.spans, self.more)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use trace_model::{OperationId, ServiceId, SpanKind, StatusCode};

    fn node(n: u64) -> SpanNode {
        SpanNode {
            span_id: SpanId::new((n + 1).to_be_bytes()).unwrap(),
            parent: None,
            start: UnixNanos(n),
            end: UnixNanos(n + 1),
            content: n,
            service: ServiceId(n as u32 % 3),
            operation: OperationId(0),
            kind: SpanKind::Internal,
            status: StatusCode::Unset,
        }
    }

    #[test]
    fn what_is_too_many_is_summed_up_and_still_counted() {
        let mut gathering = Gathering::new(5, None);
        (0..5).for_each(|n| gathering.add(&node(n)));
        assert_eq!(gathering.kept(), 5);
        (5..9).for_each(|n| gathering.add(&node(n)));
        assert_eq!(gathering.kept(), 0);
        let Nodes::Sums(totals) = gathering.done().0 else { panic!("too many") };
        assert_eq!((totals.spans, totals.start, totals.end), (9, UnixNanos(0), UnixNanos(9)));
        assert_eq!(totals.services[&ServiceId(0)], (3, 0));
    }

    #[test]
    fn pages_of_the_first_spans_are_the_same_in_every_order() {
        let drawn = |n: u64| n * 37 % 101;
        let (mut after, mut seen) = (None, Vec::new());
        loop {
            let mut first = First::new(after, 7, 1 << 20);
            (0..101).map(drawn).for_each(|n| first.add(node(n)));
            let (page, more) = first.done();
            assert!(page.len() == 7 || !more);
            seen.extend(page.iter().map(|node| node.content));
            after = page.last().map(SpanPlace::from);
            if !more {
                break;
            }
        }
        assert_eq!(seen, (0..101).collect::<Vec<_>>());
    }
}
