//! The configuration, section by section.

use std::path::PathBuf;
use std::time::Duration;

use super::c2s::C2sConfig;
use super::crm::CrmConfig;
use super::custom::CustomSourceConfig;
use super::delivery::DeliveryConfig;
use super::instagram::InstagramConfig;
use super::leads::LeadsConfig;
use super::secret::{EncryptionKey, Secret};

/// The whole configuration, complete and checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// `[server]`
    pub server: ServerConfig,
    /// `[store]`
    pub store: StoreConfig,
    /// `[admin]`
    pub admin: AdminConfig,
    /// `[router]`
    pub router: RouterConfig,
    /// `[entity]`
    pub entity: EntityConfig,
    /// `[calls]`
    pub calls: CallLogConfig,
    /// `[delivery]`
    pub delivery: DeliveryConfig,
    /// `[sources]`
    pub sources: SourcesConfig,
    /// `[telemetry]`
    pub telemetry: TelemetryConfig,
}

/// `[server]`: the HTTP side.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// Address and port to listen on.
    pub bind: String,
    /// Where senders reach the node, such as `https://hooks.example.com`, without a slash at its
    /// end.
    pub public_url: Option<String>,
    /// HTTP worker threads; 0 means one per core.
    pub workers: usize,
    /// The largest body that is read, in bytes.
    pub body_limit_bytes: usize,
    /// How long a whole request (head and body) may take to arrive.
    pub request_timeout: Duration,
    /// How long an idle connection is kept.
    pub keep_alive: Duration,
    /// The most connections open at once, over all workers.
    pub connections_max: usize,
    /// Proxies whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<ipnet::IpNet>,
    /// Failed authentications a minute per client address before 429 is answered instead of 401; 0
    /// means no limit.
    pub auth_failures_per_minute: u32,
    /// How long a stop may take before the process ends anyway.
    pub shutdown_grace: Duration,
}

/// When an answer may leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyncPolicy {
    /// After the event's frame is on the disk.
    Commit,
    /// At once; the disk follows within `sync_interval`.
    Interval,
}

/// `[store]`: the data folder.
#[derive(Clone, Debug)]
pub struct StoreConfig {
    /// The data folder.
    pub path: PathBuf,
    /// Memory for the store's page cache, in bytes.
    pub cache_bytes: u64,
    /// When an answer may leave.
    pub sync: SyncPolicy,
    /// The longest that `sync = "interval"` leaves an answered event off the disk.
    pub sync_interval: Duration,
    /// The most records that one commit takes.
    pub commit_records_max: usize,
    /// The most bytes of records that one commit takes.
    pub commit_bytes_max: usize,
    /// What secrets of subscribers are encrypted with on the disk; `None` means not at all.
    pub encryption_key: Option<EncryptionKey>,
}

/// `[admin]`: who may read.
#[derive(Clone, Debug)]
pub struct AdminConfig {
    /// The bearer token of the admin API.
    pub token: Secret,
}

/// `[router]`: admission and the live entities.
#[derive(Clone, Debug)]
pub struct RouterConfig {
    /// Supervisors, each on a thread of its own; 0 means one up to 4 cores and one for each 4 cores
    /// above.
    pub shards: usize,
    /// Messages that may wait for one actor.
    pub mailbox_capacity: usize,
    /// Events that may be between their request and their answer at once.
    pub in_flight_events_max: usize,
    /// Bytes of such events.
    pub in_flight_bytes_max: usize,
    /// How long an entity without events stays in memory.
    pub idle_timeout: Duration,
    /// The most entities in memory at once.
    pub live_entities_max: usize,
    /// Crashes of one entity within `restart_window` before it is quarantined.
    pub restarts_max: u32,
    /// The window in which crashes are counted.
    pub restart_window: Duration,
    /// How long a quarantined entity takes no events.
    pub quarantine: Duration,
    /// Records that reads may be behind the journal before new events are refused.
    pub projection_lag_max: u64,
}

/// `[entity]`: the size of one entity's state.
#[derive(Clone, Copy, Debug)]
pub struct EntityConfig {
    /// The most items that a collection in a state keeps.
    pub items_max: usize,
}

/// `[calls]`: the exchange log.
#[derive(Clone, Copy, Debug)]
pub struct CallLogConfig {
    /// The most rows of calls that were taken and of deliveries.
    pub rows_max: u64,
    /// The most rows of calls that were refused.
    pub refused_rows_max: u64,
}

/// `[sources]`: who sends.
#[derive(Clone, Debug)]
pub struct SourcesConfig {
    /// `[sources.support]`
    pub support: SupportConfig,
    /// `[sources.leads]`
    pub leads: LeadsConfig,
    /// `[[sources.custom]]`, in the order of the file.
    pub custom: Vec<CustomSourceConfig>,
    /// `[sources.crm]`
    pub crm: CrmConfig,
    /// `[sources.instagram]`
    pub instagram: InstagramConfig,
    /// `[sources.c2s]`
    pub c2s: C2sConfig,
}

/// What happens to an event of an entity that does not exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnknownEntityPolicy {
    /// The entity begins with this event.
    Create,
    /// The event fails with code 404.
    Reject,
}

/// `[sources.support]`: support tickets from a CRM.
#[derive(Clone, Debug)]
pub struct SupportConfig {
    /// Whether the endpoint exists.
    pub enabled: bool,
    /// API keys, any of which is taken.
    pub api_keys: Vec<Secret>,
    /// Signing secrets, any of which is taken (rotation).
    pub secrets: Vec<Secret>,
    /// How far a request's timestamp may be from the node's clock, either way.
    pub tolerance: Duration,
    /// Requests a minute for each API key; 0 means no limit.
    pub rate_per_minute: u32,
    /// What happens to an event of a ticket that does not exist.
    pub unknown_entity: UnknownEntityPolicy,
    /// How long an idempotency key is remembered.
    pub idempotency_window: Duration,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For a person at a terminal.
    Pretty,
    /// One JSON object a line.
    Json,
}

/// `[telemetry]`: what the node says of itself.
#[derive(Clone, Debug)]
pub struct TelemetryConfig {
    /// How log lines look.
    pub log: LogFormat,
    /// What is logged: a level, or `tracing` filter directives.
    pub level: String,
}
