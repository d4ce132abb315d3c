//! Announces what happens to subscribers as events of their own, which subscribers can follow: they enter by the router's door.
//!
//! Nothing is announced of the delivery of such an event, or one that fails would make another, without end.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep_until};
use tracing::{error, warn};

use super::SubscriberId;
use super::dead_letters::{Burial, Cause};
use crate::clock::Clock;
use crate::entity::generic::{Action as Generic, Json};
use crate::entity::{Action, Command};
use crate::event::{EntityKey, EventId, Incarnation, Kind, Name, Record, Shape};
use crate::router::{Refusal, Router};
use crate::subscription::pattern::{OWN_SOURCE, is_own};

/// The source of these events.
const SOURCE: Name = Name::from_static(OWN_SOURCE);
/// What their entities are.
const KIND: &str = "subscriber";

/// How often an event that finds no room is sent again, and after which pause.
const TRIES: u32 = 30;
const PAUSE: Duration = Duration::from_secs(2);

/// Announces what happens.
#[derive(Clone)]
pub(super) struct Announcer {
    router: Option<Arc<Router>>,
    clock: Arc<dyn Clock>,
    incarnation: Incarnation,
}

impl Announcer {
    /// Announces at `router` what happens to the records of a store's `incarnation`; without a router nothing is announced.
    pub(super) fn new(router: Option<Arc<Router>>, clock: Arc<dyn Clock>, incarnation: Incarnation) -> Self {
        Self { router, clock, incarnation }
    }

    /// A delivery failed for good and became the dead letter `number`: the first time, or when this job delivered it again.
    pub(super) fn exhausted(&self, id: &SubscriberId, burial: &Burial, number: u64, job: Option<u64>) {
        let Burial { item, .. } = burial;
        if is_own(&item.record) {
            return;
        }
        let cause = format!("{}:{}", item.position, job.unwrap_or_default());
        self.announce(id, "delivery.exhausted", &cause, self.of_delivery(id, burial, number));
    }

    /// Enough to find the event, the dead letter and what is wrong; nothing of what was to be delivered.
    fn of_delivery(&self, id: &SubscriberId, burial: &Burial, number: u64) -> Value {
        let Burial { item, attempts, failure, reason, is_halting: _ } = burial;
        let Record { event_type, entity, reprocesses, .. } = &*item.record;
        let event_id = EventId::new(self.incarnation, reprocesses.unwrap_or(item.position));
        json!({
            "subscriber": name(id),
            "event": event_type,
            "event_id": event_id.to_string(),
            "entity": {"kind": entity.kind().to_string(), "id": entity.id(), "sequence": item.sequence},
            "attempts": attempts,
            "reason": Cause::from(*reason).as_str(),
            "status": failure.status,
            "dead_letter_id": number,
        })
    }

    /// Deliveries are interrupted.
    pub(super) fn opened(&self, id: &SubscriberId, failure_rate: f64) {
        // Two digits say enough.
        let failure_rate = (failure_rate * 100.0).round() / 100.0;
        self.announce(
            id,
            "breaker.opened",
            &self.moment(),
            json!({"subscriber": name(id), "failure_rate": failure_rate}),
        );
    }

    /// Deliveries go on.
    pub(super) fn closed(&self, id: &SubscriberId) {
        self.announce(id, "breaker.closed", &self.moment(), json!({"subscriber": name(id)}));
    }

    /// Nothing is delivered any more.
    pub(super) fn disabled(&self, id: &SubscriberId, reason: &str) {
        self.announce(id, "subscriber.disabled", &self.moment(), json!({"subscriber": name(id), "reason": reason}));
    }

    fn moment(&self) -> String {
        self.clock.wall().as_micros().to_string()
    }

    /// Sends the event on its way; `cause` tells it from others of its name about this subscriber.
    fn announce(&self, id: &SubscriberId, event_type: &'static str, cause: &str, data: Value) {
        let Some(router) = self.router.clone() else { return };
        let Some(entity) = entity(id) else { return };
        let payload = Bytes::from(data.to_string());
        let action = Action::Generic(Generic::Merge { fields: fields(&data) });
        let command = Command {
            // Keys with a control character are refused where keys come from outside.
            idempotency_key: Some(format!("\u{1}{event_type}:{id}:{cause}")),
            shape: Shape::Bare,
            at: Some(self.clock.wall()),
            ..Command::new(SOURCE, entity, action, event_type, payload)
        };
        actix_rt::spawn(submit(router, command));
    }
}

async fn submit(router: Arc<Router>, command: Command) {
    for _ in 0..TRIES {
        match router.submit(command.clone()).await {
            Ok(_) | Err(Refusal::Duplicate { .. }) => return,
            Err(Refusal::Overloaded | Refusal::Quarantined { .. }) => sleep_until(Instant::now() + PAUSE).await,
            // The store failed: what follows from that is found out by all.
            Err(Refusal::Unknown) => return,
            Err(refusal @ (Refusal::Rejected(_) | Refusal::Known { .. })) => {
                error!(event = %command.event_type, %refusal, "event about a subscriber was refused");
                return;
            }
        }
    }
    warn!(event = %command.event_type, "event about a subscriber found no room");
}

/// The number of a subscription, the name of any other subscriber.
fn name(id: &SubscriberId) -> Value {
    match id {
        SubscriberId::Webhook(number) => json!(number),
        SubscriberId::Forward(_) | SubscriberId::Replies(_) | SubscriberId::AutoReply => json!(id.to_string()),
    }
}

fn entity(id: &SubscriberId) -> Option<EntityKey> {
    let id = match id {
        SubscriberId::Webhook(number) => number.to_string(),
        SubscriberId::Forward(_) | SubscriberId::Replies(_) | SubscriberId::AutoReply => id.to_string(),
    };
    EntityKey::try_new(Kind::custom(KIND)?, &id).ok()
}

fn fields(data: &Value) -> Vec<(String, Json)> {
    let members = data.as_object().into_iter().flatten();
    let json = |value: &Value| RawValue::from_string(value.to_string()).ok().map(|raw| Json::new(&raw));
    members.filter_map(|(name, value)| Some((name.clone(), json(value)?))).collect()
}
