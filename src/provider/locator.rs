//! Locations of a field in a request: JSON pointers, headers, literals, and templates of them, in the
//! order in which they are tried.
//!
//! | text | finds |
//! |---|---|
//! | `/data/id` | the value at that pointer in the body |
//! | `./id`, `.` | the value at that pointer in the item of a batch, or the item itself |
//! | `X-Topic` | the header of that name |
//! | `organization:{/organization/login}` | the text, if each place in braces is found |
//! | `{/id}:{?/part}` | the text; of a place with `?` its value, or nothing if it has none |
//! | `page.read{!./read}` | the text, if the place with `!` has a value, which adds nothing |
//! | `account` | in a list: the text itself, since it has no hyphen as a header has |

use std::fmt;

use serde_json::value::RawValue;

use super::body::{DocumentFormat, RequestDocument};
use super::items::BatchItem;
use super::pointer::{ItemStep, JsonPointer, StepCache};
use super::request::RequestView;

const HEADER_MAX_BYTES: usize = 128;

/// Most alternatives of one field. Each costs a pass over the event; the longest lists of a preset
/// have nearly as many.
pub const ALTERNATIVES_MAX: usize = 24;

/// A text that names no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FieldLocatorError {
    /// The text is neither a pointer nor a header name, nor a template.
    #[error(
        "expected a JSON pointer such as /data/id, the name of a header, or a template such as \
         order:{{/id}}"
    )]
    Place,
    /// The list is empty or too long.
    #[error("expected 1 to {ALTERNATIVES_MAX} places")]
    Count,
}

/// Request, and the event in it that is looked at.
#[derive(Clone, Copy, Debug)]
pub(super) struct EventScope<'a, 'r> {
    request: &'a RequestView<'r>,
    document: &'a RequestDocument<'r>,
    /// Member of the body that is one event; the body itself if it is not taken apart.
    item: &'a RawValue,
    /// Steps that lead from the body to the item, and the values between them.
    path: &'a [(ItemStep<'a>, &'a RawValue)],
    cache: &'a StepCache<'a>,
}

impl<'a, 'r> EventScope<'a, 'r> {
    /// Event that is the whole `document` of the `request`.
    #[must_use]
    pub(super) fn whole(
        request: &'a RequestView<'r>,
        document: &'a RequestDocument<'r>,
        cache: &'a StepCache<'a>,
    ) -> Self {
        Self {
            request,
            document,
            item: document.json(),
            path: &[],
            cache,
        }
    }

    /// Event that is the `item` of the document.
    #[must_use]
    pub(super) fn of_item(self, item: &'a BatchItem<'a, 'a>) -> Self {
        Self {
            item: item.json,
            path: &item.path,
            ..self
        }
    }

    fn find_in_body(&self, pointer: &JsonPointer) -> Result<String, FieldLookupError> {
        let body = self.document.json();
        let found = parse_text_value(pointer.resolve_beside(body, self.path, self.cache));
        if found.is_ok() || self.document.format() != DocumentFormat::Form {
            return found;
        }
        // A field of a form may hold JSON, which the pointer goes on into.
        let (field, below) = pointer.split_first().ok_or(FieldLookupError::Absent)?;
        let text = parse_text_value(field.resolve(body))?;
        let inner: &RawValue = serde_json::from_str(&text).map_err(|_| FieldLookupError::Absent)?;
        parse_text_value(below.resolve(inner))
    }
}

/// One alternative for a field: its text, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldLocator {
    text: Box<str>,
    parts: Vec<LocatorPart>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum LocatorPart {
    Literal(Box<str>),
    /// Pointer that starts at the whole body.
    Body(JsonPointer),
    /// Pointer that starts at the item.
    Item(JsonPointer),
    /// Name of a header, in lower case.
    Header(Box<str>),
    /// Place that adds its text if it has one.
    Optional(Box<LocatorPart>),
    /// Place that must have a value, also an object or a list, and adds no text.
    Presence(Box<LocatorPart>),
}

impl LocatorPart {
    fn find_text(&self, scope: &EventScope<'_, '_>) -> Result<String, FieldLookupError> {
        match self {
            Self::Literal(text) => Ok(text.to_string()),
            Self::Body(pointer) => scope.find_in_body(pointer),
            Self::Item(pointer) => parse_text_value(pointer.resolve(scope.item)),
            Self::Header(name) => {
                let value = scope.request.header(name).filter(|text| !text.is_empty());
                value.map(str::to_owned).ok_or(FieldLookupError::Absent)
            }
            Self::Optional(place) => match place.find_text(scope) {
                Err(FieldLookupError::Absent) => Ok(String::new()),
                found => found,
            },
            Self::Presence(place) => match place.find_text(scope) {
                Ok(_) | Err(FieldLookupError::Unfit) => Ok(String::new()),
                Err(FieldLookupError::Absent) => Err(FieldLookupError::Absent),
            },
        }
    }

    /// Name of the header from which the text comes, if it does.
    fn header(&self) -> Option<&str> {
        match self {
            Self::Header(name) => Some(name),
            Self::Optional(place) | Self::Presence(place) => place.header(),
            Self::Literal(_) | Self::Body(_) | Self::Item(_) => None,
        }
    }

    /// Tells if the text comes from the item, and so is another for each item.
    fn is_inside_item(&self, scope: &EventScope<'_, '_>) -> bool {
        match self {
            Self::Item(_) => true,
            Self::Body(pointer) => pointer.is_inside(scope.path),
            Self::Optional(place) => place.is_inside_item(scope),
            Self::Literal(_) | Self::Header(_) | Self::Presence(_) => false,
        }
    }
}

impl FieldLocator {
    /// Parses the only place of a field: a word is the name of a header.
    ///
    /// # Errors
    /// [`FieldLocatorError::Place`].
    pub fn parse(text: &str) -> Result<Self, FieldLocatorError> {
        Self::from_parts(text, || {
            let name = parse_header_name(text)?;
            Some(LocatorPart::Header(name.into()))
        })
    }

    /// Parses one of a list of places: a text that is no header name, or has no hyphen, is itself
    /// what is found.
    ///
    /// # Errors
    /// [`FieldLocatorError::Place`].
    pub fn parse_alternative(text: &str) -> Result<Self, FieldLocatorError> {
        Self::from_parts(text, || {
            let header = parse_header_name(text).filter(|name| name.contains('-'));
            Some(match header {
                Some(name) => LocatorPart::Header(name.into()),
                None if text.is_empty() => return None,
                None => LocatorPart::Literal(text.into()),
            })
        })
    }

    /// Parses a pointer or a template; anything else by `parse_word`.
    fn from_parts(
        text: &str,
        parse_word: impl FnOnce() -> Option<LocatorPart>,
    ) -> Result<Self, FieldLocatorError> {
        let parts = if is_pointer_text(text) {
            parse_pointer(text).map(|pointer| vec![pointer])
        } else if text.contains(['{', '}']) {
            parse_template(text)
        } else {
            parse_word().map(|word| vec![word])
        };
        let parts = parts.ok_or(FieldLocatorError::Place)?;
        Ok(Self {
            text: text.into(),
            parts,
        })
    }

    /// Returns the place as it was written.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Returns the pointer, if the place is one: into the item, or into the whole body.
    #[must_use]
    pub fn as_pointer(&self) -> Option<&JsonPointer> {
        match self.parts.as_slice() {
            [LocatorPart::Body(pointer) | LocatorPart::Item(pointer)] => Some(pointer),
            _ => None,
        }
    }

    /// Returns the name of the header in lower case, if the place is one.
    #[must_use]
    pub fn as_header(&self) -> Option<&str> {
        match self.parts.as_slice() {
            [LocatorPart::Header(name)] => Some(name),
            _ => None,
        }
    }

    /// Names of the headers from which the text comes, in lower case.
    pub fn headers(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().filter_map(LocatorPart::header)
    }

    /// Returns true if the place is a text without any other part, which is found in every event.
    #[must_use]
    pub fn is_constant(&self) -> bool {
        let mut parts = self.parts.iter();
        parts.all(|part| matches!(part, LocatorPart::Literal(_)))
    }

    /// Returns true if the place finds the same text in every event in which it finds any.
    #[must_use]
    pub fn has_one_text(&self) -> bool {
        let is_fixed =
            |part: &LocatorPart| matches!(part, LocatorPart::Literal(_) | LocatorPart::Presence(_));
        self.parts.iter().all(is_fixed)
    }

    /// Returns a name that is read as that of a header and is probably none: of an odd spelling, or
    /// without a hyphen and without the braces that say that it is meant.
    #[must_use]
    pub fn find_odd_header(&self) -> Option<&str> {
        let is_plain = !self.text.contains('{');
        let mut names = self.headers();
        names.find(|name| name.contains(['.', '$']) || is_plain && !name.contains('-'))
    }

    /// Returns a header of the place that the request repeats with another value, if there is one.
    pub(super) fn find_ambiguous_header(&self, scope: &EventScope<'_, '_>) -> Option<&str> {
        let mut names = self.headers();
        names.find(|name| {
            let mut lines = scope.request.header_lines(name);
            let first = lines.next();
            lines.any(|line| Some(line) != first)
        })
    }

    /// Tells if a part of the place leads into the item, and so to another value for each item.
    pub(super) fn is_inside_item(&self, scope: &EventScope<'_, '_>) -> bool {
        self.parts.iter().any(|part| part.is_inside_item(scope))
    }

    /// Finds the text of the field.
    fn find_text(&self, scope: &EventScope<'_, '_>) -> Result<String, FieldLookupError> {
        self.parts
            .iter()
            .map(|part| part.find_text(scope))
            .collect()
    }
}

impl fmt::Display for FieldLocator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.parts.as_slice() {
            [LocatorPart::Body(_) | LocatorPart::Item(_)] => write!(f, "at {}", self.text),
            [LocatorPart::Header(name)] => write!(f, "in header {name}"),
            _ => write!(f, "as {}", self.text),
        }
    }
}

fn is_pointer_text(text: &str) -> bool {
    text.starts_with('/') || text.starts_with("./") || text == "."
}

fn parse_pointer(text: &str) -> Option<LocatorPart> {
    match text.strip_prefix('.') {
        Some("") => Some(LocatorPart::Item(JsonPointer::ROOT)),
        Some(below) => JsonPointer::parse(below).map(LocatorPart::Item),
        None => JsonPointer::parse(text).map(LocatorPart::Body),
    }
}

/// Parses literals, and pointers and header names in braces.
fn parse_template(text: &str) -> Option<Vec<LocatorPart>> {
    let mut parts = Vec::new();
    let mut rest = text;
    while let Some((literal, after)) = rest.split_once('{') {
        let (place, behind) = after.split_once('}')?;
        if literal.contains('}') || place.contains('{') {
            return None;
        }
        if !literal.is_empty() {
            parts.push(LocatorPart::Literal(literal.into()));
        }
        parts.push(parse_braced(place)?);
        rest = behind;
    }
    if rest.contains('}') {
        return None;
    }
    if !rest.is_empty() {
        parts.push(LocatorPart::Literal(rest.into()));
    }
    Some(parts)
}

fn parse_braced(place: &str) -> Option<LocatorPart> {
    if let Some(place) = place.strip_prefix('?') {
        return Some(LocatorPart::Optional(Box::new(parse_plain_place(place)?)));
    }
    // A header's name may begin with `!`, a pointer does not.
    match place.strip_prefix('!').filter(|text| is_pointer_text(text)) {
        Some(pointer) => Some(LocatorPart::Presence(Box::new(parse_pointer(pointer)?))),
        None => parse_plain_place(place),
    }
}

fn parse_plain_place(place: &str) -> Option<LocatorPart> {
    if is_pointer_text(place) {
        return parse_pointer(place);
    }
    Some(LocatorPart::Header(parse_header_name(place)?.into()))
}

/// Places of one field, in the order in which they are tried. Without any, the field is never found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldAlternatives(Vec<FieldLocator>);

/// Value of a field, and the number of the alternative that found it, counted from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FoundField<T> {
    pub(super) value: T,
    pub(super) alternative: usize,
}

impl FieldAlternatives {
    /// Field with one place, as [`FieldLocator::parse`] reads it.
    ///
    /// # Errors
    /// [`FieldLocatorError::Place`].
    pub fn from_text(text: &str) -> Result<Self, FieldLocatorError> {
        Ok(Self(vec![FieldLocator::parse(text)?]))
    }

    /// Field with these places.
    ///
    /// # Errors
    /// [`FieldLocatorError::Count`] for no place or too many.
    pub fn try_new(places: Vec<FieldLocator>) -> Result<Self, FieldLocatorError> {
        match places.len() {
            1..=ALTERNATIVES_MAX => Ok(Self(places)),
            _ => Err(FieldLocatorError::Count),
        }
    }

    /// Default places of a preset, each as [`FieldLocator::parse_alternative`] reads it. A test
    /// parses those of all presets; a text that is no place would be left out.
    #[must_use]
    pub fn from_preset(texts: &[&str]) -> Self {
        let places = texts.iter().copied().map(FieldLocator::parse_alternative);
        Self(places.filter_map(Result::ok).collect())
    }

    /// Tells if the field has no place.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Names the only place, or the number of places: a warning stands in each event.
    pub(super) fn summarize(&self) -> String {
        match self.0.as_slice() {
            [only] => only.to_string(),
            places => format!("at any of its {} places", places.len()),
        }
    }

    /// Returns the places in their order.
    #[must_use]
    pub fn as_slice(&self) -> &[FieldLocator] {
        &self.0
    }

    /// Finds the first place whose text `accept` takes.
    ///
    /// # Errors
    /// [`FieldLookupError::Unfit`] if something was found, but no place had a text that was taken.
    pub(super) fn find<T>(
        &self,
        scope: &EventScope<'_, '_>,
        accept: impl Fn(String) -> Option<T>,
    ) -> Result<FoundField<T>, FieldLookupError> {
        let mut error = FieldLookupError::Absent;
        for (alternative, locator) in self.0.iter().enumerate() {
            match locator.find_text(scope) {
                Ok(text) if text.is_empty() => {}
                Ok(text) => match accept(text) {
                    Some(value) => return Ok(FoundField { value, alternative }),
                    None => error = FieldLookupError::Unfit,
                },
                Err(FieldLookupError::Absent) => {}
                Err(FieldLookupError::Unfit) => error = FieldLookupError::Unfit,
            }
        }
        Err(error)
    }
}

/// Lists the places: `at /a, else in header b`.
impl fmt::Display for FieldAlternatives {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, place) in self.0.iter().enumerate() {
            let separator = if index > 0 { ", else " } else { "" };
            write!(f, "{separator}{place}")?;
        }
        Ok(())
    }
}

/// Reason why a place finds no text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FieldLookupError {
    /// The value is missing, null or empty.
    Absent,
    /// The value is an object or a list, or not what the field needs.
    Unfit,
}

/// Returns the text of a string, the digits of a number as they were sent, or a boolean's word.
fn parse_text_value(value: Option<&RawValue>) -> Result<String, FieldLookupError> {
    let value = value.ok_or(FieldLookupError::Absent)?.get();
    match value.as_bytes().first() {
        Some(b'n') | None => Err(FieldLookupError::Absent),
        // Half a surrogate pair stays an escape: replaced, it would make one id of two.
        Some(b'"') => Ok(serde_json::from_str(value)
            .unwrap_or_else(|_| value[1..].strip_suffix('"').unwrap_or_default().to_owned())),
        Some(b'{' | b'[') => Err(FieldLookupError::Unfit),
        Some(_) => Ok(value.to_owned()),
    }
}

/// Returns `text` in lower case if it is a valid header name (RFC 9110, section 5.6.2).
#[must_use]
pub fn parse_header_name(text: &str) -> Option<String> {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    let is_name = (1..=HEADER_MAX_BYTES).contains(&text.len()) && text.bytes().all(is_token);
    is_name.then(|| text.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(places: &[&str], item: &str) -> Result<(String, usize), FieldLookupError> {
        let body = br#"{"id": "b1", "of": {"login": "octo"}, "items": []}"#;
        let request = RequestView {
            method: "POST",
            url: "",
            headers: vec![("x-topic", b"orders"), ("x-empty", b" ")],
            body,
        };
        let document = RequestDocument::parse(&request).expect("JSON");
        let json = serde_json::from_str(item).expect("JSON");
        let item = BatchItem {
            json,
            path: vec![(ItemStep::Name("items"), json), (ItemStep::Index(0), json)],
        };
        let cache = StepCache::default();
        let scope = EventScope::whole(&request, &document, &cache).of_item(&item);
        let found = FieldAlternatives::from_preset(places).find(&scope, Some)?;
        Ok((found.value, found.alternative))
    }

    #[test]
    fn the_first_place_that_finds_something_counts() {
        let item = r#"{"id": 7, "no": null, "empty": "", "in": {"x": true}}"#;
        let table = [
            (&["/id", "./id"][..], "b1", 0),
            (&["./none", "./no", "./empty", "./in", "./id"], "7", 4),
            (&["X-Empty", "X-None", "X-Topic"], "orders", 2),
            (
                &["organization:{/of/login}", "account"],
                "organization:octo",
                0,
            ),
            (&["organization:{/no/login}", "account"], "account", 1),
            (&["{./id}#{/of/login}/{X-Topic}!"], "7#octo/orders!", 0),
            (&["{./id}#{X-None}", "{x}", "two words"], "two words", 2),
            (&["./in/x"], "true", 0),
            (&["{./id}:{?./none}:{?/id}{?X-None}"], "7::b1", 0),
            (&["{?./in}{./id}", "{?./none}", "./id"], "7", 2),
            (&["none{!./none}", "null{!./no}", "in{!./in}"], "in", 2),
        ];
        for (places, text, alternative) in table {
            assert_eq!(
                find(places, item),
                Ok((text.to_owned(), alternative)),
                "{places:?}"
            );
        }
        assert_eq!(find(&["."], "12"), Ok(("12".to_owned(), 0)));
        assert_eq!(
            find(&["./no", "X-None"], item),
            Err(FieldLookupError::Absent)
        );
        assert_eq!(
            find(&["./in", "X-None"], item),
            Err(FieldLookupError::Unfit)
        );
    }

    #[test]
    fn a_pointer_goes_on_into_the_json_of_a_forms_field() {
        let find = |body: &[u8], place| {
            let request = RequestView {
                method: "POST",
                url: "",
                headers: vec![("content-type", b"application/x-www-form-urlencoded")],
                body,
            };
            let document = RequestDocument::parse(&request).expect("a form");
            let cache = StepCache::default();
            let scope = EventScope::whole(&request, &document, &cache);
            FieldAlternatives::from_preset(&[place])
                .find(&scope, Some)
                .map(|found| found.value)
        };
        let body = b"payload=%7B%22user%22%3A%7B%22id%22%3A%22U1%22%7D%7D&type=x";
        assert_eq!(find(body, "/payload/user/id").as_deref(), Ok("U1"));
        assert_eq!(find(body, "/type").as_deref(), Ok("x"));
        for place in ["/payload/user", "/payload/none", "/type/x", "/none/x"] {
            assert!(find(body, place).is_err(), "{place}");
        }
    }

    #[test]
    fn a_place_is_told_by_its_spelling() {
        let alone = |text| FieldLocator::parse(text).map(|locator| locator.to_string());
        let listed =
            |text| FieldLocator::parse_alternative(text).map(|locator| locator.to_string());
        for (text, is_alone, is_listed) in [
            ("/data/id", "at /data/id", "at /data/id"),
            ("./id", "at ./id", "at ./id"),
            ("X-Event-Id", "in header x-event-id", "in header x-event-id"),
            ("Topic", "in header topic", "as Topic"),
            ("{Topic}", "in header topic", "in header topic"),
            ("a:{/b}", "as a:{/b}", "as a:{/b}"),
        ] {
            assert_eq!(alone(text).as_deref(), Ok(is_alone), "{text}");
            assert_eq!(listed(text).as_deref(), Ok(is_listed), "{text}");
        }
        assert_eq!(listed("two words").as_deref(), Ok("as two words"));
        for text in [
            "", "/a~x", "./a~", "{/a", "a}", "{}", "{a b}", "{{/a}}", "{/a~x}", "{a}}", "{?}",
            "{??/a}", "{?!/a}", "{!/a~x}",
        ] {
            assert!(alone(text).is_err() && listed(text).is_err(), "{text}");
        }
        for text in ["a b", "x:y", "über", &"x".repeat(HEADER_MAX_BYTES + 1)] {
            assert!(alone(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_list_has_a_place_and_not_too_many() {
        let places = |count| vec![FieldLocator::parse("/a").expect("a place"); count];
        assert!(FieldAlternatives::try_new(places(ALTERNATIVES_MAX)).is_ok());
        for count in [0, ALTERNATIVES_MAX + 1] {
            assert_eq!(
                FieldAlternatives::try_new(places(count)),
                Err(FieldLocatorError::Count)
            );
        }
    }

    #[test]
    fn strings_numbers_and_booleans_are_text_and_nothing_else_is() {
        let text = |json: &str| parse_text_value(Some(serde_json::from_str(json).expect("JSON")));
        assert_eq!(text(r#""\u00e4 \"b\"""#).as_deref(), Ok("ä \"b\""));
        assert_eq!(text("-1.50e3").as_deref(), Ok("-1.50e3"));
        assert_eq!(text("false").as_deref(), Ok("false"));
        assert_eq!(text("null"), Err(FieldLookupError::Absent));
        assert_eq!(text(r#""a\ud800""#).as_deref(), Ok(r"a\ud800"));
        for json in ["{}", "[1]"] {
            assert_eq!(text(json), Err(FieldLookupError::Unfit), "{json}");
        }
    }
}
