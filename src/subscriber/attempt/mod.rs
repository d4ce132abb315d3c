//! Makes one attempt at a delivery: builds, signs and posts the request, classifies the response.
//!
//! ```text
//!  policy ──prepared_target──┐
//!                            ├─> request ──client──> subscriber    (resolver: public addresses)
//!  record ──body, signing────┘                           │
//!                              outcome <──classify── response ──> log_entry ──> call log
//! ```

mod classify;
mod client;
mod context;
mod forward;
mod graph_api;
mod headers;
mod log_entry;
mod outcome;
mod prepared_target;
mod resolver;
pub mod signing;
mod system_resolver;
pub mod target_address;

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use self::classify::{AttemptError, SubscriberResponse, classify_response};
use self::client::DeliveryClients;
use self::context::AttemptContext;
use self::prepared_target::{AttemptHeaderValues, PreparedTarget, TargetCache};
use self::resolver::NameLookup;
use self::system_resolver::SystemResolver;
use super::delivery_policy::{DeliveryPolicy, DeliveryTarget};
use super::{OutboundRecord, SubscriberId};
use crate::clock::Clock;
use crate::config;
use crate::event::{IncarnationHistory, Timestamp};

pub use context::AttemptNumber;
pub use log_entry::AttemptLogEntry;
pub use outcome::AttemptOutcome;
pub(super) use system_resolver::LOOKUPS_MAX;

/// Name of the event that tests a subscription.
const PING: &str = "ping";

/// Result of one attempt that was made.
#[derive(Clone, Debug)]
pub struct AttemptReport {
    /// Outcome, from which the delivery decides about the next attempt.
    pub outcome: AttemptOutcome,
    /// Entry for the call log; written once the time of the next attempt is known.
    pub call: AttemptLogEntry,
}

/// Makes attempts. Cheap to clone; all clones share their connections.
#[derive(Clone)]
pub struct AttemptSender(Arc<AttemptSenderInner>);

struct AttemptSenderInner {
    clients: DeliveryClients,
    targets: TargetCache,
    incarnations: IncarnationHistory,
    clock: Arc<dyn Clock>,
}

impl fmt::Debug for AttemptSender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AttemptSender")
    }
}

impl AttemptSender {
    /// Creates a sender for the records of the store with these `incarnations`.
    ///
    /// # Errors
    /// TLS cannot be set up.
    pub fn try_new(
        config: &config::DeliveryConfig,
        incarnations: IncarnationHistory,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, reqwest::Error> {
        let lookup = Arc::new(SystemResolver::default());
        Self::with_name_lookup(config, incarnations, clock, lookup)
    }

    fn with_name_lookup(
        config: &config::DeliveryConfig,
        incarnations: IncarnationHistory,
        clock: Arc<dyn Clock>,
        lookup: Arc<dyn NameLookup>,
    ) -> Result<Self, reqwest::Error> {
        let clients = DeliveryClients::try_new(config, &lookup)?;
        let targets = TargetCache::new(config.subscriptions_max);
        Ok(Self(Arc::new(AttemptSenderInner {
            clients,
            targets,
            incarnations,
            clock,
        })))
    }

    /// Makes the attempt `number` at delivering `item` to the subscriber of `policy`.
    pub async fn send_delivery(
        &self,
        policy: &DeliveryPolicy,
        item: &OutboundRecord,
        number: impl Into<AttemptNumber>,
    ) -> AttemptReport {
        let event_id = self.0.incarnations.event_id(item.position);
        let context = AttemptContext {
            id: event_id.to_string(),
            event_id: Some(event_id),
            event: &item.record.event_type,
            event_at: item.record.at,
            sequence: item.sequence,
            number: number.into(),
        };
        self.send_attempt(policy, context, |target| target.build_body(item))
            .await
    }

    /// Sends a signed `ping` to the subscriber of `policy`. A ping belongs to no entity.
    pub async fn send_ping(&self, policy: &DeliveryPolicy) -> AttemptReport {
        let at = self.0.clock.wall();
        let context = AttemptContext {
            id: format!("ping_{:x}", at.as_micros()),
            event_id: None,
            event: PING,
            event_at: at,
            sequence: 0,
            number: 1.into(),
        };
        self.send_attempt(policy, context, |_| Ok(build_ping_body(&policy.id, at)))
            .await
    }

    /// Drops the prepared target of `id`, to which no more attempts are expected.
    pub fn forget(&self, id: &SubscriberId) {
        self.0.targets.forget(id);
    }

    async fn send_attempt(
        &self,
        policy: &DeliveryPolicy,
        context: AttemptContext<'_>,
        build_body: impl FnOnce(&PreparedTarget) -> Result<Bytes, AttemptError>,
    ) -> AttemptReport {
        let (at, began) = (self.0.clock.wall(), self.0.clock.monotonic());
        let mut call = AttemptLogEntry::new(at, &policy.id, &context);

        // The path is logged even if no body can be built for it.
        let target = self.0.targets.get_or_prepare(policy);
        let request = target.and_then(|target| {
            call.path = target.url_path().to_owned();
            let attempt = context.number.attempt.to_be_bytes();
            let micros = at.as_micros().to_be_bytes();
            let trace = headers::build_traceparent(
                &context.id,
                &[call.source.as_bytes(), &micros, &attempt],
            );
            let values = AttemptHeaderValues {
                id: &context.id,
                event: context.event,
                event_at: context.event_at,
                at,
                sequence: context.sequence,
                is_replay: context.number.is_replay,
                trace: &trace,
            };
            Ok(target.build_request(&values, build_body(&target)?))
        });

        let (response, error) = match request {
            Ok(request) => {
                call.headers = request.headers.clone();
                call.body_bytes = request.body.len();
                self.0.clients.post_request(request, policy.timeout).await
            }
            Err(error) => (SubscriberResponse::default(), Some(error)),
        };
        call.duration = self.0.clock.monotonic().saturating_sub(began);

        let outcome = classify_response(&response, error, at.saturating_add(call.duration));
        let outcome = match &policy.target {
            DeliveryTarget::Webhook(_) | DeliveryTarget::AutoReply => outcome,
            DeliveryTarget::Forward { .. } => forward::refine_forward_outcome(outcome),
            DeliveryTarget::Reply { .. } => graph_api::refine_reply_outcome(outcome),
        };

        call.code = outcome.failure().map(|failure| failure.code);
        call.status = response.status;
        call.answer = response.body;
        AttemptReport { outcome, call }
    }
}

/// Builds the body of a ping, in the envelope of any event.
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
