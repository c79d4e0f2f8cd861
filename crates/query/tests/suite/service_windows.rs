//! Services in a window, where the clock of some client is wrong.

use query::Window;
use trace_model::{SpanId, SpanKind, StatusCode, TraceId, UnixNanos};

use super::oracle::Oracle;
use super::spans::{BASE, Dice, NAMES, SECOND, SERVICES, Span, request};
use super::world::World;

/// Traces of a segment, of one span each: a row block has 1,024.
const TRACES: u64 = 1_000;

/// Spans of ten minutes, the first of which is of the service with the wrong clock.
fn spans(segment: u64, wrong: u64, dice: &mut Dice) -> Vec<Span> {
    let span = |nth: u64| {
        let start = if nth == 0 { wrong } else { BASE + dice.below(600 * SECOND) };
        Span {
            trace_id: TraceId::new(u128::from(segment * TRACES + nth + 1).to_be_bytes()).unwrap(),
            span_id: SpanId::new([1; 8]).unwrap(),
            parent: None,
            service: if nth == 0 { SERVICES[0] } else { dice.pick(&SERVICES[..2]) },
            name: NAMES[0],
            kind: SpanKind::Server,
            status: dice.pick(&StatusCode::ALL),
            start: UnixNanos(start),
            end: UnixNanos(start + dice.below(SECOND)),
        }
    };
    (0..TRACES).map(span).collect()
}

fn world_of(dir: &std::path::Path, segments: u64, wrong: u64) -> (World, Oracle) {
    let (mut world, mut oracle, mut dice) = (World::open(dir), Oracle::default(), Dice(5));
    for segment in 0..segments {
        let spans = spans(segment, wrong, &mut dice);
        spans.iter().for_each(|span| oracle.add(span));
        world.deliver(request(&spans));
        world.wait(100);
        world.finish_quiet();
        let cut = world.cut();
        world.seal(&cut);
    }
    (world, oracle)
}

fn from(start: u64) -> Window {
    Window { start: UnixNanos(start), ..Window::ALL }
}

#[test]
fn a_wrong_clock_leaves_counts_exact() {
    for wrong in [0, 1_000, BASE - 40 * 86_400 * SECOND] {
        let dir = tempfile::tempdir().unwrap();
        let (world, oracle) = world_of(dir.path(), 2, wrong);
        let upto = Window { end: UnixNanos(BASE + 200 * SECOND), ..from(BASE + 100 * SECOND) };
        for window in [from(1), from(wrong + 1), from(BASE), from(BASE + 300 * SECOND), upto] {
            let (rows, incomplete) = world.engine.services(Some(window)).unwrap();
            let rows: Vec<_> = rows
                .into_iter()
                .map(|row| (row.name.to_string(), row.spans, row.errors, row.first_seen, row.last_seen))
                .collect();
            assert_eq!((rows, incomplete), (oracle.services(window), Vec::new()), "{wrong} {window:?}");
        }
    }
}

#[test]
fn so_many_traces_are_looked_at_and_the_answer_says_that_there_were_more() {
    let dir = tempfile::tempdir().unwrap();
    // Half of a segment's spans are of the service; with the wrong clock no row of theirs tells when it started.
    let (world, oracle) = world_of(dir.path(), 22, 1_000);
    let window = from(BASE + 1);
    let (rows, incomplete) = world.engine.services(Some(window)).unwrap();
    let reasons: Vec<_> = incomplete.iter().map(|why| why.reason).collect();
    assert_eq!(reasons, ["starts_limit"]);
    for (row, wanted) in rows.iter().zip(oracle.services(window)) {
        assert_eq!(*row.name, *wanted.0);
        let is_cut = *row.name == *SERVICES[0];
        assert!(if is_cut { (1..wanted.1).contains(&row.spans) } else { row.spans == wanted.1 }, "{row:?}");
    }
}
