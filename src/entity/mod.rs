//! The entity: one actor for each ticket, lead, customer …, which decides its events one after another.
//!
//! ```text
//!  Apply ──> stamp times ──> decide ──> apply to the state in memory ──> submit to the journal ──> next Apply
//!                                                                             │ commit
//!                                                                             └──> reply
//! ```
//!
//! The actor does not wait for the commit: records leave it in the order in which it handled their events, and each reply
//! leaves when its record is durable. A panic in here ends this actor only; the router starts it anew from the journal.

pub mod c2s_lead;
mod command;
pub mod conversation;
pub mod customer;
mod field;
mod fingerprint;
mod flight;
pub mod generic;
pub mod lead;
pub mod pre_lead;
pub mod sales;
mod state;
pub mod ticket;
mod verdict;

use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, ActorContext, Addr, AsyncContext, Handler, Message, WrapFuture};
use bytes::Bytes;
use tracing::{Span, debug, error, warn};

pub use command::{Command, Conclusion, Denial, OnRefusal, Outcome};
pub use flight::Flight;
pub use state::{Action, Change, RestoreError, State, summary};
pub use verdict::{Acceptance, Birth, Context, Draw, Ids, Limits, Rejection, Verdict};

use crate::clock::Clock;
use crate::event::{EntityKey, Kind, RECORD_MAX_BYTES, Record, Timestamp};
use crate::faults::{Faults, Point};
use crate::journal::{Closed, Draft, Journal, Settled, Submission};
use crate::panics::Containment;
use crate::projection::{Offers, Past};

/// How far ahead of the node's clock an event's own time may be; further ahead, it counts as the receive time, or one
/// wrong clock would make everything after it late.
const AHEAD_MAX: Duration = Duration::from_secs(300);

/// A snapshot is due when the records since the last one outweigh it, and at least this much.
const SNAPSHOT_MIN_BYTES: usize = 16 * 1024;

/// Messages handled at a stretch before the other actors of the thread get a turn: actix empties a mailbox otherwise.
pub const STRETCH: u32 = 64;

/// What an entity calls with what became of its event, once that is durable. Dropped uncalled when nobody can know.
pub type Reply = Box<dyn FnOnce(Result<Outcome, Denial>) + Send>;

/// Asks an entity to decide one event.
pub struct Apply {
    /// The event.
    pub command: Command,
    /// Whether nobody else holds the key that it claims for ever; `true` if it claims none.
    pub code_is_free: bool,
    /// Called when what became of it is durable.
    pub reply: Reply,
}

impl Message for Apply {
    type Result = ();
}

/// What all entities of a node share.
pub struct Surroundings {
    /// Where records go.
    pub journal: Arc<dyn Journal>,
    /// Where states are offered.
    pub offers: Arc<Offers>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// What tests make fail.
    pub faults: Arc<dyn Faults>,
    /// Bounds of a state.
    pub limits: Limits,
    /// The ids that the node gives.
    pub ids: Ids,
}

/// The state that `past` makes.
///
/// # Errors
/// [`RestoreError`] when the snapshot or a record cannot be read.
pub fn restore(kind: Kind, past: &Past, limits: Limits) -> Result<State, RestoreError> {
    let snapshot = past.snapshot.as_ref().map(|(_, bytes)| bytes.as_slice());
    let changes = past.later.iter().map(|stored| stored.record.change.as_ref());
    state::restore(kind, snapshot, changes, limits)
}

/// The actor of one entity.
pub struct Entity {
    key: EntityKey,
    state: State,
    sequence: u64,
    surroundings: Arc<Surroundings>,
    flight: Arc<Flight>,
    received_at: Timestamp,
    snapshot_bytes: usize,
    bytes_since_snapshot: usize,
    stretch: u32,
}

impl Entity {
    /// The entity `key` as `past` leaves it.
    ///
    /// # Errors
    /// [`RestoreError`] when its snapshot or a record cannot be read.
    pub fn restore(key: EntityKey, past: &Past, surroundings: Arc<Surroundings>) -> Result<Self, RestoreError> {
        // What an earlier life offered may hold a record that was never written.
        surroundings.offers.withdraw(&key);
        let state = restore(key.kind(), past, surroundings.limits)?;
        let (included, snapshot_bytes) =
            past.snapshot.as_ref().map_or((0, 0), |(sequence, bytes)| (*sequence, bytes.len()));
        Ok(Self {
            state,
            sequence: past.later.last().and_then(|stored| stored.record.sequence).unwrap_or(included),
            snapshot_bytes,
            flight: Arc::default(),
            received_at: past.later.last().map(|stored| stored.received_at).unwrap_or_default(),
            bytes_since_snapshot: past.later.iter().map(|stored| stored.record.change.len()).sum(),
            stretch: 0,
            key,
            surroundings,
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
    pub fn flight(&self) -> &Arc<Flight> {
        &self.flight
    }

    /// Whether it has no record yet.
    #[must_use]
    pub fn is_absent(&self) -> bool {
        self.sequence == 0
    }

    fn handle_command(&mut self, message: Apply, ctx: &mut actix::Context<Self>) {
        let Apply { command, code_is_free, reply } = message;
        // A test's fault here is a panic; there is nothing at this point that could fail with an error.
        let _ = self.surroundings.faults.at(Point::Decide(&self.key));
        let now = self.surroundings.clock.wall();
        self.received_at = self.received_at.max(now);
        let at = match command.at {
            Some(at) if at <= now.saturating_add(AHEAD_MAX) => at,
            _ => self.received_at,
        };
        let span = command.span.clone();
        let _entered = span.enter();
        let surroundings = Arc::clone(&self.surroundings);
        let context = Context {
            key: &self.key,
            source: command.source,
            at,
            received_at: self.received_at,
            code_is_free,
            limits: surroundings.limits,
            draw: Draw::new(&surroundings.ids),
        };
        let verdict = if self.is_absent() && !command.may_create {
            Err(absent(&self.key))
        } else {
            self.state.decide(&command.action, &context)
        };
        let drawn = context.draw.highest();
        let submitted = match verdict {
            Err(rejection) => self.refuse(rejection, command.refusal, record(command, at, now), reply),
            Ok(Verdict::Known(answer)) => self.deny(Denial::Known(to_json(answer)), reply),
            Ok(Verdict::Note) => {
                let record = record(command, at, now);
                let draft = self.draft(&record);
                self.submit(vec![draft], record, reply)
            }
            Ok(Verdict::Accept(acceptance)) => {
                let refusal = command.refusal;
                self.accept(acceptance, drawn, record(command, at, now), refusal, reply)
            }
        };
        if submitted.is_err() {
            // The store is being opened anew, and this state may hold a record that it does not.
            ctx.stop();
        }
    }

    fn accept(
        &mut self,
        acceptance: Acceptance<Change>,
        drawn: Option<u64>,
        command: Record,
        refusal: OnRefusal,
        reply: Reply,
    ) -> Result<(), Closed> {
        let Acceptance { change, late, answer, births } = acceptance;
        let sequence = self.sequence + 1;
        let own_id = number(&self.key).filter(|_| sequence == 1);
        let record = Record {
            sequence: Some(sequence),
            late,
            change: change.encode().into(),
            answer: to_json(answer),
            drawn: drawn.max(own_id),
            ..command
        };
        let mut drafts = vec![self.draft(&record)];
        for birth in births {
            // A change that panics must never reach the disk: there is no actor yet that it could end.
            State::new(birth.key.kind()).apply(&Change::from_birth(&birth), self.surroundings.limits);
            drafts.push(self.draft(&born(birth, &record)));
        }
        if drafts.iter().any(|draft| draft.bytes.len() > RECORD_MAX_BYTES) {
            let message = format!("the event would be more than {RECORD_MAX_BYTES} bytes as it is recorded");
            let unchanged = Record {
                sequence: None,
                late: false,
                change: Bytes::new(),
                answer: Bytes::new(),
                drawn: None,
                ..record
            };
            return self.refuse(Rejection::conflict("too_large", message), refusal, unchanged, reply);
        }
        self.state.apply(&change, self.surroundings.limits);
        self.sequence = sequence;
        debug!(entity = %self.key, sequence, late, "event decided");
        self.bytes_since_snapshot += record.change.len();
        self.offer_snapshot();
        self.submit(drafts, record, reply)
    }

    /// Tells the sender of an event that it is refused, or records that it failed.
    fn refuse(&self, rejection: Rejection, refusal: OnRefusal, command: Record, reply: Reply) -> Result<(), Closed> {
        if refusal == OnRefusal::Answer {
            return self.deny(Denial::Rejected(rejection), reply);
        }
        let Record { event_type, .. } = &command;
        warn!(entity = %self.key, event_type, code = rejection.status, "event cannot be applied");
        let record = Record { failure: Some(rejection.to_failure()), owes: false, ..command };
        let draft = self.draft(&record);
        self.submit(vec![draft], record, reply)
    }

    /// Answers an event that leaves no record, after everything that it was decided on is durable.
    fn deny(&self, denial: Denial, reply: Reply) -> Result<(), Closed> {
        if self.flight.in_flight_count() == 0 {
            reply(Err(denial));
            return Ok(());
        }
        let settle = Box::new(move |settled: Settled| {
            if settled.is_ok() {
                reply(Err(denial));
            }
        });
        self.surroundings.journal.submit(Submission { drafts: Vec::new(), settle })
    }

    /// Before the record is submitted, so that the projection cannot pass it first.
    fn offer_snapshot(&mut self) {
        let due = self.bytes_since_snapshot > self.snapshot_bytes.max(SNAPSHOT_MIN_BYTES);
        if !due {
            return;
        }
        let state = self.state.snapshot();
        self.snapshot_bytes = state.len();
        self.bytes_since_snapshot = 0;
        // Declined when too many wait: the next one comes when as much again has happened.
        self.surroundings.offers.offer(&self.key, self.sequence, state);
    }

    fn draft(&self, record: &Record) -> Draft {
        Draft {
            entity: record.entity.clone(),
            sequence: record.sequence,
            received_at: self.received_at,
            bytes: record.encode(),
        }
    }

    /// Sends `drafts`, the first of them that of `record`, on their way together.
    fn submit(&self, drafts: Vec<Draft>, record: Record, reply: Reply) -> Result<(), Closed> {
        let others = drafts.len() as u64 - 1;
        let Record { sequence, failure, answer, .. } = record;
        let (flight, key) = (Arc::clone(&self.flight), self.key.clone());
        let (offers, span) = (Arc::clone(&self.surroundings.offers), Span::current());
        flight.departed();
        let settle = Box::new(move |settled: Settled| match settled {
            Ok(position) => {
                span.in_scope(|| debug!(%position, "event durable"));
                let last = position.plus(others);
                flight.arrived(last);
                reply(Ok(Outcome { position, last, sequence, failure, answer }));
            }
            Err(_) => {
                offers.withdraw(&key);
                flight.went_astray();
            }
        });
        self.surroundings.journal.submit(Submission { drafts, settle })
    }
}

/// What is recorded of `command` before it is known what it does.
fn record(command: Command, at: Timestamp, now: Timestamp) -> Record {
    let (concludes, failure) = match command.concludes {
        Some(Conclusion { event, failure }) => (Some(event), failure),
        None => (None, None),
    };
    Record {
        decided_at: now,
        idempotency_key: command.idempotency_key,
        payload: command.payload,
        failure,
        reprocesses: command.reprocesses,
        shape: command.shape,
        request: command.request,
        owes: command.owes,
        concludes,
        ..Record::new(command.source.as_str(), command.entity, command.event_type, at)
    }
}

/// The first record of an entity that begins with `cause`.
fn born(birth: Birth, cause: &Record) -> Record {
    Record {
        decided_at: cause.decided_at,
        drawn: number(&birth.key),
        sequence: Some(1),
        payload: birth.payload,
        change: birth.change.into(),
        code: birth.code,
        ..Record::new(cause.source.clone(), birth.key, birth.event_type, cause.at)
    }
}

/// The number that is the id of an entity whose ids the node gives.
fn number(key: &EntityKey) -> Option<u64> {
    key.kind().has_drawn_ids().then(|| key.id().parse().ok()).flatten()
}

fn to_json(answer: Option<serde_json::Value>) -> Bytes {
    answer.map(|answer| answer.to_string().into()).unwrap_or_default()
}

/// Why an event that begins nothing is refused by an entity that does not exist.
#[must_use]
pub fn absent(key: &EntityKey) -> Rejection {
    Rejection::not_found(match key.kind() {
        Kind::PreLead => "Pre-lead not found".to_owned(),
        Kind::Lead => "Lead not found".to_owned(),
        Kind::Customer => "Customer not found".to_owned(),
        kind => format!("{kind} {} does not exist", key.id()),
    })
}

impl Actor for Entity {
    type Context = actix::Context<Self>;
}

impl Handler<Apply> for Entity {
    type Result = ();

    fn handle(&mut self, message: Apply, ctx: &mut Self::Context) {
        let _contained = Containment::begin();
        if self.flight.is_astray() {
            error!(entity = %self.key, "entity out of step with its journal, starting it anew");
            ctx.stop();
            return;
        }
        self.handle_command(message, ctx);
        self.flight.handled();
        self.stretch += 1;
        if self.stretch.is_multiple_of(STRETCH) {
            ctx.wait(tokio::task::yield_now().into_actor(self));
        }
    }
}
