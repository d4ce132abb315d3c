//! The router: admits events, keeps duplicates out, and brings each event to the actor of its entity.
//!
//! ```text
//!  edge ──submit──> permit ──> claim ──> shard's Supervisor ──> Entity
//!    ^                                                            │
//!    └───────────────────── outcome, once durable ────────────────┘
//! ```

mod admission;
mod claims;
mod completion;
mod crashes;
mod refusal;
mod supervisor;

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use actix::{Actor, Addr, Arbiter, Context};
use parking_lot::Mutex;
use tokio::sync::{oneshot, watch};
use tracing::{error, warn};

use admission::{Admission, Permit};
pub use claims::Windows;
use claims::{Claim, ClaimTable, Denied, Fate, Taken};
use completion::Completion;
use crashes::{Budget, Crashes};
pub use refusal::Refusal;
use supervisor::{Bounds, Deliver, List, PATIENCE, Supervisor};

use crate::config;
use crate::entity::{Command, Outcome, Surroundings};
use crate::event::{EntityKey, Fingerprint, Kind, Name, Position};
use crate::projection::{Projection, Unavailable};

/// Threads of one shard that read the store for entities that are being loaded.
const LOADING_THREADS: usize = 2;

/// The name under which codes are claimed.
const CODES: Name = Name::from_static("code");

/// What the router is made with, besides its configuration.
pub struct Parts {
    /// What entities share.
    pub surroundings: Arc<Surroundings>,
    /// The projection of this opening.
    pub projection: Arc<Projection>,
    /// How keys become fingerprints.
    pub fingerprint: Fingerprint,
    /// How long keys are remembered.
    pub windows: Windows,
}

/// The door to the entities, for one opening of the store.
pub struct Router {
    shards: Vec<Addr<Supervisor>>,
    arbiters: Mutex<Vec<Arbiter>>,
    admission: Arc<Admission>,
    claims: Arc<ClaimTable>,
    codes: Arc<ClaimTable>,
    surroundings: Arc<Surroundings>,
    /// The most events, and the most bytes of events, of one batch that go together.
    slice: (usize, usize),
    durable_end: watch::Receiver<Position>,
    written: watch::Receiver<Position>,
    lag_max: u64,
}

impl Router {
    /// Starts the supervisors, each on a thread of its own. Needs a running actix system.
    #[must_use]
    pub fn start(config: &config::Router, parts: Parts) -> Self {
        let Parts { surroundings, projection, fingerprint, windows } = parts;
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
            claims: ClaimTable::of_keys(
                Arc::clone(projection.archive()),
                windows,
                reads.clone(),
                Arc::clone(&surroundings.clock),
                fingerprint,
            ),
            codes: ClaimTable::of_codes(written.clone(), reads.clone(), Arc::clone(&surroundings.clock), fingerprint),
            surroundings: Arc::clone(&surroundings),
            slice: (bounds.entity_events, bounds.entity_bytes),
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
            let (begun, wait) = std::sync::mpsc::channel();
            let make = move |ctx: &mut Context<Supervisor>| {
                ctx.set_mailbox_capacity(capacity);
                // The other end waits below.
                let _ = begun.send(());
                Supervisor::new(bounds, surroundings, reads, written, Crashes::new(budget))
            };
            router.shards.push(Supervisor::start_in_arbiter(&arbiter.handle(), make));
            // Until then its mailbox holds 16, and a batch that comes first would be refused. It fails only if that thread
            // panicked, which sending to it tells.
            let _ = wait.recv();
            router.arbiters.get_mut().push(arbiter);
        }
        router
    }

    /// A new entity of `kind`, under an id that nothing had before.
    #[must_use]
    pub fn draw(&self, kind: Kind) -> EntityKey {
        EntityKey::numbered(kind, self.surroundings.ids.draw())
    }

    /// The entity that holds `code` for ever; waits for an event on its way that claims it.
    ///
    /// # Errors
    /// [`Unavailable`] when the store fails.
    pub async fn holder(&self, code: &str) -> Result<Option<EntityKey>, Unavailable> {
        self.codes.holder(CODES, code).await
    }

    /// Takes one event in, and answers when it is durable.
    ///
    /// The event goes on when this future is dropped.
    ///
    /// # Errors
    /// [`Refusal`]; only after [`Refusal::Unknown`] can the event be stored nevertheless.
    pub async fn submit(&self, command: Command) -> Result<Outcome, Refusal> {
        let permit = self.admission.admit(command.payload.len()).ok_or(Refusal::Overloaded)?;
        self.check_lag()?;
        let event = self.send(command, permit, None).await;
        self.settle(event).await
    }

    /// Takes the events of one batch in, those of one entity in their order, and answers when all are settled: for each
    /// event what [`Router::submit`] answers. Nothing of it is waited for before all of it is on its way, unless it is
    /// larger than one entity's share of the room; then it goes in slices.
    pub async fn submit_all(&self, commands: Vec<Command>) -> Vec<Result<Outcome, Refusal>> {
        let mut outcomes = Vec::with_capacity(commands.len());
        let mut rest = commands.into_iter().peekable();
        while rest.peek().is_some() {
            let (mut slice, mut bytes) = (Vec::new(), 0);
            while let Some(command) = rest.next_if(|command| {
                bytes += command.payload.len();
                slice.is_empty() || slice.len() < self.slice.0 && bytes <= self.slice.1
            }) {
                slice.push(command);
            }
            outcomes.extend(self.submit_slice(slice).await);
            if outcomes.iter().any(|outcome| matches!(outcome, Err(Refusal::Overloaded | Refusal::Unknown))) {
                // Repeating the call would apply these after what comes later.
                outcomes.extend(rest.by_ref().map(|_| Err(Refusal::Overloaded)));
            }
        }
        outcomes
    }

    async fn submit_slice(&self, commands: Vec<Command>) -> Vec<Result<Outcome, Refusal>> {
        let permits = self.admission.admit_all(commands.iter().map(|command| command.payload.len()));
        let admitted = permits.filter(|_| self.check_lag().is_ok());
        let Some(permits) = admitted else { return vec![Err(Refusal::Overloaded); commands.len()] };
        let list = Arc::new(List::default());
        let mut under_way = Vec::with_capacity(commands.len());
        for (command, permit) in commands.into_iter().zip(permits) {
            under_way.push(self.send(command, permit, Some(Arc::clone(&list))).await);
        }
        let mut outcomes = Vec::with_capacity(under_way.len());
        for event in under_way {
            outcomes.push(self.settle(event).await);
        }
        outcomes
    }

    fn check_lag(&self) -> Result<(), Refusal> {
        let lag = self.durable_end.borrow().get().saturating_sub(self.written.borrow().get());
        if lag > self.lag_max {
            warn!(lag, "reads are too far behind, refusing events");
            return Err(Refusal::Overloaded);
        }
        Ok(())
    }

    /// Claims what `command` claims and sends it to its entity.
    async fn send(&self, command: Command, permit: Permit, list: Option<Arc<List>>) -> UnderWay {
        let claim = match &command.idempotency_key {
            Some(key) => match self.claims.claim(command.source, key).await {
                Ok(claim) => Some(claim),
                Err(Denied::Taken(taken)) => return UnderWay::Refused(duplicate(taken)),
                Err(Denied::Pending(first)) => return UnderWay::Repeated { first, command: Box::new(command), permit },
                Err(Denied::Unavailable(error)) => return UnderWay::Refused(unavailable(&error)),
            },
            None => None,
        };
        let code = match &command.code {
            Some(code) => match self.claim_code(code).await {
                Ok(claim) => claim,
                Err(error) => return UnderWay::Refused(unavailable(&error)),
            },
            None => None,
        };
        let code_is_free = command.code.is_none() || code.is_some();
        let (reply, outcome) = oneshot::channel();
        let completion = Completion { claim, code, reply, permit, share: None };
        let shard = &self.shards[self.shard(&command.entity)];
        match shard.try_send(Deliver { command, code_is_free, completion, list, patience: PATIENCE }) {
            Ok(()) => UnderWay::Sent(outcome),
            Err(actix::prelude::SendError::Full(_)) => UnderWay::Refused(Refusal::Overloaded),
            Err(actix::prelude::SendError::Closed(_)) => UnderWay::Refused(Refusal::Unknown),
        }
    }

    /// What becomes of an event that was sent. One whose key another one holds is sent again when that is refused.
    async fn settle(&self, mut event: UnderWay) -> Result<Outcome, Refusal> {
        loop {
            match event {
                UnderWay::Refused(refusal) => return Err(refusal),
                UnderWay::Sent(outcome) => return outcome.await.unwrap_or(Err(Refusal::Unknown)),
                UnderWay::Repeated { first, command, permit } => match first.await {
                    Ok(Fate::Taken(taken)) => return Err(duplicate(taken)),
                    Ok(Fate::Freed) => event = self.send(*command, permit, None).await,
                    Err(_) => return Err(Refusal::Unknown),
                },
            }
        }
    }

    /// Claims `code` for ever; `None` when somebody else holds it.
    async fn claim_code(&self, code: &str) -> Result<Option<Claim>, Unavailable> {
        loop {
            match self.codes.claim(CODES, code).await {
                Ok(claim) => return Ok(Some(claim)),
                Err(Denied::Taken(_)) => return Ok(None),
                Err(Denied::Pending(other)) => {
                    if let Ok(Fate::Taken(_)) = other.await {
                        return Ok(None);
                    }
                    // Whoever was before us was refused or failed: the code may be free now.
                }
                Err(Denied::Unavailable(error)) => return Err(error),
            }
        }
    }

    /// Ends the supervisors and all entities. Blocks until their threads have ended.
    pub fn stop(&self) {
        let arbiters = std::mem::take(&mut *self.arbiters.lock());
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

/// An event after it was sent.
enum UnderWay {
    Refused(Refusal),
    /// Another event with its key is on its way.
    Repeated {
        first: oneshot::Receiver<Fate>,
        command: Box<Command>,
        permit: Permit,
    },
    Sent(oneshot::Receiver<Result<Outcome, Refusal>>),
}

fn duplicate(first: Taken) -> Refusal {
    Refusal::Duplicate { position: first.position, sequence: first.sequence }
}

fn unavailable(error: &Unavailable) -> Refusal {
    error!(error = error as &dyn std::error::Error, "cannot look up a key");
    Refusal::Unknown
}

/// One shard serves small machines best; a larger one gets another for each four cores.
fn shard_count(configured: usize) -> usize {
    if configured > 0 {
        return configured;
    }
    std::thread::available_parallelism().map_or(1, |cores| cores.get().div_ceil(4))
}
