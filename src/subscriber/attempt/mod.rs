//! Makes one attempt at a delivery: builds, signs and posts the request, classifies the response.
//!
//! ```text
//!  policy ──prepared_target──┐
//!                            ├─> request ──client──> subscriber    (connection_pool, connector)
//!  record ──body, signing────┘                           │
//!                              outcome <──classify── response ──> log_entry ──> call log
//! ```

mod access_tokens;
mod classify;
mod client;
mod connection;
mod connection_pool;
mod connector;
mod context;
mod delivery_origin;
mod forward;
mod graph_api;
mod headers;
mod log_entry;
mod outbound_credentials;
mod outcome;
mod prepared_target;
mod proxy;
pub mod signing;
mod system_resolver;
pub mod target_address;
mod tls;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tracing::{info, warn};

use self::classify::{AttemptError, NO_RESOURCES, PROXY, SubscriberResponse, classify_response};
use self::client::DeliveryClient;
use self::context::AttemptContext;
use self::prepared_target::{DeliveryRequest, PreparedTarget, TargetCache, transform_error};
use self::system_resolver::SystemResolver;
use super::delivery_policy::{DeliveryPolicy, DeliveryTarget};
use super::expression_shares::ExpressionShares;
use super::{AttemptFailure, OutboundRecord, SubscriberId};
use crate::clock::Clock;
use crate::config::{self, LiveConfig};
use crate::event::{IncarnationHistory, Timestamp};
use crate::traces::{DeliveryAttempt, TraceSink};

pub use context::AttemptNumber;
pub use log_entry::AttemptLogEntry;
pub use outcome::AttemptOutcome;
pub(super) use system_resolver::LOOKUPS_MAX;
pub use tls::TlsSetupError;

/// Name of the event that tests a subscription.
const PING: &str = "ping";

/// First pause of an attempt that this node could not make.
const SHORTAGE_PAUSE: Duration = Duration::from_millis(100);
/// Longest such pause; each is twice as long as the one before. A shortage ends when other calls do,
/// which is mostly within seconds.
const SHORTAGE_PAUSE_MAX: Duration = Duration::from_millis(3_200);

/// Result of one attempt that was made.
#[derive(Clone, Debug)]
pub struct AttemptReport {
    /// Outcome, from which the delivery decides about the next attempt.
    pub outcome: AttemptOutcome,
    /// Entry for the call log; written once the time of the next attempt is known.
    pub call: AttemptLogEntry,
}

impl AttemptReport {
    /// Failure for which the attempt could not be made, and which says nothing of the subscriber.
    fn failure_of_this_node(&self) -> Option<&AttemptFailure> {
        self.outcome
            .failure()
            .filter(|failure| matches!(failure.code, NO_RESOURCES | PROXY))
    }
}

/// Makes attempts. Cheap to clone; all clones share their connections.
#[derive(Clone)]
pub struct AttemptSender(Arc<AttemptSenderInner>);

struct AttemptSenderInner {
    client: DeliveryClient,
    targets: TargetCache,
    incarnations: IncarnationHistory,
    clock: Arc<dyn Clock>,
    expressions: Arc<ExpressionShares>,
    traces: TraceSink,
    /// True while attempts wait because this node cannot make them.
    is_short: AtomicBool,
}

impl fmt::Debug for AttemptSender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AttemptSender")
    }
}

impl AttemptSender {
    /// Creates a sender for the records of the store with these `incarnations`. Transforms are
    /// evaluated in the time of `expressions`.
    ///
    /// # Errors
    /// The certificates of `delivery.ca_files` cannot be read.
    pub(super) fn try_new(
        config: &config::DeliveryConfig,
        incarnations: IncarnationHistory,
        clock: Arc<dyn Clock>,
        expressions: Arc<ExpressionShares>,
        traces: TraceSink,
    ) -> Result<Self, TlsSetupError> {
        let resolver = SystemResolver::default();
        Self::with_resolver(config, incarnations, clock, (expressions, traces), resolver)
    }

    /// Follows `delivery.allow_targets` and the credentials of the configuration: each change holds from
    /// the end of its reload on, also for connections that are open.
    pub(super) fn follow_config(&self, live_config: &LiveConfig) {
        let sender = Arc::downgrade(&self.0);
        live_config.follow(move |config| {
            let Some(sender) = sender.upgrade() else {
                return false;
            };
            let delivery = &config.delivery;
            sender.client.set_allow_targets(&delivery.allow_targets);
            sender.client.set_credentials(delivery);
            true
        });
    }

    fn with_resolver(
        config: &config::DeliveryConfig,
        incarnations: IncarnationHistory,
        clock: Arc<dyn Clock>,
        (expressions, traces): (Arc<ExpressionShares>, TraceSink),
        resolver: SystemResolver,
    ) -> Result<Self, TlsSetupError> {
        let client = DeliveryClient::try_new(config, resolver, Arc::clone(&clock))?;
        let targets = TargetCache::new(config.subscriptions_max);
        Ok(Self(Arc::new(AttemptSenderInner {
            client,
            targets,
            incarnations,
            clock,
            expressions,
            traces,
            is_short: AtomicBool::new(false),
        })))
    }

    /// Makes the attempt `number` at delivering `item` to the subscriber of `policy` as soon as this
    /// node has what it takes. Returns `None` if it has not for a while, so that the caller can look
    /// if the delivery is still wanted.
    #[expect(
        clippy::disallowed_methods,
        reason = "nothing tells when a descriptor is free or the proxy answers again"
    )]
    pub async fn send_when_possible(
        &self,
        policy: &Arc<DeliveryPolicy>,
        item: &OutboundRecord,
        number: AttemptNumber,
    ) -> Option<AttemptReport> {
        let mut pause = SHORTAGE_PAUSE;
        while pause <= SHORTAGE_PAUSE_MAX {
            let report = self.send_delivery(policy, item, number).await;
            let Some(failure) = report.failure_of_this_node() else {
                self.note_end_of_shortage();
                return Some(report);
            };

            self.note_shortage(failure);
            // Their descriptors are of use to all.
            self.0.client.pool.close_idle();
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
        None
    }

    /// Makes the attempt `number` at delivering `item` to the subscriber of `policy`.
    pub async fn send_delivery(
        &self,
        policy: &Arc<DeliveryPolicy>,
        item: &OutboundRecord,
        number: impl Into<AttemptNumber>,
    ) -> AttemptReport {
        let transformed = self.transform_body(policy, item).await;
        let event_id = self.0.incarnations.event_id(item.position);
        let context = AttemptContext {
            id: event_id.to_string(),
            event_id: Some(event_id),
            event: &item.record.event_type,
            event_at: item.record.at,
            at: self.0.clock.wall(),
            sequence: item.sequence,
            number: number.into(),
            hops: item.record.hops,
            trace: self.0.traces.trace_of(event_id, item.record.trace),
        };
        let build_body = |target: &PreparedTarget| target.build_body(item, transformed);
        self.send_attempt(policy, context, build_body).await
    }

    /// Evaluates the transform of a subscription, on a thread that may block; `None` if there is none.
    async fn transform_body(
        &self,
        policy: &DeliveryPolicy,
        item: &OutboundRecord,
    ) -> Option<Result<Bytes, AttemptError>> {
        let DeliveryTarget::Webhook(subscription) = &policy.target else {
            return None;
        };
        let transform = subscription.transform.clone()?;
        let record = Arc::clone(&item.record);
        let evaluate = move || transform.render_body(&record);
        let body = self.0.expressions.evaluate(&policy.id, evaluate).await;
        Some(match body {
            Ok(body) => body
                .map(Bytes::from)
                .map_err(|failed| transform_error(&failed)),
            Err(_) => Err(AttemptError::broken_off("the node is stopping")),
        })
    }

    /// Logs a shortage when it begins. Each of a thousand attempts would have a line of its own.
    fn note_shortage(&self, failure: &AttemptFailure) {
        if !self.0.is_short.swap(true, Ordering::Relaxed) {
            let (code, detail) = (failure.code, &failure.detail);
            warn!(
                code,
                detail, "deliveries wait: no attempt can leave this node"
            );
        }
    }

    fn note_end_of_shortage(&self) {
        if self.0.is_short.load(Ordering::Relaxed) && self.0.is_short.swap(false, Ordering::Relaxed)
        {
            info!("deliveries go on");
        }
    }

    /// Sends a signed `ping` to the subscriber of `policy`. A ping belongs to no entity.
    pub async fn send_ping(&self, policy: &Arc<DeliveryPolicy>) -> AttemptReport {
        let at = self.0.clock.wall();
        let context = AttemptContext {
            id: format!("ping_{:x}", at.as_micros()),
            event_id: None,
            event: PING,
            event_at: at,
            at,
            sequence: 0,
            number: 1.into(),
            hops: 0,
            trace: None,
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
        policy: &Arc<DeliveryPolicy>,
        mut context: AttemptContext<'_>,
        build_body: impl FnOnce(&PreparedTarget) -> Result<Bytes, AttemptError>,
    ) -> AttemptReport {
        let began = self.0.clock.monotonic();
        let mut call = AttemptLogEntry::new(&policy.id, &context);
        context.trace = context.trace.map(|trace| {
            let pieces = [
                call.source.as_bytes(),
                &context.at.as_micros().to_be_bytes(),
                &context.number.attempt.to_be_bytes(),
            ];
            trace.with_span(headers::derive_span_id(&context.id, &pieces))
        });

        // The server is logged even if no body can be built for it.
        let target = self.0.targets.get_or_prepare(policy);
        let prepared = target.and_then(|target| {
            call.url = target.logged_url().to_owned();
            let body = build_body(&target)?;
            Ok((target, body))
        });

        let (response, error) = match prepared {
            Ok((target, body)) => {
                let request = DeliveryRequest {
                    target: &target,
                    context: &context,
                    body,
                };
                call.body_bytes = request.body.len();
                let sent = self.0.client.post_request(&request, policy.timeout).await;
                if !is_accepted(&sent) {
                    call.headers = request.build_headers();
                }
                sent
            }
            Err(error) => (SubscriberResponse::default(), Some(error)),
        };
        call.duration = self.0.clock.monotonic().saturating_sub(began);

        let outcome = classify_response(&response, error, context.at.saturating_add(call.duration));
        let outcome = match &policy.target {
            DeliveryTarget::Webhook(_) | DeliveryTarget::AutoReply => outcome,
            DeliveryTarget::Forward { .. } => forward::refine_forward_outcome(outcome),
            DeliveryTarget::Reply { .. } => graph_api::refine_reply_outcome(outcome),
        };

        call.code = outcome.failure().map(|failure| failure.code);
        call.status = response.status;
        call.answer = response.body;
        if let (Some(event), Some(trace)) = (context.event_id, context.trace) {
            self.0.traces.record_delivery(&DeliveryAttempt {
                event,
                trace,
                event_type: context.event,
                subscriber: &call.source,
                attempt: context.number.attempt,
                is_replay: context.number.is_replay,
                status: call.status,
                failure: call.code,
                began_at: context.at,
                duration: call.duration,
            });
        }
        AttemptReport { outcome, call }
    }
}

fn is_accepted((response, error): &(SubscriberResponse, Option<AttemptError>)) -> bool {
    error.is_none() && matches!(response.status, Some(200..300))
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
