//! Body of a request, parsed by the rules of its source: JSON, or a form converted to a JSON object.
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
use crate::event::{NESTING_MAX, NestingError, check_nesting};

/// Byte order mark in UTF-8. RFC 8259 forbids it in JSON, and some libraries write it all the same.
pub const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Rule by which a source reads a form's character set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CharsetRule {
    /// This character set, whatever the content type says.
    Fixed(FormCharset),
    /// The character set of the content type, of a sender that signs no body.
    Declared,
    /// UTF-8; the character set of the content type, which is not signed, only for other bytes. So one
    /// signed body has one meaning.
    Signed,
}

/// Rules by which the bodies of a source are parsed.
#[derive(Clone, Copy, Debug)]
pub struct BodyRules<'s, N> {
    /// Fields of a form in which JSON is the document.
    pub json_fields: &'s [N],
    /// Rule for the character set of a form.
    pub charset: CharsetRule,
    /// Tells JSON from a form by the body itself, if its content type is of neither.
    pub judges_content: bool,
}

/// Longest media type that an error repeats; those in use have less than 80 characters.
const MEDIA_TYPE_MAX_CHARS: usize = 100;

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

/// Reason why a body cannot be parsed. The text repeats nothing of the body, only its type.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DocumentError {
    /// The content type, which is this, is neither JSON nor a form.
    #[error(
        "Content-Type must be application/json or application/x-www-form-urlencoded, and is {0:?}"
    )]
    MediaType(String),
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
    #[error("form has bytes outside its charset, which is utf-8 by default")]
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

impl DocumentError {
    fn of_media_type(request: &RequestView<'_>) -> Self {
        let found = request.header("content-type").unwrap_or_default();
        Self::MediaType(found.chars().take(MEDIA_TYPE_MAX_CHARS).collect())
    }
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
    /// Parses the body of `request` by its content type.
    ///
    /// # Errors
    /// [`DocumentError`] for another format or for malformed content.
    #[cfg(test)]
    pub(super) fn parse(request: &RequestView<'r>) -> Result<Self, DocumentError> {
        let rules = BodyRules::<&str> {
            json_fields: &[],
            charset: CharsetRule::Declared,
            judges_content: false,
        };
        Self::parse_with(request, rules)
    }

    /// Parses the body of `request` by `rules`.
    ///
    /// # Errors
    /// [`DocumentError`] for another format or for malformed content.
    pub fn parse_with<N: AsRef<str>>(
        request: &RequestView<'r>,
        rules: BodyRules<'_, N>,
    ) -> Result<Self, DocumentError> {
        let (body, payload) = split_mark(request.body);
        if body.is_empty() {
            return Ok(Self::empty());
        }
        let judged = || rules.judge_format(body).filter(|_| rules.judges_content);
        let format = DocumentFormat::from_request(request).or_else(judged);
        match format.ok_or_else(|| DocumentError::of_media_type(request))? {
            DocumentFormat::Json => Self::parse_json(request),
            DocumentFormat::Form if is_json_text(body) => Err(DocumentError::NotForm),
            DocumentFormat::Form => {
                let (fields, charset) = rules.charset.decode_form(request, body)?;
                Self::from_form(&fields, charset, payload, rules.json_fields)
            }
        }
    }

    /// Document of a request without a body: the fields of its query, of which the URL is signed.
    ///
    /// # Errors
    /// [`DocumentError::NotInCharset`] if the query is not UTF-8.
    pub fn from_query(request: &RequestView<'r>) -> Result<Self, DocumentError> {
        let fields = FormFields::decode(request.query().as_bytes(), FormCharset::Utf8);
        let json = fields.ok_or(DocumentError::NotInCharset)?.to_json();
        Ok(Self {
            json: Cow::Owned(RawValue::from_string(json).map_err(not_json)?),
            format: DocumentFormat::Form,
            payload: DocumentPayload::Converted,
        })
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
            .filter(|text| {
                is_json_text(text.as_bytes()) && check_nesting(text, NESTING_MAX).is_ok()
            })
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

    /// Parses the body of `request` as JSON, whatever its content type says.
    ///
    /// # Errors
    /// [`DocumentError`] for malformed content.
    pub fn parse_json(request: &RequestView<'r>) -> Result<Self, DocumentError> {
        let (body, payload) = split_mark(request.body);
        if body.is_empty() {
            return Ok(Self::empty());
        }
        let text = std::str::from_utf8(body).map_err(|_| DocumentError::NotUtf8)?;
        check_nesting(text, NESTING_MAX)?;
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

impl CharsetRule {
    /// Decodes the form `body` of `request`, and tells its character set.
    fn decode_form(
        self,
        request: &RequestView<'_>,
        body: &[u8],
    ) -> Result<(FormFields, FormCharset), DocumentError> {
        let content_type = request.header("content-type").unwrap_or_default();
        let declared =
            || FormCharset::from_content_type(content_type).ok_or(DocumentError::UnknownCharset);
        let decode = |charset| FormFields::decode(body, charset).map(|fields| (fields, charset));
        let decoded = match self {
            Self::Fixed(charset) => decode(charset),
            Self::Declared => decode(declared()?),
            Self::Signed => {
                let declared = declared()?;
                decode(FormCharset::Utf8).or_else(|| decode(declared))
            }
        };
        decoded.ok_or(DocumentError::NotInCharset)
    }
}

impl<N: AsRef<str>> BodyRules<'_, N> {
    /// Returns the format of a `body` whose content type tells nothing: JSON by its first character,
    /// a form by the name of a field with JSON.
    fn judge_format(&self, body: &[u8]) -> Option<DocumentFormat> {
        if is_json_text(body) {
            return Some(DocumentFormat::Json);
        }
        let mut names = self.json_fields.iter();
        let is_form = names.any(|name| {
            let value = body.strip_prefix(name.as_ref().as_bytes());
            value.is_some_and(|value| value.starts_with(b"="))
        });
        is_form.then_some(DocumentFormat::Form)
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
        assert_eq!(
            read("text/plain", b"{}"),
            Err(DocumentError::MediaType("text/plain".to_owned()))
        );
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
            let rules = BodyRules {
                json_fields: &["data", "payload"],
                charset: CharsetRule::Declared,
                judges_content: false,
            };
            let document = RequestDocument::parse_with(&request, rules).expect("a form");
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

    /// The unsigned content type made another text of the signed bytes, and so another entity.
    #[test]
    fn a_signed_form_has_one_reading_whatever_its_type_says() {
        let read = |charset: CharsetRule, content_type: &str, body: &[u8]| {
            let request = RequestView {
                method: "POST",
                url: "",
                headers: vec![("content-type", content_type.as_bytes())],
                body,
            };
            let rules = BodyRules::<&str> {
                json_fields: &[],
                charset,
                judges_content: false,
            };
            let document = RequestDocument::parse_with(&request, rules)?;
            Ok::<_, DocumentError>(document.json().get().to_owned())
        };
        let types = [FORM.to_owned(), format!("{FORM}; charset=iso-8859-1")];
        for content_type in &types {
            let signed = |body: &[u8]| read(CharsetRule::Signed, content_type, body);
            assert_eq!(signed(b"id=%C3%A9").as_deref(), Ok("{\"id\":\"\u{e9}\"}"));
            let fixed = CharsetRule::Fixed(FormCharset::Windows1252);
            let text = read(fixed, content_type, b"id=%C3%A9");
            assert_eq!(text.as_deref(), Ok("{\"id\":\"\u{c3}\u{a9}\"}"));
        }
        let signed = |content_type: &str| read(CharsetRule::Signed, content_type, b"id=%E9");
        assert_eq!(signed(&types[0]), Err(DocumentError::NotInCharset));
        assert_eq!(signed(&types[1]).as_deref(), Ok("{\"id\":\"\u{e9}\"}"));
    }

    /// An authentic body of GitHub with another content type got 415.
    #[test]
    fn a_body_of_an_unknown_type_is_judged_by_its_content_where_that_is_allowed() {
        let read = |judges_content: bool, body: &[u8]| {
            let request = RequestView {
                method: "POST",
                url: "",
                headers: vec![("content-type", b"text/plain")],
                body,
            };
            let rules = BodyRules {
                json_fields: &["payload"],
                charset: CharsetRule::Signed,
                judges_content,
            };
            let document = RequestDocument::parse_with(&request, rules)?;
            Ok::<_, DocumentError>(document.json().get().to_owned())
        };
        for body in [&b"{\"a\":1}"[..], b"payload=%7B%22a%22:1%7D"] {
            assert_eq!(read(true, body).as_deref(), Ok("{\"a\":1}"));
            assert_eq!(
                read(false, body),
                Err(DocumentError::MediaType("text/plain".to_owned()))
            );
        }
        assert_eq!(
            read(true, b"<a/>"),
            Err(DocumentError::MediaType("text/plain".to_owned()))
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
        for body in [&b" "[..], b"{} x", b"{"] {
            assert!(matches!(
                read("application/json", body),
                Err(DocumentError::NotJson { .. })
            ));
        }
    }
}
