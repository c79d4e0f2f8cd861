//! The promises of a repair: whatever of the catalog is gone, every segment and every frame that is still there is in
//! the new store, the old files are kept, and without a repair nothing is touched.

#![allow(clippy::unwrap_used, reason = "a test")]

#[allow(dead_code, reason = "other tests use the rest")]
mod sample;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use prost::Message as _;
use sample::{LAST, SEALED, SEGMENTS, copy, files, make, open, options};
use segment::{BuildError, Key, RollupMeta};
use span_store::{Inspection, SpanStore, StoreError, repair};

/// Names and contents of a database's files, but for what RocksDB writes whenever it looks.
fn contents(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let of_store = |path: &PathBuf| {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        name != "LOCK" && !name.starts_with("LOG") && !name.starts_with("OPTIONS")
    };
    let files = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).filter(of_store);
    files.map(|path| (path.file_name().unwrap().into(), fs::read(&path).unwrap())).collect()
}

fn manifest(dir: &Path) -> PathBuf {
    let all = fs::read_dir(dir.join("rocksdb")).unwrap().map(|entry| entry.unwrap().path());
    all.filter(|path| path.to_string_lossy().contains("MANIFEST")).max().unwrap()
}

/// The small ones are of the catalog.
fn catalog_tables(dir: &Path) -> Vec<PathBuf> {
    let small = |path: &PathBuf| path.metadata().unwrap().len() < 10_000;
    files(dir, ".sst").into_iter().filter(small).collect()
}

fn all_is_there(dir: &Path, case: &str) {
    for round in 0..2 {
        let found = open(dir);
        assert_eq!(found.segments.len(), SEGMENTS as usize, "{case}, round {round}: {found:?}");
        assert_eq!(found.frames, (SEALED + 1..=LAST).collect(), "{case}, round {round}");
        assert!(found.lost.is_empty() && found.damaged.is_empty(), "{case}, round {round}: {found:?}");
    }
}

#[test]
fn whatever_of_the_catalog_is_gone_every_segment_and_frame_comes_back() {
    type Harm = fn(&Path);
    let harms: [(&str, Harm); 7] = [
        ("nothing", |_| {}),
        ("no CURRENT", |dir| fs::remove_file(dir.join("rocksdb/CURRENT")).unwrap()),
        ("an empty CURRENT", |dir| fs::write(dir.join("rocksdb/CURRENT"), "").unwrap()),
        ("no MANIFEST", |dir| fs::remove_file(manifest(dir)).unwrap()),
        ("half of MANIFEST damaged", |dir| {
            let mut bytes = fs::read(manifest(dir)).unwrap();
            let half = bytes.len() / 2;
            bytes[half..].fill(0x55);
            fs::write(manifest(dir), bytes).unwrap();
        }),
        ("an empty MANIFEST", |dir| fs::write(manifest(dir), "").unwrap()),
        ("no tables of the catalog", |dir| {
            assert!(!catalog_tables(dir).is_empty());
            catalog_tables(dir).iter().for_each(|path| fs::remove_file(path).unwrap());
        }),
    ];
    let original = tempfile::tempdir().unwrap();
    make(original.path());
    for (case, harm) in harms {
        let dir = tempfile::tempdir().unwrap();
        copy(original.path(), dir.path());
        harm(dir.path());
        let harmed = contents(&dir.path().join("rocksdb"));
        if case != "nothing" {
            let error = SpanStore::open(dir.path(), options()).unwrap_err();
            assert!(matches!(error, StoreError::Catalog { .. }), "{case}: {error}");
            assert!(error.to_string().contains("longpole repair"), "{case}: {error}");
            let after = contents(&dir.path().join("rocksdb"));
            let is_data =
                |path: &Path| path.extension().is_some_and(|ending| ending == "sst" || ending == "log");
            let mut data = harmed.iter().filter(|(path, _)| is_data(path));
            assert!(
                data.all(|(path, bytes)| after.get(path) == Some(bytes)),
                "{case}: the refusal changed files"
            );
        }
        let before = contents(&dir.path().join("rocksdb"));
        let repaired = repair(dir.path(), &options()).unwrap();
        assert_eq!(
            (repaired.segments, repaired.frames),
            (u64::from(SEGMENTS), LAST - SEALED),
            "{case}: {repaired:?}"
        );
        assert!(repaired.unusable.is_empty() && repaired.replaced.is_empty(), "{case}: {repaired:?}");
        assert!(repaired.missing.is_empty(), "{case}: {repaired:?}");
        assert!(!dir.path().join("repair").exists());
        all_is_there(dir.path(), case);
        assert_eq!(contents(&repaired.old), before, "{case}: the old files are not as they were");
    }
}

#[test]
fn a_damaged_segment_costs_itself_alone() {
    let dir = tempfile::tempdir().unwrap();
    make(dir.path());
    fs::remove_file(manifest(dir.path())).unwrap();
    let tables = files(dir.path(), ".sst");
    let segment = tables.iter().find(|path| path.metadata().unwrap().len() > 10_000).unwrap();
    let mut bytes = fs::read(segment).unwrap();
    bytes[20_000] ^= 0x55;
    fs::write(segment, bytes).unwrap();
    let repaired = repair(dir.path(), &options()).unwrap();
    assert_eq!(repaired.segments, u64::from(SEGMENTS) - 1);
    assert_eq!(repaired.unusable.len(), 1, "{repaired:?}");
    let name = segment.file_name().unwrap().to_string_lossy();
    assert!(repaired.unusable[0].starts_with(&*name), "{repaired:?}");
    assert_eq!(open(dir.path()).frames, (SEALED + 1..=LAST).collect());
}

#[test]
fn a_file_that_the_catalog_knows_and_that_is_gone_is_told_and_not_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    make(dir.path());
    let tables = files(dir.path(), ".sst");
    let segment = tables.iter().find(|path| path.metadata().unwrap().len() > 10_000).unwrap();
    fs::remove_file(segment).unwrap();
    let repaired = repair(dir.path(), &options()).unwrap();
    assert_eq!(repaired.segments, u64::from(SEGMENTS) - 1);
    let name = segment.file_name().unwrap().to_string_lossy();
    assert_eq!(repaired.missing.len(), 1, "{repaired:?}");
    assert!(repaired.missing[0].starts_with(&format!("{name}: segment ")), "{repaired:?}");
    let is_told =
        |texts: &[String]| texts.iter().any(|text| text.contains(&format!("its file {name} was gone")));
    for _ in 0..2 {
        let (_, segments, damaged) = Inspection::open(dir.path()).unwrap();
        assert_eq!((segments.len(), is_told(&damaged)), (SEGMENTS as usize - 1, true), "{damaged:?}");
        assert!(is_told(&open(dir.path()).damaged));
    }
    // Also not by another repair.
    let again = repair(dir.path(), &options()).unwrap();
    assert_eq!(again.missing, Vec::<String>::new());
    assert!(is_told(&open(dir.path()).damaged));
}

#[test]
fn where_nothing_can_be_brought_back_all_stays_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("rocksdb")).unwrap();
    let error = repair(dir.path(), &options()).unwrap_err();
    assert!(matches!(error, StoreError::NothingFound(_)), "{error}");

    make(dir.path());
    for path in files(dir.path(), "") {
        if path.extension().is_some_and(|ending| ending == "log" || ending == "sst") {
            fs::remove_file(path).unwrap();
        }
    }
    let before = contents(&dir.path().join("rocksdb"));
    let error = repair(dir.path(), &options()).unwrap_err();
    assert!(matches!(error, StoreError::NothingFound(_)), "{error}");
    assert_eq!(contents(&dir.path().join("rocksdb")), before);
    assert!(!dir.path().join("repair").exists() && !dir.path().join("damaged").exists());
}

#[test]
fn who_only_looks_is_told_of_the_repair_too() {
    type Harm = fn(&Path);
    let harms: [(&str, Harm); 3] = [
        ("no tables of the catalog", |dir| {
            catalog_tables(dir).iter().for_each(|path| fs::remove_file(path).unwrap());
        }),
        ("no CURRENT", |dir| fs::remove_file(dir.join("rocksdb/CURRENT")).unwrap()),
        ("no MANIFEST", |dir| fs::remove_file(manifest(dir)).unwrap()),
    ];
    for (case, harm) in harms {
        let dir = tempfile::tempdir().unwrap();
        make(dir.path());
        harm(dir.path());
        let error = Inspection::open(dir.path()).unwrap_err();
        assert!(matches!(error, StoreError::Catalog { .. }), "{case}: {error}");
        assert_eq!(error.to_string().matches("longpole repair").count(), 1, "{case}: {error}");
    }
    let dir = tempfile::tempdir().unwrap();
    let error = Inspection::open(dir.path()).unwrap_err();
    assert!(matches!(error, StoreError::NoStore(_)), "{error}");
}

#[test]
fn a_repair_that_was_interrupted_is_gone_on_with_and_nothing_serves_until_then() {
    let original = tempfile::tempdir().unwrap();
    make(original.path());
    // Before its last two steps: the old database is in its place.
    let dir = tempfile::tempdir().unwrap();
    copy(original.path(), dir.path());
    fs::create_dir_all(dir.path().join("repair/rocksdb")).unwrap();
    fs::write(dir.path().join("repair/rocksdb/000001.sst"), "half").unwrap();
    repair(dir.path(), &options()).unwrap();
    all_is_there(dir.path(), "begun");
    // Between them: it is aside, and the new one is not there yet.
    let dir = tempfile::tempdir().unwrap();
    copy(original.path(), dir.path());
    let repaired = repair(dir.path(), &options()).unwrap();
    fs::create_dir(dir.path().join("repair")).unwrap();
    fs::rename(dir.path().join("rocksdb"), dir.path().join("repair/rocksdb")).unwrap();
    fs::write(dir.path().join("repair/whole"), "").unwrap();
    let error = SpanStore::open(dir.path(), options()).unwrap_err();
    assert!(matches!(error, StoreError::Catalog { .. }), "{error}");
    let rest = repair(dir.path(), &options()).unwrap();
    assert_eq!((rest.old, rest.is_rest), (repaired.old, true));
    all_is_there(dir.path(), "nearly done");
}

#[test]
fn rollups_come_back_and_their_segments_numbers_are_not_used_again() {
    let dir = tempfile::tempdir().unwrap();
    {
        let (store, ..) = SpanStore::open(dir.path(), options()).unwrap();
        store
            .publish_rollup(&mut |sink| {
                let meta = RollupMeta { format: 1, tier: 1, segments: vec![41, 42], ..RollupMeta::default() };
                sink(Key::Minute(7), b"histograms").map_err(BuildError::Sink)?;
                sink(Key::Meta, &meta.encode_to_vec()).map_err(BuildError::Sink)
            })
            .unwrap();
    }
    fs::remove_file(manifest(dir.path())).unwrap();
    let repaired = repair(dir.path(), &options()).unwrap();
    assert_eq!((repaired.segments, repaired.rollups), (0, 1));
    let (store, ..) = SpanStore::open(dir.path(), options()).unwrap();
    assert_eq!(store.take_stored_rollups().len(), 1);
    assert_eq!(sample::publish(&store, sample::HOUR, (1, 1)).handle.id().0, 43);
}

#[test]
fn where_there_is_no_store_there_is_nothing_to_repair() {
    let dir = tempfile::tempdir().unwrap();
    let error = repair(dir.path(), &options()).unwrap_err();
    assert!(matches!(error, StoreError::NoStore(_)), "{error}");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}
