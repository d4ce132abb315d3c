//! Single values as the keys of several sections want them; each error says what was expected.

use super::secret::Secret;
use super::setting::SettingValue;

/// The shortest span of time that any key takes; zero would mean "never" in one place and "at once"
/// in another.
pub(super) const DURATION_MIN_S: f64 = 0.001;
pub(super) const DAY_S: f64 = 86_400.0;
pub(super) const HOUR_S: f64 = 3_600.0;

pub(super) fn parse_number(value: SettingValue, expected: &str) -> Result<f64, String> {
    match value {
        // Exact: the longest span anywhere is far below 2^53.
        SettingValue::Integer(number) => Ok(number as f64),
        SettingValue::Float(number) => Ok(number),
        SettingValue::Raw(text) => text
            .expose()
            .trim()
            .parse()
            .map_err(|_| describe_mismatch(expected, text.expose())),
        other => Err(describe_unexpected(expected, &other)),
    }
}

pub(super) fn parse_string(value: SettingValue) -> Result<Secret, String> {
    match value {
        SettingValue::Text(text) | SettingValue::Raw(text) => Ok(text),
        other => Err(describe_unexpected("a string", &other)),
    }
}

/// `secret`, if it can be sent in a header. Its error never shows it.
pub(super) fn check_sendable(secret: Secret) -> Result<Secret, String> {
    let text = secret.expose();
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Ok(secret);
    }
    Err(
        "expected printable ASCII characters without spaces; `hookyard secret new` makes a value"
            .to_owned(),
    )
}

/// `secret`, if it is one.
pub(super) fn check_not_empty(secret: Secret) -> Result<Secret, String> {
    let blank = secret.expose().trim().is_empty();
    if blank {
        Err("a secret is empty; `hookyard secret new` makes one".to_owned())
    } else {
        Ok(secret)
    }
}

pub(super) fn describe_unexpected(expected: &str, value: &SettingValue) -> String {
    format!("expected {expected}, found {}", value.describe())
}

/// For keys that are no secrets: shows what was found.
pub(super) fn describe_mismatch(expected: &str, text: &str) -> String {
    format!("expected {expected}, found {text:?}")
}
