//! Body of a request, parsed by its content type: JSON, or a form converted to a JSON object.
//!
//! | body | document | payload of the event |
//! |---|---|---|
//! | JSON | the JSON | as sent, without a byte order mark |
//! | form in UTF-8 | an object of the fields | as sent |
//! | form in another character set | an object of the fields | the document |
//! | form with JSON in a field that the source names | that JSON | the document |
//! | nothing | an empty object | as sent: nothing |

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::form::{FormCharset, FormFields};
use super::request::RequestView;
use crate::event::{NestingError, check_nesting};

/// Byte order mark in UTF-8. RFC 8259 forbids it in JSON, and some libraries write it all the same.
pub const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

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
    /// The content type of a form names a character set that is not supported.
    #[error("charset of a form must be utf-8, us-ascii, iso-8859-1 or windows-1252")]
    UnknownCharset,
    /// A form has bytes outside its character set. Replaced, they would make one id of two.
    #[error("form has bytes outside the charset of its Content-Type, which is utf-8 by default")]
    NotInCharset,
    /// The body nests deeper than the bound.
    #[error(transparent)]
    TooDeep(#[from] NestingError),
    /// The body is not valid JSON; the error was found at this place.
    #[error("body is not valid JSON at line {line} column {column}")]
    NotJson {
        /// Line of the error, counted from 1.
        line: usize,
        /// Column of the error, counted from 1.
        column: usize,
    },
}

/// Relation of an event's payload to the body that was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DocumentPayload {
    /// The body is the payload.
    AsSent,
    /// The body without its byte order mark is the payload.
    AfterMark,
    /// The document is the payload, since the body is not readable without its headers.
    Converted,
}

/// Parsed body of one request.
#[derive(Clone, Debug)]
pub struct RequestDocument<'r> {
    json: Cow<'r, RawValue>,
    format: DocumentFormat,
    payload: DocumentPayload,
}

impl<'r> RequestDocument<'r> {
    /// Parses the body of `request`.
    ///
    /// # Errors
    /// [`DocumentError`] for another format or for malformed content.
    pub fn parse(request: &RequestView<'r>) -> Result<Self, DocumentError> {
        Self::parse_with::<&str>(request, &[], true)
    }

    /// Parses the body of `request`; JSON in a form's field that `json_fields` names is the
    /// document. A form is read in the charset of its content type, which no sender signs, if
    /// `honours_charset`, else as UTF-8.
    ///
    /// # Errors
    /// [`DocumentError`] for another format or for malformed content.
    pub fn parse_with<N: AsRef<str>>(
        request: &RequestView<'r>,
        json_fields: &[N],
        honours_charset: bool,
    ) -> Result<Self, DocumentError> {
        let (body, payload) = split_mark(request.body);
        if body.is_empty() {
            return Ok(Self::empty());
        }
        let format = DocumentFormat::from_request(request).ok_or(DocumentError::MediaType)?;
        match format {
            DocumentFormat::Json => Self::parse_json(request),
            DocumentFormat::Form if is_json_text(body) => Err(DocumentError::NotForm),
            DocumentFormat::Form => {
                let content_type = request.header("content-type").unwrap_or_default();
                let charset = match honours_charset {
                    true => FormCharset::from_content_type(content_type)
                        .ok_or(DocumentError::UnknownCharset)?,
                    false => FormCharset::Utf8,
                };
                let fields =
                    FormFields::decode(body, charset).ok_or(DocumentError::NotInCharset)?;
                Self::from_form(&fields, charset, payload, json_fields)
            }
        }
    }

    fn from_form(
        fields: &FormFields,
        charset: FormCharset,
        payload: DocumentPayload,
        json_fields: &[impl AsRef<str>],
    ) -> Result<Self, DocumentError> {
        let inner = json_fields
            .iter()
            .filter_map(|name| fields.single_value(name.as_ref()))
            .filter(|text| is_json_text(text.as_bytes()) && check_nesting(text).is_ok())
            .find_map(|text| RawValue::from_string(text.to_owned()).ok());
        if let Some(json) = inner {
            return Ok(Self {
                json: Cow::Owned(json),
                format: DocumentFormat::Json,
                payload: DocumentPayload::Converted,
            });
        }
        Ok(Self {
            json: Cow::Owned(RawValue::from_string(fields.to_json()).map_err(not_json)?),
            format: DocumentFormat::Form,
            payload: match charset {
                FormCharset::Utf8 | FormCharset::Ascii => payload,
                FormCharset::Windows1252 => DocumentPayload::Converted,
            },
        })
    }

    /// Parses the body of `request` as JSON, even if its content type says that it is a form.
    ///
    /// # Errors
    /// [`DocumentError`] for an unsupported content type or for malformed content.
    pub fn parse_json(request: &RequestView<'r>) -> Result<Self, DocumentError> {
        let (body, payload) = split_mark(request.body);
        if body.is_empty() {
            return Ok(Self::empty());
        }
        DocumentFormat::from_request(request).ok_or(DocumentError::MediaType)?;
        let text = std::str::from_utf8(body).map_err(|_| DocumentError::NotUtf8)?;
        check_nesting(text)?;
        Ok(Self {
            json: Cow::Borrowed(serde_json::from_str(text).map_err(not_json)?),
            format: DocumentFormat::Json,
            payload,
        })
    }

    /// Document of an empty body, whatever its content type: the event is in the headers. It is the
    /// same as a form without fields.
    fn empty() -> Self {
        let json = serde_json::from_str("{}").expect("an empty object is JSON");
        Self {
            json: Cow::Borrowed(json),
            format: DocumentFormat::Form,
            payload: DocumentPayload::AsSent,
        }
    }

    /// Returns the body as JSON; a form is an object of its fields.
    #[must_use]
    pub fn json(&self) -> &RawValue {
        &self.json
    }

    /// Returns the format of the event: JSON also if it came in a field of a form.
    #[must_use]
    pub fn format(&self) -> DocumentFormat {
        self.format
    }

    /// Returns what becomes the payload of the event.
    #[must_use]
    pub fn payload(&self) -> DocumentPayload {
        self.payload
    }
}

/// Returns `body` without a byte order mark at its beginning.
fn split_mark(body: &[u8]) -> (&[u8], DocumentPayload) {
    match body.strip_prefix(BYTE_ORDER_MARK) {
        Some(rest) => (rest, DocumentPayload::AfterMark),
        None => (body, DocumentPayload::AsSent),
    }
}

/// Returns true for a body that begins as a JSON object, list or string does. No form begins so: its
/// names are escaped.
fn is_json_text(body: &[u8]) -> bool {
    matches!(body.trim_ascii_start().first(), Some(b'{' | b'[' | b'"'))
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

    const FORM: &str = "application/x-www-form-urlencoded";

    #[test]
    fn a_byte_order_mark_is_no_part_of_the_document() {
        assert_eq!(
            read("application/json", b"\xef\xbb\xbf{\"id\": 1}").as_deref(),
            Ok("{\"id\": 1}")
        );
        assert_eq!(
            read(FORM, b"\xef\xbb\xbfid=1").as_deref(),
            Ok(r#"{"id":"1"}"#)
        );
        assert_eq!(
            read("application/json", b"\xef\xbb\xbf\xef\xbb\xbf{}"),
            Err(DocumentError::NotJson { line: 1, column: 1 })
        );
    }

    #[test]
    fn an_empty_body_is_an_object_without_members() {
        for content_type in ["application/json", FORM, "text/plain"] {
            assert_eq!(
                read(content_type, b"").as_deref(),
                Ok("{}"),
                "{content_type}"
            );
        }
    }

    #[test]
    fn a_form_is_read_in_its_own_character_set_only() {
        let latin = format!("{FORM}; charset=ISO-8859-1");
        assert_eq!(
            read(&latin, b"id=caf%E9").as_deref(),
            Ok("{\"id\":\"caf\u{e9}\"}")
        );
        assert_eq!(read(FORM, b"id=caf%E9"), Err(DocumentError::NotInCharset));
        assert_eq!(
            read(&format!("{FORM}; charset=utf-7"), b"id=1"),
            Err(DocumentError::UnknownCharset)
        );
    }

    #[test]
    fn json_in_a_named_field_of_a_form_is_the_document() {
        let parse = |body: &[u8]| {
            let request = RequestView {
                method: "POST",
                url: "",
                headers: vec![("content-type", FORM.as_bytes())],
                body,
            };
            let document = RequestDocument::parse_with(&request, &["data", "payload"], true);
            let document = document.expect("a form");
            (
                document.json().get().to_owned(),
                document.format(),
                document.payload(),
            )
        };
        assert_eq!(
            parse(b"payload=%7B%22a%22%3A+1%7D&x=2"),
            (
                r#"{"a": 1}"#.to_owned(),
                DocumentFormat::Json,
                DocumentPayload::Converted
            )
        );
        for (body, json) in [
            (&b"payload=x"[..], r#"{"payload":"x"}"#),
            (b"payload=7", r#"{"payload":"7"}"#),
            (b"payload=%7B", r#"{"payload":"{"}"#),
            (b"payload=%7B%7D&payload=1", r#"{"payload":["{}","1"]}"#),
        ] {
            let expected = (
                json.to_owned(),
                DocumentFormat::Form,
                DocumentPayload::AsSent,
            );
            assert_eq!(parse(body), expected);
        }
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
        for body in [&b" "[..], b"{} x", b"{"] {
            assert!(matches!(
                read("application/json", body),
                Err(DocumentError::NotJson { .. })
            ));
        }
    }
}
