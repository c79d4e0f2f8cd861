//! Promise: an acknowledged span is never lost, and every distinct span counts exactly once.
//!
//! Twenty times the server dies under load, at a random moment, by `kill -9`. The clients send again whatever was not
//! acknowledged, so that some requests arrive twice.
#![allow(clippy::print_stdout)]

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, RwLock};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use longpole_tests::traffic::{Sent, hex, now_nanos, request, trace};
use longpole_tests::{Api, Exporter, Server, ServerOptions, eventually, seed};
use opentelemetry_proto::tonic::trace::v1::Span;
use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use rand::{Rng as _, SeedableRng as _};

const KILLS: usize = 20;
const CLIENTS: u64 = 3;
const READERS: usize = 4;
const TRACES_A_ROUND: usize = 6;
const PAUSE: Duration = Duration::from_millis(20);

/// Spans by trace id and span id.
type Ledger = HashMap<Vec<u8>, HashMap<Vec<u8>, Span>>;

/// What the clients share with the test.
struct Load {
    /// Where the server is now; it moves when it is started again.
    address: RwLock<String>,
    stop: AtomicBool,
    sent_again: AtomicU64,
    /// Every span that was acknowledged.
    acknowledged: Mutex<Ledger>,
}

#[test]
fn acknowledged_spans_survive_kill() {
    let seed = seed();
    let started = now_nanos();
    let options = ServerOptions::new().unwrap().hasty().env("LONGPOLE_SEAL__INTERVAL", "300ms");
    let mut server = options.start().unwrap();
    let load = Arc::new(Load {
        address: RwLock::new(server.grpc().to_owned()),
        stop: AtomicBool::new(false),
        sent_again: AtomicU64::new(0),
        acknowledged: Mutex::new(HashMap::new()),
    });
    let clients: Vec<_> = (0..CLIENTS)
        .map(|n| {
            let load = Arc::clone(&load);
            std::thread::spawn(move || client(&load, seed.wrapping_add(n + 1)))
        })
        .collect();

    let killed = kill_and_start(&mut server, &load, seed);
    load.stop.store(true, Ordering::Relaxed);
    // A server that did not come back is the cause of whatever the clients say.
    killed.unwrap();
    for client in clients {
        client.join().unwrap().unwrap();
    }

    let acknowledged = load.acknowledged.lock().unwrap();
    let spans: usize = acknowledged.values().map(HashMap::len).sum();
    println!(
        "{KILLS} kills, {spans} spans of {} traces acknowledged, {} requests sent again",
        acknowledged.len(),
        load.sent_again.load(Ordering::Relaxed)
    );
    every_trace_is_whole(&server, &acknowledged).unwrap();
    counts_are_exact(&server.api(), started, spans as u64).unwrap();

    // And once more after a quiet end and start.
    assert!(server.terminate().unwrap().success());
    server.start_again().unwrap();
    every_trace_is_whole(&server, &acknowledged).unwrap();
    counts_are_exact(&server.api(), started, spans as u64).unwrap();
}

fn kill_and_start(server: &mut Server, load: &Load, seed: u64) -> Result<()> {
    let mut rng = StdRng::seed_from_u64(seed);
    for kill in 0..KILLS {
        std::thread::sleep(Duration::from_millis(rng.random_range(30..900)));
        server.kill()?;
        server.start_again().with_context(|| format!("start after kill {}", kill + 1))?;
        server.grpc().clone_into(&mut load.address.write().expect("no client panics with the address"));
    }
    Ok(())
}

/// Sends traces in pieces until told to stop. Returns when all that it made is acknowledged.
fn client(load: &Load, seed: u64) -> Result<()> {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut held_back: Vec<Sent> = Vec::new();
    let mut connection: Option<(String, Exporter)> = None;
    while !load.stop.load(Ordering::Relaxed) {
        let mut spans = std::mem::take(&mut held_back);
        for _ in 0..TRACES_A_ROUND {
            spans.extend(trace(&mut rng, now_nanos() - 500_000_000));
        }
        spans.shuffle(&mut rng);
        // A part of each round comes with the next, some of it after its trace was sealed.
        held_back = spans.split_off(spans.len() * 3 / 4);
        send(load, &mut connection, &spans)?;
        let slow = rng.random_bool(0.05);
        std::thread::sleep(if slow { Duration::from_millis(800) } else { PAUSE });
    }
    send(load, &mut connection, &held_back)
}

/// Sends until acknowledged, then writes it down.
fn send(load: &Load, connection: &mut Option<(String, Exporter)>, spans: &[Sent]) -> Result<()> {
    let request = request(spans);
    let mut first = true;
    eventually("acknowledgement", Duration::from_secs(60), || {
        if !std::mem::take(&mut first) {
            load.sent_again.fetch_add(1, Ordering::Relaxed);
        }
        let address = load.address.read().expect("no writer panics").clone();
        if connection.as_ref().is_none_or(|(known, _)| *known != address) {
            *connection = Some((address.clone(), Exporter::connect(&address)?));
        }
        let (_, exporter) = connection.as_ref().context("connected above")?;
        let answer = exporter.export(&request)?;
        ensure!(answer.partial_success.is_none_or(|p| p.rejected_spans == 0), "spans were rejected");
        Ok(())
    })?;
    let mut acknowledged = load.acknowledged.lock().expect("no client panics with the ledger");
    for sent in spans {
        let trace = acknowledged.entry(sent.span.trace_id.clone()).or_default();
        trace.insert(sent.span.span_id.clone(), sent.span.clone());
    }
    Ok(())
}

fn every_trace_is_whole(server: &Server, acknowledged: &Ledger) -> Result<()> {
    let traces: Vec<_> = acknowledged.iter().collect();
    let share = traces.len().div_ceil(READERS).max(1);
    let wrong = Mutex::new(Vec::new());
    let wrong_ones = &wrong;
    std::thread::scope(|scope| {
        for part in traces.chunks(share) {
            scope.spawn(move || {
                let api = server.api();
                for (trace_id, spans) in part {
                    let id = hex(trace_id);
                    if let Err(reason) = trace_is_whole(&api, &id, spans) {
                        wrong_ones.lock().expect("no reader panics").push(format!("{id}: {reason:#}"));
                    }
                }
            });
        }
    });
    let wrong = wrong.into_inner()?;
    let shown = wrong.iter().take(20).map(String::as_str).collect::<Vec<_>>().join("\n");
    ensure!(wrong.is_empty(), "{} traces are not as acknowledged:\n{shown}", wrong.len());
    Ok(())
}

fn trace_is_whole(api: &Api, id: &str, spans: &HashMap<Vec<u8>, Span>) -> Result<()> {
    let mut found: HashMap<Vec<u8>, Span> = HashMap::new();
    for span in api.trace_spans(id)? {
        let before = found.insert(span.span_id.clone(), span);
        ensure!(before.is_none(), "a span is there twice: {before:?}");
    }
    let lost = spans.keys().filter(|s| !found.contains_key(*s)).count();
    ensure!(lost == 0, "{lost} of {} spans are lost", spans.len());
    ensure!(found == *spans, "the spans are not those that were sent");
    Ok(())
}

fn counts_are_exact(api: &Api, started: u64, spans: u64) -> Result<()> {
    let start = (started - 3_600_000_000_000).to_string();
    let end = (started + 7_200_000_000_000).to_string();
    let query = Api::query(&[("start", &start), ("end", &end), ("group_by", "service,operation,kind")]);
    let answer = api.json(&format!("/api/v1/latency?{query}"))?;
    let series = answer["series"].as_array().context("no series")?;
    let counted: u64 = series.iter().filter_map(|s| s["count"].as_u64()).sum();
    ensure!(counted == spans, "latency counts {counted} spans, {spans} were acknowledged");
    Ok(())
}
