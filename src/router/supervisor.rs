//! The supervisor of one shard: spawns entities on first use, passivates idle ones, starts crashed ones anew.
//!
//! ```text
//!               first event                  loaded
//!   (absent) ───────────────> Loading ────────────────────> Live ──idle, nothing on its way──> (absent)
//!                                ^                            │
//!                                │  fence, then load          │ its mailbox is closed: it panicked
//!                                └────────────────────────────┘
//! ```
//!
//! actix does not restart an actor that panicked; its mailbox closes, which the next event finds. Records that it had
//! submitted may still be on their way, so its successor is loaded behind a fence: after they are durable and projected.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use actix::prelude::{Actor, ActorFutureExt, Addr, AsyncContext, Context, Handler, Message, WrapFuture};
use indexmap::IndexMap;
use parking_lot::Mutex;
use tracing::{debug, error, warn};

use super::admission::Admission;
use super::completion::Completion;
use super::crashes::Crashes;
use super::refusal::Refusal;
use crate::entity::{self, Apply, Command, Entity, Flight, Rejection, STRETCH, Surroundings};
use crate::event::{EntityKey, Position};
use crate::journal::fence;
use crate::panics;
use crate::projection::{Past, Reads};

/// Entities that are looked at for one that can go, when another is to come and all places are taken.
const EVICTION_LOOKS: usize = 64;

/// Entities that are loaded at once; the threads that read the store for them are fewer.
const LOADING_MAX: usize = 16;

/// How often, and how long each time, an event waits for room for its entity before it is refused: half a second in all,
/// while the projection writes what it was asked to. Permits bound how many wait.
pub(super) const PATIENCE: u8 = 100;
const ROOM_INTERVAL: Duration = Duration::from_millis(5);

/// Bounds of one shard.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// Events of one entity between request and answer; its mailbox holds as many.
    pub(super) entity_events: usize,
    /// Bytes of such events.
    pub(super) entity_bytes: usize,
    pub(super) live_entities: usize,
    pub(super) idle_timeout: Duration,
}

pub(super) struct Supervisor {
    bounds: Bounds,
    surroundings: Arc<Surroundings>,
    reads: Reads,
    written: tokio::sync::watch::Receiver<Position>,
    entities: IndexMap<EntityKey, Entry>,
    crashes: Crashes,
    loading: usize,
    /// Entities whose loading waits for others'.
    to_load: VecDeque<EntityKey>,
    /// Events for whose entities there is no room yet.
    crowded: VecDeque<Deliver>,
    /// Where the search for an entity that can go begins.
    hand: usize,
    stretch: u32,
}

struct Entry {
    /// What the entity may hold of all permits, so that it leaves room for others.
    share: Arc<Admission>,
    stage: Stage,
}

enum Stage {
    Absent,
    Loading(VecDeque<Deliver>),
    Live(Live),
}

struct Live {
    address: Addr<Entity>,
    flight: Arc<Flight>,
    sent: u64,
    last_used: Duration,
    /// Used since the eviction's hand last passed.
    referenced: bool,
}

/// An admitted, claimed event for one of the shard's entities.
pub(super) struct Deliver {
    pub(super) command: Command,
    /// Whether the code that it claims is free, or it claims none.
    pub(super) code_is_free: bool,
    pub(super) completion: Completion,
    /// The list that it came in, if it came in one.
    pub(super) list: Option<Arc<List>>,
    /// How often it may still wait for room for its entity.
    pub(super) patience: u8,
}

/// Which entities of one list have been refused an event: their later ones are refused too, or repeating the call would
/// apply the refused one after them.
#[derive(Debug, Default)]
pub(super) struct List(Mutex<HashSet<EntityKey>>);

impl Deliver {
    fn refuse(self, refusal: Refusal) {
        if let Some(List(refused)) = self.list.as_deref() {
            refused.lock().insert(self.command.entity.clone());
        }
        self.completion.refuse(refusal);
    }

    fn follows_a_refused_one(&self) -> bool {
        self.list.as_deref().is_some_and(|List(refused)| refused.lock().contains(&self.command.entity))
    }
}

impl Message for Deliver {
    type Result = ();
}

impl Supervisor {
    pub(super) fn new(
        bounds: Bounds,
        surroundings: Arc<Surroundings>,
        reads: Reads,
        written: tokio::sync::watch::Receiver<Position>,
        crashes: Crashes,
    ) -> Self {
        let entities = IndexMap::new();
        let (to_load, crowded) = (VecDeque::new(), VecDeque::new());
        Self {
            bounds,
            surroundings,
            reads,
            written,
            entities,
            crashes,
            loading: 0,
            to_load,
            crowded,
            hand: 0,
            stretch: 0,
        }
    }

    fn now(&self) -> Duration {
        self.surroundings.clock.monotonic()
    }

    fn deliver(&mut self, mut deliver: Deliver, ctx: &mut Context<Self>) {
        let now = self.now();
        let key = deliver.command.entity.clone();
        if let Some(retry_after) = self.crashes.quarantined(&key, now) {
            return deliver.refuse(Refusal::Quarantined { retry_after });
        }
        if deliver.follows_a_refused_one() {
            return deliver.refuse(Refusal::Overloaded);
        }
        // Behind those that wait already: one of the same entity may be among them.
        let is_new = !self.entities.contains_key(&key);
        let is_full = self.entities.len() >= self.bounds.live_entities;
        if is_new && (!self.crowded.is_empty() || is_full && !self.evict_one()) {
            return self.wait_for_room(deliver, ctx);
        }
        let bounds = self.bounds;
        let entry = self.entities.entry(key.clone()).or_insert_with(|| Entry::new(bounds));
        let Some(share) = entry.share.admit(deliver.command.payload.len()) else {
            return deliver.refuse(Refusal::Overloaded);
        };
        deliver.completion.share = Some(share);
        match &mut entry.stage {
            // Under an id that was just drawn there is nothing to be loaded.
            Stage::Absent if key.kind().has_drawn_ids() && deliver.command.may_create => {
                entry.stage = Stage::Loading(VecDeque::from([deliver]));
                let begun = Entity::restore(key.clone(), &Past::default(), Arc::clone(&self.surroundings));
                self.settle(&key, begun.map_err(|error| error.to_string()));
            }
            Stage::Absent => {
                entry.stage = Stage::Loading(VecDeque::from([deliver]));
                self.load(key, ctx);
            }
            Stage::Loading(waiting) => waiting.push_back(deliver),
            Stage::Live(live) if live.address.connected() => live.send(deliver, now),
            Stage::Live(_) => {
                entry.stage = Stage::Loading(VecDeque::from([deliver]));
                self.crashed(key, ctx);
            }
        }
    }

    /// Keeps an event for whose entity there is no room until the projection lets another go, for a while.
    fn wait_for_room(&mut self, mut deliver: Deliver, ctx: &mut Context<Self>) {
        let Some(patience) = deliver.patience.checked_sub(1) else {
            return deliver.refuse(Refusal::Overloaded);
        };
        deliver.patience = patience;
        self.crowded.push_back(deliver);
        if self.crowded.len() == 1 {
            self.reads.hurry();
            ctx.run_later(ROOM_INTERVAL, |supervisor, ctx| {
                let crowded = std::mem::take(&mut supervisor.crowded);
                crowded.into_iter().for_each(|deliver| supervisor.deliver(deliver, ctx));
            });
        }
    }

    fn crashed(&mut self, key: EntityKey, ctx: &mut Context<Self>) {
        let Some(quarantine) = self.crashes.note(&key, self.now()) else {
            warn!(entity = %key, "entity crashed, starting it anew from the journal");
            return self.load(key, ctx);
        };
        error!(entity = %key, ?quarantine, "entity crashed too often and is quarantined");
        self.give_up(&key, &Refusal::Quarantined { retry_after: quarantine });
    }

    /// Refuses what waits for an entity, and lets go of it.
    fn give_up(&mut self, key: &EntityKey, refusal: &Refusal) {
        if let Some(Entry { stage: Stage::Loading(waiting), .. }) = self.entities.swap_remove(key) {
            waiting.into_iter().for_each(|deliver| deliver.refuse(refusal.clone()));
        }
    }

    /// Begins loading, or queues it: actix polls every future of an actor at every wake, so there must be few.
    fn load(&mut self, key: EntityKey, ctx: &mut Context<Self>) {
        if self.loading >= LOADING_MAX {
            return self.to_load.push_back(key);
        }
        self.loading += 1;
        let behind_fence = self.crashes.crashed_lately(&key);
        let (reads, surroundings) = (self.reads.clone(), Arc::clone(&self.surroundings));
        let entity = key.clone();
        let loading = async move {
            if behind_fence {
                let end = fence(surroundings.journal.as_ref()).await.map_err(|error| error.to_string())?;
                reads.passed(end).await.map_err(|error| error.to_string())?;
            }
            let mut past = reads.past_as_written(&entity).await.map_err(|error| error.to_string())?;
            if past.is_empty() && entity.kind().has_drawn_ids() {
                // It may just have begun, by the hand of the entity that it comes from.
                reads.answered().await.map_err(|error| error.to_string())?;
                past = reads.past_as_written(&entity).await.map_err(|error| error.to_string())?;
            }
            let restored = panics::contain(|| Entity::restore(entity, &past, surroundings));
            restored?.map_err(|error| error.to_string())
        };
        let arrive = move |loaded, supervisor: &mut Self, ctx: &mut Context<Self>| supervisor.loaded(&key, loaded, ctx);
        ctx.spawn(loading.into_actor(self).map(arrive));
    }

    fn loaded(&mut self, key: &EntityKey, loaded: Result<Entity, String>, ctx: &mut Context<Self>) {
        self.loading -= 1;
        if let Some(next) = self.to_load.pop_front() {
            self.load(next, ctx);
        }
        self.settle(key, loaded);
    }

    /// Brings what waits for an entity to it, or refuses it.
    fn settle(&mut self, key: &EntityKey, loaded: Result<Entity, String>) {
        let now = self.now();
        let entity = match loaded {
            Ok(entity) => entity,
            Err(reason) => {
                error!(entity = %key, %reason, "entity cannot be loaded");
                // Counted like a crash, so that an entity that never loads does not keep the disk busy.
                self.crashes.note(key, now);
                return self.give_up(key, &Refusal::Unknown);
            }
        };
        let Some(entry @ Entry { stage: Stage::Loading(_), .. }) = self.entities.get_mut(key) else { return };
        // Only the node begins entities of such a kind, possibly in the next moment: that there is none is never kept.
        if entity.is_absent() && key.kind().has_drawn_ids() && !entry.refuse_all_but_creation(&entity::absent(key)) {
            self.entities.swap_remove(key);
            return;
        }
        let flight = Arc::clone(entity.flight());
        let address = entity.open(self.bounds.entity_events);
        let live = Live { address, flight, sent: 0, last_used: now, referenced: true };
        let loading = std::mem::replace(&mut entry.stage, Stage::Live(live));
        if let (Stage::Loading(waiting), Stage::Live(live)) = (loading, &mut entry.stage) {
            debug!(entity = %key, waiting = waiting.len(), "entity spawned");
            waiting.into_iter().for_each(|deliver| live.send(deliver, now));
        }
    }

    /// Makes room for another entity by letting go of one that was not used lately (the "clock" algorithm), or else of the
    /// first that can go: all live ones having been used lately is no reason to refuse a new one.
    fn evict_one(&mut self) -> bool {
        let written = *self.written.borrow();
        let mut used_lately = None;
        for _ in 0..EVICTION_LOOKS.min(self.entities.len() * 2) {
            self.hand = (self.hand + 1) % self.entities.len();
            let Some(live) = self.entities.get_index_mut(self.hand).and_then(|(_, entry)| entry.live()) else {
                continue;
            };
            let referenced = std::mem::take(&mut live.referenced);
            if !live.can_go(written) {
                continue;
            }
            if !referenced {
                self.entities.swap_remove_index(self.hand);
                return true;
            }
            used_lately.get_or_insert(self.hand);
        }
        used_lately.is_some_and(|index| self.entities.swap_remove_index(index).is_some())
    }

    fn passivate_idle(&mut self) {
        let (now, written, timeout) = (self.now(), *self.written.borrow(), self.bounds.idle_timeout);
        let before = self.entities.len();
        let stays = |live: &mut Live| live.last_used + timeout > now || !live.can_go(written);
        self.entities.retain(|_, entry| entry.live().is_none_or(stays));
        self.crashes.forget(now);
        if self.entities.len() < before {
            debug!(passivated = before - self.entities.len(), live = self.entities.len(), "idle entities passivated");
        }
    }
}

impl Entry {
    fn new(bounds: Bounds) -> Self {
        Self { share: Admission::new(bounds.entity_events, bounds.entity_bytes), stage: Stage::Absent }
    }

    /// Refuses what waits and cannot begin the entity; says whether anything is left.
    fn refuse_all_but_creation(&mut self, rejection: &Rejection) -> bool {
        let Stage::Loading(waiting) = &mut self.stage else { return true };
        for deliver in std::mem::take(waiting) {
            if deliver.command.may_create {
                waiting.push_back(deliver);
            } else {
                deliver.completion.refuse(Refusal::Rejected(rejection.clone()));
            }
        }
        !waiting.is_empty()
    }

    fn live(&mut self) -> Option<&mut Live> {
        match &mut self.stage {
            Stage::Live(live) => Some(live),
            Stage::Absent | Stage::Loading(_) => None,
        }
    }
}

impl Live {
    fn send(&mut self, deliver: Deliver, now: Duration) {
        let Deliver { command, code_is_free, completion, .. } = deliver;
        self.last_used = now;
        self.referenced = true;
        let reply = Box::new(move |said| completion.complete(said));
        // The mailbox has room for all that an entity may have in flight; if it closed in this very moment, the dropped
        // completion tells the sender to try again.
        if self.address.try_send(Apply { command, code_is_free, reply }).is_ok() {
            self.sent += 1;
        }
    }

    /// Whether its state in memory holds nothing that the projection has not: all that it was sent is handled (or lost with
    /// it), nothing is on its way to the disk, and what is there is projected.
    fn can_go(&self, written: Position) -> bool {
        let handled = self.sent == self.flight.handled_count() || !self.address.connected();
        handled && self.flight.in_flight_count() == 0 && self.flight.end() <= written
    }
}

impl Actor for Supervisor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        let interval = (self.bounds.idle_timeout / 4).clamp(Duration::from_millis(10), Duration::from_secs(10));
        ctx.run_interval(interval, |supervisor, _| supervisor.passivate_idle());
    }
}

impl Handler<Deliver> for Supervisor {
    type Result = ();

    fn handle(&mut self, deliver: Deliver, ctx: &mut Self::Context) {
        self.deliver(deliver, ctx);
        self.stretch = self.stretch.wrapping_add(1);
        if self.stretch.is_multiple_of(STRETCH) {
            ctx.wait(tokio::task::yield_now().into_actor(self));
        }
    }
}
