//! Who is where: gives everybody a place, and another one when a definition changes, an actor
//! crashes, or somebody is told something.

use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::Arc;

use actix_rt::task::spawn_blocking;
use tokio::time::{Instant, sleep_until};
use tracing::{error, warn};

use super::super::actor::SubscriberActor;
use super::super::dead_letters::DeadLetterCause;
use super::super::delivery::{DeliveryBreakerState, DeliveryInput, LaneKey, LaneRow};
use super::super::inbox::{ActorMessage, ReadState, SubscriberInbox};
use super::super::reader::DroppedRange;
use super::super::stage::{DeliveryStage, DispatcherTask, DormantState};
use super::super::stage_requests::StageRequest;
use super::super::subscriber_set::SubscriberSet;
use super::super::tables::ReadStateRow;
use super::super::{DeliveryStageError, SubscriberId, SubscriberStats, backlog};
use super::{CRASHES_MAX, CRASHES_WINDOW, Dispatcher, DispatcherQuery};
use crate::event::Position;
use crate::panics::PanicContainment;
use crate::projection::ProjectionReadError;
use crate::subscription::SubscriptionState;

impl Dispatcher {
    /// Takes over what has changed of the definitions.
    pub(super) fn refresh_subscribers(&mut self) {
        let (subscriptions, accounts) = (
            self.sources.subscriptions.snapshot(),
            self.sources.accounts.snapshot(),
        );
        let old = self.stage.subscriber_set();
        if old.is_built_from(&subscriptions, &accounts) {
            return;
        }
        self.changes.borrow_and_update();
        let new = Rc::new(SubscriberSet::from_definitions(
            Arc::clone(&self.sources.config),
            subscriptions,
            accounts,
        ));
        self.stage.subscriber_set.replace(Rc::clone(&new));
        let gone: BTreeSet<_> = old
            .ids()
            .filter(|id| new.subscription_state(id).is_none() || new.is_replaced(&old, id))
            .collect();
        gone.iter().for_each(|id| self.remove_subscriber(id));
        if !gone.is_empty() {
            self.stage
                .deps
                .recovery
                .retain(|id| new.subscription_state(id).is_some() && !gone.contains(id));
        }
        for id in new.ids().filter(|id| !new.is_unchanged(&old, id)) {
            self.update_subscriber(&new, &id);
        }
    }

    fn remove_subscriber(&self, id: &SubscriberId) {
        let stage = &self.stage;
        if let Some(inbox) = stage.inboxes.borrow_mut().remove(id) {
            inbox.close();
        }
        stage.dormant.borrow_mut().remove(id);
        stage.forget_counters(id);
        stage.deps.checkpoints.remove_subscriber(id);
        (stage.deps.forget_client)(id);
    }

    fn update_subscriber(&self, roster: &SubscriberSet, id: &SubscriberId) {
        let (stage, Some(state)) = (&self.stage, roster.subscription_state(id)) else {
            return;
        };
        let (inbox, quiet) = (stage.inbox(id), stage.dormant.borrow().get(id).copied());
        match (state, inbox, quiet) {
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
                self.load_actor(id, from, Some(ReadStateRow::Behind(from)))
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

    /// Gives a place to a subscriber that had none: it is new, or enabled again.
    pub(super) fn add_subscriber(&self, id: &SubscriberId) {
        let stage = &self.stage;
        let Some(listed) = stage.subscriber_set().entry(id) else {
            return;
        };
        let position = stage.position.get();
        let from = listed.first_position.unwrap_or(position);
        match listed.policy.state {
            SubscriptionState::Active if from >= position => {
                stage
                    .dormant
                    .borrow_mut()
                    .insert(id.clone(), DormantState::Live);
                stage
                    .deps
                    .checkpoints
                    .set_read_state(id, ReadStateRow::Live);
            }
            SubscriptionState::Active => self.load_actor(id, from, None),
            SubscriptionState::Paused { .. } => self.suspend_subscriber(id, from),
            SubscriptionState::Disabled { .. } => return,
        }
        stage.deps.recovery.jobs.requeue_in_flight(id);
    }

    /// Notes that everything from `from` on is owed to a subscriber to which nothing is delivered
    /// for now.
    pub(super) fn suspend_subscriber(&self, id: &SubscriberId, from: Position) {
        self.stage
            .dormant
            .borrow_mut()
            .insert(id.clone(), DormantState::Paused(from));
        self.stage
            .deps
            .checkpoints
            .set_read_state(id, ReadStateRow::Behind(from));
    }

    /// Begins the actor of a subscriber that reads for itself, from `from` on, once its rows are
    /// read.
    pub(super) fn load_actor(
        &self,
        id: &SubscriberId,
        from: Position,
        noted: Option<ReadStateRow>,
    ) {
        let stage = &self.stage;
        stage.dormant.borrow_mut().remove(id);
        let inbox = SubscriberInbox::new(ReadState::Behind(from), noted, (0, 0));
        stage
            .inboxes
            .borrow_mut()
            .insert(id.clone(), Rc::clone(&inbox));
        let (stage, id) = (Rc::clone(stage), id.clone());
        actix_rt::spawn(async move {
            match read_lane_rows(&stage, &id).await {
                Ok(Some(rows)) => stage.push_task(DispatcherTask::LanesLoaded(id, inbox, rows)),
                Ok(None) => {}
                Err(failed) => stage.fail(failed),
            }
        });
    }

    /// Gives up what a disabled subscriber is owed from `cursor` on, once it is counted.
    pub(super) fn drop_backlog(&self, id: &SubscriberId, cursor: Position) {
        let stage = &self.stage;
        let Some(judge) = stage.subscriber_set().matcher(id) else {
            return;
        };
        stage
            .dormant
            .borrow_mut()
            .insert(id.clone(), DormantState::Dropping);
        // Until it is counted, a crash finds it where it was.
        stage
            .deps
            .checkpoints
            .set_read_state(id, ReadStateRow::Behind(cursor));
        // All that was accepted before, whether or not it was looked at.
        let (stage, id, end) = (Rc::clone(stage), id.clone(), *self.durable_end.borrow());
        actix_rt::spawn(async move {
            let rows = match read_lane_rows(&stage, &id).await {
                Ok(Some(rows)) => rows,
                Ok(None) => return,
                Err(failed) => return stage.fail(failed),
            };
            let journal = Arc::clone(&stage.deps.journal);
            let counted = spawn_blocking(move || {
                let _contained = PanicContainment::begin();
                backlog::count_backlog(journal.as_ref(), judge, rows, (cursor, end))
            });
            match counted.await {
                Ok(Ok(dropped)) => stage.push_task(DispatcherTask::BacklogCounted(id, dropped)),
                Ok(Err(error)) => stage.fail(ProjectionReadError::from(error)),
                Err(_) => stage.fail(DeliveryStageError::Panicked),
            }
        });
    }

    pub(super) fn run_task(&mut self, errand: DispatcherTask) {
        match errand {
            DispatcherTask::LanesLoaded(id, inbox, rows) => {
                let listed = self.stage.subscriber_set().entry(&id);
                if let Some(listed) = listed.filter(|_| !inbox.is_closed()) {
                    let released = self.released_lanes(&id, &rows);
                    SubscriberActor::spawn_actor(&self.stage, id, &inbox, listed, rows);
                    released.into_iter().for_each(|key| {
                        inbox.push_message(ActorMessage::Input(DeliveryInput::LaneReleased { key }))
                    });
                    inbox.push_message(ActorMessage::ReplaysAvailable);
                }
            }
            DispatcherTask::ActorCrashed(id) => self.restart_crashed(&id),
            DispatcherTask::Disable(id, reason) => self.disable_subscriber(id, reason),
            DispatcherTask::BacklogCounted(id, dropped) => self.finish_drop(&id, dropped),
            DispatcherTask::Resume(id) => self.resume_subscriber(&id),
        }
    }

    /// The lanes that stand still for a dead letter which was dealt with while there was no actor,
    /// or just before a crash.
    fn released_lanes(&self, id: &SubscriberId, rows: &[LaneRow]) -> Vec<LaneKey> {
        let letters = &self.stage.deps.recovery.dead_letters;
        let halted = rows.iter().filter(|row| row.is_halted).map(|row| &row.key);
        halted
            .filter(|key| !letters.is_lane_halted(id, key))
            .cloned()
            .collect()
    }

    /// Begins an actor that crashed anew, unless it does so again and again.
    fn restart_crashed(&mut self, id: &SubscriberId) {
        let stage = &self.stage;
        let Some(inbox) = stage.inboxes.borrow_mut().remove(id) else {
            return;
        };
        inbox.close();
        let ReadState::Behind(from) = inbox.read_state() else {
            return;
        };
        stage.deps.recovery.jobs.requeue_in_flight(id);
        let (now, crashes) = (stage.now(), self.crashes.entry(id.clone()).or_default());
        if !crashes.note_crash(now, CRASHES_MAX, CRASHES_WINDOW) {
            error!(subscriber = %id, "actor crashed, beginning it anew");
            return self.load_actor(id, from, inbox.stored_read_state());
        }
        error!(subscriber = %id, "actor crashed too often, its subscriber is paused");
        self.suspend_subscriber(id, from);
        let SubscriberId::Webhook(number) = *id else {
            return self.resume_later(id);
        };
        let subscriptions = Arc::clone(&self.sources.subscriptions);
        let now = stage.wall();
        spawn_blocking(move || {
            let reason =
                Some("its deliveries crashed too often; tell us, and resume it".to_owned());
            // If it was not stored, that is said by the subscriptions themselves.
            let _ = subscriptions.change(number, |subscription| {
                if subscription.state == SubscriptionState::Active {
                    subscription.state = SubscriptionState::Paused { reason };
                    subscription.updated_at = now;
                }
            });
        });
    }

    /// Lets one that nobody can pause, nor resume, go on by itself later.
    fn resume_later(&self, id: &SubscriberId) {
        let (stage, id) = (Rc::clone(&self.stage), id.clone());
        actix_rt::spawn(async move {
            sleep_until(Instant::now() + CRASHES_WINDOW).await;
            stage.push_task(DispatcherTask::Resume(id));
        });
    }

    fn resume_subscriber(&self, id: &SubscriberId) {
        let quiet = self.stage.dormant.borrow().get(id).copied();
        if let Some(DormantState::Paused(from)) = quiet {
            self.load_actor(id, from, Some(ReadStateRow::Behind(from)));
        }
    }

    fn disable_subscriber(&self, id: SubscriberId, reason: String) {
        warn!(subscriber = %id, reason, "subscriber is disabled");
        let SubscriberId::Webhook(number) = id else {
            return;
        };
        let (stage, subscriptions) = (
            Rc::clone(&self.stage),
            Arc::clone(&self.sources.subscriptions),
        );
        let (state, now) = (
            SubscriptionState::Disabled {
                reason: reason.clone(),
            },
            stage.wall(),
        );
        actix_rt::spawn(async move {
            let change = move || {
                subscriptions.change(number, |subscription| {
                    subscription.state = state;
                    subscription.updated_at = now;
                })
            };
            // Somebody may have removed it meanwhile; if it was not stored, the subscriptions
            // themselves say so.
            if let Ok(Ok(_)) = spawn_blocking(change).await {
                stage.deps.announcer.announce_disabled(&id, &reason);
            }
        });
    }

    /// Notes what was given up of a subscriber that was disabled.
    fn finish_drop(&self, id: &SubscriberId, dropped: Option<DroppedRange>) {
        let stage = &self.stage;
        if stage.dormant.borrow_mut().remove(id) != Some(DormantState::Dropping) {
            return;
        }
        if let Some(DroppedRange { first, last, count }) = dropped {
            warn!(subscriber = %id, count, %first, %last, "deliveries given up, their subscriber is disabled");
            stage.deps.recovery.dead_letters.add_range(
                id,
                DeadLetterCause::Disabled,
                (first, last),
                count,
            );
            stage.update_counters(id, |counters| counters.dropped += count);
        }
        stage.deps.checkpoints.remove_backlog(id);
        if matches!(
            stage.subscriber_set().subscription_state(id),
            Some(SubscriptionState::Active | SubscriptionState::Paused { .. })
        ) {
            self.add_subscriber(id);
        }
    }

    pub(super) fn handle_request(&self, notice: StageRequest) {
        let stage = &self.stage;
        let id = notice.subscriber();
        let quiet = stage.dormant.borrow().get(id).copied();
        let inbox = match (stage.inbox(id), quiet) {
            (Some(inbox), _) => inbox,
            (None, Some(DormantState::Live))
                if matches!(notice, StageRequest::ReplaysAvailable(_)) =>
            {
                let Some(inbox) = self.start_live_actor(&stage.subscriber_set(), id) else {
                    return;
                };
                inbox
            }
            (None, None) if stage.subscriber_set().subscription_state(id).is_none() => {
                // It went while a job for it was being made, which nobody else would end.
                let roster = stage.subscriber_set();
                return stage
                    .deps
                    .recovery
                    .retain(|id| roster.subscription_state(id).is_some());
            }
            // Others are told when they begin.
            (None, _) => return,
        };
        match notice {
            StageRequest::ReplaysAvailable(_) => inbox.push_message(ActorMessage::ReplaysAvailable),
            StageRequest::JobCancelled { job, .. } => {
                inbox.push_message(ActorMessage::Input(DeliveryInput::JobCancelled { job }))
            }
            StageRequest::LaneReleased { key, .. } => {
                inbox.push_message(ActorMessage::Input(DeliveryInput::LaneReleased { key }))
            }
            StageRequest::DeadLetterRoom(_) => inbox.wake(),
            StageRequest::Probe(_) => inbox.push_message(ActorMessage::Input(DeliveryInput::Probe)),
        }
    }

    pub(super) fn answer_query(&self, command: DispatcherQuery) {
        match command {
            // Who asked may have gone.
            DispatcherQuery::Stats(id, reply) => drop(reply.send(self.subscriber_stats(&id))),
        }
    }

    fn subscriber_stats(&self, id: &SubscriberId) -> Option<SubscriberStats> {
        let stage = &self.stage;
        stage.subscriber_set().subscription_state(id)?;
        let counters = stage.counters(id);
        let end = self.durable_end.borrow().get();
        let mut stats = SubscriberStats {
            delivered: counters.delivered,
            failed: counters.failed,
            dropped: counters.dropped,
            last_success_at: counters.last_success_at,
            failing_since: counters.failing_since,
            breaker: "closed",
            ..SubscriberStats::default()
        };
        if let Some(inbox) = stage.inbox(id) {
            let standing = inbox.status();
            let read_to = match inbox.read_state() {
                ReadState::Live => stage.position.get(),
                ReadState::Behind(from) => from,
            };
            stats.in_flight = standing.running;
            stats.waiting = standing.queued;
            stats.stopped_lanes = standing.stopped;
            stats.breaker = match standing.breaker {
                DeliveryBreakerState::Closed => "closed",
                DeliveryBreakerState::Open => "open",
                DeliveryBreakerState::HalfOpen => "half_open",
            };
            stats.behind = end.saturating_sub(read_to.get());
        } else if let Some(DormantState::Paused(from)) = stage.dormant.borrow().get(id) {
            stats.behind = end.saturating_sub(from.get());
        }
        Some(stats)
    }
}

/// What is stored of the lanes of `id`, everything that is not written yet included; `None` when
/// the ledger is closed.
async fn read_lane_rows(
    stage: &DeliveryStage,
    id: &SubscriberId,
) -> Result<Option<Vec<LaneRow>>, DeliveryStageError> {
    if stage.deps.checkpoints.settled().await.is_err() {
        return Ok(None);
    }
    let (rows, id, now) = (stage.deps.tables.clone(), id.clone(), stage.wall());
    let lanes = spawn_blocking(move || rows.lane_rows(&id, now))
        .await
        .map_err(|_| DeliveryStageError::Panicked)?;
    Ok(Some(lanes?))
}
