//! Promise: what is stored stays stored over a stop, a crash in the middle of a seal, and a torn end of the log.

use std::collections::HashMap;
use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use longpole_tests::traffic::{Sent, hex, now_nanos, request, trace};
use longpole_tests::{Api, Server, ServerOptions, eventually, seed};
use opentelemetry_proto::tonic::trace::v1::Span;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

#[test]
fn a_stop_and_a_start_keep_everything() {
    let mut rng = StdRng::seed_from_u64(seed());
    let mut server = ServerOptions::new().unwrap().hasty().start().unwrap();
    let mut traces = Vec::new();
    for round in 0..3 {
        let more = some_traces(&mut rng, 40);
        server.exporter().unwrap().deliver(&request(&more.concat())).unwrap();
        traces.extend(more);
        let before = slowest(&server.api()).unwrap();
        assert!(server.terminate().unwrap().success(), "round {round}: {}", server.log_tail());
        server.start_again().unwrap();
        check_all(&server, &traces).unwrap();
        let after = slowest(&server.api()).unwrap();
        assert_eq!(before, after, "round {round}");
    }
}

#[test]
fn a_kill_in_the_middle_of_sealing_loses_nothing() {
    let mut rng = StdRng::seed_from_u64(seed());
    let options = ServerOptions::new().unwrap().hasty().env("LONGPOLE_SEAL__INTERVAL", "50ms");
    let mut server = options.start().unwrap();
    let mut traces = Vec::new();
    for _ in 0..8 {
        let more = some_traces(&mut rng, 150);
        let exporter = server.exporter().unwrap();
        for some in more.chunks(15) {
            exporter.deliver(&request(&some.concat())).unwrap();
        }
        traces.extend(more);
        // With a seal every 50 ms this falls into one more often than not.
        std::thread::sleep(Duration::from_millis(rng.random_range(0..120)));
        server.kill().unwrap();
        server.start_again().unwrap();
    }
    check_all(&server, &traces).unwrap();
}

#[test]
fn a_torn_end_of_the_log_costs_no_more_than_itself() {
    let mut rng = StdRng::seed_from_u64(seed());
    let mut server = Server::start().unwrap();
    let traces = some_traces(&mut rng, 60);
    let exporter = server.exporter().unwrap();
    let (early, last) = traces.split_at(40);
    exporter.deliver(&request(&early.concat())).unwrap();
    exporter.deliver(&request(&last.concat())).unwrap();
    drop(exporter);
    server.kill().unwrap();

    // A power loss in the middle of a write: the end of the newest write-ahead file is cut off.
    let wal = newest_wal(&server.data_dir()).unwrap();
    let length = wal.metadata().unwrap().len();
    OpenOptions::new().write(true).open(&wal).unwrap().set_len(length - 7).unwrap();
    server.start_again().unwrap();
    check_all(&server, early).unwrap();
    check_torn_end_is_said(&server.api(), &wal).unwrap();

    // What was lost can be sent again, and counts once.
    server.exporter().unwrap().deliver(&request(&traces.concat())).unwrap();
    check_all(&server, &traces).unwrap();
}

#[test]
fn a_data_folder_that_is_a_file_is_refused() {
    let options = ServerOptions::new().unwrap();
    std::fs::write(options.data_dir(), "not a store").unwrap();
    let data = options.data_dir();
    let error = format!("{:#}", options.start().unwrap_err());
    assert!(error.contains("did not get ready"), "{error}");
    // The message names the path.
    assert!(error.contains(data.file_name().unwrap().to_str().unwrap()), "{error}");
}

#[test]
fn two_servers_never_share_a_store() {
    let server = Server::start().unwrap();
    let data = server.data_dir();
    let mut other = std::process::Command::new(longpole_tests::program().unwrap());
    other.args([
        "serve",
        "--otlp-grpc",
        "127.0.0.1:0",
        "--otlp-http",
        "127.0.0.1:0",
        "--http",
        "127.0.0.1:0",
    ]);
    other.arg("--data-dir").arg(&data).stdin(std::process::Stdio::null());
    let mut child =
        other.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).spawn().unwrap();
    let ended = eventually("the second server gives up", Duration::from_secs(30), || {
        child.try_wait()?.context("still running")
    });
    // Whatever came of it, it does not outlive the test.
    let _ = child.kill();
    let _ = child.wait();
    assert!(!ended.unwrap().success());
    assert_eq!(server.api().get("/healthz", "*/*").unwrap().status, 200);
}

/// In the status, by file and frame, and as a counter; and nowhere as damage.
fn check_torn_end_is_said(api: &Api, wal: &Path) -> Result<()> {
    let status = api.json("/api/v1/status")?;
    let said = status["store"]["torn_log_end"].as_str().context("nothing is said")?;
    let file = wal.file_name().context("no name")?.to_string_lossy();
    ensure!(said.contains(&format!("of {file} after frame ")), "{said}");
    ensure!(status["counters"]["torn_log_ends"] == 1, "{}", status["counters"]);
    ensure!(status["damaged"].as_array().is_some_and(Vec::is_empty), "{}", status["damaged"]);
    let metrics = api.get("/metrics", "text/plain")?;
    ensure!(String::from_utf8_lossy(&metrics.body).contains("longpole_torn_log_ends_total 1"));
    ensure!(api.get("/readyz", "*/*")?.status == 200);
    Ok(())
}

fn some_traces(rng: &mut StdRng, count: usize) -> Vec<Vec<Sent>> {
    (0..count).map(|_| trace(rng, now_nanos() - 600_000_000)).collect()
}

fn check_all(server: &Server, traces: &[Vec<Sent>]) -> Result<()> {
    let api = server.api();
    for spans in traces {
        let id = hex(&spans.first().context("an empty trace")?.span.trace_id);
        let sent: HashMap<&[u8], &Span> =
            spans.iter().map(|s| (s.span.span_id.as_slice(), &s.span)).collect();
        let found = api.trace_spans(&id)?;
        ensure!(found.len() == sent.len(), "trace {id} has {} of {} spans", found.len(), sent.len());
        for span in &found {
            ensure!(
                sent.get(span.span_id.as_slice()) == Some(&span),
                "trace {id}: not what was sent: {span:?}"
            );
        }
    }
    Ok(())
}

/// Ids and durations of the slowest traces.
fn slowest(api: &Api) -> Result<Vec<(String, u64)>> {
    let found = api.walk_traces("start=now-1h&end=now", 100)?;
    let pair = |t: &serde_json::Value| {
        let id = t["trace_id"].as_str().context("no id")?.to_owned();
        Ok((id, t["duration_nanos"].as_u64().context("no duration")?))
    };
    found.iter().map(pair).collect()
}

/// RocksDB's write-ahead files are called NUMBER.log.
fn newest_wal(data: &Path) -> Result<PathBuf> {
    let mut newest: Option<(SystemTime, PathBuf)> = None;
    let mut folders = vec![data.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let numbered =
                path.file_stem().is_some_and(|s| s.to_string_lossy().bytes().all(|b| b.is_ascii_digit()));
            let written = path.metadata()?.modified()?;
            let filled = path.metadata()?.len() > 7;
            let is_log = numbered && filled && path.extension().is_some_and(|e| e == "log");
            if is_log && newest.as_ref().is_none_or(|(time, _)| *time < written) {
                newest = Some((written, path));
            }
        }
    }
    Ok(newest.context("there is no write-ahead file")?.1)
}
