//! Questions that the shell asks a delivery between two steps: cursor, room, due time, statistics.

use std::time::Duration;

use super::breaker::DeliveryBreakerState;
use super::identifiers::AttemptId;
use super::subscriber_delivery::SubscriberDelivery;
use crate::event::Position;

/// Snapshot of a delivery for statistics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeliveryStatus {
    /// State of the circuit breaker.
    pub breaker: DeliveryBreakerState,
    /// Number of attempts under way.
    pub running: usize,
    /// Number of records in memory, those under way included.
    pub queued: usize,
    /// Number of lanes that wait for a retry or are halted.
    pub stopped: usize,
    /// Number of records that lanes have left to the timelines of their entities, as far as is known:
    /// a lane that was restored from its row counts one until it reads on.
    pub deferred: u64,
    /// Position before which no lane with a row has an unsettled record; `None` if all are drained.
    pub oldest_stored: Option<Position>,
    /// True if the last attempt failed.
    pub is_failing: bool,
    /// Time without a success that counts towards disabling the subscriber.
    pub failing_for: Duration,
}

impl SubscriberDelivery {
    /// True if the attempt may still begin after it had to wait for a permit. If false, the shell
    /// answers with [`super::DeliveryInput::AttemptWithdrawn`].
    #[must_use]
    pub fn can_begin(&self, attempt_id: AttemptId) -> bool {
        let Some(running) = self.running.get(&attempt_id) else {
            return false;
        };
        self.is_active() && running.can_begin(self.breaker.state())
    }

    /// Position of the oldest unsettled record without a row; the cursor must not pass it.
    #[must_use]
    pub fn oldest_unsettled(&self) -> Option<Position> {
        self.lanes.oldest_unsettled()
    }

    /// Position after the last record that the reader has matched.
    #[must_use]
    pub fn read_to(&self) -> Position {
        self.read_to
    }

    /// Number of records, and bytes, that still fit into the window.
    #[must_use]
    pub fn window_room(&self) -> (usize, usize) {
        let ((events, bytes), bounds) = (self.lanes.queued_size(), &self.policy.bounds);
        (
            bounds.window_events.saturating_sub(events),
            bounds.window_bytes.saturating_sub(bytes),
        )
    }

    /// Approximate memory of the waiting records, in bytes.
    #[must_use]
    pub fn queued_bytes(&self) -> usize {
        self.lanes.queued_size().1
    }

    /// True if the reader may read on: there is room in the window, not too many lanes have rows,
    /// and attempts are let through. With an open breaker the reader goes on only if a probe may
    /// begin and no record is there for it.
    #[must_use]
    pub fn can_read(&self) -> bool {
        let (events, bytes) = self.window_room();
        let has_room = events > 0 && bytes > 0 && self.has_room_for_lanes();

        let is_let_through = match self.breaker.state() {
            DeliveryBreakerState::Closed => true,
            DeliveryBreakerState::Open => {
                let is_waiting = self.next_ready_index().is_none() && self.reading == 0;
                self.can_attempt_now() && is_waiting
            }
            DeliveryBreakerState::HalfOpen => false,
        };
        self.is_active() && has_room && is_let_through
    }

    /// True if the delivery holds no state but [`DeliveryStatus::failing_for`]. It can then be
    /// dropped and created again with the next record.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.is_empty()
            && self.breaker.state() == DeliveryBreakerState::Closed
            && self.held_until <= self.now
            && self.rate_limiter.full_at() <= self.now
    }

    /// True if there is nothing to deliver but what the reader has not matched yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.lanes.is_empty() && self.replays.is_empty() && self.running.is_empty()
    }

    /// Time for the next [`super::DeliveryInput::Tick`], if no other input comes first. A time in
    /// the past means at once.
    #[must_use]
    pub fn next_due_at(&self) -> Option<Duration> {
        if !self.is_active() {
            return None;
        }

        let due = self.due.keys().next().map(|(due, _)| *due);
        let work = match self.next_ready_index() {
            Some(_) => Some(self.rate_limiter.next_attempt_at()),
            None => due,
        };
        match self.next_permitted_at()? {
            open_until if open_until > self.now => Some(open_until),
            _ if self.is_at_concurrency_limit() => None,
            _ => work.or_else(|| Some(self.rate_limiter.full_at()).filter(|at| *at > self.now)),
        }
    }

    /// Returns a snapshot for statistics.
    #[must_use]
    pub fn status(&self) -> DeliveryStatus {
        DeliveryStatus {
            breaker: self.breaker.state(),
            running: self.running.len(),
            queued: self.lanes.queued_size().0,
            stopped: self.lanes.stopped_lane_count(),
            deferred: self.lanes.deferred_count(),
            oldest_stored: self.lanes.oldest_stored(),
            is_failing: self.failing_stretch.is_running(),
            failing_for: self.failing_stretch.counted(),
        }
    }
}
