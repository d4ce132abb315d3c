//! HTTP in: reads, authenticates, limits and decodes requests, and builds the answers.
//!
//! `api` lists every path with its methods, its access rule, its handler and its description;
//! `context` is the shell around all handlers; each source's folder has its checks in their order,
//! its decoder and its answers.

use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use actix_web::dev::Server;
use actix_web::http::KeepAlive;
use actix_web::web::Data;
use actix_web::{App, HttpServer};

mod accounts;
mod admin;
mod answer;
mod api;
mod available_events;
mod backup_streams;
mod backups;
mod blocking;
pub mod body;
pub mod c2s;
mod call;
pub mod client_address;
mod clock;
mod configured;
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
mod gate;
mod health;
mod idempotency;
pub mod instagram;
mod jobs;
pub mod leads;
mod list;
pub mod methods;
mod metrics;
mod operation;
mod proof_headers;
mod query;
pub mod rate_limiter;
pub mod raw_json;
mod reads;
mod routes;
pub mod signature;
pub mod sliding_window;
mod source;
mod state;
mod submit;
mod suggest;
pub mod support;
#[cfg(test)]
mod tests;
mod undrained;
mod webhooks;

pub use gate::{CoreGate, NodeCore};
pub use state::Edge;

/// Blocking threads of each worker. Handlers never block; these threads serve reads and definition
/// writes, which wait for the disk.
const BLOCKING_THREADS: usize = 4;

/// Serves `edge` on `listener` until the server is stopped. The caller handles signals. Must be
/// called within an actix system; the server runs when it is awaited or spawned.
///
/// # Errors
/// I/O errors of registering the listener.
pub fn serve(edge: Arc<Edge>, listener: TcpListener) -> io::Result<Server> {
    let config = Arc::clone(&edge.config);
    if config.dashboard.enabled {
        actix_rt::spawn(dashboard::state::sample_metrics(
            Arc::downgrade(&edge.dashboard),
            Arc::clone(&edge.metrics),
            Arc::clone(&edge.clock),
        ));
    }
    let workers = worker_count(config.server.workers);
    let data = Data::from(edge);
    let app = move || {
        App::new()
            .app_data(data.clone())
            .configure(|service| routes::configure(service, &data.config))
            .default_service(routes::not_found())
    };

    let server = HttpServer::new(app)
        .workers(workers)
        .worker_max_blocking_threads(BLOCKING_THREADS)
        .max_connections(config.server.connections_max.div_ceil(workers).max(1))
        .keep_alive(to_keep_alive(config.server.keep_alive))
        .client_request_timeout(config.server.request_timeout)
        .tcp_nodelay(true)
        .shutdown_timeout(sliding_window::ceil_seconds(config.server.shutdown_grace))
        .disable_signals()
        .listen(listener)?;

    Ok(server.run())
}

fn worker_count(configured: usize) -> usize {
    if configured > 0 {
        configured
    } else {
        thread::available_parallelism().map_or(1, usize::from)
    }
}

fn to_keep_alive(timeout: Duration) -> KeepAlive {
    if timeout.is_zero() {
        KeepAlive::Disabled
    } else {
        KeepAlive::Timeout(timeout)
    }
}
