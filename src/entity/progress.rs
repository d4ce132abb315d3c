//! What the router may know of a running entity without asking it: how much it has handled, and
//! what is still on its way.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::event::Position;

/// Counters that an entity, the commit thread and the router share.
#[derive(Debug, Default)]
pub struct EntityProgress {
    handled: AtomicU64,
    in_flight: AtomicU64,
    end: AtomicU64,
    diverged: AtomicBool,
}

impl EntityProgress {
    /// A message was handled to its end.
    pub(super) fn note_handled(&self) {
        self.handled.fetch_add(1, Ordering::Release);
    }

    /// A record was submitted.
    pub(super) fn note_submitted(&self) {
        self.in_flight.fetch_add(1, Ordering::Release);
    }

    /// A record became durable at `position`.
    pub(super) fn note_durable(&self, position: Position) {
        self.end.fetch_max(position.plus(1).get(), Ordering::AcqRel);
        self.in_flight.fetch_sub(1, Ordering::AcqRel);
    }

    /// The journal refused a record, so the state in memory is not what the journal will replay.
    pub(super) fn note_diverged(&self) {
        self.diverged.store(true, Ordering::Release);
        self.in_flight.fetch_sub(1, Ordering::AcqRel);
    }

    pub(super) fn has_diverged(&self) -> bool {
        self.diverged.load(Ordering::Acquire)
    }

    /// Messages handled so far.
    #[must_use]
    pub fn handled_count(&self) -> u64 {
        self.handled.load(Ordering::Acquire)
    }

    /// Records submitted but not yet durable.
    #[must_use]
    pub fn in_flight_count(&self) -> u64 {
        self.in_flight.load(Ordering::Acquire)
    }

    /// The position after the entity's newest durable record of this life.
    #[must_use]
    pub fn durable_end(&self) -> Position {
        Position::new(self.end.load(Ordering::Acquire))
    }
}
