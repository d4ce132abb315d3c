//! Extraction of the fields that every event needs: entity, event name, idempotency key and time.

use super::body::RequestDocument;
use super::locator::{FieldLocator, FieldLookupError};
use super::moment;
use super::request::RequestView;
use crate::event::{ID_MAX_BYTES, Timestamp, check_id};

/// Longest accepted name of an event.
const NAME_MAX_BYTES: usize = 128;

/// Location of each field in the requests of a source.
#[derive(Clone, Debug)]
pub struct FieldLocators {
    /// Location of the id of the entity that the event is about.
    pub entity: FieldLocator,
    /// Location of the event's name.
    pub event: FieldLocator,
    /// Location of the idempotency key; without one, no event counts as a duplicate.
    pub idempotency_key: Option<FieldLocator>,
    /// Location of the event's own time.
    pub occurred_at: Option<FieldLocator>,
    /// Refuses an event without the time. False for the default location of a preset, since not
    /// every event has a time there.
    pub needs_time: bool,
}

/// Fields of one event, as they were found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExtractedFields {
    /// Id of the entity, 1 to 256 bytes.
    pub entity: String,
    /// Name of the event, as the sender spells it.
    pub event: String,
    /// Idempotency key, if the source has one.
    pub idempotency_key: Option<String>,
    /// Time of the event, if it was found.
    pub occurred_at: Option<Timestamp>,
}

/// A field that is missing or malformed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExtractionError {
    /// Name of the field in the configuration.
    pub field: &'static str,
    /// Problem with the field, as the end of a sentence that begins with its name. Repeats nothing
    /// of the request.
    pub problem: String,
}

impl FieldLocators {
    /// Extracts every field from `request` and `document`, its parsed body.
    ///
    /// # Errors
    /// One error for each field that is missing or malformed, in the order of the fields; never
    /// empty.
    pub fn extract(
        &self,
        request: &RequestView<'_>,
        document: &RequestDocument<'_>,
    ) -> Result<ExtractedFields, Vec<ExtractionError>> {
        let mut errors = Vec::new();
        let mut read_id = |field, locator: &FieldLocator| {
            let id = extract_id(locator, request, document);
            id.map_err(|problem| errors.push(ExtractionError { field, problem }))
                .ok()
        };

        let entity = read_id("entity", &self.entity);
        let event = read_id("event", &self.event);
        let idempotency_key = self
            .idempotency_key
            .as_ref()
            .and_then(|locator| read_id("idempotency_key", locator));
        let is_invalid_name = event.as_deref().is_some_and(|event| !is_event_name(event));
        if is_invalid_name {
            errors.push(ExtractionError {
                field: "event",
                problem: describe_invalid_name(&self.event),
            });
        }
        let occurred_at = self.extract_time(request, document);
        let occurred_at = occurred_at.unwrap_or_else(|problem| {
            let field = "occurred_at";
            errors.push(ExtractionError { field, problem });
            None
        });

        match (entity, event, errors.is_empty()) {
            (Some(entity), Some(event), true) => Ok(ExtractedFields {
                entity,
                event,
                idempotency_key,
                occurred_at,
            }),
            _ => Err(errors),
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
            Err(error) => Err(describe_lookup_error(error, locator)),
        }
    }
}

fn extract_id(
    locator: &FieldLocator,
    request: &RequestView<'_>,
    document: &RequestDocument<'_>,
) -> Result<String, String> {
    let text = locator
        .find_text(request, document)
        .map_err(|error| describe_lookup_error(error, locator))?;
    match check_id(&text) {
        Ok(()) => Ok(text),
        Err(_) => Err(describe_invalid_id(locator)),
    }
}

fn describe_lookup_error(error: FieldLookupError, locator: &FieldLocator) -> String {
    match error {
        FieldLookupError::Absent => format!("is not {locator}"),
        FieldLookupError::Other => format!("({locator}) must be a string or a number"),
    }
}

/// Returns true if `event` can be named in a pattern, where `*` is a wildcard, and sent in a header,
/// which takes no control characters.
fn is_event_name(event: &str) -> bool {
    let is_name_character = |character: char| !character.is_control() && character != '*';
    event.len() <= NAME_MAX_BYTES
        && !event.trim().is_empty()
        && event.chars().all(is_name_character)
}

fn describe_invalid_name(locator: &FieldLocator) -> String {
    format!(
        "({locator}) must have 1 to {NAME_MAX_BYTES} bytes, not only spaces, \
         without control characters and `*`"
    )
}

fn describe_invalid_id(locator: &FieldLocator) -> String {
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
        let sentence = |error: ExtractionError| format!("{} {}", error.field, error.problem);
        fields
            .extract(&request, &document)
            .map_err(|errors| errors.into_iter().map(sentence).collect())
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
        let errors = extract(&fields("X-At", true), &[], r#"{"data": {"id": null}}"#)
            .expect_err("nothing is there");
        let expected = [
            "entity is not at /data/id",
            "event is not in header x-topic",
            "idempotency_key is not at /id",
            "occurred_at is not in header x-at",
        ];
        assert_eq!(errors, expected);
    }

    #[test]
    fn what_is_there_and_cannot_be_it_is_not_repeated() {
        let body = r#"{"id": {"secret": 1}, "data": {"id": "a\u0000b"}, "at": "soon"}"#;
        let errors =
            extract(&fields("/at", false), &[("x-topic", "t")], body).expect_err("nothing fits");
        let expected = [
            "entity (at /data/id) must have 1 to 256 bytes and no control characters",
            "idempotency_key (at /id) must be a string or a number",
            "occurred_at (at /at) must be RFC 3339, Unix seconds or Unix milliseconds",
        ];
        assert_eq!(errors, expected);
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
        for name in [
            "orders/paid",
            "~!",
            "Push Hook",
            "\u{e9}t\u{e9}",
            "注文",
            &longest,
        ] {
            assert_eq!(named(name).as_deref(), Ok(name));
        }
        let problem = "event (at /type) must have 1 to 128 bytes, not only spaces, \
             without control characters and `*`"
            .to_owned();
        for name in [" ", "order\u{85}paid", "order.*", &format!("{longest}x")] {
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
