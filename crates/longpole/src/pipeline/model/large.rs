//! Traces that are too large to be taken back, to be held, or to be analysed; and late spans of traces that memory has
//! no room to name.

use query::{
    BottleneckGroup, BottleneckQuery, CriticalPathQuery, Incomplete, Order, TraceHit, TracePage, TraceSearch,
    Window,
};
use trace_assemble::Options;
use trace_model::{SpanId, SpanKind, StatusCode, TraceId, UnixNanos};

use super::life::folder;
use super::spans::{BASE, SECOND, Span};
use super::world::{Setting, World};

fn span(trace: u8, nth: u8, parent: Option<u8>) -> Span {
    let start = BASE + u64::from(nth) * SECOND;
    Span {
        trace_id: TraceId::new([trace; 16]).unwrap(),
        span_id: SpanId::new([nth; 8]).unwrap(),
        parent: parent.map(|parent| SpanId::new([parent; 8]).unwrap()),
        service: "shop",
        name: "pay",
        kind: SpanKind::Server,
        status: StatusCode::Unset,
        start: UnixNanos(start),
        end: UnixNanos(start + SECOND),
    }
}

/// A root and `count - 1` children.
fn trace(trace: u8, count: u8) -> Vec<Span> {
    (1..=count).map(|nth| span(trace, nth, (nth > 1).then_some(1))).collect()
}

fn hits(world: &World) -> Vec<TraceHit> {
    let search = TraceSearch {
        service: None,
        operation: None,
        kind: None,
        status: None,
        min_duration: None,
        max_duration: None,
        min_trace_duration: None,
        max_trace_duration: None,
        window: Window::ALL,
        order: Order::Newest,
        limit: 100,
        cursor: None,
    };
    world.engine.search(&search).unwrap().traces
}

fn says(incomplete: &[Incomplete], reason: &str) -> bool {
    incomplete.iter().any(|why| why.reason == reason)
}

/// Distinct spans of a trace, through its pages.
fn spans_of(world: &World, id: TraceId, limit: usize) -> usize {
    let (mut page, mut spans) = (TracePage { limit, ..TracePage::first(id) }, 0);
    while let Some(answer) = world.engine.trace_page(&page).unwrap() {
        let mut walked = otlp_wire::Walked::new();
        otlp_wire::walk(&answer.traces_data, &otlp_wire::WireLimits::STORED, &mut walked).unwrap();
        assert!(walked.spans.len() <= limit && says(&answer.incomplete, "page") == answer.next.is_some());
        spans += walked.spans.len();
        page.after = answer.next;
        if page.after.is_none() {
            break;
        }
    }
    spans
}

fn world_with(trace_held_max: usize, trace_spans_max: usize) -> World {
    let assemble = Options { trace_held_max, ..Options::default() };
    World::open(folder(), Setting { assemble, trace_spans_max, ..Setting::default() })
}

#[test]
fn late_and_repeated_spans_of_a_trace_that_there_is_no_room_for_count_once() {
    let mut world = world_with(1, 1_000);
    let mut spans = trace(1, 6);
    world.commit(&[spans.clone()]);
    world.settle();
    spans.push(span(1, 7, Some(1)));
    // All again, and a late one; then all again while those before are live, and once more after they were sealed.
    world.commit(&[spans.clone(), spans.clone()]);
    world.take_all();
    assert_eq!(world.counted("traces_held_in_part"), 1);
    assert_eq!((world.counted("spans"), world.counted("duplicate_spans")), (7, 13));
    assert_eq!(hits(&world).iter().map(|hit| hit.spans).collect::<Vec<_>>(), [7], "while it is open");
    world.settle();
    world.commit(&[spans.clone()]);
    world.settle();
    assert_eq!((world.counted("spans"), world.counted("duplicate_spans")), (7, 20));
    assert_eq!(hits(&world).iter().map(|hit| hit.spans).collect::<Vec<_>>(), [7]);
    assert_eq!(world.counted("traces_analysed_again"), 1, "repeats change no analysis");
    assert_eq!(spans_of(&world, spans[0].trace_id, 3), 7);
    let status = world.engine.status();
    assert_eq!((status.sealed_spans + status.live_spans, status.open_traces), (7, 0));
}

#[test]
fn a_trace_that_grows_while_it_is_sealed_is_held_in_part_and_analysed_whole() {
    let mut world = world_with(2, 1_000);
    let spans = trace(1, 9);
    for part in spans.chunks(3) {
        // Each part comes twice.
        world.commit(&[part.to_vec(), part.to_vec()]);
        world.take_all();
        world.tick();
        world.cut();
        world.seal();
        world.tick();
    }
    let held = world.engine.status().open_spans;
    assert!(held <= 3, "{held} spans are held");
    world.commit(std::slice::from_ref(&spans));
    world.take_all();
    assert_eq!((world.counted("spans"), world.counted("duplicate_spans")), (9, 18));
    world = world.die(false);
    world.settle();
    let hits = hits(&world);
    assert_eq!((hits.len(), hits[0].spans, hits[0].missing_parents), (1, 9, 0));
    let question = CriticalPathQuery::of(spans[0].trace_id);
    let path = world.engine.critical_path(&question).unwrap().unwrap();
    assert_eq!((path.trace.len(), path.incomplete), (9, Vec::new()));
}

#[test]
fn a_trace_with_too_many_spans_is_kept_and_counted_without_a_path() {
    let mut world = world_with(1_000, 4);
    let mut spans = trace(1, 6);
    world.commit(&[spans.clone(), trace(2, 4)]);
    world.settle();
    spans.push(Span { status: StatusCode::Error, ..span(1, 9, Some(1)) });
    for again in 0..2 {
        let hits = hits(&world);
        let hit = hits.iter().find(|hit| hit.trace_id == spans[0].trace_id).unwrap();
        assert_eq!((hits.len(), hit.spans, hit.errors), (2, 6 + again, again));
        assert_eq!(hit.duration.0, if again == 0 { 6 * SECOND } else { 9 * SECOND });
        assert!(hit.root.is_some());
        let answer = world.engine.trace(spans[0].trace_id).unwrap().unwrap();
        assert!(says(&answer.incomplete, "trace_too_large"));
        assert_eq!(spans_of(&world, spans[0].trace_id, 100), 6 + again as usize);
        let question = CriticalPathQuery::of(spans[0].trace_id);
        let path = world.engine.critical_path(&question).unwrap().unwrap();
        assert!(says(&path.incomplete, "trace_too_large"));
        assert_eq!(path.trace.len(), 4, "the first of it");
        let question = BottleneckQuery {
            service: None,
            operation: None,
            window: Window::ALL,
            group_by: BottleneckGroup::Service,
            faster_permille: 500,
            limit: 10,
        };
        let bottlenecks = world.engine.bottlenecks(&question).unwrap();
        assert_eq!((bottlenecks.traces, bottlenecks.excluded), (1, 1));
        assert_eq!(world.counted("traces_too_large"), 1 + again);
        world.commit(&[vec![spans[6].clone()]]);
        world.settle();
    }
}

#[test]
fn held_spans_stay_within_their_bound_however_many_traces_are_taken_back() {
    let assemble = Options { spans_max: 20, ..Options::default() };
    let mut world = World::open(folder(), Setting { assemble, ..Setting::default() });
    let all: Vec<Vec<Span>> = (1..=30).map(|nth| trace(nth, 6)).collect();
    for one in &all {
        world.commit(std::slice::from_ref(one));
        world.settle();
    }
    // A late span for each, in one request, and all of the rest again.
    let late: Vec<Span> = (1..=30).map(|nth| span(nth, 9, Some(1))).collect();
    let again: Vec<Span> = all.iter().flatten().chain(&late).cloned().collect();
    world.commit(&[again]);
    world.take_all();
    let held = world.engine.status().open_spans;
    assert!(held <= 20 + 30, "{held} spans are held: those with room, and the late ones");
    assert_eq!((world.counted("spans"), world.counted("duplicate_spans")), (210, 180));
    world.settle();
    assert!(hits(&world).iter().all(|hit| hit.spans == 7 && hit.missing_parents == 0));
}

/// A world whose directory of traces has the first of them in a file.
fn filed(first: &[Span]) -> World {
    let mut world = World::open(folder(), Setting { directory: Some(1), ..Setting::default() });
    let others: Vec<Span> = (10..16).map(|nth| span(nth, 1, None)).collect();
    world.commit(&[first.to_vec(), others]);
    world.settle();
    world.commit(&[vec![span(20, 1, None)]]);
    world.settle();
    assert!(world.state.view.read().stored().has_files());
    world.wait(7_200);
    world
}

/// A span that began long after everything that was stored of its trace.
fn much_later(world: &World, of: &Span) -> Span {
    let start = world.now();
    Span { span_id: SpanId::new([99; 8]).unwrap(), start, end: UnixNanos(start.0 + SECOND), ..of.clone() }
}

#[test]
fn a_late_span_joins_its_trace_also_where_that_is_named_in_a_file() {
    let spans = trace(1, 3);
    let mut world = filed(&spans);
    let late = much_later(&world, &spans[1]);
    world.commit(&[vec![late.clone(), late.clone(), spans[2].clone()]]);
    world.settle();
    assert_eq!((world.counted("spans"), world.counted("duplicate_spans")), (11, 2));
    let hits = hits(&world);
    let of_trace: Vec<u64> =
        hits.iter().filter(|hit| hit.trace_id == late.trace_id).map(|hit| hit.spans).collect();
    assert_eq!(of_trace, [4]);
}

#[test]
fn a_late_span_alone_is_looked_for_in_files_when_its_trace_is_due() {
    let spans = trace(1, 3);
    let mut world = filed(&spans);
    world.commit(&[vec![much_later(&world, &spans[1])]]);
    world.take_all();
    assert_eq!(world.counted("traces_joined_from_files"), 0);
    world.settle();
    assert_eq!(world.counted("traces_joined_from_files"), 1);
    let hits = hits(&world);
    let of_trace: Vec<u64> =
        hits.iter().filter(|hit| hit.trace_id == spans[0].trace_id).map(|hit| hit.spans).collect();
    assert_eq!(of_trace, [4], "one trace, with all its spans");
}

/// The horizon: what has a root of its own, began more than a minute after all that is stored of its trace, and
/// belongs to a trace that only a file names.
#[test]
fn a_late_part_with_a_root_of_its_own_is_a_trace_by_itself_beyond_memory() {
    let spans = trace(1, 3);
    let mut world = filed(&spans);
    world.commit(&[vec![much_later(&world, &spans[0])]]);
    world.settle();
    assert_eq!(world.counted("spans"), 11, "it counts once all the same");
    assert_eq!(spans_of(&world, spans[0].trace_id, 100), 4, "and belongs to the trace");
    let hits = hits(&world);
    let mut of_trace: Vec<u64> =
        hits.iter().filter(|hit| hit.trace_id == spans[0].trace_id).map(|hit| hit.spans).collect();
    of_trace.sort_unstable();
    assert_eq!(of_trace, [1, 3], "a search by trace shows both parts");
}
