//! The inbox of a subscriber that has an actor: what the dispatcher and others put there, and what its actor says of itself.
//!
//! All of them are on one thread. What stands here is never older than the last thing that the actor did, so that the
//! dispatcher can vouch for everybody at any moment, without asking.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use actix::Addr;

use super::actor::{Look, Subscriber};
use super::attempt::Call;
use super::delivery::{BreakerStanding, Input, Met, Standing};
use super::reader::{Dropped, Read};
use super::rows::Place;
use super::turns::{Part, Turn};
use crate::event::Position;

/// Something that the actor is told.
#[derive(Debug)]
pub(super) enum Told {
    /// What is passed on to its delivery.
    Input(Input),
    /// An attempt ended, and this is to be logged of it.
    Attempted(Input, Option<Box<Call>>),
    /// What was read for it, by the number of the reading.
    Read(u64, Read),
    /// Deliveries that are not made.
    Dropped(Dropped),
    /// Its definition is another one, so everything is judged anew from now on.
    Changed,
    /// A job may have something for it.
    Work,
}

/// Whose cursor counts for a subscriber.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Course {
    /// The dispatcher's.
    Live,
    /// Its own: it reads for itself, from here on.
    Behind(Position),
}

/// One inbox.
#[derive(Debug)]
pub(super) struct Inbox {
    address: RefCell<Option<Addr<Subscriber>>>,
    is_awake: Cell<bool>,
    is_closed: Cell<bool>,
    course: Cell<Course>,
    met: RefCell<Vec<Met>>,
    met_bytes: Cell<usize>,
    told: RefCell<Vec<Told>>,
    turns: RefCell<Vec<Turn>>,
    /// Turns that it has, and whether it waits for another.
    turns_held: Cell<usize>,
    is_waiting: Cell<bool>,
    /// Whether it stands in the queue for turns of anybody, and in that for first ones.
    stands: [Cell<bool>; 2],
    /// How many events, and bytes of them, the actor has room for besides what is here.
    room: Cell<(usize, usize)>,
    held: Cell<Option<Position>>,
    standing: Cell<Standing>,
    /// Where the ledger has it.
    noted: Cell<Option<Place>>,
}

impl Inbox {
    /// An inbox without an actor yet.
    pub(super) fn new(course: Course, noted: Option<Place>, room: (usize, usize)) -> Rc<Self> {
        let breaker = BreakerStanding::Closed;
        Rc::new(Self {
            address: RefCell::default(),
            is_awake: Cell::default(),
            is_closed: Cell::default(),
            course: Cell::new(course),
            met: RefCell::default(),
            met_bytes: Cell::default(),
            told: RefCell::default(),
            turns: RefCell::default(),
            turns_held: Cell::default(),
            is_waiting: Cell::default(),
            stands: Default::default(),
            room: Cell::new(room),
            held: Cell::default(),
            standing: Cell::new(Standing { breaker, running: 0, queued: 0, stopped: 0, failing_for: None }),
            noted: Cell::new(noted),
        })
    }

    /// Whose inbox it is from now on.
    pub(super) fn belong_to(&self, actor: Addr<Subscriber>) {
        self.address.replace(Some(actor));
        self.is_awake.set(false);
        self.wake();
    }

    /// Puts in a record that was met; `false` if there is no room for it.
    pub(super) fn meet(&self, met: Met, bytes: usize) -> bool {
        let mut all = self.met.borrow_mut();
        let (events_max, bytes_max) = self.room.get();
        // One that is larger than the window goes alone.
        let fits = all.len() < events_max && (self.met_bytes.get() + bytes <= bytes_max || all.is_empty());
        if fits {
            all.push(met);
            self.met_bytes.set(self.met_bytes.get() + bytes);
        }
        fits
    }

    /// Takes out the records that were met.
    pub(super) fn take_met(&self) -> Vec<Met> {
        self.met_bytes.set(0);
        self.met.take()
    }

    /// Tells its actor something.
    pub(super) fn tell(&self, told: Told) {
        if !self.is_closed.get() {
            self.told.borrow_mut().push(told);
            self.wake();
        }
    }

    /// Takes out what it was told.
    pub(super) fn take_told(&self) -> Vec<Told> {
        self.told.take()
    }

    /// Makes its actor look into it soon.
    pub(super) fn wake(&self) {
        if self.is_awake.get() {
            return;
        }
        if let Some(address) = &*self.address.borrow() {
            // A clone of an address has a place of its own in the mailbox; a closed one belongs to an actor that crashed.
            self.is_awake.set(address.clone().try_send(Look).is_ok());
        }
    }

    /// Its actor begins to look into it: whatever is put there from now on wakes it again.
    pub(super) fn begin_look(&self) {
        self.is_awake.set(false);
    }

    /// Closes it for good, which ends its actor: its subscriber is gone or has nothing to do.
    pub(super) fn close(&self) {
        self.is_closed.set(true);
        self.empty();
        self.wake();
    }

    pub(super) fn is_closed(&self) -> bool {
        self.is_closed.get()
    }

    /// Whether nothing is in it.
    pub(super) fn is_empty(&self) -> bool {
        self.met.borrow().is_empty() && self.told.borrow().is_empty()
    }

    pub(super) fn course(&self) -> Course {
        self.course.get()
    }

    pub(super) fn set_course(&self, course: Course) {
        self.course.set(course);
    }

    /// What its actor says of itself whenever it has done something.
    pub(super) fn publish(&self, held: Option<Position>, room: (usize, usize), standing: Standing) {
        self.held.set(held);
        self.room.set(room);
        self.standing.set(standing);
    }

    pub(super) fn standing(&self) -> Standing {
        self.standing.get()
    }

    /// The oldest record of which nothing is noted although it is unsettled.
    pub(super) fn holds(&self) -> Option<Position> {
        let met = self.met.borrow().first().map(|met| met.item.position);
        self.held.get().into_iter().chain(met).min()
    }

    pub(super) fn noted(&self) -> Option<Place> {
        self.noted.get()
    }

    pub(super) fn note(&self, place: Place) {
        self.noted.set(Some(place));
    }

    /// Its actor is gone, and what was in its hands with it: another one has to begin at `from` again.
    pub(super) fn lose_actor(&self, from: Position) {
        self.empty();
        self.address.replace(None);
        self.held.set(None);
        self.course.set(Course::Behind(from));
    }

    pub(super) fn take_turn(&self) -> Option<Turn> {
        self.turns.borrow_mut().pop()
    }

    pub(super) fn give_turn(&self, turn: Turn) {
        self.turns.borrow_mut().push(turn);
        self.wake();
    }

    /// Gives back the turns that were not used.
    pub(super) fn return_turns(&self) {
        drop(self.turns.take());
    }

    /// Whether it has no turn, and the last attempt was not one that failed.
    pub(super) fn is_first(&self) -> bool {
        self.turns_held.get() == 0 && self.standing.get().failing_for.is_none()
    }

    /// Has so many turns more.
    pub(super) fn has_turns(&self, more: isize) {
        self.turns_held.set(self.turns_held.get().saturating_add_signed(more));
    }

    pub(super) fn waits_for_turn(&self, waits: bool) {
        self.is_waiting.set(waits);
    }

    pub(super) fn is_waiting_for_turn(&self) -> bool {
        self.is_waiting.get()
    }

    /// Notes whether it stands in the queue for turns of `part`; says whether that is new.
    pub(super) fn queues_up(&self, part: Part, stands: bool) -> bool {
        let place = match part {
            Part::Common => 0,
            Part::First => 1,
        };
        self.stands[place].replace(stands) != stands
    }

    fn empty(&self) {
        drop((self.take_met(), self.take_told()));
        self.return_turns();
    }
}
