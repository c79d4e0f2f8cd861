//! Opening a database that is damaged: what cannot be read is set aside and named, the rest serves.

use std::path::{Path, PathBuf};

use rocksdb::{Cache, DBRecoveryMode, DEFAULT_COLUMN_FAMILY_NAME, LiveFile};

use crate::database::{self, Opening, open_rocks, rocks_dir};
use crate::dictionaries::copies;
use crate::error::StoreError;
use crate::log::{Generation, generation_of};
use crate::open::Opened;
use crate::options::{self, StoreOptions};
use crate::partition::{Db, FamilyName};
use crate::rollup;
use crate::wal::{self, BadPlace, Scan};

/// Before the number of a segment whose file was set aside; the value says what happened to it.
const SET_ASIDE: &[u8] = b"\x05";
/// Folder of what was set aside, in the data folder. Nothing reads it.
pub(crate) const FOLDER: &str = "damaged";
/// Copies of write-ahead files kept at most.
const COPIES_MAX: usize = 4;
/// Damaged places that are named at most.
const PLACES_MAX: usize = 16;

/// Opens a database, and takes out of it what keeps it from opening.
pub(crate) fn open(dir: &Path, cache: &Cache, options: &StoreOptions) -> Result<Opened, StoreError> {
    let scan = wal::scan(&rocks_dir(dir))?;
    let mut damaged = Vec::new();
    let mut opening = Opening::of(options);
    if scan.hole {
        opening.recovery = DBRecoveryMode::SkipAnyCorruptedRecord;
    }
    let places = places(&scan);
    if !places.is_empty() {
        let kept = keep_log_files(dir, &scan);
        damaged.extend(places.into_iter().map(|place| format!("{place}; {kept}")));
    }
    let torn_end = torn_end(&scan);
    let mut taken_out: Vec<u64> = Vec::new();
    loop {
        let error = match open_rocks(dir, cache, opening) {
            Ok(db) => {
                let last_frame = scan.last_frame.unwrap_or(0);
                return Ok(Opened { db, opening, damaged, torn_end, last_frame, next_segment: 0 });
            }
            Err(StoreError::Rocks(error)) => error,
            Err(other) => return Err(other),
        };
        let reason = error.to_string();
        match table_file(&reason) {
            Some(number) if !taken_out.contains(&number) => {
                taken_out.push(number);
                damaged.extend(take_out(dir, cache, opening, (number, &reason), &scan)?);
            }
            _ if is_about_log(&reason) && opening.recovery == DBRecoveryMode::PointInTime => {
                opening.recovery = DBRecoveryMode::SkipAnyCorruptedRecord;
                damaged.push(format!("log: {reason}; {}", keep_log_files(dir, &scan)));
            }
            _ => return Err(about_catalog(dir, error.into())),
        }
    }
}

/// Names the files that say what there is, if it is they that keep a database from opening.
pub(crate) fn about_catalog(dir: &Path, error: StoreError) -> StoreError {
    let StoreError::Rocks(said) = &error else { return error };
    let named = ["MANIFEST", "CURRENT"].iter().any(|name| said.as_ref().contains(name));
    if error.is_full() || (!named && database::families(dir).is_ok()) {
        return error;
    }
    StoreError::Catalog { file: "MANIFEST or CURRENT".to_owned(), reason: error.to_string() }
}

/// Names the table of the catalog that cannot be read.
pub(crate) fn about_table(error: StoreError) -> StoreError {
    let StoreError::Rocks(said) = &error else { return error };
    match table_file(said.as_ref()) {
        Some(number) => {
            StoreError::Catalog { file: format!("{number:06}.sst"), reason: said.as_ref().to_owned() }
        }
        None => error,
    }
}

fn is_about_log(reason: &str) -> bool {
    reason.contains("Corruption") && (reason.contains("WAL") || reason.contains("log"))
}

/// What a crash leaves of a write under way is no damage, and is told all the same: nothing else knows of it.
fn torn_end(scan: &Scan) -> Option<String> {
    let end = scan.end().filter(|end| end.torn)?;
    let text = format!(
        "the log ends torn at byte {} of {}{}: a frame that was being written then was not acknowledged, unless the \
         machine itself stopped under durability process",
        end.offset,
        end.file,
        after(end)
    );
    tracing::warn!("{text}");
    Some(text)
}

/// Damaged places of the log, if they are more than the torn end that any crash may leave.
pub(crate) fn places(scan: &Scan) -> Vec<String> {
    let said = |bad: &BadPlace| format!("log: {} is damaged at byte {}{}", bad.file, bad.offset, after(bad));
    let whole = |end: &BadPlace| format!("{}, and ends with that: it may have been acknowledged", said(end));
    let before = scan.before_end().iter().filter(|_| scan.hole).take(PLACES_MAX).map(said);
    before.chain(scan.end().filter(|end| !end.torn).map(whole)).collect()
}

fn after(bad: &BadPlace) -> String {
    bad.after_frame.map_or_else(String::new, |frame| format!(" after frame {frame}"))
}

/// Copies the write-ahead files before they are read with losses. Says where they are.
fn keep_log_files(dir: &Path, scan: &Scan) -> String {
    let free = (0..COPIES_MAX).map(|n| dir.join(FOLDER).join(format!("log-{n}"))).find(|at| !at.exists());
    let Some(target) = free else { return format!("no copy was kept, {COPIES_MAX} are there already") };
    let copied = std::fs::create_dir_all(&target).and_then(|()| {
        scan.files.iter().try_for_each(|path| match path.file_name() {
            Some(name) => std::fs::copy(path, target.join(name)).map(|_| ()),
            None => Ok(()),
        })
    });
    match copied {
        Ok(()) => format!("a copy is in {}", target.display()),
        Err(error) => {
            let _ = std::fs::remove_dir_all(&target);
            format!("no copy could be kept: {error}")
        }
    }
}

/// The number of the table file that RocksDB complains about.
pub(crate) fn table_file(reason: &str) -> Option<u64> {
    let end = reason.find(".sst")?;
    let digits = reason[..end].bytes().rev().take_while(u8::is_ascii_digit).count();
    reason[end - digits..end].parse().ok()
}

/// Takes a table file out of the database: moves it aside and makes the database forget it. Says what is lost by that.
fn take_out(
    dir: &Path,
    cache: &Cache,
    opening: Opening,
    (number, reason): (u64, &str),
    scan: &Scan,
) -> Result<Option<String>, StoreError> {
    let recovery = DBRecoveryMode::SkipAnyCorruptedRecord;
    let lenient = Opening { recovery, paranoid: false, ..opening };
    let db = open_rocks(dir, cache, lenient)?;
    let files = db.live_files()?;
    let file = files.iter().find(|file| table_file(&file.name) == Some(number));
    let file = file
        .ok_or_else(|| StoreError::Catalog { file: format!("{number:06}.sst"), reason: reason.to_owned() })?;
    let family = file.column_family_name.as_str();
    if family == DEFAULT_COLUMN_FAMILY_NAME {
        return Err(StoreError::Catalog { file: format!("{number:06}.sst"), reason: reason.to_owned() });
    }
    let aside = move_aside(dir, number);
    if family == rollup::FAMILY {
        forget_file(&db, file)?;
        Ok(Some(format!("rollup: {reason}; {aside}")))
    } else if family == copies::FAMILY {
        // The catalog has it as well. If it has not, the segments that name it say so.
        forget_file(&db, file)?;
        Ok(None)
    } else if FamilyName::parse(family).is_some() {
        forget_segments(&db, file, &format!("{reason}; {aside}")).map(Some)
    } else if generation_of(family).is_some() {
        rescue_frames(&db, family, &files, scan.last_frame)?;
        Ok(Some(format!("log: a file of {family}: {reason}; {aside}")))
    } else {
        Err(StoreError::Catalog { file: format!("{number:06}.sst"), reason: reason.to_owned() })
    }
}

fn move_aside(dir: &Path, number: u64) -> String {
    let name = format!("{number:06}.sst");
    let from = rocks_dir(dir).join(&name);
    if !from.exists() {
        return "the file is gone".to_owned();
    }
    let target: PathBuf = dir.join(FOLDER).join(&name);
    let moved = std::fs::create_dir_all(dir.join(FOLDER)).and_then(|()| std::fs::rename(&from, &target));
    match moved {
        Ok(()) => format!("the file is now {}", target.display()),
        Err(error) => format!("the file could not be moved aside: {error}"),
    }
}

/// Makes the database forget a file.
fn forget_file(db: &Db, file: &LiveFile) -> Result<(), StoreError> {
    let family = db.cf_handle(&file.column_family_name);
    if let (Some(start), Some(end), Some(family)) = (&file.start_key, &file.end_key, family) {
        db.delete_file_in_range_cf(&family, start, end)?;
    }
    Ok(())
}

/// Makes a partition forget a file, and writes down which segment that was.
fn forget_segments(db: &Db, file: &LiveFile, why: &str) -> Result<String, StoreError> {
    let name = &file.column_family_name;
    let Some(start) = &file.start_key else {
        return Ok(format!("{name}: {}: {why}", file.name));
    };
    forget_file(db, file)?;
    let id = segment_number(start).unwrap_or(u32::MAX);
    let text = format!("segment {id} in {name}: {why}");
    record(db, id, &text)?;
    Ok(text)
}

/// Writes down what happened to a segment; the text is `segment ID in FAMILY: WHY`. It is forgotten with the family.
pub(crate) fn record(db: &Db, id: u32, text: &str) -> Result<(), StoreError> {
    Ok(db.put([SET_ASIDE, &id.to_be_bytes()].concat(), text)?)
}

/// Copies what can still be read of a damaged log generation into a new one, and drops it.
fn rescue_frames(db: &Db, name: &str, files: &[LiveFile], last: Option<u64>) -> Result<(), StoreError> {
    let number = |key: &Option<Vec<u8>>| {
        key.as_ref().and_then(|key| <[u8; 8]>::try_from(key.as_slice()).ok()).map(u64::from_be_bytes)
    };
    let of_family = || files.iter().filter(|file| file.column_family_name == name);
    let first = of_family().filter_map(|file| number(&file.start_key)).min().unwrap_or(0);
    let last = of_family().filter_map(|file| number(&file.end_key)).max().max(last).unwrap_or(0);
    let numbers = files.iter().filter_map(|file| generation_of(&file.column_family_name));
    let mut free = numbers.max().unwrap_or(0) + 1;
    while db.cf_handle(&Generation::new(free).family).is_some() {
        free += 1;
    }
    let rescued = Generation::new(free);
    db.create_cf(&rescued.family, &options::log())?;
    if let (Some(from), Some(to)) = (db.cf_handle(name), db.cf_handle(&rescued.family)) {
        for seq in first..=last {
            if let Ok(Some(frame)) = db.get_pinned_cf(&from, seq.to_be_bytes()) {
                db.put_cf(&to, seq.to_be_bytes(), &frame)?;
            }
        }
    }
    Ok(db.drop_cf(name)?)
}

/// What was set aside at earlier starts and is not forgotten yet: its partition is still there.
pub(crate) fn recorded(db: &Db) -> Result<Vec<(u32, String)>, StoreError> {
    let mut found = Vec::new();
    for item in db.prefix_iterator(SET_ASIDE) {
        let (key, text) = item?;
        if !key.starts_with(SET_ASIDE) {
            break;
        }
        let text = String::from_utf8_lossy(&text).into_owned();
        if recorded_family(&text).is_some_and(|family| db.cf_handle(family).is_some()) {
            let id = key.get(SET_ASIDE.len()..).and_then(segment_number).unwrap_or(0);
            found.push((id, text));
        } else {
            db.delete(&key)?;
        }
    }
    Ok(found)
}

/// The family that a recorded text names.
pub(crate) fn recorded_family(text: &str) -> Option<&str> {
    Some(text.split_whitespace().nth(3)?.trim_end_matches(':'))
}

/// What was set aside at earlier starts, without forgetting anything.
pub(crate) fn recorded_texts(db: &Db) -> Result<Vec<String>, StoreError> {
    let items = db.prefix_iterator(SET_ASIDE).map_while(|item| match item {
        Ok((key, _)) if !key.starts_with(SET_ASIDE) => None,
        item => Some(item.map(|(_, text)| String::from_utf8_lossy(&text).into_owned())),
    });
    Ok(items.collect::<Result<_, _>>()?)
}

/// The segments that a family's files say they hold, rising.
pub(crate) fn segments_of_files(db: &Db, family: &str) -> Result<Vec<u32>, StoreError> {
    let files = db.live_files()?;
    let of_family = files.iter().filter(|file| file.column_family_name == family);
    let mut found: Vec<u32> = of_family
        .flat_map(|file| [&file.start_key, &file.end_key])
        .filter_map(|key| segment_number(key.as_deref()?))
        .collect();
    found.sort_unstable();
    found.dedup();
    Ok(found)
}

pub(crate) fn segment_number(key: &[u8]) -> Option<u32> {
    Some(u32::from_be_bytes(key.get(..4)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::table_file;

    #[test]
    fn the_file_is_found_in_what_rocksdb_says() {
        let missing = "Corruption: Can't access /000016.sst: IO error: No such file or directory: While stat a \
                       file for size: /x/rocksdb/000016.sst";
        assert_eq!(table_file(missing), Some(16));
        assert_eq!(table_file("Corruption: Bad table magic number in /x/000117.sst"), Some(117));
        assert_eq!(table_file("IO error: No space left on device"), None);
        assert_eq!(table_file(".sst"), None);
    }
}
