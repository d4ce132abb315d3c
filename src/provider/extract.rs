//! What Hookyard wants to know of every event, found where the source's fields say.

use super::body::RequestDocument;
use super::locator::{FieldLocator, FieldLookupError};
use super::moment;
use super::request::RequestView;
use crate::event::{ID_MAX_BYTES, Timestamp, check_id};

/// The longest name of an event.
const NAME_MAX_BYTES: usize = 128;

/// Where the fields of a source's requests stand.
#[derive(Clone, Debug)]
pub struct FieldLocators {
    /// The id of the entity that an event is about.
    pub entity: FieldLocator,
    /// The event's name.
    pub event: FieldLocator,
    /// What tells an event from every other; without one, no event is a duplicate.
    pub idempotency_key: Option<FieldLocator>,
    /// When it happened.
    pub occurred_at: Option<FieldLocator>,
    /// Whether an event without that time is wrong. A preset's own place is only tried: not every
    /// event has it.
    pub needs_time: bool,
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExtractedFields {
    /// The entity's id.
    pub entity: String,
    /// The event's name, as its sender spells it.
    pub event: String,
    /// The idempotency key.
    pub idempotency_key: Option<String>,
    /// When it happened.
    pub occurred_at: Option<Timestamp>,
}

/// A field that was not found, or cannot be what it is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExtractionError {
    /// Its name in the configuration.
    pub field: &'static str,
    /// What is wrong, as the end of a sentence that begins with the name. Repeats nothing of what
    /// was sent.
    pub problem: String,
}

impl FieldLocators {
    /// Finds every field.
    ///
    /// # Errors
    /// All that were not found, in the order of the fields; never empty.
    pub fn extract(
        &self,
        request: &RequestView<'_>,
        document: &RequestDocument<'_>,
    ) -> Result<ExtractedFields, Vec<ExtractionError>> {
        let mut lost = Vec::new();
        let mut id = |field, locator: &FieldLocator| {
            let found = locator
                .find_text(request, document)
                .map_err(|missed| describe_lookup_error(missed, locator));
            let found = found.and_then(|text| {
                check_id(&text)
                    .map(|()| text)
                    .map_err(|_| not_an_id(locator))
            });
            found
                .map_err(|problem| lost.push(ExtractionError { field, problem }))
                .ok()
        };
        let entity = id("entity", &self.entity);
        let event = id("event", &self.event);
        let idempotency_key = self
            .idempotency_key
            .as_ref()
            .and_then(|locator| id("idempotency_key", locator));
        if event.as_deref().is_some_and(|event| !may_be_a_name(event)) {
            lost.push(ExtractionError {
                field: "event",
                problem: not_a_name(&self.event),
            });
        }
        let occurred_at = self
            .extract_time(request, document)
            .unwrap_or_else(|problem| {
                lost.push(ExtractionError {
                    field: "occurred_at",
                    problem,
                });
                None
            });
        match (entity, event, lost.is_empty()) {
            (Some(entity), Some(event), true) => Ok(ExtractedFields {
                entity,
                event,
                idempotency_key,
                occurred_at,
            }),
            _ => Err(lost),
        }
    }

    fn extract_time(
        &self,
        request: &RequestView<'_>,
        document: &RequestDocument<'_>,
    ) -> Result<Option<Timestamp>, String> {
        let Some(locator) = &self.occurred_at else {
            return Ok(None);
        };
        match locator.find_text(request, document) {
            Ok(text) => moment::parse_moment(&text).map(Some).ok_or_else(|| {
                format!("({locator}) must be RFC 3339, Unix seconds or Unix milliseconds")
            }),
            Err(FieldLookupError::Absent) if !self.needs_time => Ok(None),
            Err(missed) => Err(describe_lookup_error(missed, locator)),
        }
    }
}

fn describe_lookup_error(missed: FieldLookupError, locator: &FieldLocator) -> String {
    match missed {
        FieldLookupError::Absent => format!("is not {locator}"),
        FieldLookupError::Other => format!("({locator}) must be a string or a number"),
    }
}

/// Names of events stand in headers, where only printable ASCII may, and in lists of patterns,
/// where a space ends one and `*` stands for any.
fn may_be_a_name(event: &str) -> bool {
    event.len() <= NAME_MAX_BYTES
        && event
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && byte != b'*')
}

fn not_a_name(locator: &FieldLocator) -> String {
    format!(
        "({locator}) must have 1 to {NAME_MAX_BYTES} printable ASCII characters, without spaces and `*`"
    )
}

fn not_an_id(locator: &FieldLocator) -> String {
    format!("({locator}) must have 1 to {ID_MAX_BYTES} bytes and no control characters")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(occurred_at: &str, needs_time: bool) -> FieldLocators {
        let at = |text| FieldLocator::parse(text).expect("a locator");
        FieldLocators {
            entity: at("/data/id"),
            event: at("X-Topic"),
            idempotency_key: Some(at("/id")),
            occurred_at: Some(at(occurred_at)),
            needs_time,
        }
    }

    fn extract(
        fields: &FieldLocators,
        headers: &[(&'static str, &'static str)],
        body: &str,
    ) -> Result<ExtractedFields, Vec<String>> {
        let headers = headers
            .iter()
            .map(|(name, value)| (*name, value.as_bytes()))
            .collect();
        let request = RequestView {
            method: "POST",
            url: "",
            headers,
            body: body.as_bytes(),
        };
        let document = RequestDocument::parse(&request).expect("JSON");
        let say = |lost: ExtractionError| format!("{} {}", lost.field, lost.problem);
        fields
            .extract(&request, &document)
            .map_err(|lost| lost.into_iter().map(say).collect())
    }

    #[test]
    fn strings_and_numbers_are_found_in_body_and_headers() {
        let body = r#"{"id": "e1", "data": {"id": 18446744073709551616}, "at": 1700000000}"#;
        let found = extract(&fields("/at", true), &[("x-topic", " orders/paid ")], body)
            .expect("all there");
        assert_eq!(
            (found.entity.as_str(), found.event.as_str()),
            ("18446744073709551616", "orders/paid")
        );
        assert_eq!(found.idempotency_key.as_deref(), Some("e1"));
        assert_eq!(found.occurred_at, Timestamp::parse("2023-11-14T22:13:20Z"));
    }

    #[test]
    fn every_field_that_is_not_there_is_named_with_its_place() {
        let lost = extract(&fields("X-At", true), &[], r#"{"data": {"id": null}}"#)
            .expect_err("nothing is there");
        let expected = [
            "entity is not at /data/id",
            "event is not in header x-topic",
            "idempotency_key is not at /id",
            "occurred_at is not in header x-at",
        ];
        assert_eq!(lost, expected);
    }

    #[test]
    fn what_is_there_and_cannot_be_it_is_not_repeated() {
        let body = r#"{"id": {"secret": 1}, "data": {"id": "a\u0000b"}, "at": "soon"}"#;
        let lost =
            extract(&fields("/at", false), &[("x-topic", "t")], body).expect_err("nothing fits");
        let expected = [
            "entity (at /data/id) must have 1 to 256 bytes and no control characters",
            "idempotency_key (at /id) must be a string or a number",
            "occurred_at (at /at) must be RFC 3339, Unix seconds or Unix milliseconds",
        ];
        assert_eq!(lost, expected);
    }

    #[test]
    fn the_name_of_an_event_may_stand_in_a_header_and_in_a_pattern() {
        let named = |name: &str| {
            let fields = FieldLocators {
                event: FieldLocator::parse("/type").expect("a locator"),
                ..fields("/at", false)
            };
            let body = serde_json::json!({"id": 1, "data": {"id": 2}, "type": name}).to_string();
            extract(&fields, &[], &body).map(|found| found.event)
        };
        let longest = "x".repeat(128);
        for name in ["orders/paid", "~!", &longest] {
            assert_eq!(named(name).as_deref(), Ok(name));
        }
        let problem =
            "event (at /type) must have 1 to 128 printable ASCII characters, without spaces and `*`".to_owned();
        for name in [
            "order paid",
            "order.*",
            "\u{e9}t\u{e9}",
            &format!("{longest}x"),
        ] {
            assert_eq!(named(name), Err(vec![problem.clone()]), "{name}");
        }
    }

    #[test]
    fn a_presets_own_time_may_be_missing() {
        let body = r#"{"id": 1, "data": {"id": 2}}"#;
        let found = extract(&fields("/at", false), &[("x-topic", "t")], body)
            .expect("all that must be there");
        assert_eq!(found.occurred_at, None);
    }
}
