//! Promise: the same spans in another order and in other batches give the same answers to every query.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use longpole_tests::traffic::{Sent, hex, now_nanos, request, trace};
use longpole_tests::{Api, Server, ServerOptions, eventually, seed};
use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use rand::{Rng as _, SeedableRng as _};
use serde_json::Value;

const TRACES: usize = 250;

#[test]
fn order_of_arrival_does_not_matter() {
    let mut rng = StdRng::seed_from_u64(seed());
    // Ten minutes of traffic that ended an hour ago, so that `now` is in no answer.
    let base = now_nanos() / 60_000_000_000 * 60_000_000_000 - 4_200_000_000_000;
    let mut traces: Vec<Vec<Sent>> = Vec::new();
    for _ in 0..TRACES {
        let start = base + rng.random_range(0..600_000_000_000);
        traces.push(trace(&mut rng, start));
    }
    traces.extend(twins(&mut rng, base));
    let ids: BTreeSet<String> = traces.iter().flatten().map(|s| hex(&s.span.trace_id)).collect();

    let straight = ServerOptions::new().unwrap().hasty().start().unwrap();
    let shuffled = ServerOptions::new().unwrap().hasty().start().unwrap();
    send_straight(&straight, &traces).unwrap();
    send_shuffled(&shuffled, &traces, &mut rng).unwrap();
    let window = Api::query(&[("start", &base.to_string()), ("end", &(base + 660_000_000_000).to_string())]);
    for server in [&straight, &shuffled] {
        let api = server.api();
        eventually("all traces final", Duration::from_secs(60), || all_final(&api, &window, ids.len()))
            .unwrap();
    }

    let (left, right) = (straight.api(), shuffled.api());
    for path in questions(&left, &window, &ids).unwrap() {
        let answers = [&left, &right].map(|api| comparable(api.json(&path).unwrap()));
        assert_eq!(answers[0], answers[1], "GET {path}");
    }
    for order in ["slowest", "newest"] {
        for filter in ["", "&service=orders", "&service=web&status=error", "&kind=client", "&operation=work"]
        {
            let query = format!("{window}&order={order}{filter}");
            let whole = left.walk_traces(&query, 1_000).unwrap();
            for limit in [7, 100] {
                assert_eq!(whole, right.walk_traces(&query, limit).unwrap(), "{query}, pages of {limit}");
            }
        }
    }
}

/// Traces which only their ids tell apart: equal times, so that every order needs its tie-break.
fn twins(rng: &mut StdRng, base: u64) -> Vec<Vec<Sent>> {
    let model = trace(rng, base + 30_000_000_000);
    let twin = |rng: &mut StdRng| {
        let trace_id: [u8; 16] = rng.random();
        let mut twin = model.clone();
        for sent in &mut twin {
            sent.span.trace_id = trace_id.to_vec();
        }
        twin
    };
    (0..12).map(|_| twin(rng)).collect()
}

/// Trace by trace, a few at a time.
fn send_straight(server: &Server, traces: &[Vec<Sent>]) -> Result<()> {
    let exporter = server.exporter()?;
    for some in traces.chunks(10) {
        exporter.deliver(&request(&some.concat()))?;
    }
    Ok(())
}

/// All spans of all traces mixed, in batches of any size, some twice; a pause in the middle, in which what has come
/// is taken for finished and sealed, so that much of the rest is late.
fn send_shuffled(server: &Server, traces: &[Vec<Sent>], rng: &mut StdRng) -> Result<()> {
    let exporter = server.exporter()?.gzip();
    let mut spans = traces.concat();
    spans.shuffle(rng);
    let pause_at = spans.len() / 2;
    let mut at = 0;
    while at < spans.len() {
        let end = (at + rng.random_range(1..200)).min(spans.len());
        exporter.deliver(&request(&spans[at..end]))?;
        if rng.random_bool(0.2) {
            exporter.deliver(&request(&spans[at..end]))?;
        }
        if at < pause_at && end >= pause_at {
            std::thread::sleep(Duration::from_millis(1_500));
        }
        at = end;
    }
    Ok(())
}

fn all_final(api: &Api, window: &str, traces: usize) -> Result<()> {
    let found = api.walk_traces(&format!("{window}&order=newest"), 1_000)?;
    ensure!(found.len() == traces, "{} of {traces} traces", found.len());
    let open = found.iter().filter(|t| t["state"] != "final").count();
    ensure!(open == 0, "{open} traces are open");
    Ok(())
}

fn questions(api: &Api, window: &str, ids: &BTreeSet<String>) -> Result<Vec<String>> {
    let mut paths = vec!["/api/v1/services".to_owned(), format!("/api/v1/services?{window}")];
    let services = api.json("/api/v1/services")?;
    for service in services["services"].as_array().context("no services")? {
        let name = Api::path_part(service["name"].as_str().context("a service without a name")?);
        paths.push(format!("/api/v1/services/{name}/operations"));
        paths.push(format!("/api/v1/latency?{window}&service={name}&step=1m"));
    }
    for more in [
        "",
        "&step=5m&group_by=service",
        "&group_by=service,status&quantiles=0,0.25,0.75,0.999,1",
        "&status=error",
    ] {
        paths.push(format!("/api/v1/latency?{window}{more}"));
    }
    for operation in ["GET%20%2Forders", "POST%20%2Forders"] {
        for group in ["service", "operation"] {
            paths.push(format!(
                "/api/v1/bottlenecks?{window}&service=web&operation={operation}&group_by={group}"
            ));
        }
    }
    for id in ids {
        paths.push(format!("/api/v1/traces/{id}"));
        paths.push(format!("/api/v1/traces/{id}/critical-path"));
        paths.push(format!("/api/v1/traces/{id}/critical-path?extent=trace&overrun=auto"));
    }
    Ok(paths)
}

/// Only how much was read to find the answer may differ.
fn comparable(mut answer: Value) -> Value {
    if let Some(fields) = answer.as_object_mut() {
        fields.remove("scanned");
    }
    answer
}
