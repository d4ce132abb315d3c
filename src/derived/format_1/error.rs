//! Error of reading a store of format 1.

use std::io;
use std::path::{Path, PathBuf};

use crate::panics;

/// Error that keeps a store of format 1 from being read, with advice for the operator. The migration
/// ends with it and leaves the store as it is.
#[derive(Debug, thiserror::Error)]
pub enum FormerStoreError {
    /// A file or folder could not be read, moved or removed.
    #[error("cannot use {}", path.display())]
    Io {
        /// Path of the file or folder.
        path: PathBuf,
        /// Error of the operating system.
        #[source]
        source: io::Error,
    },
    /// The format file is malformed.
    #[error(
        "{} is not a format file of a store; \
         restore it from a backup, or point store.path elsewhere",
        .0.display()
    )]
    BadFormat(PathBuf),
    /// The inspection found damaged files.
    #[error(
        "the store is damaged, and nothing was changed: {0}; \
         restore the data folder from a backup"
    )]
    Damaged(String),
    /// sled could not open or read its files.
    #[error(
        "{} cannot be read; keep a copy of the folder and restore it from a backup",
        log.display()
    )]
    Engine {
        /// Path of the folder with sled's files.
        log: PathBuf,
        /// Error that sled returned.
        #[source]
        source: sled::Error,
    },
    /// sled panicked while it opened or read its files.
    #[error(
        "{} made the store panic: {message}; \
         keep a copy of the folder and restore it from a backup",
        log.display()
    )]
    Panicked {
        /// Path of the folder with sled's files.
        log: PathBuf,
        /// Text of the panic in sled.
        message: String,
    },
    /// The log belongs to another store, or lost its content.
    #[error(
        "{} does not hold the log that FORMAT names; restore the data folder from a backup",
        .0.display()
    )]
    Foreign(PathBuf),
    /// A frame cannot be decoded, or does not follow the frame before it.
    #[error("the journal is broken at position {0}; restore the data folder from a backup")]
    Broken(u64),
    /// A row is one that no version writes.
    #[error("a row of the tree {0} is malformed; restore the data folder from a backup")]
    MalformedRow(&'static str),
}

impl FormerStoreError {
    pub(super) fn from_io(path: &Path, source: io::Error) -> Self {
        Self::Io {
            path: path.to_owned(),
            source,
        }
    }

    /// Runs an operation of sled, and turns a panic in it into an error.
    pub(super) fn guard<T>(
        log: &Path,
        operation: impl FnOnce() -> sled::Result<T>,
    ) -> Result<T, Self> {
        match panics::contain_panic(operation) {
            Ok(result) => result.map_err(|source| Self::Engine {
                log: log.to_owned(),
                source,
            }),
            Err(message) => Err(Self::Panicked {
                log: log.to_owned(),
                message,
            }),
        }
    }

    /// Returns `true` if the cause is the disk or the system, and not the content of the files.
    pub(super) fn is_system_error(&self) -> bool {
        matches!(
            self,
            Self::Io { .. }
                | Self::Engine {
                    source: sled::Error::Io(_),
                    ..
                }
        )
    }

    /// Returns `true` if sled's own lock is taken. The data folder is locked, so the holder can only
    /// be a remaining thread of the last opening.
    pub(super) fn is_locked(&self) -> bool {
        matches!(self, Self::Engine { source: sled::Error::Io(source), .. }
            if source.to_string().starts_with("could not acquire lock"))
    }
}
