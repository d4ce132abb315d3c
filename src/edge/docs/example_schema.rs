//! Schemas made of examples, for bodies whose form no type of the node has: those of senders.

use std::collections::BTreeSet;

use serde_json::Value;
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{
    ArrayBuilder, ObjectBuilder, OneOfBuilder, Schema, SchemaType, Type,
};

/// Rules for schemas made of examples.
#[derive(Clone, Copy)]
pub(super) struct SchemaRules<'a> {
    /// Required members; `None` means the members that all examples have.
    pub(super) required: Option<&'a [&'a str]>,
}

impl SchemaRules<'_> {
    /// Makes the schema that all `examples` fit.
    pub(super) fn schema_of_all<'v>(
        self,
        examples: impl Iterator<Item = &'v Value>,
    ) -> RefOr<Schema> {
        let examples: Vec<&Value> = examples.collect();
        let objects: Vec<_> = examples
            .iter()
            .filter_map(|example| example.as_object())
            .collect();
        let (lists, others): (Vec<&Value>, Vec<&Value>) = examples
            .iter()
            .copied()
            .partition(|example| example.is_array());
        if !lists.is_empty() && !others.is_empty() && others.len() == objects.len() {
            let [object, list] =
                [others, lists].map(|examples| self.schema_of_all(examples.into_iter()));
            return RefOr::T(OneOfBuilder::new().item(object).item(list).build().into());
        }
        if objects.is_empty() || objects.len() < examples.len() {
            let is_one_type = examples
                .windows(2)
                .all(|pair| kind(pair[0]) == kind(pair[1]));
            return examples
                .first()
                .filter(|_| is_one_type)
                .map_or_else(any_value, |example| self.schema_of(example));
        }
        // The required members are those of the body or of each item of a list, not of nested
        // objects.
        let within = Self {
            required: self.required.map(|_| &[][..]),
        };
        let names: BTreeSet<&String> = objects.iter().flat_map(|object| object.keys()).collect();
        let schema = names
            .into_iter()
            .fold(ObjectBuilder::new(), |schema, name| {
                let values: Vec<&Value> = objects
                    .iter()
                    .filter_map(|object| object.get(name))
                    .collect();
                let in_all = values.len() == objects.len();
                let is_required = self
                    .required
                    .map_or(in_all, |required| required.contains(&name.as_str()));
                let member = within.schema_of_all(values.into_iter());
                let schema = schema.property(name.clone(), member);
                if is_required {
                    schema.required(name.clone())
                } else {
                    schema
                }
            });
        RefOr::T(schema.build().into())
    }

    /// Makes the schema of values like `example`.
    fn schema_of(self, example: &Value) -> RefOr<Schema> {
        match (example, kind(example)) {
            (Value::Array(items), _) => RefOr::T(
                ArrayBuilder::new()
                    .items(self.schema_of_all(items.iter()))
                    .build()
                    .into(),
            ),
            (Value::Object(_), _) => self.schema_of_all(std::iter::once(example)),
            (_, Some(kind)) => RefOr::T(ObjectBuilder::new().schema_type(kind).build().into()),
            (_, None) => any_value(),
        }
    }
}

/// Makes the schema of any value: an example that is null does not show the type.
fn any_value() -> RefOr<Schema> {
    RefOr::T(
        ObjectBuilder::new()
            .schema_type(SchemaType::AnyValue)
            .build()
            .into(),
    )
}

fn kind(value: &Value) -> Option<Type> {
    match value {
        Value::Null => None,
        Value::Bool(_) => Some(Type::Boolean),
        Value::Number(number) if number.is_f64() => Some(Type::Number),
        Value::Number(_) => Some(Type::Integer),
        Value::String(_) => Some(Type::String),
        Value::Array(_) => Some(Type::Array),
        Value::Object(_) => Some(Type::Object),
    }
}
