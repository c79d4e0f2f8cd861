//! Promise: `memory` is honoured however many ask at a time.
#![allow(clippy::print_stdout)]

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use longpole_tests::traffic::{now_nanos, resource_spans};
use longpole_tests::{Api, Exporter, Server, ServerOptions, eventually};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1::Span;

const SERVICES: u64 = 40;
const OPERATIONS: u64 = 20;
const TRACES: u64 = 60_000;
const TRACES_A_REQUEST: u64 = 600;
const SPANS_A_TRACE: u64 = 10;
const SECOND: u64 = 1_000_000_000;
/// As many as may ask at one time on two processors.
const ASKERS: usize = 16;

/// Span `nth` of a trace: a chain through ten services, of which each takes its own time.
fn span(trace: u64, nth: u64, now: u64) -> (u64, Span) {
    let mixed = (trace * SPANS_A_TRACE + nth).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let start = now - 600 * SECOND + trace * (600 * SECOND / TRACES) + nth * 1_000;
    let length = 1_000 + (mixed >> 40) * (mixed >> 58);
    let span = Span {
        trace_id: [0x6d65_6d6f_7279_u64.to_be_bytes(), (trace + 1).to_be_bytes()].concat(),
        span_id: (nth + 1).to_be_bytes().to_vec(),
        parent_span_id: if nth == 0 { Vec::new() } else { nth.to_be_bytes().to_vec() },
        name: format!("operation {}", (trace + nth) % OPERATIONS),
        kind: 2,
        start_time_unix_nano: start,
        end_time_unix_nano: start + length,
        ..Span::default()
    };
    ((trace * 7 + nth * 3) % SERVICES, span)
}

fn send_all(exporter: &Exporter) -> Result<()> {
    let now = now_nanos();
    for first in (0..TRACES).step_by(TRACES_A_REQUEST as usize) {
        let mut by_service: BTreeMap<u64, Vec<Span>> = BTreeMap::new();
        for trace in first..first + TRACES_A_REQUEST {
            for (service, span) in (0..SPANS_A_TRACE).map(|nth| span(trace, nth, now)) {
                by_service.entry(service).or_default().push(span);
            }
        }
        let resource_spans = by_service
            .into_iter()
            .map(|(service, spans)| resource_spans(&format!("service {service}"), spans));
        exporter.deliver(&ExportTraceServiceRequest { resource_spans: resource_spans.collect() })?;
    }
    Ok(())
}

fn peak_mib(server: &Server) -> Result<u64> {
    let pid = server.process().context("the server has ended")?;
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM")?;
    Ok(peak.trim().trim_end_matches(" kB").parse::<u64>()? / 1024)
}

/// Asks one long question after the other.
fn ask(api: &Api, asker: usize) -> Result<()> {
    const QUESTIONS: [&str; 5] = [
        "latency?start=now-1h&group_by=service,operation,kind&limit=1000",
        "bottlenecks?start=now-1h&group_by=operation",
        "bottlenecks?start=now-1h",
        "latency?start=now-1h&step=1m&group_by=service",
        "traces?start=now-1h&limit=200",
    ];
    for nth in 0..QUESTIONS.len() {
        let question = QUESTIONS[(asker + nth) % QUESTIONS.len()];
        let answer = api.json(&format!("/api/v1/{question}"))?;
        ensure!(answer["complete"] == true, "{question}: {}", answer["incomplete"]);
    }
    Ok(())
}

#[test]
fn sixteen_long_questions_at_a_time_stay_within_the_least_that_works() {
    const MEMORY: u64 = 128;
    let options = ServerOptions::new().unwrap().hasty().env("LONGPOLE_MEMORY", "128MiB");
    let server = options.start().unwrap();
    send_all(&server.exporter().unwrap()).unwrap();
    let api = server.api();
    eventually("all traces are analysed and sealed", Duration::from_secs(60), || {
        let status = api.json("/api/v1/status")?;
        ensure!(status["counters"]["traces_analysed"] == TRACES, "{}", status["counters"]);
        ensure!(status["open"]["traces"] == 0, "{}", status["open"]);
        Ok(())
    })
    .unwrap();
    let before = peak_mib(&server).unwrap();
    std::thread::scope(|scope| {
        let askers: Vec<_> = (0..ASKERS)
            .map(|asker| {
                let api = &api;
                scope.spawn(move || ask(api, asker))
            })
            .collect();
        askers.into_iter().for_each(|asker| asker.join().unwrap().unwrap());
    });
    let peak = peak_mib(&server).unwrap();
    println!("peak {before} MiB before questions, {peak} MiB with them");
    assert!(peak <= MEMORY, "{peak} MiB");
}
