//! Opening of the derived store, its sync, and its handle.
//!
//! ```text
//! derived/   sled's files (db, conf, snap.*; blobs/ stays empty)
//!            UNUSABLE while the folder's content waits to be removed
//! ```

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use tracing::warn;

use super::error::DerivedStoreError;
use super::file_inspection::{self, LogEnd, SEGMENT_BYTES};
use super::folder::{self, UNUSABLE_MARK};
use crate::event::StoreIncarnation;
use crate::failpoints::{Failpoint, FailureInjector};
use crate::journal::{ContentCipher, DataFolder, Disk, LocalDisk};
use crate::panics;

/// Number of attempts to take sled's lock. When a store has just been closed, threads of sled can
/// hold its files a moment longer.
const LOCK_ATTEMPTS: u32 = 100;
/// Pause between two attempts to take the lock.
const LOCK_PAUSE: Duration = Duration::from_millis(10);

/// Largest log that is read and checked as a whole at each start: that takes a fraction of a
/// second.
const CHECKED_LOG_BYTES: u64 = 64 * 1024 * 1024;

pub(super) const META_TREE: &str = "meta";
pub(super) const INCARNATION_KEY: &[u8] = b"incarnation";

/// Open derived store. Dropping the last handle closes it; a tree is a handle too.
pub struct DerivedStore {
    db: sled::Db,
    /// Separate handle of sled's file, for `fdatasync`: sled's own flush ends in `sync_file_range`,
    /// which flushes neither the file's metadata nor the device's cache.
    db_file: File,
    path: PathBuf,
    failure_injector: Arc<dyn FailureInjector>,
    // Dropped last: another process may use the folder only after sled has released it.
    folder: Arc<DataFolder>,
}

impl DerivedStore {
    /// Opens the derived store of `folder` with a page cache of `cache_bytes`. Files that are
    /// damaged, or belong to another store, are removed, and the store begins empty.
    ///
    /// # Errors
    /// [`DerivedStoreError`] of the disk or the operating system; nothing is removed then.
    pub fn open(
        folder: &Arc<DataFolder>,
        cache_bytes: u64,
        failure_injector: Arc<dyn FailureInjector>,
    ) -> Result<Arc<Self>, DerivedStoreError> {
        let path = folder.derived_path();
        folder::end_interrupted_copy(&path)?;
        folder::create_private_folder(&path)?;
        let open = || open_files(&path, folder.incarnation(), cache_bytes);
        let mut opened = open()?;
        if let Err(damage) = &opened {
            warn!(
                folder = %path.display(),
                reason = damage,
                "derived store unusable; deriving it again from the journal"
            );
            folder::empty_folder(&path)?;
            opened = open()?;
        }
        let (db, db_file) = opened
            .map_err(|damage| DerivedStoreError::from_folder(&path, io::Error::other(damage)))?;
        Ok(Arc::new(Self {
            db,
            db_file,
            path,
            failure_injector,
            folder: Arc::clone(folder),
        }))
    }

    /// Returns the keys of all values.
    #[must_use]
    pub fn cipher(&self) -> &ContentCipher {
        self.folder.cipher()
    }

    pub(super) fn db(&self) -> &sled::Db {
        &self.db
    }

    /// Opens sled's tree `name`, for [`DerivedStore::tree`].
    pub(super) fn open_tree(&self, name: &str) -> Result<sled::Tree, DerivedStoreError> {
        self.guard(|| self.db.open_tree(name))
    }

    /// Removes the tree `name` with all its rows.
    ///
    /// # Errors
    /// [`DerivedStoreError`] when sled fails.
    pub fn drop_tree(&self, name: &str) -> Result<(), DerivedStoreError> {
        self.guard(|| self.db.drop_tree(name)).map(drop)
    }

    /// Hands all earlier writes to the operating system, so that they survive a crash of the
    /// process, but not a power failure.
    ///
    /// # Errors
    /// [`DerivedStoreError`] when sled fails.
    pub fn flush(&self) -> Result<(), DerivedStoreError> {
        self.guard(|| self.db.flush()).map(drop)
    }

    /// Syncs all earlier writes to the disk, so that they survive a power failure.
    ///
    /// # Errors
    /// [`DerivedStoreError`] for any error. The store must then be opened again: sled rejects every
    /// later write, but can report success for a later flush.
    pub fn sync(&self) -> Result<(), DerivedStoreError> {
        self.evaluate(Failpoint::DerivedSync)?;
        self.flush()?;
        let synced = self.db_file.sync_data();
        synced.map_err(|source| DerivedStoreError::from_folder(&self.path, source))
    }

    /// Passes a failpoint, at which a test can make the caller's operation fail.
    ///
    /// # Errors
    /// The injected error.
    pub fn evaluate(&self, point: Failpoint<'_>) -> Result<(), DerivedStoreError> {
        let passed = self.failure_injector.evaluate(point);
        passed.map_err(|source| DerivedStoreError::from_folder(&self.path, source))
    }

    /// Runs an operation of sled. If it finds damage, the next opening removes the files, because
    /// the damage would meet every later reader too.
    pub(super) fn guard<T>(
        &self,
        operation: impl FnOnce() -> sled::Result<T>,
    ) -> Result<T, DerivedStoreError> {
        let result = contain(|| operation().map_err(DerivedStoreError::from));
        if result.as_ref().is_err_and(DerivedStoreError::is_damage) {
            // Without the mark, the next opening may find the damage only when it is read again.
            let _ = File::create(self.path.join(UNUSABLE_MARK));
        }
        result
    }
}

/// Checks the files, opens sled and checks the incarnation. Returns the damage if the files are
/// unusable.
fn open_files(
    path: &Path,
    incarnation: StoreIncarnation,
    cache_bytes: u64,
) -> Result<Result<(sled::Db, File), String>, DerivedStoreError> {
    let is_new = folder::is_folder_empty(path)?;
    if !is_new {
        let io_error = |source| DerivedStoreError::from_folder(path, source);
        let end = match file_inspection::inspect_files(path).map_err(io_error)? {
            Ok(end) => end,
            Err(damage) => return Ok(Err(damage)),
        };
        // Without a snapshot, sled reads the whole log and checks it. With one, it would search for
        // ever for a page that is damaged. A large log is not read at each start all the same.
        let log_bytes = fs::metadata(path.join("db")).map_err(io_error)?.len();
        let trusted = if log_bytes > CHECKED_LOG_BYTES {
            end
        } else {
            LogEnd::START
        };
        file_inspection::remove_snapshots_past(trusted, path).map_err(io_error)?;
    }

    let open = || contain(|| try_open_files(path, is_new, incarnation, cache_bytes));
    match retry_while_locked(open, DerivedStoreError::is_locked) {
        Ok(Some(files)) => Ok(Ok(files)),
        Ok(None) => Ok(Err("it belongs to another store".into())),
        Err(error) if error.is_damage() => Ok(Err(crate::error_chain::format_error_chain(&error))),
        Err(error) => Err(error),
    }
}

/// Opens sled. Returns `None` if its incarnation is another one than `incarnation`.
fn try_open_files(
    path: &Path,
    is_new: bool,
    incarnation: StoreIncarnation,
    cache_bytes: u64,
) -> Result<Option<(sled::Db, File)>, DerivedStoreError> {
    let db = sled_config(path, cache_bytes).open()?;
    let io_error = |source| DerivedStoreError::from_folder(path, source);
    let db_file = File::open(path.join("db")).map_err(io_error)?;

    let meta = db.open_tree(META_TREE)?;
    let expected = incarnation.get().to_be_bytes();
    match meta.get(INCARNATION_KEY)? {
        Some(found) if found == expected => {}
        None if is_new => {
            meta.insert(INCARNATION_KEY, &expected)?;
            db.flush()?;
            db_file
                .sync_all()
                // sled writes `conf` once and never syncs it, and cannot repair it.
                .and_then(|()| File::open(path.join("conf"))?.sync_all())
                .and_then(|()| LocalDisk.sync_folder(path))
                .map_err(io_error)?;
        }
        Some(_) | None => return Ok(None),
    }
    Ok(Some((db, db_file)))
}

/// Returns the configuration of sled for the files in `path`.
pub(super) fn sled_config(path: &Path, cache_bytes: u64) -> sled::Config {
    sled::Config::new()
        .path(path)
        .cache_capacity(cache_bytes)
        .segment_size(SEGMENT_BYTES)
        // No timer: this program decides when to sync, because cursors depend on it.
        .flush_every_ms(None)
}

/// Runs `open`, which opens sled, again as long as threads of the last opening hold sled's lock.
pub(super) fn retry_while_locked<T, E>(
    open: impl Fn() -> Result<T, E>,
    is_locked: impl Fn(&E) -> bool,
) -> Result<T, E> {
    let mut opened = open();
    for _ in 1..LOCK_ATTEMPTS {
        if !opened.as_ref().is_err_and(&is_locked) {
            break;
        }
        thread::sleep(LOCK_PAUSE);
        opened = open();
    }
    opened
}

/// Runs `work` and turns a panic of sled into an error.
fn contain<T>(work: impl FnOnce() -> Result<T, DerivedStoreError>) -> Result<T, DerivedStoreError> {
    panics::contain_panic(work)
        .unwrap_or_else(|message| Err(DerivedStoreError::from_panic(message)))
}
