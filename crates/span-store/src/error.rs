//! What can go wrong in the store, and what to do about it.

use std::path::PathBuf;

/// Why the store could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The folder cannot be made or read.
    #[error("cannot use the data folder {dir}: {source}")]
    Folder {
        /// The folder.
        dir: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Another process has the store open.
    #[error("the data folder {0} is in use by another process; stop it or choose another --data-dir")]
    Locked(PathBuf),
    /// RocksDB failed.
    #[error("rocksdb: {0}")]
    Rocks(#[from] rocksdb::Error),
    /// A segment could not be built.
    #[error("cannot build a segment: {0}")]
    Build(#[from] segment::BuildError),
    /// A folder was written by a newer version.
    #[error("the data folder has schema {found}, this version reads up to {known}; use a newer longpole")]
    Schema {
        /// The schema found.
        found: u32,
        /// The newest schema known.
        known: u32,
    },
    /// A request is too large for a frame.
    #[error("a group of requests of {0} bytes does not fit a log frame")]
    FrameTooLarge(usize),
}
