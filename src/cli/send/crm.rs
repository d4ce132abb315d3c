//! An event of the CRM's bus, as a publisher sends it: with a bearer token and an idempotency key.

use serde::Serialize;

use super::data::{JsonObject, parse_id};
use super::error::SendCommandError;
use super::request::{EventOptions, SignedEventRequest, to_json};
use crate::config::{CrmConfig, Secret};

const PATH: &str = "/api/v1/events";
const KEYS: [&str; 1] = ["sources.crm.tokens"];
/// The entity of a declared event that names none; there is no example of its data.
const SAMPLE_ID: u64 = 1;

#[derive(Serialize)]
struct CrmSendBody {
    event: &'static str,
    timestamp: String,
    data: JsonObject,
}

/// Signs with `admin_token` if there is no publisher's, which is as good.
pub(super) fn build_crm_request(
    mut wanted: EventOptions,
    config: &CrmConfig,
    admin_token: &Secret,
) -> Result<SignedEventRequest, SendCommandError> {
    let token = config
        .tokens
        .first()
        .or_else(|| Some(admin_token).filter(|token| !token.is_empty()));
    let Some(token) = token else {
        return Err(SendCommandError::NoSecrets(&KEYS));
    };
    let mut data = wanted.take_data();
    let what = wanted.event.name.split('.').next().unwrap_or_default();
    let given = wanted.entity.take().map(|entity| parse_id(&entity));
    if given.is_some() || data.get("id").is_none() {
        data.fill(&format!("{what}_id"), given, || SAMPLE_ID.into());
    }
    let body = to_json(&CrmSendBody {
        event: wanted.event.name,
        timestamp: wanted.time_text(),
        data,
    });
    let headers = vec![
        (
            "Authorization",
            Secret::new(format!("Bearer {}", token.expose())),
        ),
        ("Idempotency-Key", Secret::new(wanted.take_key())),
    ];
    Ok(SignedEventRequest {
        path: PATH.to_owned(),
        headers,
        body,
    })
}
