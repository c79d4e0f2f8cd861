//! A trace: the spans of one trace id, arranged as a forest.
//!
//! Clients lose spans, send them twice, reuse ids and link them in circles. [`Trace::from_spans`]
//! repairs all of that, says what it repaired, and the result has no cycle and at least one span:
//!
//! ```text
//!   as sent                          as arranged
//!   A parent -                       A            root
//!   B parent A                       +-- B
//!   B parent A   (sent twice)            |        Duplicate: one B is dropped
//!   C parent X   (X never came)      C            MissingParent: a root of its own
//!   D parent E, E parent D           D            Cycle: cut where it starts first
//!                                    +-- E
//! ```
//!
//! The arrangement depends on the spans only, never on the order in which they came. The one exception
//! is two spans equal in everything but the service, both of whose services have equally many spans.

mod canon;
mod link;
#[cfg(test)]
mod tests;

use crate::{NanoDuration, SpanId, SpanNode, UnixNanos};

/// "No parent" in the parent array. A trace holds fewer spans than this.
const NO_PARENT: u32 = u32::MAX;

/// What was wrong with a span, and was repaired.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum AnomalyKind {
    /// The parent is not in the trace; the span became a root.
    MissingParent,
    /// The span names itself as its parent; it became a root.
    SelfParent,
    /// The span was the earliest of a circle of parents; it became a root.
    Cycle,
    /// The same span again, byte for byte; it was dropped.
    Duplicate,
    /// Another span has the same id and different content; both were kept.
    IdConflict,
    /// A SERVER span has the id of its CLIENT span (Zipkin); it became the CLIENT's child.
    SharedId,
    /// The span ends before it starts; it counts as empty.
    EndBeforeStart,
    /// A second span without a parent.
    SecondRoot,
    /// The span ends before its parent starts: their clocks disagree. It has no part of its parent's time.
    BeforeParent,
}

impl AnomalyKind {
    /// All kinds, in the order of their discriminants.
    pub const ALL: [Self; 9] = [
        Self::MissingParent,
        Self::SelfParent,
        Self::Cycle,
        Self::Duplicate,
        Self::IdConflict,
        Self::SharedId,
        Self::EndBeforeStart,
        Self::SecondRoot,
        Self::BeforeParent,
    ];

    /// The kind in `snake_case`, as the API and the metrics say it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::MissingParent => "missing_parent",
            Self::SelfParent => "self_parent",
            Self::Cycle => "cycle",
            Self::Duplicate => "duplicate",
            Self::IdConflict => "id_conflict",
            Self::SharedId => "shared_id",
            Self::EndBeforeStart => "end_before_start",
            Self::SecondRoot => "second_root",
            Self::BeforeParent => "before_parent",
        }
    }

    const fn bit(self) -> u16 {
        1 << self as u8
    }
}

/// A repair that [`Trace::from_spans`] made, and the span it concerns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Anomaly {
    /// What was wrong.
    pub kind: AnomalyKind,
    /// The span it was wrong with.
    pub span_id: SpanId,
}

/// The spans of one trace: never empty, and a forest (no cycles) by construction.
///
/// Spans are in canonical order and named by their index in it: by start, then end (later first), then
/// span id, then content. So a parent usually comes before its children, and siblings are always
/// sorted by start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trace {
    spans: Vec<SpanNode>,
    parents: Vec<u32>,
    /// Where the children of span `i` begin in `children`; one entry more than there are spans.
    offsets: Vec<u32>,
    children: Vec<u32>,
    roots: Vec<u32>,
    primary: u32,
    end: UnixNanos,
    anomalies: u16,
    in_order: bool,
}

impl Trace {
    /// Arranges spans, in whatever order they came. `None` if there are none.
    ///
    /// The anomalies are sorted by kind, then by the span's place in the canonical order. O(n log n)
    /// time, and no recursion.
    pub fn from_spans(spans: Vec<SpanNode>) -> Option<(Self, Vec<Anomaly>)> {
        let mut found = Vec::new();
        let mut spans = canon::sort(&spans);
        canon::drop_duplicates(&mut spans, &mut found);
        spans.truncate(NO_PARENT as usize - 1);
        if spans.is_empty() {
            return None;
        }
        let parents = link::parents(&spans, &mut found);
        let trace = Self::arrange(spans, parents, &mut found);
        found.sort_by_key(|anomaly| anomaly.kind);
        Some((trace, found))
    }

    fn arrange(spans: Vec<SpanNode>, parents: Vec<u32>, found: &mut Vec<Anomaly>) -> Self {
        let (offsets, children) = link::children(&parents);
        let in_order = link::in_order(&parents);
        let roots: Vec<u32> =
            (0..).zip(&parents).filter(|(_, parent)| **parent == NO_PARENT).map(|(i, _)| i).collect();
        let primary = primary_root(&spans, &roots);
        let stray = |i: &&u32| **i != primary && spans[**i as usize].parent.is_none();
        for i in roots.iter().filter(stray) {
            found.push(Anomaly { kind: AnomalyKind::SecondRoot, span_id: spans[*i as usize].span_id });
        }
        for span in spans.iter().filter(|span| span.end < span.start) {
            found.push(Anomaly { kind: AnomalyKind::EndBeforeStart, span_id: span.span_id });
        }
        if !in_order {
            // Spans are sorted by start, so that otherwise none begins before its parent.
            found.extend(before_parents(&spans, &parents));
        }
        let end = spans.iter().map(|span| span.end.max(span.start)).max().unwrap_or_default();
        let anomalies = found.iter().fold(0, |bits, anomaly| bits | anomaly.kind.bit());
        Self { spans, parents, offsets, children, roots, primary, end, anomalies, in_order }
    }

    /// The spans in canonical order.
    pub fn spans(&self) -> &[SpanNode] {
        &self.spans
    }

    /// How many spans there are, at least 1.
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    /// Always false: a trace has at least one span.
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// The parent of span `i`; `None` for a root or where there is no span `i`.
    pub fn parent(&self, i: usize) -> Option<usize> {
        self.parents.get(i).filter(|parent| **parent != NO_PARENT).map(|parent| *parent as usize)
    }

    /// The children of span `i`, sorted by start (canonical order). Empty where there is no span `i`.
    pub fn children(&self, i: usize) -> &[u32] {
        match (self.offsets.get(i), self.offsets.get(i.saturating_add(1))) {
            (Some(from), Some(to)) => &self.children[*from as usize..*to as usize],
            _ => &[],
        }
    }

    /// The spans without a parent here: true roots, orphans, and where a cycle was cut. Ascending,
    /// never empty.
    pub fn roots(&self) -> &[u32] {
        &self.roots
    }

    /// The root that stands for the trace: the true root with the earliest start (of several, the one
    /// with the smallest id), or the best of the other roots by the same order.
    pub fn primary_root(&self) -> usize {
        self.primary as usize
    }

    /// Whether every span comes before its children. Only clocks that disagree make it otherwise.
    pub fn is_in_order(&self) -> bool {
        self.in_order
    }

    /// Whether some root names no parent at all, so the trace's beginning is known.
    pub fn has_true_root(&self) -> bool {
        self.spans[self.primary_root()].parent.is_none()
    }

    /// Whether arranging the trace found an anomaly of this kind.
    pub fn has_anomaly(&self, kind: AnomalyKind) -> bool {
        self.anomalies & kind.bit() != 0
    }

    /// The earliest start.
    pub fn start(&self) -> UnixNanos {
        // Canonical order is by start.
        self.spans[0].start
    }

    /// The latest end, or the latest start if that is later (a span that ends before it starts).
    pub fn end(&self) -> UnixNanos {
        self.end
    }

    /// From the earliest start to the latest end.
    pub fn duration(&self) -> NanoDuration {
        self.end().since(self.start())
    }
}

/// The spans that are over before their parent starts.
fn before_parents<'a>(spans: &'a [SpanNode], parents: &'a [u32]) -> impl Iterator<Item = Anomaly> + 'a {
    let early = move |(span, parent): &(&SpanNode, &u32)| {
        spans.get(**parent as usize).is_some_and(|parent| span.end.max(span.start) < parent.start)
    };
    let anomaly =
        |(span, _): (&SpanNode, _)| Anomaly { kind: AnomalyKind::BeforeParent, span_id: span.span_id };
    spans.iter().zip(parents).filter(early).map(anomaly)
}

fn primary_root(spans: &[SpanNode], roots: &[u32]) -> u32 {
    let order = |i: &u32| {
        let span = &spans[*i as usize];
        (span.parent.is_some(), span.start, span.span_id, *i)
    };
    roots.iter().copied().min_by_key(order).unwrap_or(0)
}
