//! Definition of one subscription.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use super::expression::{FilterExpression, TransformExpression};
use super::pattern::Pattern;
use super::secrets::SigningSecrets;
use crate::config::{ExhaustionPolicy, Secret};
use crate::event::{Position, Timestamp};

/// Id of a subscription: a number from 1 that is never used twice.
pub type SubscriptionId = u64;

/// State that decides if events are delivered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SubscriptionState {
    /// Events are delivered as they come.
    Active,
    /// Events stay pending until the subscription is resumed.
    Paused {
        /// Reason given by the person who paused it, if any.
        reason: Option<String>,
    },
    /// Events are not kept for this subscription.
    Disabled {
        /// Reason for people, such as the answer that disabled it.
        reason: String,
    },
}

/// Way in which events come to the subscriber.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeliveryMode {
    /// The node posts them to the URL.
    #[default]
    Push,
    /// The subscriber reads them, page by page; there is no URL.
    Pull,
}

impl DeliveryMode {
    /// Every mode with its name in the API.
    pub const NAMED: [(&'static str, Self); 2] = [("push", Self::Push), ("pull", Self::Pull)];
}

/// Order of the deliveries of one subscription.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeliveryOrdering {
    /// The events of one entity one after another, in their order.
    #[default]
    Entity,
    /// All events one after another, in the order of the journal.
    Subscription,
    /// Each event as soon as possible.
    None,
}

impl DeliveryOrdering {
    /// Every order with its name in the API.
    pub const NAMED: [(&'static str, Self); 3] = [
        ("entity", Self::Entity),
        ("subscription", Self::Subscription),
        ("none", Self::None),
    ];
}

/// Style of a delivery's signature. A delivery can carry several.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SigningStyle {
    /// `X-Webhook-…` headers with the HMAC-SHA256 of the body in hex.
    Crm,
    /// `webhook-…` headers with HMAC-SHA256, as the Standard Webhooks specification says.
    Standard,
    /// `X-Hub-Signature-256` header, as Meta and GitHub use it.
    Hub,
    /// Ed25519 signature in the headers of Standard Webhooks.
    V1a,
}

impl SigningStyle {
    /// Every style with its name in the API.
    pub const NAMED: [(&'static str, Self); 4] = [
        ("crm", Self::Crm),
        ("standard", Self::Standard),
        ("hub", Self::Hub),
        ("v1a", Self::V1a),
    ];
}

/// Request that created a subscription: its repetition creates no other one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreationRequest {
    /// Idempotency key of the client.
    pub key: String,
    /// Hash of the request; another request with the same key is refused.
    pub hash: [u8; 32],
}

/// One subscription. For a setting that is `None`, `[delivery]` of the configuration decides.
#[derive(Clone, Debug)]
pub struct Subscription {
    /// Id of the subscription, from 1.
    pub id: SubscriptionId,
    /// Way in which events come to the subscriber; it never changes.
    pub delivery: DeliveryMode,
    /// Address to which events are posted; empty if the subscriber reads them.
    pub url: String,
    /// Patterns of the events to deliver.
    pub events: Vec<Pattern>,
    /// Secrets that sign the deliveries.
    pub secrets: SigningSecrets,
    /// State that decides if events are delivered.
    pub state: SubscriptionState,
    /// Free text, a note for people.
    pub description: Option<String>,
    /// Filter on the events that the patterns admit.
    pub filter: Option<FilterExpression>,
    /// Expression that makes the body; `None` means [`super::envelope::encode_envelope`].
    pub transform: Option<TransformExpression>,
    /// Order in which events are delivered.
    pub ordering: DeliveryOrdering,
    /// Most attempts at the same time.
    pub concurrency: Option<usize>,
    /// Styles of the signatures, each at most once.
    pub signing: Vec<SigningStyle>,
    /// Additional headers of every delivery. Their values may be secrets.
    pub headers: Vec<(String, Secret)>,
    /// Most attempts in a second.
    pub rate_limit: Option<NonZeroU32>,
    /// Longest time of one attempt.
    pub timeout: Option<Duration>,
    /// Pauses between attempts, in their order.
    pub retry_schedule: Option<Vec<Duration>>,
    /// Effect of a dead letter on later events of the same entity.
    pub on_exhausted: Option<ExhaustionPolicy>,
    /// Name of the header with the signature of the body, in place of that of `hub` or `crm`.
    pub signature_header: Option<String>,
    /// Id that the client chose; no other subscription has it.
    pub uid: Option<String>,
    /// Texts of the client's own, which mean nothing here.
    pub metadata: BTreeMap<String, String>,
    /// Request that created the subscription, if it had an idempotency key.
    pub creation: Option<CreationRequest>,
    /// Position of the first record that can be delivered.
    pub from: Position,
    /// Time at which the subscription was created.
    pub created_at: Timestamp,
    /// Time of the last change.
    pub updated_at: Timestamp,
}

impl Subscription {
    /// State for the delivery stage. A subscriber that reads its events itself is paused there.
    pub(crate) fn delivery_state(&self) -> SubscriptionState {
        match (self.delivery, &self.state) {
            (DeliveryMode::Pull, SubscriptionState::Active) => {
                SubscriptionState::Paused { reason: None }
            }
            (DeliveryMode::Push | DeliveryMode::Pull, state) => state.clone(),
        }
    }

    /// True if deliveries go to the same URL with the same secret and headers as those of `other`.
    pub(crate) fn is_same_receiver(&self, other: &Self) -> bool {
        let headers = self.headers.iter().zip(&other.headers);
        let have_same_headers = self.headers.len() == other.headers.len()
            && headers
                .into_iter()
                .all(|((name, value), (other_name, other_value))| {
                    name == other_name && value.matches(other_value.expose().as_bytes())
                });
        self.url == other.url
            && self
                .secrets
                .current
                .matches(other.secrets.current.expose().as_bytes())
            && have_same_headers
    }
}

/// Shared subscription: every attempt keeps the version with which it began.
pub type SharedSubscription = Arc<Subscription>;

/// Returns a subscription to `events` with default settings.
#[cfg(test)]
pub(crate) fn sample_subscription(id: SubscriptionId, events: &[&str]) -> Subscription {
    Subscription {
        id,
        delivery: DeliveryMode::Push,
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
        signature_header: None,
        uid: None,
        metadata: BTreeMap::new(),
        creation: None,
        from: Position::FIRST,
        created_at: Timestamp::from_micros(7),
        updated_at: Timestamp::from_micros(7),
    }
}
