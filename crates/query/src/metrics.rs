//! Calls, errors and latency by operation since the process began, for `/metrics`.
//!
//! Sealed spans are added up once a segment, from the histograms that the segment has anyway; live ones are
//! counted when somebody asks.

use hashbrown::HashMap;
use latency::{Exemplar, ExemplarSet, LatencyHistogram};
use segment::{LiveBatch, ReadError, decode_minute};
use trace_model::{OperationId, StatusCode};

use crate::sealed::{Detail, SealedSegment};
use crate::state::State;

/// By operation.
pub type Metrics = HashMap<OperationId, (LatencyHistogram, ExemplarSet)>;

/// What was sealed and what is live, all spans counted once.
pub(crate) fn of_all(state: &State) -> Metrics {
    let sealed = state.metrics.lock();
    let live = state.view.read().live.clone();
    let mut metrics = sealed.clone();
    drop(sealed);
    let replayed = state.replayed_batches.load(std::sync::atomic::Ordering::Relaxed);
    live.iter().for_each(|batch| add_batch(&mut metrics, batch, replayed));
    metrics
}

/// Adds a segment's spans; nothing if it cannot be read.
pub(crate) fn add_segment(
    metrics: &mut Metrics,
    segment: &SealedSegment,
    detail: &Detail,
) -> Result<(), ReadError> {
    let mut rows = Vec::new();
    for minute in &segment.meta.minutes {
        rows.extend(decode_minute(&segment.handle, *minute, &|_, _| true)?);
    }
    for row in rows {
        let (histogram, exemplars) = metrics.entry(detail.operation(row.operation)).or_default();
        histogram.merge(&row.histogram);
        exemplars.merge(&row.exemplars);
    }
    Ok(())
}

/// Adds the spans of a batch, unless it was replayed: the process that took it in has counted it.
pub(crate) fn add_batch(metrics: &mut Metrics, batch: &LiveBatch, replayed: u64) {
    if batch.number <= replayed {
        return;
    }
    for row in &batch.rows {
        let node = &row.node;
        let error = node.status == StatusCode::Error;
        let (histogram, exemplars) = metrics.entry(node.operation).or_default();
        histogram.record(node.duration(), error);
        let exemplar = Exemplar {
            trace_id: row.trace_id,
            span_id: node.span_id,
            duration: node.duration(),
            time: node.end,
        };
        exemplars.observe(exemplar, error);
    }
}
