//! Makes the store of a quiet instance, a year of one span a second as merging leaves it, starts Longpole on it, and says how
//! long that took, what it holds in memory, and how long the usual questions take.
#![allow(clippy::print_stdout)]

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use clap::Parser;
use longpole_benches::http_client::{HttpClient, spans_of_trace};
use longpole_benches::pool::Pool;
use longpole_benches::process::{Server, Target};
use longpole_benches::quantiles::quantile;
use longpole_benches::resource;
use longpole_benches::stretch::Stretch;
use segment::{SegmentInput, build};
use span_store::{SpanStore, StoreOptions};
use trace_model::{NanoDuration, UnixNanos};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const SECOND: u64 = 1_000_000_000;
const MINUTE: u64 = 60 * SECOND;
const DAY: u64 = 86_400 * SECOND;
/// Spans of a minute at least: the trace that reaches this is whole, so that there are some sixty.
const SPANS: usize = 45;
/// Minutes that differ; then they repeat, with other ids.
const MINUTES: u64 = 120;
/// What keeps a year of spans, in partitions of a day.
const KEYS: [(&str, &str); 3] = [
    ("LONGPOLE_STORE__RETENTION", "9600h"),
    ("LONGPOLE_STORE__SLICE", "24h"),
    ("LONGPOLE_STORE__BYTES_MAX", "1000GiB"),
];

#[derive(Debug, Parser)]
struct Args {
    /// Days, each a partition of one segment.
    #[arg(long, default_value_t = 365)]
    days: u64,
    /// How often each question is asked.
    #[arg(long, default_value_t = 20)]
    times: usize,
}

fn main() -> Result<()> {
    let args = Args::parse();
    ensure!(args.days > 0 && args.times > 0, "--days 0 or --times 0 does nothing");
    let settings = KEYS.map(|(key, value)| (key.to_owned(), value.to_owned())).to_vec();
    let mut server = Server::start(Target::Longpole, &std::env::temp_dir(), settings)?;
    server.crash()?;
    let year = Year::new(args.days)?;
    let started = Instant::now();
    let spans = year.store_in(&server.data())?;
    println!("{spans} spans in {} partitions, made in {:.0} s", args.days, started.elapsed().as_secs_f64());
    let ready = server.start_again()?;
    let rss = resource::rss_mib(server.pid())?;
    println!("ready after {:.2} s, {rss:.0} MiB", ready.as_secs_f64());
    let client = HttpClient::new(server.address("http")?);
    let status = client.json("/api/v1/status")?;
    ensure!(status["store"]["sealed_spans"] == spans, "not all of it is there: {}", status["store"]);
    let bytes = status["store"]["stored_bytes"].as_u64().context("no stored_bytes")?;
    println!("{:.1} bytes a span", bytes as f64 / spans as f64);
    year.ask(&client, args.times)?;
    println!(
        "{:.0} MiB after the questions, {:.0} at most",
        resource::rss_mib(server.pid())?,
        resource::peak_rss_mib(server.pid())?
    );
    Ok(())
}

/// What is stored, and which traces are in it.
struct Year {
    pools: Vec<Pool>,
    begin: u64,
    days: u64,
}

impl Year {
    fn new(days: u64) -> Result<Self> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos() as u64;
        // Whole days up to the one that is under way.
        let begin = (now / DAY).checked_sub(days).context("so many days ago there was no clock")? * DAY;
        let pools =
            (0..MINUTES).map(|seed| Pool::generate(seed, SPANS, usize::MAX)).collect::<Result<_>>()?;
        Ok(Self { pools, begin, days })
    }

    fn minute(&self, nth: u64) -> (&Pool, u64) {
        (&self.pools[(nth % MINUTES) as usize], self.begin + nth * MINUTE)
    }

    /// Makes the store. How many spans it has.
    fn store_in(&self, dir: &Path) -> Result<u64> {
        let options = StoreOptions {
            retention: NanoDuration(400 * DAY),
            slice: Some(NanoDuration(DAY)),
            bytes_max: 1_000 << 30,
            ..StoreOptions::default()
        };
        let (store, ..) = SpanStore::open(dir, options)?;
        let mut spans = 0;
        for day in 0..self.days {
            let minutes = day * 1_440..(day + 1) * 1_440;
            let requests: Vec<Bytes> = minutes
                .clone()
                .map(|nth| {
                    let (pool, start) = self.minute(nth);
                    pool.patched(0, nth, start)
                })
                .collect();
            let mut stretch = Stretch::of(requests)?;
            for (batch, nth) in stretch.batches.iter_mut().zip(minutes) {
                let batch = Arc::get_mut(batch).context("a batch is held by two")?;
                batch.arrival = UnixNanos(self.minute(nth).1 + MINUTE - 1);
            }
            spans += stretch.spans() as u64;
            publish(&store, &stretch)?;
        }
        store.keep_house()?;
        Ok(spans)
    }

    /// Prints how long questions take.
    fn ask(&self, client: &HttpClient, times: usize) -> Result<()> {
        let minutes = self.days * 1_440;
        let mut took = Vec::new();
        for nth in 0..times as u64 * 10 {
            let minute = nth.wrapping_mul(0x9e37_79b9_7f4a_7c15) % minutes;
            let (id, spans) = self.minute(minute).0.trace(minute, nth as usize);
            let answer = client.get(&format!("/api/v1/traces/{id}"))?;
            ensure!(spans_of_trace(&answer.body) == Some(u64::from(spans)), "trace {id} is not whole");
            took.push(answer.took);
        }
        report("trace by id", &mut took);
        let service = self.pools[0].services().first().context("there is no service")?;
        let end = self.begin + self.days * DAY;
        for (of, days) in [("a day", 1), ("a month", 30), ("the year", self.days)] {
            let window = format!("start={}&end={end}", end - days.min(self.days) * DAY);
            let questions = [
                ("slowest 20", format!("/api/v1/traces?limit=20&{window}")),
                ("slowest 20 of a service", format!("/api/v1/traces?service={service}&limit=20&{window}")),
                ("percentiles of a service", format!("/api/v1/latency?service={service}&{window}")),
                ("bottlenecks of all", format!("/api/v1/bottlenecks?{window}")),
            ];
            for (name, path) in questions {
                let took = (0..times).map(|_| Ok(client.get(&path)?.took));
                report(&format!("{name}, {of}"), &mut took.collect::<Result<Vec<_>>>()?);
            }
        }
        Ok(())
    }
}

fn publish(store: &SpanStore, stretch: &Stretch) -> Result<()> {
    let now = stretch.batches.last().context("there is nothing to store")?.arrival;
    let seq = store.sealed_seq() + 1;
    let input = SegmentInput {
        batches: &stretch.batches,
        frames: Some((seq, seq)),
        analysed: &stretch.analysed,
        open: &[],
        open_since: None,
        names: &stretch.names,
        dictionary: None,
        now,
    };
    store.publish(now, &mut |sink| build(&input, sink))?;
    Ok(())
}

fn report(name: &str, took: &mut [Duration]) {
    let ms = |took: Option<Duration>| took.unwrap_or_default().as_secs_f64() * 1e3;
    let (first, most) = (took.first().copied(), took.iter().max().copied());
    println!(
        "{name}: first {:.1}, p50 {:.1}, at most {:.1} ms",
        ms(first),
        ms(quantile(took, 0.5)),
        ms(most)
    );
}
