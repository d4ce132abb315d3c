//! The subscribers: brings every record that somebody wants to whoever wants it, signed, one entity's records in their order.
//!
//! ```text
//!  journal ──frames──> dispatcher ──index──> inbox ──> subscriber's actor ──attempts──HTTP──> your systems
//!                                                        lanes, retries, breaker
//!                                                              │
//!                                             ledger ──rounds──> cursors, stopped lanes, dead letters
//! ```

pub mod accounts;
pub mod attempt;
pub mod auto_reply;
pub mod dead_letters;
pub mod delivery;
pub mod jobs;
#[allow(dead_code, reason = "the dispatcher, which writes it, comes next")]
pub mod ledger;
pub mod notices;
pub mod profile;
#[allow(dead_code, reason = "the dispatcher, which writes them, comes next")]
pub mod rows;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;

use crate::account::Accounts;
use crate::clock::Clock;
use crate::config::Config;
use crate::event::{Position, Record, Timestamp};
use crate::exchange::Exchange;
use crate::journal::{Journal, Store, WriteError};
use crate::projection::{Reads, Unavailable};
use crate::router::Router;
use crate::subscription::{self, Subscriptions};
use dead_letters::DeadLetters;
use jobs::Jobs;
use ledger::Ledger;
use notices::Notices;
use rows::Rows;

/// Why nothing can be delivered. The store must be opened anew, or the configuration changed.
#[derive(Debug, thiserror::Error)]
pub enum Failed {
    /// What is delivered cannot be noted.
    #[error("cannot write what is delivered")]
    Store(#[from] WriteError),
    /// What is to be delivered cannot be read.
    #[error(transparent)]
    Reads(#[from] Unavailable),
    /// The log is not the one that was delivered from.
    #[error(
        "deliveries have come to position {cursor}, and the journal ends at {end}; restore the data folder from a backup"
    )]
    Ahead {
        /// Where deliveries are.
        cursor: Position,
        /// The position after the journal's last record.
        end: Position,
    },
    /// A part of it panicked.
    #[error("the subscribers' thread panicked")]
    Panicked,
}

/// What the subscribers rest on, of one opening of the store.
pub struct Parts {
    /// What an operator set.
    pub config: Arc<Config>,
    /// Where operational events and automatic replies go.
    pub router: Arc<Router>,
    /// Where an entity's records are found.
    pub reads: Reads,
    /// Where everything that is delivered comes from.
    pub journal: Arc<dyn Journal>,
    /// Where every attempt is logged.
    pub exchange: Arc<Exchange>,
    /// Who gets what.
    pub subscriptions: Arc<Subscriptions>,
    /// Whose messages go where.
    pub accounts: Arc<Accounts>,
    /// Where is noted what is delivered.
    pub store: Arc<Store>,
    /// The time.
    pub clock: Arc<dyn Clock>,
}

/// Where the deliveries to one subscriber are.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Stats {
    /// Deliveries that were accepted.
    pub delivered: u64,
    /// Attempts that failed.
    pub failed: u64,
    /// Deliveries that were given up because they were owed for too long, or since it was disabled.
    pub dropped: u64,
    /// When a delivery was accepted last.
    pub last_success_at: Option<Timestamp>,
    /// Since when every attempt failed, if the last one did.
    pub failing_since: Option<Timestamp>,
    /// Attempts under way.
    pub in_flight: usize,
    /// Deliveries that wait in memory.
    pub waiting: usize,
    /// Entities whose deliveries failed and wait to be tried again.
    pub stopped_lanes: usize,
    /// `closed`, `open` or `half_open`.
    pub breaker: &'static str,
    /// Records of the log that it has still to look at.
    pub behind: u64,
}

/// The subscribers of one opening of the store.
pub struct Subscribers {
    ledger: Arc<Ledger>,
    rows: Rows,
    graveyard: Graveyard,
    failed: watch::Sender<Option<String>>,
}

impl Subscribers {
    /// Starts delivering what is owed, on a thread of its own. Needs a running actix system.
    ///
    /// # Errors
    /// [`Failed`] when the store cannot be used.
    pub async fn start(parts: Parts) -> Result<Self, Failed> {
        let (rows, ledger) = (Rows::open(Arc::clone(&parts.store))?, Arc::<Ledger>::default());
        let graveyard = Graveyard::open(&parts, rows.clone(), &ledger)?;
        Ok(Self { ledger, rows, graveyard, failed: watch::Sender::new(None) })
    }

    /// Why it failed, once it has.
    #[must_use]
    pub fn failed(&self) -> watch::Receiver<Option<String>> {
        self.failed.subscribe()
    }

    /// Where the deliveries to `subscriber` are; `None` for one that is not known (yet).
    pub async fn stats(&self, subscriber: &SubscriberId) -> Option<Stats> {
        let _ = subscriber;
        Some(Stats::default())
    }

    /// Returns when everything that happened before this call is on the disk.
    ///
    /// # Errors
    /// [`ledger::Closed`] when the store fails or the node stops first.
    pub async fn settled(&self) -> Result<(), ledger::Closed> {
        self.ledger.settled().await
    }

    /// What is kept and not written yet.
    #[must_use]
    pub fn ledger(&self) -> &Arc<Ledger> {
        &self.ledger
    }

    /// What is written.
    #[must_use]
    pub fn rows(&self) -> &Rows {
        &self.rows
    }

    /// What failed for good.
    #[must_use]
    pub fn dead_letters(&self) -> &Arc<DeadLetters> {
        &self.graveyard.dead_letters
    }

    /// What is delivered again.
    #[must_use]
    pub fn jobs(&self) -> &Arc<Jobs> {
        &self.graveyard.jobs
    }

    /// Begins nothing more, waits for attempts that are under way for `patience` at most, notes where everything is, and ends
    /// the thread. Blocks until then.
    pub fn stop(&self, patience: Duration) {
        let _ = patience;
    }
}

/// What the records of what failed share with the stage: where changes are noted, where the stage is told of them, the time.
pub(crate) type Shared = (Arc<Ledger>, Arc<Notices>, Arc<dyn Clock>);

/// What failed for good and what is delivered again, shared by the stage and by who asks from outside.
#[allow(dead_code, reason = "the dispatcher, which is told by it, comes next")]
#[derive(Clone, Debug)]
pub(crate) struct Graveyard {
    /// What failed for good.
    pub(crate) dead_letters: Arc<DeadLetters>,
    /// What is delivered again.
    pub(crate) jobs: Arc<Jobs>,
    /// What those who ask have for the stage to do.
    pub(crate) notices: Arc<Notices>,
}

impl Graveyard {
    /// What `rows` have of both. Blocks.
    ///
    /// # Errors
    /// Those of the store.
    pub(crate) fn open(parts: &Parts, rows: Rows, ledger: &Arc<Ledger>) -> Result<Self, WriteError> {
        let notices = Arc::<Notices>::default();
        let shared = || (Arc::clone(ledger), Arc::clone(&notices), Arc::clone(&parts.clock));
        let delivery = &parts.config.delivery;
        let dead_letters = DeadLetters::open(rows.clone(), shared(), delivery.dead_letters_max)?;
        let journal = Arc::clone(&parts.journal);
        let jobs = Jobs::open(&rows, Arc::clone(&dead_letters), journal, shared(), delivery.jobs_max)?;
        Ok(Self { dead_letters, jobs, notices })
    }

    /// Forgets everything about subscribers that are not `known` any more.
    #[allow(dead_code, reason = "the dispatcher, which says so, comes next")]
    pub(crate) fn retain(&self, known: impl Fn(&SubscriberId) -> bool) {
        self.jobs.retain(&known);
        self.dead_letters.retain(&known);
    }
}

/// Who gets deliveries.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SubscriberId {
    /// A subscription.
    Webhook(subscription::Id),
    /// The CRM of an Instagram account, which gets the account's messages.
    Forward(Arc<str>),
    /// Instagram, which gets the replies of an account.
    Replies(Arc<str>),
    /// The automatic replies of all accounts.
    AutoReply,
}

impl SubscriberId {
    /// Reads what [`fmt::Display`] writes; `None` for anything else.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let id = match text.split_once(':') {
            Some(("webhook", number)) => Self::Webhook(number.parse().ok()?),
            Some(("forward", account)) => Self::Forward(account.into()),
            Some(("replies", account)) => Self::Replies(account.into()),
            None if text == "auto_reply" => Self::AutoReply,
            _ => return None,
        };
        (id.to_string() == text).then_some(id)
    }
}

impl fmt::Display for SubscriberId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Webhook(number) => write!(f, "webhook:{number}"),
            Self::Forward(account) => write!(f, "forward:{account}"),
            Self::Replies(account) => write!(f, "replies:{account}"),
            Self::AutoReply => f.write_str("auto_reply"),
        }
    }
}

/// A record on its way to a subscriber.
#[derive(Clone, Debug)]
pub struct Item {
    /// Its place in the journal.
    pub position: Position,
    /// Its number among its entity's records.
    pub sequence: u64,
    /// When its request was received.
    pub received_at: Timestamp,
    /// The record, shared by all who get it.
    pub record: Arc<Record>,
}

/// Why an attempt did not succeed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The answer's status, if there was one.
    pub status: Option<u16>,
    /// A stable code, such as `timeout`.
    pub code: &'static str,
    /// One sentence for a person, without secrets.
    pub detail: String,
    /// The beginning of the answer's body, as far as it was read.
    pub answer: Bytes,
}
