//! Promise: a store that any version wrote is read by this one, and gives the same answers.
//!
//! `fixtures/stores/N` holds a small store of each generation of formats, with sealed segments (with a dictionary,
//! since there are such), traces over a cut, a rollup (from the fourth on) and an unsealed log, and what it answered then.
//! The last one is of what is written today. Whoever raises a format adds the next one with
//! `cargo test --release -p longpole-tests --test stored_formats -- --ignored`, and keeps those that there are.
#![allow(clippy::print_stdout)]

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use longpole_tests::traffic::{Sent, hex, request, trace};
use longpole_tests::{Api, Server, ServerOptions, eventually, package_dir};
use prost::Message as _;
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use serde_json::{Map, Number, Value, json};

/// All spans begin within an hour of this.
const START: u64 = 1_700_000_000_000_000_000;
const WINDOW: &str = "start=1699999000&end=1700009000";
/// So that a fixture is never too old, nor a rollup in it.
const KEPT: [(&str, &str); 2] =
    [("LONGPOLE_STORE__RETENTION", "876000h"), ("LONGPOLE_STORE__ROLLUP_MINUTE", "876000h")];
const FORMATS: &str = "fixtures/stores";
/// Segments that a dictionary takes, and one more.
const TRAINED_ON: u64 = 9;

#[test]
fn stores_of_every_format_answer_as_they_did() {
    let stores = fixtures().unwrap();
    assert!(!stores.is_empty(), "no fixture in {FORMATS}");
    for fixture in stores {
        answers_as_it_did(&fixture).with_context(|| fixture.display().to_string()).unwrap();
    }
}

fn answers_as_it_did(fixture: &Path) -> Result<()> {
    let expected: Value = serde_json::from_slice(&std::fs::read(fixture.join("answers.json"))?)?;
    let options = kept(ServerOptions::new()?.hasty());
    copy_folder(&fixture.join("data"), &options.data_dir())?;
    let mut server = options.start()?;
    for round in ["as it was", "after all was sealed"] {
        settled(&server.api())?;
        let found = answers(&server.api(), &ids_in(&expected))?;
        contains(&found, &expected).map_err(|at| anyhow::anyhow!("{round}: {at}"))?;
        ensure!(server.terminate()?.success(), "{round}: {}", server.log_tail());
        server.start_again()?;
    }
    Ok(())
}

#[test]
#[ignore = "makes a fixture; run by hand when a format has changed"]
fn make_a_fixture() {
    let number = fixtures().unwrap().len() + 1;
    let target = package_dir().join(FORMATS).join(number.to_string());
    let mut rng = StdRng::seed_from_u64(number as u64);
    let options = kept(ServerOptions::new().unwrap().hasty());
    let mut server = options.start().unwrap();
    let mut some_traces = |count| -> Vec<Vec<Sent>> {
        (0..count).map(|n| trace(&mut rng, START + n * 40_000_000_000)).collect()
    };
    roll_up(&mut server, &some_traces(24).concat()).unwrap();
    // For the others to have a dictionary.
    let plain = some_traces(TRAINED_ON * 8);
    for some in plain.chunks(8) {
        server.exporter().unwrap().deliver(&request(&some.concat())).unwrap();
        settled(&server.api()).unwrap();
    }
    server.adopt_dictionary().unwrap();
    let traces = some_traces(72);
    for some in traces[..40].chunks(20) {
        server.exporter().unwrap().deliver(&request(&some.concat())).unwrap();
        settled(&server.api()).unwrap();
    }
    // Traces of which a part comes later, and some that are open at the cut.
    let halves: Vec<_> = traces[40..56].iter().map(|spans| spans.split_at(spans.len() / 2)).collect();
    let first: Vec<Sent> = halves.iter().flat_map(|(first, _)| first.to_vec()).collect();
    let second: Vec<Sent> = halves.iter().flat_map(|(_, second)| second.to_vec()).collect();
    server.exporter().unwrap().deliver(&request(&first)).unwrap();
    assert!(server.terminate().unwrap().success());
    server.set_env("LONGPOLE_SEAL__INTERVAL", "1h");
    server.start_again().unwrap();
    server.exporter().unwrap().deliver(&request(&second)).unwrap();
    // Repeated spans, and new traces.
    server.exporter().unwrap().deliver(&request(&traces[30..34].concat())).unwrap();
    server.exporter().unwrap().deliver(&request(&traces[56..].concat())).unwrap();
    eventually("all traces are finished", Duration::from_secs(20), || open_traces(&server.api())).unwrap();
    let ids: Vec<String> = plain.iter().chain(&traces).map(|spans| hex(&spans[0].span.trace_id)).collect();
    let answers = answers(&server.api(), &ids).unwrap();
    server.kill().unwrap();
    copy_folder(&server.data_dir(), &target.join("data")).unwrap();
    std::fs::write(target.join("answers.json"), serde_json::to_vec(&answers).unwrap()).unwrap();
    println!("made {}", target.display());
}

fn kept(options: ServerOptions) -> ServerOptions {
    KEPT.into_iter().fold(options, |options, (key, value)| options.env(key, value))
}

/// Sends these spans and keeps no more of them than a rollup.
fn roll_up(server: &mut Server, spans: &[Sent]) -> Result<()> {
    server.set_env("LONGPOLE_STORE__SLICE", "2s");
    server.set_env(KEPT[0].0, "4s");
    server.terminate()?;
    server.start_again()?;
    server.exporter()?.deliver(&request(spans))?;
    eventually("all of it is rolled up", Duration::from_secs(90), || {
        let status = server.api().json("/api/v1/status")?;
        let rolled = status["housekeeping"]["rollups"]["minute"]["spans"].as_u64();
        ensure!(rolled == Some(spans.len() as u64), "{status}");
        Ok(())
    })?;
    server.terminate()?;
    server.set_env("LONGPOLE_STORE__SLICE", "1h");
    server.set_env(KEPT[0].0, KEPT[0].1);
    server.start_again()
}

fn fixtures() -> Result<Vec<PathBuf>> {
    let folder = package_dir().join(FORMATS);
    let Ok(entries) = std::fs::read_dir(folder) else { return Ok(Vec::new()) };
    let mut found: Vec<PathBuf> = entries.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    found.retain(|path| path.join("answers.json").is_file());
    found.sort();
    Ok(found)
}

/// What is asked of every store. Explicit times, so that the day does not matter.
fn answers(api: &Api, ids: &[String]) -> Result<Value> {
    let mut traces = Map::new();
    let mut paths = Map::new();
    for id in ids {
        let mut spans: Vec<String> =
            api.trace_spans(id)?.iter().map(|span| hex(&span.encode_to_vec())).collect();
        spans.sort();
        // A few are kept to the byte, of the rest the count.
        let few = id.starts_with(['0', '7']);
        traces.insert(id.clone(), json!({"spans": spans.len(), "as_sent": few.then_some(spans)}));
        if few {
            paths.insert(id.clone(), api.json(&format!("/api/v1/traces/{id}/critical-path"))?);
        }
    }
    let found: Vec<Value> = api
        .walk_traces(WINDOW, 50)?
        .iter()
        .map(|t| json!({"trace_id": t["trace_id"], "duration_nanos": t["duration_nanos"]}))
        .collect();
    Ok(json!({
        "traces": traces,
        "critical_paths": paths,
        "slowest": found,
        "services": api.json(&format!("/api/v1/services?{WINDOW}"))?,
        "latency": api.json(&format!("/api/v1/latency?{WINDOW}&group_by=service,operation,kind"))?,
        "bottlenecks": api.json(&format!("/api/v1/bottlenecks?{WINDOW}"))?,
    }))
}

fn ids_in(answers: &Value) -> Vec<String> {
    answers["traces"].as_object().map(|traces| traces.keys().cloned().collect()).unwrap_or_default()
}

/// Whole numbers must be equal; of others the last bits may differ.
fn close(found: &Number, expected: &Number) -> bool {
    match (found.as_f64(), expected.as_f64()) {
        (Some(a), Some(b)) if found.is_f64() && expected.is_f64() => (a - b).abs() <= 1e-12 * b.abs(),
        _ => found == expected,
    }
}

/// Everything that was expected is there as it was; later versions may say more.
fn contains(found: &Value, expected: &Value) -> Result<(), String> {
    match (found, expected) {
        // How much was read for an answer is not the answer.
        (Value::Object(found), Value::Object(expected)) => {
            expected.iter().filter(|(key, _)| *key != "scanned").try_for_each(|(key, value)| {
                contains(found.get(key).unwrap_or(&Value::Null), value).map_err(|at| format!("{key}.{at}"))
            })
        }
        // Reading a share back from text and writing it again may cost its last bit.
        (Value::Number(found), Value::Number(expected)) if close(found, expected) => Ok(()),
        (Value::Array(found), Value::Array(expected)) if found.len() == expected.len() => {
            let pairs = found.iter().zip(expected).enumerate();
            pairs.into_iter().try_for_each(|(n, (found, wanted))| {
                contains(found, wanted).map_err(|at| format!("{n}.{at}"))
            })
        }
        (found, expected) if found == expected => Ok(()),
        (found, expected) => Err(format!(" found {found}, wanted {expected}")),
    }
}

/// Waits until no trace is open and all is sealed.
fn settled(api: &Api) -> Result<()> {
    eventually("all is sealed", Duration::from_secs(30), || {
        open_traces(api)?;
        let status = api.json("/api/v1/status")?;
        let live = &status["store"]["live_spans"];
        ensure!(*live == json!(0) || *live == json!("0"), "not sealed: {status}");
        Ok(())
    })
}

fn open_traces(api: &Api) -> Result<()> {
    let found = api.walk_traces(WINDOW, 100)?;
    let open = found.iter().filter(|trace| trace["state"] == "open").count();
    ensure!(open == 0, "{open} traces are open");
    Ok(())
}

/// RocksDB opens a store without its own log and its OPTIONS files, which hold paths and are large. The ballast holds
/// nothing.
fn copy_folder(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let path = entry?.path();
        let name = path.file_name().context("a file without a name")?;
        let text = name.to_string_lossy();
        if path.is_dir() {
            copy_folder(&path, &to.join(name))?;
        } else if !text.starts_with("LOG")
            && !text.starts_with("OPTIONS")
            && text != "LOCK"
            && text != "ballast"
        {
            std::fs::copy(&path, to.join(name))?;
        }
    }
    Ok(())
}
