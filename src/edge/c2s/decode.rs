//! From a body to the events in it, each judged by itself, with every wrong field named.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use bytes::Bytes;
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::super::body::text;
use super::super::error::Error;
use super::super::fault::Fault;
use super::super::fields::{Faults, present};
use super::super::raw;
use crate::entity::c2s_lead::Action;
use crate::entity::generic::Json;
use crate::event::{EntityKey, ID_MAX_BYTES, Kind, Timestamp, members};

/// The most events in one request.
pub const BATCH_MAX: usize = 1_000;

/// The fields that a state has before any others, should there be no room for all.
const FIRST: [&str; 5] = ["lead_id", "updated_at", "hook_action", "customer", "attributes"];

/// The most other fields of one event that are looked at; a state keeps no more by default.
const OTHERS_MAX: usize = 1_000;

/// One event that can be sent to its entity.
#[derive(Debug)]
pub struct Event {
    /// Its lead.
    pub entity: EntityKey,
    /// What it asks for.
    pub action: Action,
    /// Its own time.
    pub at: Timestamp,
    /// Its JSON text as it was received.
    pub payload: Bytes,
}

/// The events of one request, each as it was judged.
#[derive(Debug)]
pub enum Request {
    /// One object.
    Single(Result<Event, Vec<Fault>>),
    /// A list of 1 to [`BATCH_MAX`] of them.
    Batch(Vec<Result<Event, Vec<Fault>>>),
}

/// Decodes `body`. Of members with one name the last one counts; unknown ones are kept.
///
/// # Errors
/// [`Error::InvalidJson`], or [`Error::Invalid`] for a list that is empty or too long.
pub fn decode(body: &Bytes) -> Result<Request, Error> {
    let text = text(body)?;
    if !text.trim_ascii_start().starts_with('[') {
        let whole: &RawValue = serde_json::from_str(text).map_err(|error| Error::not_json(&error))?;
        if !whole.get().starts_with('{') {
            return Err(Error::InvalidJson("body must be a JSON object or a list of them".into()));
        }
        return Ok(Request::Single(event(whole, body)));
    }
    let raw::Items { first: items, count } = raw::items(text, BATCH_MAX).map_err(|error| Error::not_json(&error))?;
    if !(1..=BATCH_MAX).contains(&count) {
        let detail = format!("body must have 1 to {BATCH_MAX} events");
        return Err(Error::Invalid(vec![Fault { field: "body".into(), detail }]));
    }
    Ok(Request::Batch(items.into_iter().map(|item| event(item, body)).collect()))
}

/// The event in `raw`, a part of `body`.
fn event(raw: &RawValue, body: &Bytes) -> Result<Event, Vec<Fault>> {
    let mut faults = Faults::default();
    let read = read(raw, &mut faults);
    match (faults.finish(()), read) {
        (Ok(()), Some((entity, action, at))) => {
            Ok(Event { entity, action, at, payload: body.slice_ref(raw.get().as_bytes()) })
        }
        (Err(Error::Invalid(faults)), _) => Err(faults),
        // Whatever cannot be read has noted a fault.
        (Ok(()) | Err(_), _) => Err(vec![Fault { field: "event".into(), detail: "event cannot be read".into() }]),
    }
}

fn read(raw: &RawValue, faults: &mut Faults) -> Option<(EntityKey, Action, Timestamp)> {
    let Ok(Members { first, others }) = serde_json::from_str(raw.get()) else {
        faults.add("event", "must be a JSON object of valid Unicode text");
        return None;
    };
    let [lead_id, updated_at, hook_action, customer, attributes] = first;
    let id = lead_id_of(lead_id, faults);
    let updated_at = updated_at_of(updated_at, attributes, faults);
    let hook_action_text = faults.optional_text("hook_action", hook_action);
    faults.optional_object("customer", customer);
    let (entity, updated_at) = (EntityKey::try_new(Kind::C2sLead, &id?).ok()?, updated_at?);
    // Shown as every time is, and also where it came with the attributes.
    let shown = serde_json::value::to_raw_value(&updated_at).ok()?;
    let named = FIRST.into_iter().zip([lead_id, Some(&shown), hook_action, customer, attributes]);
    let named = named.filter_map(|(name, raw)| Some((name.to_owned(), Json::new(raw?))));
    let others = others.into_iter().map(|(name, raw)| (name.into_owned(), Json::new(raw)));
    let action = Action::Received { updated_at, hook_action: hook_action_text, fields: named.chain(others).collect() };
    Some((entity, action, updated_at))
}

/// The lead's id: a text, or a number as its digits, so that `7` and `"7"` are one.
fn lead_id_of(raw: Option<&RawValue>, faults: &mut Faults) -> Option<String> {
    let Some(raw) = present(raw) else {
        faults.add("lead_id", "is required");
        return None;
    };
    if raw.get().starts_with('"') {
        return Some(faults.id("lead_id", Some(raw)));
    }
    let id = raw::id(raw);
    if id.is_none() {
        faults.add("lead_id", format!("must be a string or a whole number, of at most {ID_MAX_BYTES} bytes"));
    }
    id
}

/// The event's own time, beside the attributes or else among them.
fn updated_at_of(raw: Option<&RawValue>, attributes: Option<&RawValue>, faults: &mut Faults) -> Option<Timestamp> {
    if present(raw).is_some() {
        return faults.optional_time("updated_at", raw);
    }
    let attributes = attributes.filter(|attributes| raw::is_object(attributes));
    if attributes.is_some_and(|attributes| !faults.names("attributes", attributes.get())) {
        return None;
    }
    let among = attributes.and_then(|attributes| members(attributes.get(), ["updated_at"]).ok());
    let [among] = among.unwrap_or_default();
    if present(among).is_none() {
        faults.add("updated_at", "is required");
    }
    faults.optional_time("attributes.updated_at", among)
}

/// The members of an event, unparsed: those of [`FIRST`], and the others by name.
struct Members<'a> {
    first: [Option<&'a RawValue>; FIRST.len()],
    others: BTreeMap<Cow<'a, str>, &'a RawValue>,
}

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(MembersVisitor)
    }
}

struct MembersVisitor;

impl<'de> Visitor<'de> for MembersVisitor {
    type Value = Members<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = Members { first: [None; FIRST.len()], others: BTreeMap::new() };
        while let Some(Name(name)) = map.next_key()? {
            match FIRST.iter().position(|wanted| *wanted == name) {
                Some(place) => found.first[place] = Some(map.next_value()?),
                None if found.others.len() < OTHERS_MAX || found.others.contains_key(&name) => {
                    found.others.insert(name, map.next_value()?);
                }
                None => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(found)
    }
}

/// A member's name, copied only if it has escapes.
#[derive(serde::Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

#[cfg(test)]
mod tests;
