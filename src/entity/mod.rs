//! The entity: one actor for each ticket (and later each lead, conversation, …), which decides its events one after another.
//!
//! ```text
//!  Apply ──> stamp times ──> decide ──> apply to the state in memory ──> submit to the journal ──> next Apply
//!                                                                             │ commit
//!                                                                             └──> reply
//! ```
//!
//! The actor does not wait for the commit: records leave it in the order in which it handled their events, and each reply
//! leaves when its record is durable. A panic in here ends this actor only; the router starts it anew from the journal.

mod command;
mod flight;
mod state;
pub mod ticket;

use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, ActorContext, Addr, AsyncContext, Context, Handler, Message, WrapFuture};
use tracing::{Span, debug, error, warn};

pub use command::{Action, Command, Outcome};
pub use flight::Flight;
pub use state::{Change, Decision, Limits, RestoreError, State, summary};

use crate::clock::Clock;
use crate::event::{EntityKey, Failure, Kind, Record, Timestamp};
use crate::faults::{Faults, Point};
use crate::journal::{Draft, Journal, Settled, Submission};
use crate::panics::Containment;
use crate::projection::{Offers, Past};

/// How far ahead of the node's clock an event's own time may be; further ahead, it counts as the receive time, or one
/// wrong clock would make everything after it late.
const AHEAD_MAX: Duration = Duration::from_secs(300);

/// A snapshot is due when the records since the last one outweigh it, and at least this much.
const SNAPSHOT_MIN_BYTES: usize = 16 * 1024;

/// Messages handled at a stretch before the other actors of the thread get a turn: actix empties a mailbox otherwise.
pub const STRETCH: u32 = 64;

/// What an entity is told about its event: what became of it, once that is durable. Dropped uncalled when nobody can know.
pub type Reply = Box<dyn FnOnce(Outcome) + Send>;

/// Asks an entity to decide one event.
pub struct Apply {
    /// The event.
    pub command: Command,
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

    fn handle_command(&mut self, command: Command, reply: Reply, ctx: &mut Context<Self>) {
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
        let decided = self.decide(&command, at);
        let failure = decided.as_ref().err().cloned();
        if let Some(failure) = &failure {
            warn!(entity = %self.key, event_type = command.event_type, code = failure.code, "event cannot be applied");
        }
        let (sequence, late, change) = match decided {
            Ok(decision) => {
                self.state.apply(&decision.change, self.surroundings.limits);
                self.sequence += 1;
                (Some(self.sequence), decision.late, decision.change.encode())
            }
            Err(_) => (None, false, Vec::new()),
        };
        debug!(entity = %self.key, sequence, late, "event decided");
        if sequence.is_some() {
            self.bytes_since_snapshot += change.len();
            self.offer_snapshot();
        }
        let record = Record {
            at,
            decided_at: now,
            source: command.source.to_owned(),
            entity: self.key.clone(),
            sequence,
            event_type: command.event_type.to_owned(),
            late,
            idempotency_key: command.idempotency_key,
            payload: command.payload,
            change: change.into(),
            failure,
            reprocesses: command.reprocesses,
        };
        if self.submit(&record, reply).is_err() {
            // The store is being opened anew, and this state holds a record that it does not.
            ctx.stop();
        }
    }

    fn decide(&self, command: &Command, at: Timestamp) -> Result<Decision, Failure> {
        if self.sequence == 0 && !command.may_create {
            let message = format!("{} {} does not exist", self.key.kind(), self.key.id());
            return Err(Failure { code: 404, message });
        }
        self.state.decide(&command.action, at, self.surroundings.limits)
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

    fn submit(&self, record: &Record, reply: Reply) -> Result<(), crate::journal::Closed> {
        let draft = Draft {
            entity: self.key.clone(),
            sequence: record.sequence,
            received_at: self.received_at,
            bytes: record.encode(),
        };
        let (sequence, failure) = (record.sequence, record.failure.clone());
        let (flight, key) = (Arc::clone(&self.flight), self.key.clone());
        let (offers, span) = (Arc::clone(&self.surroundings.offers), Span::current());
        flight.departed();
        let settle = Box::new(move |settled: Settled| match settled {
            Ok(position) => {
                span.in_scope(|| debug!(%position, "event durable"));
                flight.arrived(position);
                reply(Outcome { position, sequence, failure });
            }
            Err(_) => {
                offers.withdraw(&key);
                flight.went_astray();
            }
        });
        self.surroundings.journal.submit(Submission { drafts: vec![draft], settle })
    }
}

impl Actor for Entity {
    type Context = Context<Self>;
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
        self.handle_command(message.command, message.reply, ctx);
        self.flight.handled();
        self.stretch += 1;
        if self.stretch.is_multiple_of(STRETCH) {
            ctx.wait(tokio::task::yield_now().into_actor(self));
        }
    }
}
