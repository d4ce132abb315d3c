//! Errors of the retention.

use std::io;

use crate::derived::DerivedStoreError;
use crate::event::{EntityKey, Position};
use crate::journal::{BaseReadError, JournalReadError, SegmentRewriteError};
use crate::projection::ProjectionReadError;
use crate::table_store::TableWriteError;

/// Error that ends one attempt to remove segments; nothing that is needed is removed then.
#[derive(Debug, thiserror::Error)]
pub enum RetentionError {
    /// The journal cannot be read.
    #[error(transparent)]
    Journal(#[from] JournalReadError),
    /// A record of the journal is corrupt.
    #[error("the record at position {0} cannot be read")]
    Record(Position),
    /// The projection cannot be read.
    #[error(transparent)]
    Projection(#[from] ProjectionReadError),
    /// The derived data cannot be read or written.
    #[error("cannot access the derived data")]
    Derived(#[from] DerivedStoreError),
    /// The records that are still needed cannot be kept.
    #[error("cannot keep records that are still needed")]
    Keep(#[from] TableWriteError),
    /// The records of entities that cannot be restored are too many to keep.
    #[error("the state of {0} cannot be restored, and its records are too many to be kept apart")]
    Held(EntityKey),
    /// The node stops before the removal has come to its end.
    #[error("the node is stopping")]
    Stopping,
    /// The present base file cannot be read.
    #[error("cannot read the base file")]
    Base(#[from] BaseLoadError),
    /// A segment cannot be written without the content that is out of retention.
    #[error("cannot write a segment without the content that is out of retention")]
    Rewrite(#[from] SegmentRewriteError),
    /// The base file cannot be written, or a segment cannot be removed.
    #[error("cannot write the base file or remove segments")]
    Io(#[from] io::Error),
}

/// Error of loading the derived data from the base file.
#[derive(Debug, thiserror::Error)]
pub enum BaseLoadError {
    /// The base file cannot be read.
    #[error(transparent)]
    Base(#[from] BaseReadError),
    /// The base file is missing, or ends too early.
    #[error(
        "the journal begins at position {0}, but its base file is not whole; \
         restore the data folder from a backup"
    )]
    Incomplete(Position),
    /// The derived data cannot be written.
    #[error("cannot write the derived data")]
    Derived(#[from] DerivedStoreError),
}
