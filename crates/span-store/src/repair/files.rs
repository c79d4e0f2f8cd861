//! What is in the table files of a database that says nothing about them.

use std::cmp::Reverse;
use std::collections::btree_map::Entry;
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

use rocksdb::{Cache, IngestExternalFileOptions, IteratorMode};
use segment::{Key, RollupMeta, decode_meta, decode_segment_meta};

use super::{Kept, Repaired};
use crate::copies::folder;
use crate::dictionaries::copies;
use crate::error::StoreError;
use crate::options;
use crate::partition::Db;

/// A family that has one file at a time, to look into it.
const LOOK: &str = "look";

/// In what RocksDB says of a file that was not written for ingestion.
const NOT_OURS: &str = "External file version not found";

/// A table file and what it is.
#[derive(Debug)]
pub(crate) struct Found {
    path: PathBuf,
    /// Or why it cannot be used.
    content: Result<Content, String>,
}

#[derive(Debug)]
pub(crate) enum Content {
    Segment(SegmentFile),
    Rollup(Box<RollupMeta>),
    Dictionary(u32, Vec<u8>),
}

/// The file of a dictionary, and its value.
#[derive(Debug)]
pub(crate) struct DictionaryFile {
    pub(super) path: PathBuf,
    pub(super) value: Vec<u8>,
}

/// The file of a segment.
#[derive(Debug, Clone)]
pub(crate) struct SegmentFile {
    pub(super) path: PathBuf,
    pub(super) id: u32,
    pub(super) frames: (u64, u64),
    pub(super) arrival: u64,
    pub(super) spans: u64,
}

impl SegmentFile {
    /// Whether a merge put the other in the place of this one. Frames are in one segment each, until some are merged.
    fn is_replaced_by(&self, other: &Self) -> bool {
        let (low, high) = self.frames;
        let within = high > 0 && other.frames.0 <= low && high <= other.frames.1;
        within && self.id <= other.id && (self.id, self.frames) != (other.id, other.frames)
    }
}

/// Looks into every table file, to its end.
///
/// # Errors
/// If the folder cannot be read, a format is newer than is known, or the new database fails.
pub(super) fn read(db: &Db, cache: &Cache, old: &Path, links: &Path) -> Result<Vec<Found>, StoreError> {
    let entries = fs::read_dir(old).map_err(folder(old))?;
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.retain(|path| path.extension().is_some_and(|ending| ending == "sst"));
    paths.sort_unstable();
    let mut found = Vec::new();
    for path in paths {
        db.create_cf(LOOK, &options::partition(cache))?;
        let content = match ingest(db, LOOK, &[&path], links) {
            Ok(()) => content(db, &path),
            Err(error @ StoreError::Rocks(_)) if !error.is_full() => Ok(Err(error.to_string())),
            Err(error) => Err(error),
        };
        db.drop_cf(LOOK)?;
        found.push(Found { path, content: content? });
    }
    Ok(found)
}

/// Makes files part of a family, as links: they stay where they are.
pub(super) fn ingest(db: &Db, family: &str, paths: &[&Path], links: &Path) -> Result<(), StoreError> {
    let handle = db.cf_handle(family).ok_or(StoreError::Closed)?;
    let mut linked = Vec::new();
    for path in paths {
        let link = links.join(path.file_name().unwrap_or_default());
        let _ = fs::remove_file(&link);
        // A disk without links has room for copies or the repair fails.
        fs::hard_link(path, &link).or_else(|_| fs::copy(path, &link).map(|_| ())).map_err(folder(&link))?;
        linked.push(link);
    }
    let mut options = IngestExternalFileOptions::default();
    options.set_move_files(true);
    let ingested = db.ingest_external_file_cf_opts(&handle, &options, linked.clone());
    for link in linked {
        // There is nothing left of one that was ingested.
        let _ = fs::remove_file(link);
    }
    Ok(ingested?)
}

/// What the one file in [`LOOK`] is. Every block is read, so that its checksum is compared.
fn content(db: &Db, path: &Path) -> Result<Result<Content, String>, StoreError> {
    let family = db.cf_handle(LOOK).ok_or(StoreError::Closed)?;
    let mut first: Option<Box<[u8]>> = None;
    let mut last = None;
    for item in db.iterator_cf(&family, IteratorMode::Start) {
        match item {
            Ok((key, value)) => {
                first.get_or_insert_with(|| key.clone());
                last = Some((key, value));
            }
            Err(error) => return Ok(Err(error.to_string())),
        }
    }
    let (Some(first), Some((key, value))) = (first, last) else { return Ok(Err("it is empty".to_owned())) };
    if let Some(dictionary) = copies::of_file(&key, &value) {
        return Ok(dictionary.map(|id| Content::Dictionary(id, value.into_vec())));
    }
    let meta = Key::Meta.to_bytes();
    let prefix = key.strip_suffix(&meta[..]).filter(|prefix| first.starts_with(prefix));
    Ok(match prefix.map(|prefix| (prefix, <[u8; 4]>::try_from(prefix))) {
        Some((_, Ok(id))) => match decode_segment_meta(&value) {
            Ok(meta) if meta.format > segment::FORMAT => {
                let segment = u32::from_be_bytes(id);
                return Err(StoreError::Format { segment, found: meta.format, known: segment::FORMAT });
            }
            Ok(meta) => Ok(Content::Segment(SegmentFile {
                path: path.to_owned(),
                id: u32::from_be_bytes(id),
                frames: (meta.seq_low, meta.seq_high),
                arrival: meta.arrival_max,
                spans: meta.spans,
            })),
            Err(_) => Err("its meta cannot be read".to_owned()),
        },
        Some((prefix, Err(_))) if prefix.len() == 8 => match decode_meta(&value) {
            Ok((_, meta)) => Ok(Content::Rollup(Box::new(meta))),
            Err(_) => Err("its meta cannot be read".to_owned()),
        },
        _ => Err("it is neither a segment nor a rollup nor a dictionary".to_owned()),
    })
}

/// The files that count: RocksDB may not have come to delete those that a merge or retention has replaced.
pub(super) fn keep(found: Vec<Found>, repaired: &mut Repaired) -> Kept {
    let mut kept = Kept::default();
    let mut segments: Vec<SegmentFile> = Vec::new();
    let mut rolled_up: Vec<Vec<u32>> = Vec::new();
    for file in found {
        match file.content {
            Ok(Content::Segment(segment)) => segments.push(segment),
            Ok(Content::Rollup(meta)) => {
                kept.rolled_up = kept.rolled_up.max(meta.segments.iter().copied().max());
                rolled_up.push(meta.segments);
                kept.rollups.push(file.path);
            }
            // One that took the place of a damaged one may be there twice by now.
            Ok(Content::Dictionary(id, value)) => match kept.dictionaries.entry(id) {
                Entry::Vacant(entry) => {
                    entry.insert(DictionaryFile { path: file.path, value });
                }
                Entry::Occupied(_) => {
                    repaired.replaced.push(format!("{}: dictionary {id}", name(&file.path)));
                }
            },
            Err(why) if why.contains(NOT_OURS) => repaired.catalog_files += 1,
            Err(why) => repaired.unusable.push(format!("{}: {why}", name(&file.path))),
        }
    }
    let stored: Vec<u32> = segments.iter().map(|segment| segment.id).collect();
    // A rollup counts once one of its segments is gone; before, they do.
    let is_whole = |ids: &&Vec<u32>| !ids.iter().all(|id| stored.contains(id));
    let gone: Vec<u32> = rolled_up.iter().filter(is_whole).flatten().copied().collect();
    // Of two under one number, the merged one; of two that hold the same, the file that was written later.
    segments.sort_by_key(|segment| {
        let (low, high) = segment.frames;
        (segment.id, Reverse(high.saturating_sub(low)), high == 0, Reverse(segment.path.clone()))
    });
    let merges = merges(&segments);
    for (at, segment) in segments.iter().enumerate() {
        let again = at > 0 && segments[at - 1].id == segment.id;
        let merged = segments.iter().any(|other| segment.is_replaced_by(other))
            || segment.frames.1 == 0 && merges.iter().any(|ids| ids.contains(&segment.id));
        if merged || again || gone.contains(&segment.id) {
            repaired.replaced.push(format!("{}: segment {}", name(&segment.path), segment.id));
        } else {
            kept.segments.push(segment.clone());
        }
    }
    kept
}

/// From the first segment that each merged one has replaced to its own number. What is without frames and in between
/// was merged with them.
fn merges(segments: &[SegmentFile]) -> Vec<Range<u32>> {
    let first_of = |merged: &SegmentFile| {
        segments.iter().filter(|segment| segment.is_replaced_by(merged)).map(|segment| segment.id).min()
    };
    segments.iter().filter_map(|merged| Some(first_of(merged)?..merged.id)).collect()
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(id: u32, frames: (u64, u64), file: u32) -> Found {
        let path = PathBuf::from(format!("{file:06}.sst"));
        let of_path = path.clone();
        Found {
            path,
            content: Ok(Content::Segment(SegmentFile { path: of_path, id, frames, arrival: 0, spans: 0 })),
        }
    }

    fn rollup(segments: &[u32], file: u32) -> Found {
        let meta = RollupMeta { segments: segments.to_vec(), ..RollupMeta::default() };
        Found { path: PathBuf::from(format!("{file:06}.sst")), content: Ok(Content::Rollup(Box::new(meta))) }
    }

    fn kept(found: Vec<Found>) -> Vec<String> {
        let kept = keep(found, &mut Repaired::default());
        kept.segments.iter().map(|segment| name(&segment.path)).collect()
    }

    #[test]
    fn what_a_merge_has_replaced_is_not_counted_again() {
        let old = || {
            vec![
                segment(0, (1, 9), 10),
                segment(1, (10, 19), 11),
                segment(2, (0, 0), 12),
                segment(3, (20, 29), 13),
            ]
        };
        assert_eq!(kept(old()).len(), 4, "nothing is merged");
        let mut all = old();
        // The last was copied, and what came before it has the number of its last.
        all.extend([segment(2, (1, 19), 20), segment(3, (20, 29), 21)]);
        assert_eq!(kept(all), ["000020.sst", "000021.sst"]);
        // One without frames between those that were merged went with them.
        let mut all = old();
        all.push(segment(3, (1, 29), 20));
        assert_eq!(kept(all), ["000020.sst"]);
    }

    #[test]
    fn of_segments_that_a_rollup_replaces_none_or_all_are_left() {
        let segments = || vec![segment(4, (1, 9), 10), segment(5, (10, 19), 11)];
        let mut all = segments();
        all.push(rollup(&[4, 5], 20));
        assert_eq!(kept(all).len(), 2, "its partition had not gone yet");
        let mut some = segments();
        some.push(rollup(&[3, 4, 5], 20));
        some.push(segment(6, (20, 29), 12));
        assert_eq!(kept(some), ["000012.sst"]);
    }
}
