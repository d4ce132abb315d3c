//! Errors that stop the delivery stage.

use super::attempt::TlsSetupError;
use crate::derived::DerivedStoreError;
use crate::event::Position;
use crate::projection::ProjectionReadError;
use crate::table_store::TableWriteError;

/// Reason for which the delivery stage cannot start or had to stop. The store must be opened again,
/// or the configuration corrected.
#[derive(Debug, thiserror::Error)]
pub enum DeliveryStageError {
    /// Writing delivery state to the store failed.
    #[error("cannot write delivery state to the store")]
    Write(#[from] TableWriteError),
    /// Reading delivery state from the store failed.
    #[error("cannot read delivery state from the store")]
    Rows(#[from] DerivedStoreError),
    /// Reading the records to deliver failed.
    #[error(transparent)]
    Reads(#[from] ProjectionReadError),
    /// The certificates for deliveries cannot be read.
    #[error("cannot set up the HTTP client for deliveries")]
    Client(#[from] TlsSetupError),
    /// The journal is shorter than the delivered part: an older copy of it was restored.
    #[error(
        "delivery cursor is at position {cursor}, but the journal ends at {end}; \
         restore the whole data folder from one backup"
    )]
    CursorPastJournalEnd {
        /// Highest cursor among the dispatcher and all subscribers.
        cursor: Position,
        /// Position after the journal's last record.
        end: Position,
    },
    /// A task of the delivery thread panicked.
    #[error("a task of the delivery thread panicked")]
    Panicked,
}
