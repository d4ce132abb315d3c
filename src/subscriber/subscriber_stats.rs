//! Counters and state of the deliveries to one subscriber, for the admin API, and sums over all
//! subscribers, for the metrics.

use std::cmp::Reverse;

use super::subscriber_id::SubscriberId;
use crate::event::{Position, Timestamp};

/// Counters and current state of the deliveries to one subscriber.
#[derive(Clone, Debug, PartialEq)]
pub struct SubscriberStats {
    /// Deliveries that the subscriber accepted.
    pub delivered: u64,
    /// Attempts that failed, retries included.
    pub failed: u64,
    /// Deliveries dropped without an attempt: they had expired, or the subscriber was disabled.
    pub dropped: u64,
    /// Time of the last accepted delivery.
    pub last_success_at: Option<Timestamp>,
    /// Time of the first failure since the last success; `None` if the last attempt succeeded.
    pub failing_since: Option<Timestamp>,
    /// Attempts that are running now.
    pub in_flight: usize,
    /// Deliveries that are queued in memory.
    pub waiting: usize,
    /// Lanes that wait for a retry.
    pub stopped_lanes: usize,
    /// State of the circuit breaker: `closed`, `open` or `half_open`.
    pub breaker: &'static str,
    /// Journal records that were not yet matched for this subscriber.
    pub behind: u64,
    /// Position of the first of them.
    pub next_position: Position,
    /// Position before which each record is settled, or has a lane with a row on the disk.
    pub settled_before: Position,
}

impl Default for SubscriberStats {
    fn default() -> Self {
        Self {
            delivered: 0,
            failed: 0,
            dropped: 0,
            last_success_at: None,
            failing_since: None,
            in_flight: 0,
            waiting: 0,
            stopped_lanes: 0,
            breaker: "closed",
            behind: 0,
            next_position: Position::FIRST,
            settled_before: Position::FIRST,
        }
    }
}

impl SubscriberStats {
    /// Returns the number of records that are queued or not yet matched for the subscriber.
    #[must_use]
    pub fn backlog(&self) -> u64 {
        self.behind.saturating_add(self.waiting as u64)
    }
}

/// State of the deliveries to all subscribers together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeliveryOverview {
    /// Sum of the subscribers' backlogs.
    pub backlog: u64,
    /// Subscribers with the largest backlogs, the largest first; none without a backlog.
    pub largest_backlogs: Vec<(SubscriberId, u64)>,
    /// Number of circuit breakers that are open or half-open.
    pub open_breakers: usize,
    /// Number of attempts that are running.
    pub in_flight: usize,
    /// Number of lanes that wait for a retry or are halted.
    pub stopped_lanes: usize,
}

impl DeliveryOverview {
    /// Adds the subscriber `id` with `stats` to the sums.
    pub(super) fn add_subscriber(&mut self, id: SubscriberId, stats: &SubscriberStats) {
        let backlog = stats.backlog();
        self.backlog = self.backlog.saturating_add(backlog);
        if backlog > 0 {
            self.largest_backlogs.push((id, backlog));
        }
        self.open_breakers += usize::from(stats.breaker != "closed");
        self.in_flight += stats.in_flight;
        self.stopped_lanes += stats.stopped_lanes;
    }

    /// Sorts the backlogs, the largest first, and drops all behind the first `max`.
    pub(super) fn keep_largest_backlogs(&mut self, max: usize) {
        self.largest_backlogs
            .sort_by_key(|(id, backlog)| (Reverse(*backlog), id.clone()));
        self.largest_backlogs.truncate(max);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_overview_has_all_sums_and_the_largest_backlogs() {
        let mut overview = DeliveryOverview::default();
        for (id, behind, breaker) in [(1, 3, "closed"), (2, 0, "open"), (3, 9, "half_open")] {
            let stats = SubscriberStats {
                behind,
                breaker,
                waiting: usize::from(behind > 0),
                ..SubscriberStats::default()
            };
            overview.add_subscriber(SubscriberId::Webhook(id), &stats);
        }
        overview.keep_largest_backlogs(1);

        assert_eq!((overview.backlog, overview.open_breakers), (14, 2));
        assert_eq!(overview.largest_backlogs, [(SubscriberId::Webhook(3), 10)]);
    }
}
