//! Dictionaries are there before the segments that name them, as long as these, and no longer.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::path::{Path, PathBuf};

use bytes::Bytes;
use prost::Message;
use segment::{Blocks, BuildError, Dictionary, Key, SegmentMeta};
use span_store::{Inspection, SpanStore, StoreOptions, StoredSegment, repair, restore};
use trace_model::{NanoDuration, UnixNanos};

const HOUR: u64 = 3_600_000_000_000;

fn open(dir: &Path) -> (SpanStore, Vec<StoredSegment>, Vec<String>) {
    let options = StoreOptions { slice: Some(NanoDuration(HOUR)), ..StoreOptions::default() };
    SpanStore::open(dir, options).unwrap()
}

/// A segment that names this dictionary.
fn publish(store: &SpanStore, hour: u64, dictionary: u32) -> StoredSegment {
    let meta = SegmentMeta { format: segment::FORMAT, dictionary, ..SegmentMeta::default() };
    let stored = store.publish(UnixNanos(hour * HOUR), &mut |sink| {
        sink(Key::Hashes, b"hashes").map_err(BuildError::Sink)?;
        sink(Key::Meta, &meta.encode_to_vec()).map_err(BuildError::Sink)?;
        Ok(meta.clone())
    });
    stored.unwrap()
}

fn add(store: &SpanStore, words: &str) -> u32 {
    store.add_dictionary(words.as_bytes()).unwrap().unwrap().id()
}

fn named(segments: &[StoredSegment]) -> Vec<(u32, String)> {
    let words = |stored: &StoredSegment| {
        let bytes = stored.handle.dictionary().map_or(&b""[..], Dictionary::bytes);
        (stored.handle.id().0, String::from_utf8(bytes.to_vec()).unwrap())
    };
    segments.iter().map(words).collect()
}

/// The folder as a crash at this moment would leave it.
fn copy(from: &Path) -> tempfile::TempDir {
    let to = tempfile::tempdir().unwrap();
    std::fs::create_dir(to.path().join("rocksdb")).unwrap();
    for entry in std::fs::read_dir(from.join("rocksdb")).unwrap().map(Result::unwrap) {
        if entry.file_name() != "LOCK" && entry.file_type().unwrap().is_file() {
            std::fs::copy(entry.path(), to.path().join("rocksdb").join(entry.file_name())).unwrap();
        }
    }
    to
}

/// Writes to the catalog past the store.
fn raw(dir: &Path, change: impl FnOnce(&rocksdb::DB)) {
    let path = dir.join("rocksdb");
    let families = rocksdb::DB::list_cf(&rocksdb::Options::default(), &path).unwrap();
    change(&rocksdb::DB::open_cf(&rocksdb::Options::default(), &path, families).unwrap());
}

fn key(id: u8) -> [u8; 5] {
    [2, 0, 0, 0, id]
}

fn drop_file(db: &rocksdb::DB, id: u8) {
    let key = [b"dictionary", &[0, 0, 0, id][..]].concat();
    db.delete_file_in_range_cf(&db.cf_handle("dictionary").unwrap(), &key, &key).unwrap();
}

/// The files of dictionaries.
fn dictionary_files(dir: &Path) -> Vec<PathBuf> {
    let paths = std::fs::read_dir(dir.join("rocksdb")).unwrap().map(|entry| entry.unwrap().path());
    let is_one = |path: &PathBuf| {
        let bytes = std::fs::read(path).unwrap();
        path.extension().is_some_and(|ending| ending == "sst")
            && bytes.windows(13).any(|at| at == b"dictionary\0\0\0")
    };
    let mut found: Vec<PathBuf> = paths.filter(is_one).collect();
    found.sort();
    found
}

/// A store with a segment for each of two dictionaries and one without, and what is read of it.
fn two() -> (tempfile::TempDir, Vec<(u32, String)>) {
    let dir = tempfile::tempdir().unwrap();
    let (store, ..) = open(dir.path());
    add(&store, "words");
    add(&store, "other words");
    let segments = [1, 0, 2].map(|dictionary| publish(&store, 1, dictionary));
    (dir, named(&segments))
}

fn looked_at(dir: &Path) -> (Vec<(u32, String)>, Vec<String>) {
    let (_inspection, segments, problems) = Inspection::open(dir).unwrap();
    (named(&segments), problems)
}

#[test]
fn segments_of_two_dictionaries_and_of_none_are_read_side_by_side() {
    let dir = tempfile::tempdir().unwrap();
    let (store, ..) = open(dir.path());
    assert!(store.dictionary().is_none());
    publish(&store, 1, 0);
    assert_eq!(add(&store, "the first words"), 1);
    publish(&store, 1, 1);
    assert_eq!(add(&store, "other words, later"), 2);
    let last = publish(&store, 1, 2);
    assert_eq!(named(&[last]), [(2, "other words, later".to_owned())]);
    drop(store);
    let (store, segments, damaged) = open(dir.path());
    assert_eq!(damaged, Vec::<String>::new());
    let wanted = [(0, ""), (1, "the first words"), (2, "other words, later")];
    assert_eq!(named(&segments), wanted.map(|(id, words)| (id, words.to_owned())));
    assert_eq!((store.dictionary().unwrap().id(), store.dictionaries()), (2, 2));
    // A checkpoint and whoever looks at the store have them as well.
    store.append(&[Bytes::from("x")], UnixNanos(HOUR)).unwrap();
    let (_inspection, seen, damaged) = Inspection::open(dir.path()).unwrap();
    assert_eq!((named(&seen), damaged), (named(&segments), Vec::new()));
}

#[test]
fn a_crash_between_dictionary_and_segment_leaves_the_dictionary() {
    let dir = tempfile::tempdir().unwrap();
    let (store, ..) = open(dir.path());
    add(&store, "words");
    let before = copy(dir.path());
    publish(&store, 1, 1);
    let after = copy(dir.path());
    for (image, segments) in [(&before, 0), (&after, 1)] {
        let (store, found, damaged) = open(image.path());
        assert_eq!((found.len(), damaged), (segments, Vec::new()));
        assert_eq!(store.dictionary().unwrap().bytes(), b"words");
        assert_eq!(store.drop_dictionaries().unwrap(), 0, "it is the newest");
    }
}

#[test]
fn segments_whose_dictionary_is_missing_or_damaged_are_set_aside_and_the_rest_serves() {
    for damage in [None, Some(&b"some bytes that it was not"[..]), Some(b"")] {
        let dir = tempfile::tempdir().unwrap();
        let (store, ..) = open(dir.path());
        add(&store, "words");
        add(&store, "other words");
        for dictionary in [1, 0, 2, 1] {
            publish(&store, 1, dictionary);
        }
        drop(store);
        raw(dir.path(), |db| {
            drop_file(db, 2);
            match damage {
                None => db.delete(key(2)).unwrap(),
                Some(bytes) => db.put(key(2), bytes).unwrap(),
            }
        });
        let (_, seen, problems) = Inspection::open(dir.path()).unwrap();
        assert_eq!((seen.len(), problems.len()), (3, 1), "{problems:?}");
        let (store, segments, damaged) = open(dir.path());
        assert_eq!(named(&segments).iter().map(|(id, _)| *id).collect::<Vec<_>>(), [0, 1, 3]);
        assert!(damaged.len() == 1 && damaged[0].starts_with("segment 2 in p-"), "{damaged:?}");
        assert!(damaged[0].contains("its dictionary 2 is missing or damaged"), "{damaged:?}");
        assert_eq!(store.dictionary().unwrap().id(), 1);
        assert_eq!(add(&store, "new words"), 3, "the number stays that of the lost one");
    }
}

#[test]
fn a_copy_that_is_missing_or_damaged_is_told_and_written_again_out_of_the_other() {
    type Harm = fn(&Path);
    let catalog = "dictionary 2: its copy in the catalog is missing or damaged";
    let file = "dictionary 2: its file is missing or not as its copy in the catalog";
    let harms: [(&str, Harm, Option<&str>); 7] = [
        ("not in the catalog", |dir| raw(dir, |db| db.delete(key(2)).unwrap()), Some(catalog)),
        (
            "damaged in the catalog",
            |dir| raw(dir, |db| db.put(key(2), "words that hash not").unwrap()),
            Some(catalog),
        ),
        ("the file dropped", |dir| raw(dir, |db| drop_file(db, 2)), Some(file)),
        ("the file gone", |dir| std::fs::remove_file(&dictionary_files(dir)[1]).unwrap(), Some(file)),
        ("a byte of the file", |dir| change(&dictionary_files(dir)[1], |bytes| bytes[12] ^= 1), Some(file)),
        (
            "half of the file",
            |dir| change(&dictionary_files(dir)[1], |bytes| bytes.truncate(bytes.len() / 2)),
            Some(file),
        ),
        // As stores were when dictionaries lay in the catalog alone: nothing is wrong.
        ("of an earlier version", |dir| raw_drop_family(dir), None),
    ];
    let (original, wanted) = two();
    for (case, harm, problem) in harms {
        let dir = copy(original.path());
        harm(dir.path());
        let (seen, problems) = looked_at(dir.path());
        assert_eq!(seen, wanted, "{case}");
        assert!(problems.len() == usize::from(problem.is_some()), "{case}: {problems:?}");
        assert!(problems.iter().all(|text| text.starts_with(problem.unwrap())), "{case}: {problems:?}");
        let (store, segments, damaged) = open(dir.path());
        assert_eq!((named(&segments), damaged), (wanted.clone(), Vec::new()), "{case}");
        let completed = if problem.is_some() { &[2][..] } else { &[1, 2] };
        assert_eq!(store.completed_dictionaries(), completed, "{case}");
        assert_eq!(add(&store, "new words"), 3, "{case}");
        drop((store, segments));
        assert_eq!(looked_at(dir.path()), (wanted.clone(), Vec::new()), "{case}");
        assert_eq!(dictionary_files(dir.path()).len(), 3, "{case}");
        let (store, ..) = open(dir.path());
        assert_eq!(store.completed_dictionaries(), [] as [u32; 0], "{case}");
    }
}

fn change(path: &Path, how: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = std::fs::read(path).unwrap();
    how(&mut bytes);
    std::fs::write(path, bytes).unwrap();
}

fn raw_drop_family(dir: &Path) {
    let path = dir.join("rocksdb");
    let families = rocksdb::DB::list_cf(&rocksdb::Options::default(), &path).unwrap();
    let db = rocksdb::DB::open_cf(&rocksdb::Options::default(), &path, families).unwrap();
    db.drop_cf("dictionary").unwrap();
}

#[test]
fn a_repair_brings_dictionaries_back_without_anything_of_the_catalog() {
    let (dir, wanted) = two();
    // The catalog lies in the MANIFEST and, as it was not flushed, in the write-ahead files.
    for entry in std::fs::read_dir(dir.path().join("rocksdb")).unwrap().map(Result::unwrap) {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with("MANIFEST") || name.ends_with(".log") {
            std::fs::remove_file(entry.path()).unwrap();
        }
    }
    let repaired = repair(dir.path(), &StoreOptions::default()).unwrap();
    assert_eq!((repaired.segments, repaired.dictionaries), (3, 2), "{repaired:?}");
    assert!(repaired.unusable.is_empty() && repaired.replaced.is_empty(), "{repaired:?}");
    assert_eq!(looked_at(dir.path()), (wanted.clone(), Vec::new()));
    let (store, segments, damaged) = open(dir.path());
    assert_eq!((named(&segments), damaged), (wanted, Vec::new()));
    assert_eq!(store.completed_dictionaries(), [] as [u32; 0]);
    assert_eq!(add(&store, "new words"), 3);
}

#[test]
fn a_repair_says_which_dictionary_is_lost_and_sets_aside_its_segments_alone() {
    let (dir, wanted) = two();
    std::fs::remove_file(dir.path().join("rocksdb/CURRENT")).unwrap();
    change(&dictionary_files(dir.path())[1], |bytes| bytes[12] ^= 1);
    let repaired = repair(dir.path(), &StoreOptions::default()).unwrap();
    assert_eq!(
        (repaired.segments, repaired.dictionaries, repaired.unusable.len()),
        (3, 1, 1),
        "{repaired:?}"
    );
    let (store, segments, damaged) = open(dir.path());
    assert_eq!(named(&segments), wanted[..2]);
    assert!(
        damaged.len() == 1 && damaged[0].contains("its dictionary 2 is missing or damaged"),
        "{damaged:?}"
    );
    assert_eq!(add(&store, "new words"), 3, "the number stays that of the lost one");
}

#[test]
fn a_backup_has_both_copies() {
    let (dir, wanted) = two();
    let copies = tempfile::tempdir().unwrap();
    let (checkpoint, restored) = (copies.path().join("checkpoint"), copies.path().join("restored"));
    let (store, ..) = open(dir.path());
    store.backup(&checkpoint).unwrap();
    restore(&checkpoint, &restored).unwrap();
    assert_eq!(looked_at(&restored), (wanted.clone(), Vec::new()));
    assert_eq!(dictionary_files(&restored).len(), 2);
    let (store, segments, damaged) = open(&restored);
    assert_eq!((named(&segments), damaged), (wanted, Vec::new()));
    assert_eq!(store.completed_dictionaries(), [] as [u32; 0]);
}

#[test]
fn a_dictionary_goes_with_the_last_segment_that_names_it() {
    let dir = tempfile::tempdir().unwrap();
    let (store, ..) = open(dir.path());
    add(&store, "words");
    let segments = [publish(&store, 1, 1), publish(&store, 2, 1)];
    add(&store, "other words");
    let newest = publish(&store, 3, 2);
    assert_eq!(store.drop_dictionaries().unwrap(), 0, "two segments name it");
    let [first, second] = segments;
    let partition = first.handle.partition();
    drop(first);
    store.begin_retirement(partition).unwrap().finish();
    assert_eq!(store.drop_dictionaries().unwrap(), 0, "one segment names it");
    // Somebody still reads from what was taken out.
    let (reader, partition) = (second.handle.clone(), second.handle.partition());
    drop(second);
    store.begin_retirement(partition).unwrap().finish();
    assert_eq!(store.drop_dictionaries().unwrap(), 0, "it is being read with");
    assert_eq!(reader.dictionary().unwrap().bytes(), b"words");
    drop(reader);
    assert_eq!(store.drop_dictionaries().unwrap(), 0, "its segment is still on the disk");
    store.keep_house().unwrap();
    assert_eq!(store.drop_dictionaries().unwrap(), 1);
    drop((newest, store));
    let (store, segments, damaged) = open(dir.path());
    assert_eq!((store.dictionaries(), segments.len(), damaged), (1, 1, Vec::new()));
    assert_eq!(dictionary_files(dir.path()).len(), 1);
    assert_eq!(add(&store, "new words"), 3);
}

#[test]
fn merged_segments_name_the_newest_and_copied_ones_what_they_named() {
    let dir = tempfile::tempdir().unwrap();
    let (store, ..) = open(dir.path());
    add(&store, "words");
    let old = [publish(&store, 1, 1), publish(&store, 1, 1), publish(&store, 1, 1)];
    add(&store, "other words");
    let handles: Vec<_> = old.iter().map(|stored| stored.handle.clone()).collect();
    let mut rewrite = store.begin_rewrite(&handles).unwrap().unwrap();
    let merged = SegmentMeta { format: segment::FORMAT, dictionary: 2, ..SegmentMeta::default() };
    store
        .rewrite_merged(&mut rewrite, old[1].handle.id(), &mut |sink| {
            sink(Key::Meta, &merged.encode_to_vec()).map_err(BuildError::Sink)?;
            Ok(merged.clone())
        })
        .unwrap();
    store.rewrite_copied(&mut rewrite, &old[2]).unwrap();
    let new = store.commit_rewrite(rewrite).unwrap().unwrap();
    let wanted = vec![(1, "other words".to_owned()), (2, "words".to_owned())];
    assert_eq!(named(&new), wanted);
    drop((old, handles));
    store.keep_house().unwrap();
    assert_eq!(store.drop_dictionaries().unwrap(), 0);
    drop((new, store));
    let (_, segments, damaged) = open(dir.path());
    assert_eq!((named(&segments), damaged), (wanted, Vec::new()));
}

#[test]
fn there_are_no_more_than_some() {
    let dir = tempfile::tempdir().unwrap();
    let (store, ..) = open(dir.path());
    let mut held = Vec::new();
    while let Some(dictionary) = store.add_dictionary(b"some words").unwrap() {
        held.push(publish(&store, 1, dictionary.id()));
        assert!(held.len() <= 100);
    }
    assert_eq!(store.dictionaries(), 16);
    held.remove(0);
    assert_eq!(store.drop_dictionaries().unwrap(), 1);
    assert_eq!(add(&store, "new words"), 17);
    assert!(store.add_dictionary(b"").unwrap_or_default().is_none());
}

/// Another one may be adopted before it is this segment's turn.
#[test]
fn a_segment_that_is_built_and_not_published_holds_its_dictionary() {
    let dir = tempfile::tempdir().unwrap();
    let (store, ..) = open(dir.path());
    let first = add(&store, "words");
    let meta = SegmentMeta { format: segment::FORMAT, dictionary: first, ..SegmentMeta::default() };
    let built = store.draft(store.number_segment(), &mut |sink| {
        sink(Key::Meta, &meta.encode_to_vec()).map_err(BuildError::Sink)?;
        Ok(meta.clone())
    });
    let draft = built.unwrap();
    add(&store, "other words");
    assert_eq!((store.drop_dictionaries().unwrap(), store.dictionaries()), (0, 2));
    let published = store.publish_draft(UnixNanos(HOUR), draft).unwrap();
    assert_eq!(named(&[published]), [(0, "words".to_owned())]);
    // Nobody reads it any more.
    assert_eq!(store.drop_dictionaries().unwrap(), 1);
}
