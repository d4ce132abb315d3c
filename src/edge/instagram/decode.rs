//! Decoder of a verified call into commands, one for each update.
//!
//! ```text
//! {"object": "instagram",
//!  "entry": [{"id", "time", "messaging": [item, …], "changes": [{"field", "value"}, …]}, …]}
//! ```
//!
//! Nothing in an entry is lost: an entry with other content, or one that cannot be parsed, is kept
//! as one update as a whole.

use std::borrow::Cow;
use std::collections::BTreeMap;

use bytes::Bytes;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};
use tracing::Span;

use super::super::body::body_text;
use super::super::error::ApiError;
use super::super::fields::{FieldErrors, non_null};
use super::super::raw_json::{self, RawItems};
use super::super::signature::VerifiedBody;
use super::item::{self, MessagingItem};
use crate::entity::conversation::{self, SOURCE};
use crate::entity::{Command, EntityAction};
use crate::event::{PayloadShape, Timestamp, find_members, replace_half_surrogates};

/// Most updates of one call, and most entries.
const UPDATES_MAX: usize = 1_000;
/// Account in a conversation's id if the account is not known.
const UNKNOWN_ACCOUNT: &str = "0";

/// Decodes `body` into commands that are logged under `span`, in the order of the call.
///
/// # Errors
/// [`ApiError::InvalidJson`], or [`ApiError::InvalidFields`] for a call that is not Instagram's or
/// holds more than 1,000 updates or entries.
pub fn decode_instagram_call(body: &VerifiedBody, span: &Span) -> Result<Vec<Command>, ApiError> {
    let [object, entry] = find_members(body_text(body.bytes())?, ["object", "entry"])
        .map_err(|error| ApiError::from_json_error(&error))?;
    let mut faults = FieldErrors::default();
    faults.read_one_of("object", object, &[SOURCE.as_str()]);
    let entries = optional_items(entry).unwrap_or_else(|| {
        faults.add("entry", "must be a list");
        NO_ITEMS
    });
    if non_null(entry).is_none() {
        faults.add("entry", "is required");
    }
    if entries.count > UPDATES_MAX {
        faults.add(
            "entry",
            format!(
                "must hold at most {UPDATES_MAX} entries, not {}",
                entries.count
            ),
        );
    }

    let (mut updates, mut count) = (Vec::new(), 0);
    for entry in entries.first {
        count += collect_entry_updates(entry, &mut updates);
    }
    if count > UPDATES_MAX {
        faults.add(
            "entry",
            format!("must hold at most {UPDATES_MAX} updates, not {count}"),
        );
    }
    faults.finish(())?;

    updates
        .iter()
        .map(|update| update_command(body.bytes(), update, span))
        .collect()
}

/// One update, with the account and time of its entry.
struct InstagramUpdate<'a> {
    /// JSON text of the whole update, as it is stored.
    payload: &'a RawValue,
    /// Id of the entry's account, if it has one.
    account: Option<String>,
    /// Time at which Instagram made the entry.
    time: Option<Timestamp>,
    /// Decoded item, if the update belongs to a conversation between two participants.
    item: Option<MessagingItem>,
}

/// Adds the updates of `entry`, up to the limit of a call, and returns how many it has.
fn collect_entry_updates<'a>(entry: &'a RawValue, updates: &mut Vec<InstagramUpdate<'a>>) -> usize {
    let members = find_members(entry.get(), ["id", "time", "messaging", "changes"]);
    let is_object = members.is_ok();
    let [id, time, messaging, changes] = members.unwrap_or_default();
    let (account, time) = (
        id.and_then(raw_json::parse_id),
        time.and_then(item::parse_item_time),
    );
    let (messaging, changes) = (optional_items(messaging), optional_items(changes));
    let is_malformed = !is_object || messaging.is_none() || changes.is_none();
    let (messaging, changes) = (messaging.unwrap_or(NO_ITEMS), changes.unwrap_or(NO_ITEMS));
    let count = messaging.count + changes.count;
    let is_whole = is_malformed || count == 0 && has_other_members(entry);

    let messaging = messaging
        .first
        .into_iter()
        .map(|item| (item, parse_readable_item(item, account.as_deref())));
    let changes = changes.first.into_iter().map(|change| {
        // The value of a change may be a messaging item.
        let [value] = find_members(change.get(), ["value"]).unwrap_or_default();
        let parse = |value| Some((value, parse_readable_item(value, account.as_deref())?));
        let parsed = value.and_then(parse);
        parsed.map_or((change, None), |(value, item)| (value, Some(item)))
    });

    let room = UPDATES_MAX.saturating_sub(updates.len());
    let all = is_whole
        .then_some((entry, None))
        .into_iter()
        .chain(messaging)
        .chain(changes)
        .take(room);
    updates.extend(all.map(|(payload, item)| InstagramUpdate {
        payload,
        account: account.clone(),
        time,
        item,
    }));
    count + usize::from(is_whole)
}

/// Parses an item of a conversation in which half surrogate pairs are replaced; its payload keeps
/// them.
fn parse_readable_item(item: &RawValue, account: Option<&str>) -> Option<MessagingItem> {
    match replace_half_surrogates(item.get()) {
        Cow::Borrowed(_) => item::parse_item(item, account),
        Cow::Owned(json) => item::parse_item(serde_json::from_str(&json).ok()?, account),
    }
}

/// Returns true if `entry`, an object, has members besides those of every entry.
fn has_other_members(entry: &RawValue) -> bool {
    let entry = replace_half_surrogates(entry.get());
    let all: BTreeMap<Cow<'_, str>, &RawValue> = serde_json::from_str(&entry).unwrap_or_default();
    let is_standard = |name: &str| ["id", "time", "messaging", "changes"].contains(&name);
    all.iter()
        .any(|(name, value)| !is_standard(name) && value.get() != "null")
}

/// Value of an absent list.
const NO_ITEMS: RawItems<'static> = RawItems {
    first: Vec::new(),
    count: 0,
};

/// Returns the items of an optional list; `None` if the value is no list.
fn optional_items(raw: Option<&RawValue>) -> Option<RawItems<'_>> {
    let Some(raw) = non_null(raw) else {
        return Some(NO_ITEMS);
    };
    raw_json::first_items(raw.get(), UPDATES_MAX).ok()
}

fn update_command(
    body: &Bytes,
    update: &InstagramUpdate<'_>,
    span: &Span,
) -> Result<Command, ApiError> {
    let unknown = || MessagingItem::unknown(update.account.as_deref().unwrap_or(UNKNOWN_ACCOUNT));
    let unknown_item;
    let item = match &update.item {
        Some(item) => item,
        None => {
            unknown_item = unknown();
            &unknown_item
        }
    };

    // The length of both ids was checked when the item was parsed.
    let entity = item.between.entity_key().map_err(|_| ApiError::Internal)?;
    let idempotency_key = match &item.mid {
        Some(mid) => format!("{}:{mid}", item.kind.key_prefix()),
        None => format!(
            "{}#{}",
            item.kind.key_prefix(),
            update_digest(entity.id(), update.payload)
        ),
    };

    let action = conversation::ConversationAction {
        between: item.between.clone(),
        update: item.update.clone(),
    };
    let payload = body.slice_ref(update.payload.get().as_bytes());
    Ok(Command {
        at: item.at.or(update.time),
        idempotency_key: Some(idempotency_key),
        shape: PayloadShape::Bare,
        span: span.clone(),
        ..Command::new(
            SOURCE,
            entity,
            EntityAction::Conversation(action),
            item.kind.event_type(),
            payload,
        )
    })
}

/// Identifies an update without an id of its own: the SHA-256 of its conversation and its JSON
/// text, in hex.
fn update_digest(conversation: &str, payload: &RawValue) -> String {
    let hash = Sha256::new()
        .chain_update(conversation)
        .chain_update([0])
        .chain_update(payload.get());
    hex::encode(hash.finalize())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn decoded(body: impl Into<String>) -> Result<Vec<Command>, ApiError> {
        decode_instagram_call(
            &VerifiedBody::unsigned(Bytes::from(body.into())),
            &Span::none(),
        )
    }

    fn decode_items(items: Value) -> Vec<Command> {
        let entry = json!({"id": "9", "time": 1_762_597_800_000_u64, "messaging": items});
        let body = json!({"object": "instagram", "entry": [entry]});
        decoded(body.to_string()).expect("valid")
    }

    fn item(member: &str, value: Value) -> Value {
        json!({
            "sender": {"id": "1"}, "recipient": {"id": "9"},
            "timestamp": 1_762_597_800_123_u64, member: value,
        })
    }

    fn named(command: &Command) -> (&str, &str) {
        (command.event_type.as_ref(), command.entity.id())
    }

    #[test]
    fn each_kind_has_its_name_and_its_key() {
        let echo = json!({
            "sender": {"id": "9"}, "recipient": {"id": "1"},
            "message": {"mid": "m", "is_echo": true},
        });
        let commands = decode_items(json!([
            item("message", json!({"mid": "m", "text": "hi"})),
            echo,
            item(
                "reaction",
                json!({"mid": "m", "action": "react", "emoji": "❤"})
            ),
            item("postback", json!({"mid": "m", "title": "Go"})),
            item("read", json!({"mid": "m"})),
            item("referral", json!({"ref": "x"})),
            item("message_edit", json!({"mid": "m", "text": "ho"})),
            item("message", json!({"mid": "m", "is_deleted": true})),
            item("message", json!({"text": "without an id"})),
        ]));
        let expected = [
            ("message.received", "message:m"),
            ("message.echo", "echo:m"),
            ("message.reaction", "reaction#"),
            ("message.postback", "postback:m"),
            ("message.read", "read#"),
            ("message.referral", "referral#"),
            ("message.unknown", "unknown#"),
            ("message.received", "message#"),
            ("message.unknown", "unknown#"),
        ];
        assert_eq!(commands.len(), expected.len());
        for (command, (name, key)) in commands.iter().zip(expected) {
            assert_eq!(named(command), (name, "conv_1_9"));
            let found = command.idempotency_key.as_deref().expect("a key");
            assert!(
                found.starts_with(key) && (found == key) == key.contains(':'),
                "{name}: {found}"
            );
        }
    }

    #[test]
    fn an_update_without_participants_is_unknown_and_never_refused() {
        let body = json!({"object": "instagram", "entry": [
            {"id": 9, "messaging": [7, {"sender": {"id": "1"}}, null], "changes": [
                {"field": "comments", "value": {"id": "c"}},
                {"field": "messages", "value": item("message", json!({"mid": "m"}))},
                "odd",
            ]},
            {"messaging": [{}]},
            "odd",
        ]});
        let commands = decoded(body.to_string()).expect("valid");
        let names: Vec<_> = commands.iter().map(named).collect();
        let unknown = ("message.unknown", "conv_0_9");
        let received = ("message.received", "conv_1_9");
        let nobody = ("message.unknown", "conv_0_0");
        assert_eq!(
            names,
            [
                unknown, unknown, unknown, unknown, received, unknown, nobody, nobody
            ]
        );
        assert_eq!(commands[7].payload, r#""odd""#);
        assert_eq!(
            commands[3].payload, r#"{"field":"comments","value":{"id":"c"}}"#,
            "the whole change"
        );
        assert!(
            !commands[4].payload.starts_with(br#"{"field":"#),
            "the item alone"
        );
    }

    /// Entries of another shape once made the call fail for ever, or were dropped with a 200.
    #[test]
    fn an_entry_that_holds_something_else_is_kept_as_a_whole() {
        let decode_entry = |entry: &str| {
            let commands = decoded(format!(r#"{{"object": "instagram", "entry": [{entry}]}}"#))
                .expect("valid");
            commands
                .iter()
                .map(|command| (command.entity.id().to_owned(), command.payload.clone()))
                .collect::<Vec<_>>()
        };
        for (entry, id) in [
            (
                r#"{"id": "9", "time": 1, "standby": [{"x": 1}]}"#,
                "conv_0_9",
            ),
            (
                r#"{"id": "9", "messaging": [], "changes": null, "field": "comments"}"#,
                "conv_0_9",
            ),
            (r#"{"id": "9", "messaging": {"0": 1}}"#, "conv_0_9"),
            (r#"{"id": "9", "changes": "x"}"#, "conv_0_9"),
            (r#"{"id": "9", "\ud800": 1}"#, "conv_0_9"),
            ("7", "conv_0_0"),
        ] {
            assert_eq!(
                decode_entry(entry),
                [(id.to_owned(), Bytes::from(entry.to_owned()))],
                "{entry}"
            );
        }
        for entry in [
            r#"{"id": "9", "time": 1}"#,
            r#"{"id": "9", "messaging": [], "standby": null}"#,
            "{}",
        ] {
            assert!(decode_entry(entry).is_empty(), "{entry} says nothing");
        }
        let both =
            decode_entry(r#"{"id": "9", "messaging": 7, "changes": [{"field": "comments"}]}"#);
        assert_eq!(both.len(), 2);
        assert_eq!(both[1].1, r#"{"field": "comments"}"#);
    }

    /// Entries beyond the 1,000th were once dropped with a 200.
    #[test]
    fn a_call_of_too_many_entries_is_refused() {
        let body = |count: usize, entry: Value| {
            json!({"object": "instagram", "entry": vec![entry; count]}).to_string()
        };
        let full = || json!({"id": "9", "messaging": [{}]});
        let error = |count, entry| {
            decoded(body(count, entry))
                .expect_err("too many")
                .to_string()
        };
        assert_eq!(
            error(1_001, full()),
            "entry must hold at most 1000 entries, not 1001"
        );
        assert_eq!(
            error(1_001, json!({"id": "9"})),
            "entry must hold at most 1000 entries, not 1001"
        );
        assert_eq!(
            error(501, json!({"messaging": [1, 2]})),
            "entry must hold at most 1000 updates, not 1002"
        );
        assert_eq!(
            decoded(body(1_000, full())).expect("just fits").len(),
            1_000
        );
    }

    #[test]
    fn a_payload_is_the_item_to_the_last_byte() {
        let text = r#"{"sender":{"id":"1"}, "recipient":{"id":"9"},"message":{"mid":"m","mid":"\u006d2","text":"\u00e9\ud83d\ude00 ж","x":1.50}}"#;
        let body =
            format!(r#"{{"object":"instagram","entry":[{{"id":"9","messaging":[ {text} ]}}]}}"#);
        let commands = decoded(body).expect("valid");
        assert_eq!(commands[0].payload, text);
        assert_eq!(
            commands[0].idempotency_key.as_deref(),
            Some("message:m2"),
            "of two members the last one counts"
        );
    }

    #[test]
    fn what_is_not_instagrams_is_refused() {
        for (body, code) in [
            ("{", "invalid_json"),
            ("[]", "invalid_json"),
            (r#"{"object": "page", "entry": []}"#, "validation_failed"),
            (r#"{"object": "instagram"}"#, "validation_failed"),
            (
                r#"{"object": "instagram", "entry": {}}"#,
                "validation_failed",
            ),
        ] {
            assert_eq!(decoded(body).expect_err("wrong").code(), code, "{body}");
        }
        assert!(
            decoded(r#"{"object": "instagram", "entry": [{"id": "9"}]}"#)
                .expect("valid")
                .is_empty()
        );
        let many = vec![json!({}); UPDATES_MAX + 1];
        let body = |items: &[Value]| {
            json!({"object": "instagram", "entry": [{"id": "9", "messaging": items}]}).to_string()
        };
        let error = decoded(body(&many)).expect_err("too many").to_string();
        assert_eq!(error, "entry must hold at most 1000 updates, not 1001");
        assert_eq!(
            decoded(body(&many[1..])).expect("just fits").len(),
            UPDATES_MAX
        );
    }

    #[test]
    fn times_are_milliseconds_or_seconds_and_the_calls_own_where_there_is_none() {
        let at = |timestamp: Value| {
            let mut item = item("read", json!({}));
            item["timestamp"] = timestamp;
            decode_items(json!([item]))[0].at.map(|at| at.to_string())
        };
        assert_eq!(
            at(json!(1_762_597_800_123_u64)).as_deref(),
            Some("2025-11-08T10:30:00.123Z")
        );
        for seconds in [json!(1_762_597_801), json!("1762597801")] {
            assert_eq!(at(seconds).as_deref(), Some("2025-11-08T10:30:01.000Z"));
        }
        for none in [
            Value::Null,
            json!(-5),
            json!("soon"),
            json!(u64::MAX),
            json!({}),
        ] {
            assert_eq!(
                at(none.clone()).as_deref(),
                Some("2025-11-08T10:30:00.000Z"),
                "{none}"
            );
        }
    }
}
