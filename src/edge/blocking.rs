//! Writes of definitions (subscriptions, accounts), moved off the handlers' threads.

use std::sync::Arc;

use tokio::task::spawn_blocking;

use super::error::Error;
use super::gate::NodeCore;

/// Runs `write`, which waits for the disk, on a thread that may block.
///
/// # Errors
/// The error of `write`, or [`Error::Internal`] if `write` panicked.
pub(super) async fn run_blocking<T, E>(
    core: Arc<NodeCore>,
    write: impl FnOnce(&NodeCore) -> Result<T, E> + Send + 'static,
) -> Result<T, Error>
where
    T: Send + 'static,
    E: Into<Error> + Send + 'static,
{
    let written = spawn_blocking(move || write(&core)).await;
    written.map_err(|_| Error::Internal)?.map_err(Into::into)
}
