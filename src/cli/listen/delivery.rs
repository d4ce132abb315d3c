//! What a request says of itself: which event of whom it delivers. Nothing of it is believed, least
//! of all that it is printable.

use serde::Deserialize;
use serde_json::Value;

use crate::event::ID_MAX_BYTES;
use crate::provider::RequestView;

/// The most characters of a name that are looked at: as many as the id of an entity can have.
const SHOWN_MAX: usize = ID_MAX_BYTES;

/// A delivery, as far as it can be read.
#[derive(Debug, Default)]
pub(super) struct ListenerDelivery {
    pub(super) id: Option<String>,
    pub(super) event: Option<String>,
    /// Kind and id; none where a transform left them out.
    pub(super) entity: Option<(String, String)>,
    pub(super) sequence: Option<u64>,
    pub(super) is_late: bool,
    /// Whether a job of the node's brings it again, out of its order.
    pub(super) is_again: bool,
}

/// The members of a body that are looked at, whatever they are.
#[derive(Default, Deserialize)]
#[serde(default)]
struct ListenerDeliveryBody {
    event: Value,
    entity: Value,
    late: Value,
}

impl ListenerDelivery {
    pub(super) fn from_request(request: &RequestView<'_>) -> Self {
        // A body that is no JSON, or no object, says nothing.
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

    /// Whose it is and its number there, where both are known.
    pub(super) fn entity_and_sequence(&self) -> Option<(String, u64)> {
        let (kind, id) = self.entity.as_ref()?;
        Some((format!("{kind}/{id}"), self.sequence?))
    }

    /// What tells it from others, and is the same in every run.
    pub(super) fn stable_name(&self) -> String {
        let place = self
            .entity_and_sequence()
            .map(|(entity, sequence)| format!("{entity}#{sequence}"));
        place.or_else(|| self.id.clone()).unwrap_or_default()
    }
}

/// `text`, short enough for a line, and without characters that a terminal would obey.
fn sanitize_text(text: &str) -> String {
    let mut shown: String = text
        .chars()
        .take(SHOWN_MAX)
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect();
    if text.chars().nth(SHOWN_MAX).is_some() {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn a_delivery_says_whose_it_is_and_which() {
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
    fn a_transformed_one_says_less_and_anything_else_nothing() {
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
    fn what_a_terminal_would_obey_is_not_shown() {
        let long = "x".repeat(300);
        let delivery = read(&[("webhook-id", &long)], r#"{"event": "a\u001b[2J\nb"}"#);
        assert_eq!(delivery.event.as_deref(), Some("a\u{fffd}[2J\u{fffd}b"));
        assert_eq!(delivery.id.map(|id| id.chars().count()), Some(257));
    }
}
