//! Decoder of a verified request of a configured source into commands: the top-level members of an
//! event become fields of its entity.

use std::borrow::Cow;
use std::collections::BTreeMap;

use bytes::Bytes;
use serde_json::value::RawValue;
use tracing::Span;

use super::super::error::ApiError;
use super::super::field_error::FieldError;
use crate::config::CustomSourceConfig;
use crate::entity::generic::{GenericAction, JsonText};
use crate::entity::{Command, EntityAction};
use crate::event::{EntityKey, PayloadShape, hash_content, replace_half_surrogates};
use crate::provider::{
    BYTE_ORDER_MARK, BatchItem, DocumentFormat, DocumentPayload, ExtractedFields, RequestDocument,
    SchemaViolation, SchemaViolationPolicy, VerifiedRequest,
};

/// Events that one call brought, decoded.
#[derive(Debug)]
pub(super) struct DecodedCall {
    pub(super) commands: Vec<Command>,
    /// True if the source sends several events in one body, and this is such a body.
    pub(super) is_batch: bool,
}

/// Decodes the events of a `verified` request to `custom` into commands that are logged under
/// `span`. `document` is the parsed `body`.
///
/// A field that is missing or odd has a fallback and a warning in the command.
///
/// # Errors
/// [`ApiError::TooManyItems`].
pub(super) fn decode_configured_call(
    custom: &CustomSourceConfig,
    verified: &VerifiedRequest<'_, '_>,
    document: &RequestDocument<'_>,
    body: &Bytes,
    span: &Span,
) -> Result<DecodedCall, ApiError> {
    let items = custom.source.split_items(document);
    let Some(items) = items.map_err(ApiError::TooManyItems)? else {
        let found = verified.extract_whole(document);
        let command = decode_event(custom, verified, found, document.json(), span);
        let command = command.map_err(|wrong| wrong.into_error(""))?;
        let command = add_whole_payload(command, document, body);
        return Ok(DecodedCall {
            commands: vec![command],
            is_batch: false,
        });
    };

    let extracted = verified.extract_items(document, &items);
    let rest = cut_items(
        document.json().get(),
        items.iter().map(|item| item.json.get()),
    );
    let decode_item =
        |(index, (item, mut found)): (usize, (&BatchItem<'_, '_>, ExtractedFields))| {
            if !found.is_key_of_item {
                // All items of the call share this key, so it needs the item's place in the list.
                let key = found.idempotency_key.take();
                found.idempotency_key = key.map(|key| format!("{key}\u{1}{index}"));
            }
            let command = decode_event(custom, verified, found, item.json, span);
            let command = command.map_err(|wrong| wrong.into_error(&format!("{index}.")))?;
            Ok::<_, ApiError>(Command {
                payload: share_bytes(body, item.json.get()),
                shape: PayloadShape::Bare,
                call_body: rest.clone(),
                signed_request: command
                    .signed_request
                    .map(|request| request.for_item(index)),
                ..command
            })
        };
    let commands = items.iter().zip(extracted).enumerate().map(decode_item);
    Ok(DecodedCall {
        commands: commands.collect::<Result<_, _>>()?,
        is_batch: true,
    })
}

/// Reason why an event of a source does not become a command.
enum EventRefusal {
    /// The event does not fit its schema, and the source refuses such events.
    Violation(SchemaViolation),
    /// The extracted id is none: a defect, since extraction checks it.
    InvalidId,
}

impl EventRefusal {
    /// Returns the answer to the call; `prefix` names the item in front of the field that its sender
    /// must mend.
    fn into_error(self, prefix: &str) -> ApiError {
        let Self::Violation(violation) = self else {
            return ApiError::Internal;
        };
        let place = violation.place.trim_start_matches('/').replace('/', ".");
        let place = format!("{prefix}{place}");
        let field = match place.trim_end_matches('.') {
            "" => "body".to_owned(),
            field => field.to_owned(),
        };
        ApiError::InvalidFields(vec![FieldError {
            detail: violation.to_string(),
            field: field.into(),
        }])
    }
}

/// Makes the command of one event from the fields `found` and its JSON, without a payload.
fn decode_event(
    custom: &CustomSourceConfig,
    verified: &VerifiedRequest<'_, '_>,
    found: ExtractedFields,
    json: &RawValue,
    span: &Span,
) -> Result<Command, EventRefusal> {
    let mut warnings = found.warnings.clone();
    if let Err(violation) = custom.source.schemas.check(&found.event, json) {
        match custom.source.schemas.policy {
            SchemaViolationPolicy::Mark => warnings.push(violation.to_string()),
            SchemaViolationPolicy::Refuse => return Err(EventRefusal::Violation(violation)),
        }
    }

    let fields = top_level_fields(json);
    // The id was checked when it was extracted.
    let Ok(entity) = EntityKey::try_new(custom.kind, &found.entity) else {
        return Err(EventRefusal::InvalidId);
    };
    let volatile = custom.source.signing.volatile_members();
    let content = hash_event(&found, &fields, json, volatile);
    let action = EntityAction::Generic(GenericAction::Merge { fields });
    let event_type = format!("{}.{}", custom.name, found.event);
    Ok(Command {
        at: found.occurred_at,
        request_hash: Some(content),
        credential: verified.credential(&custom.name),
        signed_request: verified.signed_request(&found.event, json),
        on_key_reuse: verified.key_reuse_policy(&found),
        idempotency_key: found.idempotency_key,
        warnings,
        span: span.clone(),
        ..Command::new(custom.name, entity, action, event_type, Bytes::new())
    })
}

/// Hashes what the event `json` of `custom` shares with its repetition, as a node does.
pub(in crate::edge) fn hash_item(
    custom: &CustomSourceConfig,
    found: &ExtractedFields,
    json: &RawValue,
) -> [u8; 32] {
    let volatile = custom.source.signing.volatile_members();
    hash_event(found, &top_level_fields(json), json, volatile)
}

/// Hashes what an event shares with its repetition: name, entity and content, without the members
/// that its provider changes.
fn hash_event(
    found: &ExtractedFields,
    fields: &[(String, JsonText)],
    json: &RawValue,
    volatile: &[&str],
) -> [u8; 32] {
    let is_changed = fields
        .iter()
        .any(|(name, _)| volatile.contains(&name.as_str()));
    let names = [found.entity.as_bytes(), found.event.as_bytes()];
    if !is_changed {
        return hash_content(names.into_iter().chain([json.get().as_bytes()]));
    }
    let readable = replace_half_surrogates(json.get());
    let members: BTreeMap<Cow<'_, str>, &RawValue> =
        serde_json::from_str(&readable).unwrap_or_default();
    let kept = members
        .iter()
        .filter(|(name, _)| !volatile.contains(&name.as_ref()))
        .flat_map(|(name, value)| [name.as_bytes(), value.get().as_bytes()]);
    hash_content(names.into_iter().chain(kept))
}

/// Adds the payload of the event that is the whole `document`, the parsed `body`.
fn add_whole_payload(command: Command, document: &RequestDocument<'_>, body: &Bytes) -> Command {
    let shape = match document.format() {
        DocumentFormat::Json => PayloadShape::Bare,
        DocumentFormat::Form => PayloadShape::Form,
    };
    match document.payload() {
        DocumentPayload::AsSent => Command {
            payload: body.clone(),
            shape,
            ..command
        },
        DocumentPayload::AfterMark => Command {
            payload: body.slice(BYTE_ORDER_MARK.len()..),
            shape,
            ..command
        },
        DocumentPayload::Converted => Command {
            payload: Bytes::copy_from_slice(document.json().get().as_bytes()),
            shape: PayloadShape::Bare,
            call_body: body.clone(),
            ..command
        },
    }
}

/// Returns `text` with `null` in the places of `items`, which are parts of it, apart and in order; nothing
/// if one of them is no part of it. An item in the event of another entity would outlive its erasure.
fn cut_items<'a>(text: &str, items: impl Iterator<Item = &'a str>) -> Bytes {
    let mut rest = String::new();
    let mut copied = 0;
    for item in items {
        let begin = item.as_ptr().addr().checked_sub(text.as_ptr().addr());
        let before = begin.and_then(|begin| text.get(copied..begin));
        let (Some(begin), Some(before)) = (begin, before) else {
            return Bytes::new();
        };
        rest.push_str(before);
        rest.push_str("null");
        copied = begin + item.len();
    }
    let Some(end) = text.get(copied..) else {
        return Bytes::new();
    };
    rest.push_str(end);
    rest.into()
}

/// Returns the bytes of `text`, which share the memory of `body` if the text is a part of it.
fn share_bytes(body: &Bytes, text: &str) -> Bytes {
    let (whole, part) = (body.as_ptr_range(), text.as_bytes().as_ptr_range());
    if whole.start <= part.start && part.end <= whole.end {
        body.slice_ref(text.as_bytes())
    } else {
        Bytes::copy_from_slice(text.as_bytes())
    }
}

/// Returns the members of `json` if it is an object; of members with the same name the last one.
/// Other JSON gives the entity no fields, and is kept in the event only.
fn top_level_fields(json: &RawValue) -> Vec<(String, JsonText)> {
    let readable = replace_half_surrogates(json.get());
    // Anything but an object has no members.
    let members: BTreeMap<Cow<'_, str>, &RawValue> =
        serde_json::from_str(&readable).unwrap_or_default();
    members
        .into_iter()
        .map(|(name, value)| (name.into_owned(), JsonText::from_raw(value)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_fields_and_the_last_of_one_name_counts() {
        let names = |json: &str| -> Vec<String> {
            let json: &RawValue = serde_json::from_str(json).expect("JSON");
            top_level_fields(json)
                .into_iter()
                .map(|(name, value)| {
                    format!("{name}={}", serde_json::to_string(&value).expect("JSON"))
                })
                .collect()
        };
        assert_eq!(
            names(r#"{"b": [1,  2], "\u0061": 1, "a": 2.50}"#),
            ["a=2.50", "b=[1,  2]"]
        );
        assert!(names(r#"[{"a": 1}]"#).is_empty() && names("7").is_empty());
    }

    #[test]
    fn the_rest_of_a_call_has_none_of_its_items() {
        let text = r#"{"account": 7, "events": [{"a": 1}, {"b": 2}]}"#;
        let part = |wanted: &str| {
            let begin = text.find(wanted).expect("is there");
            &text[begin..begin + wanted.len()]
        };
        let items = [part(r#"{"a": 1}"#), part(r#"{"b": 2}"#)];
        let rest = cut_items(text, items.into_iter());
        assert_eq!(rest, r#"{"account": 7, "events": [null, null]}"#);
        let elsewhere = String::from(r#"{"a": 1}"#);
        assert_eq!(cut_items(text, [elsewhere.as_str()].into_iter()), "");
    }

    /// Such an event once left the entity without any fields, and later was refused.
    #[test]
    fn half_a_surrogate_in_a_name_is_replaced() {
        let json: &RawValue = serde_json::from_str(r#"{"a": 1, "\ud800": 2}"#).expect("JSON");
        let names: Vec<_> = top_level_fields(json)
            .into_iter()
            .map(|(name, _)| name)
            .collect();
        assert_eq!(names, ["a", "\u{fffd}"]);
    }
}
