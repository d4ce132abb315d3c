//! The status of a pre-lead or a lead, and how it came to it.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::items::NewestItems;
use crate::entity::timed_value::UnixMicros;
use crate::event::Timestamp;

/// The statuses that an event may give.
pub const STATUSES: [&str; 7] = [
    "new",
    "contacted",
    "qualified",
    "proposal_sent",
    "negotiation",
    "won",
    "lost",
];

/// Before anything was said of it.
pub(in crate::entity) const NEW: &str = "new";
/// Of a lead that can become a customer.
pub(in crate::entity) const WON: &str = "won";
/// Of a discarded lead.
pub(in crate::entity) const LOST: &str = "lost";
/// Of a discarded pre-lead.
pub(in crate::entity) const DISCARDED: &str = "discarded";
/// Of a pre-lead that became a lead.
pub(in crate::entity) const CONVERTED: &str = "converted";

/// One status that was said of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::entity) struct StatusEntry {
    pub(in crate::entity) status: Arc<str>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::entity) remarks: Option<Arc<str>>,
    pub(in crate::entity) at: UnixMicros,
    /// The system that said so.
    pub(in crate::entity) who: Arc<str>,
}

/// What was said of the status, in the order of the events' own times: one that came late stands
/// where it belongs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(in crate::entity) struct StatusHistory(NewestItems<StatusEntry>);

impl StatusHistory {
    /// Adds `entry` and drops the oldest ones beyond `keep`.
    pub(in crate::entity) fn push(&mut self, entry: StatusEntry, keep: usize) {
        let at = entry.at;
        self.0.push_sorted(entry, keep, |known| known.at <= at);
    }

    /// The history as the API shows it.
    pub(in crate::entity) fn to_json(&self) -> Vec<Value> {
        let shown = |StatusEntry {
                         status,
                         remarks,
                         at,
                         who,
                     }: &StatusEntry| json!({ "status": status, "remarks": remarks, "at": Timestamp::from(*at), "who": who });
        self.0.iter().map(shown).collect()
    }
}
