//! One opening of the store, with all stages that use it.
//!
//! ```text
//!  open      data folder ─> journal ─> derived store ─> tables ─> remains of erasures ─> accounts,
//!                  subscriptions, tokens, audit log ─> call log ─> projection ─> router ─> subscribers ─> erasure
//!                  ─> retention ─> enrichment ─> alerts
//!  shut down alerts ─> enrichment ─> retention ─> erasure ─> subscribers ─> router ─> journal ─> tables
//!                  ─> projection ─> call log
//!                  ─> data folder
//! ```

use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::interval;
use tracing::{error, warn};

use super::cluster_setup::ClusterSetup;
use super::error::NodeError;
use super::migration::{self, StoreMigration};
use super::node_deps::NodeDeps;
use super::{clock_file, clock_watch};
use crate::account::AccountRegistry;
use crate::alerts::{AlertDeps, AlertWatch, RaisedAlerts};
use crate::audit::{AuditLimits, AuditLog};
use crate::call_log::{self, CallLog};
use crate::clock::CheckedClock;
use crate::cluster::{LeaderTerm, PostgresLog};
use crate::config::{Config, LiveConfig, SyncPolicy};
use crate::derived::{self, DerivedStore};
use crate::edge::{CoreGate, NodeCore, leads, support};
use crate::enrichment::{self, EnrichmentStage};
use crate::entity::{self, EntityDeps};
use crate::erasure::{self, CopyRoom, Erasure, ErasureDeps, ErasureStage};
use crate::event::StoreIncarnation;
use crate::journal::{
    self, CommitObservers, ContentCipher, DataFolder, Journal, KeptRecords, LogMark, LogRole,
    SegmentJournal,
};
use crate::panics;
use crate::projection::{self, Projection};
use crate::retention::{self, RetentionDeps, RetentionPolicy, RetentionWorker};
use crate::router::{self, ClaimWindows, IdempotencyWindows, Router};
use crate::subscriber::{self, SubscriberRuntime};
use crate::subscription::SubscriptionRegistry;
use crate::table_store::TableStore;
use crate::token::TokenRegistry;

/// Slots in the journal's queue besides one for each permit: for the fences of restarting entities.
const FENCE_SLOTS: usize = 1024;

/// Longest wait for the release of an abandoned store before its files are opened again.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(10);

/// Longest wait for calls to other servers when the node stops. A call that takes longer is made
/// again after the next start.
const CALLS_TIMEOUT: Duration = Duration::from_secs(5);

/// Inputs that stay the same from one opening of the store to the next.
#[derive(Clone)]
pub(super) struct NodeSetup {
    /// Configuration in force. What the stages take of it at an opening needs a restart to change.
    pub(super) live_config: Arc<LiveConfig>,
    pub(super) deps: NodeDeps,
    /// Clock of `deps`, for the comparison with the journal's times.
    pub(super) clock: Arc<CheckedClock>,
    /// Gate that shows why the opening waits.
    pub(super) gate: CoreGate,
    pub(super) discard_mark: DiscardMark,
    /// Incarnation of the store that was opened first; another one is not opened in its place.
    pub(super) incarnation: Arc<OnceLock<StoreIncarnation>>,
    /// Cluster that the node belongs to; `None` for a node on its own.
    pub(super) cluster: Option<ClusterSetup>,
}

impl NodeSetup {
    /// Returns the time for which a node whose stages have failed leaves the lead to others.
    pub(super) fn pause_of_leader(&self) -> Duration {
        let lease = self.cluster.as_ref().map(|cluster| cluster.config.lease);
        lease.unwrap_or_default() * 2
    }
}

/// Place in the journal behind which the next opening discards everything: a failed opening told
/// its callers that those records are not there, although the page cache may show them.
#[derive(Clone, Default)]
pub(super) struct DiscardMark(Arc<Mutex<Option<LogMark>>>);

impl DiscardMark {
    /// Opens the journal with `open`, which gets the mark. Once it is open, the mark is obsolete:
    /// used again, it would discard newer records.
    fn open_journal<E>(
        &self,
        open: impl FnOnce(Option<LogMark>) -> Result<Arc<SegmentJournal>, E>,
    ) -> Result<Arc<SegmentJournal>, E> {
        let mut mark = self.0.lock();
        let journal = open(*mark)?;
        *mark = None;
        Ok(journal)
    }

    /// Takes the mark of a closed journal, if it failed.
    fn note_failure(&self, journal: &SegmentJournal) {
        if let Some(mark) = journal.failed_mark() {
            *self.0.lock() = Some(mark);
        }
    }
}

/// Reason for which a session has to end.
#[derive(Debug)]
pub(super) enum SessionEnd {
    /// A stage has failed, for this reason.
    Failed(String),
    /// The derived store has to be copied, to remove erased content.
    CopyDue,
}

pub(super) struct StoreSession {
    core: Arc<NodeCore>,
    journal: Arc<SegmentJournal>,
    projection: Arc<Projection>,
    call_log: Arc<CallLog>,
    enrichment: Option<EnrichmentStage>,
    retention: Option<RetentionWorker>,
    alerts: Option<AlertWatch>,
    tables: Arc<TableStore>,
    folder: Weak<DataFolder>,
    discard_mark: DiscardMark,
}

impl StoreSession {
    /// Opens the store and starts all stages, in a cluster under the `term` of this node.
    pub(super) async fn open(
        setup: &NodeSetup,
        term: Option<LeaderTerm>,
    ) -> Result<Self, NodeError> {
        // Opening reads the disk, so it must not block the event loop of the edge.
        let setup_of_thread = setup.clone();
        let (folder, journal) = spawn_blocking(move || open_files(&setup_of_thread, term))
            .await
            .map_err(|_| NodeError::Panicked)??;
        // Before a stage compares times or stamps anything.
        let (config, newest_event) = (setup.live_config.current(), journal.opened_at());
        clock_watch::wait_for_agreement(&setup.clock, newest_event, &config, &setup.gate).await;
        let setup_of_thread = setup.clone();
        let opened = spawn_blocking(move || open_store(&setup_of_thread, &folder, &journal))
            .await
            .map_err(|_| NodeError::Panicked)?;
        let StoreStages {
            folder,
            journal,
            derived,
            tables,
            projection,
            accounts,
            subscriptions,
            tokens,
            audit,
            call_log,
            erased,
            has_copy_failed,
        } = opened?;
        let NodeSetup {
            live_config, deps, ..
        } = setup;
        let config = &live_config.current();

        let entity_deps = EntityDeps {
            journal: Arc::clone(&journal) as Arc<dyn Journal>,
            pending_snapshots: Arc::clone(projection.pending_snapshots()),
            clock: Arc::clone(&deps.clock),
            failure_injector: Arc::clone(&deps.failure_injector),
            limits: entity::StateLimits {
                items_max: config.entity.items_max,
            },
            ids: entity::IdAllocator::starting_after(projection.highest_id()),
        };
        let router_deps = router::RouterDeps {
            entity_deps: Arc::new(entity_deps),
            projection: Arc::clone(&projection),
            fingerprint: deps.fingerprint,
            windows: idempotency_windows(config),
            metrics: Arc::clone(&deps.metrics),
        };
        let router = Arc::new(Router::start(&config.router, router_deps));
        let reads = projection.reader();

        let subscriber_deps = subscriber::SubscriberDeps {
            live_config: Arc::clone(live_config),
            router: Arc::clone(&router),
            reads: reads.clone(),
            journal: Arc::clone(&journal) as Arc<dyn Journal>,
            call_log: Arc::clone(&call_log),
            subscriptions: Arc::clone(&subscriptions),
            accounts: Arc::clone(&accounts),
            audit: Arc::clone(&audit),
            tables: Arc::clone(&tables),
            clock: Arc::clone(&deps.clock),
            metrics: Arc::clone(&deps.metrics),
            traces: deps.traces.clone(),
        };
        let subscribers = match SubscriberRuntime::start(subscriber_deps).await {
            Ok(subscribers) => Arc::new(subscribers),
            Err(error) => {
                // The stages that run already must end, or they would keep the store in use.
                let folder_in_use = Arc::downgrade(&folder);
                drop((
                    reads,
                    accounts,
                    subscriptions,
                    tokens,
                    audit,
                    derived,
                    folder,
                ));
                let discard_mark = setup.discard_mark.clone();
                let end = move || {
                    stop_stages(&router, &tables, &journal, &projection, &call_log);
                    discard_mark.note_failure(&journal);
                };
                // A panic while stopping adds nothing to the error that is returned.
                let _ = spawn_blocking(end).await;
                wait_until(|| folder_in_use.strong_count() == 0).await;
                return Err(error.into());
            }
        };

        let erasure_deps = ErasureDeps {
            tables: Arc::clone(&tables),
            journal: Arc::clone(&journal),
            router: Arc::clone(&router),
            reads: reads.clone(),
            dead_letters: Arc::clone(subscribers.dead_letters()),
            clock: Arc::clone(&deps.clock),
            fingerprint: deps.fingerprint,
            copy_room: CopyRoom::new(&folder, config.store.segment_bytes),
            metrics: Arc::clone(&deps.metrics),
        };
        let erasures = match ErasureStage::start(erasure_deps, erased, has_copy_failed).await {
            Ok(erasures) => Arc::new(erasures),
            Err(error) => {
                // As above, and the deliveries run too.
                let folder_in_use = Arc::downgrade(&folder);
                drop((
                    reads,
                    accounts,
                    subscriptions,
                    tokens,
                    audit,
                    derived,
                    folder,
                ));
                let discard_mark = setup.discard_mark.clone();
                let end = move || {
                    subscribers.stop(Duration::ZERO);
                    stop_stages(&router, &tables, &journal, &projection, &call_log);
                    discard_mark.note_failure(&journal);
                };
                let _ = spawn_blocking(end).await;
                wait_until(|| folder_in_use.strong_count() == 0).await;
                return Err(error.into());
            }
        };

        let core = NodeCore {
            router,
            reads,
            accounts,
            subscriptions,
            tokens,
            audit,
            journal: Arc::clone(&journal),
            subscribers,
            erasures,
            call_log: Arc::clone(&call_log),
            raised_alerts: RaisedAlerts::default(),
        };
        let mut session = Self {
            core: Arc::new(core),
            journal,
            projection,
            call_log,
            enrichment: None,
            retention: None,
            alerts: None,
            tables,
            folder: Arc::downgrade(&folder),
            discard_mark: setup.discard_mark.clone(),
        };

        drop(folder);
        match session.start_retention(setup, derived) {
            Ok(retention) => session.retention = retention,
            Err(error) => {
                session.abandon().await;
                return Err(error.into());
            }
        }

        // Enrichment comes last: it submits events by the router as soon as it starts.
        match session.start_enrichment(setup).await {
            Ok(enrichment) => session.enrichment = enrichment,
            Err(error) => {
                session.abandon().await;
                return Err(error.into());
            }
        }
        session.alerts = Some(session.start_alerts(setup));
        Ok(session)
    }

    fn start_alerts(&self, setup: &NodeSetup) -> AlertWatch {
        let NodeSetup {
            live_config, deps, ..
        } = setup;
        let alert_deps = AlertDeps {
            live_config: Arc::clone(live_config),
            router: Arc::clone(&self.core.router),
            reads: self.core.reads.clone(),
            journal: Arc::clone(&self.journal) as Arc<dyn Journal>,
            subscribers: Arc::clone(&self.core.subscribers),
            accounts: Arc::clone(&self.core.accounts),
            subscriptions: Arc::clone(&self.core.subscriptions),
            metrics: Arc::clone(&deps.metrics),
            clock: Arc::clone(&deps.clock),
        };
        AlertWatch::start(alert_deps, self.core.raised_alerts.clone())
    }

    fn start_retention(
        &self,
        setup: &NodeSetup,
        derived: Arc<DerivedStore>,
    ) -> std::io::Result<Option<RetentionWorker>> {
        let (config, deps) = (setup.live_config.current(), &setup.deps);
        let config = &*config;
        let policy = RetentionPolicy {
            keep_for: config.store.retention,
            max_bytes: config.store.max_bytes,
            claim_window: idempotency_windows(config).longest_window(),
            hold: config.delivery.hold,
        };
        let retention_deps = RetentionDeps {
            journal: Arc::clone(&self.journal),
            derived,
            tables: Arc::clone(&self.tables),
            owed: self.core.subscribers.owed_records().clone(),
            state_limits: entity::StateLimits {
                items_max: config.entity.items_max,
            },
            audit: Arc::clone(&self.core.audit),
            metrics: Arc::clone(&deps.metrics),
            clock: Arc::clone(&deps.clock),
        };
        let sources = config.sources.retention.clone();
        RetentionWorker::start(policy, sources, retention_deps)
    }

    async fn start_enrichment(
        &self,
        setup: &NodeSetup,
    ) -> Result<Option<EnrichmentStage>, enrichment::EnrichmentError> {
        let (config, deps) = (setup.live_config.current(), &setup.deps);
        if !config.sources.c2s.is_enrichment_enabled() {
            return Ok(None);
        }
        let enrichment_deps = enrichment::EnrichmentDeps {
            router: Arc::clone(&self.core.router),
            reads: self.core.reads.clone(),
            tables: Arc::clone(&self.tables),
            call_log: Arc::clone(&self.call_log),
            clock: Arc::clone(&deps.clock),
        };
        EnrichmentStage::start(&config.sources.c2s.enrichment, enrichment_deps)
            .await
            .map(Some)
    }

    /// Opens the store as [`StoreSession::open`] does, and proves with a test write that it can be
    /// written: on a full disk, reading alone works.
    pub(super) async fn open_writable(
        setup: &NodeSetup,
        term: Option<LeaderTerm>,
    ) -> Result<Self, NodeError> {
        let session = Self::open(setup, term).await?;
        let journal = Arc::clone(&session.journal);
        let test_write = spawn_blocking(move || journal.prove_writable())
            .await
            .map_err(|_| NodeError::Panicked)?;
        match test_write {
            Ok(()) => Ok(session),
            Err(error) => {
                session.abandon().await;
                Err(NodeError::Unwritable(error))
            }
        }
    }

    pub(super) fn core(&self) -> Arc<NodeCore> {
        Arc::clone(&self.core)
    }

    /// Returns when the session has to end: a stage that uses the store has failed, or erased rows
    /// have to be removed while no stage uses them.
    pub(super) async fn wait_for_end(&self) -> SessionEnd {
        tokio::select! {
            biased;
            reason = self.wait_for_failure() => SessionEnd::Failed(reason),
            () = self.core.erasures.wait_for_copy() => SessionEnd::CopyDue,
        }
    }

    /// Returns with the reason when any stage that uses the store has failed.
    async fn wait_for_failure(&self) -> String {
        let mut journal = self.journal.watch_failure();
        let mut projection = self.projection.watch_failure();
        let mut call_log = self.call_log.watch_failure();
        let mut accounts = self.core.accounts.watch_failure();
        let mut subscriptions = self.core.subscriptions.watch_failure();
        let mut tokens = self.core.tokens.watch_failure();
        let mut audit = self.core.audit.watch_failure();
        let mut subscribers = self.core.subscribers.watch_failure();
        let mut erasures = self.core.erasures.watch_failure();
        let reason_of = |failure: Result<watch::Ref<'_, Option<String>>, _>, stage: &str| {
            failure
                .ok()
                .and_then(|reason| reason.clone())
                .unwrap_or_else(|| format!("the {stage} thread ended"))
        };
        let enrichment = async {
            let Some(enrichment) = &self.enrichment else {
                return std::future::pending().await;
            };
            let mut failure = enrichment.watch_failure();
            reason_of(failure.wait_for(Option::is_some).await, "enrichment")
        };

        // The journal comes first: when it fails, the stages that write to it fail too.
        tokio::select! {
            biased;
            failed = journal.wait_for(Option::is_some) => reason_of(failed, "journal"),
            failed = projection.wait_for(Option::is_some) => reason_of(failed, "projection"),
            failed = call_log.wait_for(Option::is_some) => reason_of(failed, "call log"),
            failed = accounts.wait_for(Option::is_some) => reason_of(failed, "accounts"),
            failed = subscriptions.wait_for(Option::is_some) => reason_of(failed, "subscriptions"),
            failed = tokens.wait_for(Option::is_some) => reason_of(failed, "tokens"),
            failed = audit.wait_for(Option::is_some) => reason_of(failed, "audit log"),
            failed = subscribers.wait_for(Option::is_some) => reason_of(failed, "delivery"),
            failed = erasures.wait_for(Option::is_some) => reason_of(failed, "erasure"),
            reason = enrichment => reason,
        }
    }

    /// Ends each stage after its pending work, and closes the store.
    pub(super) async fn close(self) -> Result<(), NodeError> {
        self.shut_down(CALLS_TIMEOUT).await
    }

    async fn shut_down(self, calls_timeout: Duration) -> Result<(), NodeError> {
        let Self {
            core,
            journal,
            projection,
            call_log,
            enrichment,
            retention,
            alerts,
            tables,
            folder,
            discard_mark,
        } = self;
        let failure = journal.watch_failure();

        if let Some(alerts) = alerts {
            alerts.stop().await;
        }
        let end = move || {
            if let Some(enrichment) = enrichment {
                enrichment.stop(calls_timeout);
            }
            if let Some(retention) = retention {
                retention.stop();
            }
            core.erasures.stop();
            core.subscribers.stop(calls_timeout);
            stop_stages(&core.router, &tables, &journal, &projection, &call_log);
            discard_mark.note_failure(&journal);
            (core, tables, journal, projection, call_log)
        };
        let stages = spawn_blocking(end).await.map_err(|_| NodeError::Panicked)?;

        // Requests in flight hold the core until they are answered.
        wait_until(|| Arc::strong_count(&stages.0) == 1).await;

        // sled unwraps the result of a sync when it is dropped, so a failing disk panics here.
        let dropped = spawn_blocking(move || panics::contain_panic(move || drop(stages)));
        if let Err(error) = dropped.await.map_err(|_| NodeError::Panicked)? {
            warn!(error, "store panicked while closing");
        }
        wait_until(|| folder.strong_count() == 0).await;

        match &*failure.borrow() {
            Some(reason) => Err(NodeError::Setup(std::io::Error::other(reason.clone()))),
            None => Ok(()),
        }
    }

    /// Ends each stage after its pending work, and waits until the store's files are free.
    pub(super) async fn close_for_copy(self) {
        let folder = Weak::clone(&self.folder);
        if let Err(error) = self.shut_down(CALLS_TIMEOUT).await {
            // The next opening reports what is wrong with the store.
            warn!(
                error = &error as &dyn std::error::Error,
                "store failed while closing"
            );
        }
        if folder.strong_count() > 0 {
            warn!("store still in use; reopening it anyway");
        }
    }

    /// Drops all stages of a failed store, and waits until its files are free.
    pub(super) async fn abandon(self) {
        let folder = Weak::clone(&self.folder);
        // The store has failed already; an error on the way adds nothing.
        let _ = self.shut_down(Duration::ZERO).await;
        if folder.strong_count() > 0 {
            warn!("failed store still in use; reopening it anyway");
        }
    }
}

/// Waits until `is_free` holds, at most [`RELEASE_TIMEOUT`].
async fn wait_until(is_free: impl Fn() -> bool) {
    let wait = async {
        let mut ticks = interval(Duration::from_millis(5));
        while !is_free() {
            ticks.tick().await;
        }
    };
    // After the timeout, the next opening finds the folder in use and reports that.
    let _ = tokio::time::timeout(RELEASE_TIMEOUT, wait).await;
}

/// Ends the stages between the edge and the store, each after its pending work.
fn stop_stages(
    router: &Router,
    tables: &TableStore,
    journal: &SegmentJournal,
    projection: &Projection,
    call_log: &CallLog,
) {
    // From left to right: a stage may still get work from the stage before it.
    router.stop();
    journal.close();
    if let Err(error) = tables.close() {
        // The next opening applies the changes again.
        warn!(
            error = &error as &dyn std::error::Error,
            "tables not synced while closing"
        );
    }
    projection.close();
    call_log.close();
}

/// Store and the stages that need nothing but the store.
struct StoreStages {
    folder: Arc<DataFolder>,
    journal: Arc<SegmentJournal>,
    derived: Arc<DerivedStore>,
    tables: Arc<TableStore>,
    projection: Arc<Projection>,
    accounts: Arc<AccountRegistry>,
    subscriptions: Arc<SubscriptionRegistry>,
    tokens: Arc<TokenRegistry>,
    audit: Arc<AuditLog>,
    call_log: Arc<CallLog>,
    /// Erasures that this opening has brought to their end.
    erased: Vec<Erasure>,
    /// `true` if the copy that they need could not be made.
    has_copy_failed: bool,
}

/// Opens the folder and the journal of the node's store, in a cluster under the `term` of this node.
fn open_files(
    setup: &NodeSetup,
    term: Option<LeaderTerm>,
) -> Result<(Arc<DataFolder>, Arc<SegmentJournal>), NodeError> {
    let (config, deps) = (&setup.live_config.current(), &setup.deps);
    if let Some(incarnation) = setup.incarnation.get() {
        DataFolder::check_incarnation(&config.store.path, *incarnation)?;
    }
    let role = match (&setup.cluster, term) {
        (Some(cluster), Some(term)) => {
            let database = cluster.database.clone();
            let log = PostgresLog::new(database, term, &cluster.config, Arc::clone(&deps.clock))?;
            LogRole::Leader(Box::new(log))
        }
        (None, _) | (_, None) => LogRole::Sole,
    };
    let cipher = ContentCipher::from_config(&config.store);
    let folder = DataFolder::open_encrypted(&config.store.path, cipher)?;
    let journal = open_journal_as(role, &folder, config, deps, &setup.discard_mark)?;
    setup.incarnation.get_or_init(|| folder.incarnation());
    Ok((folder, journal))
}

fn open_store(
    setup: &NodeSetup,
    folder: &Arc<DataFolder>,
    journal: &Arc<SegmentJournal>,
) -> Result<StoreStages, NodeError> {
    // A lost file makes the next start no more than less certain.
    let _ = clock_file::write_last_time(folder.path(), &setup.clock);
    // From here on threads run. An error must end them, or they would keep the store in use.
    let stages = open_stages(setup, folder, journal).inspect_err(|_| {
        journal.close();
        setup.discard_mark.note_failure(journal);
    })?;
    // Not before everything was read from the new store.
    migration::remove_former_files(folder);
    Ok(stages)
}

/// Opens the data folder and its journal; migrates a store of the former format before.
pub(super) fn open_journal(
    config: &Config,
    deps: &NodeDeps,
    discard_mark: &DiscardMark,
) -> Result<(Arc<DataFolder>, Arc<SegmentJournal>), NodeError> {
    let cipher = ContentCipher::from_config(&config.store);
    let folder = DataFolder::open_encrypted(&config.store.path, cipher)?;
    let journal = open_journal_as(LogRole::Sole, &folder, config, deps, discard_mark)?;
    Ok((folder, journal))
}

/// Opens the data folder and its journal as a copy of the cluster's log, whose store has the identity
/// `shared`.
pub(super) fn open_copied_journal(
    config: &Config,
    deps: &NodeDeps,
    discard_mark: &DiscardMark,
    shared: &str,
) -> Result<(Arc<DataFolder>, Arc<SegmentJournal>), NodeError> {
    let cipher = ContentCipher::from_config(&config.store);
    let folder = DataFolder::open_copy(&config.store.path, cipher, shared)?;
    let journal = open_journal_as(LogRole::Follower, &folder, config, deps, discard_mark)?;
    Ok((folder, journal))
}

fn open_journal_as(
    role: LogRole,
    folder: &Arc<DataFolder>,
    config: &Config,
    deps: &NodeDeps,
    discard_mark: &DiscardMark,
) -> Result<Arc<SegmentJournal>, NodeError> {
    let migration = StoreMigration {
        folder,
        disk: Arc::clone(&deps.disk),
        clock: deps.clock.as_ref(),
        cache_bytes: config.store.cache_bytes,
        segment_bytes: config.store.segment_bytes,
    };
    migration.run()?;

    let journal = discard_mark.open_journal(|discard_after| {
        SegmentJournal::open_as(
            role,
            folder,
            Arc::clone(&deps.disk),
            journal_limits(config),
            Arc::clone(&deps.clock),
            CommitObservers {
                metrics: Arc::clone(&deps.metrics),
                traces: deps.traces.clone(),
            },
            discard_after,
        )
    })?;
    Ok(journal)
}

/// Opens what is derived from the journal, and the stages that need nothing else.
fn open_stages(
    setup: &NodeSetup,
    folder: &Arc<DataFolder>,
    journal: &Arc<SegmentJournal>,
) -> Result<StoreStages, NodeError> {
    let (config, deps) = (&setup.live_config.current(), &setup.deps);
    let as_journal = || Arc::clone(journal) as Arc<dyn Journal>;
    let open_derived = || -> Result<_, NodeError> {
        let failure_injector = Arc::clone(&deps.failure_injector);
        let derived = DerivedStore::open(folder, config.store.cache_bytes, failure_injector)?;
        retention::load_base(journal, &derived)?;
        let tables = open_tables(journal, &derived)?;
        Ok((derived, tables))
    };
    let (mut derived, mut tables) = open_derived()?;

    // No stage uses the rows yet.
    let mut has_copy_failed = false;
    let mut erased = match erasure::remove_remains(&tables, &derived, journal, deps.fingerprint) {
        // One segment that cannot be rewritten is no reason to refuse events.
        Err(error) if error.is_of_content() => {
            warn!(
                error = &error as &dyn std::error::Error,
                "erased content could not be removed from all files; trying again later"
            );
            deps.metrics.count_erasure_failure();
            has_copy_failed = true;
            Vec::new()
        }
        removed => removed?,
    };
    if !erased.is_empty() {
        tables.close()?;
        match write_clean_files(folder, journal, &derived, config.store.cache_bytes) {
            Ok(()) => {
                drop((tables, derived));
                derived::adopt_copy(folder)?;
                (derived, tables) = open_derived()?;
            }
            // A lack of room for the copy is no reason to refuse events.
            Err(error) => {
                warn!(
                    error = &error as &dyn std::error::Error,
                    "derived store could not be copied for erasures; trying again later"
                );
                has_copy_failed = true;
                erased.clear();
            }
        }
    }
    erasure::hide_erased(&tables, journal, deps.fingerprint, &erased)?;

    let accounts_max = config.sources.instagram.accounts_max;
    let accounts = AccountRegistry::open(&tables, accounts_max).map_err(NodeError::Accounts)?;
    let subscriptions_max = config.delivery.subscriptions_max;
    let subscriptions =
        SubscriptionRegistry::open(&tables, subscriptions_max).map_err(NodeError::Subscriptions)?;
    let tokens_max = config.admin.tokens_max;
    let tokens = TokenRegistry::open(&tables, tokens_max).map_err(NodeError::Tokens)?;
    let audit = AuditLog::open(&tables, audit_limits(config))?;

    let call_log = open_call_log(&derived, call_log_limits(config))?;
    let projection = Projection::start(
        Arc::clone(&derived),
        as_journal(),
        projection_limits(config),
        Arc::clone(&deps.clock),
        deps.fingerprint,
    )
    .inspect_err(|_| call_log.close())?;

    Ok(StoreStages {
        folder: Arc::clone(folder),
        journal: Arc::clone(journal),
        derived,
        tables,
        projection,
        accounts: Arc::new(accounts),
        subscriptions: Arc::new(subscriptions),
        tokens: Arc::new(tokens),
        audit: Arc::new(audit),
        call_log,
        erased,
        has_copy_failed,
    })
}

/// Opens the tables, and lets the journal serve the records that they keep.
pub(super) fn open_tables(
    journal: &Arc<SegmentJournal>,
    derived: &Arc<DerivedStore>,
) -> Result<Arc<TableStore>, NodeError> {
    let as_journal = Arc::clone(journal) as Arc<dyn Journal>;
    let tables = TableStore::open(as_journal, Arc::clone(derived))?;
    let kept_records = Arc::clone(&tables) as Arc<dyn KeptRecords>;
    journal.serve_kept_records(Arc::downgrade(&kept_records));
    Ok(tables)
}

/// Writes the rows of `derived`, which no stage uses, to files without what was removed from them:
/// the journal's base file, and the copy that takes the place of the derived store.
pub(super) fn write_clean_files(
    folder: &DataFolder,
    journal: &SegmentJournal,
    derived: &Arc<DerivedStore>,
    cache_bytes: u64,
) -> Result<(), NodeError> {
    retention::renew_base(journal, derived)?;
    Ok(derived.copy_rows(folder, cache_bytes)?)
}

/// Opens the call log. A damaged call log is cleared: it is a record for people, and no reason to
/// refuse events.
fn open_call_log(
    store: &Arc<DerivedStore>,
    limits: call_log::CallLogLimits,
) -> Result<Arc<CallLog>, call_log::CallLogOpenError> {
    match CallLog::open(store, limits) {
        Err(error @ call_log::CallLogOpenError::Corrupt(_)) => {
            error!(%error, "call log damaged; its rows are dropped");
            call_log::clear_call_log(store)?;
            CallLog::open(store, limits)
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
        segment_bytes: config.store.segment_bytes,
    }
}

pub(super) fn projection_limits(config: &Config) -> projection::ProjectionLimits {
    projection::ProjectionLimits {
        claim_window: idempotency_windows(config).longest_window(),
    }
}

/// Returns the times for which each source's claims are remembered. A signature with a time holds for
/// the tolerance before and after it.
fn idempotency_windows(config: &Config) -> IdempotencyWindows {
    let sources = &config.sources;
    let of_support = ClaimWindows::new(
        sources.support.idempotency_window,
        2 * sources.support.tolerance,
    );
    let of_leads = ClaimWindows::new(IdempotencyWindows::DEFAULT, 2 * sources.leads.tolerance);
    let of_custom = sources.custom.iter().map(|custom| {
        let lifetime = custom.source.signature_lifetime();
        let windows = ClaimWindows::new(custom.idempotency_window, lifetime);
        (custom.name, windows)
    });
    let contracts = [(support::SOURCE, of_support), (leads::SOURCE, of_leads)];
    IdempotencyWindows(contracts.into_iter().chain(of_custom).collect())
}

fn call_log_limits(config: &Config) -> call_log::CallLogLimits {
    call_log::CallLogLimits {
        rows_max: config.call_log.rows_max,
        refused_rows_max: config.call_log.refused_rows_max,
        failed_rows_max: config.call_log.failed_rows_max,
    }
}

fn audit_limits(config: &Config) -> AuditLimits {
    AuditLimits {
        entries_max: config.audit.entries_max,
        refused_entries_max: config.audit.refused_entries_max,
        keep_for: config.audit.keep_for,
    }
}
