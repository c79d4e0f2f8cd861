//! Loads Longpole and two servers that only drop what they get, in turn, and prints them side by side.
#![allow(clippy::print_stdout)]

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use longpole_benches::process::{Server, Target, loadgen, program};
use longpole_benches::report::{self, Run};
use longpole_benches::{queries, resource};
use serde_json::Value;

#[derive(Debug, Parser)]
struct Args {
    /// Runs of each target.
    #[arg(long, default_value_t = 3)]
    runs: usize,
    /// Spans a run.
    #[arg(long, default_value_t = 2_000_000)]
    spans: usize,
    #[arg(long, value_delimiter = ',', default_value = "null-raw,null-prost,longpole")]
    targets: Vec<Target>,
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Recorded traces to send instead of the model's (OTLP/JSON lines, also `.zst`).
    #[arg(long)]
    file: Vec<PathBuf>,
    /// Folder for the stores; each run's is removed at its end. Default: that of temporary files.
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Write every run's figures to this file, as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
}

fn main() -> Result<()> {
    let args = Args::parse();
    ensure!(args.runs > 0 && !args.targets.is_empty(), "at least one run and one target");
    for target in &args.targets {
        program(target.name())?;
    }
    let parent = args.dir.clone().unwrap_or_else(std::env::temp_dir);
    std::fs::create_dir_all(&parent).with_context(|| format!("cannot make {}", parent.display()))?;
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    println!("{} runs of {} spans each, {cores} cores shared by server and client", args.runs, args.spans);

    let mut runs = Vec::new();
    for round in 0..args.runs {
        // Another one first each time, so that none always follows the same other.
        for place in 0..args.targets.len() {
            let target = args.targets[(place + round) % args.targets.len()];
            eprintln!("run {} of {}: {}", round + 1, args.runs, target.name());
            let run = measure(target, &args, &parent).with_context(|| target.name())?;
            eprintln!(
                "    {:.0} spans/s, {:.2} CPU s/M spans until idle",
                run.spans_per_second, run.cpu_idle
            );
            runs.push(run);
        }
    }
    println!("\n{}", report::table(&runs, &args.targets));
    print!("{}", report::marks(&runs));
    if let Some(path) = &args.json {
        let text = serde_json::to_string_pretty(&report::json(&runs, &args.targets))?;
        std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

fn measure(target: Target, args: &Args, parent: &std::path::Path) -> Result<Run> {
    let mut server = Server::start(target, parent)?;
    let pid = server.pid();
    let before = resource::cpu_seconds(pid)?;
    let load = loadgen(server.address("otlp_grpc")?, args.spans, args.seed, &args.file)?;
    let after_load = resource::cpu_seconds(pid)?;
    if !server.wait_until_idle()? {
        eprintln!("    {} is not idle after three minutes", target.name());
    }
    let idle = resource::cpu_seconds(pid)?;
    let longpole = target == Target::Longpole;
    let queries = if longpole { Some(queries::run(server.address("http")?, &load)?) } else { None };
    let asked = resource::cpu_seconds(pid)?;
    let peak_rss_mib = resource::peak_rss_mib(pid)?;
    let mut cpu_drained = None;
    let (mut written, mut kept) = (None, None);
    let (mut start_again, mut rest_rss_mib) = (None, None);
    if longpole {
        let written_before_drain = resource::bytes_written(pid)?;
        server.drain()?;
        // The queries are not part of the cost of a span.
        cpu_drained = Some(resource::cpu_seconds(pid)? - asked + idle - before);
        written = Some(resource::bytes_written(pid).unwrap_or(written_before_drain));
        kept = Some(server.disk_bytes()? as f64);
        start_again = Some(server.start_again()?.as_secs_f64());
        rest_rss_mib = Some(resource::rss_mib(server.pid())?);
    }
    let number = |key: &str| load[key].as_f64().with_context(|| format!("loadgen gave no {key}"));
    let spans = number("spans")?;
    let millions = spans / 1e6;
    Ok(Run {
        target,
        spans,
        spans_per_second: number("spans_per_second")?,
        megabytes_per_second: number("megabytes_per_second")?,
        cpu_load: (after_load - before) / millions,
        cpu_idle: (idle - before) / millions,
        cpu_drained: cpu_drained.map(|c: f64| c / millions),
        client_cpu: number("client_cpu_seconds_per_million")?,
        ack_p50_ms: number("ack_p50_ms")?,
        ack_p99_ms: number("ack_p99_ms")?,
        retries: number("retries")?,
        rejected: load.get("rejected_spans").and_then(Value::as_f64).context("no rejected_spans")?,
        peak_rss_mib,
        written_per_span: written.map(|w: f64| w / spans),
        kept_per_span: kept.map(|k: f64| k / spans),
        zstd_per_span: load["zstd_bytes_per_span"].as_f64(),
        start_again,
        rest_rss_mib,
        queries,
    })
}
