//! Supervisor of one shard: starts entities on their first event, passivates idle ones, and
//! restarts crashed ones.
//!
//! ```text
//!            first event          loaded         idle, or evicted from a full shard;
//!  (absent) ────────────> Loading ────────> Live ── its records are all projected ──> (absent)
//!                           │ ^              │
//!                           │ │ fence,       │ its mailbox is closed: it panicked
//!                           │ │ then load    v
//!                           │ └────────── (crashed) ── more than restarts_max ──> (quarantined)
//!                           │                crashes in the window                     │
//!                           │ load failed: events get 503                   time over  v
//!                           └────> (absent), counted as a crash                    (absent)
//! ```
//!
//! actix does not restart an actor that panicked: its mailbox closes, and the next event detects
//! it. Records that the actor had submitted may still be in flight, so the supervisor loads its
//! successor behind a fence, that is, after those records are durable and projected.
//!
//! A quarantined entity is refused all events. If a full shard has no entity to evict, an event of
//! an absent entity waits for room, and is refused after half a second.

use std::collections::{HashSet, VecDeque};
use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use actix::prelude::{
    Actor, ActorFutureExt, Addr, AsyncContext, Context, Handler, Message, WrapFuture,
};
use bytes::Bytes;
use indexmap::IndexMap;
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tracing::{debug, error, warn};

use super::admission::AdmissionControl;
use super::completion::EventCompletion;
use super::crashes::CrashTracker;
use super::refusal::Refusal;
use crate::entity::{
    self, ApplyCommand, Command, DecidedSignal, EntityActor, EntityDeps, EntityProgress,
    MESSAGES_PER_TURN, Rejection,
};
use crate::event::{EntityKey, Position};
use crate::journal::await_fence;
use crate::panics;
use crate::projection::{ProjectionReader, SnapshotAndTail};

/// Entities that one eviction examines before it takes the first evictable one.
const EVICTION_PROBES_MAX: usize = 64;

/// Entities that are loaded at a time; the threads that read the store for them are fewer.
const LOADING_MAX: usize = 16;

/// Waits of an event for room in a full shard before it is refused: half a second in all, during
/// which the projection writes and makes entities evictable. The permits bound the number of
/// waiting events.
pub(super) const ROOM_WAITS_MAX: u8 = 100;
const ROOM_INTERVAL: Duration = Duration::from_millis(5);

/// Limits of one shard, derived from the router's configuration.
#[derive(Clone, Copy, Debug)]
pub(super) struct ShardBounds {
    /// Events of one entity between request and answer; also the capacity of its mailbox.
    pub(super) entity_events: usize,
    /// Bytes of one entity's events between request and answer.
    pub(super) entity_bytes: usize,
    pub(super) live_entities: usize,
    pub(super) idle_timeout: Duration,
}

pub(super) struct Supervisor {
    bounds: ShardBounds,
    deps: Arc<EntityDeps>,
    reads: ProjectionReader,
    written: tokio::sync::watch::Receiver<Position>,
    entities: IndexMap<EntityKey, SupervisedEntity>,
    crashes: CrashTracker,
    loading: usize,
    /// Entities that wait for their loading to begin.
    to_load: VecDeque<EntityKey>,
    /// Events that wait for room for their entity.
    waiting_for_room: VecDeque<DeliverCommand>,
    /// Index at which the next eviction begins.
    clock_hand: usize,
    messages_handled: u32,
}

struct SupervisedEntity {
    /// Budget of the entity: a part of all permits, so that other entities have room.
    admission: Arc<AdmissionControl>,
    stage: EntityStage,
}

enum EntityStage {
    Absent,
    Loading(VecDeque<DeliverCommand>),
    Live(LiveEntity),
}

struct LiveEntity {
    address: Addr<EntityActor>,
    progress: Arc<EntityProgress>,
    sent: u64,
    last_used: Duration,
    /// Used since the eviction last examined the entity.
    referenced: bool,
}

/// Message with an admitted event that holds its claims, for an entity of the shard.
pub(super) struct DeliverCommand {
    pub(super) command: Command,
    /// True if no other entity holds the unique key, or the event claims none.
    pub(super) unique_key_is_free: bool,
    pub(super) completion: EventCompletion,
    /// Progress of the batch that the event belongs to, if any.
    pub(super) batch: Option<Arc<BatchProgress>>,
    /// Signal for the next event of the batch, if any.
    pub(super) decided: Option<DecidedSignal>,
    /// Remaining waits for room in the shard.
    pub(super) room_waits_left: u8,
}

/// Progress of one batch of events.
#[derive(Debug, Default)]
pub(super) struct BatchProgress {
    /// Entities that have been refused an event. Their later events are refused too, since a
    /// repetition of the batch would apply the refused event after them.
    refused: Mutex<HashSet<EntityKey>>,
    /// True once an event is on its way that keeps the body of the call.
    has_call_body: AtomicBool,
}

impl BatchProgress {
    /// Removes the call's body from `command` unless it is the first new event of the batch.
    pub(super) fn keep_first_call_body(&self, command: &mut Command) {
        if !command.call_body.is_empty() && self.has_call_body.swap(true, Ordering::Relaxed) {
            command.call_body = Bytes::new();
        }
    }
}

impl DeliverCommand {
    fn refuse(self, refusal: Refusal) {
        if let Some(batch) = self.batch.as_deref() {
            batch.refused.lock().insert(self.command.entity.clone());
        }
        self.completion.refuse(refusal);
    }

    fn follows_refused_command(&self) -> bool {
        self.batch
            .as_deref()
            .is_some_and(|batch| batch.refused.lock().contains(&self.command.entity))
    }
}

impl Message for DeliverCommand {
    type Result = ();
}

/// Message that asks for the number of entities in memory.
pub(super) struct CountEntities {
    pub(super) reply: oneshot::Sender<usize>,
}

impl Message for CountEntities {
    type Result = ();
}

/// Message that asks for the quarantined entities, each with the rest of its quarantine.
pub(super) struct ListQuarantined {
    pub(super) reply: oneshot::Sender<Vec<(EntityKey, Duration)>>,
}

impl Message for ListQuarantined {
    type Result = ();
}

/// Message that asks for the entities in memory with the most events, each with their number.
pub(super) struct ListBusiest {
    pub(super) max: usize,
    pub(super) reply: oneshot::Sender<Vec<(EntityKey, u64)>>,
}

impl Message for ListBusiest {
    type Result = ();
}

impl Supervisor {
    pub(super) fn new(
        bounds: ShardBounds,
        deps: Arc<EntityDeps>,
        reads: ProjectionReader,
        written: tokio::sync::watch::Receiver<Position>,
        crashes: CrashTracker,
    ) -> Self {
        let entities = IndexMap::new();
        let (to_load, waiting_for_room) = (VecDeque::new(), VecDeque::new());

        Self {
            bounds,
            deps,
            reads,
            written,
            entities,
            crashes,
            loading: 0,
            to_load,
            waiting_for_room,
            clock_hand: 0,
            messages_handled: 0,
        }
    }

    fn now(&self) -> Duration {
        self.deps.clock.monotonic()
    }

    fn deliver_command(&mut self, mut deliver: DeliverCommand, ctx: &mut Context<Self>) {
        let now = self.now();
        let key = deliver.command.entity.clone();
        if let Some(retry_after) = self.crashes.quarantine_left(&key, now) {
            return deliver.refuse(Refusal::Quarantined { retry_after });
        }
        if deliver.follows_refused_command() {
            return deliver.refuse(Refusal::Overloaded);
        }

        // Queue behind the events that already wait: one of them may be for the same entity.
        let is_new = !self.entities.contains_key(&key);
        let is_full = self.entities.len() >= self.bounds.live_entities;
        if is_new && (!self.waiting_for_room.is_empty() || is_full && !self.evict_one()) {
            return self.wait_for_room(deliver, ctx);
        }

        // A permit of the entity's own budget, so that one busy entity cannot take all permits.
        let bounds = self.bounds;
        let entry = self
            .entities
            .entry(key.clone())
            .or_insert_with(|| SupervisedEntity::new(bounds));
        let Some(permit) = entry.admission.try_admit(deliver.command.payload.len()) else {
            return deliver.refuse(Refusal::Overloaded);
        };
        deliver.completion.entity_permit = Some(permit);

        match &mut entry.stage {
            // A newly allocated id has no records to load.
            EntityStage::Absent if key.kind().has_allocated_ids() && deliver.command.may_create => {
                entry.stage = EntityStage::Loading(VecDeque::from([deliver]));
                let nothing_stored = SnapshotAndTail::default();
                let restored =
                    EntityActor::restore(key.clone(), &nothing_stored, Arc::clone(&self.deps));
                self.deliver_waiting(&key, restored.map_err(|error| error.to_string()));
            }
            EntityStage::Absent => {
                entry.stage = EntityStage::Loading(VecDeque::from([deliver]));
                self.load_entity(key, ctx);
            }
            EntityStage::Loading(waiting) => waiting.push_back(deliver),
            EntityStage::Live(live) if live.address.connected() => live.send_command(deliver, now),
            EntityStage::Live(_) => {
                entry.stage = EntityStage::Loading(VecDeque::from([deliver]));
                self.handle_crash(key, ctx);
            }
        }
    }

    /// Queues an event of an absent entity while the shard is full, until the projection makes a
    /// live entity evictable or the event has waited too often.
    fn wait_for_room(&mut self, mut deliver: DeliverCommand, ctx: &mut Context<Self>) {
        let Some(waits_left) = deliver.room_waits_left.checked_sub(1) else {
            return deliver.refuse(Refusal::Overloaded);
        };
        deliver.room_waits_left = waits_left;
        self.waiting_for_room.push_back(deliver);

        if self.waiting_for_room.len() == 1 {
            self.reads.request_write();
            ctx.run_later(ROOM_INTERVAL, |supervisor, ctx| {
                let waiting = std::mem::take(&mut supervisor.waiting_for_room);
                waiting
                    .into_iter()
                    .for_each(|deliver| supervisor.deliver_command(deliver, ctx));
            });
        }
    }

    fn handle_crash(&mut self, key: EntityKey, ctx: &mut Context<Self>) {
        let Some(quarantine) = self.crashes.note_crash(&key, self.now()) else {
            warn!(entity = %key, "entity crashed; restoring it from the journal");
            return self.load_entity(key, ctx);
        };

        error!(entity = %key, ?quarantine, "entity crashed repeatedly and is quarantined");
        let retry_after = quarantine;
        self.refuse_waiting(&key, &Refusal::Quarantined { retry_after });
    }

    /// Removes an entity and refuses its waiting events.
    fn refuse_waiting(&mut self, key: &EntityKey, refusal: &Refusal) {
        if let Some(SupervisedEntity {
            stage: EntityStage::Loading(waiting),
            ..
        }) = self.entities.swap_remove(key)
        {
            waiting
                .into_iter()
                .for_each(|deliver| deliver.refuse(refusal.clone()));
        }
    }

    /// Starts to load the entity, or queues it: actix polls all futures of an actor on every wake,
    /// so there must be few.
    fn load_entity(&mut self, key: EntityKey, ctx: &mut Context<Self>) {
        if self.loading >= LOADING_MAX {
            return self.to_load.push_back(key);
        }

        self.loading += 1;
        let needs_fence = self.crashes.has_crashed_recently(&key);
        let (reads, deps, entity) = (self.reads.clone(), Arc::clone(&self.deps), key.clone());
        let loading = async move {
            load_from_store(entity, reads, deps, needs_fence)
                .await
                .map_err(|error| error.to_string())
        };
        let finish = move |loaded, supervisor: &mut Self, ctx: &mut Context<Self>| {
            supervisor.finish_loading(&key, loaded, ctx)
        };
        ctx.spawn(loading.into_actor(self).map(finish));
    }

    fn finish_loading(
        &mut self,
        key: &EntityKey,
        loaded: Result<EntityActor, String>,
        ctx: &mut Context<Self>,
    ) {
        self.loading -= 1;
        if let Some(next) = self.to_load.pop_front() {
            self.load_entity(next, ctx);
        }
        self.deliver_waiting(key, loaded);
    }

    /// Starts a loaded entity and sends it the waiting events, or refuses them.
    fn deliver_waiting(&mut self, key: &EntityKey, loaded: Result<EntityActor, String>) {
        let now = self.now();
        let entity = match loaded {
            Ok(entity) => entity,
            Err(reason) => {
                error!(entity = %key, error = %reason, "entity failed to load; answering 503");
                // Count the failure as a crash, so that an entity that never loads ends in
                // quarantine instead of occupying the disk.
                self.crashes.note_crash(key, now);
                return self.refuse_waiting(key, &Refusal::Unknown);
            }
        };

        let Some(
            entry @ SupervisedEntity {
                stage: EntityStage::Loading(_),
                ..
            },
        ) = self.entities.get_mut(key)
        else {
            return;
        };

        // The node itself creates entities of such a kind, possibly in the next moment. So an
        // absent one must not stay in memory.
        if entity.is_absent()
            && key.kind().has_allocated_ids()
            && !entry.refuse_all_but_creation(&entity::reject_absent(key))
        {
            self.entities.swap_remove(key);
            return;
        }

        let progress = Arc::clone(entity.progress());
        let address = entity.start_with_capacity(self.bounds.entity_events);
        let live = LiveEntity {
            address,
            progress,
            sent: 0,
            last_used: now,
            referenced: true,
        };

        let loading = std::mem::replace(&mut entry.stage, EntityStage::Live(live));
        if let (EntityStage::Loading(waiting), EntityStage::Live(live)) =
            (loading, &mut entry.stage)
        {
            debug!(entity = %key, waiting = waiting.len(), "entity started");
            waiting
                .into_iter()
                .for_each(|deliver| live.send_command(deliver, now));
        }
    }

    /// Removes one live entity to make room, by the "clock" algorithm: the first evictable one that
    /// was not used since the last examination, else the first evictable one. A shard whose
    /// entities are all in recent use must still accept a new one.
    fn evict_one(&mut self) -> bool {
        let written = *self.written.borrow();
        let mut recently_used = None;

        for _ in 0..EVICTION_PROBES_MAX.min(self.entities.len() * 2) {
            self.clock_hand = (self.clock_hand + 1) % self.entities.len();
            let Some(live) = self
                .entities
                .get_index_mut(self.clock_hand)
                .and_then(|(_, entry)| entry.as_live_mut())
            else {
                continue;
            };
            let referenced = std::mem::take(&mut live.referenced);
            if !live.is_evictable(written) {
                continue;
            }
            if !referenced {
                self.entities.swap_remove_index(self.clock_hand);
                return true;
            }
            recently_used.get_or_insert(self.clock_hand);
        }

        recently_used.is_some_and(|index| self.entities.swap_remove_index(index).is_some())
    }

    fn passivate_idle(&mut self) {
        let (now, written, timeout) =
            (self.now(), *self.written.borrow(), self.bounds.idle_timeout);
        let before = self.entities.len();

        let stays =
            |live: &mut LiveEntity| live.last_used + timeout > now || !live.is_evictable(written);
        self.entities
            .retain(|_, entry| entry.as_live_mut().is_none_or(stays));
        self.crashes.forget_expired(now);

        if self.entities.len() < before {
            debug!(
                passivated = before - self.entities.len(),
                live = self.entities.len(),
                "idle entities passivated"
            );
        }
    }
}

/// Restores `entity` from its snapshot and the records after it.
async fn load_from_store(
    entity: EntityKey,
    reads: ProjectionReader,
    deps: Arc<EntityDeps>,
    needs_fence: bool,
) -> Result<EntityActor, Box<dyn Error>> {
    // After a crash, records of the former actor may still be in flight: load behind them.
    if needs_fence {
        let end = await_fence(deps.journal.as_ref()).await?;
        reads.await_written(end).await?;
    }

    let mut stored = reads.snapshot_and_tail_as_written(&entity).await?;
    if stored.is_empty() && entity.kind().has_allocated_ids() {
        // Another entity may just have spawned it. Its record is durable, but perhaps not yet
        // projected.
        reads.await_answered_written().await?;
        stored = reads.snapshot_and_tail_as_written(&entity).await?;
    }

    // A panic over the stored bytes must end this loading only, not the supervisor.
    let restored = panics::contain_panic(|| EntityActor::restore(entity, &stored, deps))?;
    Ok(restored?)
}

impl SupervisedEntity {
    fn new(bounds: ShardBounds) -> Self {
        Self {
            admission: AdmissionControl::new(bounds.entity_events, bounds.entity_bytes),
            stage: EntityStage::Absent,
        }
    }

    /// Refuses the waiting events that may not create the entity; returns true if any event is
    /// left.
    fn refuse_all_but_creation(&mut self, rejection: &Rejection) -> bool {
        let EntityStage::Loading(waiting) = &mut self.stage else {
            return true;
        };

        for deliver in std::mem::take(waiting) {
            if deliver.command.may_create {
                waiting.push_back(deliver);
            } else {
                deliver
                    .completion
                    .refuse(Refusal::Rejected(rejection.clone()));
            }
        }

        !waiting.is_empty()
    }

    fn as_live_mut(&mut self) -> Option<&mut LiveEntity> {
        match &mut self.stage {
            EntityStage::Live(live) => Some(live),
            EntityStage::Absent | EntityStage::Loading(_) => None,
        }
    }
}

impl LiveEntity {
    fn send_command(&mut self, deliver: DeliverCommand, now: Duration) {
        let DeliverCommand {
            command,
            unique_key_is_free,
            completion,
            decided,
            ..
        } = deliver;
        self.last_used = now;
        self.referenced = true;

        let reply = Box::new(move |result| completion.complete(result));
        // The mailbox has room for all events that the entity may have in flight. If it closed just
        // now, dropping the completion tells the sender that the outcome is unknown.
        if self
            .address
            .try_send(ApplyCommand {
                command,
                unique_key_is_free,
                reply,
                decided,
            })
            .is_ok()
        {
            self.sent += 1;
        }
    }

    /// Returns true if memory holds nothing that the projection lacks: the actor has handled all
    /// its messages (or has ended), no record is in flight, and all its durable records are
    /// projected.
    fn is_evictable(&self, written: Position) -> bool {
        let is_idle = self.sent == self.progress.handled_count() || !self.address.connected();
        is_idle && self.progress.in_flight_count() == 0 && self.progress.durable_end() <= written
    }
}

impl Actor for Supervisor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        let interval = (self.bounds.idle_timeout / 4)
            .clamp(Duration::from_millis(10), Duration::from_secs(10));
        ctx.run_interval(interval, |supervisor, _| supervisor.passivate_idle());
    }
}

impl Handler<CountEntities> for Supervisor {
    type Result = ();

    fn handle(&mut self, question: CountEntities, _: &mut Self::Context) {
        // The send fails only if the caller no longer waits.
        let _ = question.reply.send(self.entities.len());
    }
}

impl Handler<ListBusiest> for Supervisor {
    type Result = ();

    fn handle(&mut self, question: ListBusiest, _: &mut Self::Context) {
        let live = self
            .entities
            .iter()
            .filter_map(|(key, entry)| match &entry.stage {
                EntityStage::Live(live) if live.sent > 0 => Some((live.sent, key)),
                EntityStage::Live(_) | EntityStage::Loading(_) | EntityStage::Absent => None,
            });
        let mut counts: Vec<_> = live.collect();
        let max = question.max.min(counts.len());
        if max > 0 {
            counts.select_nth_unstable_by(max - 1, |one, other| other.0.cmp(&one.0));
        }
        counts.truncate(max);
        let busiest = counts.into_iter().map(|(sent, key)| (key.clone(), sent));
        // The send fails only if the caller no longer waits.
        let _ = question.reply.send(busiest.collect());
    }
}

impl Handler<ListQuarantined> for Supervisor {
    type Result = ();

    fn handle(&mut self, question: ListQuarantined, _: &mut Self::Context) {
        let quarantined = self.crashes.quarantined(self.now()).collect();
        // The send fails only if the caller no longer waits.
        let _ = question.reply.send(quarantined);
    }
}

impl Handler<DeliverCommand> for Supervisor {
    type Result = ();

    fn handle(&mut self, deliver: DeliverCommand, ctx: &mut Self::Context) {
        self.deliver_command(deliver, ctx);
        self.messages_handled = self.messages_handled.wrapping_add(1);
        if self.messages_handled.is_multiple_of(MESSAGES_PER_TURN) {
            ctx.wait(tokio::task::yield_now().into_actor(self));
        }
    }
}
