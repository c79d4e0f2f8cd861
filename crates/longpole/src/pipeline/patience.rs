//! Waiting at a start for a store that fails: the guard may be opening it again, and what it holds is not lost.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use query::State;
use span_store::SpanStore;

/// The wait before a read that failed is tried again.
const WAIT: Duration = Duration::from_millis(250);
/// Waits of one start, half a minute together, for reads that fail while the store says nothing of itself.
const WAITS_MAX: u32 = 120;

/// How long a start still waits for what may pass.
#[derive(Debug)]
pub(super) struct Patience<'a> {
    state: &'a State,
    store: &'a SpanStore,
    stopping: &'a AtomicBool,
    waits_left: u32,
}

impl<'a> Patience<'a> {
    pub(super) fn new(state: &'a State, store: &'a SpanStore, stopping: &'a AtomicBool) -> Self {
        Self { state, store, stopping, waits_left: WAITS_MAX }
    }

    /// Whether it has come to an end: what fails from now on while the store works is no better than damage.
    pub(super) fn is_over(&self) -> bool {
        self.waits_left == 0
    }

    /// Waits after something failed, and says so to whoever asks whether the server is ready. False if the process was
    /// asked to stop.
    pub(super) fn wait(&mut self, what: &str) -> bool {
        // A store that fails as a whole is waited for however long it takes.
        if self.store.failure().is_none() {
            self.waits_left = self.waits_left.saturating_sub(1);
        }
        tracing::warn!("{what}; this is tried again");
        *self.state.not_ready.lock() = Some(format!("{what}; this is tried again"));
        if !self.stops() {
            std::thread::sleep(WAIT);
        }
        !self.stops()
    }

    /// Whether the process was asked to stop.
    pub(super) fn stops(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }
}
