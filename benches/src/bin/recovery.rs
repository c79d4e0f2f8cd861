//! Kills a Longpole that has much in its log and in no segment, starts it again, and says how fast the log was
//! replayed.
#![allow(clippy::print_stdout)]

use anyhow::{Context, Result, ensure};
use clap::Parser;
use longpole_benches::process::{Sending, Server, Target, loadgen};
use longpole_benches::resource;
use longpole_benches::schedule::Limit;
use serde_json::Value;

/// As much as one segment may have: with more, a replay would seal between.
const KEYS: [(&str, &str); 6] = [
    ("LONGPOLE_SEAL__BYTES", "512MiB"),
    ("LONGPOLE_SEAL__INTERVAL", "24h"),
    ("LONGPOLE_MEMORY", "2GiB"),
    ("LONGPOLE_ASSEMBLE__SPANS_MAX", "4000000"),
    ("LONGPOLE_LOG__FORMAT", "json"),
    ("LONGPOLE_LOG__LEVEL", "info"),
];

#[derive(Debug, Parser)]
struct Args {
    /// Spans in the log. Up to some 1,200,000 of the load fit into one segment.
    #[arg(long, default_value_t = 1_150_000)]
    spans: usize,
    /// Crashes and starts over the same log.
    #[arg(long, default_value_t = 5)]
    runs: usize,
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

fn main() -> Result<()> {
    let args = Args::parse();
    let settings = KEYS.map(|(key, value)| (key.to_owned(), value.to_owned())).to_vec();
    let mut server = Server::start(Target::Longpole, &std::env::temp_dir(), settings)?;
    let load = loadgen(&Sending {
        address: server.address("otlp_grpc")?,
        limit: Limit::Spans(args.spans as u64),
        rate: None,
        seed: args.seed,
        files: &[],
        batch: None,
    })?;
    let spans = load["spans"].as_u64().context("loadgen gave no spans")?;
    for run in 1..=args.runs {
        server.crash()?;
        let ready = server.start_again()?;
        let cpu = resource::cpu_seconds(server.pid())?;
        let said = recovered(&server.log()?)?;
        ensure!(said["spans"] == spans, "not the {spans} spans that were sent: {said}");
        let number = |key: &str| said[key].as_f64().with_context(|| format!("no {key} in {said}"));
        println!(
            "run {run}: {spans} spans of {} frames in {:.0} ms, {:.0} spans/s; ready after {:.2} s and {cpu:.2} s of CPU, {:.0} MiB",
            number("frames")?,
            number("replay_ms")?,
            number("spans_per_second")?,
            ready.as_secs_f64(),
            resource::peak_rss_mib(server.pid())?,
        );
    }
    Ok(())
}

/// What the log says of the recovery.
fn recovered(log: &str) -> Result<Value> {
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let mut fields = lines.map(|line| line["fields"].clone());
    fields
        .find(|fields| fields["replay_ms"].is_number())
        .with_context(|| format!("nothing was recovered:\n{log}"))
}
