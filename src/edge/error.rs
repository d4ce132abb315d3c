//! Every way a request is refused, and the one place that turns it into an answer: status,
//! `{"detail", "code"}`, headers.

use std::collections::BTreeMap;
use std::time::Duration;

use actix_web::body::BoxBody;
use actix_web::http::header::{ALLOW, HeaderMap, LOCATION, RETRY_AFTER, WWW_AUTHENTICATE};
use actix_web::http::{ConnectionType, StatusCode};
use actix_web::{HttpResponse, ResponseError};
use serde::Serialize;

use super::answer::{self, EVENT_ID};
use super::fault::FieldError;
use super::methods::MethodSet;
use super::sliding_window::{RateQuota, ceil_seconds};
use crate::call_log;
use crate::entity::Rejection;
use crate::event::{EventId, Position};
use crate::projection::ProjectionReadError;
use crate::provider::{self, DocumentError, VerifyTokenError};
use crate::router::Refusal;
use crate::subscriber::dead_letters;

/// Why a request is refused. What it displays is the answer's `detail`.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The body is larger than is read.
    #[error("body is larger than {limit} bytes")]
    BodyTooLarge {
        /// The most bytes that are read.
        limit: usize,
    },
    /// The body took too long.
    #[error("body did not arrive in time")]
    RequestTimeout,
    /// The connection ended within the body, or its chunks are malformed.
    #[error("body is incomplete or its transfer encoding is malformed")]
    BodyIncomplete,
    /// A content type that is not JSON.
    #[error("Content-Type must be application/json")]
    UnsupportedMediaType,
    /// The body is not JSON, or no JSON object.
    #[error("{0}")]
    InvalidJson(String),
    /// Wrong or missing fields; never empty.
    #[error("{}", .0.first().map_or("request is not valid", |fault| fault.detail.as_str()))]
    InvalidFields(Vec<FieldError>),
    /// An event that is not in the catalogue.
    #[error("event must be one of {0}")]
    UnknownEvent(
        /// The names that it could have, one after another.
        String,
    ),
    /// No API key, or none that is configured.
    #[error("X-CRM-API-Key is missing or not valid")]
    InvalidApiKey,
    /// No signature or timestamp, or not that of the body.
    #[error("X-CRM-Signature is missing or not that of this body and timestamp")]
    InvalidSignature,
    /// No signature, or not that of the body, where the body alone is signed.
    #[error("Invalid signature")]
    InvalidBodySignature,
    /// What a configured source refuses.
    #[error(transparent)]
    Unverified(provider::VerificationError),
    /// A body that a configured source cannot look into.
    #[error(transparent)]
    Undecodable(DocumentError),
    /// A subscription that does not know the verify token.
    #[error(transparent)]
    WrongVerifyToken(VerifyTokenError),
    /// A signed timestamp too far from the node's clock.
    #[error("timestamp is not an RFC 3339 time near the server's clock")]
    StaleTimestamp,
    /// No webhook token, or none that is configured.
    #[error("X-Webhook-Token is missing or not valid")]
    InvalidToken,
    /// No admin token, or not the configured one.
    #[error("a valid bearer token is required")]
    Unauthorized,
    /// The caller's window is full.
    #[error("rate limit of {} a minute is used up", .0.limit)]
    RateLimited(RateQuota),
    /// The path, or what it names, does not exist.
    #[error("{0}")]
    NotFound(String),
    /// The path does not take this method.
    #[error("method is not allowed here")]
    MethodNotAllowed {
        /// The methods that it takes, as in the `Allow` header.
        allow: MethodSet,
    },
    /// The idempotency key came before.
    #[error("an event with this idempotency key was accepted before, as {first}")]
    Duplicate {
        /// The first event with that key.
        first: EventId,
    },
    /// The idempotency key came before, with another request.
    #[error("the idempotency key was used before with another path or body")]
    IdempotencyKeyReused,
    /// The event's entity refuses it.
    #[error("{}", .0.message)]
    Rejected(Rejection),
    /// The caller's address is not on the list of those that may call.
    #[error("this address may not call here")]
    Forbidden,
    /// An event that did not fail is not reprocessed.
    #[error("only a failed event can be reprocessed")]
    NotFailed,
    /// Another attempt at the same event is under way.
    #[error("event is being reprocessed by another request")]
    ReprocessInProgress,
    /// The node has more to do than it takes.
    #[error("the node is overloaded, retry later")]
    Overloaded,
    /// The entity takes no events for a while.
    #[error("the entity takes no events for now, retry later")]
    Quarantined {
        /// For how long.
        retry_after: Duration,
    },
    /// It is not known whether the event was stored.
    #[error("it is not known whether the event was stored, retry with the same idempotency key")]
    OutcomeUnknown,
    /// The store is not open, or its projections cannot be read.
    #[error("the node is not ready, retry with the same idempotency key")]
    Unavailable,
    /// Something is wrong with the node itself; the log has more.
    #[error("the node failed to answer, its log says more")]
    Internal,
}

#[derive(Serialize)]
struct ErrorBody<'a> {
    detail: &'a str,
    code: &'static str,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    errors: &'a [FieldError],
    #[serde(flatten)]
    member: Option<BTreeMap<&'static str, u64>>,
}

impl Error {
    /// The status and the stable code: the whole table.
    fn status_and_code(&self) -> (u16, &'static str) {
        match self {
            Self::BodyTooLarge { .. } => (413, "body_too_large"),
            Self::RequestTimeout => (408, "request_timeout"),
            Self::BodyIncomplete => (400, "body_incomplete"),
            Self::UnsupportedMediaType => (415, "unsupported_media_type"),
            Self::InvalidJson(_) => (400, "invalid_json"),
            Self::InvalidFields(_) => (400, "validation_failed"),
            Self::UnknownEvent(_) => (400, "unknown_event"),
            Self::InvalidApiKey => (401, "invalid_api_key"),
            Self::InvalidSignature | Self::InvalidBodySignature => (401, "invalid_signature"),
            Self::StaleTimestamp => (401, "stale_timestamp"),
            Self::Unverified(provider::VerificationError::InvalidSignature) => {
                (401, "invalid_signature")
            }
            Self::Unverified(provider::VerificationError::StaleTimestamp) => {
                (401, "stale_timestamp")
            }
            Self::Undecodable(DocumentError::MediaType) => (415, "unsupported_media_type"),
            Self::Undecodable(DocumentError::NotUtf8 | DocumentError::NotJson { .. }) => {
                (400, "invalid_json")
            }
            Self::WrongVerifyToken(_) => (403, "forbidden"),
            Self::InvalidToken | Self::Unauthorized => (401, "unauthorized"),
            Self::RateLimited(_) => (429, "rate_limited"),
            Self::NotFound(_) => (404, "not_found"),
            Self::MethodNotAllowed { .. } => (405, "method_not_allowed"),
            Self::Duplicate { .. } => (409, "duplicate_event"),
            Self::IdempotencyKeyReused => (409, "idempotency_key_reused"),
            Self::Rejected(rejection) => (rejection.status, rejection.code),
            Self::Forbidden => (403, "forbidden"),
            Self::NotFailed => (409, "not_failed"),
            Self::ReprocessInProgress => (409, "reprocess_in_progress"),
            Self::Overloaded => (503, "overloaded"),
            Self::Quarantined { .. } => (503, "entity_quarantined"),
            Self::OutcomeUnknown | Self::Unavailable => (503, "unavailable"),
            Self::Internal => (500, "internal_error"),
        }
    }

    /// The stable code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        self.status_and_code().1
    }

    /// The refusal of `refusal`, by a store whose ids `event_id` makes.
    pub fn from_refusal(refusal: Refusal, event_id: impl FnOnce(Position) -> EventId) -> Self {
        match refusal {
            Refusal::Duplicate {
                position,
                sequence: _,
            } => Self::Duplicate {
                first: event_id(position),
            },
            Refusal::Rejected(rejection) => Self::Rejected(rejection),
            // Only kinds that remember what they applied say so, and their contracts answer for
            // themselves.
            Refusal::AlreadyApplied { .. } => Self::Internal,
            Refusal::Overloaded => Self::Overloaded,
            Refusal::Quarantined { retry_after } => Self::Quarantined { retry_after },
            Refusal::Unknown => Self::OutcomeUnknown,
        }
    }

    /// What `serde_json` says of a body that should be an object.
    #[must_use]
    pub fn from_json_error(error: &serde_json::Error) -> Self {
        // Its own words may repeat what was sent; where it was is enough.
        Self::InvalidJson(if error.is_data() {
            "body must be a JSON object".into()
        } else {
            format!(
                "body is not valid JSON at line {} column {}",
                error.line(),
                error.column()
            )
        })
    }

    /// A 404 that says `what` does not exist.
    pub fn not_found(what: impl Into<String>) -> Self {
        Self::NotFound(what.into())
    }

    /// The 404 of a path that is not ours.
    #[must_use]
    pub fn nothing_here() -> Self {
        Self::not_found("there is nothing at this path")
    }

    fn extra_member(&self) -> Option<BTreeMap<&'static str, u64>> {
        let Self::Rejected(Rejection {
            member: Some((name, value)),
            ..
        }) = self
        else {
            return None;
        };
        Some(BTreeMap::from([(*name, *value)]))
    }

    fn field_errors(&self) -> &[FieldError] {
        if let Self::InvalidFields(faults) = self {
            faults
        } else {
            &[]
        }
    }

    /// Seconds until a retry makes sense.
    fn retry_after(&self) -> Option<u64> {
        if let Self::RateLimited(quota) = self {
            return Some(quota.reset_seconds());
        }
        if let Self::Quarantined { retry_after } = self {
            return Some(ceil_seconds(*retry_after));
        }
        (self.status_and_code().0 == 503).then_some(1)
    }

    /// Whether the rest of the request is left unread, so that it cannot be told from the next one.
    const fn closes_connection(&self) -> bool {
        matches!(
            self,
            Self::BodyTooLarge { .. } | Self::RequestTimeout | Self::BodyIncomplete
        )
    }

    fn write_headers(&self, headers: &mut HeaderMap) {
        if let Some(seconds) = self.retry_after() {
            headers.insert(RETRY_AFTER, seconds.into());
        }
        if let Self::RateLimited(quota) = self {
            answer::set_quota_headers(headers, quota);
        }
        if let Self::MethodNotAllowed { allow } = self {
            answer::set_header(headers, ALLOW, &allow.to_string());
        }
        if let Self::Unauthorized = self {
            answer::set_header(headers, WWW_AUTHENTICATE, "Bearer");
        }
        if let Self::Duplicate { first } = self {
            answer::set_header(headers, EVENT_ID, &first.to_string());
            answer::set_header(headers, LOCATION, &format!("/api/v1/events/{first}"));
        }
    }
}

impl From<ProjectionReadError> for Error {
    fn from(error: ProjectionReadError) -> Self {
        tracing::warn!(%error, "projection could not be read");
        Self::Unavailable
    }
}

impl From<call_log::CallReadError> for Error {
    fn from(error: call_log::CallReadError) -> Self {
        tracing::warn!(
            error = &error as &dyn std::error::Error,
            "exchange log could not be read"
        );
        Self::Unavailable
    }
}

impl From<dead_letters::DeadLetterReadError> for Error {
    fn from(error: dead_letters::DeadLetterReadError) -> Self {
        tracing::warn!(
            error = &error as &dyn std::error::Error,
            "dead letters could not be read"
        );
        Self::Unavailable
    }
}

impl ResponseError for Error {
    fn status_code(&self) -> StatusCode {
        StatusCode::from_u16(self.status_and_code().0).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    fn error_response(&self) -> HttpResponse<BoxBody> {
        let shape = ErrorBody {
            detail: &self.to_string(),
            code: self.code(),
            errors: self.field_errors(),
            member: self.extra_member(),
        };
        let mut response = answer::uncached_json(self.status_code(), &shape);
        self.write_headers(response.headers_mut());
        if self.closes_connection() {
            response
                .head_mut()
                .set_connection_type(ConnectionType::Close);
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use actix_web::body::to_bytes;
    use serde_json::{Value, json};

    use super::*;
    use crate::event::StoreIncarnation;

    async fn answer_of(error: Error) -> (u16, HeaderMap, Value) {
        let response = error.error_response();
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let body = to_bytes(response.into_body())
            .await
            .expect("a body in memory");
        (
            status,
            headers,
            serde_json::from_slice(&body).expect("JSON"),
        )
    }

    #[tokio::test]
    async fn every_error_has_one_shape() {
        let (status, headers, body) = answer_of(Error::InvalidSignature).await;
        assert_eq!(status, 401);
        assert_eq!(
            headers.get("content-type").expect("set"),
            "application/json"
        );
        let detail = "X-CRM-Signature is missing or not that of this body and timestamp";
        assert_eq!(body, json!({"detail": detail, "code": "invalid_signature"}));
    }

    #[tokio::test]
    async fn a_validation_error_lists_its_fields_and_leads_with_the_first() {
        let fault = |field: &'static str| FieldError {
            field: field.into(),
            detail: format!("{field} is required"),
        };
        let (status, _, body) = answer_of(Error::InvalidFields(vec![
            fault("support_uid"),
            fault("data.status"),
        ]))
        .await;
        assert_eq!(status, 400);
        let errors = json!([
            {"field": "support_uid", "detail": "support_uid is required"},
            {"field": "data.status", "detail": "data.status is required"},
        ]);
        assert_eq!(
            body,
            json!({"detail": "support_uid is required", "code": "validation_failed", "errors": errors})
        );
    }

    #[tokio::test]
    async fn what_helps_the_caller_is_in_the_headers() {
        let first = EventId::new(StoreIncarnation::new(7), Position::new(9));
        let quota = RateQuota {
            limit: 100,
            remaining: 0,
            reset: Duration::from_millis(1_200),
        };
        let quarantined = Error::Quarantined {
            retry_after: Duration::from_millis(2_500),
        };
        let cases = [
            (Error::Unauthorized, 401, "www-authenticate", "Bearer"),
            (
                Error::MethodNotAllowed {
                    allow: MethodSet::POST,
                },
                405,
                "allow",
                "POST",
            ),
            (
                Error::Duplicate { first },
                409,
                "location",
                "/api/v1/events/evt_00000007_9",
            ),
            (
                Error::Duplicate { first },
                409,
                "x-event-id",
                "evt_00000007_9",
            ),
            (Error::RateLimited(quota), 429, "retry-after", "2"),
            (Error::RateLimited(quota), 429, "ratelimit-limit", "100"),
            (Error::RateLimited(quota), 429, "ratelimit-remaining", "0"),
            (Error::RateLimited(quota), 429, "ratelimit-reset", "2"),
            (Error::Overloaded, 503, "retry-after", "1"),
            (Error::Unavailable, 503, "retry-after", "1"),
            (quarantined, 503, "retry-after", "3"),
        ];
        for (error, status, name, value) in cases {
            let code = error.code();
            let (answered, headers, _) = answer_of(error).await;
            assert_eq!(answered, status, "{code}");
            assert_eq!(headers.get(name).expect("set"), value, "{code}");
        }
    }

    #[tokio::test]
    async fn an_unknown_outcome_says_how_to_retry() {
        let (status, _, body) =
            answer_of(Error::from_refusal(Refusal::Unknown, |_| unreachable!())).await;
        assert_eq!((status, body["code"].as_str()), (503, Some("unavailable")));
        assert!(
            body["detail"]
                .as_str()
                .expect("text")
                .contains("retry with the same idempotency key")
        );
    }
}
