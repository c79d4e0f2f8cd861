//! Promise: every distinct span counts exactly once, however and whenever it comes; and what cannot be sealed
//! yet is kept, not dropped.

use std::time::{Duration, SystemTime};

use anyhow::{Result, ensure};
use longpole_tests::traffic::{Sent, hex, now_nanos, request, trace};
use longpole_tests::{Api, ServerOptions, eventually, seed};
use rand::SeedableRng as _;
use rand::rngs::StdRng;

const HOUR: u64 = 3_600_000_000_000;
const PATIENCE: Duration = Duration::from_secs(30);

/// A trace is sealed; hours later (by its spans' clocks) more of it comes, and then all of the first again.
#[test]
fn a_resent_span_of_a_trace_held_for_a_much_later_one_is_recognised() {
    let mut rng = StdRng::seed_from_u64(seed());
    let server = ServerOptions::new().unwrap().hasty().start().unwrap();
    let exporter = server.exporter().unwrap();
    let first = trace(&mut rng, now_nanos() - 5 * HOUR);
    exporter.deliver(&request(&first)).unwrap();
    eventually("the first part is sealed", PATIENCE, || sealed_spans(&server.api(), first.len())).unwrap();

    let mut late = vec![first[0].clone()];
    late[0].span.span_id = vec![0xee; 8];
    late[0].span.start_time_unix_nano += 3 * HOUR;
    late[0].span.end_time_unix_nano += 3 * HOUR;
    exporter.deliver(&request(&late)).unwrap();
    exporter.deliver(&request(&first)).unwrap();

    let id = hex(&first[0].span.trace_id);
    let spans = eventually("all of it is there", PATIENCE, || {
        let spans = server.api().trace_spans(&id)?;
        ensure!(spans.len() == first.len() + 1, "{} spans", spans.len());
        Ok(spans.len())
    })
    .unwrap();
    eventually("all of it is counted once", PATIENCE, || {
        let counted = counted(&server.api())?;
        ensure!(counted == spans as u64, "{counted} counted, {spans} there");
        Ok(())
    })
    .unwrap();
}

/// While segments cannot be written, spans are kept and can be asked for, and once they can be, all is sealed.
#[test]
fn what_cannot_be_sealed_is_kept_until_it_can_be() {
    let mut rng = StdRng::seed_from_u64(seed());
    let mut server = ServerOptions::new().unwrap().hasty().start().unwrap();
    let ingest = server.data_dir().join("ingest");
    std::fs::remove_dir(&ingest).unwrap();
    std::fs::write(&ingest, "in the way").unwrap();

    let one = trace(&mut rng, now_nanos());
    server.exporter().unwrap().deliver(&request(&one)).unwrap();
    eventually("it says that it cannot seal", PATIENCE, || {
        let status = server.api().json("/api/v1/status")?;
        ensure!(status["refusing"].to_string().contains("seal"), "{status}");
        Ok(())
    })
    .unwrap();
    // Longer than a few tries: it must not give up.
    std::thread::sleep(Duration::from_secs(12));
    check_whole(&server.api(), &one).unwrap();

    std::fs::remove_file(&ingest).unwrap();
    std::fs::create_dir(&ingest).unwrap();
    let other = trace(&mut rng, now_nanos());
    server.exporter().unwrap().deliver(&request(&other)).unwrap();
    eventually("both are sealed", PATIENCE, || sealed_spans(&server.api(), one.len() + other.len())).unwrap();
    server.kill().unwrap();
    server.start_again().unwrap();
    check_whole(&server.api(), &one).unwrap();
    check_whole(&server.api(), &other).unwrap();
}

fn sealed_spans(api: &Api, wanted: usize) -> Result<()> {
    let status = api.json("/api/v1/status")?;
    ensure!(status["store"]["sealed_spans"] == wanted, "{}", status["store"]);
    Ok(())
}

fn check_whole(api: &Api, sent: &[Sent]) -> Result<()> {
    let spans = api.trace_spans(&hex(&sent[0].span.trace_id))?;
    ensure!(spans.len() == sent.len(), "{} of {} spans", spans.len(), sent.len());
    Ok(())
}

fn counted(api: &Api) -> Result<u64> {
    let end = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_secs() + 3600;
    let answer = api.json(&format!("/api/v1/latency?start=0&end={end}"))?;
    let series = answer["series"].as_array().cloned().unwrap_or_default();
    Ok(series.iter().filter_map(|series| series["count"].as_u64()).sum())
}
