//! Subscribers of the demo: receivers in this process, which check the order and the signature of
//! each delivery.

use serde::Deserialize;
use serde_json::{Value, json};

use crate::cli::admin_client::{AdminCallError, AdminClient};
use crate::cli::error::CliError;
use crate::cli::listen::{ReportTotals, TrialReceiver};
use crate::cli::random_secret::generate_secret;

/// Names of the subscribers; the last one is the flaky one.
const NAMES: [&str; 3] = ["helpdesk", "reporting", "flaky"];

/// All subscribers of the demo.
pub(super) struct DemoAudience(Vec<DemoSubscriber>);

/// Receiver with its subscription at the node.
pub(super) struct DemoSubscriber {
    receiver: TrialReceiver,
    webhook_id: u64,
}

/// Counters of a subscription, as the node shows them.
#[derive(Debug, Deserialize)]
pub(super) struct RemoteStats {
    pub(super) breaker: String,
    pub(super) dead_letters: u64,
}

#[derive(Deserialize)]
struct RemoteWebhook {
    id: u64,
    stats: RemoteStats,
}

impl DemoAudience {
    /// Starts the receivers, and subscribes each of them to everything that comes from outside.
    pub(super) async fn subscribe(node: &AdminClient) -> Result<Self, CliError> {
        let mut all = Vec::new();
        for name in NAMES {
            let secret = generate_secret()?;
            let receiver = TrialReceiver::start(&secret)?;
            let subscription = json!({
                "url": receiver.url(),
                "events": ["*"],
                "description": name,
                "secret": secret.expose(),
            });
            let webhook: RemoteWebhook = node.post(&["webhooks"], Some(&subscription)).await?;
            all.push(DemoSubscriber {
                receiver,
                webhook_id: webhook.id,
            });
        }
        Ok(Self(all))
    }

    /// Returns the subscriber that the story breaks and repairs.
    pub(super) fn flaky(&self) -> &DemoSubscriber {
        self.0.last().expect("there are three subscribers")
    }

    /// Returns the subscribers that always work.
    pub(super) fn healthy(&self) -> &[DemoSubscriber] {
        &self.0[..self.0.len() - 1]
    }

    /// Returns the counters of each subscriber, with its number of entities.
    pub(super) fn totals(&self) -> impl Iterator<Item = (ReportTotals, u64)> {
        self.0.iter().map(|subscriber| subscriber.receiver.totals())
    }

    pub(super) async fn stop(&self) {
        for subscriber in &self.0 {
            subscriber.receiver.stop().await;
        }
    }
}

impl DemoSubscriber {
    /// Answers every further delivery with `status`.
    pub(super) fn answer_with(&self, status: u16) {
        self.receiver.answer_with(status);
    }

    pub(super) fn totals(&self) -> ReportTotals {
        self.receiver.totals().0
    }

    pub(super) async fn fetch_stats(
        &self,
        node: &AdminClient,
    ) -> Result<RemoteStats, AdminCallError> {
        let id = self.webhook_id.to_string();
        let webhook: RemoteWebhook = node.get(&["webhooks", &id], &[]).await?;
        Ok(webhook.stats)
    }

    /// Has the node try at once what waits for the subscriber.
    pub(super) async fn resume(&self, node: &AdminClient) -> Result<(), AdminCallError> {
        let id = self.webhook_id.to_string();
        let _: Value = node.post(&["webhooks", &id, "resume"], None).await?;
        Ok(())
    }

    /// Has the node deliver all dead letters of the subscriber again.
    pub(super) async fn retry_dead_letters(
        &self,
        node: &AdminClient,
    ) -> Result<(), AdminCallError> {
        let filter = json!({"webhook_id": self.webhook_id});
        let _: Value = node.post(&["dead-letters", "retry"], Some(&filter)).await?;
        Ok(())
    }
}
