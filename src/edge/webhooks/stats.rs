//! Delivery counters of a subscription, as its object shows them.

use serde::Serialize;

use super::super::gate::NodeCore;
use crate::event::Timestamp;
use crate::subscriber::SubscriberId;
use crate::subscription::SubscriptionId;

/// State of the circuit breaker of a subscription that was never called.
const CLOSED: &str = "closed";

/// Counters since the subscription was created; `dead_letters` counts those that exist now.
#[derive(Debug, Serialize)]
pub(in crate::edge) struct SubscriptionStatsView {
    pub(in crate::edge) delivered: u64,
    pub(in crate::edge) failed_attempts: u64,
    pub(in crate::edge) dead_letters: u64,
    pub(in crate::edge) dropped: u64,
    pub(in crate::edge) in_flight: usize,
    pub(in crate::edge) waiting: usize,
    pub(in crate::edge) stopped_lanes: usize,
    pub(in crate::edge) behind: u64,
    pub(in crate::edge) breaker: &'static str,
    pub(in crate::edge) last_success_at: Option<Timestamp>,
    pub(in crate::edge) failing_since: Option<Timestamp>,
}

impl SubscriptionStatsView {
    /// Loads the counters of the subscription `id`; a new subscription may have none yet.
    pub(in crate::edge) async fn load(id: SubscriptionId, core: &NodeCore) -> Self {
        let subscriber = SubscriberId::Webhook(id);
        let stats = core
            .subscribers
            .stats(&subscriber)
            .await
            .unwrap_or_default();
        Self {
            delivered: stats.delivered,
            failed_attempts: stats.failed,
            dead_letters: core.subscribers.dead_letters().count(&subscriber),
            dropped: stats.dropped,
            in_flight: stats.in_flight,
            waiting: stats.waiting,
            stopped_lanes: stats.stopped_lanes,
            behind: stats.behind,
            breaker: if stats.breaker.is_empty() {
                CLOSED
            } else {
                stats.breaker
            },
            last_success_at: stats.last_success_at,
            failing_since: stats.failing_since,
        }
    }
}
