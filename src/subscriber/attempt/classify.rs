//! Classifies a response: accepted, to be retried, refused for good, or subscriber gone.
//!
//! | response | class |
//! |---|---|
//! | 2xx, and its body ends | accepted |
//! | 410 | gone: no more deliveries wanted |
//! | 408, 409, 425, 429, and 401 to an access token of this node | retried |
//! | any other 4xx | refused |
//! | the rest: 1xx, 3xx (redirects are not followed), 5xx, no response | retried |
//!
//! A status outside 2xx decides alone; the body need not arrive completely.

use bytes::Bytes;

use super::super::AttemptFailure;
use super::outcome::AttemptOutcome;
use crate::event::Timestamp;
use crate::retry_after::parse_retry_after;

/// The part of a response that arrived.
#[derive(Debug, Default)]
pub(super) struct SubscriberResponse {
    /// Status; `None` until the head of a response has arrived.
    pub(super) status: Option<u16>,
    /// Value of the header `Retry-After`, not parsed.
    pub(super) retry_after: Option<String>,
    /// True if the server refused the access token of this node.
    pub(super) is_token_refused: bool,
    /// Beginning of the body, as much as is read of it.
    pub(super) body: Bytes,
}

/// Error for which a request was not sent or its response did not arrive completely.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct AttemptError {
    /// Machine-readable code, one of the constants of this module.
    pub(super) code: &'static str,
    /// One sentence for an operator.
    pub(super) detail: String,
}

/// Returns the outcome of an attempt that received `response` by `now`, the time against which a
/// date in `Retry-After` is read.
pub(super) fn classify_response(
    response: &SubscriberResponse,
    error: Option<AttemptError>,
    now: Timestamp,
) -> AttemptOutcome {
    let failure = |code, detail| AttemptFailure {
        status: response.status,
        code,
        detail,
        answer: response.body.clone(),
    };
    match (response.status, error) {
        (Some(200..300), None) => AttemptOutcome::Accepted,
        (Some(200..300) | None, error) => {
            let AttemptError { code, detail } =
                error.unwrap_or_else(|| AttemptError::broken_off("no response"));
            let failure = failure(code, detail);
            match code {
                REFUSED_ADDRESS | BAD_URL | TRANSFORM_FAILED | TOO_MANY_HOPS | NO_MESSAGE
                | NO_TOKEN => AttemptOutcome::PermanentFailure { failure },
                _ => AttemptOutcome::TransientFailure {
                    failure,
                    retry_after: None,
                },
            }
        }
        (Some(status), _) => {
            let failure = failure(STATUS, format!("answered {status}"));
            // A subscriber that refused the token did not judge the event, which must not be lost.
            let is_judged = !response.is_token_refused;
            let retry_after = response.retry_after.as_deref();
            match status {
                410 => AttemptOutcome::Gone { failure },
                400..500 if is_judged && !matches!(status, 408 | 409 | 425 | 429) => {
                    AttemptOutcome::PermanentFailure { failure }
                }
                _ => AttemptOutcome::TransientFailure {
                    failure,
                    retry_after: retry_after.and_then(|value| parse_retry_after(value, now)),
                },
            }
        }
    }
}

// Machine-readable failure codes: they are stored and shown by the API, so they never change.
pub(super) const STATUS: &str = "status";
pub(super) const TIMEOUT: &str = "timeout";
pub(super) const DNS: &str = "dns";
pub(super) const CONNECT: &str = "connect";
pub(super) const TLS: &str = "tls";
pub(super) const BROKEN_OFF: &str = "broken_off";
pub(super) const NO_RESOURCES: &str = "no_resources";
pub(super) const PROXY: &str = "proxy";
pub(super) const AUTHORIZATION: &str = "authorization";
pub(super) const REFUSED_ADDRESS: &str = "refused_address";
pub(super) const BAD_URL: &str = "bad_url";
pub(super) const TRANSFORM_FAILED: &str = "transform_failed";
pub(super) const TOO_MANY_HOPS: &str = "too_many_hops";
pub(super) const NO_MESSAGE: &str = "no_message";
pub(super) const NO_TOKEN: &str = "no_token";

impl AttemptError {
    pub(super) fn new(code: &'static str, detail: impl Into<String>) -> Self {
        Self {
            code,
            detail: detail.into(),
        }
    }

    pub(super) fn broken_off(detail: impl Into<String>) -> Self {
        Self::new(BROKEN_OFF, detail)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn response(status: u16) -> SubscriberResponse {
        SubscriberResponse {
            status: Some(status),
            is_token_refused: false,
            retry_after: Some("7".into()),
            body: Bytes::new(),
        }
    }

    #[test]
    fn every_status_has_its_class() {
        let table = [
            ("accepted", &[200, 201, 202, 204, 206, 299][..]),
            ("gone", &[410]),
            (
                "refused",
                &[400, 401, 403, 404, 407, 411, 422, 424, 426, 428, 430, 499],
            ),
            (
                "failed",
                &[
                    0, 100, 101, 199, 300, 301, 304, 307, 399, 408, 409, 425, 429, 500, 501, 599,
                    600, 999,
                ],
            ),
        ];
        for (expected, statuses) in table {
            for status in statuses {
                let outcome = classify_response(&response(*status), None, Timestamp::default());
                assert_eq!(outcome.as_metric_label(), expected, "{status}");
            }
        }
    }

    #[test]
    fn only_a_retried_status_waits_for_retry_after() {
        let classified = |status| classify_response(&response(status), None, Timestamp::default());
        let asked = Some(Duration::from_secs(7));
        assert!(
            matches!(classified(429), AttemptOutcome::TransientFailure { retry_after, .. } if retry_after == asked)
        );
        assert!(
            matches!(classified(302), AttemptOutcome::TransientFailure { retry_after, .. } if retry_after == asked)
        );
        assert!(matches!(
            classified(404),
            AttemptOutcome::PermanentFailure { .. }
        ));
    }
}
