//! Delivery settings of one subscriber, merged from its definition and the configuration.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use super::subscriber_id::SubscriberId;
use crate::account::Account;
use crate::config::{BreakerConfig, DeliveryConfig, ExhaustionPolicy, Secret};
use crate::subscription::{DeliveryOrdering, Subscription, SubscriptionState};

/// Destination of a subscriber's attempts.
#[derive(Clone, Debug)]
pub enum DeliveryTarget {
    /// URL of a subscription; gets the envelope, or the transform's result, in its signing styles.
    Webhook(Arc<Subscription>),
    /// CRM of an Instagram account; gets the messages that the account receives.
    Forward {
        /// Account that received the message.
        account: Arc<Account>,
        /// URL of the account, or else that of the configuration.
        url: String,
        /// The URL came in by the API, so its host must resolve to public addresses.
        is_checked: bool,
    },
    /// Instagram's Graph API; gets the replies of an account.
    Reply {
        /// Account that sends the reply.
        account: Arc<Account>,
        /// URL of the endpoint for messages.
        url: String,
        /// Access token of the account, or else that of the configuration.
        token: Option<Secret>,
    },
    /// Router; gets a command that may send an automatic reply.
    AutoReply,
}

impl DeliveryTarget {
    /// True if attempts go to the same address with the same credentials as those of `other`.
    pub(super) fn is_same_receiver(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Webhook(one), Self::Webhook(another)) => one.is_same_receiver(another),
            (
                Self::Forward { account, url, .. },
                Self::Forward {
                    account: other_account,
                    url: other_url,
                    ..
                },
            ) => {
                url == other_url
                    && account
                        .webhook_secret
                        .matches(other_account.webhook_secret.expose().as_bytes())
            }
            (
                Self::Reply { url, token, .. },
                Self::Reply {
                    url: other_url,
                    token: other_token,
                    ..
                },
            ) => {
                let is_same_token = match (token, other_token) {
                    (Some(token), Some(other)) => token.matches(other.expose().as_bytes()),
                    (None, None) => true,
                    (Some(_), None) | (None, Some(_)) => false,
                };
                url == other_url && is_same_token
            }
            (Self::AutoReply, Self::AutoReply) => true,
            (Self::Webhook(_) | Self::Forward { .. } | Self::Reply { .. } | Self::AutoReply, _) => {
                false
            }
        }
    }
}

/// Schedule of the retries of one delivery.
#[derive(Clone, Debug)]
pub struct RetryPolicy {
    /// Pauses before the second attempt, the third, and so on. After the attempt that follows the last
    /// pause, the delivery becomes a dead letter.
    pub schedule: Arc<[Duration]>,
    /// Largest random deviation of a pause, as a fraction of it (0 to 1), either way.
    pub jitter: f64,
    /// Time after the first attempt at which retries end. Time in which no attempt was possible does
    /// not count.
    pub dead_letter_after: Duration,
}

/// Settings for the deliveries to one subscriber.
#[derive(Clone, Debug)]
pub struct DeliveryPolicy {
    /// Subscriber that these settings belong to.
    pub id: SubscriberId,
    /// Destination of the attempts, with its credentials.
    pub target: DeliveryTarget,
    /// Active, paused or disabled; only an active subscriber gets deliveries.
    pub state: SubscriptionState,
    /// Order of deliveries: within each entity, or none.
    pub ordering: DeliveryOrdering,
    /// Bound of concurrent attempts, each in a lane of its own.
    pub concurrency: usize,
    /// Bound of attempts per second; `None` for no bound.
    pub rate_limit: Option<NonZeroU32>,
    /// Time limit of one attempt, from the name lookup to the response.
    pub timeout: Duration,
    /// Schedule of retries, and their end.
    pub retries: RetryPolicy,
    /// Effect of a dead letter on the later records of its entity: continue or halt.
    pub on_exhausted: ExhaustionPolicy,
    /// Thresholds of the circuit breaker.
    pub breaker: BreakerConfig,
    /// Time of failures without a success after which the subscriber is disabled.
    pub disable_after: Duration,
    /// Age, from the receipt of a record, at which a pending delivery expires.
    pub hold: Duration,
    /// Bounds of queues and stored rows.
    pub bounds: DeliveryLimits,
}

/// Bounds of the pending deliveries of one subscriber.
#[derive(Clone, Copy, Debug)]
pub struct DeliveryLimits {
    /// Bound of records in memory.
    pub window_events: usize,
    /// Bound of the bytes of records in memory.
    pub window_bytes: usize,
    /// Bound of lanes that wait for a retry; when it is reached, the subscriber falls behind.
    pub stopped_lanes_max: usize,
}

impl DeliveryPolicy {
    /// Returns the policy of an active subscriber that says nothing but its `target`.
    #[must_use]
    pub(super) fn with_defaults(
        id: SubscriberId,
        target: DeliveryTarget,
        delivery: &DeliveryConfig,
    ) -> Self {
        Self {
            id,
            target,
            state: SubscriptionState::Active,
            ordering: DeliveryOrdering::Entity,
            concurrency: delivery.concurrency,
            rate_limit: None,
            timeout: delivery.timeout,
            retries: RetryPolicy {
                schedule: delivery.retry_schedule.as_slice().into(),
                jitter: delivery.jitter,
                dead_letter_after: delivery.dead_letter_after,
            },
            on_exhausted: delivery.on_exhausted,
            breaker: delivery.breaker,
            disable_after: delivery.disable_after,
            hold: delivery.hold,
            bounds: DeliveryLimits {
                window_events: delivery.window_events,
                window_bytes: delivery.window_bytes,
                stopped_lanes_max: delivery.stopped_lanes_max,
            },
        }
    }

    /// Merges the settings of `subscription` with the defaults in `delivery`.
    #[must_use]
    pub fn from_subscription(subscription: &Arc<Subscription>, delivery: &DeliveryConfig) -> Self {
        let id = SubscriberId::Webhook(subscription.id);
        let target = DeliveryTarget::Webhook(Arc::clone(subscription));
        let mut policy = Self::with_defaults(id, target, delivery);
        policy.state = subscription.delivery_state();
        policy.ordering = subscription.ordering;
        policy.rate_limit = subscription.rate_limit;
        if let Some(schedule) = &subscription.retry_schedule {
            policy.retries.schedule = schedule.as_slice().into();
        }
        policy.concurrency = subscription.concurrency.unwrap_or(policy.concurrency);
        policy.timeout = subscription.timeout.unwrap_or(policy.timeout);
        policy.on_exhausted = subscription.on_exhausted.unwrap_or(policy.on_exhausted);
        policy
    }
}
