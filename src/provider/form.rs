//! Forms (`application/x-www-form-urlencoded`) as JSON objects, so that pointers and subscribers need to know one format only.

use serde_json::{Map, Value};

/// The fields of `body` as an object of strings, by name. Of several with one name the last one counts.
#[must_use]
pub fn to_json(body: &[u8]) -> String {
    let fields =
        form_urlencoded::parse(body).map(|(name, value)| (name.into_owned(), Value::String(value.into_owned())));
    Value::Object(fields.collect::<Map<_, _>>()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_becomes_an_object_of_strings() {
        assert_eq!(to_json(b"From=%2B1415&Body=a+b%20%C3%A4&Empty="), r#"{"Body":"a b ä","Empty":"","From":"+1415"}"#);
        assert_eq!(to_json(b"a=1&a=2"), r#"{"a":"2"}"#);
        assert_eq!(to_json(b""), "{}");
    }
}
