//! Signals that stop the process, and the limit of that stop. A thread of its own keeps both and waits
//! for nobody: neither a stalled terminal nor a hanging disk can make the process ignore a signal.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use std::{io, process, thread};

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

use crate::log_sink;

/// Time after the shutdown grace in which the orderly stop may report its own failure.
const MARGIN: Duration = Duration::from_secs(1);

/// Returns a channel that tells of the first SIGTERM or Ctrl-C. The process ends at the latest
/// `grace` after it, with the exit status 1. Before `is_started` it ends at once, with the status 0: a
/// store that is being opened survives that, and without a handler the first process of a container
/// would ignore the signal.
///
/// # Errors
/// I/O errors of installing the handlers or of starting a thread.
pub(super) fn watch_signals(
    grace: Duration,
    is_started: Arc<AtomicBool>,
) -> io::Result<oneshot::Receiver<()>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()?;
    let (mut terminate, mut interrupt) = {
        let _context = runtime.enter();
        (
            signal(SignalKind::terminate())?,
            signal(SignalKind::interrupt())?,
        )
    };

    let (told, signalled) = oneshot::channel();
    thread::Builder::new()
        .name("signals".into())
        .spawn(move || {
            runtime.block_on(async {
                tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
            });
            if !is_started.load(Ordering::Relaxed) {
                log_sink::write_raw_line("stopped before the node was ready", file!());
                log_sink::flush();
                process::exit(0);
            }
            // The node may be stopping already.
            let _ = told.send(());
            thread::sleep(grace.saturating_add(MARGIN));
            log_sink::write_raw_line("shutdown grace is over; exiting", file!());
            log_sink::flush();
            process::exit(1);
        })?;
    Ok(signalled)
}
