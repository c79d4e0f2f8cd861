//! How long after its acknowledgement a trace can be queried whole, measured beside the load.
//!
//! The probe has two connections of its own. It sends a small trace, waits for the acknowledgement, and asks for
//! the trace by id until all its spans are there. The delay ends with the answer, so it contains the time of the
//! question that found it whole.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, anyhow};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value::Value as Attribute};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prost::Message as _;
use serde_json::{Value, json};

use crate::http_client::{HttpClient, spans_of_trace};
use crate::quantiles::{quantile, with_the_omitted};

/// Spans of a probe's trace: one of each of three services, and a leaf.
const SPANS: usize = 4;
/// A trace that is not whole after this time counts as never.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between two questions for a trace that is not whole yet.
const PAUSE: Duration = Duration::from_millis(2);

/// One probe.
#[derive(Debug, Clone, Copy)]
#[allow(missing_docs)]
pub struct Seen {
    pub unix_ms: u64,
    /// From sending to the acknowledgement, microseconds.
    pub acknowledged: u64,
    /// From the acknowledgement to the end of the answer that had all spans, microseconds. None if none came in time.
    pub whole: Option<u64>,
    /// Of that, the question that found it whole, or the last one in vain.
    pub question: u64,
}

/// All probes of a run.
#[derive(Debug, Clone, Default)]
#[allow(missing_docs)]
pub struct Probes {
    pub seen: Vec<Seen>,
    /// Requests that were refused; their traces were not acknowledged.
    pub refused: u64,
    pub interval: Duration,
}

/// The delays of many probes, milliseconds.
#[derive(Debug, Clone, Copy, PartialEq)]
#[allow(missing_docs)]
pub struct Visibility {
    pub traces: usize,
    pub p50: f64,
    pub p99: f64,
    pub max: f64,
    /// Acknowledged traces that were not whole after ten seconds.
    pub never: usize,
    pub refused: u64,
    /// The last question for each trace: that much of the delay is the answering.
    pub question_p50: f64,
    pub question_p99: f64,
    /// Acknowledgement of a probe's request.
    pub ack_p99: f64,
}

impl Probes {
    /// None if nothing was acknowledged. A probe that waited long stands for those that would have been sent
    /// meanwhile.
    pub fn visibility(&self) -> Option<Visibility> {
        let interval = micros(self.interval);
        let give_up = micros(PATIENCE);
        let delays: Vec<u64> = self.seen.iter().map(|seen| seen.whole.unwrap_or(give_up)).collect();
        let mut delays = with_the_omitted(&delays, interval);
        let acks: Vec<u64> = self.seen.iter().map(|seen| seen.acknowledged).collect();
        let mut acks = with_the_omitted(&acks, interval);
        let mut questions: Vec<u64> = self.seen.iter().map(|seen| seen.question).collect();
        let ms = |micros: u64| micros as f64 / 1e3;
        Some(Visibility {
            traces: self.seen.len(),
            p50: ms(quantile(&mut delays, 0.5)?),
            p99: ms(quantile(&mut delays, 0.99)?),
            max: ms(quantile(&mut delays, 1.0)?),
            never: self.seen.iter().filter(|seen| seen.whole.is_none()).count(),
            refused: self.refused,
            question_p50: ms(quantile(&mut questions, 0.5)?),
            question_p99: ms(quantile(&mut questions, 0.99)?),
            ack_p99: ms(quantile(&mut acks, 0.99)?),
        })
    }
}

impl Visibility {
    /// For programs.
    pub fn json(&self) -> Value {
        json!({
            "traces": self.traces, "p50_ms": self.p50, "p99_ms": self.p99, "max_ms": self.max,
            "never_whole": self.never, "refused": self.refused,
            "question_p50_ms": self.question_p50, "question_p99_ms": self.question_p99, "ack_p99_ms": self.ack_p99,
        })
    }
}

/// A running probe.
#[derive(Debug)]
pub struct Probe {
    stopping: Arc<AtomicBool>,
    thread: JoinHandle<Result<Probes>>,
}

impl Probe {
    /// Sends a trace every `interval` to the OTLP/HTTP port and asks the API for it.
    pub fn start(otlp_http: &str, http: &str, interval: Duration) -> Self {
        let stopping = Arc::new(AtomicBool::new(false));
        let (sender, asker) = (HttpClient::new(otlp_http), HttpClient::new(http));
        let stop = Arc::clone(&stopping);
        let thread = std::thread::spawn(move || probe(&sender, &asker, interval, &stop));
        Self { stopping, thread }
    }

    /// Ends it after the trace that is under way.
    ///
    /// # Errors
    /// If the server could not be reached.
    pub fn stop(self) -> Result<Probes> {
        self.stopping.store(true, Ordering::Release);
        self.thread.join().map_err(|_| anyhow!("the probe panicked"))?
    }
}

fn probe(sender: &HttpClient, asker: &HttpClient, interval: Duration, stop: &AtomicBool) -> Result<Probes> {
    let mut probes = Probes { interval, ..Probes::default() };
    let mut due = Instant::now();
    let mut number = 0;
    while !stop.load(Ordering::Acquire) {
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        due = (due + interval).max(Instant::now());
        number += 1;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).context("the clock is before 1970")?;
        let (id, request) = request(number, now);
        let answer = sender.export(&request)?;
        let acknowledged = Instant::now();
        if answer.status != 200 {
            probes.refused += 1;
            continue;
        }
        let (whole, question) = wait_until_whole(asker, &id, acknowledged)?;
        probes.seen.push(Seen {
            unix_ms: u64::try_from(now.as_millis()).unwrap_or(u64::MAX),
            acknowledged: micros(answer.took),
            whole,
            question: micros(question),
        });
    }
    Ok(probes)
}

fn wait_until_whole(asker: &HttpClient, id: &str, acknowledged: Instant) -> Result<(Option<u64>, Duration)> {
    let path = format!("/api/v1/traces/{id}");
    loop {
        let answer = asker.ask(&path)?;
        let waited = acknowledged.elapsed();
        if answer.status == 200 && spans_of_trace(&answer.body) == Some(SPANS as u64) {
            return Ok((Some(micros(waited)), answer.took));
        }
        if waited > PATIENCE {
            return Ok((None, answer.took));
        }
        std::thread::sleep(PAUSE);
    }
}

/// A trace of [`SPANS`] spans that just ended, and its id in hex.
fn request(number: u64, now: Duration) -> (String, Vec<u8>) {
    let now = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
    let mut trace_id = vec![0; 8];
    trace_id[..4].copy_from_slice(&std::process::id().to_be_bytes());
    // Spread, as ids are: the store orders traces by them.
    trace_id[4..].copy_from_slice(&(number as u32).wrapping_mul(0x9e37_79b9).to_be_bytes());
    trace_id.extend_from_slice(&now.to_be_bytes());
    trace_id.rotate_left(4);
    let span = |at: usize| {
        let id = |at: usize| ((number << 8) | (at as u64 + 1)).to_be_bytes().to_vec();
        Span {
            trace_id: trace_id.clone(),
            span_id: id(at),
            parent_span_id: if at == 0 { Vec::new() } else { id(at - 1) },
            name: format!("probe {at}"),
            kind: 2,
            start_time_unix_nano: now.saturating_sub(10_000_000 - at as u64 * 1_000_000),
            end_time_unix_nano: now.saturating_sub(at as u64 * 100_000),
            ..Span::default()
        }
    };
    let service = |name: &str| Resource {
        attributes: vec![KeyValue {
            key: "service.name".to_owned(),
            value: Some(AnyValue { value: Some(Attribute::StringValue(name.to_owned())) }),
            ..KeyValue::default()
        }],
        ..Resource::default()
    };
    let of = |name: &str, spans: Vec<Span>| ResourceSpans {
        resource: Some(service(name)),
        scope_spans: vec![ScopeSpans { spans, ..ScopeSpans::default() }],
        ..ResourceSpans::default()
    };
    let resource_spans = vec![
        of("probe-front", vec![span(0)]),
        of("probe-middle", vec![span(1)]),
        of("probe-back", vec![span(2), span(3)]),
    ];
    let id = trace_id.iter().map(|byte| format!("{byte:02x}")).collect();
    (id, ExportTraceServiceRequest { resource_spans }.encode_to_vec())
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use otlp_wire::{Walked, WireLimits, walk};

    use super::*;

    #[test]
    fn a_probe_is_a_valid_trace_of_its_own() {
        let now = Duration::from_secs(1_700_000_000);
        let ((id, bytes), (other, _)) = (request(1, now), request(2, now));
        assert_ne!(id, other);
        assert_eq!(id.len(), 32);
        let mut walked = Walked::new();
        walk(&Bytes::from(bytes), &WireLimits::default(), &mut walked).unwrap();
        assert_eq!((walked.spans.len(), walked.rejected_spans), (SPANS, 0));
        assert!(walked.spans.iter().all(|span| span.start < span.end));
    }

    #[test]
    fn a_long_wait_and_one_in_vain_show() {
        let seen = |whole| Seen { unix_ms: 0, acknowledged: 1_000, whole, question: 500 };
        let mut probes = Probes { interval: Duration::from_millis(100), ..Probes::default() };
        assert_eq!(probes.visibility(), None);
        probes.seen = vec![seen(Some(2_000)); 295];
        probes.seen.extend([seen(Some(350_000)), seen(None)]);
        let visibility = probes.visibility().unwrap();
        assert_eq!((visibility.traces, visibility.never), (297, 1));
        assert_eq!((visibility.p50, visibility.max), (2.0, 10_000.0));
        assert!(visibility.p99 > 9_000.0, "what would have been sent in the ten seconds waited too");
    }
}
