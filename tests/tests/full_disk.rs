//! Promise: a full disk refuses spans, retryably, and heals without a hand; nothing that was acknowledged is lost.
//!
//! On a small disk of its own, which is filled by the load itself and by somebody else's file, to the last byte, with
//! the server killed at random moments.
#![allow(clippy::print_stdout)]

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, RwLock};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use longpole_tests::traffic::{Sent, attribute, hex, now_nanos, request, trace};
use longpole_tests::{Api, Exporter, Server, ServerOptions, SmallDisk, eventually, seed};
use opentelemetry_proto::tonic::common::v1::any_value::Value::BytesValue;
use rand::rngs::StdRng;
use rand::{Rng as _, RngCore as _, SeedableRng as _};

const DISK_MIB: u64 = 768;
const CLIENTS: u64 = 2;
const ROUNDS: usize = 6;
const PADDING: usize = 8 << 10;
const HEALED: Duration = Duration::from_secs(60);

struct Load {
    address: RwLock<String>,
    stop: AtomicBool,
    paused: AtomicBool,
    refused: AtomicU64,
    accepted: AtomicU64,
    /// Span ids by trace id.
    acknowledged: Mutex<HashMap<Vec<u8>, HashSet<Vec<u8>>>>,
}

#[test]
fn a_full_disk_loses_nothing_and_heals_alone() {
    run(true).unwrap();
}

/// Without the guard RocksDB itself meets the full disk, in the middle of writes.
#[test]
fn a_write_that_meets_a_full_disk_loses_nothing_and_heals_alone() {
    run(false).unwrap();
}

fn run(guarded: bool) -> Result<()> {
    let disk = match SmallDisk::new(DISK_MIB) {
        Ok(disk) => disk,
        Err(reason) => {
            println!("skipped: no small disk can be mounted here: {reason:#}");
            return Ok(());
        }
    };
    let seed = seed();
    let options = ServerOptions::new()?.hasty().data_in(&disk.path().join("data"));
    let options = options.env("LONGPOLE_SEAL__BYTES", "4MiB").env("LONGPOLE_STORE__CACHE_BYTES", "8MiB");
    let options = if guarded { options } else { options.env("LONGPOLE_STORE__FREE_MIN", "1B") };
    let mut server = options.start()?;
    let load = Arc::new(Load {
        address: RwLock::new(server.grpc().to_owned()),
        stop: AtomicBool::new(false),
        paused: AtomicBool::new(false),
        refused: AtomicU64::new(0),
        accepted: AtomicU64::new(0),
        acknowledged: Mutex::new(HashMap::new()),
    });
    let clients: Vec<_> = (0..CLIENTS)
        .map(|n| {
            let load = Arc::clone(&load);
            std::thread::spawn(move || client(&load, seed.wrapping_add(n + 1)))
        })
        .collect();
    let outcome = ordeal(&disk, &mut server, &load, seed, guarded);
    load.stop.store(true, Ordering::Relaxed);
    load.paused.store(false, Ordering::Relaxed);
    let said = server.log_tail();
    outcome.with_context(|| said.clone())?;
    for client in clients {
        client.join().expect("no client panics")?;
    }
    let acknowledged = load.acknowledged.lock().expect("no client panics");
    let spans: usize = acknowledged.values().map(HashSet::len).sum();
    println!("{spans} spans acknowledged, {} requests refused", load.refused.load(Ordering::Relaxed));
    // What was acknowledged last may wait for a segment to be sealed before it can be seen.
    eventually("all is there", HEALED, || all_are_there(&server.api(), &acknowledged))
        .with_context(|| server.log_tail())?;
    ensure!(server.terminate()?.success(), "{}", server.log_tail());
    server.start_again()?;
    let outcome = all_are_there(&server.api(), &acknowledged);
    // Before its disk goes.
    drop(server);
    outcome
}

fn ordeal(disk: &SmallDisk, server: &mut Server, load: &Load, seed: u64, guarded: bool) -> Result<()> {
    let mut rng = StdRng::seed_from_u64(seed);
    if guarded {
        filled_by_the_load(disk, server, load)?;
    }
    let mut reopened = 0;
    for round in 0..ROUNDS {
        load.paused.store(false, Ordering::Relaxed);
        std::thread::sleep(Duration::from_millis(rng.random_range(50..600)));
        if rng.random_bool(0.3) {
            kill(server, load)?;
        }
        disk.fill()?;
        std::thread::sleep(Duration::from_millis(rng.random_range(0..1500)));
        let killed = rng.random_bool(0.5);
        if killed {
            server.kill()?;
            // It may or may not be able to start on a disk without a free byte.
            if server.start_again().is_ok() {
                server.grpc().clone_into(&mut load.address.write().expect("no client panics with it"));
                std::thread::sleep(Duration::from_millis(rng.random_range(0..500)));
                server.kill()?;
            }
        } else {
            refusing(&server.api())?;
        }
        disk.free()?;
        if killed {
            server.start_again()?;
            server.grpc().clone_into(&mut load.address.write().expect("no client panics with it"));
        }
        goes_on(load).with_context(|| format!("round {round}, killed: {killed}"))?;
        reopened += number(&server.api(), "/store/reopened")?;
        load.paused.store(true, Ordering::Relaxed);
    }
    println!("reopened {reopened} times");
    Ok(())
}

/// The guard refuses before RocksDB meets a full disk; when room comes back it takes spans again.
fn filled_by_the_load(disk: &SmallDisk, server: &Server, load: &Load) -> Result<()> {
    disk.take(DISK_MIB * 2 / 3)?;
    eventually("the load fills the disk", Duration::from_secs(120), || {
        let found = server.api().json("/api/v1/status")?;
        ensure!(found["disk"]["state"] == "full", "{}", found["disk"]);
        Ok(())
    })?;
    refusing(&server.api())?;
    ensure!(number(&server.api(), "/counters/disk_full")? >= 1, "it is not counted");
    // Refused, not failed: what is under way found the room that it needs.
    ensure!(number(&server.api(), "/store/reopened")? == 0, "the database met the full disk first");
    ensure!(number(&server.api(), "/disk/free_bytes")? > 0, "nothing is left");
    disk.free()?;
    goes_on(load)
}

fn refusing(api: &Api) -> Result<()> {
    eventually("spans are refused", HEALED, || {
        let status = api.json("/api/v1/status")?;
        ensure!(status["refusing"].as_array().is_some_and(|why| !why.is_empty()), "{status}");
        ensure!(api.get("/readyz", "*/*")?.status == 503, "ready all the same");
        Ok(())
    })
}

fn number(api: &Api, pointer: &str) -> Result<u64> {
    let status = api.json("/api/v1/status")?;
    status.pointer(pointer).and_then(|n| n.as_u64()).with_context(|| format!("no {pointer} in {status}"))
}

fn goes_on(load: &Load) -> Result<()> {
    let before = load.accepted.load(Ordering::Relaxed);
    eventually("spans are taken again", HEALED, || {
        ensure!(load.accepted.load(Ordering::Relaxed) > before + CLIENTS, "not yet");
        Ok(())
    })
}

fn kill(server: &mut Server, load: &Load) -> Result<()> {
    server.kill()?;
    server.start_again()?;
    server.grpc().clone_into(&mut load.address.write().expect("no client panics with it"));
    Ok(())
}

fn client(load: &Load, seed: u64) -> Result<()> {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut connection: Option<(String, Exporter)> = None;
    while !load.stop.load(Ordering::Relaxed) {
        if load.paused.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(10));
            continue;
        }
        let mut spans = trace(&mut rng, now_nanos() - 500_000_000);
        spans.extend(trace(&mut rng, now_nanos() - 500_000_000));
        for sent in &mut spans {
            let mut bytes = vec![0; PADDING];
            rng.fill_bytes(&mut bytes);
            sent.span.attributes.push(attribute("padding", BytesValue(bytes)));
        }
        send(load, &mut connection, &spans)?;
    }
    Ok(())
}

/// Sends until acknowledged.
fn send(load: &Load, connection: &mut Option<(String, Exporter)>, spans: &[Sent]) -> Result<()> {
    let request = request(spans);
    eventually("acknowledgement", Duration::from_secs(180), || {
        let address = load.address.read().expect("no writer panics").clone();
        if connection.as_ref().is_none_or(|(known, _)| *known != address) {
            *connection = Some((address.clone(), Exporter::connect(&address)?));
        }
        let (_, exporter) = connection.as_ref().context("connected above")?;
        let answer = exporter.export(&request).inspect_err(|_| {
            load.refused.fetch_add(1, Ordering::Relaxed);
        })?;
        ensure!(answer.partial_success.is_none_or(|p| p.rejected_spans == 0), "spans were rejected");
        Ok(())
    })?;
    load.accepted.fetch_add(1, Ordering::Relaxed);
    let mut acknowledged = load.acknowledged.lock().expect("no client panics with the ledger");
    for sent in spans {
        acknowledged.entry(sent.span.trace_id.clone()).or_default().insert(sent.span.span_id.clone());
    }
    Ok(())
}

fn all_are_there(api: &Api, acknowledged: &HashMap<Vec<u8>, HashSet<Vec<u8>>>) -> Result<()> {
    for (trace_id, spans) in acknowledged {
        let id = hex(trace_id);
        let found = api.trace_spans(&id)?;
        let distinct: HashSet<Vec<u8>> = found.iter().map(|span| span.span_id.clone()).collect();
        ensure!(distinct.len() == found.len(), "trace {id} has a span twice");
        ensure!(distinct == *spans, "trace {id} has {} of {} spans", distinct.len(), spans.len());
    }
    let query = Api::query(&[("start", "now-1h"), ("end", "now"), ("group_by", "service,operation,kind")]);
    let answer = api.json(&format!("/api/v1/latency?{query}"))?;
    let series = answer["series"].as_array().context("no series")?;
    let counted: u64 = series.iter().filter_map(|s| s["count"].as_u64()).sum();
    let spans: usize = acknowledged.values().map(HashSet::len).sum();
    ensure!(counted == spans as u64, "latency counts {counted} spans, {spans} were acknowledged");
    Ok(())
}
