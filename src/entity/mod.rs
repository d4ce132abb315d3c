//! The entity: one actor for each ticket, lead, customer …, which decides its events one after
//! another.
//!
//! ```text
//!  Apply ──> stamp times ──> decide ──> apply to the state in memory ──> submit to the journal ──> next Apply
//!                                                                             │ commit
//!                                                                             └──> reply
//! ```
//!
//! The actor does not wait for the commit: records leave it in the order in which it handled their
//! events, and each reply leaves when its record is durable. A panic in here ends this actor only;
//! the router starts it anew from the journal.

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
mod state;
pub mod ticket;
mod timed_value;

use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, ActorContext, Addr, AsyncContext, Handler, Message, WrapFuture};
use bytes::Bytes;
use tracing::{Span, debug, error, warn};

pub use command::{Command, CommandOutcome, EventResolution, RejectionPolicy, UnrecordedOutcome};
pub use decision::{
    AcceptedChange, DecisionContext, DecisionIds, EntityDecision, IdAllocator, Rejection,
    SpawnedEntity, StateLimits,
};
pub use progress::EntityProgress;
pub use state::{EntityAction, EntityChange, EntityState, RestoreError, summarize_change};

use crate::clock::Clock;
use crate::event::{EntityKey, Kind, RECORD_MAX_BYTES, Record, Timestamp};
use crate::failpoints::{Failpoint, FailureInjector};
use crate::journal::{Journal, JournalClosed, JournalSubmission, RecordDraft, SubmissionResult};
use crate::panics::PanicContainment;
use crate::projection::{PendingSnapshots, SnapshotAndTail};

/// How far ahead of the node's clock an event's own time may be; further ahead, it counts as the
/// receive time, or one wrong clock would make everything after it late.
const CLOCK_SKEW_MAX: Duration = Duration::from_secs(300);

/// A snapshot is due when the records since the last one outweigh it, and at least this much.
const SNAPSHOT_MIN_BYTES: usize = 16 * 1024;

/// Messages handled at a stretch before the other actors of the thread get a turn: actix empties a
/// mailbox otherwise.
pub const MESSAGES_PER_TURN: u32 = 64;

/// What an entity calls with what became of its event, once that is durable. Dropped uncalled when
/// nobody can know.
pub type Reply = Box<dyn FnOnce(Result<CommandOutcome, UnrecordedOutcome>) + Send>;

/// Asks an entity to decide one event.
pub struct ApplyCommand {
    /// The event.
    pub command: Command,
    /// Whether nobody else holds the key that it claims for ever; `true` if it claims none.
    pub unique_key_is_free: bool,
    /// Called when what became of it is durable.
    pub reply: Reply,
}

impl Message for ApplyCommand {
    type Result = ();
}

/// What all entities of a node share.
pub struct EntityDeps {
    /// Where records go.
    pub journal: Arc<dyn Journal>,
    /// Where states are offered.
    pub pending_snapshots: Arc<PendingSnapshots>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// What tests make fail.
    pub failure_injector: Arc<dyn FailureInjector>,
    /// Bounds of a state.
    pub limits: StateLimits,
    /// The ids that the node gives.
    pub ids: IdAllocator,
}

/// The state that `past` makes.
///
/// # Errors
/// [`RestoreError`] when the snapshot or a record cannot be read.
pub fn restore_state(
    kind: Kind,
    past: &SnapshotAndTail,
    limits: StateLimits,
) -> Result<EntityState, RestoreError> {
    let snapshot = past.snapshot.as_ref().map(|(_, bytes)| bytes.as_slice());
    let changes = past.tail.iter().map(|stored| stored.record.change.as_ref());
    state::replay_changes(kind, snapshot, changes, limits)
}

/// The actor of one entity.
pub struct EntityActor {
    key: EntityKey,
    state: EntityState,
    sequence: u64,
    deps: Arc<EntityDeps>,
    progress: Arc<EntityProgress>,
    received_at: Timestamp,
    snapshot_bytes: usize,
    bytes_since_snapshot: usize,
    messages_handled: u32,
}

impl EntityActor {
    /// The entity `key` as `past` leaves it.
    ///
    /// # Errors
    /// [`RestoreError`] when its snapshot or a record cannot be read.
    pub fn restore(
        key: EntityKey,
        past: &SnapshotAndTail,
        surroundings: Arc<EntityDeps>,
    ) -> Result<Self, RestoreError> {
        // What an earlier life offered may hold a record that was never written.
        surroundings.pending_snapshots.withdraw(&key);
        let state = restore_state(key.kind(), past, surroundings.limits)?;
        let (included, snapshot_bytes) = past
            .snapshot
            .as_ref()
            .map_or((0, 0), |(sequence, bytes)| (*sequence, bytes.len()));
        Ok(Self {
            state,
            sequence: past
                .tail
                .last()
                .and_then(|stored| stored.record.sequence)
                .unwrap_or(included),
            snapshot_bytes,
            progress: Arc::default(),
            received_at: past
                .tail
                .last()
                .map(|stored| stored.received_at)
                .unwrap_or_default(),
            bytes_since_snapshot: past
                .tail
                .iter()
                .map(|stored| stored.record.change.len())
                .sum(),
            messages_handled: 0,
            key,
            deps: surroundings,
        })
    }

    /// Starts the actor on this thread, with room for `capacity` waiting messages.
    #[must_use]
    pub fn open(self, capacity: usize) -> Addr<Self> {
        // Set before anything is sent: an actor's own `started` comes later, and the default is 16.
        Self::create(|ctx| {
            ctx.set_mailbox_capacity(capacity);
            self
        })
    }

    /// What the router may know of the actor while it runs.
    #[must_use]
    pub fn progress(&self) -> &Arc<EntityProgress> {
        &self.progress
    }

    /// Whether it has no record yet.
    #[must_use]
    pub fn is_absent(&self) -> bool {
        self.sequence == 0
    }

    fn handle_command(&mut self, message: ApplyCommand, ctx: &mut actix::Context<Self>) {
        let ApplyCommand {
            command,
            unique_key_is_free: code_is_free,
            reply,
        } = message;
        // A test's fault here is a panic; there is nothing at this point that could fail with an
        // error.
        let _ = self
            .deps
            .failure_injector
            .evaluate(Failpoint::Decide(&self.key));
        let now = self.deps.clock.wall();
        self.received_at = self.received_at.max(now);
        let at = match command.at {
            Some(at) if at <= now.saturating_add(CLOCK_SKEW_MAX) => at,
            _ => self.received_at,
        };
        let span = command.span.clone();
        let _entered = span.enter();
        let surroundings = Arc::clone(&self.deps);
        let context = DecisionContext {
            key: &self.key,
            source: command.source,
            at,
            received_at: self.received_at,
            unique_key_is_free: code_is_free,
            limits: surroundings.limits,
            ids: DecisionIds::new(&surroundings.ids),
        };
        let verdict = if self.is_absent() && !command.may_create {
            Err(reject_absent(&self.key))
        } else {
            self.state.decide(&command.action, &context)
        };
        let drawn = context.ids.highest_id();
        let submitted = match verdict {
            Err(rejection) => self.reject_command(
                rejection,
                command.on_rejection,
                record_command(command, at, now),
                reply,
            ),
            Ok(EntityDecision::AlreadyApplied(answer)) => self.answer_unrecorded(
                UnrecordedOutcome::AlreadyApplied(answer_to_json(answer)),
                reply,
            ),
            Ok(EntityDecision::RecordOnly) => {
                let record = record_command(command, at, now);
                let draft = self.draft_record(&record);
                self.submit_drafts(vec![draft], record, reply)
            }
            Ok(EntityDecision::Accept(acceptance)) => {
                let refusal = command.on_rejection;
                self.accept_change(
                    acceptance,
                    drawn,
                    record_command(command, at, now),
                    refusal,
                    reply,
                )
            }
        };
        if submitted.is_err() {
            // The store is being opened anew, and this state may hold a record that it does not.
            ctx.stop();
        }
    }

    fn accept_change(
        &mut self,
        acceptance: AcceptedChange<EntityChange>,
        drawn: Option<u64>,
        command: Record,
        refusal: RejectionPolicy,
        reply: Reply,
    ) -> Result<(), JournalClosed> {
        let AcceptedChange {
            change,
            late,
            answer,
            spawned: births,
        } = acceptance;
        let sequence = self.sequence + 1;
        let own_id = allocated_number(&self.key).filter(|_| sequence == 1);
        let record = Record {
            sequence: Some(sequence),
            late,
            change: change.encode().into(),
            answer: answer_to_json(answer),
            highest_id: drawn.max(own_id),
            ..command
        };
        let mut drafts = vec![self.draft_record(&record)];
        for birth in births {
            // A change that panics must never reach the disk: there is no actor yet that it could
            // end.
            EntityState::new(birth.key.kind())
                .apply(&EntityChange::from_birth(&birth), self.deps.limits);
            drafts.push(self.draft_record(&record_spawned(birth, &record)));
        }
        if drafts
            .iter()
            .any(|draft| draft.bytes.len() > RECORD_MAX_BYTES)
        {
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
            return self.reject_command(
                Rejection::conflict("too_large", message),
                refusal,
                unchanged,
                reply,
            );
        }
        self.state.apply(&change, self.deps.limits);
        self.sequence = sequence;
        debug!(entity = %self.key, sequence, late, "event decided");
        self.bytes_since_snapshot += record.change.len();
        self.offer_snapshot();
        self.submit_drafts(drafts, record, reply)
    }

    /// Tells the sender of an event that it is refused, or records that it failed.
    fn reject_command(
        &self,
        rejection: Rejection,
        refusal: RejectionPolicy,
        command: Record,
        reply: Reply,
    ) -> Result<(), JournalClosed> {
        if refusal == RejectionPolicy::Answer {
            return self.answer_unrecorded(UnrecordedOutcome::Rejected(rejection), reply);
        }
        let Record { event_type, .. } = &command;
        warn!(entity = %self.key, event_type, code = rejection.status, "event cannot be applied");
        let record = Record {
            failure: Some(rejection.to_failure()),
            pending: false,
            ..command
        };
        let draft = self.draft_record(&record);
        self.submit_drafts(vec![draft], record, reply)
    }

    /// Answers an event that leaves no record, after everything that it was decided on is durable.
    fn answer_unrecorded(
        &self,
        denial: UnrecordedOutcome,
        reply: Reply,
    ) -> Result<(), JournalClosed> {
        if self.progress.in_flight_count() == 0 {
            reply(Err(denial));
            return Ok(());
        }
        let settle = Box::new(move |settled: SubmissionResult| {
            if settled.is_ok() {
                reply(Err(denial));
            }
        });
        self.deps.journal.append(JournalSubmission {
            drafts: Vec::new(),
            settle,
        })
    }

    /// Before the record is submitted, so that the projection cannot pass it first.
    fn offer_snapshot(&mut self) {
        let due = self.bytes_since_snapshot > self.snapshot_bytes.max(SNAPSHOT_MIN_BYTES);
        if !due {
            return;
        }
        let state = self.state.to_snapshot();
        self.snapshot_bytes = state.len();
        self.bytes_since_snapshot = 0;
        // Declined when too many wait: the next one comes when as much again has happened.
        self.deps
            .pending_snapshots
            .offer(&self.key, self.sequence, state);
    }

    fn draft_record(&self, record: &Record) -> RecordDraft {
        RecordDraft {
            entity: record.entity.clone(),
            sequence: record.sequence,
            received_at: self.received_at,
            bytes: record.encode(),
        }
    }

    /// Sends `drafts`, the first of them that of `record`, on their way together.
    fn submit_drafts(
        &self,
        drafts: Vec<RecordDraft>,
        record: Record,
        reply: Reply,
    ) -> Result<(), JournalClosed> {
        let others = drafts.len() as u64 - 1;
        let Record {
            sequence,
            failure,
            answer,
            ..
        } = record;
        let (flight, key) = (Arc::clone(&self.progress), self.key.clone());
        let (offers, span) = (Arc::clone(&self.deps.pending_snapshots), Span::current());
        flight.note_submitted();
        let settle = Box::new(move |settled: SubmissionResult| match settled {
            Ok(position) => {
                span.in_scope(|| debug!(%position, "event durable"));
                let last = position.plus(others);
                flight.note_durable(last);
                reply(Ok(CommandOutcome {
                    position,
                    last,
                    sequence,
                    failure,
                    answer,
                }));
            }
            Err(_) => {
                offers.withdraw(&key);
                flight.note_diverged();
            }
        });
        self.deps
            .journal
            .append(JournalSubmission { drafts, settle })
    }
}

/// What is recorded of `command` before it is known what it does.
fn record_command(command: Command, at: Timestamp, now: Timestamp) -> Record {
    let (concludes, failure) = match command.resolves {
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
        pending: command.pending,
        resolves: concludes,
        ..Record::new(
            command.source.as_str(),
            command.entity,
            command.event_type,
            at,
        )
    }
}

/// The first record of an entity that begins with `cause`.
fn record_spawned(birth: SpawnedEntity, cause: &Record) -> Record {
    Record {
        decided_at: cause.decided_at,
        highest_id: allocated_number(&birth.key),
        sequence: Some(1),
        payload: birth.payload,
        change: birth.change.into(),
        unique_key: birth.unique_key,
        ..Record::new(cause.source.clone(), birth.key, birth.event_type, cause.at)
    }
}

/// The number that is the id of an entity whose ids the node gives.
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

/// Why an event that begins nothing is refused by an entity that does not exist.
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
            error!(entity = %self.key, "entity out of step with its journal, starting it anew");
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
