//! Enrichment: after a lead's event is taken in, finds the person behind it and tells the sender,
//! step by step.
//!
//! ```text
//!  what is owed ──pages──> lanes (one for each lead) ──> steps: lookup, person, reply ──> conclusion, by the router
//!    (projection)            │ order, bounds                │ each recorded when done       c2s_lead.enriched, .failed
//!                            └──────── parked: retry, breaker open ┘
//! ```
//!
//! It stands beside the edge: what it learns enters by the router's door like everything else,
//! under a claim made of its cause and attempt. One thread with a runtime of its own, so that slow
//! servers slow down nothing else.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{oneshot, watch};
use tracing::error;

use crate::config;
use context::EnrichmentContext;
pub use context::{EnrichmentDeps, EnrichmentError};
use worker::EnrichmentWorker;

mod breaker;
mod call_log_entry;
mod client;
mod context;
mod cpf;
mod event_run;
mod lanes;
mod progress_table;
mod steps;
mod worker;

/// Threads that read and write the store for it.
const BLOCKING_THREADS: usize = 2;

/// The enrichment of one opening of the store.
pub struct EnrichmentStage {
    /// How long what is under way is waited for, once it is to stop.
    stop: watch::Sender<Option<Duration>>,
    failed: watch::Receiver<Option<String>>,
    thread: Mutex<Option<thread::JoinHandle<()>>>,
}

impl EnrichmentStage {
    /// Starts working on what is owed, on a thread of its own.
    ///
    /// # Errors
    /// [`Failed`] when the store or the client cannot be used.
    pub async fn start(
        config: &config::EnrichmentConfig,
        parts: EnrichmentDeps,
    ) -> Result<Self, EnrichmentError> {
        let (stop, stopping) = watch::channel(None);
        let (failed_sender, failed) = watch::channel(None);
        let (ready, wait) = oneshot::channel();
        let shared = Arc::new(EnrichmentContext::try_new(config, parts, stopping)?);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(BLOCKING_THREADS)
            .build()?;
        let thread = thread::Builder::new()
            .name("enrichment".into())
            .spawn(move || {
                let outcome = runtime.block_on(async {
                    let worker = EnrichmentWorker::prepare(shared).await;
                    let (worker, prepared) = match worker {
                        Ok(worker) => (Some(worker), Ok(())),
                        Err(failed) => (None, Err(failed)),
                    };
                    // Who waits is the node that is starting.
                    let _ = ready.send(prepared);
                    match worker {
                        Some(worker) => worker.run().await,
                        None => Ok(()),
                    }
                });
                if let Err(failed) = outcome {
                    error!(
                        error = &failed as &dyn std::error::Error,
                        "enrichment failed"
                    );
                    failed_sender.send_replace(Some(failed.to_string()));
                }
            })?;
        let enrichment = Self {
            stop,
            failed,
            thread: Mutex::new(Some(thread)),
        };
        match wait.await.unwrap_or(Err(EnrichmentError::Panicked)) {
            Ok(()) => Ok(enrichment),
            Err(failed) => {
                enrichment.stop(Duration::ZERO);
                Err(failed)
            }
        }
    }

    /// Why it failed, once it has; closed when its thread ended.
    #[must_use]
    pub fn watch_failure(&self) -> watch::Receiver<Option<String>> {
        self.failed.clone()
    }

    /// Begins nothing more, waits for calls that are under way for `patience` at most, and ends the
    /// thread. Blocks until then. What was not done is owed still.
    pub fn stop(&self, patience: Duration) {
        // Nobody hears it if the thread ended by itself.
        let _ = self.stop.send(Some(patience));
        let thread = self.thread.lock().take();
        if let Some(thread) = thread {
            // A panic there has been logged by the hook, and the next opening repeats what it left
            // undone.
            let _ = thread.join();
        }
    }
}
