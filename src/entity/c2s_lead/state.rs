//! State of a Contact2Sale lead: its fields, its enrichment, and the times of the events applied.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::applied_instants::AppliedInstants;
use super::change::{
    C2sEnrichment, C2sEnrichmentFailure, C2sLeadChange, C2sReceivedFields, ENRICHED_MEMBER,
};
use crate::entity::decision::StateLimits;
use crate::entity::generic::JsonText;
use crate::entity::timed_value::{TimedValue, UnixMicros};

/// Fields, each with the time of the event that set it, and the newest enrichment.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct C2sLeadState {
    fields: BTreeMap<Arc<str>, TimedValue<JsonText>>,
    enriched: TimedValue<Option<JsonText>>,
    /// Time of the newest event.
    newest: Option<UnixMicros>,
    applied: AppliedInstants,
}

impl C2sLeadState {
    /// Copies `change` into the state.
    pub fn apply(&mut self, change: &C2sLeadChange, _limits: StateLimits) {
        match change {
            C2sLeadChange::Received(C2sReceivedFields {
                at,
                sent,
                hook_action: _,
                set,
                late: _,
            }) => {
                for (name, value) in set {
                    self.fields
                        .insert(Arc::clone(name), TimedValue::from_event(value.clone(), *at));
                }
                self.newest = self.newest.max(Some(*at));
                self.applied.insert(sent.unwrap_or(*at));
            }
            C2sLeadChange::Enriched(found)
            | C2sLeadChange::Failed(C2sEnrichmentFailure { step: _, found }) => {
                self.apply_enrichment(found)
            }
        }
    }

    fn apply_enrichment(&mut self, found: &C2sEnrichment) {
        if found.enriched.is_some() && !found.late {
            self.enriched = TimedValue::from_event(found.enriched.clone(), found.of);
        }
    }

    /// Returns true if an event of this time was applied, or may have been.
    pub(super) fn has_applied(&self, instant: UnixMicros) -> bool {
        self.applied.contains(instant)
    }

    /// Returns true if a newer event was applied before.
    pub(super) fn is_late(&self, at: UnixMicros) -> bool {
        self.newest.is_some_and(|newest| at < newest)
    }

    pub(super) fn fields(&self) -> &BTreeMap<Arc<str>, TimedValue<JsonText>> {
        &self.fields
    }

    pub(super) fn enriched(&self) -> &TimedValue<Option<JsonText>> {
        &self.enriched
    }

    /// Fields by name, and the member `enriched`.
    #[must_use]
    pub fn to_json(&self) -> impl Serialize {
        let fields = self
            .fields
            .iter()
            .map(|(name, field)| (&**name, Some(&field.value)));
        fields
            .chain([(ENRICHED_MEMBER, self.enriched.value.as_ref())])
            .collect::<BTreeMap<_, _>>()
    }
}
