//! The router: admits events, keeps duplicates out, and brings each event to the actor of its entity.
//!
//! ```text
//!  edge ──submit──> permit ──> claim ──> shard's Supervisor ──> Entity
//!    ^                                                            │
//!    └───────────────────── outcome, once durable ────────────────┘
//! ```

mod admission;
mod claims;
mod crashes;
mod supervisor;

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use actix::{Actor, Addr, Arbiter, Context};
use tokio::sync::{oneshot, watch};
use tracing::{error, warn};

use admission::{Admission, Permit};
use claims::{Claim, ClaimTable, Denied, Taken};
use crashes::{Budget, Crashes};
use supervisor::{Bounds, Deliver, PATIENCE, Supervisor};

use crate::config;
use crate::entity::{Command, Outcome, Surroundings};
use crate::event::{EntityKey, Fingerprint, Position};
use crate::projection::Projection;

/// Threads of one shard that read the store for entities that are being loaded.
const LOADING_THREADS: usize = 2;

/// Why an event was not taken in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Its source and idempotency key were accepted before, within their window.
    #[error("the idempotency key was used before, by the event at position {position}")]
    Duplicate {
        /// The first event's record.
        position: Position,
        /// Its number among its entity's records, if it had one.
        sequence: Option<u64>,
    },
    /// There is no room now. Nothing was changed.
    #[error("too many events are on their way")]
    Overloaded,
    /// Its entity crashed too often and takes no events for a while.
    #[error("the entity crashed too often and rests for {retry_after:?}")]
    Quarantined {
        /// How long.
        retry_after: Duration,
    },
    /// Whether it was stored is not known: the store failed or the entity crashed. The same key tells on the next try.
    #[error("it is not known whether the event was stored")]
    Unknown,
}

/// What the router is made with, besides its configuration.
pub struct Parts {
    /// What entities share.
    pub surroundings: Arc<Surroundings>,
    /// The projection of this opening.
    pub projection: Arc<Projection>,
    /// How keys become fingerprints.
    pub fingerprint: Fingerprint,
    /// How long keys are remembered.
    pub claim_window: Duration,
}

/// The door to the entities, for one opening of the store.
pub struct Router {
    shards: Vec<Addr<Supervisor>>,
    arbiters: Mutex<Vec<Arbiter>>,
    admission: Arc<Admission>,
    claims: Arc<ClaimTable>,
    durable_end: watch::Receiver<Position>,
    written: watch::Receiver<Position>,
    lag_max: u64,
}

impl Router {
    /// Starts the supervisors, each on a thread of its own. Needs a running actix system.
    #[must_use]
    pub fn start(config: &config::Router, parts: Parts) -> Self {
        let Parts { surroundings, projection, fingerprint, claim_window } = parts;
        let shards = shard_count(config.shards);
        let bounds = Bounds {
            entity_events: (config.in_flight_events_max / 4).clamp(1, config.mailbox_capacity),
            entity_bytes: config.in_flight_bytes_max / 4,
            live_entities: config.live_entities_max.div_ceil(shards),
            idle_timeout: config.idle_timeout,
        };
        let budget =
            Budget { restarts: config.restarts_max, window: config.restart_window, quarantine: config.quarantine };
        let (reads, written) = (projection.reads(), projection.written());
        let mut router = Self {
            shards: Vec::new(),
            arbiters: Mutex::default(),
            admission: Admission::new(config.in_flight_events_max, config.in_flight_bytes_max),
            claims: ClaimTable::new(
                Arc::clone(projection.archive()),
                reads.clone(),
                Arc::clone(&surroundings.clock),
                fingerprint,
                claim_window,
            ),
            durable_end: surroundings.journal.durable_end(),
            written: written.clone(),
            lag_max: config.projection_lag_max,
        };
        for _ in 0..shards {
            let arbiter = Arbiter::with_tokio_rt(|| {
                tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .max_blocking_threads(LOADING_THREADS)
                    .build()
                    .expect("a thread's runtime needs only memory and an epoll handle")
            });
            let (surroundings, reads, written) = (Arc::clone(&surroundings), reads.clone(), written.clone());
            // As many messages as there are permits: what is admitted finds room.
            let capacity = config.in_flight_events_max;
            let make = move |ctx: &mut Context<Supervisor>| {
                ctx.set_mailbox_capacity(capacity);
                Supervisor::new(bounds, surroundings, reads, written, Crashes::new(budget))
            };
            router.shards.push(Supervisor::start_in_arbiter(&arbiter.handle(), make));
            router.arbiters.get_mut().unwrap_or_else(PoisonError::into_inner).push(arbiter);
        }
        router
    }

    /// Takes one event in, and answers when it is durable.
    ///
    /// The event goes on when this future is dropped.
    ///
    /// # Errors
    /// [`Refusal`]; only after [`Refusal::Unknown`] can the event be stored nevertheless.
    pub async fn submit(&self, command: Command) -> Result<Outcome, Refusal> {
        let permit = self.admission.admit(command.payload.len()).ok_or(Refusal::Overloaded)?;
        let lag = self.durable_end.borrow().get().saturating_sub(self.written.borrow().get());
        if lag > self.lag_max {
            warn!(lag, "reads are too far behind, refusing events");
            return Err(Refusal::Overloaded);
        }
        let claim = match &command.idempotency_key {
            Some(key) => Some(self.claims.claim(command.source, key).await.map_err(denied)?),
            None => None,
        };
        let (reply, outcome) = oneshot::channel();
        let completion = Completion { claim, reply, permit, share: None };
        let shard = &self.shards[self.shard(&command.entity)];
        match shard.try_send(Deliver { command, completion, patience: PATIENCE }) {
            Ok(()) => {}
            Err(actix::prelude::SendError::Full(_)) => return Err(Refusal::Overloaded),
            Err(actix::prelude::SendError::Closed(_)) => return Err(Refusal::Unknown),
        }
        outcome.await.unwrap_or(Err(Refusal::Unknown))
    }

    /// Ends the supervisors and all entities. Blocks until their threads have ended.
    pub fn stop(&self) {
        let arbiters = std::mem::take(&mut *self.arbiters.lock().unwrap_or_else(PoisonError::into_inner));
        for arbiter in arbiters {
            arbiter.stop();
            // A panic there has been logged by the hook; what it held is gone either way.
            let _ = arbiter.join();
        }
    }

    fn shard(&self, entity: &EntityKey) -> usize {
        let mut hasher = DefaultHasher::new();
        entity.hash(&mut hasher);
        (hasher.finish() % self.shards.len() as u64) as usize
    }
}

/// What an event holds until it is answered: its permit, its claim, and who waits.
struct Completion {
    claim: Option<Claim>,
    reply: oneshot::Sender<Result<Outcome, Refusal>>,
    permit: Permit,
    /// The permit among those of its entity, once that is found.
    share: Option<Permit>,
}

impl Completion {
    /// The outcome is durable: the claim is taken before the answer leaves.
    fn complete(self, outcome: Outcome) {
        let taken = Taken { position: outcome.position, sequence: outcome.sequence };
        if let Some(claim) = self.claim {
            claim.take(taken);
        }
        // The room is given back before the answer, so that whoever reads the answer finds it.
        drop((self.permit, self.share));
        // Nobody waits when the sender has given up.
        let _ = self.reply.send(Ok(outcome));
    }

    fn refuse(self, refusal: Refusal) {
        drop(self.claim);
        drop((self.permit, self.share));
        // Nobody waits when the sender has given up.
        let _ = self.reply.send(Err(refusal));
    }
}

fn denied(denied: Denied) -> Refusal {
    match denied {
        Denied::Taken(Taken { position, sequence }) => Refusal::Duplicate { position, sequence },
        Denied::Unknown => Refusal::Unknown,
        Denied::Unavailable(error) => {
            error!(error = &error as &dyn std::error::Error, "cannot look up an idempotency key");
            Refusal::Unknown
        }
    }
}

/// One shard serves small machines best; a larger one gets another for each four cores.
fn shard_count(configured: usize) -> usize {
    if configured > 0 {
        return configured;
    }
    std::thread::available_parallelism().map_or(1, |cores| cores.get().div_ceil(4))
}
