//! From a verified body to what it asks of whom, with every wrong field named.

use serde_json::value::RawValue;

use super::super::body::text;
use super::super::error::Error;
use super::super::fields::{Faults, present};
use super::super::signature::Verified;
use super::catalogue::{EVENTS, Event, Subject, id_path};
use super::data::{Data, Wish};
use super::values;
use crate::entity::{self, Action};
use crate::event::{EntityKey, Kind, Timestamp, members};

/// What is known of a request beside its body.
#[derive(Clone, Copy, Debug)]
pub struct Given {
    /// The event that its path takes; `None` for the path that takes all.
    pub event: Option<&'static Event>,
    /// The entity that its path names.
    pub id: Option<u64>,
    /// Makes a code for a customer that is given none; `None` without randomness.
    pub new_code: fn() -> Option<String>,
}

/// Whom an event is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// An entity that begins with it.
    New(Kind),
    /// One that is known by its id.
    Known(EntityKey),
    /// The customer with this code.
    Code(String),
}

/// A decoded event.
#[derive(Clone, Debug)]
pub struct Decoded {
    /// Which one it is.
    pub event: &'static Event,
    /// Whom it is for.
    pub target: Target,
    /// What it asks for.
    pub action: Action,
    /// Its own time, if it has one.
    pub at: Option<Timestamp>,
    /// What it claims for ever.
    pub code: Option<String>,
}

/// Decodes `body`. Of members with one name the last one counts; unknown ones stay in the payload, which is the body as it
/// was received.
///
/// # Errors
/// [`Error::InvalidJson`], or [`Error::Invalid`] with every wrong field.
pub fn decode(body: &Verified, given: Given) -> Result<Decoded, Error> {
    let text = text(body.body())?;
    let [event, source, timestamp, data] =
        members(text, ["event", "source", "timestamp", "data"]).map_err(|error| Error::not_json(&error))?;
    let mut faults = Faults::default();
    let event = event_of(given.event, event, &mut faults);
    let who = values::label(&mut faults, "source", source);
    let timestamp = faults.optional_time("timestamp", timestamp);
    let data = object(data, &mut faults);
    let read = match (event, data) {
        (Some(event), Some(json)) => {
            let target = target(event, given.id, json, &mut faults)?;
            let data = Data { json, who: &who, new_code: given.new_code };
            let wish = (event.read)(&data, &mut faults).map_err(|_| Error::Internal)?;
            target.map(|target| (event, target, wish))
        }
        _ => None,
    };
    let read = faults.finish(read).map_err(without_data)?;
    // Whatever is missing here was noted as a fault.
    let (event, target, Wish { action, at, code }) = read.ok_or(Error::Internal)?;
    Ok(Decoded { event, target, action, at: at.or(timestamp), code })
}

/// The event that the body names, which is the one that its path takes.
fn event_of(expected: Option<&'static Event>, raw: Option<&RawValue>, faults: &mut Faults) -> Option<&'static Event> {
    let raw = present(raw);
    let Some(expected) = expected else {
        let names = EVENTS.map(|event| event.name);
        return Event::find(&faults.one_of("event", raw, &names));
    };
    let name = faults.text("event", raw);
    if raw.is_some_and(|raw| raw.get().starts_with('"')) && name != expected.name {
        faults.add("event", format!("must be {} here", expected.name));
    }
    // What else is wrong can be said even if the event is another one.
    Some(expected)
}

fn object<'a>(data: Option<&'a RawValue>, faults: &mut Faults) -> Option<&'a str> {
    let Some(data) = present(data) else {
        faults.add("data", "is required");
        return None;
    };
    faults.optional_object("data", Some(data));
    (data.get().starts_with('{') && faults.names("data", data.get())).then(|| data.get())
}

/// Whom `event` is for, by its path or by `data`; `None`, and noted, if neither says so.
fn target(event: &Event, id: Option<u64>, data: &str, faults: &mut Faults) -> Result<Option<Target>, Error> {
    let not_object = |_| Error::Internal;
    Ok(match (event.subject, id) {
        (Subject::New(kind), _) => Some(Target::New(kind)),
        (Subject::Known(kind), Some(id)) => Some(Target::Known(EntityKey::numbered(kind, id))),
        (Subject::Known(kind), None) => {
            let [pre_lead_id, lead_id] = members(data, ["pre_lead_id", "lead_id"]).map_err(not_object)?;
            let raw = if kind == Kind::PreLead { pre_lead_id } else { lead_id };
            known(kind, raw, faults)
        }
        (Subject::Customer, _) => {
            let [id, code] = members(data, ["customer_id", "customer_code"]).map_err(not_object)?;
            match (present(id), present(code)) {
                (Some(id), _) => known(Kind::Customer, Some(id), faults),
                // A wrong code is noted where the rest of the data is read.
                (None, Some(code)) => Some(Target::Code(Faults::default().id("data.customer_code", Some(code)))),
                (None, None) => {
                    faults.add("data.customer_id", "or customer_code is required");
                    None
                }
            }
        }
    })
}

fn known(kind: Kind, raw: Option<&RawValue>, faults: &mut Faults) -> Option<Target> {
    let id = values::id(faults, id_path(kind)?, raw)?;
    Some(Target::Known(EntityKey::numbered(kind, id)))
}

/// The same faults in the words of this contract, which calls a member of `data` by its name alone.
fn without_data(error: Error) -> Error {
    let Error::Invalid(mut faults) = error else { return error };
    for fault in &mut faults {
        if let Some(detail) = fault.detail.strip_prefix("data.") {
            fault.detail = detail.to_owned();
        }
    }
    Error::Invalid(faults)
}

/// The answer to a path whose id is none that was ever given.
pub(super) fn no_such(kind: Kind) -> Error {
    // Ids begin with 1; the kind alone words the answer.
    Error::Rejected(entity::absent(&EntityKey::numbered(kind, 0)))
}

#[cfg(test)]
mod tests;
