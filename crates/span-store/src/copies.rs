//! Copies of a whole store: made while it serves, read back into an empty folder.

use std::fs;
use std::path::Path;

use rocksdb::checkpoint::Checkpoint;

use crate::database::rocks_dir;
use crate::disk::disk_space;
use crate::error::StoreError;
use crate::open;
use crate::store::SpanStore;
use crate::wal;

impl SpanStore {
    /// Makes a copy in a folder that must not exist, while the store serves. Everything that was acknowledged
    /// before the call is in it. On the same disk, files of segments are shared and cost no room.
    ///
    /// # Errors
    /// If the folder exists, or RocksDB or the system fails; then nothing is left of it.
    pub fn backup(&self, target: &Path) -> Result<(), StoreError> {
        if target.exists() {
            return Err(StoreError::NotEmpty(target.to_owned()));
        }
        fs::create_dir_all(target).map_err(folder(target))?;
        self.has_room_for_log(target).inspect_err(|_| {
            let _ = fs::remove_dir(target);
        })?;
        // u64::MAX: never flush, copy the log as it is. Log families are not to be flushed.
        let copied = (|| {
            let db = self.db.get()?;
            db.flush_wal(true)?;
            Checkpoint::new(&db)?.create_checkpoint_with_log_size(target.join("rocksdb"), u64::MAX)?;
            Ok(())
        })();
        copied.inspect_err(|_| {
            let _ = fs::remove_dir_all(target);
        })
    }
}

impl SpanStore {
    /// The log is copied, and must not take the room that its sealing needs.
    fn has_room_for_log(&self, target: &Path) -> Result<(), StoreError> {
        let Ok(space) = disk_space(target) else { return Ok(()) };
        let needed = wal::bytes(&rocks_dir(&self.dir))?.saturating_add(self.sealing_needs());
        if space.free < needed { Err(StoreError::NoRoom { free: space.free, needed }) } else { Ok(()) }
    }
}

/// Copies a backup into a folder that is empty or does not exist.
///
/// # Errors
/// If the source is no store, the target is not empty, or the system fails.
pub fn restore(source: &Path, target: &Path) -> Result<(), StoreError> {
    let from = source.join("rocksdb");
    open::find(source)?;
    if fs::read_dir(target).is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(StoreError::NotEmpty(target.to_owned()));
    }
    let to = target.join("rocksdb");
    fs::create_dir_all(&to).map_err(folder(target))?;
    for entry in fs::read_dir(&from).map_err(folder(&from))? {
        let path = entry.map_err(folder(&from))?.path();
        let Some(name) = path.file_name() else { continue };
        if name == "LOCK" || name == "CURRENT" {
            continue;
        }
        copy_synced(&path, &to.join(name))?;
    }
    // Last: without it there is no database, so half a copy is not taken for a whole one.
    copy_synced(&from.join("CURRENT"), &to.join("CURRENT"))
}

fn copy_synced(from: &Path, to: &Path) -> Result<(), StoreError> {
    fs::copy(from, to).map_err(folder(from))?;
    fs::File::open(to).and_then(|file| file.sync_all()).map_err(folder(to))
}

pub(crate) fn folder(dir: &Path) -> impl Fn(std::io::Error) -> StoreError {
    let dir = dir.to_owned();
    move |source| StoreError::Folder { dir: dir.clone(), source }
}
