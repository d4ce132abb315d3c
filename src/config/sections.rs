//! Typed sections of the configuration, and the small enums of their choices.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::alerts::AlertsConfig;
use super::c2s::C2sConfig;
use super::cluster::ClusterConfig;
use super::crm::CrmConfig;
use super::custom::CustomSourceConfig;
use super::delivery::DeliveryConfig;
use super::draft::ConfigDraft;
use super::effective::EffectiveSetting;
use super::instagram::InstagramConfig;
use super::leads::LeadsConfig;
use super::problem::ConfigProblem;
use super::purpose::ConfigPurpose;
use super::secret::{EncryptionKey, Secret};
use super::server_tls::ServerTls;

/// Complete, validated configuration of a node.
#[derive(Clone, Debug)]
pub struct Config {
    /// Section `[server]`: address, limits and proxies.
    pub server: ServerConfig,
    /// Section `[store]`: data folder and durability.
    pub store: StoreConfig,
    /// Section `[admin]`: access to the admin API.
    pub admin: AdminConfig,
    /// Section `[audit]`: size of the audit log.
    pub audit: AuditConfig,
    /// Section `[dashboard]`: the pages for people.
    pub dashboard: DashboardConfig,
    /// Section `[router]`: admission and live entities.
    pub router: RouterConfig,
    /// Section `[entity]`: size of one state.
    pub entity: EntityConfig,
    /// Section `[call_log]`: size of the call log.
    pub call_log: CallLogConfig,
    /// Section `[delivery]`: delivery to subscribers.
    pub delivery: DeliveryConfig,
    /// Section `[alerts]`: conditions that the node announces.
    pub alerts: AlertsConfig,
    /// Section `[sources]`: senders and their contracts.
    pub sources: SourcesConfig,
    /// Section `[telemetry]`: logs, metrics and traces.
    pub telemetry: TelemetryConfig,
    /// Section `[cluster]`: the other nodes; `None` for a node on its own.
    pub cluster: Option<ClusterConfig>,
    /// All settings in force with their origins, the secrets masked.
    pub settings: Vec<EffectiveSetting>,
    /// Weaknesses that keep no node from starting, such as a short secret.
    pub warnings: Vec<ConfigProblem>,
    /// Settings as they were written, for the comparison with those of a reload.
    pub(super) written: Arc<ConfigDraft>,
    /// Purpose that the settings were validated for.
    pub(super) purpose: ConfigPurpose,
}

impl Config {
    /// Largest body of the source `custom`, in bytes: what its provider documents, if that is more
    /// than `server.body_limit_bytes`. At most an eighth of the bytes in flight, of which one entity
    /// may use a quarter, and the share of one caller in the memory for unproven bodies.
    #[must_use]
    pub fn body_limit_of(&self, custom: &CustomSourceConfig) -> usize {
        let documented = custom.source.signing.body_bytes_max().unwrap_or_default();
        let of_caller = self.server.unproven_bytes_max / 4;
        let affordable = of_caller.min(self.router.in_flight_bytes_max / 8);
        self.server.body_limit_bytes.max(documented.min(affordable))
    }
}

/// Section `[server]`: the HTTP server.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// Address and port to listen on.
    pub bind: String,
    /// Public base URL of the node, such as `https://hooks.example.com`, without a trailing slash.
    pub public_url: Option<String>,
    /// HTTP worker threads; 0 means one per core.
    pub workers: usize,
    /// Largest accepted request body, in bytes.
    pub body_limit_bytes: usize,
    /// Most bytes of bodies that have not arrived whole, and so prove nothing yet.
    pub unproven_bytes_max: usize,
    /// Deepest nesting of the JSON of an event.
    pub nesting_max: usize,
    /// Limit for the arrival of a whole request, head and body.
    pub request_timeout: Duration,
    /// Time in which a body may come as slowly as it likes.
    pub body_grace: Duration,
    /// Bytes that each second beyond the grace must bring on average; 0 for any number.
    pub body_bytes_per_s_min: u32,
    /// Time for which an idle connection stays open.
    pub keep_alive: Duration,
    /// Most open connections, over all workers.
    pub connections_max: usize,
    /// Most open connections of one client address, or of one /64 of IPv6; those of trusted proxies are
    /// not counted.
    pub connections_per_address_max: usize,
    /// Proxies whose `X-Forwarded-For` header is trusted.
    pub trusted_proxies: Vec<ipnet::IpNet>,
    /// Failed authentications a minute from one client address before the answer is 429 instead of
    /// 401; 0 means no limit.
    pub auth_failures_per_minute: u32,
    /// Answers to names of this machine only, as a node of `--dev` does.
    pub is_development: bool,
    /// Serves the documentation of the API to everyone.
    pub docs: bool,
    /// Certificate that the listeners present; `None` without TLS.
    pub tls: Option<ServerTls>,
    /// Limit of a graceful shutdown; after it the process exits anyway.
    pub shutdown_grace: Duration,
}

/// Condition for answering an accepted event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyncPolicy {
    /// Answers after the event's frame is synced to disk.
    Commit,
    /// Answers at once; the sync follows within `sync_interval`.
    Interval,
}

/// Section `[store]`: the data folder and its durability.
#[derive(Clone, Debug)]
pub struct StoreConfig {
    /// Data folder; it is created if missing.
    pub path: PathBuf,
    /// Memory of the page cache of the derived data, in bytes.
    pub cache_bytes: u64,
    /// Condition for answering an accepted event.
    pub sync: SyncPolicy,
    /// Longest time for which `sync = "interval"` leaves an answered event unsynced.
    pub sync_interval: Duration,
    /// Most records of one commit.
    pub commit_records_max: usize,
    /// Most bytes of the records of one commit.
    pub commit_bytes_max: usize,
    /// Size of a file of the journal, in bytes.
    pub segment_bytes: u64,
    /// Age at which events are removed; `None` keeps them for ever.
    pub retention: Option<Duration>,
    /// Size in bytes of the journal beyond which the oldest events are removed; `None` for no bound.
    pub max_bytes: Option<u64>,
    /// Key that encrypts everything that is stored; `None` stores it unencrypted.
    pub encryption_key: Option<EncryptionKey>,
    /// Keys that older content is encrypted with.
    pub former_encryption_keys: Vec<EncryptionKey>,
}

/// Section `[admin]`: access to the admin API.
#[derive(Clone, Debug)]
pub struct AdminConfig {
    /// Address and port of the listener of admin API, dashboard, metrics and documentation; `None` for
    /// that of `server.bind`.
    pub bind: Option<String>,
    /// The bearer token of the admin API.
    pub token: Secret,
    /// Most named tokens at the same time.
    pub tokens_max: usize,
}

/// Section `[audit]`: bounds of the audit log.
#[derive(Clone, Copy, Debug)]
pub struct AuditConfig {
    /// Most entries of what was done.
    pub entries_max: usize,
    /// Most entries of refused calls; counted separately, so strangers cannot displace the others.
    pub refused_entries_max: usize,
    /// Age at which entries are removed.
    pub keep_for: Duration,
}

/// Section `[dashboard]`: the pages for people at `/dashboard`.
#[derive(Clone, Copy, Debug)]
pub struct DashboardConfig {
    /// Switches the pages on; without them `/dashboard` answers 404.
    pub enabled: bool,
    /// Time after which a person has to log in again.
    pub session: Duration,
}

/// Section `[router]`: admission and the live entities.
#[derive(Clone, Debug)]
pub struct RouterConfig {
    /// Supervisors, each on its own thread; 0 means one for every 4 cores, rounded up.
    pub shards: usize,
    /// Messages that may wait in one actor's mailbox.
    pub mailbox_capacity: usize,
    /// Most events that are accepted but not yet answered.
    pub in_flight_events_max: usize,
    /// Most bytes of events that are accepted but not yet answered.
    pub in_flight_bytes_max: usize,
    /// Time without events after which an entity is passivated.
    pub idle_timeout: Duration,
    /// Most entities in memory at the same time.
    pub live_entities_max: usize,
    /// Crashes of one entity within `restart_window` before it is quarantined.
    pub restarts_max: u32,
    /// Time window in which crashes are counted.
    pub restart_window: Duration,
    /// Time for which a quarantined entity refuses events.
    pub quarantine: Duration,
    /// Records that the projection may lag behind the journal before new events are answered with
    /// 503.
    pub projection_lag_max: u64,
}

/// Section `[entity]`: the size of one entity's state.
#[derive(Clone, Copy, Debug)]
pub struct EntityConfig {
    /// Most items that a collection in a state keeps.
    pub items_max: usize,
}

/// Section `[call_log]`: the log of HTTP calls in and out.
#[derive(Clone, Copy, Debug)]
pub struct CallLogConfig {
    /// Most rows of accepted calls and accepted deliveries.
    pub rows_max: u64,
    /// Most rows of refused calls; counted separately, so refusals cannot displace accepted calls.
    pub refused_rows_max: u64,
    /// Most rows of failed deliveries; counted separately, so successes cannot displace failures.
    pub failed_rows_max: u64,
}

/// Section `[sources]`: senders and their contracts.
#[derive(Clone, Debug)]
pub struct SourcesConfig {
    /// Section `[sources.support]`: support tickets from a CRM.
    pub support: SupportConfig,
    /// Section `[sources.leads]`: pre-leads and leads from a CRM.
    pub leads: LeadsConfig,
    /// Section `[[sources.custom]]`, in the order of the file.
    pub custom: Vec<CustomSourceConfig>,
    /// Section `[sources.crm]`: the CRM's event bus.
    pub crm: CrmConfig,
    /// Section `[sources.instagram]`: messages of Instagram business accounts.
    pub instagram: InstagramConfig,
    /// Section `[sources.c2s]`: lead events of Contact2Sale.
    pub c2s: C2sConfig,
    /// Times for which the content of sources with days of their own is kept, by the sources' names.
    pub retention: BTreeMap<String, Duration>,
    /// Names of the sources whose callers need a client certificate.
    pub certified: BTreeSet<String>,
}

/// Treatment of an event whose entity does not exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnknownEntityPolicy {
    /// Creates the entity with this event.
    Create,
    /// Fails the event with code 404.
    Reject,
}

/// Section `[sources.support]`: support tickets from a CRM.
#[derive(Clone, Debug)]
pub struct SupportConfig {
    /// Switches the endpoint on; a disabled source answers 404.
    pub enabled: bool,
    /// API keys of the sender. Any of them is accepted, so keys can be rotated.
    pub api_keys: Vec<Secret>,
    /// Signing secrets. Any of them is accepted, so secrets can be rotated.
    pub secrets: Vec<Secret>,
    /// Largest difference between a request's timestamp and the node's clock, in either direction.
    pub tolerance: Duration,
    /// Most requests a minute with one API key; 0 means no limit.
    pub rate_per_minute: u32,
    /// Treatment of an event whose ticket does not exist.
    pub unknown_entity: UnknownEntityPolicy,
    /// Time for which an idempotency key is remembered.
    pub idempotency_window: Duration,
}

/// Format of the node's log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Readable lines for a terminal.
    Pretty,
    /// One JSON object on each line.
    Json,
}

/// Section `[telemetry]`: logs, metrics and traces.
#[derive(Clone, Debug)]
pub struct TelemetryConfig {
    /// Format of the node's log lines.
    pub log: LogFormat,
    /// Log level, or filter directives of `tracing`.
    pub level: String,
    /// Token of `/metrics`; empty leaves it open to anyone.
    pub metrics_token: Secret,
    /// Base URL of the collector that gets traces, without a slash at its end; `None` exports none.
    pub otlp_endpoint: Option<String>,
    /// Headers of each export, such as `Authorization: Bearer …`; their names and values are valid.
    pub otlp_headers: Vec<Secret>,
    /// Share of the traces that are exported, from 0 to 1, if no sender has decided.
    pub otlp_sampling_ratio: f64,
    /// Spans that wait for their export; more are dropped.
    pub otlp_queue_spans: usize,
}
