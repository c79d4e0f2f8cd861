//! Loads Longpole and two servers that only drop what they get, in turn, and prints them side by side.
#![allow(clippy::print_stdout)]

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use longpole_benches::http_client::HttpClient;
use longpole_benches::probe::{Probe, Probes};
use longpole_benches::process::{Sending, Server, Settings, Target, loadgen, program};
use longpole_benches::report::{self, Run};
use longpole_benches::sampler::{Sample, Sampler, first_and_last_minute};
use longpole_benches::schedule::Limit;
use longpole_benches::{queries, resource};
use serde_json::{Value, json};

/// Of a run by time, this many partitions end, so that merging is a part of it.
const PARTITIONS: u64 = 10;

#[derive(Debug, Parser)]
struct Args {
    /// Runs of each target.
    #[arg(long, default_value_t = 3)]
    runs: usize,
    /// Spans a run, unless there is a time.
    #[arg(long, default_value_t = 2_000_000)]
    spans: u64,
    /// Load for so many seconds a run instead of so many spans.
    #[arg(long)]
    seconds: Option<u64>,
    /// The same for the null servers, which do not change over time; at most --seconds.
    #[arg(long, default_value_t = 60)]
    null_seconds: u64,
    /// Seconds of a partition, with --seconds [default: a tenth of it].
    #[arg(long)]
    slice: Option<u64>,
    /// A setting of Longpole, such as LONGPOLE_MEMORY=1GiB.
    #[arg(long, value_name = "KEY=VALUE", value_parser = setting)]
    env: Vec<(String, String)>,
    /// Milliseconds between two traces that are sent to see when they are whole; 0 for none.
    #[arg(long, default_value_t = 100)]
    probe: u64,
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

fn setting(text: &str) -> Result<(String, String)> {
    let (key, value) = text.split_once('=').context("KEY=VALUE is wanted")?;
    Ok((key.to_owned(), value.to_owned()))
}

impl Args {
    fn limit(&self, target: Target) -> Limit {
        match self.seconds {
            None => Limit::Spans(self.spans),
            Some(seconds) if target == Target::Longpole => Limit::Time(Duration::from_secs(seconds)),
            Some(seconds) => Limit::Time(Duration::from_secs(seconds.min(self.null_seconds))),
        }
    }

    fn slice(&self) -> Option<u64> {
        self.seconds.map(|seconds| self.slice.unwrap_or(seconds / PARTITIONS).max(1))
    }

    fn settings(&self) -> Settings {
        let slice = self.slice().map(|slice| ("LONGPOLE_STORE__SLICE".to_owned(), format!("{slice}s")));
        slice.into_iter().chain(self.env.iter().cloned()).collect()
    }
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
    let load = args.seconds.map_or(format!("{} spans", args.spans), |seconds| format!("{seconds} s"));
    println!("{} runs of {load} each, {cores} cores shared by server and client", args.runs);

    let (mut runs, mut series) = (Vec::new(), Vec::new());
    for round in 0..args.runs {
        // Another one first each time, so that none always follows the same other.
        for place in 0..args.targets.len() {
            let target = args.targets[(place + round) % args.targets.len()];
            eprintln!("run {} of {}: {}", round + 1, args.runs, target.name());
            let (run, watched) = measure(target, &args, &parent).with_context(|| target.name())?;
            eprintln!(
                "    {:.0} spans/s, {:.2} CPU s/M spans until idle",
                run.spans_per_second, run.cpu_idle
            );
            runs.push(run);
            series.push(watched);
        }
    }
    println!("\n{}", report::table(&runs, &args.targets));
    print!("{}", report::marks(&runs));
    if let Some(path) = &args.json {
        let mut all = report::json(&runs, &args.targets);
        all["over_time"] = Value::Array(series);
        std::fs::write(path, serde_json::to_string_pretty(&all)?)
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

/// One load of a server and what was seen beside it.
struct Loaded {
    load: Value,
    samples: Vec<Sample>,
    probes: Probes,
}

fn load(server: &Server, target: Target, args: &Args) -> Result<Loaded> {
    let probe = (target == Target::Longpole && args.probe > 0)
        .then(|| {
            let interval = Duration::from_millis(args.probe);
            Ok::<_, anyhow::Error>(Probe::start(
                server.address("otlp_http")?,
                server.address("http")?,
                interval,
            ))
        })
        .transpose()?;
    let sampler = Sampler::start(server.pid(), None, Duration::from_secs(1));
    let sending = Sending {
        address: server.address("otlp_grpc")?,
        limit: args.limit(target),
        rate: None,
        seed: args.seed,
        files: &args.file,
        batch: None,
    };
    let load = loadgen(&sending)?;
    // The generator made its requests first: that time is not of the load.
    let begun = load["windows"][0]["unix_ms"].as_u64().unwrap_or_default();
    let mut samples = sampler.stop()?;
    samples.retain(|sample| sample.unix_ms >= begun);
    let probes = probe.map_or_else(|| Ok(Probes::default()), Probe::stop)?;
    Ok(Loaded { load, samples, probes })
}

fn measure(target: Target, args: &Args, parent: &Path) -> Result<(Run, Value)> {
    let mut server = Server::start(target, parent, args.settings())?;
    let pid = server.pid();
    let before = resource::cpu_seconds(pid)?;
    let Loaded { load, samples, probes } = load(&server, target, args)?;
    let after_load = resource::cpu_seconds(pid)?;
    let longpole = target == Target::Longpole;
    if let Some(slice) = args.slice().filter(|_| longpole) {
        // The last partition has to end before it is merged.
        std::thread::sleep(Duration::from_secs(slice + 2));
    }
    if !server.wait_until_idle()? {
        eprintln!("    {} is not idle after three minutes", target.name());
    }
    let idle = resource::cpu_seconds(pid)?;
    let mut merged_segments = None;
    if longpole {
        let status = HttpClient::new(server.address("http")?).json("/api/v1/status")?;
        merged_segments = status.pointer("/housekeeping/merged/segments_before").and_then(Value::as_f64);
    }
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
        kept = Some(resource::folder(&server.data())?.bytes as f64);
        start_again = Some(server.start_again()?.as_secs_f64());
        rest_rss_mib = Some(resource::rss_mib(server.pid())?);
    }
    let number = |key: &str| load[key].as_f64().with_context(|| format!("loadgen gave no {key}"));
    let spans = number("spans")?;
    let millions = spans / 1e6;
    let run = Run {
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
        rejected: number("rejected_spans")?,
        peak_rss_mib,
        rss_minutes: first_and_last_minute(&samples),
        visibility: probes.visibility(),
        merged_segments,
        written_per_span: written.map(|w: f64| w / spans),
        kept_per_span: kept.map(|k: f64| k / spans),
        zstd_per_span: load["zstd_bytes_per_span"].as_f64(),
        start_again,
        rest_rss_mib,
        queries,
    };
    let over_time = json!({
        "target": target.name(),
        "samples": samples,
        "windows": load["windows"],
        "visibility": run.visibility.map(|visibility| visibility.json()),
    });
    Ok((run, over_time))
}
