//! Changes of a lead, written out so that replaying it takes no rules.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::entity::generic::JsonText;
use crate::entity::timed_value::UnixMicros;

/// The member that is the node's own: what enrichment found. A sender's member of that name stays
/// in the event.
pub(super) const ENRICHED_MEMBER: &str = "enriched";

/// What one event did to a lead, written out so that replaying it takes no rules.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum C2sLeadChange {
    /// Fields were taken over.
    Received(C2sReceivedFields),
    /// An enrichment ended well.
    Enriched(C2sEnrichment),
    /// An enrichment failed.
    Failed(C2sEnrichmentFailure),
}

/// What an event gave.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct C2sReceivedFields {
    /// The time by which lateness is decided.
    pub(super) at: UnixMicros,
    /// The time as it was sent, if that is another: too far ahead of the node's clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) sent: Option<UnixMicros>,
    /// What happened, in the sender's words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) hook_action: Option<Arc<str>>,
    /// The fields that take effect.
    pub(super) set: BTreeMap<Arc<str>, JsonText>,
    /// Whether a newer event was there before.
    #[serde(default, skip_serializing_if = "is_false")]
    pub(super) late: bool,
}

/// What a failed enrichment leaves.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct C2sEnrichmentFailure {
    /// The step that failed.
    pub(super) step: Arc<str>,
    /// What had been found before.
    pub(super) found: C2sEnrichment,
}

/// What an enrichment found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct C2sEnrichment {
    /// The time of the event that was enriched.
    pub(super) of: UnixMicros,
    /// The person's data; `None` if nobody was found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) enriched: Option<JsonText>,
    /// Whether a newer event was enriched before.
    #[serde(default, skip_serializing_if = "is_false")]
    pub(super) late: bool,
}

fn is_false(flag: &bool) -> bool {
    !flag
}
