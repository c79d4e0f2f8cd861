//! A store of three segments and a log, and what is found of it when it is opened again.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use prost::Message;
use segment::{Blocks, BuildError, Key, SegmentMeta};
use span_store::{SpanStore, StoreOptions, StoredSegment};
use trace_model::UnixNanos;

pub(crate) const HOUR: u64 = 3_600_000_000_000;
pub(crate) const SEGMENTS: u32 = 3;
/// The frames that the segments hold.
pub(crate) const SEALED: u64 = 30;
pub(crate) const LAST: u64 = 70;

pub(crate) fn options() -> StoreOptions {
    StoreOptions { generation_bytes: 40_000, ..StoreOptions::default() }
}

/// Bytes that do not compress, so that places in files differ.
pub(crate) fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..length).map(|_| next()).collect()
}

pub(crate) fn request(seq: u64) -> Bytes {
    noise(seq, 3_000).into()
}

pub(crate) fn publish(store: &SpanStore, at: u64, frames: (u64, u64)) -> StoredSegment {
    store
        .publish(UnixNanos(at), &mut |sink| {
            let (seq_low, seq_high) = frames;
            let meta = SegmentMeta { format: segment::FORMAT, seq_low, seq_high, ..SegmentMeta::default() };
            for block in 0..8 {
                sink(Key::Chunk(block), &noise(seq_low + u64::from(block), 5_000))
                    .map_err(BuildError::Sink)?;
            }
            sink(Key::Meta, &meta.encode_to_vec()).map_err(BuildError::Sink)?;
            Ok(meta)
        })
        .unwrap()
}

/// Three segments in three partitions, two of them with ten frames each that are gone from the log, and forty
/// frames that are in the log alone.
pub(crate) fn make(dir: &Path) {
    let (store, ..) = SpanStore::open(dir, options()).unwrap();
    for seq in 1..=LAST {
        store.append(&[request(seq)], UnixNanos(seq)).unwrap();
        store.keep_house().unwrap();
        if seq <= SEALED && seq % 10 == 0 {
            publish(&store, (seq / 10) * 12 * HOUR, (seq - 9, seq));
        }
    }
}

/// What a store says after it was damaged.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) frames: BTreeSet<u64>,
    pub(crate) lost: BTreeSet<u64>,
    pub(crate) segments: BTreeSet<u32>,
    pub(crate) damaged: Vec<String>,
    pub(crate) torn_log_end: Option<String>,
}

pub(crate) fn open(dir: &Path) -> Found {
    let (store, segments, damaged) = SpanStore::open(dir, options()).unwrap();
    let (mut frames, mut lost) = (BTreeSet::new(), BTreeSet::new());
    store
        .replay(0, &mut |replayed| {
            match replayed.frame {
                // From an earlier opening.
                Ok(_) if replayed.seq > LAST => {}
                Ok(frame) => {
                    assert_eq!(frame.requests, [request(replayed.seq)]);
                    frames.insert(replayed.seq);
                }
                Err(_) => {
                    lost.insert(replayed.seq);
                }
            }
            true
        })
        .unwrap();
    // It takes frames and seals again, whatever happened.
    let next = store.append(&[request(1_000)], UnixNanos(1)).unwrap();
    assert!(frames.last().is_none_or(|&last| next > last));
    store.keep_house().unwrap();
    let segments: BTreeSet<u32> = segments
        .into_iter()
        .filter(|stored| (0..8).all(|block| matches!(stored.handle.get(Key::Chunk(block)), Ok(Some(_)))))
        .map(|stored| stored.handle.id().0)
        .collect();
    let torn_log_end = store.torn_log_end().map(str::to_owned);
    Found { frames, lost, segments, damaged, torn_log_end }
}

pub(crate) fn files(dir: &Path, ending: &str) -> Vec<PathBuf> {
    let paths = std::fs::read_dir(dir.join("rocksdb")).unwrap().map(|entry| entry.unwrap().path());
    let mut found: Vec<PathBuf> = paths.filter(|path| path.to_string_lossy().ends_with(ending)).collect();
    found.sort();
    found
}

pub(crate) fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to.join("rocksdb")).unwrap();
    for path in files(from, "") {
        let name = path.file_name().unwrap();
        if name != "LOCK" && !name.to_string_lossy().starts_with("LOG") {
            std::fs::copy(&path, to.join("rocksdb").join(name)).unwrap();
        }
    }
}
