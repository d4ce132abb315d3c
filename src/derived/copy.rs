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
use std::sync::Arc;

use super::derived_store::{DerivedStore, INCARNATION_KEY, META_TREE, sled_config};
use super::derived_tree::DerivedTree;
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
        self: &Arc<Self>,
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

    fn write_copy(
        self: &Arc<Self>,
        path: &Path,
        cache_bytes: u64,
    ) -> Result<(), DerivedStoreError> {
        let copy = self.guard(|| sled_config(path, cache_bytes).open())?;
        for name in self.db().tree_names() {
            // All names are text.
            let name = String::from_utf8_lossy(&name);
            if name != META_TREE {
                let to = self.guard(|| copy.open_tree(name.as_bytes()))?;
                self.copy_tree(&self.tree(&name)?, &to, &copy)?;
            }
        }
        self.guard(|| {
            copy.flush()?;
            let incarnation = self.db().open_tree(META_TREE)?.get(INCARNATION_KEY)?;
            if let Some(incarnation) = incarnation {
                copy.open_tree(META_TREE)?
                    .insert(INCARNATION_KEY, incarnation)?;
            }
            copy.flush().map(drop)
        })?;
        drop(copy);
        ["db", "conf"]
            .iter()
            .try_for_each(|name| File::open(path.join(name))?.sync_all())
            .and_then(|()| LocalDisk.sync_folder(path))
            .map_err(|source| DerivedStoreError::from_folder(path, source))
    }

    /// Copies the rows of one tree, encrypted as new ones are.
    fn copy_tree(
        &self,
        from: &DerivedTree,
        to: &sled::Tree,
        copy: &sled::Db,
    ) -> Result<(), DerivedStoreError> {
        for (row, number) in from.iter().zip(1_u64..) {
            let (key, value) = row?;
            let stored = from.encrypt(&key, &value);
            self.guard(|| to.insert(key, &*stored))?;
            if number.is_multiple_of(FLUSH_ROWS) {
                self.guard(|| copy.flush())?;
            }
        }
        Ok(())
    }
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
