//! Author of a ticket message, in the JSON that the sender chose.

use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;
use serde_json::value::{RawValue, to_raw_value};

/// Any JSON but null, kept as text. A number that is parsed and written again may differ in its
/// last digit, but a replayed state must equal the live one.
#[derive(Clone, Debug)]
pub(super) struct MessageAuthor(Arc<RawValue>);

impl MessageAuthor {
    /// Keeps `value` as an author; `None` for null.
    pub(super) fn new(value: &Value) -> Option<Self> {
        (!value.is_null()).then(|| {
            Self(
                to_raw_value(value)
                    .expect("a JSON value has string keys and can be written")
                    .into(),
            )
        })
    }

    pub(super) fn to_json(&self) -> Value {
        // Null only for a nesting deeper than the parser accepts, which no request body can
        // contain.
        serde_json::from_str(self.0.get()).unwrap_or_default()
    }
}

impl PartialEq for MessageAuthor {
    fn eq(&self, other: &Self) -> bool {
        self.0.get() == other.0.get()
    }
}

impl Serialize for MessageAuthor {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for MessageAuthor {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self(Box::<RawValue>::deserialize(deserializer)?.into()))
    }
}
