//! What is known of a lead: its fields, who was found, and which events it has applied.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::change::{Change, ENRICHED_MEMBER, Failed, Found, Received};
use super::instants::Instants;
use crate::entity::field::{Field, Micros};
use crate::entity::generic::Json;
use crate::entity::verdict::Limits;

/// The fields, each with the time of the event that gave it, and what enrichment found.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct State {
    fields: BTreeMap<Arc<str>, Field<Json>>,
    enriched: Field<Option<Json>>,
    /// The time of the newest event.
    newest: Option<Micros>,
    applied: Instants,
}

impl State {
    /// Makes `change` part of the state.
    pub fn apply(&mut self, change: &Change, _limits: Limits) {
        match change {
            Change::Received(Received { at, sent, hook_action: _, set, late: _ }) => {
                for (name, value) in set {
                    self.fields.insert(Arc::clone(name), Field::given(value.clone(), *at));
                }
                self.newest = self.newest.max(Some(*at));
                self.applied.insert(sent.unwrap_or(*at));
            }
            Change::Enriched(found) | Change::Failed(Failed { step: _, found }) => self.keep(found),
        }
    }

    fn keep(&mut self, found: &Found) {
        if found.enriched.is_some() && !found.late {
            self.enriched = Field::given(found.enriched.clone(), found.of);
        }
    }

    /// Whether an event of this instant was applied before, or may have been.
    pub(super) fn knows(&self, instant: Micros) -> bool {
        self.applied.contains(instant)
    }

    /// Whether a newer event was applied before.
    pub(super) fn is_late(&self, at: Micros) -> bool {
        self.newest.is_some_and(|newest| at < newest)
    }

    pub(super) fn fields(&self) -> &BTreeMap<Arc<str>, Field<Json>> {
        &self.fields
    }

    pub(super) fn enriched(&self) -> &Field<Option<Json>> {
        &self.enriched
    }

    /// The fields by their names, and `enriched`.
    #[must_use]
    pub fn to_json(&self) -> impl Serialize {
        let fields = self.fields.iter().map(|(name, field)| (&**name, Some(&field.value)));
        fields.chain([(ENRICHED_MEMBER, self.enriched.value.as_ref())]).collect::<BTreeMap<_, _>>()
    }
}
