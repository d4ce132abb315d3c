//! Subscriptions as answers show them: with masked secrets, and null for values that the
//! configuration decides.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;
use serde_json::Number;
use utoipa::ToSchema;
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{ArrayBuilder, Schema};

use super::super::answer;
use super::super::docs::schemas;
use super::stats::SubscriptionStatsView;
use crate::call_log::REDACTED;
use crate::config::ExhaustionPolicy;
use crate::event::Timestamp;
use crate::subscription::secrets::redact_secret;
use crate::subscription::{
    DeliveryMode, DeliveryOrdering, Pattern, SigningStyle, Subscription, SubscriptionId,
    SubscriptionState,
};

/// Subscription, as answers show it; the first eight members are common to such interfaces.
#[derive(Serialize, ToSchema)]
#[schema(as = Subscription)]
pub(super) struct SubscriptionView<'a> {
    #[schema(value_type = u64)]
    id: SubscriptionId,
    url: Option<&'a str>,
    events: Vec<&'a str>,
    is_active: bool,
    description: Option<&'a str>,
    secret: String,
    created_at: Timestamp,
    updated_at: Timestamp,
    #[schema(schema_with = states)]
    state: &'static str,
    state_reason: Option<&'a str>,
    filter: Option<&'a str>,
    transform: Option<&'a str>,
    #[schema(schema_with = orderings)]
    ordering: &'static str,
    concurrency: Option<usize>,
    #[schema(schema_with = signing_styles)]
    signing: Vec<&'static str>,
    public_key: Option<String>,
    /// End of the time in which deliveries are signed with the previous secret too.
    previous_secret_until: Option<Timestamp>,
    headers: BTreeMap<&'a str, &'static str>,
    rate_limit: Option<u32>,
    #[schema(value_type = Option<f64>)]
    timeout_s: Option<Number>,
    #[schema(value_type = Option<Vec<f64>>)]
    retry_schedule_s: Option<Vec<Number>>,
    #[schema(schema_with = exhaustion_policies)]
    on_exhausted: Option<&'static str>,
    signature_header: Option<&'a str>,
    uid: Option<&'a str>,
    metadata: &'a BTreeMap<String, String>,
    /// Shown if it is not `push`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = delivery_modes)]
    delivery: Option<&'static str>,
    /// Null while the delivery stage does not answer.
    stats: Option<SubscriptionStatsView>,
    #[serde(skip)]
    subscription: &'a Subscription,
}

fn states() -> Schema {
    schemas::one_of(["active", "paused", "disabled"])
}

fn orderings() -> Schema {
    schemas::choice(&DeliveryOrdering::NAMED)
}

fn signing_styles() -> Schema {
    let style = schemas::choice(&SigningStyle::NAMED);
    ArrayBuilder::new().items(RefOr::T(style)).build().into()
}

fn exhaustion_policies() -> Schema {
    schemas::choice_or_null(&ExhaustionPolicy::CHOICES)
}

fn delivery_modes() -> Schema {
    schemas::choice(&DeliveryMode::NAMED)
}

impl<'a> SubscriptionView<'a> {
    /// Shows `subscription` at `now`, with its secrets masked.
    pub(super) fn new(
        subscription: &'a Subscription,
        stats: Option<SubscriptionStatsView>,
        now: Timestamp,
    ) -> Self {
        let (state, state_reason) = match &subscription.state {
            SubscriptionState::Active => ("active", None),
            SubscriptionState::Paused { reason } => ("paused", reason.as_deref()),
            SubscriptionState::Disabled { reason } => ("disabled", Some(reason.as_str())),
        };
        let secrets = &subscription.secrets;
        let until = secrets.previous.as_ref().map(|(_, until)| *until);
        let seconds = |pauses: &Vec<Duration>| {
            pauses
                .iter()
                .copied()
                .map(answer::seconds_as_number)
                .collect()
        };
        let has_pair = subscription.signing.contains(&SigningStyle::V1a);
        Self {
            id: subscription.id,
            url: (subscription.delivery == DeliveryMode::Push).then_some(subscription.url.as_str()),
            events: subscription.events.iter().map(Pattern::as_str).collect(),
            is_active: subscription.state == SubscriptionState::Active,
            description: subscription.description.as_deref(),
            secret: redact_secret(&secrets.current),
            created_at: subscription.created_at,
            updated_at: subscription.updated_at,
            state,
            state_reason,
            filter: subscription.filter.as_ref().map(|filter| filter.text()),
            transform: subscription
                .transform
                .as_ref()
                .map(|transform| transform.text()),
            ordering: choice_name(subscription.ordering, &DeliveryOrdering::NAMED),
            concurrency: subscription.concurrency,
            signing: subscription
                .signing
                .iter()
                .map(|style| choice_name(*style, &SigningStyle::NAMED))
                .collect(),
            public_key: secrets.public_key().filter(|_| has_pair),
            previous_secret_until: until.filter(|until| now < *until),
            headers: subscription
                .headers
                .iter()
                .map(|(name, _)| (name.as_str(), REDACTED))
                .collect(),
            rate_limit: subscription.rate_limit.map(u32::from),
            timeout_s: subscription.timeout.map(answer::seconds_as_number),
            retry_schedule_s: subscription.retry_schedule.as_ref().map(seconds),
            on_exhausted: subscription
                .on_exhausted
                .map(|choice| choice_name(choice, &ExhaustionPolicy::CHOICES)),
            signature_header: subscription.signature_header.as_deref(),
            uid: subscription.uid.as_deref(),
            metadata: &subscription.metadata,
            delivery: (subscription.delivery != DeliveryMode::Push)
                .then(|| choice_name(subscription.delivery, &DeliveryMode::NAMED)),
            stats,
            subscription,
        }
    }

    /// Shows the current secret without its mask.
    pub(super) fn with_secret(mut self) -> Self {
        self.secret = self.subscription.secrets.current.expose().to_owned();
        self
    }
}

fn choice_name<T: PartialEq>(value: T, named: &[(&'static str, T)]) -> &'static str {
    named
        .iter()
        .find(|(_, named)| *named == value)
        .map_or("", |(name, _)| name)
}
