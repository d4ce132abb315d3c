//! Properties of every sequence of updates of a conversation, whatever their times; and some
//! sequences in full.

use std::collections::HashSet;
use std::time::Duration;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{
    AutomaticReply, ConversationAction, ConversationParties, ConversationUpdate, MessageType,
    ReactionLabel, summary,
};
use crate::entity::decision::{EntityDecision, StateLimits};
use crate::entity::state::tests::decide_within;
use crate::entity::state::{self, replay_changes};
use crate::event::{Kind, Timestamp};

const LIMITS: StateLimits = StateLimits { items_max: 3 };

fn message(id: &str, text: &str) -> ConversationUpdate {
    ConversationUpdate::Message {
        message_id: id.into(),
        sender_id: "1".into(),
        text: Some(text.into()),
        message_type: MessageType::Text,
        attachments: Vec::new(),
        is_echo: false,
    }
}

fn deleted(id: &str) -> ConversationUpdate {
    ConversationUpdate::Deleted {
        message_id: id.into(),
    }
}

fn reaction(id: &str, reaction: Option<&str>) -> ConversationUpdate {
    let reaction = reaction.map(|reaction| ReactionLabel {
        reaction: Some(reaction.into()),
        emoji: None,
    });
    ConversationUpdate::Reaction {
        message_id: id.into(),
        sender_id: "1".into(),
        reaction,
    }
}

fn read(until: Option<i64>) -> ConversationUpdate {
    ConversationUpdate::Read {
        message_id: None,
        until: until.map(Timestamp::from_micros),
    }
}

fn echo(id: &str) -> ConversationUpdate {
    let ConversationUpdate::Message {
        message_id,
        sender_id,
        text,
        message_type,
        attachments,
        ..
    } = message(id, "")
    else {
        panic!("a message")
    };
    ConversationUpdate::Message {
        message_id,
        sender_id,
        text,
        message_type,
        attachments,
        is_echo: true,
    }
}

fn reply() -> ConversationUpdate {
    ConversationUpdate::Reply { automatic: None }
}

/// Automatic reply to the message `id`, with a cool-down in microseconds.
fn answer(id: &str, cooldown: u64) -> ConversationUpdate {
    let automatic = AutomaticReply {
        message_id: id.into(),
        cooldown: Duration::from_micros(cooldown),
    };
    ConversationUpdate::Reply {
        automatic: Some(automatic),
    }
}

/// Returns the live state after all `updates` that were not rejected, and the stored change of
/// each.
fn live(
    updates: &[(i64, ConversationUpdate)],
    limits: StateLimits,
) -> (state::EntityState, Vec<Vec<u8>>) {
    let (conversation, stored, refused) = live_with_rejections(updates, limits);
    assert!(
        refused
            .iter()
            .all(|code| ["echo", "answered", "deleted", "cooldown"].contains(code)),
        "{refused:?}"
    );
    (conversation, stored)
}

/// The same with the code of each rejection.
fn live_with_rejections(
    updates: &[(i64, ConversationUpdate)],
    limits: StateLimits,
) -> (state::EntityState, Vec<Vec<u8>>, Vec<&'static str>) {
    let mut conversation = state::EntityState::new(Kind::Conversation);
    let (mut stored, mut refused) = (Vec::new(), Vec::new());
    for (at, update) in updates {
        let between = ConversationParties {
            business: "9".into(),
            counterpart: Some("1".into()),
        };
        let action = crate::entity::EntityAction::Conversation(ConversationAction {
            between,
            update: update.clone(),
        });
        let at = Timestamp::from_micros(*at);
        match decide_within(limits, &conversation, at, &action) {
            Ok(EntityDecision::Accept(accepted)) => {
                conversation.apply(&accepted.change, limits);
                stored.push(accepted.change.encode());
            }
            Err(rejection)
                if matches!(update, ConversationUpdate::Reply { automatic: Some(_) }) =>
            {
                refused.push(rejection.code)
            }
            other => panic!("{update:?}: {other:?}"),
        }
    }
    (conversation, stored, refused)
}

fn refused(updates: &[(i64, ConversationUpdate)]) -> Vec<&'static str> {
    live_with_rejections(updates, LIMITS).2
}

fn shown(updates: &[(i64, ConversationUpdate)]) -> Value {
    live(updates, LIMITS).0.to_json()
}

fn texts(updates: &[(i64, ConversationUpdate)]) -> Vec<(String, bool)> {
    let shown = shown(updates);
    let messages = shown["messages"].as_array().expect("a list");
    let text = |message: &Value| message["text"].as_str().expect("text").to_owned();
    messages
        .iter()
        .map(|message| (text(message), message["is_deleted"] == true))
        .collect()
}

#[test]
fn the_newest_messages_stand_in_the_order_of_their_times() {
    let kept = texts(&[
        (3, message("c", "c")),
        (1, message("a", "a")),
        (4, message("d", "d")),
        (2, message("b", "b")),
    ]);
    assert_eq!(
        kept,
        [
            ("b".into(), false),
            ("c".into(), false),
            ("d".into(), false)
        ]
    );
    let same = texts(&[(1, message("a", "a")), (1, message("b", "b"))]);
    assert_eq!(
        same,
        [("a".into(), false), ("b".into(), false)],
        "of one time, as they came"
    );
}

#[test]
fn a_message_that_was_taken_back_stays_so_whichever_came_first() {
    let expected = [("a".to_owned(), true)];
    assert_eq!(
        texts(&[(1, message("a", "a")), (2, deleted("a"))]),
        expected
    );
    assert_eq!(
        texts(&[(2, deleted("a")), (1, message("a", "a"))]),
        expected
    );
    assert_eq!(
        texts(&[
            (1, message("a", "a")),
            (2, deleted("a")),
            (1, message("a", "a"))
        ]),
        expected
    );
    assert!(texts(&[(2, deleted("a"))]).is_empty());
}

#[test]
fn the_newest_word_of_a_reaction_and_of_a_reading_counts() {
    let reactions = |updates: &[(i64, ConversationUpdate)]| {
        shown(updates)["reactions"]
            .as_array()
            .expect("a list")
            .len()
    };
    assert_eq!(reactions(&[(1, reaction("a", Some("love")))]), 1);
    assert_eq!(
        reactions(&[(1, reaction("a", Some("love"))), (2, reaction("a", None))]),
        0
    );
    assert_eq!(
        reactions(&[(2, reaction("a", None)), (1, reaction("a", Some("love")))]),
        0,
        "the older one is late"
    );
    let replaced = shown(&[
        (1, reaction("a", Some("love"))),
        (2, reaction("a", Some("angry"))),
    ]);
    assert_eq!(replaced["reactions"][0]["reaction"], "angry");
    let at = |updates: &[(i64, ConversationUpdate)]| shown(updates)["read"]["timestamp"].clone();
    assert_eq!(
        at(&[(5_000, read(None)), (2_000, read(None))]),
        "1970-01-01T00:00:00.005Z"
    );
    assert_eq!(
        at(&[(5_000, read(Some(1_000)))]),
        "1970-01-01T00:00:00.001Z"
    );
}

#[test]
fn an_automatic_reply_rests_for_the_cool_down_and_others_do_not() {
    let story = |second: i64| {
        [
            (1, message("a", "")),
            (10, answer("a", 5)),
            (11, message("b", "")),
            (second, reply()),
            (second, answer("b", 5)),
        ]
    };
    assert_eq!(
        refused(&story(14)),
        ["cooldown"],
        "what someone asks for does not count"
    );
    assert!(refused(&story(15)).is_empty(), "it is over");
    let at_once = [
        (1, message("a", "")),
        (1, answer("a", 0)),
        (1, message("b", "")),
        (1, answer("b", 0)),
    ];
    assert!(
        refused(&at_once).is_empty(),
        "without a cool-down each message has its own"
    );
    let tried_again = [
        (1, message("a", "")),
        (2, answer("a", 5)),
        (3, answer("a", 5)),
        (6, answer("b", 5)),
    ];
    assert_eq!(
        refused(&tried_again),
        ["answered", "cooldown"],
        "what was refused begins no other cool-down"
    );
    assert!(refused(&[tried_again.to_vec(), vec![(7, answer("b", 5))]].concat()).len() == 2);
}

#[test]
fn no_message_has_two_automatic_replies_and_some_have_none() {
    let again = [
        (1, message("a", "")),
        (2, answer("a", 0)),
        (1, message("a", "")),
        (9, answer("a", 0)),
    ];
    assert_eq!(
        refused(&again),
        ["answered"],
        "Instagram sent it again, long after"
    );
    assert_eq!(refused(&[(1, echo("a")), (2, answer("a", 0))]), ["echo"]);
    assert_eq!(
        refused(&[
            (1, message("a", "")),
            (2, deleted("a")),
            (3, answer("a", 0))
        ]),
        ["deleted"]
    );
    assert!(
        refused(&[(2, answer("gone by", 0))]).is_empty(),
        "what is not kept any more is answered too"
    );
}

/// The state shows a reply only when its echo arrives.
#[test]
fn a_reply_alone_shows_nothing() {
    let updates = [(1, message("a", "a")), (2, reply()), (3, answer("a", 5))];
    assert_eq!(shown(&updates), shown(&updates[..1]));
    let summaries: Vec<_> = live(&updates, LIMITS)
        .1
        .iter()
        .map(|bytes| state::summarize_change(Kind::Conversation, bytes))
        .collect();
    assert_eq!(
        summaries,
        [
            "message a received",
            "reply to be sent",
            "automatic reply to message a"
        ]
    );
}

#[test]
fn a_state_shows_its_two_sides() {
    let state = shown(&[(1, ConversationUpdate::Other)]);
    let expected = json!({
        "account_id": null, "instagram_account_id": "9", "participants": ["1", "9"],
        "messages": [], "reactions": [],
        "read": null,
    });
    assert_eq!(state, expected);
}

/// Stores outlive versions: bytes written today must stay readable.
#[test]
fn the_bytes_of_a_change_never_change() {
    let (_, stored) = live(&[(7, message("a", "hi")), (8, reaction("a", None))], LIMITS);
    let texts: Vec<_> = stored
        .iter()
        .map(|bytes| std::str::from_utf8(bytes).expect("JSON"))
        .collect();
    let first = r#"{"at":7,"between":{"business":"9","counterpart":"1"},"keep":3,"effect":{"message":{"message_id":"a","sender_id":"1","text":"hi","message_type":"text"}}}"#;
    let second = r#"{"at":8,"keep":3,"effect":{"reaction":{"message_id":"a","sender_id":"1","given":null}}}"#;
    assert_eq!(texts, [first, second]);
    let (conversation, stored) = live(
        &[(7, message("a", "hi")), (8, reply()), (9, answer("a", 0))],
        LIMITS,
    );
    let texts: Vec<_> = stored
        .iter()
        .map(|bytes| std::str::from_utf8(bytes).expect("JSON"))
        .collect();
    let asked = [
        r#"{"at":8,"keep":3,"effect":{"reply":{}}}"#,
        r#"{"at":9,"keep":3,"effect":{"reply":{"answers":"a"}}}"#,
    ];
    assert_eq!(texts[1..], asked);
    let snapshot = String::from_utf8(conversation.to_snapshot())
        .expect("a format byte that is a character, and JSON");
    assert!(
        snapshot.contains(r#""answered_at":9"#) && snapshot.contains(r#""is_answered":true"#),
        "{snapshot}"
    );
}

/// Few different ids and times, so that updates collide.
fn any_update() -> impl Strategy<Value = ConversationUpdate> {
    let id = || (0..6_u8).prop_map(|n| format!("m-{n}"));
    prop_oneof![
        4 => (id(), "[a-c]").prop_map(|(id, text)| message(&id, &text)),
        2 => id().prop_map(|id| deleted(&id)),
        2 => (id(), prop::option::of("[a-c]"))
            .prop_map(|(id, given)| reaction(&id, given.as_deref())),
        1 => prop::option::of(0..9_i64).prop_map(read),
        1 => Just(ConversationUpdate::Other),
        1 => Just(reply()),
        3 => (id(), 0..4_u64).prop_map(|(id, cooldown)| answer(&id, cooldown)),
    ]
}

fn any_updates() -> impl Strategy<Value = Vec<(i64, ConversationUpdate)>> {
    let at = prop_oneof![8 => 0..6_i64, 1 => any::<i64>()];
    prop::collection::vec((at, any_update()), 0..60)
}

fn any_limits() -> impl Strategy<Value = StateLimits> {
    (0..5_usize).prop_map(|items_max| StateLimits { items_max })
}

proptest! {
    #[test]
    fn a_snapshot_at_any_point_and_what_came_later_make_the_live_state(
        updates in any_updates(),
        cut in any::<prop::sample::Index>(),
        limits in any_limits(),
    ) {
        let (conversation, stored) = live(&updates, limits);
        let (before, after) = stored.split_at(cut.index(stored.len() + 1));
        let early = replay_changes(
            Kind::Conversation,
            None,
            before.iter().map(Vec::as_slice),
            limits,
        )
        .expect("readable");
        let later = after.iter().map(Vec::as_slice);
        let restored = replay_changes(
            Kind::Conversation,
            Some(&early.to_snapshot()),
            later,
            limits,
        )
        .expect("readable");
        prop_assert_eq!(&restored, &conversation);
        prop_assert_eq!(restored.to_json(), conversation.to_json());
    }

    #[test]
    fn no_state_outgrows_its_limits_and_no_message_is_there_twice(
        updates in any_updates(),
        limits in any_limits(),
    ) {
        let (state::EntityState::Conversation(conversation), _) = live(&updates, limits) else {
            panic!("a conversation")
        };
        for length in [
            conversation.messages.len(),
            conversation.gone.len(),
            conversation.reactions.len(),
        ] {
            prop_assert!(length <= limits.items_max);
        }
        prop_assert!(
            conversation
                .messages
                .iter()
                .is_sorted_by_key(|message| message.at)
        );
        let mut ids: Vec<_> = conversation
            .messages
            .iter()
            .map(|message| &message.content.message_id)
            .collect();
        ids.sort();
        prop_assert!(ids.windows(2).all(|pair| pair[0] != pair[1]));
        prop_assert!(
            conversation
                .gone
                .iter()
                .all(|(gone, _)| conversation.find_message(gone).is_none())
        );
    }

    #[test]
    fn updates_of_different_times_make_one_state_in_any_order(
        updates in prop::collection::vec(any_update(), 0..6),
        seed in any::<u64>(),
    ) {
        let limits = StateLimits { items_max: 100 };
        let mut updates: Vec<_> = (1..).zip(updates).collect();
        let in_order = live(&updates, limits).0.to_json();
        updates.sort_by_key(|(at, _)| (*at as u64).wrapping_mul(seed | 1));
        let shuffled = live(&updates, limits).0.to_json();
        for member in ["messages", "read"] {
            prop_assert_eq!(&shuffled[member], &in_order[member], "{}", member);
        }
    }

    /// Replies carry the node's times, which never go back.
    #[test]
    fn automatic_replies_keep_their_distance_and_meet_no_message_twice(
        updates in prop::collection::vec(any_update(), 0..60),
        cooldown in 0..9_u64,
    ) {
        let limits = StateLimits { items_max: 100 };
        let updates = (0..).zip(updates).map(|(at, update)| match update {
            ConversationUpdate::Reply {
                automatic: Some(AutomaticReply { message_id, .. }),
            } => (at, answer(&message_id, cooldown)),
            other => (at, other),
        });
        let stored = live(&updates.collect::<Vec<_>>(), limits).1;
        let changes = stored
            .iter()
            .map(|bytes| serde_json::from_slice::<Value>(bytes).expect("JSON"));
        let (mut known, mut answered, mut last) = (HashSet::new(), HashSet::new(), None);
        for change in changes {
            let effect = &change["effect"];
            known.extend(effect["message"]["message_id"].as_str().map(str::to_owned));
            let Some(id) = effect["reply"]["answers"].as_str() else {
                continue;
            };
            let at = change["at"].as_u64().expect("a time");
            prop_assert!(last.is_none_or(|last| at - last >= cooldown));
            // A reply before its message is not remembered.
            prop_assert!(
                !known.contains(id) || answered.insert(id.to_owned()),
                "{} twice",
                id
            );
            last = Some(at);
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
        let _ = replay_changes(Kind::Conversation, Some(&bytes), std::iter::empty(), LIMITS);
        let _ = replay_changes(
            Kind::Conversation,
            None,
            std::iter::once(bytes.as_slice()),
            LIMITS,
        );
        let _ = state::summarize_change(Kind::Conversation, &bytes);
    }
}

#[test]
fn a_summary_never_says_what_was_written() {
    let secret = "my card is 4111";
    let updates = [
        (2, message("a", secret)),
        (1, message("a", secret)),
        (3, reaction("a", Some(secret))),
    ];
    for bytes in live(&updates, LIMITS).1 {
        let crate::entity::EntityChange::Conversation(change) =
            crate::entity::EntityChange::decode(Kind::Conversation, &bytes).expect("readable")
        else {
            panic!("a conversation's")
        };
        assert!(!summary(&change).contains("4111"), "{}", summary(&change));
    }
}
