//! Decoder of a verified body: its event, target and action, or every wrong field.

use serde_json::value::RawValue;

use super::super::body::body_text;
use super::super::error::ApiError;
use super::super::fields::{FieldErrors, non_null};
use super::super::signature::VerifiedBody;
use super::catalogue::{LEAD_EVENTS, LeadEvent, LeadEventSubject, id_member_path};
use super::data::{LeadEventAction, LeadEventData};
use super::values;
use crate::entity::{self, EntityAction};
use crate::event::{EntityKey, Kind, Timestamp, find_members, replace_half_surrogates};

/// Parts of a request beside its body.
#[derive(Clone, Copy, Debug)]
pub struct LeadRequestContext {
    /// Event that the path accepts; `None` for the path that accepts all.
    pub event: Option<&'static LeadEvent>,
    /// Id of the entity in the path, if the path has one.
    pub id: Option<u64>,
    /// Generates a customer code if the request gives none; `None` without randomness.
    pub new_customer_code: fn() -> Option<String>,
}

/// Entity to which a decoded event applies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LeadEventTarget {
    /// A new entity, which the event creates.
    New(Kind),
    /// An existing entity, named by its id.
    Known(EntityKey),
    /// The customer that holds this code.
    Code(String),
}

/// Event of one request, decoded and valid in form.
#[derive(Clone, Debug)]
pub struct DecodedLeadEvent {
    /// Entry of the event in the table.
    pub event: &'static LeadEvent,
    /// Entity to which the event applies.
    pub target: LeadEventTarget,
    /// Action that the entity decides on.
    pub action: EntityAction,
    /// The event's own time, if the body gives one.
    pub at: Option<Timestamp>,
    /// Unique key that the event claims permanently: the code of a new customer.
    pub unique_key: Option<String>,
}

/// Decodes `body`. Of members with the same name the last one counts. Unknown members stay in the
/// payload, which is the body as it was received.
///
/// # Errors
/// [`ApiError::InvalidJson`], or [`ApiError::InvalidFields`] with every wrong field.
pub fn decode_lead_event(
    body: &VerifiedBody,
    context: LeadRequestContext,
) -> Result<DecodedLeadEvent, ApiError> {
    let text = replace_half_surrogates(body_text(body.bytes())?);
    let [event, source, timestamp, data] =
        find_members(&text, ["event", "source", "timestamp", "data"])
            .map_err(|error| ApiError::from_json_error(&error))?;

    let mut faults = FieldErrors::default();
    let event = decode_event_name(context.event, event, &mut faults);
    let sender = values::read_label(&mut faults, "source", source);
    let timestamp = faults.read_optional_time("timestamp", timestamp);
    let data = decode_data_object(data, &mut faults);

    let decoded = match (event, data) {
        (Some(event), Some(json)) => {
            let target = decode_target(event, context.id, json, &mut faults)?;
            let data = LeadEventData {
                json,
                sender: &sender,
                new_customer_code: context.new_customer_code,
            };
            let action = (event.read)(&data, &mut faults).map_err(|_| ApiError::Internal)?;
            target.map(|target| (event, target, action))
        }
        _ => None,
    };
    let decoded = faults.finish(decoded).map_err(strip_data_prefix)?;

    // A missing part has added a field error, so it cannot be missing after `finish`.
    let (event, target, action) = decoded.ok_or(ApiError::Internal)?;
    let LeadEventAction {
        action,
        at,
        unique_key,
    } = action;
    Ok(DecodedLeadEvent {
        event,
        target,
        action,
        at: at.or(timestamp),
        unique_key,
    })
}

/// Decodes the event name of the body, which must be `expected` if the path accepts one event only.
fn decode_event_name(
    expected: Option<&'static LeadEvent>,
    raw: Option<&RawValue>,
    faults: &mut FieldErrors,
) -> Option<&'static LeadEvent> {
    let raw = non_null(raw);
    let Some(expected) = expected else {
        let names = LEAD_EVENTS.map(|event| event.name);
        return LeadEvent::from_wire_name(&faults.read_one_of("event", raw, &names));
    };
    let name = faults.read_text("event", raw);
    if raw.is_some_and(|raw| raw.get().starts_with('"')) && name != expected.name {
        faults.add("event", format!("must be {} here", expected.name));
    }
    // Go on with the path's event, so that the answer also names the other wrong fields.
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

/// Decodes the target of `event` from the path's `id` or from `data`; `None`, with a field error,
/// if neither names an entity.
fn decode_target(
    event: &LeadEvent,
    id: Option<u64>,
    data: &str,
    faults: &mut FieldErrors,
) -> Result<Option<LeadEventTarget>, ApiError> {
    // `data` is known to be an object, so the lookup of a member cannot fail.
    let internal = |_| ApiError::Internal;

    Ok(match (event.subject, id) {
        (LeadEventSubject::New(kind), _) => Some(LeadEventTarget::New(kind)),
        (LeadEventSubject::Known(kind), Some(id)) => {
            Some(LeadEventTarget::Known(EntityKey::from_number(kind, id)))
        }
        (LeadEventSubject::Known(kind), None) => {
            let [pre_lead_id, lead_id] =
                find_members(data, ["pre_lead_id", "lead_id"]).map_err(internal)?;
            let raw = if kind == Kind::PreLead {
                pre_lead_id
            } else {
                lead_id
            };
            decode_known_entity(kind, raw, faults)
        }
        (LeadEventSubject::Customer, _) => {
            let [id, code] =
                find_members(data, ["customer_id", "customer_code"]).map_err(internal)?;
            match (non_null(id), non_null(code)) {
                (Some(id), _) => decode_known_entity(Kind::Customer, Some(id), faults),
                // The reader of the data checks the code too, and adds the field error.
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

/// Words the details as this contract does, which names a member of `data` without the prefix.
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

/// Returns the 404 for an id that was never allocated.
pub(super) fn no_such_entity(kind: Kind) -> ApiError {
    // The answer depends on the kind only. Ids begin with 1, so that 0 names no entity.
    ApiError::Rejected(entity::reject_absent(&EntityKey::from_number(kind, 0)))
}

#[cfg(test)]
mod tests;
