//! Errors of `hookyard entity`.

use std::io;
use std::path::PathBuf;

/// Errors of the files that the command writes.
#[derive(Debug, thiserror::Error)]
pub(in crate::cli) enum EntityCommandError {
    #[error("cannot write {}", file.display())]
    File { file: PathBuf, source: io::Error },
}
