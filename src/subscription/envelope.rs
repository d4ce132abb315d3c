//! Standard body of a delivery, the same form for the events of all sources.
//!
//! ```json
//! {"event": "organisation.created", "timestamp": "2025-10-18T09:43:12.442Z", "user_id": 12,
//!  "data": {…}, "entity": {"kind": "organisation", "id": "51", "sequence": 1}, "late": false}
//! ```
//!
//! `user_id` and `data` are the bytes that the source sent. They are not parsed and written again,
//! so no number loses a digit.

use std::io::Write;
use std::str;

use serde_json::value::RawValue;

use crate::event::{PayloadShape, Record, catalogue, find_members};

/// Value in the body for a member that the event does not have.
const NULL: &str = "null";

/// Usual size of the body without its data, in bytes: an estimate for the first allocation.
const ENVELOPE_BYTES: usize = 256;

/// Parts of the body that come from the payload of the event, as JSON texts.
pub(super) struct EnvelopeParts<'a> {
    pub(super) user_id: &'a str,
    pub(super) data: &'a str,
}

/// Builds the standard body of a delivery of `record`: one JSON object, to which the node adds no
/// line breaks.
#[must_use]
pub fn encode_envelope(record: &Record) -> Vec<u8> {
    with_envelope_parts(record, |parts| {
        let mut body = Vec::with_capacity(parts.data.len() + ENVELOPE_BYTES);
        write_envelope(&mut body, record, parts)
            .expect("every name has a JSON form, and writing to a Vec cannot fail");
        body
    })
}

/// Calls `then` with the parts from the payload of `record`. A damaged or missing part is null.
pub(super) fn with_envelope_parts<T>(
    record: &Record,
    then: impl FnOnce(&EnvelopeParts<'_>) -> T,
) -> T {
    match record.shape {
        PayloadShape::Envelope => {
            let text = str::from_utf8(&record.payload).unwrap_or_default();
            let [data, user_id] = find_members(text, ["data", "user_id"]).unwrap_or_default();
            // Only the CRM defines `user_id`. In the events of other senders a member of that name
            // may mean something else.
            let user_id = user_id.filter(|_| record.source == catalogue::CRM_SOURCE);
            then(&EnvelopeParts {
                user_id: user_id.map_or(NULL, RawValue::get),
                data: data.map_or(NULL, RawValue::get),
            })
        }
        PayloadShape::Bare | PayloadShape::Form => {
            let data = record.payload_json();
            then(&EnvelopeParts {
                user_id: NULL,
                data: data.as_deref().map_or(NULL, RawValue::get),
            })
        }
    }
}

fn write_envelope(
    body: &mut Vec<u8>,
    record: &Record,
    parts: &EnvelopeParts<'_>,
) -> Result<(), serde_json::Error> {
    body.extend_from_slice(b"{\"event\":");
    serde_json::to_writer(&mut *body, &record.event_type)?;
    body.extend_from_slice(b",\"timestamp\":");
    serde_json::to_writer(&mut *body, &record.at)?;
    body.extend_from_slice(b",\"user_id\":");
    body.extend_from_slice(parts.user_id.as_bytes());
    body.extend_from_slice(b",\"data\":");
    body.extend_from_slice(parts.data.as_bytes());
    body.extend_from_slice(b",\"entity\":{\"kind\":");
    serde_json::to_writer(&mut *body, &record.entity.kind())?;
    body.extend_from_slice(b",\"id\":");
    serde_json::to_writer(&mut *body, record.entity.id())?;
    body.extend_from_slice(b",\"sequence\":");
    serde_json::to_writer(&mut *body, &record.sequence)?;
    write!(body, "}},\"late\":{}}}", record.late).map_err(serde_json::Error::io)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::event::{EntityKey, Kind, Timestamp};

    /// The example of the CRM's guide, published as its publisher would.
    fn created() -> Record {
        let payload = r#"{"event": "organisation.created", "user_id": 12, "timestamp": "2025-10-18T09:43:12.442Z",
            "data": {"organisation_id": 51, "name": "ACME Capital", "category": "Institution", "country_code": "FR"}}"#;
        let at = Timestamp::parse("2025-10-18T09:43:12.442Z").expect("a time");
        let entity = EntityKey::try_new(Kind::Organisation, "51").expect("an id");
        let record = Record::new("crm", entity, "organisation.created", at);
        Record {
            payload: payload.into(),
            sequence: Some(1),
            ..record
        }
    }

    fn text(record: &Record) -> String {
        String::from_utf8(encode_envelope(record)).expect("UTF-8")
    }

    #[test]
    fn the_first_four_members_are_those_of_the_crms_guide() {
        let body: Value = serde_json::from_str(&text(&created())).expect("JSON");
        let expected = json!({
            "event": "organisation.created",
            "timestamp": "2025-10-18T09:43:12.442Z",
            "user_id": 12,
            "data": {"organisation_id": 51, "name": "ACME Capital", "category": "Institution", "country_code": "FR"},
            "entity": {"kind": "organisation", "id": "51", "sequence": 1},
            "late": false,
        });
        assert_eq!(body, expected);
        let names: Vec<_> = body
            .as_object()
            .expect("an object")
            .keys()
            .map(String::as_str)
            .collect();
        assert_eq!(
            names,
            ["event", "timestamp", "user_id", "data", "entity", "late"]
        );
    }

    #[test]
    fn data_and_user_keep_every_byte() {
        let payload = r#"{"user_id": "u\u002d1", "data": {"a":  1.50, "b": 12345678901234567890.10, "b": 1e400}}"#;
        let record = Record {
            payload: payload.into(),
            late: true,
            ..created()
        };
        let expected = concat!(
            r#"{"event":"organisation.created","timestamp":"2025-10-18T09:43:12.442Z","user_id":"u\u002d1","#,
            r#""data":{"a":  1.50, "b": 12345678901234567890.10, "b": 1e400},"#,
            r#""entity":{"kind":"organisation","id":"51","sequence":1},"late":true}"#
        );
        assert_eq!(text(&record), expected);
    }

    #[test]
    fn data_is_the_whole_payload_where_there_is_nothing_around_it() {
        let of = |shape, payload: &'static str| {
            let record = Record {
                shape,
                payload: payload.into(),
                ..created()
            };
            let body: Value = serde_json::from_str(&text(&record)).expect("JSON");
            (body["user_id"].clone(), body["data"].clone())
        };
        let whole = json!({"data": 1, "user_id": 2});
        assert_eq!(
            of(PayloadShape::Bare, r#"{"data": 1, "user_id": 2}"#),
            (Value::Null, whole)
        );
        assert_eq!(
            of(PayloadShape::Form, "a=1&b=%C3%A4"),
            (Value::Null, json!({"a": "1", "b": "ä"}))
        );
        for (shape, payload) in [
            (PayloadShape::Envelope, "{}"),
            (PayloadShape::Envelope, ""),
            (PayloadShape::Bare, "no JSON"),
        ] {
            assert_eq!(of(shape, payload), (Value::Null, Value::Null), "{payload}");
        }
    }

    #[test]
    fn only_the_bus_names_a_user() {
        let record = Record {
            source: "support".into(),
            ..created()
        };
        assert!(text(&record).contains(r#""user_id":null,"data":{"organisation_id""#));
    }

    #[test]
    fn names_and_ids_are_escaped() {
        let entity = EntityKey::try_new(Kind::Ticket, r#"a"b\c"#).expect("an id");
        let record = Record {
            entity,
            event_type: "shop.\"x\"".into(),
            ..created()
        };
        let body: Value = serde_json::from_str(&text(&record)).expect("JSON");
        assert_eq!(
            (&body["event"], &body["entity"]["id"]),
            (&json!("shop.\"x\""), &json!(r#"a"b\c"#))
        );
    }
}
