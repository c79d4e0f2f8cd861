//! A small shop that exists only in its spans, for `longpole demo`: eleven services with a
//! fan-out, a retry, an async consumer, an N+1, a dependency that is slow a minute in four, and an
//! error in a hundred requests. It speaks OTLP/gRPC like any other application, and the same seed
//! and opening give the same spans.

mod backend;
mod exporter;
mod recorder;
mod services;
mod shop;
mod traffic;

use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::Result;
use opentelemetry_proto::tonic::trace::v1::Span;
use tokio::sync::watch;

use exporter::Exporter;
use recorder::{SECONDS, ShopSpan};
use services::Service;
use traffic::Traffic;

/// How often spans that have ended are sent.
const TICK: Duration = Duration::from_millis(200);
/// History is made in steps of this length.
const STEP: u64 = SECONDS;
/// If the collector was away for longer, the customers of that time are let go.
const LONGEST_LAG: u64 = 30 * SECONDS;

/// What shop to run.
#[derive(Debug, Clone)]
pub(crate) struct ShopOptions {
    /// OTLP/gRPC address of the collector: `host:port`.
    pub(crate) endpoint: String,
    /// Where all chance comes from.
    pub(crate) seed: u64,
    /// Requests to the shop per second, on average.
    pub(crate) traces_per_second: u32,
    /// How long to run; until stopped if none.
    pub(crate) duration: Option<Duration>,
    /// How much history to send first, as fast as it is taken.
    pub(crate) backfill: Duration,
}

impl Default for ShopOptions {
    fn default() -> Self {
        Self {
            endpoint: "127.0.0.1:4317".to_owned(),
            seed: 42,
            traces_per_second: 20,
            duration: None,
            backfill: Duration::from_secs(300),
        }
    }
}

/// What a shop has sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct ShopReport {
    /// Requests to the shop.
    pub(crate) traces: u64,
    /// Spans that the collector kept.
    pub(crate) spans: u64,
    /// Batches that it took.
    pub(crate) batches: u64,
    /// Times that a batch was sent again.
    pub(crate) retries: u64,
    /// Spans that it rejected.
    pub(crate) rejected_spans: u64,
    /// Spans that could not be sent.
    pub(crate) lost_spans: u64,
}

impl ShopReport {
    const fn add(&mut self, other: Self) {
        self.traces += other.traces;
        self.spans += other.spans;
        self.batches += other.batches;
        self.retries += other.retries;
        self.rejected_spans += other.rejected_spans;
        self.lost_spans += other.lost_spans;
    }
}

/// Runs the shop until `stop` becomes true (or its sender goes) or the duration is over.
///
/// # Errors
/// If the endpoint is not an address. A collector that is away is waited for.
pub(crate) async fn run_shop(options: ShopOptions, mut stop: watch::Receiver<bool>) -> Result<ShopReport> {
    let exporters = Service::ALL.map(|service| Exporter::start(service, &options.endpoint, stop.clone()));
    let exporters = exporters.into_iter().collect::<Result<Vec<_>>>()?;
    let began = Instant::now();
    let opened = now().saturating_sub(options.backfill.as_nanos() as u64);
    let mut traffic = Traffic::new(options.seed, opened, options.traces_per_second);
    let mut pending = Pending::default();
    let mut clock = opened;
    let mut live = false;
    loop {
        let present = now();
        if live && present.saturating_sub(clock) > LONGEST_LAG {
            traffic.skip_to(present);
            clock = present;
        }
        clock = (clock + STEP).min(present);
        live |= clock == present;
        while let Some(spans) = traffic.next_before(clock) {
            pending.add(spans);
        }
        let is_over = options.duration.is_some_and(|duration| began.elapsed() >= duration);
        if is_over || is_stopped(&stop) || !send_ended(&mut pending, clock, &exporters, &mut stop).await {
            break;
        }
        if live {
            tokio::select! {
                () = tokio::time::sleep(TICK) => {}
                _ = stop.wait_for(|stop| *stop) => {}
            }
        }
    }
    close(pending, exporters, traffic.traces()).await
}

fn is_stopped(stop: &watch::Receiver<bool>) -> bool {
    *stop.borrow() || stop.has_changed().is_err()
}

/// Sends what has ended by `clock`; false if told to stop meanwhile.
async fn send_ended(
    pending: &mut Pending,
    clock: u64,
    exporters: &[Exporter],
    stop: &mut watch::Receiver<bool>,
) -> bool {
    let batches = pending.ended(clock);
    let sending = async {
        for (service, spans) in batches {
            exporters[service as usize].send(spans).await;
        }
    };
    tokio::select! {
        () = sending => true,
        _ = stop.wait_for(|stop| *stop) => false,
    }
}

/// Sends the rest, so that no trace is left without its end, and adds up.
async fn close(mut pending: Pending, exporters: Vec<Exporter>, traces: u64) -> Result<ShopReport> {
    for (service, spans) in pending.ended(u64::MAX) {
        exporters[service as usize].send(spans).await;
    }
    let mut report = ShopReport { traces, ..ShopReport::default() };
    for exporter in exporters {
        report.add(exporter.finish().await?);
    }
    Ok(report)
}

/// Spans that have not ended yet, by their end.
#[derive(Debug, Default)]
struct Pending {
    by_end: BTreeMap<(u64, u64), ShopSpan>,
    added: u64,
}

impl Pending {
    fn add(&mut self, spans: Vec<ShopSpan>) {
        for span in spans {
            self.added += 1;
            self.by_end.insert((span.span.end_time_unix_nano, self.added), span);
        }
    }

    /// Takes out what has ended by `clock`, by service.
    fn ended(&mut self, clock: u64) -> BTreeMap<Service, Vec<Span>> {
        let later = self.by_end.split_off(&(clock, u64::MAX));
        let mut batches: BTreeMap<Service, Vec<Span>> = BTreeMap::new();
        for span in std::mem::replace(&mut self.by_end, later).into_values() {
            batches.entry(span.service).or_default().push(span.span);
        }
        batches
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64)
}

#[cfg(test)]
mod tests;
