//! Parses a delivery's event, entity and sequence from a request. The content is untrusted and may
//! not even be printable.

use serde::Deserialize;
use serde_json::Value;

use crate::cli::terminal_text::sanitize_text;
use crate::provider::RequestView;

/// Parts of a delivery that could be read.
#[derive(Debug, Default)]
pub(super) struct ListenerDelivery {
    pub(super) id: Option<String>,
    pub(super) event: Option<String>,
    /// Kind and id of the entity; `None` if a transform left them out.
    pub(super) entity: Option<(String, String)>,
    pub(super) sequence: Option<u64>,
    pub(super) is_late: bool,
    /// True if a replay or retry job sent the delivery, out of the entity's order.
    pub(super) is_again: bool,
}

/// Members of the body that are read, of any JSON type.
#[derive(Default, Deserialize)]
#[serde(default)]
struct ListenerDeliveryBody {
    event: Value,
    entity: Value,
    late: Value,
}

impl ListenerDelivery {
    pub(super) fn from_request(request: &RequestView<'_>) -> Self {
        // A body without a JSON object has no members; headers may still name the delivery.
        let body: ListenerDeliveryBody = serde_json::from_slice(request.body).unwrap_or_default();
        let text = |value: &Value| value.as_str().map(sanitize_text);
        let header = |name| request.header(name);
        let sequence = header("x-entity-sequence").and_then(|text| text.parse().ok());
        Self {
            id: header("webhook-id").map(sanitize_text),
            event: header("x-webhook-event")
                .map(sanitize_text)
                .or_else(|| text(&body.event)),
            entity: text(&body.entity["kind"]).zip(text(&body.entity["id"])),
            sequence: sequence.or_else(|| body.entity["sequence"].as_u64()),
            is_late: body.late == Value::Bool(true),
            is_again: header("x-hookyard-replay").is_some(),
        }
    }

    /// Returns the entity as `kind/id`, with the sequence, if both are known.
    pub(super) fn entity_and_sequence(&self) -> Option<(String, u64)> {
        let (kind, id) = self.entity.as_ref()?;
        Some((format!("{kind}/{id}"), self.sequence?))
    }

    /// Returns a name that identifies the delivery and is the same in every run.
    pub(super) fn stable_name(&self) -> String {
        let place = self
            .entity_and_sequence()
            .map(|(entity, sequence)| format!("{entity}#{sequence}"));
        place.or_else(|| self.id.clone()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::damaged_samples::{CHEAP, damage_cases, damaged_text};

    fn read(headers: &[(&'static str, &str)], body: &str) -> ListenerDelivery {
        let headers = headers
            .iter()
            .map(|(name, value)| (*name, value.as_bytes()))
            .collect();
        ListenerDelivery::from_request(&RequestView {
            method: "POST",
            url: "http://localhost/",
            headers,
            body: body.as_bytes(),
        })
    }

    #[test]
    fn a_delivery_names_its_entity_and_sequence() {
        let body = r#"{"event": "a.b", "entity": {"kind": "ticket", "id": "T-1", "sequence": 3}, "late": true}"#;
        let delivery = read(&[("webhook-id", "evt_1"), ("x-entity-sequence", "3")], body);
        assert_eq!(
            delivery.entity_and_sequence(),
            Some(("ticket/T-1".to_owned(), 3))
        );
        assert_eq!(
            (delivery.event.as_deref(), delivery.is_late),
            (Some("a.b"), true)
        );
        assert_eq!(delivery.stable_name(), "ticket/T-1#3");
    }

    #[test]
    fn a_transformed_delivery_names_less_and_any_other_body_nothing() {
        let transformed = read(
            &[
                ("webhook-id", "evt_1"),
                ("x-entity-sequence", "3"),
                ("x-webhook-event", "a.b"),
            ],
            "[1]",
        );
        assert_eq!(
            (
                transformed.entity_and_sequence(),
                transformed.sequence,
                transformed.stable_name().as_str()
            ),
            (None, Some(3), "evt_1")
        );
        assert_eq!(transformed.event.as_deref(), Some("a.b"));
        for body in [
            "",
            "null",
            "nonsense",
            r#"{"entity": 7, "event": {}}"#,
            r#"{"entity": {"kind": 1, "id": "x"}}"#,
        ] {
            let delivery = read(&[], body);
            assert!(
                delivery.entity_and_sequence().is_none() && delivery.event.is_none(),
                "{body}"
            );
        }
    }

    #[test]
    fn control_characters_are_not_shown() {
        let long = "x".repeat(300);
        let delivery = read(&[("webhook-id", &long)], r#"{"event": "a\u001b[2J\nb"}"#);
        assert_eq!(delivery.event.as_deref(), Some("a\u{fffd}[2J\u{fffd}b"));
        assert_eq!(delivery.id.map(|id| id.chars().count()), Some(257));
    }

    proptest! {
        #![proptest_config(damage_cases(CHEAP))]


        #[test]
        fn any_delivery_is_read_or_refused(
            body in damaged_text(&[r#"{"event": "a.b", "entity": {"kind": "ticket", "id": "T-1", "sequence": 3}, "late": true}"#]),
            header in damaged_text(&["18446744073709551615", "evt_3f9a2c41_1042"]),
        ) {
            let headers = [("webhook-id", &*header), ("x-entity-sequence", &header), ("x-webhook-event", &header)];
            let _ = read(&headers, &body).stable_name();
        }
    }
}
