//! System under test: a node of the benchmark's own, a running node, or another system by its
//! adapter. Sets it up for the run, and puts it back.

use std::path::Path;

use reqwest::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use super::adapter::AdapterFile;
use super::child_server::ChildServer;
use super::error::BenchError;
use super::own_node::{OwnNodeSecrets, node_program};
use super::receiver::DeliveryReading;
use super::store_check::{StoreReader, filter_of_run};
use super::target::{EventTarget, SupportSigner};
use crate::cli::admin_client::AdminClient;
use crate::cli::error::CliError;
use crate::cli::random_secret::generate_secret;
use crate::cli::selected_node::SelectedNode;
use crate::config::Secret;

/// Begin of the ids of an own node's entities; its store is empty, so every run may use it.
const OWN_LABEL: &str = "bench";

/// System under test, ready for events.
pub(super) struct BenchSubject {
    pub(super) description: String,
    pub(super) target: EventTarget,
    pub(super) reading: DeliveryReading,
    /// Process of an own node.
    pub(super) server: Option<ChildServer>,
    kind: SubjectKind,
}

enum SubjectKind {
    Node {
        client: AdminClient,
        is_own: bool,
        /// Subscriptions that the benchmark made.
        webhooks: Vec<String>,
        store: Option<StoreReader>,
    },
    Other(Box<AdapterFile>),
}

#[derive(Deserialize)]
struct RemoteSubscriber {
    id: u64,
}

impl BenchSubject {
    /// Starts a node in `folder`.
    pub(super) async fn start_node(
        folder: &Path,
        secrets: &OwnNodeSecrets,
        has_faults: bool,
    ) -> Result<Self, CliError> {
        let program = node_program(folder, secrets, has_faults)?;
        let server = ChildServer::start(program).await?;
        let selected = SelectedNode {
            base: server.base(),
            token: secrets.admin_token.clone(),
            is_own: false,
        };
        let mut subject = Self::for_node(selected, secrets.signer.clone(), OWN_LABEL, true)?;
        subject.description = format!("own node, store in {}", folder.display());
        subject.server = Some(server);
        Ok(subject)
    }

    /// Uses the running node `selected`, whose entities get ids that begin with `label`.
    pub(super) fn running_node(
        selected: SelectedNode,
        signer: SupportSigner,
        label: &str,
    ) -> Result<Self, CliError> {
        Self::for_node(selected, signer, label, false)
    }

    fn for_node(
        selected: SelectedNode,
        signer: SupportSigner,
        label: &str,
        is_own: bool,
    ) -> Result<Self, CliError> {
        Ok(Self {
            description: format!("node at {}", selected.base),
            target: EventTarget::for_node(&selected.base, signer, label)?,
            reading: DeliveryReading {
                entity: "/entity/id".to_owned(),
                number: "/data/number".to_owned(),
                id_header: Some("webhook-id".to_owned()),
                label: label.to_owned(),
                secret: Some(generate_secret()?),
            },
            server: None,
            kind: SubjectKind::Node {
                client: AdminClient::try_new(selected)?,
                is_own,
                webhooks: Vec::new(),
                store: None,
            },
        })
    }

    /// Uses the system that `adapter` describes.
    pub(super) fn other_system(adapter: AdapterFile, label: &str) -> Result<Self, BenchError> {
        let target = adapter.to_target(label)?;
        Ok(Self {
            description: format!("{}, by its adapter", adapter.name),
            target,
            reading: adapter.to_reading(label),
            server: None,
            kind: SubjectKind::Other(Box::new(adapter)),
        })
    }

    /// Subscribes the receivers at `urls`, and what reads the store.
    pub(super) async fn subscribe(&mut self, urls: &[String]) -> Result<(), CliError> {
        match &mut self.kind {
            SubjectKind::Node {
                client,
                webhooks,
                store,
                ..
            } => {
                let label = &self.target.label;
                let reader = StoreReader::subscribe(client, label).await?;
                webhooks.push(reader.webhook_id().to_owned());
                *store = Some(reader);
                for url in urls {
                    let body = subscription(url, label, self.reading.secret.as_ref());
                    let subscriber: RemoteSubscriber =
                        client.post(&["webhooks"], Some(&body)).await?;
                    webhooks.push(subscriber.id.to_string());
                }
            }
            SubjectKind::Other(adapter) => {
                for url in urls {
                    adapter.register(url).await?;
                }
            }
        }
        Ok(())
    }

    /// Returns the URLs that a person has to register, because the adapter does not say how.
    pub(super) fn urls_to_register<'u>(&self, urls: &'u [String]) -> &'u [String] {
        match &self.kind {
            SubjectKind::Other(adapter) if !adapter.registers_receivers() => urls,
            SubjectKind::Other(_) | SubjectKind::Node { .. } => &[],
        }
    }

    /// Returns the reader of the store and its client; `None` if the store cannot be read.
    pub(super) fn store_reader(&self) -> Option<(&StoreReader, &AdminClient)> {
        match &self.kind {
            SubjectKind::Node { client, store, .. } => Some((store.as_ref()?, client)),
            SubjectKind::Other(_) => None,
        }
    }

    /// Removes the subscriptions from a node that goes on running.
    pub(super) async fn unsubscribe(&self) -> Result<(), CliError> {
        let SubjectKind::Node {
            client,
            is_own: false,
            webhooks,
            ..
        } = &self.kind
        else {
            return Ok(());
        };
        for webhook in webhooks {
            let url = client.url(&["webhooks", webhook], &[])?;
            client.call(Method::DELETE, url, None).await?;
        }
        Ok(())
    }
}

fn subscription(url: &str, label: &str, secret: Option<&Secret>) -> Value {
    json!({
        "url": url,
        "events": ["ticket:message.created"],
        "filter": filter_of_run(label),
        "description": "hookyard bench",
        "secret": secret.map(Secret::expose),
    })
}
