//! Promise: a full disk refuses spans, retryably, and heals without a hand; nothing that was acknowledged is lost.
//!
//! On small disks of their own, which are filled by the load itself and by somebody else's file, to the last byte, with
//! the server killed at random moments.
#![allow(clippy::print_stdout)]

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use longpole_tests::{Api, Load, Server, ServerOptions, SmallDisk, eventually, seed, skip};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

const CLIENTS: u64 = 2;
const ROUNDS: usize = 6;
const HEALED: Duration = Duration::from_secs(60);

#[test]
fn a_full_disk_loses_nothing_and_heals_alone() {
    filled_by_others(768, true).unwrap();
}

/// With hardly anything kept free RocksDB itself meets the full disk, in the middle of writes.
#[test]
fn a_write_that_meets_a_full_disk_loses_nothing_and_heals_alone() {
    filled_by_others(768, false).unwrap();
}

#[test]
fn a_small_disk_that_others_fill_loses_nothing_and_heals_alone() {
    filled_by_others(320, false).unwrap();
    filled_by_others(128, false).unwrap();
}

#[test]
fn a_small_disk_that_the_load_alone_fills_keeps_on_taking_spans() {
    filled_by_the_load_alone(320).unwrap();
    filled_by_the_load_alone(80).unwrap();
}

#[test]
fn what_was_taken_is_sealed_even_if_no_room_ever_comes_back() {
    left_full(320).unwrap();
    left_full(128).unwrap();
    left_full(80).unwrap();
}

#[test]
fn a_disk_that_is_too_small_is_refused_in_words() {
    let Some(disk) = small_disk(40).unwrap() else { return };
    let options = ServerOptions::new().unwrap().data_in(&disk.path().join("data"));
    let error = format!("{:#}", options.start().unwrap_err());
    assert!(error.contains("MiB in all, and"), "{error}");
}

fn small_disk(mib: u64) -> Result<Option<SmallDisk>> {
    match SmallDisk::new(mib) {
        Ok(disk) => Ok(Some(disk)),
        Err(reason) => {
            skip("a full disk", format_args!("no small disk can be mounted here: {reason:#}"))?;
            Ok(None)
        }
    }
}

fn filled_by_others(disk_mib: u64, guarded: bool) -> Result<()> {
    let Some(disk) = small_disk(disk_mib)? else { return Ok(()) };
    let seed = seed();
    let options = ServerOptions::new()?.hasty().data_in(&disk.path().join("data"));
    let options = options.env("LONGPOLE_STORE__CACHE_BYTES", "8MiB");
    let options = if disk_mib < 512 { options } else { options.env("LONGPOLE_SEAL__BYTES", "4MiB") };
    let options = if guarded { options } else { options.env("LONGPOLE_STORE__FREE_MIN", "1B") };
    let mut server = options.start()?;
    let load = Load::start(&server, CLIENTS, seed);
    let outcome = ordeal(&disk, disk_mib, &mut server, &load, seed, guarded);
    let said = server.log_tail();
    let refused = load.refused();
    outcome.with_context(|| said.clone())?;
    let acknowledged = load.stop()?;
    println!("{disk_mib} MiB: {} spans acknowledged, {refused} requests refused", acknowledged.spans());
    // What was acknowledged last may wait for a segment to be sealed before it can be seen.
    eventually("all is there", HEALED, || acknowledged.all_are_there(&server.api()))
        .with_context(|| server.log_tail())?;
    ensure!(server.terminate()?.success(), "{}", server.log_tail());
    server.start_again()?;
    let outcome = acknowledged.all_are_there(&server.api());
    // Before its disk goes.
    drop(server);
    outcome
}

fn ordeal(
    disk: &SmallDisk,
    disk_mib: u64,
    server: &mut Server,
    load: &Load,
    seed: u64,
    guarded: bool,
) -> Result<()> {
    let mut rng = StdRng::seed_from_u64(seed);
    if guarded {
        filled_by_the_load(disk, disk_mib, server, load)?;
    }
    let mut reopened = 0;
    // With half of what fills the disk its own, the oldest spans would go.
    let share = (disk_mib << 20) / if guarded { 10 } else { 5 };
    for round in 0..ROUNDS {
        load.rest_after(share / ROUNDS as u64);
        load.pause(false);
        std::thread::sleep(Duration::from_millis(rng.random_range(50..600)));
        if rng.random_bool(0.3) {
            kill(server, load)?;
        }
        disk.fill()?;
        std::thread::sleep(Duration::from_millis(rng.random_range(0..1500)));
        let killed = rng.random_bool(0.5);
        if killed {
            server.kill()?;
            // It may or may not be able to start on a disk without a free byte.
            if server.start_again().is_ok() {
                load.moved_to(server);
                std::thread::sleep(Duration::from_millis(rng.random_range(0..500)));
                server.kill()?;
            }
        } else {
            // What the log gives back once it is sealed goes to the others as well.
            eventually("spans are refused", HEALED, || {
                disk.fill()?;
                is_refusing(&server.api())
            })?;
        }
        disk.free()?;
        if killed {
            server.start_again()?;
            load.moved_to(server);
        }
        load.rest_after(2 << 20);
        load.goes_on().with_context(|| format!("round {round}, killed: {killed}"))?;
        reopened += number(&server.api(), "/store/reopened")?;
        load.pause(true);
    }
    println!("reopened {reopened} times");
    Ok(())
}

/// The guard refuses before RocksDB meets a full disk; when room comes back it takes spans again.
fn filled_by_the_load(disk: &SmallDisk, disk_mib: u64, server: &Server, load: &Load) -> Result<()> {
    disk.take(disk_mib * 2 / 3)?;
    full(server)?;
    refusing(&server.api())?;
    ensure!(number(&server.api(), "/counters/disk_full")? >= 1, "it is not counted");
    // Refused, not failed: what is under way found the room that it needs.
    ensure!(number(&server.api(), "/store/reopened")? == 0, "the database met the full disk first");
    ensure!(number(&server.api(), "/disk/free_bytes")? > 0, "nothing is left");
    disk.free()?;
    load.goes_on()
}

/// Several times what the disk has, with the server killed at random: the oldest spans go, a rollup of them stays, and
/// spans are taken all the time.
fn filled_by_the_load_alone(disk_mib: u64) -> Result<()> {
    let Some(disk) = small_disk(disk_mib)? else { return Ok(()) };
    let seed = seed();
    let mut rng = StdRng::seed_from_u64(seed);
    let mut server = ServerOptions::new()?.hasty().data_in(&disk.path().join("data")).start()?;
    let load = Load::start(&server, CLIENTS, seed);
    let outcome = (|| {
        for round in 1..=4 {
            load.rest_after((disk_mib << 20) / 2);
            let enough = load.bytes() + (disk_mib << 20) / 2;
            let kill_after = load.bytes() + rng.random_range(0..(disk_mib << 20) / 2);
            let reached = |bytes: u64| {
                eventually("spans are taken", HEALED, || {
                    ensure!(load.bytes() >= bytes, "{} of {bytes} bytes", load.bytes());
                    Ok(())
                })
            };
            reached(kill_after).with_context(|| format!("round {round}, before the kill"))?;
            ensure!(number(&server.api(), "/counters/spans_not_rolled_up")? == 0, "no room for a rollup");
            kill(&mut server, &load)?;
            reached(enough).with_context(|| format!("round {round}, after the kill"))?;
            ensure!(number(&server.api(), "/store/reopened")? == 0, "the database met the full disk");
        }
        Ok(())
    })();
    let said = server.log_tail();
    outcome.with_context(|| said)?;
    let refused = load.refused();
    let acknowledged = load.stop()?;
    let gone = eventually("all is counted", HEALED, || acknowledged.whole_or_gone(&server.api()))
        .with_context(|| server.log_tail())?;
    println!("{disk_mib} MiB: {} spans, {gone} traces gone, {refused} refusals", acknowledged.spans());
    ensure!(gone > 0, "the disk was not filled");
    drop(server);
    Ok(())
}

/// Others hold most of the disk and give nothing back: what is taken until then is sealed and there, also after kills.
fn left_full(disk_mib: u64) -> Result<()> {
    let Some(disk) = small_disk(disk_mib)? else { return Ok(()) };
    let seed = seed();
    let mut rng = StdRng::seed_from_u64(seed);
    // The interval is long: it is the full disk that has it sealed. And nothing is asked to stay free: what does is
    // what sealing needs.
    let options = ServerOptions::new()?.hasty().data_in(&disk.path().join("data"));
    let options = options.env("LONGPOLE_SEAL__INTERVAL", "1h").env("LONGPOLE_STORE__FREE_MIN", "1B");
    let mut server = options.start()?;
    disk.take(disk_mib * 6 / 10)?;
    let load = Load::start(&server, CLIENTS, seed);
    let outcome = (|| {
        for _ in 0..3 {
            std::thread::sleep(Duration::from_millis(rng.random_range(50..1500)));
            kill(&mut server, &load)?;
        }
        full(&server)?;
        eventually("all that was taken is sealed", HEALED, || {
            let status = server.api().json("/api/v1/status")?;
            ensure!(status["store"]["live_spans"] == 0 && status["store"]["log_bytes"] == 0, "{status}");
            Ok(())
        })?;
        ensure!(number(&server.api(), "/disk/free_bytes")? > 0, "nothing is left");
        ensure!(number(&server.api(), "/store/reopened")? == 0, "the database met the full disk");
        ensure!(
            number(&server.api(), "/counters/segments_dropped_for_room")? == 0,
            "spans went for others' bytes"
        );
        load.pause(true);
        kill(&mut server, &load)
    })();
    let said = server.log_tail();
    outcome.with_context(|| said)?;
    // The requests under way are taken once there is room.
    disk.free()?;
    let acknowledged = load.stop()?;
    eventually("all is there", HEALED, || acknowledged.all_are_there(&server.api()))
        .with_context(|| server.log_tail())?;
    println!("{disk_mib} MiB: {} spans", acknowledged.spans());
    drop(server);
    Ok(())
}

fn full(server: &Server) -> Result<()> {
    eventually("the disk is full", Duration::from_secs(120), || {
        let found = server.api().json("/api/v1/status")?;
        ensure!(found["disk"]["state"] == "full", "{}", found["disk"]);
        Ok(())
    })
}

fn refusing(api: &Api) -> Result<()> {
    eventually("spans are refused", HEALED, || is_refusing(api))
}

fn is_refusing(api: &Api) -> Result<()> {
    let status = api.json("/api/v1/status")?;
    ensure!(status["refusing"].as_array().is_some_and(|why| !why.is_empty()), "{status}");
    ensure!(api.get("/readyz", "*/*")?.status == 503, "ready all the same");
    Ok(())
}

fn number(api: &Api, pointer: &str) -> Result<u64> {
    let status = api.json("/api/v1/status")?;
    status.pointer(pointer).and_then(|n| n.as_u64()).with_context(|| format!("no {pointer} in {status}"))
}

fn kill(server: &mut Server, load: &Load) -> Result<()> {
    server.kill()?;
    server.start_again()?;
    load.moved_to(server);
    Ok(())
}
