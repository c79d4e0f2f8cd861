//! Sends a seeded load of spans to an OTLP/gRPC server and prints one JSON object about it.

use std::io::Write as _;
use std::time::Duration;

use clap::Parser;
use longpole_benches::load::{Plan, run};
use longpole_benches::pool::Pool;
use longpole_benches::schedule::Limit;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Debug, Parser)]
struct Args {
    /// Where to: host:port of OTLP/gRPC.
    #[arg(long, default_value = "127.0.0.1:4317")]
    endpoint: String,
    /// Spans to send, unless there is a time.
    #[arg(long, default_value_t = 2_000_000)]
    spans: usize,
    /// Send for so many seconds instead of so many spans.
    #[arg(long)]
    seconds: Option<u64>,
    /// Spans a second at most. Without it, as fast as they are acknowledged.
    #[arg(long)]
    rate: Option<u64>,
    /// Seconds of a window, for each of which the result has latencies.
    #[arg(long, default_value_t = 5)]
    window: u64,
    /// Spans in the pool that is sent over and over.
    #[arg(long, default_value_t = 250_000)]
    pool: usize,
    /// Spans a request.
    #[arg(long, default_value_t = 8_192)]
    batch: usize,
    #[arg(long, default_value_t = 4)]
    connections: usize,
    /// Requests under way at once on each connection.
    #[arg(long, default_value_t = 2)]
    in_flight: usize,
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Seconds for which a request that the server puts off is tried again.
    #[arg(long, default_value_t = 60)]
    patience: u64,
    /// Recorded traces to send instead (OTLP/JSON lines, also `.zst`), over and over with new ids and times.
    #[arg(long)]
    file: Vec<std::path::PathBuf>,
    /// Traces to name in the result.
    #[arg(long, default_value_t = 0)]
    samples: usize,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let pool = if args.file.is_empty() {
        let spans = if args.seconds.is_some() { args.pool } else { args.pool.min(args.spans) };
        Pool::generate(args.seed, spans, args.batch)?
    } else {
        Pool::recorded(&args.file, args.batch)?
    };
    let plan = Plan {
        endpoint: format!("http://{}", args.endpoint),
        connections: args.connections,
        in_flight: args.in_flight,
        limit: args.seconds.map_or(Limit::Spans(args.spans as u64), |s| Limit::Time(Duration::from_secs(s))),
        rate: args.rate,
        window: Duration::from_secs(args.window.max(1)),
        patience: Duration::from_secs(args.patience),
        samples: args.samples,
    };
    let result = run(pool, plan).await?;
    writeln!(std::io::stdout(), "{result}")?;
    Ok(())
}
