//! Context of the enrichment stage: the configuration, clients and breakers that all runs share.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;

use super::breaker::{ServerBreaker, ServerBreakerDecision, ServerBreakerPolicy, ServerCallPermit};
use super::client::{EnrichmentClient, ServerCallOutcome};
use super::error::EnrichmentError;
use super::progress_table::ProgressTable;
use crate::call_log::CallLog;
use crate::clock::Clock;
use crate::config;
use crate::projection::ProjectionReader;
use crate::router::Router;
use crate::table_store::{TableStore, TableWriteError};

/// Parts of the node that enrichment uses, for one opening of the store.
pub struct EnrichmentDeps {
    /// Router that receives the resolutions.
    pub router: Arc<Router>,
    /// Reader for the pending events.
    pub reads: ProjectionReader,
    /// Tables with the progress table.
    pub tables: Arc<TableStore>,
    /// Call log that records each call.
    pub call_log: Arc<CallLog>,
    /// Clock for times and durations.
    pub clock: Arc<dyn Clock>,
}

/// State that the runs of all events share.
pub(super) struct EnrichmentContext {
    pub(super) config: config::EnrichmentConfig,
    pub(super) client: EnrichmentClient,
    pub(super) progress_table: ProgressTable,
    pub(super) call_log: Arc<CallLog>,
    pub(super) router: Arc<Router>,
    pub(super) reads: ProjectionReader,
    pub(super) clock: Arc<dyn Clock>,
    /// Circuit breakers by the origin of their server; only servers in the configuration are
    /// called, which bounds the map.
    breakers: Mutex<HashMap<String, ServerBreaker>>,
    pub(super) stopping: watch::Receiver<Option<Duration>>,
}

impl EnrichmentContext {
    /// # Errors
    /// [`EnrichmentError`] when the HTTP client cannot be set up.
    pub(super) fn try_new(
        config: &config::EnrichmentConfig,
        deps: EnrichmentDeps,
        stopping: watch::Receiver<Option<Duration>>,
    ) -> Result<Self, EnrichmentError> {
        let EnrichmentDeps {
            router,
            reads,
            tables,
            call_log,
            clock,
        } = deps;

        Ok(Self {
            client: EnrichmentClient::new(config)?,
            progress_table: ProgressTable::open(&tables),
            call_log,
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

    /// Asks the circuit breaker of the server at `origin` for a permit.
    pub(super) fn acquire_permit(&self, origin: &str) -> ServerBreakerDecision {
        self.with_breaker(origin, |breaker, now| breaker.try_acquire(now))
    }

    /// Reports the outcome of a call to the circuit breaker that permitted it.
    pub(super) fn record_outcome(
        &self,
        origin: &str,
        permit: ServerCallPermit,
        outcome: &ServerCallOutcome,
    ) {
        self.with_breaker(origin, |breaker, now| match outcome {
            ServerCallOutcome::Transient { .. } => breaker.record_failure(permit, now),
            ServerCallOutcome::Good(_)
            | ServerCallOutcome::Missing
            | ServerCallOutcome::Refused { .. } => breaker.record_success(permit),
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
        let breaker = breakers
            .entry(origin.to_owned())
            .or_insert_with(|| ServerBreaker::new(policy));
        act(breaker, now)
    }

    /// Runs `act` with the progress table, on a thread that may block.
    pub(super) async fn with_progress_table<T: Send + 'static>(
        &self,
        act: impl FnOnce(&ProgressTable) -> Result<T, TableWriteError> + Send + 'static,
    ) -> Result<T, EnrichmentError> {
        let table = self.progress_table.clone();
        let result = tokio::task::spawn_blocking(move || act(&table)).await;
        Ok(result.map_err(|_| EnrichmentError::Panicked)??)
    }
}
