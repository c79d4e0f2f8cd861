//! The promise of the store while its database cannot be opened again: what fails is forgotten by nobody, and works
//! afterwards.

#![allow(clippy::unwrap_used, reason = "a test")]

#[allow(dead_code, reason = "other tests use the rest")]
mod sample;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use sample::{HOUR, noise, open, options, publish, request};
use segment::{Blocks, Key};
use span_store::{SpanStore, StoreError};
use trace_model::UnixNanos;

/// Closes the database by opening it again in vain; opens it after `closed`.
fn while_closed(store: &SpanStore, closed: impl FnOnce()) {
    let current = store.dir().join("rocksdb/CURRENT");
    let whole = std::fs::read(&current).unwrap();
    std::fs::write(&current, b"MANIFEST-none\n").unwrap();
    store.reopen().unwrap_err();
    closed();
    std::fs::write(&current, whole).unwrap();
    store.reopen().unwrap();
}

fn families(dir: &Path, prefix: &str) -> usize {
    let families = rocksdb::DB::list_cf(&rocksdb::Options::default(), dir.join("rocksdb")).unwrap();
    families.iter().filter(|family| family.starts_with(prefix)).count()
}

#[test]
fn a_generation_that_cannot_be_dropped_counts_until_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let (store, ..) = SpanStore::open(dir.path(), options()).unwrap();
    for seq in 1..=40 {
        store.append(&[request(seq)], UnixNanos(seq)).unwrap();
        store.keep_house().unwrap();
    }
    publish(&store, HOUR, (1, 40));
    let before = (store.size().log_bytes, families(dir.path(), "log-"));
    while_closed(&store, || {
        assert!(matches!(store.keep_house(), Err(StoreError::Closed)));
        assert_eq!(store.size().log_bytes, before.0);
    });
    store.keep_house().unwrap();
    assert!(store.size().log_bytes < before.0 / 2, "{before:?}, {}", store.size().log_bytes);
    assert!(families(dir.path(), "log-") < before.1);
    drop(store);
    assert_eq!(open(dir.path()).frames, BTreeSet::new());
}

/// RocksDB would begin anew and delete what it does not know.
#[test]
fn a_database_whose_catalog_went_is_not_opened_again_and_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (store, ..) = SpanStore::open(dir.path(), options()).unwrap();
    let stored = publish(&store, HOUR, (0, 0)).handle;
    let (current, aside) = (dir.path().join("rocksdb/CURRENT"), dir.path().join("CURRENT"));
    std::fs::rename(&current, &aside).unwrap();
    assert!(matches!(store.reopen(), Err(StoreError::Catalog { .. })));
    assert_eq!(stored.get(Key::Chunk(3)).unwrap(), Some(noise(3, 5_000)), "it still reads");
    std::fs::rename(&aside, &current).unwrap();
    store.reopen().unwrap();
    assert_eq!(stored.get(Key::Chunk(3)).unwrap(), Some(noise(3, 5_000)));
}

#[test]
fn a_partition_stays_if_it_cannot_be_noted_what_was_sealed() {
    let dir = tempfile::tempdir().unwrap();
    let (store, ..) = SpanStore::open(dir.path(), options()).unwrap();
    for seq in 1..=4 {
        store.append(&[request(seq)], UnixNanos(seq)).unwrap();
    }
    let old = publish(&store, 100 * HOUR, (1, 4)).handle.partition();
    publish(&store, 200 * HOUR, (0, 0));
    while_closed(&store, || {
        assert!(matches!(store.begin_retirement(old), Err(StoreError::Closed)));
    });
    store.keep_house().unwrap();
    assert_eq!((store.size().partitions, families(dir.path(), "p-")), (2, 2));
    store.begin_retirement(old).unwrap().finish();
    assert_eq!((store.size().partitions, families(dir.path(), "p-")), (1, 1));
    drop(store);
    let found = open(dir.path());
    assert!(found.frames.is_empty() && found.lost.is_empty(), "{found:?}");
}

/// Whoever reads many metas asks for the database many times, and opening it again waits for each to end.
#[test]
fn a_merge_begins_while_the_database_is_opened_again() {
    let dir = tempfile::tempdir().unwrap();
    let (store, ..) = SpanStore::open(dir.path(), options()).unwrap();
    let segments: Vec<_> = (0..300).map(|_| publish(&store, HOUR, (0, 0)).handle).collect();
    let done = AtomicBool::new(false);
    let began = std::thread::scope(|scope| {
        let merging = scope.spawn(|| {
            let mut began = 0;
            while !done.load(Ordering::Acquire) {
                began += usize::from(matches!(store.begin_rewrite(&segments), Ok(Some(_))));
            }
            began
        });
        (0..100).for_each(|_| store.reopen().unwrap());
        done.store(true, Ordering::Release);
        merging.join().unwrap()
    });
    assert!(began > 0);
    assert_eq!(store.size().reopened, 100);
}
