//! Data of an event as a JSON object whose members keep their spelling, so an amount keeps its
//! digits.

use std::collections::BTreeMap;
use std::str::FromStr;

use serde::Serialize;
use serde_json::Value;
use serde_json::value::{RawValue, to_raw_value};

/// JSON object whose members keep their spelling.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(transparent)]
pub(super) struct JsonObject(BTreeMap<String, Box<RawValue>>);

impl FromStr for JsonObject {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // The error's text ends with line and column.
        let whole: &RawValue =
            serde_json::from_str(text).map_err(|error| format!("is not JSON: {error}"))?;
        if !whole.get().starts_with('{') {
            return Err("expected a JSON object".to_owned());
        }
        serde_json::from_str(text)
            .map(Self)
            .map_err(|error| format!("has invalid member names: {error}"))
    }
}

impl JsonObject {
    /// Returns the member `name`; `None` if it is missing or null.
    pub(super) fn get(&self, name: &str) -> Option<Value> {
        let value: Value = serde_json::from_str(self.0.get(name)?.get()).ok()?;
        (!value.is_null()).then_some(value)
    }

    /// Sets the member `name` to `value`.
    pub(super) fn set(&mut self, name: &str, value: impl Into<Value>) {
        // Serializing a JSON value cannot fail.
        if let Ok(raw) = to_raw_value(&value.into()) {
            self.0.insert(name.to_owned(), raw);
        }
    }

    /// Sets the member `name` to `given`. Without `given`, sets it to `default` if it is missing.
    pub(super) fn fill(
        &mut self,
        name: &str,
        given: Option<Value>,
        default: impl FnOnce() -> Value,
    ) {
        match given {
            Some(value) => self.set(name, value),
            None if self.get(name).is_none() => self.set(name, default()),
            None => {}
        }
    }

    pub(super) fn remove(&mut self, name: &str) {
        self.0.remove(name);
    }
}

/// Converts an id to its JSON form: a number if `text` is a plain one, else a string.
pub(super) fn parse_id(text: &str) -> Value {
    let number = text
        .parse::<u64>()
        .ok()
        .filter(|number| number.to_string() == text);
    number.map_or_else(|| text.into(), Value::from)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::damaged_samples::{CHEAP, damage_cases, damaged_text};

    #[test]
    fn untouched_members_keep_their_spelling() {
        let mut data: JsonObject =
            r#"{"b": 50000.00, "a": {"x":  1e2}}"#.parse().expect("an object");
        data.fill("c", None, || 1.into());
        data.fill("b", None, || 2.into());
        assert_eq!(
            serde_json::to_string(&data).expect("JSON"),
            r#"{"a":{"x":  1e2},"b":50000.00,"c":1}"#
        );
        data.fill("b", Some("x".into()), || 2.into());
        assert_eq!(data.get("b"), Some("x".into()));
    }

    #[test]
    fn only_a_plain_number_becomes_a_numeric_id() {
        for (text, is_number) in [
            ("51", true),
            ("051", false),
            ("A-1", false),
            ("-1", false),
            ("1.0", false),
        ] {
            assert_eq!(parse_id(text).is_number(), is_number, "{text}");
        }
    }

    proptest! {
        #![proptest_config(damage_cases(CHEAP))]


        #[test]
        fn any_data_of_an_event_is_read_or_refused(text in damaged_text(&[r#"{"b": 50000.00, "a": {"x":  1e2}, "id": "7"}"#])) {
            if let Ok(mut data) = text.parse::<JsonObject>() {
                data.fill("c", None, || parse_id(&text));
            }
        }
    }
}
