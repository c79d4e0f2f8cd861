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
    /// The database is closed, because opening it again has failed so far.
    #[error("the database is being opened again")]
    Closed,
    /// A file is gone or unreadable without which there is no store.
    #[error(
        "{file} cannot be read and the store cannot do without it ({reason}); `longpole repair` makes a store of what \
         can still be read, or restore a backup"
    )]
    Catalog {
        /// The file.
        file: String,
        /// What RocksDB said.
        reason: String,
    },
    /// There is no room for a copy of the log.
    #[error("{} MiB are free, and a copy takes {} MiB: of the log, and to seal what is in it", .free >> 20, .needed.div_ceil(1 << 20))]
    NoRoom {
        /// Free bytes.
        free: u64,
        /// Bytes that are needed.
        needed: u64,
    },
    /// What is to be written to exists.
    #[error("{0} is not empty; choose a folder that is empty or does not exist")]
    NotEmpty(PathBuf),
    /// What is to be read is no store.
    #[error("{0} is no store of longpole: it has no rocksdb/CURRENT")]
    NoStore(PathBuf),
    /// A repair found neither a segment nor a rollup nor a frame.
    #[error(
        "nothing was found to bring back: {0} holds no segment, rollup or log frame that can be read; it is left as it is. \
         Restore a backup, or move the folder away to begin anew"
    )]
    NothingFound(PathBuf),
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
    /// A segment was written by a newer version. To leave it out would be to count its spans again from the log.
    #[error("segment {segment} has format {found}, this version reads up to {known}; use a newer longpole")]
    Format {
        /// The segment's number.
        segment: u32,
        /// Its format.
        found: u32,
        /// The newest format known.
        known: u32,
    },
    /// A frame of the log that no segment holds was written by a newer version. To leave it out would be to lose it.
    #[error("log frame {frame} has version {found}, this version reads up to {known}; use a newer longpole")]
    FrameVersion {
        /// The frame's number.
        frame: u64,
        /// Its version.
        found: u8,
        /// The newest version known.
        known: u8,
    },
    /// A request is too large for a frame.
    #[error("a group of requests of {0} bytes does not fit a log frame")]
    FrameTooLarge(usize),
}

impl StoreError {
    /// Whether the disk was full.
    pub fn is_full(&self) -> bool {
        match self {
            Self::Rocks(error) => says_full(error.as_ref()),
            Self::Folder { source, .. } => source.kind() == std::io::ErrorKind::StorageFull,
            Self::Build(error) => says_full(&error.to_string()),
            _ => false,
        }
    }
}

/// RocksDB hands the system's words on.
fn says_full(text: &str) -> bool {
    text.contains("No space left") || text.contains("Disk quota exceeded")
}
