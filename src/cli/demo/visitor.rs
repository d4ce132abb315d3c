//! Person who looks around in the demo's dashboard, seen from the audit log: what that person changes
//! is no broken promise of the node.

use std::collections::BTreeSet;

use serde::Deserialize;

use crate::cli::admin_client::{AdminCallError, AdminClient};

/// Operations after which the demo no longer knows what a subscription owes.
const SUBSCRIPTION_CHANGES: [&str; 5] = [
    "webhooks.change",
    "webhooks.put",
    "webhooks.pause",
    "webhooks.delete",
    "webhooks.rotate_secret",
];

/// Operations that end deliveries which were owed.
const ENDED_DELIVERIES: [&str; 3] = ["dead_letters.discard", "entities.erase", "jobs.cancel"];

/// Changes of the visitor so far.
#[derive(Debug, Default)]
pub(super) struct VisitorChanges {
    /// Newest entry of the audit log that was read.
    newest: u64,
    webhooks: BTreeSet<u64>,
    /// Sentences for what is new, not told yet.
    remarks: Vec<String>,
}

/// Effect of what a look at the audit log found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct VisitorEffect {
    pub(super) has_changed_webhook: bool,
    pub(super) has_ended_deliveries: bool,
}

#[derive(Deserialize)]
struct RemoteAudit {
    items: Vec<RemoteAuditEntry>,
}

#[derive(Deserialize)]
struct RemoteAuditEntry {
    id: u64,
    operation: String,
    object: Option<String>,
    outcome: String,
}

impl VisitorChanges {
    /// Reads the audit log of `node`. The demo does none of these operations itself.
    pub(super) async fn fetch_entries(
        node: &AdminClient,
    ) -> Result<impl Iterator<Item = (u64, String, Option<String>)>, AdminCallError> {
        let audit: RemoteAudit = node.get(&["audit"], &[("limit", "100")]).await?;
        let done = audit.items.into_iter().rev();
        Ok(done
            .filter(|entry| entry.outcome == "ok")
            .map(|entry| (entry.id, entry.operation, entry.object)))
    }

    /// Records the entries that came since the last look.
    pub(super) fn note_entries(
        &mut self,
        entries: impl Iterator<Item = (u64, String, Option<String>)>,
    ) -> VisitorEffect {
        let mut effect = VisitorEffect::default();
        let seen = self.newest;
        for (id, operation, object) in entries.filter(|(id, ..)| *id > seen) {
            self.newest = id;
            let webhook = object.as_deref().and_then(|object| object.parse().ok());
            if SUBSCRIPTION_CHANGES.contains(&operation.as_str()) {
                let Some(webhook) = webhook.filter(|webhook| self.webhooks.insert(*webhook)) else {
                    continue;
                };
                effect.has_changed_webhook = true;
                self.remarks.push(format!(
                    "You changed webhook {webhook} ({operation}): the demo judges its deliveries no \
                     more, and goes on."
                ));
            } else if ENDED_DELIVERIES.contains(&operation.as_str()) {
                effect.has_ended_deliveries = true;
                self.remarks.push(format!(
                    "You ended deliveries ({operation}): what was owed then is not judged."
                ));
            }
        }
        effect
    }

    /// Tells if the visitor changed the subscription `webhook`.
    pub(super) fn has_changed(&self, webhook: u64) -> bool {
        self.webhooks.contains(&webhook)
    }

    /// Takes the sentences that were not told yet.
    pub(super) fn take_remarks(&mut self) -> Vec<String> {
        std::mem::take(&mut self.remarks)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(id: u64, operation: &str, object: Option<&str>) -> (u64, String, Option<String>) {
        (id, operation.to_owned(), object.map(str::to_owned))
    }

    #[test]
    fn each_change_is_noted_once_and_reading_is_no_change() {
        let mut changes = VisitorChanges::default();
        let entries = [
            entry(3, "dashboard.login", None),
            entry(4, "webhooks.pause", Some("2")),
            entry(5, "webhooks.delete", Some("2")),
        ];
        let effect = changes.note_entries(entries.clone().into_iter());
        assert!(effect.has_changed_webhook && !effect.has_ended_deliveries);
        assert!(changes.has_changed(2) && !changes.has_changed(1));
        assert_eq!(changes.take_remarks().len(), 1);
        let again = changes.note_entries(entries.into_iter());
        assert_eq!(again, VisitorEffect::default());

        let discard = entry(6, "dead_letters.discard", Some("1"));
        let effect = changes.note_entries([discard].into_iter());
        assert!(effect.has_ended_deliveries && !changes.has_changed(1));
        assert_eq!(changes.take_remarks().len(), 1);
    }
}
