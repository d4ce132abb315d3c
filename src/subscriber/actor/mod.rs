//! The actor of a subscriber that owes something: the shell around its delivery, which tells that
//! what happened and does what it asks for.
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

use super::attempt::AttemptNumber;
use super::dead_letters::NewDeadLetter;
use super::delivery::{AttemptId, DeliveryEffect, DeliveryInput, LaneRow, SubscriberDelivery};
use super::delivery_policy::DeliveryPolicy;
use super::inbox::{ActorMessage, ReadState, SubscriberInbox};
use super::reader::{DroppedRange, WindowRoom};
use super::stage::{DeliveryStage, DispatcherTask, DormantState};
use super::subscriber_set::{SubscriberEntry, SubscriberMatcher};
use super::tables::{RowKey, encode_lane, lane_key};
use super::{OutboundRecord, SubscriberId};
use crate::event::Position;
use crate::panics::PanicContainment;
use crate::projection::ProjectionReadError;
use crate::subscription::SubscriptionState;

/// How long an actor stays that has nothing to do: the next event is mostly not far.
const IDLE: Duration = Duration::from_secs(10);

/// Makes an actor look into its inbox.
#[derive(Clone, Copy, Debug)]
pub(super) struct InboxWakeup;

impl Message for InboxWakeup {
    type Result = ();
}

/// An attempt that has no turn yet.
type QueuedAttempt = (AttemptId, OutboundRecord, AttemptNumber);

/// One subscriber's actor.
pub(super) struct SubscriberActor {
    id: SubscriberId,
    stage: Rc<DeliveryStage>,
    inbox: Rc<SubscriberInbox>,
    policy: Arc<DeliveryPolicy>,
    matcher: SubscriberMatcher,
    delivery: SubscriberDelivery,
    /// What it asked for, in order.
    effects: VecDeque<DeliveryEffect>,
    /// Rows that are to be kept, or removed, together with what it holds.
    changed_rows: Vec<(RowKey, Option<Vec<u8>>)>,
    running: HashMap<AttemptId, AbortOnDropTask>,
    queued_attempts: VecDeque<QueuedAttempt>,
    /// The reading that is under way, by its number.
    reading_number: Option<u64>,
    last_reading_number: u64,
    /// Bytes that are being read, at most, and bytes that the stage knows of it.
    incoming_bytes: usize,
    claimed_bytes: usize,
    /// What was not delivered because it was owed for too long, until the end of that is found.
    dropped: Option<DroppedRange>,
    timer: Option<(Duration, SpawnHandle)>,
    idle_since: Option<Duration>,
}

/// A task that ends with its owner.
struct AbortOnDropTask(actix_rt::task::JoinHandle<()>);

impl Drop for AbortOnDropTask {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl SubscriberActor {
    /// Begins the actor of `id`, whose inbox is `inbox`, with what is stored of its lanes.
    pub(super) fn spawn_actor(
        stage: &Rc<DeliveryStage>,
        id: SubscriberId,
        inbox: &Rc<SubscriberInbox>,
        listed: SubscriberEntry,
        rows: Vec<LaneRow>,
    ) {
        let SubscriberEntry {
            policy: profile,
            matcher: judge,
            first_position: _,
        } = listed;
        let read_to = match inbox.read_state() {
            ReadState::Live => stage.position.get(),
            ReadState::Behind(from) => from,
        };
        let failing_since = stage.counters(&id).failing_since;
        let failing_for = failing_since.map(|since| stage.wall().distance(since));
        let seed = RandomState::new().hash_one(&id);
        let delivery = SubscriberDelivery::new(
            Arc::clone(&profile),
            read_to,
            rows,
            failing_for,
            seed,
            stage.now(),
        );
        let actor = Self {
            id,
            stage: Rc::clone(stage),
            inbox: Rc::clone(inbox),
            policy: profile,
            matcher: judge,
            delivery,
            effects: VecDeque::new(),
            changed_rows: Vec::new(),
            running: HashMap::new(),
            queued_attempts: VecDeque::new(),
            reading_number: None,
            last_reading_number: 0,
            incoming_bytes: 0,
            claimed_bytes: 0,
            dropped: None,
            timer: None,
            idle_since: None,
        };
        inbox.attach_actor(actor.start());
    }

    fn process_inbox(&mut self) {
        for told in self.inbox.take_messages() {
            self.handle_message(told);
        }
        let (items, end) = (self.inbox.take_records(), self.read_to());
        if !items.is_empty() || end > self.delivery.read_to() {
            self.step_delivery(DeliveryInput::RecordsMatched { items, end });
        }
        self.step_delivery(DeliveryInput::Tick);
        self.begin_attempts();
        self.read_ahead();
        self.record_dropped();
        self.publish_status();
    }

    /// Says what is so now, all at once: a panic before that leaves everything as it was said last.
    fn publish_status(&mut self) {
        for (key, value) in self.changed_rows.drain(..) {
            match value {
                Some(value) => self.stage.deps.checkpoints.put(key, value),
                None => self.stage.deps.checkpoints.remove(key),
            }
        }
        self.claim_memory(self.delivery.queued_bytes() + self.incoming_bytes);
        let WindowRoom { events, bytes } = self.window_room();
        self.inbox.publish_status(
            self.oldest_unsettled(),
            (events, bytes),
            self.delivery.status(),
        );
    }

    /// Tells the stage how much memory it has.
    fn claim_memory(&mut self, bytes: usize) {
        self.stage
            .deps
            .memory
            .update_held(self.claimed_bytes, bytes);
        self.claimed_bytes = bytes;
    }

    fn handle_message(&mut self, told: ActorMessage) {
        match told {
            ActorMessage::Input(input) => self.step_delivery(input),
            ActorMessage::AttemptFinished(input, call) => self.finish_attempt(input, call),
            ActorMessage::BatchRead(number, read) if self.reading_number == Some(number) => {
                self.accept_batch(read)
            }
            // Its definition changed since it was begun.
            ActorMessage::BatchRead(..) => {}
            ActorMessage::RangeDropped(dropped) => self.add_dropped(Some(dropped)),
            ActorMessage::DefinitionChanged => self.apply_new_definition(),
            ActorMessage::ReplaysAvailable => self.fetch_replays(),
        }
    }

    fn step_delivery(&mut self, input: DeliveryInput) {
        self.effects
            .extend(self.delivery.step(input, self.stage.now()));
        while let Some(effect) = self.effects.pop_front() {
            self.perform_effect(effect);
        }
    }

    fn perform_effect(&mut self, effect: DeliveryEffect) {
        let (id, means) = (&self.id, &self.stage.deps);
        match effect {
            DeliveryEffect::Attempt {
                attempt_id,
                item,
                attempt,
                is_replay,
            } => {
                self.queued_attempts.push_back((
                    attempt_id,
                    item,
                    AttemptNumber { attempt, is_replay },
                ));
            }
            DeliveryEffect::CatchUp {
                lane,
                from_sequence,
            } => self.catch_up_lane(lane, from_sequence),
            DeliveryEffect::StoreRow(row) => {
                self.changed_rows.push((
                    lane_key(id, &row.key),
                    Some(encode_lane(&row, self.stage.wall())),
                ));
            }
            DeliveryEffect::RemoveRow(lane) => self.changed_rows.push((lane_key(id, &lane), None)),
            DeliveryEffect::DeadLetter {
                item,
                attempts,
                failure,
                reason,
                replay,
                is_halting,
            } => {
                let code = failure.code;
                warn!(subscriber = %id, position = %item.position, attempts, code, "delivery failed for good");
                let burial = NewDeadLetter {
                    item,
                    attempts,
                    failure,
                    reason,
                    is_halting,
                };
                let number = means.recovery.dead_letters.add(id, burial.clone());
                means
                    .announcer
                    .announce_exhausted(id, &burial, number, replay.map(|tag| tag.job));
                if let Some(tag) = replay {
                    means.recovery.jobs.record_failed(id, tag);
                }
            }
            DeliveryEffect::ReplayDelivered(tag) => means.recovery.jobs.record_delivered(id, tag),
            DeliveryEffect::BreakerOpened { failure_rate } => {
                warn!(subscriber = %id, failure_rate, "deliveries interrupted, too many failed");
                means.announcer.announce_breaker_opened(id, failure_rate);
            }
            DeliveryEffect::BreakerClosed => means.announcer.announce_breaker_closed(id),
            DeliveryEffect::Disable { reason } => self
                .stage
                .push_task(DispatcherTask::Disable(id.clone(), reason)),
        }
    }

    /// Everything before it was looked at, once what is in the inbox is taken.
    fn read_to(&self) -> Position {
        match self.inbox.read_state() {
            ReadState::Live => self.stage.position.get(),
            ReadState::Behind(from) => from,
        }
    }

    /// The oldest record that no cursor of this subscriber may pass.
    fn oldest_unsettled(&self) -> Option<Position> {
        let dropped = self.dropped.map(|dropped| dropped.first);
        self.delivery
            .oldest_unsettled()
            .into_iter()
            .chain(dropped)
            .min()
    }

    /// Asks the jobs for what is to be delivered again. They wait for one to which nothing is
    /// delivered.
    fn fetch_replays(&self) {
        if self.policy.state != SubscriptionState::Active {
            return;
        }
        let (id, inbox, stage) = (
            self.id.clone(),
            Rc::clone(&self.inbox),
            Rc::clone(&self.stage),
        );
        let interest = self.matcher.interest();
        actix_rt::spawn(async move {
            match stage.deps.recovery.jobs.take_replays(&id, &interest).await {
                Ok(replays) if replays.is_empty() => {}
                // Its actor is gone, and the next one has to be given them.
                Ok(_) if inbox.is_closed() => stage.deps.recovery.jobs.requeue_in_flight(&id),
                Ok(replays) => {
                    inbox.push_message(ActorMessage::Input(DeliveryInput::ReplaysAdded(replays)))
                }
                Err(error) => stage.fail(ProjectionReadError::from(error)),
            }
        });
    }

    fn apply_new_definition(&mut self) {
        let Some(listed) = self.stage.subscriber_set().entry(&self.id) else {
            return;
        };
        self.matcher = listed.matcher;
        self.policy = listed.policy;
        // What was read was judged by what it wanted before.
        self.end_reading();
        self.step_delivery(DeliveryInput::PolicyChanged(Arc::clone(&self.policy)));
        self.fetch_replays();
    }
}

/// Its time.
impl SubscriberActor {
    fn arm_timer(&mut self, ctx: &mut Context<Self>) {
        let now = self.stage.now();
        let due = match self.delivery.next_due_at() {
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
            let _contained = PanicContainment::begin();
            actor.run_once(ctx);
        });
        self.timer = Some((due, handle));
    }

    fn is_idle(&self) -> bool {
        let is_settled =
            self.delivery.is_idle() && self.reading_number.is_none() && self.inbox.is_empty();
        let is_at_rest = match self.inbox.read_state() {
            ReadState::Live => true,
            ReadState::Behind(_) => self.policy.state != SubscriptionState::Active,
        };
        is_settled && is_at_rest && self.queued_attempts.is_empty() && self.dropped.is_none()
    }

    /// Ends with nothing in its hands.
    fn retire(&mut self, ctx: &mut Context<Self>) {
        let quiet = match self.inbox.read_state() {
            ReadState::Live => DormantState::Live,
            ReadState::Behind(from) => DormantState::Paused(from),
        };
        self.inbox.close();
        self.stage.retire_actor(&self.id, &self.inbox, quiet);
        ctx.stop();
    }

    fn run_once(&mut self, ctx: &mut Context<Self>) {
        if self.inbox.is_closed() {
            return ctx.stop();
        }
        self.inbox.reset_wake();
        self.process_inbox();
        self.arm_timer(ctx);
    }
}

impl Actor for SubscriberActor {
    type Context = Context<Self>;
}

impl Handler<InboxWakeup> for SubscriberActor {
    type Result = ();

    fn handle(&mut self, _: InboxWakeup, ctx: &mut Self::Context) {
        let _contained = PanicContainment::begin();
        self.run_once(ctx);
    }
}

impl Drop for SubscriberActor {
    fn drop(&mut self) {
        self.claim_memory(0);
        if !self.inbox.is_closed() {
            self.stage.mark_crashed(&self.id, &self.inbox);
        }
    }
}
