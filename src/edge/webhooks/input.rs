//! The members of a subscription as a request gives them: each may be there, be null (which means
//! its default) or be left out.

use std::borrow::Cow;
use std::num::NonZeroU32;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ipnet::IpNet;
use serde_json::value::RawValue;

use super::super::error::Error;
use super::super::fields::{FieldErrors, PatchField, non_null, read_patch_field};
use super::super::state::Edge;
use super::super::{raw_json, suggest};
use super::activity::{pause, resume};
use super::headers;
use crate::call_log::REDACTED;
use crate::config::{
    CONCURRENCY_MAX, ExhaustionPolicy, RETRIES_MAX, RETRY_PAUSE_MAX_S, Secret, TIMEOUT_MAX_S,
};
use crate::event::{Position, Timestamp, find_members};
use crate::subscriber::attempt::target_address;
use crate::subscription::limits::{
    DESCRIPTION_MAX_BYTES, EVENTS_MAX, SECRET_MAX_BYTES, is_valid_secret,
};
use crate::subscription::secrets::{ROTATION_OVERLAP, ROTATION_OVERLAP_MAX};
use crate::subscription::{
    CompileError, DeliveryOrdering, EventVocabulary, Filter, Pattern, SigningSecrets, SigningStyle,
    Subscription, SubscriptionId, SubscriptionState, TransformExpression,
};

/// As short as a pause or a timeout of the configuration may be, in seconds.
const DURATION_MIN_S: f64 = 0.001;
const RATE_MAX: u64 = 1_000_000;

/// What a secret begins with that is bytes in base64.
const ENCODED_SECRET_PREFIX: &str = "whsec_";

/// Every style with its name.
pub(super) const STYLES: [(&str, SigningStyle); 4] = [
    ("crm", SigningStyle::Crm),
    ("standard", SigningStyle::Standard),
    ("hub", SigningStyle::Hub),
    ("v1a", SigningStyle::V1a),
];
/// Every ordering with its name.
pub(super) const ORDERINGS: [(&str, DeliveryOrdering); 2] = [
    ("entity", DeliveryOrdering::Entity),
    ("none", DeliveryOrdering::None),
];
/// How deliveries are signed when nobody says.
const DEFAULT_SIGNING: [SigningStyle; 2] = [SigningStyle::Crm, SigningStyle::Standard];

/// What a request may say of a subscription.
const SUBSCRIPTION_MEMBERS: [&str; 15] = [
    "url",
    "events",
    "secret",
    "is_active",
    "description",
    "filter",
    "transform",
    "ordering",
    "concurrency",
    "signing",
    "headers",
    "rate_limit",
    "timeout_s",
    "retry_schedule_s",
    "on_exhausted",
];
/// What answers say of it besides, and may come back with them.
const READ_ONLY_MEMBERS: [&str; 8] = [
    "id",
    "created_at",
    "updated_at",
    "state",
    "state_reason",
    "public_key",
    "previous_secret_until",
    "stats",
];
/// What a request to rotate a secret may say.
const ROTATION_MEMBERS: [&str; 2] = ["overlap_h", "secret"];

/// What members are judged by.
#[derive(Clone, Copy, Debug)]
pub(super) struct SubscriptionRules<'a> {
    vocabulary: &'a EventVocabulary,
    allow_targets: &'a [IpNet],
}

impl<'a> SubscriptionRules<'a> {
    /// Those of `edge`.
    pub(super) fn new(edge: &'a Edge) -> Self {
        Self {
            vocabulary: edge.vocabulary(),
            allow_targets: &edge.config.delivery.allow_targets,
        }
    }
}

/// What a request says of a subscription, checked.
#[derive(Debug)]
pub(super) struct SubscriptionInput {
    url: Option<String>,
    events: Option<Vec<Pattern>>,
    /// Neither null nor what is shown in place of a secret changes one.
    secret: Option<Secret>,
    is_active: Option<bool>,
    description: PatchField<String>,
    filter: PatchField<Filter>,
    transform: PatchField<TransformExpression>,
    ordering: PatchField<DeliveryOrdering>,
    concurrency: PatchField<usize>,
    signing: PatchField<Vec<SigningStyle>>,
    headers: PatchField<Vec<headers::HeaderChange>>,
    rate_limit: PatchField<NonZeroU32>,
    timeout: PatchField<Duration>,
    retry_schedule: PatchField<Vec<Duration>>,
    on_exhausted: PatchField<ExhaustionPolicy>,
}

impl SubscriptionInput {
    /// Reads them from `json`, as a change of `known` or for a new subscription.
    ///
    /// # Errors
    /// [`Error::InvalidJson`], or [`Error::Invalid`] with every wrong member.
    pub(super) fn parse(
        json: &str,
        known: Option<&Subscription>,
        rules: SubscriptionRules<'_>,
    ) -> Result<Self, Error> {
        let given = find_members(json, SUBSCRIPTION_MEMBERS)
            .map_err(|error| Error::from_json_error(&error))?;
        let [
            url,
            events,
            secret,
            is_active,
            description,
            filter,
            transform,
            ordering,
            rest @ ..,
        ] = given;
        let [
            concurrency,
            signing,
            custom,
            rate_limit,
            timeout,
            schedule,
            on_exhausted,
        ] = rest;
        let mut faults = FieldErrors::default();
        suggest::refuse(
            json,
            &SUBSCRIPTION_MEMBERS,
            &READ_ONLY_MEMBERS,
            "a subscription",
            &mut faults,
        );
        let is_new = known.is_none();
        let read = Self {
            url: read_required("url", url, is_new, &mut faults, |raw, faults| {
                self::read_url(raw, rules.allow_targets, faults)
            }),
            events: read_required("events", events, is_new, &mut faults, |raw, faults| {
                read_patterns(raw, rules.vocabulary, faults)
            }),
            secret: non_null(secret)
                .and_then(|raw| self::read_secret("secret", raw, known, &mut faults)),
            is_active: non_null(is_active).map(|raw| faults.read_flag("is_active", Some(raw))),
            description: read_patch_field(description, |raw| {
                self::read_description(raw, &mut faults)
            }),
            filter: read_expression("filter", filter, Filter::compile, &mut faults),
            transform: read_expression(
                "transform",
                transform,
                TransformExpression::compile,
                &mut faults,
            ),
            ordering: read_patch_field(ordering, |raw| {
                read_choice("ordering", raw, &ORDERINGS, &mut faults)
            }),
            concurrency: read_patch_field(concurrency, |raw| {
                faults.number("concurrency", Some(raw), 1, CONCURRENCY_MAX.unsigned_abs()) as usize
            }),
            signing: read_patch_field(signing, |raw| read_styles(raw, &mut faults)),
            headers: read_patch_field(custom, |raw| headers::read_headers(raw, known, &mut faults)),
            rate_limit: read_patch_field(rate_limit, |raw| {
                let number = faults.number("rate_limit", Some(raw), 1, RATE_MAX);
                u32::try_from(number)
                    .ok()
                    .and_then(NonZeroU32::new)
                    .unwrap_or(NonZeroU32::MIN)
            }),
            timeout: read_patch_field(timeout, |raw| {
                read_seconds("timeout_s", raw, TIMEOUT_MAX_S, &mut faults)
            }),
            retry_schedule: read_patch_field(schedule, |raw| self::read_schedule(raw, &mut faults)),
            on_exhausted: read_patch_field(on_exhausted, |raw| {
                read_choice("on_exhausted", raw, &ExhaustionPolicy::CHOICES, &mut faults)
            }),
        };
        faults.finish(read)
    }

    /// Whether they ask for deliveries to go on.
    pub(super) fn activates(&self) -> bool {
        self.is_active == Some(true)
    }

    /// The new subscription `id` that they describe, made at `now`, to which nothing before `from`
    /// is delivered.
    pub(super) fn into_subscription(
        self,
        id: SubscriptionId,
        from: Position,
        now: Timestamp,
    ) -> Subscription {
        let is_active = self.is_active.unwrap_or(true);
        let mut made = Subscription {
            id,
            url: String::new(),
            events: Vec::new(),
            secrets: SigningSecrets::new(self.secret.clone()),
            state: if is_active {
                SubscriptionState::Active
            } else {
                SubscriptionState::Paused { reason: None }
            },
            description: None,
            filter: None,
            transform: None,
            ordering: DeliveryOrdering::default(),
            concurrency: None,
            signing: DEFAULT_SIGNING.to_vec(),
            headers: Vec::new(),
            rate_limit: None,
            timeout: None,
            retry_schedule: None,
            on_exhausted: None,
            from,
            created_at: now,
            updated_at: now,
        };
        Self {
            is_active: None,
            secret: None,
            ..self
        }
        .apply_to(&mut made, from, now);
        made
    }

    /// Makes `subscription` what they say, at `now`, and leaves of it what they leave out. One that
    /// was disabled and is not to be any more begins at `from`.
    pub(super) fn apply_to(self, subscription: &mut Subscription, from: Position, now: Timestamp) {
        match self.is_active {
            Some(true) => resume(subscription, from),
            Some(false) => pause(subscription),
            None => {}
        }
        set_if_given(&mut subscription.url, self.url);
        set_if_given(&mut subscription.events, self.events);
        set_if_given(&mut subscription.description, self.description);
        set_if_given(&mut subscription.filter, self.filter);
        set_if_given(&mut subscription.transform, self.transform);
        set_if_given(
            &mut subscription.ordering,
            self.ordering.map(Option::unwrap_or_default),
        );
        set_if_given(&mut subscription.concurrency, self.concurrency);
        set_if_given(
            &mut subscription.signing,
            self.signing
                .map(|styles| styles.unwrap_or_else(|| DEFAULT_SIGNING.to_vec())),
        );
        if let Some(given) = self.headers {
            subscription.headers =
                headers::replace_headers(&subscription.headers, given.unwrap_or_default());
        }
        set_if_given(&mut subscription.rate_limit, self.rate_limit);
        set_if_given(&mut subscription.timeout, self.timeout);
        set_if_given(&mut subscription.retry_schedule, self.retry_schedule);
        set_if_given(&mut subscription.on_exhausted, self.on_exhausted);
        if let Some(secret) = self.secret {
            subscription
                .secrets
                .rotate(Some(secret), now, Duration::ZERO);
        }
        if subscription.signing.contains(&SigningStyle::V1a) {
            subscription.secrets.ensure_signing_key();
        }
        subscription.updated_at = now;
    }
}

fn set_if_given<T>(place: &mut T, given: Option<T>) {
    if let Some(given) = given {
        *place = given;
    }
}

/// What a request to rotate a secret says.
#[derive(Debug)]
pub(super) struct SecretRotation {
    /// The new secret, if it is not to be made here.
    pub(super) secret: Option<Secret>,
    /// How long the old one stays in force.
    pub(super) overlap: Duration,
}

impl SecretRotation {
    /// Reads it from `json`; an empty text asks for nothing in particular.
    ///
    /// # Errors
    /// As [`Members::read`].
    pub(super) fn parse(json: &str) -> Result<Self, Error> {
        let json = if json.trim_ascii().is_empty() {
            "{}"
        } else {
            json
        };
        let [overlap, secret] =
            find_members(json, ROTATION_MEMBERS).map_err(|error| Error::from_json_error(&error))?;
        let mut faults = FieldErrors::default();
        suggest::refuse(json, &ROTATION_MEMBERS, &[], "a rotation", &mut faults);
        let hours_max = ROTATION_OVERLAP_MAX.as_secs() / 3_600;
        let overlap = non_null(overlap).map_or(ROTATION_OVERLAP, |raw| {
            let hours = parse_number(raw).filter(|hours| (0.0..=hours_max as f64).contains(hours));
            if hours.is_none() {
                faults.add(
                    "overlap_h",
                    format!("must be a number from 0 to {hours_max}"),
                );
            }
            duration_from_seconds(hours.unwrap_or_default() * 3_600.0)
        });
        let secret =
            non_null(secret).and_then(|raw| self::read_secret("secret", raw, None, &mut faults));
        faults.finish(Self { secret, overlap })
    }
}

/// A member that has no default: needed of a new subscription, and never null.
fn read_required<T>(
    name: &'static str,
    raw: Option<&RawValue>,
    is_new: bool,
    faults: &mut FieldErrors,
    read: impl FnOnce(&RawValue, &mut FieldErrors) -> T,
) -> Option<T> {
    if raw.is_none() && is_new {
        faults.add(name, "is required");
    }
    raw.map(|raw| read(raw, faults))
}

fn read_url(raw: &RawValue, allow_targets: &[IpNet], faults: &mut FieldErrors) -> String {
    let url = faults.text("url", Some(raw));
    if is_text(raw)
        && let Err(refused) = target_address::check_target_url(&url, allow_targets)
    {
        faults.add("url", format!("is refused: {refused}"));
    }
    url
}

fn read_patterns(
    raw: &RawValue,
    vocabulary: &EventVocabulary,
    faults: &mut FieldErrors,
) -> Vec<Pattern> {
    const NAME: &str = "events";
    let Ok(items) = raw_json::items(raw.get(), EVENTS_MAX) else {
        faults.add(NAME, "must be a list of names and patterns");
        return Vec::new();
    };
    if items.count == 0 || items.count > EVENTS_MAX {
        faults.add(
            NAME,
            format!("must have 1 to {EVENTS_MAX} items, not {}", items.count),
        );
        return Vec::new();
    }
    let mut patterns = Vec::with_capacity(items.count);
    for (index, item) in items.first.into_iter().enumerate() {
        let field = || format!("{NAME}[{index}]");
        match serde_json::from_str::<String>(item.get()) {
            Err(_) => faults.add(field(), "must be a string"),
            Ok(text) => match Pattern::parse(&text, vocabulary) {
                Ok(pattern) => patterns.push(pattern),
                Err(refused) => faults.add(field(), format!("cannot be followed: {refused}")),
            },
        }
    }
    patterns
}

/// A secret of the sender's own; nothing where it is what is, or was, shown in place of the one
/// there is.
fn read_secret(
    name: &'static str,
    raw: &RawValue,
    known: Option<&Subscription>,
    faults: &mut FieldErrors,
) -> Option<Secret> {
    let secret = Secret::new(faults.text(name, Some(raw)));
    let text = secret.expose();
    if !is_text(raw) || known.is_some() && text.contains(REDACTED) {
        return None;
    }
    if !is_valid_secret(text) {
        faults.add(
            name,
            format!("must be 1 to {SECRET_MAX_BYTES} printable ASCII characters without spaces"),
        );
    } else if text
        .strip_prefix(ENCODED_SECRET_PREFIX)
        .is_some_and(|encoded| !is_base64_key(encoded))
    {
        // Receivers would decode it, and could not.
        faults.add(
            name,
            format!("must have base64 after {ENCODED_SECRET_PREFIX}"),
        );
    }
    Some(secret)
}

fn is_base64_key(encoded: &str) -> bool {
    STANDARD.decode(encoded).is_ok_and(|key| !key.is_empty())
}

fn read_description(raw: &RawValue, faults: &mut FieldErrors) -> String {
    let text = faults.text("description", Some(raw));
    if text.len() > DESCRIPTION_MAX_BYTES {
        faults.add(
            "description",
            format!("must have at most {DESCRIPTION_MAX_BYTES} bytes"),
        );
    }
    text
}

/// An expression; an empty one is none.
fn read_expression<T>(
    name: &'static str,
    raw: Option<&RawValue>,
    compile: impl FnOnce(&str) -> Result<T, CompileError>,
    faults: &mut FieldErrors,
) -> PatchField<T> {
    let raw = raw?;
    let Some(text) = faults
        .read_optional_text(name, Some(raw))
        .filter(|text| !text.is_empty())
    else {
        return Some(None);
    };
    let compiled = compile(&text);
    Some(
        compiled
            .map_err(|error| faults.add(name, format!("is no expression: {error}")))
            .ok(),
    )
}

fn read_choice<T: Copy + Default>(
    name: &'static str,
    raw: &RawValue,
    named: &[(&'static str, T)],
    faults: &mut FieldErrors,
) -> T {
    let names: Vec<&str> = named.iter().map(|(name, _)| *name).collect();
    let given = faults.read_one_of(name, Some(raw), &names);
    named
        .iter()
        .find(|(name, _)| *name == given)
        .map(|(_, value)| *value)
        .unwrap_or_default()
}

fn read_styles(raw: &RawValue, faults: &mut FieldErrors) -> Vec<SigningStyle> {
    const NAME: &str = "signing";
    let names = STYLES.map(|(name, _)| name).join(", ");
    let given: Vec<String> = serde_json::from_str(raw.get()).unwrap_or_default();
    let style = |given: &String| {
        STYLES
            .iter()
            .find(|(name, _)| name == given)
            .map(|(_, style)| *style)
    };
    let mut styles: Vec<SigningStyle> = given.iter().filter_map(style).collect();
    styles.sort_unstable();
    styles.dedup();
    if given.is_empty() || styles.len() != given.len() {
        faults.add(
            NAME,
            format!("must be a list with one or more of {names}, each once"),
        );
    }
    styles
}

fn read_schedule(raw: &RawValue, faults: &mut FieldErrors) -> Vec<Duration> {
    const NAME: &str = "retry_schedule_s";
    let Some(items) = raw_json::items(raw.get(), RETRIES_MAX)
        .ok()
        .filter(|items| items.count <= RETRIES_MAX)
    else {
        faults.add(
            NAME,
            format!("must be a list of at most {RETRIES_MAX} pauses in seconds"),
        );
        return Vec::new();
    };
    let pause =
        |(index, item)| read_seconds(format!("{NAME}[{index}]"), item, RETRY_PAUSE_MAX_S, faults);
    items.first.into_iter().enumerate().map(pause).collect()
}

fn read_seconds(
    name: impl Into<Cow<'static, str>>,
    raw: &RawValue,
    most: f64,
    faults: &mut FieldErrors,
) -> Duration {
    let seconds = parse_number(raw).filter(|seconds| (DURATION_MIN_S..=most).contains(seconds));
    if seconds.is_none() {
        faults.add(
            name,
            format!("must be a number of seconds from {DURATION_MIN_S} to {most}"),
        );
    }
    duration_from_seconds(seconds.unwrap_or_default())
}

fn parse_number(raw: &RawValue) -> Option<f64> {
    raw.get().parse().ok()
}

fn duration_from_seconds(seconds: f64) -> Duration {
    Duration::from_millis((seconds * 1_000.0).round() as u64)
}

fn is_text(raw: &RawValue) -> bool {
    raw.get().starts_with('"')
}
