//! The promise of the store when a newer version wrote to it: that is refused by name, and nothing is lost by the try.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::path::Path;

use bytes::Bytes;
use prost::Message;
use segment::{BuildError, Key, SegmentMeta};
use span_store::{FrameError, Inspection, Replayed, SpanStore, StoreError, StoreOptions};
use trace_model::UnixNanos;

/// A store of so many frames.
fn make(dir: &Path, frames: u64) -> SpanStore {
    let (store, ..) = SpanStore::open(dir, StoreOptions::default()).unwrap();
    for seq in 1..=frames {
        store.append(&[Bytes::from_static(b"request")], UnixNanos(seq)).unwrap();
    }
    store
}

/// What is wrong with each frame that is not sealed.
fn replayed(dir: &Path) -> Vec<Option<FrameError>> {
    let (store, ..) = SpanStore::open(dir, StoreOptions::default()).unwrap();
    let mut found = Vec::new();
    let mut each = |replayed: Replayed| {
        found.push(replayed.frame.err());
        true
    };
    store.replay(0, &mut each).unwrap();
    found
}

/// Puts other bytes in the place of a frame.
fn overwrite(dir: &Path, seq: u64, change: &dyn Fn(&mut Vec<u8>)) {
    let (dir, options) = (dir.join("rocksdb"), rocksdb::Options::default());
    let families = rocksdb::DB::list_cf(&options, &dir).unwrap();
    let db = rocksdb::DB::open_cf(&options, &dir, &families).unwrap();
    for name in families.iter().filter(|name| name.starts_with("log-")) {
        let family = db.cf_handle(name).unwrap();
        if let Some(mut frame) = db.get_cf(&family, seq.to_be_bytes()).unwrap() {
            change(&mut frame);
            db.put_cf(&family, seq.to_be_bytes(), frame).unwrap();
        }
    }
}

/// Makes it a frame of another version, as every later one begins.
fn make_newer(frame: &mut [u8], version: u8) {
    frame[0] = version;
    let checksum = xxhash_rust::xxh3::xxh3_64_with_seed(&frame[9..], version.into());
    frame[1..9].copy_from_slice(&checksum.to_le_bytes());
}

#[test]
fn a_frame_of_a_newer_version_is_refused_by_name_and_one_whose_version_was_hit_is_damaged() {
    let dir = tempfile::tempdir().unwrap();
    drop(make(dir.path(), 5));
    overwrite(dir.path(), 2, &|frame| frame[0] = 9);
    assert_eq!(replayed(dir.path()), [None, Some(FrameError::Damaged), None, None, None]);
    overwrite(dir.path(), 4, &|frame| make_newer(frame, 9));
    for _ in 0..2 {
        let refused = SpanStore::open(dir.path(), StoreOptions::default()).map(drop).unwrap_err();
        assert!(matches!(refused, StoreError::FrameVersion { frame: 4, found: 9, known: 2 }), "{refused}");
        assert!(refused.to_string().contains("version 9"), "{refused}");
        let refused = Inspection::open(dir.path()).map(drop).unwrap_err();
        assert!(matches!(refused, StoreError::FrameVersion { frame: 4, .. }), "{refused}");
    }
}

#[test]
fn a_sealed_frame_of_a_newer_version_is_not_missed() {
    let dir = tempfile::tempdir().unwrap();
    let store = make(dir.path(), 2);
    let seal = store.publish(UnixNanos(1), &mut |sink| {
        let meta = SegmentMeta { format: segment::FORMAT, seq_low: 1, seq_high: 2, ..SegmentMeta::default() };
        sink(Key::Meta, &meta.encode_to_vec()).map_err(BuildError::Sink)?;
        Ok(meta)
    });
    drop((seal.unwrap(), store));
    overwrite(dir.path(), 2, &|frame| make_newer(frame, 3));
    assert_eq!(replayed(dir.path()), []);
}
