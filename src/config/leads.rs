//! `[sources.leads]`: pre-leads and leads from a CRM's webhooks.

use super::draft::Draft;
use super::secret::Secret;
use super::values::not_empty;

/// `[sources.leads]`: pre-leads and leads.
#[derive(Clone, Debug)]
pub struct Leads {
    /// Whether the endpoints exist.
    pub enabled: bool,
    /// Signing secrets, any of which is taken (rotation); without any, signatures are not looked at.
    pub secrets: Vec<Secret>,
    /// Requests a minute for each client address; 0 means no limit.
    pub rate_per_minute: u32,
}

impl Draft {
    pub(super) fn leads(&mut self) -> Leads {
        Leads {
            enabled: self.boolean("sources.leads.enabled"),
            secrets: self.secrets("sources.leads.secrets", not_empty),
            rate_per_minute: self.integer("sources.leads.rate_per_minute", 0..=u32::MAX.into()),
        }
    }
}
