//! Forms (`application/x-www-form-urlencoded`) in the character set that their content type names.

use std::borrow::Cow;

use crate::event::fields_to_json;

/// Character set of a form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FormCharset {
    /// The character set `utf-8` of Unicode.
    Utf8,
    /// The character set `us-ascii` of 128 characters.
    Ascii,
    /// `windows-1252`, which browsers and the WHATWG encoding standard also use for `iso-8859-1`.
    Windows1252,
}

/// Characters of the bytes 0x80 to 0x9f (WHATWG encoding standard, index windows-1252); the other
/// bytes are the characters of their numbers.
const WINDOWS_1252: [char; 32] = [
    '\u{20ac}', '\u{81}', '\u{201a}', '\u{192}', '\u{201e}', '\u{2026}', '\u{2020}', '\u{2021}',
    '\u{2c6}', '\u{2030}', '\u{160}', '\u{2039}', '\u{152}', '\u{8d}', '\u{17d}', '\u{8f}',
    '\u{90}', '\u{2018}', '\u{2019}', '\u{201c}', '\u{201d}', '\u{2022}', '\u{2013}', '\u{2014}',
    '\u{2dc}', '\u{2122}', '\u{161}', '\u{203a}', '\u{153}', '\u{9d}', '\u{17e}', '\u{178}',
];

impl FormCharset {
    /// Returns the character set that `content_type` names, UTF-8 if it names none; `None` for one
    /// that is not supported.
    pub(super) fn from_content_type(content_type: &str) -> Option<Self> {
        let charset = content_type.split(';').skip(1).find_map(|parameter| {
            let (name, value) = parameter.split_once('=')?;
            let is_charset = name.trim().eq_ignore_ascii_case("charset");
            is_charset.then(|| value.trim().trim_matches('"').to_ascii_lowercase())
        });
        charset.map_or(Some(Self::Utf8), |name| Self::parse(&name))
    }

    /// Parses the name of a character set, in lower case; `None` for one that is not supported.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "utf-8" | "utf8" => Some(Self::Utf8),
            "us-ascii" | "ascii" => Some(Self::Ascii),
            "iso-8859-1" | "latin1" | "windows-1252" | "cp1252" => Some(Self::Windows1252),
            _ => None,
        }
    }

    fn decode(self, bytes: Vec<u8>) -> Option<String> {
        match self {
            Self::Utf8 => String::from_utf8(bytes).ok(),
            Self::Ascii => String::from_utf8(bytes).ok().filter(|text| text.is_ascii()),
            Self::Windows1252 => Some(bytes.into_iter().map(decode_windows_1252).collect()),
        }
    }
}

fn decode_windows_1252(byte: u8) -> char {
    match byte.checked_sub(0x80).map(usize::from) {
        Some(index) if index < WINDOWS_1252.len() => WINDOWS_1252[index],
        Some(_) | None => char::from(byte),
    }
}

/// Fields of a form, in their order.
pub(super) struct FormFields(Vec<(String, String)>);

impl FormFields {
    /// Decodes `form`; `None` if a name or value is not of the character set. Otherwise two values
    /// that differ could become the same text.
    pub(super) fn decode(form: &[u8], charset: FormCharset) -> Option<Self> {
        let pairs = form
            .split(|byte| *byte == b'&')
            .filter(|pair| !pair.is_empty());
        pairs
            .map(|pair| {
                let mut halves = pair.splitn(2, |byte| *byte == b'=');
                let mut half = || charset.decode(decode_percent(halves.next().unwrap_or_default()));
                Some((half()?, half()?))
            })
            .collect::<Option<_>>()
            .map(Self)
    }

    /// Returns the value of the field `name` if there is exactly one.
    pub(super) fn single_value(&self, name: &str) -> Option<&str> {
        let mut values = self.0.iter().filter(|(known, _)| known == name);
        let (_, value) = values.next()?;
        values.next().is_none().then_some(value)
    }

    /// Returns the text of a JSON object of the fields.
    pub(super) fn to_json(&self) -> String {
        let fields = self.0.iter();
        fields_to_json(fields.map(|(name, value)| (Cow::from(name), Cow::from(value))))
    }
}

/// Decodes `+` and percent-escapes; a `%` without two hexadecimal digits stays (WHATWG URL standard,
/// 1.3).
fn decode_percent(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        let escaped = after.first_chunk::<2>().and_then(|digits| {
            let mut byte = [0];
            hex::decode_to_slice(digits, &mut byte).ok()?;
            Some(byte[0])
        });
        match (byte, escaped) {
            (b'%', Some(escaped)) => {
                out.push(escaped);
                rest = &after[2..];
            }
            (b'+', _) => out.push(b' '),
            (byte, _) => out.push(*byte),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::damaged_samples::{CHEAP, damage_cases, damaged};
    use crate::event::form_to_json;

    fn read(form: &[u8], charset: FormCharset) -> Option<String> {
        FormFields::decode(form, charset).map(|fields| fields.to_json())
    }

    #[test]
    fn the_content_type_names_the_character_set() {
        let charset = FormCharset::from_content_type;
        for (content_type, expected) in [
            ("application/x-www-form-urlencoded", Some(FormCharset::Utf8)),
            ("a/b; Charset=\"UTF-8\"", Some(FormCharset::Utf8)),
            ("a/b;x=y;charset=US-ASCII", Some(FormCharset::Ascii)),
            ("a/b; charset = iso-8859-1", Some(FormCharset::Windows1252)),
            ("a/b; charset=cp1252", Some(FormCharset::Windows1252)),
            ("a/b; charset=utf-16", None),
            ("a/b; charset=", None),
        ] {
            assert_eq!(charset(content_type), expected, "{content_type}");
        }
    }

    /// `caf%E9` and `caf%E8` became one entity, since each byte became the same replacement.
    #[test]
    fn bytes_outside_the_character_set_are_refused_and_never_replaced() {
        for form in [&b"id=caf%E9"[..], b"id=caf\xe9", b"%ff=1", b"a=%c3"] {
            assert_eq!(read(form, FormCharset::Utf8), None, "{form:?}");
            assert_eq!(read(form, FormCharset::Ascii), None, "{form:?}");
        }
        assert_eq!(read(b"a=%c3%a4", FormCharset::Ascii), None);
        assert_eq!(
            read(b"id=caf%E9&x=%80%9f\xa3", FormCharset::Windows1252).as_deref(),
            Some("{\"id\":\"caf\u{e9}\",\"x\":\"\u{20ac}\u{178}\u{a3}\"}")
        );
    }

    proptest! {
        #![proptest_config(damage_cases(CHEAP))]

        #[test]
        fn a_form_in_utf_8_reads_as_it_is_stored(form in "[a-c%=&+0-9ä]{0,40}") {
            if let Some(json) = read(form.as_bytes(), FormCharset::Utf8) {
                prop_assert_eq!(json, form_to_json(form.as_bytes()));
            }
        }

        #[test]
        fn any_form_is_read_or_refused(form in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..60),
            damaged(&["payload=%7B%22id%22%3A%201%7D&a[]=1&a[]=%E4%80&&=x&b", "Body=%F0%9F%99%82+%zz%2&From=%2B1"]),
        ]) {
            prop_assert!(read(&form, FormCharset::Windows1252).is_some());
            let _ = read(&form, FormCharset::Utf8);
        }
    }
}
