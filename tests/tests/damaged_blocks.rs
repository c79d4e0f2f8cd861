//! Promise: bytes of a segment's file that are not what was written cost themselves alone. Every question is answered with the
//! rest and says that something is missing, and the segment is named.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use longpole_tests::traffic::{Sent, hex, now_nanos, request, trace};
use longpole_tests::{Api, Server, ServerOptions, eventually, seed};
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(30);
/// Where bytes are changed, percent of the file.
const PLACES: [u64; 4] = [20, 40, 75, 80];

fn some_traces(rng: &mut StdRng, count: usize) -> Vec<Vec<Sent>> {
    (0..count).map(|_| trace(rng, now_nanos() - 600_000_000)).collect()
}

fn id_of(spans: &[Sent]) -> Result<String> {
    Ok(hex(&spans.first().context("an empty trace")?.span.trace_id))
}

/// Sends it, and waits until it is analysed and sealed.
fn store(server: &Server, traces: &[Vec<Sent>]) -> Result<()> {
    server.exporter()?.deliver(&request(&traces.concat()))?;
    eventually("all is sealed", PATIENCE, || {
        let status = server.api().json("/api/v1/status")?;
        ensure!(status["store"]["live_spans"] == 0 && status["open"]["traces"] == 0, "{status}");
        Ok(())
    })
}

/// The largest file, which is that of the segment with most spans.
fn largest_table(data: &Path) -> Result<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(data.join("rocksdb"))? {
        let path = entry?.path();
        if path.extension().is_some_and(|ending| ending == "sst") {
            found.push((path.metadata()?.len(), path));
        }
    }
    Ok(found.into_iter().max().context("no files of segments")?.1)
}

/// Changes bytes here and there: among the spans, and in what is derived from them.
fn damage(table: &Path) -> Result<()> {
    let file = OpenOptions::new().read(true).write(true).open(table)?;
    let length = file.metadata()?.len();
    for percent in PLACES {
        let (at, mut byte) = (length * percent / 100, [0]);
        file.read_exact_at(&mut byte, at)?;
        file.write_all_at(&[byte[0] ^ 1], at)?;
    }
    Ok(())
}

/// Reads whatever a segment has: of the last hour, and of services from `cut` on.
fn questions(cut: u64) -> Vec<String> {
    let cut = Api::query(&[("start", &cut.to_string()), ("end", "now")]);
    let mut questions = about(&Api::query(&[("start", "now-1h"), ("end", "now")]));
    questions.extend([
        format!("/api/v1/services?{cut}"),
        "/api/v1/services".to_owned(),
        "/api/v1/services/web/operations".to_owned(),
    ]);
    questions
}

/// Questions about a window.
fn about(window: &str) -> Vec<String> {
    [
        format!("traces?{window}&limit=1000"),
        format!("traces?{window}&limit=1000&order=newest"),
        format!("traces?{window}&limit=1000&service=web"),
        format!("traces?{window}&limit=1000&status=error"),
        format!("latency?{window}&step=1m"),
        format!("bottlenecks?{window}&group_by=operation"),
        format!("bottlenecks?{window}&group_by=service&service=web"),
        format!("services?{window}"),
    ]
    .map(|question| format!("/api/v1/{question}"))
    .into()
}

fn says_damaged(answer: &Value) -> bool {
    let reasons = answer["incomplete"].as_array().into_iter().flatten();
    let named = |why: &Value| {
        why["reason"] == "damaged_segment"
            && why["detail"].as_str().is_some_and(|text| text.starts_with("segment "))
    };
    answer["complete"] == false && reasons.into_iter().any(named)
}

/// How many of these traces are there with all of their spans. Of the others there is a part, or the answer says why not.
fn whole_traces(api: &Api, traces: &[Vec<Sent>]) -> Result<usize> {
    let mut whole = 0;
    for spans in traces {
        let path = format!("/api/v1/traces/{}", id_of(spans)?);
        let answer = api.get(&path, "application/json")?;
        let json = answer.json()?;
        if answer.status == 404 {
            let message = json["error"]["message"].as_str().unwrap_or_default();
            ensure!(json["error"]["code"] == "trace_not_found" && message.contains("damaged"), "{json}");
            continue;
        }
        ensure!(answer.status == 200, "{path}: {} {json}", answer.status);
        let found = longpole_tests::spans_of(&json).len();
        ensure!(
            found == spans.len() || says_damaged(&json),
            "{path}: {found} of {} spans: {json}",
            spans.len()
        );
        whole += usize::from(found == spans.len());
        let path = api.get(&format!("{path}/critical-path"), "application/json")?;
        ensure!(path.status == 200, "{}: {}", path.status, path.json()?);
    }
    Ok(whole)
}

fn damaged(api: &Api) -> Result<Vec<Value>> {
    let status = api.json("/api/v1/status")?;
    Ok(status["damaged"].as_array().context("no list of what is damaged")?.clone())
}

#[test]
fn damaged_blocks_are_left_out_and_named_and_the_rest_serves() {
    let mut rng = StdRng::seed_from_u64(seed());
    let mut server = ServerOptions::new().unwrap().hasty().start().unwrap();
    let (most, others) = (some_traces(&mut rng, 3_000), some_traces(&mut rng, 60));
    let cut = most[most.len() / 2][0].span.start_time_unix_nano;
    store(&server, &most).unwrap();
    store(&server, &others).unwrap();
    let segments = server.api().json("/api/v1/status").unwrap()["store"]["segments"].clone();
    assert!(server.terminate().unwrap().success());
    damage(&largest_table(&server.data_dir()).unwrap()).unwrap();
    server.start_again().unwrap();
    let api = server.api();
    let status = api.json("/api/v1/status").unwrap();
    assert_eq!(status["store"]["segments"], segments, "no segment as a whole is set aside: {status}");

    // What is asked first meets the damage on its way.
    let answers: Vec<Value> = questions(cut).iter().map(|question| api.json(question).unwrap()).collect();
    assert!(answers.iter().skip(1).any(says_damaged), "{answers:?}");
    let whole = whole_traces(&api, &most).unwrap();
    assert!(
        whole >= most.len() / 2 && whole < most.len(),
        "{whole} of {} traces are whole: {:?}",
        most.len(),
        damaged(&api)
    );
    assert_eq!(whole_traces(&api, &others).unwrap(), others.len());
    for question in questions(cut) {
        let answer = api.json(&question).unwrap();
        assert!(says_damaged(&answer), "{question}: {answer}");
    }
    let soon = now_nanos() + 600_000_000_000;
    let [start, end] = [soon, soon + 60_000_000_000].map(|at| at.to_string());
    for question in about(&Api::query(&[("start", &start), ("end", &end)])) {
        let answer = api.json(&question).unwrap();
        assert_eq!(answer["complete"], true, "nothing of that time is damaged: {question}: {answer}");
    }
    let list = damaged(&api).unwrap();
    assert_eq!(list.len(), 1, "{list:?}");
    let metrics = String::from_utf8(api.get("/metrics", "text/plain").unwrap().body).unwrap();
    assert!(metrics.contains("longpole_damaged_segments 1"), "{metrics}");

    // All of it again: those spans count again that cannot be looked at, and that is counted.
    store(&server, &most).unwrap();
    let counters = &api.json("/api/v1/status").unwrap()["counters"];
    let [failed, repeated, spans] =
        ["lookups_failed", "duplicate_spans", "spans"].map(|name| counters[name].as_u64().unwrap_or(0));
    let sent = most.iter().map(|spans| spans.len() as u64).sum::<u64>();
    assert!(failed > 0 && repeated > sent / 2 && spans + repeated == sent, "{counters}");
    let new = some_traces(&mut rng, 10);
    store(&server, &new).unwrap();
    assert_eq!(whole_traces(&api, &new).unwrap(), new.len());
    assert_eq!(damaged(&api).unwrap().len(), 1);
}
