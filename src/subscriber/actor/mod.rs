//! Actor of a subscriber that has pending deliveries: the shell around its delivery state machine.
//! It feeds the machine with inputs and performs its effects.
//!
//! ```text
//!            goes live: has read up to the dispatcher, and holds no record that the last
//!            checkpoint's cursor has passed
//!   Behind ──────────────────────────────────────────────────────────────> Live
//!   reads the journal itself                        is handed records by the dispatcher
//!          <──────────────────────────────────────────────────────────────
//!            inbox full, or the delivery accepts nothing (paused, breaker open, too many lanes)
//! ```

mod attempts;
mod reading;

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix::ActorContext;
use actix::prelude::{Actor, AsyncContext, Context, Handler, SpawnHandle};
use tracing::warn;

use super::actor_waker::InboxWakeup;
use super::attempt::AttemptNumber;
use super::delivery::{AttemptId, DeliveryEffect, DeliveryInput, LaneRow, SubscriberDelivery};
use super::delivery_policy::DeliveryPolicy;
use super::inbox::{ActorMessage, SubscriberInbox};
use super::missed_records::MissedRecords;
use super::outbound_record::OutboundRecord;
use super::stage::{DeliveryStage, DispatcherTask};
use super::subscriber_id::SubscriberId;
use super::subscriber_set::{SubscriberEntry, SubscriberMatcher};
use super::tables::{ReadState, RowKey, encode_lane, lane_key};
use crate::event::Position;
use crate::panics::PanicContainment;
use crate::subscription::SubscriptionState;

/// Time that an idle actor stays in memory. The next event of a subscriber mostly follows soon.
const IDLE_TIMEOUT: Duration = Duration::from_secs(10);

/// Attempt that waits for a permit.
type QueuedAttempt = (AttemptId, OutboundRecord, AttemptNumber);

pub(super) struct SubscriberActor {
    id: SubscriberId,
    stage: Rc<DeliveryStage>,
    inbox: Rc<SubscriberInbox>,
    policy: Arc<DeliveryPolicy>,
    matcher: SubscriberMatcher,
    delivery: SubscriberDelivery,
    /// Effects that are not yet performed, in order.
    effects: VecDeque<DeliveryEffect>,
    /// Changed lane rows (`None` for a removal). They enter the checkpoint buffer together with the
    /// published state, so that a panic leaves both as they were.
    changed_rows: Vec<(RowKey, Option<Vec<u8>>)>,
    running: HashMap<AttemptId, AbortOnDropTask>,
    queued_attempts: VecDeque<QueuedAttempt>,
    /// Journal read that is running.
    reading: Option<AbortOnDropTask>,
    /// Upper bound in bytes of the records that the running read may bring.
    incoming_bytes: usize,
    /// Bytes that this actor has claimed from the stage's memory bound.
    claimed_bytes: usize,
    /// Records that the filter is judging.
    judging: Option<JudgedRecords>,
    /// Expired records that are not yet reported, because there may be more.
    missed: MissedRecords,
    timer: Option<(Duration, SpawnHandle)>,
    idle_since: Option<Duration>,
}

/// Records that a filter is judging.
#[derive(Clone, Copy, Debug)]
struct JudgedRecords {
    first: Position,
    count: usize,
    bytes: usize,
    /// True if a checkpoint has begun since the filter got them.
    is_old: bool,
}

/// Task that is aborted when its owner drops this handle.
struct AbortOnDropTask(actix_rt::task::JoinHandle<()>);

impl Drop for AbortOnDropTask {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl SubscriberActor {
    /// Spawns the actor of `id` with its inbox, its definition and its stopped lanes.
    pub(super) fn spawn_actor(
        stage: &Rc<DeliveryStage>,
        id: SubscriberId,
        inbox: &Rc<SubscriberInbox>,
        entry: SubscriberEntry,
        lane_rows: Vec<LaneRow>,
    ) {
        let SubscriberEntry {
            policy,
            matcher,
            first_position: _,
        } = entry;

        let delivery = SubscriberDelivery::new(
            Arc::clone(&policy),
            stage.read_position(inbox.read_state()),
            lane_rows,
            stage.counters(&id).failing_for,
            // Seed of the retry jitter.
            RandomState::new().hash_one(&id),
            stage.now(),
        );

        let actor = Self {
            id,
            stage: Rc::clone(stage),
            inbox: Rc::clone(inbox),
            policy,
            matcher,
            delivery,
            effects: VecDeque::new(),
            changed_rows: Vec::new(),
            running: HashMap::new(),
            queued_attempts: VecDeque::new(),
            reading: None,
            incoming_bytes: 0,
            claimed_bytes: 0,
            judging: None,
            missed: MissedRecords::default(),
            timer: None,
            idle_since: None,
        };
        inbox.attach_actor(actor.start().recipient());
    }

    /// Processes everything in the inbox, and then whatever is due by now.
    fn process_inbox(&mut self) {
        for message in self.inbox.take_messages() {
            self.handle_message(message);
        }
        // While the filter judges, later records wait in the inbox.
        if self.judging.is_none() {
            let (items, end) = (self.inbox.take_records(), self.read_to());
            self.accept_records(items, end);
        }
        self.step_delivery(DeliveryInput::Tick);

        self.begin_attempts();
        self.read_ahead();
        self.report_missed();
        if self.delivery.status().is_failing && self.owes_nothing() {
            self.step_delivery(DeliveryInput::NothingOwed);
            self.store_failing_time();
        }

        // Last, so that the published state covers all of the above.
        self.publish_status();
    }

    /// True if every record up to the dispatcher's position is settled.
    fn owes_nothing(&self) -> bool {
        self.delivery.is_empty()
            && self.judging.is_none()
            && self.inbox.is_empty()
            && self.read_to() >= self.stage.position.get()
    }

    /// Puts the time without a success into the counters, from which a restart goes on.
    pub(super) fn store_failing_time(&self) {
        let failing_for = self.delivery.status().failing_for;
        if self.stage.counters(&self.id).failing_for != failing_for {
            self.stage
                .update_counters(&self.id, |counters| counters.failing_for = failing_for);
        }
    }

    /// Publishes rows, memory and status at once. After a panic before this call, everything is as
    /// it was published last, and the cursor covers it.
    fn publish_status(&mut self) {
        for (key, value) in self.changed_rows.drain(..) {
            self.stage.deps.checkpoints.record_change(key, value);
        }
        let judged_bytes = self.judging.map_or(0, |judging| judging.bytes);
        self.claim_memory(self.delivery.queued_bytes() + self.incoming_bytes + judged_bytes);
        self.inbox.publish_status(
            self.oldest_unsettled(),
            self.window_room(),
            self.delivery.status(),
        );
    }

    /// Replaces this actor's share of the stage's memory bound.
    fn claim_memory(&mut self, bytes: usize) {
        self.stage
            .deps
            .memory
            .update_held(self.claimed_bytes, bytes);
        self.claimed_bytes = bytes;
    }

    fn handle_message(&mut self, message: ActorMessage) {
        match message {
            ActorMessage::Input(input) => {
                if matches!(input, DeliveryInput::CheckpointStarted) {
                    self.leave_dispatcher_to_others();
                }
                self.step_delivery(input);
            }
            ActorMessage::AttemptFinished(input, log_entry) => {
                self.finish_attempt(input, log_entry)
            }
            ActorMessage::BatchRead(batch) if self.reading.is_some() => self.accept_batch(batch),
            // The definition changed after that read began, so its matches are outdated.
            ActorMessage::BatchRead(_) => {}
            ActorMessage::RecordsJudged(items, end) => {
                self.judging = None;
                self.accept_judged(items, end);
            }
            ActorMessage::RecordsMissed(missed) => self.missed.merge(missed),
            ActorMessage::DefinitionChanged => self.apply_new_definition(),
            ActorMessage::ReplaysAvailable => self.fetch_replays(),
        }
    }

    /// Takes a cursor of its own if the filter is slow: records that it has judged for a whole round
    /// of checkpoints would hold the cursor of all live subscribers.
    fn leave_dispatcher_to_others(&mut self) {
        let Some(judging) = &mut self.judging else {
            return;
        };
        let was_there_before = std::mem::replace(&mut judging.is_old, true);
        if was_there_before && self.inbox.read_state() == ReadState::Live {
            let position = self.stage.position.get();
            self.inbox.set_read_state(ReadState::Behind(position));
        }
    }

    fn step_delivery(&mut self, input: DeliveryInput) {
        let effects = self.delivery.step(input, self.stage.now());
        self.perform_effects(effects);
    }

    /// Performs effects in order; an effect may step the delivery again and append more.
    fn perform_effects(&mut self, effects: Vec<DeliveryEffect>) {
        self.effects.extend(effects);
        while let Some(effect) = self.effects.pop_front() {
            self.perform_effect(effect);
        }
    }

    fn perform_effect(&mut self, effect: DeliveryEffect) {
        let (id, deps) = (&self.id, &self.stage.deps);
        match effect {
            DeliveryEffect::Attempt {
                attempt_id,
                item,
                attempt,
                is_replay,
            } => {
                let number = AttemptNumber { attempt, is_replay };
                self.queued_attempts.push_back((attempt_id, item, number));
            }
            DeliveryEffect::CatchUp {
                lane,
                from_sequence,
            } => self.catch_up_lane(lane, from_sequence),
            DeliveryEffect::StoreRow(row) => {
                let value = encode_lane(&row, self.stage.wall());
                self.changed_rows
                    .push((lane_key(id, &row.key), Some(value)));
            }
            DeliveryEffect::RemoveRow(lane) => self.changed_rows.push((lane_key(id, &lane), None)),
            DeliveryEffect::DeadLetter { letter, replay } => {
                warn!(
                    subscriber = %id,
                    position = %letter.item.position,
                    attempts = letter.attempts,
                    code = letter.failure.code,
                    "delivery became a dead letter"
                );
                deps.metrics.count_given_up(letter.cause.as_str(), 1);
                let number = deps.recovery.dead_letters.add(id, letter.clone());
                self.stage.note_exhausted(id, &letter, number);
                if let Some(tag) = replay {
                    deps.recovery.jobs.record_failed(id, tag);
                }
            }
            DeliveryEffect::ReplayDelivered(tag) => deps.recovery.jobs.record_delivered(id, tag),
            DeliveryEffect::ReplayDropped(tag) => deps.recovery.jobs.record_dropped(id, tag),
            // The log entry of the attempt has it.
            DeliveryEffect::RetryScheduled(_) => {}
            DeliveryEffect::BreakerOpened { failure_rate } => {
                warn!(subscriber = %id, failure_rate, "circuit breaker opened");
                deps.announcer.announce_breaker_opened(id, failure_rate);
            }
            DeliveryEffect::BreakerClosed => deps.announcer.announce_breaker_closed(id),
            DeliveryEffect::Disable { reason } => self
                .stage
                .push_task(DispatcherTask::Disable(Arc::clone(&self.policy), reason)),
        }
    }

    /// Position up to which (exclusive) all records are matched, those in the inbox included.
    fn read_to(&self) -> Position {
        self.stage.read_position(self.inbox.read_state())
    }

    /// Position of the oldest record that is neither settled nor stored; the cursor must not pass it.
    fn oldest_unsettled(&self) -> Option<Position> {
        let missed = self.missed.bounds().map(|(first, _)| first);
        let judged = self.judging.as_ref().map(|judging| judging.first);
        self.delivery
            .oldest_unsettled()
            .into_iter()
            .chain(missed)
            .chain(judged)
            .min()
    }

    /// Fetches records to deliver again from the jobs. For a paused subscriber the jobs wait.
    fn fetch_replays(&self) {
        if self.policy.state != SubscriptionState::Active {
            return;
        }

        let id = self.id.clone();
        let (inbox, stage) = (Rc::clone(&self.inbox), Rc::clone(&self.stage));
        let interest = self.matcher.interest();
        actix_rt::spawn(async move {
            let (jobs, expressions) = (&stage.deps.recovery.jobs, &stage.deps.expressions);
            for job in jobs.active_jobs_of(&id) {
                match jobs.take_replays(job, &id, &interest, expressions).await {
                    // This actor is gone. Its successor may have taken other records of the job.
                    Ok(replays) if inbox.is_closed() => return jobs.put_back(&id, &replays),
                    Ok(replays) => inbox
                        .push_message(ActorMessage::Input(DeliveryInput::ReplaysAdded(replays))),
                    Err(error) => return stage.fail(error),
                }
            }
        });
    }

    fn apply_new_definition(&mut self) {
        let Some(entry) = self.stage.subscriber_set().entry(&self.id) else {
            return;
        };
        self.matcher = entry.matcher;
        self.policy = entry.policy;

        // The running read matches records against the old definition.
        self.end_reading();
        self.step_delivery(DeliveryInput::PolicyChanged(Arc::clone(&self.policy)));
        self.fetch_replays();
    }
}

/// Timer and lifetime of the actor.
impl SubscriberActor {
    /// Sets the timer to the next due time; an actor that was idle for long enough retires instead.
    fn arm_timer(&mut self, ctx: &mut Context<Self>) {
        let now = self.stage.now();
        let due = match self.delivery.next_due_at() {
            Some(due) => Some(due),
            None if self.is_idle() => {
                let since = *self.idle_since.get_or_insert(now);
                if since + IDLE_TIMEOUT <= now {
                    return self.retire(ctx);
                }
                Some(since + IDLE_TIMEOUT)
            }
            None => None,
        };
        if !self.is_idle() {
            self.idle_since = None;
        }

        let Some(due) = due else { return };
        match self.timer {
            // An early timer only causes a step without effect, and is cheaper than a new one.
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
        let is_settled = self.delivery.is_idle() && self.reading.is_none() && self.inbox.is_empty();
        let is_settled = is_settled && self.judging.is_none();
        let is_dormant = match self.inbox.read_state() {
            ReadState::Live => true,
            ReadState::Behind(_) => self.policy.state != SubscriptionState::Active,
        };
        is_settled && is_dormant && self.queued_attempts.is_empty() && self.missed.count() == 0
    }

    /// Ends the actor, which holds no records, and leaves its subscriber dormant.
    fn retire(&mut self, ctx: &mut Context<Self>) {
        // A closed inbox tells `drop` that this is no crash.
        self.inbox.close();
        self.stage.retire_actor(&self.id, &self.inbox);
        ctx.stop();
    }

    fn run_once(&mut self, ctx: &mut Context<Self>) {
        if self.inbox.is_closed() {
            return ctx.stop();
        }
        // Reset before processing: a change during it must wake the actor again.
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
