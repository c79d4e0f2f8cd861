//! The gap between looking a sealed trace up and observing its span: the look-up runs without the assembly's lock,
//! and in the meantime the sealer may let go of another trace of the same batch. The stages ask for the time within
//! that gap and nowhere before it, so a clock during which a cut is sealed puts the seal exactly there.

use super::life::folder;
use super::spans::{BASE, Span};
use super::step::{SpanRef, span};
use super::world::{Setting, World};

fn spans(trace: u8, places: &[u8]) -> Vec<Span> {
    places.iter().map(|nth| span(1, SpanRef(trace, *nth), BASE)).collect()
}

fn finish(world: &mut World) {
    world.take_all();
    world.wait(1_000);
    world.tick();
    world.cut();
}

#[test]
fn a_trace_that_is_let_go_of_during_a_look_up_is_looked_up_too() {
    let mut world = World::open(folder(), Setting::default());
    let (sealed, going) = (spans(1, &[0, 1]), spans(2, &[0, 1]));
    let holds =
        |world: &World, spans: &[Span]| world.state.assembly.lock().assembler.holds(&spans[0].trace_id);

    // One trace is sealed and let go of; another is finished and in a cut, and still held.
    world.commit(&[sealed[..1].to_vec()]);
    finish(&mut world);
    world.seal();
    world.commit(std::slice::from_ref(&going));
    finish(&mut world);
    assert!(!holds(&world, &sealed) && holds(&world, &going));

    // A batch with a late span of the one and a repeated span of the other: while the one is looked up, the cut is
    // sealed and the other let go of.
    world.commit(&[vec![sealed[1].clone(), going[0].clone()]]);
    let happened = world.seal_in_between();
    world.take_all();
    assert!(happened(), "the cut was sealed in between");
    assert!(holds(&world, &going), "it was looked up and taken back");

    let status = world.engine.status();
    assert_eq!((world.counted("duplicate_spans"), world.counted("spans")), (1, 4));
    assert_eq!(status.sealed_spans + status.live_spans, 4, "the repeated span counts once");
}
