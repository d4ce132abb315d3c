//! Delivery counters of a subscription, as its object shows them.

use std::sync::Arc;

use serde::Serialize;
use tokio::task::spawn_blocking;
use utoipa::ToSchema;
use utoipa::openapi::schema::Schema;

use super::super::docs::schemas;
use super::super::gate::NodeCore;
use crate::event::Timestamp;
use crate::journal::Journal;
use crate::subscriber::{SubscriberId, SubscriberStats};
use crate::subscription::SubscriptionId;

/// State of the circuit breaker of a subscription that was never called.
const CLOSED: &str = "closed";

/// Counters since the subscription was created; `dead_letters` counts those that exist now.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = SubscriptionStats)]
pub(in crate::edge) struct SubscriptionStatsView {
    pub(in crate::edge) delivered: u64,
    pub(in crate::edge) failed_attempts: u64,
    pub(in crate::edge) dead_letters: u64,
    pub(in crate::edge) dropped: u64,
    pub(in crate::edge) in_flight: usize,
    pub(in crate::edge) waiting: usize,
    pub(in crate::edge) stopped_lanes: usize,
    pub(in crate::edge) behind: u64,
    /// Time at which the oldest event was received that is owed, or that was not looked at yet.
    pub(in crate::edge) oldest_owed_at: Option<Timestamp>,
    #[schema(schema_with = breaker_states)]
    pub(in crate::edge) breaker: &'static str,
    pub(in crate::edge) last_success_at: Option<Timestamp>,
    pub(in crate::edge) failing_since: Option<Timestamp>,
}

fn breaker_states() -> Schema {
    schemas::one_of([CLOSED, "open", "half_open"])
}

impl SubscriptionStatsView {
    /// Loads the counters of the subscription `id` at `now`; a new subscription may have none yet.
    pub(in crate::edge) async fn load(
        id: SubscriptionId,
        core: &Arc<NodeCore>,
        now: Timestamp,
    ) -> Self {
        let subscriber = SubscriberId::Webhook(id);
        let stats = core
            .subscribers
            .stats(&subscriber)
            .await
            .unwrap_or_default();
        let oldest_owed_at = find_oldest_owed(&subscriber, &stats, core, now).await;
        Self {
            oldest_owed_at,
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

    /// Number of events that are queued or not looked at yet.
    pub(in crate::edge) const fn backlog(&self) -> u64 {
        self.behind.saturating_add(self.waiting as u64)
    }
}

/// Finds the time of the oldest event that `subscriber` may still be owed. Only a subscriber with
/// stopped lanes needs a look at its rows: the rows are behind all that is queued or not read.
async fn find_oldest_owed(
    subscriber: &SubscriberId,
    stats: &SubscriberStats,
    core: &Arc<NodeCore>,
    now: Timestamp,
) -> Option<Timestamp> {
    let unsettled = (stats.backlog() > 0).then_some(stats.settled_before);
    let has_lanes = stats.stopped_lanes > 0;
    if unsettled.is_none() && !has_lanes {
        return None;
    }

    let (core, subscriber) = (Arc::clone(core), subscriber.clone());
    let find = move || {
        let owed = core.subscribers.owed_records();
        // A store that cannot be read says so wherever it matters; here the time is left out.
        let in_lanes = match has_lanes {
            true => owed.first_in_lanes(&subscriber, now).ok()?,
            false => None,
        };
        let first = unsettled.into_iter().chain(in_lanes).min()?;
        let frame = core.journal.read_frame_at(first).ok()??;
        frame.entry(first).map(|entry| entry.received_at)
    };
    spawn_blocking(find).await.ok()?
}
