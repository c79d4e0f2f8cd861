//! Clients that send large traces until told to stop, and remember what was acknowledged.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use opentelemetry_proto::tonic::common::v1::any_value::Value::BytesValue;
use rand::rngs::StdRng;
use rand::{RngCore as _, SeedableRng as _};

use crate::traffic::{Sent, attribute, hex, now_nanos, request, trace};
use crate::{Api, Exporter, Server, eventually};

/// Bytes of each span that do not compress.
const PADDING: usize = 8 << 10;
const ACKNOWLEDGED: Duration = Duration::from_secs(180);
const TAKEN_AGAIN: Duration = Duration::from_secs(60);

/// Running clients.
#[derive(Debug)]
pub struct Load {
    shared: Arc<Shared>,
    clients: Vec<JoinHandle<Result<()>>>,
}

#[derive(Debug, Default)]
struct Shared {
    address: RwLock<String>,
    stop: AtomicBool,
    paused: AtomicBool,
    refused: AtomicU64,
    accepted: AtomicU64,
    bytes: AtomicU64,
    bytes_max: AtomicU64,
    acknowledged: Mutex<Ledger>,
}

/// Span ids by trace id.
type Ledger = HashMap<Vec<u8>, HashSet<Vec<u8>>>;

impl Load {
    /// Begins to send.
    pub fn start(server: &Server, clients: u64, seed: u64) -> Self {
        let shared = Arc::new(Shared::default());
        shared.bytes_max.store(u64::MAX, Ordering::Relaxed);
        let load = Self { shared: Arc::clone(&shared), clients: Vec::new() };
        load.moved_to(server);
        let start = |n| {
            let shared = Arc::clone(&shared);
            std::thread::spawn(move || client(&shared, seed.wrapping_add(n + 1)))
        };
        Self { clients: (0..clients).map(start).collect(), ..load }
    }

    /// The server was started again; its port may be another.
    pub fn moved_to(&self, server: &Server) {
        let mut address = self.shared.address.write().unwrap_or_else(PoisonError::into_inner);
        server.grpc().clone_into(&mut address);
    }

    /// Rests after the requests under way, or goes on.
    pub fn pause(&self, paused: bool) {
        self.shared.paused.store(paused, Ordering::Relaxed);
    }

    /// Rests once so many bytes more have been acknowledged.
    pub fn rest_after(&self, bytes: u64) {
        self.shared.bytes_max.store(self.bytes() + bytes, Ordering::Relaxed);
    }

    /// Bytes acknowledged.
    pub fn bytes(&self) -> u64 {
        self.shared.bytes.load(Ordering::Relaxed)
    }

    /// Requests refused.
    pub fn refused(&self) -> u64 {
        self.shared.refused.load(Ordering::Relaxed)
    }

    /// Waits until every client has been acknowledged something more.
    pub fn goes_on(&self) -> Result<()> {
        let accepted = || self.shared.accepted.load(Ordering::Relaxed);
        let before = accepted();
        eventually("spans are taken again", TAKEN_AGAIN, || {
            ensure!(accepted() > before + self.clients.len() as u64, "not yet");
            Ok(())
        })
    }

    /// Waits for what is under way and ends.
    pub fn stop(self) -> Result<Acknowledged> {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.pause(false);
        for client in self.clients {
            match client.join() {
                Ok(outcome) => outcome?,
                Err(_) => bail!("a client panicked"),
            }
        }
        let mut ledger = self.shared.acknowledged.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(Acknowledged(std::mem::take(&mut ledger)))
    }
}

/// What was acknowledged.
#[derive(Debug)]
pub struct Acknowledged(Ledger);

impl Acknowledged {
    /// How many spans.
    pub fn spans(&self) -> usize {
        self.0.values().map(HashSet::len).sum()
    }

    /// Every span is there, once, and counted.
    pub fn all_are_there(&self, api: &Api) -> Result<()> {
        let gone = self.whole_or_gone(api)?;
        ensure!(gone == 0, "{gone} traces are gone");
        Ok(())
    }

    /// Every trace is there with all of its spans, each once, or not at all, and every span is counted. How many are
    /// gone.
    pub fn whole_or_gone(&self, api: &Api) -> Result<usize> {
        let mut gone = 0;
        for (trace_id, spans) in &self.0 {
            let id = hex(trace_id);
            let found = api.trace_spans(&id)?;
            let distinct: HashSet<Vec<u8>> = found.iter().map(|span| span.span_id.clone()).collect();
            ensure!(distinct.len() == found.len(), "trace {id} has a span twice");
            gone += usize::from(found.is_empty());
            ensure!(
                found.is_empty() || distinct == *spans,
                "trace {id} has {} of {} spans",
                distinct.len(),
                spans.len()
            );
        }
        let query =
            Api::query(&[("start", "now-1h"), ("end", "now"), ("group_by", "service,operation,kind")]);
        let answer = api.json(&format!("/api/v1/latency?{query}"))?;
        let series = answer["series"].as_array().context("no series")?;
        let counted: u64 = series.iter().filter_map(|s| s["count"].as_u64()).sum();
        let spans = self.spans();
        ensure!(counted == spans as u64, "latency counts {counted} spans, {spans} were acknowledged");
        Ok(gone)
    }
}

fn client(shared: &Shared, seed: u64) -> Result<()> {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut connection: Option<(String, Exporter)> = None;
    while !shared.stop.load(Ordering::Relaxed) {
        let rests = shared.bytes.load(Ordering::Relaxed) >= shared.bytes_max.load(Ordering::Relaxed);
        if rests || shared.paused.load(Ordering::Relaxed) {
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
        send(shared, &mut connection, &spans)?;
    }
    Ok(())
}

/// Sends until acknowledged.
fn send(shared: &Shared, connection: &mut Option<(String, Exporter)>, spans: &[Sent]) -> Result<()> {
    let request = request(spans);
    eventually("acknowledgement", ACKNOWLEDGED, || {
        let address = shared.address.read().unwrap_or_else(PoisonError::into_inner).clone();
        if connection.as_ref().is_none_or(|(known, _)| *known != address) {
            *connection = Some((address.clone(), Exporter::connect(&address)?));
        }
        let (_, exporter) = connection.as_ref().context("connected above")?;
        let answer = exporter.export(&request).inspect_err(|_| {
            shared.refused.fetch_add(1, Ordering::Relaxed);
        })?;
        ensure!(answer.partial_success.is_none_or(|p| p.rejected_spans == 0), "spans were rejected");
        Ok(())
    })?;
    shared.accepted.fetch_add(1, Ordering::Relaxed);
    shared.bytes.fetch_add((spans.len() * PADDING) as u64, Ordering::Relaxed);
    let mut acknowledged = shared.acknowledged.lock().unwrap_or_else(PoisonError::into_inner);
    for sent in spans {
        acknowledged.entry(sent.span.trace_id.clone()).or_default().insert(sent.span.span_id.clone());
    }
    Ok(())
}
