//! JSON pointers (RFC 6901) that find a value in JSON text without building a document.
//!
//! The value keeps its spelling, so an id beyond 64 bits is not rounded into another id.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// JSON pointer (RFC 6901), valid by construction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JsonPointer(Cow<'static, str>);

impl JsonPointer {
    /// Pointer to the whole value.
    pub const ROOT: Self = Self(Cow::Borrowed(""));

    /// Pointer of a text that is known to be valid.
    #[must_use]
    pub const fn from_static(text: &'static str) -> Self {
        Self(Cow::Borrowed(text))
    }

    /// Parses a pointer; `None` unless it begins with `/` and each `~` is followed by 0 or 1.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let escapes = text
            .split('~')
            .skip(1)
            .all(|after| after.starts_with(['0', '1']));
        (text.starts_with('/') && escapes).then(|| Self(Cow::Owned(text.to_owned())))
    }

    /// Returns the value in `json` that the pointer names; `None` if there is none. Of members with
    /// the same name the last one counts.
    #[must_use]
    pub fn resolve<'a>(&self, json: &'a RawValue) -> Option<&'a RawValue> {
        self.0.split('/').skip(1).try_fold(json, |value, step| {
            let name = step.replace("~1", "/").replace("~0", "~");
            let mut deserializer = serde_json::Deserializer::from_str(value.get());
            // An error means that the value is neither an object nor a list.
            PointerStep(&name)
                .deserialize(&mut deserializer)
                .ok()
                .flatten()
        })
    }
}

impl fmt::Display for JsonPointer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One step of a pointer: into the member of that name, or the item of that index.
struct PointerStep<'n>(&'n str);

impl<'a> DeserializeSeed<'a> for PointerStep<'_> {
    type Value = Option<&'a RawValue>;

    fn deserialize<D: Deserializer<'a>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'a> Visitor<'a> for PointerStep<'_> {
    type Value = Option<&'a RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object or a list")
    }

    fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        while let Some(name) = map.next_key::<Cow<'_, str>>()? {
            if name == self.0 {
                found = Some(map.next_value()?);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }

    fn visit_seq<A: SeqAccess<'a>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        // RFC 6901, section 4: digits without a leading zero.
        let index = self
            .0
            .parse::<usize>()
            .ok()
            .filter(|index| index.to_string() == self.0);
        let mut found = None;
        for at in 0_usize.. {
            if Some(at) == index {
                let Some(item) = items.next_element()? else {
                    break;
                };
                found = Some(item);
            } else if items.next_element::<IgnoredAny>()?.is_none() {
                break;
            }
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found<'a>(json: &'a str, pointer: &str) -> Option<&'a str> {
        let json: &RawValue = serde_json::from_str(json).expect("JSON");
        JsonPointer::parse(pointer)
            .expect("a pointer")
            .resolve(json)
            .map(RawValue::get)
    }

    /// The document and the pointers of RFC 6901, section 5.
    #[test]
    fn the_examples_of_the_rfc_hold() {
        let json = r#"{"foo": ["bar", "baz"], "": 0, "a/b": 1, "c%d": 2, "e^f": 3, "g|h": 4, "i\\j": 5, "k\"l": 6, " ": 7, "m~n": 8}"#;
        let table = [
            ("/foo", r#"["bar", "baz"]"#),
            ("/foo/0", r#""bar""#),
            ("/", "0"),
            ("/a~1b", "1"),
            ("/c%d", "2"),
            ("/e^f", "3"),
            ("/g|h", "4"),
            ("/i\\j", "5"),
            ("/k\"l", "6"),
            ("/ ", "7"),
            ("/m~0n", "8"),
        ];
        for (pointer, expected) in table {
            assert_eq!(found(json, pointer), Some(expected), "{pointer}");
        }
        for pointer in [
            "/bar", "/foo/2", "/foo/00", "/foo/-", "/foo/x", "/foo/0/1", "//0",
        ] {
            assert_eq!(found(json, pointer), None, "{pointer}");
        }
    }

    #[test]
    fn the_last_of_members_with_one_name_counts_however_it_is_spelt() {
        let json =
            r#"{"id": 1, "data": {"id": "x"}, "data": {"\u0069d": 12345678901234567890123}}"#;
        assert_eq!(found(json, "/data/id"), Some("12345678901234567890123"));
        assert_eq!(found(r#"{"\u00e4": 1}"#, "/ä"), Some("1"));
    }

    #[test]
    fn what_is_no_pointer_is_refused() {
        for text in ["", "id", "#/id", "/a~", "/a~2", "/~b"] {
            assert_eq!(JsonPointer::parse(text), None, "{text}");
        }
    }
}
