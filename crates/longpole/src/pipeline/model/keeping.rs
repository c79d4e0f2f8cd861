//! What the keeper does while the store fails.

use super::life::folder;
use super::spans::BASE;
use super::step::{SpanRef, span};
use super::world::{Setting, World};

/// Nothing can be told of the partition then. To take it for one that cannot be merged would leave it as it is until
/// the next start.
#[test]
fn a_partition_that_could_not_be_looked_at_is_merged_later() {
    let mut world = World::open(folder(), Setting::default());
    for trace in 0..3 {
        world.commit(&[vec![span(1, SpanRef(trace, 0), BASE)]]);
        world.seal_all();
    }
    // Until the partition is over.
    world.wait(2 * 86_400);
    let mut keeper = world.keeper();
    world.while_closed(|| keeper.merge());
    let merged = || world.state.housekeeping.lock().merged;
    assert_eq!((merged().partitions, merged().failed), (0, 1));
    keeper.merge();
    assert_eq!((merged().partitions, merged().segments_after), (1, 1));
    assert_eq!(world.engine.status().sealed_spans, 3);
}
