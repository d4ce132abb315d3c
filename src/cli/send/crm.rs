//! Builds an event of the CRM's bus as a publisher sends it: with a bearer token and an idempotency
//! key.

use serde::Serialize;

use super::data::{JsonObject, parse_id};
use super::error::SendCommandError;
use super::request::{EventOptions, SignedEventRequest, to_json};
use crate::config::{CrmConfig, Secret};

const PATH: &str = "/api/v1/events";
const KEYS: [&str; 1] = ["sources.crm.tokens"];
/// Entity id of a declared event without `--entity`; declared events have no sample.
const SAMPLE_ID: u64 = 1;

#[derive(Serialize)]
struct CrmSendBody {
    event: &'static str,
    timestamp: String,
    data: JsonObject,
}

/// Uses `admin_token` if no publisher token is configured, since the bus accepts both.
pub(super) fn build_crm_request(
    mut options: EventOptions,
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
    let mut data = options.take_data();
    let kind_name = options.event.name.split('.').next().unwrap_or_default();
    let entity_id = options.entity.take().map(|entity| parse_id(&entity));
    if entity_id.is_some() || data.get("id").is_none() {
        data.fill(&format!("{kind_name}_id"), entity_id, || SAMPLE_ID.into());
    }
    let body = to_json(&CrmSendBody {
        event: options.event.name,
        timestamp: options.time_text(),
        data,
    });
    let headers = vec![
        (
            "Authorization",
            Secret::new(format!("Bearer {}", token.expose())),
        ),
        ("Idempotency-Key", Secret::new(options.take_key())),
    ];
    Ok(SignedEventRequest {
        path: PATH.to_owned(),
        headers,
        body,
    })
}
