//! Builds an event of a pre-lead, a lead or a customer as a CRM sends it: posted to the event's
//! path, signed if there are secrets.

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
    mut options: EventOptions,
    event: &'static LeadEvent,
    config: &LeadsConfig,
) -> Result<SignedEventRequest, SendCommandError> {
    let mut data = options.take_data();
    let path = event_path(&options, event, &mut data)?;
    let body = to_json(&LeadsSendBody {
        event: event.name,
        source: "hookyard send",
        timestamp: options.time_text(),
        data,
    });
    let mut headers = vec![("Idempotency-Key", Secret::new(options.take_key()))];
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

/// Returns the path of the event. The entity stands in the path or is set in `data`.
fn event_path(
    options: &EventOptions,
    event: &LeadEvent,
    data: &mut JsonObject,
) -> Result<String, SendCommandError> {
    let path = event.path.map_or_else(
        || BASE_PATH.to_owned(),
        |path| format!("{BASE_PATH}/{path}"),
    );
    let name = options.event.name;
    match (event.subject, &options.entity) {
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
            // The sample's other identifier would name another customer.
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
