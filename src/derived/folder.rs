//! Folder `derived/`: created for the owner alone, marked as unusable, emptied.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::error::DerivedStoreError;
use crate::journal::{Disk, LocalDisk};

/// Name of the file that marks the folder's content as unusable.
pub(super) const UNUSABLE_MARK: &str = "UNUSABLE";

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
