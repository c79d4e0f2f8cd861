//! A byte of a segment's file is not what was written: every answer has all the rest and says that something is missing,
//! and the segment is reported once.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use query::{
    CriticalPathQuery, Engine, Nodes, QueryError, Retired, RollupOptions, Room, State, Window, identity_of,
    keep_rollups, open_at_end, stored_among,
};
use span_store::{SpanStore, StoreOptions};
use trace_model::{SpanId, SpanKind, StatusCode, TraceId, UnixNanos};

use crate::asking::{Found, all_of, bottlenecks, failed_of, latency, operations, search, services, trace};
use crate::spans::{BASE, Dice, NAMES, SECOND, SERVICES, Span, request};
use crate::world::{World, state_of};

/// Traces of the segment that is damaged, enough that blocks of each kind are blocks of the file too.
pub(crate) const TRACES: u64 = 3_000;
/// Traces of the other one.
pub(crate) const OTHERS: u64 = 500;
pub(crate) const SPANS: u64 = 3;

pub(crate) fn spans(traces: std::ops::Range<u64>, dice: &mut Dice) -> Vec<Span> {
    let mut spans = Vec::new();
    for nth in traces {
        let mut id = [0x22; 16];
        (id[..8]).copy_from_slice(&nth.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
        for own in 1..=SPANS as u8 {
            let start = BASE + dice.below(1_800) * SECOND + dice.below(SECOND);
            spans.push(Span {
                trace_id: TraceId::new(id).unwrap(),
                span_id: SpanId::new([own; 8]).unwrap(),
                parent: (own > 1).then(|| SpanId::new([1; 8]).unwrap()),
                service: dice.pick(&SERVICES),
                name: dice.pick(&NAMES),
                kind: SpanKind::Server,
                status: dice.pick(&StatusCode::ALL),
                start: UnixNanos(start),
                end: UnixNanos(start + dice.below(SECOND)),
            });
        }
    }
    spans
}

pub(crate) fn seal(world: &mut World, spans: &[Span]) {
    world.deliver(request(spans));
    world.wait(100);
    world.finish_quiet();
    let cut = world.cut();
    world.seal(&cut);
}

/// Two segments in two partitions, and the spans of each.
fn stored(dir: &Path) -> (World, [Vec<Span>; 2]) {
    let mut dice = Dice(7);
    let mut world = World::open(dir);
    let parts = [spans(0..TRACES, &mut dice), spans(TRACES..TRACES + OTHERS, &mut dice)];
    parts.iter().for_each(|part| seal(&mut world, part));
    (world, parts)
}

/// The files of segments and rollups.
pub(crate) fn tables(dir: &Path) -> Vec<PathBuf> {
    let files = std::fs::read_dir(dir.join("rocksdb")).unwrap().map(|entry| entry.unwrap().path());
    files.filter(|path| path.extension().is_some_and(|ending| ending == "sst")).collect()
}

pub(crate) fn open_file(table: &Path) -> (File, u64) {
    let file = OpenOptions::new().read(true).write(true).open(table).unwrap();
    let length = file.metadata().unwrap().len();
    (file, length)
}

pub(crate) fn flip(file: &File, at: u64) {
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 0x40], at).unwrap();
}

/// It cuts the segments, so that spans of services are counted row by row.
const CUT: Window = Window { start: UnixNanos(BASE), end: UnixNanos(BASE + 900 * SECOND) };

/// Asks everything, and holds it to what an intact store says.
fn ask(engine: &Engine, of_damaged: &[Span], others: &[Span], full: bool) -> Vec<Found> {
    let mut found = vec![
        latency(engine, Window::ALL),
        search(engine, &all_of(Window::ALL)),
        search(engine, &failed_of(Window::ALL)),
        bottlenecks(engine, Window::ALL),
        services(engine, CUT),
        operations(engine),
    ];
    found.extend(of_damaged.iter().step_by(300).map(|span| trace(engine, span.trace_id)));
    for span in others.iter().step_by(300) {
        assert_eq!(trace(engine, span.trace_id).count, SPANS, "in the segment that is intact");
    }
    assert!(!full || found.iter().all(|found| found.count > 0 && found.incomplete.is_empty()), "{found:?}");
    found
}

/// Spans come again: those that cannot be looked at are counted as look-ups that failed.
fn look_up(state: &State, spans: &[Span]) {
    let before = state.counters.lookups_failed.load(std::sync::atomic::Ordering::Relaxed);
    let mut missed = 0;
    for span in spans.iter().step_by(90) {
        let wanted = vec![identity_of(&span.node(&state.names))];
        missed += u64::from(stored_among(state, span.trace_id, wanted).unwrap().is_empty());
    }
    let counted = state.counters.lookups_failed.load(std::sync::atomic::Ordering::Relaxed) - before;
    assert_eq!(counted, missed);
}

/// Opens the store and asks; the kind of block that was reported, if the store opens with all segments.
fn serve(dir: &Path, of_damaged: &[Span], others: &[Span], intact: &[Found]) -> Option<String> {
    let (store, segments, aside) = SpanStore::open(dir, StoreOptions::default()).unwrap();
    if !aside.is_empty() {
        return None;
    }
    let state = state_of(segments);
    let engine = Engine::new(Arc::clone(&state), Arc::new(store));
    let room = Room { spans: 1 << 20, of_trace: 1 << 20 };
    open_at_end(&state, room, &mut |_, _, _| {}).unwrap();
    let found = ask(&engine, of_damaged, others, false);
    for (found, intact) in found.iter().zip(intact) {
        assert!(found.count <= intact.count, "{found:?} {intact:?}");
        assert!(found.says_damaged() || found.count == intact.count, "{found:?} {intact:?}");
    }
    look_up(&state, of_damaged);
    ask(&engine, of_damaged, others, false);
    let damaged = engine.status().damaged;
    assert!(damaged.len() <= 1, "{damaged:?}");
    let text = damaged.into_iter().next()?;
    assert!(text.starts_with("segment 0 in p-"), "{text}");
    let (_, key) = text.split_once("damaged ")?;
    Some(key.split(['(', ':']).next()?.to_owned())
}

#[test]
fn a_damaged_block_costs_itself_alone_and_is_reported() {
    let dir = tempfile::tempdir().unwrap();
    let (world, [of_damaged, others]) = stored(dir.path());
    world.close();
    let intact = {
        let (store, segments, _) = SpanStore::open(dir.path(), StoreOptions::default()).unwrap();
        ask(&Engine::new(state_of(segments), Arc::new(store)), &of_damaged, &others, true)
    };
    let of_most = tables(dir.path()).into_iter().max_by_key(|path| path.metadata().unwrap().len());
    let (file, length) = open_file(&of_most.unwrap());
    let mut kinds = BTreeSet::new();
    for at in (40..length).step_by(length as usize / 48) {
        flip(&file, at);
        kinds.extend(serve(dir.path(), &of_damaged, &others, &intact));
        flip(&file, at);
    }
    for kind in ["Chunk", "Rows", "Traces", "Paths", "Minute"] {
        assert!(kinds.contains(kind), "no damaged {kind} was met: {kinds:?}");
    }
}

/// Spans of a trace that fills many blocks.
const MANY: u64 = 20_000;
const LARGE: [u8; 16] = [0x77; 16];

/// A store whose only segment names all of its traces as open.
fn open_at_the_cut(dir: &Path) -> Vec<Span> {
    let mut spans = spans(0..TRACES, &mut Dice(7));
    let like = spans[0].clone();
    spans.extend((0..MANY).map(|nth| Span {
        trace_id: TraceId::new(LARGE).unwrap(),
        span_id: SpanId::new((nth + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes()).unwrap(),
        parent: None,
        start: UnixNanos(BASE + nth),
        ..like.clone()
    }));
    let mut world = World::open(dir);
    world.deliver(request(&spans));
    let cut = world.cut();
    world.seal(&cut);
    world.close();
    spans
}

#[test]
fn traces_that_were_open_are_taken_back_as_far_as_they_can_be_read() {
    let dir = tempfile::tempdir().unwrap();
    let spans = open_at_the_cut(dir.path());
    let ids: BTreeSet<TraceId> = spans.iter().map(|span| span.trace_id).collect();
    let of_most = tables(dir.path()).into_iter().max_by_key(|path| path.metadata().unwrap().len());
    let (file, length) = open_file(&of_most.unwrap());
    let (mut hit, mut in_part) = (BTreeSet::new(), 0);
    for at in (40..length).step_by(length as usize / 32) {
        flip(&file, at);
        let (store, segments, aside) = SpanStore::open(dir.path(), StoreOptions::default()).unwrap();
        if aside.is_empty() {
            let state = state_of(segments);
            let engine = Engine::new(Arc::clone(&state), Arc::new(store));
            let room = Room { spans: 1 << 20, of_trace: 1 << 20 };
            let mut told = BTreeMap::new();
            let count = open_at_end(&state, room, &mut |id, _, nodes| drop(told.insert(id, nodes))).unwrap();
            assert_eq!(count, told.len());
            for id in &ids {
                let readable = match engine.critical_path(&CriticalPathQuery::of(*id)) {
                    Err(QueryError::Unreadable) => 0,
                    answer => answer.unwrap().unwrap().trace.len() as u64,
                };
                let all = if *id.as_bytes() == LARGE { MANY } else { SPANS };
                assert_eq!(told.get(id).map_or(0, Nodes::count), readable, "{id} at {at}");
                // Its analysis will have to say that something is missing.
                let sums = matches!(told.get(id), Some(Nodes::Sums(_)));
                assert_eq!(sums, readable > 0 && readable < all);
                in_part += u64::from(sums);
            }
            let damaged = engine.status().damaged;
            hit.extend(damaged.iter().filter(|_| told.len() < ids.len()).cloned());
        }
        flip(&file, at);
    }
    assert!(hit.iter().any(|text| text.contains("Chunk(")) && in_part > 0, "{hit:?} {in_part}");
}

/// Traces of one span, half of them open, so many that the list of these fills a block of the file.
const ONES: u64 = 140_000;

#[test]
fn without_the_list_of_open_traces_those_are_open_that_were_not_analysed() {
    let dir = tempfile::tempdir().unwrap();
    let like = spans(0..1, &mut Dice(7)).remove(0);
    let one = |nth: u64| {
        let mut id = [0x22; 16];
        let lower = if nth < ONES / 2 { nth } else { 1 << 63 | nth };
        id[..8].copy_from_slice(&lower.to_be_bytes());
        // Histograms of many minutes lie between what the spans need and the list.
        let start = UnixNanos(BASE + nth % 600 * 60 * SECOND);
        Span { trace_id: TraceId::new(id).unwrap(), start, end: start, ..like.clone() }
    };
    let ones: Vec<Span> = (0..ONES).map(one).collect();
    let (analysed, open) = ones.split_at(ones.len() / 2);
    let mut world = World::open(dir.path());
    analysed.chunks(10_000).for_each(|some| world.deliver(request(some)));
    world.wait(100);
    world.finish_quiet();
    open.chunks(10_000).for_each(|some| world.deliver(request(some)));
    let cut = world.cut();
    world.seal(&cut);
    world.close();
    let table = tables(dir.path()).into_iter().max_by_key(|path| path.metadata().unwrap().len()).unwrap();
    let bytes = std::fs::read(&table).unwrap();
    let list = bytes.windows(open.len() / 10).position(|bytes| bytes.iter().all(|byte| *byte == 0xff));
    // To open it reads this block, and must not keep what it has read.
    let options = StoreOptions { cache_bytes: 1, ..StoreOptions::default() };
    let (store, segments, _) = SpanStore::open(dir.path(), options).unwrap();
    flip(&open_file(&table).0, list.unwrap() as u64);
    let state = state_of(segments);
    let room = Room { spans: 1 << 20, of_trace: 1 << 20 };
    let mut told = BTreeSet::new();
    open_at_end(&state, room, &mut |id, _, _| told.extend([id])).unwrap();
    assert!(told.into_iter().eq(open.iter().map(|span| span.trace_id)));
    let damaged = Engine::new(state, Arc::new(store)).status().damaged;
    assert!(damaged.len() == 1 && damaged[0].contains("damaged Open"), "{damaged:?}");
}

/// A store that has a rollup, opened anew.
pub(crate) fn with_rollups(dir: &Path) -> (Engine, Arc<State>, Arc<SpanStore>) {
    let (store, segments, aside) = SpanStore::open(dir, StoreOptions::default()).unwrap();
    assert_eq!(aside, Vec::<String>::new());
    let ids = segments.iter().map(|stored| stored.handle.id()).collect();
    let (state, store) = (state_of(segments), Arc::new(store));
    state.add_stored_rollups(&store, &ids);
    (Engine::new(Arc::clone(&state), Arc::clone(&store)), state, store)
}

/// The rollup that is damaged, if one is, is of half an hour; if it can still say so.
fn holds_of_its_time_alone(engine: &Engine) {
    let damaged = engine.status().damaged;
    let (is_damaged, everywhere) =
        (!damaged.is_empty(), damaged.iter().any(|text| text.ends_with("damaged rollup meta")));
    let later = Window { start: UnixNanos(BASE + 7_200 * SECOND), ..Window::ALL };
    let earlier = Window { end: UnixNanos(BASE - 3_600 * SECOND), ..Window::ALL };
    for (window, says) in [(CUT, is_damaged), (later, everywhere), (earlier, everywhere)] {
        for found in [latency(engine, window), bottlenecks(engine, window)] {
            assert_eq!(found.says_damaged(), says, "{window:?} {found:?}");
        }
    }
    let of_spans = [
        search(engine, &all_of(Window::ALL)),
        search(engine, &failed_of(Window::ALL)),
        services(engine, Window::ALL),
        operations(engine),
    ];
    assert!(of_spans.iter().all(|found| !found.says_damaged()), "no rollup is read for these: {of_spans:?}");
}

#[test]
fn a_damaged_rollup_costs_its_blocks_alone_and_becomes_coarser_without_them() {
    let dir = tempfile::tempdir().unwrap();
    let (mut world, _) = stored(dir.path());
    world.wait(2 * 86_400);
    seal(&mut world, &spans(TRACES + OTHERS..TRACES + OTHERS + 1, &mut Dice(9)));
    let retire =
        |world: &World| assert!(matches!(world.retire(true), Some(Retired::Gone { segments: 1, .. })));
    retire(&world);
    // The last that was written.
    let rollup = tables(dir.path()).into_iter().max().unwrap();
    retire(&world);
    world.store.drop_retired().unwrap();
    world.close();
    let of_all = |engine: &Engine| [latency(engine, Window::ALL), bottlenecks(engine, Window::ALL)];
    let intact = of_all(&with_rollups(dir.path()).0);
    let traces = TRACES + OTHERS + 1;
    assert_eq!(intact.each_ref().map(|found| found.count), [traces * SPANS, traces]);
    let (file, length) = open_file(&rollup);
    let mut damaged = None;
    for at in (40..length).step_by(length as usize / 16) {
        flip(&file, at);
        let (engine, ..) = with_rollups(dir.path());
        for (found, intact) in of_all(&engine).iter().zip(&intact) {
            let says = found.says_damaged();
            assert!(found.count <= intact.count && (says || found.count == intact.count), "{found:?}");
        }
        of_all(&engine);
        holds_of_its_time_alone(&engine);
        let list = engine.status().damaged;
        assert!(list.len() <= 1 && list.iter().all(|text| text.starts_with("rollup ")), "{list:?}");
        damaged = damaged.or(list.iter().any(|text| text.contains("RolledHistogramsOf")).then_some(at));
        flip(&file, at);
    }
    flip(&file, damaged.expect("a block of histograms was met"));
    let (engine, state, store) = with_rollups(dir.path());
    of_all(&engine);
    let far_on = UnixNanos(BASE + 100 * 86_400 * SECOND);
    assert!(keep_rollups(&state, &store, &RollupOptions::default(), far_on).unwrap());
    let list = engine.status().damaged;
    assert!(list.len() == 1 && list[0].contains("left out of a coarser one"), "{list:?}");
    let coarser = of_all(&engine);
    assert!(coarser.iter().all(Found::says_damaged), "{coarser:?}");
    assert!(
        !latency(&engine, Window { start: UnixNanos(BASE + 2 * 86_400 * SECOND), ..Window::ALL })
            .says_damaged()
    );
    assert!(coarser[0].count > OTHERS * SPANS, "the other blocks are in it: {coarser:?}");
}
