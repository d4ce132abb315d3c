//! Location of a field in a request: a JSON pointer into the body, a header, or a rule of a preset.

use std::borrow::Cow;
use std::fmt;

use serde_json::value::RawValue;

use super::body::RequestDocument;
use super::pointer::JsonPointer;
use super::request::RequestView;

const HEADER_MAX_BYTES: usize = 128;

/// A text that is neither a JSON pointer nor a header name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected a JSON pointer such as /data/id, or the name of a header")]
pub struct FieldLocatorError;

/// Location of one field in a request.
#[derive(Clone, Debug)]
pub enum FieldLocator {
    /// Pointer into the JSON body.
    Pointer(JsonPointer),
    /// Name of a header, in lower case.
    Header(Cow<'static, str>),
    /// Rule of a preset, with the location in words for error texts.
    Rule(&'static str, fn(&RequestDocument<'_>) -> Option<String>),
}

impl FieldLocator {
    /// Locator of a pointer that is known to be valid.
    #[must_use]
    pub const fn pointer(text: &'static str) -> Self {
        Self::Pointer(JsonPointer::from_static(text))
    }

    /// Locator of the header `name`, which is in lower case.
    #[must_use]
    pub const fn header(name: &'static str) -> Self {
        Self::Header(Cow::Borrowed(name))
    }

    /// Parses a pointer if `text` begins with `/`, else the name of a header.
    ///
    /// # Errors
    /// [`FieldLocatorError`] for a malformed pointer or header name.
    pub fn parse(text: &str) -> Result<Self, FieldLocatorError> {
        if text.starts_with('/') {
            return JsonPointer::parse(text)
                .map(Self::Pointer)
                .ok_or(FieldLocatorError);
        }
        parse_header_name(text)
            .map(|name| Self::Header(name.into()))
            .ok_or(FieldLocatorError)
    }

    /// Finds the text of the field.
    ///
    /// # Errors
    /// [`FieldLookupError`] if the field is absent or of another type.
    pub(super) fn find_text(
        &self,
        request: &RequestView<'_>,
        document: &RequestDocument<'_>,
    ) -> Result<String, FieldLookupError> {
        match self {
            Self::Pointer(pointer) => parse_text_value(pointer.resolve(document.json())),
            Self::Header(name) => request
                .header(name)
                .filter(|text| !text.is_empty())
                .map(str::to_owned)
                .ok_or(FieldLookupError::Absent),
            Self::Rule(_, find) => find(document).ok_or(FieldLookupError::Absent),
        }
    }
}

/// Reason why a locator finds no text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FieldLookupError {
    /// The field is missing or null.
    Absent,
    /// The field is neither a string nor a number.
    Other,
}

/// Returns the text of a string, or the digits of a number as they were sent.
pub(super) fn parse_text_value(value: Option<&RawValue>) -> Result<String, FieldLookupError> {
    let value = value
        .map(RawValue::get)
        .filter(|value| *value != "null")
        .ok_or(FieldLookupError::Absent)?;
    match value.as_bytes().first() {
        Some(b'"') => serde_json::from_str(value).map_err(|_| FieldLookupError::Other),
        Some(b'-' | b'0'..=b'9') => Ok(value.to_owned()),
        Some(_) | None => Err(FieldLookupError::Other),
    }
}

/// Returns `text` in lower case if it is a valid header name (RFC 9110, section 5.6.2).
#[must_use]
pub fn parse_header_name(text: &str) -> Option<String> {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    let is_name = (1..=HEADER_MAX_BYTES).contains(&text.len()) && text.bytes().all(is_token);
    is_name.then(|| text.to_ascii_lowercase())
}

impl fmt::Display for FieldLocator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pointer(pointer) => write!(f, "at {pointer}"),
            Self::Header(name) => write!(f, "in header {name}"),
            Self::Rule(place, _) => f.write_str(place),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slash_tells_a_pointer_from_a_header() {
        assert_eq!(
            FieldLocator::parse("/data/id")
                .expect("a pointer")
                .to_string(),
            "at /data/id"
        );
        assert_eq!(
            FieldLocator::parse("X-Event-Id")
                .expect("a header")
                .to_string(),
            "in header x-event-id"
        );
        for text in [
            "",
            "a b",
            "x:y",
            "/a~x",
            "über",
            &"x".repeat(HEADER_MAX_BYTES + 1),
        ] {
            assert!(FieldLocator::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn strings_and_numbers_are_text_and_nothing_else_is() {
        let text = |json: &str| parse_text_value(Some(serde_json::from_str(json).expect("JSON")));
        assert_eq!(text(r#""\u00e4 \"b\"""#).as_deref(), Ok("ä \"b\""));
        assert_eq!(text("-1.50e3").as_deref(), Ok("-1.50e3"));
        assert_eq!(text("null"), Err(FieldLookupError::Absent));
        for json in ["true", "{}", "[1]", r#""\ud800""#] {
            assert_eq!(text(json), Err(FieldLookupError::Other), "{json}");
        }
    }
}
