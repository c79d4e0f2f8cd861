//! Loads Longpole below its limit for a long time, with questions beside the load, and says whether anything grew.
#![allow(clippy::print_stdout)]

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;
use longpole_benches::asking::{Asking, Question, Stored};
use longpole_benches::http_client::HttpClient;
use longpole_benches::probe::Probe;
use longpole_benches::process::{Sending, Server, Settings, Target, loadgen};
use longpole_benches::resource;
use longpole_benches::sampler::Sampler;
use longpole_benches::schedule::Limit;
use longpole_benches::soak::Soak;
use longpole_benches::verdict::{Finding, json, judge, table};
use serde_json::{Value, json as value};

/// In a lull, of the rate.
const LULL_PART: u64 = 100;
/// Spans of a request and of the pool in a lull: small requests, as few clients send them.
const LULL_BATCH: (usize, usize) = (128, 8_192);

#[derive(Debug, Parser)]
struct Args {
    /// Seconds under load; the lulls come on top.
    #[arg(long, default_value_t = 600)]
    seconds: u64,
    /// Spans a second that Longpole can take. Without it, a burst at full speed measures it, with the same questions and
    /// settings.
    #[arg(long)]
    limit: Option<u64>,
    /// Seconds of that burst. In the second half of them retention should be at work.
    #[arg(long, default_value_t = 150)]
    burst: u64,
    /// Of the limit, in hundredths.
    #[arg(long, default_value_t = 80)]
    percent: u64,
    /// Quick questions a second, and a sixtieth as many of those that read much.
    #[arg(long, default_value_t = 6.0)]
    questions: f64,
    /// Milliseconds between two traces that are sent to see when they are whole.
    #[arg(long, default_value_t = 100)]
    probe: u64,
    /// Seconds between two samples.
    #[arg(long, default_value_t = 2)]
    sample: u64,
    /// Times of little load, in which small segments come together that are worth merging.
    #[arg(long, default_value_t = 2)]
    lulls: u64,
    /// Seconds of a partition; a lull is two of them and a half.
    #[arg(long, default_value_t = 20)]
    slice: u64,
    /// MiB above which the oldest partitions go; what is judged begins then.
    #[arg(long, default_value_t = 1_024)]
    bytes_max: u64,
    /// A setting of Longpole, such as LONGPOLE_MEMORY=1GiB.
    #[arg(long, value_name = "KEY=VALUE")]
    env: Vec<String>,
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Recorded traces to send instead of the model's (OTLP/JSON lines, also `.zst`).
    #[arg(long)]
    file: Vec<PathBuf>,
    /// Folder for the stores, which are removed at the end. Default: that of temporary files.
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Write the verdict and all that was seen to this file, as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
}

fn main() -> Result<ExitCode> {
    let args = Args::parse();
    ensure!(args.seconds > 0 && args.percent > 0, "a soak without time or load shows nothing");
    let parent = args.dir.clone().unwrap_or_else(std::env::temp_dir);
    std::fs::create_dir_all(&parent).with_context(|| format!("cannot make {}", parent.display()))?;
    let settings = settings(&args)?;
    let limit = match args.limit {
        Some(limit) => limit,
        None => measure_limit(&args, &parent, settings.clone())?,
    };
    let rate = (limit * args.percent / 100).max(1);
    println!("{rate} spans/s, {} % of {limit}, for {} s", args.percent, args.seconds);
    let server = Server::start(Target::Longpole, &parent, settings)?;
    let soak = run(&server, &args, rate)?;
    let end = HttpClient::new(server.address("http")?).json("/api/v1/status")?;
    let faults = report(&soak, &args, rate, &end, resource::peak_rss_mib(server.pid())?)?;
    for fault in &faults {
        println!("{fault}");
    }
    Ok(if faults.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What it takes at full speed with the same questions beside the load, which have the processors as well: in the second
/// half of the time, when there is as much to look at as there will be.
fn measure_limit(args: &Args, parent: &Path, settings: Settings) -> Result<u64> {
    eprintln!("measuring the limit for {} s, with questions", args.burst);
    let server = Server::start(Target::Longpole, parent, settings)?;
    let asking = ask(server.address("http")?, args);
    let load = loadgen(&sending(&server, args, args.burst, None)?)?;
    asking.into_iter().try_for_each(|asking| asking.stop().map(drop))?;
    let windows = load["windows"].as_array().context("loadgen gave no windows")?;
    let number = |window: &Value, key: &str| window[key].as_u64().unwrap_or_default();
    let half = &windows[windows.len() / 2..];
    let (Some(first), Some(last)) = (half.first(), half.last()) else { bail!("no time to measure") };
    // A window has the time of its beginning, and the last one is not whole.
    let millis = number(last, "unix_ms") - number(first, "unix_ms");
    let spans: u64 = half[..half.len() - 1].iter().map(|window| number(window, "spans")).sum();
    ensure!(millis > 0, "{} s are too short to measure the limit", args.burst);
    Ok(spans * 1_000 / millis)
}

/// Those that are quick, and those that read much.
fn ask(http: &str, args: &Args) -> [Asking; 2] {
    let quick = Asking::start(http, &Question::QUICK, args.questions);
    [quick, Asking::start(http, &Question::LONG, args.questions / 60.0)]
}

fn settings(args: &Args) -> Result<Settings> {
    let own = [
        ("LONGPOLE_STORE__BYTES_MAX", format!("{}MiB", args.bytes_max)),
        ("LONGPOLE_STORE__SLICE", format!("{}s", args.slice.max(1))),
        ("LONGPOLE_SEAL__INTERVAL", "1s".to_owned()),
    ];
    let mut settings: Settings = own.map(|(key, value)| (key.to_owned(), value)).to_vec();
    for text in &args.env {
        let (key, value) = text.split_once('=').context("--env wants KEY=VALUE")?;
        settings.push((key.to_owned(), value.to_owned()));
    }
    println!("{}", settings.iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>().join(" "));
    Ok(settings)
}

fn sending<'a>(server: &'a Server, args: &'a Args, seconds: u64, rate: Option<u64>) -> Result<Sending<'a>> {
    Ok(Sending {
        address: server.address("otlp_grpc")?,
        limit: Limit::Time(Duration::from_secs(seconds.max(1))),
        rate,
        seed: args.seed,
        files: &args.file,
        batch: None,
    })
}

/// Load with lulls in between, watched all the time.
fn run(server: &Server, args: &Args, rate: u64) -> Result<Soak> {
    let (http, otlp_http) = (server.address("http")?, server.address("otlp_http")?);
    let sampler = Sampler::start(server.pid(), Some(server.data()), Duration::from_secs(args.sample.max(1)));
    let probe = Probe::start(otlp_http, http, Duration::from_millis(args.probe.max(1)));
    let [quick, long] = ask(http, args);
    let mut soak = Soak::default();
    let mut rejected = 0.0;
    for part in 0..=args.lulls {
        if part > 0 {
            let begun = unix_ms()?;
            eprintln!("a lull of {} s", args.slice * 5 / 2);
            let rate = (rate / LULL_PART).max(1);
            let calm = sending(server, args, args.slice * 5 / 2, Some(rate))?;
            loadgen(&Sending { batch: Some(LULL_BATCH), ..calm })?;
            soak.lulls.push((begun, unix_ms()?));
        }
        eprintln!("load, part {} of {}", part + 1, args.lulls + 1);
        let seconds = args.seconds / (args.lulls + 1);
        let load = loadgen(&sending(server, args, seconds, Some(rate))?)?;
        let number = |key: &str| load[key].as_f64().unwrap_or_default();
        eprintln!(
            "    {:.0} spans/s, acknowledged p50 {:.1}, p99 {:.1}, max {:.1} ms, {} retries, {:.1} s skipped",
            number("spans_per_second"),
            number("ack_p50_ms"),
            number("ack_p99_ms"),
            number("ack_max_ms"),
            number("retries"),
            number("skipped_seconds"),
        );
        rejected += number("rejected_spans");
        soak.windows.extend(load["windows"].as_array().cloned().unwrap_or_default());
    }
    soak.samples = sampler.stop()?;
    soak.probes = probe.stop()?;
    soak.answers = quick.stop()?;
    soak.answers.asked.extend(long.stop()?.asked);
    ensure!(rejected == 0.0, "{rejected} spans were rejected");
    Ok(soak)
}

/// Prints what was seen and returns what is wrong with it.
fn report(soak: &Soak, args: &Args, rate: u64, status: &Value, peak_rss_mib: f64) -> Result<Vec<String>> {
    let span = soak.judged().context("no samples")?;
    let judged: Vec<_> = soak.series(span).into_iter().map(|series| judge(series, span)).collect();
    println!("\n{}", table(&judged));
    let end = Stored::of(status, unix_ms()?);
    println!(
        "retention took {} partitions ({} postponed); {} small segments of {} partitions were merged; {} rollups, {} segments, {} damaged; peak RSS {peak_rss_mib:.0} MiB",
        end.freed_partitions,
        end.postponed,
        end.merged_segments,
        end.merged_partitions,
        end.rollups,
        end.segments,
        end.damaged,
    );
    let visibility = soak.probes.visibility();
    if let Some(seen) = visibility {
        println!(
            "whole after acknowledgement: p50 {:.1}, p99 {:.1}, max {:.1} ms of {} traces; {} never, {} refused",
            seen.p50, seen.p99, seen.max, seen.traces, seen.never, seen.refused
        );
    }
    let failures = soak.answers.failures();
    println!("{} questions; without success: {failures:?}", soak.answers.asked.len());
    if let Some(path) = &args.json {
        let all = value!({
            "rate": rate, "judged_from_unix_ms": span.from, "judged_to_unix_ms": span.to, "lulls": soak.lulls,
            "verdict": json(&judged), "visibility": visibility.map(|seen| seen.json()),
            "questions": soak.answers.asked.len(), "questions_without_success": failures,
            "peak_rss_mib": peak_rss_mib, "stored": soak.answers.stored, "windows": soak.windows, "samples": soak.samples,
        });
        std::fs::write(path, serde_json::to_string_pretty(&all)?)
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    let of = |finding| {
        let found: Vec<&str> =
            judged.iter().filter(|j| j.finding == finding).map(|j| j.series.name.as_str()).collect();
        (!found.is_empty()).then(|| found.join("; "))
    };
    let mut faults = Vec::new();
    faults.extend(of(Finding::Grew).map(|names| format!("GREW: {names}")));
    faults.extend(of(Finding::TooFew).map(|names| format!("TOO FEW VALUES: {names}; a longer run")));
    if end.freed_partitions == 0 {
        faults.push("retention took nothing: a longer run, or a smaller --bytes-max".to_owned());
    }
    if args.lulls > 0 && end.merged_partitions == 0 {
        faults.push("nothing was merged: a larger --slice".to_owned());
    }
    Ok(faults)
}

fn unix_ms() -> Result<u64> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).context("the clock is before 1970")?;
    Ok(u64::try_from(now.as_millis())?)
}
