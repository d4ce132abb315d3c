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

use std::time::Duration;

use bytes::Bytes;
use chrono::DateTime;

use super::super::Failure;
use super::Outcome;
use crate::event::Timestamp;

/// The longest pause that a subscriber can ask for: longer ones are left to the schedule and to its operators.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(3_600);

/// What came back, as far as it did.
#[derive(Debug, Default)]
pub(super) struct Received {
    /// The status, once the head of an answer came.
    pub(super) status: Option<u16>,
    /// The value of `Retry-After`.
    pub(super) retry_after: Option<String>,
    /// The beginning of the body.
    pub(super) body: Bytes,
}

/// Why an answer did not come, or not to its end.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Broken {
    /// A stable code.
    pub(super) code: &'static str,
    /// One sentence for a person.
    pub(super) detail: String,
}

/// What an attempt came to that received `received`, at `now`.
pub(super) fn judge(received: &Received, broken: Option<Broken>, now: Timestamp) -> Outcome {
    let (status, answer) = (received.status, received.body.clone());
    let class = status.map(class);
    match (class, broken) {
        (Some(Class::Accepted), None) => Outcome::Accepted,
        (Some(Class::Accepted) | None, broken) => {
            let Broken { code, detail } = broken.unwrap_or_else(|| Broken::off("there was no answer"));
            let failure = Failure { status, code, detail, answer };
            match code {
                REFUSED_ADDRESS | BAD_URL | TRANSFORM_FAILED | NO_MESSAGE | NO_TOKEN => Outcome::Refused { failure },
                _ => Outcome::Failed { failure, retry_after: None },
            }
        }
        (Some(class @ (Class::Failed | Class::Refused | Class::Gone)), _) => {
            let detail = format!("answered {}", status.unwrap_or_default());
            let failure = Failure { status, code: STATUS, detail, answer };
            match class {
                Class::Refused => Outcome::Refused { failure },
                Class::Gone => Outcome::Gone { failure },
                Class::Failed | Class::Accepted => {
                    let retry_after = received.retry_after.as_deref().and_then(|value| pause(value, now));
                    Outcome::Failed { failure, retry_after }
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

impl Broken {
    pub(super) fn off(detail: impl Into<String>) -> Self {
        Self { code: BROKEN_OFF, detail: detail.into() }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    Accepted,
    Failed,
    Refused,
    Gone,
}

const fn class(status: u16) -> Class {
    match status {
        200..300 => Class::Accepted,
        410 => Class::Gone,
        408 | 409 | 425 | 429 => Class::Failed,
        400..500 => Class::Refused,
        _ => Class::Failed,
    }
}

/// The pause that a `Retry-After` of `value` asks for at `now`: seconds, or a date (RFC 9110, section 10.2.3).
fn pause(value: &str, now: Timestamp) -> Option<Duration> {
    let value = value.trim();
    let is_number = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
    let pause = if is_number {
        // More digits than fit are more than is honoured.
        Duration::from_secs(value.parse().unwrap_or(u64::MAX))
    } else {
        let date = Timestamp::from_micros(DateTime::parse_from_rfc2822(value).ok()?.timestamp_micros());
        if date > now { date.distance(now) } else { Duration::ZERO }
    };
    Some(pause.min(RETRY_AFTER_MAX))
}
