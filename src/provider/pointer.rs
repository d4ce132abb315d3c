//! JSON pointers (RFC 6901) that find a value in JSON text without building a document.
//!
//! The value keeps its spelling, so an id beyond 64 bits is not rounded into another id.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::HashMap;
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
        self.steps()
            .try_fold(json, |value, name| step_into(value, &name))
    }

    /// Resolves the pointer for the item at `path`: as far as it leads along that path, each `*` or
    /// `0` stands for the item's index there. So `/entry/*/id` is the id of the item's own entry.
    pub(super) fn resolve_beside<'a>(
        &self,
        json: &'a RawValue,
        path: &[(ItemStep<'_>, &'a RawValue)],
        cache: &StepCache<'a>,
    ) -> Option<&'a RawValue> {
        let mut along = path.iter();
        self.steps().try_fold(json, |value, name| {
            match along.next() {
                Some((step, below)) if step.is_named(&name) => return Some(*below),
                Some(_) | None => along = [].iter(),
            }
            cache.step_into(value, &name)
        })
    }

    /// Tells if the pointer leads into the item at `path`, and so to another value for each item.
    pub(super) fn is_inside(&self, path: &[(ItemStep<'_>, &RawValue)]) -> bool {
        let mut steps = self.steps();
        path.iter()
            .all(|(step, _)| steps.next().is_some_and(|name| step.is_named(&name)))
    }

    /// Splits off the first step: a pointer to the member, and one that starts there. `None` for a
    /// pointer of fewer than two steps.
    pub(super) fn split_first(&self) -> Option<(Self, Self)> {
        let end = self.0.get(1..)?.find('/')? + 1;
        let (first, rest) = self.0.split_at(end);
        Some((
            Self(Cow::Owned(first.to_owned())),
            Self(Cow::Owned(rest.to_owned())),
        ))
    }

    /// Returns the names of the steps, without their escapes.
    pub(super) fn steps(&self) -> impl Iterator<Item = String> {
        let steps = self.0.split('/').skip(1);
        steps.map(|step| step.replace("~1", "/").replace("~0", "~"))
    }
}

/// One step on the way from a body to one of its items.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ItemStep<'p> {
    /// Step into the member of this name.
    Name(&'p str),
    /// Step into the item of this index.
    Index(usize),
}

impl ItemStep<'_> {
    /// Tells if `name` in a pointer stands for this step.
    fn is_named(&self, name: &str) -> bool {
        match self {
            Self::Name(known) => *known == name,
            Self::Index(_) => matches!(name, "*" | "0"),
        }
    }
}

/// Steps that were taken in a body. Its items share them, so that each item does not search the
/// whole body again.
#[derive(Debug, Default)]
pub(super) struct StepCache<'a>(RefCell<HashMap<usize, MemberSteps<'a>>>);

/// Members that were looked for in one value, by their names.
type MemberSteps<'a> = HashMap<Box<str>, Option<&'a RawValue>>;

impl<'a> StepCache<'a> {
    fn step_into(&self, value: &'a RawValue, name: &str) -> Option<&'a RawValue> {
        // No two values of one text begin at the same place.
        let start = value.get().as_ptr().addr();
        let mut values = self.0.borrow_mut();
        let steps = values.entry(start).or_default();
        if let Some(known) = steps.get(name) {
            return *known;
        }
        let found = step_into(value, name);
        steps.insert(name.into(), found);
        found
    }
}

/// Returns the member `name` of the object `value`, or the item of that index of a list.
pub(super) fn step_into<'a>(value: &'a RawValue, name: &str) -> Option<&'a RawValue> {
    let mut deserializer = serde_json::Deserializer::from_str(value.get());
    // An error means that the value is neither an object nor a list.
    PointerStep(name)
        .deserialize(&mut deserializer)
        .ok()
        .flatten()
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
        while let Some(is_name) = map.next_key_seed(NameComparison(self.0))? {
            if is_name {
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

/// Comparison of a member's name, as bytes: half a surrogate pair in it is no valid text.
struct NameComparison<'n>(&'n str);

impl<'a> DeserializeSeed<'a> for NameComparison<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'a>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_bytes(self)
    }
}

impl Visitor<'_> for NameComparison<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a member's name")
    }

    fn visit_bytes<E>(self, name: &[u8]) -> Result<Self::Value, E> {
        Ok(name == self.0.as_bytes())
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
        assert_eq!(found(r#"{"\ud800": 2, "id": 1}"#, "/id"), Some("1"));
    }

    #[test]
    fn a_pointer_along_an_items_path_follows_the_item() {
        let json = r#"{"0": "own", "entry": [{"id": "a", "changes": [1, 2]}, {"id": "b", "changes": [3]}]}"#;
        let json: &RawValue = serde_json::from_str(json).expect("JSON");
        let pointer = |text| JsonPointer::parse(text).expect("a pointer");
        let at = |text| pointer(text).resolve(json).expect("a value");
        let path = [
            (ItemStep::Name("entry"), at("/entry")),
            (ItemStep::Index(1), at("/entry/1")),
            (ItemStep::Name("changes"), at("/entry/1/changes")),
            (ItemStep::Index(0), at("/entry/1/changes/0")),
        ];
        let cache = StepCache::default();
        let beside = |text| {
            let found = pointer(text).resolve_beside(json, &path, &cache);
            found.map(RawValue::get)
        };
        for (text, expected) in [
            ("/entry/*/id", Some("\"b\"")),
            ("/entry/0/id", Some("\"b\"")),
            ("/entry/0/changes/0", Some("3")),
            ("/entry/1/id", Some("\"b\"")),
            ("/0", Some("\"own\"")),
            ("/entry/*/*", None),
        ] {
            for _ in 0..2 {
                assert_eq!(beside(text), expected, "{text}");
            }
        }
        assert!(pointer("/entry/*/changes/0/x").is_inside(&path));
        assert!(!pointer("/entry/*/id").is_inside(&path));
        assert_eq!(
            pointer("/entry/*/id").resolve(json).map(RawValue::get),
            None
        );
        assert_eq!(
            pointer("/a~1b/c/d").split_first(),
            Some((pointer("/a~1b"), pointer("/c/d")))
        );
        assert_eq!(pointer("/a").split_first(), None);
    }

    /// Each item searched the whole body again, so the time grew with the square of their number.
    #[test]
    fn a_body_is_searched_once_for_all_its_items() {
        let items = vec![r#"{"id": 1}"#; 500].join(",");
        let text = format!(r#"{{"account": {{"id": 7}}, "items": [{items}]}}"#);
        let json: &RawValue = serde_json::from_str(&text).expect("JSON");
        let pointer = |text| JsonPointer::parse(text).expect("a pointer");
        let list = pointer("/items").resolve(json).expect("a list");
        let items: Vec<&RawValue> = serde_json::from_str(list.get()).expect("a list");

        let cache = StepCache::default();
        for (index, item) in items.into_iter().enumerate() {
            let path = [
                (ItemStep::Name("items"), list),
                (ItemStep::Index(index), item),
            ];
            let find = |text| pointer(text).resolve_beside(json, &path, &cache);
            assert_eq!(find("/account/id").map(RawValue::get), Some("7"));
            assert_eq!(find("/items/*").map(RawValue::get), Some(item.get()));
            assert!(find("/none").is_none());
        }
        let searches: usize = cache.0.borrow().values().map(HashMap::len).sum();
        assert_eq!(searches, 3, "account, its id, and what is not there");
    }

    #[test]
    fn what_is_no_pointer_is_refused() {
        for text in ["", "id", "#/id", "/a~", "/a~2", "/~b"] {
            assert_eq!(JsonPointer::parse(text), None, "{text}");
        }
    }
}
