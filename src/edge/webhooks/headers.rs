//! Custom headers of a subscription's deliveries, read from the member `headers` of a request.

use std::collections::BTreeMap;

use serde_json::value::RawValue;

use super::super::fields::FieldErrors;
use crate::call_log::REDACTED;
use crate::config::Secret;
use crate::subscription::Subscription;
use crate::subscription::limits::{
    HEADER_NAME_MAX_BYTES, HEADER_VALUE_MAX_BYTES, HEADERS_MAX, is_reserved_header,
    is_valid_header_name, is_valid_header_value,
};

const NAME: &str = "headers";

/// Header name with its new value; `None` keeps the value stored when the change is made.
pub(super) type HeaderChange = (String, Option<Secret>);

/// Reads the headers from `raw`. Answers mask values, so a masked value in a request keeps the
/// stored value; the subscription `known` must have the header.
pub(super) fn read_headers(
    raw: &RawValue,
    known: Option<&Subscription>,
    errors: &mut FieldErrors,
) -> Vec<HeaderChange> {
    let Ok(members) = serde_json::from_str::<BTreeMap<String, &RawValue>>(raw.get()) else {
        errors.add(NAME, "must be an object with names and values of headers");
        return Vec::new();
    };
    if members.len() > HEADERS_MAX {
        errors.add(
            NAME,
            format!(
                "must have at most {HEADERS_MAX} members, not {}",
                members.len()
            ),
        );
        return Vec::new();
    }
    let mut headers: Vec<HeaderChange> = Vec::with_capacity(members.len());
    for (name, value) in members {
        if !is_valid_header_name(&name) {
            // The name may contain anything, so the error does not repeat it.
            errors.add(
                NAME,
                format!("must have names of 1 to {HEADER_NAME_MAX_BYTES} letters, digits and -"),
            );
        } else if is_reserved_header(&name) {
            errors.add(header_field_path(&name), "is reserved and cannot be set");
        } else if headers
            .iter()
            .any(|(other, _)| other.eq_ignore_ascii_case(&name))
        {
            errors.add(
                header_field_path(&name),
                "is given more than once; header names ignore case",
            );
        } else if let Some(value) = read_header_value(&name, value, known, errors) {
            headers.push((name, value));
        }
    }
    headers
}

/// Replaces the `stored` headers by `changes`. A header whose value was to be kept stays away if it
/// was removed since the request was read.
pub(super) fn replace_headers(
    stored: &[(String, Secret)],
    changes: Vec<HeaderChange>,
) -> Vec<(String, Secret)> {
    let new_or_stored =
        |name: &str, value: Option<Secret>| value.or_else(|| find_header(stored, name).cloned());
    changes
        .into_iter()
        .filter_map(|(name, value)| new_or_stored(&name, value).map(|value| (name, value)))
        .collect()
}

fn find_header<'a>(headers: &'a [(String, Secret)], name: &str) -> Option<&'a Secret> {
    headers
        .iter()
        .find(|(other, _)| other.eq_ignore_ascii_case(name))
        .map(|(_, value)| value)
}

/// Reads the value of the header `name`: `Some(None)` keeps the stored value, and `None` means that
/// an error was recorded.
fn read_header_value(
    name: &str,
    raw: &RawValue,
    known: Option<&Subscription>,
    errors: &mut FieldErrors,
) -> Option<Option<Secret>> {
    let value = serde_json::from_str::<String>(raw.get())
        .ok()
        .map(Secret::new);
    if let Some(value) = value {
        if value.expose() == REDACTED {
            if known.is_some_and(|known| find_header(&known.headers, name).is_some()) {
                return Some(None);
            }
        } else if is_valid_header_value(value.expose()) {
            return Some(Some(value));
        }
    }

    let problem =
        format!("must be text of at most {HEADER_VALUE_MAX_BYTES} bytes of printable ASCII");
    errors.add(header_field_path(name), problem);
    None
}

fn header_field_path(name: &str) -> String {
    format!("{NAME}.{name}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::subscription::sample_subscription;

    fn read_changes(json: &str, known: &Subscription) -> Vec<HeaderChange> {
        let (raw, mut errors) = (
            serde_json::from_str(json).expect("json"),
            FieldErrors::default(),
        );
        let changes = read_headers(raw, Some(known), &mut errors);
        errors.finish(changes).expect("no errors")
    }

    /// Two requests at once: the second restored the value that the first had replaced.
    #[test]
    fn a_masked_value_is_the_one_there_is_when_the_change_is_made() {
        let header = |name: &str, value: &str| (name.to_owned(), Secret::new(value));
        let known = Subscription {
            headers: vec![header("X-Key", "old"), header("X-Gone", "1")],
            ..sample_subscription(1, &["*"])
        };
        let masked = read_changes(r#"{"x-key": "…", "X-Gone": "…", "X-New": "2"}"#, &known);
        let other = replace_headers(&known.headers, read_changes(r#"{"X-Key": "new"}"#, &known));
        let replaced = replace_headers(&other, masked);
        let shown: Vec<_> = replaced
            .iter()
            .map(|(name, value)| (name.as_str(), value.expose()))
            .collect();
        assert_eq!(shown, [("X-New", "2"), ("x-key", "new")]);
    }
}
