//! State that the work on all events shares, and the errors that end it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;

use super::breaker::{ServerBreaker, ServerBreakerDecision, ServerBreakerPolicy, ServerCallPermit};
use super::client::{EnrichmentClient, ServerCallOutcome};
use super::progress_table::ProgressTable;
use crate::call_log::CallLog;
use crate::clock::Clock;
use crate::config;
use crate::journal::{DataStore, StoreWriteError};
use crate::projection::{ProjectionReadError, ProjectionReader};
use crate::router::Router;

/// Why enrichment cannot go on. The store must be opened anew, or the configuration changed.
#[derive(Debug, thiserror::Error)]
pub enum EnrichmentError {
    /// What is done cannot be noted.
    #[error("cannot write what is done of enrichments")]
    Store(#[from] StoreWriteError),
    /// What is owed cannot be read.
    #[error(transparent)]
    Reads(#[from] ProjectionReadError),
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
pub struct EnrichmentDeps {
    /// Where conclusions go.
    pub router: Arc<Router>,
    /// Where what is owed is found.
    pub reads: ProjectionReader,
    /// Where is noted what is done.
    pub store: Arc<DataStore>,
    /// What is told of each call.
    pub exchange: Arc<CallLog>,
    /// The time.
    pub clock: Arc<dyn Clock>,
}

/// What the work on all events shares.
pub(super) struct EnrichmentContext {
    pub(super) config: config::EnrichmentConfig,
    pub(super) caller: EnrichmentClient,
    pub(super) rows: ProgressTable,
    pub(super) exchange: Arc<CallLog>,
    pub(super) router: Arc<Router>,
    pub(super) reads: ProjectionReader,
    pub(super) clock: Arc<dyn Clock>,
    breakers: Mutex<HashMap<String, ServerBreaker>>,
    pub(super) stopping: watch::Receiver<Option<Duration>>,
}

impl EnrichmentContext {
    pub(super) fn try_new(
        config: &config::EnrichmentConfig,
        parts: EnrichmentDeps,
        stopping: watch::Receiver<Option<Duration>>,
    ) -> Result<Self, EnrichmentError> {
        let EnrichmentDeps {
            router,
            reads,
            store,
            exchange,
            clock,
        } = parts;
        Ok(Self {
            caller: EnrichmentClient::new(config)?,
            rows: ProgressTable::open(&store)?,
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
    pub(super) fn acquire_permit(&self, origin: &str) -> ServerBreakerDecision {
        self.with_breaker(origin, |breaker, now| breaker.try_acquire(now))
    }

    /// Tells the breaker what the call came to that it let through.
    pub(super) fn record_outcome(
        &self,
        origin: &str,
        pass: ServerCallPermit,
        answer: &ServerCallOutcome,
    ) {
        self.with_breaker(origin, |breaker, now| match answer {
            ServerCallOutcome::Transient { .. } => breaker.record_failure(pass, now),
            ServerCallOutcome::Good(_)
            | ServerCallOutcome::Missing
            | ServerCallOutcome::Refused { .. } => breaker.record_success(pass),
        });
    }

    fn with_breaker<T>(
        &self,
        origin: &str,
        act: impl FnOnce(&mut ServerBreaker, Duration) -> T,
    ) -> T {
        let now = self.clock.monotonic();
        let policy = ServerBreakerPolicy {
            failures: self.config.breaker_failures,
            open: self.config.breaker_open,
        };
        let mut breakers = self.breakers.lock();
        // As many as there are servers in the configuration.
        let breaker = breakers
            .entry(origin.to_owned())
            .or_insert_with(|| ServerBreaker::new(policy));
        act(breaker, now)
    }

    /// Runs `act` where it may block.
    pub(super) async fn with_progress_table<T: Send + 'static>(
        &self,
        act: impl FnOnce(&ProgressTable) -> Result<T, StoreWriteError> + Send + 'static,
    ) -> Result<T, EnrichmentError> {
        let rows = self.rows.clone();
        let done = tokio::task::spawn_blocking(move || act(&rows)).await;
        Ok(done.map_err(|_| EnrichmentError::Panicked)??)
    }
}
