//! What an operator can set: the sections of the TOML file, each key with its reason. Defaults stand in `config/default.toml`.

mod c2s;
mod crm;
mod custom;
mod delivery;
mod dev;
mod draft;
mod instagram;
mod leads;
mod load;
mod problem;
mod secret;
mod sections;
mod setting;
mod template;
mod values;

pub use c2s::{C2s, Enrichment};
pub use crm::{Crm, Declared};
pub use custom::Custom;
pub use delivery::{Breaker, CONCURRENCY_MAX, Delivery, OnExhausted, RETRIES_MAX, RETRY_PAUSE_MAX_S, TIMEOUT_MAX_S};
pub use dev::{DEV_KEYS, DevKey, DevSecrets, NotDevSecrets};
pub use draft::Draft;
pub use instagram::{AutoReply, COOLDOWN_MAX_S, Instagram, REPLY_MAX_BYTES, URL_MAX_BYTES, is_web_url};
pub use leads::Leads;
pub use load::{Purpose, load};
pub use problem::{Problem, Problems};
pub use secret::{EncryptionKey, Secret};
pub use sections::{
    Admin, Calls, Config, Entity, LogFormat, Router, Server, Sources, Store, Support, Sync, Telemetry, UnknownEntity,
};
pub use template::Template;
