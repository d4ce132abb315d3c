//! Opening of a store of format 1, and reading of its trees.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use tracing::warn;

use super::error::FormerStoreError;
use super::frames::{self, CommitReader};
use super::joined_rows::{FormerRow, JoinedRows};
use crate::derived::derived_store::retry_while_locked;
use crate::derived::file_inspection::{self, SEGMENT_BYTES};
use crate::event::{Position, StoreIncarnation};
use crate::journal::JournalFrame;

const LOG: &str = "log";
const SET_ASIDE: &str = "set-aside";
/// Name of the folder [`LOG`] once its content is in the new journal.
const MIGRATED: &str = "log.migrated";
const SNAPSHOT_PREFIX: &str = "snap.";

/// Tree of a store of format 1 with rows that are not derived from its journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FormerTable {
    /// Definitions of subscriptions; values may be encrypted, and stay so.
    Subscriptions,
    /// Definitions of accounts; values may be encrypted, and stay so.
    Accounts,
    /// Rows of the delivery stage.
    Deliveries,
    /// Finished steps of pending enrichments.
    Enrichment,
}

/// Open store of format 1. Nothing is written to its trees.
pub struct FormerStore {
    db: sled::Db,
    log: PathBuf,
}

impl FormerStore {
    /// Opens the store in the data folder `path`, which the caller has locked, with a page cache of
    /// `cache_bytes`. `incarnation` is the one in FORMAT. Returns `None` if the store was created
    /// but never used.
    ///
    /// # Errors
    /// [`FormerStoreError`] if the files are damaged or belong to another store.
    pub fn open(
        path: &Path,
        incarnation: StoreIncarnation,
        cache_bytes: u64,
    ) -> Result<Option<Self>, FormerStoreError> {
        if !is_log_begun(&path.join("FORMAT"))? {
            return Ok(None);
        }

        // Inspect first, because sled repairs by overwriting.
        let log = path.join(LOG);
        let io = |source| FormerStoreError::from_io(&log, source);
        let end = file_inspection::inspect_files(&log)
            .map_err(io)?
            .map_err(FormerStoreError::Damaged)?;
        file_inspection::remove_snapshots_past(end, &log).map_err(io)?;

        let store = Self {
            db: open_files(path, &log, cache_bytes)?,
            log,
        };
        store.check_incarnation(incarnation)?;
        Ok(Some(store))
    }

    /// Sets the files of the store in the data folder `path` aside, so that
    /// [`FormerStore::remove_files`] removes them.
    ///
    /// # Errors
    /// The error of the operating system.
    pub fn set_files_aside(path: &Path) -> Result<(), FormerStoreError> {
        let log = path.join(LOG);
        match fs::rename(&log, path.join(MIGRATED)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(FormerStoreError::from_io(&log, error))
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Removes the files of a migrated store in the data folder `path`.
    ///
    /// # Errors
    /// The error of the operating system; another attempt may follow.
    pub fn remove_files(path: &Path) -> Result<(), FormerStoreError> {
        for name in [MIGRATED, SET_ASIDE] {
            let folder = path.join(name);
            match fs::remove_dir_all(&folder) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(FormerStoreError::from_io(&folder, error));
                }
                Ok(()) | Err(_) => {}
            }
        }
        Ok(())
    }

    /// Returns the approximate number of records: all before the last frame of the journal.
    ///
    /// # Errors
    /// [`FormerStoreError`] when sled fails, or the last key is malformed.
    pub fn count_records(&self) -> Result<u64, FormerStoreError> {
        let last = match self.tree("journal")? {
            Some(tree) => self.guard(|| tree.last())?,
            None => None,
        };
        let Some((key, _)) = last else {
            return Ok(0);
        };
        let last = frames::first_position(&key).ok_or(FormerStoreError::MalformedRow("journal"))?;
        Ok(last.get() - Position::FIRST.get())
    }

    /// Reads the commits of the journal in order, each with its frames. A commit without its last
    /// chunk at the end is left out: it was never acknowledged.
    ///
    /// # Errors
    /// [`FormerStoreError`] when sled fails. An item is an error if a frame cannot be decoded or
    /// does not follow the frame before it.
    pub fn read_commits(
        &self,
    ) -> Result<
        impl Iterator<Item = Result<Vec<JournalFrame>, FormerStoreError>> + '_,
        FormerStoreError,
    > {
        Ok(CommitReader::new(self.stored_rows("journal")?))
    }

    /// Reads the rows of a table in the order of their keys, with chunks joined.
    ///
    /// # Errors
    /// [`FormerStoreError`] when sled fails. An item is an error if a row is malformed.
    pub fn read_rows(
        &self,
        table: FormerTable,
    ) -> Result<Box<dyn Iterator<Item = Result<FormerRow, FormerStoreError>> + '_>, FormerStoreError>
    {
        Ok(match table {
            FormerTable::Subscriptions => Box::new(self.stored_rows("subscriptions")?),
            FormerTable::Accounts => Box::new(self.stored_rows("accounts")?),
            FormerTable::Deliveries => Box::new(JoinedRows::new(
                "deliveries",
                0,
                self.stored_rows("deliveries")?,
            )),
            FormerTable::Enrichment => Box::new(JoinedRows::new(
                "enrichment",
                1,
                self.stored_rows("enrichment")?,
            )),
        })
    }

    /// Reads the rows of the tree `name` as they are stored.
    fn stored_rows(
        &self,
        name: &'static str,
    ) -> Result<impl Iterator<Item = Result<FormerRow, FormerStoreError>> + '_, FormerStoreError>
    {
        let mut rows = self.tree(name)?.map(|tree| tree.iter());
        Ok(std::iter::from_fn(move || {
            let rows = rows.as_mut()?;
            let row = self.guard(|| rows.next().transpose());
            let row = row.transpose()?;
            Some(row.map(|(key, value)| (key.to_vec(), value.to_vec())))
        }))
    }

    /// Opens the tree `name`, if there is one: sled would create it.
    fn tree(&self, name: &str) -> Result<Option<sled::Tree>, FormerStoreError> {
        let is_there = self
            .db
            .tree_names()
            .iter()
            .any(|found| found == name.as_bytes());
        is_there
            .then(|| self.guard(|| self.db.open_tree(name)))
            .transpose()
    }

    fn check_incarnation(&self, expected: StoreIncarnation) -> Result<(), FormerStoreError> {
        let found = match self.tree("meta")? {
            Some(meta) => self.guard(|| meta.get("incarnation"))?,
            None => None,
        };
        if found.is_some_and(|found| *found == expected.get().to_be_bytes()) {
            Ok(())
        } else {
            Err(FormerStoreError::Foreign(self.log.clone()))
        }
    }

    fn guard<T>(&self, operation: impl FnOnce() -> sled::Result<T>) -> Result<T, FormerStoreError> {
        FormerStoreError::guard(&self.log, operation)
    }
}

/// Reads from FORMAT if the log was ever initialized. A malformed value must not count as `false`, or
/// the log would be lost.
fn is_log_begun(file: &Path) -> Result<bool, FormerStoreError> {
    let text = fs::read_to_string(file).map_err(|error| FormerStoreError::from_io(file, error))?;
    let value = text
        .lines()
        .find_map(|line| line.strip_prefix("log-begun = "));
    value
        .and_then(|value| value.parse().ok())
        .ok_or_else(|| FormerStoreError::BadFormat(file.to_owned()))
}

/// Opens sled. If sled cannot use its snapshot file, which is a cache of page locations, opens sled
/// without it, so that sled reads the whole log.
fn open_files(path: &Path, log: &Path, cache_bytes: u64) -> Result<sled::Db, FormerStoreError> {
    let config = sled::Config::new()
        .path(log)
        .cache_capacity(cache_bytes)
        .segment_size(SEGMENT_BYTES)
        .flush_every_ms(None);
    let open = || FormerStoreError::guard(log, || config.open());

    let first_error = match retry_while_locked(open, FormerStoreError::is_locked) {
        Err(error) if !error.is_system_error() => error,
        opened => return opened,
    };

    let snapshots = list_snapshots(log).map_err(|source| FormerStoreError::from_io(log, source))?;
    if snapshots.is_empty() {
        return Err(first_error);
    }
    set_aside(path, &snapshots)?;
    open().map_err(|_| {
        for snapshot in &snapshots {
            // The first error is the one to report. A file that cannot be moved back stays in
            // `set-aside`.
            let _ = fs::rename(aside_path(path, snapshot), snapshot);
        }
        first_error
    })
}

fn list_snapshots(log: &Path) -> io::Result<Vec<PathBuf>> {
    let mut snapshots = Vec::new();
    for entry in fs::read_dir(log)? {
        let entry = entry?;
        if entry
            .file_name()
            .to_string_lossy()
            .starts_with(SNAPSHOT_PREFIX)
        {
            snapshots.push(entry.path());
        }
    }
    Ok(snapshots)
}

/// Moves `snapshots` to the folder `set-aside`.
fn set_aside(path: &Path, snapshots: &[PathBuf]) -> Result<(), FormerStoreError> {
    for snapshot in snapshots {
        let moved = fs::create_dir_all(path.join(SET_ASIDE))
            .and_then(|()| fs::rename(snapshot, aside_path(path, snapshot)));
        moved.map_err(|source| FormerStoreError::from_io(snapshot, source))?;
        warn!(
            snapshot = %snapshot.display(),
            "snapshot unusable; set aside, reading the whole log instead"
        );
    }
    Ok(())
}

fn aside_path(path: &Path, snapshot: &Path) -> PathBuf {
    path.join(SET_ASIDE)
        .join(snapshot.file_name().unwrap_or_default())
}
