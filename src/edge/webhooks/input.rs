//! Members of a subscription, read from a request: a member may have a value, be null (which means
//! the default), or be absent.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ipnet::IpNet;
use serde_json::value::RawValue;

use super::super::error::ApiError;
use super::super::fields::{FieldErrors, PatchField, non_null, read_patch_field};
use super::super::state::Edge;
use super::super::{raw_json, suggest};
use super::activity::{pause_subscription, resume_subscription};
use super::headers;
use crate::call_log::REDACTED;
use crate::config::{
    CONCURRENCY_MAX, ExhaustionPolicy, RETRIES_MAX, RETRY_PAUSE_MAX_S, Secret, TIMEOUT_MAX_S,
};
use crate::event::{Position, Timestamp, find_members, is_invisible_mark};
use crate::subscriber::attempt::target_address;
use crate::subscription::limits::{
    DESCRIPTION_MAX_BYTES, EVENTS_MAX, METADATA_MAX, METADATA_NAME_MAX_BYTES,
    METADATA_VALUE_MAX_BYTES, SECRET_MAX_BYTES, UID_MAX_BYTES, is_valid_secret,
    is_valid_signature_header, is_valid_uid,
};
use crate::subscription::secrets::{ROTATION_OVERLAP, ROTATION_OVERLAP_MAX};
use crate::subscription::{
    CompileError, DeliveryMode, DeliveryOrdering, EventVocabulary, FilterExpression, Pattern,
    SigningSecrets, SigningStyle, Subscription, SubscriptionId, SubscriptionState,
    TransformExpression,
};

/// Shortest pause or timeout in seconds, as in the configuration.
pub(super) const DURATION_MIN_S: f64 = 0.001;
/// Largest `rate_limit`, in deliveries per second.
pub(super) const RATE_LIMIT_MAX: u64 = 1_000_000;

/// Prefix of a secret whose rest is base64.
const ENCODED_SECRET_PREFIX: &str = "whsec_";

/// Signing styles of a subscription whose request gives none.
const DEFAULT_SIGNING: [SigningStyle; 2] = [SigningStyle::Crm, SigningStyle::Standard];

/// Members that a request may set.
pub(super) const SUBSCRIPTION_MEMBERS: [&str; 19] = [
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
    "signature_header",
    "uid",
    "metadata",
    "delivery",
];
/// Members of answers that a request may send back unchanged; they are ignored.
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
/// Members of a request to rotate a secret.
pub(super) const ROTATION_MEMBERS: [&str; 2] = ["overlap_h", "secret"];

/// Settings of the node that members are checked against.
#[derive(Clone, Copy, Debug)]
pub(super) struct SubscriptionRules<'a> {
    vocabulary: &'a EventVocabulary,
    allow_targets: &'a [IpNet],
    /// The `uid` in the path, which a new subscription gets.
    uid: Option<&'a str>,
}

impl<'a> SubscriptionRules<'a> {
    pub(super) fn new(edge: &'a Edge) -> Self {
        Self {
            vocabulary: edge.vocabulary(),
            allow_targets: &edge.config.delivery.allow_targets,
            uid: None,
        }
    }

    /// Rules for the subscription that its client calls `uid`.
    pub(super) fn for_uid(self, uid: &'a str) -> Self {
        Self {
            uid: Some(uid),
            ..self
        }
    }
}

/// Checked members of a request to create or change a subscription.
#[derive(Debug)]
pub(super) struct SubscriptionInput {
    delivery: DeliveryMode,
    url: Option<String>,
    events: Option<Vec<Pattern>>,
    /// New secret; null and a masked secret keep the stored secret.
    secret: Option<Secret>,
    is_active: Option<bool>,
    description: PatchField<String>,
    filter: PatchField<FilterExpression>,
    transform: PatchField<TransformExpression>,
    ordering: PatchField<DeliveryOrdering>,
    concurrency: PatchField<usize>,
    signing: PatchField<Vec<SigningStyle>>,
    headers: PatchField<Vec<headers::HeaderChange>>,
    rate_limit: PatchField<NonZeroU32>,
    timeout: PatchField<Duration>,
    retry_schedule: PatchField<Vec<Duration>>,
    on_exhausted: PatchField<ExhaustionPolicy>,
    signature_header: PatchField<String>,
    /// Id that the client chose; a change keeps the stored one.
    uid: Option<String>,
    metadata: PatchField<BTreeMap<String, String>>,
}

impl SubscriptionInput {
    /// Parses `json` as a change of `known`, or for a new subscription.
    ///
    /// # Errors
    /// [`ApiError::InvalidJson`], or [`ApiError::InvalidFields`] with every wrong member.
    pub(super) fn parse(
        json: &str,
        known: Option<&Subscription>,
        rules: SubscriptionRules<'_>,
    ) -> Result<Self, ApiError> {
        let members = find_members(json, SUBSCRIPTION_MEMBERS)
            .map_err(|error| ApiError::from_json_error(&error))?;
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
        ] = members;
        let [
            concurrency,
            signing,
            custom,
            rate_limit,
            timeout,
            schedule,
            on_exhausted,
            signature_header,
            uid,
            metadata,
            delivery,
        ] = rest;

        let mut errors = FieldErrors::default();
        suggest::refuse_misspelt_members(
            json,
            &SUBSCRIPTION_MEMBERS,
            &READ_ONLY_MEMBERS,
            "a subscription",
            &mut errors,
        );

        let is_new = known.is_none();
        let delivery = read_delivery(non_null(delivery), known, &mut errors);
        let input = Self {
            delivery,
            url: match delivery {
                DeliveryMode::Push => {
                    read_required("url", url, is_new, &mut errors, |raw, errors| {
                        read_url(raw, rules.allow_targets, errors)
                    })
                }
                DeliveryMode::Pull => {
                    if non_null(url).is_some() {
                        errors.add("url", "must be absent if delivery is pull");
                    }
                    None
                }
            },
            events: read_required("events", events, is_new, &mut errors, |raw, errors| {
                read_patterns(raw, rules.vocabulary, errors)
            }),
            secret: non_null(secret).and_then(|raw| read_secret("secret", raw, known, &mut errors)),
            is_active: non_null(is_active).map(|raw| errors.read_flag("is_active", Some(raw))),
            description: read_patch_field(description, |raw| read_description(raw, &mut errors)),
            filter: read_filter(filter, &mut errors),
            transform: read_expression(
                "transform",
                transform,
                TransformExpression::compile,
                &mut errors,
            ),
            ordering: read_patch_field(ordering, |raw| {
                read_choice("ordering", raw, &DeliveryOrdering::NAMED, &mut errors)
            }),
            concurrency: read_patch_field(concurrency, |raw| {
                errors.read_number("concurrency", Some(raw), 1, CONCURRENCY_MAX.unsigned_abs())
                    as usize
            }),
            signing: read_patch_field(signing, |raw| read_styles(raw, &mut errors)),
            headers: read_patch_field(custom, |raw| headers::read_headers(raw, known, &mut errors)),
            rate_limit: read_patch_field(rate_limit, |raw| {
                let number = errors.read_number("rate_limit", Some(raw), 1, RATE_LIMIT_MAX);
                u32::try_from(number)
                    .ok()
                    .and_then(NonZeroU32::new)
                    .unwrap_or(NonZeroU32::MIN)
            }),
            timeout: read_patch_field(timeout, |raw| {
                read_seconds("timeout_s", raw, TIMEOUT_MAX_S, &mut errors)
            }),
            retry_schedule: read_patch_field(schedule, |raw| read_schedule(raw, &mut errors)),
            on_exhausted: read_patch_field(on_exhausted, |raw| {
                read_choice("on_exhausted", raw, &ExhaustionPolicy::CHOICES, &mut errors)
            }),
            signature_header: read_patch_field(signature_header, |raw| {
                read_signature_header(raw, &mut errors)
            }),
            uid: read_uid(non_null(uid), known, rules.uid, &mut errors),
            metadata: read_patch_field(metadata, |raw| read_metadata(raw, &mut errors)),
        };
        input.check_signature_header(known, &mut errors);
        errors.finish(input)
    }

    /// Checks that there is a signature for the header that shall hold it.
    fn check_signature_header(&self, known: Option<&Subscription>, errors: &mut FieldErrors) {
        let stored_header = known.and_then(|known| known.signature_header.as_ref());
        let header = match &self.signature_header {
            Some(header) => header.as_ref(),
            None => stored_header,
        };
        let styles: &[SigningStyle] = match (&self.signing, known) {
            (Some(Some(styles)), _) => styles,
            (Some(None), _) | (None, None) => &DEFAULT_SIGNING,
            (None, Some(known)) => &known.signing,
        };
        let has_body_signature = styles
            .iter()
            .any(|style| matches!(style, SigningStyle::Crm | SigningStyle::Hub));
        if header.is_some() && !has_body_signature {
            errors.add("signature_header", "needs crm or hub in signing");
        }
    }

    /// Returns true if the request sets `is_active` to true.
    pub(super) fn activates(&self) -> bool {
        self.is_active == Some(true)
    }

    /// Builds the new subscription `id`, created at `now`, with deliveries of the events from
    /// `from` on.
    pub(super) fn into_subscription(
        self,
        id: SubscriptionId,
        from: Position,
        now: Timestamp,
    ) -> Subscription {
        let is_active = self.is_active.unwrap_or(true);
        let mut created = Subscription {
            id,
            delivery: self.delivery,
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
            signature_header: None,
            uid: self.uid.clone(),
            metadata: BTreeMap::new(),
            creation: None,
            from,
            created_at: now,
            updated_at: now,
        };
        Self {
            is_active: None,
            secret: None,
            ..self
        }
        .apply_to(&mut created, from, now);
        created
    }

    /// Applies the given members to `subscription` at `now`; absent members keep their values. If
    /// the change activates a disabled subscription, its deliveries begin at `from`.
    pub(super) fn apply_to(self, subscription: &mut Subscription, from: Position, now: Timestamp) {
        match self.is_active {
            Some(true) => resume_subscription(subscription, from),
            Some(false) => pause_subscription(subscription),
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
        if let Some(changes) = self.headers {
            subscription.headers =
                headers::replace_headers(&subscription.headers, changes.unwrap_or_default());
        }
        set_if_given(&mut subscription.rate_limit, self.rate_limit);
        set_if_given(&mut subscription.timeout, self.timeout);
        set_if_given(&mut subscription.retry_schedule, self.retry_schedule);
        set_if_given(&mut subscription.on_exhausted, self.on_exhausted);
        set_if_given(&mut subscription.signature_header, self.signature_header);
        set_if_given(
            &mut subscription.metadata,
            self.metadata.map(Option::unwrap_or_default),
        );
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

/// Reads the way of delivery, which a change cannot change.
fn read_delivery(
    raw: Option<&RawValue>,
    known: Option<&Subscription>,
    errors: &mut FieldErrors,
) -> DeliveryMode {
    let stored = known.map(|known| known.delivery);
    let Some(raw) = raw else {
        return stored.unwrap_or_default();
    };
    let delivery = read_choice("delivery", raw, &DeliveryMode::NAMED, errors);
    if stored.is_some_and(|stored| stored != delivery) {
        errors.add("delivery", "cannot be changed; create another subscription");
    }
    delivery
}

fn set_if_given<T>(member: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *member = value;
    }
}

/// Checked members of a request to rotate a secret.
#[derive(Debug)]
pub(super) struct SecretRotation {
    /// New secret; `None` to generate one.
    pub(super) secret: Option<Secret>,
    /// Time for which deliveries are signed with the old secret too.
    pub(super) overlap: Duration,
}

impl SecretRotation {
    /// Parses `json`; an empty text means the defaults.
    ///
    /// # Errors
    /// As for [`SubscriptionInput::parse`].
    pub(super) fn parse(json: &str) -> Result<Self, ApiError> {
        let json = if json.trim_ascii().is_empty() {
            "{}"
        } else {
            json
        };
        let [overlap, secret] = find_members(json, ROTATION_MEMBERS)
            .map_err(|error| ApiError::from_json_error(&error))?;
        let mut errors = FieldErrors::default();
        suggest::refuse_misspelt_members(json, &ROTATION_MEMBERS, &[], "a rotation", &mut errors);
        let hours_max = ROTATION_OVERLAP_MAX.as_secs() / 3_600;
        let overlap = non_null(overlap).map_or(ROTATION_OVERLAP, |raw| {
            let hours = parse_number(raw).filter(|hours| (0.0..=hours_max as f64).contains(hours));
            if hours.is_none() {
                errors.add(
                    "overlap_h",
                    format!("must be a number from 0 to {hours_max}"),
                );
            }
            duration_from_seconds(hours.unwrap_or_default() * 3_600.0)
        });
        let secret = non_null(secret).and_then(|raw| read_secret("secret", raw, None, &mut errors));
        errors.finish(Self { secret, overlap })
    }
}

/// Reads a member without a default: required of a new subscription, and never null.
fn read_required<T>(
    name: &'static str,
    raw: Option<&RawValue>,
    is_new: bool,
    errors: &mut FieldErrors,
    read: impl FnOnce(&RawValue, &mut FieldErrors) -> T,
) -> Option<T> {
    if raw.is_none() && is_new {
        errors.add(name, "is required");
    }
    raw.map(|raw| read(raw, errors))
}

fn read_url(raw: &RawValue, allow_targets: &[IpNet], errors: &mut FieldErrors) -> String {
    let url = errors.read_text("url", Some(raw));
    if !is_text(raw) {
        return url;
    }
    match target_address::check_target_url(&url, allow_targets) {
        Ok(canonical) => canonical.into(),
        Err(refused) => {
            errors.add("url", format!("is refused: {refused}"));
            url
        }
    }
}

fn read_signature_header(raw: &RawValue, errors: &mut FieldErrors) -> String {
    const NAME: &str = "signature_header";
    let header = errors.read_text(NAME, Some(raw));
    if is_text(raw) && !is_valid_signature_header(&header) {
        errors.add(NAME, "must be the name of a header that is not reserved");
    }
    header
}

/// Reads the id that the client chose. A subscription keeps it, and that in the path is the one.
fn read_uid(
    raw: Option<&RawValue>,
    known: Option<&Subscription>,
    in_path: Option<&str>,
    errors: &mut FieldErrors,
) -> Option<String> {
    const NAME: &str = "uid";
    let fixed = in_path.or_else(|| known?.uid.as_deref());
    let Some(raw) = raw else {
        return fixed.map(str::to_owned);
    };
    let uid = errors.read_text(NAME, Some(raw));
    if is_text(raw) && (known.is_some() || in_path.is_some()) && fixed != Some(&uid) {
        errors.add(NAME, "cannot be changed");
    } else if is_text(raw) && !is_valid_uid(&uid) {
        errors.add(
            NAME,
            format!("must be 1 to {UID_MAX_BYTES} letters, digits and . _ : -"),
        );
    }
    Some(uid)
}

fn read_metadata(raw: &RawValue, errors: &mut FieldErrors) -> BTreeMap<String, String> {
    const NAME: &str = "metadata";
    let Ok(metadata) = serde_json::from_str::<BTreeMap<String, String>>(raw.get()) else {
        errors.add(NAME, "must be an object whose members are strings");
        return BTreeMap::new();
    };
    let fits = |(name, value): (&String, &String)| {
        (1..=METADATA_NAME_MAX_BYTES).contains(&name.len())
            && value.len() <= METADATA_VALUE_MAX_BYTES
    };
    if metadata.len() > METADATA_MAX || !metadata.iter().all(fits) {
        errors.add(
            NAME,
            format!(
                "must have at most {METADATA_MAX} members, with names of 1 to \
                 {METADATA_NAME_MAX_BYTES} and values of at most {METADATA_VALUE_MAX_BYTES} bytes"
            ),
        );
    }
    metadata
}

fn read_patterns(
    raw: &RawValue,
    vocabulary: &EventVocabulary,
    errors: &mut FieldErrors,
) -> Vec<Pattern> {
    const NAME: &str = "events";
    let Ok(items) = raw_json::first_items(raw.get(), EVENTS_MAX) else {
        errors.add(NAME, "must be a list of names and patterns");
        return Vec::new();
    };
    if items.count == 0 || items.count > EVENTS_MAX {
        errors.add(
            NAME,
            format!("must have 1 to {EVENTS_MAX} items, not {}", items.count),
        );
        return Vec::new();
    }
    let mut patterns = Vec::with_capacity(items.count);
    for (index, item) in items.first.into_iter().enumerate() {
        let field = || format!("{NAME}[{index}]");
        match serde_json::from_str::<String>(item.get()) {
            Err(_) => errors.add(field(), "must be a string"),
            Ok(text) => match Pattern::parse(&text, vocabulary) {
                Ok(pattern) => patterns.push(pattern),
                Err(refused) => errors.add(field(), format!("is no valid pattern: {refused}")),
            },
        }
    }
    patterns
}

/// Reads a secret chosen by the caller. Returns `None` for a masked secret, as answers show it,
/// which keeps the stored secret.
fn read_secret(
    name: &'static str,
    raw: &RawValue,
    known: Option<&Subscription>,
    errors: &mut FieldErrors,
) -> Option<Secret> {
    let secret = Secret::new(errors.read_text(name, Some(raw)));
    let text = secret.expose();
    if !is_text(raw) || known.is_some() && text.contains(REDACTED) {
        return None;
    }
    if !is_valid_secret(text) {
        errors.add(
            name,
            format!("must be 1 to {SECRET_MAX_BYTES} printable ASCII characters without spaces"),
        );
    } else if text
        .strip_prefix(ENCODED_SECRET_PREFIX)
        .is_some_and(|encoded| !is_base64_key(encoded))
    {
        // Receivers decode a secret with this prefix, and would fail.
        errors.add(
            name,
            format!("must have base64 after {ENCODED_SECRET_PREFIX}"),
        );
    }
    Some(secret)
}

fn is_base64_key(encoded: &str) -> bool {
    STANDARD.decode(encoded).is_ok_and(|key| !key.is_empty())
}

/// Reads the description, which must have no control characters and marks of direction: they could make pages
/// and terminals show another text.
fn read_description(raw: &RawValue, errors: &mut FieldErrors) -> String {
    let text = errors.read_text("description", Some(raw));
    if text.contains(is_invisible_mark) {
        let problem =
            "must have no control characters and no marks that change the direction of text";
        errors.add("description", problem);
    }
    if text.len() > DESCRIPTION_MAX_BYTES {
        errors.add(
            "description",
            format!("must have at most {DESCRIPTION_MAX_BYTES} bytes"),
        );
    }
    text
}

/// Reads the filter. One that depends on no event is refused: it is most likely a mistake, such as
/// `'lead.created'` for `event == 'lead.created'`, which would fail at every event.
fn read_filter(raw: Option<&RawValue>, errors: &mut FieldErrors) -> PatchField<FilterExpression> {
    let filter = read_expression("filter", raw, FilterExpression::compile, errors);
    if let Some(Some(found)) = &filter
        && !found.reads_event()
    {
        let problem = "is no condition, because it reads no member of the event; leave it out to get \
             all events, or write one such as event == 'lead.created'";
        errors.add("filter", problem);
    }
    filter
}

/// Reads and compiles an expression; an empty text means none.
fn read_expression<T>(
    name: &'static str,
    raw: Option<&RawValue>,
    compile: impl FnOnce(&str) -> Result<T, CompileError>,
    errors: &mut FieldErrors,
) -> PatchField<T> {
    let raw = raw?;
    let Some(text) = errors
        .read_optional_text(name, Some(raw))
        .filter(|text| !text.is_empty())
    else {
        return Some(None);
    };
    let compiled = compile(&text);
    Some(
        compiled
            .map_err(|error| errors.add(name, format!("is no valid expression: {error}")))
            .ok(),
    )
}

fn read_choice<T: Copy + Default>(
    name: &'static str,
    raw: &RawValue,
    named: &[(&'static str, T)],
    errors: &mut FieldErrors,
) -> T {
    let names: Vec<&str> = named.iter().map(|(name, _)| *name).collect();
    let choice = errors.read_one_of(name, Some(raw), &names);
    named
        .iter()
        .find(|(name, _)| *name == choice)
        .map(|(_, value)| *value)
        .unwrap_or_default()
}

fn read_styles(raw: &RawValue, errors: &mut FieldErrors) -> Vec<SigningStyle> {
    const NAME: &str = "signing";
    let names = SigningStyle::NAMED.map(|(name, _)| name).join(", ");
    let listed: Vec<String> = serde_json::from_str(raw.get()).unwrap_or_default();
    let find_style = |text: &String| {
        SigningStyle::NAMED
            .iter()
            .find(|(name, _)| name == text)
            .map(|(_, style)| *style)
    };
    let mut styles: Vec<SigningStyle> = listed.iter().filter_map(find_style).collect();
    styles.sort_unstable();
    styles.dedup();
    if listed.is_empty() || styles.len() != listed.len() {
        errors.add(
            NAME,
            format!("must be a list with one or more of {names}, each once"),
        );
    }
    styles
}

fn read_schedule(raw: &RawValue, errors: &mut FieldErrors) -> Vec<Duration> {
    const NAME: &str = "retry_schedule_s";
    let Some(items) = raw_json::first_items(raw.get(), RETRIES_MAX)
        .ok()
        .filter(|items| items.count <= RETRIES_MAX)
    else {
        errors.add(
            NAME,
            format!("must be a list of at most {RETRIES_MAX} pauses in seconds"),
        );
        return Vec::new();
    };
    let pause =
        |(index, item)| read_seconds(format!("{NAME}[{index}]"), item, RETRY_PAUSE_MAX_S, errors);
    items.first.into_iter().enumerate().map(pause).collect()
}

fn read_seconds(
    name: impl Into<Cow<'static, str>>,
    raw: &RawValue,
    most: f64,
    errors: &mut FieldErrors,
) -> Duration {
    let seconds = parse_number(raw).filter(|seconds| (DURATION_MIN_S..=most).contains(seconds));
    if seconds.is_none() {
        errors.add(
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
