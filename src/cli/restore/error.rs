//! Errors of `hookyard restore`.

use std::io;
use std::path::PathBuf;

use crate::journal::RestoreError;

/// Errors of restoring a store; the data folder then holds none.
#[derive(Debug, thiserror::Error)]
pub(in crate::cli) enum RestoreCommandError {
    #[error("cannot read {}", path.display())]
    Open { path: PathBuf, source: io::Error },
    #[error("cannot restore the store")]
    Restore(#[source] RestoreError),
}
