//! Folder `derived/`: created for the owner alone, marked as unusable, emptied.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::error::DerivedStoreError;
use crate::journal::{Disk, LocalDisk};

/// Name of the file that marks the folder's content as unusable.
pub(super) const UNUSABLE_MARK: &str = "UNUSABLE";

/// Extension of the folder with the copy of a derived store, until it takes the store's place.
pub(super) const NEW: &str = "new";
/// Extension of the folder with the former files of a derived store, until it is removed.
pub(super) const OLD: &str = "old";

/// Creates the folder if it does not exist. Only the owner may read it: rows contain messages of
/// customers.
pub(super) fn create_private_folder(path: &Path) -> Result<(), DerivedStoreError> {
    LocalDisk
        .create_folder(path)
        .and_then(|()| fs::set_permissions(path, fs::Permissions::from_mode(0o700)))
        .map_err(|source| DerivedStoreError::from_folder(path, source))
}

pub(super) fn is_folder_empty(path: &Path) -> Result<bool, DerivedStoreError> {
    fs::read_dir(path)
        .map(|mut entries| entries.next().is_none())
        .map_err(|source| DerivedStoreError::from_folder(path, source))
}

/// Removes the folder's content. The mark comes first, so that a crash leaves no half of it that
/// looks usable.
pub(super) fn empty_folder(path: &Path) -> Result<(), DerivedStoreError> {
    let remove = || -> io::Result<()> {
        let mark = path.join(UNUSABLE_MARK);
        File::create(&mark)?.sync_all()?;
        LocalDisk.sync_folder(path)?;
        for entry in fs::read_dir(path)? {
            let entry = entry?;
            if entry.path() == mark {
                continue;
            }
            if entry.file_type()?.is_dir() {
                fs::remove_dir_all(entry.path())?;
            } else {
                fs::remove_file(entry.path())?;
            }
        }
        fs::remove_file(&mark)?;
        LocalDisk.sync_folder(path)
    };
    remove().map_err(|source| DerivedStoreError::from_folder(path, source))
}

/// Returns the path of a folder beside the derived store in `path`.
pub(super) fn copy_path(path: &Path, extension: &str) -> PathBuf {
    path.with_extension(extension)
}

/// Removes the folder `path` with everything in it, if it exists.
pub(super) fn remove_folder(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

/// Ends what a crash has left of a copy of the store in `path`.
pub(super) fn end_interrupted_copy(path: &Path) -> Result<(), DerivedStoreError> {
    let (old, new) = (copy_path(path, OLD), copy_path(path, NEW));
    let end = || -> io::Result<()> {
        // The copy is whole, because the old files were moved away only then.
        if old.exists() && new.exists() && !path.exists() {
            fs::rename(&new, path)?;
            path.parent()
                .map_or(Ok(()), |parent| LocalDisk.sync_folder(parent))?;
        }
        remove_folder(&new)?;
        remove_folder(&old)
    };
    end().map_err(|source| DerivedStoreError::from_folder(path, source))
}
