//! Promise: while the log is replayed after a crash, questions are answered from what is there already and say so,
//! and nothing is said to be missing that may still come; in the end everything is there, once.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use longpole_tests::traffic::{Sent, hex, now_nanos, request, trace};
use longpole_tests::{Api, Server, ServerOptions, eventually, seed};
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(30);
/// Requests, each a frame of its own.
const FRAMES: usize = 24;

#[test]
fn questions_are_answered_while_the_log_is_replayed() {
    let (mut server, frames) = killed(ServerOptions::new().unwrap()).unwrap();
    let api = server.api();
    let obstacles = Obstacles::new(&mut server).unwrap();
    let starting = std::thread::spawn(move || server.start_again().map(|()| server));

    let (first, last) = (&frames[0][0], &frames[FRAMES - 1][0]);
    eventually("it says how far it is", PATIENCE, || half_way(&api, first)).unwrap();
    answers_lack_something(&api, first, last).unwrap();
    assert!(!starting.is_finished(), "not ready half-way");

    obstacles.go().unwrap();
    let server = starting.join().unwrap().unwrap();
    let traces = frames.concat();
    everything_is_there_once(&api, &traces).unwrap();
    // Whoever sent it and never heard sends it again.
    server.exporter().unwrap().deliver(&request(&frames[FRAMES - 1].concat())).unwrap();
    eventually("the repeats are noticed", PATIENCE, || {
        let repeats = api.json("/api/v1/status")?["counters"]["duplicate_spans"].as_u64();
        ensure!(repeats == Some(frames[FRAMES - 1].concat().len() as u64), "{repeats:?}");
        Ok(())
    })
    .unwrap();
    everything_is_there_once(&api, &traces).unwrap();
}

#[test]
fn a_server_that_is_stopped_while_it_replays_ends_in_order_and_the_next_one_has_everything() {
    let folder = tempfile::tempdir().unwrap();
    let sockets = ["grpc", "http"].map(|name| folder.path().join(name));
    let [grpc, http] = [&sockets[0], &sockets[1]].map(|path| format!("unix:{}", path.display()));
    let (mut server, frames) = killed(ServerOptions::new().unwrap().otlp(&grpc, &http)).unwrap();
    let (api, mut traces) = (server.api(), frames.concat());

    let obstacles = Obstacles::new(&mut server).unwrap();
    server.begin_again().unwrap();
    eventually("it is half-way", PATIENCE, || half_way(&api, &traces[0])).unwrap();
    ends_in_order(&mut server, &sockets).unwrap();
    obstacles.go().unwrap();

    // As soon as anything answers, while a client sends.
    server.begin_again().unwrap();
    eventually("it answers", PATIENCE, || api.get("/healthz", "*/*")).unwrap();
    let more = trace(&mut StdRng::seed_from_u64(1), now_nanos());
    let (exporter, asked) = (server.exporter().unwrap(), request(&more));
    let sending = std::thread::spawn(move || exporter.export(&asked));
    ends_in_order(&mut server, &sockets).unwrap();
    let heard = sending.join().unwrap();

    server.start_again().unwrap();
    if heard.is_err() {
        server.exporter().unwrap().deliver(&request(&more)).unwrap();
    }
    traces.push(more);
    everything_is_there_once(&api, &traces).unwrap();
}

/// A server that was killed with all of this in its log and nothing sealed, and the traces of each frame.
fn killed(options: ServerOptions) -> Result<(Server, Vec<Vec<Vec<Sent>>>)> {
    let mut rng = StdRng::seed_from_u64(seed());
    let mut server = options.start()?;
    let mut frames = Vec::new();
    let exporter = server.exporter()?;
    for _ in 0..FRAMES {
        let traces: Vec<Vec<Sent>> = (0..150).map(|_| trace(&mut rng, now_nanos() - 600_000_000)).collect();
        exporter.deliver(&request(&traces.concat()))?;
        frames.push(traces);
    }
    server.kill()?;
    server.stay_at_http();
    Ok((server, frames))
}

/// A cut after a few frames, and a segment that cannot be written: the replay stands still half-way.
struct Obstacles(Vec<PathBuf>);

impl Obstacles {
    fn new(server: &mut Server) -> Result<Self> {
        server.set_env("LONGPOLE_SEAL__BYTES", "1MiB");
        let at = |n| server.data_dir().join(format!("ingest/segment-{n:08}.sst"));
        let obstacles: Vec<_> = (0..10).map(at).collect();
        obstacles.iter().try_for_each(std::fs::create_dir)?;
        Ok(Self(obstacles))
    }

    fn go(self) -> Result<()> {
        Ok(self.0.iter().try_for_each(std::fs::remove_dir)?)
    }
}

fn ends_in_order(server: &mut Server, sockets: &[PathBuf]) -> Result<()> {
    let status = server.terminate()?;
    ensure!(status.code() == Some(0), "{status}: {}", server.log_tail());
    ensure!(sockets.iter().all(|path| !path.exists()), "a socket is left behind");
    Ok(())
}

fn half_way(api: &Api, first: &[Sent]) -> Result<()> {
    let ready = api.get("/readyz", "*/*")?;
    let message = ready.json()?["error"]["message"].to_string();
    ensure!(ready.status == 503 && message.contains(&format!("of {FRAMES} frames")), "{message}");
    let recovering = &api.json("/api/v1/status")?["recovering"];
    ensure!(recovering.as_str().is_some_and(|text| message.contains(text)), "{recovering}, {message}");
    let found = api.get(&path_of(first), "application/json")?;
    ensure!(found.status == 200, "the first trace: {}", found.status);
    Ok(())
}

fn answers_lack_something(api: &Api, first: &[Sent], last: &[Sent]) -> Result<()> {
    let paths = [
        "/api/v1/services".to_owned(),
        "/api/v1/services/web/operations".to_owned(),
        "/api/v1/traces?limit=5".to_owned(),
        "/api/v1/traces?service=web&limit=5".to_owned(),
        path_of(first),
        format!("{}/critical-path", path_of(first)),
        "/api/v1/latency".to_owned(),
        "/api/v1/bottlenecks".to_owned(),
    ];
    for path in &paths {
        let answer = api.json(path)?;
        let reasons = answer["incomplete"].as_array().context("no reasons")?;
        let named = reasons.iter().any(|why| why["reason"] == "recovering");
        ensure!(answer["complete"] == false && named, "{path}: {answer}");
    }
    let found = api.json("/api/v1/traces?limit=5")?;
    let hits = found["traces"].as_array().context("no traces")?;
    ensure!(hits.len() == 5 && hits.iter().all(|hit| hit["state"] == "open"), "{found}");
    ensure!(api.json("/api/v1/services")?["services"][0]["spans"].as_u64() > Some(0), "nothing is there");
    // What is not there yet is not missing, and protobuf cannot say that it lacks something.
    for (path, accept) in
        [(last, "application/json"), (first, "application/x-protobuf")].map(|(t, a)| (path_of(t), a))
    {
        let answer = api.get(&path, accept)?;
        let error = answer.json()?["error"].clone();
        ensure!(answer.status == 503 && error["code"] == "not_ready", "{path}: {} {error}", answer.status);
    }
    // Counters are of this process, which has taken nothing yet.
    let text = String::from_utf8(api.get("/metrics", "text/plain")?.body)?;
    ensure!(!text.contains("traces_spanmetrics_calls_total{"), "replayed spans are counted as new");
    Ok(())
}

fn everything_is_there_once(api: &Api, traces: &[Vec<Sent>]) -> Result<()> {
    let ready = api.get("/readyz", "*/*")?;
    ensure!(ready.status == 200, "{}", String::from_utf8_lossy(&ready.body));
    ensure!(api.json("/api/v1/status")?["recovering"].is_null());
    let services = api.json("/api/v1/services")?;
    ensure!(services["complete"] == true, "{services}");
    let counted: u64 = rows(&services["services"]).iter().filter_map(|row| row["spans"].as_u64()).sum();
    let sent = traces.iter().map(Vec::len).sum::<usize>() as u64;
    ensure!(counted == sent, "{counted} of {sent} spans");
    let latency = api.json(&format!("/api/v1/latency?start=0&end={}", now_nanos() + 3_600_000_000_000))?;
    let measured: u64 = rows(&latency["series"]).iter().filter_map(|row| row["count"].as_u64()).sum();
    ensure!(measured == sent, "{measured} of {sent} spans are in histograms");
    for spans in traces.iter().step_by(37) {
        let found = api.trace_spans(&hex(&spans[0].span.trace_id))?;
        ensure!(found.len() == spans.len(), "{} of {} spans of a trace", found.len(), spans.len());
    }
    Ok(())
}

fn rows(of: &Value) -> &[Value] {
    of.as_array().map_or(&[], Vec::as_slice)
}

fn path_of(trace: &[Sent]) -> String {
    format!("/api/v1/traces/{}", hex(&trace[0].span.trace_id))
}
