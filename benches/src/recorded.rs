//! A pool of recorded requests: real traces, sent over and over with new ids and times.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use otlp_wire::{Walked, WireLimits, walk};

use crate::encode::{Encoded, Spot};
use crate::stretch::recorded;

/// The recorded requests, put together to about `batch` spans each, and the services in them. All times are
/// made relative to the first start.
///
/// # Errors
/// If a file cannot be read, is not OTLP/JSON lines, or has a span whose ids or times are not where encoders
/// write them.
pub fn requests(files: &[impl AsRef<Path>], batch: usize) -> Result<(Vec<Encoded>, Vec<String>)> {
    let mut encoded = Vec::new();
    let mut services = BTreeSet::new();
    let mut first = u64::MAX;
    for file in files {
        let mut joined: Vec<u8> = Vec::new();
        let mut spans = 0;
        for request in recorded(file.as_ref())? {
            // The concatenation of two messages is the message of both.
            joined.extend_from_slice(&request);
            spans += count(&request)?;
            if spans >= batch {
                encoded.push(spots(std::mem::take(&mut joined), &mut services, &mut first)?);
                spans = 0;
            }
        }
        if spans > 0 {
            encoded.push(spots(joined, &mut services, &mut first)?);
        }
    }
    ensure!(!encoded.is_empty(), "no spans were recorded");
    for request in &mut encoded {
        for spot in &request.spots {
            for at in [spot.start, spot.end, spot.event] {
                if at != 0 {
                    let field = &mut request.bytes[at as usize..][..8];
                    let time = u64::from_le_bytes(field.try_into()?);
                    field.copy_from_slice(&time.wrapping_sub(first).to_le_bytes());
                }
            }
        }
    }
    Ok((encoded, services.into_iter().collect()))
}

fn count(request: &Bytes) -> Result<usize> {
    let mut walked = Walked::new();
    walk(request, &WireLimits::default(), &mut walked)?;
    Ok(walked.spans.len())
}

fn spots(bytes: Vec<u8>, services: &mut BTreeSet<String>, first: &mut u64) -> Result<Encoded> {
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
        spots.push(spot(message, offset).context("a recorded span without ids or times")?);
        *first = span.start.0.min(*first);
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
