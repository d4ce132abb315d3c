//! Properties of every sequence of ticket events, whatever their times.

use std::slice;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{STATUSES, TicketAction, summary};
use crate::entity::decision::{EntityDecision, StateLimits};
use crate::entity::state::tests::decide_within;
use crate::entity::state::{self, replay_changes};
use crate::event::{Kind, Timestamp};

/// Few different ids, texts and times, so that events collide.
fn any_id() -> impl Strategy<Value = String> {
    (0..8_u8).prop_map(|n| format!("id-{n}"))
}

fn any_text() -> impl Strategy<Value = String> {
    prop_oneof![4 => "[a-d]", 1 => any::<String>()]
}

fn any_at() -> impl Strategy<Value = Timestamp> {
    prop_oneof![8 => 0..6_i64, 1 => any::<i64>(), 1 => Just(i64::MIN), 1 => Just(i64::MAX)]
        .prop_map(Timestamp::from_micros)
}

fn any_author() -> impl Strategy<Value = Option<Value>> {
    prop_oneof![
        Just(None),
        Just(Some(Value::Null)),
        any::<String>().prop_map(|name| Some(json!({ "name": name }))),
        any::<f64>().prop_map(|weight| Some(json!([weight]))),
    ]
}

fn any_tags() -> impl Strategy<Value = Vec<String>> {
    prop::collection::vec(any_text(), 0..5)
}

fn any_action() -> impl Strategy<Value = TicketAction> {
    let text = || any_text();
    prop_oneof![
        3 => (any_id(), text(), any_author(), any::<bool>())
            .prop_map(|(message_id, text, author, is_internal)| {
                TicketAction::MessageCreated { message_id, text, author, is_internal }
            }),
        2 => (any_id(), text())
            .prop_map(|(message_id, text)| TicketAction::MessageUpdated { message_id, text }),
        1 => any_id()
            .prop_map(|message_id| TicketAction::MessageDeleted { message_id, reason: None }),
        1 => prop::sample::select(&STATUSES[..])
            .prop_map(|status| TicketAction::StatusChanged { status: status.into(), reason: None }),
        1 => (any_id(), prop::option::of(text()))
            .prop_map(|(agent_id, agent_name)| {
                TicketAction::AgentAssigned { agent_id, agent_name }
            }),
        1 => Just(TicketAction::AgentUnassigned { reason: None }),
        1 => text().prop_map(|priority| TicketAction::PriorityChanged { priority }),
        1 => any_tags().prop_map(|tags| TicketAction::TagsReplaced { tags }),
        2 => (any_tags(), any_tags())
            .prop_map(|(added, removed)| TicketAction::TagsEdited { added, removed }),
        1 => text().prop_map(|category| TicketAction::CategoryChanged { category }),
        3 => (any_id(), text(), prop::option::of(text()), any::<Option<u64>>())
            .prop_map(|(attachment_id, file_name, url, size)| {
                TicketAction::AttachmentAdded { attachment_id, file_name, url, size }
            }),
        3 => (any_id(), prop::option::of(any_at()))
            .prop_map(|(policy, due_at)| TicketAction::SlaBreached { policy, due_at }),
        1 => (any::<u8>(), prop::option::of(text()))
            .prop_map(|(score, comment)| TicketAction::RatingSubmitted { score, comment }),
    ]
}

fn any_events() -> impl Strategy<Value = Vec<(Timestamp, TicketAction)>> {
    prop::collection::vec((any_at(), any_action()), 0..80)
}

fn any_limits() -> impl Strategy<Value = StateLimits> {
    (0..5_usize).prop_map(|items_max| StateLimits { items_max })
}

/// Two events for one field, the second of which replaces the first completely, and the events that
/// must come before.
fn any_rivals() -> impl Strategy<Value = (Vec<TicketAction>, TicketAction, TicketAction)> {
    fn rivals<S: Strategy<Value = TicketAction>>(
        one: fn() -> S,
    ) -> impl Strategy<Value = (Vec<TicketAction>, TicketAction, TicketAction)> {
        (one(), one()).prop_map(|(older, newer)| (Vec::new(), older, newer))
    }
    fn created(text: String) -> TicketAction {
        TicketAction::MessageCreated {
            message_id: "m".into(),
            text,
            author: None,
            is_internal: false,
        }
    }
    fn text_of_m() -> impl Strategy<Value = TicketAction> {
        prop_oneof![
            any_text().prop_map(created),
            any_text().prop_map(|text| TicketAction::MessageUpdated {
                message_id: "m".into(),
                text
            }),
        ]
    }
    prop_oneof![
        rivals(
            || any_text().prop_map(|status| TicketAction::StatusChanged {
                status,
                reason: None
            })
        ),
        rivals(|| any_text().prop_map(|priority| TicketAction::PriorityChanged { priority })),
        rivals(|| any_text().prop_map(|category| TicketAction::CategoryChanged { category })),
        rivals(|| prop::option::of(any_id()).prop_map(|agent| match agent {
            Some(agent_id) => TicketAction::AgentAssigned {
                agent_id,
                agent_name: None
            },
            None => TicketAction::AgentUnassigned { reason: None },
        })),
        rivals(|| any_tags().prop_map(|tags| TicketAction::TagsReplaced { tags })),
        rivals(|| (0..6_u8, prop::option::of(any_text()))
            .prop_map(|(score, comment)| TicketAction::RatingSubmitted { score, comment })),
        rivals(
            || any_text().prop_map(|file_name| TicketAction::AttachmentAdded {
                attachment_id: "f".into(),
                file_name,
                url: None,
                size: None
            })
        ),
        rivals(|| Just(TicketAction::SlaBreached {
            policy: "p".into(),
            due_at: None
        })),
        rivals(|| any_text().prop_map(created)),
        (text_of_m(), text_of_m()).prop_map(|(older, newer)| (
            vec![created("first".into())],
            older,
            newer
        )),
        Just(TicketAction::MessageDeleted {
            message_id: "m".into(),
            reason: None
        })
        .prop_map(|deleted| (vec![created("first".into())], deleted.clone(), deleted)),
    ]
}

/// Returns the live state after `events`, and the stored change of each event that did not fail.
fn live(
    events: &[(Timestamp, TicketAction)],
    limits: StateLimits,
) -> (state::EntityState, Vec<Vec<u8>>) {
    let mut ticket = state::EntityState::new(Kind::Ticket);
    let mut stored = Vec::new();
    for (at, action) in events {
        let action = crate::entity::EntityAction::Ticket(action.clone());
        if let Ok(EntityDecision::Accept(acceptance)) = decide_within(limits, &ticket, *at, &action)
        {
            ticket.apply(&acceptance.change, limits);
            stored.push(acceptance.change.encode());
        }
    }
    (ticket, stored)
}

fn is_sorted_and_unique(tags: &Value) -> bool {
    let tags: Vec<&str> = tags
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    tags.is_sorted_by(|a, b| a < b)
}

proptest! {
    #[test]
    fn replaying_the_stored_changes_makes_the_live_state(
        events in any_events(),
        limits in any_limits(),
    ) {
        let (ticket, stored) = live(&events, limits);
        let replayed = replay_changes(Kind::Ticket, None, stored.iter().map(Vec::as_slice), limits)
            .expect("readable");
        prop_assert_eq!(replayed, ticket);
    }

    #[test]
    fn a_snapshot_at_any_point_and_what_came_later_make_the_live_state(
        events in any_events(),
        cut in any::<prop::sample::Index>(),
        limits in any_limits(),
    ) {
        let (ticket, stored) = live(&events, limits);
        let cut = cut.index(stored.len() + 1);
        let (before, after) = stored.split_at(cut);
        let early = replay_changes(Kind::Ticket, None, before.iter().map(Vec::as_slice), limits)
            .expect("readable");
        let snapshot = early.to_snapshot();
        let later = after.iter().map(Vec::as_slice);
        let restored =
            replay_changes(Kind::Ticket, Some(&snapshot), later, limits).expect("readable");
        prop_assert_eq!(&restored, &ticket);
        prop_assert_eq!(restored.to_json(), ticket.to_json());
    }

    #[test]
    fn of_two_rivals_the_newer_one_wins_in_either_order(
        (before, older, newer) in any_rivals(),
        first in 2..1_000_i64,
        gap in 1..1_000_i64,
    ) {
        let limits = StateLimits { items_max: 5 };
        let at = Timestamp::from_micros;
        let before: Vec<_> = before.into_iter().map(|action| (at(1), action)).collect();
        let (older, newer) = ((at(first), older), (at(first + gap), newer));
        let after =
            |rivals: &[(Timestamp, TicketAction)]| live(&[&before, rivals].concat(), limits).0;
        let expected = after(slice::from_ref(&newer));
        prop_assert_eq!(after(&[older.clone(), newer.clone()]), expected.clone());
        prop_assert_eq!(after(&[newer, older]), expected);
    }

    #[test]
    fn no_state_outgrows_its_limits_and_no_id_is_there_twice(
        events in any_events(),
        limits in any_limits(),
    ) {
        let (state::EntityState::Ticket(ticket), _) = live(&events, limits) else {
            panic!("a ticket")
        };
        let remembered_max = limits.items_max * 8;
        for (items, remembered) in [
            ticket.messages.sizes(),
            ticket.attachments.sizes(),
            ticket.sla_breaches.sizes(),
        ] {
            prop_assert!(items <= limits.items_max);
            prop_assert!(remembered <= remembered_max);
        }
        let shown = ticket.to_json();
        prop_assert!(is_sorted_and_unique(&shown["tags"]));
        for (list, id) in [("messages", "message_id"), ("attachments", "attachment_id")] {
            let mut ids: Vec<&str> = shown[list]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(|i| i[id].as_str())
                .collect();
            let all = ids.len();
            ids.sort_unstable();
            ids.dedup();
            prop_assert_eq!(ids.len(), all, "{} twice", list);
        }
    }

    #[test]
    fn a_late_change_leaves_the_state_as_it_was(
        events in any_events(),
        at in any_at(),
        action in any_action(),
    ) {
        let limits = StateLimits { items_max: 4 };
        let (state::EntityState::Ticket(mut ticket), _) = live(&events, limits) else {
            panic!("a ticket")
        };
        if let Ok(change) = ticket.decide_change(&action, at, limits) {
            prop_assert!(!summary(&change).is_empty());
            let before = ticket.clone();
            ticket.apply(&change, limits);
            prop_assert!(!change.is_late() || ticket == before);
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
        let limits = StateLimits { items_max: 4 };
        let _ = replay_changes(Kind::Ticket, Some(&bytes), std::iter::empty(), limits);
        let _ = replay_changes(
            Kind::Ticket,
            None,
            std::iter::once(bytes.as_slice()),
            limits,
        );
        let _ = state::summarize_change(Kind::Ticket, &bytes);
    }
}
