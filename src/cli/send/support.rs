//! Builds an event of a ticket as a CRM sends it: API key, signature over body and time,
//! idempotency key.

use serde::Serialize;
use serde_json::{Value, json};

use super::data::JsonObject;
use super::error::SendCommandError;
use super::request::{EventOptions, SignedEventRequest, to_json};
use crate::config::{Secret, SupportConfig};
use crate::edge::support::signature;

/// Ticket of a sample event without `--entity`.
pub(in crate::cli) const SAMPLE_TICKET: &str = "SUP-1042";

const PATH: &str = "/api/v0/crm/webhooks/support/";
const KEYS: [&str; 2] = ["sources.support.api_keys", "sources.support.secrets"];

#[derive(Serialize)]
struct SupportSendBody {
    event: &'static str,
    support_uid: String,
    timestamp: String,
    data: JsonObject,
    actor: Value,
}

pub(super) fn build_support_request(
    mut options: EventOptions,
    config: &SupportConfig,
) -> Result<SignedEventRequest, SendCommandError> {
    let (Some(api_key), Some(secret)) = (config.api_keys.first(), config.secrets.first()) else {
        return Err(SendCommandError::NoSecrets(&KEYS));
    };
    let body = to_json(&SupportSendBody {
        event: options.event.name,
        timestamp: options.time_text(),
        data: options.take_data(),
        actor: json!({"id": "cli", "name": "hookyard send"}),
        support_uid: options
            .entity
            .take()
            .unwrap_or_else(|| SAMPLE_TICKET.to_owned()),
    });
    let signed_at = options.now.to_string();
    let headers = vec![
        ("X-CRM-API-Key", api_key.clone()),
        (
            "X-CRM-Signature",
            Secret::new(signature::sign_support_body(secret, &body, &signed_at)),
        ),
        ("X-CRM-Timestamp", Secret::new(signed_at)),
        ("Idempotency-Key", Secret::new(options.take_key())),
    ];
    Ok(SignedEventRequest {
        path: PATH.to_owned(),
        headers,
        body,
    })
}
