//! Signals between readers and the projection's thread.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tokio::sync::{Notify, broadcast};

use crate::event::Position;

/// Number of reopened events that a slow listener can lag behind, before the channel drops the
/// oldest and reports the loss.
const REOPENED_MAX: usize = 1_024;

/// Requests of readers to the projection's thread, and its notifications.
pub(super) struct ProjectionSignals {
    /// Position before which all records must be written as soon as possible, because readers wait.
    pub(super) requested_end: AtomicU64,
    /// `true` once the thread must catch up a last time and end.
    pub(super) stopping: AtomicBool,
    /// Wakes the thread after a change of the fields above.
    pub(super) wake: Notify,
    /// Events that are pending again after they were resolved.
    pub(super) reopened: broadcast::Sender<Position>,
}

impl Default for ProjectionSignals {
    fn default() -> Self {
        Self {
            requested_end: AtomicU64::default(),
            stopping: AtomicBool::default(),
            wake: Notify::default(),
            reopened: broadcast::Sender::new(REOPENED_MAX),
        }
    }
}

impl ProjectionSignals {
    /// Requests that all records before `position` are written now.
    pub(super) fn request_write(&self, position: Position) {
        let previous = self
            .requested_end
            .fetch_max(position.get(), Ordering::AcqRel);
        if previous < position.get() {
            self.wake.notify_one();
        }
    }
}
