//! State that the dispatcher and the actors share: services of the stage, read states, counters, and
//! tasks for the dispatcher.
//!
//! All of it belongs to the stage's one thread, so everything between two awaits is atomic for the
//! dispatcher and for all actors.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tracing::warn;

use super::announce::SubscriberAnnouncer;
use super::attempt::{AttemptLogEntry, AttemptNumber, AttemptOutcome};
use super::attempt_permits::AttemptPermits;
use super::checkpoint::CheckpointBuffer;
use super::dead_letters::{DeadLetterCause, NewDeadLetter};
use super::definition_changes::DefinitionChanges;
use super::delivery::LaneRow;
use super::delivery_policy::DeliveryPolicy;
use super::exhausted_notices::ExhaustedNotices;
use super::expiry::ExpiredDeliveries;
use super::expression_shares::ExpressionShares;
use super::inbox::SubscriberInbox;
use super::memory::DeliveryMemory;
use super::missed_records::MissedRecords;
use super::outbound_record::OutboundRecord;
use super::redelivery::RedeliveryStores;
use super::stage_error::DeliveryStageError;
use super::subscriber_id::SubscriberId;
use super::subscriber_set::SubscriberSet;
use super::tables::{DeliveryTables, ReadState, SubscriberCounters};
use crate::call_log::CallLog;
use crate::clock::Clock;
use crate::event::{Position, Timestamp};
use crate::journal::Journal;
use crate::metrics::NodeMetrics;
use crate::projection::ProjectionReader;
use crate::subscription::pattern::is_internal_record;

/// Shortest time between two stores of the counters. Each is an entry of the journal, and a crash
/// costs no more than the counts of this time.
const COUNTERS_INTERVAL: Duration = Duration::from_secs(30);

/// Outcome of an attempt, with its entry for the call log if it was an HTTP call.
pub(super) type LoggedOutcome = (AttemptOutcome, Option<Box<AttemptLogEntry>>);

/// Function that makes one attempt. It returns `None` if this node could not make it for a while,
/// which counts against nobody.
pub(super) type AttemptFn = Box<
    dyn Fn(
        Arc<DeliveryPolicy>,
        OutboundRecord,
        AttemptNumber,
    ) -> Pin<Box<dyn Future<Output = Option<LoggedOutcome>>>>,
>;

/// Services that the stage uses.
pub(super) struct DeliveryStageDeps {
    pub(super) journal: Arc<dyn Journal>,
    pub(super) reads: ProjectionReader,
    pub(super) tables: DeliveryTables,
    pub(super) checkpoints: Arc<CheckpointBuffer>,
    pub(super) recovery: RedeliveryStores,
    pub(super) call_log: Arc<CallLog>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) metrics: Arc<NodeMetrics>,
    pub(super) permits: Rc<AttemptPermits>,
    pub(super) expressions: Arc<ExpressionShares>,
    pub(super) memory: DeliveryMemory,
    pub(super) attempt_fn: AttemptFn,
    /// Drops the HTTP client that is cached for a subscriber.
    pub(super) forget_client: Box<dyn Fn(&SubscriberId)>,
    pub(super) announcer: SubscriberAnnouncer,
}

/// State of a subscriber that has no actor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DormantState {
    /// Live, with no delivery pending.
    Live,
    /// Paused; the records from this position on stay pending.
    Paused(Position),
    /// Disabled; its pending deliveries are being counted before they are dropped.
    Dropping,
    /// The pending deliveries of removed records are being counted; the others go on afterwards.
    Expiring,
}

/// Task that only the dispatcher can do.
pub(super) enum DispatcherTask {
    /// The actor of this subscriber panicked.
    ActorCrashed(SubscriberId),
    /// The subscriber of this policy answered 410 Gone or failed for too long; carries the reason.
    Disable(Arc<DeliveryPolicy>, String),
    /// The backlog of a disabled subscriber is counted.
    BacklogCounted(SubscriberId, MissedRecords),
    /// The expired deliveries of a subscriber are counted.
    DeliveriesExpired(SubscriberId, Box<ExpiredDeliveries>),
    /// The pause after repeated crashes is over.
    Resume(SubscriberId),
    /// The stopped lanes of a subscriber are read, so its actor can be spawned.
    LanesLoaded(SubscriberId, Rc<SubscriberInbox>, Vec<LaneRow>),
}

/// State that the dispatcher and the actors share.
pub(super) struct DeliveryStage {
    pub(super) deps: DeliveryStageDeps,
    pub(super) subscriber_set: RefCell<Rc<SubscriberSet>>,
    /// Position of the next record to match; all records before it were matched for all live
    /// subscribers.
    pub(super) position: Cell<Position>,
    /// Dispatcher's cursor of the last checkpoint: all records before it are settled or stored, for
    /// all subscribers that were live then.
    pub(super) checkpoint_cursor: Cell<Position>,
    pub(super) inboxes: RefCell<HashMap<SubscriberId, Rc<SubscriberInbox>>>,
    pub(super) dormant: RefCell<HashMap<SubscriberId, DormantState>>,
    counters: RefCell<HashMap<SubscriberId, SubscriberCounters>>,
    /// Subscribers whose counters the checkpoint buffer does not yet have.
    changed_counters: RefCell<HashSet<SubscriberId>>,
    /// Monotonic time at which the checkpoint buffer got counters.
    counters_stored_at: Cell<Duration>,
    tasks: RefCell<Vec<DispatcherTask>>,
    failure: RefCell<Option<DeliveryStageError>>,
    task_added: Notify,
    is_stopping: Cell<bool>,
    exhausted: RefCell<ExhaustedNotices>,
    /// Changes that [`DeliveryStage::subscriber_set`] does not have yet.
    pub(super) definition_changes: RefCell<DefinitionChanges>,
    /// Inboxes of actors that begin their attempts after the next change is applied.
    waiting_for_change: RefCell<Vec<Rc<SubscriberInbox>>>,
}

impl DeliveryStage {
    pub(super) fn new(
        deps: DeliveryStageDeps,
        subscriber_set: Rc<SubscriberSet>,
        definition_changes: DefinitionChanges,
        cursor: Position,
    ) -> Rc<Self> {
        Rc::new(Self {
            deps,
            subscriber_set: RefCell::new(subscriber_set),
            position: Cell::new(cursor),
            checkpoint_cursor: Cell::new(cursor),
            inboxes: RefCell::default(),
            dormant: RefCell::default(),
            counters: RefCell::default(),
            changed_counters: RefCell::default(),
            counters_stored_at: Cell::default(),
            tasks: RefCell::default(),
            failure: RefCell::default(),
            task_added: Notify::new(),
            is_stopping: Cell::default(),
            exhausted: RefCell::default(),
            definition_changes: RefCell::new(definition_changes),
            waiting_for_change: RefCell::default(),
        })
    }

    pub(super) fn now(&self) -> Duration {
        self.deps.clock.monotonic()
    }

    pub(super) fn wall(&self) -> Timestamp {
        self.deps.clock.wall()
    }

    pub(super) fn subscriber_set(&self) -> Rc<SubscriberSet> {
        Rc::clone(&self.subscriber_set.borrow())
    }

    /// Returns true if a definition or setting was changed and the dispatcher has not applied it yet; `inbox` is
    /// woken then once it has. An attempt must not begin meanwhile: a change that was answered, such
    /// as a deletion or another URL, holds for each later attempt.
    pub(super) fn waits_for_change(&self, inbox: &Rc<SubscriberInbox>) -> bool {
        let waits = self.definition_changes.borrow().has_unseen();
        if waits {
            self.waiting_for_change.borrow_mut().push(Rc::clone(inbox));
        }
        waits
    }

    /// Wakes the actors that wait for a change: [`DeliveryStage::subscriber_set`] has it.
    pub(super) fn wake_waiting_for_change(&self) {
        for inbox in self.waiting_for_change.take() {
            inbox.wake();
        }
    }

    pub(super) fn inbox(&self, id: &SubscriberId) -> Option<Rc<SubscriberInbox>> {
        self.inboxes.borrow().get(id).map(Rc::clone)
    }

    /// Returns the state of a subscriber without an actor.
    pub(super) fn dormant_state(&self, id: &SubscriberId) -> Option<DormantState> {
        self.dormant.borrow().get(id).copied()
    }

    pub(super) fn set_dormant(&self, id: SubscriberId, state: DormantState) {
        self.dormant.borrow_mut().insert(id, state);
    }

    /// Queues a task for the dispatcher and wakes it.
    pub(super) fn push_task(&self, task: DispatcherTask) {
        self.tasks.borrow_mut().push(task);
        self.task_added.notify_one();
    }

    pub(super) fn take_tasks(&self) -> Vec<DispatcherTask> {
        self.tasks.take()
    }

    /// Makes the dispatcher stop the stage. Only the first failure is kept.
    pub(super) fn fail(&self, error: impl Into<DeliveryStageError>) {
        self.failure.borrow_mut().get_or_insert(error.into());
        self.task_added.notify_one();
    }

    pub(super) fn take_failure(&self) -> Option<DeliveryStageError> {
        self.failure.take()
    }

    /// Waits until there is a task or a failure.
    pub(super) async fn wait_for_task(&self) {
        self.task_added.notified().await;
    }

    /// Notes the new dead letter `number` of `id` for an announcement, if anybody follows them. A
    /// failed delivery of an announcement is not announced, or failures would multiply.
    pub(super) fn note_exhausted(
        &self,
        id: &SubscriberId,
        dead_letter: &NewDeadLetter,
        number: u64,
    ) {
        let is_followed = self.subscriber_set.borrow().are_dead_letters_followed();
        if is_followed && !is_internal_record(&dead_letter.item.record) {
            let announcer = &self.deps.announcer;
            let hops = dead_letter.item.record.hops;
            self.exhausted.borrow_mut().add(id, hops, || {
                announcer.exhausted_payload(id, dead_letter, number)
            });
        }
    }

    /// Announces the noted dead letters that are due.
    pub(super) fn announce_exhausted(&self) {
        for (id, notice) in self.exhausted.borrow_mut().take_due(self.now()) {
            self.deps.announcer.announce_exhausted(&id, notice);
        }
    }

    /// Announces all noted dead letters, because the stage stops.
    pub(super) fn announce_all_exhausted(&self) {
        for (id, notice) in self.exhausted.borrow_mut().take_all() {
            self.deps.announcer.announce_exhausted(&id, notice);
        }
    }

    /// Adds one dead letter for records of `id` that have expired.
    pub(super) fn report_expired(&self, id: &SubscriberId, missed: MissedRecords) {
        let Some((first, last)) = missed.bounds() else {
            return;
        };
        warn!(
            subscriber = %id,
            count = missed.count(),
            %first,
            %last,
            "undelivered events expired (delivery.hold_days)"
        );
        self.add_missed(id, DeadLetterCause::Expired, missed);
    }

    /// Adds one dead letter for records of `id` that are not delivered for `cause`.
    pub(super) fn add_missed(
        &self,
        id: &SubscriberId,
        cause: DeadLetterCause,
        missed: MissedRecords,
    ) {
        let count = missed.count();
        self.deps.metrics.count_given_up(cause.as_str(), count);
        self.deps
            .recovery
            .dead_letters
            .add_missed(id, cause, missed);
        self.update_counters(id, |counters| counters.dropped += count);
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.is_stopping.get()
    }

    /// Prevents all attempts from now on.
    pub(super) fn set_stopping(&self) {
        self.is_stopping.set(true);
    }

    /// Changes the counters of `id` with `update` and marks them for the next checkpoint.
    pub(super) fn update_counters(
        &self,
        id: &SubscriberId,
        update: impl FnOnce(&mut SubscriberCounters),
    ) {
        update(self.counters.borrow_mut().entry(id.clone()).or_default());

        let mut changed = self.changed_counters.borrow_mut();
        if !changed.contains(id) {
            changed.insert(id.clone());
        }
    }

    /// Forgets the time without a success of a subscriber that is resumed or enabled.
    pub(super) fn forget_failing_time(&self, id: &SubscriberId) {
        if !self.counters(id).failing_for.is_zero() {
            self.update_counters(id, |counters| counters.failing_for = Duration::ZERO);
        }
    }

    pub(super) fn counters(&self, id: &SubscriberId) -> SubscriberCounters {
        self.counters.borrow().get(id).copied().unwrap_or_default()
    }

    /// Sets the counters that were read from the store.
    pub(super) fn set_counters(&self, all: Vec<(SubscriberId, SubscriberCounters)>) {
        self.counters.borrow_mut().extend(all);
    }

    /// Drops the counters of a deleted subscriber, or the next checkpoint would write them again.
    pub(super) fn forget_counters(&self, id: &SubscriberId) {
        self.counters.borrow_mut().remove(id);
        self.changed_counters.borrow_mut().remove(id);
    }

    /// Puts changed counters into the checkpoint buffer, at most every [`COUNTERS_INTERVAL`] unless
    /// the stage is stopping.
    pub(super) fn store_counters(&self) {
        let now = self.now();
        let is_due = now >= self.counters_stored_at.get() + COUNTERS_INTERVAL;
        if !is_due && !self.is_stopping() {
            return;
        }
        self.counters_stored_at.set(now);

        for id in self.changed_counters.take() {
            self.deps.checkpoints.set_counters(&id, &self.counters(&id));
        }
    }

    /// Puts changed read states and the dispatcher's cursor into the checkpoint buffer.
    pub(super) fn store_read_states(&self) {
        // The dispatcher's cursor covers all live subscribers, so the slowest of them limits it. A
        // subscriber that is behind has a cursor of its own.
        let mut cursor = self.position.get();
        for (id, inbox) in &*self.inboxes.borrow() {
            let state = match inbox.read_state() {
                ReadState::Live => {
                    cursor = cursor.min(self.subscriber_cursor(inbox));
                    ReadState::Live
                }
                ReadState::Behind(_) => ReadState::Behind(self.subscriber_cursor(inbox)),
            };
            if inbox.stored_read_state() != Some(state) {
                self.deps.checkpoints.set_read_state(id, state);
                inbox.set_stored_read_state(state);
            }
        }

        if cursor != self.checkpoint_cursor.get() {
            self.deps.checkpoints.set_cursor(cursor);
        }
        self.checkpoint_cursor.set(cursor);
    }

    /// Position up to which (exclusive) a subscriber in `state` has been handed all its records.
    pub(super) fn read_position(&self, state: ReadState) -> Position {
        match state {
            ReadState::Live => self.position.get(),
            ReadState::Behind(from) => from,
        }
    }

    /// Highest safe cursor for the owner of `inbox`: all its records before it are settled or stored.
    pub(super) fn subscriber_cursor(&self, inbox: &SubscriberInbox) -> Position {
        let read_to = self.read_position(inbox.read_state());
        inbox
            .oldest_unsettled()
            .map_or(read_to, |oldest| oldest.min(read_to))
    }

    /// Removes an idle actor and leaves its subscriber dormant.
    pub(super) fn retire_actor(&self, id: &SubscriberId, inbox: &SubscriberInbox) {
        let state = inbox.read_state();
        if inbox.stored_read_state() != Some(state) {
            self.deps.checkpoints.set_read_state(id, state);
        }
        self.inboxes.borrow_mut().remove(id);
        let dormant = match state {
            ReadState::Live => DormantState::Live,
            ReadState::Behind(from) => DormantState::Paused(from),
        };
        self.set_dormant(id.clone(), dormant);
    }

    /// Resets the inbox of a crashed actor, so that its successor reads again from the last
    /// checkpoint on, or from the oldest record that the actor held.
    pub(super) fn mark_crashed(&self, id: &SubscriberId, inbox: &SubscriberInbox) {
        let stored_cursor = match (inbox.read_state(), inbox.stored_read_state()) {
            (ReadState::Behind(_), Some(ReadState::Behind(from))) => from,
            (ReadState::Live | ReadState::Behind(_), _) => self.checkpoint_cursor.get(),
        };
        inbox.detach_actor(stored_cursor.min(self.subscriber_cursor(inbox)));
        self.push_task(DispatcherTask::ActorCrashed(id.clone()));
    }
}
