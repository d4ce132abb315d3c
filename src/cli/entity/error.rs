//! Errors of `hookyard entity`.

use std::io;
use std::path::PathBuf;

/// Errors of the arguments, and of the files that the command writes.
#[derive(Debug, thiserror::Error)]
pub(in crate::cli) enum EntityCommandError {
    #[error(
        "{0:?} names no entity: give its kind and its id, such as ticket SUP-1042 or ticket/SUP-1042"
    )]
    NoId(String),
    #[error("cannot write {}", file.display())]
    File { file: PathBuf, source: io::Error },
}
