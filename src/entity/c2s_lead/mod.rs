//! A lead of Contact2Sale: its state, what it decides and how a decision changes it.
//!
//! ```text
//! received (09:00) ──> fields ──enrichment──> enriched (of 09:00), or failed (of 09:00, at a step)
//! received (08:00) ──> late: fills only what no newer event gave
//! received (09:00) ──> known: the instant was applied before, however long ago
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

/// The source of all its events, in records and logs.
pub const SOURCE: InternedName = InternedName::from_static("c2s");

/// The name of an event as it came in.
pub const RECEIVED_EVENT: &str = "c2s_lead.received";
/// The name of an enrichment that ended well.
pub const ENRICHED_EVENT: &str = "c2s_lead.enriched";
/// The name of an enrichment that failed.
pub const FAILED_EVENT: &str = "c2s_lead.failed";

/// The longest name of what happened that a timeline shows, in bytes.
const HOOK_ACTION_MAX_BYTES: usize = 64;

/// What an event asks for.
#[derive(Clone, Debug)]
pub enum C2sLeadAction {
    /// Takes over the fields of an event.
    Received {
        /// The event's own time as it was sent, by which a duplicate is known.
        updated_at: Timestamp,
        /// What happened, in the sender's words.
        hook_action: Option<String>,
        /// Each field's name and JSON text; of too many the first ones count.
        fields: Vec<(String, JsonText)>,
    },
    /// Keeps what enrichment found.
    Enriched {
        /// The time of the event that was enriched.
        of: Timestamp,
        /// The person's data; `None` if nobody was found.
        enriched: Option<JsonText>,
    },
    /// Says that enrichment failed, and keeps what it had found before.
    Failed {
        /// The time of the event that was to be enriched.
        of: Timestamp,
        /// The step that failed.
        step: String,
        /// The person's data, if only a later step failed.
        enriched: Option<JsonText>,
    },
    /// Opens an event anew whose enrichment failed. Changes nothing.
    Reopened,
}

/// What `action` does to the lead `state`.
///
/// # Errors
/// None; the signature is that of every kind.
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

/// The fields that are not older than what the lead has, as far as there is room.
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

/// That nobody was found says nothing against who was found before.
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

/// `lead.created received, 5 fields set`, `enriched`, `enrichment failed at person`.
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
