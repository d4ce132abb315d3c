//! Announces what happens to subscribers as events of their own, which subscribers can follow: they
//! enter by the router's door.
//!
//! Nothing is announced of the delivery of such an event, or one that fails would make another,
//! without end.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep_until};
use tracing::{error, warn};

use super::SubscriberId;
use super::dead_letters::{DeadLetterCause, NewDeadLetter};
use crate::clock::Clock;
use crate::entity::generic::{GenericAction as Generic, JsonText};
use crate::entity::{Command, EntityAction};
use crate::event::{
    EntityKey, EventId, InternedName, Kind, PayloadShape, Record, StoreIncarnation,
};
use crate::router::{Refusal, Router};
use crate::subscription::pattern::{INTERNAL_SOURCE, is_internal_record};

/// The source of these events.
const SOURCE: InternedName = InternedName::from_static(INTERNAL_SOURCE);
/// What their entities are.
const KIND: &str = "subscriber";

/// How often an event that finds no room is sent again, and after which pause.
const SUBMIT_TRIES: u32 = 30;
const SUBMIT_PAUSE: Duration = Duration::from_secs(2);

/// Announces what happens.
#[derive(Clone)]
pub(super) struct SubscriberAnnouncer {
    router: Option<Arc<Router>>,
    clock: Arc<dyn Clock>,
    incarnation: StoreIncarnation,
}

impl SubscriberAnnouncer {
    /// Announces at `router` what happens to the records of a store's `incarnation`; without a
    /// router nothing is announced.
    pub(super) fn new(
        router: Option<Arc<Router>>,
        clock: Arc<dyn Clock>,
        incarnation: StoreIncarnation,
    ) -> Self {
        Self {
            router,
            clock,
            incarnation,
        }
    }

    /// A delivery failed for good and became the dead letter `number`: the first time, or when this
    /// job delivered it again.
    pub(super) fn announce_exhausted(
        &self,
        id: &SubscriberId,
        burial: &NewDeadLetter,
        number: u64,
        job: Option<u64>,
    ) {
        let NewDeadLetter { item, .. } = burial;
        if is_internal_record(&item.record) {
            return;
        }
        let cause = format!("{}:{}", item.position, job.unwrap_or_default());
        self.announce(
            id,
            "delivery.exhausted",
            &cause,
            self.exhausted_payload(id, burial, number),
        );
    }

    /// Enough to find the event, the dead letter and what is wrong; nothing of what was to be
    /// delivered.
    fn exhausted_payload(&self, id: &SubscriberId, burial: &NewDeadLetter, number: u64) -> Value {
        let NewDeadLetter {
            item,
            attempts,
            failure,
            reason,
            is_halting: _,
        } = burial;
        let Record {
            event_type,
            entity,
            reprocesses,
            ..
        } = &*item.record;
        let event_id = EventId::new(self.incarnation, reprocesses.unwrap_or(item.position));
        json!({
            "subscriber": subscriber_label(id),
            "event": event_type,
            "event_id": event_id.to_string(),
            "entity": {"kind": entity.kind().to_string(), "id": entity.id(), "sequence": item.sequence},
            "attempts": attempts,
            "reason": DeadLetterCause::from(*reason).as_str(),
            "status": failure.status,
            "dead_letter_id": number,
        })
    }

    /// Deliveries are interrupted.
    pub(super) fn announce_breaker_opened(&self, id: &SubscriberId, failure_rate: f64) {
        // Two digits say enough.
        let failure_rate = (failure_rate * 100.0).round() / 100.0;
        self.announce(
            id,
            "breaker.opened",
            &self.wall_micros(),
            json!({"subscriber": subscriber_label(id), "failure_rate": failure_rate}),
        );
    }

    /// Deliveries go on.
    pub(super) fn announce_breaker_closed(&self, id: &SubscriberId) {
        self.announce(
            id,
            "breaker.closed",
            &self.wall_micros(),
            json!({"subscriber": subscriber_label(id)}),
        );
    }

    /// Nothing is delivered any more.
    pub(super) fn announce_disabled(&self, id: &SubscriberId, reason: &str) {
        self.announce(
            id,
            "subscriber.disabled",
            &self.wall_micros(),
            json!({"subscriber": subscriber_label(id), "reason": reason}),
        );
    }

    fn wall_micros(&self) -> String {
        self.clock.wall().as_micros().to_string()
    }

    /// Sends the event on its way; `cause` tells it from others of its name about this subscriber.
    fn announce(&self, id: &SubscriberId, event_type: &'static str, cause: &str, data: Value) {
        let Some(router) = self.router.clone() else {
            return;
        };
        let Some(entity) = subscriber_entity(id) else {
            return;
        };
        let payload = Bytes::from(data.to_string());
        let action = EntityAction::Generic(Generic::Merge {
            fields: to_generic_fields(&data),
        });
        let command = Command {
            // Keys with a control character are refused where keys come from outside.
            idempotency_key: Some(format!("\u{1}{event_type}:{id}:{cause}")),
            shape: PayloadShape::Bare,
            at: Some(self.clock.wall()),
            ..Command::new(SOURCE, entity, action, event_type, payload)
        };
        actix_rt::spawn(submit_with_retries(router, command));
    }
}

async fn submit_with_retries(router: Arc<Router>, command: Command) {
    for _ in 0..SUBMIT_TRIES {
        match router.submit_command(command.clone()).await {
            Ok(_) | Err(Refusal::Duplicate { .. }) => return,
            Err(Refusal::Overloaded | Refusal::Quarantined { .. }) => {
                sleep_until(Instant::now() + SUBMIT_PAUSE).await
            }
            // The store failed: what follows from that is found out by all.
            Err(Refusal::Unknown) => return,
            Err(refusal @ (Refusal::Rejected(_) | Refusal::AlreadyApplied { .. })) => {
                error!(event = %command.event_type, %refusal, "event about a subscriber was refused");
                return;
            }
        }
    }
    warn!(event = %command.event_type, "event about a subscriber found no room");
}

/// The number of a subscription, the name of any other subscriber.
fn subscriber_label(id: &SubscriberId) -> Value {
    match id {
        SubscriberId::Webhook(number) => json!(number),
        SubscriberId::Forward(_) | SubscriberId::Replies(_) | SubscriberId::AutoReply => {
            json!(id.to_string())
        }
    }
}

fn subscriber_entity(id: &SubscriberId) -> Option<EntityKey> {
    let id = match id {
        SubscriberId::Webhook(number) => number.to_string(),
        SubscriberId::Forward(_) | SubscriberId::Replies(_) | SubscriberId::AutoReply => {
            id.to_string()
        }
    };
    EntityKey::try_new(Kind::intern_custom(KIND)?, &id).ok()
}

fn to_generic_fields(data: &Value) -> Vec<(String, JsonText)> {
    let members = data.as_object().into_iter().flatten();
    let json = |value: &Value| {
        RawValue::from_string(value.to_string())
            .ok()
            .map(|raw| JsonText::from_raw(&raw))
    };
    members
        .filter_map(|(name, value)| Some((name.clone(), json(value)?)))
        .collect()
}
