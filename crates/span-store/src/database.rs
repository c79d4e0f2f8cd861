//! The open database, which can be closed and opened again while others hold on to it.
//!
//! RocksDB turns read-only when a write to its log fails, and what it offers to get out of that is not in the
//! crate. Closing and opening again always works once there is room, so everybody reaches the database through
//! this: readers hold a shared lock for the length of one read, and opening again waits for them.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::{MappedRwLockReadGuard, RwLock, RwLockReadGuard};
use rocksdb::{Cache, ColumnFamilyDescriptor, DB, DBRecoveryMode, ErrorKind};

use crate::dictionaries::{Dictionaries, copies};
use crate::error::StoreError;
use crate::log::generation_of;
use crate::open;
use crate::options::{self, StoreOptions};
use crate::partition::{Db, FamilyName};
use crate::rollup;

/// A database in a folder, with the cache that outlives each opening of it.
pub(crate) struct Database {
    dir: PathBuf,
    cache: Cache,
    /// How it was opened first: a hole in its log stays until what is in that file is sealed.
    opening: Opening,
    open: RwLock<Option<Db>>,
    reopened: AtomicU64,
    dictionaries: Dictionaries,
}

impl std::fmt::Debug for Database {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Database({})", self.dir.display())
    }
}

/// How a database is opened.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Opening {
    pub(crate) recovery: DBRecoveryMode,
    /// Off only to take a file out that keeps the database from opening.
    pub(crate) paranoid: bool,
    /// A backstop: the log is sealed and dropped long before its WAL has so many bytes.
    pub(crate) wal_bytes_max: u64,
}

impl Opening {
    /// As usual, for a store with these options.
    pub(crate) fn of(options: &StoreOptions) -> Self {
        // The unsynced tail may be torn by a crash of the machine; what precedes it is whole.
        let recovery = DBRecoveryMode::PointInTime;
        Self { recovery, paranoid: true, wal_bytes_max: options.wal_bytes_max() }
    }
}

impl Database {
    pub(crate) fn new(dir: &Path, cache: Cache, db: Db, opening: Opening) -> Self {
        let dictionaries = Dictionaries::load(&db);
        let (open, reopened) = (RwLock::new(Some(db)), AtomicU64::new(0));
        Self { dir: dir.to_owned(), cache, opening, open, reopened, dictionaries }
    }

    /// What was read when it was opened first, which stays when it is opened again.
    pub(crate) fn dictionaries(&self) -> &Dictionaries {
        &self.dictionaries
    }

    /// The database, for one read or write. Do not ask again while holding it: who opens again would wait for
    /// the first and the second for who opens.
    pub(crate) fn get(&self) -> Result<MappedRwLockReadGuard<'_, Db>, StoreError> {
        RwLockReadGuard::try_map(self.open.read(), Option::as_ref).map_err(|_| StoreError::Closed)
    }

    pub(crate) fn cache(&self) -> &Cache {
        &self.cache
    }

    /// How often it was opened again.
    pub(crate) fn reopened(&self) -> u64 {
        self.reopened.load(Ordering::Relaxed)
    }

    /// Drops a family. Whether it is gone.
    ///
    /// # Errors
    /// What RocksDB says. Then it may be there or not, and this may be tried again.
    pub(crate) fn drop_family(&self, name: &str) -> Result<bool, StoreError> {
        let db = self.get()?;
        if db.cf_handle(name).is_some() {
            db.drop_cf(name)?;
            return Ok(true);
        }
        // A drop that failed took the handle all the same. What is on the disk decides, and a family that is still there
        // has a handle again when the database was opened again.
        Ok(families(&self.dir)?.iter().all(|family| family != name))
    }

    /// Closes it and opens it again. If that fails it stays closed, and this may be tried again; without a catalog it is
    /// not closed either.
    pub(crate) fn reopen(&self) -> Result<(), StoreError> {
        open::has_catalog(&self.dir)?;
        let mut open = self.open.write();
        // Closed before it is opened: there is one lock file.
        drop(open.take());
        *open = Some(open_rocks(&self.dir, &self.cache, self.opening)?);
        self.reopened.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

/// Opens the database with every column family it has, or makes it.
pub(crate) fn open_rocks(dir: &Path, cache: &Cache, opening: Opening) -> Result<Db, StoreError> {
    let db_dir = rocks_dir(dir);
    let mut names = families(dir)?;
    for always in [rollup::FAMILY, copies::FAMILY] {
        if !names.iter().any(|name| name == always) {
            names.push(always.to_owned());
        }
    }
    let descriptors = names.into_iter().map(|name| {
        let options = family_options(&name, cache);
        ColumnFamilyDescriptor::new(name, options)
    });
    let mut options = options::database();
    options.set_wal_recovery_mode(opening.recovery);
    options.set_paranoid_checks(opening.paranoid);
    options.set_max_total_wal_size(opening.wal_bytes_max);
    Db::open_cf_descriptors(&options, &db_dir, descriptors)
        .map_err(|error| if is_locked(&error) { StoreError::Locked(dir.to_path_buf()) } else { error.into() })
}

/// Opens it beside a process that may be serving it: nothing is written, no lock is taken.
pub(crate) fn open_to_read(dir: &Path, cache: &Cache, hole: bool) -> Result<Db, StoreError> {
    let descriptors = families(dir)?.into_iter().map(|name| {
        let options = family_options(&name, cache);
        ColumnFamilyDescriptor::new(name, options)
    });
    let mut options = options::database();
    // RocksDB opens it with what is damaged left out; what that is, is looked for one by one.
    options.set_paranoid_checks(false);
    if hole {
        options.set_wal_recovery_mode(DBRecoveryMode::SkipAnyCorruptedRecord);
    }
    Ok(Db::open_cf_descriptors_read_only(&options, rocks_dir(dir), descriptors, false)?)
}

pub(crate) fn rocks_dir(dir: &Path) -> PathBuf {
    dir.join("rocksdb")
}

/// The column families; `default` alone where there is no database yet.
pub(crate) fn families(dir: &Path) -> Result<Vec<String>, StoreError> {
    let db_dir = rocks_dir(dir);
    match DB::list_cf(&options::database(), &db_dir) {
        Ok(families) => Ok(families),
        Err(_) if !db_dir.join("CURRENT").exists() => Ok(vec!["default".to_owned()]),
        Err(error) => Err(error.into()),
    }
}

fn family_options(name: &str, cache: &Cache) -> rocksdb::Options {
    if FamilyName::parse(name).is_some() || name == rollup::FAMILY || name == copies::FAMILY {
        options::partition(cache)
    } else if generation_of(name).is_some() {
        options::log()
    } else {
        options::catalog()
    }
}

/// RocksDB names its lock file; "lock" alone would also take a damaged block for a lock.
fn is_locked(error: &rocksdb::Error) -> bool {
    error.kind() == ErrorKind::IOError && error.as_ref().contains("rocksdb/LOCK: ")
}
