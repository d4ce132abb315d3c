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

/// One of them, with its value; without one it keeps the value that it has when the change is made.
pub(super) type Given = (String, Option<Secret>);

/// Reads them from `raw`. A value that is the mask, which is what answers show, stands for the one there is; `known` has to
/// have one.
pub(super) fn read(raw: &RawValue, known: Option<&Subscription>, faults: &mut Faults) -> Vec<Given> {
    let Ok(given) = serde_json::from_str::<BTreeMap<String, &RawValue>>(raw.get()) else {
        faults.add(NAME, "must be an object of names and values");
        return Vec::new();
    };
    if given.len() > HEADERS_MAX {
        faults.add(NAME, format!("must have at most {HEADERS_MAX} members, not {}", given.len()));
        return Vec::new();
    }
    let mut headers: Vec<Given> = Vec::with_capacity(given.len());
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

/// What becomes of the headers that there `are` when `given` takes their place. What was to be kept and has gone since the
/// request was read stays gone.
pub(super) fn replace(are: &[(String, Secret)], given: Vec<Given>) -> Vec<(String, Secret)> {
    let value = |name: &str, value: Option<Secret>| value.or_else(|| of(are, name).cloned());
    given.into_iter().filter_map(|(name, given)| value(&name, given).map(|value| (name, value))).collect()
}

fn of<'a>(headers: &'a [(String, Secret)], name: &str) -> Option<&'a Secret> {
    headers.iter().find(|(other, _)| other.eq_ignore_ascii_case(name)).map(|(_, value)| value)
}

/// The value to be set, or none to keep the one there is; nothing at all if it is wrong.
fn value(name: &str, raw: &RawValue, known: Option<&Subscription>, faults: &mut Faults) -> Option<Option<Secret>> {
    let given = serde_json::from_str::<String>(raw.get()).ok().map(Secret::new);
    if let Some(given) = given {
        if given.expose() == MASK {
            if known.is_some_and(|known| of(&known.headers, name).is_some()) {
                return Some(None);
            }
        } else if is_header_value(given.expose()) {
            return Some(Some(given));
        }
    }
    let problem = format!("must be text of at most {HEADER_VALUE_MAX_BYTES} bytes of printable ASCII");
    faults.add(field(name), problem);
    None
}

fn field(name: &str) -> String {
    format!("{NAME}.{name}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::subscription::sample;

    fn given(json: &str, known: &Subscription) -> Vec<Given> {
        let (raw, mut faults) = (serde_json::from_str(json).expect("json"), Faults::default());
        let given = read(raw, Some(known), &mut faults);
        faults.finish(given).expect("no faults")
    }

    /// One of two requests at once brought the value back that the other had replaced.
    #[test]
    fn a_masked_value_is_the_one_there_is_when_the_change_is_made() {
        let own = |name: &str, value: &str| (name.to_owned(), Secret::new(value));
        let known = Subscription { headers: vec![own("X-Key", "old"), own("X-Gone", "1")], ..sample(1, &["*"]) };
        let masked = given(r#"{"x-key": "…", "X-Gone": "…", "X-New": "2"}"#, &known);
        let other = replace(&known.headers, given(r#"{"X-Key": "new"}"#, &known));
        let made = replace(&other, masked);
        let shown: Vec<_> = made.iter().map(|(name, value)| (name.as_str(), value.expose())).collect();
        assert_eq!(shown, [("X-New", "2"), ("x-key", "new")]);
    }
}
