//! Idempotency of requests: the key, and the fingerprint that a repeated request must share with
//! the first.

use std::str;

use actix_web::http::header::{HeaderMap, HeaderName};
use actix_web::{HttpRequest, HttpResponse};
use bytes::Bytes;
use sha2::{Digest, Sha256};

use super::answer;
use super::error::{ApiError, check_content};
use super::fields::FieldErrors;
use super::gate::NodeCore;
use crate::event::{ID_MAX_BYTES, Position, Record, check_id};

const IDEMPOTENCY_KEY: &str = "idempotency-key";
/// Header of an answer that repeats the answer to an earlier request.
const IDEMPOTENT_REPLAY: HeaderName = HeaderName::from_static("idempotent-replay");

/// Reads the `Idempotency-Key` header, if the request has one.
///
/// # Errors
/// [`ApiError::InvalidFields`] for a malformed key.
pub(super) fn parse_idempotency_key(headers: &HeaderMap) -> Result<Option<String>, ApiError> {
    let Some(header) = headers.get(IDEMPOTENCY_KEY) else {
        return Ok(None);
    };
    let key = str::from_utf8(header.as_bytes())
        .ok()
        .filter(|key| check_id(key).is_ok());
    let mut errors = FieldErrors::default();
    if key.is_none() {
        let problem =
            format!("must have 1 to {ID_MAX_BYTES} bytes of UTF-8 and no control characters");
        errors.add("Idempotency-Key", problem);
    }
    errors.finish(key.map(str::to_owned))
}

/// Hashes what requests with the same key must share: the path, without a slash at its end, and the
/// body.
pub(super) fn request_fingerprint(request: &HttpRequest, body: &Bytes) -> [u8; 32] {
    let path = request.path().trim_end_matches('/');
    // A path contains no zero byte, so path and body cannot run into each other.
    Sha256::new()
        .chain_update(path)
        .chain_update([0])
        .chain_update(body)
        .finalize()
        .into()
}

/// Loads the record at `position`, made by the first request with the key, and compares that
/// request with this one by `fingerprint`.
///
/// # Errors
/// [`ApiError::IdempotencyKeyReused`] if the requests differ, the errors of [`check_content`], or
/// [`ApiError::Unavailable`] if the record cannot be read.
pub(super) async fn load_first_record(
    core: &NodeCore,
    position: Position,
    fingerprint: Option<[u8; 32]>,
) -> Result<Record, ApiError> {
    let first = core
        .reads
        .await_record(position)
        .await?
        .ok_or(ApiError::Unavailable)?
        .record;
    // Without its content, neither the request nor its answer is left to compare or to repeat.
    check_content(&first)?;
    if first.request_hash == fingerprint {
        Ok(first)
    } else {
        Err(ApiError::IdempotencyKeyReused)
    }
}

/// Marks `response` as the repeated answer to an earlier request.
pub(super) fn mark_replay(response: &mut HttpResponse) {
    answer::set_header(response.headers_mut(), IDEMPOTENT_REPLAY, "true");
}
