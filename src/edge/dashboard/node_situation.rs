//! State of all stages at one moment, as the overview shows it.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use crate::alerts::AlertSubject;
use crate::edge::gate::NodeCore;
use crate::edge::metrics::ANSWER_LIMIT;
use crate::event::{EntityKey, Timestamp};
use crate::subscriber::{DeliveryOverview, StatsError};
use crate::subscription::SubscriptionState;

/// Entities in the table of the busiest.
const BUSIEST_MAX: usize = 5;

/// State of all stages at one moment.
pub(super) struct NodeSituation {
    pub(super) now: Timestamp,
    pub(super) lag: u64,
    pub(super) dead_letters: u64,
    pub(super) deliveries: Result<Arc<DeliveryOverview>, StatsError>,
    /// State of the entities; `None` if the router does not answer.
    pub(super) entities: Option<EntitySituation>,
    pub(super) alerts: Vec<AlertSubject>,
    pub(super) active: usize,
    pub(super) paused: usize,
    pub(super) disabled: usize,
}

/// State of the entities in memory.
#[derive(Default)]
pub(super) struct EntitySituation {
    pub(super) live: usize,
    pub(super) quarantined: Vec<(EntityKey, Duration)>,
    pub(super) busiest: Vec<(EntityKey, u64)>,
}

impl NodeSituation {
    /// Asks all stages. One that does not answer in time is shown as a problem.
    pub(super) async fn load(core: &NodeCore, now: Timestamp) -> Self {
        let deliveries = core.subscribers.overview().await;
        let entities = async {
            EntitySituation {
                live: core.router.count_live_entities().await,
                quarantined: core.router.list_quarantined().await,
                busiest: core.router.list_busiest(BUSIEST_MAX).await,
            }
        };
        let entities = timeout(ANSWER_LIMIT, entities).await.ok();

        let (mut active, mut paused, mut disabled) = (0, 0, 0);
        for entry in core.subscriptions.snapshot().iter() {
            match entry.subscription.state {
                SubscriptionState::Active => active += 1,
                SubscriptionState::Paused { .. } => paused += 1,
                SubscriptionState::Disabled { .. } => disabled += 1,
            }
        }
        Self {
            now,
            lag: core.router.projection_lag(),
            dead_letters: core.subscribers.dead_letters().count_all(),
            deliveries,
            entities,
            alerts: core.raised_alerts.list(),
            active,
            paused,
            disabled,
        }
    }
}
