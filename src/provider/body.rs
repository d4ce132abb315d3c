//! Body of a request, parsed by its content type: JSON, or a form converted to a JSON object.

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::request::RequestView;
use crate::event::form_to_json;

/// Format of a request body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DocumentFormat {
    /// `application/json`, a media type that ends in `+json`, or no content type at all.
    Json,
    /// URL-encoded form, of the type `application/x-www-form-urlencoded`.
    Form,
}

impl DocumentFormat {
    /// Returns the format that `content_type` names; `None` if it is not supported.
    #[must_use]
    pub fn from_content_type(content_type: Option<&str>) -> Option<Self> {
        let Some(content_type) = content_type else {
            return Some(Self::Json);
        };
        let essence = content_type
            .split(';')
            .next()
            .unwrap_or_default()
            .trim()
            .to_ascii_lowercase();
        match essence.as_str() {
            "application/json" => Some(Self::Json),
            "application/x-www-form-urlencoded" => Some(Self::Form),
            other if other.len() > 5 && other.ends_with("+json") => Some(Self::Json),
            _ => None,
        }
    }

    /// Returns the format that the content type of `request` names; `None` if it is not supported.
    #[must_use]
    pub fn from_request(request: &RequestView<'_>) -> Option<Self> {
        match request
            .headers
            .iter()
            .find(|(name, _)| *name == "content-type")
        {
            Some((_, value)) => Self::from_content_type(Some(std::str::from_utf8(value).ok()?)),
            None => Self::from_content_type(None),
        }
    }
}

/// Reason why a body cannot be parsed. The text repeats nothing of the body.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DocumentError {
    /// The content type is neither JSON nor a form.
    #[error("Content-Type must be application/json or application/x-www-form-urlencoded")]
    MediaType,
    /// The body is JSON although the content type says that it is a form. Only the body is signed,
    /// so another content type must not give it another meaning.
    #[error("body is JSON, but Content-Type says application/x-www-form-urlencoded")]
    NotForm,
    /// The body is not valid UTF-8.
    #[error("body is not UTF-8")]
    NotUtf8,
    /// The body is not valid JSON; the error was found at this place.
    #[error("body is not valid JSON at line {line} column {column}")]
    NotJson {
        /// Line of the error, counted from 1.
        line: usize,
        /// Column of the error, counted from 1.
        column: usize,
    },
}

/// Parsed body of one request.
#[derive(Clone, Debug)]
pub struct RequestDocument<'r> {
    json: Cow<'r, RawValue>,
    format: DocumentFormat,
}

impl<'r> RequestDocument<'r> {
    /// Parses the body of `request`.
    ///
    /// # Errors
    /// [`DocumentError`] for another format or for malformed content.
    pub fn parse(request: &RequestView<'r>) -> Result<Self, DocumentError> {
        let format = DocumentFormat::from_request(request).ok_or(DocumentError::MediaType)?;
        match format {
            DocumentFormat::Json => Self::parse_json(request),
            DocumentFormat::Form if is_json_text(request.body) => Err(DocumentError::NotForm),
            DocumentFormat::Form => {
                let json = RawValue::from_string(form_to_json(request.body)).map_err(not_json)?;
                Ok(Self {
                    json: Cow::Owned(json),
                    format,
                })
            }
        }
    }

    /// Parses the body of `request` as JSON, even if its content type says that it is a form.
    ///
    /// # Errors
    /// [`DocumentError`] for an unsupported content type or for malformed content.
    pub fn parse_json(request: &RequestView<'r>) -> Result<Self, DocumentError> {
        DocumentFormat::from_request(request).ok_or(DocumentError::MediaType)?;
        let text = std::str::from_utf8(request.body).map_err(|_| DocumentError::NotUtf8)?;
        let json = Cow::Borrowed(serde_json::from_str(text).map_err(not_json)?);
        Ok(Self {
            json,
            format: DocumentFormat::Json,
        })
    }

    /// Returns the body as JSON; a form is an object of its fields.
    #[must_use]
    pub fn json(&self) -> &RawValue {
        &self.json
    }

    /// Returns the format in which the body was sent.
    #[must_use]
    pub fn format(&self) -> DocumentFormat {
        self.format
    }
}

/// Returns true for a body that begins as a JSON object or list does. No form begins so: its names
/// are escaped.
fn is_json_text(body: &[u8]) -> bool {
    matches!(body.trim_ascii_start().first(), Some(b'{' | b'['))
}

fn not_json(error: serde_json::Error) -> DocumentError {
    DocumentError::NotJson {
        line: error.line(),
        column: error.column(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(content_type: &str, body: &[u8]) -> Result<String, DocumentError> {
        let headers = vec![("content-type", content_type.as_bytes())];
        let request = RequestView {
            method: "POST",
            url: "",
            headers,
            body,
        };
        RequestDocument::parse(&request).map(|document| document.json().get().to_owned())
    }

    #[test]
    fn the_content_type_decides() {
        assert_eq!(
            DocumentFormat::from_content_type(None),
            Some(DocumentFormat::Json)
        );
        for json in [
            "application/json",
            "Application/JSON; charset=utf-8",
            "application/vnd.api+json",
        ] {
            assert_eq!(
                DocumentFormat::from_content_type(Some(json)),
                Some(DocumentFormat::Json),
                "{json}"
            );
        }
        assert_eq!(
            DocumentFormat::from_content_type(Some(
                "application/x-www-form-urlencoded;charset=UTF-8"
            )),
            Some(DocumentFormat::Form)
        );
        for other in ["text/plain", "", "json", "+json", "multipart/form-data"] {
            assert_eq!(
                DocumentFormat::from_content_type(Some(other)),
                None,
                "{other}"
            );
        }
        assert_eq!(read("text/plain", b"{}"), Err(DocumentError::MediaType));
    }

    #[test]
    fn json_stays_as_it_was_and_a_form_becomes_an_object() {
        assert_eq!(
            read("application/json", br#"{"a" : 1, "a":2}"#).as_deref(),
            Ok(r#"{"a" : 1, "a":2}"#)
        );
        assert_eq!(
            read("application/x-www-form-urlencoded", b"a=%7b").as_deref(),
            Ok(r#"{"a":"{"}"#)
        );
    }

    #[test]
    fn what_is_no_json_is_told_by_its_place_only() {
        assert_eq!(
            read("application/json", b"\xff"),
            Err(DocumentError::NotUtf8)
        );
        assert_eq!(
            read("application/json", b"{\n\"a\": }"),
            Err(DocumentError::NotJson { line: 2, column: 6 })
        );
        for body in [&b""[..], b"{} x", b"{"] {
            assert!(matches!(
                read("application/json", body),
                Err(DocumentError::NotJson { .. })
            ));
        }
    }
}
