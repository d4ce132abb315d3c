//! Conversion between JSON and the values of expressions.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cel::common::types::{
    CelBool, CelBytes, CelDouble, CelInt, CelList, CelMap, CelMapKey, CelNull, CelString, CelUInt,
};
use cel::common::value::Val;
use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

use super::super::envelope::EnvelopeParts;
use super::error::EvaluationError;
use super::meter;
use crate::event::{Record, make_readable};

/// Variables that an expression can read: the members of the standard body.
pub(super) const VARIABLES: [&str; 6] = ["event", "timestamp", "user_id", "data", "entity", "late"];

/// Longest body that a transform may make, in bytes.
pub const BODY_MAX_BYTES: usize = 8 * 1024 * 1024;

type BoxedValue<'v> = Box<dyn Val + 'v>;

/// Returns the value of the variable `name` for `record`, whose payload has `parts`.
pub(super) fn read_variable<'v>(
    name: &str,
    record: &'v Record,
    parts: &EnvelopeParts<'v>,
) -> Result<BoxedValue<'v>, EvaluationError> {
    let text = |text: &'v str| -> BoxedValue<'v> { Box::new(CelString::from(text)) };
    Ok(match name {
        "event" => text(&record.event_type),
        "timestamp" => Box::new(CelString::from(record.at.to_string())),
        "user_id" => value_from_json(parts.user_id, name)?,
        "data" => value_from_json(parts.data, name)?,
        "late" => Box::new(CelBool::from(record.late)),
        _ => {
            let sequence: BoxedValue<'v> = match record.sequence {
                Some(sequence) => integer_value(sequence),
                None => Box::new(CelNull),
            };
            let members = [
                ("kind", text(record.entity.kind().as_str())),
                ("id", text(record.entity.id())),
                ("sequence", sequence),
            ];
            let members: HashMap<_, _> = members
                .into_iter()
                .map(|(name, value)| (CelMapKey::from(name), value))
                .collect();
            Box::new(CelMap::from(members))
        }
    })
}

fn value_from_json<'v>(json: &'v str, name: &str) -> Result<BoxedValue<'v>, EvaluationError> {
    // The error of serde_json is dropped, because its text can hold values of the event.
    let unsupported = |_| {
        EvaluationError(format!(
            "{name} holds a number, a text or a nesting that expressions do not support"
        ))
    };
    let read = match make_readable(json) {
        Cow::Borrowed(json) => {
            JsonVisitor.deserialize(&mut serde_json::Deserializer::from_str(json))
        }
        Cow::Owned(json) => {
            JsonVisitor.deserialize(&mut serde_json::Deserializer::from_reader(json.as_bytes()))
        }
    };
    read.map_err(unsupported)
}

/// Converts a whole number, to a signed value if it fits: CEL does not mix signed and unsigned
/// operands, and literals such as the 1 in `n + 1` are signed.
fn integer_value<'v>(number: u64) -> BoxedValue<'v> {
    match i64::try_from(number) {
        Ok(number) => Box::new(CelInt::from(number)),
        Err(_) => Box::new(CelUInt::from(number)),
    }
}

/// Visitor that reads one JSON value and spends its cost. Texts without escapes are borrowed.
struct JsonVisitor;

impl<'v> DeserializeSeed<'v> for JsonVisitor {
    type Value = BoxedValue<'v>;

    fn deserialize<D: Deserializer<'v>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'v> Visitor<'v> for JsonVisitor {
    type Value = BoxedValue<'v>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        meter::spend(1);
        Ok(Box::new(CelNull))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Self::Value, E> {
        meter::spend(1);
        Ok(Box::new(CelBool::from(value)))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Self::Value, E> {
        meter::spend(1);
        Ok(Box::new(CelInt::from(value)))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Self::Value, E> {
        meter::spend(1);
        Ok(integer_value(value))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Self::Value, E> {
        meter::spend(1);
        Ok(Box::new(CelDouble::from(value)))
    }

    fn visit_borrowed_str<E>(self, text: &'v str) -> Result<Self::Value, E> {
        meter::spend_text(text.len());
        Ok(Box::new(CelString::from(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        meter::spend_text(text.len());
        Ok(Box::new(CelString::from(text.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'v>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        meter::spend(1);
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(Self)? {
            list.push(item);
        }
        Ok(Box::new(CelList::from(list)))
    }

    fn visit_map<A: MapAccess<'v>>(self, mut members: A) -> Result<Self::Value, A::Error> {
        meter::spend_table();
        let mut map = HashMap::new();
        while let Some(name) = members.next_key::<Cow<'v, str>>()? {
            meter::spend_text(name.len());
            map.insert(
                CelMapKey::String(CelString::from(name)),
                members.next_value_seed(Self)?,
            );
        }
        Ok(Box::new(CelMap::from(map)))
    }
}

/// Encodes `value` as JSON text.
pub(super) fn value_to_json(value: &(dyn Val + '_)) -> Result<Vec<u8>, EvaluationError> {
    let mut json = Vec::new();
    write_value(&mut json, value)?;
    Ok(json)
}

fn write_value(json: &mut Vec<u8>, value: &(dyn Val + '_)) -> Result<(), EvaluationError> {
    if let Some(text) = value.downcast_ref::<CelString<'_>>() {
        write_json(json, text.inner());
    } else if let Some(list) = value.downcast_ref::<CelList<'_>>() {
        write_list(json, list)?;
    } else if let Some(map) = value.downcast_ref::<CelMap<'_>>() {
        write_map(json, map)?;
    } else if let Some(number) = value.downcast_ref::<CelInt>() {
        write_json(json, number.inner());
    } else if let Some(number) = value.downcast_ref::<CelUInt>() {
        write_json(json, number.inner());
    } else if let Some(number) = value
        .downcast_ref::<CelDouble>()
        .map(|number| *number.inner())
    {
        if !number.is_finite() {
            return Err(EvaluationError(
                "makes an infinite or undefined number, which JSON cannot hold".to_owned(),
            ));
        }
        write_json(json, &number);
    } else if let Some(bytes) = value.downcast_ref::<CelBytes<'_>>() {
        write_json(json, &STANDARD.encode(bytes.inner()));
    } else if let Some(value) = value.downcast_ref::<CelBool>() {
        write_json(json, value.inner());
    } else if value.downcast_ref::<CelNull>().is_some() {
        json.extend_from_slice(b"null");
    } else {
        return Err(EvaluationError(format!(
            "makes a {}, which JSON cannot hold",
            value.get_type().name()
        )));
    }

    // Checked after each value, so that a huge body is noticed before it takes much memory.
    if json.len() > BODY_MAX_BYTES {
        return Err(EvaluationError(format!(
            "makes a body of more than {BODY_MAX_BYTES} bytes"
        )));
    }
    Ok(())
}

fn write_list(json: &mut Vec<u8>, list: &CelList<'_>) -> Result<(), EvaluationError> {
    json.push(b'[');
    for (at, item) in list.inner().iter().enumerate() {
        if at > 0 {
            json.push(b',');
        }
        write_value(json, item.as_ref())?;
    }
    json.push(b']');
    Ok(())
}

fn write_map(json: &mut Vec<u8>, map: &CelMap<'_>) -> Result<(), EvaluationError> {
    // Sorted by name, so that every attempt sends the same bytes.
    let members: BTreeMap<String, _> = map
        .inner()
        .iter()
        .map(|(key, value)| (member_name(key), value))
        .collect();
    if members.len() < map.inner().len() {
        return Err(EvaluationError(
            "makes an object with two members of the same name".to_owned(),
        ));
    }

    json.push(b'{');
    for (at, (name, value)) in members.into_iter().enumerate() {
        if at > 0 {
            json.push(b',');
        }
        write_json(json, &name);
        json.push(b':');
        write_value(json, value.as_ref())?;
    }
    json.push(b'}');
    Ok(())
}

/// Converts `key` to text, the only type of member names in JSON.
fn member_name(key: &CelMapKey<'_>) -> String {
    match key {
        CelMapKey::Bool(value) => value.inner().to_string(),
        CelMapKey::Int(number) => number.inner().to_string(),
        CelMapKey::UInt(number) => number.inner().to_string(),
        CelMapKey::String(text) => text.inner().to_owned(),
    }
}

fn write_json(json: &mut Vec<u8>, value: &(impl serde::Serialize + ?Sized)) {
    serde_json::to_writer(json, value)
        .expect("texts and numbers have a JSON form, and writing to a Vec cannot fail");
}
