//! A store that fails while a start takes in what it has: that is waited for, and nothing is passed over.

use super::life::folder;
use super::spans::{BASE, Span, request};
use super::step::{SpanRef, span};
use super::world::{Setting, World};

/// Frames of the log, more than are read ahead.
const FRAMES: u8 = 40;

/// A store with a trace that was open at a cut, and a log behind that.
fn world() -> World {
    let mut world = World::open(folder(), Setting::default());
    let spans: Vec<Span> = (0..4).map(|nth| span(1, SpanRef(1, nth), BASE)).collect();
    world.commit(&[spans]);
    world.take_all();
    world.cut();
    world.seal();
    (0..FRAMES).for_each(|nth| world.log(&[request(&[span(1, SpanRef(2 + nth % 9, nth / 9), BASE)])]));
    world
}

/// What is answered from, and what is said to be lost.
fn found(world: &World) -> (u64, u64, u64, u64, Vec<String>) {
    let status = world.engine.status();
    let spans = (status.sealed_spans, status.live_spans);
    (spans.0, spans.1, status.open_traces, world.counted("lost_frames"), status.damaged)
}

#[test]
fn a_start_waits_for_a_store_that_is_opened_again() {
    let whole = found(&world().die(false));
    assert_eq!((whole.0, whole.1), (4, u64::from(FRAMES)));
    // Before it is read which traces were open, at the first frames, and amid them.
    for asks in [0, 1, 2, 20] {
        let mut world = world().die_and_close_after(asks);
        assert_eq!(found(&world), whole, "closed after {asks}");
        assert_eq!(world.engine.ready(), Ok(()));
        world.settle();
        assert_eq!(world.engine.status().sealed_spans, 4 + u64::from(FRAMES));
        let world = world.die(false);
        assert_eq!(world.engine.status().sealed_spans, 4 + u64::from(FRAMES), "the log is not read again");
    }
}
