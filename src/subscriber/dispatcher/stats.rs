//! Answers to queries for the statistics of some subscribers, and of all.

use super::super::delivery::DeliveryBreakerState;
use super::super::stage::DormantState;
use super::super::stats_queries::StatsQuery;
use super::super::subscriber_id::SubscriberId;
use super::super::subscriber_stats::{DeliveryOverview, SubscriberStats};
use super::Dispatcher;
use crate::subscription::SubscriptionState;

impl Dispatcher {
    pub(super) fn answer_query(&self, query: StatsQuery) {
        // A send fails if the asker has gone; while the stage was stuck, many may have.
        match query {
            StatsQuery::Subscribers { ids, reply } => {
                if reply.is_closed() {
                    return;
                }
                let known = ids.into_iter().filter_map(|id| self.named_stats(id));
                let _ = reply.send(known.collect());
            }
            StatsQuery::Overview(reply) => {
                if reply.is_closed() {
                    return;
                }
                let subscribers = self.stage.subscriber_set();
                let all = subscribers.ids();
                let stats = all.into_iter().filter_map(|id| self.named_stats(id));
                let _ = reply.send(DeliveryOverview::from_stats(stats));
            }
        }
    }

    fn named_stats(&self, id: SubscriberId) -> Option<(SubscriberId, SubscriberStats)> {
        let stats = self.subscriber_stats(&id)?;
        Some((id, stats))
    }

    fn subscriber_stats(&self, id: &SubscriberId) -> Option<SubscriberStats> {
        let stage = &self.stage;
        let state = stage.subscriber_set().subscription_state(id)?;

        let counters = stage.counters(id);
        let mut stats = SubscriberStats {
            is_active: state == SubscriptionState::Active,
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
        let mut oldest_stored = None;
        if let Some(inbox) = stage.inbox(id) {
            let status = inbox.status();
            stats.in_flight = status.running;
            stats.waiting = status.queued;
            stats.deferred = status.deferred;
            stats.stopped_lanes = status.stopped;
            stats.breaker = match status.breaker {
                DeliveryBreakerState::Closed => "closed",
                DeliveryBreakerState::Open => "open",
                DeliveryBreakerState::HalfOpen => "half_open",
            };
            oldest_stored = status.oldest_stored;
            let read_to = stage.read_position(inbox.read_state());
            stats.next_position = read_to;
            stats.settled_before = stage.subscriber_cursor(&inbox);
            stats.behind = journal_end.saturating_sub(read_to.get());
        } else if let Some(DormantState::Paused(from)) = stage.dormant_state(id) {
            stats.next_position = from;
            stats.settled_before = from;
            stats.behind = journal_end.saturating_sub(from.get());
        }

        // Rows hold what is before the cursor; the cursor holds what is queued or not read.
        let is_behind = stats.behind > 0 || stats.waiting > 0;
        let unsettled = is_behind.then_some(stats.settled_before);
        stats.oldest_owed = unsettled.into_iter().chain(oldest_stored).min();
        Some(stats)
    }
}
