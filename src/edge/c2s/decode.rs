//! Decoder of a body into its events, each decoded by itself, or with every wrong field named.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use bytes::Bytes;
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::super::body::body_text;
use super::super::error::ApiError;
use super::super::field_error::FieldError;
use super::super::fields::{FieldErrors, non_null};
use super::super::raw_json;
use crate::entity::c2s_lead::C2sLeadAction;
use crate::entity::generic::JsonText;
use crate::event::{
    EntityKey, ID_MAX_BYTES, Kind, Timestamp, find_members, replace_half_surrogates,
};

/// Most events in one request.
pub const BATCH_MAX: usize = 1_000;

/// Fields that a state keeps before any others, if there is no room for all.
const LEADING_FIELDS: [&str; 5] = [
    "lead_id",
    "updated_at",
    "hook_action",
    "customer",
    "attributes",
];

/// Most other fields of one event that are kept; a state keeps no more by default.
const OTHER_FIELDS_MAX: usize = 1_000;

/// One valid event, ready to be submitted to its entity.
#[derive(Debug)]
pub struct C2sEvent {
    /// Lead of the event, as an entity.
    pub entity: EntityKey,
    /// Action that the lead decides on.
    pub action: C2sLeadAction,
    /// Time of the event: its `updated_at`.
    pub at: Timestamp,
    /// JSON text of the event as it was received.
    pub payload: Bytes,
}

/// Events of one request, each valid or with its field errors.
#[derive(Debug)]
pub enum C2sRequest {
    /// A body that is one event.
    Single(Result<C2sEvent, Vec<FieldError>>),
    /// A list of 1 to [`BATCH_MAX`] events.
    Batch(Vec<Result<C2sEvent, Vec<FieldError>>>),
}

/// Decodes `body`. Of members with the same name the last one counts; unknown members are kept.
///
/// # Errors
/// [`ApiError::InvalidJson`], or [`ApiError::InvalidFields`] for a list that is empty or too long.
pub fn decode_c2s_request(body: &Bytes) -> Result<C2sRequest, ApiError> {
    let text = body_text(body)?;
    if !text.trim_ascii_start().starts_with('[') {
        let whole: &RawValue =
            serde_json::from_str(text).map_err(|error| ApiError::from_json_error(&error))?;
        if !whole.get().starts_with('{') {
            return Err(ApiError::InvalidJson(
                "body must be a JSON object or a list of them".into(),
            ));
        }
        return Ok(C2sRequest::Single(decode_c2s_event(whole, body)));
    }
    let raw_json::RawItems {
        first: items,
        count,
    } = raw_json::first_items(text, BATCH_MAX)
        .map_err(|error| ApiError::from_json_error(&error))?;
    if !(1..=BATCH_MAX).contains(&count) {
        let detail = format!("body must have 1 to {BATCH_MAX} events");
        return Err(ApiError::InvalidFields(vec![FieldError {
            field: "body".into(),
            detail,
        }]));
    }
    Ok(C2sRequest::Batch(
        items
            .into_iter()
            .map(|item| decode_c2s_event(item, body))
            .collect(),
    ))
}

/// Decodes the event in `raw`, a part of `body`.
fn decode_c2s_event(raw: &RawValue, body: &Bytes) -> Result<C2sEvent, Vec<FieldError>> {
    let mut faults = FieldErrors::default();
    let readable = replace_half_surrogates(raw.get());
    let decoded = decode_c2s_members(&readable, &mut faults);
    match (faults.finish(()), decoded) {
        (Ok(()), Some((entity, action, at))) => Ok(C2sEvent {
            entity,
            action,
            at,
            payload: body.slice_ref(raw.get().as_bytes()),
        }),
        (Err(ApiError::InvalidFields(faults)), _) => Err(faults),
        // Unreachable: an event that cannot be decoded has a field error.
        (Ok(()) | Err(_), _) => Err(vec![FieldError {
            field: "event".into(),
            detail: "event cannot be read".into(),
        }]),
    }
}

fn decode_c2s_members(
    json: &str,
    faults: &mut FieldErrors,
) -> Option<(EntityKey, C2sLeadAction, Timestamp)> {
    let Ok(C2sMembers { first, others }) = serde_json::from_str(json) else {
        faults.add("event", "must be a JSON object of valid Unicode text");
        return None;
    };
    let [lead_id, updated_at, hook_action, customer, attributes] = first;
    let id = decode_lead_id(lead_id, faults);
    let updated_at = decode_updated_at(updated_at, attributes, faults);
    let hook_action_text = faults.read_optional_text("hook_action", hook_action);
    faults.check_optional_object("customer", customer);
    let (entity, updated_at) = (EntityKey::try_new(Kind::C2sLead, &id?).ok()?, updated_at?);

    // The state shows the time in the common format, also if it came in the attributes.
    let updated_at_text = serde_json::value::to_raw_value(&updated_at).ok()?;
    let named = LEADING_FIELDS.into_iter().zip([
        lead_id,
        Some(&updated_at_text),
        hook_action,
        customer,
        attributes,
    ]);
    let named = named.filter_map(|(name, raw)| Some((name.to_owned(), JsonText::from_raw(raw?))));
    let others = others
        .into_iter()
        .map(|(name, raw)| (name.into_owned(), JsonText::from_raw(raw)));
    let action = C2sLeadAction::Received {
        updated_at,
        hook_action: hook_action_text,
        fields: named.chain(others).collect(),
    };
    Some((entity, action, updated_at))
}

/// Decodes the lead's id: a string, or the digits of a number, so that `7` and `"7"` are one lead.
fn decode_lead_id(raw: Option<&RawValue>, faults: &mut FieldErrors) -> Option<String> {
    let Some(raw) = non_null(raw) else {
        faults.add("lead_id", "is required");
        return None;
    };
    if raw.get().starts_with('"') {
        return Some(faults.read_id("lead_id", Some(raw)));
    }
    let id = raw_json::parse_id(raw);
    if id.is_none() {
        faults.add(
            "lead_id",
            format!("must be a string or a whole number, of at most {ID_MAX_BYTES} bytes"),
        );
    }
    id
}

/// Decodes the event's own time: `updated_at` at the top level, else in `attributes`.
fn decode_updated_at(
    raw: Option<&RawValue>,
    attributes: Option<&RawValue>,
    faults: &mut FieldErrors,
) -> Option<Timestamp> {
    if non_null(raw).is_some() {
        return faults.read_optional_time("updated_at", raw);
    }
    let attributes = attributes.filter(|attributes| raw_json::is_object(attributes));
    if attributes
        .is_some_and(|attributes| !faults.check_member_names("attributes", attributes.get()))
    {
        return None;
    }
    let nested =
        attributes.and_then(|attributes| find_members(attributes.get(), ["updated_at"]).ok());
    let [nested] = nested.unwrap_or_default();
    if non_null(nested).is_none() {
        faults.add("updated_at", "is required");
    }
    faults.read_optional_time("attributes.updated_at", nested)
}

/// Members of an event as raw JSON: those of [`LEADING_FIELDS`], and the others by name.
struct C2sMembers<'a> {
    first: [Option<&'a RawValue>; LEADING_FIELDS.len()],
    others: BTreeMap<Cow<'a, str>, &'a RawValue>,
}

impl<'de: 'a, 'a> Deserialize<'de> for C2sMembers<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(C2sMembersVisitor)
    }
}

struct C2sMembersVisitor;

impl<'de> Visitor<'de> for C2sMembersVisitor {
    type Value = C2sMembers<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = C2sMembers {
            first: [None; LEADING_FIELDS.len()],
            others: BTreeMap::new(),
        };
        while let Some(MemberName(name)) = map.next_key()? {
            match LEADING_FIELDS.iter().position(|known| *known == name) {
                Some(index) => found.first[index] = Some(map.next_value()?),
                None if found.others.len() < OTHER_FIELDS_MAX
                    || found.others.contains_key(&name) =>
                {
                    found.others.insert(name, map.next_value()?);
                }
                None => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(found)
    }
}

/// Name of a member, copied only if it has escapes.
#[derive(serde::Deserialize)]
struct MemberName<'a>(#[serde(borrow)] Cow<'a, str>);

#[cfg(test)]
mod tests;
