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

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use actix::prelude::{Actor, ActorFutureExt, Addr, AsyncContext, Context, Handler, Message, WrapFuture};
use indexmap::IndexMap;
use tracing::{debug, error, warn};

use super::crashes::Crashes;
use super::{Completion, Refusal};
use crate::entity::{Apply, Command, Entity, Flight, STRETCH, Surroundings};
use crate::event::{EntityKey, Position};
use crate::journal::fence;
use crate::panics;
use crate::projection::Reads;

/// Entities that are looked at for one that can go, when another is to come and all places are taken.
const EVICTION_LOOKS: usize = 64;

/// Bounds of one shard.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// Events of one entity between request and answer; its mailbox holds as many.
    pub(super) entity_in_flight: usize,
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
    /// Where the search for an entity that can go begins.
    hand: usize,
    stretch: u32,
}

enum Entry {
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
    pub(super) completion: Completion,
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
        Self { bounds, surroundings, reads, written, entities, crashes, hand: 0, stretch: 0 }
    }

    fn now(&self) -> Duration {
        self.surroundings.clock.monotonic()
    }

    fn deliver(&mut self, deliver: Deliver, ctx: &mut Context<Self>) {
        let now = self.now();
        let key = deliver.command.entity.clone();
        if let Some(retry_after) = self.crashes.quarantined(&key, now) {
            return deliver.completion.refuse(Refusal::Quarantined { retry_after });
        }
        let Some(entry) = self.entities.get_mut(&key) else {
            return self.begin(key, deliver, ctx);
        };
        match entry {
            Entry::Loading(queue) if queue.len() >= self.bounds.entity_in_flight => {
                deliver.completion.refuse(Refusal::Overloaded);
            }
            Entry::Loading(queue) => queue.push_back(deliver),
            Entry::Live(live) => match live.room(self.bounds.entity_in_flight) {
                Room::Free => live.send(deliver, now),
                Room::None => deliver.completion.refuse(Refusal::Overloaded),
                Room::Closed => self.crashed(key, deliver, ctx),
            },
        }
    }

    fn begin(&mut self, key: EntityKey, deliver: Deliver, ctx: &mut Context<Self>) {
        if self.entities.len() >= self.bounds.live_entities && !self.evict_one() {
            return deliver.completion.refuse(Refusal::Overloaded);
        }
        self.load(key, VecDeque::from([deliver]), ctx);
    }

    fn crashed(&mut self, key: EntityKey, deliver: Deliver, ctx: &mut Context<Self>) {
        if let Some(quarantine) = self.crashes.note(&key, self.now()) {
            error!(entity = %key, ?quarantine, "entity crashed too often and is quarantined");
            self.entities.swap_remove(&key);
            return deliver.completion.refuse(Refusal::Quarantined { retry_after: quarantine });
        }
        warn!(entity = %key, "entity crashed, starting it anew from the journal");
        self.load(key, VecDeque::from([deliver]), ctx);
    }

    fn load(&mut self, key: EntityKey, waiting: VecDeque<Deliver>, ctx: &mut Context<Self>) {
        self.entities.insert(key.clone(), Entry::Loading(waiting));
        let behind_fence = self.crashes.crashed_lately(&key);
        let (reads, surroundings) = (self.reads.clone(), Arc::clone(&self.surroundings));
        let entity = key.clone();
        let loading = async move {
            if behind_fence {
                let end = fence(surroundings.journal.as_ref()).await.map_err(|error| error.to_string())?;
                reads.passed(end).await.map_err(|error| error.to_string())?;
            }
            let past = reads.past_as_written(&entity).await.map_err(|error| error.to_string())?;
            let restored = panics::contain(|| Entity::restore(entity, &past, surroundings));
            restored?.map_err(|error| error.to_string())
        };
        let arrive = |loaded, supervisor: &mut Self, ctx: &mut Context<Self>| supervisor.loaded(key, loaded, ctx);
        ctx.spawn(loading.into_actor(self).map(arrive));
    }

    fn loaded(&mut self, key: EntityKey, loaded: Result<Entity, String>, ctx: &mut Context<Self>) {
        let Some(Entry::Loading(waiting)) = self.entities.swap_remove(&key) else { return };
        let entity = match loaded {
            Ok(entity) => entity,
            Err(reason) => {
                error!(entity = %key, %reason, "entity cannot be loaded");
                // Counted like a crash, so that an entity that never loads does not keep the disk busy.
                self.crashes.note(&key, self.now());
                return waiting.into_iter().for_each(|deliver| deliver.completion.refuse(Refusal::Unknown));
            }
        };
        debug!(entity = %key, waiting = waiting.len(), "entity spawned");
        let flight = Arc::clone(entity.flight());
        let live = Live {
            address: entity.open(self.bounds.entity_in_flight),
            flight,
            sent: 0,
            last_used: self.now(),
            referenced: true,
        };
        self.entities.insert(key, Entry::Live(live));
        waiting.into_iter().for_each(|deliver| self.deliver(deliver, ctx));
    }

    /// Makes room for another entity by letting go of one that was not used lately (the "clock" algorithm), or else of the
    /// first that can go: all live ones having been used lately is no reason to refuse a new one.
    fn evict_one(&mut self) -> bool {
        let written = *self.written.borrow();
        let mut used_lately = None;
        for _ in 0..EVICTION_LOOKS.min(self.entities.len() * 2) {
            self.hand = (self.hand + 1) % self.entities.len();
            let Some((_, Entry::Live(live))) = self.entities.get_index_mut(self.hand) else { continue };
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
        self.entities.retain(|_, entry| match entry {
            Entry::Loading(_) => true,
            Entry::Live(live) => live.last_used + timeout > now || !live.can_go(written),
        });
        self.crashes.forget(now);
        if self.entities.len() < before {
            debug!(passivated = before - self.entities.len(), live = self.entities.len(), "idle entities passivated");
        }
    }
}

/// Whether a live entity takes another event.
enum Room {
    Free,
    None,
    /// Its mailbox is closed: it panicked.
    Closed,
}

impl Live {
    fn room(&self, in_flight_max: usize) -> Room {
        if !self.address.connected() {
            return Room::Closed;
        }
        let waiting = self.sent - self.flight.handled_count();
        if waiting + self.flight.in_flight_count() < in_flight_max as u64 { Room::Free } else { Room::None }
    }

    fn send(&mut self, deliver: Deliver, now: Duration) {
        let Deliver { command, completion } = deliver;
        self.last_used = now;
        self.referenced = true;
        let reply = Box::new(move |outcome| completion.complete(outcome));
        // The mailbox has room for all that an entity may have in flight; if it closed in this very moment, the dropped
        // completion tells the sender to try again.
        if self.address.try_send(Apply { command, reply }).is_ok() {
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
