//! Promise: a quiet instance stays quick to open, because its small segments are merged; and when spans go, what was
//! counted of them stays, over a crash as well.

use std::time::Duration;

use anyhow::{Result, ensure};
use longpole_tests::traffic::{Sent, hex, now_nanos, request, trace};
use longpole_tests::{Api, Server, ServerOptions, eventually, seed};
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(60);

/// A little every now and then, so that each seal has a little.
fn trickle(server: &Server, rng: &mut StdRng, times: usize) -> Result<Vec<Vec<Sent>>> {
    let exporter = server.exporter()?;
    let mut sent = Vec::new();
    for _ in 0..times {
        let spans = trace(rng, now_nanos());
        exporter.deliver(&request(&spans))?;
        sent.push(spans);
        std::thread::sleep(Duration::from_millis(150));
    }
    Ok(sent)
}

/// The latency of everything around now.
fn latency(api: &Api) -> Result<Value> {
    const HOUR: u64 = 3_600_000_000_000;
    let now = now_nanos();
    api.json(&format!("/api/v1/latency?start={}&end={}", now - HOUR, now + HOUR))
}

/// Spans in the histograms of the last hour.
fn counted(api: &Api) -> Result<u64> {
    let answer = latency(api)?;
    ensure!(answer["complete"] == true, "{answer}");
    let series = answer["series"].as_array().into_iter().flatten();
    Ok(series.filter_map(|series| series["count"].as_u64()).sum())
}

fn all_counted(api: &Api, sent: &[Vec<Sent>]) -> Result<()> {
    let (counted, wanted) = (counted(api)?, sent.iter().map(Vec::len).sum::<usize>() as u64);
    ensure!(counted == wanted, "{counted} counted, {wanted} sent");
    Ok(())
}

#[test]
fn the_small_segments_of_a_quiet_instance_are_merged() {
    let mut rng = StdRng::seed_from_u64(seed());
    let options = ServerOptions::new().unwrap().hasty();
    let options = options.env("LONGPOLE_STORE__SLICE", "5s").env("LONGPOLE_SEAL__INTERVAL", "100ms");
    let mut server = options.start().unwrap();
    let sent = trickle(&server, &mut rng, 60).unwrap();
    let merged = || -> Result<()> {
        let status = server.api().json("/api/v1/status")?;
        let merged = &status["housekeeping"]["merged"];
        let (before, after) = (merged["segments_before"].as_u64(), merged["segments_after"].as_u64());
        ensure!(before >= Some(20) && after.map(|after| after * 4) <= before, "{status}");
        ensure!(merged["failed"] == 0, "{status}");
        Ok(())
    };
    eventually("most segments are merged", PATIENCE, merged).unwrap();
    for _ in 0..2 {
        all_counted(&server.api(), &sent).unwrap();
        for spans in &sent {
            let found = server.api().trace_spans(&hex(&spans[0].span.trace_id)).unwrap();
            assert_eq!(found.len(), spans.len());
        }
        server.kill().unwrap();
        server.start_again().unwrap();
    }
    let metrics = server.api().get("/metrics", "text/plain").unwrap();
    assert!(
        String::from_utf8_lossy(&metrics.body).contains("longpole_merged_segments_total{when=\"before\"}")
    );
}

#[test]
fn what_was_counted_stays_when_spans_go() {
    let mut rng = StdRng::seed_from_u64(seed());
    let options = ServerOptions::new().unwrap().hasty().env("LONGPOLE_SEAL__INTERVAL", "100ms");
    let options = options.env("LONGPOLE_STORE__SLICE", "2s").env("LONGPOLE_STORE__RETENTION", "4s");
    let mut server = options.start().unwrap();
    let mut sent = trickle(&server, &mut rng, 20).unwrap();
    let first = hex(&sent[0][0].span.trace_id);
    for round in 0..2 {
        sent.extend(trickle(&server, &mut rng, 40).unwrap());
        let gone = || -> Result<()> {
            let status = server.api().json("/api/v1/status")?;
            let freed = &status["housekeeping"]["freed"];
            ensure!(freed["partitions"].as_u64() >= Some(1) && freed["spans"].as_u64() > Some(0), "{status}");
            ensure!(freed["last_unix_nano"].is_string() && freed["bytes"].as_u64() > Some(0), "{status}");
            let rollups = &status["housekeeping"]["rollups"]["minute"];
            ensure!(rollups["spans"].as_u64() >= freed["spans"].as_u64(), "{status}");
            if round == 0 {
                // In this process everything that was sent is kept or was freed.
                let kept = |what: &str| status["store"][what].as_u64().unwrap_or(0);
                let here = kept("sealed_spans") + kept("live_spans") + freed["spans"].as_u64().unwrap_or(0);
                ensure!(here == sent.iter().map(Vec::len).sum::<usize>() as u64, "{here}: {status}");
            }
            Ok(())
        };
        eventually("a partition goes", PATIENCE, gone).unwrap();
        all_counted(&server.api(), &sent).unwrap_or_else(|error| panic!("round {round}: {error:#}"));
        server.kill().unwrap();
        server.start_again().unwrap();
        all_counted(&server.api(), &sent).unwrap_or_else(|error| panic!("round {round}, again: {error:#}"));
    }
    assert_eq!(server.api().trace_spans(&first).unwrap().len(), 0, "its spans are not kept any more");
    let answer = latency(&server.api()).unwrap();
    assert_eq!(answer["resolution_nanos"], 60_000_000_000_u64);
}
