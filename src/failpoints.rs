//! Places where a test makes a running node fail, to prove that what was promised holds all the
//! same.

use std::io;

use crate::event::EntityKey;

/// A place at which a failure can be played.
#[derive(Clone, Copy, Debug)]
pub enum Failpoint<'a> {
    /// Before a frame is put into the store.
    Put,
    /// Before the store's buffers are written out.
    Flush,
    /// Before the store's file is synced.
    Sync,
    /// Before the exchange log writes what has gathered.
    CallLogWrite,
    /// Before an entity decides an event; a panic here is a crash of that entity.
    Decide(&'a EntityKey),
}

/// Decides what fails. A node outside of tests runs with [`NoFaults`].
pub trait FailureInjector: Send + Sync + 'static {
    /// Called at every [`Point`] that is passed.
    ///
    /// # Errors
    /// Whatever the store's own operation might have failed with.
    fn evaluate(&self, point: Failpoint<'_>) -> io::Result<()>;
}

/// Nothing fails that does not fail by itself.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoFailures;

impl FailureInjector for NoFailures {
    fn evaluate(&self, _: Failpoint<'_>) -> io::Result<()> {
        Ok(())
    }
}
