//! Partitions that go to make room: a rollup of them stays, and where it cannot, that is counted.

use query::Refusal;
use span_store::{DiskSpace, disk_space};

use super::life::folder;
use super::spans::{BASE, SECOND, Span};
use super::step::{SpanRef, span};
use super::world::{Setting, World};

const DAY: u64 = 86_400;

#[test]
fn a_partition_that_goes_for_room_leaves_a_rollup_and_if_it_cannot_its_spans_are_counted() {
    let mut world = World::open(folder(), Setting::default());
    for day in 0..3_u8 {
        let at = BASE + u64::from(day) * DAY * SECOND;
        let spans: Vec<Span> = (0..4).map(|nth| span(1, SpanRef(day, nth), at)).collect();
        world.commit(&[spans]);
        world.seal_all();
        world.wait(DAY);
    }
    let guard = world.guard();
    let status = |world: &World| {
        let status = world.engine.status();
        let counted = status.counters.iter().find(|(name, _)| *name == "spans_not_rolled_up").unwrap().1;
        (status.partitions, status.rollups[0].spans, counted)
    };
    assert_eq!(status(&world), (3, 0, 0));
    let oldest = world.oldest_partition().unwrap();
    assert_eq!(guard.drop_for_room(&oldest, true).unwrap(), Some(1));
    assert_eq!(status(&world), (2, 4, 0));

    // Nothing can be written where files are made before they are ingested.
    let ingest = world.dir().join("ingest");
    std::fs::remove_dir(&ingest).unwrap();
    std::fs::write(&ingest, b"").unwrap();
    let oldest = world.oldest_partition().unwrap();
    assert_eq!(guard.drop_for_room(&oldest, true).unwrap(), Some(1));
    assert_eq!(status(&world), (1, 4, 4));
    assert!(world.oldest_partition().is_none(), "the newest stays");
}

/// Nothing of it can be noted then, and what went only from the answers would come back, or never be counted.
#[test]
fn no_partition_goes_from_a_store_that_fails() {
    let mut world = World::open(folder(), Setting::default());
    for day in 0..2_u8 {
        let at = BASE + u64::from(day) * DAY * SECOND;
        let spans: Vec<Span> = (0..4).map(|nth| span(1, SpanRef(day, nth), at)).collect();
        world.commit(&[spans]);
        world.seal_all();
        world.wait(DAY);
    }
    let no_room = DiskSpace { free: 0, total: 1_000 };
    let status = |world: &World| {
        let status = world.engine.status();
        (status.partitions, status.sealed_spans, status.rollups[0].spans)
    };
    world.while_closed(|| {
        let mut guard = world.guard();
        // The first time that fails, and the second time it is known to.
        for _ in 0..2 {
            guard.look(no_room);
            assert_eq!(status(&world), (2, 8, 0));
        }
    });
    world.guard().look(no_room);
    assert_eq!(status(&world), (1, 4, 4));
    assert_eq!((world.counted("spans_not_rolled_up"), world.counted("segments_dropped_for_room")), (0, 1));
}

/// The committer says that the log cannot be written after its write has failed. If it works again by then, no other
/// write may come to take that back: clients are refused before their requests are read.
#[test]
fn a_refusal_that_comes_after_the_log_was_healed_goes() {
    let world = World::open(folder(), Setting::default());
    let mut guard = world.guard();
    world.state.set_refusing(Refusal::Log, Some("the log cannot be written".to_owned()));
    assert!(world.engine.ready().is_err());
    guard.look(disk_space(world.dir()).unwrap());
    assert_eq!(world.engine.ready(), Ok(()));
}

/// A group that is too large for what is free is refused alone, as often as its client tries. Smaller ones go on coming
/// meanwhile, and the log goes for the sake of the large one: not a segment a frame, but one a second.
#[test]
fn few_segments_are_cut_for_a_group_that_is_refused_alone() {
    let mut world = World::open(folder(), Setting::default());
    let mut nth = 0;
    let mut segments_after = |world: &mut World, frames: u8, full: Option<&str>| {
        for _ in 0..frames {
            world.commit(&[vec![span(1, SpanRef(nth, 0), BASE)]]);
            nth += 1;
            world.state.set_short_of_room(true);
            world.state.set_refusing(Refusal::Disk, full.map(str::to_owned));
            world.take_all();
            world.tick();
        }
        while world.cuts_waiting() > 0 {
            world.seal();
        }
        world.state.snapshot().sealed.len()
    };
    assert_eq!(segments_after(&mut world, 10, None), 1, "one at once");
    world.wait(1);
    assert_eq!(segments_after(&mut world, 10, None), 2, "and the next after a second");
    let full = Some("the disk is too full");
    assert_eq!(
        segments_after(&mut world, 3, full),
        5,
        "when nothing is taken any more, what there is at once"
    );
}
