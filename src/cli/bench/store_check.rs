//! Reads back from a node's store what it accepted during the run, by a subscription whose reader
//! pulls.

use serde::Deserialize;
use serde_json::{Value, json};

use super::ledger::BenchLedger;
use super::order_audit::{OrderAudit, OrderVerdict};
use super::receiver::DeliveryReading;
use crate::cli::admin_client::AdminClient;
use crate::cli::error::CliError;

/// Events of one page: the most that a node gives.
const PAGE_SIZE: &str = "500";

/// Subscription that reads the store.
pub(super) struct StoreReader {
    webhook_id: String,
}

#[derive(Deserialize)]
struct RemoteReader {
    id: u64,
}

/// Page of events, in the order of acceptance.
#[derive(Deserialize)]
struct StoredEvents {
    items: Vec<Value>,
    cursor: String,
    has_more: bool,
}

impl StoreReader {
    /// Subscribes before the first event is sent.
    pub(super) async fn subscribe(node: &AdminClient, label: &str) -> Result<Self, CliError> {
        let subscription = json!({
            "delivery": "pull",
            "events": ["ticket:message.created"],
            "filter": filter_of_run(label),
            "description": "hookyard bench: reads the store",
        });
        let reader: RemoteReader = node.post(&["webhooks"], Some(&subscription)).await?;
        Ok(Self {
            webhook_id: reader.id.to_string(),
        })
    }

    pub(super) fn webhook_id(&self) -> &str {
        &self.webhook_id
    }

    /// Reads all events of the run and judges them. `on_page` gets the number of events so far.
    pub(super) async fn check(
        &self,
        node: &AdminClient,
        reading: &DeliveryReading,
        ledger: &BenchLedger,
        entities: u32,
        mut on_page: impl FnMut(u64),
    ) -> Result<OrderVerdict, CliError> {
        let mut audit = OrderAudit::new(entities);
        let mut cursor = None;
        loop {
            let mut query = vec![("limit", PAGE_SIZE)];
            query.extend(cursor.as_deref().map(|cursor: &str| ("cursor", cursor)));
            let path = ["webhooks", &self.webhook_id, "events"];
            let page: StoredEvents = node.get(&path, &query).await?;
            for item in &page.items {
                let id = item["id"].as_str().map(str::as_bytes);
                match reading.find_event(&item["body"]) {
                    Some((entity, number)) => {
                        let sent = ledger.with_books(|books| books.sent_number(entity));
                        audit.record(entity, number, sent, id);
                    }
                    None => audit.record_foreign(),
                }
            }
            on_page(audit.seen());
            if !page.has_more {
                break;
            }
            cursor = Some(page.cursor);
        }
        Ok(ledger.with_books(|books| audit.finish(books.acknowledged_numbers())))
    }
}

/// Filter for the events of one run, in CEL. The label has letters, digits and hyphens only.
pub(super) fn filter_of_run(label: &str) -> String {
    format!("entity.id.startsWith('{label}-')")
}
