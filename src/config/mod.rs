//! Operator's settings: one struct for each section of the TOML file. Defaults and their reasons
//! stand in `config/default.toml`.

mod alerts;
mod c2s;
mod cluster;
mod crm;
mod custom;
mod delivery;
mod dev;
mod draft;
mod effective;
mod file_permissions;
mod instagram;
mod leads;
mod live_config;
mod load;
mod outbound_credentials;
mod problem;
mod purpose;
mod restart_keys;
mod secret;
mod sections;
mod server_tls;
mod setting;
mod text_template;
mod values;
mod web_url;

pub use alerts::AlertsConfig;
pub use c2s::{C2sConfig, EnrichmentConfig};
pub use cluster::ClusterConfig;
pub use crm::{CrmConfig, DeclaredBusEvent};
pub use custom::CustomSourceConfig;
pub use delivery::{
    BreakerConfig, CONCURRENCY_MAX, DeliveryConfig, ExhaustionPolicy, RETRIES_MAX,
    RETRY_PAUSE_MAX_S, TIMEOUT_MAX_S,
};
pub use dev::{DEV_KEYS, DevKey, DevSecrets, DevSecretsError};
pub(crate) use draft::env_variable_name;
pub use draft::{ConfigDraft, DEFAULTS};
pub use effective::{EffectiveSetting, is_secret_key};
pub use instagram::{AutoReply, COOLDOWN_MAX_S, InstagramConfig, REPLY_MAX_BYTES};
pub use leads::{LeadSignatureLayout, LeadsConfig};
pub use live_config::{ConfigReload, LiveConfig};
pub use load::load_config;
pub use outbound_credentials::{ClientAuthentication, OAuth2Client, OutboundCredential};
pub use problem::{ConfigError, ConfigProblem};
pub use purpose::ConfigPurpose;
pub use restart_keys::{ConfigChanges, needs_restart};
pub use secret::{EncryptionKey, Secret};
pub use sections::{
    AdminConfig, AuditConfig, CallLogConfig, Config, DashboardConfig, EntityConfig, LogFormat,
    RouterConfig, ServerConfig, SourcesConfig, StoreConfig, SupportConfig, SyncPolicy,
    TelemetryConfig, UnknownEntityPolicy,
};
pub use server_tls::{ServerTls, read_subject};
pub use text_template::TextTemplate;
pub use web_url::{URL_MAX_BYTES, WebUrlError, is_web_url, parse_web_url};
