//! Router: admits events, detects duplicates, and sends each event to the actor of its entity.
//!
//! ```text
//!  edge ──submit──> permit ──> claim ──> Supervisor of the shard ──> EntityActor
//!    ^                                                                   │
//!    └───────────────────── outcome, once durable ───────────────────────┘
//! ```

mod admission;
mod claims;
mod completion;
mod crashes;
mod refusal;
mod supervisor;

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, Addr, Arbiter, Context};
use parking_lot::Mutex;
use tokio::sync::{oneshot, watch};
use tracing::{error, warn};

use admission::{AdmissionControl, EventPermit};
use claims::{ClaimOutcome, ClaimTable, KeyClaim, KeyClaimError, PendingKey, TakenKey};
pub use claims::{ClaimWindows, IdempotencyWindows};
use completion::EventCompletion;
use crashes::{CrashTracker, RestartBudget};
pub use refusal::Refusal;
use supervisor::{
    BatchProgress, CountEntities, DeliverCommand, ListBusiest, ListQuarantined, ROOM_WAITS_MAX,
    ShardBounds, Supervisor,
};

use crate::config;
use crate::entity::{Command, CommandOutcome, DecidedSignal, EntityDeps, KEY_REUSED};
use crate::event::{
    EntityKey, FingerprintFn, InternedName, KeyReusePolicy, Kind, Position, RequestReuseRule,
    SignedRequest,
};
use crate::metrics::NodeMetrics;
use crate::projection::{Projection, ProjectionReadError, StoredRecord};

/// Threads of one shard that read the store to load entities.
const LOADING_THREADS: usize = 2;

/// Source name under which unique keys are claimed.
const UNIQUE_KEY_SOURCE: InternedName = InternedName::from_static("code");

/// Dependencies of the router besides its configuration.
pub struct RouterDeps {
    /// Dependencies that all entities share.
    pub entity_deps: Arc<EntityDeps>,
    /// Projection of the open store.
    pub projection: Arc<Projection>,
    /// Hash function for the keys of claims.
    pub fingerprint: FingerprintFn,
    /// Idempotency window of each source.
    pub windows: IdempotencyWindows,
    /// Metrics that count accepted events.
    pub metrics: Arc<NodeMetrics>,
}

/// Entry to all entities, for as long as the store stays open.
pub struct Router {
    shards: Vec<Addr<Supervisor>>,
    arbiters: Mutex<Vec<Arbiter>>,
    admission: Arc<AdmissionControl>,
    claims: Arc<ClaimTable>,
    unique_key_claims: Arc<ClaimTable>,
    entity_deps: Arc<EntityDeps>,
    /// Maximum of events, and of their bytes, that one batch has in flight at a time.
    batch_slice_max: (usize, usize),
    durable_end: watch::Receiver<Position>,
    written: watch::Receiver<Position>,
    lag_max: u64,
    metrics: Arc<NodeMetrics>,
}

impl Router {
    /// Starts the supervisors, each on a thread of its own. Needs a running actix system.
    #[must_use]
    pub fn start(config: &config::RouterConfig, deps: RouterDeps) -> Self {
        let RouterDeps {
            entity_deps,
            projection,
            fingerprint,
            windows,
            metrics,
        } = deps;

        let shards = shard_count(config.shards);
        let bounds = ShardBounds {
            entity_events: (config.in_flight_events_max / 4).clamp(1, config.mailbox_capacity),
            entity_bytes: config.in_flight_bytes_max / 4,
            live_entities: config.live_entities_max.div_ceil(shards),
            idle_timeout: config.idle_timeout,
        };
        let budget = RestartBudget {
            restarts: config.restarts_max,
            window: config.restart_window,
            quarantine: config.quarantine,
        };
        let (reads, written) = (projection.reader(), projection.written());

        let mut router = Self {
            shards: Vec::new(),
            arbiters: Mutex::default(),
            admission: AdmissionControl::new(
                config.in_flight_events_max,
                config.in_flight_bytes_max,
            ),
            claims: ClaimTable::for_idempotency_keys(
                Arc::clone(projection.claim_archive()),
                windows,
                reads.clone(),
                Arc::clone(&entity_deps.clock),
                fingerprint,
            ),
            unique_key_claims: ClaimTable::for_unique_keys(
                written.clone(),
                reads.clone(),
                Arc::clone(&entity_deps.clock),
                fingerprint,
            ),
            entity_deps: Arc::clone(&entity_deps),
            batch_slice_max: (bounds.entity_events, bounds.entity_bytes),
            durable_end: entity_deps.journal.durable_end(),
            written: written.clone(),
            lag_max: config.projection_lag_max,
            metrics,
        };

        for _ in 0..shards {
            let arbiter = Arbiter::with_tokio_rt(|| {
                tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .max_blocking_threads(LOADING_THREADS)
                    .build()
                    .expect("a thread's runtime needs only memory and an epoll handle")
            });
            let deps = Arc::clone(&entity_deps);
            let (reads, written) = (reads.clone(), written.clone());

            // The mailbox holds as many messages as there are permits, so an admitted event always
            // fits.
            let capacity = config.in_flight_events_max;
            let (started, wait) = std::sync::mpsc::channel();
            let build_supervisor = move |ctx: &mut Context<Supervisor>| {
                ctx.set_mailbox_capacity(capacity);
                // The receiver waits below, on the thread of `start`.
                let _ = started.send(());
                Supervisor::new(bounds, deps, reads, written, CrashTracker::new(budget))
            };
            let address = Supervisor::start_in_arbiter(&arbiter.handle(), build_supervisor);
            router.shards.push(address);

            // Wait until the supervisor has started: until then its mailbox holds 16 messages, and
            // a batch that comes first would be refused. The wait fails only if that thread
            // panicked; the first message to it then fails, too.
            let _ = wait.recv();
            router.arbiters.get_mut().push(arbiter);
        }
        router
    }

    /// Allocates the key of a new entity of `kind`.
    #[must_use]
    pub fn allocate_entity_key(&self, kind: Kind) -> EntityKey {
        EntityKey::from_number(kind, self.entity_deps.ids.allocate_id())
    }

    /// Returns the entity that holds `unique_key`; waits for an event in flight that claims it.
    ///
    /// # Errors
    /// [`ProjectionReadError`] when the store fails.
    pub async fn find_unique_key_holder(
        &self,
        unique_key: &str,
    ) -> Result<Option<EntityKey>, ProjectionReadError> {
        self.unique_key_claims
            .find_holder(UNIQUE_KEY_SOURCE, unique_key)
            .await
    }

    /// Returns the events of `source` that were sent with this idempotency key, the newest first.
    /// Only keys within their windows are sure to be found.
    ///
    /// # Errors
    /// [`ProjectionReadError`] when the store fails.
    pub async fn find_events_by_key(
        &self,
        source: &str,
        key: &str,
    ) -> Result<Vec<StoredRecord>, ProjectionReadError> {
        self.claims.find_events(source, key).await
    }

    /// Submits one event and returns its outcome once it is durable.
    ///
    /// The event continues when this future is dropped.
    ///
    /// # Errors
    /// [`Refusal`]. Only after [`Refusal::Unknown`] can the event be stored nevertheless.
    pub async fn submit_command(&self, command: Command) -> Result<CommandOutcome, Refusal> {
        let permit = self
            .admission
            .try_admit(command.payload.len())
            .ok_or(Refusal::Overloaded)?;
        self.check_lag()?;

        let event = self.send_command(command, permit, None, None).await;
        self.await_outcome(event).await
    }

    /// Submits the events of one batch and returns their outcomes in the same order, each as
    /// [`Router::submit_command`] would. Events of one entity stay in order.
    ///
    /// The events enter the journal in their order, and are in flight before the first outcome is
    /// awaited. A batch larger than one entity's share of the permits is cut into slices, one after
    /// another.
    pub async fn submit_batch(
        &self,
        commands: Vec<Command>,
    ) -> Vec<Result<CommandOutcome, Refusal>> {
        let mut outcomes = Vec::with_capacity(commands.len());
        let mut rest = commands.into_iter().peekable();
        let (events_max, bytes_max) = self.batch_slice_max;

        while rest.peek().is_some() {
            // A slice has at least one event, however large.
            let (mut slice, mut bytes) = (Vec::new(), 0);
            while let Some(command) = rest.next_if(|command| {
                bytes += command.payload.len();
                slice.is_empty() || slice.len() < events_max && bytes <= bytes_max
            }) {
                slice.push(command);
            }
            outcomes.extend(self.submit_slice(slice).await);

            let is_retryable = |outcome: &Result<_, _>| {
                matches!(outcome, Err(Refusal::Overloaded | Refusal::Unknown))
            };
            if outcomes.iter().any(is_retryable) {
                // Stop here: the sender will repeat the batch, and would then apply the refused
                // events after the rest.
                outcomes.extend(rest.by_ref().map(|_| Err(Refusal::Overloaded)));
            }
        }

        outcomes
    }

    async fn submit_slice(&self, commands: Vec<Command>) -> Vec<Result<CommandOutcome, Refusal>> {
        let permits = self
            .admission
            .try_admit_all(commands.iter().map(|command| command.payload.len()));
        let admitted = permits.filter(|_| self.check_lag().is_ok());
        let Some(permits) = admitted else {
            return vec![Err(Refusal::Overloaded); commands.len()];
        };

        // Each follows the decision on the one before, or entities that are in memory would overtake
        // those that are loaded first. None waits for an outcome, so commits take them together.
        let progress = Arc::new(BatchProgress::default());
        let mut submitted = Vec::with_capacity(commands.len());

        for (command, permit) in commands.into_iter().zip(permits) {
            let (signal, decided) = DecidedSignal::channel();
            let batch = Some(Arc::clone(&progress));
            let event = self.send_command(command, permit, batch, Some(signal));
            submitted.push(event.await);
            // The signal is given by dropping it, which ends the wait with an error.
            let _ = decided.await;
        }

        let mut outcomes = Vec::with_capacity(submitted.len());
        for event in submitted {
            outcomes.push(self.await_outcome(event).await);
        }
        outcomes
    }

    /// Returns the number of durable records that the projection has not written yet.
    #[must_use]
    pub fn projection_lag(&self) -> u64 {
        let (durable, written) = (*self.durable_end.borrow(), *self.written.borrow());
        durable.get().saturating_sub(written.get())
    }

    /// Counts the entities in memory, those that are being loaded included. A shard that has no
    /// room for the question, or has ended, is not counted.
    pub async fn count_live_entities(&self) -> usize {
        let mut counts = Vec::with_capacity(self.shards.len());
        for shard in &self.shards {
            let (reply, count) = oneshot::channel();
            if shard.try_send(CountEntities { reply }).is_ok() {
                counts.push(count);
            }
        }

        let mut total = 0;
        for count in counts {
            total += count.await.unwrap_or_default();
        }
        total
    }

    /// Returns the quarantined entities, each with the rest of its quarantine, except those of a
    /// shard that has no room for the question, or has ended.
    pub async fn list_quarantined(&self) -> Vec<(EntityKey, Duration)> {
        let mut answers = Vec::with_capacity(self.shards.len());
        for shard in &self.shards {
            let (reply, answer) = oneshot::channel();
            if shard.try_send(ListQuarantined { reply }).is_ok() {
                answers.push(answer);
            }
        }

        let mut quarantined = Vec::new();
        for answer in answers {
            quarantined.extend(answer.await.unwrap_or_default());
        }
        quarantined
    }

    /// Returns the `max` entities in memory that got the most events since they were loaded, each
    /// with that number, the busiest first. A shard that has no room for the question is left out.
    pub async fn list_busiest(&self, max: usize) -> Vec<(EntityKey, u64)> {
        let mut answers = Vec::with_capacity(self.shards.len());
        for shard in &self.shards {
            let (reply, answer) = oneshot::channel();
            if shard.try_send(ListBusiest { max, reply }).is_ok() {
                answers.push(answer);
            }
        }

        let mut busiest = Vec::new();
        for answer in answers {
            busiest.extend(answer.await.unwrap_or_default());
        }
        busiest.sort_by(|(one, events), (other, more)| more.cmp(events).then(one.cmp(other)));
        busiest.truncate(max);
        busiest
    }

    fn check_lag(&self) -> Result<(), Refusal> {
        let lag = self.projection_lag();
        if lag > self.lag_max {
            warn!(
                lag,
                limit = self.lag_max,
                "projection lag over limit; answering 503"
            );
            return Err(Refusal::Overloaded);
        }

        Ok(())
    }

    /// Claims the idempotency key of `command`, and its signed request. A key that was used for another
    /// event is replaced if such events are kept apart.
    async fn claim_keys(&self, command: &mut Command) -> Result<Vec<KeyClaim>, UnclaimedEvent> {
        // The key comes first: a key that its sender has used for another event may be refused.
        let key = self.claim_idempotency_key(command).await?;
        match self.claim_signed_request(command).await {
            Ok(request) => Ok(key.into_iter().chain(request).collect()),
            Err(unclaimed) => {
                key.into_iter().for_each(KeyClaim::release);
                Err(unclaimed)
            }
        }
    }

    async fn claim_idempotency_key(
        &self,
        command: &mut Command,
    ) -> Result<Option<KeyClaim>, UnclaimedEvent> {
        let owner = command.claim_owner();
        let is_kept_apart = command.on_key_reuse == KeyReusePolicy::KeepApart;
        while let Some(key) = &command.idempotency_key {
            match self.claims.claim_key(command.source, key, owner).await {
                Err(KeyClaimError::Pending(first)) if is_kept_apart && first.is_reused => {
                    // If the other event fails, its key is free.
                    if let Ok(ClaimOutcome::Freed) = first.outcome.await {
                        continue;
                    }
                    command.keep_apart();
                }
                Err(KeyClaimError::Taken(taken)) if is_kept_apart && taken.is_reused => {
                    command.keep_apart();
                }
                Err(KeyClaimError::Taken(taken)) => {
                    return Err(taken_refusal(taken, Some(key)).into());
                }
                claimed => return Ok(Some(claimed?)),
            }
        }
        Ok(None)
    }

    async fn claim_signed_request(
        &self,
        command: &Command,
    ) -> Result<Option<KeyClaim>, UnclaimedEvent> {
        let Some(SignedRequest { tag, rule }) = command.signed_request else {
            return Ok(None);
        };
        let key = tag.claim_key();
        if rule == RequestReuseRule::TakeOnce {
            let claim = self.claims.claim_key(command.source, &key, None).await;
            return Ok(Some(claim?));
        }

        let owner = command.claim_owner();
        loop {
            match self.claims.claim_key(command.source, &key, owner).await {
                Err(KeyClaimError::Pending(first)) if first.is_reused => {
                    match first.outcome.await {
                        Ok(ClaimOutcome::Freed) => {}
                        Ok(ClaimOutcome::Taken(_)) => return Err(Refusal::OtherReading.into()),
                        Err(_) => return Err(Refusal::Unknown.into()),
                    }
                }
                Err(KeyClaimError::Taken(taken)) if taken.is_reused => {
                    return Err(Refusal::OtherReading.into());
                }
                // The same content may come again, and the earlier event holds the claim.
                Err(KeyClaimError::Pending(_) | KeyClaimError::Taken(_)) => return Ok(None),
                claimed => return Ok(Some(claimed?)),
            }
        }
    }

    /// Claims the keys of `command` and sends it to its shard.
    async fn send_command(
        &self,
        mut command: Command,
        permit: EventPermit,
        batch: Option<Arc<BatchProgress>>,
        decided: Option<DecidedSignal>,
    ) -> SubmittedEvent {
        let claims = match self.claim_keys(&mut command).await {
            Ok(claims) => claims,
            Err(UnclaimedEvent::Refused(refusal)) => return SubmittedEvent::Refused(refusal),
            Err(UnclaimedEvent::Repeated(first)) => {
                return SubmittedEvent::Repeated {
                    first,
                    command: Box::new(command),
                    permit,
                    batch,
                };
            }
        };
        let is_key_reused = command.warnings.iter().any(|text| text == KEY_REUSED);
        let unique_key_claim = match &command.unique_key {
            Some(unique_key) => match self.claim_unique_key(unique_key).await {
                Ok(claim) => claim,
                Err(error) => return SubmittedEvent::Refused(unknown_refusal(&error)),
            },
            None => None,
        };
        if let Some(batch) = &batch {
            batch.keep_first_call_body(&mut command);
        }
        let unique_key_is_free = command.unique_key.is_none() || unique_key_claim.is_some();

        let (reply, outcome) = oneshot::channel();
        let completion = EventCompletion {
            claims,
            unique_key_claim,
            reply,
            permit,
            entity_permit: None,
            accepted_events: self.metrics.events_accepted(command.source.as_str()),
            warned_events: (!command.warnings.is_empty())
                .then(|| self.metrics.events_with_warnings(command.source.as_str())),
        };
        let shard = &self.shards[self.shard_index(&command.entity)];

        match shard.try_send(DeliverCommand {
            command,
            unique_key_is_free,
            completion,
            batch,
            decided,
            room_waits_left: ROOM_WAITS_MAX,
        }) {
            Ok(()) => SubmittedEvent::Sent {
                outcome,
                is_key_reused,
            },
            Err(actix::prelude::SendError::Full(_)) => SubmittedEvent::Refused(Refusal::Overloaded),
            Err(actix::prelude::SendError::Closed(_)) => SubmittedEvent::Refused(Refusal::Unknown),
        }
    }

    /// Waits for the outcome of a sent event. An event whose key another event held is sent again
    /// when that event frees the key.
    async fn await_outcome(&self, mut event: SubmittedEvent) -> Result<CommandOutcome, Refusal> {
        loop {
            match event {
                SubmittedEvent::Refused(refusal) => return Err(refusal),
                SubmittedEvent::Sent {
                    outcome,
                    is_key_reused,
                } => {
                    let outcome = outcome.await.unwrap_or(Err(Refusal::Unknown))?;
                    return Ok(CommandOutcome {
                        is_key_reused,
                        ..outcome
                    });
                }
                SubmittedEvent::Repeated {
                    first,
                    command,
                    permit,
                    batch,
                } => match first.outcome.await {
                    Ok(ClaimOutcome::Taken(holder)) => {
                        let is_reused = first.is_reused;
                        let taken = TakenKey { holder, is_reused };
                        return Err(taken_refusal(taken, command.idempotency_key.as_deref()));
                    }
                    Ok(ClaimOutcome::Freed) => {
                        event = self.send_command(*command, permit, batch, None).await
                    }
                    Err(_) => return Err(Refusal::Unknown),
                },
            }
        }
    }

    /// Claims `unique_key` for ever; `None` when another entity holds it.
    async fn claim_unique_key(
        &self,
        unique_key: &str,
    ) -> Result<Option<KeyClaim>, ProjectionReadError> {
        loop {
            match self
                .unique_key_claims
                .claim_key(UNIQUE_KEY_SOURCE, unique_key, None)
                .await
            {
                Ok(claim) => return Ok(Some(claim)),
                Err(KeyClaimError::Taken(_)) => return Ok(None),
                Err(KeyClaimError::Pending(other)) => {
                    if let Ok(ClaimOutcome::Taken(_)) = other.outcome.await {
                        return Ok(None);
                    }
                    // The other event was refused or failed, so the key may be free now.
                }
                Err(KeyClaimError::Unavailable(error)) => return Err(error),
            }
        }
    }

    /// Stops the supervisors and all entities. Blocks until their threads have ended.
    pub fn stop(&self) {
        let arbiters = std::mem::take(&mut *self.arbiters.lock());
        for arbiter in arbiters {
            arbiter.stop();
            // The panic hook has logged a panic of that thread; there is no more to do about it
            // here.
            let _ = arbiter.join();
        }
    }

    fn shard_index(&self, entity: &EntityKey) -> usize {
        let mut hasher = DefaultHasher::new();
        entity.hash(&mut hasher);
        (hasher.finish() % self.shards.len() as u64) as usize
    }
}

/// Event after the attempt to send it.
enum SubmittedEvent {
    Refused(Refusal),
    /// Another event with the same key is in flight.
    Repeated {
        first: PendingKey,
        command: Box<Command>,
        permit: EventPermit,
        batch: Option<Arc<BatchProgress>>,
    },
    Sent {
        outcome: oneshot::Receiver<Result<CommandOutcome, Refusal>>,
        /// True if the event is kept apart from an earlier one with its key.
        is_key_reused: bool,
    },
}

/// Event whose keys are not free.
enum UnclaimedEvent {
    Refused(Refusal),
    /// Another event with one of the keys is in flight.
    Repeated(PendingKey),
}

impl From<Refusal> for UnclaimedEvent {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<KeyClaimError> for UnclaimedEvent {
    fn from(error: KeyClaimError) -> Self {
        match error {
            KeyClaimError::Taken(taken) => Self::Refused(taken_refusal(taken, None)),
            KeyClaimError::Pending(first) => Self::Repeated(first),
            KeyClaimError::Unavailable(error) => Self::Refused(unknown_refusal(&error)),
        }
    }
}

fn taken_refusal(taken: TakenKey, key: Option<&str>) -> Refusal {
    if taken.is_reused {
        return Refusal::KeyReused {
            key: key.unwrap_or_default().into(),
            position: taken.holder.position,
        };
    }
    Refusal::Duplicate {
        position: taken.holder.position,
        sequence: taken.holder.sequence,
    }
}

fn unknown_refusal(error: &ProjectionReadError) -> Refusal {
    error!(
        error = error as &dyn std::error::Error,
        "key lookup in the store failed; answering 503"
    );
    Refusal::Unknown
}

/// Defaults to one shard for each four cores: small machines work best with one.
fn shard_count(configured: usize) -> usize {
    if configured > 0 {
        return configured;
    }
    std::thread::available_parallelism().map_or(1, |cores| cores.get().div_ceil(4))
}
