//! One messaging item: who it is between, when it was, and what it says.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::super::fields::present;
use super::super::raw;
use crate::entity::conversation::{Attachment, Between, Emotion, MessageType, Update};
use crate::event::{Timestamp, check_id, members};
use crate::provider::parse_moment;

/// The longest id of a participant, so that two of them fit into the id of a conversation.
pub(super) const PARTICIPANT_MAX_BYTES: usize = 100;
/// The most attachments of one message that a state keeps, and the longest of their addresses.
const ATTACHMENTS_MAX: usize = 20;
const URL_MAX_BYTES: usize = 4_096;
/// The longest word, such as the name of a reaction, that a state keeps.
const WORD_MAX_BYTES: usize = 64;

/// What sort of item it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sort {
    Message,
    Echo,
    Reaction,
    Postback,
    Read,
    Referral,
    Unknown,
}

impl Sort {
    /// Its name in the catalogue.
    pub(super) const fn event(self) -> &'static str {
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

    /// Its name in idempotency keys, which are stored: it never changes.
    pub(super) const fn word(self) -> &'static str {
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

/// An item, read.
#[derive(Debug)]
pub(super) struct Item {
    pub(super) kind: Sort,
    pub(super) between: Between,
    pub(super) at: Option<Timestamp>,
    /// The id under which it is known as the same again; `None` where all that it says is.
    pub(super) mid: Option<String>,
    pub(super) update: Update,
}

impl Item {
    /// What could not be read, of the account `business`.
    pub(super) fn unknown(business: &str) -> Self {
        let business = if fits(business) { business } else { "0" };
        let between = Between { business: business.into(), counterpart: None };
        Self { kind: Sort::Unknown, between, at: None, mid: None, update: Update::Other }
    }
}

/// Reads the item `raw` of an entry of `account`; `None` if it is not of a conversation between two.
pub(super) fn read(raw: &RawValue, account: Option<&str>) -> Option<Item> {
    let names = ["sender", "recipient", "timestamp", "message", "reaction", "postback", "read", "referral"];
    let [sender, recipient, timestamp, message, reaction, postback, read, referral] = members(raw.get(), names).ok()?;
    let (sender, recipient) = (participant(sender)?, participant(recipient)?);
    let [message, reaction, postback, read, referral] =
        [message, reaction, postback, read, referral].map(|part| part.filter(|part| raw::is_object(part)));
    let (kind, mid, update) = message
        .and_then(|part| of_message(part, &sender))
        .or_else(|| of_reaction(reaction?, &sender))
        .or_else(|| Some((Sort::Postback, mid(postback?), Update::Other)))
        .or_else(|| Some((Sort::Read, None, of_read(read?))))
        .or_else(|| referral.map(|_| (Sort::Referral, None, Update::Other)))
        .unwrap_or((Sort::Unknown, None, Update::Other));
    // What the account itself did comes with the account as its sender.
    let is_own = kind == Sort::Echo || account == Some(&sender) && account != Some(&recipient);
    let (business, counterpart) = if is_own { (sender, recipient) } else { (recipient, sender) };
    let between = Between { business: business.into(), counterpart: Some(counterpart.into()) };
    Some(Item { kind, between, at: timestamp.and_then(moment), mid, update })
}

/// A time in milliseconds or seconds since 1970, as a number or as its digits, or one of RFC 3339.
pub(super) fn moment(raw: &RawValue) -> Option<Timestamp> {
    parse_moment(&raw::id(raw)?)
}

type Read = (Sort, Option<String>, Update);

/// `None` for a message without an id, which nobody could refer to.
fn of_message(raw: &RawValue, sender: &str) -> Option<Read> {
    let [id, text, attachments, is_echo, is_deleted] =
        members(raw.get(), ["mid", "text", "attachments", "is_echo", "is_deleted"]).ok()?;
    let message_id = self::text(id).filter(|mid| check_id(mid).is_ok())?;
    let is_true = |raw: Option<&RawValue>| raw.is_some_and(|raw| raw.get() == "true");
    let is_echo = is_true(is_echo);
    let kind = if is_echo { Sort::Echo } else { Sort::Message };
    if is_true(is_deleted) {
        // It has the id of the message that it takes back, so that id does not tell it from that.
        return Some((kind, None, Update::Deleted { message_id }));
    }
    let attachments = self::attachments(attachments);
    let update = Update::Message {
        message_id: message_id.clone(),
        sender_id: sender.to_owned(),
        text: self::text(text),
        message_type: MessageType::of(attachments.first().map(|attachment| &*attachment.r#type)),
        attachments,
        is_echo,
    };
    Some((kind, Some(message_id), update))
}

fn of_reaction(raw: &RawValue, sender: &str) -> Option<Read> {
    let [_, action, reaction, emoji] = members(raw.get(), ["mid", "action", "reaction", "emoji"]).ok()?;
    let is_taken_back = text(action).as_deref() == Some("unreact");
    let given = (!is_taken_back).then(|| Emotion { reaction: word(reaction), emoji: word(emoji) });
    let sender_id = sender.to_owned();
    let update = mid(raw).map(|message_id| Update::Reaction { message_id, sender_id, given });
    Some((Sort::Reaction, None, update.unwrap_or(Update::Other)))
}

fn of_read(raw: &RawValue) -> Update {
    let [watermark] = members(raw.get(), ["watermark"]).unwrap_or_default();
    Update::Read { message_id: mid(raw), until: watermark.and_then(moment) }
}

fn attachments(raw: Option<&RawValue>) -> Vec<Attachment> {
    let items = present(raw).and_then(|raw| raw::items(raw.get(), ATTACHMENTS_MAX).ok());
    items.map(|items| items.first.into_iter().filter_map(attachment).collect()).unwrap_or_default()
}

fn attachment(raw: &RawValue) -> Option<Attachment> {
    let [kind, payload] = members(raw.get(), ["type", "payload"]).ok()?;
    let [url] = payload.and_then(|payload| members(payload.get(), ["url"]).ok()).unwrap_or_default();
    let url = text(url).filter(|url| url.len() <= URL_MAX_BYTES);
    Some(Attachment { r#type: word(kind)?, url: url.map(Into::into) })
}

fn mid(raw: &RawValue) -> Option<String> {
    let [mid] = members(raw.get(), ["mid"]).ok()?;
    text(mid).filter(|mid| check_id(mid).is_ok())
}

fn participant(raw: Option<&RawValue>) -> Option<String> {
    let [id] = members(raw?.get(), ["id"]).ok()?;
    raw::id(id?).filter(|id| fits(id))
}

fn fits(participant: &str) -> bool {
    participant.len() <= PARTICIPANT_MAX_BYTES
}

fn word(raw: Option<&RawValue>) -> Option<std::sync::Arc<str>> {
    text(raw).filter(|word| word.len() <= WORD_MAX_BYTES).map(Into::into)
}

fn text(raw: Option<&RawValue>) -> Option<String> {
    raw.and_then(|raw| String::deserialize(raw).ok())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn item(json: &serde_json::Value, account: Option<&str>) -> Option<Item> {
        read(&serde_json::value::to_raw_value(json).expect("JSON"), account)
    }

    #[test]
    fn the_counterpart_is_whoever_is_not_the_account() {
        let sides = |item: Item| format!("{}/{}", item.between.counterpart.expect("someone"), item.between.business);
        let from = |sender: &str, recipient: &str, message: serde_json::Value| json!({"sender": {"id": sender}, "recipient": {"id": recipient}, "message": message});
        let received = from("1", "9", json!({"mid": "m"}));
        let echo = from("9", "1", json!({"mid": "m", "is_echo": true}));
        let own = json!({"sender": {"id": "9"}, "recipient": {"id": "1"}, "reaction": {"mid": "m", "action": "react"}});
        for (json, account) in
            [(&received, Some("9")), (&received, None), (&echo, Some("9")), (&echo, None), (&own, Some("9"))]
        {
            assert_eq!(sides(item(json, account).expect("an item")), "1/9", "{json}");
        }
    }

    #[test]
    fn the_type_is_that_of_the_first_attachment() {
        let kind = |types: &[&str]| {
            let attachments: Vec<_> = types.iter().map(|kind| json!({"type": kind, "payload": {"url": "u"}})).collect();
            let message = json!({"mid": "m", "text": "t", "attachments": attachments});
            let json = json!({"sender": {"id": 1}, "recipient": {"id": 9}, "message": message});
            let Some(Item { update: Update::Message { message_type, .. }, .. }) = item(&json, None) else { panic!() };
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
    fn participants_that_would_not_fit_into_an_id_are_nobody() {
        let long = "1".repeat(PARTICIPANT_MAX_BYTES + 1);
        for id in [json!(long), json!(""), json!("a\nb"), json!(1.5), json!(null)] {
            let json = json!({"sender": {"id": id}, "recipient": {"id": "9"}, "message": {"mid": "m"}});
            assert!(item(&json, None).is_none(), "{json}");
        }
        assert_eq!(&*Item::unknown(&long).between.business, "0");
    }
}
