//! Readers of raw JSON: lists of bounded length, and ids spelt as strings or as numbers.

use std::fmt;

use serde::de::{Deserializer, IgnoredAny, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::event::check_json_id;

/// First items of a JSON list, unparsed, with the length of the list.
#[derive(Debug)]
pub struct RawItems<'a> {
    /// First items, at most as many as the caller asked for.
    pub first: Vec<&'a RawValue>,
    /// Number of items in the whole list.
    pub count: usize,
}

/// Splits the first `most` items off the list `json`. The whole text is checked to be JSON; items
/// beyond `most` take no memory.
///
/// # Errors
/// The error of `serde_json`: [`serde_json::Error::is_data`] is true for JSON that is no list, and
/// false for text that is no JSON.
pub fn first_items(json: &str, most: usize) -> Result<RawItems<'_>, serde_json::Error> {
    let mut deserializer = serde_json::Deserializer::from_str(json);
    let items = deserializer.deserialize_seq(FirstItemsVisitor { most })?;
    deserializer.end()?;
    Ok(items)
}

struct FirstItemsVisitor {
    most: usize,
}

impl<'a> Visitor<'a> for FirstItemsVisitor {
    type Value = RawItems<'a>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'a>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut first = Vec::new();
        while first.len() < self.most {
            let Some(item) = list.next_element()? else {
                return Ok(RawItems {
                    count: first.len(),
                    first,
                });
            };
            first.push(item);
        }
        let mut count = first.len();
        while list.next_element::<IgnoredAny>()?.is_some() {
            count += 1;
        }
        Ok(RawItems { first, count })
    }
}

/// Parses an id given as a string or as a whole number: `7` and `"7"` are the same id. `None` for
/// any other value and for an invalid id.
#[must_use]
pub fn parse_id(raw: &RawValue) -> Option<String> {
    let text = raw.get();
    let id = if text.starts_with('"') {
        serde_json::from_str(text).ok()?
    } else {
        let digits = text.strip_prefix('-').unwrap_or(text);
        digits
            .bytes()
            .all(|byte| byte.is_ascii_digit())
            .then(|| text.to_owned())?
    };
    check_json_id(&id).is_ok().then_some(id)
}

/// Returns true if `raw` is a JSON object.
#[must_use]
pub fn is_object(raw: &RawValue) -> bool {
    raw.get().starts_with('{')
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two ids of different senders were read as the same text.
    #[test]
    fn an_id_whose_text_was_lost_is_none() {
        for text in [r#""a\ufffd""#, "\"a\u{fffd}\""] {
            assert_eq!(parse_id(serde_json::from_str(text).expect("JSON")), None);
        }
    }

    #[test]
    fn items_are_counted_beyond_what_is_kept() {
        let read = |json, most| {
            first_items(json, most).map(|items| {
                (
                    items.first.iter().map(|raw| raw.get().to_owned()).collect(),
                    items.count,
                )
            })
        };
        let kept = |texts: &[&str]| texts.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(read(" [] ", 2).expect("a list"), (kept(&[]), 0));
        assert_eq!(
            read(r#"[1, {"a":  2}]"#, 2).expect("a list"),
            (kept(&["1", r#"{"a":  2}"#]), 2)
        );
        assert_eq!(
            read("[1, 2, 3, [4]]", 2).expect("a list"),
            (kept(&["1", "2"]), 4)
        );
        assert!(read("{}", 2).expect_err("no list").is_data());
        for json in ["[1, 2, 3", "[1, 2, 3] 4", "[1, 2, 3,]", "[1 2]"] {
            assert!(!read(json, 2).expect_err("no JSON").is_data(), "{json}");
        }
    }

    #[test]
    fn an_id_is_one_thing_however_it_is_spelt() {
        let id = |json| parse_id(serde_json::from_str(json).expect("JSON"));
        for (json, text) in [
            ("7", "7"),
            (r#""7""#, "7"),
            (r#""a\u0062""#, "ab"),
            ("-3", "-3"),
        ] {
            assert_eq!(id(json).as_deref(), Some(text), "{json}");
        }
        assert_eq!(
            id("12345678901234567890123").as_deref(),
            Some("12345678901234567890123"),
            "no digit is lost"
        );
        for json in [
            "7.0",
            "1e3",
            "null",
            "true",
            "[]",
            "{}",
            r#""""#,
            r#""a\nb""#,
            r#""\ud800""#,
        ] {
            assert_eq!(id(json), None, "{json}");
        }
        assert_eq!(id(&"9".repeat(257)), None);
    }
}
