//! Views of a record's payload for readers and subscribers, independent of its shape.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::str;

use serde::Serialize;
use serde_json::value::RawValue;

use super::json_members::find_members;
use super::record::{PayloadShape, Record};

/// Values of one form field; most fields occur once.
#[derive(Serialize)]
#[serde(untagged)]
enum FormField<'a> {
    One(Cow<'a, str>),
    Many(Vec<Cow<'a, str>>),
}

/// Converts a form (`application/x-www-form-urlencoded`, WHATWG URL standard, 5.1) into the text of
/// a JSON object. Each field becomes a string; a field that occurs several times becomes a list of
/// strings.
#[must_use]
pub fn form_to_json(form: &[u8]) -> String {
    fields_to_json(form_urlencoded::parse(form))
}

/// Converts the names and values of a form into the text of a JSON object, as [`form_to_json`] does.
#[must_use]
pub fn fields_to_json<'a>(form: impl IntoIterator<Item = (Cow<'a, str>, Cow<'a, str>)>) -> String {
    let mut fields: BTreeMap<Cow<'_, str>, FormField<'_>> = BTreeMap::new();
    for (name, value) in form {
        match fields.get_mut(&name) {
            None => drop(fields.insert(name, FormField::One(value))),
            Some(FormField::Many(values)) => values.push(value),
            Some(field) => {
                let first = std::mem::replace(field, FormField::Many(Vec::new()));
                if let (FormField::One(first), FormField::Many(values)) = (first, field) {
                    values.extend([first, value]);
                }
            }
        }
    }
    serde_json::to_string(&fields).expect("strings have a JSON text")
}

impl Record {
    /// Returns the payload as JSON; `None` if it is not JSON, which happens only in a damaged
    /// store.
    #[must_use]
    pub fn payload_json(&self) -> Option<Cow<'_, RawValue>> {
        match self.shape {
            PayloadShape::Envelope | PayloadShape::Bare => serde_json::from_slice(&self.payload)
                .ok()
                .map(Cow::Borrowed),
            PayloadShape::Form => RawValue::from_string(form_to_json(&self.payload))
                .ok()
                .map(Cow::Owned),
        }
    }

    /// Returns the event's data; `None` if the event has none.
    #[must_use]
    pub fn data(&self) -> Option<Cow<'_, RawValue>> {
        match self.shape {
            PayloadShape::Envelope => self.envelope_member("data").map(Cow::Borrowed),
            PayloadShape::Bare | PayloadShape::Form => self.payload_json(),
        }
    }

    /// Returns a member of the envelope by name; `None` if there is no such member or no envelope.
    #[must_use]
    pub fn envelope_member(&self, name: &'static str) -> Option<&RawValue> {
        if self.shape != PayloadShape::Envelope {
            return None;
        }
        let [member] = find_members(str::from_utf8(&self.payload).ok()?, [name]).ok()?;
        member
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{EntityKey, Kind, Timestamp};

    fn record(shape: PayloadShape, payload: &'static str) -> Record {
        let key = EntityKey::from_number(Kind::Ticket, 1);
        Record {
            shape,
            payload: payload.into(),
            ..Record::new("test", key, "x.y", Timestamp::from_micros(0))
        }
    }

    #[test]
    fn data_is_found_in_every_shape() {
        let data = |shape, payload| {
            record(shape, payload)
                .data()
                .map(|data| data.get().to_owned())
        };
        assert_eq!(
            data(
                PayloadShape::Envelope,
                r#"{"event": "a", "data": {"b": 1.50}}"#
            )
            .as_deref(),
            Some(r#"{"b": 1.50}"#)
        );
        assert_eq!(data(PayloadShape::Envelope, "{}"), None);
        assert_eq!(
            data(PayloadShape::Bare, r#"[{"b": 1}]"#).as_deref(),
            Some(r#"[{"b": 1}]"#)
        );
        assert_eq!(
            data(PayloadShape::Form, "b=1+2&a=%C3%A4&b=3").as_deref(),
            Some(r#"{"a":"ä","b":["1 2","3"]}"#)
        );
        assert_eq!(data(PayloadShape::Bare, "no JSON"), None);
    }

    #[test]
    fn a_member_is_found_in_an_envelope_only() {
        assert_eq!(
            record(PayloadShape::Envelope, r#"{"user_id": 12}"#)
                .envelope_member("user_id")
                .map(RawValue::get),
            Some("12")
        );
        assert!(
            record(PayloadShape::Bare, r#"{"user_id": 12}"#)
                .envelope_member("user_id")
                .is_none()
        );
    }
}
