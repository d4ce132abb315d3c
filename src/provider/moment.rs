//! Parser for the time formats of senders: RFC 3339, Unix seconds, or Unix milliseconds.

use crate::event::Timestamp;

/// Smallest number that counts as milliseconds. In seconds it would be the year 5138, in
/// milliseconds it is 1973.
const MILLISECONDS_FROM: i64 = 100_000_000_000;
/// Smallest number that is no time any more: the year 5138 in milliseconds.
const MILLISECONDS_END: i64 = 100_000_000_000_000;

/// Parses a time in any of the three formats; a number may have a fraction. `None` for other text.
#[must_use]
pub fn parse_moment(text: &str) -> Option<Timestamp> {
    Timestamp::parse(text).or_else(|| parse_number(text))
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
            "0x10",
            " 1",
            "100000000000000",
            "١",
        ] {
            assert_eq!(parse_moment(text), None, "{text}");
        }
    }
}
