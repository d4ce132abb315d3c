//! State changes of subscribers: by changed definitions, crashed actors, tasks of the stage, and
//! requests from outside.
//!
//! ```text
//!             first match                                  crash, or the inbox is full
//!   dormant Live ─────> actor, Live <────────────────────> actor, Behind <───── dormant Paused
//!             idle                      has caught up                    resumed
//!
//!   disabled, from any state: dormant Dropping until the backlog is counted, then no state
//! ```

use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::Arc;

use actix_rt::task::{JoinHandle, spawn_blocking};
use tokio::time::{Instant, sleep_until};
use tracing::{error, warn};

use super::super::actor::SubscriberActor;
use super::super::backlog;
use super::super::dead_letters::DeadLetterCause;
use super::super::delivery::{DeliveryInput, LaneKey, LaneRow};
use super::super::delivery_policy::{DeliveryPolicy, DeliveryTarget};
use super::super::expiry::{self, ExpiredDeliveries};
use super::super::inbox::{ActorMessage, SubscriberInbox};
use super::super::missed_records::MissedRecords;
use super::super::reader::WindowRoom;
use super::super::stage::{DeliveryStage, DispatcherTask, DormantState};
use super::super::stage_error::DeliveryStageError;
use super::super::stage_requests::StageRequest;
use super::super::subscriber_id::SubscriberId;
use super::super::subscriber_set::SubscriberSet;
use super::super::tables::{ReadState, encode_lane, lane_key};
use super::{CRASHES_MAX, CRASHES_WINDOW, Dispatcher};
use crate::audit::SUCCESS;
use crate::event::Position;
use crate::subscription::{Subscription, SubscriptionId, SubscriptionState};
use crate::token::AccessOperation;

/// Operations of the audit log.
const PAUSE: &str = AccessOperation::WebhooksPause.as_str();
const DISABLE: &str = "webhooks.disable";

impl Dispatcher {
    /// Applies changed definitions to the subscribers.
    pub(super) fn refresh_subscribers(&mut self) {
        // Before the snapshots are taken, which then have at least these changes.
        self.definition_changes.mark_seen();
        self.stage.definition_changes.borrow_mut().mark_seen();
        let subscriptions = self.deps.subscriptions.snapshot();
        let accounts = self.deps.accounts.snapshot();
        let config = self.deps.live_config.current();
        let old = self.stage.subscriber_set();
        if old.is_built_from(&subscriptions, &accounts, &config) {
            return self.stage.wake_waiting_for_change();
        }

        let (new, changed) = old.update(subscriptions, accounts, config);
        let new = Rc::new(new);
        self.stage.subscriber_set.replace(Rc::clone(&new));

        // An account that was deleted and created again under its name is removed first, so that
        // the new one inherits nothing.
        let is_gone = |id: &&SubscriberId| {
            old.subscription_state(id).is_some()
                && (new.subscription_state(id).is_none() || new.is_replaced(&old, id))
        };
        let gone: BTreeSet<_> = changed.iter().filter(is_gone).cloned().collect();
        gone.iter().for_each(|id| self.remove_subscriber(id));
        if !gone.is_empty() {
            self.stage
                .deps
                .recovery
                .retain(|id| new.subscription_state(id).is_some() && !gone.contains(id));
        }

        // An id that is gone has no definition to update by.
        for id in &changed {
            self.update_subscriber(&new, id);
        }
        self.stage.wake_waiting_for_change();
    }

    fn remove_subscriber(&mut self, id: &SubscriberId) {
        self.crashes.remove(id);
        let stage = &self.stage;
        if let Some(inbox) = stage.inboxes.borrow_mut().remove(id) {
            inbox.close();
        }
        stage.dormant.borrow_mut().remove(id);
        stage.forget_counters(id);
        stage.deps.expressions.forget(id);
        stage.deps.checkpoints.remove_subscriber(id);
        (stage.deps.forget_client)(id);
    }

    fn update_subscriber(&self, subscriber_set: &SubscriberSet, id: &SubscriberId) {
        let (stage, Some(state)) = (&self.stage, subscriber_set.subscription_state(id)) else {
            return;
        };
        match (state, stage.inbox(id), stage.dormant_state(id)) {
            (SubscriptionState::Disabled { .. }, Some(inbox), _) => {
                let cursor = stage.subscriber_cursor(&inbox);
                stage.inboxes.borrow_mut().remove(id);
                inbox.close();
                self.drop_backlog(id, cursor);
            }
            (SubscriptionState::Disabled { .. }, None, Some(DormantState::Paused(from))) => {
                self.drop_backlog(id, from)
            }
            (SubscriptionState::Disabled { .. }, None, Some(DormantState::Live)) => {
                stage.dormant.borrow_mut().remove(id);
                stage.deps.checkpoints.remove_backlog(id);
            }
            (_, Some(inbox), _) => inbox.push_message(ActorMessage::DefinitionChanged),
            (SubscriptionState::Active, None, Some(DormantState::Paused(from))) => {
                stage.forget_failing_time(id);
                self.load_actor(id, from, Some(ReadState::Behind(from)))
            }
            (SubscriptionState::Paused { .. }, None, Some(DormantState::Live)) => {
                self.suspend_subscriber(id, stage.position.get())
            }
            (SubscriptionState::Active | SubscriptionState::Paused { .. }, None, None) => {
                self.add_subscriber(id)
            }
            (_, None, Some(_)) | (SubscriptionState::Disabled { .. }, None, None) => {}
        }
    }

    /// Gives a state to a subscriber that had none: it is new, or was enabled again.
    pub(super) fn add_subscriber(&self, id: &SubscriberId) {
        let stage = &self.stage;
        let Some(entry) = stage.subscriber_set().entry(id) else {
            return;
        };
        stage.forget_failing_time(id);
        let position = stage.position.get();
        let from = entry.first_position.unwrap_or(position);
        match entry.policy.state {
            SubscriptionState::Active if from >= position => {
                stage.set_dormant(id.clone(), DormantState::Live);
                stage.deps.checkpoints.set_read_state(id, ReadState::Live);
            }
            SubscriptionState::Active => self.load_actor(id, from, None),
            SubscriptionState::Paused { .. } => self.suspend_subscriber(id, from),
            SubscriptionState::Disabled { .. } => return,
        }
        stage.deps.recovery.jobs.requeue_in_flight(id);
    }

    /// Pauses a subscriber without an actor; its records from `from` on stay pending.
    pub(super) fn suspend_subscriber(&self, id: &SubscriberId, from: Position) {
        let stage = &self.stage;
        stage.set_dormant(id.clone(), DormantState::Paused(from));
        stage
            .deps
            .checkpoints
            .set_read_state(id, ReadState::Behind(from));
    }

    /// Reads the stopped lanes of a subscriber and then spawns its actor, which reads the journal
    /// from `from` on.
    pub(super) fn load_actor(
        &self,
        id: &SubscriberId,
        from: Position,
        stored_read_state: Option<ReadState>,
    ) {
        let stage = &self.stage;
        let no_room = WindowRoom {
            events: 0,
            bytes: 0,
        };
        let inbox = SubscriberInbox::new(ReadState::Behind(from), stored_read_state, no_room);

        // The inbox is listed at once, so that checkpoints keep its cursor while the lanes are read.
        stage.dormant.borrow_mut().remove(id);
        let mut inboxes = stage.inboxes.borrow_mut();
        inboxes.insert(id.clone(), Rc::clone(&inbox));
        drop(inboxes);

        let (stage, id) = (Rc::clone(stage), id.clone());
        actix_rt::spawn(async move {
            match read_lane_rows(&stage, &id).await {
                Ok(Some(rows)) => stage.push_task(DispatcherTask::LanesLoaded(id, inbox, rows)),
                Ok(None) => {}
                Err(error) => stage.fail(error),
            }
        });
    }

    /// Counts the backlog of a disabled subscriber from `cursor` on; [`Self::finish_drop`] then drops
    /// it.
    pub(super) fn drop_backlog(&self, id: &SubscriberId, cursor: Position) {
        let stage = &self.stage;
        let Some(matcher) = stage.subscriber_set().matcher(id) else {
            return;
        };
        stage.set_dormant(id.clone(), DormantState::Dropping);

        // The cursor stays in its row, so that a start after a crash counts the backlog again.
        stage
            .deps
            .checkpoints
            .set_read_state(id, ReadState::Behind(cursor));

        // Records up to the durable end were accepted before now, matched or not.
        let end = *self.durable_end.borrow();
        let (stage, id) = (Rc::clone(stage), id.clone());
        actix_rt::spawn(async move {
            let rows = match read_lane_rows(&stage, &id).await {
                Ok(Some(rows)) => rows,
                Ok(None) => return,
                Err(error) => return stage.fail(error),
            };
            match backlog::count_backlog(&stage, &id, &matcher, rows, (cursor, end)).await {
                Ok(backlog) => stage.push_task(DispatcherTask::BacklogCounted(id, backlog)),
                Err(error) => stage.fail(error),
            }
        });
    }

    pub(super) fn run_task(&mut self, task: DispatcherTask) {
        match task {
            DispatcherTask::LanesLoaded(id, inbox, rows) => {
                let entry = self.stage.subscriber_set().entry(&id);
                // A closed inbox: the subscriber was deleted or disabled meanwhile.
                let Some(entry) = entry.filter(|_| !inbox.is_closed()) else {
                    return;
                };
                let released = self.released_lanes(&id, &rows);
                SubscriberActor::spawn_actor(&self.stage, id, &inbox, entry, rows);
                for key in released {
                    inbox.push_message(ActorMessage::Input(DeliveryInput::LaneReleased { key }));
                }
                inbox.push_message(ActorMessage::ReplaysAvailable);
            }
            DispatcherTask::ActorCrashed(id) => self.restart_crashed(&id),
            DispatcherTask::Disable(policy, reason) => {
                drop(self.disable_subscriber(&policy, reason))
            }
            DispatcherTask::BacklogCounted(id, backlog) => self.finish_drop(&id, backlog),
            DispatcherTask::DeliveriesExpired(id, expired) => self.finish_expiry(&id, *expired),
            DispatcherTask::Resume(id) => self.resume_subscriber(&id),
        }
    }

    /// Returns halted lanes whose dead letter was delivered or discarded while there was no actor, or
    /// just before a crash.
    fn released_lanes(&self, id: &SubscriberId, rows: &[LaneRow]) -> Vec<LaneKey> {
        let dead_letters = &self.stage.deps.recovery.dead_letters;
        let halted = rows.iter().filter(|row| row.is_halted).map(|row| &row.key);
        halted
            .filter(|key| !dead_letters.is_lane_halted(id, key))
            .cloned()
            .collect()
    }

    /// Restarts a crashed actor, or pauses its subscriber if it crashes repeatedly.
    fn restart_crashed(&mut self, id: &SubscriberId) {
        let stage = &self.stage;
        let Some(inbox) = stage.inboxes.borrow_mut().remove(id) else {
            return;
        };
        inbox.close();
        // `DeliveryStage::mark_crashed` has set the position to read from.
        let ReadState::Behind(from) = inbox.read_state() else {
            return;
        };
        stage.deps.recovery.jobs.requeue_in_flight(id);

        let (now, crashes) = (stage.now(), self.crashes.entry(id.clone()).or_default());
        if !crashes.note_crash(now, CRASHES_MAX, CRASHES_WINDOW) {
            error!(subscriber = %id, "delivery worker crashed; restarting it");
            return self.load_actor(id, from, inbox.stored_read_state());
        }

        error!(subscriber = %id, "delivery worker crashed repeatedly; subscriber paused");
        self.suspend_subscriber(id, from);
        let SubscriberId::Webhook(number) = *id else {
            return self.resume_later(id);
        };
        let reason = "delivery worker crashed repeatedly; report a bug, then resume";
        self.pause_subscription(number, reason.to_owned());
    }

    /// Pauses the subscriptions whose filters and transforms took too much time.
    pub(super) fn pause_overused(&self) {
        for (id, spent) in self.stage.deps.expressions.take_overused() {
            let SubscriberId::Webhook(number) = id else {
                continue;
            };
            let spent_s = spent.as_secs();
            warn!(subscriber = %id, spent_s, "subscription paused, its expressions take too long");
            let reason = format!(
                "filter and transform took {spent_s} s of a minute; make them cheaper, then resume"
            );
            self.pause_subscription(number, reason);
        }
    }

    fn pause_subscription(&self, number: SubscriptionId, reason: String) {
        let reason = Some(reason);
        let is_active = |found: &Subscription| found.state == SubscriptionState::Active;
        let state = SubscriptionState::Paused { reason };
        drop(self.stop_subscription(number, state, PAUSE, is_active));
    }

    /// Gives the subscription `number` the state `state`, if it `is_to_stop`, and logs the `act`. The
    /// task returns true if it did.
    fn stop_subscription(
        &self,
        number: SubscriptionId,
        state: SubscriptionState,
        act: &'static str,
        is_to_stop: impl Fn(&Subscription) -> bool + Send + 'static,
    ) -> JoinHandle<bool> {
        let subscriptions = Arc::clone(&self.deps.subscriptions);
        let audit = Arc::clone(&self.deps.audit);
        let now = self.stage.wall();
        spawn_blocking(move || {
            let mut is_stopped = false;
            let changed = subscriptions.change(number, |subscription| {
                is_stopped = is_to_stop(subscription);
                if is_stopped {
                    subscription.state = state;
                    subscription.updated_at = now;
                }
            });
            // It may have been deleted meanwhile; the registry itself reports a failed write.
            is_stopped &= changed.is_ok();
            if is_stopped {
                audit.append_act(now, act, Some(number.to_string()), SUCCESS);
            }
            is_stopped
        })
    }

    /// Resumes a subscriber of an account after a while, because the API cannot resume it.
    fn resume_later(&self, id: &SubscriberId) {
        let (stage, id) = (Rc::clone(&self.stage), id.clone());
        actix_rt::spawn(async move {
            sleep_until(Instant::now() + CRASHES_WINDOW).await;
            stage.push_task(DispatcherTask::Resume(id));
        });
    }

    fn resume_subscriber(&self, id: &SubscriberId) {
        if let Some(DormantState::Paused(from)) = self.stage.dormant_state(id) {
            self.load_actor(id, from, Some(ReadState::Behind(from)));
        }
    }

    /// Disables the subscription of `policy`; [`Self::update_subscriber`] then drops its backlog. One
    /// that was paused or got another receiver meanwhile stays: the answer was not about that. The task
    /// returns true if it was disabled.
    pub(super) fn disable_subscriber(
        &self,
        policy: &DeliveryPolicy,
        reason: String,
    ) -> Option<JoinHandle<bool>> {
        let id = policy.id.clone();
        let (SubscriberId::Webhook(number), DeliveryTarget::Webhook(judged)) =
            (&id, &policy.target)
        else {
            // An account has no such state: its delivery waits for another definition.
            warn!(subscriber = %id, reason, "subscriber disabled");
            return None;
        };

        let judged = Arc::clone(judged);
        let is_same = move |found: &Subscription| {
            found.state == SubscriptionState::Active && found.is_same_receiver(&judged)
        };
        let state = SubscriptionState::Disabled {
            reason: reason.clone(),
        };
        let change = self.stop_subscription(*number, state, DISABLE, is_same);
        let announcer = self.stage.deps.announcer.clone();
        Some(actix_rt::spawn(async move {
            let is_disabled = change.await.unwrap_or_default();
            if is_disabled {
                warn!(subscriber = %id, reason, "subscriber disabled");
                announcer.announce_disabled(&id, &reason);
            }
            is_disabled
        }))
    }

    /// Drops the counted backlog of a disabled subscriber: one dead letter states its size.
    fn finish_drop(&self, id: &SubscriberId, backlog: MissedRecords) {
        let stage = &self.stage;
        if stage.dormant.borrow_mut().remove(id) != Some(DormantState::Dropping) {
            return;
        }
        if let Some((first, last)) = backlog.bounds() {
            warn!(
                subscriber = %id,
                count = backlog.count(),
                %first,
                %last,
                "pending deliveries of a disabled subscriber dropped"
            );
            stage.add_missed(id, DeadLetterCause::Disabled, backlog);
        }
        stage.deps.checkpoints.remove_backlog(id);

        // The subscriber may have been enabled while its backlog was being counted.
        if matches!(
            stage.subscriber_set().subscription_state(id),
            Some(SubscriptionState::Active | SubscriptionState::Paused { .. })
        ) {
            self.add_subscriber(id);
        }
    }

    /// Counts the pending deliveries of a subscriber before `position`; [`Self::finish_expiry`] then
    /// gives them up. Its actor ends: it holds records from before `position`.
    fn expire_deliveries(&self, id: &SubscriberId, position: Position) {
        let stage = &self.stage;
        let (inbox, dormant) = (stage.inbox(id), stage.dormant_state(id));
        let cursor = match (&inbox, dormant) {
            (Some(inbox), _) => stage.subscriber_cursor(inbox),
            (None, Some(DormantState::Paused(from))) => from,
            (None, Some(DormantState::Live | DormantState::Dropping | DormantState::Expiring))
            | (None, None) => return,
        };
        let Some(matcher) = stage.subscriber_set().matcher(id) else {
            return;
        };
        // The dispatcher itself has not matched those records yet.
        if position > stage.position.get() {
            return;
        }

        if let Some(inbox) = inbox {
            stage.inboxes.borrow_mut().remove(id);
            inbox.close();
            stage.deps.recovery.jobs.requeue_in_flight(id);
        }
        stage.set_dormant(id.clone(), DormantState::Expiring);
        // A start after a crash begins here again, and the request is repeated.
        stage
            .deps
            .checkpoints
            .set_read_state(id, ReadState::Behind(cursor));

        let (stage, id) = (Rc::clone(stage), id.clone());
        actix_rt::spawn(async move {
            let rows = match read_lane_rows(&stage, &id).await {
                Ok(Some(rows)) => rows,
                Ok(None) => return,
                Err(error) => return stage.fail(error),
            };
            let (lanes, range) = (rows.clone(), (cursor, position));
            let missed = match backlog::count_backlog(&stage, &id, &matcher, lanes, range).await {
                Ok(missed) => missed,
                Err(error) => return stage.fail(error),
            };
            let cursor = cursor.max(position);
            match expiry::move_lanes(&stage.deps.reads, rows, position, cursor).await {
                Ok(lanes) => {
                    let expired = Box::new(ExpiredDeliveries {
                        missed,
                        cursor,
                        lanes,
                    });
                    stage.push_task(DispatcherTask::DeliveriesExpired(id, expired));
                }
                Err(error) => stage.fail(error),
            }
        });
    }

    /// Gives up the expired deliveries of a subscriber: one dead letter states their number, and
    /// the others go on.
    fn finish_expiry(&self, id: &SubscriberId, expired: ExpiredDeliveries) {
        let stage = &self.stage;
        if stage.dormant_state(id) != Some(DormantState::Expiring) {
            return;
        }
        stage.dormant.borrow_mut().remove(id);

        let ExpiredDeliveries {
            missed,
            cursor,
            lanes,
        } = expired;
        stage.report_expired(id, missed);
        for (lane, row) in lanes {
            let value = row.map(|row| encode_lane(&row, stage.wall()));
            let checkpoints = &stage.deps.checkpoints;
            checkpoints.record_change(lane_key(id, &lane), value);
        }
        let state = ReadState::Behind(cursor);
        stage.deps.checkpoints.set_read_state(id, state);

        match stage.subscriber_set().subscription_state(id) {
            // A paused one needs an actor for the lanes that are left.
            Some(SubscriptionState::Active | SubscriptionState::Paused { .. }) => {
                self.load_actor(id, cursor, Some(state))
            }
            Some(SubscriptionState::Disabled { .. }) => self.drop_backlog(id, cursor),
            None => {}
        }
    }

    /// Moves the cursor of a subscriber that reads its events itself.
    fn acknowledge(&self, id: &SubscriberId, position: Position) {
        let stage = &self.stage;
        // The dispatcher may be behind what the subscriber has read.
        let position = position.min(stage.position.get());
        if let Some(DormantState::Paused(from)) = stage.dormant_state(id)
            && from < position
        {
            self.suspend_subscriber(id, position);
        }
    }

    /// Passes a request on to the actor of the subscriber `id`, and spawns the actor if it is needed.
    pub(super) fn handle_request(&self, id: &SubscriberId, request: StageRequest) {
        let stage = &self.stage;
        let message = match request {
            StageRequest::ExpireBefore(position) => return self.expire_deliveries(id, position),
            StageRequest::Acknowledged(position) => return self.acknowledge(id, position),
            StageRequest::ReplaysAvailable => ActorMessage::ReplaysAvailable,
            StageRequest::JobCancelled(job) => {
                ActorMessage::Input(DeliveryInput::JobCancelled { job })
            }
            StageRequest::LaneReleased(key) => {
                ActorMessage::Input(DeliveryInput::LaneReleased { key })
            }
            StageRequest::RepairNoticed => ActorMessage::Input(DeliveryInput::RepairNoticed),
        };
        let (subscriber_set, is_of_job) = (
            stage.subscriber_set(),
            matches!(message, ActorMessage::ReplaysAvailable),
        );
        let inbox = match (stage.inbox(id), stage.dormant_state(id)) {
            (None, Some(DormantState::Live)) if is_of_job => {
                self.start_live_actor(&subscriber_set, id)
            }
            (None, None) if subscriber_set.subscription_state(id).is_none() => {
                // The subscriber was deleted while a job for it was being created. Nothing else
                // would end that job.
                stage
                    .deps
                    .recovery
                    .retain(|id| subscriber_set.subscription_state(id).is_some());
                None
            }
            // An actor that is spawned later asks for jobs and released lanes itself.
            (inbox, _) => inbox,
        };
        if let Some(inbox) = inbox {
            inbox.push_message(message);
        }
    }
}

/// Reads the stopped lanes of `id` after a flush of pending changes; `None` when the stage is
/// stopping.
async fn read_lane_rows(
    stage: &DeliveryStage,
    id: &SubscriberId,
) -> Result<Option<Vec<LaneRow>>, DeliveryStageError> {
    if stage.deps.checkpoints.flush().await.is_err() {
        return Ok(None);
    }

    let (tables, id, now) = (stage.deps.tables.clone(), id.clone(), stage.wall());
    let rows = spawn_blocking(move || tables.lane_rows(&id, now))
        .await
        .map_err(|_| DeliveryStageError::Panicked)?;
    Ok(Some(rows?))
}
