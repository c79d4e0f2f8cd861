//! Merged segments: the same spans, bytes and answers from fewer of them, whenever the process is killed.

use std::path::Path;

use query::{Order, TraceSearch, Window};
use trace_model::{SpanId, TraceId, UnixNanos};

use crate::checks::check;
use crate::model::live;
use crate::oracle::Oracle;
use crate::spans::{BASE, Dice, SECOND, Span, random_spans, request};
use crate::world::World;

/// The folder of a store as it is at one moment, as a crash would leave it. RocksDB removes files in the background,
/// so a copy that meets one going is begun again.
pub(crate) fn copy(from: &Path) -> tempfile::TempDir {
    for _ in 0..1_000 {
        let to = tempfile::tempdir().unwrap();
        match try_copy(from, to.path()) {
            Ok(()) => return to,
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::NotFound, "{error}"),
        }
    }
    panic!("files of {} keep going", from.display());
}

fn try_copy(from: &Path, to: &Path) -> std::io::Result<()> {
    for folder in ["rocksdb", "ingest"] {
        std::fs::create_dir(to.join(folder))?;
        for entry in std::fs::read_dir(from.join(folder))? {
            let entry = entry?;
            if entry.file_name() != "LOCK" && entry.file_type()?.is_file() {
                std::fs::copy(entry.path(), to.join(folder).join(entry.file_name()))?;
            }
        }
    }
    Ok(())
}

/// A store at rest with as many segments as seconds: one span each, of up to a second.
fn quiet(dir: &Path, seconds: u64) -> (World, Oracle) {
    store_of(dir, seconds, |second| second * 7919 % 1_000 + 1)
}

/// A store at rest with as many segments as seconds: one span each, of so many milliseconds.
fn store_of(dir: &Path, seconds: u64, millis: impl Fn(u64) -> u64) -> (World, Oracle) {
    let mut world = World::open(dir);
    let mut oracle = Oracle::default();
    let template = random_spans(&mut Dice(1))[0].clone();
    for second in 0..seconds {
        let mut span: Span = template.clone();
        let mut id = [0x11; 16];
        id[8..].copy_from_slice(&(second + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
        span.trace_id = TraceId::new(id).unwrap();
        (span.span_id, span.parent) = (SpanId::new([1; 8]).unwrap(), None);
        span.start = UnixNanos(BASE + second * SECOND);
        span.end = UnixNanos(span.start.0 + millis(second) * 1_000_000);
        oracle.add(&span);
        world.deliver(request(&[span]));
        world.wait(1);
        world.finish_quiet();
        let cut = world.cut();
        world.seal(&cut);
    }
    world.wait(120);
    (world, oracle)
}

/// The slowest ten, by span if a service is named.
fn slowest(service: Option<&str>) -> TraceSearch {
    TraceSearch {
        service: service.map(str::to_owned),
        operation: None,
        kind: None,
        status: None,
        min_duration: None,
        max_duration: None,
        min_trace_duration: None,
        max_trace_duration: None,
        window: Window::ALL,
        order: Order::Slowest,
        limit: 10,
        cursor: None,
    }
}

/// Segments and blocks that the slowest ten of all time take.
fn cost(world: &World) -> (u64, u64) {
    let answer = world.engine.search(&slowest(None)).unwrap();
    assert_eq!(answer.traces.len(), 10);
    (answer.scanned.segments, answer.scanned.blocks)
}

/// As where clocks tell milliseconds, or calls end at a time-out.
#[test]
fn of_many_that_took_as_long_only_the_first_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let (world, oracle) = store_of(dir.path(), 100, |_| 30_000);
    let spans: Vec<&Span> = oracle.spans().collect();
    for service in [None, Some(spans[0].service)] {
        let mut search = slowest(service);
        let mut starts = Vec::new();
        for page in 1..=3 {
            let answer = world.engine.search(&search).unwrap();
            assert!(answer.scanned.segments <= page * 10 + 2, "{} for page {page}", answer.scanned.segments);
            starts.extend(answer.traces.iter().map(|hit| hit.start));
            search.cursor = answer.next;
        }
        let expected: Vec<UnixNanos> = (0..30).map(|second| UnixNanos(BASE + second * SECOND)).collect();
        assert_eq!(starts, expected, "{service:?}");
    }
}

#[test]
fn a_thousand_tiny_segments_become_a_few() {
    let dir = tempfile::tempdir().unwrap();
    let (world, oracle) = quiet(dir.path(), 1_200);
    let segments = |world: &World| world.state.snapshot().sealed.len();
    let (before, bytes) = (cost(&world), world.engine.status().stored_bytes);
    assert_eq!(segments(&world), 1_200);
    let world = world.restart();
    assert_eq!(segments(&world), 1_200, "before merging, a start reads every one");
    world.merge(48 << 20);
    // 1,200 seconds lie in 20 or 21 slices of a minute.
    assert!(segments(&world) <= 21, "{}", segments(&world));
    let world = world.restart();
    assert!(segments(&world) <= 21, "and after it a start reads that many");
    let after = cost(&world);
    assert!(after.0 <= 21 && after.1 <= 21 && after.1 <= before.1, "{before:?} {after:?}");
    assert!(world.engine.status().stored_bytes * 4 < bytes, "small files are mostly overhead");
    check(&world.asked(), &oracle, &mut Dice(4));
}

#[test]
fn a_kill_while_somebody_reads_the_old_segments_leaves_the_new_ones() {
    for seed in 1..=25 {
        let dir = tempfile::tempdir().unwrap();
        let mut dice = Dice(seed * 31);
        let (mut world, oracle) = live(dir.path(), &mut dice, false);
        world.wait(120);
        let reader = world.state.snapshot();
        let copied_before = copy(dir.path());
        world.merge(1 << 20);
        check(&world.asked(), &oracle, &mut dice);
        let copied_after = copy(dir.path());
        drop(reader);
        for folder in [copied_before, copied_after] {
            let again = World::open_at(folder.path(), world.now);
            check(&again.asked(), &oracle, &mut dice);
            again.merge(1 << 20);
            check(&again.asked(), &oracle, &mut dice);
        }
    }
}

#[test]
fn who_began_to_read_before_a_merge_ends_with_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let (world, _) = quiet(dir.path(), 90);
    let view = world.state.snapshot();
    let read = || {
        let hashes = view.sealed.iter().map(|segment| segment::trace_hashes(&segment.handle, 1).unwrap());
        hashes.map(|hashes| hashes.len()).collect::<Vec<_>>()
    };
    let before = read();
    world.merge(48 << 20);
    world.store.keep_house().unwrap();
    assert_eq!(read(), before);
    assert!(world.state.snapshot().sealed.len() < before.len());
}
