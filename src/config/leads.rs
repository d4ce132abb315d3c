//! Section `[sources.leads]`: pre-leads and leads from a CRM's webhooks.

use super::draft::ConfigDraft;
use super::secret::Secret;
use super::values::check_not_empty;

/// Section `[sources.leads]`: pre-leads and leads from a CRM.
#[derive(Clone, Debug)]
pub struct LeadsConfig {
    /// Switches the endpoints of leads on.
    pub enabled: bool,
    /// Signing secrets. Any of them is accepted, so secrets can be rotated. An empty list accepts
    /// unsigned requests.
    pub secrets: Vec<Secret>,
    /// Most requests a minute from one client address; 0 means no limit.
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
