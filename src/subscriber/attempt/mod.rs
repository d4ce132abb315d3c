//! One attempt at one delivery: the body, its signatures, the call, and what its answer means.
//!
//! ```text
//!  profile ──prepared──┐
//!                      ├─> request ──client──> subscriber      (resolver: only addresses that may be called)
//!  item ──body, keys───┘                           │
//!                           outcome <──judge── answer ──> the call log's row
//! ```

mod classify;
mod client;
mod forward;
mod graph_api;
mod headers;
mod log_entry;
mod prepared_target;
mod resolver;
pub mod signing;
mod system_resolver;
pub mod target_address;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use self::classify::{AttemptError, SubscriberResponse, classify_response};
use self::client::DeliveryClients;
use self::prepared_target::{AttemptHeaderValues, PreparedTarget, TargetCache};
use self::resolver::NameLookup;
use self::system_resolver::SystemResolver;
use super::delivery_policy::{DeliveryPolicy, DeliveryTarget};
use super::{AttemptFailure, OutboundRecord, SubscriberId};
use crate::clock::Clock;
use crate::config;
use crate::event::{EventId, StoreIncarnation, Timestamp};

pub use log_entry::AttemptLogEntry;
pub(super) use system_resolver::LOOKUPS_MAX;

/// What an attempt came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AttemptOutcome {
    /// It was accepted.
    Accepted,
    /// It may work later.
    TransientFailure {
        /// Why it did not.
        failure: AttemptFailure,
        /// The least pause that the subscriber asked for.
        retry_after: Option<Duration>,
    },
    /// It will not work.
    PermanentFailure {
        /// Why.
        failure: AttemptFailure,
    },
    /// The subscriber wants nothing any more (410).
    Gone {
        /// What it said.
        failure: AttemptFailure,
    },
}

impl AttemptOutcome {
    /// Why it did not succeed, if it did not.
    #[must_use]
    pub const fn failure(&self) -> Option<&AttemptFailure> {
        match self {
            Self::Accepted => None,
            Self::TransientFailure { failure, .. }
            | Self::PermanentFailure { failure }
            | Self::Gone { failure } => Some(failure),
        }
    }
}

/// An attempt that was made.
#[derive(Clone, Debug)]
pub struct AttemptReport {
    /// What it came to.
    pub outcome: AttemptOutcome,
    /// What the call log is told of it, once it is known what comes next.
    pub call: AttemptLogEntry,
}

/// Which attempt at a delivery it is. A number alone is one of an ordinary delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttemptNumber {
    /// Its number, from 1.
    pub attempt: u32,
    /// Whether a job brings the event again, out of its entity's order: what subscribers can tell
    /// it by.
    pub is_replay: bool,
}

impl From<u32> for AttemptNumber {
    fn from(attempt: u32) -> Self {
        Self {
            attempt,
            is_replay: false,
        }
    }
}

/// Makes attempts. Cheap to clone; all clones share their connections.
#[derive(Clone)]
pub struct AttemptSender(Arc<AttemptSenderInner>);

struct AttemptSenderInner {
    clients: DeliveryClients,
    prepared: TargetCache,
    incarnation: StoreIncarnation,
    clock: Arc<dyn Clock>,
}

impl fmt::Debug for AttemptSender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Caller")
    }
}

/// What is sent, and about what.
struct AttemptContext<'a> {
    id: String,
    event_id: Option<EventId>,
    event: &'a str,
    event_at: Timestamp,
    sequence: u64,
    number: AttemptNumber,
}

impl AttemptSender {
    /// A caller for the records of a store's `incarnation`.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub fn try_new(
        config: &config::DeliveryConfig,
        incarnation: StoreIncarnation,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, reqwest::Error> {
        Self::with_name_lookup(
            config,
            incarnation,
            clock,
            Arc::new(SystemResolver::default()),
        )
    }

    fn with_name_lookup(
        config: &config::DeliveryConfig,
        incarnation: StoreIncarnation,
        clock: Arc<dyn Clock>,
        lookup: Arc<dyn NameLookup>,
    ) -> Result<Self, reqwest::Error> {
        let clients = DeliveryClients::try_new(config, &lookup)?;
        let prepared = TargetCache::new(config.subscriptions_max);
        Ok(Self(Arc::new(AttemptSenderInner {
            clients,
            prepared,
            incarnation,
            clock,
        })))
    }

    /// Makes the attempt `which` at bringing `item` to the subscriber of `profile`.
    pub async fn send_delivery(
        &self,
        profile: &DeliveryPolicy,
        item: &OutboundRecord,
        which: impl Into<AttemptNumber>,
    ) -> AttemptReport {
        let event_id = EventId::new(self.0.incarnation, item.position);
        let sending = AttemptContext {
            id: event_id.to_string(),
            event_id: Some(event_id),
            event: &item.record.event_type,
            event_at: item.record.at,
            sequence: item.sequence,
            number: which.into(),
        };
        self.send_attempt(profile, sending, |prepared| prepared.build_body(item))
            .await
    }

    /// Sends the subscriber of `profile` a signed `ping`, which has no entity's place.
    pub async fn send_ping(&self, profile: &DeliveryPolicy) -> AttemptReport {
        let at = self.0.clock.wall();
        let id = format!("ping_{:x}", at.as_micros());
        let sending = AttemptContext {
            id,
            event_id: None,
            event: PING,
            event_at: at,
            sequence: 0,
            number: 1.into(),
        };
        self.send_attempt(profile, sending, |_| Ok(build_ping_body(&profile.id, at)))
            .await
    }

    /// Drops what is kept ready for `id`, of which no more attempts are expected.
    pub fn forget(&self, id: &SubscriberId) {
        self.0.prepared.forget(id);
    }

    async fn send_attempt(
        &self,
        profile: &DeliveryPolicy,
        sending: AttemptContext<'_>,
        body: impl FnOnce(&PreparedTarget) -> Result<Bytes, AttemptError>,
    ) -> AttemptReport {
        let (at, began) = (self.0.clock.wall(), self.0.clock.monotonic());
        let mut call = AttemptLogEntry::new(at, &profile.id, &sending);
        let request = self
            .0
            .prepared
            .get_or_prepare(profile)
            .and_then(|prepared| {
                call.path = prepared.url_path().to_owned();
                let part = at.as_micros().to_be_bytes();
                let trace = headers::build_traceparent(
                    &sending.id,
                    &[
                        call.source.as_bytes(),
                        &part,
                        &sending.number.attempt.to_be_bytes(),
                    ],
                );
                let AttemptContext {
                    id,
                    event,
                    event_at,
                    sequence,
                    number: which,
                    ..
                } = &sending;
                let is_replay = which.is_replay;
                let attempt = AttemptHeaderValues {
                    id,
                    event,
                    event_at: *event_at,
                    at,
                    sequence: *sequence,
                    is_replay,
                    trace: &trace,
                };
                Ok(prepared.build_request(&attempt, body(&prepared)?))
            });
        let (received, broken) = match request {
            Ok(request) => {
                call.headers = request.headers.clone();
                call.body_bytes = request.body.len();
                self.0.clients.post_request(request, profile.timeout).await
            }
            Err(broken) => (SubscriberResponse::default(), Some(broken)),
        };
        let duration = self.0.clock.monotonic().saturating_sub(began);
        let outcome = classify_response(&received, broken, at.saturating_add(duration));
        let outcome = match &profile.target {
            DeliveryTarget::Webhook(_) | DeliveryTarget::AutoReply => outcome,
            DeliveryTarget::Forward { .. } => forward::refine_forward_outcome(outcome),
            DeliveryTarget::Reply { .. } => graph_api::refine_reply_outcome(outcome),
        };
        let SubscriberResponse {
            status,
            body: answer,
            ..
        } = received;
        let code = outcome.failure().map(|failure| failure.code);
        AttemptReport {
            outcome,
            call: AttemptLogEntry {
                status,
                code,
                duration,
                answer,
                ..call
            },
        }
    }
}

/// The name of the event that tests a subscription.
const PING: &str = "ping";

/// The body of a ping: like that of any event.
fn build_ping_body(id: &SubscriberId, at: Timestamp) -> Bytes {
    let name = id.to_string();
    let number = name.rsplit(':').next().unwrap_or_default();
    let body = serde_json::json!({
        "event": PING,
        "timestamp": at,
        "user_id": null,
        "data": { "subscriber": name },
        "entity": { "kind": "custom:subscriber", "id": number, "sequence": 0 },
        "late": false,
    });
    body.to_string().into()
}

#[cfg(test)]
mod tests;
