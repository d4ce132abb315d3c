//! Connections to the cluster's database, and the check that its server loses no acknowledged commit.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::timeout;
use tokio_postgres::Client;
use tokio_postgres::config::{Host, TargetSessionAttrs};
use tokio_postgres_rustls::MakeRustlsConnect;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::crypto::ring;
use tracing::debug;

use super::error::ClusterError;
use crate::config::ClusterConfig;
use crate::trusted_roots::read_roots;

/// Longest wait for a connection to one server: a few round trips, also with TLS.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// Longest wait for the answer to a statement of a node that does not lead.
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
    /// Settings for each host of the URL.
    servers: Arc<[tokio_postgres::Config]>,
    /// Index of the server that is tried first: the one that was connected last.
    first: Arc<AtomicUsize>,
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
        Ok(Self {
            servers: split_hosts(&config.server, &config.node_id).into(),
            first: Arc::default(),
            tls: MakeRustlsConnect::new(tls),
        })
    }

    /// Tries another server first from now on.
    pub(super) fn avoid_last(&self) {
        self.first.fetch_add(1, Ordering::Relaxed);
    }

    /// Connects to the first server that takes writes. The connection lives as long as the client; its task
    /// runs on the runtime of the caller.
    ///
    /// # Errors
    /// [`ClusterError`] of the last server when none can be reached, or all refuse the node.
    pub(super) async fn connect(&self) -> Result<Client, ClusterError> {
        let first = self.first.load(Ordering::Relaxed);
        let mut last_error = None;
        for index in first..first + self.servers.len() {
            match self
                .connect_server(&self.servers[index % self.servers.len()])
                .await
            {
                Ok(client) => {
                    self.first.store(index, Ordering::Relaxed);
                    return Ok(client);
                }
                Err(error) => last_error = Some(error),
            }
        }
        Err(last_error.unwrap_or(ClusterError::Malformed("list of hosts")))
    }

    async fn connect_server(
        &self,
        server: &tokio_postgres::Config,
    ) -> Result<Client, ClusterError> {
        let connecting = async {
            let connected = server.connect(self.tls.clone()).await;
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
        in_time(CONNECT_TIMEOUT, connecting).await
    }
}

/// Returns the settings of `server` for each of its hosts alone. tokio-postgres has one time limit for each
/// address, and a host that answers nothing must not take the time of those after it.
fn split_hosts(server: &tokio_postgres::Config, node_id: &str) -> Vec<tokio_postgres::Config> {
    let (hosts, ports) = (server.get_hosts(), server.get_ports());
    let of_host = |(index, host): (usize, &Host)| {
        let mut single = tokio_postgres::Config::new();
        match host {
            Host::Tcp(host) => single.host(host),
            Host::Unix(folder) => single.host_path(folder),
        };
        if let Some(port) = ports.get(index).or(ports.first()) {
            single.port(*port);
        }
        if let Some(user) = server.get_user() {
            single.user(user);
        }
        if let Some(password) = server.get_password() {
            single.password(password);
        }
        if let Some(database) = server.get_dbname() {
            single.dbname(database);
        }
        if let Some(options) = server.get_options() {
            single.options(options);
        }
        // A standby cannot take a write, whatever the URL says.
        single
            .ssl_mode(server.get_ssl_mode())
            .channel_binding(server.get_channel_binding())
            .target_session_attrs(TargetSessionAttrs::ReadWrite)
            .application_name(format!("hookyard {node_id}"))
            .tcp_user_timeout(OPERATION_TIMEOUT);
        single
    };
    hosts.iter().enumerate().map(of_host).collect()
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

/// Describes the weakness of a server with these `synchronous_standby_names`; `None` if it has one.
pub(super) fn describe_standbys(names: &str) -> Option<&'static str> {
    let text = "synchronous_standby_names is empty, so a commit is on one server only";
    names.trim().is_empty().then_some(text)
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
    ];
    let found: Vec<&str> = weaknesses
        .iter()
        .filter(|(is_weak, _)| *is_weak)
        .map(|(_, text)| *text)
        .chain(describe_standbys(standbys))
        .collect();
    Ok((!found.is_empty()).then(|| found.join("; ")))
}
