//! Errors of requests, and the one place that turns them into answers: status,
//! `{"detail", "code"}`, headers.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use actix_web::body::BoxBody;
use actix_web::http::StatusCode;
use actix_web::http::header::{
    ACCEPT_ENCODING, ALLOW, HeaderMap, LOCATION, RETRY_AFTER, WWW_AUTHENTICATE,
};
use actix_web::{HttpResponse, ResponseError};
use serde::Serialize;
use utoipa::ToSchema;

use super::answer::{self, EVENT_ID};
use super::field_error::FieldError;
use super::methods::MethodSet;
use super::sliding_window::{RateQuota, ceil_seconds};
use crate::call_log;
use crate::config::ConfigError;
use crate::entity::Rejection;
use crate::event::{EventId, Position, Record, Timestamp};
use crate::journal::JournalReadError;
use crate::projection::ProjectionReadError;
use crate::provider::{self, DecompressionError, DocumentError, TooManyItems, VerifyTokenError};
use crate::router::Refusal;
use crate::subscriber::dead_letters;
use crate::token::{AccessOperation, TokenRole};

/// Seconds until another backup may be asked for: most take longer than that.
const BACKUP_PAUSE_S: u64 = 30;

/// Code of the refusal to save over a change that the caller has not seen.
pub(super) const CHANGED_SINCE: &str = "changed_since";

/// Error of a request. Its `Display` text is the answer's `detail`.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// Configuration that cannot be put into force.
    #[error("{}; nothing was changed", count_problems(.0))]
    InvalidConfig(Vec<FieldError>),
    /// Body that exceeds the limit.
    #[error("body is larger than {limit} bytes")]
    BodyTooLarge {
        /// Largest accepted size in bytes, `server.body_limit_bytes`.
        limit: usize,
    },
    /// Body that did not arrive within `server.request_timeout`.
    #[error("body did not arrive in time")]
    RequestTimeout,
    /// Body cut off by the end of the connection, or malformed chunks.
    #[error("body is incomplete or its transfer encoding is malformed")]
    BodyIncomplete,
    /// Content type other than JSON.
    #[error("Content-Type must be application/json")]
    UnsupportedMediaType,
    /// Body that is no JSON, or no JSON object.
    #[error("{0}")]
    InvalidJson(String),
    /// Wrong or missing fields, at least one.
    #[error("{}", .0.first().map_or("request is not valid", |error| error.detail.as_str()))]
    InvalidFields(Vec<FieldError>),
    /// Event name outside the catalogue of the contract.
    #[error("event must be one of {0}")]
    UnknownEvent(
        /// Known names, separated by commas.
        String,
    ),
    /// API key that is missing or not configured.
    #[error("X-CRM-API-Key is missing or not valid")]
    InvalidApiKey,
    /// Signature of body and timestamp that is missing or does not match.
    #[error("X-CRM-Signature is missing or does not match this body and timestamp")]
    InvalidSignature,
    /// Signature of the body alone that is missing or does not match.
    #[error("Invalid signature")]
    InvalidBodySignature,
    /// Request whose signature or timestamp a configured source refuses.
    #[error(transparent)]
    Unverified(provider::VerificationError),
    /// Compressed body, for a source that takes none, or not of this kind.
    #[error("Content-Encoding must be {accepted}")]
    EncodedBody {
        /// Encodings that the source takes, for the `Accept-Encoding` header.
        accepted: &'static str,
    },
    /// Compressed body that cannot be decompressed.
    #[error(transparent)]
    Undecompressible(DecompressionError),
    /// Body with more events than one call may have.
    #[error(transparent)]
    TooManyItems(TooManyItems),
    /// Body that a configured source cannot parse.
    #[error(transparent)]
    Undecodable(DocumentError),
    /// Subscription handshake with a wrong verify token.
    #[error(transparent)]
    WrongVerifyToken(VerifyTokenError),
    /// Signed timestamp that is too far from the node's clock.
    #[error("timestamp is not an RFC 3339 time near the server's clock")]
    StaleTimestamp,
    /// Connection without the client certificate that the source asks for.
    #[error("this source takes requests by TLS with a client certificate only")]
    ClientCertificateMissing,
    /// Webhook token that is missing or not configured.
    #[error("X-Webhook-Token is missing or not valid")]
    InvalidToken,
    /// Bearer token that is missing or wrong.
    #[error("a valid bearer token is required")]
    Unauthorized,
    /// Named token that has ended.
    #[error("the token {name} expired at {end}")]
    TokenExpired {
        /// Name of the token that was shown.
        name: Arc<str>,
        /// Time from which it is refused.
        end: Timestamp,
    },
    /// Token whose role may not do the operation.
    #[error(
        "{} needs a token with the role {}; the token {name} has the role {}",
        .operation.as_str(), .operation.role_names(), .role.as_str()
    )]
    RoleMissing {
        /// Operation that the role may not do.
        operation: AccessOperation,
        /// Name of the token that was shown.
        name: Arc<str>,
        /// Role of the token that was shown.
        role: TokenRole,
    },
    /// Event that its publisher's token may not publish.
    #[error("{0}")]
    OutOfScope(String),
    /// Login whose token is not valid.
    #[error("the token is not valid for the dashboard")]
    LoginRefused,
    /// Change that was made, and whose entry in the audit log could not be written.
    #[error("the outcome is not known: its entry in the audit log could not be written")]
    AuditFailed,
    /// Caller whose rate limit is used up.
    #[error("rate limit of {} requests per minute exceeded", .0.limit)]
    RateLimited(RateQuota),
    /// Caller that has failed to prove who it is too often.
    #[error("rate limit of {} requests per minute exceeded", .0.limit)]
    TooManyFailures(RateQuota),
    /// Path, or a resource named in it, that does not exist.
    #[error("{0}")]
    NotFound(String),
    /// Record that was removed because it is older than events are kept.
    #[error("the event was removed; events are kept from {kept_from} on")]
    Removed {
        /// Receive time of the first event that is kept.
        kept_from: Timestamp,
    },
    /// Event whose content was removed because it is older than its source keeps content.
    #[error("the content of this event was removed at {removed_at} by the retention of its source")]
    ContentRemoved {
        /// Time at which retention removed it.
        removed_at: Timestamp,
    },
    /// Method that the path does not have.
    #[error("method is not allowed on this path")]
    MethodNotAllowed {
        /// Methods of the path, for the `Allow` header.
        allow: MethodSet,
    },
    /// Idempotency key of an event that was accepted before.
    #[error("an event with this idempotency key was accepted before, as {first}")]
    Duplicate {
        /// First event with the key.
        first: EventId,
    },
    /// Idempotency key that was used before with another request.
    #[error("the idempotency key was used before with another path or body")]
    IdempotencyKeyReused,
    /// Idempotency key that its sender used before for another event.
    #[error(
        "{}the idempotency key {key:?} was used before for another event, {first}; send this one \
         under a key of its own",
        .item.map(|index| format!("item {index}: ")).unwrap_or_default()
    )]
    KeyReused {
        /// Number of the event in a body with several, counted from 0.
        item: Option<usize>,
        /// Key as its sender knows it.
        key: String,
        /// Event that has the key.
        first: EventId,
    },
    /// Decision of the entity against the event.
    #[error("{}", .0.message)]
    Rejected(Rejection),
    /// Client address that is not on the allow list of the source.
    #[error("client address is not on the allow list")]
    Forbidden,
    /// Unsigned request that a page of another site made a browser send.
    #[error("unsigned requests from web pages of other sites are refused")]
    ForeignOrigin,
    /// Request to a development node by a name that is not this machine's.
    #[error(
        "a development node answers to localhost and to addresses only; \
         set server.public_url for another name"
    )]
    ForeignHost,
    /// Form of the dashboard that no page of the session sent.
    #[error("the form was not sent by a page of your session; load the page again and repeat")]
    ForeignForm,
    /// Request to reprocess an event that did not fail.
    #[error("only a failed event can be reprocessed")]
    NotFailed,
    /// Request to reprocess an event that another request is reprocessing.
    #[error("event is being reprocessed by another request")]
    ReprocessInProgress,
    /// No permit is free, or the projection lags too far behind.
    #[error("the node is overloaded, retry later")]
    Overloaded,
    /// Body that waits for the rest of it while others take all the memory for such bodies.
    #[error("too many bodies are arriving, retry later")]
    BodiesOverBudget,
    /// Entity that crashed repeatedly and accepts nothing for a while.
    #[error("the entity is quarantined after repeated crashes, retry later")]
    Quarantined {
        /// Rest of the quarantine, for `Retry-After`.
        retry_after: Duration,
    },
    /// Erasure of an entity on a node of a cluster.
    #[error(
        "a cluster cannot erase an entity: its database and other nodes have copies of the log"
    )]
    ErasureInCluster,
    /// Commit whose outcome is unknown.
    #[error("it is not known whether the event was stored, retry with the same idempotency key")]
    OutcomeUnknown,
    /// As many backups as allowed are being sent.
    #[error("2 backups are being sent already, retry later")]
    TooManyBackups,
    /// Store that is not open, or projections that cannot be read.
    #[error("the node is not ready, retry with the same idempotency key")]
    Unavailable,
    /// Defect of the node, which has its own log line.
    #[error("internal error, see the log of the node")]
    Internal,
}

#[derive(Serialize, ToSchema)]
#[schema(as = Error)]
pub(super) struct ErrorBody<'a> {
    detail: &'a str,
    code: &'static str,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    errors: &'a [FieldError],
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    kept_from: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    removed_at: Option<Timestamp>,
    #[serde(flatten)]
    #[schema(ignore)]
    member: Option<BTreeMap<&'static str, u64>>,
}

impl ApiError {
    /// Table of all errors: HTTP status and stable code.
    fn status_and_code(&self) -> (u16, &'static str) {
        match self {
            Self::InvalidConfig(_) => (422, "configuration_invalid"),
            Self::BodyTooLarge { .. } => (413, "body_too_large"),
            Self::RequestTimeout => (408, "request_timeout"),
            Self::BodyIncomplete => (400, "body_incomplete"),
            Self::UnsupportedMediaType => (415, "unsupported_media_type"),
            Self::InvalidJson(_) => (400, "invalid_json"),
            Self::InvalidFields(_) => (400, "validation_failed"),
            Self::UnknownEvent(_) => (400, "unknown_event"),
            Self::InvalidApiKey => (401, "invalid_api_key"),
            Self::InvalidSignature | Self::InvalidBodySignature => (401, "invalid_signature"),
            Self::ClientCertificateMissing => (401, "client_certificate_required"),
            Self::StaleTimestamp => (401, "stale_timestamp"),
            Self::Unverified(provider::VerificationError::InvalidSignature) => {
                (401, "invalid_signature")
            }
            Self::Unverified(provider::VerificationError::StaleTimestamp) => {
                (401, "stale_timestamp")
            }
            Self::Undecodable(
                DocumentError::MediaType(_)
                | DocumentError::NotForm
                | DocumentError::UnknownCharset
                | DocumentError::NotInCharset,
            )
            | Self::EncodedBody { .. } => (415, "unsupported_media_type"),
            Self::Undecompressible(DecompressionError::Malformed) => (400, "body_incomplete"),
            Self::Undecompressible(DecompressionError::TooLarge) | Self::TooManyItems(_) => {
                (413, "body_too_large")
            }
            Self::Undecodable(
                DocumentError::NotUtf8 | DocumentError::TooDeep(_) | DocumentError::NotJson { .. },
            ) => (400, "invalid_json"),
            Self::WrongVerifyToken(_) => (403, "forbidden"),
            Self::InvalidToken | Self::Unauthorized => (401, "unauthorized"),
            Self::TokenExpired { .. } => (401, "token_expired"),
            Self::RoleMissing { .. } => (403, "insufficient_role"),
            Self::OutOfScope(_) => (403, "out_of_scope"),
            Self::LoginRefused => (401, "login_refused"),
            Self::RateLimited(_) | Self::TooManyFailures(_) => (429, "rate_limited"),
            Self::NotFound(_) => (404, "not_found"),
            Self::Removed { .. } | Self::ContentRemoved { .. } => (410, "removed_by_retention"),
            Self::MethodNotAllowed { .. } => (405, "method_not_allowed"),
            Self::Duplicate { .. } => (409, "duplicate_event"),
            Self::IdempotencyKeyReused | Self::KeyReused { .. } => (409, "idempotency_key_reused"),
            Self::Rejected(rejection) => (rejection.status, rejection.code),
            Self::Forbidden | Self::ForeignOrigin | Self::ForeignHost | Self::ForeignForm => {
                (403, "forbidden")
            }
            Self::NotFailed => (409, "not_failed"),
            Self::ReprocessInProgress => (409, "reprocess_in_progress"),
            Self::ErasureInCluster => (409, "not_in_a_cluster"),
            Self::TooManyBackups => (429, "too_many_backups"),
            Self::Overloaded | Self::BodiesOverBudget => (503, "overloaded"),
            Self::Quarantined { .. } => (503, "entity_quarantined"),
            Self::OutcomeUnknown | Self::Unavailable | Self::AuditFailed => (503, "unavailable"),
            Self::Internal => (500, "internal_error"),
        }
    }

    /// Returns the stable code, the member `code` of the answer.
    #[must_use]
    pub fn code(&self) -> &'static str {
        self.status_and_code().1
    }

    /// Converts a refusal of the router; `event_id` makes the public id of a position.
    pub fn from_refusal(refusal: Refusal, event_id: impl FnOnce(Position) -> EventId) -> Self {
        match refusal {
            Refusal::Duplicate {
                position,
                sequence: _,
            } => Self::Duplicate {
                first: event_id(position),
            },
            Refusal::KeyReused { key, position } => Self::KeyReused {
                item: None,
                key: key.into(),
                first: event_id(position),
            },
            // The signature belongs to the request that was taken first.
            Refusal::OtherReading => {
                Self::Unverified(provider::VerificationError::InvalidSignature)
            }
            Refusal::Rejected(rejection) => Self::Rejected(rejection),
            // The contracts whose entities refuse in this way answer it themselves.
            Refusal::AlreadyApplied { .. } => Self::Internal,
            Refusal::Overloaded => Self::Overloaded,
            Refusal::Quarantined { retry_after } => Self::Quarantined { retry_after },
            Refusal::Unknown => Self::OutcomeUnknown,
        }
    }

    /// Converts `serde_json`'s error of a body that should be an object.
    #[must_use]
    pub fn from_json_error(error: &serde_json::Error) -> Self {
        // The message of serde_json may repeat the body, so only the position is passed on.
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

    /// Makes the refusal of a configuration. Each problem is named by its key, and its detail begins with
    /// its file and line, or its variable.
    #[must_use]
    pub fn invalid_config(problems: &ConfigError) -> Self {
        let errors = problems.iter().map(|problem| FieldError {
            field: problem.key().unwrap_or_default().to_owned().into(),
            detail: problem.to_string(),
        });
        Self::InvalidConfig(errors.collect())
    }

    /// Makes a 404 with `detail`, such as `there is no such event`.
    pub fn not_found(detail: impl Into<String>) -> Self {
        Self::NotFound(detail.into())
    }

    /// Makes the refusal of one wrong field; `detail` begins with its name.
    pub fn wrong_field(field: &'static str, detail: String) -> Self {
        Self::InvalidFields(vec![FieldError {
            field: field.into(),
            detail,
        }])
    }

    /// Makes the refusal of a header that must be given once, such as a credential. It is an error of
    /// form, so it tells nothing about the values.
    pub fn repeated_header(name: impl Into<Cow<'static, str>>) -> Self {
        let field = name.into();
        let detail = format!("{field} must be given once");
        Self::InvalidFields(vec![FieldError { field, detail }])
    }

    /// Makes the 404 of a path outside the API.
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

    pub(super) fn field_errors(&self) -> &[FieldError] {
        if let Self::InvalidFields(errors) | Self::InvalidConfig(errors) = self {
            errors
        } else {
            &[]
        }
    }

    /// Seconds for `Retry-After`, for errors that a retry may cure.
    fn retry_after(&self) -> Option<u64> {
        if let Self::RateLimited(quota) | Self::TooManyFailures(quota) = self {
            return Some(quota.reset_seconds());
        }
        if let Self::Quarantined { retry_after } = self {
            return Some(ceil_seconds(*retry_after));
        }
        if let Self::TooManyBackups = self {
            return Some(BACKUP_PAUSE_S);
        }
        (self.status_and_code().0 == 503).then_some(1)
    }

    /// Returns true if the rest of the body stays unread, so that the next request on the
    /// connection could not be found; or if the caller has not proved who it is, so that strangers
    /// keep no connections.
    fn closes_connection(&self) -> bool {
        let is_unread = matches!(
            self,
            Self::BodyTooLarge { .. }
                | Self::RequestTimeout
                | Self::BodyIncomplete
                | Self::BodiesOverBudget
        );
        let is_stranger = matches!(
            self,
            Self::TooManyFailures(_) | Self::Forbidden | Self::WrongVerifyToken(_)
        );
        is_unread || is_stranger || self.status_and_code().0 == 401
    }

    fn write_headers(&self, headers: &mut HeaderMap) {
        if let Some(seconds) = self.retry_after() {
            headers.insert(RETRY_AFTER, seconds.into());
        }
        if let Self::RateLimited(quota) | Self::TooManyFailures(quota) = self {
            answer::set_quota_headers(headers, quota);
        }
        if let Self::MethodNotAllowed { allow } = self {
            answer::set_header(headers, ALLOW, &allow.to_string());
        }
        if let Self::EncodedBody { accepted } = self {
            answer::set_header(headers, ACCEPT_ENCODING, accepted);
        }
        if let Self::Unauthorized | Self::TokenExpired { .. } = self {
            answer::set_header(headers, WWW_AUTHENTICATE, "Bearer");
        }
        if let Self::Duplicate { first } = self {
            answer::set_header(headers, EVENT_ID, &first.to_string());
            answer::set_header(headers, LOCATION, &format!("/api/v1/events/{first}"));
        }
    }
}

/// Refuses to work on the content of `record` if that is gone.
///
/// # Errors
/// [`ApiError::ContentRemoved`] if retention has removed it, and [`ApiError::Rejected`] if it was
/// erased.
pub(super) fn check_content(record: &Record) -> Result<(), ApiError> {
    if let Some(removed_at) = record.content_expired_at() {
        return Err(ApiError::ContentRemoved { removed_at });
    }
    match record.is_erased() {
        true => Err(ApiError::Rejected(Rejection::of_erased_event())),
        false => Ok(()),
    }
}

impl From<ProjectionReadError> for ApiError {
    fn from(error: ProjectionReadError) -> Self {
        if let ProjectionReadError::Journal(JournalReadError::Removed { start, .. }) = error {
            return Self::Removed {
                kept_from: start.received_at,
            };
        }
        tracing::warn!(%error, "projection read failed");
        Self::Unavailable
    }
}

impl From<call_log::CallReadError> for ApiError {
    fn from(error: call_log::CallReadError) -> Self {
        tracing::warn!(
            error = &error as &dyn std::error::Error,
            "call log read failed"
        );
        Self::Unavailable
    }
}

impl From<dead_letters::DeadLetterReadError> for ApiError {
    fn from(error: dead_letters::DeadLetterReadError) -> Self {
        tracing::warn!(
            error = &error as &dyn std::error::Error,
            "dead letter read failed"
        );
        Self::Unavailable
    }
}

fn count_problems(problems: &[FieldError]) -> String {
    match problems.len() {
        1 => "the configuration has a problem".to_owned(),
        count => format!("the configuration has {count} problems"),
    }
}

impl ResponseError for ApiError {
    fn status_code(&self) -> StatusCode {
        StatusCode::from_u16(self.status_and_code().0).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    fn error_response(&self) -> HttpResponse<BoxBody> {
        let body = ErrorBody {
            detail: &self.to_string(),
            code: self.code(),
            errors: self.field_errors(),
            kept_from: match self {
                Self::Removed { kept_from } => Some(*kept_from),
                _ => None,
            },
            removed_at: match self {
                Self::ContentRemoved { removed_at } => Some(*removed_at),
                _ => None,
            },
            member: self.extra_member(),
        };
        let mut response = answer::uncached_json(self.status_code(), &body);
        self.write_headers(response.headers_mut());
        if self.closes_connection() {
            answer::close_connection(&mut response);
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

    async fn render_error(error: ApiError) -> (u16, HeaderMap, Value) {
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
        let (status, headers, body) = render_error(ApiError::InvalidSignature).await;
        assert_eq!(status, 401);
        assert_eq!(
            headers.get("content-type").expect("set"),
            "application/json"
        );
        let detail = "X-CRM-Signature is missing or does not match this body and timestamp";
        assert_eq!(body, json!({"detail": detail, "code": "invalid_signature"}));
    }

    #[tokio::test]
    async fn a_validation_error_lists_its_fields_and_leads_with_the_first() {
        let field_error = |field: &'static str| FieldError {
            field: field.into(),
            detail: format!("{field} is required"),
        };
        let (status, _, body) = render_error(ApiError::InvalidFields(vec![
            field_error("support_uid"),
            field_error("data.status"),
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
        let quarantined = ApiError::Quarantined {
            retry_after: Duration::from_millis(2_500),
        };
        let cases = [
            (ApiError::Unauthorized, 401, "www-authenticate", "Bearer"),
            (
                ApiError::MethodNotAllowed {
                    allow: MethodSet::POST,
                },
                405,
                "allow",
                "POST",
            ),
            (
                ApiError::Duplicate { first },
                409,
                "location",
                "/api/v1/events/evt_00000007_9",
            ),
            (
                ApiError::Duplicate { first },
                409,
                "x-event-id",
                "evt_00000007_9",
            ),
            (ApiError::RateLimited(quota), 429, "retry-after", "2"),
            (ApiError::RateLimited(quota), 429, "ratelimit-limit", "100"),
            (
                ApiError::RateLimited(quota),
                429,
                "ratelimit-remaining",
                "0",
            ),
            (ApiError::RateLimited(quota), 429, "ratelimit-reset", "2"),
            (ApiError::TooManyBackups, 429, "retry-after", "30"),
            (ApiError::Overloaded, 503, "retry-after", "1"),
            (ApiError::Unavailable, 503, "retry-after", "1"),
            (quarantined, 503, "retry-after", "3"),
        ];
        for (error, status, name, value) in cases {
            let code = error.code();
            let (answered, headers, _) = render_error(error).await;
            assert_eq!(answered, status, "{code}");
            assert_eq!(headers.get(name).expect("set"), value, "{code}");
        }
    }

    #[tokio::test]
    async fn an_unknown_outcome_says_how_to_retry() {
        let (status, _, body) =
            render_error(ApiError::from_refusal(Refusal::Unknown, |_| unreachable!())).await;
        assert_eq!((status, body["code"].as_str()), (503, Some("unavailable")));
        assert!(
            body["detail"]
                .as_str()
                .expect("text")
                .contains("retry with the same idempotency key")
        );
    }
}
