//! Changes of a Contact2Sale lead, with every decision resolved, so that a replay needs no rules.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::entity::generic::JsonText;
use crate::entity::timed_value::UnixMicros;

/// Member of the state that holds the result of the enrichment. A sender's member of the same name
/// stays in the event's payload only.
pub(super) const ENRICHED_MEMBER: &str = "enriched";

/// Effect of one event on a lead; a replay copies it and decides nothing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum C2sLeadChange {
    /// Sets fields of the lead.
    Received(C2sReceivedFields),
    /// Ends an enrichment with success.
    Enriched(C2sEnrichment),
    /// Ends an enrichment with a failure.
    Failed(C2sEnrichmentFailure),
}

/// Fields and times that an event contributed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct C2sReceivedFields {
    /// Time that decides on lateness.
    pub(super) at: UnixMicros,
    /// Time as it was sent, if it differs from `at`: it was too far ahead of the node's clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) sent: Option<UnixMicros>,
    /// Name of the action in Contact2Sale, such as `lead.created`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) hook_action: Option<Arc<str>>,
    /// Fields that take effect, with their new values.
    pub(super) set: BTreeMap<Arc<str>, JsonText>,
    /// True if a newer event had been applied before.
    #[serde(default, skip_serializing_if = "is_false")]
    pub(super) late: bool,
}

/// Result of an enrichment that failed at `step`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct C2sEnrichmentFailure {
    pub(super) step: Arc<str>,
    /// Result of the steps that succeeded before.
    pub(super) found: C2sEnrichment,
}

/// Result of an enrichment, with the time of the event that it belongs to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct C2sEnrichment {
    /// Time of the enriched event.
    pub(super) of: UnixMicros,
    /// Data of the person; `None` if no person was found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) enriched: Option<JsonText>,
    /// True if a newer event had been enriched before.
    #[serde(default, skip_serializing_if = "is_false")]
    pub(super) late: bool,
}

fn is_false(flag: &bool) -> bool {
    !flag
}
