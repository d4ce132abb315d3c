//! One opening of the store, with everything that rests on it.

use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::task::spawn_blocking;
use tokio::time::interval;
use tracing::{error, warn};

use super::error::Error;
use super::seams::Seams;
use crate::account::Accounts;
use crate::clock::SystemClock;
use crate::config::{Config, Sync};
use crate::edge::{Core, support};
use crate::enrichment::{self, Enrichment};
use crate::entity::{self, Surroundings};
use crate::event::{Position, fingerprint};
use crate::exchange::{self, Exchange};
use crate::faults::NoFaults;
use crate::journal::{self, Journal, Log, Store};
use crate::panics;
use crate::projection::{self, Projection};
use crate::router::{self, Router, Windows};
use crate::subscriber::{self, Subscribers};
use crate::subscription::Subscriptions;

/// Places in the journal's queue besides one for each permit: fences of entities that are started anew.
const FENCES: usize = 1024;

/// How long an abandoned store is waited for before its files are opened again.
const RELEASE_MAX: Duration = Duration::from_secs(10);

/// How long calls to other servers are waited for when the node stops; one that takes longer is made again at the next start.
const CALLS_PATIENCE: Duration = Duration::from_secs(5);

/// What [`super::rebuild`] made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rebuilt {
    /// Records read from the journal.
    pub records: u64,
    /// Entities found in them.
    pub entities: u64,
}

/// What every opening is made from.
#[derive(Clone)]
pub(super) struct Parts {
    pub(super) config: Arc<Config>,
    pub(super) seams: Seams,
}

pub(super) struct Opening {
    core: Arc<Core>,
    log: Arc<Log>,
    projection: Arc<Projection>,
    exchange: Arc<Exchange>,
    enrichment: Option<Enrichment>,
    store: Weak<Store>,
}

impl Opening {
    pub(super) async fn open(parts: &Parts) -> Result<Self, Error> {
        let for_thread = parts.clone();
        let opened = spawn_blocking(move || open_store(&for_thread)).await.map_err(|_| Error::Panicked)?;
        let Opened { store, log, projection, accounts, subscriptions, exchange } = opened?;
        let Parts { config, seams } = parts;
        let surroundings = Arc::new(Surroundings {
            journal: Arc::clone(&log) as Arc<dyn Journal>,
            offers: Arc::clone(projection.offers()),
            clock: Arc::clone(&seams.clock),
            faults: Arc::clone(&seams.faults),
            limits: entity::Limits { items_max: config.entity.items_max },
            ids: entity::Ids::after(projection.drawn()),
        });
        let router = Router::start(
            &config.router,
            router::Parts {
                surroundings,
                projection: Arc::clone(&projection),
                fingerprint: seams.fingerprint,
                windows: windows(config),
            },
        );
        let (router, reads) = (Arc::new(router), projection.reads());
        let rests_on = subscriber::Parts {
            config: Arc::clone(config),
            router: Arc::clone(&router),
            reads: reads.clone(),
            journal: Arc::clone(&log) as Arc<dyn Journal>,
            exchange: Arc::clone(&exchange),
            subscriptions: Arc::clone(&subscriptions),
            accounts: Arc::clone(&accounts),
            store: Arc::clone(&store),
            clock: Arc::clone(&seams.clock),
        };
        let subscribers = match Subscribers::start(rests_on).await {
            Ok(subscribers) => Arc::new(subscribers),
            Err(failed) => {
                let released = Arc::downgrade(&store);
                drop((reads, accounts, subscriptions, store));
                let end = move || end_stages(&router, &log, &projection, &exchange);
                // What it fails with was lost with what keeps the subscribers from being started.
                let _ = spawn_blocking(end).await;
                until(|| released.strong_count() == 0).await;
                return Err(failed.into());
            }
        };
        let core = Core { router, reads, accounts, subscriptions, subscribers, exchange: Arc::clone(&exchange) };
        let (core, enrichment) = (Arc::new(core), None);
        let mut opening = Self { core, log, projection, exchange, enrichment, store: Arc::downgrade(&store) };
        match opening.enrich(parts, store).await {
            Ok(enrichment) => opening.enrichment = enrichment,
            Err(failed) => {
                opening.abandon().await;
                return Err(failed.into());
            }
        }
        Ok(opening)
    }

    async fn enrich(&self, parts: &Parts, store: Arc<Store>) -> Result<Option<Enrichment>, enrichment::Failed> {
        let Parts { config, seams } = parts;
        if !config.sources.c2s.enriches() {
            return Ok(None);
        }
        let (router, reads) = (Arc::clone(&self.core.router), self.core.reads.clone());
        let (exchange, clock) = (Arc::clone(&self.exchange), Arc::clone(&seams.clock));
        let rests_on = enrichment::Parts { router, reads, store, exchange, clock };
        Enrichment::start(&config.sources.c2s.enrichment, rests_on).await.map(Some)
    }

    /// Like [`Opening::open`], and gives a store back only if it can be written: reading alone works on a full disk too.
    pub(super) async fn open_proven(parts: &Parts) -> Result<Self, Error> {
        let opening = Self::open(parts).await?;
        let log = Arc::clone(&opening.log);
        let proof = spawn_blocking(move || log.store().prove()).await.map_err(|_| Error::Panicked)?;
        match proof {
            Ok(()) => Ok(opening),
            Err(failure) => {
                opening.abandon().await;
                Err(Error::Unwritable(failure))
            }
        }
    }

    pub(super) fn core(&self) -> Arc<Core> {
        Arc::clone(&self.core)
    }

    /// Returns with the reason when anything that rests on the store has failed.
    pub(super) async fn failed(&self) -> String {
        let (mut log, mut projection) = (self.log.failed(), self.projection.failed());
        let mut exchange = self.exchange.failed();
        let mut accounts = self.core.accounts.failed();
        let mut subscriptions = self.core.subscriptions.failed();
        let mut subscribers = self.core.subscribers.failed();
        let ended = |failed: Result<tokio::sync::watch::Ref<'_, Option<String>>, _>, what: &str| {
            failed.ok().and_then(|reason| reason.clone()).unwrap_or_else(|| format!("the {what}'s thread ended"))
        };
        let enrichment = async {
            match &self.enrichment {
                Some(enrichment) => ended(enrichment.failed().wait_for(Option::is_some).await, "enrichment"),
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
        self.end(CALLS_PATIENCE).await
    }

    async fn end(self, patience: Duration) -> Result<(), Error> {
        let Self { core, log, projection, exchange, enrichment, store } = self;
        let failed = log.failed();
        let end = move || {
            if let Some(enrichment) = enrichment {
                enrichment.stop(patience);
            }
            core.subscribers.stop(patience);
            end_stages(&core.router, &log, &projection, &exchange);
            (core, log, projection, exchange)
        };
        let held = spawn_blocking(end).await.map_err(|_| Error::Panicked)?;
        // Requests that are inside are being answered, and let go of the core then.
        until(|| Arc::strong_count(&held.0) == 1).await;
        // sled unwraps a sync when it is dropped, which a failing disk fails.
        let dropped = spawn_blocking(move || panics::contain(move || drop(held)));
        if let Err(reason) = dropped.await.map_err(|_| Error::Panicked)? {
            warn!(reason, "the store panicked when it was closed");
        }
        until(|| store.strong_count() == 0).await;
        match &*failed.borrow() {
            Some(reason) => Err(Error::Setup(std::io::Error::other(reason.clone()))),
            None => Ok(()),
        }
    }

    /// Drops everything that rests on a failed store, and waits until its files are free.
    pub(super) async fn abandon(self) {
        let store = Weak::clone(&self.store);
        // Whatever fails on the way was lost with the store already.
        let _ = self.end(Duration::ZERO).await;
        if store.strong_count() > 0 {
            warn!("the failed store is still in use, trying to open it all the same");
        }
    }
}

/// Waits until what is being let go of is free, for a while at most.
async fn until(free: impl Fn() -> bool) {
    let wait = async {
        let mut ticks = interval(Duration::from_millis(5));
        while !free() {
            ticks.tick().await;
        }
    };
    // Past the limit, opening finds the folder in use and says so.
    let _ = tokio::time::timeout(RELEASE_MAX, wait).await;
}

/// Ends the stages between the edge and the store, each when what it was given is done.
fn end_stages(router: &Router, log: &Log, projection: &Projection, exchange: &Exchange) {
    router.stop();
    log.close();
    projection.close();
    exchange.close();
}

/// What rests on the store alone.
struct Opened {
    store: Arc<Store>,
    log: Arc<Log>,
    projection: Arc<Projection>,
    accounts: Arc<Accounts>,
    subscriptions: Arc<Subscriptions>,
    exchange: Arc<Exchange>,
}

fn open_store(parts: &Parts) -> Result<Opened, Error> {
    let Parts { config, seams } = parts;
    let store = Store::open(&config.store.path, config.store.cache_bytes, Arc::clone(&seams.faults))?;
    let key = config.store.encryption_key.as_ref();
    let accounts = Accounts::open(Arc::clone(&store), config.sources.instagram.accounts_max, key)?;
    let subscriptions = Subscriptions::open(Arc::clone(&store), config.delivery.subscriptions_max, key)?;
    let exchange = open_exchange(&store, exchange_bounds(config))?;
    // What runs already has to end, or it would keep the store from being opened again.
    let log = Log::open(Arc::clone(&store), journal_limits(config), Arc::clone(&seams.clock));
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
    Ok(Opened { store, log, projection, accounts, subscriptions, exchange })
}

/// Opens the call log, which is begun anew when it is damaged: it is a record for people, and no reason not to serve events.
fn open_exchange(store: &Arc<Store>, bounds: exchange::Bounds) -> Result<Arc<Exchange>, exchange::OpenError> {
    match Exchange::open(Arc::clone(store), bounds) {
        Err(damage @ exchange::OpenError::Corrupt(_)) => {
            error!(%damage, "the call log is begun anew, its rows are lost");
            exchange::clear(store)?;
            Exchange::open(Arc::clone(store), bounds)
        }
        opened => opened,
    }
}

fn journal_limits(config: &Config) -> journal::Limits {
    journal::Limits {
        queue: config.router.in_flight_events_max + FENCES,
        commit_records: config.store.commit_records_max,
        commit_bytes: config.store.commit_bytes_max,
        sync_interval: (config.store.sync == Sync::Interval).then_some(config.store.sync_interval),
    }
}

fn projection_limits(config: &Config) -> projection::Limits {
    projection::Limits { claim_window: windows(config).longest() }
}

/// How long each source's idempotency keys are remembered.
fn windows(config: &Config) -> Windows {
    Windows(vec![(support::SOURCE, config.sources.support.idempotency_window)])
}

fn exchange_bounds(config: &Config) -> exchange::Bounds {
    exchange::Bounds { rows_max: config.calls.rows_max, refused_rows_max: config.calls.refused_rows_max }
}

pub(super) fn rebuild(config: &Config) -> Result<Rebuilt, Error> {
    let clock = Arc::new(SystemClock::default());
    let store = Store::open(&config.store.path, config.store.cache_bytes, Arc::new(NoFaults))?;
    let log = Log::open(Arc::clone(&store), journal_limits(config), Arc::clone(&clock) as _)?;
    projection::clear(&store).map_err(projection::Failed::from)?;
    let journal = Arc::clone(&log) as Arc<dyn Journal>;
    let projection = Projection::start(store, journal, projection_limits(config), clock, fingerprint)?;
    let records = log.durable_end().borrow().get() - Position::FIRST.get();
    let entities = projection.entities();
    log.close();
    projection.close();
    Ok(Rebuilt { records, entities })
}
