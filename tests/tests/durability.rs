//! Promise: with `durability: sync` nothing is acknowledged before the disk has it; with `process` nobody waits for
//! the disk.
#![allow(clippy::print_stdout)]

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use longpole_tests::traffic::{now_nanos, request, trace};
use longpole_tests::{Server, ServerOptions, eventually, skip};
use rand::SeedableRng as _;
use rand::rngs::StdRng;

const REQUESTS: usize = 20;

#[test]
fn an_acknowledgement_waits_for_the_disk_if_and_only_if_it_was_asked_to() {
    for (durability, least, most) in [("sync", REQUESTS, usize::MAX), ("process", 0, REQUESTS / 2)] {
        match syncs(durability) {
            Ok(Some(syncs)) => {
                println!("{durability}: {REQUESTS} requests, {syncs} syncs of the log");
                assert!((least..=most).contains(&syncs), "{durability}: {syncs} syncs");
            }
            Ok(None) => {
                skip(&format!("durability {durability}"), "strace cannot watch a process here").unwrap()
            }
            Err(error) => panic!("{durability}: {error:#}"),
        }
    }
}

/// How often the server synced a log file while it acknowledged requests one by one; `None` without strace.
fn syncs(durability: &str) -> Result<Option<usize>> {
    let server = ServerOptions::new()?.env("LONGPOLE_STORE__DURABILITY", durability).start()?;
    let exporter = server.exporter()?;
    let mut rng = StdRng::seed_from_u64(1);
    exporter.deliver(&request(&trace(&mut rng, now_nanos())))?;
    let folder = tempfile::tempdir()?;
    let trail = folder.path().join("trail");
    let Some(mut watching) = watch(&server, &trail)? else { return Ok(None) };
    for _ in 0..REQUESTS {
        exporter.deliver(&request(&trace(&mut rng, now_nanos())))?;
    }
    // So that what it saw is written.
    let _ = Command::new("kill").arg("-INT").arg(watching.id().to_string()).status();
    watching.wait()?;
    let text = std::fs::read_to_string(&trail)?;
    Ok(Some(text.lines().filter(|line| line.contains("sync(") && line.contains(".log>")).count()))
}

fn watch(server: &Server, trail: &Path) -> Result<Option<Child>> {
    let process = server.process().context("the server is not running")?.to_string();
    let mut command = Command::new("strace");
    command.args(["-f", "-y", "-e", "trace=fsync,fdatasync", "-p", &process, "-o"]).arg(trail);
    let Ok(mut child) = command.stdin(Stdio::null()).stderr(Stdio::null()).spawn() else { return Ok(None) };
    let attached = eventually("strace attaches", Duration::from_secs(10), || {
        let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
        let tracer = status.lines().find(|line| line.starts_with("TracerPid:")).unwrap_or_default();
        ensure!(!tracer.ends_with("\t0"), "not yet");
        Ok(())
    });
    if attached.is_err() {
        let _ = child.kill();
        child.wait()?;
        return Ok(None);
    }
    Ok(Some(child))
}
