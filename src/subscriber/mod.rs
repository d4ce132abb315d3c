//! The subscribers: brings every record that somebody wants to whoever wants it, signed, one
//! entity's records in their order.
//!
//! ```text
//!  journal ──frames──> dispatcher ──index──> inbox ──> subscriber's actor ──attempts──HTTP──> your systems
//!                                                        lanes, retries, breaker
//!                                                              │
//!                                             ledger ──rounds──> cursors, stopped lanes, dead letters
//! ```

pub mod accounts;
mod actor;
mod announce;
pub mod attempt;
mod attempt_permits;
pub mod auto_reply;
mod backlog;
pub mod checkpoint;
pub mod dead_letters;
pub mod delivery;
pub mod delivery_policy;
mod dispatcher;
mod inbox;
pub mod jobs;
mod memory;
mod reader;
mod stage;
pub mod stage_requests;
mod subscriber_set;
pub mod tables;

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix::Arbiter;
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot, watch};
use tracing::error;

use crate::account::AccountRegistry;
use crate::call_log::CallLog;
use crate::clock::Clock;
use crate::config::Config;
use crate::event::{EventId, Position, Record, StoreIncarnation, Timestamp};
use crate::journal::{DataStore, Journal, StoreWriteError};
use crate::projection::{ProjectionReadError, ProjectionReader};
use crate::router::Router;
use crate::subscription::{self, SubscriptionRegistry};
use announce::SubscriberAnnouncer;
use attempt::{AttemptReport, AttemptSender};
use attempt_permits::AttemptPermits;
use checkpoint::CheckpointBuffer;
use dead_letters::DeadLetterStore;
use delivery_policy::DeliveryTarget;
use dispatcher::{Dispatcher, DispatcherDeps, DispatcherQuery};
use jobs::JobRegistry;
use memory::DeliveryMemory;
use stage::{AttemptFn, DeliveryStage, DeliveryStageDeps};
use stage_requests::{StageRequest, StageRequestQueue};
use subscriber_set::SubscriberSet;
use tables::{DeliveryTables, ReadStateRow, SubscriberCounters};

/// Why nothing can be delivered. The store must be opened anew, or the configuration changed.
#[derive(Debug, thiserror::Error)]
pub enum DeliveryStageError {
    /// What is delivered cannot be noted.
    #[error("cannot write what is delivered")]
    Store(#[from] StoreWriteError),
    /// What is to be delivered cannot be read.
    #[error(transparent)]
    Reads(#[from] ProjectionReadError),
    /// TLS cannot be set up.
    #[error("cannot set up the client for deliveries")]
    Client(#[from] reqwest::Error),
    /// The log is not the one that was delivered from.
    #[error(
        "deliveries have come to position {cursor}, and the journal ends at {end}; restore the data folder from a backup"
    )]
    CursorPastJournalEnd {
        /// Where deliveries are.
        cursor: Position,
        /// The position after the journal's last record.
        end: Position,
    },
    /// A part of it panicked.
    #[error("the subscribers' thread panicked")]
    Panicked,
}

/// What the subscribers rest on, of one opening of the store.
pub struct SubscriberDeps {
    /// What an operator set.
    pub config: Arc<Config>,
    /// Where operational events and automatic replies go.
    pub router: Arc<Router>,
    /// Where an entity's records are found.
    pub reads: ProjectionReader,
    /// Where everything that is delivered comes from.
    pub journal: Arc<dyn Journal>,
    /// Where every attempt is logged.
    pub call_log: Arc<CallLog>,
    /// Who gets what.
    pub subscriptions: Arc<SubscriptionRegistry>,
    /// Whose messages go where.
    pub accounts: Arc<AccountRegistry>,
    /// Where is noted what is delivered.
    pub store: Arc<DataStore>,
    /// The time.
    pub clock: Arc<dyn Clock>,
}

/// Where the deliveries to one subscriber are.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SubscriberStats {
    /// Deliveries that were accepted.
    pub delivered: u64,
    /// Attempts that failed.
    pub failed: u64,
    /// Deliveries that were given up because they were owed for too long, or since it was disabled.
    pub dropped: u64,
    /// When a delivery was accepted last.
    pub last_success_at: Option<Timestamp>,
    /// Since when every attempt failed, if the last one did.
    pub failing_since: Option<Timestamp>,
    /// Attempts under way.
    pub in_flight: usize,
    /// Deliveries that wait in memory.
    pub waiting: usize,
    /// Entities whose deliveries failed and wait to be tried again.
    pub stopped_lanes: usize,
    /// `closed`, `open` or `half_open`.
    pub breaker: &'static str,
    /// Records of the log that it has still to look at.
    pub behind: u64,
}

/// Threads that read and write the store for the stage, besides those that names are looked up on:
/// names that nobody answers for must not keep the ledger from being written.
const BLOCKING_THREADS: usize = 4 + attempt::LOOKUPS_MAX;

/// Questions from outside that wait to be answered.
const COMMANDS_MAX: usize = 1_024;

/// The subscribers of one opening of the store.
pub struct SubscriberRuntime {
    checkpoints: Arc<CheckpointBuffer>,
    recovery: RecoveryStores,
    caller: AttemptSender,
    commands: mpsc::Sender<DispatcherQuery>,
    /// How long attempts under way are waited for, once it is to stop.
    stop: watch::Sender<Option<Duration>>,
    failed: watch::Receiver<Option<String>>,
    arbiter: Mutex<Option<Arbiter>>,
    /// Closed when the dispatcher has ended.
    ended: Mutex<std::sync::mpsc::Receiver<()>>,
}

impl SubscriberRuntime {
    /// Starts delivering what is owed, on a thread of its own. Needs a running actix system.
    ///
    /// # Errors
    /// [`Failed`] when the store or the client cannot be used.
    pub async fn start(parts: SubscriberDeps) -> Result<Self, DeliveryStageError> {
        let (parts, opened) = tokio::task::spawn_blocking(move || {
            let opened = StoredDeliveryState::load(
                &parts.config,
                &parts.store,
                &parts.journal,
                &parts.clock,
            );
            (parts, opened)
        })
        .await
        .map_err(|_| DeliveryStageError::Panicked)?;
        let opened = opened?;
        let incarnation = parts.journal.incarnation();
        let caller = AttemptSender::try_new(
            &parts.config.delivery,
            incarnation,
            Arc::clone(&parts.clock),
        )?;
        let (commands, questions) = mpsc::channel(COMMANDS_MAX);
        let (stop, stopping) = watch::channel(None);
        let (failed_sender, failed) = watch::channel(None);
        let (end, ended) = std::sync::mpsc::channel();
        let (ledger, graveyard) = (Arc::clone(&opened.checkpoints), opened.recovery.clone());
        let arbiter = Arbiter::with_tokio_rt(|| {
            tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .thread_name("subscribers")
                .max_blocking_threads(BLOCKING_THREADS)
                .build()
                .expect("a thread's runtime needs only memory and an epoll handle")
        });
        let for_stage = caller.clone();
        arbiter.spawn_fn(move || {
            let dispatcher = start_dispatcher(parts, opened, for_stage, questions, stopping);
            actix_rt::spawn(async move {
                if let Err(failed) = dispatcher.run().await {
                    error!(
                        error = &failed as &dyn std::error::Error,
                        "deliveries failed"
                    );
                    failed_sender.send_replace(Some(failed.to_string()));
                }
                drop(end);
            });
        });
        let (arbiter, ended) = (Mutex::new(Some(arbiter)), Mutex::new(ended));
        Ok(Self {
            checkpoints: ledger,
            recovery: graveyard,
            caller,
            commands,
            stop,
            failed,
            arbiter,
            ended,
        })
    }

    /// Why it failed, once it has.
    #[must_use]
    pub fn failed(&self) -> watch::Receiver<Option<String>> {
        self.failed.clone()
    }

    /// Where the deliveries to `subscriber` are; `None` for one that is not known (yet).
    pub async fn stats(&self, subscriber: &SubscriberId) -> Option<SubscriberStats> {
        let (reply, answer) = oneshot::channel();
        self.commands
            .send(DispatcherQuery::Stats(subscriber.clone(), reply))
            .await
            .ok()?;
        answer.await.ok()?
    }

    /// Makes attempts besides those of deliveries, such as one that tests a subscription.
    #[must_use]
    pub const fn caller(&self) -> &AttemptSender {
        &self.caller
    }

    /// Tries `subscriber` now if its breaker is open: somebody found that it answers, or says so.
    pub fn probe_breaker(&self, subscriber: SubscriberId) {
        self.recovery.requests.post(StageRequest::Probe(subscriber));
    }

    /// Returns when everything that happened before this call is on the disk.
    ///
    /// # Errors
    /// [`ledger::Closed`] when the store fails or the node stops first.
    pub async fn settled(&self) -> Result<(), checkpoint::LedgerClosedError> {
        self.checkpoints.settled().await
    }

    /// What failed for good.
    #[must_use]
    pub fn dead_letters(&self) -> &Arc<DeadLetterStore> {
        &self.recovery.dead_letters
    }

    /// What is delivered again.
    #[must_use]
    pub fn jobs(&self) -> &Arc<JobRegistry> {
        &self.recovery.jobs
    }

    /// Begins nothing more, waits for attempts that are under way for `patience` at most, notes
    /// where everything is, and ends the thread. Blocks until then.
    pub fn stop(&self, patience: Duration) {
        // Nobody hears it if it ended by itself.
        let _ = self.stop.send(Some(patience));
        let arbiter = self.arbiter.lock().take();
        let Some(arbiter) = arbiter else { return };
        if self.failed.borrow().is_none() {
            // An error means that it ended, which is what is waited for.
            let _ = self.ended.lock().recv();
        }
        arbiter.stop();
        // A panic there has been logged by the hook; what it held is gone either way.
        let _ = arbiter.join();
    }
}

/// What is read of the store before anything is delivered.
struct StoredDeliveryState {
    tables: DeliveryTables,
    checkpoints: Arc<CheckpointBuffer>,
    recovery: RecoveryStores,
    cursor: Position,
    read_states: HashMap<SubscriberId, ReadStateRow>,
    lane_owners: BTreeSet<SubscriberId>,
    counters: Vec<(SubscriberId, SubscriberCounters)>,
}

impl StoredDeliveryState {
    fn load(
        config: &Config,
        store: &Arc<DataStore>,
        journal: &Arc<dyn Journal>,
        clock: &Arc<dyn Clock>,
    ) -> Result<Self, DeliveryStageError> {
        let (rows, ledger) = (
            DeliveryTables::open(Arc::clone(store))?,
            Arc::<CheckpointBuffer>::default(),
        );
        let graveyard = RecoveryStores::open(config, (journal, clock), rows.clone(), &ledger)?;
        let end = *journal.durable_end().borrow();
        let from = match rows.cursor()? {
            Some(cursor) => cursor,
            None => initialize_cursor(end, &rows, &ledger)?,
        };
        let places: HashMap<_, _> = rows.read_states()?.into_iter().collect();
        let behind = places.values().filter_map(|place| match place {
            ReadStateRow::Behind(from) => Some(*from),
            ReadStateRow::Live => None,
        });
        if let Some(cursor) = behind.chain([from]).max().filter(|cursor| *cursor > end) {
            return Err(DeliveryStageError::CursorPastJournalEnd { cursor, end });
        }
        let (lane_owners, counters) = (rows.lane_owners()?, rows.counters()?);
        Ok(Self {
            tables: rows,
            checkpoints: ledger,
            recovery: graveyard,
            cursor: from,
            read_states: places,
            lane_owners,
            counters,
        })
    }
}

/// Lets a store from which nothing was ever delivered begin with what comes next. Noted before
/// anybody is live: whoever finds no cursor after a crash would begin with what came after it.
fn initialize_cursor(
    end: Position,
    rows: &DeliveryTables,
    ledger: &CheckpointBuffer,
) -> Result<Position, StoreWriteError> {
    ledger.set_cursor(end);
    if let Some(round) = ledger.take_checkpoint() {
        round.write(rows)?;
        ledger.mark_written(&round);
    }
    Ok(end)
}

/// The dispatcher of the thread that this is called on, with a place for everybody.
fn start_dispatcher(
    parts: SubscriberDeps,
    opened: StoredDeliveryState,
    caller: AttemptSender,
    commands: mpsc::Receiver<DispatcherQuery>,
    stopping: watch::Receiver<Option<Duration>>,
) -> Dispatcher {
    let SubscriberDeps {
        config,
        router,
        reads,
        journal,
        call_log: exchange,
        subscriptions,
        accounts,
        store: _,
        clock,
    } = parts;
    let announcer = SubscriberAnnouncer::new(
        Some(Arc::clone(&router)),
        Arc::clone(&clock),
        journal.incarnation(),
    );
    let attempts = make_attempt_fn(
        caller.clone(),
        router,
        Arc::clone(&accounts),
        Arc::clone(&config),
        journal.incarnation(),
    );
    let forget = Box::new(move |id: &SubscriberId| caller.forget(id));
    let (turns, memory) = (
        AttemptPermits::new(config.delivery.attempts_max),
        DeliveryMemory::new(config.delivery.memory_bytes),
    );
    let (rows, ledger, graveyard) = (
        opened.tables.clone(),
        Arc::clone(&opened.checkpoints),
        opened.recovery.clone(),
    );
    let means = DeliveryStageDeps {
        journal,
        reads,
        tables: rows,
        checkpoints: ledger,
        recovery: graveyard,
        call_log: exchange,
        clock,
        permits: turns,
        memory,
        attempt_fn: attempts,
        forget_client: forget,
        announcer,
    };
    build_dispatcher(
        means,
        opened,
        DispatcherDeps {
            config,
            subscriptions,
            accounts,
            commands,
            stopping,
        },
    )
}

/// A dispatcher that works by `means`, with a place for everybody.
fn build_dispatcher(
    means: DeliveryStageDeps,
    opened: StoredDeliveryState,
    sources: DispatcherDeps,
) -> Dispatcher {
    let StoredDeliveryState {
        cursor: from,
        read_states: places,
        lane_owners,
        counters,
        ..
    } = opened;
    let (subscriptions, accounts) = (
        sources.subscriptions.snapshot(),
        sources.accounts.snapshot(),
    );
    let roster =
        SubscriberSet::from_definitions(Arc::clone(&sources.config), subscriptions, accounts);
    let stage = DeliveryStage::new(means, Rc::new(roster), from);
    stage.set_counters(counters);
    let dispatcher = Dispatcher::new(stage, sources);
    dispatcher.place_subscribers(places, lane_owners);
    dispatcher
}

/// How attempts are made: an automatic reply by the router, all others by `caller`.
fn make_attempt_fn(
    caller: AttemptSender,
    router: Arc<Router>,
    accounts: Arc<AccountRegistry>,
    config: Arc<Config>,
    incarnation: StoreIncarnation,
) -> AttemptFn {
    Box::new(move |profile, item, which| {
        if matches!(profile.target, DeliveryTarget::AutoReply) {
            let roster = accounts::AccountRecipients::new(accounts.snapshot(), Arc::clone(&config));
            let (router, event_id) = (
                Arc::clone(&router),
                EventId::new(incarnation, item.position),
            );
            return Box::pin(async move {
                (
                    auto_reply::attempt(&router, &roster, event_id, &item).await,
                    None,
                )
            });
        }
        let caller = caller.clone();
        Box::pin(async move {
            let AttemptReport { outcome, call } =
                caller.send_delivery(&profile, &item, which).await;
            (outcome, Some(Box::new(call)))
        })
    })
}

/// What the records of what failed share with the stage: where changes are noted, where the stage
/// is told of them, the time.
pub(crate) type RecoveryDeps = (
    Arc<CheckpointBuffer>,
    Arc<StageRequestQueue>,
    Arc<dyn Clock>,
);

/// What failed for good and what is delivered again, shared by the stage and by who asks from
/// outside.
#[derive(Clone, Debug)]
pub(crate) struct RecoveryStores {
    /// What failed for good.
    pub(crate) dead_letters: Arc<DeadLetterStore>,
    /// What is delivered again.
    pub(crate) jobs: Arc<JobRegistry>,
    /// What those who ask have for the stage to do.
    pub(crate) requests: Arc<StageRequestQueue>,
}

impl RecoveryStores {
    /// What `rows` have of both. Blocks.
    ///
    /// # Errors
    /// Those of the store.
    pub(crate) fn open(
        config: &Config,
        (journal, clock): (&Arc<dyn Journal>, &Arc<dyn Clock>),
        rows: DeliveryTables,
        ledger: &Arc<CheckpointBuffer>,
    ) -> Result<Self, StoreWriteError> {
        let notices = Arc::<StageRequestQueue>::default();
        let shared = || (Arc::clone(ledger), Arc::clone(&notices), Arc::clone(clock));
        let delivery = &config.delivery;
        let dead_letters =
            DeadLetterStore::open(rows.clone(), shared(), delivery.dead_letters_max)?;
        let journal = Arc::clone(journal);
        let bounds = (delivery.jobs_max, delivery.jobs_bytes_max);
        let jobs = JobRegistry::open(&rows, Arc::clone(&dead_letters), journal, shared(), bounds)?;
        Ok(Self {
            dead_letters,
            jobs,
            requests: notices,
        })
    }

    /// Forgets everything about subscribers that are not `known` any more.
    pub(crate) fn retain(&self, known: impl Fn(&SubscriberId) -> bool) {
        self.jobs.retain_subscribers(&known);
        self.dead_letters.retain(&known);
    }
}

/// Who gets deliveries.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SubscriberId {
    /// A subscription.
    Webhook(subscription::SubscriptionId),
    /// The CRM of an Instagram account, which gets the account's messages.
    Forward(Arc<str>),
    /// Instagram, which gets the replies of an account.
    Replies(Arc<str>),
    /// The automatic replies of all accounts.
    AutoReply,
}

impl SubscriberId {
    /// Reads what [`fmt::Display`] writes; `None` for anything else.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let id = match text.split_once(':') {
            Some(("webhook", number)) => Self::Webhook(number.parse().ok()?),
            Some(("forward", account)) => Self::Forward(account.into()),
            Some(("replies", account)) => Self::Replies(account.into()),
            None if text == "auto_reply" => Self::AutoReply,
            _ => return None,
        };
        (id.to_string() == text).then_some(id)
    }
}

impl fmt::Display for SubscriberId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Webhook(number) => write!(f, "webhook:{number}"),
            Self::Forward(account) => write!(f, "forward:{account}"),
            Self::Replies(account) => write!(f, "replies:{account}"),
            Self::AutoReply => f.write_str("auto_reply"),
        }
    }
}

/// A record on its way to a subscriber.
#[derive(Clone, Debug)]
pub struct OutboundRecord {
    /// Its place in the journal.
    pub position: Position,
    /// Its number among its entity's records.
    pub sequence: u64,
    /// When its request was received.
    pub received_at: Timestamp,
    /// The record, shared by all who get it.
    pub record: Arc<Record>,
}

impl OutboundRecord {
    /// What a record takes in memory besides its texts and bytes.
    const OVERHEAD_BYTES: usize = 512;

    /// About how many bytes of memory it takes, whoever bounds what waits.
    fn memory_bytes(&self) -> usize {
        let record = &self.record;
        Self::OVERHEAD_BYTES + record.payload.len() + record.change.len() + record.answer.len()
    }
}

/// Why an attempt did not succeed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttemptFailure {
    /// The answer's status, if there was one.
    pub status: Option<u16>,
    /// A stable code, such as `timeout`.
    pub code: &'static str,
    /// One sentence for a person, without secrets.
    pub detail: String,
    /// The beginning of the answer's body, as far as it was read.
    pub answer: Bytes,
}

#[cfg(test)]
mod tests;
