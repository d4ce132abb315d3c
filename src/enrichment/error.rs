//! Errors that stop the enrichment stage.

use crate::projection::ProjectionReadError;
use crate::table_store::TableWriteError;

/// Error that stops the enrichment stage until the store is opened again or the configuration is
/// changed.
#[derive(Debug, thiserror::Error)]
pub enum EnrichmentError {
    /// The progress table could not be read or written.
    #[error("cannot access the progress table of enrichment")]
    Store(#[from] TableWriteError),
    /// The pending events could not be read.
    #[error(transparent)]
    Reads(#[from] ProjectionReadError),
    /// The HTTP client could not be set up, mostly because of TLS.
    #[error("cannot set up the HTTP client of enrichment")]
    Client(#[from] reqwest::Error),
    /// The stage's thread could not be started.
    #[error("cannot start the enrichment thread")]
    Thread(#[from] std::io::Error),
    /// A task of the stage panicked.
    #[error("an enrichment task panicked")]
    Panicked,
}
