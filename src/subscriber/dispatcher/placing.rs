//! Who is where: gives everybody a place, and another one when a definition changes, an actor crashes, or somebody is told something.

use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::Arc;

use actix_rt::task::spawn_blocking;
use tokio::time::{Instant, sleep_until};
use tracing::{error, warn};

use super::super::actor::Subscriber;
use super::super::dead_letters::Cause;
use super::super::delivery::{BreakerStanding, Input, LaneKey, LaneRow};
use super::super::inbox::{Course, Inbox, Told};
use super::super::notices::Notice;
use super::super::reader::Dropped;
use super::super::roster::Roster;
use super::super::rows::Place;
use super::super::stage::{Errand, Quiet, Stage};
use super::super::{Failed, Stats, SubscriberId, owed};
use super::{CRASHES_MAX, CRASHES_WINDOW, Command, Dispatcher};
use crate::event::Position;
use crate::panics::Containment;
use crate::projection::Unavailable;
use crate::subscription::State;

impl Dispatcher {
    /// Takes over what has changed of the definitions.
    pub(super) fn refresh(&mut self) {
        let (subscriptions, accounts) = (self.sources.subscriptions.known(), self.sources.accounts.known());
        let old = self.stage.roster();
        if old.is_of(&subscriptions, &accounts) {
            return;
        }
        self.changes.borrow_and_update();
        let new = Rc::new(Roster::of(Arc::clone(&self.sources.config), subscriptions, accounts));
        self.stage.roster.replace(Rc::clone(&new));
        let gone: BTreeSet<_> = old.ids().filter(|id| new.state(id).is_none() || new.is_another(&old, id)).collect();
        gone.iter().for_each(|id| self.remove(id));
        if !gone.is_empty() {
            self.stage.means.graveyard.retain(|id| new.state(id).is_some() && !gone.contains(id));
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
    pub(super) fn begin(&self, id: &SubscriberId) {
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
    pub(super) fn rest(&self, id: &SubscriberId, from: Position) {
        self.stage.quiet.borrow_mut().insert(id.clone(), Quiet::Paused(from));
        self.stage.means.ledger.set_place(id, Place::Behind(from));
    }

    /// Begins the actor of a subscriber that reads for itself, from `from` on, once its rows are read.
    pub(super) fn load(&self, id: &SubscriberId, from: Position, noted: Option<Place>) {
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
    pub(super) fn drop_owed(&self, id: &SubscriberId, cursor: Position) {
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

    pub(super) fn run_errand(&mut self, errand: Errand) {
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
        if !crashes.note_crash(now, CRASHES_MAX, CRASHES_WINDOW) {
            error!(subscriber = %id, "actor crashed, beginning it anew");
            return self.load(id, from, inbox.noted());
        }
        error!(subscriber = %id, "actor crashed too often, its subscriber is paused");
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

    pub(super) fn notice(&self, notice: Notice) {
        let stage = &self.stage;
        let id = notice.subscriber();
        let quiet = stage.quiet.borrow().get(id).copied();
        let inbox = match (stage.inbox(id), quiet) {
            (Some(inbox), _) => inbox,
            (None, Some(Quiet::Live)) if matches!(notice, Notice::Work(_)) => {
                let Some(inbox) = self.begin_actor(&stage.roster(), id) else { return };
                inbox
            }
            (None, None) if stage.roster().state(id).is_none() => {
                // It went while a job for it was being made, which nobody else would end.
                let roster = stage.roster();
                return stage.means.graveyard.retain(|id| roster.state(id).is_some());
            }
            // Others are told when they begin.
            (None, _) => return,
        };
        match notice {
            Notice::Work(_) => inbox.tell(Told::Work),
            Notice::Cancel { job, .. } => inbox.tell(Told::Input(Input::Cancel { job })),
            Notice::Released { key, .. } => inbox.tell(Told::Input(Input::Released { key })),
            Notice::Room(_) => inbox.wake(),
            Notice::Probe(_) => inbox.tell(Told::Input(Input::Probe)),
        }
    }

    pub(super) fn answer(&self, command: Command) {
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

/// What is stored of the lanes of `id`, everything that is not written yet included; `None` when the ledger is closed.
async fn lanes_of(stage: &Stage, id: &SubscriberId) -> Result<Option<Vec<LaneRow>>, Failed> {
    if stage.means.ledger.settled().await.is_err() {
        return Ok(None);
    }
    let (rows, id, now) = (stage.means.rows.clone(), id.clone(), stage.wall());
    let lanes = spawn_blocking(move || rows.lanes(&id, now)).await.map_err(|_| Failed::Panicked)?;
    Ok(Some(lanes?))
}
