//! One trace that is being put together.

use std::hash::BuildHasher;

use hashbrown::{DefaultHashBuilder, HashTable};
use trace_model::{SpanNode, UnixNanos};

use crate::skeleton::{HeldSpan, Location, Skeleton};
use crate::totals::Totals;

/// Above this many spans a trace keeps an index to recognise repeated ones; below it a scan is faster.
const SCAN_MAX: usize = 32;

/// Whether a trace still waits for spans.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Spans may be on their way.
    Open,
    /// It was quiet for long enough; held only until its spans and its analysis are sealed.
    Finished,
}

/// A trace that is being put together.
#[derive(Debug)]
pub struct OpenTrace {
    spans: Vec<Skeleton>,
    /// Places in `spans`, by span id and content.
    index: Option<Box<HashTable<u32>>>,
    /// What was sealed of it and is not held, summed up.
    away: Option<Box<Totals>>,
    /// The earliest start and the latest end of all its spans, held or not.
    start: UnixNanos,
    end: UnixNanos,
    pub(crate) first_seen: UnixNanos,
    pub(crate) last_seen: UnixNanos,
    /// `UnixNanos(u64::MAX)` until a root has come.
    pub(crate) root_seen: UnixNanos,
    /// Arrivals from here on are where a start after a crash must look to find that this trace is open.
    pub(crate) open_since: UnixNanos,
    /// What was sealed of it from arrivals since then is held; what arrived earlier was not looked for.
    pub(crate) searched_since: UnixNanos,
    /// The last live batch with a span of it.
    pub(crate) last_batch: u64,
    /// The cut period in which a span of it came last.
    pub(crate) touched: u32,
    pub(crate) phase: Phase,
    /// Whether an earlier analysis of this trace may have been sealed.
    pub(crate) revised: bool,
    /// Whether there is something that no analysis has seen.
    pub(crate) unanalysed: bool,
    /// Whether it had been finished before: what comes now is late.
    pub(crate) late: bool,
}

impl OpenTrace {
    pub(crate) fn new(now: UnixNanos, arrived: UnixNanos) -> Self {
        Self {
            spans: Vec::new(),
            index: None,
            away: None,
            start: UnixNanos(u64::MAX),
            end: UnixNanos(0),
            first_seen: now,
            last_seen: now,
            root_seen: UnixNanos(u64::MAX),
            open_since: arrived,
            searched_since: UnixNanos(u64::MAX),
            last_batch: 0,
            touched: 0,
            phase: Phase::Open,
            revised: false,
            unanalysed: false,
            late: false,
        }
    }

    /// Spans that are held.
    pub fn span_count(&self) -> usize {
        self.spans.len()
    }

    /// Whether spans of it that were sealed are not held: too many, or there was no room to take them back.
    pub fn is_partly_held(&self) -> bool {
        self.away.is_some()
    }

    /// Whether it had been finished, so that a span which comes now is late.
    pub fn is_late(&self) -> bool {
        self.late
    }

    /// Whether a span without a parent has come.
    pub fn has_root(&self) -> bool {
        self.root_seen != UnixNanos(u64::MAX)
    }

    /// Sums over all its spans, held or not.
    pub fn totals(&self) -> Totals {
        let mut totals = self.away.as_deref().cloned().unwrap_or_default();
        self.spans.iter().filter_map(Skeleton::node).for_each(|node| totals.add(&node));
        totals
    }

    /// The skeletons that are held, in order of arrival.
    pub fn nodes(&self) -> Vec<SpanNode> {
        let mut nodes = Vec::with_capacity(self.spans.len());
        nodes.extend(self.spans.iter().filter_map(Skeleton::node));
        nodes
    }

    /// From the earliest start to the latest end of all its spans.
    pub fn extent(&self) -> (UnixNanos, UnixNanos) {
        (self.start.min(self.end), self.end)
    }

    /// Lets go of the spans up to live batch `sealed`; they are summed up in what is away. How many went.
    pub(crate) fn let_go(&mut self, hasher: &DefaultHashBuilder, sealed: u64) -> usize {
        let before = self.spans.len();
        let mut away = self.away.take().unwrap_or_default();
        self.spans.retain(|span| {
            let stays = span.location(sealed) != Location::Sealed;
            if !stays && let Some(node) = span.node() {
                away.add(&node);
            }
            stays
        });
        let gone = before - self.spans.len();
        self.away = (away.spans > 0).then_some(away);
        self.index_anew(hasher);
        gone
    }

    /// What was sealed up to live batch `sealed` is all in `totals`, whatever of it is held. How many spans went.
    pub(crate) fn put_away(&mut self, hasher: &DefaultHashBuilder, totals: Totals, sealed: u64) -> usize {
        let before = self.spans.len();
        self.spans.retain(|span| span.location(sealed) != Location::Sealed);
        self.start = self.start.min(totals.start);
        self.end = self.end.max(totals.end);
        self.away = Some(Box::new(totals));
        self.index_anew(hasher);
        before - self.spans.len()
    }

    fn index_anew(&mut self, hasher: &DefaultHashBuilder) {
        self.spans.shrink_to(self.spans.len() + 4);
        self.index = None;
        if self.spans.len() > SCAN_MAX {
            self.index_new(hasher);
        }
    }

    /// The spans in order of arrival, given the last live batch that was sealed.
    pub(crate) fn spans(&self, sealed: u64) -> impl Iterator<Item = HeldSpan> + '_ {
        self.spans
            .iter()
            .filter_map(move |span| Some(HeldSpan { node: span.node()?, location: span.location(sealed) }))
    }

    /// Open or finished.
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// Whether an earlier analysis of this trace may have been sealed.
    pub fn is_revised(&self) -> bool {
        self.revised
    }

    /// Whether an analysis that takes the place of an earlier one is to come, or waits to be sealed. Not so of a trace that
    /// was taken back for spans which so far were all repeated.
    pub fn is_being_revised(&self) -> bool {
        self.revised && (self.unanalysed || self.phase == Phase::Finished)
    }

    /// What was sealed of it from arrivals since then is held; what arrived earlier was not looked for.
    pub fn searched_since(&self) -> UnixNanos {
        self.searched_since
    }

    pub(crate) fn contains(&self, hasher: &DefaultHashBuilder, node: &SpanNode) -> bool {
        let Some(index) = &self.index else { return self.spans.iter().any(|span| span.is(node)) };
        let hash = hasher.hash_one((*node.span_id.as_bytes(), node.content));
        index.find(hash, |&at| self.spans.get(at as usize).is_some_and(|span| span.is(node))).is_some()
    }

    /// Adds a span, of which some `more` come at once.
    pub(crate) fn push(
        &mut self,
        hasher: &DefaultHashBuilder,
        node: &SpanNode,
        location: Location,
        more: usize,
    ) {
        if self.spans.len() == self.spans.capacity() {
            // Doubling would leave a third of all memory for open traces unused.
            self.spans.reserve_exact((self.spans.len() / 4 + 4).max(more + 1));
        }
        self.spans.push(Skeleton::new(node, location));
        self.start = self.start.min(node.start);
        self.end = self.end.max(node.end).max(node.start);
        if let Location::Live { batch, .. } = location {
            self.last_batch = self.last_batch.max(batch);
        }
        if self.spans.len() > SCAN_MAX {
            self.index_new(hasher);
        }
    }

    /// Gives the spans of a live batch other rows.
    pub(crate) fn renumber(&mut self, batch: u64, row: &mut dyn FnMut(u32) -> u32) {
        // They came last.
        for span in self.spans.iter_mut().rev() {
            if !span.renumber(batch, row) {
                break;
            }
        }
    }

    fn index_new(&mut self, hasher: &DefaultHashBuilder) {
        let spans = &self.spans;
        let hash_at = |at: &u32| spans.get(*at as usize).map_or(0, |span| hasher.hash_one(span.identity()));
        let index = self.index.get_or_insert_default();
        for at in index.len() as u32..spans.len() as u32 {
            index.insert_unique(hash_at(&at), at, hash_at);
        }
    }
}
