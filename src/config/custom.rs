//! Section `[[sources.custom]]`: one table for each configured source.

use std::time::Duration;

use super::problem::SettingOrigin;
use super::secret::Secret;
use crate::event::{InternedName, Kind};
use crate::provider::WebhookSource;

/// Key of the list in the configuration.
pub(super) const CUSTOM_SOURCES_KEY: &str = "sources.custom";

/// Names that a configured source cannot take: other sources, the first words of event names, and
/// the labels of requests in logs.
pub(super) const RESERVED_NAMES: [&str; 25] = [
    "admin",
    "agent",
    "alert",
    "attachment",
    "breaker",
    "c2s",
    "category",
    "crm",
    "custom",
    "dead_letter",
    "delivery",
    "docs",
    "entity",
    "instagram",
    "leads",
    "message",
    "none",
    "priority",
    "rating",
    "sla",
    "status",
    "store",
    "subscriber",
    "support",
    "tags",
];

/// Configured source: any sender that has no contract of its own.
#[derive(Clone, Debug)]
pub struct CustomSourceConfig {
    /// Name of the source, used in its path, in its event names and in records.
    pub name: InternedName,
    /// Kind of the source's entities, `custom:<name>`.
    pub kind: Kind,
    /// Switches the endpoint on; a disabled source keeps its stored events.
    pub enabled: bool,
    /// Rules that verify the source's requests and find the event's fields.
    pub source: WebhookSource,
    /// Token that Meta presents when it subscribes; empty if the source has no handshake.
    pub verify_token: Secret,
    /// Sends back the text that a sender has as `validationToken` in the query of an unsigned `POST`, as
    /// Microsoft asks.
    pub answers_validation_token: bool,
    /// Most requests a minute from one client address; 0 means no limit.
    pub rate_per_minute: u32,
    /// Time for which an idempotency key is remembered.
    pub idempotency_window: Duration,
}

/// One table of the list; the table's values are among the draft's settings.
#[derive(Clone, Debug)]
pub(super) struct CustomSourceTable {
    /// Prefix of the table's keys, such as `sources.custom.billing`.
    pub(super) section: String,
    /// Name of the source; `None` if it is missing or invalid.
    pub(super) name: Option<String>,
    /// Place where the table begins, for problems of the whole table.
    pub(super) origin: SettingOrigin,
}
