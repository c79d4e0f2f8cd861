//! What the old catalog says, if it can still be read: a repair finds files by looking, and only the catalog knows of
//! those that are gone.

use std::path::Path;

use rocksdb::{Cache, DEFAULT_COLUMN_FAMILY_NAME, LiveFile};

use super::Kept;
use crate::damage;
use crate::database;
use crate::dictionaries::copies;
use crate::error::StoreError;
use crate::open;
use crate::partition::FamilyName;
use crate::retention;
use crate::rollup;

/// What the old catalog knew.
#[derive(Default)]
pub(super) struct Known {
    files: Vec<LiveFile>,
    /// Segments that were set aside at earlier starts, and why.
    set_aside: Vec<LostSegment>,
    /// The last frame that is known to have been written.
    pub(super) last_frame: u64,
    /// The last frame that is known to have been sealed from partitions that are gone.
    pub(super) sealed: u64,
}

/// A segment that the old database had, and that the new one has not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LostSegment {
    pub(super) id: u32,
    /// The partition that it was in.
    pub(super) family: FamilyName,
    pub(super) why: String,
}

/// Reads the old catalog; nothing is known if that is not possible.
///
/// # Errors
/// If it was written by a newer version.
pub(super) fn read(dir: &Path, cache: &Cache) -> Result<Known, StoreError> {
    let Ok(db) = database::open_to_read(dir, cache, true) else { return Ok(Known::default()) };
    let last_frame = match open::known(&db) {
        Err(error @ StoreError::Schema { .. }) => return Err(error),
        known => known.unwrap_or(0),
    };
    let is_there =
        |text: &String| damage::recorded_family(text).is_some_and(|family| db.cf_handle(family).is_some());
    let texts = damage::recorded_texts(&db).unwrap_or_default();
    Ok(Known {
        files: db.live_files().unwrap_or_default(),
        set_aside: texts.iter().filter(|text| is_there(text)).filter_map(|text| set_aside(text)).collect(),
        last_frame,
        sealed: retention::noted_sealed(&db).unwrap_or(0),
    })
}

/// Reads `segment ID in FAMILY: WHY`.
fn set_aside(text: &str) -> Option<LostSegment> {
    let family = FamilyName::parse(damage::recorded_family(text)?)?;
    let id = text.split_whitespace().nth(1)?.parse().ok()?;
    let (_, why) = text.split_once(": ")?;
    Some(LostSegment { id, family, why: why.to_owned() })
}

impl Known {
    /// The files that are not there, in words. What RocksDB wrote for itself is made anew and does not count.
    pub(super) fn missing(&self, old: &Path) -> Vec<String> {
        let counts = |file: &&LiveFile| file.column_family_name != DEFAULT_COLUMN_FAMILY_NAME;
        let gone = self.files.iter().filter(counts).filter(|file| !old.join(name(file)).exists());
        gone.map(|file| format!("{}: {}", name(file), content(file))).collect()
    }

    /// The segments that the new database has not, given what could not be used. What a merge or a rollup has replaced is
    /// not lost.
    pub(super) fn lost(&self, kept: &Kept, unusable: &[String], old: &Path) -> Vec<LostSegment> {
        let of_files = self.files.iter().filter_map(|file| {
            let family = FamilyName::parse(&file.column_family_name)?;
            let id = damage::segment_number(file.start_key.as_deref()?)?;
            let name = name(file);
            let why = match old.join(&name).exists() {
                false => "was gone",
                true if unusable.iter().any(|text| text.starts_with(&name)) => "could not be read",
                true => return None,
            };
            Some(LostSegment {
                id,
                family,
                why: format!("its file {name} {why} when the store was repaired"),
            })
        });
        let is_kept = |id: u32| kept.segments.iter().any(|segment| segment.id == id);
        self.set_aside.iter().cloned().chain(of_files).filter(|segment| !is_kept(segment.id)).collect()
    }
}

/// What a file held, as far as its place and its first key tell.
fn content(file: &LiveFile) -> String {
    let family = &file.column_family_name;
    let number = || file.start_key.as_deref().and_then(damage::segment_number);
    match family.as_str() {
        rollup::FAMILY => "a rollup".to_owned(),
        copies::FAMILY => "a dictionary".to_owned(),
        _ if FamilyName::parse(family).is_some() => match number() {
            Some(id) => format!("segment {id} in {family}"),
            None => format!("of {family}"),
        },
        _ => format!("of {family}"),
    }
}

/// RocksDB puts a slash in front.
fn name(file: &LiveFile) -> String {
    file.name.trim_start_matches('/').to_owned()
}
