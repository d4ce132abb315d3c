//! Connections to the cluster's database, and the check that its server loses no acknowledged commit.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;
use tokio_postgres::Client;
use tokio_postgres_rustls::MakeRustlsConnect;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::crypto::ring;
use tracing::debug;

use super::error::ClusterError;
use crate::config::ClusterConfig;
use crate::trusted_roots::read_roots;

/// Longest wait for a connection, and for the answer to a statement of a node that does not lead.
pub(super) const OPERATION_TIMEOUT: Duration = Duration::from_secs(3);

/// Settings that each connection sets. A commit waits for the synchronous standbys, and a broken
/// connection ends its transaction soon, so that a row that it has locked is free again.
const SESSION_SETTINGS: &str = "
    SET synchronous_commit = 'on';
    SET tcp_user_timeout = 5000;
    SET idle_in_transaction_session_timeout = 5000;
    SET lock_timeout = 5000;";

/// Settings of the server that decide if an acknowledged commit can be lost.
const DURABILITY_SETTINGS: &str = "
    SELECT current_setting('fsync'), current_setting('full_page_writes'),
           current_setting('synchronous_standby_names')";

/// Address of the cluster's database, with what is needed to connect to it. Cheap to clone.
#[derive(Clone)]
pub struct Database {
    server: Arc<tokio_postgres::Config>,
    tls: MakeRustlsConnect,
}

impl Database {
    /// Prepares connections to the database of `config`.
    ///
    /// # Errors
    /// [`ClusterError`] when TLS cannot be set up.
    pub fn from_config(config: &ClusterConfig) -> Result<Self, ClusterError> {
        let roots = read_roots("cluster.ca_files", &config.ca_files)?;
        let tls = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let mut server = config.server.clone();
        server
            .application_name(format!("hookyard {}", config.node_id))
            .connect_timeout(OPERATION_TIMEOUT);
        Ok(Self {
            server: Arc::new(server),
            tls: MakeRustlsConnect::new(tls),
        })
    }

    /// Connects. The connection lives as long as the client; its task runs on the runtime of the caller.
    ///
    /// # Errors
    /// [`ClusterError`] when the server cannot be reached or refuses the node.
    pub(super) async fn connect(&self) -> Result<Client, ClusterError> {
        let connecting = async {
            let connected = self.server.connect(self.tls.clone()).await;
            let (client, connection) = connected.map_err(ClusterError::Connect)?;
            tokio::spawn(async move {
                // The client's statements report the same error.
                if let Err(error) = connection.await {
                    debug!(%error, "connection to the cluster's database ended");
                }
            });
            client.batch_execute(SESSION_SETTINGS).await?;
            Ok(client)
        };
        in_time(OPERATION_TIMEOUT, connecting).await
    }
}

/// Returns the result of `operation`, or an error after `limit`.
///
/// # Errors
/// Those of `operation`, and [`ClusterError::Timeout`].
pub(super) async fn in_time<T>(
    limit: Duration,
    operation: impl Future<Output = Result<T, ClusterError>>,
) -> Result<T, ClusterError> {
    let result = timeout(limit, operation).await;
    result.unwrap_or(Err(ClusterError::Timeout(limit)))
}

/// Describes the settings of the server with which it may lose an acknowledged commit; `None` if there
/// are none.
///
/// # Errors
/// [`ClusterError`] when the database fails.
pub(super) async fn find_weakness(client: &Client) -> Result<Option<String>, ClusterError> {
    let row = client.query_one(DURABILITY_SETTINGS, &[]).await?;
    let (fsync, full_page_writes, standbys): (&str, &str, &str) =
        (row.get(0), row.get(1), row.get(2));
    let weaknesses = [
        (fsync != "on", "fsync is off"),
        (full_page_writes != "on", "full_page_writes is off"),
        (
            standbys.trim().is_empty(),
            "synchronous_standby_names is empty, so a commit is on one server only",
        ),
    ];
    let found: Vec<&str> = weaknesses
        .iter()
        .filter(|(is_weak, _)| *is_weak)
        .map(|(_, text)| *text)
        .collect();
    Ok((!found.is_empty()).then(|| found.join("; ")))
}
