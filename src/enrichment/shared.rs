//! State that the work on all events shares, and the errors that end it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;

use super::breaker::{Breaker, Pass, Policy, Verdict};
use super::client::{Answer, Caller};
use super::progress::Rows;
use crate::clock::Clock;
use crate::config;
use crate::exchange::Exchange;
use crate::journal::{Store, WriteError};
use crate::projection::{Reads, Unavailable};
use crate::router::Router;

/// Why enrichment cannot go on. The store must be opened anew, or the configuration changed.
#[derive(Debug, thiserror::Error)]
pub enum Failed {
    /// What is done cannot be noted.
    #[error("cannot write what is done of enrichments")]
    Store(#[from] WriteError),
    /// What is owed cannot be read.
    #[error(transparent)]
    Reads(#[from] Unavailable),
    /// TLS cannot be set up.
    #[error("cannot set up the client for enrichments")]
    Client(#[from] reqwest::Error),
    /// The thread could not be started.
    #[error("cannot start the thread for enrichments")]
    Thread(#[from] std::io::Error),
    /// A part of it panicked.
    #[error("an enrichment panicked")]
    Panicked,
}

/// What enrichment rests on, of one opening of the store.
pub struct Parts {
    /// Where conclusions go.
    pub router: Arc<Router>,
    /// Where what is owed is found.
    pub reads: Reads,
    /// Where is noted what is done.
    pub store: Arc<Store>,
    /// What is told of each call.
    pub exchange: Arc<Exchange>,
    /// The time.
    pub clock: Arc<dyn Clock>,
}

/// What the work on all events shares.
pub(super) struct Shared {
    pub(super) config: config::Enrichment,
    pub(super) caller: Caller,
    pub(super) rows: Rows,
    pub(super) exchange: Arc<Exchange>,
    pub(super) router: Arc<Router>,
    pub(super) reads: Reads,
    pub(super) clock: Arc<dyn Clock>,
    breakers: Mutex<HashMap<String, Breaker>>,
    pub(super) stopping: watch::Receiver<Option<Duration>>,
}

impl Shared {
    pub(super) fn try_new(
        config: &config::Enrichment,
        parts: Parts,
        stopping: watch::Receiver<Option<Duration>>,
    ) -> Result<Self, Failed> {
        let Parts { router, reads, store, exchange, clock } = parts;
        Ok(Self {
            caller: Caller::new(config)?,
            rows: Rows::open(&store)?,
            exchange,
            config: config.clone(),
            router,
            reads,
            clock,
            breakers: Mutex::default(),
            stopping,
        })
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.stopping.borrow().is_some()
    }

    /// Asks the breaker of the server at `url`, an origin.
    pub(super) fn ask(&self, origin: &str) -> Verdict {
        self.with_breaker(origin, |breaker, now| breaker.ask(now))
    }

    /// Tells the breaker what the call came to that it let through.
    pub(super) fn tell(&self, origin: &str, pass: Pass, answer: &Answer) {
        self.with_breaker(origin, |breaker, now| match answer {
            Answer::Transient { .. } => breaker.failed(pass, now),
            Answer::Good(_) | Answer::Missing | Answer::Refused { .. } => breaker.answered(pass),
        });
    }

    fn with_breaker<T>(&self, origin: &str, act: impl FnOnce(&mut Breaker, Duration) -> T) -> T {
        let now = self.clock.monotonic();
        let policy = Policy { failures: self.config.breaker_failures, open: self.config.breaker_open };
        let mut breakers = self.breakers.lock();
        // As many as there are servers in the configuration.
        let breaker = breakers.entry(origin.to_owned()).or_insert_with(|| Breaker::new(policy));
        act(breaker, now)
    }

    /// Runs `act` where it may block.
    pub(super) async fn with_rows<T: Send + 'static>(
        &self,
        act: impl FnOnce(&Rows) -> Result<T, WriteError> + Send + 'static,
    ) -> Result<T, Failed> {
        let rows = self.rows.clone();
        let done = tokio::task::spawn_blocking(move || act(&rows)).await;
        Ok(done.map_err(|_| Failed::Panicked)??)
    }
}
