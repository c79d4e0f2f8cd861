//! A pool of recorded requests: real traces, sent over and over with new ids and times.
//!
//! Traces keep their own times, from the first start to the last end, and their order. Between them the time is
//! that of the load: recorded over hours, they start within one second, as they would if so many came. Otherwise
//! each pass would be spans of hours ago, and two recordings would lie a year apart.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use otlp_wire::{Walked, WireLimits, walk};

use crate::encode::{Encoded, Spot};
use crate::pool::shift;
use crate::stretch::recorded;

/// The recorded requests, put together to about `batch` spans each, and the services in them. Times are relative to
/// the start of the pool; traces start evenly over `window_nanos`.
///
/// # Errors
/// If a file cannot be read, is not OTLP/JSON lines, or has a span whose ids or times are not where encoders
/// write them.
pub fn requests(
    files: &[impl AsRef<Path>],
    batch: usize,
    window_nanos: u64,
) -> Result<(Vec<Encoded>, Vec<String>)> {
    let mut encoded = Vec::new();
    let mut services = BTreeSet::new();
    let mut starts = BTreeMap::new();
    for file in files {
        let mut joined: Vec<u8> = Vec::new();
        let mut spans = 0;
        for request in recorded(file.as_ref())? {
            // The concatenation of two messages is the message of both.
            joined.extend_from_slice(&request);
            spans += count(&request)?;
            if spans >= batch {
                encoded.push(spots(std::mem::take(&mut joined), &mut services, &mut starts)?);
                spans = 0;
            }
        }
        if spans > 0 {
            encoded.push(spots(joined, &mut services, &mut starts)?);
        }
    }
    ensure!(!encoded.is_empty(), "no spans were recorded");
    let shifts = shifts(&starts, window_nanos);
    for request in &mut encoded {
        for spot in &request.spots {
            let by = shifts.get(&id_at(&request.bytes, spot)).copied().unwrap_or_default();
            for at in [spot.start, spot.end, spot.event] {
                if at != 0 {
                    shift(&mut request.bytes, at, by);
                }
            }
        }
    }
    Ok((encoded, services.into_iter().collect()))
}

/// What to add to the times of each trace, wrapping, so that they start evenly over the window.
fn shifts(starts: &BTreeMap<[u8; 16], u64>, window_nanos: u64) -> BTreeMap<[u8; 16], u64> {
    let mut order: Vec<(u64, [u8; 16])> = starts.iter().map(|(id, start)| (*start, *id)).collect();
    order.sort_unstable();
    let step = window_nanos / (order.len() as u64).max(1);
    let places = order.into_iter().zip(0..);
    places.map(|((start, id), place)| (id, (place * step).wrapping_sub(start))).collect()
}

fn id_at(bytes: &[u8], spot: &Spot) -> [u8; 16] {
    let mut id = [0; 16];
    id.copy_from_slice(&bytes[spot.trace_id as usize..][..16]);
    id
}

fn count(request: &Bytes) -> Result<usize> {
    let mut walked = Walked::new();
    walk(request, &WireLimits::default(), &mut walked)?;
    Ok(walked.spans.len())
}

fn spots(
    bytes: Vec<u8>,
    services: &mut BTreeSet<String>,
    starts: &mut BTreeMap<[u8; 16], u64>,
) -> Result<Encoded> {
    let bytes = Bytes::from(bytes);
    let mut walked = Walked::new();
    walk(&bytes, &WireLimits::default(), &mut walked)?;
    ensure!(walked.rejected_spans == 0, "{} recorded spans are not valid", walked.rejected_spans);
    for group in 0..walked.groups.len() as u32 {
        let name = walked.service(group, &bytes).unwrap_or_default();
        services.insert(String::from_utf8_lossy(name).into_owned());
    }
    let mut spots = Vec::with_capacity(walked.spans.len());
    for span in &walked.spans {
        let (offset, len) = span.span;
        let message = &bytes[offset as usize..][..len as usize];
        let spot = spot(message, offset).context("a recorded span without ids or times")?;
        let first = starts.entry(id_at(&bytes, &spot)).or_insert(u64::MAX);
        *first = span.start.0.min(*first);
        spots.push(spot);
    }
    Ok(Encoded { bytes: bytes.to_vec(), spots })
}

/// Where the ids and times of a span are; `base` is where its message begins.
fn spot(message: &[u8], base: u32) -> Option<Spot> {
    let mut spot = Spot { trace_id: 0, span_id: 0, parent_id: 0, start: 0, end: 0, event: 0 };
    let mut at = 0;
    while at < message.len() {
        let tag = varint(message, &mut at)?;
        let here = base + u32::try_from(at).ok()?;
        let length = match tag & 7 {
            0 => {
                varint(message, &mut at)?;
                continue;
            }
            1 => 8,
            5 => 4,
            _ => varint(message, &mut at)? as usize,
        };
        let body = base + u32::try_from(at).ok()?;
        match (tag >> 3, length) {
            (1, 16) => spot.trace_id = body,
            (2, 8) => spot.span_id = body,
            (4, 8) => spot.parent_id = body,
            (7, 8) => spot.start = here,
            (8, 8) => spot.end = here,
            // An event begins with its time, as encoders write it.
            (11, 9..) if message.get(at) == Some(&9) => spot.event = body + 1,
            _ => {}
        }
        at = at.checked_add(length)?;
    }
    (at == message.len() && spot.trace_id > 0 && spot.span_id > 0 && spot.start > 0 && spot.end > 0)
        .then_some(spot)
}

fn varint(bytes: &[u8], at: &mut usize) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = *bytes.get(*at)?;
        *at += 1;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two traces a year apart, the later one first in the file, and their parts in two requests.
    const RECORDED: &str = r#"{"resourceSpans":[{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"b"}}]},"scopeSpans":[{"spans":[{"traceId":"22222222222222222222222222222222","spanId":"0000000000000002","name":"late","kind":2,"startTimeUnixNano":"1700000000000000000","endTimeUnixNano":"1700000000000000500"}]}]}]}
{"resourceSpans":[{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"a"}}]},"scopeSpans":[{"spans":[{"traceId":"11111111111111111111111111111111","spanId":"0000000000000001","name":"early","kind":2,"startTimeUnixNano":"1660000000000000000","endTimeUnixNano":"1660000000000000900"},{"traceId":"22222222222222222222222222222222","spanId":"0000000000000003","parentSpanId":"0000000000000002","name":"child","kind":1,"startTimeUnixNano":"1700000000000000100","endTimeUnixNano":"1700000000000000300","events":[{"timeUnixNano":"1700000000000000200","name":"e"}]}]}]}]}
"#;

    #[test]
    fn traces_start_within_the_window_and_keep_their_own_times() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("recorded.jsonl");
        std::fs::write(&file, RECORDED).unwrap();
        let (requests, services) = requests(&[file], 1, 1_000).unwrap();
        assert_eq!(services, ["a", "b"]);
        assert_eq!(requests.len(), 2);
        let mut times = Vec::new();
        for request in &requests {
            for spot in &request.spots {
                let at = |at: u32| {
                    let field = request.bytes[at as usize..][..8].try_into().unwrap();
                    if at == 0 { 0 } else { u64::from_le_bytes(field) }
                };
                times.push([at(spot.start), at(spot.end), at(spot.event)]);
            }
        }
        assert_eq!(times, [[500, 1_000, 0], [0, 900, 0], [600, 800, 700]]);
    }
}
