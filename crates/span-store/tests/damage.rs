//! The promises of the store when its files are damaged: it opens, serves the rest, and says what is lost, to the
//! frame.

#![allow(clippy::unwrap_used, reason = "a test")]

mod sample;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use prost::Message as _;
use sample::{HOUR, LAST, SEALED, SEGMENTS, copy, files, make, noise, open, options, publish, request};
use segment::{Blocks, BuildError, Key, SegmentMeta};
use span_store::{Replayed, SpanStore, StoreOptions};
use trace_model::UnixNanos;

fn flip(path: &Path, at: u64) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[at as usize] ^= 0x55;
    std::fs::write(path, bytes).unwrap();
}

fn places(length: u64) -> Vec<u64> {
    let mut places: Vec<u64> = (0..8).chain((1..16).map(|n| length * n / 16)).collect();
    places.extend(length.saturating_sub(8)..length);
    places.retain(|&at| at < length);
    places
}

#[test]
fn a_whole_store_says_nothing() {
    let dir = tempfile::tempdir().unwrap();
    make(dir.path());
    let found = open(dir.path());
    assert_eq!(found.frames, (SEALED + 1..=LAST).collect());
    assert_eq!((found.lost.len(), found.segments.len()), (0, SEGMENTS as usize));
    assert_eq!((found.damaged, found.torn_log_end), (Vec::<String>::new(), None));
}

#[test]
fn a_flipped_byte_anywhere_in_the_log_costs_the_frames_it_hits_and_no_other() {
    let original = tempfile::tempdir().unwrap();
    make(original.path());
    for file in files(original.path(), ".log") {
        for at in places(file.metadata().unwrap().len()) {
            let dir = tempfile::tempdir().unwrap();
            copy(original.path(), dir.path());
            let name = file.file_name().unwrap();
            flip(&dir.path().join("rocksdb").join(name), at);
            let found = open(dir.path());
            let case = format!("{name:?} flipped at {at}: {found:?}");
            assert_eq!(found.segments.len(), SEGMENTS as usize, "{case}");
            // A block of 32 KiB holds at most 11 frames and the ends of two more.
            let gone: Vec<u64> = (SEALED + 1..=LAST).filter(|seq| !found.frames.contains(seq)).collect();
            assert!(gone.len() <= 13, "{case}");
            assert!(gone.windows(2).all(|pair| pair[1] == pair[0] + 1), "{case}");
            // Told one by one, but for the last of all, of which nothing else is known.
            let known: Vec<u64> =
                gone.iter().copied().filter(|&seq| seq < *found.frames.last().unwrap()).collect();
            assert!(known.iter().all(|seq| found.lost.contains(seq)), "{case}");
            assert!(found.lost.iter().all(|seq| gone.contains(seq)), "{case}");
            let said = found.damaged.iter().any(|text| text.starts_with("log: "));
            assert!(said || gone.is_empty(), "{case}");
        }
    }
}

/// A store of frames alone, in one log file, whose path within a copy this tells, and its length.
fn make_log(dir: &Path, frames: u64) -> (PathBuf, u64) {
    let (store, ..) = SpanStore::open(dir, StoreOptions::default()).unwrap();
    for seq in 1..=frames {
        store.append(&[request(seq)], UnixNanos(seq)).unwrap();
    }
    drop(store);
    let mut logs = files(dir, ".log");
    let log = logs.pop().unwrap();
    let length = log.metadata().unwrap().len();
    assert!(length > frames * 3_000, "all of them are in the newest");
    (PathBuf::from("rocksdb").join(log.file_name().unwrap()), length)
}

#[test]
fn a_damaged_last_frame_is_named_and_a_torn_one_is_no_damage() {
    let original = tempfile::tempdir().unwrap();
    let (log, length) = make_log(original.path(), 30);
    for back in [1, 700, 2_900] {
        let dir = tempfile::tempdir().unwrap();
        copy(original.path(), dir.path());
        flip(&dir.path().join(&log), length - back);
        let found = open(dir.path());
        assert_eq!((found.frames.last(), found.damaged.len()), (Some(&29), 1), "{found:?}");
        let text = &found.damaged[0];
        assert!(text.starts_with("log: ") && text.contains("after frame 29"), "{text}");
        assert!(dir.path().join("damaged/log-0").is_dir(), "what it had is kept");
        let torn = tempfile::tempdir().unwrap();
        copy(original.path(), torn.path());
        let file = std::fs::OpenOptions::new().write(true).open(torn.path().join(&log)).unwrap();
        file.set_len(length - back).unwrap();
        let found = open(torn.path());
        assert_eq!((found.frames.last(), found.damaged.len()), (Some(&29), 0), "{found:?}");
        let said = found.torn_log_end.unwrap();
        let name = log.file_name().unwrap().to_str().unwrap();
        assert!(said.contains(&format!("of {name} after frame 29:")), "{said}");
        // Where the record begins that is not whole.
        let at: u64 =
            said.split_once("at byte ").and_then(|(_, rest)| rest.split(' ').next()?.parse().ok()).unwrap();
        assert!((length - 3_200..=length - back).contains(&at), "{said}");
    }
}

#[test]
fn the_log_goes_on_after_an_end_that_was_damaged() {
    let dir = tempfile::tempdir().unwrap();
    let (log, length) = make_log(dir.path(), 30);
    flip(&dir.path().join(log), length - 1);
    let (store, ..) = SpanStore::open(dir.path(), StoreOptions::default()).unwrap();
    for seq in 30..=40 {
        assert_eq!(store.append(&[request(seq)], UnixNanos(seq)).unwrap(), seq);
    }
    drop(store);
    let found = open(dir.path());
    assert_eq!((found.frames, found.damaged), ((1..=40).collect(), Vec::new()));
}

#[test]
fn a_log_file_that_is_cut_or_gone_costs_its_frames_and_no_other() {
    let original = tempfile::tempdir().unwrap();
    make(original.path());
    let logs = files(original.path(), ".log");
    let newest = logs.last().unwrap();
    for file in &logs {
        let length = file.metadata().unwrap().len();
        for keep in [None, Some(0), Some(length / 3), Some(length.saturating_sub(1))] {
            let dir = tempfile::tempdir().unwrap();
            copy(original.path(), dir.path());
            let damaged = dir.path().join("rocksdb").join(file.file_name().unwrap());
            match keep {
                None => std::fs::remove_file(&damaged).unwrap(),
                Some(keep) => {
                    std::fs::OpenOptions::new().write(true).open(&damaged).unwrap().set_len(keep).unwrap();
                }
            }
            let found = open(dir.path());
            let case = format!("{file:?} cut to {keep:?} of {length}: {found:?}");
            assert_eq!(found.segments.len(), SEGMENTS as usize, "{case}");
            let gone: BTreeSet<u64> = (SEALED + 1..=LAST).filter(|seq| !found.frames.contains(seq)).collect();
            if file == newest {
                // What was in the newest alone is known to no other file.
                assert!(found.lost.is_subset(&gone), "{case}");
            } else {
                assert_eq!(found.lost, gone, "{case}");
            }
        }
    }
}

#[test]
fn a_flipped_byte_anywhere_in_a_segment_costs_that_segment_at_most() {
    let original = tempfile::tempdir().unwrap();
    make(original.path());
    for file in files(original.path(), ".sst").into_iter().filter(|f| f.metadata().unwrap().len() > 10_000) {
        for at in places(file.metadata().unwrap().len()) {
            let dir = tempfile::tempdir().unwrap();
            copy(original.path(), dir.path());
            let name = file.file_name().unwrap();
            flip(&dir.path().join("rocksdb").join(name), at);
            let found = open(dir.path());
            let case = format!("{name:?} flipped at {at}: {found:?}");
            assert!(found.segments.len() as u32 >= SEGMENTS - 1, "{case}");
            assert!(found.frames.is_superset(&(SEALED + 1..=LAST).collect()), "{case}");
        }
    }
}

/// RocksDB reads the block before a segment's meta on the way to it from behind.
#[test]
fn a_damaged_block_before_its_meta_costs_a_segment_that_block_alone() {
    let dir = tempfile::tempdir().unwrap();
    let (store, ..) = SpanStore::open(dir.path(), options()).unwrap();
    let blocks = [noise(1, 40_000), noise(2, 40_000)];
    let published = store.publish(UnixNanos(0), &mut |sink| {
        let meta = SegmentMeta { format: segment::FORMAT, seq_high: 2, ..SegmentMeta::default() };
        for (number, block) in (0..).zip(&blocks) {
            sink(Key::Chunk(number), block).map_err(BuildError::Sink)?;
        }
        sink(Key::Meta, &meta.encode_to_vec()).map_err(BuildError::Sink)?;
        Ok(meta)
    });
    drop((published.unwrap(), store));
    let path = &files(dir.path(), ".sst")[0];
    let file = std::fs::read(path).unwrap();
    let at = file.windows(32).position(|bytes| *bytes == blocks[1][20_000..20_032]).unwrap();
    flip(path, at as u64);
    let (_store, segments, damaged) = SpanStore::open(dir.path(), options()).unwrap();
    assert_eq!((segments.len(), damaged), (1, Vec::new()));
    let handle = &segments[0].handle;
    assert_eq!(handle.get(Key::Chunk(0)).unwrap().unwrap(), blocks[0]);
    handle.get(Key::Chunk(1)).unwrap_err();
}

#[test]
fn a_missing_file_of_a_segment_costs_that_segment_and_is_remembered() {
    let original = tempfile::tempdir().unwrap();
    make(original.path());
    for file in files(original.path(), ".sst").into_iter().filter(|f| f.metadata().unwrap().len() > 10_000) {
        for keep in [None, Some(0), Some(20_000)] {
            let dir = tempfile::tempdir().unwrap();
            copy(original.path(), dir.path());
            let path = dir.path().join("rocksdb").join(file.file_name().unwrap());
            match keep {
                None => std::fs::remove_file(&path).unwrap(),
                Some(keep) => {
                    std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(keep).unwrap()
                }
            }
            for round in 0..2 {
                let found = open(dir.path());
                let case = format!("{path:?} cut to {keep:?}, round {round}: {found:?}");
                assert_eq!(found.segments.len() as u32, SEGMENTS - 1, "{case}");
                assert!(found.frames.is_superset(&(SEALED + 1..=LAST).collect()), "{case}");
                assert_eq!(found.damaged.len(), 1, "{case}");
                assert!(found.damaged[0].starts_with("segment "), "{case}");
            }
        }
    }
}

#[test]
fn the_size_of_the_log_is_known_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let (store, ..) = SpanStore::open(dir.path(), StoreOptions::default()).unwrap();
    for seq in 1..=9 {
        store.append(&[request(seq)], UnixNanos(seq)).unwrap();
    }
    let before = store.size().log_bytes;
    assert!(before > 27_000);
    drop(store);
    let (store, ..) = SpanStore::open(dir.path(), StoreOptions::default()).unwrap();
    assert_eq!(store.size().log_bytes, before);
}

#[test]
fn opening_again_keeps_every_frame_and_every_reader() {
    let dir = tempfile::tempdir().unwrap();
    let (store, ..) = SpanStore::open(dir.path(), options()).unwrap();
    let segment = publish(&store, HOUR, (0, 0));
    for seq in 1..=40 {
        assert_eq!(store.append(&[request(seq)], UnixNanos(seq)).unwrap(), seq);
        store.keep_house().unwrap();
        if seq % 7 == 0 {
            store.reopen().unwrap();
            assert_eq!(segment.handle.get(Key::Chunk(3)).unwrap().unwrap(), noise(3, 5_000));
        }
    }
    assert_eq!(store.size().reopened, 5);
    drop((store, segment));
    let found = open(dir.path());
    assert_eq!(found.frames, (1..=40).collect());
    assert!(found.lost.is_empty() && found.damaged.is_empty(), "{found:?}");
}

/// The file with the hole stays until what is in it is sealed.
#[test]
fn a_store_that_was_opened_with_a_hole_in_its_log_can_be_opened_again() {
    let original = tempfile::tempdir().unwrap();
    make(original.path());
    let length = |log: &Path| log.metadata().unwrap().len();
    let logs: Vec<PathBuf> =
        files(original.path(), ".log").into_iter().filter(|log| length(log) > 0).collect();
    assert!(logs.len() > 1);
    for log in logs {
        let dir = tempfile::tempdir().unwrap();
        copy(original.path(), dir.path());
        flip(&dir.path().join("rocksdb").join(log.file_name().unwrap()), length(&log) / 2);
        let (store, _, damaged) = SpanStore::open(dir.path(), options()).unwrap();
        assert_eq!(damaged.len(), 1, "{damaged:?}");
        let frames = || {
            let mut found = Vec::new();
            let mut each = |replayed: Replayed| {
                found.push((replayed.seq, replayed.frame.is_ok()));
                true
            };
            store.replay(0, &mut each).unwrap();
            found
        };
        let before = frames();
        assert!(before.iter().any(|(_, is_read)| *is_read));
        store.reopen().unwrap();
        assert_eq!(frames(), before);
        assert!(store.append(&[request(1_000)], UnixNanos(1)).unwrap() > LAST);
    }
}
