//! Section `[sources.leads]`: pre-leads and leads from a CRM's webhooks.

use std::time::Duration;

use super::draft::ConfigDraft;
use super::secret::Secret;
use super::values::{DAY_S, check_not_empty};

/// Content that the signature of a lead covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeadSignatureLayout {
    /// The body alone, as most CRMs sign.
    Body,
    /// The time in `X-Webhook-Timestamp`, the path and the body, each on lines of its own.
    TimePathBody,
}

/// Section `[sources.leads]`: pre-leads and leads from a CRM.
#[derive(Clone, Debug)]
pub struct LeadsConfig {
    /// Switches the endpoints of leads on.
    pub enabled: bool,
    /// Signing secrets. Any of them is accepted, so secrets can be rotated. An empty list accepts
    /// unsigned requests.
    pub secrets: Vec<Secret>,
    /// Content that a signature covers.
    pub signed: LeadSignatureLayout,
    /// Largest distance between a signed time and the clock, either way.
    pub tolerance: Duration,
    /// Most requests a minute from one client address; 0 means no limit.
    pub rate_per_minute: u32,
}

impl ConfigDraft {
    pub(super) fn read_leads(&mut self) -> LeadsConfig {
        LeadsConfig {
            enabled: self.read_boolean("sources.leads.enabled"),
            secrets: self.read_secrets("sources.leads.secrets", check_not_empty),
            signed: self.read_choice(
                "sources.leads.signed",
                &[
                    ("body", LeadSignatureLayout::Body),
                    ("time-path-body", LeadSignatureLayout::TimePathBody),
                ],
            ),
            tolerance: self.read_seconds("sources.leads.tolerance_s", DAY_S),
            rate_per_minute: self
                .read_integer("sources.leads.rate_per_minute", 0..=u32::MAX.into()),
        }
    }
}
