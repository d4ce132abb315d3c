//! Writes of definitions (subscriptions, accounts), moved off the handlers' threads.

use std::sync::Arc;

use tokio::task::spawn_blocking;

use super::error::ApiError;
use super::gate::NodeCore;

/// Runs `write`, which waits for the disk, on a thread that may block.
///
/// # Errors
/// The error of `write`, or [`ApiError::Internal`] if `write` panicked.
pub(super) async fn run_blocking<T, E>(
    core: Arc<NodeCore>,
    write: impl FnOnce(&NodeCore) -> Result<T, E> + Send + 'static,
) -> Result<T, ApiError>
where
    T: Send + 'static,
    E: Into<ApiError> + Send + 'static,
{
    let written = spawn_blocking(move || write(&core)).await;
    written.map_err(|_| ApiError::Internal)?.map_err(Into::into)
}
