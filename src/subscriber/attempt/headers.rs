//! Headers of a delivery other than its signatures.

use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use sha2::{Digest, Sha256};

use crate::config::Secret;
use crate::event::{HOPS_HEADER, TRACEPARENT_HEADER};
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
/// Trace of the event, with the span of the attempt.
pub(super) const TRACEPARENT: HeaderName = HeaderName::from_static(TRACEPARENT_HEADER);

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

/// Derives the span id of an attempt at the event `id` from `attempt`, which is unique to the attempt.
pub(super) fn derive_span_id(id: &str, attempt: &[&[u8]]) -> [u8; 8] {
    let hash = attempt
        .iter()
        .fold(Sha256::new_with_prefix(id), |hash, piece| {
            hash.chain_update(piece)
        });
    let digest = hash.finalize();
    *digest.first_chunk().expect("a digest has 32 bytes")
}
