//! The edge: what speaks HTTP. It reads, authenticates, limits and decodes requests, and words the answers.
//!
//! | path | methods | who |
//! |---|---|---|
//! | `/api/v0/crm/webhooks/support/` | POST | senders with an API key and a signature |
//! | `/api/v1/webhooks/incoming`, and 16 paths under it | POST | senders, with a signature if there are secrets |
//! | `/in/{name}` | POST, of some GET | senders that the configuration describes |
//! | `/webhooks/instagram` | GET, POST | Instagram, with the verify token or a signature |
//! | `/api/v1/accounts` | GET, POST | the admin |
//! | `/api/v1/accounts/{account_id}` | GET, PUT, DELETE | the admin |
//! | `/api/v1/accounts/{account_id}/messages` | POST | publishers of the CRM's event bus, the admin |
//! | `/api/v1/webhooks/c2s` | POST | senders with a token |
//! | `/api/v1/entities/{kind}`, `…/{id}`, `…/{id}/timeline` | GET | the admin |
//! | `/api/v1/events` | POST | publishers of the CRM's event bus, the admin |
//! | `/api/v1/events`, `…/{event_id}` | GET | the admin |
//! | `/api/v1/webhooks` | GET, POST | the admin |
//! | `/api/v1/webhooks/{id}` | GET, PUT, DELETE | the admin |
//! | `/api/v1/webhooks/{id}/deliveries` | GET | the admin |
//! | `/api/v1/webhooks/{id}/rotate-secret`, `…/pause`, `…/resume`, `…/test` | POST | the admin |
//! | `/api/v1/webhooks/events/available` | GET | the admin |
//! | `/api/v1/events/{event_id}/reprocess` | POST | the admin |
//! | `/api/v1/webhooks/logs`, `…/{log_id}` | GET | the admin |
//! | `/api/v1/dead-letters`, `…/{dead_letter_id}` | GET, DELETE | the admin |
//! | `/api/v1/dead-letters/retry`, `…/{dead_letter_id}/retry` | POST | the admin |
//! | `/api/v1/jobs`, `…/{job_id}` | GET | the admin |
//! | `/api/v1/jobs/{job_id}/cancel` | POST | the admin |
//! | `/api/v1/webhooks/{id}/recover`, `…/replay` | POST | the admin |
//! | `/healthz`, `/readyz`, `/docs`, `/docs/guide/{topic}`, `/openapi.json` | GET | anyone |

use std::io;
use std::net::{IpAddr, TcpListener};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use actix_web::dev::Server;
use actix_web::http::KeepAlive;
use actix_web::web::{self, Data};
use actix_web::{App, HttpRequest, HttpServer};

mod accounts;
pub mod address;
mod admin;
mod answer;
mod available;
pub mod body;
pub mod c2s;
mod call;
mod configured;
pub mod crm;
mod dead_letters;
pub mod docs;
pub mod error;
pub mod fields;
mod gate;
mod health;
pub mod instagram;
mod intake;
mod jobs;
pub mod leads;
pub mod limit;
pub mod limiter;
mod misspelt;
mod query;
pub mod raw;
mod reads;
mod repeat;
mod routes;
pub mod signature;
pub mod support;
#[cfg(test)]
mod tests;
mod unread;
mod webhooks;

pub use gate::{Core, Gate};

use crate::clock::Clock;
use crate::config::Config;
use crate::subscription::Vocabulary;
use c2s::C2s;
use configured::Configured;
use error::Error;
use leads::Leads;
use limiter::Limiter;
use support::Support;

/// Threads of each worker for what blocks. The handlers themselves never block; a few serve the reads.
const BLOCKING_THREADS: usize = 4;

/// What all handlers share.
pub struct Edge {
    config: Arc<Config>,
    clock: Arc<dyn Clock>,
    gate: Gate,
    failures: Limiter<IpAddr>,
    support: Support,
    leads: Leads,
    configured: Vec<Configured>,
    published: crm::Catalogue,
    instagram: instagram::Instagram,
    c2s: C2s,
    vocabulary: Vocabulary,
}

impl std::fmt::Debug for Edge {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Edge").field("gate", &self.gate).finish_non_exhaustive()
    }
}

impl Edge {
    /// An edge that sends what it takes in through `gate`.
    #[must_use]
    pub fn new(config: Arc<Config>, clock: Arc<dyn Clock>, gate: Gate) -> Self {
        let failures = Limiter::new(config.server.auth_failures_per_minute);
        let support = Support::new(&config.sources.support);
        let leads = Leads::new(&config.sources.leads);
        let configured = config.sources.custom.iter().map(Configured::new).collect();
        let published = crm::Catalogue::new(&config.sources.crm);
        let instagram = instagram::Instagram::new(&config.sources.instagram);
        let c2s = C2s::new(&config.sources.c2s);
        let vocabulary = Vocabulary::new(&config.sources);
        Self { config, clock, gate, failures, support, leads, configured, published, instagram, c2s, vocabulary }
    }

    fn support(&self) -> &Support {
        &self.support
    }

    fn leads(&self) -> &Leads {
        &self.leads
    }

    fn published(&self) -> &crm::Catalogue {
        &self.published
    }

    fn instagram(&self) -> &instagram::Instagram {
        &self.instagram
    }

    fn c2s(&self) -> &C2s {
        &self.c2s
    }

    fn vocabulary(&self) -> &Vocabulary {
        &self.vocabulary
    }

    fn core(&self) -> Result<Arc<Core>, Error> {
        self.gate.current().ok_or(Error::Unavailable)
    }

    fn bounds(&self) -> body::Bounds {
        body::Bounds { bytes_max: self.config.server.body_limit_bytes, time: self.config.server.request_timeout }
    }

    fn client(&self, request: &HttpRequest) -> IpAddr {
        address::client(request, &self.config.server.trusted_proxies)
    }

    /// Counts a failed authentication of the client of `request`: `error`, unless that client failed too often.
    fn count_failure(&self, request: &HttpRequest, error: Error) -> Error {
        let counted = self.failures.admit(address::network(self.client(request)), self.clock.monotonic());
        counted.err().map_or(error, Error::RateLimited)
    }
}

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
            .default_service(web::route().to(routes::not_found))
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
