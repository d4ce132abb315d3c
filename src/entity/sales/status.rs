//! Status of a pre-lead or lead, and its history.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::items::NewestItems;
use crate::entity::timed_value::UnixMicros;
use crate::event::Timestamp;

/// Statuses that an event may set.
pub const STATUSES: [&str; 7] = [
    "new",
    "contacted",
    "qualified",
    "proposal_sent",
    "negotiation",
    "won",
    "lost",
];

/// Initial status, before any event sets one.
pub(in crate::entity) const NEW: &str = "new";
/// Status of a lead that can be converted to a customer.
pub(in crate::entity) const WON: &str = "won";
/// Final status of a discarded lead.
pub(in crate::entity) const LOST: &str = "lost";
/// Final status of a discarded pre-lead.
pub(in crate::entity) const DISCARDED: &str = "discarded";
/// Final status of a pre-lead that was converted to a lead.
pub(in crate::entity) const CONVERTED: &str = "converted";

/// Line of the status history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::entity) struct StatusEntry {
    pub(in crate::entity) status: Arc<str>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::entity) remarks: Option<Arc<str>>,
    pub(in crate::entity) at: UnixMicros,
    /// Name of the sending system.
    pub(in crate::entity) who: Arc<str>,
}

/// Status history, in the order of event times: a late event stands where its time belongs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(in crate::entity) struct StatusHistory(NewestItems<StatusEntry>);

impl StatusHistory {
    /// Inserts `entry` by its time and drops the oldest entries beyond `keep`.
    pub(in crate::entity) fn push(&mut self, entry: StatusEntry, keep: usize) {
        let at = entry.at;
        self.0.push_sorted(entry, keep, |known| known.at <= at);
    }

    /// History in the form of the API.
    pub(in crate::entity) fn to_json(&self) -> Vec<Value> {
        let entry_to_json = |entry: &StatusEntry| {
            json!({
                "status": entry.status,
                "remarks": entry.remarks,
                "at": Timestamp::from(entry.at),
                "who": entry.who,
            })
        };
        self.0.iter().map(entry_to_json).collect()
    }
}
