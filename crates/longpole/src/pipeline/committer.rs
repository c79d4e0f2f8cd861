//! Group commit: what queued up while the last write ran goes into the next log record, and then to assembling, which
//! acknowledges it once queries can see it. No timer: an idle server commits at once.

use std::sync::mpsc::{SendError, SyncSender};

use bytes::Bytes;
use ingest::{Admitted, Charge, CommitError};
use query::{Refusal, State};
use segment::LiveBatch;
use span_store::SpanStore;
use tokio::sync::{mpsc, oneshot};

use super::Clock;
use super::watch::DiskWatch;

/// Requests of one group at most.
const GROUP_REQUESTS: usize = 256;
/// Bytes after which a group is closed.
const GROUP_BYTES: usize = 4 << 20;

/// A frame that the log has.
#[derive(Debug)]
pub(super) struct Committed {
    pub(super) seq: u64,
    pub(super) batches: Vec<LiveBatch>,
    /// Empty for what comes from the log.
    pub(super) waiting: Vec<Waiting>,
}

/// A client that waits to hear that its request is kept. Its share of what may be on the way is given back with that.
#[derive(Debug)]
pub(super) struct Waiting {
    done: oneshot::Sender<Result<(), CommitError>>,
    _permit: Charge,
}

impl Waiting {
    /// Tells that the request is in the log and can be queried.
    pub(super) fn acknowledge(self) {
        // The client may have gone; its spans are stored all the same.
        let _ = self.done.send(Ok(()));
    }
}

pub(super) fn run(
    store: &SpanStore,
    state: &State,
    disk: &DiskWatch,
    clock: &Clock,
    mut queue: mpsc::Receiver<Admitted>,
    next: &SyncSender<Committed>,
) {
    let mut group = Vec::with_capacity(GROUP_REQUESTS);
    while let Some(first) = queue.blocking_recv() {
        let mut bytes = first.prepared.batch.request.len();
        group.push(first);
        while bytes < GROUP_BYTES && group.len() < GROUP_REQUESTS {
            let Ok(admitted) = queue.try_recv() else { break };
            bytes += admitted.prepared.batch.request.len();
            group.push(admitted);
        }
        if !commit(store, state, disk, clock, &mut group, next) {
            return;
        }
    }
}

/// Tells the clients to try again.
fn refuse(state: &State, group: &mut Vec<Admitted>, error: &CommitError) {
    state.count(&state.counters.refused_requests, group.len() as u64);
    for admitted in group.drain(..) {
        let _ = admitted.done.send(Err(error.clone()));
    }
}

/// False when the next stage has ended, which only happens when the process stops.
pub(super) fn commit(
    store: &SpanStore,
    state: &State,
    disk: &DiskWatch,
    clock: &Clock,
    group: &mut Vec<Admitted>,
    next: &SyncSender<Committed>,
) -> bool {
    // Before the write and not after it fails: what is under way still needs the room.
    let bytes = group.iter().map(|admitted| admitted.prepared.batch.request.len()).sum();
    if let Some(why) = disk.refuses(bytes) {
        refuse(state, group, &CommitError::Log(why));
        return true;
    }
    let arrival = clock.now();
    let requests: Vec<Bytes> = group.iter().map(|admitted| admitted.prepared.batch.request.clone()).collect();
    let seq = match store.append(&requests, arrival) {
        Ok(seq) => {
            state.set_refusing(Refusal::Log, None);
            seq
        }
        Err(error) => {
            tracing::error!(%error, requests = requests.len(), "cannot write the log");
            state.set_refusing(Refusal::Log, Some(format!("the log cannot be written: {error}")));
            refuse(state, group, &CommitError::Log(error.to_string()));
            return true;
        }
    };
    let mut batches = Vec::with_capacity(group.len());
    let mut waiting = Vec::with_capacity(group.len());
    for admitted in group.drain(..) {
        let mut batch = admitted.prepared.batch;
        (batch.seq, batch.arrival) = (seq, arrival);
        batches.push(batch);
        waiting.push(Waiting { done: admitted.done, _permit: admitted.permit });
    }
    // Assembling takes the frame when it is done with the one before, so that load waits where clients see it.
    match next.send(Committed { seq, batches, waiting }) {
        Ok(()) => true,
        // The log has it, and the next start takes it in from there.
        Err(SendError(committed)) => {
            committed.waiting.into_iter().for_each(Waiting::acknowledge);
            false
        }
    }
}
