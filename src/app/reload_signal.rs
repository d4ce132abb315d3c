//! Signal SIGHUP, at which the configuration is read again.

use std::io;
use std::sync::Arc;

use tokio::signal::unix::{SignalKind, signal};
use tokio::task::spawn_blocking;

use crate::config::LiveConfig;
use crate::edge;

/// Reloads `live_config` at each SIGHUP, one after the other, as long as the actix system runs.
///
/// # Errors
/// I/O errors of installing the handler.
pub(super) fn reload_at_signals(live_config: Arc<LiveConfig>) -> io::Result<()> {
    let mut hang_ups = signal(SignalKind::hangup())?;
    actix_rt::spawn(async move {
        while hang_ups.recv().await.is_some() {
            let live_config = Arc::clone(&live_config);
            // The outcome is in the log; a panic too, by the panic hook.
            let reload = move || drop(edge::reload_config(&live_config));
            let _ = spawn_blocking(reload).await;
        }
    });
    Ok(())
}
