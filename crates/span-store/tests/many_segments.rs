//! A partition of many segments, whose metas several threads read.
#![allow(clippy::unwrap_used)] // A test that cannot unwrap has failed.

use prost::Message as _;
use segment::{BuildError, Key, SegmentMeta};
use span_store::{SpanStore, StoreOptions, StoredSegment};
use trace_model::UnixNanos;

/// Enough for four threads.
const SEGMENTS: u32 = 300;

fn publish(store: &SpanStore, nth: u32) -> StoredSegment {
    let meta = SegmentMeta { format: segment::FORMAT, spans: nth.into(), ..SegmentMeta::default() };
    // Some say what no meta says.
    let bytes = if nth % 100 == 50 { vec![0xff; 9] } else { meta.encode_to_vec() };
    store
        .publish(UnixNanos(1), &mut |sink| {
            sink(Key::Hashes, b"hashes").map_err(BuildError::Sink)?;
            sink(Key::Meta, &bytes).map_err(BuildError::Sink)?;
            Ok(meta.clone())
        })
        .unwrap()
}

#[test]
fn every_segment_is_found_in_order_and_every_damaged_one_reported_once() {
    let dir = tempfile::tempdir().unwrap();
    let (store, ..) = SpanStore::open(dir.path(), StoreOptions::default()).unwrap();
    let published: Vec<u32> = (0..SEGMENTS).map(|nth| publish(&store, nth).handle.id().0).collect();
    assert!(published.iter().copied().eq(0..SEGMENTS));
    drop(store);

    let (store, segments, damaged) = SpanStore::open(dir.path(), StoreOptions::default()).unwrap();
    let found: Vec<u32> = segments.iter().map(|stored| stored.handle.id().0).collect();
    assert!(found.iter().copied().eq((0..SEGMENTS).filter(|nth| nth % 100 != 50)), "{found:?}");
    assert!(segments.iter().all(|stored| stored.meta.spans == u64::from(stored.handle.id().0)));
    let of = |nth: u32| damaged.iter().filter(|text| text.starts_with(&format!("segment {nth} in "))).count();
    assert_eq!([of(50), of(150), of(250)], [1; 3], "{damaged:?}");
    assert_eq!(damaged.len(), 3);
    assert_eq!(publish(&store, SEGMENTS).handle.id().0, SEGMENTS, "no number is used twice");
}
