//! The headers of a delivery beside its signatures.

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use sha2::{Digest, Sha256};

use crate::config::Secret;
use crate::subscription::limits;

/// Standard Webhooks: the same for every attempt at one event.
pub(super) const WEBHOOK_ID: HeaderName = HeaderName::from_static("webhook-id");
/// The event's number among its entity's.
pub(super) const SEQUENCE_HEADER: HeaderName = HeaderName::from_static("x-entity-sequence");
/// There if a job brings the event again, so that its number may be lower than that of the one
/// before.
pub(crate) const REPLAY_MARK: HeaderName = HeaderName::from_static("x-hookyard-replay");
/// W3C Trace Context, level 1.
pub(super) const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// The headers that a subscription chose. Those that it cannot have were refused when it was made,
/// and are left out here too: one of them could end a request early.
pub(super) fn build_custom_headers(headers: &[(String, Secret)]) -> HeaderMap {
    let possible = headers
        .iter()
        .filter(|(name, _)| !limits::is_reserved_header(name));
    possible
        .filter_map(|(name, value)| parse_custom_header(name, value.expose()))
        .collect()
}

fn parse_custom_header(name: &str, value: &str) -> Option<(HeaderName, HeaderValue)> {
    let (name, mut value) = (
        HeaderName::from_bytes(name.as_bytes()).ok()?,
        HeaderValue::from_str(value).ok()?,
    );
    value.set_sensitive(true);
    Some((name, value))
}

/// The trace context of one attempt: one trace for everything about the event `id`, and a part of
/// its own for this attempt, which `attempt` tells from any other.
pub(super) fn build_traceparent(id: &str, attempt: &[&[u8]]) -> String {
    let trace = Sha256::digest(id);
    let part = attempt
        .iter()
        .fold(Sha256::new_with_prefix(id), |hash, piece| {
            hash.chain_update(piece)
        })
        .finalize();
    // Sampled: whether it is worth to be kept is for the subscriber to say.
    format!(
        "00-{}-{}-01",
        hex::encode(&trace[..16]),
        hex::encode(&part[..8])
    )
}
