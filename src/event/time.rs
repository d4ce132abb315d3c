//! Timestamps in UTC with microsecond precision.

use std::fmt;
use std::time::Duration;

use chrono::{DateTime, SecondsFormat, TimeZone, Utc};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{KnownFormat, ObjectBuilder, Schema, SchemaFormat, Type};
use utoipa::{PartialSchema, ToSchema};

/// Moment in UTC, in microseconds since the Unix epoch, so that two spellings of one instant are
/// equal.
///
/// Displayed as RFC 3339 with milliseconds and `Z`, which is the format of times in all answers and
/// deliveries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

impl Timestamp {
    /// Creates the moment `micros` microseconds after the Unix epoch.
    #[must_use]
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// Returns the microseconds since the Unix epoch.
    #[must_use]
    pub const fn as_micros(self) -> i64 {
        self.0
    }

    /// Parses an RFC 3339 time with any offset, in which the colon may be missing, as ISO 8601 allows
    /// (`+0000`); returns `None` if `text` is malformed.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let parse = |text: &str| DateTime::parse_from_rfc3339(text).ok();
        let time = parse(text).or_else(|| parse(&add_offset_colon(text)?))?;
        Some(Self(time.timestamp_micros()))
    }

    /// Returns this moment moved forward by `by`, or the latest representable moment.
    #[must_use]
    pub fn saturating_add(self, by: Duration) -> Self {
        Self(
            self.0
                .saturating_add(i64::try_from(by.as_micros()).unwrap_or(i64::MAX)),
        )
    }

    /// Returns this moment moved back by `by`, or the earliest representable moment.
    #[must_use]
    pub fn saturating_sub(self, by: Duration) -> Self {
        Self(
            self.0
                .saturating_sub(i64::try_from(by.as_micros()).unwrap_or(i64::MAX)),
        )
    }

    /// Returns the time between two moments, regardless of their order.
    #[must_use]
    pub fn distance(self, other: Self) -> Duration {
        Duration::from_micros(self.0.abs_diff(other.0))
    }
}

/// Returns `text`, which ends in an offset such as `+0000`, with the colon of RFC 3339 in it.
fn add_offset_colon(text: &str) -> Option<String> {
    let (time, offset) = text.split_at_checked(text.len().checked_sub(5)?)?;
    let digits = offset.strip_prefix(['+', '-'])?;
    let is_offset = digits.bytes().all(|byte| byte.is_ascii_digit()) && time.contains(':');
    is_offset.then(|| format!("{time}{}:{}", &offset[..3], &offset[3..]))
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time: DateTime<Utc> = Utc.timestamp_micros(self.0).single().unwrap_or_default();
        f.write_str(&time.to_rfc3339_opts(SecondsFormat::Millis, true))
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl PartialSchema for Timestamp {
    fn schema() -> RefOr<Schema> {
        let time = ObjectBuilder::new()
            .schema_type(Type::String)
            .format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime)))
            .description(Some("Moment in UTC, with milliseconds (RFC 3339)."))
            .examples(["2025-12-04T10:30:00.120Z"]);
        RefOr::T(time.build().into())
    }
}

impl ToSchema for Timestamp {}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| serde::de::Error::custom("expected an RFC 3339 time"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_spellings_of_one_instant_are_equal() {
        let utc = Timestamp::parse("2025-12-04T10:30:00Z").expect("valid");
        let offset = Timestamp::parse("2025-12-04T12:30:00.000+02:00").expect("valid");
        assert_eq!(utc, offset);
        assert_eq!(Timestamp::parse("2025-12-04T12:30:00+0200"), Some(utc));
        assert_eq!(Timestamp::parse("2025-12-04T07:00:00.0-0330"), Some(utc));
        assert_eq!(utc.to_string(), "2025-12-04T10:30:00.000Z");
    }

    #[test]
    fn text_that_is_not_rfc_3339_is_rejected() {
        for text in [
            "",
            "yesterday",
            "2025-12-04",
            "2025-12-04 10:30:00",
            "1733308200",
            "2025-12-04T10:30:00+00000",
            "2025-12-04+0000",
            "2025-12-04T10:30:00+2500",
        ] {
            assert_eq!(Timestamp::parse(text), None, "{text}");
        }
    }
}
