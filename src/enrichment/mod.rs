//! Enrichment: after a lead's event is taken in, finds the person behind it and tells the sender, step by step.
//!
//! ```text
//!  what is owed ──pages──> lanes (one for each lead) ──> steps: lookup, person, reply ──> conclusion, by the router
//!    (projection)            │ order, bounds                │ each recorded when done       c2s_lead.enriched, .failed
//!                            └──────── parked: retry, breaker open ┘
//! ```
//!
//! It stands beside the edge: what it learns enters by the router's door like everything else, under a claim made of its
//! cause and attempt. One thread with a runtime of its own, so that slow servers slow down nothing else.

use std::collections::HashMap;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{oneshot, watch};
use tracing::error;

use crate::clock::Clock;
use crate::config;
use crate::exchange::Exchange;
use crate::journal::{Store, WriteError};
use crate::projection::{Reads, Unavailable};
use crate::router::Router;
use breaker::{Breaker, Pass, Policy, Verdict};
use client::{Answer, Caller};
use progress::Rows;
use worker::Worker;

mod breaker;
mod client;
mod cpf;
mod lanes;
mod logged;
mod progress;
mod steps;
mod work;
mod worker;

/// Threads that read and write the store for it.
const BLOCKING_THREADS: usize = 2;

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

/// The enrichment of one opening of the store.
pub struct Enrichment {
    /// How long what is under way is waited for, once it is to stop.
    stop: watch::Sender<Option<Duration>>,
    failed: watch::Receiver<Option<String>>,
    thread: Mutex<Option<thread::JoinHandle<()>>>,
}

impl Enrichment {
    /// Starts working on what is owed, on a thread of its own.
    ///
    /// # Errors
    /// [`Failed`] when the store or the client cannot be used.
    pub async fn start(config: &config::Enrichment, parts: Parts) -> Result<Self, Failed> {
        let (stop, stopping) = watch::channel(None);
        let (failed_sender, failed) = watch::channel(None);
        let (ready, wait) = oneshot::channel();
        let shared = Arc::new(Shared::try_new(config, parts, stopping)?);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(BLOCKING_THREADS)
            .build()?;
        let thread = thread::Builder::new().name("enrichment".into()).spawn(move || {
            let outcome = runtime.block_on(async {
                let worker = Worker::prepare(shared).await;
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
                error!(error = &failed as &dyn std::error::Error, "enrichment failed");
                failed_sender.send_replace(Some(failed.to_string()));
            }
        })?;
        let enrichment = Self { stop, failed, thread: Mutex::new(Some(thread)) };
        match wait.await.unwrap_or(Err(Failed::Panicked)) {
            Ok(()) => Ok(enrichment),
            Err(failed) => {
                enrichment.stop(Duration::ZERO);
                Err(failed)
            }
        }
    }

    /// Why it failed, once it has; closed when its thread ended.
    #[must_use]
    pub fn failed(&self) -> watch::Receiver<Option<String>> {
        self.failed.clone()
    }

    /// Begins nothing more, waits for calls that are under way for `patience` at most, and ends the thread. Blocks until
    /// then. What was not done is owed still.
    pub fn stop(&self, patience: Duration) {
        // Nobody hears it if the thread ended by itself.
        let _ = self.stop.send(Some(patience));
        let thread = self.thread.lock().take();
        if let Some(thread) = thread {
            // A panic there has been logged by the hook, and the next opening repeats what it left undone.
            let _ = thread.join();
        }
    }
}

/// What the work on all events shares.
struct Shared {
    config: config::Enrichment,
    caller: Caller,
    rows: Rows,
    exchange: Arc<Exchange>,
    router: Arc<Router>,
    reads: Reads,
    clock: Arc<dyn Clock>,
    breakers: Mutex<HashMap<String, Breaker>>,
    stopping: watch::Receiver<Option<Duration>>,
}

impl Shared {
    fn try_new(
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

    fn is_stopping(&self) -> bool {
        self.stopping.borrow().is_some()
    }

    /// Asks the breaker of the server at `url`, an origin.
    fn ask(&self, origin: &str) -> Verdict {
        self.with_breaker(origin, |breaker, now| breaker.ask(now))
    }

    /// Tells the breaker what the call came to that it let through.
    fn tell(&self, origin: &str, pass: Pass, answer: &Answer) {
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
    async fn with_rows<T: Send + 'static>(
        &self,
        act: impl FnOnce(&Rows) -> Result<T, WriteError> + Send + 'static,
    ) -> Result<T, Failed> {
        let rows = self.rows.clone();
        let done = tokio::task::spawn_blocking(move || act(&rows)).await;
        Ok(done.map_err(|_| Failed::Panicked)??)
    }
}
