//! Identifiers of subscribers, and their text form in rows, logs and the admin API.

use std::fmt;
use std::sync::Arc;

use crate::subscription::SubscriptionId;

/// Identifies a recipient of deliveries.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SubscriberId {
    /// Subscription that was created by the admin API.
    Webhook(SubscriptionId),
    /// CRM of the named Instagram account; receives the account's messages.
    Forward(Arc<str>),
    /// Instagram's Graph API; receives the replies of the named account.
    Replies(Arc<str>),
    /// Internal recipient that makes the automatic replies of all accounts.
    AutoReply,
}

impl SubscriberId {
    /// Parses the text that [`fmt::Display`] writes; `None` for any other text.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let id = match text.split_once(':') {
            Some(("webhook", number)) => Self::Webhook(number.parse().ok()?),
            Some(("forward", account)) => Self::Forward(account.into()),
            Some(("replies", account)) => Self::Replies(account.into()),
            None if text == "auto_reply" => Self::AutoReply,
            _ => return None,
        };

        // One id has one text: `webhook:04` is refused.
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
