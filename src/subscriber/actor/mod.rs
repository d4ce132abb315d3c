//! The actor of a subscriber that owes something: the shell around its delivery, which tells that what happened and does what
//! it asks for.
//!
//! ```text
//!            joins: has read up to the dispatcher, and nothing old is held
//!   Behind ──────────────────────────────────────────────────────────────> Live
//!   reads the journal itself                                   gets what the dispatcher meets
//!          <──────────────────────────────────────────────────────────────
//!            its inbox is full, or its delivery takes nothing (paused, breaker open, too many lanes)
//! ```

mod attempts;
mod reading;

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix::ActorContext;
use actix::prelude::{Actor, AsyncContext, Context, Handler, Message, SpawnHandle};
use tracing::warn;

use super::attempt::Try;
use super::dead_letters::Burial;
use super::delivery::{Delivery, Effect, Input, LaneRow, Ticket};
use super::inbox::{Course, Inbox, Told};
use super::profile::Profile;
use super::reader::{Dropped, Room};
use super::roster::{Judge, Listed};
use super::rows::{Key, encode_lane, lane_key};
use super::stage::{Errand, Quiet, Stage};
use super::{Item, SubscriberId};
use crate::event::Position;
use crate::panics::Containment;
use crate::projection::Unavailable;
use crate::subscription::State;

/// How long an actor stays that has nothing to do: the next event is mostly not far.
const IDLE: Duration = Duration::from_secs(10);

/// Makes an actor look into its inbox.
#[derive(Clone, Copy, Debug)]
pub(super) struct Look;

impl Message for Look {
    type Result = ();
}

/// An attempt that has no turn yet.
type Waiting = (Ticket, Item, Try);

/// One subscriber's actor.
pub(super) struct Subscriber {
    id: SubscriberId,
    stage: Rc<Stage>,
    inbox: Rc<Inbox>,
    profile: Arc<Profile>,
    judge: Judge,
    delivery: Delivery,
    /// What it asked for, in order.
    effects: VecDeque<Effect>,
    /// Rows that are to be kept, or removed, together with what it holds.
    rows: Vec<(Key, Option<Vec<u8>>)>,
    running: HashMap<Ticket, Task>,
    waiting: VecDeque<Waiting>,
    /// The reading that is under way, by its number.
    reading: Option<u64>,
    readings: u64,
    /// Bytes that are being read, at most, and bytes that the stage knows of it.
    incoming: usize,
    claimed: usize,
    /// What was not delivered because it was owed for too long, until the end of that is found.
    dropped: Option<Dropped>,
    timer: Option<(Duration, SpawnHandle)>,
    idle_since: Option<Duration>,
}

/// A task that ends with its owner.
struct Task(actix_rt::task::JoinHandle<()>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Subscriber {
    /// Begins the actor of `id`, whose inbox is `inbox`, with what is stored of its lanes.
    pub(super) fn begin(stage: &Rc<Stage>, id: SubscriberId, inbox: &Rc<Inbox>, listed: Listed, rows: Vec<LaneRow>) {
        let Listed { profile, judge, from: _ } = listed;
        let read_to = match inbox.course() {
            Course::Live => stage.position.get(),
            Course::Behind(from) => from,
        };
        let failing_since = stage.counters(&id).failing_since;
        let failing_for = failing_since.map(|since| stage.wall().distance(since));
        let seed = RandomState::new().hash_one(&id);
        let delivery = Delivery::new(Arc::clone(&profile), read_to, rows, failing_for, seed, stage.now());
        let actor = Self {
            id,
            stage: Rc::clone(stage),
            inbox: Rc::clone(inbox),
            profile,
            judge,
            delivery,
            effects: VecDeque::new(),
            rows: Vec::new(),
            running: HashMap::new(),
            waiting: VecDeque::new(),
            reading: None,
            readings: 0,
            incoming: 0,
            claimed: 0,
            dropped: None,
            timer: None,
            idle_since: None,
        };
        inbox.belong_to(actor.start());
    }

    fn look(&mut self) {
        for told in self.inbox.take_told() {
            self.hear(told);
        }
        let (items, end) = (self.inbox.take_met(), self.read_to());
        if !items.is_empty() || end > self.delivery.read_to() {
            self.step(Input::Met { items, end });
        }
        self.step(Input::Tick);
        self.begin_attempts();
        self.read();
        self.bury_dropped();
        self.publish();
    }

    /// Says what is so now, all at once: a panic before that leaves everything as it was said last.
    fn publish(&mut self) {
        for (key, value) in self.rows.drain(..) {
            match value {
                Some(value) => self.stage.means.ledger.put(key, value),
                None => self.stage.means.ledger.remove(key),
            }
        }
        self.claim(self.delivery.queued_bytes() + self.incoming);
        let Room { events, bytes } = self.room();
        self.inbox.publish(self.holds(), (events, bytes), self.delivery.standing());
    }

    /// Tells the stage how much memory it has.
    fn claim(&mut self, bytes: usize) {
        self.stage.means.memory.change(self.claimed, bytes);
        self.claimed = bytes;
    }

    fn hear(&mut self, told: Told) {
        match told {
            Told::Input(input) => self.step(input),
            Told::Attempted(input, call) => self.attempted(input, call),
            Told::Read(number, read) if self.reading == Some(number) => self.take(read),
            // Its definition changed since it was begun.
            Told::Read(..) => {}
            Told::Dropped(dropped) => self.drop_also(Some(dropped)),
            Told::Changed => self.change(),
            Told::Work => self.take_work(),
        }
    }

    fn step(&mut self, input: Input) {
        self.effects.extend(self.delivery.step(input, self.stage.now()));
        while let Some(effect) = self.effects.pop_front() {
            self.perform(effect);
        }
    }

    fn perform(&mut self, effect: Effect) {
        let (id, means) = (&self.id, &self.stage.means);
        match effect {
            Effect::Attempt { ticket, item, attempt, is_replay } => {
                self.waiting.push_back((ticket, item, Try { attempt, is_replay }));
            }
            Effect::CatchUp { lane, from_sequence } => self.catch_up(lane, from_sequence),
            Effect::Keep(row) => {
                self.rows.push((lane_key(id, &row.key), Some(encode_lane(&row, self.stage.wall()))));
            }
            Effect::Forget(lane) => self.rows.push((lane_key(id, &lane), None)),
            Effect::Bury { item, attempts, failure, reason, replay, is_halting } => {
                let code = failure.code;
                warn!(subscriber = %id, position = %item.position, attempts, code, "delivery failed for good");
                let burial = Burial { item, attempts, failure, reason, is_halting };
                let number = means.graveyard.dead_letters.bury(id, burial.clone());
                means.announcer.exhausted(id, &burial, number, replay.map(|tag| tag.job));
                if let Some(tag) = replay {
                    means.graveyard.jobs.failed(id, tag);
                }
            }
            Effect::Replayed(tag) => means.graveyard.jobs.delivered(id, tag),
            Effect::BreakerOpened { failure_rate } => {
                warn!(subscriber = %id, failure_rate, "deliveries interrupted, too many failed");
                means.announcer.opened(id, failure_rate);
            }
            Effect::BreakerClosed => means.announcer.closed(id),
            Effect::Disable { reason } => self.stage.ask(Errand::Disable(id.clone(), reason)),
        }
    }

    /// Everything before it was looked at, once what is in the inbox is taken.
    fn read_to(&self) -> Position {
        match self.inbox.course() {
            Course::Live => self.stage.position.get(),
            Course::Behind(from) => from,
        }
    }

    /// The oldest record that no cursor of this subscriber may pass.
    fn holds(&self) -> Option<Position> {
        let dropped = self.dropped.map(|dropped| dropped.first);
        self.delivery.holds().into_iter().chain(dropped).min()
    }

    /// Asks the jobs for what is to be delivered again. They wait for one to which nothing is delivered.
    fn take_work(&self) {
        if self.profile.state != State::Active {
            return;
        }
        let (id, inbox, stage) = (self.id.clone(), Rc::clone(&self.inbox), Rc::clone(&self.stage));
        let interest = self.judge.interest();
        actix_rt::spawn(async move {
            match stage.means.graveyard.jobs.next(&id, &interest).await {
                Ok(replays) if replays.is_empty() => {}
                // Its actor is gone, and the next one has to be given them.
                Ok(_) if inbox.is_closed() => stage.means.graveyard.jobs.lost(&id),
                Ok(replays) => inbox.tell(Told::Input(Input::Replay(replays))),
                Err(error) => stage.fail(Unavailable::from(error)),
            }
        });
    }

    fn change(&mut self) {
        let Some(listed) = self.stage.roster().find(&self.id) else { return };
        self.judge = listed.judge;
        self.profile = listed.profile;
        // What was read was judged by what it wanted before.
        self.end_reading();
        self.step(Input::Changed(Arc::clone(&self.profile)));
        self.take_work();
    }
}

/// Its time.
impl Subscriber {
    fn arm(&mut self, ctx: &mut Context<Self>) {
        let now = self.stage.now();
        let due = match self.delivery.next_due() {
            Some(due) => Some(due),
            None if self.is_idle() => {
                let since = *self.idle_since.get_or_insert(now);
                if since + IDLE <= now {
                    return self.retire(ctx);
                }
                Some(since + IDLE)
            }
            None => None,
        };
        if !self.is_idle() {
            self.idle_since = None;
        }
        let Some(due) = due else { return };
        match self.timer {
            // One that is early does no harm.
            Some((armed, _)) if armed <= due && armed > now => return,
            Some((_, handle)) => drop(ctx.cancel_future(handle)),
            None => {}
        }
        let handle = ctx.run_later(due.saturating_sub(now), |actor, ctx| {
            actor.timer = None;
            let _contained = Containment::begin();
            actor.turn(ctx);
        });
        self.timer = Some((due, handle));
    }

    fn is_idle(&self) -> bool {
        let is_settled = self.delivery.is_idle() && self.reading.is_none() && self.inbox.is_empty();
        let is_at_rest = match self.inbox.course() {
            Course::Live => true,
            Course::Behind(_) => self.profile.state != State::Active,
        };
        is_settled && is_at_rest && self.waiting.is_empty() && self.dropped.is_none()
    }

    /// Ends with nothing in its hands.
    fn retire(&mut self, ctx: &mut Context<Self>) {
        let quiet = match self.inbox.course() {
            Course::Live => Quiet::Live,
            Course::Behind(from) => Quiet::Paused(from),
        };
        self.inbox.close();
        self.stage.retire(&self.id, &self.inbox, quiet);
        ctx.stop();
    }

    fn turn(&mut self, ctx: &mut Context<Self>) {
        if self.inbox.is_closed() {
            return ctx.stop();
        }
        self.inbox.begin_look();
        self.look();
        self.arm(ctx);
    }
}

impl Actor for Subscriber {
    type Context = Context<Self>;
}

impl Handler<Look> for Subscriber {
    type Result = ();

    fn handle(&mut self, _: Look, ctx: &mut Self::Context) {
        let _contained = Containment::begin();
        self.turn(ctx);
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        self.claim(0);
        if !self.inbox.is_closed() {
            self.stage.crashed(&self.id, &self.inbox);
        }
    }
}
