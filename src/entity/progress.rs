//! Progress counters of a running entity, which the router reads without a message to the actor.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::event::Position;

/// Counters shared by an entity, the commit thread and the router.
#[derive(Debug, Default)]
pub struct EntityProgress {
    handled: AtomicU64,
    in_flight: AtomicU64,
    end: AtomicU64,
    diverged: AtomicBool,
}

impl EntityProgress {
    /// Counts a message that the actor has handled completely.
    pub(super) fn note_handled(&self) {
        self.handled.fetch_add(1, Ordering::Release);
    }

    /// Counts a submitted record as in flight.
    pub(super) fn note_submitted(&self) {
        self.in_flight.fetch_add(1, Ordering::Release);
    }

    /// Counts a record as durable at `position`.
    pub(super) fn note_durable(&self, position: Position) {
        self.end.fetch_max(position.plus(1).get(), Ordering::AcqRel);
        self.in_flight.fetch_sub(1, Ordering::AcqRel);
    }

    /// Marks the state in memory as diverged: the journal refused a record, so a replay would give
    /// another state.
    pub(super) fn note_diverged(&self) {
        self.diverged.store(true, Ordering::Release);
        self.in_flight.fetch_sub(1, Ordering::AcqRel);
    }

    pub(super) fn has_diverged(&self) -> bool {
        self.diverged.load(Ordering::Acquire)
    }

    /// Number of messages that the actor has handled.
    #[must_use]
    pub fn handled_count(&self) -> u64 {
        self.handled.load(Ordering::Acquire)
    }

    /// Number of submitted records that are not yet durable.
    #[must_use]
    pub fn in_flight_count(&self) -> u64 {
        self.in_flight.load(Ordering::Acquire)
    }

    /// Position after the newest durable record since the actor started.
    #[must_use]
    pub fn durable_end(&self) -> Position {
        Position::new(self.end.load(Ordering::Acquire))
    }
}
