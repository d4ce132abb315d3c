//! Finds members of a JSON object by name, in one pass, and leaves them unparsed, so that the
//! caller can check each member on its own.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

/// Returns the members of the object `json` with the given `names`, in that order; `None` for a
/// missing member. Of several members with the same name the last one counts.
///
/// The whole text is checked to be valid JSON. Other members are skipped without being built in
/// memory, however deeply they nest.
///
/// # Errors
/// The error of `serde_json`. Its method [`serde_json::Error::is_data`] returns `true` for valid
/// JSON that is not an object, and `false` for invalid JSON.
pub fn find_members<'a, const N: usize>(
    json: &'a str,
    names: [&'static str; N],
) -> Result<[Option<&'a RawValue>; N], serde_json::Error> {
    let mut deserializer = serde_json::Deserializer::from_str(json);
    let found = MembersSeed { names: &names }.deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok(found)
}

struct MembersSeed<'n, const N: usize> {
    names: &'n [&'static str; N],
}

impl<'a, const N: usize> DeserializeSeed<'a> for MembersSeed<'_, N> {
    type Value = [Option<&'a RawValue>; N];

    fn deserialize<D: Deserializer<'a>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'a, const N: usize> Visitor<'a> for MembersSeed<'_, N> {
    type Value = [Option<&'a RawValue>; N];

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = [None; N];
        while let Some(index) = map.next_key_seed(MemberNameSeed(self.names))? {
            match index {
                Some(index) => found[index] = Some(map.next_value()?),
                None => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(found)
    }
}

/// Deserializes a member's name into its index among the requested names.
struct MemberNameSeed<'n>(&'n [&'static str]);

impl<'a> DeserializeSeed<'a> for MemberNameSeed<'_> {
    type Value = Option<usize>;

    fn deserialize<D: Deserializer<'a>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        // As bytes, since half a surrogate pair in another member's name is no valid text.
        deserializer.deserialize_bytes(self)
    }
}

impl Visitor<'_> for MemberNameSeed<'_> {
    type Value = Option<usize>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a member's name")
    }

    fn visit_bytes<E>(self, name: &[u8]) -> Result<Self::Value, E> {
        let is_name = |requested: &&str| requested.as_bytes() == name;
        Ok(self.0.iter().position(is_name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(json: &str) -> Option<[Option<&str>; 2]> {
        find_members(json, ["a", "b"])
            .ok()
            .map(|found| found.map(|raw| raw.map(RawValue::get)))
    }

    #[test]
    fn members_are_found_by_name_and_left_as_they_were() {
        assert_eq!(
            texts(r#"{"b": [1,  2], "c": {"a": 0}, "a" : "x"}"#),
            Some([Some(r#""x""#), Some("[1,  2]")])
        );
        assert_eq!(texts(r#" {"\u0061": null} "#), Some([Some("null"), None]));
        assert_eq!(texts("{}"), Some([None, None]));
    }

    #[test]
    fn the_last_of_several_counts() {
        assert_eq!(
            texts(r#"{"a": 1, "\u0061": 2, "a": 3}"#),
            Some([Some("3"), None])
        );
    }

    #[test]
    fn json_that_is_no_object_is_told_from_invalid_json() {
        for json in ["[]", "1", "null", r#""text""#] {
            assert!(
                find_members(json, ["a"]).expect_err("no object").is_data(),
                "{json}"
            );
        }
        for json in [
            "",
            "{",
            "{} {}",
            r#"{"a": }"#,
            r#"{"x": [1, }"#,
            "{'a': 1}",
            r#"{"a": 1,}"#,
            "nul",
        ] {
            assert!(
                !find_members(json, ["a"]).expect_err("no JSON").is_data(),
                "{json}"
            );
        }
    }

    /// One such name hid all members of an event, so that a delivery had no data.
    #[test]
    fn half_a_surrogate_pair_in_a_name_hides_no_other_member() {
        assert_eq!(
            texts(r#"{"\ud800": 1, "a": 2, "\udfffb": 3}"#),
            Some([Some("2"), None])
        );
    }

    #[test]
    fn deep_nesting_uses_no_stack() {
        let json = format!(
            r#"{{"x": {}{}, "a": 1}}"#,
            "[".repeat(200_000),
            "]".repeat(200_000)
        );
        assert_eq!(texts(&json), Some([Some("1"), None]));
    }
}
