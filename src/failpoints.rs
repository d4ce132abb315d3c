//! Failpoints: named places where a test injects a failure into a running node, to prove that the
//! node keeps its promises under that failure.

use std::io;

use crate::event::EntityKey;

/// Place in the code where a failure can be injected.
#[derive(Clone, Copy, Debug)]
pub enum Failpoint<'a> {
    /// Before the derived data is synced.
    DerivedSync,
    /// Before the call log writes its buffered rows.
    CallLogWrite,
    /// Before an entity decides on an event; a panic here crashes that entity's actor.
    Decide(&'a EntityKey),
}

/// Decides which failpoints fail. Outside of tests a node runs with [`NoFailures`].
pub trait FailureInjector: Send + Sync + 'static {
    /// Called each time the code passes a [`Failpoint`].
    ///
    /// # Errors
    /// The injected I/O error, which the caller handles like an error of the operation itself.
    fn evaluate(&self, point: Failpoint<'_>) -> io::Result<()>;
}

/// Injector for production: it injects no failures.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoFailures;

impl FailureInjector for NoFailures {
    fn evaluate(&self, _: Failpoint<'_>) -> io::Result<()> {
        Ok(())
    }
}
