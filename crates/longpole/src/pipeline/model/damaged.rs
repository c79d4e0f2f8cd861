//! Stored spans that a stage wants and that are damaged: nothing waits for them, and what that costs is counted.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt as _;

use query::{Order, TraceHit, TraceSearch, Window};
use trace_assemble::Options;
use trace_model::{NanoDuration, SpanId, SpanKind, StatusCode, TraceId, UnixNanos};

use super::life::folder;
use super::spans::{BASE, SECOND, Span};
use super::world::{Setting, World};

/// Traces of one span beside the one that matters, so that its block is one of the file too.
const OTHERS: u64 = 6_000;
/// An id a fifth of the way through a segment's traces.
const ID: [u8; 16] = [0x33; 16];

fn span(trace: [u8; 16], nth: u8) -> Span {
    let start = BASE + u64::from(nth) * SECOND;
    Span {
        trace_id: TraceId::new(trace).unwrap(),
        span_id: SpanId::new([nth; 8]).unwrap(),
        parent: (nth > 1).then(|| SpanId::new([1; 8]).unwrap()),
        service: "shop",
        name: "pay",
        kind: SpanKind::Server,
        status: StatusCode::Unset,
        start: UnixNanos(start),
        end: UnixNanos(start + SECOND),
    }
}

fn others() -> Vec<Span> {
    let other = |nth: u64| {
        let mut id = [nth as u8; 16];
        id[..8].copy_from_slice(&nth.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
        span(id, 1)
    };
    (1..=OTHERS).map(other).collect()
}

/// Changes bytes of the only segment from behind its first block on to where its rows are at the earliest.
fn damage(world: &World) {
    let files = std::fs::read_dir(world.dir().join("rocksdb")).unwrap().map(|entry| entry.unwrap().path());
    let tables = files.filter(|path| path.extension().is_some_and(|ending| ending == "sst"));
    let largest = tables.max_by_key(|path| path.metadata().unwrap().len()).unwrap();
    let file = OpenOptions::new().write(true).open(&largest).unwrap();
    let length = file.metadata().unwrap().len();
    for at in (40_000..length * 2 / 5).step_by(4_000) {
        file.write_all_at(b"damage", at).unwrap();
    }
}

fn slow_traces(world: &World) -> Vec<TraceHit> {
    traces(world, Some(NanoDuration(2 * SECOND)))
}

fn traces(world: &World, min_trace_duration: Option<NanoDuration>) -> Vec<TraceHit> {
    let search = TraceSearch {
        service: None,
        operation: None,
        kind: None,
        status: None,
        min_duration: None,
        max_duration: None,
        min_trace_duration,
        max_trace_duration: None,
        window: Window::ALL,
        order: Order::Slowest,
        limit: 10_000,
        cursor: None,
    };
    world.engine.search(&search).unwrap().traces
}

/// A world with a trace of six spans that were sealed while it was open, held in part, and damaged since.
fn world_with_damage() -> (World, Vec<Span>) {
    let assemble = Options { trace_held_max: 2, ..Options::default() };
    let mut world = World::open(folder(), Setting { assemble, ..Setting::default() });
    let spans: Vec<Span> = (1..=6).map(|nth| span(ID, nth)).collect();
    world.commit(&[others(), spans.clone()]);
    world.take_all();
    world.cut();
    world.seal();
    world.tick();
    assert_eq!(world.state.assembly.lock().assembler.traces_held_in_part(), 1);
    damage(&world);
    (world, spans)
}

#[test]
fn a_trace_whose_sealed_spans_are_damaged_ends_with_those_that_can_be_read() {
    let (mut world, spans) = world_with_damage();
    // They cannot be compared with what is stored, so the two that come again count again.
    world.commit(&[spans[..2].to_vec()]);
    world.take_all();
    assert_eq!((world.counted("lookups_failed"), world.counted("duplicate_spans")), (1, 0));
    world.settle();
    assert_eq!(world.engine.status().open_traces, 0, "it is not put off for ever");
    let hits = slow_traces(&world);
    assert_eq!(hits.iter().map(|hit| hit.spans).collect::<Vec<_>>(), [2]);
    let damaged = world.engine.status().damaged;
    assert!(damaged.len() == 1 && damaged[0].contains("damaged Chunk("), "{damaged:?}");
}

#[test]
fn a_trace_of_which_nothing_can_be_read_ends_as_what_was_known_before() {
    let (mut world, _) = world_with_damage();
    world.settle();
    assert_eq!(world.engine.status().open_traces, 0, "it is not put off for ever");
    let hits = slow_traces(&world);
    assert_eq!(hits.iter().map(|hit| (hit.spans, hit.duration.0)).collect::<Vec<_>>(), [(6, 6 * SECOND)]);
}

#[test]
fn traces_that_were_open_at_a_stop_are_analysed_beside_a_damaged_block() {
    let mut world = World::open(folder(), Setting::default());
    world.commit(&[others()]);
    world.take_all();
    world.cut();
    world.seal();
    damage(&world);
    let mut world = world.die(false);
    let readable = others().iter().filter(|span| world.engine.trace(span.trace_id).is_ok()).count();
    assert!(readable > 1_000 && readable < OTHERS as usize, "{readable}");
    world.settle();
    assert_eq!(world.engine.status().open_traces, 0);
    assert_eq!(traces(&world, None).len(), readable);
    assert_eq!(world.engine.status().damaged.len(), 1);
}
