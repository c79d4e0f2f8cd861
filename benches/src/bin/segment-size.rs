//! Builds segments of one stretch of spans, and says what they take: bytes a span by kind of key, and time.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Result, ensure};
use bytes::Bytes;
use clap::Parser;
use longpole_benches::pool::Pool;
use longpole_benches::stretch::{Stretch, recorded};
use segment::{SegmentInput, build};
use trace_model::UnixNanos;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// A moment of 2023, in unix nanoseconds, at which the load begins.
const BASE: u64 = 1_700_000_000_000_000_000;

#[derive(Debug, Parser)]
struct Args {
    /// Recorded requests (OTLP/JSON lines, also `.zst`); without it, the load generator's pool.
    #[arg(long)]
    file: Option<PathBuf>,
    /// Spans of the pool.
    #[arg(long, default_value_t = 250_000)]
    pool: usize,
    /// Spans of a request of the pool.
    #[arg(long, default_value_t = 8_192)]
    batch: usize,
    /// A segment is built of this many spans, or of what a file has.
    #[arg(long, default_value_t = 115_000)]
    spans: usize,
    /// Builds of the same segment; the fastest counts.
    #[arg(long, default_value_t = 5)]
    runs: usize,
}

fn main() -> Result<()> {
    let args = Args::parse();
    ensure!(args.runs > 0, "--runs 0 builds nothing");
    let requests = match &args.file {
        Some(path) => recorded(path)?,
        None => pooled(&args)?,
    };
    let stretch = Stretch::of(requests)?;
    let mut kinds: BTreeMap<u8, (usize, usize)> = BTreeMap::new();
    let mut best = f64::MAX;
    for _ in 0..args.runs {
        kinds.clear();
        let begun = Instant::now();
        seal(&stretch, &mut kinds)?;
        best = best.min(begun.elapsed().as_secs_f64());
    }
    report(&stretch, &kinds, best)
}

fn pooled(args: &Args) -> Result<Vec<Bytes>> {
    let pool = Pool::generate(1, args.pool.min(args.spans), args.batch)?;
    let mut requests = Vec::new();
    let (mut spans, mut pass) = (0, 0);
    while spans < args.spans {
        for request in 0..pool.requests() {
            if spans < args.spans {
                requests.push(pool.patched(request, pass, BASE + pass * pool.length_nanos()));
                spans += pool.spans_in(request);
            }
        }
        pass += 1;
    }
    Ok(requests)
}

fn seal(stretch: &Stretch, kinds: &mut BTreeMap<u8, (usize, usize)>) -> Result<()> {
    let input = SegmentInput {
        batches: &stretch.batches,
        frames: Some((1, 2)),
        analysed: &stretch.analysed,
        open: &[],
        open_since: None,
        names: &stretch.names,
        dictionary: None,
        now: UnixNanos(BASE),
    };
    build(&input, &mut |key, value| {
        let (values, bytes) = kinds.entry(key.to_bytes()[0]).or_default();
        (*values, *bytes) = (*values + 1, *bytes + value.len());
        Ok(())
    })?;
    Ok(())
}

#[allow(clippy::print_stdout, reason = "its output is what it is for")]
fn report(stretch: &Stretch, kinds: &BTreeMap<u8, (usize, usize)>, seconds: f64) -> Result<()> {
    let spans = stretch.spans() as f64;
    println!(
        "{spans} spans, {} traces, {:.1} bytes a span of requests",
        stretch.analysed.len(),
        stretch.bytes() as f64 / spans
    );
    println!(
        "  zstd 1 of the requests in blocks of 1 MiB: {:.2} bytes a span",
        zstd_bytes(stretch)? as f64 / spans
    );
    for (kind, (values, bytes)) in kinds {
        println!("  {kind:02x}  {values:6} values  {:7.2} bytes a span", *bytes as f64 / spans);
    }
    let bytes: usize = kinds.values().map(|(_, bytes)| bytes).sum();
    println!(
        "  all {:.2} bytes a span, built in {:.0} ns a span",
        bytes as f64 / spans,
        seconds * 1e9 / spans
    );
    Ok(())
}

fn zstd_bytes(stretch: &Stretch) -> Result<usize> {
    let all: Vec<u8> = stretch.batches.iter().flat_map(|batch| batch.request.iter().copied()).collect();
    let mut packed = 0;
    for block in all.chunks(1 << 20) {
        packed += zstd::bulk::compress(block, 1)?.len();
    }
    Ok(packed)
}
