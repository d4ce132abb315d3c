//! What an answer means: accepted, to be tried again, never to be accepted, or nothing more wanted.
//!
//! | answer | means |
//! |---|---|
//! | 2xx, and its body ends | accepted |
//! | 410 | gone |
//! | 408, 409, 425, 429 | try again |
//! | any other 4xx | refused |
//! | all else: 1xx, 3xx (nothing is followed), 5xx, no answer | try again |
//!
//! A status that is no success decides alone, whatever becomes of the body behind it.

use bytes::Bytes;

use super::super::AttemptFailure;
use super::AttemptOutcome;
use crate::event::Timestamp;
use crate::retry_after::parse_retry_after;

/// What came back, as far as it did.
#[derive(Debug, Default)]
pub(super) struct SubscriberResponse {
    /// The status, once the head of an answer came.
    pub(super) status: Option<u16>,
    /// The value of `Retry-After`.
    pub(super) retry_after: Option<String>,
    /// The beginning of the body.
    pub(super) body: Bytes,
}

/// Why an answer did not come, or not to its end.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct AttemptError {
    /// A stable code.
    pub(super) code: &'static str,
    /// One sentence for a person.
    pub(super) detail: String,
}

/// What an attempt came to that received `received`, at `now`.
pub(super) fn classify_response(
    received: &SubscriberResponse,
    broken: Option<AttemptError>,
    now: Timestamp,
) -> AttemptOutcome {
    let (status, answer) = (received.status, received.body.clone());
    let class = status.map(classify_status);
    match (class, broken) {
        (Some(StatusClass::Accepted), None) => AttemptOutcome::Accepted,
        (Some(StatusClass::Accepted) | None, broken) => {
            let AttemptError { code, detail } =
                broken.unwrap_or_else(|| AttemptError::broken_off("there was no answer"));
            let failure = AttemptFailure {
                status,
                code,
                detail,
                answer,
            };
            match code {
                REFUSED_ADDRESS | BAD_URL | TRANSFORM_FAILED | NO_MESSAGE | NO_TOKEN => {
                    AttemptOutcome::PermanentFailure { failure }
                }
                _ => AttemptOutcome::TransientFailure {
                    failure,
                    retry_after: None,
                },
            }
        }
        (
            Some(
                class @ (StatusClass::TransientFailure
                | StatusClass::PermanentFailure
                | StatusClass::Gone),
            ),
            _,
        ) => {
            let detail = format!("answered {}", status.unwrap_or_default());
            let failure = AttemptFailure {
                status,
                code: STATUS,
                detail,
                answer,
            };
            match class {
                StatusClass::PermanentFailure => AttemptOutcome::PermanentFailure { failure },
                StatusClass::Gone => AttemptOutcome::Gone { failure },
                StatusClass::TransientFailure | StatusClass::Accepted => {
                    let retry_after = received
                        .retry_after
                        .as_deref()
                        .and_then(|value| parse_retry_after(value, now));
                    AttemptOutcome::TransientFailure {
                        failure,
                        retry_after,
                    }
                }
            }
        }
    }
}

/// Stable codes of failures.
pub(super) const STATUS: &str = "status";
pub(super) const TIMEOUT: &str = "timeout";
pub(super) const DNS: &str = "dns";
pub(super) const CONNECT: &str = "connect";
pub(super) const TLS: &str = "tls";
pub(super) const BROKEN_OFF: &str = "broken_off";
pub(super) const REFUSED_ADDRESS: &str = "refused_address";
pub(super) const BAD_URL: &str = "bad_url";
pub(super) const TRANSFORM_FAILED: &str = "transform_failed";
pub(super) const NO_MESSAGE: &str = "no_message";
pub(super) const NO_TOKEN: &str = "no_token";

impl AttemptError {
    pub(super) fn broken_off(detail: impl Into<String>) -> Self {
        Self {
            code: BROKEN_OFF,
            detail: detail.into(),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum StatusClass {
    Accepted,
    TransientFailure,
    PermanentFailure,
    Gone,
}

const fn classify_status(status: u16) -> StatusClass {
    match status {
        200..300 => StatusClass::Accepted,
        410 => StatusClass::Gone,
        408 | 409 | 425 | 429 => StatusClass::TransientFailure,
        400..500 => StatusClass::PermanentFailure,
        _ => StatusClass::TransientFailure,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn every_status_has_its_class() {
        let table = [
            (StatusClass::Accepted, &[200, 201, 202, 204, 206, 299][..]),
            (StatusClass::Gone, &[410]),
            (
                StatusClass::PermanentFailure,
                &[400, 401, 403, 404, 407, 411, 422, 424, 426, 428, 430, 499],
            ),
            (
                StatusClass::TransientFailure,
                &[
                    0, 100, 101, 199, 300, 301, 304, 307, 399, 408, 409, 425, 429, 500, 501, 599,
                    600, 999,
                ],
            ),
        ];
        for (expected, statuses) in table {
            assert!(
                statuses
                    .iter()
                    .all(|status| classify_status(*status) == expected),
                "{expected:?}"
            );
        }
    }

    #[test]
    fn only_what_failed_waits_for_the_subscriber_s_wish() {
        let received = |status| SubscriberResponse {
            status: Some(status),
            retry_after: Some("7".into()),
            body: Bytes::new(),
        };
        let told = |status| classify_response(&received(status), None, Timestamp::default());
        let asked = Some(Duration::from_secs(7));
        assert!(
            matches!(told(429), AttemptOutcome::TransientFailure { retry_after, .. } if retry_after == asked)
        );
        assert!(
            matches!(told(302), AttemptOutcome::TransientFailure { retry_after, .. } if retry_after == asked)
        );
        assert!(matches!(told(404), AttemptOutcome::PermanentFailure { .. }));
    }
}
