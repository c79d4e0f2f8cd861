//! What the system has of a folder at one moment, as `kill -9` leaves it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::super::life;

/// A copy of the folder as it was at one moment. RocksDB writes and takes away files in the background, so what
/// changed meanwhile is copied anew.
pub(super) fn of(folder: &Path) -> TempDir {
    for _ in 0..1_000 {
        let (before, image) = (listing(folder), life::folder());
        let copied = before.iter().all(|(file, _)| copy_file(folder, image.path(), file).is_ok());
        if copied && listing(folder) == before && listing(image.path()) == before {
            return image;
        }
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    panic!("{} does not come to rest", folder.display());
}

fn copy_file(from: &Path, to: &Path, file: &Path) -> std::io::Result<u64> {
    let target = to.join(file);
    std::fs::create_dir_all(target.parent().unwrap_or(to))?;
    std::fs::copy(from.join(file), target)
}

/// Every file below a folder with its length, but for RocksDB's own words and its lock.
fn listing(folder: &Path) -> BTreeMap<PathBuf, u64> {
    let (mut found, mut left) = (BTreeMap::new(), vec![folder.to_owned()]);
    while let Some(dir) = left.pop() {
        for entry in std::fs::read_dir(&dir).into_iter().flatten().flatten() {
            let Ok(meta) = entry.metadata() else { continue };
            let path = entry.path();
            if meta.is_dir() {
                left.push(path);
            } else if !entry.file_name().to_string_lossy().starts_with("LO") {
                found.extend(path.strip_prefix(folder).map(|path| (path.to_owned(), meta.len())));
            }
        }
    }
    found
}
