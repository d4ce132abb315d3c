//! Errors of `hookyard verify`, and its verdict on damage.

use std::path::PathBuf;

use crate::cli::plural::format_count;
use crate::journal::{ArchiveError, StoreOpenError};

/// Verdict of a verification that found damage, or its failure.
#[derive(Debug, thiserror::Error)]
pub(in crate::cli) enum VerifyError {
    #[error("{}", format_count(*.0, "segment is damaged", "segments are damaged"))]
    Damaged(u64),
    #[error("cannot verify the store")]
    Store(#[source] StoreOpenError),
    #[error("{}", path.display())]
    Archive { path: PathBuf, source: ArchiveError },
}
