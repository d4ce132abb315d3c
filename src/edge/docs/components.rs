//! Named schemas of the description, made from the types that the node serializes.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use utoipa::ToSchema;
use utoipa::openapi::schema::Schema;
use utoipa::openapi::{Ref, RefOr};

/// Schemas by the names under which operations refer to them.
#[derive(Debug, Default)]
pub(super) struct ComponentSchemas(BTreeMap<String, Value>);

impl ComponentSchemas {
    /// Adds the schemas of `T` and of the types in it, and returns a reference to that of `T`, which
    /// gets this `name`.
    pub(super) fn describe<T: ToSchema>(&mut self, name: &str) -> RefOr<Schema> {
        let mut all = vec![(name.to_owned(), T::schema())];
        T::schemas(&mut all);
        for (name, schema) in all {
            let mut schema = json!(schema);
            require_nullable_members(&mut schema);
            self.0.insert(name, schema);
        }
        Ref::from_schema_name(name).into()
    }

    /// Adds a schema that no type has.
    pub(super) fn insert(&mut self, name: &str, schema: Value) {
        self.0.insert(name.to_owned(), schema);
    }

    pub(super) fn extend(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    /// Returns all schemas as one JSON object.
    pub(super) fn into_json(self) -> Value {
        json!(self.0)
    }
}

/// Makes each member required that may be null. A type of an answer writes such a member always; one
/// that it may leave out is never null.
fn require_nullable_members(schema: &mut Value) {
    let parts = schema.get_mut("allOf").and_then(Value::as_array_mut);
    parts
        .into_iter()
        .flatten()
        .for_each(require_nullable_members);

    let members = schema.get("properties").and_then(Value::as_object);
    let nullable: Vec<Value> = members
        .into_iter()
        .flatten()
        .filter(|(_, member)| may_be_null(member))
        .map(|(name, _)| json!(name))
        .collect();
    if nullable.is_empty() {
        return;
    }
    match schema.get_mut("required").and_then(Value::as_array_mut) {
        Some(required) => required.extend(nullable),
        None => schema["required"] = nullable.into(),
    }
}

fn may_be_null(schema: &Value) -> bool {
    let is_null = |name: &Value| name == "null";
    let types = &schema["type"];
    let choices = schema["oneOf"].as_array();
    is_null(types)
        || types
            .as_array()
            .is_some_and(|types| types.iter().any(is_null))
        || choices.is_some_and(|choices| choices.iter().any(may_be_null))
}
