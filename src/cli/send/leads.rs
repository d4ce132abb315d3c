//! An event of a pre-lead, a lead or a customer, as a CRM sends it: to the path of the event, signed if there are secrets.

use serde::Serialize;

use super::data::{Data, id};
use super::error::Error;
use super::request::{Request, Wanted, to_json};
use crate::config::{Leads, Secret};
use crate::edge::leads::{BASE, Event, Subject, signature};

#[derive(Serialize)]
struct Body {
    event: &'static str,
    source: &'static str,
    timestamp: String,
    data: Data,
}

pub(super) fn request(mut wanted: Wanted, event: &'static Event, config: &Leads) -> Result<Request, Error> {
    let mut data = wanted.take_data();
    let path = address(&wanted, event, &mut data)?;
    let body = to_json(&Body { event: event.name, source: "hookyard send", timestamp: wanted.at(), data });
    let mut headers = vec![("Idempotency-Key", Secret::new(wanted.take_key()))];
    if let Some(secret) = config.secrets.first() {
        headers.push(("X-Webhook-Signature", Secret::new(signature::sign(secret, &body))));
    }
    Ok(Request { path, headers, body })
}

/// The path of the event, with the entity in it, or else in `data`.
fn address(wanted: &Wanted, event: &Event, data: &mut Data) -> Result<String, Error> {
    let path = event.path.map_or_else(|| BASE.to_owned(), |path| format!("{BASE}/{path}"));
    let name = wanted.event.name;
    match (event.subject, &wanted.entity) {
        (Subject::New(_) | Subject::Customer, None) => Ok(path),
        (Subject::New(_), Some(_)) => Err(Error::NamelessEntity { event: name }),
        (Subject::Known(_), Some(number)) if number.parse::<u64>().is_ok() => Ok(path.replace("{id}", number)),
        (Subject::Known(kind), _) => Err(Error::NoEntity { event: name, kind: kind.as_str() }),
        (Subject::Customer, Some(customer)) => {
            // One of the two names it; the other would be the sample's.
            let (named, other) = match id(customer).is_number() {
                true => ("customer_id", "customer_code"),
                false => ("customer_code", "customer_id"),
            };
            data.remove(other);
            data.set(named, id(customer));
            Ok(path)
        }
    }
}
