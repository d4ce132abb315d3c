//! Errors of the erasure stage.

use crate::call_log::CallLogOpenError;
use crate::derived::DerivedStoreError;
use crate::journal::SegmentRewriteError;
use crate::projection::ProjectionReadError;
use crate::router::Refusal;
use crate::subscriber::dead_letters::DeadLetterReadError;
use crate::table_store::TableWriteError;

/// Error for which an erasure does not begin or does not go on. The next opening of the store goes
/// on with it.
#[derive(Debug, thiserror::Error)]
pub enum ErasureError {
    /// There is no such entity.
    #[error("there is no such entity")]
    NotFound,
    /// The entity could not record its erasure.
    #[error("the entity cannot record its erasure")]
    Refused(#[from] Refusal),
    /// The table of erasures could not be written.
    #[error("cannot write the table of erasures")]
    Table(#[from] TableWriteError),
    /// The derived store could not be read or written.
    #[error("cannot access the derived store")]
    Derived(#[from] DerivedStoreError),
    /// The records of the entity could not be found.
    #[error("cannot find the records of the entity")]
    Read(#[from] ProjectionReadError),
    /// A segment of the journal could not be written anew.
    #[error("cannot rewrite the journal")]
    Rewrite(#[from] SegmentRewriteError),
    /// Dead letters of the entity could not be discarded.
    #[error("cannot discard dead letters")]
    DeadLetters(#[from] DeadLetterReadError),
    /// Rows of the call log could not be removed.
    #[error("cannot remove rows of the call log")]
    CallLog(#[from] CallLogOpenError),
    /// The thread of the stage could not be started.
    #[error("cannot start the erasure thread")]
    Thread(#[from] std::io::Error),
    /// The node stops before the work is done.
    #[error("the node is stopping")]
    Ended,
}

impl ErasureError {
    /// Returns `true` if some records cannot be read or rewritten, while the store serves all others.
    #[must_use]
    pub const fn is_of_content(&self) -> bool {
        match self {
            Self::Rewrite(error) => !matches!(error, SegmentRewriteError::Closed),
            Self::Read(error) => matches!(error, ProjectionReadError::Journal(_)),
            Self::NotFound
            | Self::Refused(_)
            | Self::Table(_)
            | Self::Derived(_)
            | Self::DeadLetters(_)
            | Self::CallLog(_)
            | Self::Thread(_)
            | Self::Ended => false,
        }
    }
}
