//! Promise: whatever traces are like and however their spans come, memory is bounded, answers are exact, and what was odd
//! is counted in `status` and `/metrics`.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "what its tests share is test code too")]

use std::collections::HashSet;
use std::ops::Range;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use longpole_tests::traffic::{Sent, hex, now_nanos, request, resource_spans, trace};
use longpole_tests::{Api, Exporter, Server, ServerOptions, eventually, metric};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1::{Span, TracesData};
use prost::Message as _;
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use serde_json::Value;

const BATCH: usize = 8_192;
const SECOND: u64 = 1_000_000_000;
const HOUR: u64 = 3_600 * SECOND;
const PATIENCE: Duration = Duration::from_secs(120);
const INTERNAL: i32 = 1;
const SERVER: i32 = 2;
const CLIENT: i32 = 3;

/// A small span; `parent` 0 is none.
fn span(trace: u64, id: u64, parent: u64, start: u64, length: u64) -> Span {
    let parent_span_id = if parent == 0 { Vec::new() } else { parent.to_be_bytes().to_vec() };
    Span {
        trace_id: [0x51_7e55_u64.to_be_bytes(), trace.to_be_bytes()].concat(),
        span_id: id.to_be_bytes().to_vec(),
        parent_span_id,
        name: "s".to_owned(),
        kind: INTERNAL,
        start_time_unix_nano: start,
        end_time_unix_nano: start + length,
        ..Span::default()
    }
}

fn trace_id(trace: u64) -> String {
    hex(&span(trace, 1, 0, 0, 0).trace_id)
}

fn send(exporter: &Exporter, spans: impl Iterator<Item = Span>) {
    let mut spans = spans.peekable();
    while spans.peek().is_some() {
        let part: Vec<Span> = spans.by_ref().take(BATCH).collect();
        let resource_spans = vec![resource_spans("stress", part)];
        exporter.deliver(&ExportTraceServiceRequest { resource_spans }).unwrap();
    }
}

/// A counter, which `status` and `/metrics` agree on.
fn counted(api: &Api, name: &str) -> Result<u64> {
    let before = api.json("/api/v1/status")?["counters"][name].as_u64().with_context(|| name.to_owned())?;
    let text = api.get("/metrics", "text/plain")?.body;
    let metrics = metric(&String::from_utf8_lossy(&text), &format!("longpole_{name}_total"))? as u64;
    let after = api.json("/api/v1/status")?["counters"][name].as_u64().unwrap_or(0);
    ensure!((before..=after).contains(&metrics), "{name}: {before}, {metrics}, {after}");
    Ok(after)
}

/// Waits until so many distinct spans were taken in and all of it is analysed and sealed.
fn settled(api: &Api, spans: u64) {
    eventually("all is taken in and analysed", PATIENCE, || {
        let status = api.json("/api/v1/status")?;
        let counters = &status["counters"];
        ensure!(counters["spans"] == spans, "{counters}");
        ensure!(status["open"]["traces"] == 0 && status["store"]["live_spans"] == 0, "{status}");
        Ok(())
    })
    .unwrap();
}

/// The ids of a trace's spans, through all pages; each span must come once.
fn ids_of(api: &Api, trace: u64) -> Result<HashSet<u64>> {
    let mut ids = HashSet::new();
    let mut cursor = String::new();
    loop {
        let path = format!("/api/v1/traces/{}?limit=100000{cursor}", trace_id(trace));
        let (page, next) = api.page(&path)?;
        for resource in TracesData::decode(page.as_slice())?.resource_spans {
            for span in resource.scope_spans.into_iter().flat_map(|scope| scope.spans) {
                let id = u64::from_be_bytes(span.span_id.as_slice().try_into()?);
                ensure!(ids.insert(id), "span {id} comes twice");
            }
        }
        match next {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return Ok(ids),
        }
    }
}

/// All spans that latency counts.
fn latencies(api: &Api) -> Result<u64> {
    let end = now_nanos() + 2 * HOUR;
    let answer = api.json(&format!("/api/v1/latency?start=0&end={end}"))?;
    ensure!(answer["complete"] == true, "{answer}");
    let series = answer["series"].as_array().cloned().unwrap_or_default();
    Ok(series.iter().filter_map(|series| series["count"].as_u64()).sum())
}

/// What a search by trace says of it.
fn hit_of(api: &Api, trace: u64, window: &Range<u64>) -> Result<Value> {
    let query = format!("start={}&end={}&order=newest", window.start, window.end);
    let hits = api.walk_traces(&query, 1_000)?;
    let id = trace_id(trace);
    let mut of_trace = hits.into_iter().filter(|hit| hit["trace_id"] == *id);
    let hit = of_trace.next().with_context(|| format!("trace {trace} is not found"))?;
    ensure!(of_trace.next().is_none(), "trace {trace} is found twice");
    Ok(hit)
}

/// A trace's critical path: what its services have of it is as long as its root.
fn path_adds_up(api: &Api, trace: u64) -> Result<Value> {
    let path = api.json(&format!("/api/v1/traces/{}/critical-path", trace_id(trace)))?;
    let shares = path["by_service"].as_array().context("no by_service")?;
    let sum: u64 = shares.iter().filter_map(|share| share["exclusive_nanos"].as_u64()).sum();
    ensure!(path["duration_nanos"] == sum, "{sum} of {}", path["duration_nanos"]);
    Ok(path)
}

fn peak_mib(server: &Server) -> u64 {
    let pid = server.process().unwrap();
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    peak.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024
}

fn within_memory(server: &Server, memory: u64) {
    let peak = peak_mib(server);
    println!("peak memory {peak} MiB of {memory}");
    assert!(peak <= memory, "{peak} MiB");
}

#[test]
fn a_trace_of_a_million_spans_is_answered_exactly_also_when_more_of_it_comes_late() {
    const SPANS: u64 = 1_000_000;
    let server = ServerOptions::new().unwrap().hasty().start().unwrap();
    let (api, exporter) = (server.api(), server.exporter().unwrap());
    let start = now_nanos() - HOUR;
    let length = SPANS * 2_000;
    // Four children a span, one after the other.
    let one = |id: u64| match id {
        1 => span(1, 1, 0, start, length),
        _ => span(1, id, id / 4 + u64::from(id < 4), start + id * 1_000, 500),
    };
    send(&exporter, (1..=SPANS).map(one));
    settled(&api, SPANS);
    let window = start - SECOND..start + SECOND;
    let check = |spans: u64| {
        let hit = hit_of(&api, 1, &window).unwrap();
        assert_eq!((&hit["spans"], &hit["duration_nanos"]), (&spans.into(), &length.into()));
        assert_eq!((&hit["state"], &hit["missing_parents"]), (&"final".into(), &0.into()));
        assert_eq!(hit["root"]["operation"], "s");
        assert_eq!(latencies(&api).unwrap(), spans);
        let path = path_adds_up(&api, 1).unwrap();
        assert_eq!(path["duration_nanos"], length);
    };
    check(SPANS);
    let ids = ids_of(&api, 1).unwrap();
    assert!(ids.len() as u64 == SPANS && ids.iter().all(|id| (1..=SPANS).contains(id)));

    // One span comes late, and a part of the rest again with it.
    let late = std::iter::once(span(1, SPANS + 1, 1, start + 5, 5));
    send(&exporter, (500_000..508_191).map(one).chain(late));
    settled(&api, SPANS + 1);
    check(SPANS + 1);
    assert_eq!(counted(&api, "duplicate_spans").unwrap(), 8_191);
    assert_eq!(counted(&api, "late_spans").unwrap(), 1);
    assert!(counted(&api, "traces_held_in_part").unwrap() >= 1);
    assert_eq!(counted(&api, "traces_too_large").unwrap(), 0);
    assert_eq!(ids_of(&api, 1).unwrap().len() as u64, SPANS + 1);
    within_memory(&server, 512);
}

#[test]
fn odd_traces_are_whole_and_what_is_odd_is_counted() {
    const N: u64 = 50_000;
    let server = ServerOptions::new().unwrap().hasty().start().unwrap();
    let (api, exporter) = (server.api(), server.exporter().unwrap());
    let start = now_nanos() - 13 * HOUR;
    let ten_thousand_roots = |id: u64| match id {
        1..=10_000 => span(1, id, 0, start + id, N),
        _ => span(1, id, id % 10_000 + 1, start + id, 5),
    };
    let no_parents = |id: u64| span(2, id, id + N, start + id, 5);
    let circles = |id: u64| span(3, id, if id.is_multiple_of(10) { id - 9 } else { id + 1 }, start + id, 5);
    // A CLIENT and a SERVER have one id.
    let shared =
        |n: u64| Span { kind: [CLIENT, SERVER][n as usize % 2], ..span(4, n / 2 + 1, 0, start + n, 5) };
    let backward =
        |id: u64| Span { end_time_unix_nano: start, ..span(5, id, u64::from(id > 1), start + id, 0) };
    // Twelve hours long; its services' clocks are minutes off, to both sides.
    let long = |id: u64| match id {
        1 => span(6, 1, 0, start, 12 * HOUR),
        _ => span(
            6,
            id,
            1,
            (start + id * 40 * SECOND).wrapping_add_signed((id as i64 % 7 - 3) * 300_000_000_000),
            SECOND,
        ),
    };
    // From a clock that is ten minutes ahead of ours.
    let ahead = now_nanos() + 600 * SECOND;
    let future = |id: u64| span(7, id, u64::from(id > 1), ahead, 1_000);
    send(&exporter, (1..=N).map(ten_thousand_roots));
    send(&exporter, (1..=N).map(no_parents));
    send(&exporter, (1..=N).map(circles));
    send(&exporter, (0..N).map(shared));
    let own_parents = |id: u64| span(8, id, id, start + id, 5);
    // Forty ids that two different spans have.
    let conflicts = |n: u64| match n {
        0 => span(9, 1, 0, start, N),
        _ => span(9, n % 40 + 2, 1, start + n, 5),
    };
    // One request: nothing of it is analysed before all of it is there.
    let few = || {
        let clocks = (1..=1_000).map(long).chain((1..=110).map(future));
        (1..=100).map(backward).chain(clocks).chain((1..=70).map(own_parents)).chain((0..=80).map(conflicts))
    };
    send(&exporter, few());
    let all = 4 * N + 1_361;
    settled(&api, all);
    assert_eq!(counted(&api, "duplicate_spans").unwrap(), 0);
    send(&exporter, few().take(1_130));
    assert_eq!(counted(&api, "duplicate_spans").unwrap(), 1_130);
    assert_eq!(counted(&api, "spans_ahead_of_clock").unwrap(), 110);
    assert_eq!(counted(&api, "spans_behind_clock").unwrap(), all - 110);
    assert_eq!(latencies(&api).unwrap(), all);

    let window = start - HOUR..ahead + HOUR;
    for (trace, spans) in [(1, N), (2, N), (3, N), (4, N), (5, 100), (6, 1_000), (7, 110), (8, 70), (9, 81)] {
        let hit = hit_of(&api, trace, &window).unwrap();
        assert_eq!(hit["spans"], spans, "trace {trace}");
        path_adds_up(&api, trace).unwrap();
        if trace != 4 && trace != 9 {
            assert_eq!(ids_of(&api, trace).unwrap().len() as u64, spans);
        }
    }
    let no_root = hit_of(&api, 2, &window).unwrap();
    assert_eq!((&no_root["root"], &no_root["missing_parents"]), (&Value::Null, &N.into()));
    let anomalies = |trace: u64| {
        let answer = api.json(&format!("/api/v1/traces/{}?limit=1", trace_id(trace))).unwrap();
        assert!(answer["anomalies"].as_array().is_some_and(|list| (1..=1_000).contains(&list.len())));
        answer["anomaly_counts"].clone()
    };
    assert_eq!(anomalies(1), serde_json::json!({"second_root": 9_999}));
    assert_eq!(anomalies(2), serde_json::json!({"missing_parent": N}));
    assert_eq!(anomalies(3), serde_json::json!({"cycle": N / 10}));
    assert_eq!(anomalies(4), serde_json::json!({"shared_id": N / 2, "second_root": N / 2 - 1}));
    assert_eq!(anomalies(5), serde_json::json!({"end_before_start": 100}));
    let early = (2..=1_000).filter(|id| id * 40 + (id % 7 - 3) * 300 + 1 < 0).count() as u64;
    assert_eq!(anomalies(6), serde_json::json!({"before_parent": early}));
    assert_eq!(anomalies(8), serde_json::json!({"self_parent": 70}));
    assert_eq!(anomalies(9), serde_json::json!({"id_conflict": 40}));
    assert_eq!(path_adds_up(&api, 6).unwrap()["duration_nanos"], 12 * HOUR);
    for (kind, spans) in
        [("missing_parent", N), ("cycle", N / 10), ("shared_id", N / 2), ("second_root", 9_999 + N / 2 - 1)]
    {
        // More where a pause let one of them be analysed before it had all come.
        let found = counted(&api, &format!("anomaly_{kind}")).unwrap();
        assert!(found >= spans, "{kind}: {found}");
    }
    for (kind, spans) in
        [("end_before_start", 100), ("self_parent", 70), ("id_conflict", 40), ("before_parent", early)]
    {
        assert_eq!(counted(&api, &format!("anomaly_{kind}")).unwrap(), spans, "{kind}");
    }
    within_memory(&server, 512);
}

#[test]
fn fifty_thousand_traces_are_open_at_once() {
    const TRACES: u64 = 50_000;
    let server =
        ServerOptions::new().unwrap().hasty().env("LONGPOLE_ASSEMBLE__IDLE_ROOTLESS", "10m").start().unwrap();
    let (api, exporter) = (server.api(), server.exporter().unwrap());
    let start = now_nanos() - HOUR;
    let at = |trace: u64| start + trace * 1_000;
    send(&exporter, (1..=2 * TRACES).map(|n| span(n / 2 + n % 2, n % 2 + 2, 1, at(n / 2 + n % 2), n)));
    let api = &api;
    eventually("all are open", PATIENCE, || {
        let open = &api.json("/api/v1/status")?["open"];
        ensure!(open["traces"] == TRACES && open["spans"] == 2 * TRACES, "{open}");
        Ok(())
    })
    .unwrap();
    // The slowest of all that are open.
    let window = format!("start={}&end={}", start - SECOND, start + SECOND);
    let slowest = api.json(&format!("/api/v1/traces?{window}&limit=5")).unwrap();
    let ids: Vec<&str> =
        slowest["traces"].as_array().unwrap().iter().filter_map(|t| t["trace_id"].as_str()).collect();
    let wanted: Vec<String> = (0..5).map(|n| trace_id(TRACES - n)).collect();
    assert_eq!(ids, wanted);
    assert_eq!(
        (&slowest["traces"][0]["state"], &slowest["traces"][0]["missing_parents"]),
        (&"open".into(), &2.into())
    );

    send(&exporter, (1..=TRACES).map(|trace| span(trace, 1, 0, at(trace), 2 * TRACES)));
    settled(api, 3 * TRACES);
    let hits = api.walk_traces(&window, 1_000).unwrap();
    assert!(hits.len() as u64 == TRACES, "{} traces", hits.len());
    assert!(
        hits.iter().all(|hit| hit["spans"] == 3 && hit["missing_parents"] == 0 && hit["state"] == "final")
    );
    assert_eq!(latencies(api).unwrap(), 3 * TRACES);
    assert_eq!(counted(api, "traces_finished_early").unwrap(), 0);
    within_memory(&server, 512);
}

#[test]
fn more_than_may_be_held_is_finished_early_and_put_right_later() {
    const TRACES: u64 = 20_000;
    let server = ServerOptions::new()
        .unwrap()
        .hasty()
        .env("LONGPOLE_ASSEMBLE__IDLE_ROOTLESS", "5s")
        .env("LONGPOLE_ASSEMBLE__SPANS_MAX", "10000")
        .start()
        .unwrap();
    let (api, exporter) = (server.api(), server.exporter().unwrap());
    let start = now_nanos() - HOUR;
    let at = |trace: u64| start + trace * 1_000;
    for part in [2, 3, 1] {
        send(
            &exporter,
            (1..=TRACES).map(|trace| span(trace, part, u64::from(part > 1), at(trace), part * 1_000)),
        );
    }
    settled(&api, 3 * TRACES);
    let window = format!("start={}&end={}", start - SECOND, start + SECOND);
    let hits = api.walk_traces(&window, 1_000).unwrap();
    assert_eq!(hits.len() as u64, TRACES);
    assert!(hits.iter().all(|hit| hit["spans"] == 3 && hit["missing_parents"] == 0), "{}", hits[0]);
    assert_eq!(latencies(&api).unwrap(), 3 * TRACES);
    assert!(counted(&api, "traces_finished_early").unwrap() > 0);
    assert!(counted(&api, "late_spans").unwrap() > 0 && counted(&api, "traces_analysed_again").unwrap() > 0);
}

#[test]
fn spans_an_hour_late_and_everything_three_times_count_once() {
    const TRACES: u64 = 3_000;
    const EACH: u64 = 20;
    let server = ServerOptions::new().unwrap().hasty().start().unwrap();
    let (api, exporter) = (server.api(), server.exporter().unwrap());
    let start = now_nanos() - HOUR;
    let of = |trace: u64, id: u64| span(trace, id, u64::from(id > 1), start + trace * 1_000, 100 + EACH - id);
    let all = |ids: Range<u64>| (1..=TRACES).flat_map(move |trace| ids.clone().map(move |id| of(trace, id)));
    send(&exporter, all(1..EACH));
    settled(&api, TRACES * (EACH - 1));
    // One span of each comes now, when its trace is long sealed.
    send(&exporter, all(EACH..EACH + 1));
    settled(&api, TRACES * EACH);
    assert_eq!(counted(&api, "late_spans").unwrap(), TRACES);
    for time in 1..=3 {
        send(&exporter, all(1..EACH + 1));
        eventually("the repeats are recognised", PATIENCE, || {
            let repeats = counted(&api, "duplicate_spans")?;
            ensure!(repeats == time * TRACES * EACH, "{repeats}");
            Ok(())
        })
        .unwrap();
    }
    settled(&api, TRACES * EACH);
    assert_eq!(latencies(&api).unwrap(), TRACES * EACH);
    let window = format!("start={}&end={}", start - SECOND, start + SECOND);
    let hits = api.walk_traces(&window, 1_000).unwrap();
    assert!(
        hits.len() as u64 == TRACES
            && hits.iter().all(|hit| hit["spans"] == EACH && hit["missing_parents"] == 0)
    );
    for trace in [1, TRACES] {
        assert_eq!(ids_of(&api, trace).unwrap(), (1..=EACH).collect());
        path_adds_up(&api, trace).unwrap();
    }
    within_memory(&server, 512);
}

#[test]
fn a_client_that_has_one_trace_for_everything_neither_fills_memory_nor_loses_a_span() {
    const SPANS: u64 = 600_000;
    const MEMORY: u64 = 128;
    let options = ServerOptions::new().unwrap().hasty().env("LONGPOLE_MEMORY", "128MiB");
    let server = options.env("LONGPOLE_ASSEMBLE__IDLE_ROOTLESS", "1s").start().unwrap();
    let (api, exporter) = (server.api(), server.exporter().unwrap());
    let start = now_nanos() - HOUR;
    // A root a thousand spans, and every part twice.
    let one = |id: u64| {
        span(1, id, id / 1_000 * 1_000 * u64::from(!id.is_multiple_of(1_000)), start + id * 1_000, 500)
    };
    for part in (1..=SPANS / BATCH as u64).map(|nth| (nth - 1) * BATCH as u64 + 1..nth * BATCH as u64 + 1) {
        send(&exporter, part.clone().map(one));
        send(&exporter, part.map(one));
    }
    let spans = SPANS / BATCH as u64 * BATCH as u64;
    settled(&api, spans);
    within_memory(&server, MEMORY);
    assert_eq!(counted(&api, "duplicate_spans").unwrap(), spans);
    assert!(counted(&api, "traces_too_large").unwrap() >= 1);
    assert_eq!(latencies(&api).unwrap(), spans);
    let hit = hit_of(&api, 1, &(start - SECOND..start + SECOND)).unwrap();
    assert_eq!((&hit["spans"], &hit["root"]["operation"]), (&spans.into(), &"s".into()));
    let answer = api.json(&format!("/api/v1/traces/{}?limit=10", trace_id(1))).unwrap();
    let says = |answer: &Value, reason: &str| answer["incomplete"].to_string().contains(reason);
    assert!(answer["complete"] == false && says(&answer, "trace_too_large") && says(&answer, "page"));
    let path = path_adds_up(&api, 1).unwrap();
    assert!(path["complete"] == false && says(&path, "trace_too_large"));
    assert_eq!(ids_of(&api, 1).unwrap().len() as u64, spans);
    // Late, again, and again: looked up where they would lie.
    send(&exporter, (1..1_000).map(one).chain(std::iter::once(span(1, SPANS * 2, 1_000, start, 5))));
    settled(&api, spans + 1);
    assert_eq!(counted(&api, "duplicate_spans").unwrap(), spans + 999);
    assert_eq!(hit_of(&api, 1, &(start - SECOND..start + SECOND)).unwrap()["spans"], spans + 1);
    within_memory(&server, MEMORY + 64);
}

/// Not a test: prints what repeats and late spans cost the server, in CPU seconds a million spans until all is sealed.
/// `cargo test --release -p longpole-tests --test assembly_under_stress -- --ignored --nocapture`
#[test]
#[ignore = "measures"]
fn what_repeats_and_late_spans_cost() {
    const TRACES: usize = 40_000;
    let server = ServerOptions::new().unwrap().hasty().start().unwrap();
    let (api, exporter) = (server.api(), server.exporter().unwrap());
    let mut rng = StdRng::seed_from_u64(1);
    let mut load = |start: u64| -> Vec<Vec<Sent>> {
        let one = |rng: &mut StdRng| loop {
            let spans = trace(rng, start);
            // The last one is to come late, and nothing hangs on it.
            if spans.len() > 2 {
                return spans;
            }
        };
        (0..TRACES).map(|_| one(&mut rng)).collect()
    };
    let requests = |traces: &[Vec<Sent>], keep: &dyn Fn(&[Sent]) -> Vec<Sent>| -> Vec<(Bytes, u64)> {
        let parts =
            traces.chunks(700).map(|some| some.iter().flat_map(|spans| keep(spans)).collect::<Vec<_>>());
        parts.map(|spans| (request(&spans).encode_to_vec().into(), spans.len() as u64)).collect()
    };
    let (mut distinct, mut repeats) = (0, 0);
    let mut phase = |name: &str, requests: &[(Bytes, u64)], times: u64, new: u64| {
        let before = cpu_seconds(&server);
        let mut sent = 0;
        for (bytes, spans) in requests {
            for _ in 0..times {
                eventually("export", PATIENCE, || Ok(exporter.export_bytes(bytes.clone())?)).unwrap();
                sent += spans;
            }
        }
        distinct += new;
        repeats += sent - new;
        eventually("all repeats are recognised", PATIENCE, || {
            let found = counted(&api, "duplicate_spans")?;
            ensure!(found == repeats, "{found} of {repeats}");
            Ok(())
        })
        .unwrap();
        settled(&api, distinct);
        let cpu = cpu_seconds(&server) - before;
        let million = sent as f64 / 1e6;
        println!(
            "{name}: {sent} spans, {cpu:.2} CPU s, {:.2} a million ({repeats} repeats so far)",
            cpu / million
        );
    };
    let count = |requests: &[(Bytes, u64)]| requests.iter().map(|(_, spans)| spans).sum::<u64>();
    let all = |spans: &[Sent]| spans.to_vec();
    let but_one = |spans: &[Sent]| spans[..spans.len() - 1].to_vec();
    let one = |spans: &[Sent]| spans[spans.len() - 1..].to_vec();
    let now = load(now_nanos());
    let (first, rest) = (requests(&now, &but_one), requests(&now, &one));
    let hour_old = requests(&load(now_nanos() - HOUR), &all);
    let thrice = requests(&load(now_nanos()), &all);
    let unlike = requests(&load(now_nanos()), &all);
    phase("fresh", &first, 1, count(&first));
    phase("fresh again, other traces", &unlike, 1, count(&unlike));
    phase("new traces, an hour old", &hour_old, 1, count(&hour_old));
    phase("everything three times in a row", &thrice, 3, count(&thrice));
    phase("sealed, three times again", &first, 3, 0);
    phase("one late span a sealed trace", &rest, 1, count(&rest));
    let encoded = |spans: Vec<Span>| {
        let resource_spans = vec![resource_spans("stress", spans)];
        Bytes::from(ExportTraceServiceRequest { resource_spans }.encode_to_vec())
    };
    let start = now_nanos();
    let one = |id: u64| span(1, id, u64::from(id > 1), start + id, 500);
    let ids: Vec<u64> = (1..=1_000_000).collect();
    let giant: Vec<_> = ids
        .chunks(BATCH)
        .map(|ids| (encoded(ids.iter().copied().map(one).collect()), ids.len() as u64))
        .collect();
    phase("small spans of one trace", &giant, 1, count(&giant));
    phase("one late span of it", &[(encoded(vec![one(1_000_001)]), 1)], 1, 1);
    phase("8,192 of it again", &giant[50..51], 1, 0);
}

fn cpu_seconds(server: &Server) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", server.process().unwrap())).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    // User and system time, in hundredths on every Linux.
    fields[11..13].iter().map(|ticks| ticks.parse::<f64>().unwrap()).sum::<f64>() / 100.0
}
