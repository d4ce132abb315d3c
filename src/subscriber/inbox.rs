//! The inbox of a subscriber that has an actor: what the dispatcher and others put there, and what
//! its actor says of itself.
//!
//! All of them are on one thread. What stands here is never older than the last thing that the
//! actor did, so that the dispatcher can vouch for everybody at any moment, without asking.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use actix::Addr;

use super::actor::{InboxWakeup, SubscriberActor};
use super::attempt::AttemptLogEntry;
use super::attempt_permits::{AttemptPermit, PermitClass};
use super::delivery::{DeliveryBreakerState, DeliveryInput, DeliveryStatus, MatchedRecord};
use super::reader::{DroppedRange, MatchedBatch};
use super::tables::ReadStateRow;
use crate::event::Position;

/// Something that the actor is told.
#[derive(Debug)]
pub(super) enum ActorMessage {
    /// What is passed on to its delivery.
    Input(DeliveryInput),
    /// An attempt ended, and this is to be logged of it.
    AttemptFinished(DeliveryInput, Option<Box<AttemptLogEntry>>),
    /// What was read for it, by the number of the reading.
    BatchRead(u64, MatchedBatch),
    /// Deliveries that are not made.
    RangeDropped(DroppedRange),
    /// Its definition is another one, so everything is judged anew from now on.
    DefinitionChanged,
    /// A job may have something for it.
    ReplaysAvailable,
}

/// Whose cursor counts for a subscriber.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReadState {
    /// The dispatcher's.
    Live,
    /// Its own: it reads for itself, from here on.
    Behind(Position),
}

/// One inbox.
#[derive(Debug)]
pub(super) struct SubscriberInbox {
    address: RefCell<Option<Addr<SubscriberActor>>>,
    is_awake: Cell<bool>,
    is_closed: Cell<bool>,
    read_state: Cell<ReadState>,
    records: RefCell<Vec<MatchedRecord>>,
    record_bytes: Cell<usize>,
    messages: RefCell<Vec<ActorMessage>>,
    permits: RefCell<Vec<AttemptPermit>>,
    /// Turns that it has, and whether it waits for another.
    permits_held: Cell<usize>,
    is_waiting: Cell<bool>,
    /// Whether it stands in the queue for turns of anybody, and in that for first ones.
    queued_for: [Cell<bool>; 2],
    /// How many events, and bytes of them, the actor has room for besides what is here.
    room: Cell<(usize, usize)>,
    oldest_held: Cell<Option<Position>>,
    status: Cell<DeliveryStatus>,
    /// Where the ledger has it.
    stored_read_state: Cell<Option<ReadStateRow>>,
}

impl SubscriberInbox {
    /// An inbox without an actor yet.
    pub(super) fn new(
        course: ReadState,
        noted: Option<ReadStateRow>,
        room: (usize, usize),
    ) -> Rc<Self> {
        let breaker = DeliveryBreakerState::Closed;
        Rc::new(Self {
            address: RefCell::default(),
            is_awake: Cell::default(),
            is_closed: Cell::default(),
            read_state: Cell::new(course),
            records: RefCell::default(),
            record_bytes: Cell::default(),
            messages: RefCell::default(),
            permits: RefCell::default(),
            permits_held: Cell::default(),
            is_waiting: Cell::default(),
            queued_for: Default::default(),
            room: Cell::new(room),
            oldest_held: Cell::default(),
            status: Cell::new(DeliveryStatus {
                breaker,
                running: 0,
                queued: 0,
                stopped: 0,
                failing_for: None,
            }),
            stored_read_state: Cell::new(noted),
        })
    }

    /// Whose inbox it is from now on.
    pub(super) fn attach_actor(&self, actor: Addr<SubscriberActor>) {
        self.address.replace(Some(actor));
        self.is_awake.set(false);
        self.wake();
    }

    /// Puts in a record that was met; `false` if there is no room for it.
    pub(super) fn try_push_record(&self, met: MatchedRecord, bytes: usize) -> bool {
        let mut all = self.records.borrow_mut();
        let (events_max, bytes_max) = self.room.get();
        // One that is larger than the window goes alone.
        let fits = all.len() < events_max
            && (self.record_bytes.get() + bytes <= bytes_max || all.is_empty());
        if fits {
            all.push(met);
            self.record_bytes.set(self.record_bytes.get() + bytes);
        }
        fits
    }

    /// Takes out the records that were met.
    pub(super) fn take_records(&self) -> Vec<MatchedRecord> {
        self.record_bytes.set(0);
        self.records.take()
    }

    /// Tells its actor something.
    pub(super) fn push_message(&self, told: ActorMessage) {
        if !self.is_closed.get() {
            self.messages.borrow_mut().push(told);
            self.wake();
        }
    }

    /// Takes out what it was told.
    pub(super) fn take_messages(&self) -> Vec<ActorMessage> {
        self.messages.take()
    }

    /// Makes its actor look into it soon.
    pub(super) fn wake(&self) {
        if self.is_awake.get() {
            return;
        }
        if let Some(address) = &*self.address.borrow() {
            // A clone of an address has a place of its own in the mailbox; a closed one belongs to
            // an actor that crashed.
            self.is_awake
                .set(address.clone().try_send(InboxWakeup).is_ok());
        }
    }

    /// Its actor begins to look into it: whatever is put there from now on wakes it again.
    pub(super) fn reset_wake(&self) {
        self.is_awake.set(false);
    }

    /// Closes it for good, which ends its actor: its subscriber is gone or has nothing to do.
    pub(super) fn close(&self) {
        self.is_closed.set(true);
        self.clear();
        self.wake();
    }

    pub(super) fn is_closed(&self) -> bool {
        self.is_closed.get()
    }

    /// Whether nothing is in it.
    pub(super) fn is_empty(&self) -> bool {
        self.records.borrow().is_empty() && self.messages.borrow().is_empty()
    }

    pub(super) fn read_state(&self) -> ReadState {
        self.read_state.get()
    }

    pub(super) fn set_read_state(&self, course: ReadState) {
        self.read_state.set(course);
    }

    /// What its actor says of itself whenever it has done something.
    pub(super) fn publish_status(
        &self,
        held: Option<Position>,
        room: (usize, usize),
        standing: DeliveryStatus,
    ) {
        self.oldest_held.set(held);
        self.room.set(room);
        self.status.set(standing);
    }

    pub(super) fn status(&self) -> DeliveryStatus {
        self.status.get()
    }

    /// The oldest record of which nothing is noted although it is unsettled.
    pub(super) fn oldest_unsettled(&self) -> Option<Position> {
        let met = self.records.borrow().first().map(|met| met.item.position);
        self.oldest_held.get().into_iter().chain(met).min()
    }

    pub(super) fn stored_read_state(&self) -> Option<ReadStateRow> {
        self.stored_read_state.get()
    }

    pub(super) fn set_stored_read_state(&self, place: ReadStateRow) {
        self.stored_read_state.set(Some(place));
    }

    /// Its actor is gone, and what was in its hands with it: another one has to begin at `from`
    /// again.
    pub(super) fn detach_actor(&self, from: Position) {
        self.clear();
        self.address.replace(None);
        self.oldest_held.set(None);
        self.read_state.set(ReadState::Behind(from));
    }

    pub(super) fn take_permit(&self) -> Option<AttemptPermit> {
        self.permits.borrow_mut().pop()
    }

    pub(super) fn give_permit(&self, turn: AttemptPermit) {
        self.permits.borrow_mut().push(turn);
        self.wake();
    }

    /// Gives back the turns that were not used.
    pub(super) fn return_permits(&self) {
        drop(self.permits.take());
    }

    /// Whether it has no turn, and the last attempt was not one that failed.
    pub(super) fn can_use_reserved_permits(&self) -> bool {
        self.permits_held.get() == 0 && self.status.get().failing_for.is_none()
    }

    /// Has so many turns more.
    pub(super) fn adjust_permits_held(&self, more: isize) {
        self.permits_held
            .set(self.permits_held.get().saturating_add_signed(more));
    }

    pub(super) fn set_waiting_for_permit(&self, waits: bool) {
        self.is_waiting.set(waits);
    }

    pub(super) fn is_waiting_for_permit(&self) -> bool {
        self.is_waiting.get()
    }

    /// Notes whether it stands in the queue for turns of `part`; says whether that is new.
    pub(super) fn set_queued_for(&self, part: PermitClass, stands: bool) -> bool {
        let place = match part {
            PermitClass::Common => 0,
            PermitClass::Reserved => 1,
        };
        self.queued_for[place].replace(stands) != stands
    }

    fn clear(&self) {
        drop((self.take_records(), self.take_messages()));
        self.return_permits();
    }
}
