//! Spans that do not say when they began: they are counted, and say nothing of how far back spans reach.

use query::{ServiceRow, Window};
use trace_model::UnixNanos;

use crate::listing::span;
use crate::spans::{BASE, Span, request};
use crate::world::World;

#[test]
fn spans_without_a_start_are_not_the_oldest() {
    let untimed = |trace| Span { start: UnixNanos(0), end: UnixNanos(0), ..span(trace) };
    let dir = tempfile::tempdir().unwrap();
    let mut world = World::open(dir.path());
    let told = |world: &World, window| {
        let (services, _) = world.engine.services(window).unwrap();
        let first = |row: &ServiceRow| (row.spans, row.first_seen.0, row.last_seen.0);
        (world.engine.status().oldest, services.iter().map(first).collect::<Vec<_>>())
    };
    world.deliver(request(&[untimed(1)]));
    assert_eq!(told(&world, None), (None, vec![(1, 0, 0)]));
    let seal = |world: &mut World| {
        world.wait(100);
        world.finish_quiet();
        let cut = world.cut();
        world.seal(&cut);
    };
    seal(&mut world);
    assert_eq!(told(&world, None), (None, vec![(1, 0, 0)]));
    world.deliver(request(&[span(2), untimed(3)]));
    let all = (Some(UnixNanos(BASE)), vec![(3, BASE, BASE)]);
    assert_eq!(told(&world, None), all, "live");
    seal(&mut world);
    assert_eq!(told(&world, None), all, "sealed");
    let upto = Window { start: UnixNanos(0), end: UnixNanos(BASE + 1) };
    let cut = Window { start: UnixNanos(0), end: UnixNanos(BASE) };
    assert_eq!(told(&world, Some(upto)), all);
    assert_eq!(told(&world, Some(cut)).1, [(2, 0, 0)]);
    assert_eq!(told(&world.restart(), None), all, "after a start");
}
