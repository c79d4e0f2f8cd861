//! Cuts that are built side by side are published in their order.

use span_store::SegmentId;

use super::life::folder;
use super::spans::BASE;
use super::step::{SpanRef, span};
use super::world::{Setting, World};

/// A world with this many cuts under way, each of a trace of one span.
fn with_cuts(count: u8) -> World {
    let mut world = World::open(folder(), Setting::default());
    for trace in 0..count {
        world.commit(&[vec![span(1, SpanRef(trace, 0), BASE)]]);
        world.take_all();
        world.cut();
    }
    world
}

/// The numbers of the segments, which all are there, in the order of their frames.
fn numbers(world: &World) -> Vec<u32> {
    let view = world.state.snapshot();
    let frames: Vec<_> =
        view.sealed.iter().map(|segment| (segment.meta.seq_low, segment.meta.seq_high)).collect();
    assert!(frames.is_sorted_by(|a, b| a.1 < b.0), "{frames:?}");
    assert_eq!(view.live.len(), 0, "all are sealed");
    view.sealed.iter().map(|segment| segment.id.0).collect()
}

#[test]
fn cuts_are_published_in_their_order() {
    let mut world = with_cuts(2);
    world.seal_side_by_side(false);
    let numbers = numbers(&world);
    assert!(numbers.len() == 2 && numbers.is_sorted_by(|a, b| a < b), "{numbers:?}");
}

#[test]
fn what_cannot_be_built_ahead_is_built_in_its_turn() {
    let mut world = with_cuts(2);
    let first = world.draft_path(SegmentId(0));
    // In the place of its file there is a folder, which cannot be written.
    std::fs::create_dir_all(first).unwrap();
    world.seal_side_by_side(false);
    let numbers = numbers(&world);
    assert!(numbers.len() == 2 && numbers.is_sorted_by(|a, b| a < b), "{numbers:?}");
}

/// A later analysis of a trace is told by its segment's number, so a segment that was built before one whose first
/// try failed is built again.
#[test]
fn a_segment_whose_number_was_overtaken_is_built_again() {
    let mut world = with_cuts(2);
    world.seal_overtaken();
    assert_eq!(numbers(&world), [1, 2]);
    assert!(!world.draft_path(SegmentId(0)).exists(), "what was given up is removed");
    assert_eq!(world.engine.status().sealed_spans, 2);
}

/// A segment says up to which frame the log is superfluous, so there is none after a cut that was given up.
#[test]
fn nothing_is_sealed_after_what_a_stopping_process_gave_up() {
    let mut world = with_cuts(2);
    // Both tries of the first cut fail, whichever numbers they have.
    let tried = [0, 1, 2].map(|id| world.draft_path(SegmentId(id)));
    tried.iter().for_each(|path| std::fs::create_dir_all(path).unwrap());
    world.seal_side_by_side(true);
    assert_eq!(world.state.snapshot().sealed.len(), 0);
    tried.iter().for_each(|path| std::fs::remove_dir(path).unwrap());
    let mut world = world.die(false);
    world.settle();
    assert_eq!(world.engine.status().sealed_spans, 2);
}
