//! The headers that every delivery of a subscription carries, as a request gives them: an object of names and values.

use std::collections::BTreeMap;

use serde_json::value::RawValue;

use super::super::fields::Faults;
use crate::config::Secret;
use crate::exchange::MASK;
use crate::subscription::Subscription;
use crate::subscription::limits::{
    HEADER_NAME_MAX_BYTES, HEADER_VALUE_MAX_BYTES, HEADERS_MAX, is_header_name, is_header_value, is_refused_header,
};

const NAME: &str = "headers";

/// Reads them from `raw`. A value that is the mask, which is what answers show, stands for the one that `known` has.
pub(super) fn read(raw: &RawValue, known: Option<&Subscription>, faults: &mut Faults) -> Vec<(String, Secret)> {
    let Ok(given) = serde_json::from_str::<BTreeMap<String, &RawValue>>(raw.get()) else {
        faults.add(NAME, "must be an object of names and values");
        return Vec::new();
    };
    if given.len() > HEADERS_MAX {
        faults.add(NAME, format!("must have at most {HEADERS_MAX} members, not {}", given.len()));
        return Vec::new();
    }
    let mut headers: Vec<(String, Secret)> = Vec::with_capacity(given.len());
    for (name, value) in given {
        if !is_header_name(&name) {
            // The name is not repeated: it may be anything.
            faults.add(NAME, format!("must have names of 1 to {HEADER_NAME_MAX_BYTES} letters, digits and -"));
        } else if is_refused_header(&name) {
            faults.add(field(&name), "cannot be set: deliveries have it anyway, or it is none of theirs");
        } else if headers.iter().any(|(other, _)| other.eq_ignore_ascii_case(&name)) {
            faults.add(field(&name), "must be given once, however it is spelt");
        } else if let Some(value) = self::value(&name, value, known, faults) {
            headers.push((name, value));
        }
    }
    headers
}

fn value(name: &str, raw: &RawValue, known: Option<&Subscription>, faults: &mut Faults) -> Option<Secret> {
    let given = serde_json::from_str::<String>(raw.get()).ok().map(Secret::new);
    if let Some(given) = given {
        if given.expose() == MASK {
            let kept = known.and_then(|known| known.headers.iter().find(|(other, _)| other.eq_ignore_ascii_case(name)));
            if let Some((_, value)) = kept {
                return Some(value.clone());
            }
        } else if is_header_value(given.expose()) {
            return Some(given);
        }
    }
    let problem = format!("must be text of at most {HEADER_VALUE_MAX_BYTES} bytes of printable ASCII");
    faults.add(field(name), problem);
    None
}

fn field(name: &str) -> String {
    format!("{NAME}.{name}")
}
