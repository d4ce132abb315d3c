//! Small schemas that members and parameters share.

use utoipa::ToSchema;
use utoipa::openapi::schema::{KnownFormat, ObjectBuilder, Schema, SchemaFormat, SchemaType, Type};
use utoipa::openapi::{Ref, RefOr};

use crate::event::Kind;

/// Form of the public id of an event.
const EVENT_ID: &str = "^evt_[0-9a-f]{8}_[1-9][0-9]*$";

/// Makes the schema of any text.
pub(in crate::edge) fn string() -> Schema {
    ObjectBuilder::new()
        .schema_type(Type::String)
        .build()
        .into()
}

/// Makes the schema of a text of `least` to `most` characters.
pub(in crate::edge) fn text(least: usize, most: usize) -> Schema {
    ObjectBuilder::new()
        .schema_type(Type::String)
        .min_length(Some(least))
        .max_length(Some(most))
        .build()
        .into()
}

/// Makes the schema of a text that the regular expression `pattern` matches.
pub(in crate::edge) fn matching(pattern: &str) -> Schema {
    ObjectBuilder::new()
        .schema_type(Type::String)
        .pattern(Some(pattern))
        .build()
        .into()
}

/// Makes the schema of the public id of an event.
pub(in crate::edge) fn event_id() -> Schema {
    matching(EVENT_ID)
}

/// Makes a reference to the schema of kinds of entities.
pub(in crate::edge) fn kind() -> RefOr<Schema> {
    Ref::from_schema_name(Kind::name()).into()
}

/// Makes the schema of a time.
pub(in crate::edge) fn time() -> Schema {
    ObjectBuilder::new()
        .schema_type(Type::String)
        .format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime)))
        .build()
        .into()
}

/// Makes the schema of `true` and `false`.
pub(in crate::edge) fn boolean() -> Schema {
    ObjectBuilder::new()
        .schema_type(Type::Boolean)
        .build()
        .into()
}

/// Makes the schema of whole numbers from `least` to `most`.
pub(in crate::edge) fn integer(least: u64, most: u64) -> Schema {
    ObjectBuilder::new()
        .schema_type(Type::Integer)
        .minimum(usize::try_from(least).ok())
        .maximum(usize::try_from(most).ok())
        .build()
        .into()
}

/// Makes the schema of ids that the node counts.
pub(in crate::edge) fn id() -> Schema {
    ObjectBuilder::new()
        .schema_type(Type::Integer)
        .minimum(Some(0_usize))
        .build()
        .into()
}

/// Makes the schema of one of these names.
pub(in crate::edge) fn one_of(names: impl IntoIterator<Item = &'static str>) -> Schema {
    ObjectBuilder::new()
        .schema_type(Type::String)
        .enum_values(Some(names))
        .build()
        .into()
}

/// Makes the schema of one of the names in a table of choices.
pub(in crate::edge) fn choice<T>(named: &[(&'static str, T)]) -> Schema {
    one_of(named.iter().map(|(name, _)| *name))
}

/// Makes the schema of one of the names in a table of choices, or null.
pub(in crate::edge) fn choice_or_null<T>(named: &[(&'static str, T)]) -> Schema {
    let names = named.iter().map(|(name, _)| Some(*name));
    ObjectBuilder::new()
        .schema_type(SchemaType::from_iter([Type::String, Type::Null]))
        .enum_values(Some(names.chain([None])))
        .build()
        .into()
}
