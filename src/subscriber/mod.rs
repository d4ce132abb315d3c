//! The subscribers: brings every record that somebody wants to whoever wants it, signed, one entity's records in their order.
//!
//! ```text
//!  journal ──frames──> dispatcher ──index──> inbox ──> subscriber's actor ──attempts──HTTP──> your systems
//!                                                        lanes, retries, breaker
//!                                                              │
//!                                             ledger ──rounds──> cursors, stopped lanes, dead letters
//! ```

pub mod attempt;
pub mod delivery;
pub mod profile;

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use crate::event::{Position, Record, Timestamp};
use crate::subscription;

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
