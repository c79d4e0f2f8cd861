//! Promise: a backup made under load holds all that was acknowledged before it, restores into a working store, and
//! `check` finds what is wrong and nothing else.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use longpole_tests::traffic::{Sent, hex, now_nanos, request, trace};
use longpole_tests::{Api, Exporter, Server, ServerOptions, eventually, program, seed};
use rand::SeedableRng as _;
use rand::rngs::StdRng;

fn longpole(args: &[&str], path: &Path) -> Result<Output> {
    Ok(Command::new(program()?).args(args).arg(path).output()?)
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn some_traces(rng: &mut StdRng, count: usize) -> Vec<Vec<Sent>> {
    (0..count).map(|_| trace(rng, now_nanos() - 600_000_000)).collect()
}

fn all_are_there(server: &Server, traces: &[Vec<Sent>]) -> Result<()> {
    for spans in traces {
        let id = hex(&spans.first().context("an empty trace")?.span.trace_id);
        let found = server.api().trace_spans(&id)?;
        ensure!(found.len() == spans.len(), "trace {id} has {} of {} spans", found.len(), spans.len());
    }
    Ok(())
}

/// Sends until told to stop.
fn load(address: &str, seed: u64, stop: &AtomicBool) -> Result<()> {
    let exporter = Exporter::connect(address)?;
    let mut rng = StdRng::seed_from_u64(seed);
    while !stop.load(Ordering::Relaxed) {
        exporter.deliver(&request(&some_traces(&mut rng, 20).concat()))?;
    }
    Ok(())
}

#[test]
fn a_backup_under_load_restores_all_that_was_acknowledged_before_it() {
    let seed = seed();
    let mut rng = StdRng::seed_from_u64(seed);
    let server = ServerOptions::new().unwrap().hasty().start().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let loading = scope.spawn(|| load(server.grpc(), seed + 1, &stop));
        let outcome = backups(&mut rng, &server, folder.path());
        stop.store(true, Ordering::Relaxed);
        loading.join().unwrap().unwrap();
        outcome.unwrap();
    });
}

fn backups(rng: &mut StdRng, server: &Server, folder: &Path) -> Result<()> {
    let mut traces = Vec::new();
    for round in 0..3 {
        let more = some_traces(rng, 30);
        server.exporter()?.deliver(&request(&more.concat()))?;
        traces.extend(more);
        let copy = folder.join(format!("copy-{round}"));
        let endpoint = format!("http://{}", server.http());
        let output = longpole(&["backup", "--endpoint", &endpoint], &copy)?;
        ensure!(output.status.success(), "backup: {}", said(&output));
        ensure!(!server.data_dir().join("backup").exists(), "the checkpoint is still there");
        // The store itself, while it is being written.
        let output = longpole(&["check", "--data-dir"], &server.data_dir())?;
        ensure!(output.status.success(), "check: {}", said(&output));

        let options = ServerOptions::new()?.hasty();
        let data = options.data_dir().display().to_string();
        let output = longpole(&["restore", "--data-dir", &data], &copy)?;
        ensure!(output.status.success(), "restore: {}", said(&output));
        let again = longpole(&["restore", "--data-dir", &data], &copy)?;
        ensure!(again.status.code() == Some(1) && said(&again).contains("is not empty"), "{}", said(&again));
        let mut restored = options.start()?;
        all_are_there(&restored, &traces)?;
        ensure!(restored.terminate()?.success(), "{}", restored.log_tail());
    }
    Ok(())
}

#[test]
fn a_backup_of_a_store_at_rest_needs_no_server_and_one_that_is_open_says_so() {
    let mut rng = StdRng::seed_from_u64(seed());
    let mut server = ServerOptions::new().unwrap().hasty().start().unwrap();
    let traces = some_traces(&mut rng, 30);
    server.exporter().unwrap().deliver(&request(&traces.concat())).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let data = server.data_dir().display().to_string();
    let open = longpole(&["backup", "--data-dir", &data], &folder.path().join("x")).unwrap();
    assert!(!open.status.success() && said(&open).contains("--endpoint"), "{}", said(&open));
    server.kill().unwrap();
    let output = longpole(&["backup", "--data-dir", &data], &folder.path().join("copy")).unwrap();
    assert!(output.status.success(), "{}", said(&output));
    let none = longpole(&["backup", "--data-dir", "/nowhere"], &folder.path().join("y")).unwrap();
    assert!(none.status.code() == Some(3) && said(&none).contains("no store"), "{}", said(&none));
    let options = ServerOptions::new().unwrap();
    let target = options.data_dir().display().to_string();
    let output = longpole(&["restore", "--data-dir", &target], &folder.path().join("copy")).unwrap();
    assert!(output.status.success(), "{}", said(&output));
    all_are_there(&options.start().unwrap(), &traces).unwrap();
}

/// Waits for so many segments, and until nothing is left to seal.
fn sealed(server: &Server, segments: u64) -> Result<()> {
    eventually("a segment is sealed", Duration::from_secs(20), || {
        let status = server.api().json("/api/v1/status")?;
        ensure!(status["store"]["segments"].as_u64() >= Some(segments), "{status}");
        ensure!(status["store"]["live_spans"] == 0, "{status}");
        Ok(())
    })
}

#[test]
fn check_names_the_segment_that_is_damaged_and_the_server_serves_the_rest() {
    let mut rng = StdRng::seed_from_u64(seed());
    let mut server = ServerOptions::new().unwrap().hasty().start().unwrap();
    for n in 1..=3_u64 {
        let traces = some_traces(&mut rng, 60);
        server.exporter().unwrap().deliver(&request(&traces.concat())).unwrap();
        sealed(&server, n).unwrap();
    }
    assert!(server.terminate().unwrap().success());
    let clean = longpole(&["check", "--data-dir"], &server.data_dir()).unwrap();
    assert!(clean.status.success(), "{}", said(&clean));

    let mut tables = tables(&server.data_dir()).unwrap();
    let damaged = tables.pop().unwrap();
    let file = OpenOptions::new().write(true).open(&damaged).unwrap();
    file.write_all_at(b"damage", 3_000).unwrap();
    drop(file);
    let found = longpole(&["check", "--data-dir"], &server.data_dir()).unwrap();
    assert_eq!(found.status.code(), Some(1), "{}", said(&found));
    assert!(said(&found).lines().any(|line| line.starts_with("segment ")), "{}", said(&found));

    // Without a file, too, the server starts, says which segment it was, and takes spans.
    std::fs::remove_file(&damaged).unwrap();
    server.start_again().unwrap();
    let status = server.api().json("/api/v1/status").unwrap();
    let list = status["damaged"].as_array().unwrap();
    let listed =
        |beginning: &str| list.iter().filter(|text| text.as_str().unwrap().starts_with(beginning)).count();
    assert_eq!(listed("segment "), 1, "{status}");
    // If it was the last one, its frames are held by nothing any more, and that is said as well.
    assert_eq!(listed("segment ") + listed("log frame"), list.len(), "{status}");
    let services = server.api().json("/api/v1/services").unwrap();
    assert_eq!(services["complete"], false, "{services}");
    assert_eq!(services["incomplete"][0]["reason"], "damaged_segment", "{services}");
    let metrics = server.api().get("/metrics", "text/plain").unwrap();
    let text = String::from_utf8(metrics.body).unwrap();
    assert!(text.contains("longpole_damaged_segments 1"), "{text}");
    let traces = some_traces(&mut rng, 10);
    server.exporter().unwrap().deliver(&request(&traces.concat())).unwrap();
    eventually("what is new is there", Duration::from_secs(10), || all_are_there(&server, &traces)).unwrap();
}

#[test]
fn check_reads_rollups_and_names_the_one_that_is_damaged() {
    let mut rng = StdRng::seed_from_u64(seed());
    let options = ServerOptions::new().unwrap().hasty();
    let options = options.env("LONGPOLE_STORE__SLICE", "2s").env("LONGPOLE_STORE__RETENTION", "4s");
    let mut server = options.start().unwrap();
    let traces = some_traces(&mut rng, 400);
    server.exporter().unwrap().deliver(&request(&traces.concat())).unwrap();
    let spans: usize = traces.iter().map(Vec::len).sum();
    let rolled_up = || -> Result<()> {
        let status = server.api().json("/api/v1/status")?;
        ensure!(status["housekeeping"]["rollups"]["minute"]["spans"] == spans, "{status}");
        Ok(())
    };
    eventually("it is rolled up", Duration::from_secs(60), rolled_up).unwrap();
    assert!(server.terminate().unwrap().success());
    let clean = longpole(&["check", "--data-dir"], &server.data_dir()).unwrap();
    assert!(clean.status.success(), "{}", said(&clean));
    assert!(said(&clean).contains(&format!("1 rollups of {spans} spans")), "{}", said(&clean));

    let rollup = tables(&server.data_dir()).unwrap().pop().unwrap();
    OpenOptions::new().write(true).open(&rollup).unwrap().write_all_at(b"damage", 3_000).unwrap();
    let found = longpole(&["check", "--data-dir"], &server.data_dir()).unwrap();
    assert_eq!(found.status.code(), Some(1), "{}", said(&found));
    assert!(said(&found).lines().any(|line| line.starts_with("rollup")), "{}", said(&found));
}

/// Files of segments and rollups, smallest first.
fn tables(data: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(data.join("rocksdb"))? {
        let path = entry?.path();
        if path.extension().is_some_and(|ending| ending == "sst") {
            found.push((path.metadata()?.len(), path));
        }
    }
    found.sort();
    Ok(found.into_iter().map(|(_, path)| path).collect())
}

#[test]
fn a_store_whose_catalog_is_gone_is_repaired_and_nothing_serves_it_before() {
    let mut rng = StdRng::seed_from_u64(seed());
    let mut server = ServerOptions::new().unwrap().hasty().start().unwrap();
    let mut traces = Vec::new();
    for n in 1..=3_u64 {
        let more = some_traces(&mut rng, 40);
        server.exporter().unwrap().deliver(&request(&more.concat())).unwrap();
        traces.extend(more);
        if n < 3 {
            sealed(&server, n).unwrap();
        }
    }
    let data = server.data_dir();
    let open = longpole(&["repair", "--data-dir"], &data).unwrap();
    assert!(!open.status.success() && said(&open).contains("in use by another process"), "{}", said(&open));
    server.kill().unwrap();
    remove_manifest(&data).unwrap();
    let refused = server.start_again().unwrap_err();
    assert!(format!("{refused:#}").contains("longpole repair"), "{refused:#}");
    let output = longpole(&["repair", "--data-dir"], &data).unwrap();
    assert!(output.status.success(), "{}", said(&output));
    assert!(said(&output).contains("damaged/rocksdb-0"), "{}", said(&output));
    server.start_again().unwrap();
    all_are_there(&server, &traces).unwrap();
    let query = Api::query(&[("start", "now-1h"), ("end", "now"), ("group_by", "service,operation,kind")]);
    let answer = server.api().json(&format!("/api/v1/latency?{query}")).unwrap();
    let counts = answer["series"].as_array().unwrap().iter().map(|series| series["count"].as_u64().unwrap());
    assert_eq!(counts.sum::<u64>(), traces.iter().map(|spans| spans.len() as u64).sum::<u64>());
}

#[test]
fn a_segment_that_is_gone_is_missed_by_a_repair_and_after_it() {
    let mut rng = StdRng::seed_from_u64(seed());
    let mut server = ServerOptions::new().unwrap().hasty().start().unwrap();
    for n in 1..=2_u64 {
        let traces = some_traces(&mut rng, 60);
        server.exporter().unwrap().deliver(&request(&traces.concat())).unwrap();
        sealed(&server, n).unwrap();
    }
    assert!(server.terminate().unwrap().success());
    let data = server.data_dir();
    std::fs::remove_file(tables(&data).unwrap().pop().unwrap()).unwrap();
    for command in ["check", "repair", "check"] {
        let output = longpole(&[command, "--data-dir"], &data).unwrap();
        assert_eq!(output.status.code(), Some(1), "{command}: {}", said(&output));
        assert!(said(&output).lines().any(|line| line.starts_with("segment ")), "{}", said(&output));
    }
    server.start_again().unwrap();
    let services = server.api().json("/api/v1/services").unwrap();
    assert_eq!(services["incomplete"][0]["reason"], "damaged_segment", "{services}");
}

fn remove_manifest(data: &Path) -> Result<()> {
    for entry in std::fs::read_dir(data.join("rocksdb"))? {
        let path = entry?.path();
        if path.to_string_lossy().contains("MANIFEST") {
            std::fs::remove_file(path)?;
        }
    }
    Ok(())
}

#[test]
fn small_segments_with_a_dictionary_are_backed_up_checked_and_repaired_with_it() {
    let mut rng = StdRng::seed_from_u64(seed());
    let mut server = ServerOptions::new().unwrap().hasty().start().unwrap();
    let mut traces = Vec::new();
    let mut seal = |server: &Server, segments: std::ops::RangeInclusive<u64>| -> Vec<Vec<Sent>> {
        for n in segments {
            let more = some_traces(&mut rng, 30);
            server.exporter().unwrap().deliver(&request(&more.concat())).unwrap();
            traces.extend(more);
            sealed(server, n).unwrap();
        }
        traces.clone()
    };
    seal(&server, 1..=10);
    server.adopt_dictionary().unwrap();
    let traces = seal(&server, 11..=12);
    all_are_there(&server, &traces).unwrap();

    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("copy");
    let endpoint = format!("http://{}", server.http());
    let output = longpole(&["backup", "--endpoint", &endpoint], &copy).unwrap();
    assert!(output.status.success(), "backup: {}", said(&output));
    server.kill().unwrap();
    for harm in [Harm::Nothing, Harm::NoManifest, Harm::DictionaryFile, Harm::Both] {
        let options = ServerOptions::new().unwrap().hasty();
        let data = options.data_dir();
        let output = longpole(&["restore", "--data-dir", &data.display().to_string()], &copy).unwrap();
        assert!(output.status.success(), "restore: {}", said(&output));
        if matches!(harm, Harm::DictionaryFile | Harm::Both) {
            damage_dictionary(&data).unwrap();
            let output = longpole(&["check", "--data-dir"], &data).unwrap();
            assert_eq!(output.status.code(), Some(1), "{}", said(&output));
            assert!(said(&output).contains("dictionary 1: its file"), "{}", said(&output));
            assert!(said(&output).contains(" 1 problems"), "{}", said(&output));
        }
        if matches!(harm, Harm::NoManifest | Harm::Both) {
            remove_manifest(&data).unwrap();
            let output = longpole(&["repair", "--data-dir"], &data).unwrap();
            if matches!(harm, Harm::Both) {
                // The segments do need it.
                assert_eq!(output.status.code(), Some(1), "{}", said(&output));
                assert!(
                    said(&output).contains("its dictionary 1 is missing or damaged"),
                    "{}",
                    said(&output)
                );
                continue;
            }
            assert!(output.status.success(), "repair: {}", said(&output));
            assert!(said(&output).contains("1 dictionaries"), "{}", said(&output));
        }
        let mut restored = options.start().unwrap();
        all_are_there(&restored, &traces).unwrap();
        let status = restored.api().json("/api/v1/status").unwrap();
        assert_eq!(status["damaged"].as_array().map(Vec::len), Some(0), "{status}");
        assert!(restored.terminate().unwrap().success());
        let output = longpole(&["check", "--data-dir"], &data).unwrap();
        assert!(output.status.success(), "{harm:?}: {}", said(&output));
    }
}

#[derive(Debug, Clone, Copy)]
enum Harm {
    Nothing,
    NoManifest,
    DictionaryFile,
    Both,
}

/// Changes a byte of the file of the first dictionary.
fn damage_dictionary(data: &Path) -> Result<()> {
    for path in tables(data)? {
        let mut bytes = std::fs::read(&path)?;
        if bytes.windows(14).any(|at| at == b"dictionary\0\0\0\x01") {
            bytes[2_000] ^= 1;
            return Ok(std::fs::write(&path, bytes)?);
        }
    }
    anyhow::bail!("no file of a dictionary in {}", data.display())
}
