//! HTTP in: reads, authenticates, limits and decodes requests, and builds the answers.
//!
//! `api` lists every path with its methods, its access rule, its handler and its description;
//! `context` is the shell around all handlers; each source's folder has its checks in their order,
//! its decoder and its answers.

mod access;
mod accounts;
mod answer;
mod api;
mod audit;
mod audit_trail;
mod available_events;
mod backup_streams;
mod backups;
mod blocking;
pub mod body;
mod browser_guard;
pub mod c2s;
mod call;
mod caller;
mod chunk_body;
pub mod client_address;
mod clock;
mod configured;
mod connection_counts;
mod context;
pub mod crm;
mod dashboard;
mod dead_letters;
pub mod docs;
mod entity_reference;
mod erasures;
pub mod error;
pub mod field_error;
pub mod fields;
mod forwarding;
mod gate;
mod guarded_stream;
mod health;
mod http_server;
mod idempotency;
pub mod instagram;
mod jobs;
pub mod leads;
mod list;
mod listener_role;
mod live_app;
mod live_edge;
pub mod methods;
mod metrics;
mod operation;
mod proof_headers;
#[cfg(test)]
mod property_tests;
mod proven_networks;
mod query;
pub mod rate_limiter;
pub mod raw_json;
mod reads;
mod refusal_lines;
mod reload;
mod request_forwarder;
pub mod request_trial;
mod routes;
mod server_stream;
pub mod signature;
pub mod sliding_window;
mod source;
mod state;
mod storage_sizes;
mod submit;
mod suggest;
pub mod support;
#[cfg(test)]
mod tests;
mod tokens;
mod undrained;
mod unproven_bodies;
mod webhooks;

pub use gate::{CoreGate, NodeCore};
pub use http_server::{ADMIN_CONNECTIONS_MAX, serve};
pub use listener_role::ListenerRole;
pub use live_edge::LiveEdge;
pub use reload::reload_at_signal;
pub use state::Edge;
