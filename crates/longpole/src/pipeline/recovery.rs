//! Start-up: traces that were open at the last cut get their skeletons back, and frames that no segment holds
//! are taken in again, through the same code as when they came.

use otlp_wire::WireLimits;
use query::State;
use span_store::{FrameError, SpanStore};
use std::sync::atomic::Ordering;

use super::Clock;
use super::assembling::Assembling;
use super::committer::Committed;

/// Reopens, replays, and says how much there was.
pub(super) fn run(stage: &mut Assembling, store: &SpanStore, state: &State, clock: &Clock) {
    let started = std::time::Instant::now();
    let reopened = reopen(stage, state, clock);
    let mut frames = 0_u64;
    let mut spans = 0;
    let mut unread = Unread::default();
    let result = store.replay(&mut |replayed| {
        match replayed.frame {
            Ok(frame) => {
                frames += 1;
                let batches = frame.requests.into_iter().filter_map(|request| {
                    let mut batch = ingest::prepare(request, &state.names, &WireLimits::STORED).ok()?.batch;
                    (batch.seq, batch.arrival) = (replayed.seq, frame.arrival);
                    Some(batch)
                });
                let batches: Vec<_> = batches.collect();
                spans += batches.iter().map(|batch| batch.rows.len()).sum::<usize>();
                stage.take(Committed { seq: replayed.seq, batches });
            }
            Err(error) => unread.note(state, replayed.seq, &error),
        }
        true
    });
    unread.report(state);
    if let Err(error) = result {
        state.damaged.lock().push(format!("log: {error}"));
        tracing::error!(%error, "the log cannot be read to its end");
    }
    state.replayed_batches.store(stage.last_batch(), Ordering::Relaxed);
    *state.not_ready.lock() = None;
    if frames > 0 || reopened > 0 {
        let ms = started.elapsed().as_millis() as u64;
        tracing::info!(frames, spans, reopened, ms, "recovered what was not sealed");
    }
}

/// Runs of frames that cannot be read, told in one line each.
#[derive(Debug, Default)]
struct Unread {
    run: Option<(u64, u64, String)>,
}

impl Unread {
    fn note(&mut self, state: &State, seq: u64, error: &FrameError) {
        let lost = *error == FrameError::Lost;
        let counter = if lost { &state.counters.lost_frames } else { &state.counters.damaged_frames };
        counter.fetch_add(1, Ordering::Relaxed);
        let why = error.to_string();
        match &mut self.run {
            Some((_, last, before)) if *last + 1 == seq && *before == why => *last = seq,
            _ => {
                self.report(state);
                self.run = Some((seq, seq, why));
            }
        }
    }

    fn report(&mut self, state: &State) {
        let Some((first, last, why)) = self.run.take() else { return };
        let text = if first == last {
            format!("log frame {first}: {why}")
        } else {
            format!("log frames {first} to {last}: {why}")
        };
        tracing::error!(first, last, "{text}");
        state.damaged.lock().push(text);
    }
}

fn reopen(stage: &mut Assembling, state: &State, clock: &Clock) -> usize {
    let arrival = clock.now();
    let room = {
        let assembly = state.assembly.lock();
        query::Room { spans: assembly.assembler.spans_max(), of_trace: assembly.assembler.room() }
    };
    match query::open_at_end(state, room, &mut |id, listed, nodes| stage.resume(id, listed, nodes, arrival)) {
        Ok(count) => count,
        Err(error) => {
            state.damaged.lock().push(format!("open traces: {error}"));
            tracing::error!(%error, "cannot read which traces were open");
            0
        }
    }
}
