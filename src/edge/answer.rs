//! JSON answers, and the headers and number formats that several answers share.

use std::time::Duration;

use actix_web::HttpResponse;
use actix_web::http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use actix_web::http::{ConnectionType, StatusCode};
use serde::Serialize;
use serde_json::Number;

use super::sliding_window::RateQuota;

/// Header with the id of the accepted event.
pub(super) const EVENT_ID: HeaderName = HeaderName::from_static("x-event-id");
/// Header with the number of the accepted event among the events of its entity.
pub(super) const ENTITY_SEQUENCE: HeaderName = HeaderName::from_static("x-entity-sequence");
/// Header with the request id, which the request's log lines carry too.
pub(super) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Media type of JSON lines: one object on each.
pub(in crate::edge) const JSON_LINES: &str = "application/x-ndjson";

const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit-limit");
const RATE_REMAINING: HeaderName = HeaderName::from_static("ratelimit-remaining");
const RATE_RESET: HeaderName = HeaderName::from_static("ratelimit-reset");

/// Builds an answer with `body` as JSON.
#[must_use]
pub(super) fn json_response(status: StatusCode, body: &impl Serialize) -> HttpResponse {
    json_text_response(status, encode_json(body))
}

/// Encodes a body, for an answer that is made on another thread than it is sent by.
#[must_use]
pub(super) fn encode_json(body: &impl Serialize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(192);
    // Bodies have string keys and no fallible members, so this never fails; an empty body is the
    // fallback.
    if serde_json::to_writer(&mut bytes, body).is_err() {
        bytes.clear();
    }
    bytes
}

fn json_text_response(status: StatusCode, bytes: Vec<u8>) -> HttpResponse {
    let mut response = HttpResponse::with_body(status, bytes).map_into_boxed_body();
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// Builds an answer with `body` as JSON that must not be cached.
#[must_use]
pub(super) fn uncached_json(status: StatusCode, body: &impl Serialize) -> HttpResponse {
    uncached(json_response(status, body))
}

/// Builds an answer 200 with `bytes`, which are JSON, that must not be cached.
#[must_use]
pub(super) fn ok_json_text(bytes: Vec<u8>) -> HttpResponse {
    uncached(json_text_response(StatusCode::OK, bytes))
}

fn uncached(mut response: HttpResponse) -> HttpResponse {
    response
        .headers_mut()
        .insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Builds an answer 200 with `body` as JSON that must not be cached.
#[must_use]
pub(super) fn ok_json(body: &impl Serialize) -> HttpResponse {
    uncached_json(StatusCode::OK, body)
}

/// Converts to a number of seconds with milliseconds, without a fraction if there is none.
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

/// Converts to milliseconds, with microseconds as the fraction.
#[must_use]
pub(super) fn as_milliseconds(time: Duration) -> f64 {
    time.as_micros() as f64 / 1_000.0
}

/// Has the server close the connection after `response`.
pub(super) fn close_connection(response: &mut HttpResponse) {
    let head = response.head_mut();
    head.set_connection_type(ConnectionType::Close);
}

/// Sets the header `name`, unless `value` is no valid header value.
pub(super) fn set_header(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

/// Sets the `RateLimit-*` headers from `quota`.
pub(super) fn set_quota_headers(headers: &mut HeaderMap, quota: &RateQuota) {
    headers.insert(RATE_LIMIT, quota.limit.into());
    headers.insert(RATE_REMAINING, quota.remaining.into());
    headers.insert(RATE_RESET, quota.reset_seconds().into());
}
