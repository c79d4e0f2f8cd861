//! A block is damaged of a segment, and the question is about another time or another trace: the answer is complete where
//! that is known, and where it is not, it says what it may lack.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use query::{Engine, Retired, State, TraceSearch, Window, stored_nodes};
use span_store::{SpanStore, StoreOptions};
use trace_model::{SpanId, TraceId, UnixNanos};

use crate::asking::{Found, all_of, bottlenecks, failed_of, latency, operations, search, services, trace};
use crate::damaged_blocks::{OTHERS, SPANS, TRACES, flip, open_file, seal, spans, tables};
use crate::spans::{BASE, Dice, SECOND, Span};
use crate::world::{World, state_of};

/// Between the two segments, in seconds.
const DAY: u64 = 86_400;
/// When the spans of the segment that is damaged start.
const THEN: Window = Window { start: UnixNanos(BASE), end: UnixNanos(BASE + 1_800 * SECOND) };
/// All after it.
const LATER: Window = Window { start: UnixNanos(BASE + 7_200 * SECOND), end: UnixNanos(u64::MAX) };
/// All before it.
const EARLIER: Window = Window { start: UnixNanos(0), end: UnixNanos(BASE - 3_600 * SECOND) };

fn later(spans: Vec<Span>, seconds: u64) -> Vec<Span> {
    let by = seconds * SECOND;
    let moved =
        |span: Span| Span { start: UnixNanos(span.start.0 + by), end: UnixNanos(span.end.0 + by), ..span };
    spans.into_iter().map(moved).collect()
}

/// Two segments a day apart, and the spans of each.
fn stored(dir: &Path, mut of_later: Vec<Span>) -> [Vec<Span>; 2] {
    let mut dice = Dice(7);
    let of_damaged = spans(0..TRACES, &mut dice);
    of_later.extend(later(spans(TRACES..TRACES + OTHERS, &mut dice), DAY));
    let mut world = World::open(dir);
    seal(&mut world, &of_damaged);
    world.wait(DAY);
    seal(&mut world, &of_later);
    world.close();
    [of_damaged, of_later]
}

fn serve(dir: &Path) -> Option<(Engine, Arc<State>)> {
    let (store, segments, aside) = SpanStore::open(dir, StoreOptions::default()).unwrap();
    if !aside.is_empty() {
        return None;
    }
    let state = state_of(segments);
    Some((Engine::new(Arc::clone(&state), Arc::new(store)), state))
}

/// Questions about a window: those about spans that started or ended in it, and those about traces as they were analysed.
fn ask(engine: &Engine, window: Window) -> ([Found; 3], [Found; 2]) {
    let of_spans = [latency(engine, window), search(engine, &failed_of(window)), services(engine, window)];
    (of_spans, [search(engine, &all_of(window)), bottlenecks(engine, window)])
}

fn say(found: &[Found], says: bool) {
    assert!(found.iter().all(|found| found.says_damaged() == says), "{says} {found:?}");
}

/// Changes the file of the segment with most spans in one place after the other, while `then` is done.
fn damaged_here_and_there(dir: &Path, places: u64, mut then: impl FnMut()) {
    let table = tables(dir).into_iter().max_by_key(|path| path.metadata().unwrap().len());
    let (file, length) = open_file(&table.unwrap());
    for at in (40..length).step_by((length / places) as usize) {
        flip(&file, at);
        then();
        flip(&file, at);
    }
}

#[test]
fn an_answer_is_complete_unless_it_looks_where_something_is_damaged() {
    let dir = tempfile::tempdir().unwrap();
    let [of_damaged, others] = stored(dir.path(), Vec::new());
    let mut kinds = BTreeSet::new();
    damaged_here_and_there(dir.path(), 32, || {
        let Some((engine, _)) = serve(dir.path()) else { return };
        // Whatever is damaged is met by one of these.
        ask(&engine, Window::ALL);
        ask(&engine, THEN);
        for span in of_damaged.iter().step_by(30) {
            let found = trace(&engine, span.trace_id);
            assert_eq!(found.says_damaged(), found.count < SPANS, "{found:?}");
        }
        let damaged = engine.status().damaged;
        let Some(text) = damaged.first() else { return };
        let (_, key) = text.split_once("damaged ").unwrap();
        let kind = key.split(['(', ':']).next().unwrap();
        if kind == "Hashes" {
            // Without the list of its traces, a block that cannot be read may hold any.
            return;
        }
        kinds.insert(kind.to_owned());

        let (of_spans, of_traces) = ask(&engine, THEN);
        say(&of_spans, true);
        say(&of_traces, true);
        say(&[operations(&engine)], true);
        let (of_spans, of_traces) = ask(&engine, LATER);
        say(&of_spans, false);
        say(&of_traces, false);
        assert_eq!([of_spans[0].count, of_traces[1].count], [OTHERS * SPANS, OTHERS]);
        let (of_spans, of_traces) = ask(&engine, EARLIER);
        say(&of_spans, false);
        // A trace that started then may lack its later spans.
        say(&of_traces, true);
        for span in others.iter().step_by(300) {
            let found = trace(&engine, span.trace_id);
            assert!(found.count == SPANS && !found.says_damaged(), "{found:?}");
        }
        assert_eq!(engine.status().damaged, damaged);
    });
    for kind in ["Chunk", "Rows", "Traces", "Paths", "Minute"] {
        assert!(kinds.contains(kind), "no damaged {kind} was met: {kinds:?}");
    }
}

/// A span of the next day for every trace of the segment that is damaged.
fn late_spans() -> Vec<Span> {
    let of_damaged = spans(0..TRACES, &mut Dice(7));
    let first = of_damaged.into_iter().step_by(SPANS as usize);
    later(first.map(|span| Span { span_id: SpanId::new([9; 8]).unwrap(), ..span }).collect(), DAY)
}

#[test]
fn what_a_question_meets_is_told_wherever_it_lies() {
    let dir = tempfile::tempdir().unwrap();
    let late = late_spans();
    let ids: BTreeSet<TraceId> = late.iter().map(|span| span.trace_id).collect();
    stored(dir.path(), late);
    let mut met = 0;
    damaged_here_and_there(dir.path(), 16, || {
        let Some((engine, state)) = serve(dir.path()) else { return };
        // Each trace is read whole, also what there is of it from the day before.
        let answer = engine.search(&TraceSearch { limit: 10_000, ..failed_of(LATER) }).unwrap();
        let is_late = |id: &TraceId| ids.contains(id);
        let unread = answer.traces.iter().any(|hit| is_late(&hit.trace_id) && hit.spans <= SPANS);
        let without_list = engine.status().damaged.iter().any(|text| text.contains("damaged Hashes"));
        if without_list {
            return;
        }
        let found = Found { count: answer.traces.len() as u64, incomplete: answer.incomplete };
        assert_eq!(found.says_damaged(), unread, "{found:?}");
        if !unread {
            return;
        }
        met += 1;
        // Analyses were made while all could be read, and nothing else of that day is read.
        say(&[latency(&engine, LATER), services(&engine, LATER)], false);
        let of_traces = || [search(&engine, &all_of(LATER)), bottlenecks(&engine, LATER)];
        say(&of_traces(), false);
        // Until one is made without spans that cannot be read: it may seem to have started at any time.
        let counted = || state.counters.lookups_failed.load(std::sync::atomic::Ordering::Relaxed);
        for id in ids.iter().step_by(10) {
            stored_nodes(&state, *id, usize::MAX).unwrap();
        }
        assert!(counted() > 0);
        say(&of_traces(), true);
        say(&[latency(&engine, LATER), services(&engine, LATER)], false);
    });
    assert!(met > 0);
}

#[test]
fn what_was_left_out_of_a_rollup_is_told_where_its_sums_are_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    stored(dir.path(), Vec::new());
    let mut done = false;
    damaged_here_and_there(dir.path(), 32, || {
        let Some((engine, _)) = serve(dir.path()).filter(|_| !done) else { return };
        latency(&engine, Window::ALL);
        if !engine.status().damaged.iter().any(|text| text.contains("damaged Minute(")) {
            return;
        }
        drop(engine);
        let world = World::open_at(dir.path(), UnixNanos(BASE + 2 * DAY * SECOND));
        assert!(matches!(world.retire(true), Some(Retired::Gone { segments: 1, .. })));
        let damaged = world.engine.status().damaged;
        assert!(damaged.len() == 1 && damaged[0].contains("left out of its rollup"), "{damaged:?}");
        let of_sums = |window| [latency(&world.engine, window), bottlenecks(&world.engine, window)];
        say(&of_sums(THEN), true);
        say(&of_sums(LATER), false);
        say(&of_sums(EARLIER), false);
        let searches = [all_of(Window::ALL), failed_of(Window::ALL)];
        say(&searches.map(|asked| search(&world.engine, &asked)), false);
        done = true;
    });
    assert!(done);
}

#[test]
fn of_what_nobody_knows_where_it_matters_every_answer_tells() {
    let dir = tempfile::tempdir().unwrap();
    let mut world = World::open(dir.path());
    let few = spans(0..3, &mut Dice(7));
    seal(&mut world, &few);
    let answers = || {
        let of_windows = [THEN, LATER, EARLIER].map(|window| ask(&world.engine, window));
        let of_windows = of_windows.into_iter().flat_map(|(some, more)| some.into_iter().chain(more));
        let rest = [operations(&world.engine), trace(&world.engine, few[0].trace_id)];
        of_windows.chain(rest).collect::<Vec<_>>()
    };
    say(&answers(), false);
    world.state.note_damaged("segment 7 in p-0: its meta cannot be read".to_owned());
    say(&answers(), true);
    world.state.forget_damaged(|text| text.contains("p-0"));
    say(&answers(), false);
}
