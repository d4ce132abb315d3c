//! Error of the derived store.

use std::io;
use std::path::{Path, PathBuf};

use crate::journal::DecryptionError;

/// Error of an operation on the derived store. After an error of a write the store must be opened
/// again.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct DerivedStoreError(Cause);

#[derive(Debug, thiserror::Error)]
enum Cause {
    #[error("cannot use the derived store")]
    Engine(#[source] sled::Error),
    #[error("cannot use {}", path.display())]
    Folder {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error(transparent)]
    Encrypted(DecryptionError),
    #[error("the derived store panicked: {0}")]
    Panicked(String),
    #[error(
        "malformed row: {0}; stop the node, delete the folder derived in the data folder, \
         and start it again"
    )]
    MalformedRow(&'static str),
}

impl DerivedStoreError {
    /// Creates the error for a row that no version of this program writes, such as `a block of
    /// events`.
    #[must_use]
    pub fn malformed_row(row: &'static str) -> Self {
        Self(Cause::MalformedRow(row))
    }

    pub(super) fn from_panic(message: String) -> Self {
        Self(Cause::Panicked(message))
    }

    pub(super) fn from_folder(path: &Path, source: io::Error) -> Self {
        Self(Cause::Folder {
            path: path.to_owned(),
            source,
        })
    }

    /// Returns `true` if the cause lies in the content of sled's files, and `false` if it lies in
    /// the disk or the operating system.
    pub(super) fn is_damage(&self) -> bool {
        match &self.0 {
            Cause::Engine(sled::Error::Io(error)) => is_damage_report(error),
            Cause::Engine(_) => true,
            Cause::Panicked(message) => !names_system_error(message),
            Cause::Folder { .. } | Cause::MalformedRow(_) | Cause::Encrypted(_) => false,
        }
    }

    /// Returns `true` if sled's own lock is taken. This process holds the lock of the data folder,
    /// so the holder can only be a remaining thread of the last opening.
    pub(super) fn is_locked(&self) -> bool {
        matches!(&self.0, Cause::Engine(sled::Error::Io(error)) if is_lock_error(error))
    }
}

impl From<DecryptionError> for DerivedStoreError {
    fn from(error: DecryptionError) -> Self {
        Self(Cause::Encrypted(error))
    }
}

impl From<sled::Error> for DerivedStoreError {
    fn from(error: sled::Error) -> Self {
        Self(Cause::Engine(error))
    }
}

/// sled reports some damage as an I/O error that it made itself: a file that is too short, or the
/// kind `Other` with a text of its own.
fn is_damage_report(error: &io::Error) -> bool {
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData => true,
        io::ErrorKind::Other => !is_lock_error(error) && !names_system_error(&error.to_string()),
        _ => false,
    }
}

fn is_lock_error(error: &io::Error) -> bool {
    error.to_string().contains("could not acquire lock")
}

/// Returns `true` if `text` contains an error of the operating system, as sled copies it into the
/// texts of its own errors and panics.
fn names_system_error(text: &str) -> bool {
    text.contains("Os {")
}
