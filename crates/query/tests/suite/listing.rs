//! Which segments may hold a trace, where no list in memory says it.

use std::ops::RangeInclusive;
use std::sync::Arc;

use query::{BlockCache, Engine, NameTable, State, TraceDirectory, merge, mergeable, trace_nodes};
use span_store::{SpanStore, StoreOptions, StoredSegment};
use trace_assemble::{Assembler, Options};
use trace_model::{NanoDuration, SpanId, SpanKind, StatusCode, TraceId, UnixNanos};

use crate::spans::{BASE, SECOND, Span, request};
use crate::world::{World, while_closed};

pub(crate) fn span(trace: u8) -> Span {
    Span {
        trace_id: TraceId::new([trace; 16]).unwrap(),
        span_id: SpanId::new([1; 8]).unwrap(),
        parent: None,
        service: "shop",
        name: "pay",
        kind: SpanKind::Server,
        status: StatusCode::Unset,
        start: UnixNanos(BASE),
        end: UnixNanos(BASE + SECOND),
    }
}

/// One segment for each of these times of arrival and traces, in this order.
fn sealed_at(dir: &std::path::Path, segments: &[(u64, RangeInclusive<u8>)]) {
    let mut world = World::open(dir);
    for (at, traces) in segments {
        world.now = UnixNanos(BASE + at * SECOND);
        world.deliver(request(&traces.clone().map(span).collect::<Vec<_>>()));
        world.wait(100);
        world.finish_quiet();
        let cut = world.cut();
        world.seal(&cut);
    }
    world.close();
}

/// A state whose directory has room for one segment at most, and no files.
fn unlisted(segments: Vec<StoredSegment>) -> Arc<State> {
    let directory = TraceDirectory::with_memory(0);
    let assembler = Assembler::new(Options::default());
    let state =
        State::with_memory(Arc::new(NameTable::default()), assembler, BlockCache::default(), directory);
    state.add_stored(segments);
    *state.not_ready.lock() = None;
    Arc::new(state)
}

#[test]
fn a_trace_is_found_behind_a_segment_that_arrived_before_it() {
    let dir = tempfile::tempdir().unwrap();
    // Each with so few traces that its list is not put together with the one before.
    sealed_at(dir.path(), &[(10_000, 1..=9), (1_000, 11..=14), (20_000, 21..=21)]);
    let (_store, segments, _) = SpanStore::open(dir.path(), StoreOptions::default()).unwrap();
    let stored = unlisted(segments).snapshot().stored();
    assert!(stored.has_files());
    let never = UnixNanos(u64::MAX);
    let may_hold = |trace, since| {
        stored.may_hold(&span(trace).trace_id, never, UnixNanos(BASE + since * SECOND)).unwrap()
    };
    assert!(may_hold(1, 5_000) && may_hold(11, 500));
    assert!(!may_hold(11, 5_000) && !may_hold(99, 0));
}

#[test]
fn a_merged_segment_is_looked_into_once_of_which_one_part_was_listed() {
    let dir = tempfile::tempdir().unwrap();
    sealed_at(dir.path(), &[(0, 1..=9), (1, 11..=14)]);
    let options = StoreOptions { slice: Some(NanoDuration::from_secs(60)), ..StoreOptions::default() };
    let (store, segments, _) = SpanStore::open(dir.path(), options).unwrap();
    let state = unlisted(segments);
    let later = UnixNanos(BASE + 10_000 * SECOND);
    let parts = mergeable(&state.snapshot(), later, 1 << 20).remove(0);
    let merged = merge(&state, &store, &parts, 1 << 20, &|| false).unwrap().unwrap();
    assert_eq!((merged.before, merged.after), (2, 1));
    for trace in [1, 11] {
        let found = trace_nodes(&state, span(trace).trace_id, 100).unwrap();
        assert_eq!(found.nodes.count(), 1);
    }
}

#[test]
fn a_store_that_fails_while_traces_are_listed_is_not_damaged() {
    let dir = tempfile::tempdir().unwrap();
    sealed_at(dir.path(), &[(0, 1..=1), (1_000, 2..=2)]);
    let (store, segments, _) = SpanStore::open(dir.path(), StoreOptions::default()).unwrap();
    let mut state = None;
    while_closed(dir.path(), &store, || state = Some(crate::world::state_of(segments)));
    let state = state.unwrap();
    let engine = Engine::new(Arc::clone(&state), Arc::new(store));
    assert_eq!(engine.status().damaged, Vec::<String>::new());
    for trace in [1, 2] {
        let answer = engine.trace(span(trace).trace_id).unwrap().expect("its own list is read");
        assert_eq!(answer.incomplete, Vec::new());
    }
}
