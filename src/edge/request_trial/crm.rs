//! Checks a request against the CRM's event bus: one event, or a list of events.

use bytes::Bytes;
use tracing::Span;

use super::finding::{
    TrialFinding, describe_command, describe_events, describe_proof, format_line,
};
use crate::config::{CrmConfig, Secret};
use crate::edge::body::{body_text, strip_byte_order_mark};
use crate::edge::crm::{BusEventCatalogue, PUBLISHED_EVENTS_MAX, decode_bus_event};
use crate::edge::error::ApiError;
use crate::edge::raw_json;
use crate::provider::RequestView;

pub(super) fn check_crm(
    config: &CrmConfig,
    admin_token: &Secret,
    request: &RequestView<'_>,
) -> [TrialFinding; 2] {
    let presented = request
        .single_header("authorization")
        .and_then(parse_bearer_token)
        .unwrap_or_default()
        .as_bytes();
    let mut tokens = std::iter::once(admin_token).chain(&config.tokens);
    let is_known = tokens.any(|token| !token.is_empty() && token.matches(presented));
    let verification = TrialFinding {
        is_good: is_known,
        text: format_line(
            "authorization",
            describe_proof(is_known, request, "authorization"),
        ),
    };
    [
        verification,
        decode_events(config, request).unwrap_or_else(TrialFinding::from),
    ]
}

/// Returns the token of an `Authorization` value. The scheme is case-insensitive (RFC 9110).
fn parse_bearer_token(value: &str) -> Option<&str> {
    let (scheme, token) = value.split_at_checked(7)?;
    scheme
        .eq_ignore_ascii_case("bearer ")
        .then(|| token.trim_ascii())
}

fn decode_events(config: &CrmConfig, request: &RequestView<'_>) -> Result<TrialFinding, ApiError> {
    let (events, body) = (
        BusEventCatalogue::new(config),
        strip_byte_order_mark(Bytes::copy_from_slice(request.body)),
    );
    let json = body_text(&body)?;
    let key = request
        .header("idempotency-key")
        .or_else(|| request.header("x-idempotency-key"))
        .map(str::as_bytes);
    if !json.trim_ascii_start().starts_with('[') {
        return Ok(describe_command(&decode_bus_event(
            &events,
            &body,
            json,
            key,
            Span::none(),
        )?));
    }
    let raw_json::RawItems { first, count } = raw_json::first_items(json, PUBLISHED_EVENTS_MAX)
        .map_err(|error| ApiError::from_json_error(&error))?;
    if !(1..=PUBLISHED_EVENTS_MAX).contains(&count) {
        return Ok(TrialFinding::failed(format!(
            "a list holds 1 to {PUBLISHED_EVENTS_MAX} events, not {count}"
        )));
    }
    let member = |json: &str| match decode_bus_event(&events, &body, json, None, Span::none()) {
        Ok(found) => Ok(format!(
            "{} of {} {}",
            found.event_type,
            found.entity.kind(),
            found.entity.id()
        )),
        Err(ApiError::InvalidFields(faults)) => {
            Err(faults.into_iter().map(|fault| fault.detail).collect())
        }
        Err(error) => Err(vec![error.to_string()]),
    };
    Ok(describe_events(
        &first
            .into_iter()
            .map(|item| member(item.get()))
            .collect::<Vec<_>>(),
    ))
}
