//! `[[sources.custom]]`: one table for each configured source.

use super::problem::SettingOrigin;
use super::secret::Secret;
use crate::event::{InternedName, Kind};
use crate::provider::WebhookSource;

/// The key of the list.
pub(super) const CUSTOM_SOURCES_KEY: &str = "sources.custom";

/// Names that something else has: the other sources, the first words of events, and what logs call
/// requests by.
pub(super) const RESERVED_NAMES: [&str; 24] = [
    "admin",
    "agent",
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

/// A configured source: any sender that has no contract of its own.
#[derive(Clone, Debug)]
pub struct CustomSourceConfig {
    /// Its name: in the path, before its events' names, and in records.
    pub name: InternedName,
    /// The kind of its entities, `custom:<name>`.
    pub kind: Kind,
    /// Whether the endpoint exists.
    pub enabled: bool,
    /// How its requests are verified and read.
    pub source: WebhookSource,
    /// What a subscription has to know; empty where there is none.
    pub verify_token: Secret,
    /// Requests a minute for each client address; 0 means no limit.
    pub rate_per_minute: u32,
}

/// A table of the list, as far as it is more than its settings.
#[derive(Clone, Debug)]
pub(super) struct CustomSourceTable {
    /// What its keys begin with: `sources.custom.billing`.
    pub(super) section: String,
    /// Its name, if it has a proper one.
    pub(super) name: Option<String>,
    /// Where the table begins.
    pub(super) place: SettingOrigin,
}
