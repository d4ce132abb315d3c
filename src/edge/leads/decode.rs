//! From a verified body to what it asks of whom, with every wrong field named.

use serde_json::value::RawValue;

use super::super::body::body_text;
use super::super::error::ApiError;
use super::super::fields::{FieldErrors, non_null};
use super::super::signature::VerifiedBody;
use super::catalogue::{EVENTS, LeadEvent, LeadEventSubject, id_member_path};
use super::data::{LeadEventAction, LeadEventData};
use super::values;
use crate::entity::{self, EntityAction};
use crate::event::{EntityKey, Kind, Timestamp, find_members};

/// What is known of a request beside its body.
#[derive(Clone, Copy, Debug)]
pub struct LeadRequestContext {
    /// The event that its path takes; `None` for the path that takes all.
    pub event: Option<&'static LeadEvent>,
    /// The entity that its path names.
    pub id: Option<u64>,
    /// Makes a code for a customer that is given none; `None` without randomness.
    pub new_customer_code: fn() -> Option<String>,
}

/// Whom an event is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LeadEventTarget {
    /// An entity that begins with it.
    New(Kind),
    /// One that is known by its id.
    Known(EntityKey),
    /// The customer with this code.
    Code(String),
}

/// A decoded event.
#[derive(Clone, Debug)]
pub struct DecodedLeadEvent {
    /// Which one it is.
    pub event: &'static LeadEvent,
    /// Whom it is for.
    pub target: LeadEventTarget,
    /// What it asks for.
    pub action: EntityAction,
    /// Its own time, if it has one.
    pub at: Option<Timestamp>,
    /// What it claims for ever.
    pub unique_key: Option<String>,
}

/// Decodes `body`. Of members with one name the last one counts; unknown ones stay in the payload,
/// which is the body as it was received.
///
/// # Errors
/// [`ApiError::InvalidJson`], or [`ApiError::Invalid`] with every wrong field.
pub fn decode_lead_event(
    body: &VerifiedBody,
    given: LeadRequestContext,
) -> Result<DecodedLeadEvent, ApiError> {
    let text = body_text(body.bytes())?;
    let [event, source, timestamp, data] =
        find_members(text, ["event", "source", "timestamp", "data"])
            .map_err(|error| ApiError::from_json_error(&error))?;
    let mut faults = FieldErrors::default();
    let event = decode_event_name(given.event, event, &mut faults);
    let who = values::read_label(&mut faults, "source", source);
    let timestamp = faults.read_optional_time("timestamp", timestamp);
    let data = decode_data_object(data, &mut faults);
    let read = match (event, data) {
        (Some(event), Some(json)) => {
            let target = decode_target(event, given.id, json, &mut faults)?;
            let data = LeadEventData {
                json,
                sender: &who,
                new_customer_code: given.new_customer_code,
            };
            let wish = (event.read)(&data, &mut faults).map_err(|_| ApiError::Internal)?;
            target.map(|target| (event, target, wish))
        }
        _ => None,
    };
    let read = faults.finish(read).map_err(strip_data_prefix)?;
    // Whatever is missing here was noted as a fault.
    let (
        event,
        target,
        LeadEventAction {
            action,
            at,
            unique_key: code,
        },
    ) = read.ok_or(ApiError::Internal)?;
    Ok(DecodedLeadEvent {
        event,
        target,
        action,
        at: at.or(timestamp),
        unique_key: code,
    })
}

/// The event that the body names, which is the one that its path takes.
fn decode_event_name(
    expected: Option<&'static LeadEvent>,
    raw: Option<&RawValue>,
    faults: &mut FieldErrors,
) -> Option<&'static LeadEvent> {
    let raw = non_null(raw);
    let Some(expected) = expected else {
        let names = EVENTS.map(|event| event.name);
        return LeadEvent::from_wire_name(&faults.read_one_of("event", raw, &names));
    };
    let name = faults.read_text("event", raw);
    if raw.is_some_and(|raw| raw.get().starts_with('"')) && name != expected.name {
        faults.add("event", format!("must be {} here", expected.name));
    }
    // What else is wrong can be said even if the event is another one.
    Some(expected)
}

fn decode_data_object<'a>(data: Option<&'a RawValue>, faults: &mut FieldErrors) -> Option<&'a str> {
    let Some(data) = non_null(data) else {
        faults.add("data", "is required");
        return None;
    };
    faults.check_optional_object("data", Some(data));
    (data.get().starts_with('{') && faults.check_member_names("data", data.get()))
        .then(|| data.get())
}

/// Whom `event` is for, by its path or by `data`; `None`, and noted, if neither says so.
fn decode_target(
    event: &LeadEvent,
    id: Option<u64>,
    data: &str,
    faults: &mut FieldErrors,
) -> Result<Option<LeadEventTarget>, ApiError> {
    let not_object = |_| ApiError::Internal;
    Ok(match (event.subject, id) {
        (LeadEventSubject::New(kind), _) => Some(LeadEventTarget::New(kind)),
        (LeadEventSubject::Known(kind), Some(id)) => {
            Some(LeadEventTarget::Known(EntityKey::from_number(kind, id)))
        }
        (LeadEventSubject::Known(kind), None) => {
            let [pre_lead_id, lead_id] =
                find_members(data, ["pre_lead_id", "lead_id"]).map_err(not_object)?;
            let raw = if kind == Kind::PreLead {
                pre_lead_id
            } else {
                lead_id
            };
            decode_known_entity(kind, raw, faults)
        }
        (LeadEventSubject::Customer, _) => {
            let [id, code] =
                find_members(data, ["customer_id", "customer_code"]).map_err(not_object)?;
            match (non_null(id), non_null(code)) {
                (Some(id), _) => decode_known_entity(Kind::Customer, Some(id), faults),
                // A wrong code is noted where the rest of the data is read.
                (None, Some(code)) => Some(LeadEventTarget::Code(
                    FieldErrors::default().read_id("data.customer_code", Some(code)),
                )),
                (None, None) => {
                    faults.add("data.customer_id", "or customer_code is required");
                    None
                }
            }
        }
    })
}

fn decode_known_entity(
    kind: Kind,
    raw: Option<&RawValue>,
    faults: &mut FieldErrors,
) -> Option<LeadEventTarget> {
    let id = values::read_entity_id(faults, id_member_path(kind)?, raw)?;
    Some(LeadEventTarget::Known(EntityKey::from_number(kind, id)))
}

/// The same faults in the words of this contract, which calls a member of `data` by its name alone.
fn strip_data_prefix(error: ApiError) -> ApiError {
    let ApiError::InvalidFields(mut faults) = error else {
        return error;
    };
    for fault in &mut faults {
        if let Some(detail) = fault.detail.strip_prefix("data.") {
            fault.detail = detail.to_owned();
        }
    }
    ApiError::InvalidFields(faults)
}

/// The answer to a path whose id is none that was ever given.
pub(super) fn no_such_entity(kind: Kind) -> ApiError {
    // Ids begin with 1; the kind alone words the answer.
    ApiError::Rejected(entity::reject_absent(&EntityKey::from_number(kind, 0)))
}

#[cfg(test)]
mod tests;
