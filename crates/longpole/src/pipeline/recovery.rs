//! Start-up: traces that were open at the last cut get their skeletons back, and frames that no segment holds
//! are taken in again, through the same code as when they came.
//!
//! ```text
//! log --Replayed--> walking --Walked--> assembling
//! read, inflate     rows, names         this thread
//! ```

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Instant;

use ingest::Prepared;
use otlp_wire::WireLimits;
use query::{NameTable, State};
use span_store::{Frame, FrameError, Replayed, SpanStore};
use trace_model::UnixNanos;

use super::Clock;
use super::assembling::Assembling;
use super::committer::Committed;
use super::patience::Patience;

/// Frames that wait between two of the threads, besides those that they work on; up to 4 MiB of requests each.
const FRAMES_BETWEEN: usize = 1;

/// Reopens, replays, and says how much there was. A store that fails meanwhile is waited for: to go on without what it
/// holds would be to forget that. False if the process was asked to stop before all was in: then the log has the rest, and
/// it stays not ready.
pub(super) fn run(
    stage: &mut Assembling,
    store: &SpanStore,
    state: &State,
    clock: &Clock,
    stopping: &AtomicBool,
) -> bool {
    let started = Instant::now();
    state.replayed_batches.store(u64::MAX, Ordering::Relaxed);
    let mut patience = Patience::new(state, store, stopping);
    let mut progress = Progress { next: 0, frames: 0, of: store.frames_to_replay(), spans: 0 };
    progress.tell(state);
    let reopened = reopen(stage, state, clock, &mut patience);
    let replaying = Instant::now();
    let whole = reopened.is_some() && replay_all(stage, store, state, &mut progress, &mut patience);
    state.replayed_batches.store(stage.last_batch(), Ordering::Relaxed);
    let Progress { frames, spans, .. } = progress;
    if !whole {
        tracing::info!(frames, of = progress.of, "stopped replaying the log; the next start goes on");
        return false;
    }
    let reopened = reopened.unwrap_or(0);
    *state.not_ready.lock() = None;
    if frames > 0 || reopened > 0 {
        let (ms, replay_ms) = (started.elapsed().as_millis() as u64, replaying.elapsed().as_millis() as u64);
        let spans_per_second = spans.saturating_mul(1_000).checked_div(replay_ms).unwrap_or(spans);
        tracing::info!(
            frames,
            spans,
            reopened,
            ms,
            replay_ms,
            spans_per_second,
            "recovered what was not sealed"
        );
    }
    true
}

/// How far the replay has come.
struct Progress {
    /// The number of the first frame that is not in.
    next: u64,
    frames: u64,
    of: u64,
    spans: u64,
}

impl Progress {
    fn tell(&self, state: &State) {
        let Self { frames, of, .. } = self;
        *state.not_ready.lock() = Some(format!("replaying the log: {frames} of {of} frames are in"));
    }
}

/// A frame of the log, ready to be taken in.
struct Walked {
    seq: u64,
    frame: Result<Committed, FrameError>,
    /// Which of its requests cannot be read.
    lost: Option<String>,
}

/// Where a replay ended.
enum End {
    /// All is in that can be read.
    Whole,
    /// The process was asked to stop.
    Stopped,
    /// The next frame could not be read, and may be the next time.
    Failed(String),
}

/// Takes in what the log has, from where the store failed each time that it does. False if the process was asked to stop
/// before all of it was in.
fn replay_all(
    stage: &mut Assembling,
    store: &SpanStore,
    state: &State,
    progress: &mut Progress,
    patience: &mut Patience<'_>,
) -> bool {
    loop {
        match replay(stage, store, state, progress, patience) {
            End::Whole => return true,
            End::Stopped => return false,
            End::Failed(why) => {
                let Progress { frames, of, .. } = progress;
                if !patience.wait(&format!("cannot replay the log beyond {frames} of {of} frames: {why}")) {
                    return false;
                }
                progress.tell(state);
            }
        }
    }
}

/// Takes in what the log has, in its order. Reading and walking run ahead in threads of their own.
fn replay(
    stage: &mut Assembling,
    store: &SpanStore,
    state: &State,
    progress: &mut Progress,
    patience: &Patience<'_>,
) -> End {
    let mut unread = Unread::default();
    let from = progress.next;
    let (read, end) = std::thread::scope(|scope| {
        let (to_walk, read) = sync_channel(FRAMES_BETWEEN);
        let (to_take, walked) = sync_channel(FRAMES_BETWEEN);
        let reading = scope.spawn(move || store.replay(from, &mut |replayed| to_walk.send(replayed).is_ok()));
        scope.spawn(move || walk_all(&read, &state.names, &to_take));
        let mut end = End::Whole;
        for Walked { seq, frame, lost } in walked {
            // Whoever reads and walks ends when nobody takes it.
            if patience.stops() {
                end = End::Stopped;
                break;
            }
            if let Err(FrameError::Failed(why)) = &frame
                && !patience.is_over()
            {
                end = End::Failed(why.clone());
                break;
            }
            match frame {
                Ok(committed) => {
                    progress.spans +=
                        committed.batches.iter().map(|batch| batch.rows.len() as u64).sum::<u64>();
                    stage.take(committed);
                    // Not by the clock: what is replayed now came close together, however long this takes.
                    stage.finish_quiet(UnixNanos(0));
                }
                Err(error) => unread.note_frame(state, seq, &error),
            }
            if let Some(why) = lost {
                unread.note(state, seq, &state.counters.damaged_frames, why);
            }
            progress.frames += 1;
            progress.next = seq + 1;
            progress.tell(state);
        }
        (reading.join(), end)
    });
    unread.report(state);
    match (read.unwrap_or_else(|panic| std::panic::resume_unwind(panic)), end) {
        (Err(error), End::Whole) => End::Failed(error.to_string()),
        (_, end) => end,
    }
}

fn walk_all(read: &Receiver<Replayed>, names: &NameTable, next: &SyncSender<Walked>) {
    for Replayed { seq, frame } in read {
        let mut lost = None;
        let frame = frame.map(|frame| walk(seq, frame, names, &mut lost));
        if next.send(Walked { seq, frame, lost }).is_err() {
            return;
        }
    }
}

fn walk(seq: u64, frame: Frame, names: &NameTable, lost: &mut Option<String>) -> Committed {
    let (arrival, of) = (frame.arrival, frame.requests.len());
    let mut batches = Vec::with_capacity(of);
    let mut first = None;
    for request in frame.requests {
        match ingest::prepare(request, names, &WireLimits::STORED) {
            Ok(Prepared { mut batch, .. }) => {
                (batch.seq, batch.arrival) = (seq, arrival);
                batches.push(batch);
            }
            Err(error) => first = first.or(Some(error)),
        }
    }
    let unread = of - batches.len();
    *lost = first.map(|error| format!("{unread} of its {of} requests cannot be read, the first: {error}"));
    Committed { seq, batches, waiting: Vec::new() }
}

/// Runs of frames that cannot be read, or not whole, told in one line each.
#[derive(Debug, Default)]
struct Unread {
    run: Option<(u64, u64, String)>,
}

impl Unread {
    fn note_frame(&mut self, state: &State, seq: u64, error: &FrameError) {
        let lost = *error == FrameError::Lost;
        let counter = if lost { &state.counters.lost_frames } else { &state.counters.damaged_frames };
        self.note(state, seq, counter, error.to_string());
    }

    fn note(&mut self, state: &State, seq: u64, counter: &AtomicU64, why: String) {
        counter.fetch_add(1, Ordering::Relaxed);
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
        state.note_damaged(text);
    }
}

/// Gives the traces that were open their skeletons back. How many; `None` if the process was asked to stop before that.
fn reopen(
    stage: &mut Assembling,
    state: &State,
    clock: &Clock,
    patience: &mut Patience<'_>,
) -> Option<usize> {
    let arrival = clock.now();
    let room = {
        let assembly = state.assembly.lock();
        query::Room { spans: assembly.assembler.spans_max(), of_trace: assembly.assembler.room() }
    };
    loop {
        // It tells all or none.
        let mut resume = |id, listed, nodes| stage.resume(id, listed, nodes, arrival);
        match query::open_at_end(state, room, &mut resume) {
            Ok(count) => return Some(count),
            Err(error) if patience.is_over() => {
                state.note_damaged(format!("open traces: {error}"));
                tracing::error!(%error, "cannot read which traces were open");
                return Some(0);
            }
            Err(error) => {
                if !patience.wait(&format!("cannot read which traces were open: {error}")) {
                    return None;
                }
            }
        }
    }
}
