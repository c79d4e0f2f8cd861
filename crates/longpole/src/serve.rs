//! The server: opens the store, starts the stages, listens, and drains when told to stop.

use std::convert::Infallible;
use std::io::IsTerminal;
use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context;
use api::{ApiState, BuildInfo, Counter};
use ingest::{Address, IngestCounters, IngestParts, IngestServer, Listener};
use query::{BlockCache, Engine, NameTable, State, TraceDirectory};
use span_store::{SpanStore, disk_space};
use tokio::net::TcpListener;
use tokio::sync::{Notify, mpsc, watch};
use trace_assemble::Assembler;
use tracing_subscriber::EnvFilter;

use crate::config::{Config, LogOptions};
use crate::pipeline::Pipeline;
use crate::{copies, files, memory, query_port};

/// Requests that wait for the committer at most; their bytes are bounded besides.
const QUEUE_REQUESTS: usize = 1024;
/// How long requests under way may take after a stop was asked for.
const DRAIN: std::time::Duration = std::time::Duration::from_secs(10);

/// How often start-up looks whether the log has been replayed.
const RECOVERY_POLL: std::time::Duration = std::time::Duration::from_millis(2);

static STOP: Notify = Notify::const_new();

/// Asks the running server to stop, as a signal would.
pub(crate) fn request_stop() {
    STOP.notify_one();
}

/// Where the server listens.
#[derive(Debug, Clone)]
pub(crate) struct Addresses {
    pub(crate) otlp_grpc: Address,
    pub(crate) otlp_http: Address,
    pub(crate) http: SocketAddr,
}

/// Sets the log up. `quiet` keeps all but warnings off a terminal that shows something else.
pub(crate) fn init_logs(options: &LogOptions, quiet: bool) {
    let level = if quiet { "warn" } else { options.level.as_str() };
    let filter = EnvFilter::try_new(level).unwrap_or_else(|_| EnvFilter::new("info"));
    let json = match options.format.as_str() {
        "json" => true,
        "text" => false,
        _ => !std::io::stderr().is_terminal(),
    };
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // Fails only if a log is set up already, and then that one serves.
    let _ = if json { builder.json().try_init() } else { builder.try_init() };
}

/// Serves until a signal comes, then drains: stops accepting, commits, seals, closes.
///
/// # Errors
/// If the store cannot be opened or an address cannot be listened on.
pub(crate) async fn run(
    config: Config,
    ready: impl FnOnce(&Addresses) + Send + 'static,
) -> anyhow::Result<()> {
    // First of all: whoever asks it to stop while it starts is heard as well.
    let asked_to_stop = signal();
    let config = fitted(config)?;
    let grpc = cannot_listen(Listener::bind(&config.otlp_grpc).await, &config.otlp_grpc, "--otlp-grpc")?;
    let otlp_http = cannot_listen(Listener::bind(&config.otlp_http).await, &config.otlp_http, "--otlp-http")?;
    let http = cannot_listen(TcpListener::bind(&config.http).await, &config.http, "--http")?;
    let addresses =
        Addresses { otlp_grpc: grpc.address()?, otlp_http: otlp_http.address()?, http: http.local_addr()? };

    let (dir, options) = (config.data_dir.clone(), config.store);
    let (store, segments, damaged) =
        tokio::task::spawn_blocking(move || SpanStore::open(&dir, options)).await??;
    if let completed @ [_, ..] = store.completed_dictionaries() {
        tracing::info!(dictionaries = ?completed, "copies that were missing or damaged are written again");
    }
    for text in &damaged {
        tracing::error!("{text}");
    }
    let store = Arc::new(store);
    let names = Arc::new(NameTable::default());
    let (hashes, hash_memory) = (config.data_dir.join("trace-hashes"), config.query.directory);
    let directory = tokio::task::spawn_blocking(move || TraceDirectory::open(&hashes, hash_memory)).await?;
    let directory = directory.context("cannot use the folder trace-hashes of the data folder")?;
    let state = State::with_memory(
        Arc::clone(&names),
        Assembler::new(config.assemble),
        BlockCache::with_memory(config.query.blocks),
        directory,
    );
    let state = state.with_trace_spans_max(config.trace_spans_max).with_metrics_of(config.query.operations);
    let state = Arc::new(state);
    state.damaged.lock().extend(damaged);
    let (loading, of_rollups) = (Arc::clone(&state), Arc::clone(&store));
    tokio::task::spawn_blocking(move || {
        let ids = segments.iter().map(|stored| stored.handle.id()).collect();
        loading.add_stored(segments);
        loading.add_stored_rollups(&of_rollups, &ids);
    })
    .await?;

    let (queue, admitted) = mpsc::channel(QUEUE_REQUESTS);
    let pipeline = Pipeline::start(Arc::clone(&state), Arc::clone(&store), &config, admitted)?;
    let (counters, of_queries) = (Arc::new(IngestCounters::default()), Arc::new(IngestCounters::default()));
    let engine = Arc::new(Engine::new(Arc::clone(&state), Arc::clone(&store)));
    let (refusing, of_health) = (Arc::clone(&state), Arc::clone(&engine));
    let server = IngestServer::new(IngestParts {
        names,
        limits: config.ingest,
        origins: config.cors_origins,
        queue,
        counters: Arc::clone(&counters),
        refusing: Box::new(move || refusing.refusing().into_iter().next()),
        // The same as `/readyz`.
        is_ready: Box::new(move || of_health.ready().is_ok()),
    });
    let own = own_counters(Arc::clone(&state), counters, Arc::clone(&of_queries), server.queued_bytes());
    let api = api::router(ApiState::new(engine, Arc::new(own), build_info())).merge(copies::routes(store));

    let (stop, _) = watch::channel(false);
    let stopped = || {
        let mut stop = stop.subscribe();
        async move {
            let _ = stop.wait_for(|stop| *stop).await;
        }
    };
    let mut tasks = tokio::task::JoinSet::new();
    let (grpc_stop, otlp_stop, http_stop) = (stopped(), stopped(), stopped());
    let (grpc_server, otlp_server) = (server.clone(), server);
    tasks.spawn(async move { grpc_server.serve_grpc(grpc, grpc_stop).await.context("OTLP/gRPC") });
    tasks.spawn(async move { otlp_server.serve_http(otlp_http, otlp_stop).await.context("OTLP/HTTP") });
    let queries = query_port::serve(http, api, config.http_connections, of_queries, http_stop);
    tasks.spawn(async move { queries.await.context("HTTP API") });
    let failed = tokio::select! {
        () = asked_to_stop => None,
        ended = tasks.join_next() => ended,
        never = say_when_ready(&state, &addresses, ready) => match never {},
    };
    if state.not_ready.lock().is_some() {
        pipeline.stop_replaying();
    }
    tracing::info!("stopping: no new spans, sealing what there is");
    stop.send_replace(true);
    let drained = tokio::time::timeout(DRAIN, async { while tasks.join_next().await.is_some() {} }).await;
    if drained.is_err() {
        tracing::warn!("some connections did not end in time and were cut");
        tasks.abort_all();
        while tasks.join_next().await.is_some() {}
    }
    tokio::task::spawn_blocking(move || pipeline.join()).await?;
    tracing::info!("stopped");
    match failed {
        Some(ended) => ended?,
        None => Ok(()),
    }
}

/// Waits until the log has been replayed, says so, and does not end.
async fn say_when_ready(state: &State, addresses: &Addresses, ready: impl FnOnce(&Addresses)) -> Infallible {
    while state.not_ready.lock().is_some() {
        tokio::time::sleep(RECOVERY_POLL).await;
    }
    ready(addresses);
    tracing::info!(%addresses.otlp_grpc, %addresses.otlp_http, %addresses.http, "serving");
    std::future::pending().await
}

/// Makes the data folder, and what is written at a time small enough for its disk; raises the limit on open files, and
/// makes connections few enough for it.
fn fitted(mut config: Config) -> anyhow::Result<Config> {
    fit_files(&mut config);
    let dir = config.data_dir.clone();
    std::fs::create_dir_all(&dir)
        .with_context(|| format!("cannot make the data folder {}", dir.display()))?;
    // A system that does not say how large its disk is may have a large one.
    let Ok(space) = disk_space(&dir) else { return Ok(config) };
    let lowered = memory::fit_to_disk(&mut config, space.total).map_err(anyhow::Error::msg)?;
    if !lowered.is_empty() {
        tracing::warn!(disk_mib = space.total >> 20, "the disk is small: lowered {}", lowered.join(", "));
    }
    Ok(config)
}

fn fit_files(config: &mut Config) {
    // A system that does not say how many files may be open may allow many.
    let Some(limit) = files::raise_limit() else { return };
    let lowered = files::fit_to_files(config, limit);
    if !lowered.is_empty() {
        tracing::warn!(open_files = limit, "few files may be open: lowered {}", lowered.join(", "));
    }
}

fn cannot_listen<T>(bound: std::io::Result<T>, address: &str, flag: &str) -> anyhow::Result<T> {
    bound.with_context(|| format!("cannot listen on {address}; choose another address with {flag}"))
}

/// Ends when the process is asked to stop. It listens from the call on, and not only once it is waited for.
fn signal() -> impl Future<Output = ()> {
    use tokio::signal::unix::{SignalKind, signal};
    let signals = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()));
    async {
        let (Ok(mut terminate), Ok(mut interrupt)) = signals else {
            tracing::error!("cannot listen for signals");
            return STOP.notified().await;
        };
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            () = STOP.notified() => {}
        }
    }
}

/// What `/metrics` has besides the status: counters of the ports, and of names.
fn own_counters(
    state: Arc<State>,
    counters: Arc<IngestCounters>,
    of_queries: Arc<IngestCounters>,
    queued_bytes: impl Fn() -> usize + Send + Sync + 'static,
) -> impl Fn() -> Vec<Counter> + Send + Sync + 'static {
    move || {
        let mut rows: Vec<Counter> =
            counters.read().into_iter().map(|(name, help, value)| Counter::new(name, help, value)).collect();
        let of_queries = of_queries.read_connections("longpole_http_");
        rows.extend(of_queries.into_iter().map(|(name, help, value)| Counter::new(name, help, value)));
        let load = |cell: &std::sync::atomic::AtomicU64| cell.load(std::sync::atomic::Ordering::Relaxed);
        let of = &state.counters;
        let names = state.names.totals();
        rows.extend([
            Counter::new("longpole_known_services", "services told apart", names.services).gauge(),
            Counter::new("longpole_known_operations", "operations told apart", names.operations).gauge(),
            Counter::new("longpole_known_name_bytes", "bytes of their names", names.bytes).gauge(),
            Counter::new("longpole_spans", "distinct spans taken in", load(&of.spans)),
            Counter::new("longpole_duplicate_spans", "spans that had come before", load(&of.duplicates)),
            Counter::new("longpole_late_spans", "spans for traces that had been finished", load(&of.late)),
            Counter::new("longpole_seals", "segments sealed", load(&of.seals)),
            Counter::new("longpole_damaged_frames", "log frames found damaged", load(&of.damaged_frames)),
            Counter::new(
                "longpole_ingest_queued_bytes",
                "bytes being received or on their way to the log",
                queued_bytes() as u64,
            )
            .gauge(),
        ]);
        rows
    }
}

fn build_info() -> BuildInfo {
    BuildInfo {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        commit: option_env!("LONGPOLE_COMMIT").map(str::to_owned),
    }
}
