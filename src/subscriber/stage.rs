//! What dispatcher and actors share: the means of the stage, and who is where. All of it belongs to
//! the stage's one thread, so that whatever happens between two awaits happens at once for
//! everybody.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

use super::announce::SubscriberAnnouncer;
use super::attempt::{AttemptLogEntry, AttemptNumber, AttemptOutcome};
use super::attempt_permits::AttemptPermits;
use super::checkpoint::CheckpointBuffer;
use super::delivery::LaneRow;
use super::delivery_policy::DeliveryPolicy;
use super::inbox::{ReadState, SubscriberInbox};
use super::memory::DeliveryMemory;
use super::reader::DroppedRange;
use super::subscriber_set::SubscriberSet;
use super::tables::{DeliveryTables, ReadStateRow, SubscriberCounters};
use super::{DeliveryStageError, OutboundRecord, RecoveryStores, SubscriberId};
use crate::call_log::CallLog;
use crate::clock::Clock;
use crate::event::{Position, Timestamp};
use crate::journal::Journal;
use crate::projection::ProjectionReader;

/// What an attempt came to, and what is to be logged of it.
pub(super) type LoggedOutcome = (AttemptOutcome, Option<Box<AttemptLogEntry>>);

/// How attempts are made.
pub(super) type AttemptFn = Box<
    dyn Fn(
        Arc<DeliveryPolicy>,
        OutboundRecord,
        AttemptNumber,
    ) -> std::pin::Pin<Box<dyn Future<Output = LoggedOutcome>>>,
>;

/// The means of the stage.
pub(super) struct DeliveryStageDeps {
    pub(super) journal: Arc<dyn Journal>,
    pub(super) reads: ProjectionReader,
    pub(super) tables: DeliveryTables,
    pub(super) checkpoints: Arc<CheckpointBuffer>,
    pub(super) recovery: RecoveryStores,
    pub(super) call_log: Arc<CallLog>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) permits: Rc<AttemptPermits>,
    pub(super) memory: DeliveryMemory,
    pub(super) attempt_fn: AttemptFn,
    /// Lets go of what is kept ready for the attempts to somebody who is gone.
    pub(super) forget_client: Box<dyn Fn(&SubscriberId)>,
    pub(super) announcer: SubscriberAnnouncer,
}

/// Where a subscriber is that has no actor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DormantState {
    /// It is live, and nothing is owed to it.
    Live,
    /// Nothing is delivered to it, and what comes from here on is owed.
    Paused(Position),
    /// Nothing is owed to it any more; what was is being counted.
    Dropping,
}

/// Something that only the dispatcher can do.
#[derive(Debug)]
pub(super) enum DispatcherTask {
    /// The actor of this subscriber is gone, and was not meant to be.
    ActorCrashed(SubscriberId),
    /// Nothing may be delivered to this subscriber any more.
    Disable(SubscriberId, String),
    /// This is what a disabled subscriber was owed.
    BacklogCounted(SubscriberId, Option<DroppedRange>),
    /// This subscriber has rested for long enough.
    Resume(SubscriberId),
    /// This is what is stored of a subscriber's lanes; its actor can begin.
    LanesLoaded(SubscriberId, Rc<SubscriberInbox>, Vec<LaneRow>),
}

/// The stage.
pub(super) struct DeliveryStage {
    pub(super) deps: DeliveryStageDeps,
    pub(super) subscriber_set: RefCell<Rc<SubscriberSet>>,
    /// Everything before it was looked at for all who are live.
    pub(super) position: Cell<Position>,
    /// What the last round said of that: everything before it is settled or has a row, for all who
    /// were live.
    pub(super) checkpoint_cursor: Cell<Position>,
    pub(super) inboxes: RefCell<HashMap<SubscriberId, Rc<SubscriberInbox>>>,
    pub(super) dormant: RefCell<HashMap<SubscriberId, DormantState>>,
    counters: RefCell<HashMap<SubscriberId, SubscriberCounters>>,
    /// Whose counters are not as the ledger has them.
    changed_counters: RefCell<Vec<SubscriberId>>,
    tasks: RefCell<Vec<DispatcherTask>>,
    failure: RefCell<Option<DeliveryStageError>>,
    woken: Notify,
    is_stopping: Cell<bool>,
}

impl DeliveryStage {
    pub(super) fn new(
        means: DeliveryStageDeps,
        roster: Rc<SubscriberSet>,
        from: Position,
    ) -> Rc<Self> {
        Rc::new(Self {
            deps: means,
            subscriber_set: RefCell::new(roster),
            position: Cell::new(from),
            checkpoint_cursor: Cell::new(from),
            inboxes: RefCell::default(),
            dormant: RefCell::default(),
            counters: RefCell::default(),
            changed_counters: RefCell::default(),
            tasks: RefCell::default(),
            failure: RefCell::default(),
            woken: Notify::new(),
            is_stopping: Cell::default(),
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

    pub(super) fn inbox(&self, id: &SubscriberId) -> Option<Rc<SubscriberInbox>> {
        self.inboxes.borrow().get(id).map(Rc::clone)
    }

    /// Leaves something for the dispatcher.
    pub(super) fn push_task(&self, errand: DispatcherTask) {
        self.tasks.borrow_mut().push(errand);
        self.woken.notify_one();
    }

    pub(super) fn take_tasks(&self) -> Vec<DispatcherTask> {
        self.tasks.take()
    }

    /// Ends the stage: nothing can be delivered from this opening of the store any more.
    pub(super) fn fail(&self, failed: impl Into<DeliveryStageError>) {
        self.failure.borrow_mut().get_or_insert(failed.into());
        self.woken.notify_one();
    }

    pub(super) fn take_failure(&self) -> Option<DeliveryStageError> {
        self.failure.take()
    }

    /// Waits until there is an errand or a failure.
    pub(super) async fn wait_for_task(&self) {
        self.woken.notified().await;
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.is_stopping.get()
    }

    /// No attempt begins from now on.
    pub(super) fn set_stopping(&self) {
        self.is_stopping.set(true);
    }

    /// Notes what `count` counts.
    pub(super) fn update_counters(
        &self,
        id: &SubscriberId,
        count: impl FnOnce(&mut SubscriberCounters),
    ) {
        count(self.counters.borrow_mut().entry(id.clone()).or_default());
        let mut counted = self.changed_counters.borrow_mut();
        // Mostly the same one counts again and again.
        if counted.last() != Some(id) {
            counted.push(id.clone());
        }
    }

    pub(super) fn counters(&self, id: &SubscriberId) -> SubscriberCounters {
        self.counters.borrow().get(id).copied().unwrap_or_default()
    }

    pub(super) fn set_counters(&self, all: Vec<(SubscriberId, SubscriberCounters)>) {
        self.counters.borrow_mut().extend(all);
    }

    pub(super) fn forget_counters(&self, id: &SubscriberId) {
        self.counters.borrow_mut().remove(id);
        self.changed_counters
            .borrow_mut()
            .retain(|counted| counted != id);
    }

    /// Gives the ledger the counters that changed.
    pub(super) fn store_counters(&self) {
        let mut counted = self.changed_counters.take();
        counted.sort_unstable();
        counted.dedup();
        for id in counted {
            self.deps.checkpoints.set_counters(&id, &self.counters(&id));
        }
    }

    /// Gives the ledger where everybody is, the dispatcher last. What it writes then vouches for
    /// everything that is unsettled.
    pub(super) fn store_read_states(&self) {
        let mut cursor = self.position.get();
        for (id, inbox) in &*self.inboxes.borrow() {
            let place = match inbox.read_state() {
                ReadState::Live => {
                    cursor = cursor.min(self.subscriber_cursor(inbox));
                    ReadStateRow::Live
                }
                ReadState::Behind(_) => ReadStateRow::Behind(self.subscriber_cursor(inbox)),
            };
            if inbox.stored_read_state() != Some(place) {
                self.deps.checkpoints.set_read_state(id, place);
                inbox.set_stored_read_state(place);
            }
        }
        if cursor != self.checkpoint_cursor.get() {
            self.deps.checkpoints.set_cursor(cursor);
        }
        self.checkpoint_cursor.set(cursor);
    }

    /// Everything before it is settled or has a row, for the owner of `inbox`.
    pub(super) fn subscriber_cursor(&self, inbox: &SubscriberInbox) -> Position {
        let read_to = match inbox.read_state() {
            ReadState::Live => self.position.get(),
            ReadState::Behind(from) => from,
        };
        inbox
            .oldest_unsettled()
            .map_or(read_to, |held| held.min(read_to))
    }

    /// Takes an actor's place back that has nothing to do.
    pub(super) fn retire_actor(
        &self,
        id: &SubscriberId,
        inbox: &SubscriberInbox,
        quiet: DormantState,
    ) {
        let place = match quiet {
            DormantState::Paused(from) => ReadStateRow::Behind(from),
            DormantState::Live | DormantState::Dropping => ReadStateRow::Live,
        };
        if inbox.stored_read_state() != Some(place) {
            self.deps.checkpoints.set_read_state(id, place);
        }
        self.inboxes.borrow_mut().remove(id);
        self.dormant.borrow_mut().insert(id.clone(), quiet);
    }

    /// Takes an actor's place back that crashed: everything is met again since the last round, or
    /// since what it held.
    pub(super) fn mark_crashed(&self, id: &SubscriberId, inbox: &SubscriberInbox) {
        let noted = match (inbox.read_state(), inbox.stored_read_state()) {
            (ReadState::Behind(_), Some(ReadStateRow::Behind(from))) => from,
            (ReadState::Live | ReadState::Behind(_), _) => self.checkpoint_cursor.get(),
        };
        inbox.detach_actor(noted.min(self.subscriber_cursor(inbox)));
        self.push_task(DispatcherTask::ActorCrashed(id.clone()));
    }
}
