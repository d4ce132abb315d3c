//! A request against Contact2Sale's contract: one event, or a list of them.

use bytes::Bytes;

use super::{Half, line, lines, list, proof};
use crate::config::C2s;
use crate::edge::c2s::{Event, Request as Events, decode};
use crate::edge::error::Error;
use crate::edge::fault::Fault;
use crate::provider::Request;

pub(super) fn judge(config: &C2s, request: &Request<'_>) -> [Half; 2] {
    let given = request.header("x-webhook-token").unwrap_or_default().as_bytes();
    let is_known = config.tokens.iter().any(|token| !token.is_empty() && token.matches(given));
    let mut text = line("x-webhook-token", proof(is_known));
    if !config.ip_allowlist.is_empty() {
        text += &line("address", "not looked at; a node takes calls from sources.c2s.ip_allowlist only");
    }
    let decoding = match decode(&Bytes::copy_from_slice(request.body)) {
        Ok(Events::Single(event)) => event.map_or_else(|faults| Error::Invalid(faults).into(), |event| single(&event)),
        Ok(Events::Batch(events)) => list(&events.into_iter().map(member).collect::<Vec<_>>()),
        Err(error) => error.into(),
    };
    [Half { is_good: is_known, text }, decoding]
}

fn single(event: &Event) -> Half {
    Half::good(lines(&[
        ("entity", &format!("{} {}", event.entity.kind(), event.entity.id())),
        ("key", "its lead_id and its time"),
        ("time", &event.at.to_string()),
    ]))
}

fn member(event: Result<Event, Vec<Fault>>) -> Result<String, Vec<String>> {
    event
        .map(|event| format!("{} {} at {}", event.entity.kind(), event.entity.id(), event.at))
        .map_err(|faults| faults.into_iter().map(|fault| fault.detail).collect())
}
