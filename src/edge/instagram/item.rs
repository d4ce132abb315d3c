//! Parser of one messaging item: its participants, time, kind and content.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::super::fields::non_null;
use super::super::raw_json;
use crate::entity::conversation::{
    ConversationParties, ConversationUpdate, MessageAttachment, MessageType, ReactionLabel,
};
use crate::event::{Timestamp, check_json_id, find_members};
use crate::provider::parse_moment;

/// Longest id of a participant: two of them fit into the id of a conversation.
pub(super) const PARTICIPANT_MAX_BYTES: usize = 100;
/// Most attachments of one message that a state keeps.
const ATTACHMENTS_MAX: usize = 20;
/// Longest URL of an attachment that a state keeps.
const URL_MAX_BYTES: usize = 4_096;
/// Longest word that a state keeps, such as the name of a reaction.
const WORD_MAX_BYTES: usize = 64;

/// Kind of a messaging item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MessagingItemKind {
    Message,
    Echo,
    Reaction,
    Postback,
    Read,
    Referral,
    Unknown,
}

impl MessagingItemKind {
    /// Type of the event in the catalogue.
    pub(super) const fn event_type(self) -> &'static str {
        match self {
            Self::Message => "message.received",
            Self::Echo => "message.echo",
            Self::Reaction => "message.reaction",
            Self::Postback => "message.postback",
            Self::Read => "message.read",
            Self::Referral => "message.referral",
            Self::Unknown => "message.unknown",
        }
    }

    /// Prefix of the idempotency key. Keys are stored, so the prefix must never change.
    pub(super) const fn key_prefix(self) -> &'static str {
        match self {
            Self::Message => "message",
            Self::Echo => "echo",
            Self::Reaction => "reaction",
            Self::Postback => "postback",
            Self::Read => "read",
            Self::Referral => "referral",
            Self::Unknown => "unknown",
        }
    }
}

/// One messaging item of a conversation, parsed.
#[derive(Debug)]
pub(super) struct MessagingItem {
    pub(super) kind: MessagingItemKind,
    pub(super) between: ConversationParties,
    pub(super) at: Option<Timestamp>,
    /// Message id that identifies the item when it is repeated; `None` if its whole content does.
    pub(super) mid: Option<String>,
    pub(super) update: ConversationUpdate,
}

impl MessagingItem {
    /// Item of the account `business` that stands for an update that could not be parsed.
    pub(super) fn unknown(business: &str) -> Self {
        let business = if is_participant_id(business) {
            business
        } else {
            "0"
        };
        let between = ConversationParties {
            business: business.into(),
            counterpart: None,
        };
        Self {
            kind: MessagingItemKind::Unknown,
            between,
            at: None,
            mid: None,
            update: ConversationUpdate::Other,
        }
    }
}

/// Parses the item `raw` of an entry of `account`; `None` if it has no sender or recipient.
pub(super) fn parse_item(raw: &RawValue, account: Option<&str>) -> Option<MessagingItem> {
    let names = [
        "sender",
        "recipient",
        "timestamp",
        "message",
        "reaction",
        "postback",
        "read",
        "referral",
    ];
    let [
        sender,
        recipient,
        timestamp,
        message,
        reaction,
        postback,
        read,
        referral,
    ] = find_members(raw.get(), names).ok()?;
    let (sender, recipient) = (parse_participant(sender)?, parse_participant(recipient)?);
    let parts = [message, reaction, postback, read, referral]
        .map(|part| part.filter(|part| raw_json::is_object(part)));
    let (kind, mid, update) = parse_content(parts, &sender);

    // An item that the account itself caused, such as an echo, has the account as its sender.
    let is_own =
        kind == MessagingItemKind::Echo || account == Some(&sender) && account != Some(&recipient);
    let (business, counterpart) = if is_own {
        (sender, recipient)
    } else {
        (recipient, sender)
    };

    let between = ConversationParties {
        business: business.into(),
        counterpart: Some(counterpart.into()),
    };
    Some(MessagingItem {
        kind,
        between,
        at: timestamp.and_then(parse_item_time),
        mid,
        update,
    })
}

/// Parses a time: Unix milliseconds or seconds, as a number or a string of digits, or RFC 3339.
pub(super) fn parse_item_time(raw: &RawValue) -> Option<Timestamp> {
    parse_moment(&raw_json::parse_id(raw)?)
}

/// Kind, identifying message id, and change of the conversation.
type MessagingItemContent = (MessagingItemKind, Option<String>, ConversationUpdate);

/// Parses the content of an item: the first of its parts that has the form of its kind.
fn parse_content(
    [message, reaction, postback, read, referral]: [Option<&RawValue>; 5],
    sender: &str,
) -> MessagingItemContent {
    if let Some(content) = message.and_then(|part| parse_message(part, sender)) {
        return content;
    }
    if let Some(content) = reaction.and_then(|part| parse_reaction(part, sender)) {
        return content;
    }
    if let Some(part) = postback {
        let mid = parse_message_id(part);
        return (MessagingItemKind::Postback, mid, ConversationUpdate::Other);
    }
    if let Some(part) = read {
        return (MessagingItemKind::Read, None, parse_read_receipt(part));
    }
    let kind = match referral {
        Some(_) => MessagingItemKind::Referral,
        None => MessagingItemKind::Unknown,
    };
    (kind, None, ConversationUpdate::Other)
}

/// Parses a message; `None` if it has no id, without which no later item can refer to it.
fn parse_message(raw: &RawValue, sender: &str) -> Option<MessagingItemContent> {
    let [id, text, attachments, is_echo, is_deleted] = find_members(
        raw.get(),
        ["mid", "text", "attachments", "is_echo", "is_deleted"],
    )
    .ok()?;
    let message_id = parse_text(id).filter(|mid| check_json_id(mid).is_ok())?;
    let is_true = |raw: Option<&RawValue>| raw.is_some_and(|raw| raw.get() == "true");
    let is_echo = is_true(is_echo);
    let kind = if is_echo {
        MessagingItemKind::Echo
    } else {
        MessagingItemKind::Message
    };
    if is_true(is_deleted) {
        // A deletion has the id of the deleted message, so the id cannot be its idempotency key.
        return Some((kind, None, ConversationUpdate::Deleted { message_id }));
    }
    let attachments = parse_attachments(attachments);
    let update = ConversationUpdate::Message {
        message_id: message_id.clone(),
        sender_id: sender.to_owned(),
        text: parse_text(text),
        message_type: MessageType::from_attachment(
            attachments.first().map(|attachment| &*attachment.r#type),
        ),
        attachments,
        is_echo,
    };
    Some((kind, Some(message_id), update))
}

fn parse_reaction(raw: &RawValue, sender: &str) -> Option<MessagingItemContent> {
    let [_, action, reaction, emoji] =
        find_members(raw.get(), ["mid", "action", "reaction", "emoji"]).ok()?;
    let is_removed = parse_text(action).as_deref() == Some("unreact");
    let given = (!is_removed).then(|| ReactionLabel {
        reaction: parse_word(reaction),
        emoji: parse_word(emoji),
    });
    let sender_id = sender.to_owned();
    let update = parse_message_id(raw).map(|message_id| ConversationUpdate::Reaction {
        message_id,
        sender_id,
        reaction: given,
    });
    Some((
        MessagingItemKind::Reaction,
        None,
        update.unwrap_or(ConversationUpdate::Other),
    ))
}

fn parse_read_receipt(raw: &RawValue) -> ConversationUpdate {
    let [watermark] = find_members(raw.get(), ["watermark"]).unwrap_or_default();
    ConversationUpdate::Read {
        message_id: parse_message_id(raw),
        until: watermark.and_then(parse_item_time),
    }
}

fn parse_attachments(raw: Option<&RawValue>) -> Vec<MessageAttachment> {
    let items =
        non_null(raw).and_then(|raw| raw_json::first_items(raw.get(), ATTACHMENTS_MAX).ok());
    items
        .map(|items| {
            items
                .first
                .into_iter()
                .filter_map(parse_attachment)
                .collect()
        })
        .unwrap_or_default()
}

fn parse_attachment(raw: &RawValue) -> Option<MessageAttachment> {
    let [kind, payload] = find_members(raw.get(), ["type", "payload"]).ok()?;
    let [url] = payload
        .and_then(|payload| find_members(payload.get(), ["url"]).ok())
        .unwrap_or_default();
    let url = parse_text(url).filter(|url| url.len() <= URL_MAX_BYTES);
    Some(MessageAttachment {
        r#type: parse_word(kind)?,
        url: url.map(Into::into),
    })
}

fn parse_message_id(raw: &RawValue) -> Option<String> {
    let [mid] = find_members(raw.get(), ["mid"]).ok()?;
    parse_text(mid).filter(|mid| check_json_id(mid).is_ok())
}

fn parse_participant(raw: Option<&RawValue>) -> Option<String> {
    let [id] = find_members(raw?.get(), ["id"]).ok()?;
    raw_json::parse_id(id?).filter(|id| is_participant_id(id))
}

fn is_participant_id(participant: &str) -> bool {
    participant.len() <= PARTICIPANT_MAX_BYTES
}

fn parse_word(raw: Option<&RawValue>) -> Option<std::sync::Arc<str>> {
    parse_text(raw)
        .filter(|word| word.len() <= WORD_MAX_BYTES)
        .map(Into::into)
}

fn parse_text(raw: Option<&RawValue>) -> Option<String> {
    raw.and_then(|raw| String::deserialize(raw).ok())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn item(json: &serde_json::Value, account: Option<&str>) -> Option<MessagingItem> {
        parse_item(
            &serde_json::value::to_raw_value(json).expect("JSON"),
            account,
        )
    }

    #[test]
    fn the_counterpart_is_the_participant_that_is_not_the_account() {
        let sides = |item: MessagingItem| {
            format!(
                "{}/{}",
                item.between.counterpart.expect("someone"),
                item.between.business
            )
        };
        let from = |sender: &str, recipient: &str, message: serde_json::Value| {
            let (sender, recipient) = (json!({"id": sender}), json!({"id": recipient}));
            json!({"sender": sender, "recipient": recipient, "message": message})
        };
        let received = from("1", "9", json!({"mid": "m"}));
        let echo = from("9", "1", json!({"mid": "m", "is_echo": true}));
        let own = json!({
            "sender": {"id": "9"}, "recipient": {"id": "1"},
            "reaction": {"mid": "m", "action": "react"},
        });
        for (json, account) in [
            (&received, Some("9")),
            (&received, None),
            (&echo, Some("9")),
            (&echo, None),
            (&own, Some("9")),
        ] {
            assert_eq!(
                sides(item(json, account).expect("an item")),
                "1/9",
                "{json}"
            );
        }
    }

    #[test]
    fn the_type_is_that_of_the_first_attachment() {
        let kind = |types: &[&str]| {
            let attachments: Vec<_> = types
                .iter()
                .map(|kind| json!({"type": kind, "payload": {"url": "u"}}))
                .collect();
            let message = json!({"mid": "m", "text": "t", "attachments": attachments});
            let json = json!({"sender": {"id": 1}, "recipient": {"id": 9}, "message": message});
            let Some(MessagingItem {
                update: ConversationUpdate::Message { message_type, .. },
                ..
            }) = item(&json, None)
            else {
                panic!()
            };
            message_type
        };
        for (types, expected) in [
            (&[][..], MessageType::Text),
            (&["image", "video"], MessageType::Image),
            (&["story_mention"], MessageType::StoryMention),
            (&["ig_reel"], MessageType::Share),
            (&["file"], MessageType::File),
        ] {
            assert_eq!(kind(types), expected, "{types:?}");
        }
    }

    #[test]
    fn an_item_with_an_invalid_participant_is_not_parsed() {
        let long = "1".repeat(PARTICIPANT_MAX_BYTES + 1);
        for id in [
            json!(long),
            json!(""),
            json!("a\nb"),
            json!(1.5),
            json!(null),
        ] {
            let json =
                json!({"sender": {"id": id}, "recipient": {"id": "9"}, "message": {"mid": "m"}});
            assert!(item(&json, None).is_none(), "{json}");
        }
        assert_eq!(&*MessagingItem::unknown(&long).between.business, "0");
    }
}
