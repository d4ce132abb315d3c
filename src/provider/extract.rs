//! Extraction of the fields that every event needs: entity, event name, idempotency key and time.
//!
//! An authentic event is never refused for a field that is missing or odd: its sender would send it
//! again, and then give up. The field gets a fallback, and the event a warning.

use super::body::RequestDocument;
use super::items::BatchItem;
use super::locator::{EventScope, FieldAlternatives, FieldLookupError, FoundField};
use super::moment;
use super::pointer::StepCache;
use super::request::RequestView;
use crate::event::{ID_MAX_BYTES, Timestamp, check_id};

/// Longest accepted name of an event.
const NAME_MAX_BYTES: usize = 128;

/// Name of an event in which no name is found, and id of the entity of one without an id. It belongs
/// to the kind of the source, so the entity is named after the source.
pub const UNMATCHED: &str = "unmatched";

/// Location of each field in the requests of a source.
#[derive(Clone, Debug, Default)]
pub struct FieldLocators {
    /// Places of the id of the entity that the event is about.
    pub entity: FieldAlternatives,
    /// Places of the event's name.
    pub event: FieldAlternatives,
    /// Places of the idempotency key; without one, no event counts as a duplicate.
    pub idempotency_key: FieldAlternatives,
    /// Places of the event's own time.
    pub occurred_at: FieldAlternatives,
    /// Expects a time in every event. False for the default places of a preset, since not every
    /// event has a time there.
    pub expects_time: bool,
    /// True for the default places of a preset's key: its provider may use a key again.
    pub has_preset_key: bool,
}

/// Fields of one event, as they were found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExtractedFields {
    /// Id of the entity, 1 to 256 bytes.
    pub entity: String,
    /// Name of the event, as the sender spells it.
    pub event: String,
    /// Idempotency key, if one was found.
    pub idempotency_key: Option<String>,
    /// Time of the event, if it was found.
    pub occurred_at: Option<Timestamp>,
    /// True if the key belongs to the event alone; false if all items of a call have it.
    pub is_key_of_item: bool,
    /// Alternatives that found the fields.
    pub used: UsedAlternatives,
    /// Sentences about fields that were expected and not found. They repeat nothing of the request.
    pub warnings: Vec<String>,
}

/// Number of the alternative that found each field, counted from 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UsedAlternatives {
    /// Alternative that found the entity.
    pub entity: Option<usize>,
    /// Alternative that found the event's name.
    pub event: Option<usize>,
    /// Alternative that found the idempotency key.
    pub idempotency_key: Option<usize>,
    /// Alternative that found the time.
    pub occurred_at: Option<usize>,
}

/// Search for the fields of one event, with the warnings so far.
struct FieldSearch<'s, 'a, 'r> {
    scope: &'s EventScope<'a, 'r>,
    warnings: Vec<String>,
}

impl FieldLocators {
    /// Extracts every field of the event that is the whole `document` of the `request`. What is not
    /// found gets its fallback and a warning.
    #[must_use]
    pub fn extract_whole(
        &self,
        request: &RequestView<'_>,
        document: &RequestDocument<'_>,
    ) -> ExtractedFields {
        self.extract(&EventScope::whole(request, document, &StepCache::default()))
    }

    /// Extracts the fields of each of `items` in the `document`, in time linear in its size.
    #[must_use]
    pub fn extract_items(
        &self,
        request: &RequestView<'_>,
        document: &RequestDocument<'_>,
        items: &[BatchItem<'_, '_>],
    ) -> Vec<ExtractedFields> {
        let cache = StepCache::default();
        let whole = EventScope::whole(request, document, &cache);
        items
            .iter()
            .map(|item| self.extract(&whole.of_item(item)))
            .collect()
    }

    fn extract(&self, scope: &EventScope<'_, '_>) -> ExtractedFields {
        let mut search = FieldSearch {
            scope,
            warnings: Vec::new(),
        };
        let id_form = format!("text of 1 to {ID_MAX_BYTES} bytes without control characters");
        let as_id = |text: String| check_id(&text).is_ok().then_some(text);
        let as_name = |text: String| is_event_name(&text).then_some(text);

        let entity = search.find(
            "entity",
            &self.entity,
            &id_form,
            "the entity is unmatched",
            as_id,
        );
        let event = search.find(
            "event",
            &self.event,
            EVENT_NAME_FORM,
            "the name is unmatched",
            as_name,
        );
        let idempotency_key = match self.idempotency_key.is_empty() {
            true => None,
            false => search.find(
                "idempotency_key",
                &self.idempotency_key,
                &id_form,
                "the event has no key of its own",
                as_id,
            ),
        };
        let occurred_at = self.find_time(&mut search);

        let used = UsedAlternatives {
            entity: entity.as_ref().map(|found| found.alternative),
            event: event.as_ref().map(|found| found.alternative),
            idempotency_key: idempotency_key.as_ref().map(|found| found.alternative),
            occurred_at: occurred_at.as_ref().map(|found| found.alternative),
        };
        let places = [
            ("entity", &self.entity, used.entity),
            ("event", &self.event, used.event),
            (
                "idempotency_key",
                &self.idempotency_key,
                used.idempotency_key,
            ),
            ("occurred_at", &self.occurred_at, used.occurred_at),
        ];
        for (name, places, used) in places {
            let place = used.and_then(|index| places.as_slice().get(index));
            let header = place.and_then(|place| place.find_ambiguous_header(scope));
            search.warnings.extend(header.map(|header| {
                format!("{name}: header {header} is repeated with other values; the first counts")
            }));
        }
        let or_else = |found: Option<FoundField<String>>| {
            found.map_or_else(|| UNMATCHED.to_owned(), |found| found.value)
        };
        let key_place = used
            .idempotency_key
            .and_then(|index| self.idempotency_key.as_slice().get(index));
        ExtractedFields {
            is_key_of_item: key_place.is_some_and(|place| place.is_inside_item(scope)),
            entity: or_else(entity),
            event: or_else(event),
            idempotency_key: idempotency_key.map(|found| found.value),
            occurred_at: occurred_at.map(|found| found.value),
            used,
            warnings: search.warnings,
        }
    }

    fn find_time(&self, search: &mut FieldSearch<'_, '_, '_>) -> Option<FoundField<Timestamp>> {
        let as_time = |text: String| moment::parse_event_time(&text);
        let found = self.occurred_at.find(search.scope, as_time);
        if found == Err(FieldLookupError::Absent) && !self.expects_time {
            return None;
        }
        search.take_or_warn(
            "occurred_at",
            &self.occurred_at,
            "RFC 3339, RFC 2822, Unix seconds or Unix milliseconds",
            "the time of arrival counts",
            found,
        )
    }
}

impl FieldSearch<'_, '_, '_> {
    /// Finds the field `name` in `form`, or warns and tells the `fallback`.
    fn find<T: PartialEq>(
        &mut self,
        name: &str,
        places: &FieldAlternatives,
        form: &str,
        fallback: &str,
        accept: impl Fn(String) -> Option<T>,
    ) -> Option<FoundField<T>> {
        let found = places.find(self.scope, accept);
        self.take_or_warn(name, places, form, fallback, found)
    }

    fn take_or_warn<T>(
        &mut self,
        name: &str,
        places: &FieldAlternatives,
        form: &str,
        fallback: &str,
        found: Result<FoundField<T>, FieldLookupError>,
    ) -> Option<FoundField<T>> {
        let problem = match found {
            Ok(found) => return Some(found),
            Err(FieldLookupError::Absent) => format!("{name} is not {}", places.summarize()),
            Err(FieldLookupError::Unfit) => {
                format!("{name} ({}) is not {form}", places.summarize())
            }
        };
        self.warnings.push(format!("{problem}; {fallback}"));
        None
    }
}

/// Description of the names that [`is_event_name`] takes.
const EVENT_NAME_FORM: &str = "1 to 128 bytes, not only spaces, without control characters and `*`";

/// Returns true if `event` can be named in a pattern, where `*` is a wildcard, and sent in a header,
/// which takes no control characters.
fn is_event_name(event: &str) -> bool {
    let is_name_character = |character: char| !character.is_control() && character != '*';
    event.len() <= NAME_MAX_BYTES
        && !event.trim().is_empty()
        && event.chars().all(is_name_character)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn locators(occurred_at: &str, expects_time: bool) -> FieldLocators {
        let at = |text| FieldAlternatives::from_text(text).expect("a place");
        FieldLocators {
            entity: at("/data/id"),
            event: at("X-Topic"),
            idempotency_key: at("/id"),
            occurred_at: at(occurred_at),
            expects_time,
            has_preset_key: false,
        }
    }

    fn extract(
        locators: &FieldLocators,
        headers: &[(&'static str, &'static str)],
        body: &str,
    ) -> ExtractedFields {
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
        locators.extract_whole(&request, &document)
    }

    #[test]
    fn strings_and_numbers_are_found_in_body_and_headers() {
        let body = r#"{"id": "e1", "data": {"id": 18446744073709551616}, "at": 1700000000}"#;
        let found = extract(
            &locators("/at", true),
            &[("x-topic", " orders/paid ")],
            body,
        );
        assert_eq!(
            (found.entity.as_str(), found.event.as_str()),
            ("18446744073709551616", "orders/paid")
        );
        assert_eq!(found.idempotency_key.as_deref(), Some("e1"));
        assert_eq!(found.occurred_at, Timestamp::parse("2023-11-14T22:13:20Z"));
        assert!(found.warnings.is_empty(), "{:?}", found.warnings);
    }

    /// Such an event was refused, and its sender gave the subscription up.
    #[test]
    fn what_is_not_there_gets_a_fallback_and_a_warning_with_its_place() {
        let found = extract(&locators("X-At", true), &[], r#"{"data": {"id": null}}"#);
        let expected = [
            "entity is not at /data/id; the entity is unmatched",
            "event is not in header x-topic; the name is unmatched",
            "idempotency_key is not at /id; the event has no key of its own",
            "occurred_at is not in header x-at; the time of arrival counts",
        ];
        assert_eq!(found.warnings, expected);
        assert_eq!(
            (found.entity.as_str(), found.event.as_str()),
            (UNMATCHED, UNMATCHED)
        );
        assert_eq!((found.idempotency_key, found.occurred_at), (None, None));
        assert_eq!(found.used, UsedAlternatives::default());
    }

    #[test]
    fn what_is_there_and_cannot_be_it_is_not_repeated() {
        let body = r#"{"id": {"secret": 1}, "data": {"id": "a\u0000b"}, "at": "soon"}"#;
        let found = extract(&locators("/at", false), &[("x-topic", "t")], body);
        let expected = [
            "entity (at /data/id) is not text of 1 to 256 bytes without control characters; \
             the entity is unmatched",
            "idempotency_key (at /id) is not text of 1 to 256 bytes without control characters; \
             the event has no key of its own",
            "occurred_at (at /at) is not RFC 3339, RFC 2822, Unix seconds or Unix milliseconds; \
             the time of arrival counts",
        ];
        assert_eq!(found.warnings, expected);
        assert_eq!(found.event, "t");
    }

    /// Each of ten thousand empty items repeated a kilobyte of places.
    #[test]
    fn a_warning_counts_the_places_of_a_list() {
        let locators = FieldLocators {
            entity: FieldAlternatives::from_preset(&["/a", "/b", "/c"]),
            ..locators("/at", false)
        };
        let found = extract(&locators, &[("x-topic", "t")], r#"{"id": 1}"#);
        let expected = "entity is not at any of its 3 places; the entity is unmatched";
        assert_eq!(found.warnings, [expected]);
    }

    #[test]
    fn an_alternative_that_cannot_be_it_is_passed_over() {
        let locators = FieldLocators {
            entity: FieldAlternatives::from_preset(&["/long", "/list", "/flag", "/id"]),
            event: FieldAlternatives::from_preset(&["/none", "fallback"]),
            occurred_at: FieldAlternatives::from_preset(&["/soon", "/at"]),
            ..FieldLocators::default()
        };
        let body = serde_json::json!({
            "long": "x".repeat(257), "list": [1], "flag": true, "id": 7,
            "soon": "tomorrow", "at": "2025-12-04T10:30:00Z",
        });
        let found = extract(&locators, &[], &body.to_string());
        assert_eq!(
            (found.entity.as_str(), found.event.as_str()),
            ("true", "fallback")
        );
        assert_eq!(found.occurred_at, Timestamp::parse("2025-12-04T10:30:00Z"));
        let used = UsedAlternatives {
            entity: Some(2),
            event: Some(1),
            idempotency_key: None,
            occurred_at: Some(1),
        };
        assert_eq!((found.used, found.warnings.len()), (used, 0));
    }

    #[test]
    fn the_name_of_an_event_may_stand_in_a_header_and_in_a_pattern() {
        let named = |name: &str| {
            let locators = FieldLocators {
                event: FieldAlternatives::from_text("/type").expect("a place"),
                ..locators("/at", false)
            };
            let body = serde_json::json!({"id": 1, "data": {"id": 2}, "type": name}).to_string();
            let found = extract(&locators, &[], &body);
            (found.event, found.warnings.len())
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
            assert_eq!(named(name), (name.to_owned(), 0));
        }
        for name in [" ", "order\u{85}paid", "order.*", &format!("{longest}x")] {
            assert_eq!(named(name), (UNMATCHED.to_owned(), 1), "{name}");
        }
    }

    #[test]
    fn a_header_with_two_values_is_warned_of() {
        let body = r#"{"id": 1, "data": {"id": 2}}"#;
        let locators = locators("/at", false);
        let found = extract(&locators, &[("x-topic", "a"), ("x-topic", "b")], body);
        let expected = "event: header x-topic is repeated with other values; the first counts";
        assert_eq!(
            (found.event.as_str(), found.warnings),
            ("a", vec![expected.to_owned()])
        );
        let same = extract(&locators, &[("x-topic", "a"), ("x-topic", "a")], body);
        assert!(same.warnings.is_empty(), "{:?}", same.warnings);
    }

    #[test]
    fn a_presets_own_time_may_be_missing() {
        let body = r#"{"id": 1, "data": {"id": 2}}"#;
        let found = extract(&locators("/at", false), &[("x-topic", "t")], body);
        assert_eq!((found.occurred_at, found.warnings.len()), (None, 0));
    }
}
