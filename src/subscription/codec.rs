//! Bytes of a stored subscription: a format byte and JSON, under the subscription's id.
//!
//! A stored subscription was accepted once, so it is read even if today it would be refused: a
//! pattern may name a source that is no longer configured.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{
    CreationRequest, DeliveryMode, DeliveryOrdering, FilterExpression, Pattern, SigningSecrets,
    SigningStyle, Subscription, SubscriptionId, SubscriptionState, TransformExpression,
};
use crate::config::{ExhaustionPolicy, Secret};
use crate::event::{Position, Timestamp};
use crate::table_store::{DefinitionOpenError, DefinitionSort, JournaledTableId};

const FORMAT: u8 = 1;

/// Names of the subscriptions in the store.
pub(super) const SORT: DefinitionSort = DefinitionSort {
    table: JournaledTableId::Subscriptions,
    one: "subscription",
    many: "subscriptions",
};

/// Stored form of a subscription. Members that are added later need a default. Times are
/// microseconds since 1970.
#[derive(Serialize, Deserialize)]
struct StoredSubscription {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    delivery: Option<String>,
    url: String,
    events: Vec<String>,
    secret: Zeroizing<String>,
    previous_secret: Option<StoredPreviousSecret>,
    signing_key: Option<Zeroizing<String>>,
    state: String,
    state_reason: Option<String>,
    description: Option<String>,
    filter: Option<String>,
    transform: Option<String>,
    ordering: String,
    concurrency: Option<usize>,
    signing: Vec<String>,
    headers: Vec<(String, Zeroizing<String>)>,
    rate_limit: Option<NonZeroU32>,
    timeout_ms: Option<u64>,
    retry_schedule_ms: Option<Vec<u64>>,
    on_exhausted: Option<String>,
    from: u64,
    created_at: i64,
    updated_at: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    signature_header: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    uid: Option<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    metadata: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    creation: Option<StoredCreation>,
}

/// Key and hash, in hex, of the request that created a subscription.
#[derive(Serialize, Deserialize)]
struct StoredCreation {
    key: String,
    hash: String,
}

#[derive(Serialize, Deserialize)]
struct StoredPreviousSecret {
    secret: Zeroizing<String>,
    until: i64,
}

const ACTIVE: &str = "active";
const PAUSED: &str = "paused";
const DISABLED: &str = "disabled";

pub(super) fn encode_subscription(subscription: &Subscription) -> Zeroizing<Vec<u8>> {
    let Subscription { secrets, .. } = subscription;
    let expose = |secret: &Secret| Zeroizing::new(secret.expose().to_owned());
    let previous = secrets.previous.as_ref();
    let (state, state_reason) = match &subscription.state {
        SubscriptionState::Active => (ACTIVE, None),
        SubscriptionState::Paused { reason } => (PAUSED, reason.clone()),
        SubscriptionState::Disabled { reason } => (DISABLED, Some(reason.clone())),
    };
    let schedule = subscription.retry_schedule.as_ref();
    let stored = StoredSubscription {
        // Absent in what earlier versions stored.
        delivery: (subscription.delivery != DeliveryMode::Push)
            .then(|| choice_name(&DeliveryMode::NAMED, subscription.delivery)),
        url: subscription.url.clone(),
        events: subscription.events.iter().map(Pattern::to_string).collect(),
        secret: expose(&secrets.current),
        previous_secret: previous.map(|(secret, until)| StoredPreviousSecret {
            secret: expose(secret),
            until: until.as_micros(),
        }),
        signing_key: secrets.signing_key.as_ref().map(expose),
        state: state.to_owned(),
        state_reason,
        description: subscription.description.clone(),
        filter: subscription
            .filter
            .as_ref()
            .map(|filter| filter.text().to_owned()),
        transform: subscription
            .transform
            .as_ref()
            .map(|transform| transform.text().to_owned()),
        ordering: choice_name(&DeliveryOrdering::NAMED, subscription.ordering),
        concurrency: subscription.concurrency,
        signing: subscription
            .signing
            .iter()
            .map(|style| choice_name(&SigningStyle::NAMED, *style))
            .collect(),
        headers: subscription
            .headers
            .iter()
            .map(|(name, value)| (name.clone(), expose(value)))
            .collect(),
        rate_limit: subscription.rate_limit,
        timeout_ms: subscription.timeout.map(to_millis),
        retry_schedule_ms: schedule.map(|pauses| pauses.iter().copied().map(to_millis).collect()),
        on_exhausted: subscription
            .on_exhausted
            .map(|choice| choice_name(&ExhaustionPolicy::CHOICES, choice)),
        from: subscription.from.get(),
        created_at: subscription.created_at.as_micros(),
        updated_at: subscription.updated_at.as_micros(),
        signature_header: subscription.signature_header.clone(),
        uid: subscription.uid.clone(),
        metadata: subscription.metadata.clone(),
        creation: subscription
            .creation
            .as_ref()
            .map(|creation| StoredCreation {
                key: creation.key.clone(),
                hash: hex::encode(creation.hash),
            }),
    };

    // Allocated once: a growing vector would leave unwiped copies of secrets in memory.
    let mut bytes = Zeroizing::new(Vec::with_capacity(crate::derived::VALUE_MAX_BYTES * 2));
    bytes.push(FORMAT);
    serde_json::to_writer(&mut *bytes, &stored)
        .expect("every member has a JSON form, and writing to a Vec cannot fail");
    bytes
}

pub(super) fn decode_subscription(
    key: &str,
    bytes: &[u8],
) -> Result<Subscription, DefinitionOpenError> {
    let corrupt = || SORT.corrupt(key);
    let json = SORT.split_format(key, bytes, FORMAT)?;
    let id = key.parse().map_err(|_| corrupt())?;
    let stored = serde_json::from_slice(json).map_err(|_| corrupt())?;
    from_stored(id, stored).ok_or_else(corrupt)
}

/// Encodes the next id: a format byte and 8 bytes, big-endian.
pub(super) fn encode_next_id(next: SubscriptionId) -> Vec<u8> {
    [&[FORMAT][..], &next.to_be_bytes()].concat()
}

pub(super) fn decode_next_id(
    key: &str,
    bytes: &[u8],
) -> Result<SubscriptionId, DefinitionOpenError> {
    let next = SORT.split_format(key, bytes, FORMAT)?;
    next.try_into()
        .map(SubscriptionId::from_be_bytes)
        .map_err(|_| SORT.corrupt(key))
}

fn from_stored(id: SubscriptionId, stored: StoredSubscription) -> Option<Subscription> {
    let secret = |secret: Zeroizing<String>| Secret::new(secret.as_str());
    let time = Timestamp::from_micros;
    let state = match (&*stored.state, stored.state_reason) {
        (ACTIVE, _) => SubscriptionState::Active,
        (PAUSED, reason) => SubscriptionState::Paused { reason },
        (DISABLED, reason) => SubscriptionState::Disabled { reason: reason? },
        _ => return None,
    };
    let filter = stored
        .filter
        .as_deref()
        .map(FilterExpression::compile)
        .transpose()
        .ok()?;
    let transform = stored
        .transform
        .as_deref()
        .map(TransformExpression::compile)
        .transpose()
        .ok()?;
    let schedule = stored.retry_schedule_ms;
    Some(Subscription {
        id,
        delivery: match stored.delivery {
            Some(name) => parse_choice(&DeliveryMode::NAMED, &name)?,
            None => DeliveryMode::Push,
        },
        url: stored.url,
        events: stored
            .events
            .iter()
            .map(|text| Pattern::from_store(text))
            .collect::<Option<_>>()?,
        secrets: SigningSecrets {
            current: secret(stored.secret),
            previous: stored
                .previous_secret
                .map(|replaced| (secret(replaced.secret), time(replaced.until))),
            signing_key: stored.signing_key.map(secret),
        },
        state,
        description: stored.description,
        filter,
        transform,
        ordering: parse_choice(&DeliveryOrdering::NAMED, &stored.ordering)?,
        concurrency: stored.concurrency,
        signing: stored
            .signing
            .iter()
            .map(|style| parse_choice(&SigningStyle::NAMED, style))
            .collect::<Option<_>>()?,
        headers: stored
            .headers
            .into_iter()
            .map(|(name, value)| (name, secret(value)))
            .collect(),
        rate_limit: stored.rate_limit,
        timeout: stored.timeout_ms.map(Duration::from_millis),
        retry_schedule: schedule
            .map(|pauses| pauses.into_iter().map(Duration::from_millis).collect()),
        on_exhausted: match stored.on_exhausted {
            Some(choice) => Some(parse_choice(&ExhaustionPolicy::CHOICES, &choice)?),
            None => None,
        },
        signature_header: stored.signature_header,
        uid: stored.uid,
        metadata: stored.metadata,
        creation: match stored.creation {
            Some(StoredCreation { key, hash }) => {
                let hash = hex::decode(hash).ok()?.try_into().ok()?;
                Some(CreationRequest { key, hash })
            }
            None => None,
        },
        from: Position::new(stored.from),
        created_at: time(stored.created_at),
        updated_at: time(stored.updated_at),
    })
}

/// Converts `duration` to milliseconds, which cannot overflow: the longest pause is days.
fn to_millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn choice_name<T: Copy + PartialEq>(table: &[(&'static str, T)], value: T) -> String {
    let found = table.iter().find(|(_, choice)| *choice == value);
    found
        .map(|(name, _)| (*name).to_owned())
        .expect("every choice is in its table")
}

fn parse_choice<T: Copy>(table: &[(&'static str, T)], name: &str) -> Option<T> {
    table
        .iter()
        .find(|(choice_name, _)| *choice_name == name)
        .map(|(_, value)| *value)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::damaged_samples::{CHEAP, damage_cases, damaged};
    use crate::subscription::sample_subscription;

    fn full() -> Subscription {
        let text = |text: &str| Secret::new(text);
        Subscription {
            secrets: SigningSecrets {
                current: text("hush"),
                previous: Some((text("old"), Timestamp::from_micros(9))),
                signing_key: Some(text("c2VlZA==")),
            },
            state: SubscriptionState::Paused {
                reason: Some("moving".into()),
            },
            description: Some("HubSpot".into()),
            filter: Some(FilterExpression::compile("late").expect("an expression")),
            transform: Some(TransformExpression::compile("data").expect("an expression")),
            ordering: DeliveryOrdering::None,
            concurrency: Some(4),
            signing: vec![
                SigningStyle::Crm,
                SigningStyle::Standard,
                SigningStyle::Hub,
                SigningStyle::V1a,
            ],
            headers: vec![("X-Key".into(), text("k"))],
            rate_limit: NonZeroU32::new(5),
            timeout: Some(Duration::from_millis(1_500)),
            retry_schedule: Some(vec![Duration::from_millis(500), Duration::from_secs(60)]),
            on_exhausted: Some(ExhaustionPolicy::Halt),
            signature_header: Some("X-Acme-Signature".into()),
            uid: Some("hubspot".into()),
            metadata: [("team".into(), "crm".into())].into(),
            creation: Some(CreationRequest {
                key: "k-1".into(),
                hash: [7; 32],
            }),
            ..sample_subscription(4, &["lead.*", "custom:once-configured:*"])
        }
    }

    /// Stores outlive versions: later versions must read these bytes.
    #[test]
    fn the_bytes_of_a_subscription_never_change() {
        let json = concat!(
            r#"{"url":"https://crm.example/hook","events":["lead.*","custom:once-configured:*"],"secret":"hush","#,
            r#""previous_secret":{"secret":"old","until":9},"signing_key":"c2VlZA==","state":"paused","#,
            r#""state_reason":"moving","description":"HubSpot","filter":"late","transform":"data","ordering":"none","#,
            r#""concurrency":4,"signing":["crm","standard","hub","v1a"],"headers":[["X-Key","k"]],"rate_limit":5,"#,
            r#""timeout_ms":1500,"retry_schedule_ms":[500,60000],"on_exhausted":"halt","from":1,"created_at":7,"#,
            r#""updated_at":7,"signature_header":"X-Acme-Signature","uid":"hubspot","metadata":{"team":"crm"},"#,
            r#""creation":{"key":"k-1","hash":"0707070707070707070707070707070707070707070707070707070707070707"}}"#
        );
        let bytes = encode_subscription(&full());
        assert_eq!((bytes[0], std::str::from_utf8(&bytes[1..])), (1, Ok(json)));
        let read = decode_subscription("4", &bytes).expect("just written");
        assert_eq!((read.id, &*encode_subscription(&read)), (4, &*bytes));
    }

    #[test]
    fn what_is_left_open_stays_open() {
        let plain = sample_subscription(1, &["*"]);
        let read = decode_subscription("1", &encode_subscription(&plain)).expect("just written");
        assert_eq!(encode_subscription(&read), encode_subscription(&plain));
        assert!(
            read.retry_schedule.is_none() && read.on_exhausted.is_none() && read.timeout.is_none()
        );
    }

    #[test]
    fn what_is_no_subscription_of_ours_is_refused_by_its_number() {
        let mut bytes = encode_subscription(&full()).to_vec();
        assert!(
            matches!(decode_subscription("x", &bytes), Err(DefinitionOpenError::Corrupt { id, .. }) if id == "x")
        );
        let wrong = String::from_utf8(bytes.clone())
            .expect("text")
            .replace("lead.*", "lead*");
        assert!(matches!(
            decode_subscription("4", wrong.as_bytes()),
            Err(DefinitionOpenError::Corrupt { .. })
        ));
        bytes[0] = 2;
        assert!(
            matches!(decode_subscription("4", &bytes), Err(DefinitionOpenError::Format { found: 2, id, .. }) if id == "4")
        );
        for bytes in [&b""[..], b"\x01", b"\x01{}"] {
            assert!(
                matches!(decode_subscription("4", bytes), Err(DefinitionOpenError::Corrupt { id, .. }) if id == "4")
            );
        }
    }

    #[test]
    fn nothing_that_shows_a_subscription_shows_its_secrets() {
        let shown = format!("{:?}", full());
        for secret in ["hush", "\"old\"", "c2VlZA", "\"k\""] {
            assert!(!shown.contains(secret), "{shown}");
        }
    }

    proptest! {
        #![proptest_config(damage_cases(CHEAP))]


        #[test]
        fn any_stored_subscription_is_read_or_refused(
            bytes in damaged(&[encode_subscription(&full()), encode_subscription(&sample_subscription(1, &["*"]))]),
        ) {
            let _ = decode_subscription("4", &bytes);
        }
    }
}
