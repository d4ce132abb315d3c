//! One subscription, as it was defined.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use super::expression::{FilterExpression, TransformExpression};
use super::pattern::Pattern;
use super::secrets::SigningSecrets;
use crate::config::{ExhaustionPolicy, Secret};
use crate::event::{Position, Timestamp};

/// A subscription's number, from 1, never used twice.
pub type SubscriptionId = u64;

/// Whether events are delivered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SubscriptionState {
    /// They are.
    Active,
    /// They stay owed until it is resumed.
    Paused {
        /// Why, if there is more to say than that somebody wanted it.
        reason: Option<String>,
    },
    /// They are not owed.
    Disabled {
        /// Why.
        reason: String,
    },
}

/// In which order events are delivered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeliveryOrdering {
    /// Those of one entity one after another, in their order.
    #[default]
    Entity,
    /// Each as soon as it can be.
    None,
}

impl DeliveryOrdering {
    /// Every choice with its name.
    pub const NAMED: [(&'static str, Self); 2] = [("entity", Self::Entity), ("none", Self::None)];
}

/// A way to sign deliveries. Several can be used at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SigningStyle {
    /// `X-Webhook-…`: hex HMAC-SHA256 of the body.
    Crm,
    /// `webhook-…`, as Standard Webhooks describes it.
    Standard,
    /// `X-Hub-Signature-256`.
    Hub,
    /// An ed25519 signature within those of Standard Webhooks.
    V1a,
}

impl SigningStyle {
    /// Every style with its name.
    pub const NAMED: [(&'static str, Self); 4] = [
        ("crm", Self::Crm),
        ("standard", Self::Standard),
        ("hub", Self::Hub),
        ("v1a", Self::V1a),
    ];
}

/// One subscription. What is `None` is as `[delivery]` of the configuration says.
#[derive(Clone, Debug)]
pub struct Subscription {
    /// Its number.
    pub id: SubscriptionId,
    /// Where deliveries go.
    pub url: String,
    /// The events wanted.
    pub events: Vec<Pattern>,
    /// What deliveries are signed with.
    pub secrets: SigningSecrets,
    /// Whether events are delivered.
    pub state: SubscriptionState,
    /// A note for people.
    pub description: Option<String>,
    /// Which of those.
    pub filter: Option<FilterExpression>,
    /// What makes the body; `None` means that it is [`super::envelope::encode_envelope`].
    pub transform: Option<TransformExpression>,
    /// In which order events are delivered.
    pub ordering: DeliveryOrdering,
    /// Attempts at once.
    pub concurrency: Option<usize>,
    /// How deliveries are signed, each style once.
    pub signing: Vec<SigningStyle>,
    /// Headers that every delivery carries.
    pub headers: Vec<(String, Secret)>,
    /// Attempts a second.
    pub rate_limit: Option<NonZeroU32>,
    /// How long one attempt may take.
    pub timeout: Option<Duration>,
    /// The pauses between attempts.
    pub retry_schedule: Option<Vec<Duration>>,
    /// What a dead letter does to its entity's later events.
    pub on_exhausted: Option<ExhaustionPolicy>,
    /// The first record that can be delivered to it.
    pub from: Position,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was changed last.
    pub updated_at: Timestamp,
}

/// Shared, since every attempt holds on to the one it began with.
pub type SharedSubscription = Arc<Subscription>;

/// A subscription to `events` of which nothing else is said.
#[cfg(test)]
pub(crate) fn sample_subscription(id: SubscriptionId, events: &[&str]) -> Subscription {
    Subscription {
        id,
        url: "https://crm.example/hook".into(),
        events: events
            .iter()
            .map(|text| Pattern::from_store(text).expect("a pattern"))
            .collect(),
        secrets: SigningSecrets::new(Some(Secret::new("hush"))),
        state: SubscriptionState::Active,
        description: None,
        filter: None,
        transform: None,
        ordering: DeliveryOrdering::Entity,
        concurrency: None,
        signing: vec![SigningStyle::Crm, SigningStyle::Standard],
        headers: Vec::new(),
        rate_limit: None,
        timeout: None,
        retry_schedule: None,
        on_exhausted: None,
        from: Position::FIRST,
        created_at: Timestamp::from_micros(7),
        updated_at: Timestamp::from_micros(7),
    }
}
