//! Answers to queries for the statistics of one subscriber, and of all.

use super::super::delivery::DeliveryBreakerState;
use super::super::stage::DormantState;
use super::super::subscriber_id::SubscriberId;
use super::super::subscriber_stats::{DeliveryOverview, SubscriberStats};
use super::{Dispatcher, StatsQuery};

impl Dispatcher {
    pub(super) fn answer_query(&self, query: StatsQuery) {
        // A send fails if the request was aborted meanwhile.
        match query {
            StatsQuery::OneSubscriber { subscriber, reply } => {
                let _ = reply.send(self.subscriber_stats(&subscriber));
            }
            StatsQuery::AllSubscribers { largest_max, reply } => {
                let _ = reply.send(self.delivery_overview(largest_max));
            }
        }
    }

    fn delivery_overview(&self, largest_max: usize) -> DeliveryOverview {
        let mut overview = DeliveryOverview::default();
        for id in self.stage.subscriber_set().ids() {
            if let Some(stats) = self.subscriber_stats(&id) {
                overview.add_subscriber(id, &stats);
            }
        }
        overview.keep_largest_backlogs(largest_max);
        overview
    }

    fn subscriber_stats(&self, id: &SubscriberId) -> Option<SubscriberStats> {
        let stage = &self.stage;
        stage.subscriber_set().subscription_state(id)?;

        let counters = stage.counters(id);
        let mut stats = SubscriberStats {
            delivered: counters.delivered,
            failed: counters.failed,
            dropped: counters.dropped,
            last_success_at: counters.last_success_at,
            failing_since: counters.failing_since,
            next_position: stage.position.get(),
            settled_before: stage.position.get(),
            ..SubscriberStats::default()
        };

        let journal_end = self.durable_end.borrow().get();
        if let Some(inbox) = stage.inbox(id) {
            let status = inbox.status();
            stats.in_flight = status.running;
            stats.waiting = status.queued;
            stats.stopped_lanes = status.stopped;
            stats.breaker = match status.breaker {
                DeliveryBreakerState::Closed => "closed",
                DeliveryBreakerState::Open => "open",
                DeliveryBreakerState::HalfOpen => "half_open",
            };
            let read_to = stage.read_position(inbox.read_state());
            stats.next_position = read_to;
            stats.settled_before = stage.subscriber_cursor(&inbox);
            stats.behind = journal_end.saturating_sub(read_to.get());
        } else if let Some(DormantState::Paused(from)) = stage.dormant_state(id) {
            stats.next_position = from;
            stats.settled_before = from;
            stats.behind = journal_end.saturating_sub(from.get());
        }
        Some(stats)
    }
}
