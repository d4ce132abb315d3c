//! Signal SIGHUP, at which the configuration is read again.

use std::io;
use std::sync::{Arc, OnceLock};

use tokio::signal::unix::{SignalKind, signal};
use tokio::task::spawn_blocking;

use crate::config::LiveConfig;
use crate::edge::{self, LiveEdge};

/// Reloads `live_config` at each SIGHUP, one after the other, as long as the actix system runs. Each has
/// an entry in the audit log of the node, once `node` is set.
///
/// # Errors
/// I/O errors of installing the handler.
pub(super) fn reload_at_signals(
    live_config: Arc<LiveConfig>,
    node: Arc<OnceLock<LiveEdge>>,
) -> io::Result<()> {
    let mut hang_ups = signal(SignalKind::hangup())?;
    actix_rt::spawn(async move {
        while hang_ups.recv().await.is_some() {
            let (live_config, node) = (Arc::clone(&live_config), Arc::clone(&node));
            // A panic is in the log, by the panic hook.
            let reload = move || edge::reload_at_signal(&live_config, node.get());
            let _ = spawn_blocking(reload).await;
        }
    });
    Ok(())
}
