//! A request on its way to the log, counted by what becomes of it there, whatever becomes of the client meanwhile.

use std::sync::Arc;

use tokio::runtime::Handle;
use tokio::sync::oneshot;

use crate::admit::Prepared;
use crate::budget::Queued;
use crate::counters::{IngestCounter, IngestCounters};
use crate::respond::CommitError;

type Outcome = Result<(), CommitError>;

/// What is to be counted of a request once it is stored.
#[derive(Debug)]
pub(crate) struct Tally {
    counters: Arc<IngestCounters>,
    wire_bytes: usize,
    bytes: usize,
    spans: usize,
    rejected: u64,
    over_attributes: u64,
    over_bytes: u64,
    over_context: u64,
}

impl Tally {
    pub(crate) fn of(counters: &Arc<IngestCounters>, prepared: &Prepared, wire_bytes: usize) -> Self {
        Self {
            counters: Arc::clone(counters),
            wire_bytes,
            bytes: prepared.batch.request.len(),
            spans: prepared.batch.rows.len(),
            rejected: prepared.rejected,
            over_attributes: prepared.over_attributes,
            over_bytes: prepared.over_bytes,
            over_context: prepared.over_context,
        }
    }

    /// The request is stored, or there was nothing to store of it.
    pub(crate) fn stored(&self) {
        for (counter, by) in [
            (IngestCounter::Requests, 1),
            (IngestCounter::Bytes, self.bytes as u64),
            (IngestCounter::WireBytes, self.wire_bytes as u64),
            (IngestCounter::Spans, self.spans as u64),
            (IngestCounter::RejectedSpans, self.rejected),
            (IngestCounter::SpansOverAttributes, self.over_attributes),
            (IngestCounter::SpansOverBytes, self.over_bytes),
            (IngestCounter::SpansOverContext, self.over_context),
        ] {
            if by > 0 {
                self.counters.add(counter, by);
            }
        }
    }
}

/// A request that the log will take or refuse. Dropped before that, because its client went away, it is still counted
/// when that is known.
#[derive(Debug)]
pub(crate) struct OnItsWay(Option<Waiting>);

#[derive(Debug)]
struct Waiting {
    committed: oneshot::Receiver<Outcome>,
    queued: Queued,
    tally: Tally,
}

impl OnItsWay {
    pub(crate) fn new(committed: oneshot::Receiver<Outcome>, queued: Queued, tally: Tally) -> Self {
        Self(Some(Waiting { committed, queued, tally }))
    }

    /// Waits for what becomes of it. Who waits counts a failure, as a refusal.
    pub(crate) async fn outcome(mut self) -> Outcome {
        let Some(waiting) = &mut self.0 else { return Err(CommitError::Stopping) };
        let outcome = told(&mut waiting.committed).await;
        if let Some(waiting) = self.0.take() {
            waiting.end(&outcome);
        }
        outcome
    }
}

async fn told(committed: &mut oneshot::Receiver<Outcome>) -> Outcome {
    committed.await.unwrap_or(Err(CommitError::Stopping))
}

impl Waiting {
    fn end(self, outcome: &Outcome) {
        if outcome.is_ok() {
            self.queued.taken();
            self.tally.stored();
        }
    }

    /// The same when nobody waits for the answer.
    async fn end_alone(mut self) {
        let outcome = told(&mut self.committed).await;
        if let Err(error) = &outcome {
            self.tally.counters.add(error.reason().counter(), 1);
        }
        self.end(&outcome);
    }
}

impl Drop for OnItsWay {
    fn drop(&mut self) {
        // Without a runtime the process is ending, and nobody reads the counters any more.
        if let (Some(waiting), Ok(runtime)) = (self.0.take(), Handle::try_current()) {
            runtime.spawn(waiting.end_alone());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::budget::Budget;

    struct World {
        budget: Arc<Budget>,
        counters: Arc<IngestCounters>,
        done: oneshot::Sender<Outcome>,
        on_its_way: OnItsWay,
    }

    fn world() -> World {
        let (budget, counters) = (Budget::new(1_000), Arc::<IngestCounters>::default());
        let (done, committed) = oneshot::channel();
        let queued = budget.queue(70);
        let (rejected, over_attributes, over_bytes, over_context) = (6, 2, 1, 3);
        let tally = Tally {
            counters: Arc::clone(&counters),
            wire_bytes: 50,
            bytes: 70,
            spans: 5,
            rejected,
            over_attributes,
            over_bytes,
            over_context,
        };
        World { budget, counters, done, on_its_way: OnItsWay::new(committed, queued, tally) }
    }

    async fn until(is_so: impl Fn() -> bool) {
        let waiting = async {
            while !is_so() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), waiting).await.unwrap();
    }

    #[tokio::test]
    async fn what_is_stored_is_counted_with_and_without_its_client() {
        for client_stays in [true, false] {
            let began = std::time::Instant::now();
            let World { budget, counters, done, on_its_way } = world();
            let waiting = tokio::spawn(on_its_way.outcome());
            tokio::task::yield_now().await;
            if !client_stays {
                waiting.abort();
                until(|| waiting.is_finished()).await;
            }
            assert_eq!((counters.get(IngestCounter::Requests), budget.waiting()), (0, 70));
            done.send(Ok(())).unwrap();
            until(|| budget.waiting() == 0).await;
            until(|| counters.get(IngestCounter::Requests) == 1).await;
            // Once a window has passed it is a part of the rate.
            if began.elapsed() < Duration::from_millis(200) {
                assert_eq!(budget.taken(), 70, "{client_stays}");
            }
            for (counter, value) in [
                (IngestCounter::Bytes, 70),
                (IngestCounter::WireBytes, 50),
                (IngestCounter::Spans, 5),
                (IngestCounter::RejectedSpans, 6),
                (IngestCounter::SpansOverAttributes, 2),
                (IngestCounter::SpansOverBytes, 1),
                (IngestCounter::SpansOverContext, 3),
            ] {
                until(|| counters.get(counter) == value).await;
            }
        }
    }

    #[tokio::test]
    async fn what_is_not_stored_is_a_failure_and_nothing_else() {
        let World { budget, counters, done, on_its_way } = world();
        drop(on_its_way);
        done.send(Err(CommitError::Log("no room".to_owned()))).unwrap();
        until(|| counters.get(IngestCounter::FailedRequests) == 1 && budget.waiting() == 0).await;
        assert_eq!((counters.get(IngestCounter::Requests), budget.taken()), (0, 0));
        assert_eq!(counters.get(IngestCounter::RejectedSpans), 0);
    }
}
