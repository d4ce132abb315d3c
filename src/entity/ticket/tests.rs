//! Effect of each event on a ticket, and its lateness.

use serde_json::{Value, json};

use super::{TicketAction, TicketChange, TicketState, summary};
use crate::entity::decision::{Rejection, StateLimits};
use crate::entity::state;
use crate::event::{Kind, Timestamp};

const LIMITS: StateLimits = StateLimits { items_max: 3 };

/// Decides and applies, as a live entity does; returns the change.
fn apply_action(ticket: &mut TicketState, at: i64, action: &TicketAction) -> TicketChange {
    apply_within(LIMITS, ticket, at, action)
}

fn apply_within(
    limits: StateLimits,
    ticket: &mut TicketState,
    at: i64,
    action: &TicketAction,
) -> TicketChange {
    let change = ticket
        .decide_change(action, Timestamp::from_micros(at), limits)
        .expect("the event can be taken");
    ticket.apply(&change, limits);
    change
}

fn refuse(ticket: &TicketState, action: &TicketAction) -> Rejection {
    ticket
        .decide_change(action, Timestamp::from_micros(0), LIMITS)
        .expect_err("the event cannot be taken")
}

fn created(message_id: &str, text: &str) -> TicketAction {
    TicketAction::MessageCreated {
        message_id: message_id.into(),
        text: text.into(),
        author: None,
        is_internal: false,
    }
}

fn updated(message_id: &str, text: &str) -> TicketAction {
    TicketAction::MessageUpdated {
        message_id: message_id.into(),
        text: text.into(),
    }
}

fn deleted(message_id: &str) -> TicketAction {
    TicketAction::MessageDeleted {
        message_id: message_id.into(),
        reason: Some("spam".into()),
    }
}

fn status(status: &str) -> TicketAction {
    TicketAction::StatusChanged {
        status: status.into(),
        reason: None,
    }
}

fn priority(priority: &str) -> TicketAction {
    TicketAction::PriorityChanged {
        priority: priority.into(),
    }
}

fn category(category: &str) -> TicketAction {
    TicketAction::CategoryChanged {
        category: category.into(),
    }
}

fn assigned(agent_id: &str, agent_name: Option<&str>) -> TicketAction {
    TicketAction::AgentAssigned {
        agent_id: agent_id.into(),
        agent_name: agent_name.map(Into::into),
    }
}

fn unassigned() -> TicketAction {
    TicketAction::AgentUnassigned { reason: None }
}

fn tags(tags: &[&str]) -> TicketAction {
    TicketAction::TagsReplaced { tags: owned(tags) }
}

fn edit(added: &[&str], removed: &[&str]) -> TicketAction {
    TicketAction::TagsEdited {
        added: owned(added),
        removed: owned(removed),
    }
}

fn attached(attachment_id: &str, file_name: &str) -> TicketAction {
    let (attachment_id, file_name) = (attachment_id.into(), file_name.into());
    TicketAction::AttachmentAdded {
        attachment_id,
        file_name,
        url: Some("https://x/1".into()),
        size: Some(7),
    }
}

fn breached(policy: &str, due_at: Option<i64>) -> TicketAction {
    TicketAction::SlaBreached {
        policy: policy.into(),
        due_at: due_at.map(Timestamp::from_micros),
    }
}

fn rated(score: u8, comment: Option<&str>) -> TicketAction {
    TicketAction::RatingSubmitted {
        score,
        comment: comment.map(Into::into),
    }
}

fn owned(texts: &[&str]) -> Vec<String> {
    texts.iter().copied().map(Into::into).collect()
}

fn shown(message_id: &str, text: &str, deleted: bool) -> Value {
    json!({ "message_id": message_id, "text": text, "author": null, "is_internal": false, "deleted": deleted })
}

#[test]
fn a_ticket_begins_new_and_normal() {
    let expected = json!({
        "status": "new", "priority": "normal", "category": null, "assignee": null, "tags": [], "messages": [],
        "attachments": [], "sla_breaches": [], "rating": null,
    });
    assert_eq!(TicketState::default().to_json(), expected);
}

#[test]
fn every_event_changes_its_member_and_no_other() {
    let full_message = TicketAction::MessageCreated {
        message_id: "m-7".into(),
        text: "hello".into(),
        author: Some(json!({ "id": "c-1", "weight": 0.1 })),
        is_internal: true,
    };
    let full_message_shown = json!([{
        "message_id": "m-7", "text": "hello", "author": { "id": "c-1", "weight": 0.1 }, "is_internal": true,
        "deleted": false,
    }]);
    let file =
        json!({ "attachment_id": "f-1", "file_name": "a.pdf", "url": "https://x/1", "size": 7 });
    let cases: Vec<(Vec<TicketAction>, &str, Value, &str)> = vec![
        (
            vec![full_message],
            "messages",
            full_message_shown,
            "message m-7 added",
        ),
        (
            vec![created("m-7", "a"), updated("m-7", "b")],
            "messages",
            json!([shown("m-7", "b", false)]),
            "message m-7 updated",
        ),
        (
            vec![created("m-7", "a"), created("m-7", "b")],
            "messages",
            json!([shown("m-7", "b", false)]),
            "message m-7 updated",
        ),
        (
            vec![created("m-7", "a"), deleted("m-7")],
            "messages",
            json!([shown("m-7", "a", true)]),
            "message m-7 deleted",
        ),
        (
            vec![status("pending")],
            "status",
            json!("pending"),
            "status changed to pending",
        ),
        (
            vec![assigned("op-7", Some("Anna"))],
            "assignee",
            json!({ "agent_id": "op-7", "agent_name": "Anna" }),
            "assigned to Anna",
        ),
        (
            vec![assigned("op-7", None)],
            "assignee",
            json!({ "agent_id": "op-7", "agent_name": null }),
            "assigned to op-7",
        ),
        (
            vec![assigned("op-7", None), unassigned()],
            "assignee",
            Value::Null,
            "unassigned",
        ),
        (
            vec![priority("urgent")],
            "priority",
            json!("urgent"),
            "priority changed to urgent",
        ),
        (
            vec![tags(&["vip", "billing", "vip"])],
            "tags",
            json!(["billing", "vip"]),
            "tags changed to billing, vip",
        ),
        (
            vec![tags(&["a", "b"]), edit(&["c", "a", "d"], &["b", "d", "z"])],
            "tags",
            json!(["a", "c", "d"]),
            "tags changed to a, c, d",
        ),
        (
            vec![tags(&["a"]), tags(&[])],
            "tags",
            json!([]),
            "all tags removed",
        ),
        (
            vec![category("billing")],
            "category",
            json!("billing"),
            "category changed to billing",
        ),
        (
            vec![attached("f-1", "a.pdf")],
            "attachments",
            json!([file]),
            "attachment a.pdf added",
        ),
        (
            vec![attached("f-1", "old.pdf"), attached("f-1", "a.pdf")],
            "attachments",
            json!([file]),
            "attachment a.pdf replaced",
        ),
        (
            vec![breached("first_response", Some(1_733_308_200_000_000))],
            "sla_breaches",
            json!([{ "policy": "first_response", "due_at": "2024-12-04T10:30:00.000Z" }]),
            "service level first_response breached",
        ),
        (
            vec![
                breached("p", None),
                breached("p", Some(0)),
                breached("p", None),
            ],
            "sla_breaches",
            json!([{ "policy": "p", "due_at": null }, { "policy": "p", "due_at": "1970-01-01T00:00:00.000Z" }]),
            "service level p breached",
        ),
        (
            vec![rated(4, Some("fine"))],
            "rating",
            json!({ "score": 4, "comment": "fine" }),
            "rated 4 of 5",
        ),
    ];
    for (events, member, value, sentence) in cases {
        let mut ticket = TicketState::default();
        let mut expected = ticket.to_json();
        expected[member] = value;
        let changes: Vec<TicketChange> = (0..)
            .zip(&events)
            .map(|(at, event)| apply_action(&mut ticket, at, event))
            .collect();
        assert_eq!(ticket.to_json(), expected, "{events:?}");
        let last = changes.last().expect("a case has events");
        assert!(!last.is_late(), "{events:?}");
        assert_eq!(summary(last), sentence);
    }
}

#[test]
fn an_older_event_changes_nothing_and_one_of_the_same_time_is_not_late() {
    // Events before, one more event for the same field, and true if the state shows that event.
    let cases: Vec<(Vec<TicketAction>, TicketAction, bool)> = vec![
        (vec![status("open")], status("closed"), true),
        (vec![priority("low")], priority("high"), true),
        (vec![category("a")], category("b"), true),
        (vec![assigned("a", None)], assigned("b", None), true),
        (vec![assigned("a", None)], unassigned(), true),
        (vec![unassigned()], assigned("a", None), true),
        (vec![tags(&["a"])], tags(&["b"]), true),
        (vec![tags(&["a"])], edit(&["b"], &[]), true),
        (vec![tags(&["a"])], edit(&[], &["a"]), true),
        (vec![edit(&["a"], &[])], tags(&["b"]), true),
        (vec![edit(&["a"], &[])], edit(&["b"], &[]), true),
        (vec![rated(1, None)], rated(5, None), true),
        (vec![created("m", "a")], updated("m", "b"), true),
        (vec![created("m", "a")], created("m", "b"), true),
        (
            vec![created("m", "a"), updated("m", "b")],
            updated("m", "c"),
            true,
        ),
        (vec![created("m", "a"), deleted("m")], deleted("m"), false),
        (vec![attached("f", "a")], attached("f", "b"), true),
        (vec![breached("p", Some(1))], breached("p", Some(1)), false),
    ];
    for (before, event, visible) in cases {
        let mut ticket = TicketState::default();
        for earlier in &before {
            apply_action(&mut ticket, 100, earlier);
        }
        let (seen, untouched) = (ticket.clone(), ticket.to_json());

        let mut late = seen.clone();
        assert!(
            apply_action(&mut late, 99, &event).is_late(),
            "{before:?}, {event:?}"
        );
        assert_eq!(late, seen, "{before:?}, {event:?}");

        for at in [100, 101] {
            let mut ticket = seen.clone();
            assert!(
                !apply_action(&mut ticket, at, &event).is_late(),
                "{before:?}, {event:?} at {at}"
            );
            assert_eq!(
                ticket.to_json() != untouched,
                visible,
                "{before:?}, {event:?} at {at}"
            );
            // The event counts from now on, even if the state does not show it.
            assert!(
                apply_action(&mut ticket, at - 1, &event).is_late(),
                "{before:?}, {event:?} at {at}"
            );
        }
    }
}

#[test]
fn one_field_makes_no_event_late_for_another() {
    let mut ticket = TicketState::default();
    let (newest, oldest) = (1_000, 10);
    apply_action(&mut ticket, newest, &created("m-1", "a"));
    apply_action(&mut ticket, newest, &attached("f-1", "a"));
    apply_action(&mut ticket, newest, &breached("p", Some(1)));
    let others = [
        status("open"),
        priority("low"),
        category("a"),
        assigned("a", None),
        tags(&["a"]),
        rated(1, None),
        created("m-2", "b"),
        attached("f-2", "b"),
        breached("p", Some(2)),
        breached("q", Some(1)),
        deleted("m-1"),
    ];
    for event in others {
        assert!(
            !apply_action(&mut ticket, oldest, &event).is_late(),
            "{event:?}"
        );
    }
}

#[test]
fn a_deleted_message_stays_deleted_whatever_happens_to_its_text() {
    let mut ticket = TicketState::default();
    apply_action(&mut ticket, 5, &created("m", "a"));
    apply_action(&mut ticket, 6, &deleted("m"));
    apply_action(&mut ticket, 7, &updated("m", "b"));
    apply_action(&mut ticket, 8, &created("m", "c"));
    assert_eq!(ticket.to_json()["messages"], json!([shown("m", "c", true)]));
}

#[test]
fn a_message_that_does_not_exist_is_a_failure() {
    let mut ticket = TicketState::default();
    apply_action(&mut ticket, 1, &created("m-1", "a"));
    let expected = Rejection::not_found("message m-9 does not exist");
    assert_eq!(refuse(&ticket, &updated("m-9", "b")), expected);
    assert_eq!(refuse(&ticket, &deleted("m-9")), expected);
}

#[test]
fn the_newest_items_are_kept_and_the_others_still_known() {
    let mut ticket = TicketState::default();
    for n in 0..5 {
        apply_action(&mut ticket, n, &created(&format!("m-{n}"), "a"));
        apply_action(&mut ticket, n, &attached(&format!("f-{n}"), "a"));
        apply_action(&mut ticket, n, &breached("p", Some(n)));
    }
    let shown = ticket.to_json();
    let ids = |list: &str, id: &str| -> Vec<Value> {
        shown[list]
            .as_array()
            .expect("a list")
            .iter()
            .map(|item| item[id].clone())
            .collect()
    };
    assert_eq!(ids("messages", "message_id"), ["m-2", "m-3", "m-4"]);
    assert_eq!(ids("attachments", "attachment_id"), ["f-2", "f-3", "f-4"]);
    assert_eq!(ids("sla_breaches", "due_at").len(), 3);

    let before = ticket.clone();
    let about_old_ones = [
        (
            updated("m-1", "b"),
            "message m-1 is no longer kept, nothing changed",
        ),
        (
            created("m-1", "b"),
            "message m-1 is no longer kept, nothing changed",
        ),
        (
            deleted("m-1"),
            "message m-1 is no longer kept, nothing changed",
        ),
        (
            attached("f-1", "b"),
            "attachment f-1 is no longer kept, nothing changed",
        ),
        (
            breached("p", Some(1)),
            "breach of p is no longer kept, nothing changed",
        ),
    ];
    for (event, sentence) in about_old_ones {
        assert_eq!(summary(&apply_action(&mut ticket, 99, &event)), sentence);
        assert_eq!(ticket, before, "{event:?}");
    }
}

#[test]
fn what_was_pushed_out_longest_ago_is_forgotten() {
    let mut ticket = TicketState::default();
    // 3 are kept and 24 remembered, so the first of 28 is unknown.
    for n in 0..28 {
        apply_action(&mut ticket, n, &created(&format!("m-{n}"), "a"));
    }
    assert_eq!(ticket.messages.sizes(), (3, 24));
    assert_eq!(refuse(&ticket, &updated("m-0", "b")).status, 404);
    assert!(
        ticket
            .decide_change(&updated("m-1", "b"), Timestamp::from_micros(99), LIMITS)
            .is_ok()
    );
}

#[test]
fn a_ticket_holds_a_thousand_tags() {
    let many: Vec<String> = (0..1_200).map(|n| format!("t-{n:04}")).collect();
    let mut ticket = TicketState::default();
    let change = apply_action(
        &mut ticket,
        1,
        &TicketAction::TagsReplaced { tags: many.clone() },
    );
    assert_eq!(ticket.tags.value.len(), 1_000);
    assert_eq!(summary(&change), "tags changed to a list of 1000");

    // An added tag never pushes out a tag of the ticket, even one that sorts after it.
    let full = ticket.to_json();
    apply_action(&mut ticket, 2, &edit(&["a"], &[]));
    assert_eq!(ticket.to_json(), full);
    apply_action(&mut ticket, 3, &edit(&["a", "b"], &["t-0999"]));
    assert_eq!(ticket.tags.value.len(), 1_000);
    assert_eq!(&*ticket.tags.value[0], "a");
}

#[test]
fn a_lowered_bound_holds_for_what_was_decided_under_a_higher_one() {
    let generous = StateLimits { items_max: 10 };
    let mut live = TicketState::default();
    let mut events: Vec<TicketAction> = (0..10).map(|n| created(&format!("m-{n}"), "a")).collect();
    events.extend([updated("m-0", "b"), deleted("m-9"), deleted("m-1")]);
    let changes: Vec<TicketChange> = (0..)
        .zip(&events)
        .map(|(at, event)| apply_within(generous, &mut live, at, event))
        .collect();

    let mut replayed = TicketState::default();
    changes
        .iter()
        .for_each(|change| replayed.apply(change, LIMITS));
    let expected = json!([
        shown("m-7", "a", false),
        shown("m-8", "a", false),
        shown("m-9", "a", true)
    ]);
    assert_eq!(replayed.to_json()["messages"], expected);
}

#[test]
fn a_raised_bound_brings_back_nothing_that_was_decided_without() {
    let mut live = TicketState::default();
    let changes: Vec<TicketChange> = (0..40)
        .map(|n| apply_action(&mut live, n, &created(&format!("m-{n}"), "a")))
        .collect();
    let mut replayed = TicketState::default();
    changes
        .iter()
        .for_each(|change| replayed.apply(change, StateLimits { items_max: 100 }));
    assert_eq!(replayed, live);
}

/// The API shows times in milliseconds. Stored in milliseconds, the older of two such events would
/// win after a restart.
#[test]
fn events_microseconds_apart_are_told_apart_after_a_restart() {
    let mut live = TicketState::default();
    apply_action(&mut live, 1_500, &status("open"));
    let bytes = state::EntityState::Ticket(live).to_snapshot();
    let restored = state::EntityState::from_snapshot(Kind::Ticket, &bytes).expect("readable");
    let state::EntityState::Ticket(mut restored) = restored else {
        panic!("a ticket")
    };
    assert!(apply_action(&mut restored, 1_499, &status("closed")).is_late());
}

/// Stores outlive versions: these bytes must stay readable, and a new version should write the
/// same.
#[test]
fn the_bytes_of_a_change_never_change() {
    let mut ticket = TicketState::default();
    let small = StateLimits { items_max: 1 };
    let message = TicketAction::MessageCreated {
        message_id: "m-1".into(),
        text: "a".into(),
        author: Some(json!({ "id": 1 })),
        is_internal: true,
    };
    let golden = [
        (
            message,
            r#"{"message_added":{"message_id":"m-1","text":"a","author":{"id":1},"is_internal":true,"keep":1}}"#,
        ),
        (
            updated("m-1", "b"),
            r#"{"message_text":{"message_id":"m-1","text":"b"}}"#,
        ),
        (
            deleted("m-1"),
            r#"{"message_deleted":{"message_id":"m-1"}}"#,
        ),
        (
            created("m-2", "c"),
            r#"{"message_added":{"message_id":"m-2","text":"c","keep":1}}"#,
        ),
        (
            updated("m-1", "d"),
            r#"{"pushed_out":{"item":"message","id":"m-1"}}"#,
        ),
        (status("open"), r#"{"status":"open"}"#),
        (priority("high"), r#"{"priority":"high"}"#),
        (category("billing"), r#"{"category":"billing"}"#),
        (
            assigned("op-7", None),
            r#"{"assignee":{"agent_id":"op-7","agent_name":null}}"#,
        ),
        (unassigned(), r#"{"assignee":null}"#),
        (tags(&["b", "a"]), r#"{"tags":["a","b"]}"#),
        (edit(&["c"], &["a"]), r#"{"tags":["b","c"]}"#),
        (
            attached("f-1", "a.pdf"),
            r#"{"attachment_added":{"attachment":{"attachment_id":"f-1","file_name":"a.pdf","url":"https://x/1","size":7},"keep":1}}"#,
        ),
        (
            attached("f-1", "b.pdf"),
            r#"{"attachment_replaced":{"attachment":{"attachment_id":"f-1","file_name":"b.pdf","url":"https://x/1","size":7}}}"#,
        ),
        (
            breached("p", Some(5)),
            r#"{"breach_added":{"breach":{"policy":"p","due_at":5},"keep":1}}"#,
        ),
        (
            breached("p", Some(5)),
            r#"{"breach_repeated":{"breach":{"policy":"p","due_at":5}}}"#,
        ),
        (
            rated(4, Some("fine")),
            r#"{"rating":{"score":4,"comment":"fine"}}"#,
        ),
    ];
    for (event, effect) in golden {
        let change = apply_within(small, &mut ticket, 1_733_308_200_000_001, &event);
        let json = format!(r#"{{"at":1733308200000001,"effect":{effect}}}"#);
        assert_eq!(serde_json::to_string(&change).expect("writable"), json);
        assert_eq!(
            serde_json::from_str::<TicketChange>(&json).expect("readable"),
            change
        );
    }
    let late = apply_within(small, &mut ticket, -1, &tags(&["z"]));
    assert_eq!(
        serde_json::to_string(&late).expect("writable"),
        r#"{"at":-1,"late":true,"effect":{"tags":[]}}"#
    );
}

#[test]
fn the_bytes_of_a_snapshot_never_change() {
    let small = StateLimits { items_max: 1 };
    let mut ticket = TicketState::default();
    let events = [
        created("m-1", "a"),
        created("m-2", "b"),
        deleted("m-2"),
        status("open"),
        assigned("op-7", Some("Anna")),
        tags(&["vip"]),
        attached("f-1", "a.pdf"),
        attached("f-2", "b.pdf"),
        breached("p", Some(5)),
        breached("p", None),
        breached("q", None),
        rated(4, None),
    ];
    for (at, event) in (1..).zip(&events) {
        apply_within(small, &mut ticket, at, event);
    }
    let golden = concat!(
        r#"{"status":{"value":"open","at":4},"priority":{"value":"normal"},"category":{"value":null},"#,
        r#""assignee":{"value":{"agent_id":"op-7","agent_name":"Anna"},"at":5},"tags":{"value":["vip"],"at":6},"#,
        r#""messages":{"items":[{"message_id":"m-2","text":{"value":"b","at":2},"is_internal":false,"#,
        r#""deleted":{"value":true,"at":3}}],"forgotten":"pGG0cstBqew"},"#,
        r#""attachments":{"items":[{"value":{"attachment_id":"f-2","file_name":"b.pdf","url":"https://x/1","size":7},"#,
        r#""at":8}],"forgotten":"Pe/G5jJAjlo"},"#,
        r#""sla_breaches":{"items":[{"value":{"policy":"q","due_at":null},"at":11}],"#,
        r#""forgotten":"uaXfqU3nYm5M9a8CfZqUmg"},"rating":{"value":{"score":4,"comment":null},"at":12}}"#,
    );
    let json = serde_json::to_string(&ticket).expect("writable");
    assert_eq!(json, golden);
    assert_eq!(
        serde_json::from_str::<TicketState>(golden).expect("readable"),
        ticket
    );
}

#[test]
fn members_from_the_future_are_passed_over_and_missing_ones_take_their_first_value() {
    assert_eq!(
        serde_json::from_str::<TicketState>(r#"{"mood":"calm"}"#).expect("readable"),
        TicketState::default()
    );
    let change =
        r#"{"at":1,"why":"?","effect":{"message_text":{"message_id":"m","text":"t","lang":"uk"}}}"#;
    assert!(serde_json::from_str::<TicketChange>(change).is_ok());
    // An unknown effect must cause an error, not be skipped.
    assert!(serde_json::from_str::<TicketChange>(r#"{"at":1,"effect":{"mood":"calm"}}"#).is_err());
}
