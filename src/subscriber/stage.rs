//! What dispatcher and actors share: the means of the stage, and who is where. All of it belongs to the stage's one thread,
//! so that whatever happens between two awaits happens at once for everybody.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

use super::announce::Announcer;
use super::attempt::{Call, Outcome, Try};
use super::delivery::LaneRow;
use super::inbox::{Course, Inbox};
use super::ledger::Ledger;
use super::memory::Memory;
use super::profile::Profile;
use super::reader::Dropped;
use super::roster::Roster;
use super::rows::{Counters, Place, Rows};
use super::turns::Turns;
use super::{Failed, Graveyard, Item, SubscriberId};
use crate::clock::Clock;
use crate::event::{Position, Timestamp};
use crate::exchange::Exchange;
use crate::journal::Journal;
use crate::projection::Reads;

/// What an attempt came to, and what is to be logged of it.
pub(super) type Attempted = (Outcome, Option<Box<Call>>);

/// How attempts are made.
pub(super) type Attempts = Box<dyn Fn(Arc<Profile>, Item, Try) -> std::pin::Pin<Box<dyn Future<Output = Attempted>>>>;

/// The means of the stage.
pub(super) struct Means {
    pub(super) journal: Arc<dyn Journal>,
    pub(super) reads: Reads,
    pub(super) rows: Rows,
    pub(super) ledger: Arc<Ledger>,
    pub(super) graveyard: Graveyard,
    pub(super) exchange: Arc<Exchange>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) turns: Rc<Turns>,
    pub(super) memory: Memory,
    pub(super) attempts: Attempts,
    /// Lets go of what is kept ready for the attempts to somebody who is gone.
    pub(super) forget: Box<dyn Fn(&SubscriberId)>,
    pub(super) announcer: Announcer,
}

/// Where a subscriber is that has no actor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Quiet {
    /// It is live, and nothing is owed to it.
    Live,
    /// Nothing is delivered to it, and what comes from here on is owed.
    Paused(Position),
    /// Nothing is owed to it any more; what was is being counted.
    Dropping,
}

/// Something that only the dispatcher can do.
#[derive(Debug)]
pub(super) enum Errand {
    /// The actor of this subscriber is gone, and was not meant to be.
    Crashed(SubscriberId),
    /// Nothing may be delivered to this subscriber any more.
    Disable(SubscriberId, String),
    /// This is what a disabled subscriber was owed.
    Counted(SubscriberId, Option<Dropped>),
    /// This subscriber has rested for long enough.
    Resume(SubscriberId),
    /// This is what is stored of a subscriber's lanes; its actor can begin.
    Loaded(SubscriberId, Rc<Inbox>, Vec<LaneRow>),
}

/// The stage.
pub(super) struct Stage {
    pub(super) means: Means,
    pub(super) roster: RefCell<Rc<Roster>>,
    /// Everything before it was looked at for all who are live.
    pub(super) position: Cell<Position>,
    /// What the last round said of that: everything before it is settled or has a row, for all who were live.
    pub(super) vouched: Cell<Position>,
    pub(super) inboxes: RefCell<HashMap<SubscriberId, Rc<Inbox>>>,
    pub(super) quiet: RefCell<HashMap<SubscriberId, Quiet>>,
    counters: RefCell<HashMap<SubscriberId, Counters>>,
    /// Whose counters are not as the ledger has them.
    counted: RefCell<Vec<SubscriberId>>,
    errands: RefCell<Vec<Errand>>,
    failure: RefCell<Option<Failed>>,
    woken: Notify,
    is_stopping: Cell<bool>,
}

impl Stage {
    pub(super) fn new(means: Means, roster: Rc<Roster>, from: Position) -> Rc<Self> {
        Rc::new(Self {
            means,
            roster: RefCell::new(roster),
            position: Cell::new(from),
            vouched: Cell::new(from),
            inboxes: RefCell::default(),
            quiet: RefCell::default(),
            counters: RefCell::default(),
            counted: RefCell::default(),
            errands: RefCell::default(),
            failure: RefCell::default(),
            woken: Notify::new(),
            is_stopping: Cell::default(),
        })
    }

    pub(super) fn now(&self) -> Duration {
        self.means.clock.monotonic()
    }

    pub(super) fn wall(&self) -> Timestamp {
        self.means.clock.wall()
    }

    pub(super) fn roster(&self) -> Rc<Roster> {
        Rc::clone(&self.roster.borrow())
    }

    pub(super) fn inbox(&self, id: &SubscriberId) -> Option<Rc<Inbox>> {
        self.inboxes.borrow().get(id).map(Rc::clone)
    }

    /// Leaves something for the dispatcher.
    pub(super) fn ask(&self, errand: Errand) {
        self.errands.borrow_mut().push(errand);
        self.woken.notify_one();
    }

    pub(super) fn take_errands(&self) -> Vec<Errand> {
        self.errands.take()
    }

    /// Ends the stage: nothing can be delivered from this opening of the store any more.
    pub(super) fn fail(&self, failed: impl Into<Failed>) {
        self.failure.borrow_mut().get_or_insert(failed.into());
        self.woken.notify_one();
    }

    pub(super) fn take_failure(&self) -> Option<Failed> {
        self.failure.take()
    }

    /// Waits until there is an errand or a failure.
    pub(super) async fn woken(&self) {
        self.woken.notified().await;
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.is_stopping.get()
    }

    /// No attempt begins from now on.
    pub(super) fn begin_to_stop(&self) {
        self.is_stopping.set(true);
    }

    /// Notes what `count` counts.
    pub(super) fn count(&self, id: &SubscriberId, count: impl FnOnce(&mut Counters)) {
        count(self.counters.borrow_mut().entry(id.clone()).or_default());
        let mut counted = self.counted.borrow_mut();
        // Mostly the same one counts again and again.
        if counted.last() != Some(id) {
            counted.push(id.clone());
        }
    }

    pub(super) fn counters(&self, id: &SubscriberId) -> Counters {
        self.counters.borrow().get(id).copied().unwrap_or_default()
    }

    pub(super) fn set_counters(&self, all: Vec<(SubscriberId, Counters)>) {
        self.counters.borrow_mut().extend(all);
    }

    pub(super) fn forget_counters(&self, id: &SubscriberId) {
        self.counters.borrow_mut().remove(id);
        self.counted.borrow_mut().retain(|counted| counted != id);
    }

    /// Gives the ledger the counters that changed.
    pub(super) fn keep_counters(&self) {
        let mut counted = self.counted.take();
        counted.sort_unstable();
        counted.dedup();
        for id in counted {
            self.means.ledger.set_counters(&id, &self.counters(&id));
        }
    }

    /// Gives the ledger where everybody is, the dispatcher last. What it writes then vouches for everything that is unsettled.
    pub(super) fn keep_places(&self) {
        let mut cursor = self.position.get();
        for (id, inbox) in &*self.inboxes.borrow() {
            let place = match inbox.course() {
                Course::Live => {
                    cursor = cursor.min(self.cursor(inbox));
                    Place::Live
                }
                Course::Behind(_) => Place::Behind(self.cursor(inbox)),
            };
            if inbox.noted() != Some(place) {
                self.means.ledger.set_place(id, place);
                inbox.note(place);
            }
        }
        if cursor != self.vouched.get() {
            self.means.ledger.set_cursor(cursor);
        }
        self.vouched.set(cursor);
    }

    /// Everything before it is settled or has a row, for the owner of `inbox`.
    pub(super) fn cursor(&self, inbox: &Inbox) -> Position {
        let read_to = match inbox.course() {
            Course::Live => self.position.get(),
            Course::Behind(from) => from,
        };
        inbox.holds().map_or(read_to, |held| held.min(read_to))
    }

    /// Takes an actor's place back that has nothing to do.
    pub(super) fn retire(&self, id: &SubscriberId, inbox: &Inbox, quiet: Quiet) {
        let place = match quiet {
            Quiet::Paused(from) => Place::Behind(from),
            Quiet::Live | Quiet::Dropping => Place::Live,
        };
        if inbox.noted() != Some(place) {
            self.means.ledger.set_place(id, place);
        }
        self.inboxes.borrow_mut().remove(id);
        self.quiet.borrow_mut().insert(id.clone(), quiet);
    }

    /// Takes an actor's place back that crashed: everything is met again since the last round, or since what it held.
    pub(super) fn crashed(&self, id: &SubscriberId, inbox: &Inbox) {
        let noted = match (inbox.course(), inbox.noted()) {
            (Course::Behind(_), Some(Place::Behind(from))) => from,
            (Course::Live | Course::Behind(_), _) => self.vouched.get(),
        };
        inbox.lose_actor(noted.min(self.cursor(inbox)));
        self.ask(Errand::Crashed(id.clone()));
    }
}
