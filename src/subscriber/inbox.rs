//! Inbox of a subscriber that has an actor: input from the dispatcher and others, and the state that
//! the actor last published.
//!
//! Everything here belongs to the stage's one thread. The published state always covers the actor's
//! last step, so the dispatcher can compute a safe cursor at any moment without asking actors.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use actix::Recipient;

use super::actor_waker::{ActorWaker, InboxWakeup};
use super::attempt::AttemptLogEntry;
use super::attempt_permits::PermitHolder;
use super::delivery::{DeliveryInput, DeliveryStatus, MatchedRecord};
use super::missed_records::MissedRecords;
use super::reader::{MatchedBatch, WindowRoom};
use super::tables::ReadState;
use crate::event::Position;

/// Message to a subscriber's actor.
#[derive(Debug)]
pub(super) enum ActorMessage {
    /// Input for the delivery state machine.
    Input(DeliveryInput),
    /// An attempt ended; its entry still has to be logged.
    AttemptFinished(DeliveryInput, Option<Box<AttemptLogEntry>>),
    /// Result of the journal read that is running.
    BatchRead(MatchedBatch),
    /// Records that the filter has selected, and the end of those that it has judged.
    RecordsJudged(Vec<MatchedRecord>, Position),
    /// Records that were skipped because they had expired.
    RecordsMissed(MissedRecords),
    /// The definition changed; records are matched against the new one from now on.
    DefinitionChanged,
    /// A job may have records for this subscriber.
    ReplaysAvailable,
}

pub(super) struct SubscriberInbox {
    waker: Rc<ActorWaker>,
    permits: Rc<PermitHolder>,
    records: RefCell<Vec<MatchedRecord>>,
    record_bytes: Cell<usize>,
    messages: RefCell<Vec<ActorMessage>>,
    read_state: Cell<ReadState>,
    /// Read state in the last checkpoint, if the subscriber has a row.
    stored_read_state: Cell<Option<ReadState>>,
    /// Room that the actor has for records, those in this inbox included.
    room: Cell<WindowRoom>,
    /// Oldest record in the actor's hands that is neither settled nor stored.
    oldest_held: Cell<Option<Position>>,
    status: Cell<DeliveryStatus>,
}

impl SubscriberInbox {
    /// Creates the inbox of an actor that is not yet spawned.
    pub(super) fn new(
        read_state: ReadState,
        stored_read_state: Option<ReadState>,
        room: WindowRoom,
    ) -> Rc<Self> {
        let waker = ActorWaker::new();
        Rc::new(Self {
            permits: PermitHolder::new(Rc::clone(&waker)),
            waker,
            records: RefCell::default(),
            record_bytes: Cell::default(),
            messages: RefCell::default(),
            read_state: Cell::new(read_state),
            stored_read_state: Cell::new(stored_read_state),
            room: Cell::new(room),
            oldest_held: Cell::default(),
            status: Cell::default(),
        })
    }

    /// Sets the actor that processes this inbox, and wakes it.
    pub(super) fn attach_actor(&self, actor: Recipient<InboxWakeup>) {
        self.waker.attach(actor);
    }

    /// Clears the inbox of a crashed actor. Its successor must read again from `from` on.
    pub(super) fn detach_actor(&self, from: Position) {
        self.clear();
        self.waker.detach();
        self.oldest_held.set(None);
        self.read_state.set(ReadState::Behind(from));
    }

    /// Adds a matched record of `bytes` encoded bytes; returns `false` if there is no room.
    pub(super) fn try_push_record(&self, matched: MatchedRecord, bytes: usize) -> bool {
        let mut records = self.records.borrow_mut();
        let room = self.room.get();

        // A record larger than the whole window goes alone, or it would never be delivered.
        let fits = records.len() < room.events
            && (self.record_bytes.get() + bytes <= room.bytes || records.is_empty());
        if fits {
            records.push(matched);
            self.record_bytes.set(self.record_bytes.get() + bytes);
        }
        fits
    }

    pub(super) fn take_records(&self) -> Vec<MatchedRecord> {
        self.record_bytes.set(0);
        self.records.take()
    }

    /// Adds a message and wakes the actor; a closed inbox drops the message.
    pub(super) fn push_message(&self, message: ActorMessage) {
        if !self.is_closed() {
            self.messages.borrow_mut().push(message);
            self.wake();
        }
    }

    pub(super) fn take_messages(&self) -> Vec<ActorMessage> {
        self.messages.take()
    }

    /// Makes the actor process this inbox soon.
    pub(super) fn wake(&self) {
        self.waker.wake();
    }

    /// Called when the actor begins to process this inbox: later changes need another wakeup.
    pub(super) fn reset_wake(&self) {
        self.waker.reset();
    }

    /// Closes the inbox for ever, which ends its actor: the subscriber is gone or idle.
    pub(super) fn close(&self) {
        self.waker.close();
        self.clear();
        self.wake();
    }

    pub(super) fn is_closed(&self) -> bool {
        self.waker.is_closed()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.records.borrow().is_empty() && self.messages.borrow().is_empty()
    }

    pub(super) fn read_state(&self) -> ReadState {
        self.read_state.get()
    }

    pub(super) fn set_read_state(&self, state: ReadState) {
        self.read_state.set(state);
    }

    /// Publishes the actor's state after a step.
    pub(super) fn publish_status(
        &self,
        oldest_held: Option<Position>,
        room: WindowRoom,
        status: DeliveryStatus,
    ) {
        self.oldest_held.set(oldest_held);
        self.room.set(room);
        self.permits.set_failing(status.is_failing);
        self.status.set(status);
    }

    pub(super) fn status(&self) -> DeliveryStatus {
        self.status.get()
    }

    /// Position of the oldest record, in this inbox or in the actor's hands, that is neither settled
    /// nor stored; the cursor must not pass it.
    pub(super) fn oldest_unsettled(&self) -> Option<Position> {
        let records = self.records.borrow();
        let first_queued = records.first().map(|matched| matched.item.position);
        self.oldest_held.get().into_iter().chain(first_queued).min()
    }

    pub(super) fn stored_read_state(&self) -> Option<ReadState> {
        self.stored_read_state.get()
    }

    pub(super) fn set_stored_read_state(&self, state: ReadState) {
        self.stored_read_state.set(Some(state));
    }

    /// Attempt permits of this subscriber.
    pub(super) const fn permits(&self) -> &Rc<PermitHolder> {
        &self.permits
    }

    fn clear(&self) {
        drop((self.take_records(), self.take_messages()));
        self.permits.return_unused();
    }
}
