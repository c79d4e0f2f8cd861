//! Sends a pool to an OTLP/gRPC server, as fast as it acknowledges.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use hdrhistogram::Histogram;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use prost::Message as _;
use serde_json::{Value, json};
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};

use crate::codec::{EXPORT_PATH, RawCodec};
use crate::pool::Pool;

/// How to send.
#[derive(Debug, Clone)]
#[allow(missing_docs)]
pub struct Plan {
    /// `http://host:port`.
    pub endpoint: String,
    pub connections: usize,
    /// Requests under way at once on each connection.
    pub in_flight: usize,
    /// Spans to send in all; whole requests, so it may be a little more.
    pub spans: usize,
    /// How long a request that the server puts off is tried again.
    pub patience: Duration,
    /// Traces to name in the result.
    pub samples: usize,
}

/// What the senders share.
struct Shared {
    pool: Pool,
    plan: Plan,
    next: AtomicUsize,
    requests: usize,
    /// When each pass over the pool began, so that all its requests agree on their times.
    pass_base: Vec<OnceLock<u64>>,
    retries: AtomicU64,
    rejected: AtomicU64,
    spans: AtomicU64,
    bytes: AtomicU64,
}

/// Sends all of it and says how it went, as the JSON that `loadgen` prints.
pub async fn run(pool: Pool, plan: Plan) -> Result<Value> {
    ensure!(plan.connections > 0 && plan.in_flight > 0, "at least one connection and one request in flight");
    let shared = Arc::new(Shared::new(pool, plan));
    let mut channels = Vec::new();
    for _ in 0..shared.plan.connections {
        channels.push(connect(&shared.plan.endpoint).await?);
    }
    let cpu_before = crate::resource::cpu_seconds(std::process::id())?;
    let started = Instant::now();
    let start_unix_nano = now_nanos()?;
    let mut senders = tokio::task::JoinSet::new();
    for channel in &channels {
        for _ in 0..shared.plan.in_flight {
            senders.spawn(send(Arc::clone(&shared), channel.clone()));
        }
    }
    let mut latency = Histogram::<u64>::new_with_bounds(1, 600_000_000, 3)?;
    while let Some(sender) = senders.join_next().await {
        latency.add(sender.context("a sender panicked")??)?;
    }
    let seconds = started.elapsed().as_secs_f64();
    let cpu = crate::resource::cpu_seconds(std::process::id())? - cpu_before;
    Ok(shared.result(seconds, cpu, start_unix_nano, &latency))
}

impl Shared {
    fn new(pool: Pool, plan: Plan) -> Self {
        let mut requests = (plan.spans / pool.spans()) * pool.requests();
        let mut rest = plan.spans % pool.spans();
        for request in 0..pool.requests() {
            if rest == 0 {
                break;
            }
            requests += 1;
            rest = rest.saturating_sub(pool.spans_in(request));
        }
        let passes = requests.div_ceil(pool.requests());
        Self {
            pool,
            plan,
            next: AtomicUsize::new(0),
            requests,
            pass_base: (0..passes).map(|_| OnceLock::new()).collect(),
            retries: AtomicU64::new(0),
            rejected: AtomicU64::new(0),
            spans: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
        }
    }

    /// The next request with its number of spans, or none when all are taken.
    fn take(&self) -> Result<Option<(Bytes, u64)>> {
        let index = self.next.fetch_add(1, Ordering::Relaxed);
        if index >= self.requests {
            return Ok(None);
        }
        let (pass, request) = (index / self.pool.requests(), index % self.pool.requests());
        let now = now_nanos()?;
        // The pass ends now, so that no span is from the future.
        let base = *self.pass_base[pass].get_or_init(|| now.saturating_sub(self.pool.length_nanos()));
        let bytes = self.pool.patched(request, pass as u64 + self.seed_of_run(), base);
        Ok(Some((bytes, self.pool.spans_in(request) as u64)))
    }

    /// Keeps the ids of two runs apart.
    fn seed_of_run(&self) -> u64 {
        u64::from(std::process::id()) << 32
    }

    fn result(&self, seconds: f64, cpu: f64, start: u64, latency: &Histogram<u64>) -> Value {
        let spans = self.spans.load(Ordering::Relaxed);
        let bytes = self.bytes.load(Ordering::Relaxed);
        let ms = |q: f64| latency.value_at_quantile(q) as f64 / 1e3;
        json!({
            "spans": spans,
            "requests": self.requests,
            "seconds": seconds,
            "spans_per_second": spans as f64 / seconds,
            "megabytes_per_second": bytes as f64 / 1e6 / seconds,
            "bytes_per_span": bytes as f64 / spans.max(1) as f64,
            "ack_p50_ms": ms(0.5),
            "ack_p99_ms": ms(0.99),
            "ack_max_ms": latency.max() as f64 / 1e3,
            "retries": self.retries.load(Ordering::Relaxed),
            "rejected_spans": self.rejected.load(Ordering::Relaxed),
            "client_cpu_seconds_per_million": cpu / (spans.max(1) as f64 / 1e6),
            "start_unix_nano": start.saturating_sub(self.pool.length_nanos()).to_string(),
            "zstd_bytes_per_span": self.pool.zstd_bytes_per_span().ok(),
            "services": self.pool.services(),
            "samples": self.samples(),
        })
    }

    /// Traces of the passes that were sent whole.
    fn samples(&self) -> Vec<Value> {
        let whole = self.requests / self.pool.requests();
        let count = if whole == 0 { 0 } else { self.plan.samples };
        let one = |n: usize| {
            let (id, spans) = self.pool.trace((n % whole) as u64 + self.seed_of_run(), n.wrapping_mul(7_919));
            json!({"trace_id": id, "spans": spans})
        };
        (0..count).map(one).collect()
    }
}

async fn connect(endpoint: &str) -> Result<Channel> {
    let endpoint = Endpoint::from_shared(endpoint.to_owned())
        .with_context(|| format!("not an endpoint: {endpoint}"))?
        .tcp_nodelay(true)
        .connect_timeout(Duration::from_secs(10));
    endpoint.connect().await.with_context(|| format!("cannot connect to {}", endpoint.uri()))
}

async fn send(shared: Arc<Shared>, channel: Channel) -> Result<Histogram<u64>> {
    let mut grpc = Grpc::new(channel);
    let mut latency = Histogram::<u64>::new_with_bounds(1, 600_000_000, 3)?;
    while let Some((bytes, spans)) = shared.take()? {
        let size = bytes.len() as u64;
        let started = Instant::now();
        let answer = send_one(&shared, &mut grpc, bytes).await?;
        latency.saturating_record(started.elapsed().as_micros() as u64);
        let answer = ExportTraceServiceResponse::decode(answer).context("the answer is not OTLP")?;
        let rejected = answer.partial_success.map_or(0, |p| p.rejected_spans.max(0) as u64);
        shared.rejected.fetch_add(rejected, Ordering::Relaxed);
        shared.spans.fetch_add(spans, Ordering::Relaxed);
        shared.bytes.fetch_add(size, Ordering::Relaxed);
    }
    Ok(latency)
}

/// One request until it is acknowledged; what the server puts off is tried again, more slowly each time.
async fn send_one(shared: &Shared, grpc: &mut Grpc<Channel>, bytes: Bytes) -> Result<Bytes> {
    let deadline = Instant::now() + shared.plan.patience;
    let mut pause = Duration::from_millis(5);
    loop {
        match attempt(grpc, bytes.clone()).await {
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

async fn attempt(grpc: &mut Grpc<Channel>, bytes: Bytes) -> Result<Bytes, Status> {
    grpc.ready().await.map_err(|e| Status::unavailable(format!("not connected: {e}")))?;
    let path = PathAndQuery::from_static(EXPORT_PATH);
    Ok(grpc.unary(Request::new(bytes), path, RawCodec).await?.into_inner())
}

fn retryable(status: &Status) -> bool {
    matches!(status.code(), Code::Unavailable | Code::ResourceExhausted)
}

fn now_nanos() -> Result<u64> {
    Ok(SystemTime::now().duration_since(UNIX_EPOCH).context("the clock is before 1970")?.as_nanos() as u64)
}
