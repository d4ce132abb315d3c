//! Enrichment stage: for each accepted Contact2Sale event, looks up the person behind the lead and
//! replies to the sender, step by step.
//!
//! ```text
//!  pending events ──pages──> lanes, one for each lead ──> steps: lookup, ──> resolution, sent to
//!   (projection)             keep order and bounds         person, reply      the router as
//!                              ^                            │    │            c2s_lead.enriched
//!                              └── parked: retry, ──────────┘    └─ recorded  or c2s_lead.failed
//!                                  circuit breaker open             when done
//! ```
//!
//! The stage submits each result to the router like any sender, with an idempotency key made of the
//! event's position and the start of the work. It has a thread and a runtime of its own, so that
//! slow servers slow down no other stage.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{oneshot, watch};
use tracing::error;

use crate::config;
use crate::error_chain::format_error_chain;
use context::EnrichmentContext;
pub use context::EnrichmentDeps;
pub use error::EnrichmentError;
pub use progress_table::{find_event_of_row, remove_progress};
use worker::EnrichmentWorker;

mod breaker;
mod call_log_entry;
mod client;
mod context;
mod cpf;
mod error;
mod event_run;
mod lanes;
mod progress_table;
mod steps;
mod worker;

/// Number of threads that read and write the store for this stage.
const BLOCKING_THREADS: usize = 2;

/// Handle of the enrichment stage, for one opening of the store.
pub struct EnrichmentStage {
    /// `Some` once the stage must stop, with the longest time to wait for running calls.
    stop: watch::Sender<Option<Duration>>,
    failure: watch::Receiver<Option<String>>,
    thread: Mutex<Option<thread::JoinHandle<()>>>,
}

impl EnrichmentStage {
    /// Starts the stage on a thread of its own, and returns once the thread is ready.
    ///
    /// # Errors
    /// [`EnrichmentError`] when the store, the HTTP client or the thread cannot be set up.
    pub async fn start(
        config: &config::EnrichmentConfig,
        deps: EnrichmentDeps,
    ) -> Result<Self, EnrichmentError> {
        let (stop, stopping) = watch::channel(None);
        let (failure_sender, failure) = watch::channel(None);
        let (ready_sender, ready) = oneshot::channel();
        let context = Arc::new(EnrichmentContext::try_new(config, deps, stopping)?);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(BLOCKING_THREADS)
            .build()?;

        let thread = thread::Builder::new()
            .name("enrichment".into())
            .spawn(move || {
                let outcome = runtime.block_on(async {
                    let worker = EnrichmentWorker::prepare(context).await;
                    let (worker, prepared) = match worker {
                        Ok(worker) => (Some(worker), Ok(())),
                        Err(error) => (None, Err(error)),
                    };
                    // The send fails only if the node's start was cancelled.
                    let _ = ready_sender.send(prepared);
                    match worker {
                        Some(worker) => worker.run().await,
                        None => Ok(()),
                    }
                });
                if let Err(error) = outcome {
                    error!(
                        error = &error as &dyn std::error::Error,
                        "enrichment stage stopped"
                    );
                    failure_sender.send_replace(Some(format_error_chain(&error)));
                }
            })?;

        let stage = Self {
            stop,
            failure,
            thread: Mutex::new(Some(thread)),
        };
        match ready.await.unwrap_or(Err(EnrichmentError::Panicked)) {
            Ok(()) => Ok(stage),
            Err(error) => {
                stage.stop(Duration::ZERO);
                Err(error)
            }
        }
    }

    /// Returns a watch that becomes `Some` with the reason when the stage fails. It closes when the
    /// stage's thread ends.
    #[must_use]
    pub fn watch_failure(&self) -> watch::Receiver<Option<String>> {
        self.failure.clone()
    }

    /// Stops the stage: starts no more calls, waits at most `patience` for running calls, and ends
    /// the thread. Blocks until the thread has ended. Events that are not done remain pending.
    pub fn stop(&self, patience: Duration) {
        // The send fails only if the thread has already ended.
        let _ = self.stop.send(Some(patience));
        let thread = self.thread.lock().take();
        if let Some(thread) = thread {
            // The panic hook has logged any panic of the thread, and the next opening of the store
            // repeats the unfinished work.
            let _ = thread.join();
        }
    }
}
