//! Decoder of a verified request of a configured source into a command: the top-level members of
//! the body become the entity's fields.

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
use crate::provider::{DocumentFormat, RequestDocument, VerifiedRequest};

/// Decodes the event of a `verified` request to `custom` into a command that is logged under
/// `span`. `document` is the parsed `body`.
///
/// A field that is missing or odd has a fallback and a warning in the command.
///
/// # Errors
/// [`ApiError::InvalidFields`] if the body's members have names that no text can hold.
pub(super) fn decode_configured_event(
    custom: &CustomSourceConfig,
    verified: &VerifiedRequest<'_, '_>,
    document: &RequestDocument<'_>,
    body: Bytes,
    span: Span,
) -> Result<Command, ApiError> {
    let mut faults = FieldErrors::default();
    let found = custom.source.extract(verified, document);
    let fields = top_level_fields(document.json(), &mut faults);
    faults.finish(())?;

    // The id was checked when it was extracted.
    let Ok(entity) = EntityKey::try_new(custom.kind, &found.entity) else {
        return Err(ApiError::Internal);
    };
    let action = EntityAction::Generic(GenericAction::Merge { fields });
    let shape = match document.format() {
        DocumentFormat::Json => PayloadShape::Bare,
        DocumentFormat::Form => PayloadShape::Form,
    };
    let event_type = format!("{}.{}", custom.name, found.event);
    let (at, idempotency_key) = (found.occurred_at, found.idempotency_key);
    Ok(Command {
        at,
        idempotency_key,
        shape,
        warnings: found.warnings,
        span,
        ..Command::new(custom.name, entity, action, event_type, body)
    })
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
