//! Schemas of the requests about subscriptions. They are written by hand, since no type is read from
//! these bodies: each member is checked on its own, with the bounds that stand here too.

use serde_json::{Value, json};

use super::input::{DURATION_MIN_S, RATE_LIMIT_MAX};
use crate::config::{
    CONCURRENCY_MAX, ExhaustionPolicy, RETRIES_MAX, RETRY_PAUSE_MAX_S, TIMEOUT_MAX_S,
};
use crate::subscription::limits::{
    DESCRIPTION_MAX_BYTES, EVENTS_MAX, HEADER_NAME_MAX_BYTES, HEADER_VALUE_MAX_BYTES, HEADERS_MAX,
    METADATA_MAX, METADATA_NAME_MAX_BYTES, METADATA_VALUE_MAX_BYTES, SECRET_MAX_BYTES,
    UID_MAX_BYTES, URL_MAX_BYTES,
};
use crate::subscription::pattern::PATTERN_MAX_BYTES;
use crate::subscription::secrets::ROTATION_OVERLAP_MAX;
use crate::subscription::{DeliveryMode, DeliveryOrdering, SigningStyle};

/// Form of an id that a client chooses.
pub(super) const UID_PATTERN: &str = "^[A-Za-z0-9._:-]{1,64}$";
/// Form of the name of a header.
const HEADER_NAME: &str = "^[A-Za-z0-9!#$%&'*+.^_`|~-]+$";
/// Form of a secret: printable ASCII without spaces, or the mask of answers, which keeps the secret.
const SECRET: &str = "^[!-~…]+$";

/// Makes the schema of a change; a member that is absent stays as it is.
pub(super) fn subscription_schema() -> Value {
    let seconds =
        |most: f64| json!({"type": ["number", "null"], "minimum": DURATION_MIN_S, "maximum": most});
    let pause = json!({"type": "number", "minimum": DURATION_MIN_S, "maximum": RETRY_PAUSE_MAX_S});
    json!({"type": "object", "properties": {
        "url": {"type": ["string", "null"], "format": "uri", "maxLength": URL_MAX_BYTES},
        "events": {
            "type": "array", "minItems": 1, "maxItems": EVENTS_MAX,
            "items": {"type": "string", "minLength": 1, "maxLength": PATTERN_MAX_BYTES},
        },
        "secret": {
            "type": ["string", "null"], "minLength": 1, "maxLength": SECRET_MAX_BYTES,
            "pattern": SECRET,
        },
        "is_active": {"type": ["boolean", "null"]},
        "description": {"type": ["string", "null"], "maxLength": DESCRIPTION_MAX_BYTES},
        "filter": {"type": ["string", "null"]},
        "transform": {"type": ["string", "null"]},
        "ordering": optional_choice(&DeliveryOrdering::NAMED),
        "concurrency": {"type": ["integer", "null"], "minimum": 1, "maximum": CONCURRENCY_MAX},
        "signing": {
            "type": ["array", "null"], "minItems": 1, "uniqueItems": true,
            "items": {"type": "string", "enum": names(&SigningStyle::NAMED)},
        },
        "headers": {
            "type": ["object", "null"], "maxProperties": HEADERS_MAX,
            "propertyNames": {"pattern": HEADER_NAME, "maxLength": HEADER_NAME_MAX_BYTES},
            "additionalProperties": {"type": "string", "maxLength": HEADER_VALUE_MAX_BYTES},
        },
        "rate_limit": {"type": ["integer", "null"], "minimum": 1, "maximum": RATE_LIMIT_MAX},
        "timeout_s": seconds(TIMEOUT_MAX_S),
        "retry_schedule_s": {"type": ["array", "null"], "maxItems": RETRIES_MAX, "items": pause},
        "on_exhausted": optional_choice(&ExhaustionPolicy::CHOICES),
        "signature_header": {
            "type": ["string", "null"], "pattern": HEADER_NAME, "maxLength": HEADER_NAME_MAX_BYTES,
        },
        "uid": {"type": ["string", "null"], "pattern": UID_PATTERN, "maxLength": UID_MAX_BYTES},
        "metadata": {
            "type": ["object", "null"], "maxProperties": METADATA_MAX,
            "propertyNames": {"minLength": 1, "maxLength": METADATA_NAME_MAX_BYTES},
            "additionalProperties": {"type": "string", "maxLength": METADATA_VALUE_MAX_BYTES},
        },
        "delivery": optional_choice(&DeliveryMode::NAMED),
    }})
}

/// Makes the schema of a new subscription.
pub(super) fn new_subscription_schema() -> Value {
    let mut schema = subscription_schema();
    schema["required"] = json!(["events"]);
    schema
}

/// Makes the schema of a request to rotate a secret.
pub(super) fn rotation_schema() -> Value {
    let hours_max = ROTATION_OVERLAP_MAX.as_secs() / 3_600;
    json!({"type": "object", "properties": {
        "overlap_h": {"type": ["number", "null"], "minimum": 0, "maximum": hours_max},
        "secret": {
            "type": ["string", "null"], "minLength": 1, "maxLength": SECRET_MAX_BYTES,
            "pattern": "^[!-~]+$",
        },
    }})
}

fn optional_choice<T>(named: &[(&'static str, T)]) -> Value {
    let mut names = names(named);
    names.push(Value::Null);
    json!({"type": ["string", "null"], "enum": names})
}

fn names<T>(named: &[(&'static str, T)]) -> Vec<Value> {
    named.iter().map(|(name, _)| json!(name)).collect()
}

#[cfg(test)]
mod tests {
    use super::super::input::{ROTATION_MEMBERS, SUBSCRIPTION_MEMBERS};
    use super::*;

    #[test]
    fn the_schemas_have_the_members_that_are_read() {
        for (schema, read) in [
            (subscription_schema(), &SUBSCRIPTION_MEMBERS[..]),
            (rotation_schema(), &ROTATION_MEMBERS[..]),
        ] {
            let described: Vec<_> = schema["properties"]
                .as_object()
                .expect("an object")
                .keys()
                .map(String::as_str)
                .collect();
            let mut expected = read.to_vec();
            expected.sort_unstable_by_key(|name| described.iter().position(|known| known == name));
            assert_eq!(described, expected);
        }
    }
}
