//! Readers of JSON fields, which collect every wrong field instead of stopping at the first.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::error::ApiError;
use super::field_error::FieldError;
use crate::event::{ID_MAX_BYTES, InvalidId, Timestamp, check_json_id, find_members};

/// Wrong fields that one answer lists at most; a body of a megabyte could have a hundred thousand.
const FIELD_ERRORS_MAX: usize = 100;
/// Characters of an unknown name that an answer repeats.
const SHOWN_NAME_CHARS_MAX: usize = 64;

/// Collector of the wrong fields of a request.
///
/// Each reader takes a field's path and its raw value. It returns the value, or a placeholder if
/// the value is wrong. Placeholders never get out, since [`FieldErrors::finish`] then returns the
/// errors.
#[derive(Debug, Default)]
pub struct FieldErrors(Vec<FieldError>);

impl FieldErrors {
    /// Records that `field` is wrong; `problem` continues the sentence that begins with its name.
    pub fn add(&mut self, field: impl Into<Cow<'static, str>>, problem: impl AsRef<str>) {
        if self.0.len() < FIELD_ERRORS_MAX {
            let field = field.into();
            let detail = format!("{field} {}", problem.as_ref());
            self.0.push(FieldError { field, detail });
        }
    }

    /// Records each name of `names` that is not in `known`. For requests in which an ignored,
    /// misspelt filter would select more than the caller meant.
    pub fn add_unknown_members<'a>(
        &mut self,
        names: impl Iterator<Item = &'a String>,
        known: &[&str],
    ) {
        for name in names.filter(|name| !known.contains(&name.as_str())) {
            self.add(
                shorten_name(name),
                format!("is not a known member; known: {}", known.join(", ")),
            );
        }
    }

    /// Returns `value` if no field was wrong.
    ///
    /// # Errors
    /// [`ApiError::InvalidFields`] with every wrong field.
    pub fn finish<T>(self, value: T) -> Result<T, ApiError> {
        if self.0.is_empty() {
            Ok(value)
        } else {
            Err(ApiError::InvalidFields(self.0))
        }
    }

    /// Reads a required string, which may be empty.
    pub fn read_text(&mut self, field: &'static str, raw: Option<&RawValue>) -> String {
        let Some(raw) = raw else {
            self.add(field, "is required");
            return String::new();
        };
        match parse_raw(raw, "a string") {
            Ok(text) => text,
            Err(problem) => {
                self.add(field, problem);
                String::new()
            }
        }
    }

    /// Reads a required string that is not empty.
    pub fn read_nonempty_text(&mut self, field: &'static str, raw: Option<&RawValue>) -> String {
        let before = self.0.len();
        let name = self.read_text(field, raw);
        if name.is_empty() && self.0.len() == before {
            self.add(field, "must not be empty");
        }
        name
    }

    /// Reads a required id of an entity or of an idempotency key.
    pub fn read_id(&mut self, field: &'static str, raw: Option<&RawValue>) -> String {
        let before = self.0.len();
        let id = self.read_text(field, raw);
        if self.0.len() == before
            && let Err(InvalidId) = check_json_id(&id)
        {
            self.add(
                field,
                format!(
                    "must have 1 to {ID_MAX_BYTES} bytes of valid Unicode text and no control \
                     characters"
                ),
            );
        }
        id
    }

    /// Reads a required string that is one of `names`.
    pub fn read_one_of(
        &mut self,
        field: &'static str,
        raw: Option<&RawValue>,
        names: &[&str],
    ) -> String {
        let before = self.0.len();
        let name = self.read_text(field, raw);
        if self.0.len() == before && !names.contains(&name.as_str()) {
            self.add(field, format!("must be one of {}", names.join(", ")));
        }
        name
    }

    /// Reads a required whole number from `least` to `most`, both included.
    pub fn read_number(
        &mut self,
        field: &'static str,
        raw: Option<&RawValue>,
        least: u64,
        most: u64,
    ) -> u64 {
        let Some(raw) = raw else {
            self.add(field, "is required");
            return least;
        };
        let number = raw
            .get()
            .parse()
            .ok()
            .filter(|number| (least..=most).contains(number));
        number.unwrap_or_else(|| {
            let expected = format!("a whole number from {least} to {most}");
            self.add(field, describe_mismatch(raw, &expected));
            least
        })
    }

    /// Reads a string that may be absent or null.
    pub fn read_optional_text(
        &mut self,
        field: &'static str,
        raw: Option<&RawValue>,
    ) -> Option<String> {
        non_null(raw).map(|raw| self.read_text(field, Some(raw)))
    }

    /// Reads an optional boolean; absent or null means `false`.
    pub fn read_flag(&mut self, field: &'static str, raw: Option<&RawValue>) -> bool {
        let flag = non_null(raw).map_or(Ok(false), |raw| parse_raw(raw, "true or false"));
        flag.unwrap_or_else(|problem| {
            self.add(field, problem);
            false
        })
    }

    /// Reads an optional RFC 3339 time.
    pub fn read_optional_time(
        &mut self,
        field: &'static str,
        raw: Option<&RawValue>,
    ) -> Option<Timestamp> {
        let raw = non_null(raw)?;
        let time = match parse_raw::<Cow<'_, str>>(raw, "an RFC 3339 time") {
            Ok(text) => Timestamp::parse(&text).ok_or(Cow::Borrowed("must be an RFC 3339 time")),
            Err(problem) => Err(problem),
        };
        time.map_err(|problem| self.add(field, problem)).ok()
    }

    /// Reads an optional string or object.
    pub fn read_optional_text_or_object(
        &mut self,
        field: &'static str,
        raw: Option<&RawValue>,
    ) -> Option<Value> {
        let raw = non_null(raw)?;
        if !matches!(json_type_name(raw), "a string" | "an object") {
            self.add(field, describe_mismatch(raw, "a string or an object"));
            return None;
        }
        // RawValue holds valid JSON, so only deep nesting or half a surrogate pair fails here.
        let value = serde_json::from_str(raw.get());
        value
            .map_err(|_| self.add(field, "must be valid text and nest less than 128 deep"))
            .ok()
    }

    /// Records an error if an optional field is anything but an object.
    pub fn check_optional_object(&mut self, field: &'static str, raw: Option<&RawValue>) {
        if let Some(raw) = non_null(raw)
            && json_type_name(raw) != "an object"
        {
            self.add(field, describe_mismatch(raw, "an object"));
        }
    }

    /// Records an error and returns `false` if a member of the object `json` has an invalid name:
    /// JSON can escape half a surrogate pair, which is no Unicode text.
    pub fn check_member_names(&mut self, field: &'static str, json: &str) -> bool {
        let is_readable = find_members(json, []).is_ok();
        if !is_readable {
            self.add(field, "must have names of valid Unicode text");
        }
        is_readable
    }

    /// Reads an optional list of at most `items_max` strings of 1 to `bytes_max` bytes; absent
    /// means empty.
    pub fn read_text_list(
        &mut self,
        field: &'static str,
        raw: Option<&RawValue>,
        items_max: usize,
        bytes_max: usize,
    ) -> Vec<String> {
        let Some(raw) = non_null(raw) else {
            return Vec::new();
        };
        let items: Vec<&RawValue> = match parse_raw(raw, "a list of strings") {
            Ok(items) => items,
            Err(problem) => {
                self.add(field, problem);
                return Vec::new();
            }
        };
        if items.len() > items_max {
            self.add(
                field,
                format!("must have at most {items_max} items, not {}", items.len()),
            );
            return Vec::new();
        }
        items
            .iter()
            .enumerate()
            .map(|(index, item)| self.read_list_item(field, index, item, bytes_max))
            .collect()
    }

    fn read_list_item(
        &mut self,
        list: &'static str,
        index: usize,
        raw: &RawValue,
        bytes_max: usize,
    ) -> String {
        match parse_raw::<String>(raw, "a string") {
            Ok(text) if text.is_empty() || text.len() > bytes_max => {
                self.add(
                    format!("{list}[{index}]"),
                    format!("must have 1 to {bytes_max} bytes"),
                );
                String::new()
            }
            Ok(text) => text,
            Err(problem) => {
                self.add(format!("{list}[{index}]"), problem);
                String::new()
            }
        }
    }
}

/// Shortens a name that a sender chose, for an answer that repeats it.
pub(super) fn shorten_name(name: &str) -> String {
    name.chars()
        .filter(|c| !c.is_control())
        .take(SHOWN_NAME_CHARS_MAX)
        .collect()
}

/// Member of a change request: absent (keep the value), null (take the default), or a new value.
pub(super) type PatchField<T> = Option<Option<T>>;

/// Reads a member of a change request with `read`, unless the member is absent or null.
pub(super) fn read_patch_field<T>(
    raw: Option<&RawValue>,
    read: impl FnOnce(&RawValue) -> T,
) -> PatchField<T> {
    raw.map(|raw| non_null(Some(raw)).map(read))
}

/// Returns `raw` unless it is null: an optional field may be null instead of absent.
#[must_use]
pub fn non_null(raw: Option<&RawValue>) -> Option<&RawValue> {
    raw.filter(|raw| raw.get() != "null")
}

fn parse_raw<'a, T: Deserialize<'a>>(
    raw: &'a RawValue,
    expected: &str,
) -> Result<T, Cow<'static, str>> {
    serde_json::from_str(raw.get()).map_err(|_| describe_mismatch(raw, expected).into())
}

fn describe_mismatch(raw: &RawValue, expected: &str) -> String {
    let found = json_type_name(raw);
    // The type is right, so the value is wrong: a string with half a surrogate pair, or a number
    // out of range.
    if expected == found || found == "a number" && expected.contains("number") {
        return if found == "a string" {
            "must be valid Unicode text".into()
        } else {
            format!("must be {expected}")
        };
    }
    format!("must be {expected}, not {found}")
}

/// Names the JSON type of `raw` in an error text.
fn json_type_name(raw: &RawValue) -> &'static str {
    match raw.get().as_bytes().first() {
        Some(b'"') => "a string",
        Some(b'{') => "an object",
        Some(b'[') => "a list",
        Some(b't' | b'f') => "a boolean",
        Some(b'n') => "null",
        Some(_) | None => "a number",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(json: &str) -> &RawValue {
        serde_json::from_str(json).expect("JSON")
    }

    /// The error that `read` finds in `json`, or nothing.
    fn error(json: &str, read: impl FnOnce(&mut FieldErrors, Option<&RawValue>)) -> Option<String> {
        let mut errors = FieldErrors::default();
        read(&mut errors, Some(raw(json)));
        assert!(errors.0.len() <= 1, "{errors:?}");
        errors.0.pop().map(|error| error.detail)
    }

    #[test]
    fn a_fault_says_what_was_expected_and_what_was_found() {
        let text = |json| error(json, |errors, raw| drop(errors.read_text("f", raw)));
        assert_eq!(text(r#""x""#), None);
        assert_eq!(
            text("1").as_deref(),
            Some("f must be a string, not a number")
        );
        assert_eq!(
            text("null").as_deref(),
            Some("f must be a string, not null")
        );
        assert_eq!(
            text("[]").as_deref(),
            Some("f must be a string, not a list")
        );
        assert_eq!(
            text(r#""\ud800""#).as_deref(),
            Some("f must be valid Unicode text")
        );
        let score = |json| {
            error(json, |errors, raw| {
                assert!(errors.read_number("f", raw, 1, 5) <= 5)
            })
        };
        assert_eq!(score("5"), None);
        for json in ["0", "6", "4.5", "1e0", "-1"] {
            assert_eq!(
                score(json).as_deref(),
                Some("f must be a whole number from 1 to 5"),
                "{json}"
            );
        }
        assert_eq!(
            score("true").as_deref(),
            Some("f must be a whole number from 1 to 5, not a boolean")
        );
        let time = |json| {
            error(json, |errors, raw| {
                assert_eq!(
                    errors.read_optional_time("f", raw).is_some(),
                    json.contains("2025")
                )
            })
        };
        assert_eq!(time(r#""2025-12-04T10:30:00+02:00""#), None);
        assert_eq!(time("null"), None);
        assert_eq!(
            time(r#""soon""#).as_deref(),
            Some("f must be an RFC 3339 time")
        );
        assert_eq!(
            time("7").as_deref(),
            Some("f must be an RFC 3339 time, not a number")
        );
    }

    #[test]
    fn each_item_of_a_list_is_judged() {
        let mut errors = FieldErrors::default();
        errors.read_text_list("tags", Some(raw(r#"["a", 1, "", "bbbb"]"#)), 10, 3);
        let fields: Vec<_> = errors.0.iter().map(|error| error.field.as_ref()).collect();
        assert_eq!(fields, ["tags[1]", "tags[2]", "tags[3]"]);
        let list = |json| {
            error(json, |errors, raw| {
                drop(errors.read_text_list("tags", raw, 1, 3))
            })
        };
        assert_eq!(
            list(r#""a""#).as_deref(),
            Some("tags must be a list of strings, not a string")
        );
        assert_eq!(
            list(r#"["a", "b"]"#).as_deref(),
            Some("tags must have at most 1 items, not 2")
        );
    }

    #[test]
    fn the_list_of_faults_is_bounded() {
        let mut errors = FieldErrors::default();
        (0..FIELD_ERRORS_MAX * 2).for_each(|_| errors.add("f", "is wrong"));
        let Err(ApiError::InvalidFields(errors)) = errors.finish(()) else {
            panic!("there are errors")
        };
        assert_eq!(errors.len(), FIELD_ERRORS_MAX);
    }
}
