//! A request against the CRM's event bus: one event, or a list of them.

use bytes::Bytes;
use tracing::Span;

use super::{Half, command, line, list, proof};
use crate::config::{Crm, Secret};
use crate::edge::body::text;
use crate::edge::crm::{Catalogue, EVENTS_MAX, decode};
use crate::edge::error::Error;
use crate::edge::raw;
use crate::provider::Request;

pub(super) fn judge(config: &Crm, admin_token: &Secret, request: &Request<'_>) -> [Half; 2] {
    let given = request.header("authorization").and_then(bearer).unwrap_or_default().as_bytes();
    let mut tokens = std::iter::once(admin_token).chain(&config.tokens);
    let is_known = tokens.any(|token| !token.is_empty() && token.matches(given));
    let verification = Half { is_good: is_known, text: line("authorization", proof(is_known)) };
    [verification, read(config, request).unwrap_or_else(Half::from)]
}

/// The token of a header's value; the scheme's case does not matter.
fn bearer(value: &str) -> Option<&str> {
    let (scheme, token) = value.split_at_checked(7)?;
    scheme.eq_ignore_ascii_case("bearer ").then(|| token.trim_ascii())
}

fn read(config: &Crm, request: &Request<'_>) -> Result<Half, Error> {
    let (events, body) = (Catalogue::new(config), Bytes::copy_from_slice(request.body));
    let json = text(&body)?;
    let key = request.header("idempotency-key").or_else(|| request.header("x-idempotency-key")).map(str::as_bytes);
    if !json.trim_ascii_start().starts_with('[') {
        return Ok(command(&decode(&events, &body, json, key, Span::none())?));
    }
    let raw::Items { first, count } = raw::items(json, EVENTS_MAX).map_err(|error| Error::not_json(&error))?;
    if !(1..=EVENTS_MAX).contains(&count) {
        return Ok(Half::wrong(format!("a list holds 1 to {EVENTS_MAX} events, not {count}")));
    }
    let member = |json: &str| match decode(&events, &body, json, None, Span::none()) {
        Ok(found) => Ok(format!("{} of {} {}", found.event_type, found.entity.kind(), found.entity.id())),
        Err(Error::Invalid(faults)) => Err(faults.into_iter().map(|fault| fault.detail).collect()),
        Err(error) => Err(vec![error.to_string()]),
    };
    Ok(list(&first.into_iter().map(|item| member(item.get())).collect::<Vec<_>>()))
}
