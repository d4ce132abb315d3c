//! An event of a pre-lead, a lead or a customer, as a CRM sends it: to the path of the event,
//! signed if there are secrets.

use serde::Serialize;

use super::data::{JsonObject, parse_id};
use super::error::SendCommandError;
use super::request::{EventOptions, SignedEventRequest, to_json};
use crate::config::{LeadsConfig, Secret};
use crate::edge::leads::{BASE_PATH, LeadEvent, LeadEventSubject, signature};

#[derive(Serialize)]
struct LeadsSendBody {
    event: &'static str,
    source: &'static str,
    timestamp: String,
    data: JsonObject,
}

pub(super) fn build_leads_request(
    mut wanted: EventOptions,
    event: &'static LeadEvent,
    config: &LeadsConfig,
) -> Result<SignedEventRequest, SendCommandError> {
    let mut data = wanted.take_data();
    let path = event_path(&wanted, event, &mut data)?;
    let body = to_json(&LeadsSendBody {
        event: event.name,
        source: "hookyard send",
        timestamp: wanted.time_text(),
        data,
    });
    let mut headers = vec![("Idempotency-Key", Secret::new(wanted.take_key()))];
    if let Some(secret) = config.secrets.first() {
        headers.push((
            "X-Webhook-Signature",
            Secret::new(signature::sign_lead_body(secret, &body)),
        ));
    }
    Ok(SignedEventRequest {
        path,
        headers,
        body,
    })
}

/// The path of the event, with the entity in it, or else in `data`.
fn event_path(
    wanted: &EventOptions,
    event: &LeadEvent,
    data: &mut JsonObject,
) -> Result<String, SendCommandError> {
    let path = event.path.map_or_else(
        || BASE_PATH.to_owned(),
        |path| format!("{BASE_PATH}/{path}"),
    );
    let name = wanted.event.name;
    match (event.subject, &wanted.entity) {
        (LeadEventSubject::New(_) | LeadEventSubject::Customer, None) => Ok(path),
        (LeadEventSubject::New(_), Some(_)) => {
            Err(SendCommandError::NamelessEntity { event: name })
        }
        (LeadEventSubject::Known(_), Some(number)) if number.parse::<u64>().is_ok() => {
            Ok(path.replace("{id}", number))
        }
        (LeadEventSubject::Known(kind), _) => Err(SendCommandError::NoEntity {
            event: name,
            kind: kind.as_str(),
        }),
        (LeadEventSubject::Customer, Some(customer)) => {
            // One of the two names it; the other would be the sample's.
            let (named, other) = match parse_id(customer).is_number() {
                true => ("customer_id", "customer_code"),
                false => ("customer_code", "customer_id"),
            };
            data.remove(other);
            data.set(named, parse_id(customer));
            Ok(path)
        }
    }
}
