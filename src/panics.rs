//! What a panic ends: itself where it was foreseen, the process everywhere else.

use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe, PanicHookInfo};

use tracing::error;

thread_local! {
    static CONTAINED: Cell<u32> = const { Cell::new(0) };
}

/// Marks, while it lives, that a panic on this thread is foreseen and ends only what is running in
/// it.
pub struct PanicContainment(());

impl PanicContainment {
    /// Begins a stretch in which a panic is foreseen.
    #[must_use]
    pub fn begin() -> Self {
        CONTAINED.with(|depth| depth.set(depth.get() + 1));
        Self(())
    }
}

impl Drop for PanicContainment {
    fn drop(&mut self) {
        CONTAINED.with(|depth| depth.set(depth.get() - 1));
    }
}

/// Runs `work`; a panic in it becomes its message.
///
/// # Errors
/// The message of the panic.
pub fn contain_panic<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    let _contained = PanicContainment::begin();
    panic::catch_unwind(AssertUnwindSafe(work)).map_err(|payload| {
        let text = payload.downcast_ref::<&str>().map(ToString::to_string);
        text.or_else(|| payload.downcast_ref::<String>().cloned())
            .unwrap_or_else(|| "no message".into())
    })
}

/// Makes every panic that nobody foresaw end the process, after logging where it was: a node that
/// lost a thread must not go on answering. For a binary's `main`; a library's user decides for
/// themselves.
pub fn install_panic_hook() {
    panic::set_hook(Box::new(|info: &PanicHookInfo<'_>| {
        let place = info.location().map(ToString::to_string).unwrap_or_default();
        if CONTAINED.with(Cell::get) > 0 {
            error!(%place, "contained panic");
            return;
        }
        error!(%place, "panic outside of an actor, ending the process");
        std::process::abort();
    }));
}
