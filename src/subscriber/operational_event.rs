//! Event that the node itself creates, as the command that the router takes.

use bytes::Bytes;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::entity::generic::{GenericAction, JsonText};
use crate::entity::{Command, EntityAction};
use crate::event::{EntityKey, InternedName, PayloadShape, Timestamp};
use crate::subscription::pattern::INTERNAL_SOURCE;

const SOURCE: InternedName = InternedName::from_static(INTERNAL_SOURCE);

/// Event about the node or a subscriber.
#[derive(Clone, Debug)]
pub struct OperationalEvent {
    /// Entity that the event belongs to.
    pub entity: EntityKey,
    /// Name of the event in the catalogue.
    pub event_type: &'static str,
    /// Part of the idempotency key that differs between events of one type.
    pub cause: String,
    /// Data of the event, an object.
    pub data: Value,
}

impl OperationalEvent {
    /// Makes the command that submits the event as one of the time `at`.
    #[must_use]
    pub fn into_command(self, at: Timestamp) -> Command {
        let Self {
            entity,
            event_type,
            cause,
            data,
        } = self;
        let payload = Bytes::from(data.to_string());
        let action = EntityAction::Generic(GenericAction::Merge {
            fields: to_generic_fields(&data),
        });
        Command {
            // No sender can claim this key: keys from outside must not contain control characters.
            idempotency_key: Some(format!("\u{1}{event_type}:{cause}")),
            shape: PayloadShape::Bare,
            at: Some(at),
            ..Command::new(SOURCE, entity, action, event_type, payload)
        }
    }
}

fn to_generic_fields(data: &Value) -> Vec<(String, JsonText)> {
    let members = data.as_object().into_iter().flatten();
    let json = |value: &Value| {
        RawValue::from_string(value.to_string())
            .ok()
            .map(|raw| JsonText::from_raw(&raw))
    };
    members
        .filter_map(|(name, value)| Some((name.clone(), json(value)?)))
        .collect()
}
