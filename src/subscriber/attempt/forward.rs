//! The body of a message that goes to the CRM of an Instagram account.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::account::Account;
use crate::entity::conversation::MessageType;
use crate::event::{Record, Timestamp};

/// A message, as the CRM reads it.
#[derive(Debug, Serialize)]
struct Message<'a> {
    event: &'a str,
    message_id: Option<&'a RawValue>,
    account_id: &'a str,
    sender_id: Option<String>,
    /// Not told by Instagram.
    sender_username: Option<&'a str>,
    message: Option<&'a RawValue>,
    message_type: MessageType,
    timestamp: String,
    instagram_message_id: Option<&'a RawValue>,
    conversation_id: &'a str,
}

/// What of an item is read. Texts are passed on as they were spelt.
#[derive(Default, Deserialize)]
struct Item<'a> {
    #[serde(borrow)]
    sender: Option<Participant<'a>>,
    #[serde(borrow)]
    message: Option<Content<'a>>,
}

#[derive(Deserialize)]
struct Participant<'a> {
    #[serde(borrow)]
    id: Option<&'a RawValue>,
}

#[derive(Default, Deserialize)]
struct Content<'a> {
    #[serde(borrow)]
    mid: Option<&'a RawValue>,
    #[serde(borrow)]
    text: Option<&'a RawValue>,
    #[serde(default, borrow)]
    attachments: Option<Vec<Attachment<'a>>>,
}

#[derive(Deserialize)]
struct Attachment<'a> {
    #[serde(borrow)]
    r#type: Option<std::borrow::Cow<'a, str>>,
}

/// The body that brings `record`, an incoming message, to the CRM of `account`.
pub(super) fn body(account: &Account, record: &Record) -> Bytes {
    let item: Item<'_> = serde_json::from_slice(&record.payload).unwrap_or_default();
    let content = item.message.unwrap_or_default();
    let attachments = content.attachments.unwrap_or_default();
    let message = Message {
        event: &record.event_type,
        message_id: content.mid,
        account_id: &account.id,
        // Some senders give ids as numbers; the CRM gets text.
        sender_id: item.sender.and_then(|sender| sender.id).map(|id| id.get().trim_matches('"').to_owned()),
        sender_username: None,
        message: content.text,
        message_type: MessageType::of(attachments.first().and_then(|attachment| attachment.r#type.as_deref())),
        timestamp: timestamp(record.at),
        instagram_message_id: content.mid,
        conversation_id: record.entity.id(),
    };
    serde_json::to_vec(&message).expect("texts and numbers have a JSON text").into()
}

/// RFC 3339 without a fraction where it would be zero.
fn timestamp(at: Timestamp) -> String {
    let text = at.to_string();
    text.strip_suffix(".000Z").map_or(text.clone(), |whole| format!("{whole}Z"))
}

#[cfg(test)]
mod tests;
