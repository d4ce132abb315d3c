//! Errors of the table store.

use crate::derived::DerivedStoreError;
use crate::journal::{JournalClosed, JournalReadError};

/// Error that prevents the table store from being opened.
#[derive(Debug, thiserror::Error)]
pub enum TableStoreError {
    /// The changes could not be read from the journal.
    #[error("cannot read the changes of tables")]
    Journal(#[from] JournalReadError),
    /// The rows could not be read or written.
    #[error("cannot access the rows of tables")]
    Derived(#[from] DerivedStoreError),
    /// The rows contain changes that the journal lacks: an older copy of it was restored.
    #[error(
        "change {0} is in the tables and not in the journal; \
         restore the whole data folder from one backup"
    )]
    AheadOfJournal(u64),
}

/// Error of a write to a table. It is not known if the changes are durable, so the store must be
/// opened again.
#[derive(Debug, thiserror::Error)]
pub enum TableWriteError {
    /// The journal failed or is being closed.
    #[error(transparent)]
    Closed(#[from] JournalClosed),
    /// The rows could not be read or written.
    #[error("cannot access the rows of a table")]
    Derived(#[from] DerivedStoreError),
    /// Earlier changes could not be applied, so later ones are not applied either.
    #[error("an earlier change of a table could not be applied")]
    Halted,
}
