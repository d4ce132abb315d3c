//! Copy of all live rows into fresh files, which take the place of the old ones. sled keeps the bytes
//! of removed rows in its log, so only this gets them off the disk.
//!
//! ```text
//!  derived/ ──rows──> derived.new/ ──sync──> derived/ renamed to derived.old/,
//!                                            derived.new/ to derived/, derived.old/ removed
//! ```
//!
//! A crash leaves a whole `derived/`, or none and a whole `derived.new/`. The incarnation is copied
//! last, so an unfinished copy never passes for a store.

use std::fs::{self, File};
use std::path::Path;

use super::derived_store::{DerivedStore, INCARNATION_KEY, META_TREE, sled_config};
use super::error::DerivedStoreError;
use super::folder::{self, NEW, OLD};
use crate::journal::{DataFolder, Disk, LocalDisk};

/// Rows after which the copy is handed to the operating system, so that the cache stays small.
const FLUSH_ROWS: u64 = 100_000;

impl DerivedStore {
    /// Copies all rows into new files beside those of this store, with a page cache of
    /// `cache_bytes`. [`adopt_copy`] must follow once the store is closed. Blocks.
    ///
    /// # Errors
    /// [`DerivedStoreError`] when the store cannot be read, or the copy not be written.
    pub fn copy_rows(
        &self,
        data_folder: &DataFolder,
        cache_bytes: u64,
    ) -> Result<(), DerivedStoreError> {
        let path = folder::copy_path(&data_folder.derived_path(), NEW);
        let io_error = |source| DerivedStoreError::from_folder(&path, source);
        folder::remove_folder(&path).map_err(io_error)?;
        folder::create_private_folder(&path)?;
        let copied = self.write_copy(&path, cache_bytes);
        if copied.is_err() {
            // Half of a copy must not keep the room that others need. The first error is the one to
            // report.
            let _ = folder::remove_folder(&path);
        }
        copied
    }

    fn write_copy(&self, path: &Path, cache_bytes: u64) -> Result<(), DerivedStoreError> {
        self.guard(|| {
            let copy = sled_config(path, cache_bytes).open()?;
            let is_meta = |name: &sled::IVec| name.as_ref() == META_TREE.as_bytes();
            let names = self.db().tree_names();
            for name in names.iter().filter(|name| !is_meta(name)) {
                copy_tree(&self.db().open_tree(name)?, &copy.open_tree(name)?, &copy)?;
            }
            copy.flush()?;
            let incarnation = self.db().open_tree(META_TREE)?.get(INCARNATION_KEY)?;
            if let Some(incarnation) = incarnation {
                copy.open_tree(META_TREE)?
                    .insert(INCARNATION_KEY, incarnation)?;
            }
            copy.flush().map(drop)
        })?;
        ["db", "conf"]
            .iter()
            .try_for_each(|name| File::open(path.join(name))?.sync_all())
            .and_then(|()| LocalDisk.sync_folder(path))
            .map_err(|source| DerivedStoreError::from_folder(path, source))
    }
}

fn copy_tree(from: &sled::Tree, to: &sled::Tree, copy: &sled::Db) -> sled::Result<()> {
    for (row, number) in from.iter().zip(1_u64..) {
        let (key, value) = row?;
        to.insert(key, value)?;
        if number.is_multiple_of(FLUSH_ROWS) {
            copy.flush()?;
        }
    }
    Ok(())
}

/// Puts the files of a finished copy in the place of the derived store, which must be closed.
///
/// # Errors
/// [`DerivedStoreError`] when the folders cannot be renamed.
pub fn adopt_copy(data_folder: &DataFolder) -> Result<(), DerivedStoreError> {
    let path = data_folder.derived_path();
    let (old, new) = (folder::copy_path(&path, OLD), folder::copy_path(&path, NEW));
    let sync = || LocalDisk.sync_folder(data_folder.path());
    folder::remove_folder(&old)
        .and_then(|()| fs::rename(&path, &old))
        .and_then(|()| sync())
        .and_then(|()| fs::rename(&new, &path))
        .and_then(|()| sync())
        .and_then(|()| folder::remove_folder(&old))
        .and_then(|()| sync())
        .map_err(|source| DerivedStoreError::from_folder(&path, source))
}
