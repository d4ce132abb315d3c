//! From a verified body to a command, with every wrong field named.

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
use crate::event::{EntityKey, ID_MAX_BYTES, Kind, Timestamp, check_id};

/// What is known of an event beside its body.
#[derive(Clone, Copy, Debug)]
pub struct SupportRequestContext<'a> {
    /// The idempotency key, if it came outside the body; it wins over the body's.
    pub idempotency_key: Option<&'a [u8]>,
    /// The event's time, if its body gives none.
    pub at: Option<Timestamp>,
    /// What happens if its ticket does not exist.
    pub unknown_entity: UnknownEntityPolicy,
}

/// Decodes `body` into a command that is logged under `span`. Of members with one name the last one
/// counts; unknown ones stay in the payload, which is the body as it was received.
///
/// # Errors
/// [`ApiError::InvalidJson`], [`ApiError::UnknownEvent`], or [`ApiError::Invalid`] with every wrong field.
pub fn decode_support_event(
    body: &VerifiedBody,
    given: SupportRequestContext<'_>,
    span: Span,
) -> Result<Command, ApiError> {
    let text = body_text(body.bytes())?;
    let names = [
        "event",
        "support_uid",
        "idempotency_key",
        "timestamp",
        "data",
        "actor",
    ];
    let [event, support_uid, idempotency_key, timestamp, data, actor] =
        find_members(text, names).map_err(|error| ApiError::from_json_error(&error))?;
    let mut faults = FieldErrors::default();
    let event = decode_event_name(event, &mut faults)?;
    let uid = faults.read_id("support_uid", support_uid);
    let key = decode_idempotency_key(given.idempotency_key, idempotency_key, &mut faults);
    let at = faults
        .read_optional_time("timestamp", timestamp)
        .or(given.at);
    faults.check_optional_object("actor", actor);
    let action = data::decode_ticket_data(event, data, &mut faults);
    let (action, entity) = faults.finish((action, EntityKey::try_new(Kind::Ticket, &uid)))?;
    let (Some(action), Ok(entity)) = (action, entity) else {
        // Each of them noted a fault if it is missing.
        return Err(ApiError::Internal);
    };
    let payload = body.bytes().clone();
    Ok(Command {
        at,
        idempotency_key: Some(key),
        may_create: given.unknown_entity == UnknownEntityPolicy::Create,
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

/// The characters of the `timestamp` in a body that nobody vouches for yet, to check its signature
/// with and for nothing else.
#[must_use]
pub(super) fn unverified_timestamp(body: &[u8]) -> Option<String> {
    let [timestamp] = find_members(str::from_utf8(body).ok()?, ["timestamp"]).ok()?;
    serde_json::from_str(timestamp?.get()).ok()
}

/// The catalogue's own text for the event's name; empty, and noted, if it is missing or no string.
fn decode_event_name(
    raw: Option<&RawValue>,
    faults: &mut FieldErrors,
) -> Result<&'static str, ApiError> {
    let Some(raw) = raw.filter(|raw| raw.get().starts_with('"')) else {
        faults.read_text("event", raw);
        return Ok("");
    };
    // Escapes are rare in names: compare without unescaping first.
    let quoted = raw.get().trim_matches('"');
    let known = |name: &str| EVENT_NAMES.into_iter().find(|event| *event == name);
    let unescaped = || serde_json::from_str::<String>(raw.get()).ok();
    known(quoted)
        .or_else(|| known(&unescaped()?))
        .ok_or_else(|| ApiError::UnknownEvent(EVENTS.join(", ")))
}

fn decode_idempotency_key(
    given: Option<&[u8]>,
    raw: Option<&RawValue>,
    faults: &mut FieldErrors,
) -> String {
    let Some(given) = given else {
        if non_null(raw).is_none() {
            faults.add(
                "idempotency_key",
                "is required, as the header Idempotency-Key or in the body",
            );
            return String::new();
        }
        return faults.read_id("idempotency_key", raw);
    };
    let key = str::from_utf8(given)
        .ok()
        .filter(|key| check_id(key).is_ok());
    if key.is_none() {
        let problem = format!(
            "(header Idempotency-Key) must have 1 to {ID_MAX_BYTES} bytes of UTF-8 and no control characters"
        );
        faults.add("idempotency_key", problem);
    }
    key.unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests;
