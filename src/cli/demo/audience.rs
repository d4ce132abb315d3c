//! Subscribers of the demo: receivers in this process, which check the order and the signature of
//! each delivery.

use std::rc::Rc;

use reqwest::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use super::ledger::DeliveryLedger;
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
    ledger: Rc<DeliveryLedger>,
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
            let ledger = Rc::new(DeliveryLedger::default());
            let noted = Rc::clone(&ledger);
            let receiver = TrialReceiver::start(&secret, move |id| noted.note_accepted(id))?;
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
                ledger,
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

    /// Returns all subscribers, the flaky one last.
    pub(super) fn all(&self) -> &[DemoSubscriber] {
        &self.0
    }

    /// Returns the ledgers of all subscribers.
    pub(super) fn ledgers(&self) -> Vec<Rc<DeliveryLedger>> {
        self.0
            .iter()
            .map(|subscriber| Rc::clone(&subscriber.ledger))
            .collect()
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

    /// Returns the counters of the deliveries, with the number of entities.
    pub(super) fn totals(&self) -> (ReportTotals, u64) {
        self.receiver.totals()
    }

    /// Returns the record of the demo's own events.
    pub(super) fn ledger(&self) -> &DeliveryLedger {
        &self.ledger
    }

    /// Returns the id of the subscription at the node.
    pub(super) fn webhook_id(&self) -> u64 {
        self.webhook_id
    }

    /// Reads the counters of the subscription; `None` if a visitor has deleted it.
    pub(super) async fn fetch_stats(
        &self,
        node: &AdminClient,
    ) -> Result<Option<RemoteStats>, AdminCallError> {
        let id = self.webhook_id.to_string();
        let found: Result<RemoteWebhook, _> = node.get(&["webhooks", &id], &[]).await;
        match found {
            Ok(webhook) => Ok(Some(webhook.stats)),
            Err(AdminCallError::Refused {
                status: StatusCode::NOT_FOUND,
                ..
            }) => Ok(None),
            Err(error) => Err(error),
        }
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
