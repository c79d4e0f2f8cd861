//! What of the log cannot be taken in again is told.

use bytes::Bytes;

use super::life::folder;
use super::spans::{BASE, request};
use super::step::{SpanRef, span};
use super::world::{Setting, World};

#[test]
fn a_logged_request_that_cannot_be_read_is_told_and_the_others_of_its_frame_are_kept() {
    let mut world = World::open(folder(), Setting::default());
    let good = |nth| request(&[span(1, SpanRef(1, nth), BASE)]);
    world.log(&[good(0), Bytes::from_static(b"\x0a\x7f"), good(1)]);
    world.log(&[good(2)]);
    let world = world.die(false);
    let status = world.engine.status();
    assert_eq!((status.live_spans, world.counted("damaged_frames")), (3, 1));
    let damaged = world.state.damaged();
    let told = damaged.iter().any(|text| text.starts_with("log frame 1: 1 of its 3 requests cannot be read"));
    assert!(told, "{damaged:?}");
}
