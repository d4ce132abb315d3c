//! Decoder of a verified request of a configured source into commands: the top-level members of an
//! event become fields of its entity.

use std::borrow::Cow;
use std::collections::BTreeMap;

use bytes::Bytes;
use serde_json::value::RawValue;
use tracing::Span;

use super::super::error::ApiError;
use super::super::fields::FieldErrors;
use super::super::raw_json;
use crate::config::CustomSourceConfig;
use crate::entity::generic::{GenericAction, JsonText};
use crate::entity::{Command, EntityAction};
use crate::event::{EntityKey, PayloadShape};
use crate::provider::{
    BYTE_ORDER_MARK, BatchItem, DocumentFormat, DocumentPayload, ExtractedFields, RequestDocument,
    VerifiedRequest,
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
/// [`ApiError::TooManyItems`], or [`ApiError::InvalidFields`] if the members of an event have names
/// that no text can hold.
pub(super) fn decode_configured_call(
    custom: &CustomSourceConfig,
    verified: &VerifiedRequest<'_, '_>,
    document: &RequestDocument<'_>,
    body: &Bytes,
    span: &Span,
) -> Result<DecodedCall, ApiError> {
    let items = custom.source.split_items(document);
    let Some(items) = items.map_err(ApiError::TooManyItems)? else {
        let found = verified.extract(document, None);
        let command = decode_event(custom, found, document.json(), span)?;
        return Ok(DecodedCall {
            commands: vec![add_whole_payload(command, document, body)],
            is_batch: false,
        });
    };

    let decode_item = |(index, item): (usize, &BatchItem<'_, '_>)| {
        let mut found = verified.extract(document, Some(item));
        if !found.is_key_of_item {
            // All items of the call share this key, so it needs the item's place in the list.
            let key = found.idempotency_key.take();
            found.idempotency_key = key.map(|key| format!("{key}\u{1}{index}"));
        }
        let command = decode_event(custom, found, item.json, span)?;
        Ok::<_, ApiError>(Command {
            payload: share_bytes(body, item.json.get()),
            shape: PayloadShape::Bare,
            call_body: body.clone(),
            ..command
        })
    };
    let commands = items.iter().enumerate().map(decode_item);
    Ok(DecodedCall {
        commands: commands.collect::<Result<_, _>>()?,
        is_batch: true,
    })
}

/// Makes the command of one event from the fields `found` and its JSON, without a payload.
fn decode_event(
    custom: &CustomSourceConfig,
    found: ExtractedFields,
    json: &RawValue,
    span: &Span,
) -> Result<Command, ApiError> {
    let mut faults = FieldErrors::default();
    let fields = top_level_fields(json, &mut faults);
    faults.finish(())?;

    // The id was checked when it was extracted.
    let Ok(entity) = EntityKey::try_new(custom.kind, &found.entity) else {
        return Err(ApiError::Internal);
    };
    let action = EntityAction::Generic(GenericAction::Merge { fields });
    let event_type = format!("{}.{}", custom.name, found.event);
    Ok(Command {
        at: found.occurred_at,
        idempotency_key: found.idempotency_key,
        warnings: found.warnings,
        span: span.clone(),
        ..Command::new(custom.name, entity, action, event_type, Bytes::new())
    })
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
fn top_level_fields(json: &RawValue, faults: &mut FieldErrors) -> Vec<(String, JsonText)> {
    if !raw_json::is_object(json) || !faults.check_member_names("body", json.get()) {
        return Vec::new();
    }
    // `json` is known to be an object with valid names, so this cannot fail.
    let members: BTreeMap<Cow<'_, str>, &RawValue> =
        serde_json::from_str(json.get()).unwrap_or_default();
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
            top_level_fields(json, &mut FieldErrors::default())
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

    /// Such an event once left the entity without any fields, and without an error.
    #[test]
    fn half_a_surrogate_in_a_name_is_a_fault_of_the_body() {
        let mut faults = FieldErrors::default();
        let json: &RawValue = serde_json::from_str(r#"{"a": 1, "\ud800": 2}"#).expect("JSON");
        assert!(top_level_fields(json, &mut faults).is_empty());
        let error = faults.finish(()).expect_err("a fault").to_string();
        assert_eq!(error, "body must have names of valid Unicode text");
    }
}
