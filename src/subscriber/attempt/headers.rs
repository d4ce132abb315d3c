//! Headers of a delivery other than its signatures.

use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use sha2::{Digest, Sha256};

use crate::config::Secret;
use crate::event::HOPS_HEADER;
use crate::subscription::limits;

/// Header of Standard Webhooks; its value is the same for every attempt at one event.
pub(super) const WEBHOOK_ID: HeaderName = HeaderName::from_static("webhook-id");
/// Number of the record among its entity's records.
pub(super) const SEQUENCE_HEADER: HeaderName = HeaderName::from_static("x-entity-sequence");
/// Present if a job delivers the event again. The sequence number may then be lower than that of
/// the delivery before.
pub(crate) const REPLAY_MARK: HeaderName = HeaderName::from_static("x-hookyard-replay");
/// Number of deliveries by which the receiver gets the event, this one included.
pub(super) const HOPS: HeaderName = HeaderName::from_static(HOPS_HEADER);
/// Header of W3C Trace Context, level 1.
pub(super) const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// Builds the headers that a subscription configured. Reserved headers are refused by the API and
/// left out here too: `content-length`, for example, could end a request early.
pub(super) fn build_custom_headers(headers: &[(String, Secret)]) -> HeaderMap {
    let allowed = headers
        .iter()
        .filter(|(name, _)| !limits::is_reserved_header(name));
    allowed
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

/// Builds the trace context of one attempt. All attempts at the event `id` share a trace id; the
/// parent id is a hash of `attempt`, which is unique to the attempt.
pub(super) fn build_traceparent(id: &str, attempt: &[&[u8]]) -> String {
    let trace = Sha256::digest(id);
    let parent = attempt
        .iter()
        .fold(Sha256::new_with_prefix(id), |hash, piece| {
            hash.chain_update(piece)
        })
        .finalize();
    // Flag "sampled": the subscriber decides for itself how many traces it keeps.
    format!(
        "00-{}-{}-01",
        hex::encode(&trace[..16]),
        hex::encode(&parent[..8])
    )
}
