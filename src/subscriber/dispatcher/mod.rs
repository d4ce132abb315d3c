//! Dispatcher: follows the journal, hands each record to the live subscribers that it matches, and
//! keeps the state of every subscriber.
//!
//! ```text
//!  journal ──frame──> decode once ──pattern index──> matcher ──> inbox of a live subscriber
//!                                                                  first record: its actor is spawned
//!                                                                  no room: it falls behind and reads the journal itself
//!  every checkpoint: rows of all actors ──> checkpoint buffer ──> disk, then the cursor
//! ```

mod checkpoints;
mod placement;
mod stats;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashMap};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix_rt::task::{JoinHandle, spawn_blocking};
use tokio::sync::{mpsc, watch};
use tokio::time::{Interval, MissedTickBehavior, interval};
use tracing::info;

use super::actor::SubscriberActor;
use super::definition_changes::DefinitionChanges;
use super::delivery::MatchedRecord;
use super::inbox::SubscriberInbox;
use super::outbound_record::OutboundRecord;
use super::reader::{self, WindowRoom};
use super::stage::{DeliveryStage, DormantState};
use super::stage_error::DeliveryStageError;
use super::stats_queries::StatsQuery;
use super::subscriber_id::SubscriberId;
use super::subscriber_set::SubscriberSet;
use super::tables::ReadState;
use crate::account::AccountRegistry;
use crate::audit::AuditLog;
use crate::config::LiveConfig;
use crate::crash_window::CrashWindow;
use crate::event::Position;
use crate::journal::{JournalFrame, JournalReadError};
use crate::projection::ProjectionReadError;
use crate::subscription::{SubscriptionRegistry, SubscriptionState};
use crate::table_store::TableWriteError;

/// Interval of regular checkpoints. A crash repeats at most the deliveries since the last one.
const CHECKPOINT_INTERVAL: Duration = Duration::from_millis(500);

/// Crashes of one actor within [`CRASHES_WINDOW`] that are answered with a restart; after one more
/// the subscriber is paused.
const CRASHES_MAX: usize = 5;
const CRASHES_WINDOW: Duration = Duration::from_secs(60);

/// Interval of the checks for running attempts when the node stops.
const STOP_POLL_INTERVAL: Duration = Duration::from_millis(5);

/// Bound of the yields to actors when the node stops. An actor that is still being loaded never
/// empties its inbox.
const YIELDS_MAX: usize = 1_000;

/// Definitions and channels that the dispatcher works with.
pub(super) struct DispatcherDeps {
    pub(super) live_config: Arc<LiveConfig>,
    pub(super) subscriptions: Arc<SubscriptionRegistry>,
    pub(super) accounts: Arc<AccountRegistry>,
    pub(super) audit: Arc<AuditLog>,
    pub(super) queries: mpsc::Receiver<StatsQuery>,
    /// Receives the patience for running attempts once the stage is to stop.
    pub(super) stopping: watch::Receiver<Option<Duration>>,
}

type CheckpointTask = JoinHandle<Result<u64, TableWriteError>>;
type FrameReadTask = JoinHandle<Result<Option<Arc<JournalFrame>>, JournalReadError>>;

/// Dispatcher of the delivery stage.
pub(super) struct Dispatcher {
    stage: Rc<DeliveryStage>,
    deps: DispatcherDeps,
    durable_end: watch::Receiver<Position>,
    definition_changes: DefinitionChanges,
    flush_requests: watch::Receiver<u64>,
    checkpoint_task: Option<CheckpointTask>,
    frame_read: Option<FrameReadTask>,
    crashes: HashMap<SubscriberId, CrashWindow>,
}

impl Dispatcher {
    /// Creates the dispatcher of `stage`. [`Self::place_subscribers`] must follow.
    pub(super) fn new(stage: Rc<DeliveryStage>, deps: DispatcherDeps) -> Self {
        let definition_changes = stage.definition_changes.borrow().clone();
        Self {
            durable_end: stage.deps.journal.durable_end(),
            definition_changes,
            flush_requests: stage.deps.checkpoints.flush_requests(),
            checkpoint_task: None,
            frame_read: None,
            crashes: HashMap::new(),
            stage,
            deps,
        }
    }

    #[cfg(test)]
    pub(super) fn stage(&self) -> &Rc<DeliveryStage> {
        &self.stage
    }

    /// Gives every defined subscriber a state, by its definition and its stored rows, and removes
    /// the rows of deleted ones.
    pub(super) fn place_subscribers(
        &self,
        mut read_states: HashMap<SubscriberId, ReadState>,
        mut lane_owners: BTreeSet<SubscriberId>,
    ) {
        let (stage, subscriber_set) = (&self.stage, self.stage.subscriber_set());
        for id in subscriber_set.ids() {
            let (read_state, has_lanes) = (read_states.remove(&id), lane_owners.remove(&id));
            let from = stage.read_position(read_state.unwrap_or(ReadState::Live));
            match (subscriber_set.subscription_state(&id), read_state) {
                // The process ended after the subscriber was disabled and before its backlog was
                // dropped.
                (Some(SubscriptionState::Disabled { .. }), read_state)
                    if read_state.is_some() || has_lanes =>
                {
                    self.drop_backlog(&id, from)
                }
                (Some(SubscriptionState::Disabled { .. }) | None, _) => {}
                (Some(_), None) if !has_lanes => self.add_subscriber(&id),
                (Some(SubscriptionState::Active), Some(ReadState::Live)) if !has_lanes => {
                    stage.set_dormant(id, DormantState::Live);
                }
                (Some(SubscriptionState::Paused { .. }), _) if !has_lanes => {
                    self.suspend_subscriber(&id, from)
                }
                (Some(_), read_state) => self.load_actor(&id, from, read_state),
            }
        }

        for id in read_states.into_keys().chain(lane_owners) {
            info!(subscriber = %id, "subscriber was deleted; removing its pending deliveries");
            stage.deps.checkpoints.remove_subscriber(&id);
        }
        stage
            .deps
            .recovery
            .retain(|id| subscriber_set.subscription_state(id).is_some());
    }

    /// Delivers until the stage is to stop.
    ///
    /// # Errors
    /// [`DeliveryStageError`] when the store or the journal fails, or a task panics.
    pub(super) async fn run(mut self) -> Result<(), DeliveryStageError> {
        let mut checkpoint_ticks = interval(CHECKPOINT_INTERVAL);
        checkpoint_ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let outcome = loop {
            match self.run_once(&mut checkpoint_ticks).await {
                Ok(None) => {}
                Ok(Some(patience)) => break self.shut_down(patience).await,
                Err(error) => break Err(error),
            }
        };

        self.stage.set_stopping();
        self.stage.deps.checkpoints.close();
        outcome
    }

    /// Processes whatever is pending, or waits for the next event. Returns the patience for running
    /// attempts once the stage is to stop.
    async fn run_once(
        &mut self,
        checkpoint_ticks: &mut Interval,
    ) -> Result<Option<Duration>, DeliveryStageError> {
        // Definitions before records: a new subscriber must not miss its first record.
        self.refresh_subscribers();
        for task in self.stage.take_tasks() {
            self.run_task(task);
        }
        if let Some(failure) = self.stage.take_failure() {
            return Err(failure);
        }

        let has_more = self.dispatch_next_frame()?;
        if has_more {
            // Let the actors run; they share this thread.
            tokio::task::yield_now().await;
        }

        // Biased: a stop and checkpoints must not starve while records keep coming.
        let (stage, recovery) = (Rc::clone(&self.stage), self.stage.deps.recovery.clone());
        tokio::select! {
            biased;
            // An error means that the runtime's handle was dropped, which is a stop as well.
            _ = self.deps.stopping.changed() => {
                return Ok(Some(self.deps.stopping.borrow().unwrap_or_default()));
            }
            written = join_task(&mut self.checkpoint_task) => self.stage.deps.checkpoints.mark_written(written??),
            _ = checkpoint_ticks.tick() => self.begin_regular_checkpoint(),
            _ = self.flush_requests.changed(), if self.checkpoint_task.is_none() => self.begin_checkpoint(),
            Some(query) = self.deps.queries.recv() => self.answer_query(query),
            requests = recovery.requests.next_batch() => {
                // A request may be about a subscriber that was created just now.
                self.refresh_subscribers();
                requests.into_iter().for_each(|(id, request)| self.handle_request(&id, request));
            }
            () = self.definition_changes.wait_for_change() => {}
            () = stage.wait_for_task() => {}
            frame = join_task(&mut self.frame_read) => self.dispatch_read(frame?)?,
            _ = self.durable_end.changed(), if !has_more => {}
            () = std::future::ready(()), if has_more => {}
        }
        Ok(None)
    }

    /// Dispatches one frame if it is in memory, else starts to read it. Returns `true` if the next
    /// frame can follow at once.
    fn dispatch_next_frame(&mut self) -> Result<bool, DeliveryStageError> {
        let (from, end) = (
            self.stage.position.get(),
            *self.durable_end.borrow_and_update(),
        );
        if from >= end || self.frame_read.is_some() {
            return Ok(false);
        }
        if self.stage.subscriber_set.borrow().is_empty() {
            // Without subscribers there is nothing to match.
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

    /// Hands the records of `frame` to the live subscribers that they match.
    fn dispatch_frame(&self, frame: &JournalFrame) -> Result<(), JournalReadError> {
        let (stage, subscriber_set) = (&self.stage, self.stage.subscriber_set());
        let mut position = stage.position.get();
        let mut matched: Vec<Rc<SubscriberInbox>> = Vec::new();
        while let Some(entry) = frame.entry(position) {
            if let Some(item) = reader::decode_entry(entry, position)? {
                for id in subscriber_set.candidates(&item.record) {
                    let bytes = entry.bytes.len();
                    matched.extend(self.offer_record(&subscriber_set, &id, &item, bytes));
                }
            }
            position = position.plus(1);
        }

        // Wake after the position is set: a live actor takes it as the end of its own records.
        stage.position.set(position);
        matched.iter().for_each(|inbox| inbox.wake());
        Ok(())
    }

    /// Offers a record to one candidate. Returns the inbox to wake, or `None` if the record does not
    /// match or the subscriber reads the journal itself.
    fn offer_record(
        &self,
        subscriber_set: &SubscriberSet,
        id: &SubscriberId,
        item: &OutboundRecord,
        bytes: usize,
    ) -> Option<Rc<SubscriberInbox>> {
        let stage = &self.stage;
        let inbox = stage.inbox(id);
        let is_live = match &inbox {
            Some(inbox) => inbox.read_state() == ReadState::Live,
            None => stage.dormant_state(id) == Some(DormantState::Live),
        };
        if !is_live {
            return None;
        }

        let matcher = subscriber_set.matcher(id)?;
        if !matcher.admits(item.position, &item.record) {
            return None;
        }

        let inbox = match inbox {
            Some(inbox) => inbox,
            None => self.start_live_actor(subscriber_set, id)?,
        };
        let matched = MatchedRecord {
            item: item.clone(),
            filter_error: None,
        };
        if !inbox.try_push_record(matched, bytes) {
            inbox.set_read_state(ReadState::Behind(item.position));
        }
        Some(inbox)
    }

    /// Spawns the actor of a live subscriber that had no pending deliveries, hence no stopped lanes.
    fn start_live_actor(
        &self,
        subscriber_set: &SubscriberSet,
        id: &SubscriberId,
    ) -> Option<Rc<SubscriberInbox>> {
        let (stage, entry) = (&self.stage, subscriber_set.entry(id)?);
        let room = WindowRoom {
            events: entry.policy.bounds.window_events,
            bytes: entry.policy.bounds.window_bytes,
        };

        stage.dormant.borrow_mut().remove(id);
        let inbox = SubscriberInbox::new(ReadState::Live, Some(ReadState::Live), room);
        let mut inboxes = stage.inboxes.borrow_mut();
        inboxes.insert(id.clone(), Rc::clone(&inbox));
        drop(inboxes);
        SubscriberActor::spawn_actor(stage, id.clone(), &inbox, entry, Vec::new());
        Some(inbox)
    }
}

/// Awaits the task and clears it; pending for ever if there is none.
async fn join_task<T>(task: &mut Option<JoinHandle<T>>) -> Result<T, DeliveryStageError> {
    let Some(running) = task else {
        return std::future::pending().await;
    };
    let outcome = running.await;
    *task = None;
    outcome.map_err(|_| DeliveryStageError::Panicked)
}
