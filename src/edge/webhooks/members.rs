//! The members of a subscription as a request gives them: each may be there, be null (which means its default) or be left out.

use std::borrow::Cow;
use std::num::NonZeroU32;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ipnet::IpNet;
use serde_json::value::RawValue;

use super::super::error::Error;
use super::super::fields::{Faults, present};
use super::super::state::Edge;
use super::super::{misspelt, raw};
use super::activity::{pause, resume};
use super::headers;
use crate::config::{CONCURRENCY_MAX, OnExhausted, RETRIES_MAX, RETRY_PAUSE_MAX_S, Secret, TIMEOUT_MAX_S};
use crate::event::{Position, Timestamp, members};
use crate::exchange::MASK;
use crate::subscriber::attempt::address;
use crate::subscription::limits::{DESCRIPTION_MAX_BYTES, EVENTS_MAX, SECRET_MAX_BYTES, is_secret};
use crate::subscription::secrets::{OVERLAP, OVERLAP_MAX};
use crate::subscription::{
    CompileError, Filter, Id, Ordering, Pattern, Secrets, State, Style, Subscription, Transform, Vocabulary,
};

/// As short as a pause or a timeout of the configuration may be, in seconds.
const SHORTEST_S: f64 = 0.001;
const RATE_MAX: u64 = 1_000_000;

/// What a secret begins with that is bytes in base64.
const ENCODED: &str = "whsec_";

/// Every style with its name.
pub(super) const STYLES: [(&str, Style); 4] =
    [("crm", Style::Crm), ("standard", Style::Standard), ("hub", Style::Hub), ("v1a", Style::V1a)];
/// Every ordering with its name.
pub(super) const ORDERINGS: [(&str, Ordering); 2] = [("entity", Ordering::Entity), ("none", Ordering::None)];
/// How deliveries are signed when nobody says.
const SIGNING: [Style; 2] = [Style::Crm, Style::Standard];

/// What a request may say of a subscription.
const NAMES: [&str; 15] = [
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
const SHOWN: [&str; 8] =
    ["id", "created_at", "updated_at", "state", "state_reason", "public_key", "previous_secret_until", "stats"];
/// What a request to rotate a secret may say.
const OF_ROTATION: [&str; 2] = ["overlap_h", "secret"];

/// Left out, null, or there.
type Given<T> = Option<Option<T>>;

/// What members are judged by.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules<'a> {
    vocabulary: &'a Vocabulary,
    allow_targets: &'a [IpNet],
}

impl<'a> Rules<'a> {
    /// Those of `edge`.
    pub(super) fn new(edge: &'a Edge) -> Self {
        Self { vocabulary: edge.vocabulary(), allow_targets: &edge.config.delivery.allow_targets }
    }
}

/// What a request says of a subscription, checked.
#[derive(Debug)]
pub(super) struct Members {
    url: Option<String>,
    events: Option<Vec<Pattern>>,
    /// Neither null nor what is shown in place of a secret changes one.
    secret: Option<Secret>,
    is_active: Option<bool>,
    description: Given<String>,
    filter: Given<Filter>,
    transform: Given<Transform>,
    ordering: Given<Ordering>,
    concurrency: Given<usize>,
    signing: Given<Vec<Style>>,
    headers: Given<Vec<headers::Given>>,
    rate_limit: Given<NonZeroU32>,
    timeout: Given<Duration>,
    retry_schedule: Given<Vec<Duration>>,
    on_exhausted: Given<OnExhausted>,
}

impl Members {
    /// Reads them from `json`, as a change of `known` or for a new subscription.
    ///
    /// # Errors
    /// [`Error::InvalidJson`], or [`Error::Invalid`] with every wrong member.
    pub(super) fn read(json: &str, known: Option<&Subscription>, rules: Rules<'_>) -> Result<Self, Error> {
        let given = members(json, NAMES).map_err(|error| Error::not_json(&error))?;
        let [url, events, secret, is_active, description, filter, transform, ordering, rest @ ..] = given;
        let [concurrency, signing, custom, rate_limit, timeout, schedule, on_exhausted] = rest;
        let mut faults = Faults::default();
        misspelt::refuse(json, &NAMES, &SHOWN, "a subscription", &mut faults);
        let is_new = known.is_none();
        let read = Self {
            url: required("url", url, is_new, &mut faults, |raw, faults| self::url(raw, rules.allow_targets, faults)),
            events: required("events", events, is_new, &mut faults, |raw, faults| {
                patterns(raw, rules.vocabulary, faults)
            }),
            secret: present(secret).and_then(|raw| self::secret("secret", raw, known, &mut faults)),
            is_active: present(is_active).map(|raw| faults.flag("is_active", Some(raw))),
            description: given_of(description, |raw| self::description(raw, &mut faults)),
            filter: expression("filter", filter, Filter::compile, &mut faults),
            transform: expression("transform", transform, Transform::compile, &mut faults),
            ordering: given_of(ordering, |raw| choice("ordering", raw, &ORDERINGS, &mut faults)),
            concurrency: given_of(concurrency, |raw| {
                faults.number("concurrency", Some(raw), 1, CONCURRENCY_MAX.unsigned_abs()) as usize
            }),
            signing: given_of(signing, |raw| styles(raw, &mut faults)),
            headers: given_of(custom, |raw| headers::read(raw, known, &mut faults)),
            rate_limit: given_of(rate_limit, |raw| {
                let number = faults.number("rate_limit", Some(raw), 1, RATE_MAX);
                u32::try_from(number).ok().and_then(NonZeroU32::new).unwrap_or(NonZeroU32::MIN)
            }),
            timeout: given_of(timeout, |raw| seconds("timeout_s", raw, TIMEOUT_MAX_S, &mut faults)),
            retry_schedule: given_of(schedule, |raw| self::schedule(raw, &mut faults)),
            on_exhausted: given_of(on_exhausted, |raw| choice("on_exhausted", raw, &OnExhausted::NAMED, &mut faults)),
        };
        faults.finish(read)
    }

    /// Whether they ask for deliveries to go on.
    pub(super) fn activates(&self) -> bool {
        self.is_active == Some(true)
    }

    /// The new subscription `id` that they describe, made at `now`, to which nothing before `from` is delivered.
    pub(super) fn into_subscription(self, id: Id, from: Position, now: Timestamp) -> Subscription {
        let is_active = self.is_active.unwrap_or(true);
        let mut made = Subscription {
            id,
            url: String::new(),
            events: Vec::new(),
            secrets: Secrets::new(self.secret.clone()),
            state: if is_active { State::Active } else { State::Paused { reason: None } },
            description: None,
            filter: None,
            transform: None,
            ordering: Ordering::default(),
            concurrency: None,
            signing: SIGNING.to_vec(),
            headers: Vec::new(),
            rate_limit: None,
            timeout: None,
            retry_schedule: None,
            on_exhausted: None,
            from,
            created_at: now,
            updated_at: now,
        };
        Self { is_active: None, secret: None, ..self }.change(&mut made, from, now);
        made
    }

    /// Makes `subscription` what they say, at `now`, and leaves of it what they leave out. One that was disabled and is not to be
    /// any more begins at `from`.
    pub(super) fn change(self, subscription: &mut Subscription, from: Position, now: Timestamp) {
        match self.is_active {
            Some(true) => resume(subscription, from),
            Some(false) => pause(subscription),
            None => {}
        }
        put(&mut subscription.url, self.url);
        put(&mut subscription.events, self.events);
        put(&mut subscription.description, self.description);
        put(&mut subscription.filter, self.filter);
        put(&mut subscription.transform, self.transform);
        put(&mut subscription.ordering, self.ordering.map(Option::unwrap_or_default));
        put(&mut subscription.concurrency, self.concurrency);
        put(&mut subscription.signing, self.signing.map(|styles| styles.unwrap_or_else(|| SIGNING.to_vec())));
        if let Some(given) = self.headers {
            subscription.headers = headers::replace(&subscription.headers, given.unwrap_or_default());
        }
        put(&mut subscription.rate_limit, self.rate_limit);
        put(&mut subscription.timeout, self.timeout);
        put(&mut subscription.retry_schedule, self.retry_schedule);
        put(&mut subscription.on_exhausted, self.on_exhausted);
        if let Some(secret) = self.secret {
            subscription.secrets.rotate(Some(secret), now, Duration::ZERO);
        }
        if subscription.signing.contains(&Style::V1a) {
            subscription.secrets.ensure_signing_key();
        }
        subscription.updated_at = now;
    }
}

fn put<T>(place: &mut T, given: Option<T>) {
    if let Some(given) = given {
        *place = given;
    }
}

/// What a request to rotate a secret says.
#[derive(Debug)]
pub(super) struct Rotation {
    /// The new secret, if it is not to be made here.
    pub(super) secret: Option<Secret>,
    /// How long the old one stays in force.
    pub(super) overlap: Duration,
}

impl Rotation {
    /// Reads it from `json`; an empty text asks for nothing in particular.
    ///
    /// # Errors
    /// As [`Members::read`].
    pub(super) fn read(json: &str) -> Result<Self, Error> {
        let json = if json.trim_ascii().is_empty() { "{}" } else { json };
        let [overlap, secret] = members(json, OF_ROTATION).map_err(|error| Error::not_json(&error))?;
        let mut faults = Faults::default();
        misspelt::refuse(json, &OF_ROTATION, &[], "a rotation", &mut faults);
        let hours_max = OVERLAP_MAX.as_secs() / 3_600;
        let overlap = present(overlap).map_or(OVERLAP, |raw| {
            let hours = number(raw).filter(|hours| (0.0..=hours_max as f64).contains(hours));
            if hours.is_none() {
                faults.add("overlap_h", format!("must be a number from 0 to {hours_max}"));
            }
            millis(hours.unwrap_or_default() * 3_600.0)
        });
        let secret = present(secret).and_then(|raw| self::secret("secret", raw, None, &mut faults));
        faults.finish(Self { secret, overlap })
    }
}

fn given_of<T>(raw: Option<&RawValue>, read: impl FnOnce(&RawValue) -> T) -> Given<T> {
    raw.map(|raw| present(Some(raw)).map(read))
}

/// A member that has no default: needed of a new subscription, and never null.
fn required<T>(
    name: &'static str,
    raw: Option<&RawValue>,
    is_new: bool,
    faults: &mut Faults,
    read: impl FnOnce(&RawValue, &mut Faults) -> T,
) -> Option<T> {
    if raw.is_none() && is_new {
        faults.add(name, "is required");
    }
    raw.map(|raw| read(raw, faults))
}

fn url(raw: &RawValue, allow_targets: &[IpNet], faults: &mut Faults) -> String {
    let url = faults.text("url", Some(raw));
    if is_text(raw)
        && let Err(refused) = address::check_url(&url, allow_targets)
    {
        faults.add("url", format!("is refused: {refused}"));
    }
    url
}

fn patterns(raw: &RawValue, vocabulary: &Vocabulary, faults: &mut Faults) -> Vec<Pattern> {
    const NAME: &str = "events";
    let Ok(items) = raw::items(raw.get(), EVENTS_MAX) else {
        faults.add(NAME, "must be a list of names and patterns");
        return Vec::new();
    };
    if items.count == 0 || items.count > EVENTS_MAX {
        faults.add(NAME, format!("must have 1 to {EVENTS_MAX} items, not {}", items.count));
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

/// A secret of the sender's own; nothing where it is what is, or was, shown in place of the one there is.
fn secret(name: &'static str, raw: &RawValue, known: Option<&Subscription>, faults: &mut Faults) -> Option<Secret> {
    let secret = Secret::new(faults.text(name, Some(raw)));
    let text = secret.expose();
    if !is_text(raw) || known.is_some() && text.contains(MASK) {
        return None;
    }
    if !is_secret(text) {
        faults.add(name, format!("must be 1 to {SECRET_MAX_BYTES} printable ASCII characters without spaces"));
    } else if text.strip_prefix(ENCODED).is_some_and(|encoded| !is_key(encoded)) {
        // Receivers would decode it, and could not.
        faults.add(name, format!("must have base64 after {ENCODED}"));
    }
    Some(secret)
}

fn is_key(encoded: &str) -> bool {
    STANDARD.decode(encoded).is_ok_and(|key| !key.is_empty())
}

fn description(raw: &RawValue, faults: &mut Faults) -> String {
    let text = faults.text("description", Some(raw));
    if text.len() > DESCRIPTION_MAX_BYTES {
        faults.add("description", format!("must have at most {DESCRIPTION_MAX_BYTES} bytes"));
    }
    text
}

/// An expression; an empty one is none.
fn expression<T>(
    name: &'static str,
    raw: Option<&RawValue>,
    compile: impl FnOnce(&str) -> Result<T, CompileError>,
    faults: &mut Faults,
) -> Given<T> {
    let raw = raw?;
    let Some(text) = faults.optional_text(name, Some(raw)).filter(|text| !text.is_empty()) else { return Some(None) };
    let compiled = compile(&text);
    Some(compiled.map_err(|error| faults.add(name, format!("is no expression: {error}"))).ok())
}

fn choice<T: Copy + Default>(
    name: &'static str,
    raw: &RawValue,
    named: &[(&'static str, T)],
    faults: &mut Faults,
) -> T {
    let names: Vec<&str> = named.iter().map(|(name, _)| *name).collect();
    let given = faults.one_of(name, Some(raw), &names);
    named.iter().find(|(name, _)| *name == given).map(|(_, value)| *value).unwrap_or_default()
}

fn styles(raw: &RawValue, faults: &mut Faults) -> Vec<Style> {
    const NAME: &str = "signing";
    let names = STYLES.map(|(name, _)| name).join(", ");
    let given: Vec<String> = serde_json::from_str(raw.get()).unwrap_or_default();
    let style = |given: &String| STYLES.iter().find(|(name, _)| name == given).map(|(_, style)| *style);
    let mut styles: Vec<Style> = given.iter().filter_map(style).collect();
    styles.sort_unstable();
    styles.dedup();
    if given.is_empty() || styles.len() != given.len() {
        faults.add(NAME, format!("must be a list with one or more of {names}, each once"));
    }
    styles
}

fn schedule(raw: &RawValue, faults: &mut Faults) -> Vec<Duration> {
    const NAME: &str = "retry_schedule_s";
    let Some(items) = raw::items(raw.get(), RETRIES_MAX).ok().filter(|items| items.count <= RETRIES_MAX) else {
        faults.add(NAME, format!("must be a list of at most {RETRIES_MAX} pauses in seconds"));
        return Vec::new();
    };
    let pause = |(index, item)| seconds(format!("{NAME}[{index}]"), item, RETRY_PAUSE_MAX_S, faults);
    items.first.into_iter().enumerate().map(pause).collect()
}

fn seconds(name: impl Into<Cow<'static, str>>, raw: &RawValue, most: f64, faults: &mut Faults) -> Duration {
    let seconds = number(raw).filter(|seconds| (SHORTEST_S..=most).contains(seconds));
    if seconds.is_none() {
        faults.add(name, format!("must be a number of seconds from {SHORTEST_S} to {most}"));
    }
    millis(seconds.unwrap_or_default())
}

fn number(raw: &RawValue) -> Option<f64> {
    raw.get().parse().ok()
}

fn millis(seconds: f64) -> Duration {
    Duration::from_millis((seconds * 1_000.0).round() as u64)
}

fn is_text(raw: &RawValue) -> bool {
    raw.get().starts_with('"')
}
