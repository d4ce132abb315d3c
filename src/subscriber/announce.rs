//! Operational events about subscribers, submitted to the router like all other events, so that
//! subscribers can receive them.
//!
//! A failed delivery of such an event causes no further event, or failures would multiply without
//! end.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep_until};
use tracing::{error, warn};

use super::dead_letters::NewDeadLetter;
use super::exhausted_notices::ExhaustedNotice;
use super::operational_event::OperationalEvent;
use super::subscriber_id::SubscriberId;
use crate::clock::Clock;
use crate::entity::Command;
use crate::event::{EntityKey, IncarnationHistory, Kind, Record, Timestamp};
use crate::router::{Refusal, Router};
use crate::subscription::PatternIndex;
use crate::subscription::pattern::INTERNAL_SOURCE;

/// Kind of the entities that these events belong to.
const KIND: &str = "subscriber";

const EXHAUSTED_EVENT: &str = "delivery.exhausted";

/// Submissions of an event while the router is overloaded.
const SUBMIT_TRIES: u32 = 30;
/// Events that wait for the router at once; further ones are dropped, or a long overload would fill the
/// memory with them. A node has some thousand subscribers at most that fail at the same time.
const WAITING_MAX: usize = 4_096;
/// Pause between submissions, so that an event waits for a minute altogether.
const SUBMIT_PAUSE: Duration = Duration::from_secs(2);

/// Creates operational events and submits them.
#[derive(Clone)]
pub(super) struct SubscriberAnnouncer {
    router: Option<Arc<Router>>,
    clock: Arc<dyn Clock>,
    incarnations: IncarnationHistory,
    waiting_permits: Arc<Semaphore>,
}

impl SubscriberAnnouncer {
    /// Creates an announcer for the store with these `incarnations`. Without a router it does nothing.
    pub(super) fn new(
        router: Option<Arc<Router>>,
        clock: Arc<dyn Clock>,
        incarnations: IncarnationHistory,
    ) -> Self {
        Self {
            router,
            clock,
            incarnations,
            waiting_permits: Arc::new(Semaphore::new(WAITING_MAX)),
        }
    }

    /// Announces the dead letters of `notice`.
    pub(super) fn announce_exhausted(&self, id: &SubscriberId, notice: ExhaustedNotice) {
        let ExhaustedNotice {
            mut payload,
            count,
            hops,
        } = notice;
        payload["count"] = json!(count);
        // The hops go on: otherwise a loop would begin anew with each announcement of its end.
        self.announce(id, EXHAUSTED_EVENT, payload, hops);
    }

    /// Describes the dead letter `number` for [`Self::announce_exhausted`]: the event's and the dead
    /// letter's ids and the reason, without the event's data.
    pub(super) fn exhausted_payload(
        &self,
        id: &SubscriberId,
        dead_letter: &NewDeadLetter,
        number: u64,
    ) -> Value {
        let NewDeadLetter {
            item,
            attempts,
            failure,
            cause,
            is_halting: _,
        } = dead_letter;
        let Record {
            event_type,
            entity,
            reprocesses,
            ..
        } = &*item.record;
        let event_id = self
            .incarnations
            .event_id(reprocesses.unwrap_or(item.position));

        json!({
            "subscriber": subscriber_label(id),
            "event": event_type,
            "event_id": event_id.to_string(),
            "entity": {
                "kind": entity.kind().to_string(),
                "id": entity.id(),
                "sequence": item.sequence,
            },
            "attempts": attempts,
            "reason": cause.as_str(),
            "status": failure.status,
            "dead_letter_id": number,
        })
    }

    /// Announces that the circuit breaker of `id` opened.
    pub(super) fn announce_breaker_opened(&self, id: &SubscriberId, failure_rate: f64) {
        // Two decimal places are precise enough.
        let failure_rate = (failure_rate * 100.0).round() / 100.0;
        let data = json!({"subscriber": subscriber_label(id), "failure_rate": failure_rate});
        self.announce(id, "breaker.opened", data, 0);
    }

    /// Announces that the circuit breaker of `id` closed.
    pub(super) fn announce_breaker_closed(&self, id: &SubscriberId) {
        let data = json!({"subscriber": subscriber_label(id)});
        self.announce(id, "breaker.closed", data, 0);
    }

    /// Announces that `id` was disabled.
    pub(super) fn announce_disabled(&self, id: &SubscriberId, reason: &str) {
        let data = json!({"subscriber": subscriber_label(id), "reason": reason});
        self.announce(id, "subscriber.disabled", data, 0);
    }

    /// Submits an event in the background, which another one with this number of `hops` led to.
    fn announce(&self, id: &SubscriberId, event_type: &'static str, data: Value, hops: u8) {
        let Some(router) = self.router.clone() else {
            return;
        };
        let Some(entity) = subscriber_entity(id) else {
            return;
        };

        let now = self.clock.wall();
        let event = OperationalEvent {
            entity,
            event_type,
            cause: format!("{id}:{}", now.as_micros()),
            data,
        };
        let command = Command {
            hops,
            ..event.into_command(now)
        };
        self.spawn_submission(event_type, submit_with_retries(router, command));
    }

    /// Spawns `submission` unless too many wait already. Returns true if it was spawned.
    fn spawn_submission(
        &self,
        event: &'static str,
        submission: impl Future<Output = ()> + 'static,
    ) -> bool {
        let Ok(permit) = Arc::clone(&self.waiting_permits).try_acquire_owned() else {
            warn!(%event, "operational event dropped; the router stays overloaded");
            return false;
        };
        actix_rt::spawn(async move {
            submission.await;
            drop(permit);
        });
        true
    }
}

async fn submit_with_retries(router: Arc<Router>, command: Command) {
    for _ in 0..SUBMIT_TRIES {
        match router.submit_command(command.clone()).await {
            Ok(_) | Err(Refusal::Duplicate { .. }) => return,
            Err(Refusal::Overloaded | Refusal::Quarantined { .. }) => {
                sleep_until(Instant::now() + SUBMIT_PAUSE).await
            }
            // The store failed, which stops the stage and reopens the store.
            Err(Refusal::Unknown) => return,
            Err(
                refusal @ (Refusal::Rejected(_)
                | Refusal::KeyReused { .. }
                | Refusal::OtherReading
                | Refusal::AlreadyApplied { .. }),
            ) => {
                error!(event = %command.event_type, error = %refusal, "operational event rejected");
                return;
            }
        }
    }
    warn!(event = %command.event_type, "operational event dropped; the router stays overloaded");
}

/// True if a subscription follows the announcements of dead letters.
pub(super) fn are_dead_letters_followed(index: &PatternIndex) -> bool {
    let entity = subscriber_entity(&SubscriberId::AutoReply);
    entity.is_some_and(|entity| {
        let at = Timestamp::from_micros(0);
        let sample = Record::new(INTERNAL_SOURCE, entity, EXHAUSTED_EVENT, at);
        !index.candidates(&sample).is_empty()
    })
}

/// Number of a subscription, or text form of any other subscriber.
fn subscriber_label(id: &SubscriberId) -> Value {
    match id {
        SubscriberId::Webhook(number) => json!(number),
        SubscriberId::Forward(_) | SubscriberId::Replies(_) | SubscriberId::AutoReply => {
            json!(id.to_string())
        }
    }
}

fn subscriber_entity(id: &SubscriberId) -> Option<EntityKey> {
    let label = subscriber_label(id);
    let id = label
        .as_str()
        .map_or_else(|| label.to_string(), ToOwned::to_owned);
    EntityKey::try_new(Kind::intern_custom(KIND)?, &id).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;
    use crate::event::StoreIncarnation;

    #[test]
    fn a_long_overload_of_the_router_fills_no_memory() {
        actix_rt::System::new().block_on(async {
            let incarnations = IncarnationHistory::new(StoreIncarnation::new(1));
            let clock = Arc::new(SystemClock::default());
            let announcer = SubscriberAnnouncer::new(None, clock, incarnations);
            let mut announce =
                || announcer.spawn_submission(EXHAUSTED_EVENT, std::future::pending());
            let spawned = std::iter::repeat_with(&mut announce).take(WAITING_MAX + 9);
            assert_eq!(
                spawned.filter(|is_spawned| *is_spawned).count(),
                WAITING_MAX
            );
        });
    }
}
