//! An event of a ticket, as a CRM sends it: API key, signature over body and time, idempotency key.

use serde::Serialize;
use serde_json::{Value, json};

use super::data::Data;
use super::error::Error;
use super::request::{Request, Wanted, to_json};
use crate::config::{Secret, Support};
use crate::edge::support::signature;

/// The ticket of a sample event that names no other.
pub(in crate::cli) const SAMPLE_TICKET: &str = "SUP-1042";

const PATH: &str = "/api/v0/crm/webhooks/support/";
const KEYS: [&str; 2] = ["sources.support.api_keys", "sources.support.secrets"];

#[derive(Serialize)]
struct Body {
    event: &'static str,
    support_uid: String,
    timestamp: String,
    data: Data,
    actor: Value,
}

pub(super) fn request(mut wanted: Wanted, config: &Support) -> Result<Request, Error> {
    let (Some(api_key), Some(secret)) = (config.api_keys.first(), config.secrets.first()) else {
        return Err(Error::NoSecrets(&KEYS));
    };
    let body = to_json(&Body {
        event: wanted.event.name,
        timestamp: wanted.at(),
        data: wanted.take_data(),
        actor: json!({"id": "cli", "name": "hookyard send"}),
        support_uid: wanted.entity.take().unwrap_or_else(|| SAMPLE_TICKET.to_owned()),
    });
    let signed_at = wanted.now.to_string();
    let headers = vec![
        ("X-CRM-API-Key", api_key.clone()),
        ("X-CRM-Signature", Secret::new(signature::sign(secret, &body, &signed_at))),
        ("X-CRM-Timestamp", Secret::new(signed_at)),
        ("Idempotency-Key", Secret::new(wanted.take_key())),
    ];
    Ok(Request { path: PATH.to_owned(), headers, body })
}
