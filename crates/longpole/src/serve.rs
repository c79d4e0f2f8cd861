//! The server: opens the store, starts the stages, listens, and drains when told to stop.

use std::convert::Infallible;
use std::io::IsTerminal;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use api::{ApiState, BuildInfo, Counter};
use ingest::{Address, Admitted, IngestCounters, IngestParts, IngestServer, Listener};
use query::{BlockCache, Engine, NameTable, Revisions, State, SumsRoom, TraceDirectory};
use span_store::{SpanStore, disk_space};
use tokio::net::TcpListener;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinSet;
use trace_assemble::Assembler;
use tracing_subscriber::EnvFilter;

use crate::config::{Config, LogOptions};
use crate::memory::QueryMemory;
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
    let ports = Ports::bind(&config).await?;
    let addresses = ports.addresses()?;
    let (store, state) = open(&config).await?;
    let (queue, admitted) = mpsc::channel(QUEUE_REQUESTS);
    let pipeline = Pipeline::start(Arc::clone(&state), Arc::clone(&store), &config, admitted)?;
    let (stop, stopped) = watch::channel(false);
    let mut servers = start_servers(ports, &config, &state, store, queue, &stopped);
    let ended = tokio::select! {
        () = asked_to_stop => None,
        ended = servers.join_next() => ended,
        never = say_when_ready(&state, &addresses, ready) => match never {},
    };
    if state.not_ready.lock().is_some() {
        pipeline.stop_replaying();
    }
    tracing::info!("stopping: no new spans, sealing what there is");
    stop.send_replace(true);
    drain(servers).await;
    tokio::task::spawn_blocking(move || pipeline.join()).await?;
    tracing::info!("stopped");
    match ended {
        Some(Err(panicked)) => Err(panicked).context("a server ended by itself"),
        Some(Ok(())) => anyhow::bail!("a server ended by itself"),
        None => Ok(()),
    }
}

/// The ports, bound and not served yet.
struct Ports {
    otlp_grpc: Listener,
    otlp_http: Listener,
    http: TcpListener,
}

impl Ports {
    async fn bind(config: &Config) -> anyhow::Result<Self> {
        let (grpc, otlp_http, http) = (&config.otlp_grpc, &config.otlp_http, &config.http);
        Ok(Self {
            otlp_grpc: cannot_listen(Listener::bind(grpc).await, grpc, "--otlp-grpc")?,
            otlp_http: cannot_listen(Listener::bind(otlp_http).await, otlp_http, "--otlp-http")?,
            http: cannot_listen(TcpListener::bind(http).await, http, "--http")?,
        })
    }

    fn addresses(&self) -> std::io::Result<Addresses> {
        Ok(Addresses {
            otlp_grpc: self.otlp_grpc.address()?,
            otlp_http: self.otlp_http.address()?,
            http: self.http.local_addr()?,
        })
    }
}

/// Opens the store, and takes in what is sealed in it.
async fn open(config: &Config) -> anyhow::Result<(Arc<SpanStore>, Arc<State>)> {
    let (dir, options) = (config.data_dir.clone(), config.store);
    let (store, segments, damaged) =
        tokio::task::spawn_blocking(move || SpanStore::open(&dir, options)).await??;
    if let completed @ [_, ..] = store.completed_dictionaries() {
        tracing::info!(dictionaries = ?completed, "copies that were missing or damaged are written again");
    }
    for text in &damaged {
        tracing::error!("{text}");
    }
    let (dir, bounds) = (config.data_dir.clone(), config.query);
    let derived = tokio::task::spawn_blocking(move || derived(&dir, bounds)).await?;
    let (directory, revisions) = derived?;
    let state = State::with_memory(
        Arc::new(NameTable::default()),
        Assembler::new(config.assemble),
        BlockCache::with_memory(config.query.blocks),
        directory,
    );
    let state = state
        .with_trace_spans_max(config.trace_spans_max)
        .with_metrics_of(config.query.operations)
        .with_revisions(revisions)
        .with_sums(SumsRoom::with_bytes(config.query.sums, config.query.points));
    damaged.into_iter().for_each(|text| state.note_damaged(text));
    let (store, state) = (Arc::new(store), Arc::new(state));
    let (loading, of_rollups) = (Arc::clone(&state), Arc::clone(&store));
    tokio::task::spawn_blocking(move || {
        let ids = segments.iter().map(|stored| stored.handle.id()).collect();
        loading.add_stored(segments);
        loading.add_stored_rollups(&of_rollups, &ids);
    })
    .await?;
    Ok((store, state))
}

/// Serves all ports, each in a task, until told to stop.
fn start_servers(
    ports: Ports,
    config: &Config,
    state: &Arc<State>,
    store: Arc<SpanStore>,
    queue: mpsc::Sender<Admitted>,
    stopped: &watch::Receiver<bool>,
) -> JoinSet<()> {
    let (counters, of_queries) = (Arc::new(IngestCounters::default()), Arc::new(IngestCounters::default()));
    let engine = Arc::new(Engine::new(Arc::clone(state), Arc::clone(&store)));
    let (refusing, of_health) = (Arc::clone(state), Arc::clone(&engine));
    let server = IngestServer::new(IngestParts {
        names: Arc::clone(&state.names),
        limits: config.ingest,
        origins: config.cors_origins.clone(),
        queue,
        counters: Arc::clone(&counters),
        refusing: Box::new(move || refusing.refusing().into_iter().next()),
        // The same as `/readyz`.
        is_ready: Box::new(move || of_health.ready().is_ok()),
    });
    let own = own_counters(Arc::clone(state), counters, Arc::clone(&of_queries), server.queued_bytes());
    let api = api::router(ApiState::new(engine, Arc::new(own), build_info())).merge(copies::routes(store));
    let stop = || {
        let mut stopped = stopped.clone();
        async move {
            let _ = stopped.wait_for(|stopped| *stopped).await;
        }
    };
    let mut servers = JoinSet::new();
    servers.spawn(server.clone().serve_grpc(ports.otlp_grpc, stop()));
    servers.spawn(server.serve_http(ports.otlp_http, stop()));
    servers.spawn(query_port::serve(ports.http, api, config.http_connections, of_queries, stop()));
    servers
}

/// Waits until what is under way has ended, and cuts it short when that takes too long.
async fn drain(mut servers: JoinSet<()>) {
    let ended = async { while servers.join_next().await.is_some() {} };
    if tokio::time::timeout(DRAIN, ended).await.is_err() {
        tracing::warn!("some connections did not end in time and were cut");
        servers.shutdown().await;
    }
}

/// What is kept of traces in memory, and in folders where there is no room for it.
fn derived(data_dir: &Path, bounds: QueryMemory) -> anyhow::Result<(TraceDirectory, Revisions)> {
    let cannot_use = |folder: &str| format!("cannot use the folder {folder} of the data folder");
    let directory = TraceDirectory::open(&data_dir.join("trace-hashes"), bounds.directory)
        .with_context(|| cannot_use("trace-hashes"))?;
    let revisions = Revisions::open(&data_dir.join("revisions"), bounds.revisions)
        .with_context(|| cannot_use("revisions"))?;
    Ok((directory, revisions))
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
        let names = state.names.totals();
        rows.extend([
            Counter::new("longpole_known_services", "Services told apart.", names.services).gauge(),
            Counter::new("longpole_known_operations", "Operations told apart.", names.operations).gauge(),
            Counter::new(
                "longpole_known_name_bytes",
                "Bytes of the names of services and operations.",
                names.bytes,
            )
            .gauge(),
            Counter::new(
                "longpole_ingest_queued_bytes",
                "Bytes being received or on their way to the log.",
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
        commit: option_env!("LONGPOLE_COMMIT").filter(|commit| !commit.is_empty()).map(str::to_owned),
    }
}
