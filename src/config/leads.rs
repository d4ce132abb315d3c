//! `[sources.leads]`: pre-leads and leads from a CRM's webhooks.

use super::draft::ConfigDraft;
use super::secret::Secret;
use super::values::check_not_empty;

/// `[sources.leads]`: pre-leads and leads.
#[derive(Clone, Debug)]
pub struct LeadsConfig {
    /// Whether the endpoints exist.
    pub enabled: bool,
    /// Signing secrets, any of which is taken (rotation); without any, signatures are not looked
    /// at.
    pub secrets: Vec<Secret>,
    /// Requests a minute for each client address; 0 means no limit.
    pub rate_per_minute: u32,
}

impl ConfigDraft {
    pub(super) fn read_leads(&mut self) -> LeadsConfig {
        LeadsConfig {
            enabled: self.read_boolean("sources.leads.enabled"),
            secrets: self.read_secrets("sources.leads.secrets", check_not_empty),
            rate_per_minute: self
                .read_integer("sources.leads.rate_per_minute", 0..=u32::MAX.into()),
        }
    }
}
