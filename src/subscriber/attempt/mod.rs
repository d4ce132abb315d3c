//! One attempt at one delivery: the body, its signatures, the call, and what its answer means.
//!
//! ```text
//!  profile ──prepared──┐
//!                      ├─> request ──client──> subscriber      (resolver: only addresses that may be called)
//!  item ──body, keys───┘                           │
//!                           outcome <──judge── answer ──> the call log's row
//! ```

pub mod address;
mod call;
mod client;
mod forward;
mod graph;
mod headers;
mod judge;
mod lookup;
mod prepared;
mod resolver;
pub mod signing;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use self::client::Clients;
use self::judge::{Broken, Received, judge};
use self::lookup::System;
use self::prepared::{Attempt, Cache, Prepared};
use self::resolver::Lookup;
use super::profile::{Profile, Target};
use super::{Failure, Item, SubscriberId};
use crate::clock::Clock;
use crate::config;
use crate::event::{EventId, Incarnation, Timestamp};

pub use call::Call;
pub(super) use lookup::LOOKUPS_MAX;

/// What an attempt came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was accepted.
    Accepted,
    /// It may work later.
    Failed {
        /// Why it did not.
        failure: Failure,
        /// The least pause that the subscriber asked for.
        retry_after: Option<Duration>,
    },
    /// It will not work.
    Refused {
        /// Why.
        failure: Failure,
    },
    /// The subscriber wants nothing any more (410).
    Gone {
        /// What it said.
        failure: Failure,
    },
}

impl Outcome {
    /// Why it did not succeed, if it did not.
    #[must_use]
    pub const fn failure(&self) -> Option<&Failure> {
        match self {
            Self::Accepted => None,
            Self::Failed { failure, .. } | Self::Refused { failure } | Self::Gone { failure } => Some(failure),
        }
    }
}

/// An attempt that was made.
#[derive(Clone, Debug)]
pub struct Made {
    /// What it came to.
    pub outcome: Outcome,
    /// What the call log is told of it, once it is known what comes next.
    pub call: Call,
}

/// Which attempt at a delivery it is. A number alone is one of an ordinary delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Try {
    /// Its number, from 1.
    pub attempt: u32,
    /// Whether a job brings the event again, out of its entity's order: what subscribers can tell it by.
    pub is_replay: bool,
}

impl From<u32> for Try {
    fn from(attempt: u32) -> Self {
        Self { attempt, is_replay: false }
    }
}

/// Makes attempts. Cheap to clone; all clones share their connections.
#[derive(Clone)]
pub struct Caller(Arc<Shared>);

struct Shared {
    clients: Clients,
    prepared: Cache,
    incarnation: Incarnation,
    clock: Arc<dyn Clock>,
}

impl fmt::Debug for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Caller")
    }
}

/// What is sent, and about what.
struct Sending<'a> {
    id: String,
    event_id: Option<EventId>,
    event: &'a str,
    event_at: Timestamp,
    sequence: u64,
    which: Try,
}

impl Caller {
    /// A caller for the records of a store's `incarnation`.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub fn try_new(
        config: &config::Delivery,
        incarnation: Incarnation,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, reqwest::Error> {
        Self::with_lookup(config, incarnation, clock, Arc::new(System::default()))
    }

    fn with_lookup(
        config: &config::Delivery,
        incarnation: Incarnation,
        clock: Arc<dyn Clock>,
        lookup: Arc<dyn Lookup>,
    ) -> Result<Self, reqwest::Error> {
        let clients = Clients::try_new(config, &lookup)?;
        let prepared = Cache::new(config.subscriptions_max);
        Ok(Self(Arc::new(Shared { clients, prepared, incarnation, clock })))
    }

    /// Makes the attempt `which` at bringing `item` to the subscriber of `profile`.
    pub async fn make(&self, profile: &Profile, item: &Item, which: impl Into<Try>) -> Made {
        let event_id = EventId::new(self.0.incarnation, item.position);
        let sending = Sending {
            id: event_id.to_string(),
            event_id: Some(event_id),
            event: &item.record.event_type,
            event_at: item.record.at,
            sequence: item.sequence,
            which: which.into(),
        };
        self.send(profile, sending, |prepared| prepared.body(item)).await
    }

    /// Sends the subscriber of `profile` a signed `ping`, which has no entity's place.
    pub async fn test(&self, profile: &Profile) -> Made {
        let at = self.0.clock.wall();
        let id = format!("ping_{:x}", at.as_micros());
        let sending = Sending { id, event_id: None, event: PING, event_at: at, sequence: 0, which: 1.into() };
        self.send(profile, sending, |_| Ok(ping(&profile.id, at))).await
    }

    /// Drops what is kept ready for `id`, of which no more attempts are expected.
    pub fn forget(&self, id: &SubscriberId) {
        self.0.prepared.forget(id);
    }

    async fn send(
        &self,
        profile: &Profile,
        sending: Sending<'_>,
        body: impl FnOnce(&Prepared) -> Result<Bytes, Broken>,
    ) -> Made {
        let (at, began) = (self.0.clock.wall(), self.0.clock.monotonic());
        let mut call = Call::begun(at, &profile.id, &sending);
        let request = self.0.prepared.of(profile).and_then(|prepared| {
            call.path = prepared.path().to_owned();
            let part = at.as_micros().to_be_bytes();
            let trace =
                headers::trace(&sending.id, &[call.source.as_bytes(), &part, &sending.which.attempt.to_be_bytes()]);
            let Sending { id, event, event_at, sequence, which, .. } = &sending;
            let is_replay = which.is_replay;
            let attempt = Attempt { id, event, event_at: *event_at, at, sequence: *sequence, is_replay, trace: &trace };
            Ok(prepared.request(&attempt, body(&prepared)?))
        });
        let (received, broken) = match request {
            Ok(request) => {
                call.headers = request.headers.clone();
                call.body_bytes = request.body.len();
                self.0.clients.post(request, profile.timeout).await
            }
            Err(broken) => (Received::default(), Some(broken)),
        };
        let duration = self.0.clock.monotonic().saturating_sub(began);
        let outcome = judge(&received, broken, at.saturating_add(duration));
        let outcome = match &profile.target {
            Target::Webhook(_) | Target::AutoReply => outcome,
            Target::Forward { .. } => forward::judge(outcome),
            Target::Reply { .. } => graph::judge(outcome),
        };
        let Received { status, body: answer, .. } = received;
        let code = outcome.failure().map(|failure| failure.code);
        Made { outcome, call: Call { status, code, duration, answer, ..call } }
    }
}

/// The name of the event that tests a subscription.
const PING: &str = "ping";

/// The body of a ping: like that of any event.
fn ping(id: &SubscriberId, at: Timestamp) -> Bytes {
    let name = id.to_string();
    let number = name.rsplit(':').next().unwrap_or_default();
    let body = serde_json::json!({
        "event": PING,
        "timestamp": at,
        "user_id": null,
        "data": { "subscriber": name },
        "entity": { "kind": "custom:subscriber", "id": number, "sequence": 0 },
        "late": false,
    });
    body.to_string().into()
}

#[cfg(test)]
mod tests;
