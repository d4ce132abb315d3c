//! All that the delivery to one subscriber needs to know, from its definition and the
//! configuration.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use super::SubscriberId;
use crate::account::Account;
use crate::config::{BreakerConfig, DeliveryConfig, ExhaustionPolicy, Secret};
use crate::subscription::{DeliveryOrdering, Subscription, SubscriptionState};

/// What one attempt is.
#[derive(Clone, Debug)]
pub enum DeliveryTarget {
    /// A subscription's delivery: the envelope or what its transform makes of it, signed in its
    /// styles.
    Webhook(Arc<Subscription>),
    /// A message that goes to the CRM of an account.
    Forward {
        /// The account.
        account: Arc<Account>,
        /// Where it goes: the account's own address, or that of the configuration.
        url: String,
        /// Whether the address was given by the API, so that it has to be a public one.
        must_be_public: bool,
    },
    /// A reply that goes to the Graph API.
    Reply {
        /// The account.
        account: Arc<Account>,
        /// Where it goes, by the configuration.
        url: String,
        /// What it is sent with: the account's own token, or that of the configuration.
        token: Option<Secret>,
    },
    /// An automatic reply, which goes to the router.
    AutoReply,
}

/// How attempts follow one another.
#[derive(Clone, Debug)]
pub struct RetryPolicy {
    /// The pauses before the second attempt, the third, and so on.
    pub schedule: Arc<[Duration]>,
    /// How far a pause is drawn from the schedule either way, as a fraction of it.
    pub jitter: f64,
    /// Counted time from the first attempt after which there is no other.
    pub dead_letter_after: Duration,
}

/// What one subscriber's delivery goes by.
#[derive(Clone, Debug)]
pub struct DeliveryPolicy {
    /// Whose it is.
    pub id: SubscriberId,
    /// What one attempt is.
    pub target: DeliveryTarget,
    /// Whether anything is delivered.
    pub state: SubscriptionState,
    /// In which order.
    pub ordering: DeliveryOrdering,
    /// Attempts at once.
    pub concurrency: usize,
    /// Attempts a second.
    pub rate_limit: Option<NonZeroU32>,
    /// How long one attempt may take.
    pub timeout: Duration,
    /// How attempts follow one another.
    pub retries: RetryPolicy,
    /// What a dead letter does to its entity's later records.
    pub on_exhausted: ExhaustionPolicy,
    /// When attempts are interrupted.
    pub breaker: BreakerConfig,
    /// How long it may fail without one success.
    pub disable_after: Duration,
    /// How long what is owed is held.
    pub hold: Duration,
    /// Bounds of what waits in memory.
    pub bounds: DeliveryLimits,
}

/// Bounds of what waits for one subscriber.
#[derive(Clone, Copy, Debug)]
pub struct DeliveryLimits {
    /// Records in memory.
    pub window_events: usize,
    /// Bytes of them.
    pub window_bytes: usize,
    /// Lanes that wait to be tried again.
    pub stopped_lanes_max: usize,
    /// Dead letters.
    pub dead_letters_max: u64,
}

impl DeliveryPolicy {
    /// That of `subscription`, with what `delivery` says where it says nothing itself.
    #[must_use]
    pub fn from_subscription(subscription: &Arc<Subscription>, delivery: &DeliveryConfig) -> Self {
        let schedule = subscription
            .retry_schedule
            .as_ref()
            .unwrap_or(&delivery.retry_schedule);
        Self {
            id: SubscriberId::Webhook(subscription.id),
            target: DeliveryTarget::Webhook(Arc::clone(subscription)),
            state: subscription.state.clone(),
            ordering: subscription.ordering,
            concurrency: subscription.concurrency.unwrap_or(delivery.concurrency),
            rate_limit: subscription.rate_limit,
            timeout: subscription.timeout.unwrap_or(delivery.timeout),
            retries: RetryPolicy {
                schedule: schedule.as_slice().into(),
                jitter: delivery.jitter,
                dead_letter_after: delivery.dead_letter_after,
            },
            on_exhausted: subscription.on_exhausted.unwrap_or(delivery.on_exhausted),
            breaker: delivery.breaker,
            disable_after: delivery.disable_after,
            hold: delivery.hold,
            bounds: DeliveryLimits {
                window_events: delivery.window_events,
                window_bytes: delivery.window_bytes,
                stopped_lanes_max: delivery.stopped_lanes_max,
                dead_letters_max: delivery.dead_letters_max,
            },
        }
    }
}
