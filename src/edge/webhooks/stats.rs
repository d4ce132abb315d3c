//! Delivery counters of a subscription, as its object shows them.

use std::collections::HashMap;
use std::sync::Arc;

use serde::Serialize;
use tokio::task::spawn_blocking;
use utoipa::ToSchema;
use utoipa::openapi::schema::Schema;

use super::super::docs::schemas;
use super::super::gate::NodeCore;
use crate::event::{Position, Timestamp};
use crate::journal::Journal;
use crate::subscriber::{StatsError, SubscriberId, SubscriberStats};
use crate::subscription::SubscriptionId;

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
    /// Events behind stopped or full lanes, as far as is known.
    pub(in crate::edge) deferred: u64,
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
    schemas::one_of(["closed", "open", "half_open"])
}

impl SubscriptionStatsView {
    /// Loads the counters of the subscription `id`; a new subscription has none yet. `None` if the
    /// delivery stage does not answer, which its reader must be told.
    pub(in crate::edge) async fn load(id: SubscriptionId, core: &Arc<NodeCore>) -> Option<Self> {
        let mut known = Self::load_all(&[id], core).await.ok()?;
        known.remove(&id)
    }

    /// Loads the counters of all subscriptions in `ids`.
    ///
    /// # Errors
    /// [`StatsError`] when the delivery stage does not answer.
    pub(in crate::edge) async fn load_all(
        ids: &[SubscriptionId],
        core: &Arc<NodeCore>,
    ) -> Result<HashMap<SubscriptionId, Self>, StatsError> {
        let subscribers: Vec<_> = ids.iter().copied().map(SubscriberId::Webhook).collect();
        let mut known = core.subscribers.stats_of(subscribers).await?;

        let mut views = HashMap::new();
        for id in ids {
            let subscriber = SubscriberId::Webhook(*id);
            let stats = known.remove(&subscriber).unwrap_or_default();
            let dead_letters = core.subscribers.dead_letters().count(&subscriber);
            let oldest_owed_at = match stats.oldest_owed {
                Some(first) => read_time_of(first, core).await,
                None => None,
            };
            views.insert(*id, Self::new(&stats, dead_letters, oldest_owed_at));
        }
        Ok(views)
    }

    fn new(stats: &SubscriberStats, dead_letters: u64, oldest_owed_at: Option<Timestamp>) -> Self {
        Self {
            delivered: stats.delivered,
            failed_attempts: stats.failed,
            dead_letters,
            dropped: stats.dropped,
            in_flight: stats.in_flight,
            waiting: stats.waiting,
            deferred: stats.deferred,
            stopped_lanes: stats.stopped_lanes,
            behind: stats.behind,
            oldest_owed_at,
            breaker: stats.breaker,
            last_success_at: stats.last_success_at,
            failing_since: stats.failing_since,
        }
    }

    /// Number of events that are queued, behind stopped lanes, or not looked at yet.
    pub(in crate::edge) const fn backlog(&self) -> u64 {
        let matched = self.deferred.saturating_add(self.waiting as u64);
        self.behind.saturating_add(matched)
    }
}

/// Reads when the record at `position` was received; `None` if it cannot be read.
async fn read_time_of(position: Position, core: &Arc<NodeCore>) -> Option<Timestamp> {
    let core = Arc::clone(core);
    let read = move || {
        // A journal that cannot be read says so wherever it matters; here the time is left out.
        let frame = core.journal.read_frame_at(position).ok()??;
        frame.entry(position).map(|entry| entry.received_at)
    };
    spawn_blocking(read).await.ok()?
}
