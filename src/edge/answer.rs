//! Building answers: JSON bodies and the headers that several of them share.

use std::time::Duration;

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use serde::Serialize;
use serde_json::Number;

use super::sliding_window::RateQuota;

/// The accepted event's id.
pub(super) const EVENT_ID: HeaderName = HeaderName::from_static("x-event-id");
/// The accepted event's number among its entity's.
pub(super) const ENTITY_SEQUENCE: HeaderName = HeaderName::from_static("x-entity-sequence");
/// The id that the request's log lines carry.
pub(super) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit-limit");
const RATE_REMAINING: HeaderName = HeaderName::from_static("ratelimit-remaining");
const RATE_RESET: HeaderName = HeaderName::from_static("ratelimit-reset");

/// An answer with `body` as JSON.
#[must_use]
pub(super) fn json_response(status: StatusCode, body: &impl Serialize) -> HttpResponse {
    let mut bytes = Vec::with_capacity(192);
    // A body of ours has string keys and no fallible members; an empty body is what is left if one
    // ever had.
    if serde_json::to_writer(&mut bytes, body).is_err() {
        bytes.clear();
    }
    let mut response = HttpResponse::with_body(status, bytes).map_into_boxed_body();
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// The answer to a reader, never cached.
#[must_use]
pub(super) fn uncached_json(status: StatusCode, body: &impl Serialize) -> HttpResponse {
    let mut response = json_response(status, body);
    response
        .headers_mut()
        .insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Answers a reader with 200 and `body`; the answer is never cached.
#[must_use]
pub(super) fn ok_json(body: &impl Serialize) -> HttpResponse {
    uncached_json(StatusCode::OK, body)
}

/// A time as a number of seconds, whole if it can be.
#[must_use]
pub(super) fn seconds_as_number(time: Duration) -> Number {
    let millis = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let whole = millis
        .is_multiple_of(1_000)
        .then(|| Number::from(millis / 1_000));
    whole
        .or_else(|| Number::from_f64(time.as_secs_f64()))
        .unwrap_or_else(|| 0.into())
}

/// A time as a number of milliseconds with microseconds behind the point.
#[must_use]
pub(super) fn as_milliseconds(time: Duration) -> f64 {
    time.as_micros() as f64 / 1_000.0
}

/// Sets header `name`, unless `value` cannot stand in one.
pub(super) fn set_header(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

/// Says what is left of a limit.
pub(super) fn set_quota_headers(headers: &mut HeaderMap, quota: &RateQuota) {
    headers.insert(RATE_LIMIT, quota.limit.into());
    headers.insert(RATE_REMAINING, quota.remaining.into());
    headers.insert(RATE_RESET, quota.reset_seconds().into());
}
