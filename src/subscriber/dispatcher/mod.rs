//! The dispatcher: follows the journal, brings each record to the live subscribers that want it,
//! and sees to everybody's place.
//!
//! ```text
//!  journal ──frame──> decode once ──index──> judge ──> inbox of a live subscriber (its actor begins with the first record)
//!                                                        no room: it falls behind and reads for itself
//!  every round: everybody's rows ──> ledger ──> disk, then the cursor
//! ```

mod checkpoints;
mod placement;

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix_rt::task::{JoinHandle, spawn_blocking};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Interval, MissedTickBehavior, interval};
use tracing::info;

use super::actor::SubscriberActor;
use super::checkpoint::DeliveryCheckpoint;
use super::delivery::MatchedRecord;
use super::inbox::{ReadState, SubscriberInbox};
use super::stage::{DeliveryStage, DormantState};
use super::subscriber_set::SubscriberSet;
use super::tables::ReadStateRow;
use super::{DeliveryStageError, OutboundRecord, SubscriberId, SubscriberStats, reader};
use crate::account::AccountRegistry;
use crate::config::Config;
use crate::crash_window::CrashWindow;
use crate::event::Position;
use crate::journal::{JournalFrame, JournalReadError, StoreWriteError};
use crate::projection::ProjectionReadError;
use crate::subscription::{InterestMatch, SubscriptionRegistry, SubscriptionState};

/// How often what has changed is written. A crash repeats at most what was delivered since.
const CHECKPOINT_INTERVAL: Duration = Duration::from_millis(500);

/// How often an actor may crash within a while, before its subscriber is left alone.
const CRASHES_MAX: usize = 5;
const CRASHES_WINDOW: Duration = Duration::from_secs(60);

/// How often is looked whether attempts are still under way when the node stops.
const STOP_POLL_INTERVAL: Duration = Duration::from_millis(5);

/// How often actors are let go first when the node stops; one that is still being loaded takes
/// nothing.
const YIELDS_MAX: usize = 1_000;

/// What somebody outside asks.
pub(super) enum DispatcherQuery {
    /// Where the deliveries to a subscriber are.
    Stats(SubscriberId, oneshot::Sender<Option<SubscriberStats>>),
}

/// What the dispatcher is made with.
pub(super) struct DispatcherDeps {
    pub(super) config: Arc<Config>,
    pub(super) subscriptions: Arc<SubscriptionRegistry>,
    pub(super) accounts: Arc<AccountRegistry>,
    pub(super) commands: mpsc::Receiver<DispatcherQuery>,
    pub(super) stopping: watch::Receiver<Option<Duration>>,
}

/// What is under way on another thread.
type CheckpointTask = JoinHandle<(DeliveryCheckpoint, Result<(), StoreWriteError>)>;
type FrameReadTask = JoinHandle<Result<Option<Arc<JournalFrame>>, JournalReadError>>;

/// The dispatcher.
pub(super) struct Dispatcher {
    stage: Rc<DeliveryStage>,
    sources: DispatcherDeps,
    durable_end: watch::Receiver<Position>,
    changes: watch::Receiver<u64>,
    flush_requests: watch::Receiver<u64>,
    checkpoint_task: Option<CheckpointTask>,
    frame_read: Option<FrameReadTask>,
    crashes: HashMap<SubscriberId, CrashWindow>,
}

impl Dispatcher {
    /// A dispatcher for `stage`, on whose roster everybody has found a place.
    pub(super) fn new(stage: Rc<DeliveryStage>, sources: DispatcherDeps) -> Self {
        let (durable_end, changes) = (
            stage.deps.journal.durable_end(),
            sources.subscriptions.watch_changes(),
        );
        let flush_requests = stage.deps.checkpoints.flush_requests();
        let crashes = HashMap::new();
        Self {
            stage,
            sources,
            durable_end,
            changes,
            flush_requests,
            checkpoint_task: None,
            frame_read: None,
            crashes,
        }
    }

    /// What it shares with the actors.
    #[cfg(test)]
    pub(super) fn stage(&self) -> &Rc<DeliveryStage> {
        &self.stage
    }

    /// Gives everybody a place: what is stored of them, read at the start.
    pub(super) fn place_subscribers(
        &self,
        mut places: HashMap<SubscriberId, ReadStateRow>,
        mut lane_owners: std::collections::BTreeSet<SubscriberId>,
    ) {
        let (stage, roster) = (&self.stage, self.stage.subscriber_set());
        for id in roster.ids() {
            let (place, has_lanes) = (places.remove(&id), lane_owners.remove(&id));
            let from = match place {
                Some(ReadStateRow::Behind(from)) => from,
                Some(ReadStateRow::Live) | None => stage.position.get(),
            };
            match (roster.subscription_state(&id), place) {
                // The end of the process came between its being disabled and the round that noted
                // it.
                (Some(SubscriptionState::Disabled { .. }), place)
                    if place.is_some() || has_lanes =>
                {
                    self.drop_backlog(&id, from)
                }
                (Some(SubscriptionState::Disabled { .. }) | None, _) => {}
                (Some(_), None) if !has_lanes => self.add_subscriber(&id),
                (Some(SubscriptionState::Active), Some(ReadStateRow::Live)) if !has_lanes => {
                    stage.dormant.borrow_mut().insert(id, DormantState::Live);
                }
                (Some(SubscriptionState::Paused { .. }), _) if !has_lanes => {
                    self.suspend_subscriber(&id, from)
                }
                (Some(_), place) => self.load_actor(&id, from, place),
            }
        }
        for id in places.into_keys().chain(lane_owners) {
            info!(subscriber = %id, "subscriber is gone, and so is what it was owed");
            stage.deps.checkpoints.remove_subscriber(&id);
        }
        stage
            .deps
            .recovery
            .retain(|id| roster.subscription_state(id).is_some());
    }

    /// Delivers until it is to stop.
    ///
    /// # Errors
    /// [`Failed`] when the store fails.
    pub(super) async fn run(mut self) -> Result<(), DeliveryStageError> {
        let mut rounds = interval(CHECKPOINT_INTERVAL);
        rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let outcome = loop {
            match self.run_once(&mut rounds).await {
                Ok(None) => {}
                Ok(Some(patience)) => break self.shut_down(patience).await,
                Err(failed) => break Err(failed),
            }
        };
        self.stage.set_stopping();
        self.stage.deps.checkpoints.close();
        outcome
    }

    /// Does what there is to do, or waits until there is something; says how patient it may be once
    /// it is to stop.
    async fn run_once(
        &mut self,
        rounds: &mut Interval,
    ) -> Result<Option<Duration>, DeliveryStageError> {
        self.refresh_subscribers();
        for errand in self.stage.take_tasks() {
            self.run_task(errand);
        }
        if let Some(failed) = self.stage.take_failure() {
            return Err(failed);
        }
        let goes_on = self.dispatch_next_frame()?;
        if goes_on {
            // The actors are on this thread too.
            tokio::task::yield_now().await;
        }
        let (stage, graveyard) = (Rc::clone(&self.stage), self.stage.deps.recovery.clone());
        tokio::select! {
            biased;
            // Closed only together with all else.
            _ = self.sources.stopping.changed() => {
                return Ok(Some(self.sources.stopping.borrow().unwrap_or_default()));
            }
            written = join_task(&mut self.checkpoint_task) => self.finish_checkpoint(written?)?,
            _ = rounds.tick() => self.begin_checkpoint(true),
            _ = self.flush_requests.changed(), if self.checkpoint_task.is_none() => self.begin_checkpoint(false),
            Some(command) = self.sources.commands.recv() => self.answer_query(command),
            notices = graveyard.requests.next_batch() => {
                // What they are about may have been made since.
                self.refresh_subscribers();
                notices.into_iter().for_each(|notice| self.handle_request(notice));
            }
            _ = self.changes.changed() => {}
            () = stage.wait_for_task() => {}
            frame = join_task(&mut self.frame_read) => self.dispatch_read(frame?)?,
            _ = self.durable_end.changed(), if !goes_on => {}
            () = std::future::ready(()), if goes_on => {}
        }
        Ok(None)
    }

    /// Looks at one frame if it is in memory, or has it read; says whether there is more to look at
    /// now.
    fn dispatch_next_frame(&mut self) -> Result<bool, DeliveryStageError> {
        let (from, end) = (
            self.stage.position.get(),
            *self.durable_end.borrow_and_update(),
        );
        if from >= end || self.frame_read.is_some() {
            return Ok(false);
        }
        if self.stage.subscriber_set.borrow().is_empty() {
            // Nobody wants any of it.
            self.stage.position.set(end);
            return Ok(false);
        }
        match self.stage.deps.journal.recent_frame_at(from) {
            Some(frame) => {
                self.dispatch_frame(&frame)
                    .map_err(ProjectionReadError::from)?;
                Ok(true)
            }
            None => {
                let journal = Arc::clone(&self.stage.deps.journal);
                self.frame_read = Some(spawn_blocking(move || journal.read_frame_at(from)));
                Ok(false)
            }
        }
    }

    fn dispatch_read(
        &mut self,
        frame: Result<Option<Arc<JournalFrame>>, JournalReadError>,
    ) -> Result<(), DeliveryStageError> {
        match frame.map_err(ProjectionReadError::from)? {
            Some(frame) => Ok(self
                .dispatch_frame(&frame)
                .map_err(ProjectionReadError::from)?),
            None => Ok(()),
        }
    }

    /// Brings the records of `frame` to everybody who is live and wants them.
    fn dispatch_frame(&self, frame: &JournalFrame) -> Result<(), JournalReadError> {
        let (stage, roster) = (&self.stage, self.stage.subscriber_set());
        let mut position = stage.position.get();
        let mut met: Vec<Rc<SubscriberInbox>> = Vec::new();
        while let Some(entry) = frame.entry(position) {
            if let Some(item) = reader::decode_entry(entry, position)? {
                for id in roster.candidates(&item.record) {
                    met.extend(self.offer_record(&roster, &id, &item, entry.bytes.len()));
                }
            }
            position = position.plus(1);
        }
        stage.position.set(position);
        met.iter().for_each(|inbox| inbox.wake());
        Ok(())
    }

    /// Offers a record to one subscriber; gives its inbox if that is to be looked into.
    fn offer_record(
        &self,
        roster: &SubscriberSet,
        id: &SubscriberId,
        item: &OutboundRecord,
        bytes: usize,
    ) -> Option<Rc<SubscriberInbox>> {
        let stage = &self.stage;
        let inbox = stage.inbox(id);
        let is_live = match &inbox {
            Some(inbox) => inbox.read_state() == ReadState::Live,
            None => stage.dormant.borrow().get(id) == Some(&DormantState::Live),
        };
        if !is_live {
            return None;
        }
        let broken = match roster
            .matcher(id)?
            .match_record(item.position, &item.record)
        {
            InterestMatch::Unwanted => return None,
            InterestMatch::Wanted => None,
            InterestMatch::FilterFailed(reason) => Some(reason),
        };
        let inbox = match inbox {
            Some(inbox) => inbox,
            None => self.start_live_actor(roster, id)?,
        };
        if !inbox.try_push_record(
            MatchedRecord {
                item: item.clone(),
                filter_error: broken,
            },
            bytes,
        ) {
            inbox.set_read_state(ReadState::Behind(item.position));
        }
        Some(inbox)
    }

    /// Begins the actor of a live subscriber to which nothing was owed.
    fn start_live_actor(
        &self,
        roster: &SubscriberSet,
        id: &SubscriberId,
    ) -> Option<Rc<SubscriberInbox>> {
        let (stage, listed) = (&self.stage, roster.entry(id)?);
        stage.dormant.borrow_mut().remove(id);
        let bounds = &listed.policy.bounds;
        let inbox = SubscriberInbox::new(
            ReadState::Live,
            Some(ReadStateRow::Live),
            (bounds.window_events, bounds.window_bytes),
        );
        stage
            .inboxes
            .borrow_mut()
            .insert(id.clone(), Rc::clone(&inbox));
        SubscriberActor::spawn_actor(stage, id.clone(), &inbox, listed, Vec::new());
        Some(inbox)
    }
}

/// What the task comes to, if there is one; else never.
async fn join_task<T>(task: &mut Option<JoinHandle<T>>) -> Result<T, DeliveryStageError> {
    let Some(running) = task else {
        return std::future::pending().await;
    };
    let outcome = running.await;
    *task = None;
    outcome.map_err(|_| DeliveryStageError::Panicked)
}
