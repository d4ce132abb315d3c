//! A lead of Contact2Sale: its state, what it decides and how a decision changes it.
//!
//! ```text
//! received (09:00) ──> fields ──enrichment──> enriched (of 09:00), or failed (of 09:00, at a step)
//! received (08:00) ──> late: fills only what no newer event gave
//! received (09:00) ──> known: the instant was applied before, however long ago
//! ```

mod change;
mod instants;
#[cfg(test)]
mod properties;
mod state;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use change::ENRICHED_MEMBER;
pub use change::{Change, Failed, Found, Received};
pub use state::State;

use super::field::Micros;
use super::generic::{Json, NAME_MAX_BYTES};
use super::verdict::{Acceptance, Context, Rejection, Verdict};
use crate::event::{Name, Timestamp};

/// The source of all its events, in records and logs.
pub const SOURCE: Name = Name::from_static("c2s");

/// The name of an event as it came in.
pub const RECEIVED: &str = "c2s_lead.received";
/// The name of an enrichment that ended well.
pub const ENRICHED: &str = "c2s_lead.enriched";
/// The name of an enrichment that failed.
pub const FAILED: &str = "c2s_lead.failed";

/// The longest name of what happened that a timeline shows, in bytes.
const HOOK_ACTION_MAX_BYTES: usize = 64;

/// What an event asks for.
#[derive(Clone, Debug)]
pub enum Action {
    /// Takes over the fields of an event.
    Received {
        /// The event's own time as it was sent, by which a duplicate is known.
        updated_at: Timestamp,
        /// What happened, in the sender's words.
        hook_action: Option<String>,
        /// Each field's name and JSON text; of too many the first ones count.
        fields: Vec<(String, Json)>,
    },
    /// Keeps what enrichment found.
    Enriched {
        /// The time of the event that was enriched.
        of: Timestamp,
        /// The person's data; `None` if nobody was found.
        enriched: Option<Json>,
    },
    /// Says that enrichment failed, and keeps what it had found before.
    Failed {
        /// The time of the event that was to be enriched.
        of: Timestamp,
        /// The step that failed.
        step: String,
        /// The person's data, if only a later step failed.
        enriched: Option<Json>,
    },
    /// Opens an event anew whose enrichment failed. Changes nothing.
    Reopened,
}

/// What `action` does to the lead `state`.
///
/// # Errors
/// None; the signature is that of every kind.
pub fn decide(state: &State, action: &Action, context: &Context<'_>) -> Result<Verdict<Change>, Rejection> {
    let (change, late) = match action {
        Action::Received { updated_at, .. } if state.knows(Micros::from(*updated_at)) => {
            return Ok(Verdict::Known(None));
        }
        Action::Received { updated_at, hook_action, fields } => {
            let (at, sent) = (Micros::from(context.at), Micros::from(*updated_at));
            let late = state.is_late(at);
            let received = Received {
                at,
                sent: (sent != at).then_some(sent),
                hook_action: hook_action.as_deref().filter(|name| name.len() <= HOOK_ACTION_MAX_BYTES).map(Arc::from),
                set: taken(state, fields, at, context),
                late,
            };
            (Change::Received(received), late)
        }
        Action::Enriched { of, enriched } => {
            let found = found(state, *of, enriched);
            let late = found.late;
            (Change::Enriched(found), late)
        }
        Action::Failed { of, step, enriched } => {
            let found = found(state, *of, enriched);
            let late = found.late;
            (Change::Failed(Failed { step: step.as_str().into(), found }), late)
        }
        Action::Reopened => return Ok(Verdict::Note),
    };
    Ok(Verdict::Accept(Acceptance { late, ..Acceptance::new(change) }))
}

/// The fields that are not older than what the lead has, as far as there is room.
fn taken(state: &State, fields: &[(String, Json)], at: Micros, context: &Context<'_>) -> BTreeMap<Arc<str>, Json> {
    let mut set: BTreeMap<Arc<str>, Json> = BTreeMap::new();
    let mut room = context.limits.items_max.saturating_sub(state.fields().len());
    for (name, value) in fields.iter().filter(|(name, _)| name != ENRICHED_MEMBER && name.len() <= NAME_MAX_BYTES) {
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
fn found(state: &State, of: Timestamp, enriched: &Option<Json>) -> Found {
    let of = Micros::from(of);
    Found { of, enriched: enriched.clone(), late: state.enriched().is_late(of) }
}

/// `lead.created received, 5 fields set`, `enriched`, `enrichment failed at person`.
#[must_use]
pub fn summary(change: &Change) -> String {
    match change {
        Change::Received(Received { hook_action, set, late, .. }) => {
            let what = hook_action.as_deref().unwrap_or("event");
            let when = if *late { "received late" } else { "received" };
            match set.len() {
                1 => format!("{what} {when}, 1 field set"),
                count => format!("{what} {when}, {count} fields set"),
            }
        }
        Change::Enriched(Found { enriched: Some(_), .. }) => "enriched".to_owned(),
        Change::Enriched(Found { enriched: None, .. }) => "enrichment found nobody".to_owned(),
        Change::Failed(Failed { step, .. }) => format!("enrichment failed at {step}"),
    }
}
