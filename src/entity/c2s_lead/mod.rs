//! Lead of Contact2Sale: its events, its state, and the rules between them.
//!
//! ```text
//! received (09:00) ──> fields ──enrichment──> enriched (of 09:00), or failed (of 09:00, at a step)
//! received (08:00) ──> late: sets only fields that no newer event has set
//! received (09:00) ──> duplicate: an event of this time was applied before, however long ago
//! ```

mod applied_instants;
mod change;
#[cfg(test)]
mod property_tests;
mod state;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use change::ENRICHED_MEMBER;
pub use change::{C2sEnrichment, C2sEnrichmentFailure, C2sLeadChange, C2sReceivedFields};
pub use state::C2sLeadState;

use super::decision::{AcceptedChange, DecisionContext, EntityDecision, Rejection};
use super::generic::{JsonText, NAME_MAX_BYTES};
use super::timed_value::UnixMicros;
use crate::event::{InternedName, Timestamp};

/// Source name of all events of these leads, in records and logs.
pub const SOURCE: InternedName = InternedName::from_static("c2s");

/// Event type of a lead update as Contact2Sale sends it.
pub const RECEIVED_EVENT: &str = "c2s_lead.received";
/// Event type of an enrichment that succeeded.
pub const ENRICHED_EVENT: &str = "c2s_lead.enriched";
/// Event type of an enrichment that failed.
pub const FAILED_EVENT: &str = "c2s_lead.failed";

/// Longest `hook_action` that a timeline shows, in bytes; a longer one is left out.
const HOOK_ACTION_MAX_BYTES: usize = 64;

/// Input of a decision on a Contact2Sale lead.
#[derive(Clone, Debug)]
pub enum C2sLeadAction {
    /// Sets the fields of an event.
    Received {
        /// Event time as it was sent; two events of the same time are duplicates.
        updated_at: Timestamp,
        /// Name of the action in Contact2Sale, such as `lead.created`.
        hook_action: Option<String>,
        /// Name and JSON text of each field; those beyond the state's limit are ignored.
        fields: Vec<(String, JsonText)>,
    },
    /// Stores the result of an enrichment.
    Enriched {
        /// Time of the enriched event.
        of: Timestamp,
        /// Data of the person; `None` if no person was found.
        enriched: Option<JsonText>,
    },
    /// Records a failed enrichment with the result of its earlier steps.
    Failed {
        /// Time of the event that should have been enriched.
        of: Timestamp,
        /// Name of the failed enrichment step.
        step: String,
        /// Data of the person, if only a later step failed.
        enriched: Option<JsonText>,
    },
    /// Starts the enrichment of a failed event again. Changes nothing.
    Reopened,
}

/// Decides on `action` for the lead `state`. An event whose time was applied before is a duplicate.
///
/// # Errors
/// None; the signature is common to all kinds.
pub fn decide(
    state: &C2sLeadState,
    action: &C2sLeadAction,
    context: &DecisionContext<'_>,
) -> Result<EntityDecision<C2sLeadChange>, Rejection> {
    let (change, late) = match action {
        C2sLeadAction::Received { updated_at, .. }
            if state.has_applied(UnixMicros::from(*updated_at)) =>
        {
            return Ok(EntityDecision::AlreadyApplied(None));
        }
        C2sLeadAction::Received {
            updated_at,
            hook_action,
            fields,
        } => {
            let (at, sent) = (UnixMicros::from(context.at), UnixMicros::from(*updated_at));
            let late = state.is_late(at);
            let received = C2sReceivedFields {
                at,
                sent: (sent != at).then_some(sent),
                hook_action: hook_action
                    .as_deref()
                    .filter(|name| name.len() <= HOOK_ACTION_MAX_BYTES)
                    .map(Arc::from),
                set: select_fields(state, fields, at, context),
                late,
            };
            (C2sLeadChange::Received(received), late)
        }
        C2sLeadAction::Enriched { of, enriched } => {
            let found = build_enrichment(state, *of, enriched);
            let late = found.late;
            (C2sLeadChange::Enriched(found), late)
        }
        C2sLeadAction::Failed { of, step, enriched } => {
            let found = build_enrichment(state, *of, enriched);
            let late = found.late;
            (
                C2sLeadChange::Failed(C2sEnrichmentFailure {
                    step: step.as_str().into(),
                    found,
                }),
                late,
            )
        }
        C2sLeadAction::Reopened => return Ok(EntityDecision::RecordOnly),
    };
    Ok(EntityDecision::Accept(AcceptedChange {
        late,
        ..AcceptedChange::new(change)
    }))
}

/// Returns the fields that are not older than those of the lead, as long as there is room.
fn select_fields(
    state: &C2sLeadState,
    fields: &[(String, JsonText)],
    at: UnixMicros,
    context: &DecisionContext<'_>,
) -> BTreeMap<Arc<str>, JsonText> {
    let mut set: BTreeMap<Arc<str>, JsonText> = BTreeMap::new();
    let mut room = context
        .limits
        .items_max
        .saturating_sub(state.fields().len());
    for (name, value) in fields
        .iter()
        .filter(|(name, _)| name != ENRICHED_MEMBER && name.len() <= NAME_MAX_BYTES)
    {
        let is_new = match state.fields().get(name.as_str()) {
            Some(known) if known.is_late(at) => continue,
            Some(_) => false,
            None => !set.contains_key(name.as_str()),
        };
        if is_new && room == 0 {
            continue;
        }
        room -= usize::from(is_new);
        set.insert(name.as_str().into(), value.clone());
    }

    set
}

/// Keeps an enrichment without a person, too: it never erases a person that was found before.
fn build_enrichment(
    state: &C2sLeadState,
    of: Timestamp,
    enriched: &Option<JsonText>,
) -> C2sEnrichment {
    let of = UnixMicros::from(of);
    C2sEnrichment {
        of,
        enriched: enriched.clone(),
        late: state.enriched().is_late(of),
    }
}

/// Summary line of a timeline: `lead.created received, 5 fields set`, `enriched`, or `enrichment
/// failed at person`.
#[must_use]
pub fn summary(change: &C2sLeadChange) -> String {
    match change {
        C2sLeadChange::Received(C2sReceivedFields {
            hook_action,
            set,
            late,
            ..
        }) => {
            let what = hook_action.as_deref().unwrap_or("event");
            let when = if *late { "received late" } else { "received" };
            match set.len() {
                1 => format!("{what} {when}, 1 field set"),
                count => format!("{what} {when}, {count} fields set"),
            }
        }
        C2sLeadChange::Enriched(C2sEnrichment {
            enriched: Some(_), ..
        }) => "enriched".to_owned(),
        C2sLeadChange::Enriched(C2sEnrichment { enriched: None, .. }) => {
            "enrichment found nobody".to_owned()
        }
        C2sLeadChange::Failed(C2sEnrichmentFailure { step, .. }) => {
            format!("enrichment failed at {step}")
        }
    }
}
