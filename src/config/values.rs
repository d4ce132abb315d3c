//! Parsers and checks of single values that several sections use. Each error names the expected
//! value.

use super::secret::Secret;
use super::setting::SettingValue;

/// Shortest duration of any key, in seconds. Zero would mean "never" for some keys and "at once"
/// for others.
pub(super) const DURATION_MIN_S: f64 = 0.001;
pub(super) const DAY_S: f64 = 86_400.0;
pub(super) const HOUR_S: f64 = 3_600.0;

pub(super) fn parse_number(value: SettingValue, expected: &str) -> Result<f64, String> {
    match value {
        // Exact: the longest accepted duration is far below 2^53.
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

/// Returns `secret` if a header can carry it. The error never shows the secret.
pub(super) fn check_sendable(secret: Secret) -> Result<Secret, String> {
    let text = secret.expose();
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Ok(secret);
    }
    Err(
        "expected printable ASCII characters without spaces; `hookyard secret new` prints one"
            .to_owned(),
    )
}

/// Returns `secret` if it is a header, a name and a value such as `Authorization: Bearer …`. The error
/// never shows it.
pub(super) fn check_header(secret: Secret) -> Result<Secret, String> {
    let is_name_byte = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    let parts = secret.expose().split_once(':');
    let is_header = parts.is_some_and(|(name, value)| {
        let (name, value) = (name.trim(), value.trim());
        !name.is_empty()
            && name.bytes().all(is_name_byte)
            && !value.is_empty()
            && value.bytes().all(|byte| matches!(byte, b' '..=b'~'))
    });
    if is_header {
        Ok(secret)
    } else {
        Err("expected a header, such as \"Authorization: Bearer …\"".to_owned())
    }
}

/// Returns `secret` unless it is blank. The error never shows the secret.
pub(super) fn check_not_empty(secret: Secret) -> Result<Secret, String> {
    let blank = secret.expose().trim().is_empty();
    if blank {
        Err("a secret is empty; `hookyard secret new` prints one".to_owned())
    } else {
        Ok(secret)
    }
}

pub(super) fn describe_unexpected(expected: &str, value: &SettingValue) -> String {
    format!("expected {expected}, found {}", value.describe())
}

/// Describes a mismatch and quotes the found text, so it is only for keys that hold no secret.
pub(super) fn describe_mismatch(expected: &str, text: &str) -> String {
    format!("expected {expected}, found {text:?}")
}
