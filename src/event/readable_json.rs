//! Readable forms of JSON that is valid by its grammar, but holds what no Rust text or number does.
//!
//! | in the payload | read as |
//! |---|---|
//! | half a surrogate pair, `"\ud800"` | `"\ufffd"` |
//! | a number beyond 64-bit floats, `1e400` | its text, `"1e400"` |
//! | a value that nests deeper than parsers go | `null` |
//!
//! The payload itself is kept and delivered as it was received.

use std::borrow::Cow;

/// Deepest nesting of any body. No step of the node recurses into a payload, so the bound is far beyond
/// what senders mean; a body beyond it is an attack. `server.nesting_max` can lower it for events.
pub const NESTING_MAX: usize = 250_000;

/// Deepest nesting that stays in a readable form: `serde_json` stops at 128, and the value already
/// stands a few levels deep in its event.
const READABLE_DEPTH_MAX: usize = 100;

/// Numbers with fewer characters and without exponent are within 64-bit floats.
const LONG_NUMBER_BYTES: usize = 300;

/// A body that nests too deep.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("body nests deeper than {levels_max} levels")]
pub struct NestingError {
    levels_max: usize,
}

/// Checks that `json` nests at most `levels_max` levels deep. The text may be malformed.
///
/// # Errors
/// [`NestingError`].
pub fn check_nesting(json: &str, levels_max: usize) -> Result<(), NestingError> {
    // Each level takes a byte at its beginning at least, so a short text cannot nest that deep.
    if json.len() > levels_max && measure_nesting(json) > levels_max {
        return Err(NestingError { levels_max });
    }
    Ok(())
}

/// Returns the deepest nesting of lists and objects in the JSON text `json`.
#[must_use]
pub fn measure_nesting(json: &str) -> usize {
    let (mut open, mut most, mut at) = (0_usize, 0, 0);
    let bytes = json.as_bytes();
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'[' | b'{' => {
                open += 1;
                most = most.max(open);
            }
            b']' | b'}' => open = open.saturating_sub(1),
            b'"' => {
                at = skip_string(bytes, at);
                continue;
            }
            _ => {}
        }
        at += 1;
    }
    most
}

/// Replaces each half of a surrogate pair by U+FFFD. Both escapes have six bytes, so everything stays
/// at its place in the text.
#[must_use]
pub fn replace_half_surrogates(json: &str) -> Cow<'_, str> {
    let bytes = json.as_bytes();
    let mut replaced: Option<Vec<u8>> = None;
    let mut at = 0;
    while let Some(distance) = bytes[at..].iter().position(|byte| *byte == b'\\') {
        let escape = at + distance;
        at = match (escaped_unit(bytes, escape), escaped_unit(bytes, escape + 6)) {
            (Some(0xd800..=0xdbff), Some(0xdc00..=0xdfff)) => escape + 12,
            (Some(0xd800..=0xdfff), _) => {
                let text = replaced.get_or_insert_with(|| bytes.to_vec());
                text[escape..escape + 6].copy_from_slice(b"\\ufffd");
                escape + 6
            }
            (Some(_), _) => escape + 6,
            (None, _) => (escape + 2).min(bytes.len()),
        };
    }
    let replaced = replaced.and_then(|text| String::from_utf8(text).ok());
    replaced.map_or(Cow::Borrowed(json), Cow::Owned)
}

/// Returns the UTF-16 unit of the escape `\uXXXX` at `at`, if one is there.
fn escaped_unit(bytes: &[u8], at: usize) -> Option<u16> {
    let digits = bytes.get(at..at + 6)?.strip_prefix(b"\\u")?;
    let mut unit = [0; 2];
    hex::decode_to_slice(digits, &mut unit).ok()?;
    Some(u16::from_be_bytes(unit))
}

/// Returns the readable form of the JSON text `json`, of which most values need none.
#[must_use]
pub fn make_readable(json: &str) -> Cow<'_, str> {
    match replace_half_surrogates(json) {
        Cow::Borrowed(json) => replace_values(json).map_or(Cow::Borrowed(json), Cow::Owned),
        Cow::Owned(json) => Cow::Owned(replace_values(&json).unwrap_or(json)),
    }
}

/// Replaces numbers beyond 64-bit floats and values that nest too deep; `None` if there are none.
fn replace_values(json: &str) -> Option<String> {
    let bytes = json.as_bytes();
    let (mut out, mut copied) = (String::new(), 0);
    let (mut depth, mut at) = (0_usize, 0);
    while let Some(byte) = bytes.get(at) {
        let start = at;
        at = match byte {
            b'"' => skip_string(bytes, at),
            b'[' | b'{' if depth == READABLE_DEPTH_MAX => {
                at = skip_nested(bytes, at);
                out.push_str(&json[copied..start]);
                out.push_str("null");
                copied = at;
                at
            }
            b'[' | b'{' => {
                depth += 1;
                at + 1
            }
            b']' | b'}' => {
                depth = depth.saturating_sub(1);
                at + 1
            }
            b'-' | b'0'..=b'9' => {
                let is_part = |byte: &&u8| byte.is_ascii_digit() || b"+-.eE".contains(byte);
                at += bytes[at..].iter().take_while(is_part).count();
                let number = &json[start..at];
                if is_too_large(number) {
                    out.push_str(&json[copied..start]);
                    out.extend(["\"", number, "\""]);
                    copied = at;
                }
                at
            }
            _ => at + 1,
        };
    }
    (copied > 0).then(|| out + &json[copied..])
}

fn is_too_large(number: &str) -> bool {
    let may_be = number.len() > LONG_NUMBER_BYTES || number.contains(['e', 'E']);
    may_be && number.parse::<f64>().is_ok_and(f64::is_infinite)
}

/// Returns the place behind the string that begins at `at`.
fn skip_string(bytes: &[u8], at: usize) -> usize {
    let mut at = at + 1;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'"' => return at + 1,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    bytes.len()
}

/// Returns the place behind the list or object that begins at `at`.
fn skip_nested(bytes: &[u8], at: usize) -> usize {
    let (mut open, mut at) = (0_usize, at);
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'"' => {
                at = skip_string(bytes, at);
                continue;
            }
            b'[' | b'{' => open += 1,
            b']' | b'}' => open = open.saturating_sub(1),
            _ => {}
        }
        at += 1;
        if open == 0 {
            return at;
        }
    }
    bytes.len()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;
    use serde_json::value::RawValue;

    use super::*;
    use crate::damaged_samples::{CHEAP, damage_cases, damaged_text};

    #[test]
    fn half_a_pair_is_replaced_in_its_place_and_a_whole_one_is_not() {
        for (json, expected) in [
            (r#""a\ud800b""#, r#""a\ufffdb""#),
            (r#""\uD83D\uDE00""#, r#""\uD83D\uDE00""#),
            (r#""\ude00\ud83d""#, r#""\ufffd\ufffd""#),
            (r#""\ud83d\ud83d\ude00""#, r#""\ufffd\ud83d\ude00""#),
            (r#""\\ud800""#, r#""\\ud800""#),
            (r#"{"\udfff": "\u00e4"}"#, r#"{"\ufffd": "\u00e4"}"#),
            ("\"\\", "\"\\"),
            ("\\\u{e9}\\ud8", "\\\u{e9}\\ud8"),
        ] {
            let replaced = replace_half_surrogates(json);
            assert_eq!((&*replaced, replaced.len()), (expected, json.len()));
        }
    }

    #[test]
    fn numbers_beyond_floats_become_texts_and_others_keep_their_digits() {
        let long = "9".repeat(400);
        for (json, expected) in [
            ("1e400".to_owned(), "\"1e400\"".to_owned()),
            (
                "[-1E+999, 1e308, 50000.00]".to_owned(),
                "[\"-1E+999\", 1e308, 50000.00]".to_owned(),
            ),
            (format!("{{\"n\":{long}}}"), format!("{{\"n\":\"{long}\"}}")),
            (
                "[\"1e400\", 12345678901234567890123]".to_owned(),
                "[\"1e400\", 12345678901234567890123]".to_owned(),
            ),
            ("1e-400".to_owned(), "1e-400".to_owned()),
        ] {
            assert_eq!(make_readable(&json), expected);
        }
    }

    #[test]
    fn what_nests_too_deep_is_null_and_the_rest_stays() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert_eq!(
            make_readable(&nested(READABLE_DEPTH_MAX)),
            nested(READABLE_DEPTH_MAX)
        );
        let deep = format!(r#"{{"a": {}, "b": "]"}}"#, nested(5_000));
        let read: Value = serde_json::from_str(&make_readable(&deep)).expect("readable");
        assert_eq!(read["b"], "]");
        for levels_max in [1, 30, NESTING_MAX] {
            assert_eq!(check_nesting(&nested(levels_max), levels_max), Ok(()));
            let error = NestingError { levels_max };
            assert_eq!(
                check_nesting(&nested(levels_max + 1), levels_max),
                Err(error)
            );
        }
        let text = format!("[\"{}\", {}]", "[".repeat(5_000), nested(NESTING_MAX - 1));
        assert_eq!(
            check_nesting(&text, NESTING_MAX),
            Ok(()),
            "brackets in a text are no nesting"
        );
        assert_eq!(measure_nesting(r#"{"a": [{"b": 1}], "c": {}}"#), 3);
    }

    fn odd_json() -> impl Strategy<Value = String> {
        let leaf = prop::sample::select(vec![
            "null",
            "-1.5e3",
            "1e400",
            "-9e999",
            r#""\ud800""#,
            r#""\udc00x\\""#,
            r#""\ud83d\ude00""#,
            r#""\"[{""#,
            "12",
            "\"\u{e9}\"",
        ]);
        leaf.prop_map(str::to_owned)
            .prop_recursive(6, 40, 4, |inner| {
                prop_oneof![
                    prop::collection::vec(inner.clone(), 0..4)
                        .prop_map(|all| format!("[{}]", all.join(","))),
                    inner.prop_map(|value| format!(r#"{{"\ud9ab": {value}, "k": [1]}}"#)),
                ]
            })
    }

    proptest! {
        #![proptest_config(damage_cases(CHEAP))]

        #[test]
        fn every_valid_json_has_a_readable_form(json in odd_json(), depth in 0_usize..300) {
            let json = format!("{}{json}{}", "[".repeat(depth), "]".repeat(depth));
            prop_assert!(serde_json::from_str::<&RawValue>(&json).is_ok());
            prop_assert!(serde_json::from_str::<Value>(&make_readable(&json)).is_ok(), "{json}");
        }

        #[test]
        fn readable_json_stays_as_it_is(value in "[a-z\\[\\]{},:\"0-9]{0,30}") {
            let json = serde_json::json!({"text": value, "n": [1, 2.5]}).to_string();
            prop_assert_eq!(&*make_readable(&json), &json);
        }

        #[test]
        fn any_text_is_made_readable_or_refused(
            text in any::<String>(),
            escapes in "[\\\\ud8c0\"\\[{}]{0,40}",
            json in damaged_text(&[r#"{"\ud800":[1e400,-0.0,"\ud83d\ude42",{"a":"\u0000"}],"a":[[[]]]}"#]),
        ) {
            for text in [text, escapes, json] {
                let _ = make_readable(&text);
                let _ = check_nesting(&text, 2);
            }
        }
    }
}
