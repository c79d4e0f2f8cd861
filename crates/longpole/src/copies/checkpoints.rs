//! Checkpoints in the data folder, from which backups are copied.
//!
//! The files of a checkpoint are shared with the store, and for as long as it is there nothing that retention drops
//! makes room. So one that nobody copies any more goes: the command that copies one touches it all the while.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread::Builder;
use std::time::{Duration, SystemTime};

use span_store::{SpanStore, StoreError};

/// Folder of checkpoints, in the data folder.
const CHECKPOINTS: &str = "backup";
/// How often a checkpoint is touched while it is copied.
const TOUCH: Duration = Duration::from_secs(10);
/// A checkpoint that was not touched for so long is left behind.
pub(crate) const ABANDONED: Duration = Duration::from_secs(3600);
/// The same while there is no room on the disk.
pub(crate) const ABANDONED_WITHOUT_ROOM: Duration = Duration::from_secs(60);

/// Makes a checkpoint of all that was acknowledged before, in a folder of its own.
pub(super) fn make(store: &SpanStore) -> Result<PathBuf, StoreError> {
    let folder =
        std::path::absolute(store.dir()).unwrap_or_else(|_| store.dir().to_owned()).join(CHECKPOINTS);
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let checkpoint = folder.join(format!("{}-{}", since.as_nanos(), std::process::id()));
    store.backup(&checkpoint)?;
    Ok(checkpoint)
}

/// Removes a checkpoint, and the folder of checkpoints with the last one.
pub(super) fn remove(checkpoint: &Path) {
    if let Err(error) = fs::remove_dir_all(checkpoint) {
        tracing::warn!(%error, checkpoint = %checkpoint.display(), "cannot remove a checkpoint");
    }
    if let Some(folder) = checkpoint.parent() {
        // Not empty: others are being copied.
        let _ = fs::remove_dir(folder);
    }
}

/// Removes the checkpoints of a store that nobody has touched for so long; how many.
pub(crate) fn sweep(data_dir: &Path, abandoned: Duration) -> usize {
    let now = SystemTime::now();
    let entries = fs::read_dir(data_dir.join(CHECKPOINTS)).into_iter().flatten().flatten();
    let left_behind = entries.filter(|entry| {
        let touched = entry.metadata().and_then(|metadata| metadata.modified());
        touched.is_ok_and(|touched| now.duration_since(touched).is_ok_and(|age| age >= abandoned))
    });
    left_behind.map(|entry| remove(&entry.path())).count()
}

/// Copies a checkpoint that is touched all the while.
pub(super) fn while_touched<T>(checkpoint: &Path, copy: impl FnOnce() -> T) -> T {
    let (done, copied) = channel::<()>();
    std::thread::scope(|scope| {
        let touching = Builder::new().name("touching".to_owned()).spawn_scoped(scope, move || {
            while matches!(copied.recv_timeout(TOUCH), Err(RecvTimeoutError::Timeout)) {
                report(touch(checkpoint));
            }
        });
        report(touching.map(drop));
        let result = copy();
        drop(done);
        result
    })
}

fn touch(checkpoint: &Path) -> io::Result<()> {
    File::open(checkpoint)?.set_modified(SystemTime::now())
}

/// Without being touched it stays for as long as others are left alone, which is mostly enough.
fn report(touched: io::Result<()>) {
    if let Err(error) = touched {
        tracing::warn!(%error, "the server may remove the checkpoint before it is copied");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use span_store::StoreOptions;

    #[test]
    fn checkpoints_that_nobody_touches_go_and_others_stay() {
        let dir = tempfile::tempdir().unwrap();
        let (store, ..) = SpanStore::open(dir.path(), StoreOptions::default()).unwrap();
        assert_eq!(sweep(dir.path(), Duration::ZERO), 0);
        let (old, new) = (make(&store).unwrap(), make(&store).unwrap());
        let hours_ago = SystemTime::now() - 2 * ABANDONED;
        File::open(&old).unwrap().set_modified(hours_ago).unwrap();
        assert_eq!(sweep(dir.path(), ABANDONED), 1);
        assert!(!old.exists() && new.join("rocksdb/CURRENT").is_file());
        assert!(while_touched(&new, || new.is_dir()));
        File::open(&new).unwrap().set_modified(hours_ago).unwrap();
        touch(&new).unwrap();
        assert_eq!(sweep(dir.path(), ABANDONED), 0, "it was touched");
        assert_eq!(sweep(dir.path(), Duration::ZERO), 1);
        assert!(!dir.path().join(CHECKPOINTS).exists(), "nothing is left behind");
    }
}
