//! The edge: what speaks HTTP. It reads, authenticates, limits and decodes requests, and words the answers.
//!
//! `api` lists every path with its methods, who may call it, its handler and its description; `context` is the shell around
//! all handlers; each source's folder has its checks in their order, its decoder and its answers.

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
pub mod address;
mod admin;
mod answer;
mod api;
mod available;
pub mod body;
pub mod c2s;
mod call;
mod configured;
mod context;
pub mod crm;
mod dead_letters;
pub mod docs;
pub mod error;
pub mod fault;
pub mod fields;
mod gate;
mod health;
pub mod instagram;
mod intake;
mod jobs;
pub mod leads;
pub mod limit;
pub mod limiter;
mod list;
pub mod methods;
mod misspelt;
mod operation;
mod query;
pub mod raw;
mod reads;
mod repeat;
mod routes;
pub mod signature;
mod source;
mod state;
pub mod support;
#[cfg(test)]
mod tests;
mod unread;
mod webhooks;

pub use gate::{Core, Gate};
pub use state::Edge;

/// Threads of each worker for what blocks. The handlers themselves never block; a few serve the reads.
const BLOCKING_THREADS: usize = 4;

/// Serves `edge` on `listener` until the server is stopped. Signals are left to the caller. Must be called within an
/// actix system; the server runs when it is awaited or spawned.
///
/// # Errors
/// Those of setting up the listener.
pub fn serve(edge: Arc<Edge>, listener: TcpListener) -> io::Result<Server> {
    let config = Arc::clone(&edge.config);
    let workers = workers(config.server.workers);
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
        .keep_alive(keep_alive(config.server.keep_alive))
        .client_request_timeout(config.server.request_timeout)
        .tcp_nodelay(true)
        .shutdown_timeout(limit::whole_seconds(config.server.shutdown_grace))
        .disable_signals()
        .listen(listener)?;
    Ok(server.run())
}

fn workers(configured: usize) -> usize {
    if configured > 0 { configured } else { thread::available_parallelism().map_or(1, usize::from) }
}

fn keep_alive(configured: Duration) -> KeepAlive {
    if configured.is_zero() { KeepAlive::Disabled } else { KeepAlive::Timeout(configured) }
}
