//! Work that is moved off the handlers' threads: writes of definitions (subscriptions, accounts), and
//! answers that may be large.

use std::sync::Arc;

use actix_web::HttpResponse;
use tokio::task::spawn_blocking;

use super::answer;
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

/// Builds an answer 200 with the JSON that `encode` makes of a state or a page: megabytes of JSON would
/// hold up the events of this thread.
///
/// # Errors
/// As for [`run_blocking`].
pub(super) async fn ok_json(
    core: Arc<NodeCore>,
    encode: impl FnOnce(&NodeCore) -> Result<Vec<u8>, ApiError> + Send + 'static,
) -> Result<HttpResponse, ApiError> {
    run_blocking(core, encode).await.map(answer::ok_json_text)
}
