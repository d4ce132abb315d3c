//! What makes a request a repeat of another: its idempotency key, and what it must have in common
//! with the first.

use std::str;

use actix_web::http::header::{HeaderMap, HeaderName};
use actix_web::{HttpRequest, HttpResponse};
use bytes::Bytes;
use sha2::{Digest, Sha256};

use super::answer;
use super::error::Error;
use super::fields::FieldErrors;
use super::gate::NodeCore;
use crate::event::{ID_MAX_BYTES, Position, Record, check_id};

const IDEMPOTENCY_KEY: &str = "idempotency-key";
/// Says that an answer is that of an earlier request.
const IDEMPOTENT_REPLAY: HeaderName = HeaderName::from_static("idempotent-replay");

/// The key of a request, if it has one.
///
/// # Errors
/// [`Error::Invalid`] for a key that cannot be one.
pub(super) fn parse_idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Error> {
    let Some(given) = headers.get(IDEMPOTENCY_KEY) else {
        return Ok(None);
    };
    let key = str::from_utf8(given.as_bytes())
        .ok()
        .filter(|key| check_id(key).is_ok());
    let mut faults = FieldErrors::default();
    if key.is_none() {
        let problem =
            format!("must have 1 to {ID_MAX_BYTES} bytes of UTF-8 and no control characters");
        faults.add("Idempotency-Key", problem);
    }
    faults.finish(key.map(str::to_owned))
}

/// What a request with the same key must have in common: the path, in either of its spellings, and
/// the body.
pub(super) fn request_fingerprint(request: &HttpRequest, body: &Bytes) -> [u8; 32] {
    let path = request.path().trim_end_matches('/');
    // No path has a zero byte in it.
    Sha256::new()
        .chain_update(path)
        .chain_update([0])
        .chain_update(body)
        .finalize()
        .into()
}

/// The record at `position`, of the first request with the key, if that was the same as this one,
/// of which `fingerprint` is.
///
/// # Errors
/// [`Error::KeyReused`] if it was another, or those of reading it.
pub(super) async fn load_first_record(
    core: &NodeCore,
    position: Position,
    fingerprint: Option<[u8; 32]>,
) -> Result<Record, Error> {
    let first = core
        .reads
        .await_record(position)
        .await?
        .ok_or(Error::Unavailable)?
        .record;
    if first.request_hash == fingerprint {
        Ok(first)
    } else {
        Err(Error::IdempotencyKeyReused)
    }
}

/// Says in `response` that it is the answer to an earlier request.
pub(super) fn mark_replay(response: &mut HttpResponse) {
    answer::set_header(response.headers_mut(), IDEMPOTENT_REPLAY, "true");
}
