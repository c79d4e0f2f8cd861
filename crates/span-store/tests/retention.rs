//! The promises of retention when nothing comes any more: the last partition goes too, and what comes after it is told
//! from what was before.

#![allow(clippy::unwrap_used, reason = "a test")]

#[allow(dead_code, reason = "other tests use the rest")]
mod sample;

use std::path::Path;

use sample::{HOUR, noise, open, options, publish, request};
use segment::{Blocks, Key};
use span_store::{SegmentId, SpanStore, StoreOptions};
use trace_model::{NanoDuration, UnixNanos};

const DAY: u64 = 24 * HOUR;
/// When the last segment arrives.
const AT: u64 = 100 * DAY;

/// A store that keeps a day, in partitions of an hour.
fn store(dir: &Path) -> SpanStore {
    let kept = NanoDuration(DAY);
    SpanStore::open(dir, StoreOptions { retention: kept, ..options() }).unwrap().0
}

/// Lets retention take what it takes.
fn retain(store: &SpanStore, now: u64) -> usize {
    let expired = store.expired(UnixNanos(now));
    expired.iter().for_each(|gone| store.begin_retirement(gone.partition).unwrap().finish());
    expired.len()
}

#[test]
fn the_last_partition_goes_by_age_and_its_numbers_are_not_used_again() {
    let dir = tempfile::tempdir().unwrap();
    let first = store(dir.path());
    for seq in 1..=4 {
        first.append(&[request(seq)], UnixNanos(seq)).unwrap();
    }
    let ids = [publish(&first, AT, (1, 3)).handle.id(), publish(&first, AT, (4, 4)).handle.id()];
    assert_eq!(ids, [SegmentId(0), SegmentId(1)]);
    assert_eq!(retain(&first, AT + HOUR + DAY - 1), 0);
    assert_eq!(retain(&first, AT + HOUR + DAY), 1);
    assert_eq!((first.size().partitions, first.size().segment_bytes), (0, 0));
    assert_eq!((retain(&first, u64::MAX), first.oldest_partition()), (0, None));
    drop(first);
    let again = store(dir.path());
    assert_eq!((again.frames_to_replay(), again.sealed_seq()), (0, 4));
    assert_eq!(
        publish(&again, AT + 3 * DAY, (0, 0)).handle.id(),
        SegmentId(2),
        "a rollup may name the others"
    );
    assert_eq!(again.append(&[request(5)], UnixNanos(5)).unwrap(), 5);
}

#[test]
fn what_is_sealed_by_a_clock_that_went_back_does_not_go_with_the_partition_of_that_time() {
    let dir = tempfile::tempdir().unwrap();
    let first = store(dir.path());
    let read = publish(&first, AT, (0, 0)).handle;
    assert_eq!(retain(&first, AT + 2 * DAY), 1);
    let late: Vec<_> = (0..2).map(|_| publish(&first, AT, (0, 0)).handle).collect();
    assert_eq!((late[0].partition(), first.size().partitions), (late[1].partition(), 1));
    drop(read);
    first.keep_house().unwrap();
    let chunk = noise(3, 5_000);
    assert!(late.iter().all(|handle| handle.get(Key::Chunk(3)).unwrap().as_ref() == Some(&chunk)));
    drop((first, late));
    assert_eq!(open(dir.path()).segments, [1, 2].into());
}
