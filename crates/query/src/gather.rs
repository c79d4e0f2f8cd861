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
    /// Bytes that it alone keeps in memory.
    fn held_bytes(&self) -> usize;
    /// Bytes that it takes on a page, behind the span that is before it there.
    fn bytes_after(&self, before: Option<&Self>) -> usize;
}

impl Placed for SpanNode {
    fn place(&self) -> SpanPlace {
        self.into()
    }

    fn held_bytes(&self) -> usize {
        0
    }

    fn bytes_after(&self, _: Option<&Self>) -> usize {
        0
    }
}

/// Keeps the spans that come first, so many or so many bytes of them.
///
/// Spans come in any order. Those kept are all that lie before the first that was left out: one more in between never
/// makes the page shorter in bytes, so what did not fit before does not fit later.
#[derive(Debug)]
pub(crate) struct First<T> {
    spans: Vec<T>,
    held: usize,
    after: Option<SpanPlace>,
    most: usize,
    bytes_most: usize,
    /// The first span that was left out, if one was. Whatever lies behind it belongs to a later page, even if it is small
    /// enough for this one.
    until: Option<SpanPlace>,
}

impl<T: Placed> First<T> {
    pub(crate) fn new(after: Option<SpanPlace>, most: usize, bytes_most: usize) -> Self {
        Self { spans: Vec::new(), held: 0, after, most: most.max(1), bytes_most, until: None }
    }

    pub(crate) fn add(&mut self, span: T) {
        let place = span.place();
        if self.after.is_some_and(|after| place <= after) || self.until.is_some_and(|until| place >= until) {
            return;
        }
        self.held = self.held.saturating_add(span.held_bytes());
        if self.spans.len() == self.spans.capacity() {
            self.spans.reserve_exact(self.spans.len() / 4 + 16);
        }
        self.spans.push(span);
        if self.spans.len() > self.most.saturating_add(self.most / 4 + 16)
            || self.held > self.bytes_most.saturating_mul(2)
        {
            self.prune();
        }
    }

    fn prune(&mut self) {
        self.spans.sort_unstable_by_key(T::place);
        self.spans.dedup_by_key(|span| span.place());
        let fitting = self.fitting();
        if let Some(left_out) = self.spans.get(fitting) {
            self.until = Some(left_out.place());
        }
        self.spans.truncate(fitting);
        self.held = self.spans.iter().map(T::held_bytes).sum();
    }

    /// How many of the sorted spans fit. The first does in any case.
    fn fitting(&self) -> usize {
        let (mut bytes, mut before) = (0_usize, None);
        for (at, span) in self.spans.iter().enumerate().take(self.most) {
            bytes = bytes.saturating_add(span.bytes_after(before));
            if at > 0 && bytes > self.bytes_most {
                return at;
            }
            before = Some(span);
        }
        self.spans.len().min(self.most)
    }

    /// The spans in order, and whether there are more.
    pub(crate) fn done(mut self) -> (Vec<T>, bool) {
        self.prune();
        (self.spans, self.until.is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
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

    /// A span at a place, of so many bytes, and of a context of so many that is written wherever it changes.
    #[derive(Debug, Clone, Copy)]
    struct Weighed {
        at: u64,
        bytes: usize,
        context: usize,
    }

    impl Placed for Weighed {
        fn place(&self) -> SpanPlace {
            (&node(self.at)).into()
        }

        fn held_bytes(&self) -> usize {
            self.bytes
        }

        fn bytes_after(&self, before: Option<&Self>) -> usize {
            let same = before.is_some_and(|before| before.context == self.context);
            self.bytes + if same { 0 } else { self.context }
        }
    }

    fn without_context(at: u64, bytes: usize) -> Weighed {
        Weighed { at, bytes, context: 0 }
    }

    /// Pages of these spans in this order of arrival, by place.
    fn pages(spans: &[Weighed], most: usize, bytes_most: usize) -> Vec<Vec<Weighed>> {
        let (mut after, mut pages) = (None, Vec::new());
        loop {
            let mut first = First::new(after, most, bytes_most);
            spans.iter().for_each(|span| first.add(*span));
            let (page, more) = first.done();
            after = page.last().map(Placed::place);
            pages.push(page);
            if !more {
                return pages;
            }
        }
    }

    #[test]
    fn a_small_span_behind_what_was_left_out_waits_for_its_page() {
        let spans = [(1, 6), (2, 5), (3, 5), (4, 5), (5, 3)].map(|(at, bytes)| without_context(at, bytes));
        let places: Vec<Vec<u64>> =
            pages(&spans, 100, 10).iter().map(|page| page.iter().map(|span| span.at).collect()).collect();
        assert_eq!(places, [vec![1], vec![2, 3], vec![4, 5]]);
    }

    proptest! {
        #[test]
        fn a_walk_over_pages_gives_each_span_once_in_order_whatever_comes_first(
            spans in (1_usize..80).prop_flat_map(|count| {
                let sized = (0_u64..60, 0_usize..12, 0_usize..4);
                proptest::collection::vec(sized, count)
            }),
            most in 1_usize..40,
            bytes_most in 1_usize..60,
        ) {
            // Of one place there is one span, which may come twice.
            let mut size_of = std::collections::BTreeMap::new();
            for (at, bytes, context) in &spans {
                size_of.entry(*at).or_insert(Weighed { at: *at, bytes: *bytes, context: *context });
            }
            let arriving: Vec<Weighed> = spans.iter().map(|(at, ..)| size_of[at]).collect();
            let pages = pages(&arriving, most, bytes_most);
            let given: Vec<u64> = pages.iter().flatten().map(|span| span.at).collect();
            prop_assert_eq!(given, size_of.keys().copied().collect::<Vec<_>>());
            for page in &pages {
                let before = std::iter::once(None).chain(page.iter().map(Some));
                let bytes: usize = page.iter().zip(before).map(|(span, before)| span.bytes_after(before)).sum();
                prop_assert!(page.len() <= most && (bytes <= bytes_most || page.len() == 1));
            }
        }
    }
}
