//! Calls, errors and latency by operation since the process began, for `/metrics`.
//!
//! Sealed spans are added up once a segment, from the histograms that the segment has anyway; live ones are
//! counted when somebody asks. Both are counted by whole buckets of histograms, so that no number ever falls.

use hashbrown::HashMap;
use hashbrown::hash_map::Entry;
use latency::{Exemplar, ExemplarSet, LatencyHistogram};
use segment::{LiveBatch, ReadError, decode_minute};
use trace_model::{NanoDuration, OperationId, StatusCode};

use crate::sealed::{Detail, SealedSegment};
use crate::state::State;

/// How many bounds there are.
const BOUNDS: usize = 16;
/// The least of them; each of the others is twice the one before it.
const FIRST_BOUND: NanoDuration = NanoDuration::from_millis(2);
/// Operations that are told apart, unless said otherwise.
const OPERATIONS_MAX: usize = 10_000;

/// Calls of one operation: how many, how many failed, how long they took.
#[derive(Debug, Clone, Default)]
pub struct CallTotals {
    /// Durations by the first bound that their bucket does not exceed.
    within: [u64; BOUNDS],
    count: u64,
    errors: u64,
    sum_nanos: u128,
    exemplars: ExemplarSet,
}

impl CallTotals {
    /// Adds spans by their histogram, and some of them that are examples.
    pub fn add(&mut self, histogram: &LatencyHistogram, exemplars: &ExemplarSet) {
        let mut bounds = self.within.iter_mut().zip(bounds()).peekable();
        for (end, count) in histogram.buckets() {
            while bounds.next_if(|(_, bound)| *bound < end).is_some() {}
            let Some((within, _)) = bounds.peek_mut() else { break };
            **within = within.saturating_add(count);
        }
        self.count = self.count.saturating_add(histogram.count());
        self.errors = self.errors.saturating_add(histogram.errors());
        self.sum_nanos = self.sum_nanos.saturating_add(histogram.sum_nanos());
        self.exemplars.merge(exemplars);
    }

    /// Calls.
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// Calls that failed.
    pub const fn errors(&self) -> u64 {
        self.errors
    }

    /// The exact sum of their durations in nanoseconds.
    pub const fn sum_nanos(&self) -> u128 {
        self.sum_nanos
    }

    /// Some of them, at most five.
    pub const fn exemplars(&self) -> &ExemplarSet {
        &self.exemplars
    }

    /// The bounds 2 ms, 4 ms and so on to 65.536 s, and how many calls took no longer: those of all buckets of
    /// [`LatencyHistogram`] that end there or below.
    pub fn cumulative(&self) -> impl Iterator<Item = (NanoDuration, u64)> + '_ {
        let mut sum = 0_u64;
        bounds().zip(&self.within).map(move |(bound, within)| {
            sum = sum.saturating_add(*within);
            (bound, sum)
        })
    }
}

fn bounds() -> impl Iterator<Item = NanoDuration> {
    (0..BOUNDS).map(|n| NanoDuration(FIRST_BOUND.0 << n))
}

/// By operation; those that came when there were enough are one. Which are told apart is decided when an operation is first
/// seen, and stays so: else one would be told apart at one time and not at the next, and its numbers would fall.
#[derive(Debug, Clone)]
pub struct Metrics {
    operations: HashMap<OperationId, CallTotals>,
    others: CallTotals,
    most: usize,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::with_operations(OPERATIONS_MAX)
    }
}

impl Metrics {
    /// Metrics that tell so many operations apart.
    pub(crate) fn with_operations(most: usize) -> Self {
        Self { operations: HashMap::new(), others: CallTotals::default(), most }
    }

    fn of(&mut self, operation: OperationId) -> &mut CallTotals {
        let is_full = self.operations.len() >= self.most;
        match self.operations.entry(operation) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(_) if is_full => &mut self.others,
            Entry::Vacant(new) => new.insert(CallTotals::default()),
        }
    }

    /// Tells the operations of these batches apart from now on, as long as there are not enough. Those of batches that were
    /// replayed do not count.
    fn admit<'a>(&mut self, batches: impl Iterator<Item = &'a LiveBatch>, replayed: u64) {
        for row in batches.filter(|batch| batch.number > replayed).flat_map(|batch| &batch.rows) {
            if self.operations.len() >= self.most {
                return;
            }
            self.operations.entry(row.node.operation).or_default();
        }
    }

    /// Every operation; `None` for those that are not told apart, if there are any.
    pub(crate) fn into_rows(self) -> impl Iterator<Item = (Option<OperationId>, CallTotals)> {
        let others = Some(self.others).filter(|others| others.count > 0);
        let known = self.operations.into_iter().map(|(id, totals)| (Some(id), totals));
        known.chain(others.map(|others| (None, others)))
    }

    /// Spans of operations that are not told apart.
    pub(crate) fn over_limit(&self) -> u64 {
        self.others.count
    }

    /// Adds a segment's spans; nothing if it cannot be read.
    pub(crate) fn add_segment(&mut self, segment: &SealedSegment, detail: &Detail) -> Result<(), ReadError> {
        let mut rows = Vec::new();
        for minute in &segment.meta.minutes {
            rows.extend(decode_minute(&segment.handle, *minute, &|_, _| true)?);
        }
        for row in rows {
            self.of(detail.operation(row.operation)).add(&row.histogram, &row.exemplars);
        }
        Ok(())
    }

    /// Adds the spans of batches, unless they were replayed: the process that took those in has counted them.
    pub(crate) fn add_batches<'a>(&mut self, batches: impl Iterator<Item = &'a LiveBatch>, replayed: u64) {
        let mut added: HashMap<OperationId, (LatencyHistogram, ExemplarSet)> = HashMap::new();
        for row in batches.filter(|batch| batch.number > replayed).flat_map(|batch| &batch.rows) {
            let node = &row.node;
            let error = node.status == StatusCode::Error;
            let (histogram, exemplars) = added.entry(node.operation).or_default();
            histogram.record(node.duration(), error);
            let exemplar = Exemplar {
                trace_id: row.trace_id,
                span_id: node.span_id,
                duration: node.duration(),
                time: node.end,
            };
            exemplars.observe(exemplar, error);
        }
        for (operation, (histogram, exemplars)) in added {
            self.of(operation).add(&histogram, &exemplars);
        }
    }
}

/// What was sealed and what is live, all spans counted once.
pub(crate) fn of_all(state: &State) -> Metrics {
    let mut sealed = state.metrics.lock();
    let live = state.view.read().live.clone();
    let replayed = state.replayed_batches.load(std::sync::atomic::Ordering::Relaxed);
    sealed.admit(live.iter().map(|batch| &**batch), replayed);
    let mut metrics = sealed.clone();
    drop(sealed);
    metrics.add_batches(live.iter().map(|batch| &**batch), replayed);
    metrics
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use segment::SpanRow;
    use trace_assemble::{Assembler, Options};
    use trace_model::{ServiceId, SpanId, SpanKind, SpanNode, TraceId, UnixNanos};

    use super::*;
    use crate::names::NameTable;

    fn of(durations: &[u64]) -> CallTotals {
        let (mut histogram, mut totals) = (LatencyHistogram::new(), CallTotals::default());
        durations.iter().for_each(|nanos| histogram.record(NanoDuration(*nanos), *nanos % 2 == 1));
        totals.add(&histogram, &ExemplarSet::new());
        totals
    }

    #[test]
    fn durations_are_counted_up_to_each_bound() {
        let ms = 1_000_000;
        let totals = of(&[0, 1, ms, 3 * ms, 3 * ms + 1, 30_000 * ms, 100_000 * ms]);
        let up_to: Vec<_> = totals.cumulative().map(|(bound, count)| (bound.0 / ms, count)).collect();
        assert_eq!(up_to[..3], [(2, 3), (4, 5), (8, 5)]);
        assert_eq!(up_to[13..], [(16_384, 5), (32_768, 6), (65_536, 6)]);
        assert_eq!((totals.count(), totals.errors()), (7, 2));
        assert_eq!(totals.sum_nanos(), u128::from(130_007 * ms + 2));
    }

    /// Prometheus takes a number that falls for a process that began anew.
    #[test]
    fn no_number_falls_when_spans_are_added() {
        let (mut all, mut before) = (CallTotals::default(), [0; BOUNDS]);
        let mut random = 0x9e37_79b9_u64;
        for _ in 0..2_000 {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            let mut histogram = LatencyHistogram::new();
            histogram.record(NanoDuration(random >> (24 + random % 16)), false);
            all.add(&histogram, &ExemplarSet::new());
            let now: Vec<u64> = all.cumulative().map(|(_, count)| count).collect();
            assert!(before.iter().zip(&now).all(|(before, now)| before <= now));
            assert!(now.is_sorted() && now.iter().all(|count| *count <= all.count()));
            before.copy_from_slice(&now);
        }
    }

    /// One span of each of these operations.
    fn batch(number: u64, operations: std::ops::Range<u32>) -> LiveBatch {
        let node = |operation| SpanNode {
            span_id: SpanId::new([1; 8]).unwrap(),
            parent: None,
            start: UnixNanos(1),
            end: UnixNanos(2),
            content: 1,
            service: ServiceId(0),
            operation: OperationId(operation),
            kind: SpanKind::Server,
            status: StatusCode::Unset,
        };
        let trace_id = TraceId::new([1; 16]).unwrap();
        let row = |operation| SpanRow { trace_id, node: node(operation), offset: 0, len: 0, context: 0 };
        LiveBatch {
            number,
            seq: number,
            arrival: UnixNanos(1),
            request: bytes::Bytes::new(),
            context_bytes: Vec::new(),
            contexts: Vec::new(),
            rows: operations.map(row).collect(),
        }
    }

    #[test]
    fn no_number_falls_from_one_scrape_to_the_next_beyond_the_limit() {
        let state = State::new(Arc::new(NameTable::default()), Assembler::new(Options::default()));
        let state = state.with_metrics_of(10);
        let mut before: HashMap<Option<OperationId>, u64> = HashMap::new();
        for number in 1..=20 {
            state.add_live(Arc::new(batch(number, 0..40)));
            let now: HashMap<_, _> =
                of_all(&state).into_rows().map(|(id, totals)| (id, totals.count())).collect();
            assert!(before.iter().all(|(id, count)| now.get(id) >= Some(count)), "{before:?} {now:?}");
            assert_eq!((now.len(), now[&None]), (11, number * 30));
            before = now;
        }
    }

    #[test]
    fn operations_over_the_limit_are_one() {
        let mut metrics = Metrics::with_operations(2);
        for (operation, nanos) in [(7, 1), (8, 2), (9, 3), (7, 4), (10, 5)] {
            let mut histogram = LatencyHistogram::new();
            histogram.record(NanoDuration(nanos), false);
            metrics.of(OperationId(operation)).add(&histogram, &ExemplarSet::new());
        }
        assert_eq!(metrics.over_limit(), 2);
        let mut rows: Vec<_> =
            metrics.into_rows().map(|(id, totals)| (id.map(|id| id.0), totals.sum_nanos())).collect();
        rows.sort_unstable();
        assert_eq!(rows, [(None, 8), (Some(7), 5), (Some(8), 2)]);
    }
}
