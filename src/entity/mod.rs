//! Entity actor: one for each ticket, lead, customer and so on; it decides on the entity's events
//! one after another.
//!
//! ```text
//!  ApplyCommand ──> stamp times ──> decide ──> apply in memory ──> submit to journal ──> next one
//!                                                                    │ commit
//!                                                                    └──> reply
//! ```
//!
//! The actor does not wait for the commit. Records leave it in the order in which it handled their
//! events, and a reply leaves when its record is durable. A panic ends this actor only; the router
//! then restores the entity from the journal.

pub mod c2s_lead;
mod command;
pub mod conversation;
pub mod customer;
mod decision;
mod fingerprint;
pub mod generic;
pub mod lead;
pub mod pre_lead;
mod progress;
pub mod sales;
mod snapshot_schedule;
mod state;
pub mod ticket;
mod timed_value;

use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, ActorContext, Addr, AsyncContext, Handler, Message, WrapFuture};
use bytes::Bytes;
use tokio::sync::oneshot;
use tracing::{Span, debug, error, warn};

pub use command::{
    Command, CommandOutcome, EventResolution, KEY_REUSED, RejectionPolicy, UnrecordedOutcome,
};
pub use decision::{
    AcceptedChange, DecisionContext, DecisionIds, EntityDecision, IdAllocator, Rejection,
    SpawnedEntity, StateLimits,
};
pub use progress::EntityProgress;
pub use state::{EntityAction, EntityChange, EntityState, RestoreError, summarize_change};

use snapshot_schedule::SnapshotSchedule;

use crate::clock::Clock;
use crate::event::{EntityKey, ErasureMark, Kind, Position, RECORD_MAX_BYTES, Record, Timestamp};
use crate::failpoints::{Failpoint, FailureInjector};
use crate::journal::{Journal, JournalClosed, JournalSubmission, RecordDraft, SubmissionResult};
use crate::panics::PanicContainment;
use crate::projection::{PendingSnapshots, SnapshotAndTail};

/// Tolerance for event times ahead of the node's clock. A later time is replaced by the receive
/// time; otherwise one wrong clock would make all later events of the entity late.
const CLOCK_SKEW_MAX: Duration = Duration::from_secs(300);

/// Messages that an actor handles before it yields the thread; without a limit actix empties the
/// whole mailbox while the thread's other actors wait.
pub const MESSAGES_PER_TURN: u32 = 64;

/// Receives the outcome of a command once it is durable. Dropped without a call when the outcome is
/// unknown.
pub type ReplyCallback = Box<dyn FnOnce(Result<CommandOutcome, UnrecordedOutcome>) + Send>;

/// Signal that an event was decided and is on its way to the journal, so that the next event of its
/// batch may follow. Dropping it gives the signal: no path can forget it.
#[derive(Debug)]
pub struct DecidedSignal {
    _waiting: oneshot::Sender<()>,
}

impl DecidedSignal {
    /// Creates a signal, and the receiver that ends once it is given.
    #[must_use]
    pub fn channel() -> (Self, oneshot::Receiver<()>) {
        let (sender, receiver) = oneshot::channel();
        (Self { _waiting: sender }, receiver)
    }
}

/// Message that makes an entity decide on one event.
pub struct ApplyCommand {
    /// Event to decide on, decoded.
    pub command: Command,
    /// False if another entity holds the unique key that the command claims; true if it claims
    /// none.
    pub unique_key_is_free: bool,
    /// Receives the outcome once it is durable.
    pub reply: ReplyCallback,
    /// Signal for the next event of the batch, if the event belongs to one.
    pub decided: Option<DecidedSignal>,
}

impl Message for ApplyCommand {
    type Result = ();
}

/// Dependencies that all entities of a node share.
pub struct EntityDeps {
    /// Journal that the records go to.
    pub journal: Arc<dyn Journal>,
    /// Snapshots that wait for the projection to write them.
    pub pending_snapshots: Arc<PendingSnapshots>,
    /// Clock for receive times and timeouts.
    pub clock: Arc<dyn Clock>,
    /// Failure injection of the tests; inactive in production.
    pub failure_injector: Arc<dyn FailureInjector>,
    /// Limits of every entity's state.
    pub limits: StateLimits,
    /// Allocator of ids across all entities.
    pub ids: IdAllocator,
}

/// Restores a state from its snapshot and the records after it.
///
/// # Errors
/// [`RestoreError`] when the snapshot or a record cannot be read.
pub fn restore_state(
    kind: Kind,
    stored: &SnapshotAndTail,
    limits: StateLimits,
) -> Result<EntityState, RestoreError> {
    // An erased entity begins anew behind the newest erasure.
    let erasure = stored.tail.iter().rposition(|item| item.record.erases());
    let (snapshot, tail) = match erasure {
        Some(index) => (None, &stored.tail[index + 1..]),
        None => (stored.snapshot.as_ref(), stored.tail.as_slice()),
    };
    let snapshot = snapshot.map(|(_, bytes)| bytes.as_slice());
    let kept = tail.iter().filter(|item| !item.record.is_erased());
    let changes = kept.map(|item| item.record.change.as_ref());

    state::replay_changes(kind, snapshot, changes, limits)
}

/// Actor that owns the state of one entity.
pub struct EntityActor {
    key: EntityKey,
    state: EntityState,
    sequence: u64,
    deps: Arc<EntityDeps>,
    progress: Arc<EntityProgress>,
    received_at: Timestamp,
    snapshots: SnapshotSchedule,
    /// Position before which the content of all events is erased, as far as it is known.
    erased_before: Position,
    messages_handled: u32,
}

impl EntityActor {
    /// Restores the entity `key` from its snapshot and the records after it.
    ///
    /// # Errors
    /// [`RestoreError`] when the snapshot or a record cannot be read.
    pub fn restore(
        key: EntityKey,
        stored: &SnapshotAndTail,
        deps: Arc<EntityDeps>,
    ) -> Result<Self, RestoreError> {
        // A snapshot offered before a crash may contain a record that was never written.
        deps.pending_snapshots.withdraw(&key);

        let state = restore_state(key.kind(), stored, deps.limits)?;
        let (snapshot_sequence, snapshot_bytes) = match &stored.snapshot {
            Some((sequence, bytes)) => (*sequence, bytes.len()),
            None => (0, 0),
        };
        let last = stored.tail.last();
        let mut snapshots = SnapshotSchedule::new(snapshot_bytes);
        for item in &stored.tail {
            snapshots.note_record(item.record.change.len());
        }

        Ok(Self {
            state,
            sequence: last
                .and_then(|item| item.record.sequence)
                .unwrap_or(snapshot_sequence),
            snapshots,
            progress: Arc::default(),
            received_at: last.map(|item| item.received_at).unwrap_or_default(),
            erased_before: Position::FIRST,
            messages_handled: 0,
            key,
            deps,
        })
    }

    /// Starts the actor on the current thread with a mailbox of `capacity` messages.
    #[must_use]
    pub fn start_with_capacity(self, capacity: usize) -> Addr<Self> {
        // Set before any message is sent: `started` runs later, and the default capacity is 16.
        Self::create(|ctx| {
            ctx.set_mailbox_capacity(capacity);
            self
        })
    }

    /// Counters that the router reads while the actor runs.
    #[must_use]
    pub fn progress(&self) -> &Arc<EntityProgress> {
        &self.progress
    }

    /// Returns true if the entity has no record yet.
    #[must_use]
    pub fn is_absent(&self) -> bool {
        self.sequence == 0
    }

    fn handle_command(&mut self, message: ApplyCommand, ctx: &mut actix::Context<Self>) {
        let ApplyCommand {
            command,
            unique_key_is_free,
            reply,
            // Dropped at the end, when the record is in the journal's queue.
            decided: _decided,
        } = message;

        // Tests make this failpoint panic. Its error is ignored: no step here could fail with one.
        let _ = self
            .deps
            .failure_injector
            .evaluate(Failpoint::Decide(&self.key));

        // Input: the times, and the context of the decision.
        let now = self.deps.clock.wall();
        self.received_at = self.received_at.max(now);
        let at = match command.at {
            Some(at) if at <= now.saturating_add(CLOCK_SKEW_MAX) => at,
            _ => self.received_at,
        };
        let span = command.span.clone();
        let _entered = span.enter();
        let deps = Arc::clone(&self.deps);
        let context = DecisionContext {
            key: &self.key,
            source: command.source,
            at,
            received_at: self.received_at,
            unique_key_is_free,
            limits: deps.limits,
            ids: DecisionIds::new(&deps.ids),
        };

        // Decision: by the kind's rules; it changes nothing by itself.
        let is_of_erased = self.is_of_erased_event(&command);
        let decision = if self.is_absent() && !command.may_create {
            Err(reject_absent(&self.key))
        } else if is_of_erased {
            Err(Rejection::of_erased_event())
        } else {
            self.state.decide(&command.action, &context)
        };
        let highest_id = context.ids.highest_id();

        // Effect: a record on its way to the journal, or an answer.
        let policy = if is_of_erased {
            // A failed event would hold what was erased.
            RejectionPolicy::Answer
        } else {
            command.on_rejection
        };
        let submitted = match decision {
            Err(rejection) => {
                let record = record_command(command, at, now);
                self.reject_command(rejection, policy, record, reply)
            }
            Ok(EntityDecision::AlreadyApplied(answer)) => {
                let outcome = UnrecordedOutcome::AlreadyApplied(answer_to_json(answer));
                self.answer_unrecorded(outcome, reply)
            }
            Ok(EntityDecision::RecordOnly) => {
                let record = record_command(command, at, now);
                let draft = self.draft_record(&record);
                self.submit_drafts(vec![draft], record, reply)
            }
            Ok(EntityDecision::Erase) => {
                let record = record_command(command, at, now);
                self.erase_content(record, reply)
            }
            Ok(EntityDecision::Accept(accepted)) => {
                let record = record_command(command, at, now);
                self.accept_change(accepted, highest_id, record, policy, reply)
            }
        };

        if submitted.is_err() {
            // The store is being reopened, and this state may contain a record that the store does
            // not.
            ctx.stop();
        }
    }

    fn accept_change(
        &mut self,
        accepted: AcceptedChange<EntityChange>,
        highest_id: Option<u64>,
        command: Record,
        policy: RejectionPolicy,
        reply: ReplyCallback,
    ) -> Result<(), JournalClosed> {
        let AcceptedChange {
            change,
            late,
            answer,
            spawned,
        } = accepted;
        let sequence = self.sequence + 1;
        let own_id = allocated_number(&self.key).filter(|_| sequence == 1);
        let record = Record {
            sequence: Some(sequence),
            late,
            change: change.encode().into(),
            answer: answer_to_json(answer),
            highest_id: highest_id.max(own_id),
            ..command
        };

        let mut drafts = vec![self.draft_record(&record)];
        for entity in spawned {
            // Try the first change of the new entity here: a change that panics must never reach
            // the disk, where it would make every restore panic.
            EntityState::new(entity.key.kind())
                .apply(&EntityChange::from_spawned(&entity), self.deps.limits);
            drafts.push(self.draft_record(&record_spawned(entity, &record)));
        }

        // Check the size before the change is applied: the journal accepts no larger record.
        let is_too_large = |draft: &RecordDraft| draft.bytes.len() > RECORD_MAX_BYTES;
        if drafts.iter().any(is_too_large) {
            let message =
                format!("the event would be more than {RECORD_MAX_BYTES} bytes as it is recorded");
            let unchanged = Record {
                sequence: None,
                late: false,
                change: Bytes::new(),
                answer: Bytes::new(),
                highest_id: None,
                ..record
            };
            let rejection = Rejection::conflict("too_large", message);
            return self.reject_command(rejection, policy, unchanged, reply);
        }

        // Apply before the commit: the next command is decided on this state.
        self.state.apply(&change, self.deps.limits);
        self.sequence = sequence;
        debug!(entity = %self.key, sequence, late, "event decided");
        self.snapshots.note_record(record.change.len());
        self.offer_snapshot();
        self.submit_drafts(drafts, record, reply)
    }

    /// Records the erasure, after which the entity goes on from an empty state.
    fn erase_content(
        &mut self,
        command: Record,
        reply: ReplyCallback,
    ) -> Result<(), JournalClosed> {
        let sequence = self.sequence + 1;
        let record = Record {
            sequence: Some(sequence),
            erasure: Some(ErasureMark::Erases),
            ..command
        };
        // An offered snapshot would bring the content back.
        self.deps.pending_snapshots.withdraw(&self.key);
        self.state = EntityState::new(self.key.kind());
        self.sequence = sequence;
        self.snapshots = SnapshotSchedule::erased();
        self.erased_before = *self.deps.journal.durable_end().borrow();
        debug!(entity = %self.key, sequence, "entity erased");
        let draft = self.draft_record(&record);
        self.submit_drafts(vec![draft], record, reply)
    }

    /// Returns true for a command about an event whose content is erased. Work on it may have begun
    /// before, so that the command still holds that content.
    fn is_of_erased_event(&self, command: &Command) -> bool {
        let resolved = command.resolves.as_ref().map(|resolution| resolution.event);
        let event = command.reprocesses.or(resolved);
        event.is_some_and(|event| event < self.erased_before)
    }

    /// Answers with the rejection, or records the event as failed, as the command's policy says.
    fn reject_command(
        &self,
        rejection: Rejection,
        policy: RejectionPolicy,
        command: Record,
        reply: ReplyCallback,
    ) -> Result<(), JournalClosed> {
        if policy == RejectionPolicy::Answer {
            return self.answer_unrecorded(UnrecordedOutcome::Rejected(rejection), reply);
        }

        let Record { event_type, .. } = &command;
        warn!(
            entity = %self.key,
            event_type,
            status = rejection.status,
            reason = rejection.code,
            "event rejected by its entity; stored as failed"
        );
        let record = Record {
            failure: Some(rejection.to_failure()),
            pending: false,
            ..command
        };
        let draft = self.draft_record(&record);
        self.submit_drafts(vec![draft], record, reply)
    }

    /// Answers an event that leaves no record, once all records that the decision rests on are
    /// durable.
    fn answer_unrecorded(
        &self,
        outcome: UnrecordedOutcome,
        reply: ReplyCallback,
    ) -> Result<(), JournalClosed> {
        if self.progress.in_flight_count() == 0 {
            reply(Err(outcome));
            return Ok(());
        }

        let settle = Box::new(move |settled: SubmissionResult| {
            if settled.is_ok() {
                reply(Err(outcome));
            }
        });

        self.deps.journal.append(JournalSubmission {
            drafts: Vec::new(),
            settle,
        })
    }

    /// Offers a snapshot if one is due. It must be offered before the record is submitted, or the
    /// projection could pass that record first.
    fn offer_snapshot(&mut self) {
        let pending_snapshots = &self.deps.pending_snapshots;
        // A declined offer is made again with the next record.
        if !self.snapshots.is_due() || !pending_snapshots.has_room_for(&self.key) {
            return;
        }

        let state = self.state.to_snapshot();
        let bytes = state.len();
        if pending_snapshots.offer(&self.key, self.sequence, state) {
            self.snapshots = SnapshotSchedule::new(bytes);
        }
    }

    fn draft_record(&self, record: &Record) -> RecordDraft {
        RecordDraft {
            entity: record.entity.clone(),
            sequence: record.sequence,
            received_at: self.received_at,
            bytes: record.encode(),
        }
    }

    /// Submits `drafts` to the journal as one unit; the first draft is that of `record`.
    fn submit_drafts(
        &self,
        drafts: Vec<RecordDraft>,
        record: Record,
        reply: ReplyCallback,
    ) -> Result<(), JournalClosed> {
        let spawned_count = drafts.len() as u64 - 1;
        let Record {
            sequence,
            failure,
            answer,
            ..
        } = record;
        let (progress, key) = (Arc::clone(&self.progress), self.key.clone());
        let pending_snapshots = Arc::clone(&self.deps.pending_snapshots);
        let span = Span::current();

        // Count before submitting: the commit thread may settle the record at once.
        progress.note_submitted();
        let settle = Box::new(move |settled: SubmissionResult| match settled {
            Ok(position) => {
                span.in_scope(|| debug!(%position, "event durable"));
                let last = position.plus(spawned_count);
                progress.note_durable(last);
                reply(Ok(CommandOutcome {
                    position,
                    last,
                    sequence,
                    failure,
                    answer,
                    is_key_reused: false,
                }));
            }
            Err(_) => {
                // The offered snapshot may contain the refused record.
                pending_snapshots.withdraw(&key);
                progress.note_diverged();
            }
        });

        self.deps
            .journal
            .append(JournalSubmission { drafts, settle })
    }
}

/// Builds the record of `command` without the effect of the decision.
fn record_command(command: Command, at: Timestamp, now: Timestamp) -> Record {
    let (resolves, failure) = match command.resolves {
        Some(EventResolution { event, failure }) => (Some(event), failure),
        None => (None, None),
    };
    Record {
        decided_at: now,
        idempotency_key: command.idempotency_key,
        payload: command.payload,
        failure,
        reprocesses: command.reprocesses,
        shape: command.shape,
        request_hash: command.request_hash,
        credential: command.credential,
        token: command.token.map(|name| name.to_string()),
        hops: command.hops,
        trace: command.trace,
        signed_request: command.signed_request.map(|request| request.tag),
        pending: command.pending,
        resolves,
        warnings: command.warnings,
        call_body: command.call_body,
        ..Record::new(
            command.source.as_str(),
            command.entity,
            command.event_type,
            at,
        )
    }
}

/// Builds the first record of an entity that the event in `cause` spawns.
fn record_spawned(spawned: SpawnedEntity, cause: &Record) -> Record {
    Record {
        decided_at: cause.decided_at,
        highest_id: allocated_number(&spawned.key),
        sequence: Some(1),
        payload: spawned.payload,
        change: spawned.change.into(),
        unique_key: spawned.unique_key,
        hops: cause.hops,
        trace: cause.trace,
        ..Record::new(
            cause.source.clone(),
            spawned.key,
            spawned.event_type,
            cause.at,
        )
    }
}

/// Returns the id as a number, for kinds whose ids the node allocates.
fn allocated_number(key: &EntityKey) -> Option<u64> {
    key.kind()
        .has_allocated_ids()
        .then(|| key.id().parse().ok())
        .flatten()
}

fn answer_to_json(answer: Option<serde_json::Value>) -> Bytes {
    answer
        .map(|answer| answer.to_string().into())
        .unwrap_or_default()
}

/// Rejection of an event that may not create its entity, when that entity does not exist.
#[must_use]
pub fn reject_absent(key: &EntityKey) -> Rejection {
    Rejection::not_found(match key.kind() {
        Kind::PreLead => "Pre-lead not found".to_owned(),
        Kind::Lead => "Lead not found".to_owned(),
        Kind::Customer => "Customer not found".to_owned(),
        kind => format!("{kind} {} does not exist", key.id()),
    })
}

impl Actor for EntityActor {
    type Context = actix::Context<Self>;
}

impl Handler<ApplyCommand> for EntityActor {
    type Result = ();

    fn handle(&mut self, message: ApplyCommand, ctx: &mut Self::Context) {
        let _contained = PanicContainment::begin();
        if self.progress.has_diverged() {
            error!(entity = %self.key, "entity state diverged from its journal; restarting it");
            ctx.stop();
            return;
        }

        self.handle_command(message, ctx);
        self.progress.note_handled();
        self.messages_handled += 1;
        if self.messages_handled.is_multiple_of(MESSAGES_PER_TURN) {
            ctx.wait(tokio::task::yield_now().into_actor(self));
        }
    }
}
