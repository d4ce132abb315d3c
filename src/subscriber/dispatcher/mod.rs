//! The dispatcher: follows the journal, brings each record to the live subscribers that want it, and sees to everybody's place.
//!
//! ```text
//!  journal ──frame──> decode once ──index──> judge ──> inbox of a live subscriber (its actor begins with the first record)
//!                                                        no room: it falls behind and reads for itself
//!  every round: everybody's rows ──> ledger ──> disk, then the cursor
//! ```

mod placing;
mod rounds;

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix_rt::task::{JoinHandle, spawn_blocking};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Interval, MissedTickBehavior, interval};
use tracing::info;

use super::actor::Subscriber;
use super::delivery::Met;
use super::inbox::{Course, Inbox};
use super::ledger::Round;
use super::roster::Roster;
use super::rows::Place;
use super::stage::{Quiet, Stage};
use super::{Failed, Item, Stats, SubscriberId, reader};
use crate::account::Accounts;
use crate::config::Config;
use crate::crash_window::CrashWindow;
use crate::event::Position;
use crate::journal::{Frame, ReadError, WriteError};
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
    crashes: HashMap<SubscriberId, CrashWindow>,
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
                // The end of the process came between its being disabled and the round that noted it.
                (Some(State::Disabled { .. }), place) if place.is_some() || has_lanes => self.drop_owed(&id, from),
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
            notices = graveyard.notices.taken() => {
                // What they are about may have been made since.
                self.refresh();
                notices.into_iter().for_each(|notice| self.notice(notice));
            }
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

/// What the task comes to, if there is one; else never.
async fn joined<T>(task: &mut Option<JoinHandle<T>>) -> Result<T, Failed> {
    let Some(running) = task else { return std::future::pending().await };
    let outcome = running.await;
    *task = None;
    outcome.map_err(|_| Failed::Panicked)
}
