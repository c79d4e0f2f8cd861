//! Runs what the assembling stage does to every span (observe, finish, analyse, let go) over the load generator's
//! pool, and says what each part takes. No store and no network: for `callgrind` and for alternating runs.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use bytes::Bytes;
use clap::Parser;
use hashbrown::HashMap;
use longpole_benches::pool::Pool;
use longpole_benches::stretch::{Stretch, analyse};
use segment::{SpanRow, TraceRow};
use trace_assemble::{Assembler, ByTrace, OpenTrace, Options};
use trace_model::{TraceId, UnixNanos};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// A moment of 2023, in unix nanoseconds, at which the load begins.
const BASE: u64 = 1_700_000_000_000_000_000;
const SECOND: u64 = 1_000_000_000;

#[derive(Debug, Parser)]
struct Args {
    /// Spans of the pool.
    #[arg(long, default_value_t = 250_000)]
    pool: usize,
    /// Spans of a request of the pool.
    #[arg(long, default_value_t = 8_192)]
    batch: usize,
    /// How often the pool is played, each time as new traces.
    #[arg(long, default_value_t = 16)]
    passes: u64,
    /// Spans that come in a second.
    #[arg(long, default_value_t = 500_000)]
    rate: u64,
    /// Spans after which what is finished is let go.
    #[arg(long, default_value_t = 65_000)]
    segment: usize,
    /// Spans held at most.
    #[arg(long, default_value_t = 1_590_000)]
    spans_max: usize,
}

/// The stage's part of the state.
struct Stage {
    assembler: Assembler,
    by_trace: ByTrace,
    analysed: HashMap<TraceId, TraceRow>,
    finished: Vec<TraceId>,
    traces: usize,
    observing: Duration,
    polling: Duration,
    analysing: Duration,
    sealing: Duration,
}

fn main() -> Result<()> {
    let args = Args::parse();
    ensure!(args.rate > 0 && args.passes > 0, "--rate 0 or --passes 0 does nothing");
    let pool = Pool::generate(1, args.pool, args.batch)?;
    let requests: Vec<Bytes> = (0..pool.requests()).map(|n| pool.patched(n, 0, BASE)).collect();
    let batches: Vec<Vec<SpanRow>> =
        Stretch::of(requests)?.batches.iter().map(|batch| batch.rows.clone()).collect();
    let options = Options { spans_max: args.spans_max, ..Options::default() };
    let mut stage = Stage::new(Assembler::new(options));
    let (mut spans, mut since_cut, mut number) = (0_u64, 0, 0);
    let mut now = UnixNanos(BASE);
    for pass in 0..args.passes {
        for batch in &batches {
            let rows = renamed(batch, pass)?;
            number += 1;
            spans += rows.len() as u64;
            since_cut += rows.len();
            now = UnixNanos(BASE + spans * SECOND / args.rate);
            stage.observe(&rows, number, now);
            stage.finish(now);
            if since_cut >= args.segment {
                stage.seal(number);
                since_cut = 0;
            }
        }
    }
    stage.finish(now.saturating_add(trace_model::NanoDuration(3_600 * SECOND)));
    stage.seal(number);
    report(&stage, spans);
    Ok(())
}

/// The rows of another pass: other traces of the same shape.
fn renamed(rows: &[SpanRow], pass: u64) -> Result<Vec<SpanRow>> {
    let mask = u128::from(pass.wrapping_mul(0x9e37_79b9_7f4a_7c15)).wrapping_mul(0x1_0000_0001_0000_0001);
    let other = |row: &SpanRow| {
        let id = u128::from_be_bytes(*row.trace_id.as_bytes()) ^ mask;
        Ok(SpanRow { trace_id: TraceId::new(id.to_be_bytes())?, ..*row })
    };
    rows.iter().map(other).collect()
}

impl Stage {
    fn new(assembler: Assembler) -> Self {
        Self {
            assembler,
            by_trace: ByTrace::default(),
            analysed: HashMap::new(),
            finished: Vec::new(),
            traces: 0,
            observing: Duration::ZERO,
            polling: Duration::ZERO,
            analysing: Duration::ZERO,
            sealing: Duration::ZERO,
        }
    }

    #[inline(never)]
    fn observe(&mut self, rows: &[SpanRow], number: u64, now: UnixNanos) {
        let begun = Instant::now();
        self.by_trace.arrange(rows.iter().map(|row| row.trace_id));
        // The stage looks once for what may be stored of a trace, and once takes it in.
        let known = |id: &TraceId| self.assembler.get(id).map(OpenTrace::searched_since);
        let wanted = self.by_trace.traces().filter(|(id, _)| known(id).is_none()).count();
        std::hint::black_box(wanted);
        let mut repeated = Vec::new();
        for (id, of_trace) in self.by_trace.traces() {
            let nodes = of_trace.map(|row| (row, rows[row as usize].node));
            self.assembler.observe_rows(id, number, nodes, now, &mut repeated);
        }
        std::hint::black_box(repeated);
        self.observing += begun.elapsed();
    }

    #[inline(never)]
    fn finish(&mut self, now: UnixNanos) {
        let begun = Instant::now();
        let due = self.assembler.poll(now);
        self.polling += begun.elapsed();
        let begun = Instant::now();
        for id in due {
            let Some(trace) = self.assembler.get(&id) else { continue };
            if let Some(row) = analyse(id, trace.nodes()) {
                self.analysed.insert(id, row);
                self.finished.push(id);
                self.traces += 1;
            }
        }
        self.analysing += begun.elapsed();
    }

    #[inline(never)]
    fn seal(&mut self, number: u64) {
        let begun = Instant::now();
        self.assembler.cut();
        self.assembler.sealed(number);
        for id in std::mem::take(&mut self.finished) {
            self.analysed.remove(&id);
            self.assembler.release(&id);
        }
        self.sealing += begun.elapsed();
    }
}

#[allow(clippy::print_stdout, reason = "its output is what it is for")]
fn report(stage: &Stage, spans: u64) {
    let per_span = |time: Duration| time.as_nanos() as f64 / spans as f64;
    println!(
        "{spans} spans, {} traces; ns a span: observe {:.0}, poll {:.0}, analyse {:.0}, let go {:.0}",
        stage.traces,
        per_span(stage.observing),
        per_span(stage.polling),
        per_span(stage.analysing),
        per_span(stage.sealing),
    );
}
