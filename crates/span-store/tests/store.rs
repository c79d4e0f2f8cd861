//! The promises of the store: the log comes back, segments come whole or not at all, retention is exact.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::path::{Path, PathBuf};

use bytes::Bytes;
use segment::{Blocks, BuildError, Key, SegmentMeta};
use span_store::{SegmentId, Sink, SpanStore, StoreError, StoreOptions, StoredSegment};
use trace_model::{NanoDuration, UnixNanos};

use prost::Message;

const HOUR: u64 = 3_600_000_000_000;
/// A partition of [`options`] is this wide.
const SLICE: u64 = HOUR;

fn options() -> StoreOptions {
    StoreOptions { retention: NanoDuration(24 * HOUR), generation_bytes: 200, ..StoreOptions::default() }
}

fn open(dir: &Path) -> (SpanStore, Vec<StoredSegment>) {
    let (store, segments, damaged) = SpanStore::open(dir, options()).unwrap();
    assert_eq!(damaged, Vec::<String>::new());
    (store, segments)
}

/// Three requests of frame `n`, the last with bytes that do not compress.
fn requests(n: u64) -> Vec<Bytes> {
    let mut noise = n.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let random = std::iter::repeat_with(move || {
        noise ^= noise << 13;
        noise ^= noise >> 7;
        noise ^= noise << 17;
        noise as u8
    });
    vec![Bytes::from(n.to_string()), Bytes::new(), random.take(60 + n as usize).collect()]
}

fn append(store: &SpanStore, frames: std::ops::RangeInclusive<u64>) {
    for n in frames {
        assert_eq!(store.append(&requests(n), UnixNanos(1_000 + n)).unwrap(), n);
        store.keep_house().unwrap();
    }
}

/// The numbers of the frames that are replayed; their contents are checked.
fn replayed(store: &SpanStore) -> Vec<u64> {
    let mut found = Vec::new();
    let mut each = |replayed: span_store::Replayed| {
        let frame = replayed.frame.unwrap();
        assert_eq!(frame.requests, requests(replayed.seq));
        assert_eq!(frame.arrival, UnixNanos(1_000 + replayed.seq));
        found.push(replayed.seq);
        true
    };
    store.replay(0, &mut each).unwrap();
    found
}

fn put_segment(sink: Sink<'_>, frames: (u64, u64), bytes: u64) -> Result<SegmentMeta, BuildError> {
    let (seq_low, seq_high) = frames;
    let meta = SegmentMeta { format: segment::FORMAT, seq_low, seq_high, bytes, ..SegmentMeta::default() };
    sink(Key::Hashes, b"hashes").map_err(BuildError::Sink)?;
    sink(Key::Chunk(7), b"chunk").map_err(BuildError::Sink)?;
    sink(Key::Meta, &meta.encode_to_vec()).map_err(BuildError::Sink)?;
    Ok(meta)
}

fn publish(store: &SpanStore, at: u64, frames: (u64, u64), bytes: u64) -> StoredSegment {
    store.publish(UnixNanos(at), &mut |sink| put_segment(sink, frames, bytes)).unwrap()
}

fn ids(segments: &[StoredSegment]) -> Vec<u32> {
    segments.iter().map(|stored| stored.handle.id().0).collect()
}

fn files(dir: &Path, ending: &str) -> Vec<PathBuf> {
    let paths = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    paths.filter(|path| path.to_string_lossy().ends_with(ending)).collect()
}

#[test]
fn frames_come_back_in_order_after_every_reopening() {
    let dir = tempfile::tempdir().unwrap();
    for round in 0..4 {
        let (store, segments) = open(dir.path());
        assert!(segments.is_empty());
        assert_eq!(replayed(&store), (1..=round * 10).collect::<Vec<_>>());
        append(&store, round * 10 + 1..=round * 10 + 10);
    }
}

#[test]
fn replay_stops_when_told_to() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    append(&store, 1..=5);
    assert_eq!(replayed(&store), Vec::<u64>::new(), "what this process wrote is not replayed to it");
    drop(store);
    let (store, _) = open(dir.path());
    let mut seen = 0;
    let mut each = |_| {
        seen += 1;
        seen < 3
    };
    store.replay(0, &mut each).unwrap();
    assert_eq!(seen, 3);
}

#[test]
fn sealed_frames_are_not_replayed_and_their_generations_go() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    append(&store, 1..=20);
    let before = store.size().log_bytes;
    publish(&store, HOUR, (1, 15), 1);
    store.keep_house().unwrap();
    assert!(store.size().log_bytes < before / 2);
    drop(store);
    let (store, segments) = open(dir.path());
    assert_eq!((segments.len(), store.sealed_seq()), (1, 15));
    assert_eq!(replayed(&store), [16, 17, 18, 19, 20]);
    append(&store, 21..=21);
    publish(&store, HOUR, (16, 21), 1);
    store.retire_log().unwrap();
    assert_eq!(store.size().log_bytes, 0);
    drop((store, segments));
    let (store, _) = open(dir.path());
    assert_eq!(replayed(&store), Vec::<u64>::new());
    append(&store, 22..=23);
    drop(store);
    assert_eq!(replayed(&open(dir.path()).0), [22, 23]);
}

/// RocksDB's own log would name every generation that ever was, and in the end be written anew for every line.
#[test]
fn generations_that_are_gone_leave_nothing_in_the_folder() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    for round in 0..20 {
        let frames = (round * 20 + 1, round * 20 + 20);
        append(&store, frames.0..=frames.1);
        publish(&store, HOUR, frames, 1);
        store.keep_house().unwrap();
    }
    store.retire_log().unwrap();
    let mut others = files(&dir.path().join("rocksdb"), "");
    others.retain(|path| path.extension().is_none_or(|ending| ending != "sst"));
    let bytes: u64 = others.iter().map(|path| path.metadata().map_or(0, |meta| meta.len())).sum();
    assert!(bytes < 256 << 10, "{bytes} bytes after hundreds of generations");
}

#[test]
fn a_segment_is_read_back_before_and_after_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let first = publish(&store, HOUR, (0, 0), 1);
    let second = publish(&store, HOUR, (0, 0), 2);
    let check = |stored: &StoredSegment, bytes: u64| {
        assert_eq!(stored.meta.bytes, bytes);
        assert_eq!(stored.handle.get(Key::Chunk(7)).unwrap().unwrap(), b"chunk");
        assert_eq!(stored.handle.get(Key::Chunk(8)).unwrap(), None);
    };
    check(&first, 1);
    check(&second, 2);
    drop((first, second, store));
    let (_store, segments) = open(dir.path());
    assert_eq!(ids(&segments), [0, 1]);
    check(&segments[0], 1);
    check(&segments[1], 2);
}

#[test]
fn a_build_that_fails_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    append(&store, 1..=3);
    for _ in 0..3 {
        let failed = store.publish(UnixNanos(HOUR), &mut |sink| {
            put_segment(sink, (1, 3), 1)?;
            Err(BuildError::Sink("no more room".to_owned()))
        });
        assert!(matches!(failed, Err(StoreError::Build(_))), "{failed:?}");
    }
    assert_eq!(files(&dir.path().join("ingest"), ""), Vec::<PathBuf>::new());
    assert_eq!(store.sealed_seq(), 0);
    drop(store);
    let (store, segments) = open(dir.path());
    assert!(segments.is_empty());
    assert_eq!(replayed(&store), [1, 2, 3]);
    publish(&store, HOUR, (1, 3), 1);
    drop(store);
    assert_eq!(open(dir.path()).1.len(), 1);
}

#[test]
fn a_segment_without_a_readable_meta_is_set_aside_and_its_number_not_used_again() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let whole = publish(&store, HOUR, (0, 0), 1).handle.id();
    store
        .publish(UnixNanos(HOUR), &mut |sink| {
            sink(Key::Chunk(7), b"old").map_err(BuildError::Sink)?;
            sink(Key::Meta, b"\xff\xff").map_err(BuildError::Sink)?;
            Ok(SegmentMeta::default())
        })
        .unwrap();
    drop(store);
    let (store, segments, damaged) = SpanStore::open(dir.path(), options()).unwrap();
    assert_eq!(ids(&segments), [whole.0]);
    assert_eq!(damaged.len(), 1);
    assert_eq!(publish(&store, HOUR, (0, 0), 1).handle.id(), SegmentId(2));
}

#[test]
fn a_folder_that_is_open_is_locked_and_the_files_at_work_stay() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let leftover = dir.path().join("ingest/segment-00000099.sst");
    std::fs::write(&leftover, b"half a segment").unwrap();
    let second = SpanStore::open(dir.path(), options());
    assert!(matches!(second, Err(StoreError::Locked(_))), "{second:?}");
    assert!(leftover.exists(), "it may be the other process's, at work on it");
    drop(store);
    let _store = open(dir.path());
    assert!(!leftover.exists(), "a crash left it behind");
}

#[test]
fn damage_is_not_taken_for_a_lock() {
    let dir = tempfile::tempdir().unwrap();
    let blocked = dir.path().join("block-LOCK");
    drop(open(&blocked));
    std::fs::write(blocked.join("rocksdb/CURRENT"), b"MANIFEST-block\n").unwrap();
    let result = SpanStore::open(&blocked, options());
    assert!(matches!(result, Err(StoreError::Catalog { .. })), "{result:?}");
}

/// Frames that come all the time would keep a generation that is not full for as long as it is not.
#[test]
fn without_room_the_log_goes_while_frames_come() {
    let dir = tempfile::tempdir().unwrap();
    let options = StoreOptions { generation_bytes: 1 << 20, ..options() };
    let (store, ..) = SpanStore::open(dir.path(), options).unwrap();
    append(&store, 1..=9);
    publish(&store, HOUR, (1, 8), 10);
    store.give_up_sealed_log().unwrap();
    let kept = store.size().log_bytes;
    append(&store, 10..=10);
    publish(&store, HOUR, (9, 9), 10);
    store.give_up_sealed_log().unwrap();
    assert!(store.size().log_bytes < kept / 2, "{} of {kept}", store.size().log_bytes);
    drop(store);
    assert_eq!(replayed(&open(dir.path()).0), [10]);
}

#[test]
fn a_torn_tail_of_the_log_costs_only_the_tail() {
    for torn in [1, 7, 40, 300] {
        let dir = tempfile::tempdir().unwrap();
        // One generation: RocksDB syncs a WAL that it closes, so only the last one can be torn.
        let options = StoreOptions { generation_bytes: 1 << 20, ..options() };
        let (store, ..) = SpanStore::open(dir.path(), options).unwrap();
        append(&store, 1..=9);
        // As a machine that loses power would leave it: a copy without the end of the newest file.
        let copy = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(copy.path().join("rocksdb")).unwrap();
        for path in files(&dir.path().join("rocksdb"), "") {
            if path.file_name().unwrap() != "LOCK" {
                std::fs::copy(&path, copy.path().join("rocksdb").join(path.file_name().unwrap())).unwrap();
            }
        }
        let mut logs = files(&copy.path().join("rocksdb"), ".log");
        logs.retain(|path| path.metadata().unwrap().len() > 0);
        logs.sort();
        let newest = std::fs::OpenOptions::new().write(true).open(logs.last().unwrap()).unwrap();
        newest.set_len(newest.metadata().unwrap().len().saturating_sub(torn)).unwrap();
        let (store, _) = open(copy.path());
        let found = replayed(&store);
        assert!((1..9).contains(&found.len()), "{torn} bytes torn: {found:?}");
        assert_eq!(found, (1..=found.len() as u64).collect::<Vec<_>>());
        let next = store.append(&[Bytes::from_static(b"next")], UnixNanos(1)).unwrap();
        assert_eq!(next, found.len() as u64 + 1);
    }
}

/// One segment in each of these slices, all of the same bytes, and the slices that retention takes at `now`.
fn expired(options: StoreOptions, slices: &[u64], now: u64) -> Vec<u64> {
    let dir = tempfile::tempdir().unwrap();
    let (store, ..) = SpanStore::open(dir.path(), options).unwrap();
    slices.iter().for_each(|slice| drop(publish(&store, slice * SLICE, (0, 0), 10)));
    store.expired(UnixNanos(now)).into_iter().map(|gone| gone.partition.begin.0 / SLICE).collect()
}

#[test]
fn age_takes_a_partition_when_its_last_instant_is_too_old() {
    let slices = [100, 100, 101, 103];
    let first_closed = 101 * SLICE;
    assert_eq!(expired(options(), &slices, first_closed + 24 * HOUR - 1), Vec::<u64>::new());
    assert_eq!(expired(options(), &slices, first_closed + 24 * HOUR), [100]);
    assert_eq!(expired(options(), &slices, first_closed + SLICE + 24 * HOUR), [100, 101]);
    let last_closed = 104 * SLICE;
    assert_eq!(expired(options(), &slices, last_closed + 24 * HOUR - 1), [100, 101]);
    assert_eq!(expired(options(), &slices, last_closed + 24 * HOUR), [100, 101, 103], "the newest as well");
    assert_eq!(expired(options(), &[], u64::MAX), Vec::<u64>::new());
}

#[test]
fn bytes_on_the_disk_take_the_oldest_partitions_until_the_rest_fits() {
    let dir = tempfile::tempdir().unwrap();
    let one = publish(&open(dir.path()).0, SLICE, (0, 0), 10).handle.disk_bytes();
    assert!(one > 500, "a file has more than its values: {one}");
    let slices = [100, 100, 101, 102];
    let with = |bytes_max| expired(StoreOptions { bytes_max, ..options() }, &slices, 103 * SLICE);
    assert_eq!(with(4 * one), Vec::<u64>::new());
    assert_eq!(with(4 * one - 1), [100]);
    assert_eq!(with(2 * one), [100]);
    assert_eq!(with(2 * one - 1), [100, 101]);
    assert_eq!(with(0), [100, 101], "the newest stays");
}

#[test]
fn bytes_are_known_after_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let bytes: Vec<u64> =
        (1..=3).map(|slice| publish(&store, slice * SLICE, (0, 0), 1).handle.disk_bytes()).collect();
    assert_eq!(store.size().segment_bytes, bytes.iter().sum::<u64>());
    drop(store);
    let (store, segments) = open(dir.path());
    assert_eq!(segments.iter().map(|stored| stored.handle.disk_bytes()).collect::<Vec<_>>(), bytes);
    assert_eq!(store.size().segment_bytes, bytes.iter().sum::<u64>());
}

#[test]
fn a_partition_goes_with_its_last_reader() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let old = publish(&store, 100 * SLICE, (0, 0), 10).handle;
    let new = publish(&store, 101 * SLICE, (0, 0), 10).handle;
    store.begin_retirement(old.partition()).unwrap().finish();
    assert_eq!(store.size().partitions, 1);
    store.keep_house().unwrap();
    assert_eq!(old.get(Key::Hashes).unwrap().unwrap(), b"hashes", "somebody is still at it");
    drop(old);
    store.keep_house().unwrap();
    let families = || rocksdb::DB::list_cf(&rocksdb::Options::default(), dir.path().join("rocksdb")).unwrap();
    assert_eq!(families().iter().filter(|family| family.starts_with("p-")).count(), 1);
    assert!(new.get(Key::Hashes).unwrap().is_some());
    drop((new, store));
    assert_eq!(ids(&open(dir.path()).1), [1]);
}

#[test]
fn frames_of_a_partition_that_is_gone_are_not_replayed() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    append(&store, 1..=4);
    let old = publish(&store, 100 * SLICE, (1, 4), 10).handle.partition();
    publish(&store, 101 * SLICE, (0, 0), 10);
    store.begin_retirement(old).unwrap().finish();
    drop(store);
    let (store, _) = open(dir.path());
    assert_eq!((replayed(&store), store.sealed_seq()), (Vec::new(), 4));
}

#[test]
fn another_retention_does_not_change_when_a_partition_ended() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    (0..3).for_each(|slice| drop(publish(&store, 1_000_000 * SLICE + slice * SLICE, (0, 0), 1)));
    drop(store);
    for days in [1, 30] {
        let options = StoreOptions { retention: NanoDuration(days * 24 * HOUR), ..options() };
        let (store, segments, _) = SpanStore::open(dir.path(), options).unwrap();
        assert_eq!(segments.len(), 3);
        let end = (1_000_001 * SLICE) + days * 24 * HOUR;
        assert_eq!(store.expired(UnixNanos(end - 1)), []);
        assert_eq!(store.expired(UnixNanos(end)).len(), 1);
    }
}

#[test]
fn a_full_partition_ends_early() {
    let dir = tempfile::tempdir().unwrap();
    let options = StoreOptions { bytes_max: 1 << 20, ..options() };
    let (store, ..) = SpanStore::open(dir.path(), options).unwrap();
    let big = |at: u64| {
        let noise: Vec<u8> =
            (0..40 << 20).map(|n: u32| n.wrapping_mul(2_654_435_761).to_le_bytes()[3]).collect();
        let stored = store.publish(UnixNanos(at), &mut |sink| {
            sink(Key::Hashes, &noise).map_err(BuildError::Sink)?;
            let meta = SegmentMeta { format: segment::FORMAT, ..SegmentMeta::default() };
            sink(Key::Meta, &meta.encode_to_vec()).map_err(BuildError::Sink)?;
            Ok(meta)
        });
        stored.unwrap().handle.partition()
    };
    let of = [big(HOUR + 1), big(HOUR + 2), big(HOUR + 3), big(HOUR + 4), big(2 * HOUR)];
    assert_eq!(of[0], of[1], "80 MiB are more than 64, and only then is it full");
    assert_eq!((of[2].begin.0, of[2].end.0), (HOUR + 3, 2 * HOUR));
    assert_eq!((of[2], of[4].begin.0), (of[3], 2 * HOUR));
}

#[test]
fn a_rollup_is_read_back_and_goes_with_its_file() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let publish = |text: &'static [u8]| {
        let stored = store.publish_rollup(&mut |sink| {
            sink(Key::Minute(3), text).map_err(BuildError::Sink)?;
            sink(Key::Meta, text).map_err(BuildError::Sink)
        });
        stored.unwrap()
    };
    let (first, second) = (publish(b"first"), publish(b"second"));
    assert!(first.number() < second.number() && first.disk_bytes() > 0);
    assert_eq!(first.get(Key::Minute(3)).unwrap().unwrap(), b"first");
    store.retire_rollup(&first);
    store.keep_house().unwrap();
    assert_eq!(first.get(Key::Minute(3)).unwrap().unwrap(), b"first", "somebody is still at it");
    let (number, bytes) = (second.number(), second.disk_bytes());
    drop((first, second));
    store.keep_house().unwrap();
    drop(store);
    let (store, _) = open(dir.path());
    let found = store.take_stored_rollups();
    assert_eq!(found.len(), 1, "the first one's file is gone");
    assert_eq!((found[0].handle.number(), found[0].handle.disk_bytes()), (number, bytes));
    assert_eq!(
        (&found[0].meta[..], found[0].handle.get(Key::Minute(3)).unwrap().unwrap()),
        (&b"second"[..], b"second".to_vec())
    );
    let failed = store.publish_rollup(&mut |sink| {
        sink(Key::Minute(3), b"half").map_err(BuildError::Sink)?;
        Err(BuildError::Sink("no more room".to_owned()))
    });
    assert!(failed.is_err());
    assert_eq!(files(&dir.path().join("ingest"), ""), Vec::<PathBuf>::new());
}

#[test]
fn a_store_of_a_newer_version_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()));
    let raw = rocksdb::DB::list_cf(&rocksdb::Options::default(), dir.path().join("rocksdb")).unwrap();
    let raw = rocksdb::DB::open_cf(&rocksdb::Options::default(), dir.path().join("rocksdb"), raw).unwrap();
    raw.put(b"\0schema", 7_u32.to_le_bytes()).unwrap();
    drop(raw);
    let error = SpanStore::open(dir.path(), options()).unwrap_err();
    assert!(error.to_string().contains("schema 7"), "{error}");
    let error = span_store::Inspection::open(dir.path()).unwrap_err();
    assert!(error.to_string().contains("use a newer longpole"), "{error}");
}

#[test]
fn a_segment_of_a_newer_version_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let newer = SegmentMeta { format: segment::FORMAT + 1, ..SegmentMeta::default() };
    let put = |sink: Sink<'_>| {
        sink(Key::Meta, &newer.encode_to_vec()).map_err(BuildError::Sink)?;
        Ok(newer.clone())
    };
    store.publish(UnixNanos(HOUR), &mut |sink| put(sink)).unwrap();
    drop(store);
    let error = SpanStore::open(dir.path(), options()).unwrap_err();
    assert!(matches!(error, StoreError::Format { segment: 0, .. }), "{error}");
}

#[test]
fn a_partition_of_which_nothing_can_be_read_goes_with_age() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let broken = store.publish(UnixNanos(100 * SLICE), &mut |sink| {
        sink(Key::Meta, b"\xff\xff").map_err(BuildError::Sink)?;
        Ok(SegmentMeta::default())
    });
    let name = broken.unwrap().handle.partition_name().to_owned();
    publish(&store, 101 * SLICE, (0, 0), 10);
    drop(store);
    let (store, segments, damaged) = SpanStore::open(dir.path(), options()).unwrap();
    assert_eq!((ids(&segments), damaged.len()), (vec![1], 1));
    assert!(damaged[0].contains(&name) && !store.names_gone_partition(&damaged[0]));
    assert_eq!(store.expired(UnixNanos(101 * SLICE + 24 * HOUR - 1)), []);
    for gone in store.expired(UnixNanos(101 * SLICE + 24 * HOUR)) {
        store.begin_retirement(gone.partition).unwrap().finish();
    }
    assert!(store.names_gone_partition(&damaged[0]) && !store.names_gone_partition("log frame 3: lost"));
    drop((segments, store));
    assert_eq!(ids(&open(dir.path()).1), [1]);
}

#[test]
fn a_backup_has_everything_up_to_it_and_restores_into_an_empty_folder_only() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(&dir.path().join("data"));
    append(&store, 1..=20);
    publish(&store, HOUR, (1, 15), 1);
    store.keep_house().unwrap();
    let (copy, back) = (dir.path().join("copy"), dir.path().join("back"));
    store.backup(&copy).unwrap();
    append(&store, 21..=22);
    assert!(matches!(store.backup(&copy), Err(StoreError::NotEmpty(_))));
    span_store::restore(&copy, &back).unwrap();
    assert!(matches!(span_store::restore(&copy, &back), Err(StoreError::NotEmpty(_))));
    assert!(matches!(span_store::restore(dir.path(), &dir.path().join("x")), Err(StoreError::NoStore(_))));
    // Also beside the process that has it open, and without changing anything.
    for (folder, last) in [(&back, 20), (&dir.path().join("data"), 22)] {
        let (look, segments, damaged) = span_store::Inspection::open(folder).unwrap();
        let mut frames = Vec::new();
        look.frames(&mut |read| {
            frames.push((read.seq, read.frame.is_ok()));
            true
        })
        .unwrap();
        assert_eq!(frames, (16..=last).map(|seq| (seq, true)).collect::<Vec<_>>());
        assert_eq!((ids(&segments), damaged.len()), (vec![0], 0));
        assert_eq!(look.read_all(&segments[0].handle).unwrap(), 3);
    }
    drop(store);
    let (store, segments) = open(&back);
    assert_eq!(replayed(&store), [16, 17, 18, 19, 20]);
    assert_eq!(ids(&segments), [0]);
}
