//! The orders of a segment: spans by trace, rows by service and falling duration. Each is sorted into buckets
//! first, so that only few are compared, and then by single numbers, so that comparing them is quick.

use std::cmp::Reverse;
use std::sync::Arc;

use trace_model::TraceId;

use crate::live::{LiveBatch, SpanRow};
use crate::rows::Row;

/// Buckets of trace ids, by their first bits.
const BUCKET_BITS: u32 = 12;

/// The place of its batch in the input, the batch, and a row of it.
pub(crate) type Placed<'a> = (usize, &'a LiveBatch, &'a SpanRow);

/// Low and high half of an id whose bytes are read as one big-endian number.
pub(crate) fn halves(id: &TraceId) -> (u64, u64) {
    let whole = u128::from_be_bytes(*id.as_bytes());
    (whole as u64, (whole >> 64) as u64)
}

#[derive(Clone, Copy, Default)]
struct Spot {
    /// The upper half of the trace id.
    front: u64,
    start: u64,
    batch: u32,
    row: u32,
}

/// By trace, and within it by start: independent of the order of arrival.
pub(crate) fn in_trace_order(batches: &[Arc<LiveBatch>]) -> Vec<Placed<'_>> {
    let rows = || batches.iter().flat_map(|batch| &batch.rows);
    let bucket = |front: u64| (front >> (64 - BUCKET_BITS)) as usize;
    let mut ends = vec![0_usize; 1 << BUCKET_BITS];
    rows().for_each(|row| ends[bucket(halves(&row.trace_id).1)] += 1);
    let begins = running(&mut ends);
    let mut spots = vec![Spot::default(); begins];
    for (at, batch) in batches.iter().enumerate() {
        for (nth, row) in batch.rows.iter().enumerate() {
            let front = halves(&row.trace_id).1;
            let end = &mut ends[bucket(front)];
            spots[*end] = Spot { front, start: row.node.start.0, batch: at as u32, row: nth as u32 };
            *end += 1;
        }
    }
    let mut order: Vec<Placed<'_>> = Vec::with_capacity(spots.len());
    for same in spots.chunk_by_mut(|a, b| bucket(a.front) == bucket(b.front)) {
        same.sort_unstable_by_key(|spot| u128::from(spot.front) << 64 | u128::from(spot.start));
        for spot in same {
            let batch = &*batches[spot.batch as usize];
            order.push((spot.batch as usize, batch, &batch.rows[spot.row as usize]));
        }
    }
    settle_ties(&mut order);
    order
}

/// The ids of some are alike in front, and spans of one trace may start at one time.
fn settle_ties(order: &mut [Placed<'_>]) {
    let full = |(_, _, row): &Placed<'_>| {
        let node = &row.node;
        (row.trace_id, node.start, Reverse(node.end), node.span_id, node.content)
    };
    let settled = |a: &Placed<'_>, b: &Placed<'_>| {
        let front = halves(&a.2.trace_id).1.cmp(&halves(&b.2.trace_id).1);
        front.is_lt() || a.2.trace_id == b.2.trace_id && a.2.node.start < b.2.node.start
    };
    if order.is_sorted_by(settled) {
        return;
    }
    for same in order.chunk_by_mut(|a, b| halves(&a.2.trace_id).1 == halves(&b.2.trace_id).1) {
        if !same.is_sorted_by(|a, b| settled(a, b) || full(a) <= full(b)) {
            same.sort_unstable_by_key(full);
        }
    }
}

/// Turns counts into where each begins; their sum.
fn running(counts: &mut [usize]) -> usize {
    let mut sum = 0;
    for count in counts {
        sum += std::mem::replace(count, sum);
    }
    sum
}

/// By service, falling duration and start. Trace and span numbers stand in for trace id and span order, so ties do
/// not depend on arrival either.
pub(crate) fn by_service(rows: Vec<Row>, services: usize) -> Vec<Row> {
    let mut ends = vec![0; services];
    rows.iter().for_each(|row| ends[row.service as usize] += 1);
    running(&mut ends);
    let mut places = vec![(0_u64, 0_u32); rows.len()];
    for (at, row) in rows.iter().enumerate() {
        let end = &mut ends[row.service as usize];
        places[*end] = (!row.duration, at as u32);
        *end += 1;
    }
    let mut sorted = Vec::with_capacity(rows.len());
    let mut begin = 0;
    for end in ends {
        let service = &mut places[begin..end];
        service.sort_unstable_by_key(|(key, _)| *key);
        for same in service.chunk_by_mut(|a, b| a.0 == b.0).filter(|same| same.len() > 1) {
            same.sort_unstable_by_key(|(_, at)| {
                let row = &rows[*at as usize];
                (row.start, row.trace, row.span)
            });
        }
        sorted.extend(service.iter().map(|(_, at)| rows[*at as usize]));
        begin = end;
    }
    sorted
}
