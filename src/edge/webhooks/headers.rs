//! The headers that every delivery of a subscription carries, as a request gives them: an object of
//! names and values.

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

/// One of them, with its value; without one it keeps the value that it has when the change is made.
pub(super) type HeaderChange = (String, Option<Secret>);

/// Reads them from `raw`. A value that is the mask, which is what answers show, stands for the one
/// there is; `known` has to have one.
pub(super) fn read_headers(
    raw: &RawValue,
    known: Option<&Subscription>,
    faults: &mut FieldErrors,
) -> Vec<HeaderChange> {
    let Ok(given) = serde_json::from_str::<BTreeMap<String, &RawValue>>(raw.get()) else {
        faults.add(NAME, "must be an object of names and values");
        return Vec::new();
    };
    if given.len() > HEADERS_MAX {
        faults.add(
            NAME,
            format!(
                "must have at most {HEADERS_MAX} members, not {}",
                given.len()
            ),
        );
        return Vec::new();
    }
    let mut headers: Vec<HeaderChange> = Vec::with_capacity(given.len());
    for (name, value) in given {
        if !is_valid_header_name(&name) {
            // The name is not repeated: it may be anything.
            faults.add(
                NAME,
                format!("must have names of 1 to {HEADER_NAME_MAX_BYTES} letters, digits and -"),
            );
        } else if is_reserved_header(&name) {
            faults.add(
                header_field_path(&name),
                "cannot be set: deliveries have it anyway, or it is none of theirs",
            );
        } else if headers
            .iter()
            .any(|(other, _)| other.eq_ignore_ascii_case(&name))
        {
            faults.add(
                header_field_path(&name),
                "must be given once, however it is spelt",
            );
        } else if let Some(value) = self::read_header_value(&name, value, known, faults) {
            headers.push((name, value));
        }
    }
    headers
}

/// What becomes of the headers that there `are` when `given` takes their place. What was to be kept
/// and has gone since the request was read stays gone.
pub(super) fn replace_headers(
    are: &[(String, Secret)],
    given: Vec<HeaderChange>,
) -> Vec<(String, Secret)> {
    let value =
        |name: &str, value: Option<Secret>| value.or_else(|| find_header(are, name).cloned());
    given
        .into_iter()
        .filter_map(|(name, given)| value(&name, given).map(|value| (name, value)))
        .collect()
}

fn find_header<'a>(headers: &'a [(String, Secret)], name: &str) -> Option<&'a Secret> {
    headers
        .iter()
        .find(|(other, _)| other.eq_ignore_ascii_case(name))
        .map(|(_, value)| value)
}

/// The value to be set, or none to keep the one there is; nothing at all if it is wrong.
fn read_header_value(
    name: &str,
    raw: &RawValue,
    known: Option<&Subscription>,
    faults: &mut FieldErrors,
) -> Option<Option<Secret>> {
    let given = serde_json::from_str::<String>(raw.get())
        .ok()
        .map(Secret::new);
    if let Some(given) = given {
        if given.expose() == REDACTED {
            if known.is_some_and(|known| find_header(&known.headers, name).is_some()) {
                return Some(None);
            }
        } else if is_valid_header_value(given.expose()) {
            return Some(Some(given));
        }
    }
    let problem =
        format!("must be text of at most {HEADER_VALUE_MAX_BYTES} bytes of printable ASCII");
    faults.add(header_field_path(name), problem);
    None
}

fn header_field_path(name: &str) -> String {
    format!("{NAME}.{name}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::subscription::sample_subscription;

    fn read_admin_body(json: &str, known: &Subscription) -> Vec<HeaderChange> {
        let (raw, mut faults) = (
            serde_json::from_str(json).expect("json"),
            FieldErrors::default(),
        );
        let given = read_headers(raw, Some(known), &mut faults);
        faults.finish(given).expect("no faults")
    }

    /// One of two requests at once brought the value back that the other had replaced.
    #[test]
    fn a_masked_value_is_the_one_there_is_when_the_change_is_made() {
        let own = |name: &str, value: &str| (name.to_owned(), Secret::new(value));
        let known = Subscription {
            headers: vec![own("X-Key", "old"), own("X-Gone", "1")],
            ..sample_subscription(1, &["*"])
        };
        let masked = read_admin_body(r#"{"x-key": "…", "X-Gone": "…", "X-New": "2"}"#, &known);
        let other = replace_headers(
            &known.headers,
            read_admin_body(r#"{"X-Key": "new"}"#, &known),
        );
        let made = replace_headers(&other, masked);
        let shown: Vec<_> = made
            .iter()
            .map(|(name, value)| (name.as_str(), value.expose()))
            .collect();
        assert_eq!(shown, [("X-New", "2"), ("x-key", "new")]);
    }
}
