//! Promise: what an OpenTelemetry Collector has taken arrives once, whatever becomes of Longpole meanwhile: it is asked
//! to stop, killed, and started again while spans keep coming.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use longpole_tests::clients::{Collector, Environment};
use longpole_tests::traffic::{Sent, hex, now_nanos, request, trace};
use longpole_tests::{Api, Exporter, Server, ServerOptions, eventually, metric, own_address, seed};
use opentelemetry_proto::tonic::trace::v1::Span;
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use serde_json::{Value, json};

const TRACES_A_REQUEST: usize = 4;
/// Requests at most, should a restart take very long.
const REQUESTS_MAX: usize = 1_000;
/// Spans that must have come in between two events.
const PROGRESS: u64 = 500;

#[test]
fn over_grpc() {
    run(|server| vec![grpc(server, "gzip")]).unwrap();
}

#[test]
fn over_http() {
    run(|server| vec![http(server, "gzip")]).unwrap();
}

/// Every span arrives twice, and counts once.
#[test]
fn over_both_at_once() {
    run(|server| vec![grpc(server, "zstd"), http(server, "none")]).unwrap();
}

fn grpc(server: &Server, compression: &str) -> (&'static str, Value) {
    let tls = json!({"insecure": true});
    ("otlp_grpc", json!({"endpoint": server.grpc(), "tls": tls, "compression": compression}))
}

fn http(server: &Server, compression: &str) -> (&'static str, Value) {
    let endpoint = format!("http://{}", server.otlp_http());
    ("otlp_http", json!({"endpoint": endpoint, "compression": compression}))
}

fn run(exporters: impl Fn(&Server) -> Vec<(&'static str, Value)>) -> Result<()> {
    let Some(environment) = Environment::find("collector")? else { return Ok(()) };
    let mut rng = StdRng::seed_from_u64(seed());
    let mut server = ServerOptions::new()?.hasty().host(own_address()).start()?;
    let mut collector = Collector::start(&environment, &exporters(&server))?;

    let over = AtomicBool::new(false);
    let exporter = Exporter::connect(&collector.address())?;
    let sent = std::thread::scope(|scope| {
        let sender = scope.spawn(|| send(&mut rng, &exporter, &over));
        let ended = restarts(&mut server);
        over.store(true, Ordering::SeqCst);
        let sent = sender.join().map_err(|_| anyhow::anyhow!("the sender failed"))?;
        ended.and(sent)
    })?;
    collector.wait_until_sent(sent.len())?;
    let log = collector.finish()?;
    log.check()?;
    ensure!(log.retries() > 0, "no export was ever put off, so nothing was tried");
    check(&server.api(), &sent)
}

/// Sends until told to stop, at a pace of a few thousand spans a second.
fn send(rng: &mut StdRng, exporter: &Exporter, over: &AtomicBool) -> Result<Vec<Sent>> {
    let mut sent = Vec::new();
    for _ in 0..REQUESTS_MAX {
        if over.load(Ordering::SeqCst) {
            break;
        }
        let traces = (0..TRACES_A_REQUEST).map(|_| trace(rng, now_nanos() - 600_000_000));
        let spans: Vec<Sent> = traces.flatten().collect();
        exporter.deliver(&request(&spans))?;
        sent.extend(spans);
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(sent)
}

/// A stop and a kill, each with spans before, meanwhile and after.
fn restarts(server: &mut Server) -> Result<()> {
    progress(server, "before the stop")?;
    let status = server.terminate()?;
    ensure!(status.success(), "{status}: {}", server.log_tail());
    down_and_up(server)?;
    progress(server, "before the kill")?;
    server.kill()?;
    down_and_up(server)?;
    progress(server, "after both")
}

/// Down for long enough that the Collector finds nobody there.
fn down_and_up(server: &mut Server) -> Result<()> {
    std::thread::sleep(Duration::from_millis(300));
    server.start_again()
}

/// Waits until this run of the server has taken some spans.
fn progress(server: &Server, when: &str) -> Result<()> {
    eventually(when, Duration::from_secs(30), || {
        let taken = counter(&server.api(), "longpole_ingest_spans_total")?;
        ensure!(taken >= PROGRESS as f64, "{taken} spans");
        Ok(())
    })
}

fn counter(api: &Api, name: &str) -> Result<f64> {
    let metrics = api.get("/metrics", "text/plain")?;
    metric(&String::from_utf8_lossy(&metrics.body), name)
}

/// Every span is there as it was sent, and every count is that of distinct spans.
fn check(api: &Api, sent: &[Sent]) -> Result<()> {
    let mut traces: BTreeMap<&[u8], HashMap<&[u8], &Span>> = BTreeMap::new();
    let mut services: BTreeMap<&str, u64> = BTreeMap::new();
    for Sent { service, span } in sent {
        traces.entry(&span.trace_id).or_default().insert(&span.span_id, span);
        *services.entry(service).or_default() += 1;
    }
    for (id, wanted) in &traces {
        let found = api.trace_spans(&hex(id))?;
        ensure!(found.len() == wanted.len(), "{} has {} of {}", hex(id), found.len(), wanted.len());
        for span in &found {
            let wanted = wanted.get(span.span_id.as_slice()).context("a span that was never sent")?;
            // The Collector gives every span a status.
            let wanted =
                Span { status: Some(wanted.status.clone().unwrap_or_default()), ..(*wanted).clone() };
            ensure!(wanted == *span, "sent {wanted:?}, found {span:?}");
        }
    }
    let stored = counter(api, "longpole_sealed_spans")? + counter(api, "longpole_live_spans")?;
    ensure!(stored == sent.len() as f64, "{stored} spans are stored, {} were sent", sent.len());
    ensure!(counter(api, "longpole_ingest_rejected_spans_total")? == 0.0);
    let found = api.walk_traces("start=now-1h&end=now&order=newest", 500)?;
    let found: BTreeSet<&str> = found.iter().filter_map(|t| t["trace_id"].as_str()).collect();
    let lost: Vec<String> =
        traces.keys().map(|id| hex(id)).filter(|id| !found.contains(id.as_str())).collect();
    ensure!(lost.is_empty() && found.len() == traces.len(), "{} traces, not found are {lost:?}", found.len());
    // Counts are those of finished traces.
    eventually("every trace counts", Duration::from_secs(20), || check_counts(api, &services))
}

fn check_counts(api: &Api, services: &BTreeMap<&str, u64>) -> Result<()> {
    let answer = api.json("/api/v1/services")?;
    let found: BTreeMap<&str, u64> = answer["services"]
        .as_array()
        .context("no services")?
        .iter()
        .map(|s| (s["name"].as_str().unwrap_or_default(), s["spans"].as_u64().unwrap_or_default()))
        .collect();
    ensure!(&found == services, "services have {found:?}, sent were {services:?}");
    let answer = api.json("/api/v1/latency?group_by=service&start=now-1h&end=now")?;
    let series = answer["series"].as_array().context("no series")?;
    let found: BTreeMap<&str, u64> = series
        .iter()
        .map(|s| (s["service"].as_str().unwrap_or_default(), s["count"].as_u64().unwrap_or_default()))
        .collect();
    ensure!(&found == services, "histograms have {found:?}, sent were {services:?}");
    Ok(())
}
