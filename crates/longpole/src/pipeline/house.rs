//! Keeps the log's house: makes generations ahead, drops sealed ones, lets go of their WAL. Each takes RocksDB
//! milliseconds, and the next segment need not wait for that.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use query::State;
use span_store::SpanStore;

/// How often it is kept while nothing is sealed.
const INTERVAL: Duration = Duration::from_millis(500);

/// Says that something was sealed. The house is kept for as long as there is one of these.
#[derive(Debug)]
pub(super) struct Sealed(SyncSender<()>);

impl Sealed {
    pub(super) fn tell(&self) {
        match self.0.try_send(()) {
            // It is told already, or nobody listens any more: a process that stops.
            Ok(()) | Err(TrySendError::Full(()) | TrySendError::Disconnected(())) => {}
        }
    }
}

#[derive(Debug)]
pub(super) struct House {
    state: Arc<State>,
    store: Arc<SpanStore>,
    sealed: Receiver<()>,
}

impl House {
    pub(super) fn new(state: Arc<State>, store: Arc<SpanStore>) -> (Self, Sealed) {
        let (tell, sealed) = sync_channel(1);
        (Self { state, store, sealed }, Sealed(tell))
    }

    pub(super) fn run(self) {
        while !matches!(self.sealed.recv_timeout(INTERVAL), Err(RecvTimeoutError::Disconnected)) {
            self.keep();
        }
    }

    fn keep(&self) {
        let kept = if self.state.is_short_of_room() {
            self.store.give_up_sealed_log()
        } else {
            self.store.keep_house()
        };
        if let Err(error) = kept {
            tracing::error!(%error, "cannot keep the log's house");
        }
    }
}
