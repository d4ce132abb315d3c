//! Entities as answers name them: kind, id, and the number of the event among the entity's events.

use serde::Serialize;
use utoipa::ToSchema;

use crate::event::{EntityKey, Kind};

/// Entity of an event, as answers name it.
#[derive(Serialize, ToSchema)]
pub(super) struct EntityReference<'a> {
    kind: Kind,
    id: &'a str,
    sequence: Option<u64>,
}

impl<'a> EntityReference<'a> {
    pub(super) fn new(entity: &'a EntityKey, sequence: Option<u64>) -> Self {
        Self {
            kind: entity.kind(),
            id: entity.id(),
            sequence,
        }
    }
}
