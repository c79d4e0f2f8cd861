//! Asks a loaded server and measures the answers, from the client's side, over one connection that stays open.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use hdrhistogram::Histogram;
use serde_json::Value;

use crate::http_client::{HttpClient, spans_of_trace};

/// Latencies of one kind of query, in milliseconds.
#[derive(Debug, Clone, Copy)]
#[allow(missing_docs)]
pub struct Timing {
    pub p50: f64,
    pub p90: f64,
    pub p99: f64,
    pub count: u64,
    /// Bytes of an answer, on average.
    pub mean_bytes: f64,
}

/// All that is asked.
#[derive(Debug, Clone, Copy)]
#[allow(missing_docs)]
pub struct Timings {
    pub trace_by_id: Timing,
    pub slowest: Timing,
    pub latency: Timing,
    /// Sampled traces that came back with all their spans, of how many.
    pub whole: (usize, usize),
}

/// No kind of question is asked for longer than this; after minutes of load, some take seconds.
const LONGEST: Duration = Duration::from_secs(60);

/// Asks for each path once, as far as time allows; the first tenth beforehand, unmeasured, to warm up.
fn measure(client: &HttpClient, paths: &[String]) -> Result<(Timing, Vec<Vec<u8>>)> {
    ensure!(!paths.is_empty(), "nothing to ask for");
    let until = Instant::now() + LONGEST / 10;
    for path in paths.iter().take(paths.len().div_ceil(10)).take_while(|_| Instant::now() < until) {
        client.get(path)?;
    }
    let mut histogram = Histogram::<u64>::new_with_bounds(1, 600_000_000, 3)?;
    let mut bodies = Vec::with_capacity(paths.len());
    let until = Instant::now() + LONGEST;
    for path in paths.iter().take_while(|_| Instant::now() < until) {
        let answer = client.get(path)?;
        histogram.saturating_record(answer.took.as_micros() as u64);
        bodies.push(answer.body);
    }
    let ms = |q: f64| histogram.value_at_quantile(q) as f64 / 1e3;
    let bytes: usize = bodies.iter().map(Vec::len).sum();
    let mean_bytes = bytes as f64 / bodies.len() as f64;
    let timing = Timing { p50: ms(0.5), p90: ms(0.9), p99: ms(0.99), count: histogram.len(), mean_bytes };
    Ok((timing, bodies))
}

/// Asks about what `load` (the JSON of `loadgen`) says was sent.
pub fn run(http: &str, load: &Value) -> Result<Timings> {
    let client = HttpClient::new(http);
    let samples = load["samples"].as_array().context("loadgen named no traces")?;
    let services: Vec<&str> =
        load["services"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    ensure!(!services.is_empty(), "loadgen named no services");
    let window = format!("start={}&end=now", load["start_unix_nano"].as_str().context("no start")?);

    let by_id: Vec<String> = samples
        .iter()
        .filter_map(|s| s["trace_id"].as_str())
        .map(|id| format!("/api/v1/traces/{id}"))
        .collect();
    let (trace_by_id, bodies) = measure(&client, &by_id)?;
    let asked = bodies.len();
    let whole = bodies.iter().zip(samples).filter(|(body, sample)| is_whole(body, sample)).count();

    let slowest: Vec<String> = (0..200)
        .map(|n| format!("/api/v1/traces?service={}&limit=20&{window}", services[n % services.len()]))
        .collect();
    let (slowest, _) = measure(&client, &slowest)?;

    // Another quantile each time, so that no cache of answers is measured.
    let latency: Vec<String> = (0..100)
        .map(|n| {
            let quantile = 0.9 + n as f64 / 1_100.0;
            let service = services[n % services.len()];
            format!("/api/v1/latency?service={service}&quantiles=0.5,{quantile:.5}&{window}")
        })
        .collect();
    let (latency, _) = measure(&client, &latency)?;
    Ok(Timings { trace_by_id, slowest, latency, whole: (whole, asked) })
}

fn is_whole(body: &[u8], sample: &Value) -> bool {
    sample["spans"].as_u64() == spans_of_trace(body)
}
