//! Delivery stage: matches each record of the journal to its subscribers and delivers it, signed and
//! in the order of its entity.
//!
//! ```text
//!  journal ──frames──> dispatcher ──pattern index──> inbox ──> subscriber actor ──attempts──HTTP──> your systems
//!                                                                lanes, retries, circuit breaker
//!                                                                     │
//!                                        checkpoint buffer ──checkpoints──> cursors, stopped lanes, dead letters
//! ```

mod accounts;
mod actor;
mod actor_waker;
mod announce;
pub mod attempt;
mod attempt_failure;
mod attempt_permits;
mod auto_reply;
mod backlog;
mod checkpoint;
pub mod dead_letters;
mod definition_changes;
pub mod delivery;
pub mod delivery_policy;
mod dispatcher;
mod erased_letters;
mod exhausted_notices;
mod expiry;
mod expression_shares;
mod inbox;
pub mod jobs;
mod memory;
mod missed_records;
mod new_dead_letter;
mod operational_event;
mod outbound_record;
mod owed_records;
mod pull;
mod reader;
mod redelivery;
mod redelivery_deps;
mod stage;
mod stage_error;
mod stage_requests;
mod stats_queries;
mod subscriber_id;
mod subscriber_set;
mod subscriber_stats;
mod tables;

use std::collections::{BTreeSet, HashMap};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix::Arbiter;
use parking_lot::Mutex;
use tokio::sync::{mpsc, watch};
use tracing::error;

use crate::account::AccountRegistry;
use crate::audit::AuditLog;
use crate::call_log::CallLog;
use crate::clock::Clock;
use crate::config::{Config, LiveConfig};
use crate::error_chain::format_error_chain;
use crate::event::{IncarnationHistory, Position};
use crate::journal::Journal;
use crate::metrics::NodeMetrics;
use crate::projection::ProjectionReader;
use crate::router::Router;
use crate::subscription::{Subscription, SubscriptionRegistry};
use crate::table_store::{JournaledTableId, TableStore, TableWriteError};
use crate::traces::TraceSink;
use announce::SubscriberAnnouncer;
use attempt::{AttemptReport, AttemptSender};
use attempt_permits::AttemptPermits;
use checkpoint::CheckpointBuffer;
use dead_letters::{DeadLetterCause, DeadLetterStore};
use definition_changes::DefinitionChanges;
use delivery_policy::DeliveryTarget;
use dispatcher::{Dispatcher, DispatcherDeps};
use expression_shares::{EXPRESSION_THREADS, ExpressionShares};
use jobs::JobRegistry;
use memory::DeliveryMemory;
use pull::PullReader;
use redelivery::RedeliveryStores;
use stage::{AttemptFn, DeliveryStage, DeliveryStageDeps};
use stage_requests::StageRequest;
use stats_queries::{StatsQuery, StatsReader};
use subscriber_set::SubscriberSet;
use tables::{DeliveryTables, ReadState, SubscriberCounters};

pub use attempt_failure::AttemptFailure;
pub use erased_letters::{expire_letter_row, find_record_of_letter, remove_dead_letters};
pub use missed_records::MissedRecords;
pub use operational_event::OperationalEvent;
pub use outbound_record::OutboundRecord;
pub use owed_records::{OwedDelivery, OwedRecords};
pub use pull::{PullError, PulledEvent, PulledPage};
pub(crate) use redelivery_deps::RedeliveryDeps;
pub use stage_error::DeliveryStageError;
pub use stats_queries::StatsError;
pub use subscriber_id::SubscriberId;
pub use subscriber_stats::{DeliveryOverview, SubscriberStats};

/// Services that the stage uses during one opening of the store.
pub struct SubscriberDeps {
    /// Settings of the operator, of the section `delivery` above all.
    pub live_config: Arc<LiveConfig>,
    /// Router that takes operational events and automatic replies.
    pub router: Arc<Router>,
    /// Reader of timelines, for lanes that catch up.
    pub reads: ProjectionReader,
    /// Journal that is the source of all deliveries.
    pub journal: Arc<dyn Journal>,
    /// Log that gets a row for each attempt.
    pub call_log: Arc<CallLog>,
    /// Definitions of the webhook subscriptions.
    pub subscriptions: Arc<SubscriptionRegistry>,
    /// Definitions of the Instagram accounts.
    pub accounts: Arc<AccountRegistry>,
    /// Audit log that gets an entry for each subscription that the stage stops.
    pub audit: Arc<AuditLog>,
    /// Tables with the cursors, stopped lanes, dead letters and jobs.
    pub tables: Arc<TableStore>,
    /// Source of wall and monotonic time.
    pub clock: Arc<dyn Clock>,
    /// Metrics that count delivery attempts.
    pub metrics: Arc<NodeMetrics>,
    /// Sink of the spans of attempts.
    pub traces: TraceSink,
}

/// Blocking threads of the stage's runtime: those for name lookups and expressions, and four for the
/// store. Lookups that hang must not keep checkpoints from being written.
const BLOCKING_THREADS: usize = 4 + attempt::LOOKUPS_MAX + EXPRESSION_THREADS;

/// Handle of the delivery stage, which runs on a thread of its own.
pub struct SubscriberRuntime {
    recovery: RedeliveryStores,
    owed: OwedRecords,
    attempt_sender: AttemptSender,
    pull: PullReader,
    stats: StatsReader,
    /// Carries the patience for running attempts once the stage is to stop.
    stop: watch::Sender<Option<Duration>>,
    failure: watch::Receiver<Option<String>>,
    arbiter: Mutex<Option<Arbiter>>,
    /// Closed as soon as the dispatcher has ended.
    dispatcher_end: Mutex<std::sync::mpsc::Receiver<()>>,
}

impl SubscriberRuntime {
    /// Starts the delivery thread. Needs a running actix system.
    ///
    /// # Errors
    /// [`DeliveryStageError`] when the store or the HTTP client cannot be used.
    pub async fn start(deps: SubscriberDeps) -> Result<Self, DeliveryStageError> {
        let config = deps.live_config.current();
        let config_of_thread = Arc::clone(&config);
        let (deps, stored) = tokio::task::spawn_blocking(move || {
            let config = &config_of_thread;
            let stored =
                StoredDeliveryState::load(config, &deps.tables, &deps.journal, &deps.clock);
            (deps, stored)
        })
        .await
        .map_err(|_| DeliveryStageError::Panicked)?;
        let stored = stored?;
        let expressions = ExpressionShares::new(Arc::clone(&deps.clock));
        let attempt_sender = AttemptSender::try_new(
            &config.delivery,
            deps.journal.incarnations().clone(),
            Arc::clone(&deps.clock),
            Arc::clone(&expressions),
            deps.traces.clone(),
        )?;

        attempt_sender.follow_config(&deps.live_config);

        let (stats, query_receiver) = StatsReader::new(Arc::clone(&deps.journal));
        let (stop, stopping) = watch::channel(None);
        let (failure_sender, failure) = watch::channel(None);
        let (end_sender, dispatcher_end) = std::sync::mpsc::channel();
        let recovery = stored.recovery.clone();
        let owed = OwedRecords::new(stored.tables.clone(), recovery.clone());

        let arbiter = Arbiter::with_tokio_rt(|| {
            tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .thread_name("subscribers")
                .max_blocking_threads(BLOCKING_THREADS)
                .build()
                .expect("a thread's runtime needs only memory and an epoll handle")
        });
        let pull = PullReader {
            journal: Arc::clone(&deps.journal),
            clock: Arc::clone(&deps.clock),
            expressions: Arc::clone(&expressions),
            is_ending: watch::Sender::new(false),
        };
        let stage_sender = attempt_sender.clone();
        arbiter.spawn_fn(move || {
            let senders = (stage_sender, expressions);
            let dispatcher = start_dispatcher(deps, stored, senders, query_receiver, stopping);
            actix_rt::spawn(async move {
                if let Err(failure) = dispatcher.run().await {
                    error!(
                        error = &failure as &dyn std::error::Error,
                        "delivery stage stopped"
                    );
                    failure_sender.send_replace(Some(format_error_chain(&failure)));
                }
                drop(end_sender);
            });
        });

        Ok(Self {
            recovery,
            owed,
            attempt_sender,
            pull,
            stats,
            stop,
            failure,
            arbiter: Mutex::new(Some(arbiter)),
            dispatcher_end: Mutex::new(dispatcher_end),
        })
    }

    /// Watches the failure that stopped the stage; `None` while the stage runs.
    #[must_use]
    pub fn watch_failure(&self) -> watch::Receiver<Option<String>> {
        self.failure.clone()
    }

    /// Returns the statistics of `subscriber`; `None` if the stage does not know it (yet).
    ///
    /// # Errors
    /// [`StatsError`] when the stage does not answer within a second, or has stopped.
    pub async fn stats(
        &self,
        subscriber: &SubscriberId,
    ) -> Result<Option<SubscriberStats>, StatsError> {
        let mut known = self.stats_of(vec![subscriber.clone()]).await?;
        Ok(known.remove(subscriber))
    }

    /// Returns the statistics of `subscribers`, without those that the stage does not know (yet).
    ///
    /// # Errors
    /// [`StatsError`] when the stage does not answer within a second, or has stopped.
    pub async fn stats_of(
        &self,
        subscribers: Vec<SubscriberId>,
    ) -> Result<HashMap<SubscriberId, SubscriberStats>, StatsError> {
        self.stats.read_stats(subscribers).await
    }

    /// Returns the statistics of all subscribers with their sums, up to a second old: all readers
    /// share them.
    ///
    /// # Errors
    /// [`StatsError`] when the stage does not answer within a second, or has stopped.
    pub async fn overview(&self) -> Result<Arc<DeliveryOverview>, StatsError> {
        self.stats.read_overview().await
    }

    /// Sender for attempts outside the lanes, such as the test of a subscription.
    #[must_use]
    pub const fn attempt_sender(&self) -> &AttemptSender {
        &self.attempt_sender
    }

    /// Tries `subscriber` now, because it was seen to answer again or an operator says so.
    pub fn notice_repair(&self, subscriber: SubscriberId) {
        self.recovery
            .requests
            .post(&subscriber, StageRequest::RepairNoticed);
    }

    /// Reads at most `limit` events of `subscription` from `from` on. If there is none, waits up to
    /// `wait` for one.
    ///
    /// # Errors
    /// [`PullError`] when there is nothing to be read at `from`, now or at all.
    pub async fn pull_events(
        &self,
        subscription: &Subscription,
        from: Position,
        limit: usize,
        wait: Duration,
    ) -> Result<PulledPage, PullError> {
        self.pull.read_page(subscription, from, limit, wait).await
    }

    /// Answers all requests that wait for events, because the node is about to stop.
    pub fn end_pulls(&self) {
        self.pull.is_ending.send_replace(true);
    }

    /// Notes that `subscriber`, which reads its events itself, has all of them before `position`.
    ///
    /// # Errors
    /// [`PullError::CursorPastEnd`] when there is no event at `position` yet. Nothing is noted then.
    pub fn acknowledge(
        &self,
        subscriber: SubscriberId,
        position: Position,
    ) -> Result<(), PullError> {
        self.pull.check_cursor(position)?;
        self.recovery
            .requests
            .post(&subscriber, StageRequest::Acknowledged(position));
        Ok(())
    }

    /// Dead letters of all subscribers.
    #[must_use]
    pub const fn dead_letters(&self) -> &Arc<DeadLetterStore> {
        &self.recovery.dead_letters
    }

    /// Records that deliveries still need.
    #[must_use]
    pub const fn owed_records(&self) -> &OwedRecords {
        &self.owed
    }

    /// Jobs that deliver records again.
    #[must_use]
    pub const fn jobs(&self) -> &Arc<JobRegistry> {
        &self.recovery.jobs
    }

    /// Stops the stage: starts no attempt any more, waits for running attempts for at most
    /// `patience`, writes the last checkpoint, and ends the thread. Blocks until the thread has
    /// ended.
    pub fn stop(&self, patience: Duration) {
        // A stage that ended by itself has no receiver any more.
        let _ = self.stop.send(Some(patience));
        let Some(arbiter) = self.arbiter.lock().take() else {
            return;
        };

        if self.failure.borrow().is_none() {
            // The dispatcher sends nothing: it drops its sender when it ends, which is an error here.
            let _ = self.dispatcher_end.lock().recv();
        }

        arbiter.stop();
        // The panic hook has logged a panic of that thread, and its state is gone either way.
        let _ = arbiter.join();
    }
}

/// Delivery state that is read from the store before the first delivery.
struct StoredDeliveryState {
    tables: DeliveryTables,
    checkpoints: Arc<CheckpointBuffer>,
    recovery: RedeliveryStores,
    cursor: Position,
    read_states: HashMap<SubscriberId, ReadState>,
    lane_owners: BTreeSet<SubscriberId>,
    counters: Vec<(SubscriberId, SubscriberCounters)>,
}

impl StoredDeliveryState {
    fn load(
        config: &Config,
        tables: &Arc<TableStore>,
        journal: &Arc<dyn Journal>,
        clock: &Arc<dyn Clock>,
    ) -> Result<Self, DeliveryStageError> {
        let tables = DeliveryTables::new(tables.table(JournaledTableId::Deliveries));
        let checkpoints = Arc::<CheckpointBuffer>::default();
        let recovery =
            RedeliveryStores::open(config, (journal, clock), tables.clone(), &checkpoints)?;

        let journal_end = *journal.durable_end().borrow();
        let cursor = match tables.cursor()? {
            Some(cursor) => cursor,
            None => initialize_cursor(journal_end, &tables, &checkpoints)?,
        };
        let read_states: HashMap<_, _> = tables.read_states()?.into_iter().collect();

        // A cursor past the end means that an older journal was restored. Its new records would be
        // taken for delivered ones.
        let own_cursors = read_states.values().filter_map(|state| match state {
            ReadState::Behind(cursor) => Some(*cursor),
            ReadState::Live => None,
        });
        let highest = own_cursors.chain([cursor]).max();
        if let Some(cursor) = highest.filter(|cursor| *cursor > journal_end) {
            return Err(DeliveryStageError::CursorPastJournalEnd {
                cursor,
                end: journal_end,
            });
        }

        let (lane_owners, counters) = (tables.lane_owners()?, tables.counters()?);
        Ok(Self {
            tables,
            checkpoints,
            recovery,
            cursor,
            read_states,
            lane_owners,
            counters,
        })
    }
}

/// Starts a store that never delivered anything at the journal's end. The cursor is written before
/// any subscriber is live: without a cursor, a start after a crash would begin at a later end and
/// skip the records before it.
fn initialize_cursor(
    journal_end: Position,
    tables: &DeliveryTables,
    checkpoints: &CheckpointBuffer,
) -> Result<Position, TableWriteError> {
    checkpoints.set_cursor(journal_end);
    if let Some(checkpoint) = checkpoints.take_checkpoint() {
        checkpoints.mark_written(checkpoint.write(tables)?);
    }
    Ok(journal_end)
}

/// Builds the dispatcher of the current thread, with all its subscribers placed.
fn start_dispatcher(
    deps: SubscriberDeps,
    stored: StoredDeliveryState,
    (attempt_sender, expressions): (AttemptSender, Arc<ExpressionShares>),
    queries: mpsc::Receiver<StatsQuery>,
    stopping: watch::Receiver<Option<Duration>>,
) -> Dispatcher {
    let SubscriberDeps {
        live_config,
        router,
        reads,
        journal,
        call_log,
        subscriptions,
        accounts,
        audit,
        tables: _,
        clock,
        metrics,
        traces: _,
    } = deps;

    for (reason, _) in DeadLetterCause::NAMED {
        metrics.count_given_up(reason, 0);
    }
    let announcer = SubscriberAnnouncer::new(
        Some(Arc::clone(&router)),
        Arc::clone(&clock),
        journal.incarnations().clone(),
    );
    let attempt_fn = make_attempt_fn(
        attempt_sender.clone(),
        router,
        Arc::clone(&accounts),
        Arc::clone(&live_config),
        journal.incarnations().clone(),
    );
    let config = live_config.current();
    let stage_deps = DeliveryStageDeps {
        journal,
        reads,
        tables: stored.tables.clone(),
        checkpoints: Arc::clone(&stored.checkpoints),
        recovery: stored.recovery.clone(),
        call_log,
        expressions,
        clock,
        metrics,
        permits: AttemptPermits::new(config.delivery.attempts_max),
        memory: DeliveryMemory::new(config.delivery.memory_bytes),
        attempt_fn,
        forget_client: Box::new(move |id: &SubscriberId| attempt_sender.forget(id)),
        announcer,
    };
    let dispatcher_deps = DispatcherDeps {
        live_config,
        subscriptions,
        accounts,
        audit,
        queries,
        stopping,
    };
    build_dispatcher(stage_deps, stored, dispatcher_deps)
}

/// Builds the dispatcher and places every subscriber by its stored state.
fn build_dispatcher(
    stage_deps: DeliveryStageDeps,
    stored: StoredDeliveryState,
    dispatcher_deps: DispatcherDeps,
) -> Dispatcher {
    // Before the snapshots are taken: what changes afterwards is applied by the dispatcher.
    let definition_changes = DefinitionChanges::new(
        &dispatcher_deps.subscriptions,
        &dispatcher_deps.accounts,
        &dispatcher_deps.live_config,
    );
    let subscriber_set = SubscriberSet::from_definitions(
        dispatcher_deps.live_config.current(),
        dispatcher_deps.subscriptions.snapshot(),
        dispatcher_deps.accounts.snapshot(),
    );
    let stage = DeliveryStage::new(
        stage_deps,
        Rc::new(subscriber_set),
        definition_changes,
        stored.cursor,
    );
    stage.set_counters(stored.counters);

    let dispatcher = Dispatcher::new(stage, dispatcher_deps);
    dispatcher.place_subscribers(stored.read_states, stored.lane_owners);
    dispatcher
}

/// Returns the function that makes attempts: automatic replies go to the router, all others out
/// over HTTP.
fn make_attempt_fn(
    attempt_sender: AttemptSender,
    router: Arc<Router>,
    accounts: Arc<AccountRegistry>,
    live_config: Arc<LiveConfig>,
    incarnations: IncarnationHistory,
) -> AttemptFn {
    Box::new(move |policy, item, attempt| {
        if matches!(policy.target, DeliveryTarget::AutoReply) {
            let recipients =
                accounts::AccountRecipients::new(accounts.snapshot(), live_config.current());
            let router = Arc::clone(&router);
            let event_id = incarnations.event_id(item.position);
            return Box::pin(async move {
                let outcome =
                    auto_reply::attempt_auto_reply(&router, &recipients, event_id, &item).await;
                Some((outcome, None))
            });
        }

        let attempt_sender = attempt_sender.clone();
        Box::pin(async move {
            let made = attempt_sender.send_when_possible(&policy, &item, attempt);
            let AttemptReport { outcome, call } = made.await?;
            Some((outcome, Some(Box::new(call))))
        })
    })
}

#[cfg(test)]
mod tests;
