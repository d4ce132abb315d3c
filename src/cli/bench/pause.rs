//! Pauses of the benchmark: between two requests of a sender, and between two looks at something that
//! nothing reports.

use std::time::Duration;

/// Waits for `duration` without blocking the thread.
pub(super) async fn pause(duration: Duration) {
    #[expect(
        clippy::disallowed_methods,
        reason = "the pace of a load generator; it synchronises nothing"
    )]
    tokio::time::sleep(duration).await;
}
