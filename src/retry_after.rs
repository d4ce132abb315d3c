//! The only parser of the `Retry-After` header, which subscribers and other servers send, and the
//! longest pause that is honoured.

use std::time::{Duration, UNIX_EPOCH};

use chrono::DateTime;

use crate::event::Timestamp;

/// Longest pause that a `Retry-After` header can ask for: 1 h. Longer pauses are up to the retry
/// schedule and to operators, and a server's wrong clock must not stop a lane for months.
pub(crate) const RETRY_AFTER_MAX: Duration = Duration::from_secs(3_600);

/// Returns the pause that the header value `value` asks for at `now`, at most [`RETRY_AFTER_MAX`];
/// `None` if it is malformed. The value is a number of seconds (RFC 9110, section 10.2.3) or a date
/// in any form that HTTP ever had: that of RFC 9110, of RFC 850, or of `asctime`.
pub(crate) fn parse_retry_after(value: &str, now: Timestamp) -> Option<Duration> {
    let value = value.trim();
    let is_number = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());

    let pause = if is_number {
        // A number too large for u64 exceeds the maximum anyway.
        Duration::from_secs(value.parse().unwrap_or(u64::MAX))
    } else {
        let date = parse_date(value)?;
        if date > now {
            date.distance(now)
        } else {
            Duration::ZERO
        }
    };

    Some(pause.min(RETRY_AFTER_MAX))
}

fn parse_date(value: &str) -> Option<Timestamp> {
    let micros = match httpdate::parse_http_date(value) {
        Ok(date) => i64::try_from(date.duration_since(UNIX_EPOCH).ok()?.as_micros()).ok()?,
        // Some servers send the date of an e-mail, with an offset instead of GMT.
        Err(_) => DateTime::parse_from_rfc2822(value).ok()?.timestamp_micros(),
    };
    Some(Timestamp::from_micros(micros))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_requested_pause_is_honoured_within_bounds() {
        let now = Timestamp::parse("2015-10-21T07:28:00Z").expect("a time");
        let seconds = |value: &str| parse_retry_after(value, now).map(|pause| pause.as_secs());
        let table = [
            ("7", Some(7)),
            (" 0 ", Some(0)),
            ("3600", Some(3_600)),
            ("3601", Some(3_600)),
            ("999999", Some(3_600)),
            ("99999999999999999999999", Some(3_600)),
            ("Wed, 21 Oct 2015 07:28:00 GMT", Some(0)),
            ("Wed, 21 Oct 2015 07:28:30 GMT", Some(30)),
            ("Wed, 21 Oct 2015 07:27:30 GMT", Some(0)),
            ("Thu, 22 Oct 2015 07:28:00 GMT", Some(3_600)),
            ("Wednesday, 21-Oct-15 07:28:30 GMT", Some(30)),
            ("Wed Oct 21 07:28:30 2015", Some(30)),
            ("Thu Oct  1 07:28:30 2015", Some(0)),
            ("Wed, 21 Oct 2015 08:28:30 +0100", Some(30)),
            ("Wed, 21 Oct 2015", None),
            ("", None),
            ("-1", None),
            ("1.5", None),
            ("soon", None),
        ];
        for (value, expected) in table {
            assert_eq!(seconds(value), expected, "{value}");
        }
    }
}
