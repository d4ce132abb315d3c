//! An event of a lead, as Contact2Sale sends it: bare, with a token.

use serde_json::Value;

use super::error::SendCommandError;
use super::request::{EventOptions, SignedEventRequest, to_json};
use crate::config::C2sConfig;

const PATH: &str = "/api/v1/webhooks/c2s";
const KEYS: [&str; 1] = ["sources.c2s.tokens"];

pub(super) fn build_c2s_request(
    mut wanted: EventOptions,
    config: &C2sConfig,
) -> Result<SignedEventRequest, SendCommandError> {
    let Some(token) = config.tokens.first() else {
        return Err(SendCommandError::NoSecrets(&KEYS));
    };
    if wanted.key.is_some() {
        return Err(SendCommandError::NoKey {
            event: wanted.event.name,
            known_by: "--at",
        });
    }
    let is_sample = wanted.data.is_none();
    let sample = wanted.event.sample();
    let mut event = wanted.take_data();
    event.fill("lead_id", wanted.entity.take().map(Value::from), || {
        sample.get("lead_id").unwrap_or_default()
    });
    if is_sample {
        // The instant tells events of a lead apart: the sample's own would be a duplicate ever
        // after.
        event.remove("updated_at");
    }
    let at = wanted.at.as_ref().map(|at| Value::from(at.text.clone()));
    let has_own = event
        .get("attributes")
        .is_some_and(|attributes| !attributes["updated_at"].is_null());
    if at.is_some() || !has_own {
        event.fill("updated_at", at, || wanted.now.to_string().into());
    }
    Ok(SignedEventRequest {
        path: PATH.to_owned(),
        headers: vec![("X-Webhook-Token", token.clone())],
        body: to_json(&event),
    })
}
