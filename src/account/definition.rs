//! Definition of one Instagram account, as the operator sets it.

use crate::config::{AutoReply, Secret};
use crate::event::{Position, Timestamp};

/// One business account at Instagram and the handling of its messages.
#[derive(Clone, Debug)]
pub struct Account {
    /// Id of the account in this node's API.
    pub id: String,
    /// Id of the business account at Instagram.
    pub instagram_account_id: String,
    /// Address to which messages are delivered; `None` means the configured default address.
    pub crm_webhook_url: Option<String>,
    /// Secret that signs deliveries to that address.
    pub webhook_secret: Secret,
    /// Access token for replies by the Graph API; `None` means the configured token.
    pub access_token: Option<Secret>,
    /// Automatic reply to messages; `None` means the configured reply.
    pub auto_reply: Option<AutoReply>,
    /// Time at which the account was created.
    pub created_at: Timestamp,
    /// Time of the last change; [`Self::created_at`] if there was none.
    pub updated_at: Timestamp,
    /// Position of the first record that can be a message to this account. Earlier messages to the
    /// business account belong to no account.
    pub from: Position,
}
