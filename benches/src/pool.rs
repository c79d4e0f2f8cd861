//! Encoded requests, sent over and over, each time as new traces of the present.

use std::path::PathBuf;

use anyhow::{Result, ensure};
use bytes::Bytes;

use crate::encode::{self, Encoded};
use crate::recycle::{Recycled, rewrite};
use crate::{model, recorded};

/// The pool's traces start within this time, and one pass over the pool plays it.
pub(crate) const WINDOW_NANOS: u64 = 1_000_000_000;

/// Encoded requests of the same traces, in the order in which their spans ended.
#[derive(Debug)]
pub struct Pool {
    requests: Vec<Encoded>,
    spans: usize,
    /// Trace ids of the pool with their number of spans, for a look at some afterwards.
    traces: Vec<([u8; 16], u32)>,
    services: Vec<String>,
    length_nanos: u64,
}

impl Pool {
    /// Makes about `spans` spans in requests of `batch` spans.
    pub fn generate(seed: u64, spans: usize, batch: usize) -> Result<Self> {
        ensure!(batch > 0 && spans > 0, "a pool needs spans, and a batch too");
        let model = model::generate(seed, spans, WINDOW_NANOS);
        let requests: Vec<Encoded> = model.chunks(batch).map(encode::request).collect();
        let mut by_trace = std::collections::BTreeMap::<[u8; 16], u32>::new();
        for span in &model {
            *by_trace.entry(span.trace_id).or_default() += 1;
        }
        let services = model::SERVICES.iter().enumerate();
        let services = services
            .filter(|(n, _)| model.iter().any(|s| s.service == *n))
            .map(|(_, s)| (*s).to_owned())
            .collect();
        let length_nanos = model.last().map_or(0, |s| s.end_nanos);
        Ok(Self {
            requests,
            spans: model.len(),
            traces: by_trace.into_iter().collect(),
            services,
            length_nanos,
        })
    }

    /// A pool of recorded traces, in requests of about `batch` spans.
    ///
    /// # Errors
    /// If a file cannot be read or is not OTLP/JSON lines.
    pub fn recorded(files: &[PathBuf], batch: usize) -> Result<Self> {
        let (requests, services) = recorded::requests(files, batch, WINDOW_NANOS)?;
        let mut by_trace = std::collections::BTreeMap::<[u8; 16], u32>::new();
        let mut length_nanos = 0;
        for request in &requests {
            for spot in &request.spots {
                let mut id = [0; 16];
                id.copy_from_slice(&request.bytes[spot.trace_id as usize..][..16]);
                *by_trace.entry(id).or_default() += 1;
                let mut end = [0; 8];
                end.copy_from_slice(&request.bytes[spot.end as usize..][..8]);
                length_nanos = u64::from_le_bytes(end).max(length_nanos);
            }
        }
        let spans = requests.iter().map(|request| request.spots.len()).sum();
        Ok(Self { requests, spans, traces: by_trace.into_iter().collect(), services, length_nanos })
    }

    /// Bytes a span that zstd 1 makes of the requests of one pass in blocks of 1 MiB, with ids and times as they are
    /// sent.
    ///
    /// # Errors
    /// If the compressor fails.
    pub fn zstd_bytes_per_span(&self, pass: u64, base_nanos: u64) -> Result<f64> {
        let mut block = Vec::with_capacity(1 << 20);
        let mut packed = 0;
        for request in 0..self.requests() {
            let mut rest = &self.patched(request, pass, base_nanos)[..];
            while !rest.is_empty() {
                let (now, later) = rest.split_at(rest.len().min((1 << 20) - block.len()));
                block.extend_from_slice(now);
                rest = later;
                if block.len() == 1 << 20 {
                    packed += zstd::bulk::compress(&block, 1)?.len();
                    block.clear();
                }
            }
        }
        packed += zstd::bulk::compress(&block, 1)?.len();
        Ok(packed as f64 / self.spans as f64)
    }

    /// The requests to be sent over and over. The pool keeps what it knows of traces and services, and has no
    /// requests after that.
    pub fn recycle(&mut self) -> Recycled {
        Recycled::new(std::mem::take(&mut self.requests))
    }

    /// Requests of one pass.
    pub fn requests(&self) -> usize {
        self.requests.len()
    }

    /// Spans of one pass.
    pub fn spans(&self) -> usize {
        self.spans
    }

    /// Spans of one request.
    pub fn spans_in(&self, request: usize) -> usize {
        self.requests[request].spots.len()
    }

    /// Bytes of one pass.
    pub fn bytes(&self) -> usize {
        self.requests.iter().map(|r| r.bytes.len()).sum()
    }

    /// Names of the services that send.
    pub fn services(&self) -> &[String] {
        &self.services
    }

    /// From the first start to the last end, in nanoseconds.
    pub fn length_nanos(&self) -> u64 {
        self.length_nanos
    }

    /// A trace of the pool as it is called in a pass, in hex, with its number of spans.
    pub fn trace(&self, pass: u64, index: usize) -> (String, u32) {
        let (mut id, spans) = self.traces[index % self.traces.len()];
        xor(&mut id, &trace_mask(pass));
        (id.iter().map(|b| format!("{b:02x}")).collect(), spans)
    }

    /// A request with the ids of the pass and with times that begin at `base_nanos`.
    pub fn patched(&self, request: usize, pass: u64, base_nanos: u64) -> Bytes {
        let source = &self.requests[request];
        let mut bytes = source.bytes.clone();
        let (trace_mask, span_mask) = (trace_mask(pass), span_mask(pass));
        for spot in &source.spots {
            rewrite(&mut bytes, spot, &trace_mask, &span_mask, base_nanos);
        }
        Bytes::from(bytes)
    }
}

pub(crate) fn xor(bytes: &mut [u8], mask: &[u8]) {
    for (byte, mask) in bytes.iter_mut().zip(mask) {
        *byte ^= mask;
    }
}

pub(crate) fn shift(bytes: &mut [u8], at: u32, by: u64) {
    let field = &mut bytes[at as usize..][..8];
    let mut raw = [0; 8];
    raw.copy_from_slice(field);
    field.copy_from_slice(&u64::from_le_bytes(raw).wrapping_add(by).to_le_bytes());
}

/// One mask for all ids of a pass keeps every parent a parent.
pub(crate) fn span_mask(pass: u64) -> [u8; 8] {
    mix(pass.wrapping_mul(2)).to_le_bytes()
}

pub(crate) fn trace_mask(pass: u64) -> [u8; 16] {
    let low = mix(pass.wrapping_mul(2)).to_le_bytes();
    let high = mix(pass.wrapping_mul(2).wrapping_add(1)).to_le_bytes();
    let mut mask = [0; 16];
    mask[..8].copy_from_slice(&low);
    mask[8..].copy_from_slice(&high);
    mask
}

/// SplitMix64's finalizer.
fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, HashSet};

    use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
    use opentelemetry_proto::tonic::trace::v1::Span;
    use prost::Message as _;

    use super::*;

    fn decode(pool: &Pool, pass: u64, base: u64) -> Vec<Span> {
        let mut spans = Vec::new();
        for request in 0..pool.requests() {
            let decoded = ExportTraceServiceRequest::decode(pool.patched(request, pass, base)).unwrap();
            let scopes = decoded.resource_spans.into_iter().flat_map(|r| r.scope_spans);
            let mut inner: Vec<Span> = scopes.flat_map(|s| s.spans).collect();
            assert_eq!(inner.len(), pool.spans_in(request));
            spans.append(&mut inner);
        }
        spans
    }

    #[test]
    fn a_pass_is_valid_otlp_with_whole_traces_of_its_own() {
        let pool = Pool::generate(3, 3_000, 512).unwrap();
        let base = 1_700_000_000_000_000_000;
        let (first, second) = (decode(&pool, 0, base), decode(&pool, 1, base + 5));
        assert_eq!(first.len(), pool.spans());
        let ids = |spans: &[Span]| spans.iter().map(|s| s.span_id.clone()).collect::<HashSet<_>>();
        assert!(ids(&first).is_disjoint(&ids(&second)));
        let by_id: HashMap<_, _> = second.iter().map(|s| (s.span_id.clone(), s)).collect();
        for span in second.iter().filter(|s| !s.parent_span_id.is_empty()) {
            let parent = by_id[&span.parent_span_id];
            assert_eq!(parent.trace_id, span.trace_id);
            assert!(
                span.start_time_unix_nano >= base && span.end_time_unix_nano <= parent.end_time_unix_nano
            );
        }
    }

    #[test]
    fn spans_have_the_size_and_the_attributes_of_the_stated_load() {
        let pool = Pool::generate(3, 30_000, 8_192).unwrap();
        let size = pool.bytes() as f64 / pool.spans() as f64;
        assert!((415.0..445.0).contains(&size), "{size} bytes a span");
        let spans = decode(&pool, 0, 0);
        let attributes: usize = spans.iter().map(|s| s.attributes.len()).sum();
        let mean = attributes as f64 / spans.len() as f64;
        assert!((8.5..9.5).contains(&mean), "{mean} attributes a span");
    }

    #[test]
    fn samples_are_called_as_they_were_sent() {
        let pool = Pool::generate(4, 1_000, 100).unwrap();
        let (id, spans) = pool.trace(7, 3);
        let hex = |s: &Span| s.trace_id.iter().map(|b| format!("{b:02x}")).collect::<String>();
        let found = decode(&pool, 7, 0).iter().filter(|s| hex(s) == id).count();
        assert_eq!(found, spans as usize);
    }
}
