//! Decoder of a verified body into a command, or every wrong field.

use std::str;

use serde_json::value::RawValue;
use tracing::Span;

use super::super::body::body_text;
use super::super::error::ApiError;
use super::super::fields::{FieldErrors, non_null};
use super::super::signature::VerifiedBody;
use super::super::source::SUPPORT;
use super::data;
use crate::config::UnknownEntityPolicy;
use crate::entity::ticket::EVENT_NAMES;
use crate::entity::{Command, EntityAction};
use crate::event::find_members;
use crate::event::{
    EntityKey, ID_MAX_BYTES, Kind, Timestamp, check_id, hash_content, replace_half_surrogates,
};

/// Parts of a request beside its body, and the policy for unknown tickets.
#[derive(Clone, Copy, Debug)]
pub struct SupportRequestContext<'a> {
    /// Idempotency key of a header, which takes precedence over the body's key.
    pub idempotency_key: Option<&'a [u8]>,
    /// Time of the event if the body gives none.
    pub at: Option<Timestamp>,
    /// Policy for an event of a ticket that does not exist.
    pub unknown_entity: UnknownEntityPolicy,
}

/// Decodes `body` into a command that is logged under `span`. Of members with the same name the
/// last one counts. Unknown members stay in the payload, which is the body as it was received.
///
/// # Errors
/// [`ApiError::InvalidJson`], [`ApiError::UnknownEvent`], or [`ApiError::InvalidFields`] with every
/// wrong field.
pub fn decode_support_event(
    body: &VerifiedBody,
    context: SupportRequestContext<'_>,
    span: Span,
) -> Result<Command, ApiError> {
    let text = replace_half_surrogates(body_text(body.bytes())?);
    let names = [
        "event",
        "support_uid",
        "idempotency_key",
        "timestamp",
        "data",
        "actor",
    ];
    let [event, support_uid, idempotency_key, timestamp, data, actor] =
        find_members(&text, names).map_err(|error| ApiError::from_json_error(&error))?;

    let mut faults = FieldErrors::default();
    let event = decode_event_name(event, &mut faults)?;
    let uid = faults.read_id("support_uid", support_uid);
    let key = decode_idempotency_key(context.idempotency_key, idempotency_key, &mut faults);
    // Without the time, which a sender signs anew when it sends an event again.
    let content = [support_uid, data, actor].map(|raw| raw.map_or("", RawValue::get).as_bytes());
    let content = hash_content([event.as_bytes()].into_iter().chain(content));
    let at = faults
        .read_optional_time("timestamp", timestamp)
        .or(context.at);
    faults.check_optional_object("actor", actor);
    let action = data::decode_ticket_data(event, data, &mut faults);

    let (action, entity) = faults.finish((action, EntityKey::try_new(Kind::Ticket, &uid)))?;
    let (Some(action), Ok(entity)) = (action, entity) else {
        // Unreachable: a missing part has added a field error.
        return Err(ApiError::Internal);
    };
    let payload = body.bytes().clone();
    Ok(Command {
        at,
        idempotency_key: Some(key),
        request_hash: Some(content),
        may_create: context.unknown_entity == UnknownEntityPolicy::Create,
        span,
        ..Command::new(
            SUPPORT,
            entity,
            EntityAction::Ticket(action),
            event,
            payload,
        )
    })
}

/// Returns the characters of the `timestamp` in a body that is not verified yet. They may be used
/// only to check the body's signature.
#[must_use]
pub(super) fn unverified_timestamp(body: &[u8]) -> Option<String> {
    let text = str::from_utf8(body).ok()?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let [timestamp] = find_members(text, ["timestamp"]).ok()?;
    serde_json::from_str(timestamp?.get()).ok()
}

/// Returns the event's name as the catalogue has it; empty, with a field error, if it is missing or
/// no string.
fn decode_event_name(
    raw: Option<&RawValue>,
    faults: &mut FieldErrors,
) -> Result<&'static str, ApiError> {
    let Some(raw) = raw.filter(|raw| raw.get().starts_with('"')) else {
        faults.read_text("event", raw);
        return Ok("");
    };
    // Names rarely have escapes, so compare the raw text first.
    let quoted = raw.get().trim_matches('"');
    let known = |name: &str| EVENT_NAMES.into_iter().find(|event| *event == name);
    let unescaped = || serde_json::from_str::<String>(raw.get()).ok();
    known(quoted)
        .or_else(|| known(&unescaped()?))
        .ok_or_else(|| ApiError::UnknownEvent(EVENT_NAMES.join(", ")))
}

fn decode_idempotency_key(
    header: Option<&[u8]>,
    raw: Option<&RawValue>,
    faults: &mut FieldErrors,
) -> String {
    // The body is signed, the header is not: nobody may send a captured body under another key.
    if non_null(raw).is_some() {
        return faults.read_id("idempotency_key", raw);
    }
    let Some(header) = header else {
        faults.add(
            "idempotency_key",
            "is required, as the header Idempotency-Key or in the body",
        );
        return String::new();
    };
    let key = str::from_utf8(header)
        .ok()
        .filter(|key| check_id(key).is_ok());
    if key.is_none() {
        let problem = format!(
            "(header Idempotency-Key) must have 1 to {ID_MAX_BYTES} bytes of UTF-8 \
             and no control characters"
        );
        faults.add("idempotency_key", problem);
    }
    key.unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests;
