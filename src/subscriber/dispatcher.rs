//! The dispatcher: follows the journal, brings each record to the live subscribers that want it, and sees to everybody's place.
//!
//! ```text
//!  journal ──frame──> decode once ──index──> judge ──> inbox of a live subscriber (its actor begins with the first record)
//!                                                        no room: it falls behind and reads for itself
//!  every round: everybody's rows ──> ledger ──> disk, then the cursor
//! ```

use std::collections::{HashMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix_rt::task::{JoinHandle, spawn_blocking};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, sleep_until, timeout};
use tracing::{error, info, warn};

use super::actor::Subscriber;
use super::dead_letters::Cause;
use super::delivery::{BreakerStanding, Input, LaneKey, LaneRow, Met};
use super::inbox::{Course, Inbox, Told};
use super::ledger::Round;
use super::notices::Notice;
use super::reader::{self, Dropped};
use super::roster::Roster;
use super::rows::Place;
use super::stage::{Errand, Quiet, Stage};
use super::{Failed, Item, Stats, SubscriberId, owed};
use crate::account::Accounts;
use crate::config::Config;
use crate::event::Position;
use crate::journal::{Frame, ReadError, WriteError};
use crate::panics::Containment;
use crate::projection::Unavailable;
use crate::subscription::{Judgement, State, Subscriptions};

/// How often what has changed is written. A crash repeats at most what was delivered since.
const ROUND: Duration = Duration::from_millis(500);

/// How often an actor may crash within a while, before its subscriber is left alone.
const CRASHES_MAX: usize = 5;
const CRASHES_WINDOW: Duration = Duration::from_secs(60);

/// How often is looked whether attempts are still under way when the node stops.
const STOPPING: Duration = Duration::from_millis(5);

/// How often actors are let go first when the node stops; one that is still being loaded takes nothing.
const YIELDS_MAX: usize = 1_000;

/// What somebody outside asks.
pub(super) enum Command {
    /// Where the deliveries to a subscriber are.
    Stats(SubscriberId, oneshot::Sender<Option<Stats>>),
}

/// What the dispatcher is made with.
pub(super) struct Sources {
    pub(super) config: Arc<Config>,
    pub(super) subscriptions: Arc<Subscriptions>,
    pub(super) accounts: Arc<Accounts>,
    pub(super) commands: mpsc::Receiver<Command>,
    pub(super) stopping: watch::Receiver<Option<Duration>>,
}

/// What is under way on another thread.
type Writing = JoinHandle<(Round, Result<(), WriteError>)>;
type Reading = JoinHandle<Result<Option<Arc<Frame>>, ReadError>>;

/// The dispatcher.
pub(super) struct Dispatcher {
    stage: Rc<Stage>,
    sources: Sources,
    durable_end: watch::Receiver<Position>,
    changes: watch::Receiver<u64>,
    asked: watch::Receiver<u64>,
    writing: Option<Writing>,
    reading: Option<Reading>,
    crashes: HashMap<SubscriberId, VecDeque<Duration>>,
}

impl Dispatcher {
    /// A dispatcher for `stage`, on whose roster everybody has found a place.
    pub(super) fn new(stage: Rc<Stage>, sources: Sources) -> Self {
        let (durable_end, changes) = (stage.means.journal.durable_end(), sources.subscriptions.changes());
        let asked = stage.means.ledger.asked();
        let crashes = HashMap::new();
        Self { stage, sources, durable_end, changes, asked, writing: None, reading: None, crashes }
    }

    /// What it shares with the actors.
    #[cfg(test)]
    pub(super) fn stage(&self) -> &Rc<Stage> {
        &self.stage
    }

    /// Gives everybody a place: what is stored of them, read at the start.
    pub(super) fn place_all(
        &self,
        mut places: HashMap<SubscriberId, Place>,
        mut lane_owners: std::collections::BTreeSet<SubscriberId>,
    ) {
        let (stage, roster) = (&self.stage, self.stage.roster());
        for id in roster.ids() {
            let (place, has_lanes) = (places.remove(&id), lane_owners.remove(&id));
            let from = match place {
                Some(Place::Behind(from)) => from,
                Some(Place::Live) | None => stage.position.get(),
            };
            match (roster.state(&id), place) {
                (Some(State::Disabled { .. }), Some(Place::Behind(_))) => self.drop_owed(&id, from),
                (Some(State::Disabled { .. }), _) if has_lanes => self.drop_owed(&id, from),
                (Some(State::Disabled { .. }) | None, _) => {}
                (Some(_), None) if !has_lanes => self.begin(&id),
                (Some(State::Active), Some(Place::Live)) if !has_lanes => {
                    stage.quiet.borrow_mut().insert(id, Quiet::Live);
                }
                (Some(State::Paused { .. }), _) if !has_lanes => self.rest(&id, from),
                (Some(_), place) => self.load(&id, from, place),
            }
        }
        for id in places.into_keys().chain(lane_owners) {
            info!(subscriber = %id, "subscriber is gone, and so is what it was owed");
            stage.means.ledger.forget(&id);
        }
        stage.means.graveyard.retain(|id| roster.state(id).is_some());
    }

    /// Delivers until it is to stop.
    ///
    /// # Errors
    /// [`Failed`] when the store fails.
    pub(super) async fn run(mut self) -> Result<(), Failed> {
        let mut rounds = interval(ROUND);
        rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let outcome = loop {
            match self.turn(&mut rounds).await {
                Ok(None) => {}
                Ok(Some(patience)) => break self.end(patience).await,
                Err(failed) => break Err(failed),
            }
        };
        self.stage.begin_to_stop();
        self.stage.means.ledger.close();
        outcome
    }

    /// Does what there is to do, or waits until there is something; says how patient it may be once it is to stop.
    async fn turn(&mut self, rounds: &mut Interval) -> Result<Option<Duration>, Failed> {
        self.refresh();
        for errand in self.stage.take_errands() {
            self.run_errand(errand);
        }
        if let Some(failed) = self.stage.take_failure() {
            return Err(failed);
        }
        let goes_on = self.advance()?;
        if goes_on {
            // The actors are on this thread too.
            tokio::task::yield_now().await;
        }
        let (stage, graveyard) = (Rc::clone(&self.stage), self.stage.means.graveyard.clone());
        tokio::select! {
            biased;
            // Closed only together with all else.
            _ = self.sources.stopping.changed() => {
                return Ok(Some(self.sources.stopping.borrow().unwrap_or_default()));
            }
            written = joined(&mut self.writing) => self.written(written?)?,
            _ = rounds.tick() => self.begin_round(true),
            _ = self.asked.changed(), if self.writing.is_none() => self.begin_round(false),
            Some(command) = self.sources.commands.recv() => self.answer(command),
            notices = graveyard.notices.taken() => notices.into_iter().for_each(|notice| self.notice(notice)),
            _ = self.changes.changed() => {}
            () = stage.woken() => {}
            frame = joined(&mut self.reading) => self.dispatch_read(frame?)?,
            _ = self.durable_end.changed(), if !goes_on => {}
            () = std::future::ready(()), if goes_on => {}
        }
        Ok(None)
    }

    /// Looks at one frame if it is in memory, or has it read; says whether there is more to look at now.
    fn advance(&mut self) -> Result<bool, Failed> {
        let (from, end) = (self.stage.position.get(), *self.durable_end.borrow_and_update());
        if from >= end || self.reading.is_some() {
            return Ok(false);
        }
        if self.stage.roster.borrow().is_empty() {
            // Nobody wants any of it.
            self.stage.position.set(end);
            return Ok(false);
        }
        match self.stage.means.journal.recent(from) {
            Some(frame) => {
                self.dispatch(&frame).map_err(Unavailable::from)?;
                Ok(true)
            }
            None => {
                let journal = Arc::clone(&self.stage.means.journal);
                self.reading = Some(spawn_blocking(move || journal.read(from)));
                Ok(false)
            }
        }
    }

    fn dispatch_read(&mut self, frame: Result<Option<Arc<Frame>>, ReadError>) -> Result<(), Failed> {
        match frame.map_err(Unavailable::from)? {
            Some(frame) => Ok(self.dispatch(&frame).map_err(Unavailable::from)?),
            None => Ok(()),
        }
    }

    /// Brings the records of `frame` to everybody who is live and wants them.
    fn dispatch(&self, frame: &Frame) -> Result<(), ReadError> {
        let (stage, roster) = (&self.stage, self.stage.roster());
        let mut position = stage.position.get();
        let mut met: Vec<Rc<Inbox>> = Vec::new();
        while let Some(entry) = frame.entry(position) {
            if let Some(item) = reader::decode(entry, position)? {
                for id in roster.candidates(&item.record) {
                    met.extend(self.offer(&roster, &id, &item, entry.bytes.len()));
                }
            }
            position = position.plus(1);
        }
        stage.position.set(position);
        met.iter().for_each(|inbox| inbox.wake());
        Ok(())
    }

    /// Offers a record to one subscriber; gives its inbox if that is to be looked into.
    fn offer(&self, roster: &Roster, id: &SubscriberId, item: &Item, bytes: usize) -> Option<Rc<Inbox>> {
        let stage = &self.stage;
        let inbox = stage.inbox(id);
        let is_live = match &inbox {
            Some(inbox) => inbox.course() == Course::Live,
            None => stage.quiet.borrow().get(id) == Some(&Quiet::Live),
        };
        if !is_live {
            return None;
        }
        let broken = match roster.judge(id)?.judge(item.position, &item.record) {
            Judgement::Unwanted => return None,
            Judgement::Wanted => None,
            Judgement::Broken(reason) => Some(reason),
        };
        let inbox = match inbox {
            Some(inbox) => inbox,
            None => self.begin_actor(roster, id)?,
        };
        if !inbox.meet(Met { item: item.clone(), broken }, bytes) {
            inbox.set_course(Course::Behind(item.position));
        }
        Some(inbox)
    }

    /// Begins the actor of a live subscriber to which nothing was owed.
    fn begin_actor(&self, roster: &Roster, id: &SubscriberId) -> Option<Rc<Inbox>> {
        let (stage, listed) = (&self.stage, roster.find(id)?);
        stage.quiet.borrow_mut().remove(id);
        let bounds = &listed.profile.bounds;
        let inbox = Inbox::new(Course::Live, Some(Place::Live), (bounds.window_events, bounds.window_bytes));
        stage.inboxes.borrow_mut().insert(id.clone(), Rc::clone(&inbox));
        Subscriber::begin(stage, id.clone(), &inbox, listed, Vec::new());
        Some(inbox)
    }
}

/// Who is where.
impl Dispatcher {
    /// Takes over what has changed of the definitions.
    fn refresh(&mut self) {
        let (subscriptions, accounts) = (self.sources.subscriptions.known(), self.sources.accounts.known());
        let old = self.stage.roster();
        if old.is_of(&subscriptions, &accounts) {
            return;
        }
        self.changes.borrow_and_update();
        let new = Rc::new(Roster::of(Arc::clone(&self.sources.config), subscriptions, accounts));
        self.stage.roster.replace(Rc::clone(&new));
        let mut is_gone = false;
        for id in old.ids().filter(|id| new.state(id).is_none()) {
            self.remove(&id);
            is_gone = true;
        }
        if is_gone {
            self.stage.means.graveyard.retain(|id| new.state(id).is_some());
        }
        for id in new.ids().filter(|id| !new.is_same(&old, id)) {
            self.change(&new, &id);
        }
    }

    fn remove(&self, id: &SubscriberId) {
        let stage = &self.stage;
        if let Some(inbox) = stage.inboxes.borrow_mut().remove(id) {
            inbox.close();
        }
        stage.quiet.borrow_mut().remove(id);
        stage.forget_counters(id);
        stage.means.ledger.forget(id);
        (stage.means.forget)(id);
    }

    fn change(&self, roster: &Roster, id: &SubscriberId) {
        let (stage, Some(state)) = (&self.stage, roster.state(id)) else { return };
        let (inbox, quiet) = (stage.inbox(id), stage.quiet.borrow().get(id).copied());
        match (state, inbox, quiet) {
            (State::Disabled { .. }, Some(inbox), _) => {
                let cursor = stage.cursor(&inbox);
                stage.inboxes.borrow_mut().remove(id);
                inbox.close();
                self.drop_owed(id, cursor);
            }
            (State::Disabled { .. }, None, Some(Quiet::Paused(from))) => self.drop_owed(id, from),
            (State::Disabled { .. }, None, Some(Quiet::Live)) => {
                stage.quiet.borrow_mut().remove(id);
                stage.means.ledger.forget_owed(id);
            }
            (_, Some(inbox), _) => inbox.tell(Told::Changed),
            (State::Active, None, Some(Quiet::Paused(from))) => self.load(id, from, Some(Place::Behind(from))),
            (State::Paused { .. }, None, Some(Quiet::Live)) => self.rest(id, stage.position.get()),
            (State::Active | State::Paused { .. }, None, None) => self.begin(id),
            (_, None, Some(_)) | (State::Disabled { .. }, None, None) => {}
        }
    }

    /// Gives a place to a subscriber that had none: it is new, or enabled again.
    fn begin(&self, id: &SubscriberId) {
        let stage = &self.stage;
        let Some(listed) = stage.roster().find(id) else { return };
        let position = stage.position.get();
        let from = listed.from.unwrap_or(position);
        match listed.profile.state {
            State::Active if from >= position => {
                stage.quiet.borrow_mut().insert(id.clone(), Quiet::Live);
                stage.means.ledger.set_place(id, Place::Live);
            }
            State::Active => self.load(id, from, None),
            State::Paused { .. } => self.rest(id, from),
            State::Disabled { .. } => return,
        }
        stage.means.graveyard.jobs.lost(id);
    }

    /// Notes that everything from `from` on is owed to a subscriber to which nothing is delivered for now.
    fn rest(&self, id: &SubscriberId, from: Position) {
        self.stage.quiet.borrow_mut().insert(id.clone(), Quiet::Paused(from));
        self.stage.means.ledger.set_place(id, Place::Behind(from));
    }

    /// Begins the actor of a subscriber that reads for itself, from `from` on, once its rows are read.
    fn load(&self, id: &SubscriberId, from: Position, noted: Option<Place>) {
        let stage = &self.stage;
        stage.quiet.borrow_mut().remove(id);
        let inbox = Inbox::new(Course::Behind(from), noted, (0, 0));
        stage.inboxes.borrow_mut().insert(id.clone(), Rc::clone(&inbox));
        let (stage, id) = (Rc::clone(stage), id.clone());
        actix_rt::spawn(async move {
            match lanes_of(&stage, &id).await {
                Ok(Some(rows)) => stage.ask(Errand::Loaded(id, inbox, rows)),
                Ok(None) => {}
                Err(failed) => stage.fail(failed),
            }
        });
    }

    /// Gives up what a disabled subscriber is owed from `cursor` on, once it is counted.
    fn drop_owed(&self, id: &SubscriberId, cursor: Position) {
        let stage = &self.stage;
        let Some(judge) = stage.roster().judge(id) else { return };
        stage.quiet.borrow_mut().insert(id.clone(), Quiet::Dropping);
        // Until it is counted, a crash finds it where it was.
        stage.means.ledger.set_place(id, Place::Behind(cursor));
        // All that was accepted before, whether or not it was looked at.
        let (stage, id, end) = (Rc::clone(stage), id.clone(), *self.durable_end.borrow());
        actix_rt::spawn(async move {
            let rows = match lanes_of(&stage, &id).await {
                Ok(Some(rows)) => rows,
                Ok(None) => return,
                Err(failed) => return stage.fail(failed),
            };
            let journal = Arc::clone(&stage.means.journal);
            let counted = spawn_blocking(move || {
                let _contained = Containment::begin();
                owed::count(journal.as_ref(), judge, rows, (cursor, end))
            });
            match counted.await {
                Ok(Ok(dropped)) => stage.ask(Errand::Counted(id, dropped)),
                Ok(Err(error)) => stage.fail(Unavailable::from(error)),
                Err(_) => stage.fail(Failed::Panicked),
            }
        });
    }

    fn run_errand(&mut self, errand: Errand) {
        match errand {
            Errand::Loaded(id, inbox, rows) => {
                let listed = self.stage.roster().find(&id);
                if let Some(listed) = listed.filter(|_| !inbox.is_closed()) {
                    let released = self.released(&id, &rows);
                    Subscriber::begin(&self.stage, id, &inbox, listed, rows);
                    released.into_iter().for_each(|key| inbox.tell(Told::Input(Input::Released { key })));
                    inbox.tell(Told::Work);
                }
            }
            Errand::Crashed(id) => self.crashed(&id),
            Errand::Disable(id, reason) => self.disable(id, reason),
            Errand::Counted(id, dropped) => self.counted(&id, dropped),
            Errand::Resume(id) => self.resume(&id),
        }
    }

    /// The lanes that stand still for a dead letter which was dealt with while there was no actor, or just before a crash.
    fn released(&self, id: &SubscriberId, rows: &[LaneRow]) -> Vec<LaneKey> {
        let letters = &self.stage.means.graveyard.dead_letters;
        let halted = rows.iter().filter(|row| row.is_halted).map(|row| &row.key);
        halted.filter(|key| !letters.halts(id, key)).cloned().collect()
    }

    /// Begins an actor that crashed anew, unless it does so again and again.
    fn crashed(&mut self, id: &SubscriberId) {
        let stage = &self.stage;
        let Some(inbox) = stage.inboxes.borrow_mut().remove(id) else { return };
        inbox.close();
        let Course::Behind(from) = inbox.course() else { return };
        stage.means.graveyard.jobs.lost(id);
        let (now, crashes) = (stage.now(), self.crashes.entry(id.clone()).or_default());
        crashes.push_back(now);
        while crashes.front().is_some_and(|crash| *crash + CRASHES_WINDOW <= now) {
            crashes.pop_front();
        }
        if crashes.len() <= CRASHES_MAX {
            error!(subscriber = %id, "actor crashed, beginning it anew");
            return self.load(id, from, inbox.noted());
        }
        error!(subscriber = %id, "actor crashed too often, its subscriber is paused");
        crashes.clear();
        self.rest(id, from);
        let SubscriberId::Webhook(number) = *id else { return self.rest_for_a_while(id) };
        let subscriptions = Arc::clone(&self.sources.subscriptions);
        let now = stage.wall();
        spawn_blocking(move || {
            let reason = Some("its deliveries crashed too often; tell us, and resume it".to_owned());
            // If it was not stored, that is said by the subscriptions themselves.
            let _ = subscriptions.change(number, |subscription| {
                if subscription.state == State::Active {
                    subscription.state = State::Paused { reason };
                    subscription.updated_at = now;
                }
            });
        });
    }

    /// Lets one that nobody can pause, nor resume, go on by itself later.
    fn rest_for_a_while(&self, id: &SubscriberId) {
        let (stage, id) = (Rc::clone(&self.stage), id.clone());
        actix_rt::spawn(async move {
            sleep_until(Instant::now() + CRASHES_WINDOW).await;
            stage.ask(Errand::Resume(id));
        });
    }

    fn resume(&self, id: &SubscriberId) {
        let quiet = self.stage.quiet.borrow().get(id).copied();
        if let Some(Quiet::Paused(from)) = quiet {
            self.load(id, from, Some(Place::Behind(from)));
        }
    }

    fn disable(&self, id: SubscriberId, reason: String) {
        warn!(subscriber = %id, reason, "subscriber is disabled");
        let SubscriberId::Webhook(number) = id else { return };
        let (stage, subscriptions) = (Rc::clone(&self.stage), Arc::clone(&self.sources.subscriptions));
        let (state, now) = (State::Disabled { reason: reason.clone() }, stage.wall());
        actix_rt::spawn(async move {
            let change = move || {
                subscriptions.change(number, |subscription| {
                    subscription.state = state;
                    subscription.updated_at = now;
                })
            };
            // Somebody may have removed it meanwhile; if it was not stored, the subscriptions themselves say so.
            if let Ok(Ok(_)) = spawn_blocking(change).await {
                stage.means.announcer.disabled(&id, &reason);
            }
        });
    }

    /// Notes what was given up of a subscriber that was disabled.
    fn counted(&self, id: &SubscriberId, dropped: Option<Dropped>) {
        let stage = &self.stage;
        if stage.quiet.borrow_mut().remove(id) != Some(Quiet::Dropping) {
            return;
        }
        if let Some(Dropped { first, last, count }) = dropped {
            warn!(subscriber = %id, count, %first, %last, "deliveries given up, their subscriber is disabled");
            stage.means.graveyard.dead_letters.bury_all(id, Cause::Disabled, (first, last), count);
            stage.count(id, |counters| counters.dropped += count);
        }
        stage.means.ledger.forget_owed(id);
        if matches!(stage.roster().state(id), Some(State::Active | State::Paused { .. })) {
            self.begin(id);
        }
    }

    fn notice(&self, notice: Notice) {
        let stage = &self.stage;
        let id = notice.subscriber();
        let quiet = stage.quiet.borrow().get(id).copied();
        let inbox = match (stage.inbox(id), quiet) {
            (Some(inbox), _) => inbox,
            (None, Some(Quiet::Live)) if matches!(notice, Notice::Work(_)) => {
                let Some(inbox) = self.begin_actor(&stage.roster(), id) else { return };
                inbox
            }
            // Others are told when they begin.
            (None, _) => return,
        };
        match notice {
            Notice::Work(_) => inbox.tell(Told::Work),
            Notice::Cancel { job, .. } => inbox.tell(Told::Input(Input::Cancel { job })),
            Notice::Released { key, .. } => inbox.tell(Told::Input(Input::Released { key })),
            Notice::Room(_) => inbox.wake(),
        }
    }

    fn answer(&self, command: Command) {
        match command {
            // Who asked may have gone.
            Command::Stats(id, reply) => drop(reply.send(self.stats(&id))),
        }
    }

    fn stats(&self, id: &SubscriberId) -> Option<Stats> {
        let stage = &self.stage;
        stage.roster().state(id)?;
        let counters = stage.counters(id);
        let end = self.durable_end.borrow().get();
        let mut stats = Stats {
            delivered: counters.delivered,
            failed: counters.failed,
            dropped: counters.dropped,
            last_success_at: counters.last_success_at,
            failing_since: counters.failing_since,
            breaker: "closed",
            ..Stats::default()
        };
        if let Some(inbox) = stage.inbox(id) {
            let standing = inbox.standing();
            let read_to = match inbox.course() {
                Course::Live => stage.position.get(),
                Course::Behind(from) => from,
            };
            stats.in_flight = standing.running;
            stats.waiting = standing.queued;
            stats.stopped_lanes = standing.stopped;
            stats.breaker = match standing.breaker {
                BreakerStanding::Closed => "closed",
                BreakerStanding::Open => "open",
                BreakerStanding::HalfOpen => "half_open",
            };
            stats.behind = end.saturating_sub(read_to.get());
        } else if let Some(Quiet::Paused(from)) = stage.quiet.borrow().get(id) {
            stats.behind = end.saturating_sub(from.get());
        }
        Some(stats)
    }
}

/// Rounds.
impl Dispatcher {
    /// Writes what has changed; at a regular round actors are told too, so that what is old gets a row until the next.
    fn begin_round(&mut self, is_regular: bool) {
        if self.writing.is_some() {
            return;
        }
        // Nobody's first record may be passed before its subscriber has a place.
        self.refresh();
        self.writing = self.write();
        if is_regular {
            self.stage.inboxes.borrow().values().for_each(|inbox| inbox.tell(Told::Input(Input::Round)));
        }
    }

    fn write(&self) -> Option<Writing> {
        self.stage.keep_counters();
        self.stage.keep_places();
        let (round, rows) = (self.stage.means.ledger.take()?, self.stage.means.rows.clone());
        Some(spawn_blocking(move || {
            let written = round.write(&rows);
            (round, written)
        }))
    }

    fn written(&mut self, (round, written): (Round, Result<(), WriteError>)) -> Result<(), Failed> {
        written?;
        self.stage.means.ledger.wrote(&round);
        if self.asked.has_changed().unwrap_or_default() {
            self.begin_round(false);
        }
        Ok(())
    }

    /// Waits for attempts that are under way, and writes where everybody is.
    async fn end(&mut self, patience: Duration) -> Result<(), Failed> {
        self.stage.begin_to_stop();
        let turns = Rc::clone(&self.stage.means.turns);
        let finish = async {
            let mut ticks = interval(STOPPING);
            while turns.taken() > 0 {
                ticks.tick().await;
            }
        };
        // What is not finished then is made again at the next start.
        let _ = timeout(patience, finish).await;
        if self.writing.is_some() {
            let written = joined(&mut self.writing).await?;
            self.written(written)?;
        }
        // What the last attempts came to is told to their actors first.
        let is_told = |inbox: &Rc<Inbox>| inbox.is_empty();
        for _ in 0..YIELDS_MAX {
            if self.stage.inboxes.borrow().values().all(is_told) {
                break;
            }
            tokio::task::yield_now().await;
        }
        while let Some(writing) = self.writing.take().or_else(|| self.write()) {
            self.writing = Some(writing);
            let (round, written) = joined(&mut self.writing).await?;
            written?;
            self.stage.means.ledger.wrote(&round);
        }
        Ok(())
    }
}

/// What is stored of the lanes of `id`, everything that is not written yet included; `None` when the ledger is closed.
async fn lanes_of(stage: &Stage, id: &SubscriberId) -> Result<Option<Vec<LaneRow>>, Failed> {
    if stage.means.ledger.settled().await.is_err() {
        return Ok(None);
    }
    let (rows, id, now) = (stage.means.rows.clone(), id.clone(), stage.wall());
    let lanes = spawn_blocking(move || rows.lanes(&id, now)).await.map_err(|_| Failed::Panicked)?;
    Ok(Some(lanes?))
}

/// What the task comes to, if there is one; else never.
async fn joined<T>(task: &mut Option<JoinHandle<T>>) -> Result<T, Failed> {
    let Some(running) = task else { return std::future::pending().await };
    let outcome = running.await;
    *task = None;
    outcome.map_err(|_| Failed::Panicked)
}
