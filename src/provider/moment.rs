//! Parser for the time formats of senders: RFC 3339, Unix seconds, or Unix milliseconds. An offset
//! may lack its colon. The time of an event may also be in the form of mails, RFC 2822.

use chrono::DateTime;

use crate::event::Timestamp;

/// Smallest number that counts as milliseconds. In seconds it would be the year 5138, in
/// milliseconds it is 1973.
const MILLISECONDS_FROM: i64 = 100_000_000_000;
/// Smallest number that is no time any more: the year 5138 in milliseconds.
const MILLISECONDS_END: i64 = 100_000_000_000_000;

/// Parses a time in any of the three formats; a number may have a fraction. `None` for other text.
#[must_use]
pub fn parse_moment(text: &str) -> Option<Timestamp> {
    Timestamp::parse(text)
        .or_else(|| parse_number(text))
        .or_else(|| Timestamp::parse(&respell_offset(text)?))
}

/// Parses the time of an event, also as mails and Twilio's calls have it: `Tue, 25 Nov 2025 10:00:00
/// +0000`. No signed time has that form, so a signature cannot be cut to fit it.
#[must_use]
pub(super) fn parse_event_time(text: &str) -> Option<Timestamp> {
    parse_moment(text).or_else(|| {
        let at = DateTime::parse_from_rfc2822(text).ok()?;
        Some(Timestamp::from_micros(at.timestamp_micros()))
    })
}

/// Returns a time with a space before its offset, or with ` UTC`, as Ruby spells them, in the form
/// that [`Timestamp::parse`] reads.
fn respell_offset(text: &str) -> Option<String> {
    if let Some(time) = text.strip_suffix(" UTC") {
        return Some(format!("{time}Z"));
    }
    let (time, offset) = text.rsplit_once(' ')?;
    let is_offset = offset.len() == 5 && offset.starts_with(['+', '-']) && time.contains(':');
    is_offset.then(|| format!("{}{offset}", time.trim_end()))
}

fn parse_number(text: &str) -> Option<Timestamp> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(fraction) {
        return None;
    }
    let whole: i64 = whole
        .parse()
        .ok()
        .filter(|whole| *whole < MILLISECONDS_END)?;
    if whole >= MILLISECONDS_FROM {
        return Some(Timestamp::from_micros(whole * 1_000));
    }
    let micros: i64 = format!("{fraction:0<6.6}").parse().ok()?;
    Some(Timestamp::from_micros(whole * 1_000_000 + micros))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_of_one_instant_is_that_instant() {
        let expected = Timestamp::parse("2023-11-14T22:13:20.5Z");
        for text in [
            "2023-11-14T23:13:20.500+01:00",
            "2023-11-14T23:13:20.500+0100",
            "2023-11-14T22:13:20.5+0000",
            "2023-11-14T17:13:20.5-0500",
            "2023-11-14 22:13:20.5 UTC",
            "2023-11-14 23:13:20.5 +0100",
            "1700000000500",
            "1700000000.5",
            "1700000000.5000009",
        ] {
            assert_eq!(parse_moment(text), expected, "{text}");
        }
        assert_eq!(parse_moment("0"), Some(Timestamp::from_micros(0)));
        assert_eq!(
            parse_moment("99999999999")
                .map(|at| at.to_string())
                .as_deref(),
            Some("5138-11-16T09:46:39.000Z")
        );
    }

    #[test]
    fn events_alone_may_have_a_time_in_the_form_of_mails() {
        let expected = Timestamp::parse("2025-11-25T10:00:00Z");
        for text in [
            "Tue, 25 Nov 2025 10:00:00 +0000",
            "Tue, 25 Nov 2025 11:00:00 +0100",
            "25 Nov 2025 10:00:00 GMT",
        ] {
            assert_eq!(parse_event_time(text), expected, "{text}");
            assert_eq!(parse_moment(text), None, "{text}");
        }
        assert_eq!(parse_event_time("2025-11-25T10:00:00Z"), expected);
    }

    #[test]
    fn what_is_no_time_is_none() {
        for text in [
            "",
            "-1",
            "+1",
            "1e9",
            ".5",
            "5.",
            "1.2.3",
            "soon",
            "+0000",
            "2023-11-14+0000",
            "2023-11-14T22:13:20+00",
            "2023-11-14T22:13:20+9900",
            "2023-11-14T22:13:20 GMT",
            "Mon, 25 Nov 2025 10:00:00 +0000",
            "Tue, 25 Nov 2025",
            " UTC",
            "0x10",
            " 1",
            "100000000000000",
            "١",
        ] {
            assert_eq!(parse_event_time(text), None, "{text}");
        }
    }
}
