//! One opening of the store, with everything that rests on it.

use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::task::spawn_blocking;
use tokio::time::interval;
use tracing::{error, warn};

use super::error::Error;
use super::seams::NodeDeps;
use crate::account::AccountRegistry;
use crate::call_log::{self, CallLog};
use crate::clock::SystemClock;
use crate::config::{Config, SyncPolicy};
use crate::edge::{NodeCore, support};
use crate::enrichment::{self, EnrichmentStage};
use crate::entity::{self, EntityDeps};
use crate::event::{Position, fingerprint_key};
use crate::failpoints::NoFailures;
use crate::journal::{self, DataStore, Journal, SledJournal};
use crate::panics;
use crate::projection::{self, Projection};
use crate::router::{self, IdempotencyWindows, Router};
use crate::subscriber::{self, SubscriberRuntime};
use crate::subscription::SubscriptionRegistry;

/// Places in the journal's queue besides one for each permit: fences of entities that are started
/// anew.
const FENCE_SLOTS: usize = 1024;

/// How long an abandoned store is waited for before its files are opened again.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long calls to other servers are waited for when the node stops; one that takes longer is
/// made again at the next start.
const CALLS_TIMEOUT: Duration = Duration::from_secs(5);

/// What [`super::rebuild`] made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RebuildSummary {
    /// Records read from the journal.
    pub records: u64,
    /// Entities found in them.
    pub entities: u64,
}

/// What every opening is made from.
#[derive(Clone)]
pub(super) struct NodeSetup {
    pub(super) config: Arc<Config>,
    pub(super) deps: NodeDeps,
}

pub(super) struct StoreSession {
    core: Arc<NodeCore>,
    log: Arc<SledJournal>,
    projection: Arc<Projection>,
    exchange: Arc<CallLog>,
    enrichment: Option<EnrichmentStage>,
    store: Weak<DataStore>,
}

impl StoreSession {
    pub(super) async fn open(parts: &NodeSetup) -> Result<Self, Error> {
        let for_thread = parts.clone();
        let opened = spawn_blocking(move || open_store(&for_thread))
            .await
            .map_err(|_| Error::Panicked)?;
        let StoreStages {
            store,
            log,
            projection,
            accounts,
            subscriptions,
            exchange,
        } = opened?;
        let NodeSetup {
            config,
            deps: seams,
        } = parts;
        let surroundings = Arc::new(EntityDeps {
            journal: Arc::clone(&log) as Arc<dyn Journal>,
            pending_snapshots: Arc::clone(projection.pending_snapshots()),
            clock: Arc::clone(&seams.clock),
            failure_injector: Arc::clone(&seams.faults),
            limits: entity::StateLimits {
                items_max: config.entity.items_max,
            },
            ids: entity::IdAllocator::starting_after(projection.highest_id()),
        });
        let router = Router::start(
            &config.router,
            router::RouterDeps {
                surroundings,
                projection: Arc::clone(&projection),
                fingerprint: seams.fingerprint,
                windows: idempotency_windows(config),
            },
        );
        let (router, reads) = (Arc::new(router), projection.reader());
        let rests_on = subscriber::SubscriberDeps {
            config: Arc::clone(config),
            router: Arc::clone(&router),
            reads: reads.clone(),
            journal: Arc::clone(&log) as Arc<dyn Journal>,
            call_log: Arc::clone(&exchange),
            subscriptions: Arc::clone(&subscriptions),
            accounts: Arc::clone(&accounts),
            store: Arc::clone(&store),
            clock: Arc::clone(&seams.clock),
        };
        let subscribers = match SubscriberRuntime::start(rests_on).await {
            Ok(subscribers) => Arc::new(subscribers),
            Err(failed) => {
                let released = Arc::downgrade(&store);
                drop((reads, accounts, subscriptions, store));
                let end = move || stop_stages(&router, &log, &projection, &exchange);
                // What it fails with was lost with what keeps the subscribers from being started.
                let _ = spawn_blocking(end).await;
                wait_until(|| released.strong_count() == 0).await;
                return Err(failed.into());
            }
        };
        let core = NodeCore {
            router,
            reads,
            accounts,
            subscriptions,
            subscribers,
            exchange: Arc::clone(&exchange),
        };
        let (core, enrichment) = (Arc::new(core), None);
        let mut opening = Self {
            core,
            log,
            projection,
            exchange,
            enrichment,
            store: Arc::downgrade(&store),
        };
        match opening.start_enrichment(parts, store).await {
            Ok(enrichment) => opening.enrichment = enrichment,
            Err(failed) => {
                opening.abandon().await;
                return Err(failed.into());
            }
        }
        Ok(opening)
    }

    async fn start_enrichment(
        &self,
        parts: &NodeSetup,
        store: Arc<DataStore>,
    ) -> Result<Option<EnrichmentStage>, enrichment::EnrichmentError> {
        let NodeSetup {
            config,
            deps: seams,
        } = parts;
        if !config.sources.c2s.is_enrichment_enabled() {
            return Ok(None);
        }
        let (router, reads) = (Arc::clone(&self.core.router), self.core.reads.clone());
        let (exchange, clock) = (Arc::clone(&self.exchange), Arc::clone(&seams.clock));
        let rests_on = enrichment::EnrichmentDeps {
            router,
            reads,
            store,
            exchange,
            clock,
        };
        EnrichmentStage::start(&config.sources.c2s.enrichment, rests_on)
            .await
            .map(Some)
    }

    /// Like [`Opening::open`], and gives a store back only if it can be written: reading alone
    /// works on a full disk too.
    pub(super) async fn open_writable(parts: &NodeSetup) -> Result<Self, Error> {
        let opening = Self::open(parts).await?;
        let log = Arc::clone(&opening.log);
        let proof = spawn_blocking(move || log.store().prove_writable())
            .await
            .map_err(|_| Error::Panicked)?;
        match proof {
            Ok(()) => Ok(opening),
            Err(failure) => {
                opening.abandon().await;
                Err(Error::Unwritable(failure))
            }
        }
    }

    pub(super) fn core(&self) -> Arc<NodeCore> {
        Arc::clone(&self.core)
    }

    /// Returns with the reason when anything that rests on the store has failed.
    pub(super) async fn wait_for_failure(&self) -> String {
        let (mut log, mut projection) = (self.log.failed(), self.projection.failed());
        let mut exchange = self.exchange.failed();
        let mut accounts = self.core.accounts.failed();
        let mut subscriptions = self.core.subscriptions.failed();
        let mut subscribers = self.core.subscribers.watch_failure();
        let ended = |failed: Result<tokio::sync::watch::Ref<'_, Option<String>>, _>, what: &str| {
            failed
                .ok()
                .and_then(|reason| reason.clone())
                .unwrap_or_else(|| format!("the {what}'s thread ended"))
        };
        let enrichment = async {
            match &self.enrichment {
                Some(enrichment) => ended(
                    enrichment.failed().wait_for(Option::is_some).await,
                    "enrichment",
                ),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            failed = log.wait_for(Option::is_some) => ended(failed, "journal"),
            failed = projection.wait_for(Option::is_some) => ended(failed, "projection"),
            failed = exchange.wait_for(Option::is_some) => ended(failed, "exchange log"),
            failed = accounts.wait_for(Option::is_some) => ended(failed, "accounts"),
            failed = subscriptions.wait_for(Option::is_some) => ended(failed, "subscriptions"),
            failed = subscribers.wait_for(Option::is_some) => ended(failed, "subscribers"),
            reason = enrichment => reason,
        }
    }

    /// Ends each stage when what it was given is done.
    pub(super) async fn close(self) -> Result<(), Error> {
        self.shut_down(CALLS_TIMEOUT).await
    }

    async fn shut_down(self, patience: Duration) -> Result<(), Error> {
        let Self {
            core,
            log,
            projection,
            exchange,
            enrichment,
            store,
        } = self;
        let failed = log.failed();
        let end = move || {
            if let Some(enrichment) = enrichment {
                enrichment.stop(patience);
            }
            core.subscribers.stop(patience);
            stop_stages(&core.router, &log, &projection, &exchange);
            (core, log, projection, exchange)
        };
        let held = spawn_blocking(end).await.map_err(|_| Error::Panicked)?;
        // Requests that are inside are being answered, and let go of the core then.
        wait_until(|| Arc::strong_count(&held.0) == 1).await;
        // sled unwraps a sync when it is dropped, which a failing disk fails.
        let dropped = spawn_blocking(move || panics::contain_panic(move || drop(held)));
        if let Err(reason) = dropped.await.map_err(|_| Error::Panicked)? {
            warn!(reason, "the store panicked when it was closed");
        }
        wait_until(|| store.strong_count() == 0).await;
        match &*failed.borrow() {
            Some(reason) => Err(Error::Setup(std::io::Error::other(reason.clone()))),
            None => Ok(()),
        }
    }

    /// Drops everything that rests on a failed store, and waits until its files are free.
    pub(super) async fn abandon(self) {
        let store = Weak::clone(&self.store);
        // Whatever fails on the way was lost with the store already.
        let _ = self.shut_down(Duration::ZERO).await;
        if store.strong_count() > 0 {
            warn!("the failed store is still in use, trying to open it all the same");
        }
    }
}

/// Waits until what is being let go of is free, for a while at most.
async fn wait_until(free: impl Fn() -> bool) {
    let wait = async {
        let mut ticks = interval(Duration::from_millis(5));
        while !free() {
            ticks.tick().await;
        }
    };
    // Past the limit, opening finds the folder in use and says so.
    let _ = tokio::time::timeout(RELEASE_TIMEOUT, wait).await;
}

/// Ends the stages between the edge and the store, each when what it was given is done.
fn stop_stages(router: &Router, log: &SledJournal, projection: &Projection, exchange: &CallLog) {
    router.stop();
    log.close();
    projection.close();
    exchange.close();
}

/// What rests on the store alone.
struct StoreStages {
    store: Arc<DataStore>,
    log: Arc<SledJournal>,
    projection: Arc<Projection>,
    accounts: Arc<AccountRegistry>,
    subscriptions: Arc<SubscriptionRegistry>,
    exchange: Arc<CallLog>,
}

fn open_store(parts: &NodeSetup) -> Result<StoreStages, Error> {
    let NodeSetup {
        config,
        deps: seams,
    } = parts;
    let store = DataStore::open(
        &config.store.path,
        config.store.cache_bytes,
        Arc::clone(&seams.faults),
    )?;
    let key = config.store.encryption_key.as_ref();
    let accounts = AccountRegistry::open(
        Arc::clone(&store),
        config.sources.instagram.accounts_max,
        key,
    )?;
    let subscriptions =
        SubscriptionRegistry::open(Arc::clone(&store), config.delivery.subscriptions_max, key)?;
    let exchange = open_call_log(&store, call_log_bounds(config))?;
    // What runs already has to end, or it would keep the store from being opened again.
    let log = SledJournal::open(
        Arc::clone(&store),
        journal_limits(config),
        Arc::clone(&seams.clock),
    );
    let log = log.inspect_err(|_| exchange.close())?;
    let projection = Projection::start(
        Arc::clone(&store),
        Arc::clone(&log) as Arc<dyn Journal>,
        projection_limits(config),
        Arc::clone(&seams.clock),
        seams.fingerprint,
    );
    let projection = projection.inspect_err(|_| {
        exchange.close();
        log.close();
    })?;
    let (accounts, subscriptions) = (Arc::new(accounts), Arc::new(subscriptions));
    Ok(StoreStages {
        store,
        log,
        projection,
        accounts,
        subscriptions,
        exchange,
    })
}

/// Opens the call log, which is begun anew when it is damaged: it is a record for people, and no
/// reason not to serve events.
fn open_call_log(
    store: &Arc<DataStore>,
    bounds: call_log::CallLogLimits,
) -> Result<Arc<CallLog>, call_log::CallLogOpenError> {
    match CallLog::open(Arc::clone(store), bounds) {
        Err(damage @ call_log::CallLogOpenError::Corrupt(_)) => {
            error!(%damage, "the call log is begun anew, its rows are lost");
            call_log::clear_call_log(store)?;
            CallLog::open(Arc::clone(store), bounds)
        }
        opened => opened,
    }
}

fn journal_limits(config: &Config) -> journal::JournalLimits {
    journal::JournalLimits {
        queue: config.router.in_flight_events_max + FENCE_SLOTS,
        commit_records: config.store.commit_records_max,
        commit_bytes: config.store.commit_bytes_max,
        sync_interval: (config.store.sync == SyncPolicy::Interval)
            .then_some(config.store.sync_interval),
    }
}

fn projection_limits(config: &Config) -> projection::ProjectionLimits {
    projection::ProjectionLimits {
        claim_window: idempotency_windows(config).longest_window(),
    }
}

/// How long each source's idempotency keys are remembered.
fn idempotency_windows(config: &Config) -> IdempotencyWindows {
    IdempotencyWindows(vec![(
        support::SOURCE,
        config.sources.support.idempotency_window,
    )])
}

fn call_log_bounds(config: &Config) -> call_log::CallLogLimits {
    call_log::CallLogLimits {
        rows_max: config.calls.rows_max,
        refused_rows_max: config.calls.refused_rows_max,
    }
}

pub(super) fn rebuild_projection(config: &Config) -> Result<RebuildSummary, Error> {
    let clock = Arc::new(SystemClock::default());
    let store = DataStore::open(
        &config.store.path,
        config.store.cache_bytes,
        Arc::new(NoFailures),
    )?;
    let log = SledJournal::open(
        Arc::clone(&store),
        journal_limits(config),
        Arc::clone(&clock) as _,
    )?;
    projection::drop_projection(&store).map_err(projection::ProjectionError::from)?;
    let journal = Arc::clone(&log) as Arc<dyn Journal>;
    let projection = Projection::start(
        store,
        journal,
        projection_limits(config),
        clock,
        fingerprint_key,
    )?;
    let records = log.durable_end().borrow().get() - Position::FIRST.get();
    let entities = projection.entity_count();
    log.close();
    projection.close();
    Ok(RebuildSummary { records, entities })
}
