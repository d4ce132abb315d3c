//! Panic policy: a contained panic ends only the code it happened in; any other panic aborts the
//! process.

use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe, PanicHookInfo};

use crate::log_sink;

thread_local! {
    /// Number of [`PanicContainment`] guards that are alive on this thread.
    static CONTAINMENT_DEPTH: Cell<u32> = const { Cell::new(0) };
}

/// Guard: while it is alive, a panic on this thread is contained, so the panic hook does not abort
/// the process.
pub struct PanicContainment(());

impl PanicContainment {
    /// Starts containing panics on this thread, until the guard is dropped.
    #[must_use]
    pub fn begin() -> Self {
        CONTAINMENT_DEPTH.with(|depth| depth.set(depth.get() + 1));
        Self(())
    }
}

impl Drop for PanicContainment {
    fn drop(&mut self) {
        CONTAINMENT_DEPTH.with(|depth| depth.set(depth.get() - 1));
    }
}

/// Runs `work` and turns a panic in it into an error.
///
/// # Errors
/// The panic's message, or `no message` if its payload is not a string.
pub fn contain_panic<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    let _containment = PanicContainment::begin();
    panic::catch_unwind(AssertUnwindSafe(work)).map_err(|payload| {
        let text = payload.downcast_ref::<&str>().map(ToString::to_string);
        text.or_else(|| payload.downcast_ref::<String>().cloned())
            .unwrap_or_else(|| "no message".into())
    })
}

/// Installs a panic hook that writes a line for each panic, past the formatters, and aborts the process unless the panic is contained:
/// a node that lost a thread must not go on answering requests.
///
/// Meant for a binary's `main`; a program that embeds the library chooses its own hook.
pub fn install_panic_hook() {
    panic::set_hook(Box::new(|info: &PanicHookInfo<'_>| {
        let location = info.location().map(ToString::to_string).unwrap_or_default();
        if CONTAINMENT_DEPTH.with(Cell::get) > 0 {
            log_sink::write_raw_line("panic contained", &location);
            return;
        }

        log_sink::write_raw_line("uncontained panic; aborting the process", &location);
        log_sink::flush();
        std::process::abort();
    }));
}
