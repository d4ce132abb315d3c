//! Counters and state of the deliveries to one subscriber, and of all with their sums, for the admin
//! API, the dashboard, the metrics and the alerts.

use std::cmp::Reverse;
use std::collections::HashMap;

use super::subscriber_id::SubscriberId;
use crate::event::{Position, Timestamp};

/// Counters and current state of the deliveries to one subscriber.
#[derive(Clone, Debug, PartialEq)]
pub struct SubscriberStats {
    /// True unless the subscriber is paused or disabled.
    pub is_active: bool,
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
    /// Events that lanes have left to the timelines of their entities, as far as is known: after a
    /// start each lane counts one until it reads on.
    pub deferred: u64,
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
    /// Lowest position at which something may be owed; `None` if nothing is.
    pub oldest_owed: Option<Position>,
}

impl Default for SubscriberStats {
    fn default() -> Self {
        Self {
            is_active: true,
            delivered: 0,
            failed: 0,
            dropped: 0,
            last_success_at: None,
            failing_since: None,
            in_flight: 0,
            waiting: 0,
            deferred: 0,
            stopped_lanes: 0,
            breaker: "closed",
            behind: 0,
            next_position: Position::FIRST,
            settled_before: Position::FIRST,
            oldest_owed: None,
        }
    }
}

impl SubscriberStats {
    /// Returns the number of records that are queued, left to a timeline, or not yet matched for the
    /// subscriber. With stopped lanes after a start it is a lower bound.
    #[must_use]
    pub fn backlog(&self) -> u64 {
        let matched = self.deferred.saturating_add(self.waiting as u64);
        self.behind.saturating_add(matched)
    }

    /// True if the circuit breaker lets no attempt through, or one as a probe.
    #[must_use]
    pub fn is_breaker_open(&self) -> bool {
        self.breaker != "closed"
    }

    /// True if the last attempt failed, or a lane waits for its retry or its dead letter.
    #[must_use]
    pub fn is_failing(&self) -> bool {
        self.is_breaker_open() || self.failing_since.is_some() || self.stopped_lanes > 0
    }
}

/// State of the deliveries to all subscribers, and their sums.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DeliveryOverview {
    /// Sum of the subscribers' backlogs.
    pub backlog: u64,
    /// Number of attempts that are running.
    pub in_flight: usize,
    /// Number of lanes that wait for a retry or are halted.
    pub stopped_lanes: usize,
    /// Active subscriber that is owed the oldest event, with its position.
    pub oldest_owed: Option<(SubscriberId, Position)>,
    /// Time at which that event was received, if it can be read.
    pub oldest_owed_at: Option<Timestamp>,
    /// Time at which the oldest event was received that is owed to a subscriber with stopped lanes,
    /// if it can be read.
    pub oldest_stopped_at: Option<Timestamp>,
    /// Counters and state of each subscriber that the stage knows, by its id.
    pub subscribers: HashMap<SubscriberId, SubscriberStats>,
}

impl DeliveryOverview {
    /// Sums up the statistics of all subscribers.
    pub(super) fn from_stats(stats: impl Iterator<Item = (SubscriberId, SubscriberStats)>) -> Self {
        let mut overview = Self::default();
        for (id, stats) in stats {
            overview.backlog = overview.backlog.saturating_add(stats.backlog());
            overview.in_flight += stats.in_flight;
            overview.stopped_lanes += stats.stopped_lanes;
            if let Some(first) = stats.oldest_owed.filter(|_| stats.is_active) {
                let is_oldest = |(_, oldest): &(_, Position)| *oldest <= first;
                if !overview.oldest_owed.as_ref().is_some_and(is_oldest) {
                    overview.oldest_owed = Some((id.clone(), first));
                }
            }
            overview.subscribers.insert(id, stats);
        }
        overview
    }

    /// Returns the `max` subscribers with the largest backlogs, the largest first; none without one.
    #[must_use]
    pub fn largest_backlogs(&self, max: usize) -> Vec<(&SubscriberId, &SubscriberStats)> {
        let mut found = self.list(|stats| stats.backlog() > 0);
        found.sort_by_key(|(_, stats)| Reverse(stats.backlog()));
        found.truncate(max);
        found
    }

    /// Returns the subscribers whose circuit breaker is open or half-open, by their ids.
    #[must_use]
    pub fn open_breakers(&self) -> Vec<&SubscriberId> {
        let open = self.list(SubscriberStats::is_breaker_open);
        open.into_iter().map(|(id, _)| id).collect()
    }

    /// Returns the subscribers with lanes that wait for a retry or are halted, by their ids.
    #[must_use]
    pub fn with_stopped_lanes(&self) -> Vec<(&SubscriberId, &SubscriberStats)> {
        self.list(|stats| stats.stopped_lanes > 0)
    }

    /// Returns the position of the oldest event that is owed to a subscriber with stopped lanes.
    pub(super) fn oldest_owed_of_stopped(&self) -> Option<Position> {
        let stopped = self.subscribers.values();
        let stopped = stopped.filter(|stats| stats.stopped_lanes > 0);
        stopped.filter_map(|stats| stats.oldest_owed).min()
    }

    fn list(
        &self,
        is_listed: impl Fn(&SubscriberStats) -> bool,
    ) -> Vec<(&SubscriberId, &SubscriberStats)> {
        let listed = self
            .subscribers
            .iter()
            .filter(|(_, stats)| is_listed(stats));
        let mut listed: Vec<_> = listed.collect();
        listed.sort_by_key(|(id, _)| *id);
        listed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An event behind a stopped lane was in no figure: a subscriber with thousands of them was
    /// shown as one that has everything.
    #[test]
    fn an_overview_has_all_sums_with_what_waits_behind_stopped_lanes() {
        let stats = |behind, deferred, breaker, oldest: Option<u64>| SubscriberStats {
            behind,
            deferred,
            breaker,
            waiting: usize::from(behind > 0),
            stopped_lanes: usize::from(deferred > 0),
            oldest_owed: oldest.map(Position::new),
            ..SubscriberStats::default()
        };
        let all = [
            (1, stats(3, 0, "closed", Some(40))),
            (2, stats(0, 0, "open", None)),
            (3, stats(9, 0, "half_open", Some(30))),
            (4, stats(0, 5_000, "closed", Some(7))),
        ];
        let all = all.map(|(id, stats)| (SubscriberId::Webhook(id), stats));
        let overview = DeliveryOverview::from_stats(all.into_iter());

        let ids = |listed: Vec<(&SubscriberId, &SubscriberStats)>| -> Vec<_> {
            let short = listed
                .into_iter()
                .map(|(id, stats)| (id.to_string(), stats.backlog()));
            short.collect()
        };
        assert_eq!((overview.backlog, overview.stopped_lanes), (5_014, 1));
        assert_eq!(
            ids(overview.largest_backlogs(2)),
            [
                ("webhook:4".to_owned(), 5_000),
                ("webhook:3".to_owned(), 10)
            ]
        );
        assert_eq!(
            ids(overview.with_stopped_lanes()),
            [("webhook:4".to_owned(), 5_000)]
        );
        let open = [2, 3].map(SubscriberId::Webhook);
        assert_eq!(overview.open_breakers(), open.iter().collect::<Vec<_>>());
        let oldest = (SubscriberId::Webhook(4), Position::new(7));
        assert_eq!(overview.oldest_owed, Some(oldest));

        let mut overview = overview;
        let other = overview.subscribers.get_mut(&SubscriberId::Webhook(3));
        other.expect("given above").oldest_owed = Some(Position::new(2));
        assert_eq!(overview.oldest_owed_of_stopped(), Some(Position::new(7)));
    }
}
