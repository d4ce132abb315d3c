//! Builds a lead event as Contact2Sale sends it: the bare event, with a token.

use serde_json::Value;

use super::error::SendCommandError;
use super::request::{EventOptions, SignedEventRequest, to_json};
use crate::config::C2sConfig;

const PATH: &str = "/api/v1/webhooks/c2s";
const KEYS: [&str; 1] = ["sources.c2s.tokens"];

pub(super) fn build_c2s_request(
    mut options: EventOptions,
    config: &C2sConfig,
) -> Result<SignedEventRequest, SendCommandError> {
    let Some(token) = config.tokens.first() else {
        return Err(SendCommandError::NoSecrets(&KEYS));
    };
    if options.key.is_some() {
        return Err(SendCommandError::NoKey {
            event: options.event.name,
            known_by: "--at",
        });
    }
    let is_sample = options.data.is_none();
    let sample = options.event.sample();
    let mut event = options.take_data();
    event.fill("lead_id", options.entity.take().map(Value::from), || {
        sample.get("lead_id").unwrap_or_default()
    });
    if is_sample {
        // Time identifies an event of a lead: with the sample's own time, every second send would
        // be a duplicate.
        event.remove("updated_at");
    }
    let at = options.at.as_ref().map(|at| Value::from(at.text.clone()));
    let has_own = event
        .get("attributes")
        .is_some_and(|attributes| !attributes["updated_at"].is_null());
    if at.is_some() || !has_own {
        event.fill("updated_at", at, || options.now.to_string().into());
    }
    Ok(SignedEventRequest {
        path: PATH.to_owned(),
        headers: vec![("X-Webhook-Token", token.clone())],
        body: to_json(&event),
    })
}
