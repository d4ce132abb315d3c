//! Signals between readers and the projection's thread, and the name of the tree.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tokio::sync::{Notify, broadcast};

use crate::event::Position;

/// The tree of everything derived.
pub(super) const PROJECTION_TREE: &str = "projection";

/// Events owed again of which one who listens need not have heard, before it is told that it missed
/// some.
const REOPENED_MAX: usize = 1_024;

/// What readers and the thread say to each other.
pub(super) struct ProjectionSignals {
    /// Readers wait for everything before this position.
    pub(super) wanted: AtomicU64,
    pub(super) stopping: AtomicBool,
    pub(super) wake: Notify,
    /// Events that are owed again.
    pub(super) reopened: broadcast::Sender<Position>,
}

impl Default for ProjectionSignals {
    fn default() -> Self {
        Self {
            wanted: AtomicU64::default(),
            stopping: AtomicBool::default(),
            wake: Notify::default(),
            reopened: broadcast::Sender::new(REOPENED_MAX),
        }
    }
}

impl ProjectionSignals {
    /// Asks for everything before `position` to be written now.
    pub(super) fn request_write(&self, position: Position) {
        if self.wanted.fetch_max(position.get(), Ordering::AcqRel) < position.get() {
            self.wake.notify_one();
        }
    }
}
