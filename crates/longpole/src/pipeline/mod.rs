//! The stages between the network and the store, joined by bounded channels.
//!
//! ```text
//! ingest --Admitted--> committer --Committed--> assembling --Cut--> sealer
//!                        log                   live view            segments
//! ```
//! One thread a stage, and two sealers; two that keep the house (that of the log, and that of what is sealed), and two that
//! watch the disk and memory. A stage that falls behind blocks the one before it, and in the end ingest refuses.

mod assembling;
mod clock;
mod clocks;
mod committer;
mod finishing;
mod guard;
mod house;
mod keeper;
#[cfg(test)]
mod model;
mod patience;
mod recovery;
mod repeats;
mod resident;
mod sealer;
mod stage;
mod watch;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{SystemTime, UNIX_EPOCH};

use guard::Guard;
use house::House;
use ingest::Admitted;
use query::State;
use resident::Resident;
use span_store::SpanStore;
use stage::spawn;
use tokio::sync::mpsc;
use trace_model::{NanoDuration, UnixNanos};
use watch::DiskWatch;

use crate::config::Config;
pub(crate) use clock::Clock;

/// When a segment is sealed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SealOptions {
    /// After this many bytes of requests. The server divides it from `memory`.
    pub(crate) bytes: usize,
    /// After this long, if anything came. Default 5 min.
    pub(crate) interval: NanoDuration,
}

impl Default for SealOptions {
    fn default() -> Self {
        Self { bytes: 48 << 20, interval: NanoDuration::from_secs(300) }
    }
}

/// Frames that the log may have ahead of assembling besides the one it works on: none, since their clients wait
/// for both.
const FRAMES_AHEAD: usize = 0;
/// Cuts that may wait for the sealer besides the two it works on: none, as each holds a segment's requests.
const CUTS_AHEAD: usize = 0;

/// The running stages.
#[derive(Debug)]
pub(crate) struct Pipeline {
    stopping: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

/// The server's clock; the only place that reads it for data.
pub(crate) fn now() -> UnixNanos {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixNanos(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
}

impl Pipeline {
    /// Starts the stages. They replay the log first and then take from `admitted`; when that closes they
    /// seal what is left and end.
    ///
    /// # Errors
    /// If a thread cannot be started.
    pub(crate) fn start(
        state: Arc<State>,
        store: Arc<SpanStore>,
        config: &Config,
        admitted: mpsc::Receiver<Admitted>,
    ) -> anyhow::Result<Self> {
        let (to_assembling, committed) = std::sync::mpsc::sync_channel(FRAMES_AHEAD);
        let (to_sealer, cuts) = std::sync::mpsc::sync_channel(CUTS_AHEAD);
        let stopping = Arc::new(AtomicBool::new(false));
        let options = keeper::KeepOptions {
            merge_bytes: config.seal.bytes / 2,
            rollup: config.rollup,
            slice: config.store.width(),
        };
        let (bytes, of_disk) = (config.seal.bytes, &config.store);
        let watch = Arc::new(DiskWatch::new(Arc::clone(&state), Arc::clone(&store), of_disk, bytes));
        let clock = Clock::new(now);
        let keeper = keeper::Keeper::new(
            Arc::clone(&state),
            Arc::clone(&store),
            Arc::clone(&watch),
            clock.clone(),
            Arc::clone(&stopping),
            options,
        );
        let resident = Resident::new(config.memory, Arc::clone(&state), Arc::clone(&stopping));
        let sealer =
            sealer::Sealer::new(Arc::clone(&state), Arc::clone(&store), clock.clone(), Arc::clone(&stopping));
        let (house, sealed) = House::new(Arc::clone(&state), Arc::clone(&store));
        let log_state = Arc::clone(&state);
        let guarded = (Arc::clone(&state), Arc::clone(&store));
        let ballast = config.store.ballast;
        let guard = Guard::new(guarded.0, guarded.1, Arc::clone(&watch), ballast, Arc::clone(&stopping));
        let assembling = assembling::Assembling::new(
            state,
            Arc::clone(&store),
            config.seal,
            clock.clone(),
            to_sealer,
            Arc::clone(&stopping),
        );
        let threads = vec![
            spawn("resident", move || resident.run())?,
            spawn("guard", move || guard.run())?,
            spawn("keeper", move || keeper.run())?,
            spawn("house", move || house.run())?,
            spawn("sealer", move || sealer.run(cuts, &sealed))?,
            spawn("assembling", move || assembling.run(&committed))?,
            spawn("committer", move || {
                committer::run(&store, &log_state, &watch, &clock, admitted, &to_assembling)
            })?,
        ];
        Ok(Self { stopping, threads })
    }

    /// Has a replay of the log end after the frame that it is at. Only for a process that stops before it was ready.
    pub(crate) fn stop_replaying(&self) {
        self.stopping.store(true, Ordering::Release);
    }

    /// Waits until every stage has ended.
    pub(crate) fn join(self) {
        self.stopping.store(true, Ordering::Release);
        for thread in self.threads {
            // No stage ends by a panic; see `stage`.
            let _ = thread.join();
        }
    }
}
