//! Errors of `hookyard backup`.

use std::io;
use std::path::PathBuf;

use crate::cli::admin_client::AdminCallError;
use crate::journal::{ArchiveError, ArchiveWriteError, StoreImageError};

/// Errors of making a backup; no file is written then.
#[derive(Debug, thiserror::Error)]
pub(in crate::cli) enum BackupCommandError {
    #[error("cannot back up the store")]
    Image(#[source] StoreImageError),
    #[error("cannot back up the store")]
    Write(#[source] ArchiveWriteError),
    #[error("{archive}")]
    Archive {
        archive: String,
        source: ArchiveError,
    },
    #[error("--since names a position, and the first one is 1")]
    ZeroPosition,
    #[error("{} is a backup of another store; leave out --since for a full backup", .0.display())]
    OtherStore(PathBuf),
    #[error("{} is the backup that --since names; give another name for the new one", .0.display())]
    OverBase(PathBuf),
    #[error(transparent)]
    Call(#[from] AdminCallError),
    #[error("cannot write {}", path.display())]
    File { path: PathBuf, source: io::Error },
    #[error("cannot write the backup")]
    Output(#[source] io::Error),
    #[error("cannot set up the HTTP client")]
    Client(#[source] io::Error),
}
