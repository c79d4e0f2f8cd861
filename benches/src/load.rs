//! Sends a pool to an OTLP/gRPC server: as fast as it acknowledges, or at a rate.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use hdrhistogram::Histogram;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use prost::Message as _;
use serde_json::{Value, json};
use tonic::{Code, Status};

use crate::pool::Pool;
use crate::recycle::{PREFIX, Recycled};
use crate::schedule::{Limit, Schedule, Turn};
use crate::windows::Windows;
use crate::wire::Client;

/// How to send.
#[derive(Debug, Clone)]
#[allow(missing_docs)]
pub struct Plan {
    /// `http://host:port`.
    pub endpoint: String,
    pub connections: usize,
    /// Requests under way at once on each connection.
    pub in_flight: usize,
    pub limit: Limit,
    /// Spans a second; as fast as it goes without one.
    pub rate: Option<u64>,
    /// Latencies are given for the whole run, and for each of such windows.
    pub window: Duration,
    /// How long a request that the server puts off is tried again.
    pub patience: Duration,
    /// Traces to name in the result.
    pub samples: usize,
}

/// What the senders share.
struct Shared {
    pool: Pool,
    plan: Plan,
    requests: Recycled,
    requests_of_pass: u64,
    schedule: Schedule,
    windows: Windows,
    started: Instant,
    zstd_bytes_per_span: Option<f64>,
    retries: AtomicU64,
    rejected: AtomicU64,
    spans: AtomicU64,
    bytes: AtomicU64,
}

/// Sends all of it and says how it went, as the JSON that `loadgen` prints.
///
/// # Errors
/// If the server cannot be reached, or refuses for good.
pub async fn run(pool: Pool, plan: Plan) -> Result<Value> {
    ensure!(plan.connections > 0 && plan.in_flight > 0, "at least one connection and one request in flight");
    ensure!(plan.rate != Some(0), "a rate of no spans sends nothing");
    let mut clients = Vec::new();
    for _ in 0..plan.connections {
        clients.push(Client::connect(&plan.endpoint).await?);
    }
    let mut shared = Shared::new(pool, plan)?;
    let cpu_before = crate::resource::cpu_seconds(std::process::id())?;
    let start_unix_nano = now_nanos()?;
    shared.windows = Windows::new(nanos(shared.plan.window), start_unix_nano / 1_000_000)?;
    shared.started = Instant::now();
    let shared = Arc::new(shared);
    let mut senders = tokio::task::JoinSet::new();
    for client in &clients {
        for _ in 0..shared.plan.in_flight {
            senders.spawn(send(Arc::clone(&shared), client.clone()));
        }
    }
    while let Some(sender) = senders.join_next().await {
        sender.context("a sender panicked")??;
    }
    let seconds = shared.started.elapsed().as_secs_f64();
    let cpu = crate::resource::cpu_seconds(std::process::id())? - cpu_before;
    let shared = Arc::into_inner(shared).context("a sender still runs")?;
    shared.result(seconds, cpu, start_unix_nano)
}

impl Shared {
    fn new(mut pool: Pool, plan: Plan) -> Result<Self> {
        let sizes: Vec<u64> = (0..pool.requests()).map(|request| pool.spans_in(request) as u64).collect();
        let now = now_nanos()?;
        Ok(Self {
            zstd_bytes_per_span: pool.zstd_bytes_per_span(seed_of_run(), now).ok(),
            requests_of_pass: sizes.len() as u64,
            schedule: Schedule::new(sizes, pool.length_nanos(), plan.limit, plan.rate),
            windows: Windows::new(nanos(plan.window), now / 1_000_000)?,
            requests: pool.recycle(),
            pool,
            plan,
            started: Instant::now(),
            retries: AtomicU64::new(0),
            rejected: AtomicU64::new(0),
            spans: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
        })
    }

    fn elapsed(&self) -> u64 {
        nanos(self.started.elapsed())
    }

    fn turn(&self) -> Result<Option<Turn>> {
        Ok(self.schedule.turn(self.elapsed(), now_nanos()?))
    }

    fn acknowledged(&self, due: u64, spans: u64, bytes: u64, answer: Bytes) -> Result<()> {
        let now = self.elapsed();
        self.windows.record(now, now.saturating_sub(due) / 1_000, spans);
        let answer = ExportTraceServiceResponse::decode(answer).context("the answer is not OTLP")?;
        let rejected = answer.partial_success.map_or(0, |p| p.rejected_spans.max(0) as u64);
        self.rejected.fetch_add(rejected, Ordering::Relaxed);
        self.spans.fetch_add(spans, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        Ok(())
    }

    fn result(self, seconds: f64, cpu: f64, start: u64) -> Result<Value> {
        let spans = self.spans.load(Ordering::Relaxed);
        let bytes = self.bytes.load(Ordering::Relaxed);
        let samples = self.samples();
        let (latency, windows): (Histogram<u64>, Vec<Value>) = self.windows.finish()?;
        let ms = |q: f64| latency.value_at_quantile(q) as f64 / 1e3;
        Ok(json!({
            "spans": spans,
            "requests": self.schedule.turns(),
            "seconds": seconds,
            "spans_per_second": spans as f64 / seconds,
            "megabytes_per_second": bytes as f64 / 1e6 / seconds,
            "bytes_per_span": bytes as f64 / spans.max(1) as f64,
            "ack_p50_ms": ms(0.5),
            "ack_p99_ms": ms(0.99),
            "ack_max_ms": latency.max() as f64 / 1e3,
            "retries": self.retries.load(Ordering::Relaxed),
            "rejected_spans": self.rejected.load(Ordering::Relaxed),
            "skipped_seconds": self.schedule.skipped().as_secs_f64(),
            "client_cpu_seconds_per_million": cpu / (spans.max(1) as f64 / 1e6),
            "start_unix_nano": start.saturating_sub(self.pool.length_nanos()).to_string(),
            "zstd_bytes_per_span": self.zstd_bytes_per_span,
            "services": self.pool.services(),
            "samples": samples,
            "windows": windows,
        }))
    }

    /// Traces of the passes that were sent whole.
    fn samples(&self) -> Vec<Value> {
        let whole = self.schedule.turns() / self.requests_of_pass;
        let count = if whole == 0 { 0 } else { self.plan.samples as u64 };
        let one = |n: u64| {
            // All over the run: the first passes as well as the last.
            let pass = n * whole / count;
            let (id, spans) = self.pool.trace(pass + seed_of_run(), (n as usize).wrapping_mul(7_919));
            json!({"trace_id": id, "spans": spans})
        };
        (0..count).map(one).collect()
    }
}

/// Keeps the ids of two runs apart.
fn seed_of_run() -> u64 {
    u64::from(std::process::id()) << 32
}

async fn send(shared: Arc<Shared>, mut client: Client) -> Result<()> {
    while let Some(turn) = shared.turn()? {
        let wait = turn.due.saturating_sub(shared.elapsed());
        if wait > 0 {
            tokio::time::sleep(Duration::from_nanos(wait)).await;
        }
        let pass = turn.pass + seed_of_run();
        let message = shared.requests.message(turn.request, pass, turn.base_unix_nano);
        let message = message.context("a sender panicked")?;
        let bytes = (message.len() - PREFIX) as u64;
        // At full speed a request begins when it is patched. At a rate it begins when it is due: a server that makes
        // the sender wait is not excused by that.
        let begun = if shared.plan.rate.is_some() { turn.due } else { shared.elapsed() };
        let answer = send_one(&shared, &mut client, message).await?;
        shared.acknowledged(begun, turn.spans, bytes, answer)?;
    }
    Ok(())
}

/// One request until it is acknowledged; what the server puts off is tried again, more slowly each time.
async fn send_one(shared: &Shared, client: &mut Client, message: Bytes) -> Result<Bytes> {
    let deadline = Instant::now() + shared.plan.patience;
    let mut pause = Duration::from_millis(5);
    loop {
        match client.export(message.clone()).await {
            Ok(answer) => return Ok(answer),
            Err(status) if retryable(&status) && Instant::now() < deadline => {
                shared.retries.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(Duration::from_millis(500));
            }
            Err(status) => bail!("export failed: {:?}: {}", status.code(), status.message()),
        }
    }
}

fn retryable(status: &Status) -> bool {
    matches!(status.code(), Code::Unavailable | Code::ResourceExhausted)
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

fn now_nanos() -> Result<u64> {
    Ok(nanos(SystemTime::now().duration_since(UNIX_EPOCH).context("the clock is before 1970")?))
}
