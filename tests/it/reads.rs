//! Reads of the admin API: entities, timelines, events, reprocessing.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::test_node::{
    START, TOKEN, TestAnswer, TestClient, TestEnv, TestNode, expect_soon, run_async,
};

fn code(answer: &TestAnswer) -> (u16, &str) {
    (
        answer.status,
        answer.body["code"].as_str().unwrap_or_default(),
    )
}

async fn list(client: &TestClient, path: &str) -> Value {
    let answer = client.get(path).await;
    assert_eq!(answer.status, 200, "{path}: {answer:?}");
    answer.body
}

/// Returns the member `name` of each item of a list.
fn each(list: &Value, name: &str) -> Vec<Value> {
    list["items"]
        .as_array()
        .expect("items")
        .iter()
        .map(|item| item[name].clone())
        .collect()
}

/// Returns `items`, `total`, `page`, `page_size` and `pages` of all pages at `path`, checked
/// against each other.
async fn all_pages(client: &TestClient, path: &str, page_size: u64, name: &str) -> Vec<Value> {
    let mut items = Vec::new();
    let first = list(client, &format!("{path}?page_size={page_size}")).await;
    let (total, pages) = (
        first["total"].as_u64().expect("a total"),
        first["pages"].as_u64().expect("pages"),
    );
    assert_eq!(pages, total.div_ceil(page_size));
    for page in 1..=pages {
        let part = list(client, &format!("{path}?page={page}&page_size={page_size}")).await;
        let found = each(&part, name);
        let expected = if page < pages {
            page_size
        } else {
            total - page_size * (pages - 1)
        };
        assert_eq!(found.len() as u64, expected, "page {page}");
        let numbers = json!({"total": total, "page": page, "page_size": page_size, "pages": pages});
        for (name, number) in numbers.as_object().expect("an object") {
            assert_eq!(part[name], *number, "{name}");
        }
        items.extend(found);
    }
    let beyond = list(
        client,
        &format!("{path}?page={}&page_size={page_size}", pages + 1),
    )
    .await;
    assert_eq!(
        (each(&beyond, name).len(), beyond["total"].as_u64()),
        (0, Some(total))
    );
    items
}

/// Sends `count` messages to ticket `S`, many at a time.
async fn fill(node: &TestNode, count: usize) {
    let mut sending = JoinSet::new();
    for worker in 0..16 {
        let client = node.api.clone();
        sending.spawn(async move {
            for number in (worker..count).step_by(16) {
                assert_eq!(
                    client
                        .send_message("S", &format!("k-{number}"))
                        .await
                        .status,
                    202
                );
            }
        });
    }
    expect_soon(sending.join_all()).await;
}

#[test]
fn lists_come_in_pages_newest_first() {
    run_async(async {
        let test_env = TestEnv::new(&[]);
        let node = test_env.start().await;
        for path in ["/api/v1/entities/ticket", "/api/v1/events"] {
            let empty = json!({"items": [], "total": 0, "page": 1, "page_size": 20, "pages": 0});
            assert_eq!(list(&node, path).await, empty);
        }
        let mut ids = Vec::new();
        for number in 1..=5 {
            ids.push(Value::from(
                node.send_message(&format!("S-{number}"), &format!("k-{number}"))
                    .await
                    .event_id(),
            ));
        }
        // A further event does not move its ticket: the list is ordered by each ticket's first
        // event.
        ids.push(node.send_message("S-2", "k-6").await.event_id().into());
        ids.reverse();
        for page_size in [1, 2, 5, 100] {
            let tickets = all_pages(&node, "/api/v1/entities/ticket", page_size, "id").await;
            assert_eq!(tickets, ["S-5", "S-4", "S-3", "S-2", "S-1"]);
            assert_eq!(
                all_pages(&node, "/api/v1/events", page_size, "event_id").await,
                ids
            );
        }
        let timeline =
            all_pages(&node, "/api/v1/entities/ticket/S-2/timeline", 1, "event_id").await;
        assert_eq!(timeline, [ids[0].clone(), ids[4].clone()]);
        node.stop().await;
    });
}

/// A watcher of new events read the whole list again each second, and left events out in a flood.
#[test]
fn events_are_read_on_from_a_cursor_without_gaps() {
    run_async(async {
        let node = TestEnv::new(&[]).start().await;
        let read = async |cursor: &str, more: &str| {
            list(&node, &format!("/api/v1/events?after={cursor}{more}")).await
        };
        let nothing = read("start", "").await;
        assert_eq!(
            nothing,
            json!({"items": [], "cursor": "start", "has_more": false})
        );

        let mut sent = Vec::new();
        for number in 0..7 {
            let ticket = ["A", "B"][number % 2];
            let answer = node.send_message(ticket, &format!("m{number}")).await;
            sent.push(json!(answer.event_id()));
        }
        let (mut found, mut cursor) = (Vec::new(), "start".to_owned());
        for has_more in [true, true, false] {
            let page = read(&cursor, "&page_size=3").await;
            assert_eq!(page["has_more"], has_more, "{page}");
            found.extend(each(&page, "event_id"));
            cursor = page["cursor"].as_str().expect("a cursor").to_owned();
        }
        assert_eq!(found, sent, "oldest first");
        assert_eq!(cursor, sent[6]);

        // A search that finds nothing moves on nevertheless.
        let page = read("start", "&entity=C").await;
        assert_eq!(
            (each(&page, "event_id"), &page["cursor"]),
            (vec![], &sent[6])
        );
        let page = read(sent[2].as_str().expect("an id"), "&entity=B").await;
        assert_eq!(each(&page, "event_id"), [sent[3].clone(), sent[5].clone()]);
        node.send_message("C", "later").await;
        assert_eq!(
            read(&cursor, "").await["items"].as_array().map(Vec::len),
            Some(1)
        );

        for (query, status) in [
            ("after=evt_00000000_1", 404),
            ("after=1", 400),
            ("after=start&page=2", 400),
            // An empty list that hides a misspelling looks as if nothing came.
            ("after=start&type=mesage.created", 400),
            ("after=start&source=suport", 400),
        ] {
            let refused = node.get(&format!("/api/v1/events?{query}")).await;
            assert_eq!(refused.status, status, "{query}: {refused:?}");
        }
        let of_end = format!(
            "{}_18446744073709551615",
            cursor.rsplit_once('_').expect("an id").0
        );
        assert_eq!(read(&of_end, "").await["items"], json!([]));
        node.stop().await;
    });
}

#[test]
fn a_long_timeline_and_many_events_are_listed_without_gaps() {
    run_async(async {
        let test_env = TestEnv::new(&[]);
        let node = test_env.start().await;
        // More events than one row of a timeline (64) and one block of events (512) hold.
        fill(&node, 600).await;
        let sequences =
            all_pages(&node, "/api/v1/entities/ticket/S/timeline", 100, "sequence").await;
        assert_eq!(sequences, (1..=600).rev().collect::<Vec<u64>>());
        let timeline = all_pages(&node, "/api/v1/entities/ticket/S/timeline", 97, "event_id").await;
        assert_eq!(
            all_pages(&node, "/api/v1/events", 100, "event_id").await,
            timeline,
            "there is no other ticket"
        );
        let ticket = list(&node, "/api/v1/entities/ticket/S").await;
        assert_eq!(ticket["first_event"]["event_id"], timeline[599]);
        assert_eq!(
            (&ticket["last_event"]["event_id"], &ticket["sequence"]),
            (&timeline[0], &json!(600))
        );
        assert_eq!(
            ticket["state"]["messages"].as_array().map(Vec::len),
            Some(600)
        );
        node.stop().await;
    });
}

#[test]
fn an_entity_names_its_first_and_its_last_event() {
    run_async(async {
        let mut test_env = TestEnv::new(&[]);
        let clock = test_env.with_manual_clock();
        let node = test_env.start().await;
        let first = node.send_message("S", "k-1").await.event_id();
        clock.advance(Duration::from_millis(1_250));
        let body = json!({"event": "status.changed", "support_uid": "S", "timestamp": "2025-12-04T12:30:01+02:00", "data": {"status": "open"}});
        let last = node
            .send_request(node.signed_request(&body.to_string(), "k-2"))
            .await
            .event_id();
        let expected = json!({
            "kind": "ticket", "id": "S", "sequence": 2,
            "first_event": {"event_id": first, "type": "message.created", "at": START, "received_at": START},
            "last_event": {
                "event_id": last, "type": "status.changed",
                "at": "2025-12-04T10:30:01.000Z", "received_at": "2025-12-04T10:30:01.250Z",
            },
        });
        assert_eq!(
            list(&node, "/api/v1/entities/ticket").await["items"],
            json!([expected])
        );
        let mut ticket = list(&node, "/api/v1/entities/ticket/S").await;
        assert!(
            ticket
                .as_object_mut()
                .expect("an object")
                .remove("state")
                .is_some()
        );
        assert_eq!(ticket, expected);
        let event = list(&node, &format!("/api/v1/events/{last}")).await;
        let expected = json!({
            "event_id": last, "source": "support", "type": "status.changed",
            "entity": {"kind": "ticket", "id": "S", "sequence": 2},
            "status": "completed", "code": null, "error_message": null,
            "received_at": "2025-12-04T10:30:01.250Z", "processing_at": "2025-12-04T10:30:01.250Z",
            "processed_at": "2025-12-04T10:30:01.250Z", "payload": body,
            "idempotency_key": "k-2",
        });
        assert_eq!(event, expected);
        node.stop().await;
    });
}

#[test]
fn events_are_found_by_each_of_their_filters() {
    run_async(async {
        let mut test_env = TestEnv::new(&[]);
        let clock = test_env.with_manual_clock();
        let node = test_env.start().await;
        let missing = json!({"message_id": "missing", "text": "x"});
        let events = [
            (
                "S-1",
                "message.created",
                json!({"message_id": "m", "text": "x"}),
            ),
            ("S-2", "status.changed", json!({"status": "open"})),
            ("S-1", "message.updated", missing.clone()),
            ("S-2", "message.updated", missing),
        ];
        let mut ids = Vec::new();
        for (number, (ticket, event, data)) in events.into_iter().enumerate() {
            ids.push(
                node.send(ticket, &number.to_string(), event, data)
                    .await
                    .event_id(),
            );
            clock.advance(Duration::from_secs(10));
        }
        let cases: [(&str, &[usize]); 24] = [
            ("", &[3, 2, 1, 0]),
            ("source=support", &[3, 2, 1, 0]),
            ("source=leads", &[]),
            ("type=message.updated", &[3, 2]),
            ("type=message.deleted", &[]),
            ("kind=ticket", &[3, 2, 1, 0]),
            ("entity=S-1", &[2, 0]),
            ("entity=s-1", &[]),
            ("entity=S-3", &[]),
            ("status=completed", &[1, 0]),
            ("status=failed", &[3, 2]),
            ("status=received", &[]),
            ("status=processing", &[]),
            ("since=2025-12-04T10:30:10Z", &[3, 2, 1]),
            ("since=2025-12-04T10:30:10.001Z", &[3, 2]),
            ("since=2025-12-04T12:30:10%2B02:00", &[3, 2, 1]),
            ("until=2025-12-04T10:30:10Z", &[0]),
            ("until=2025-12-04T10:30:10.001Z", &[1, 0]),
            (
                "since=2025-12-04T10:30:10Z&until=2025-12-04T10:30:30Z",
                &[2, 1],
            ),
            ("since=2030-01-01T00:00:00Z", &[]),
            ("until=2020-01-01T00:00:00Z", &[]),
            (
                "entity=S-1&status=failed&type=message.updated&kind=ticket&source=support",
                &[2],
            ),
            ("entity=S-1&status=failed&type=message.created", &[]),
            ("status=failed&page=2&page_size=1", &[2]),
        ];
        for (query, expected) in cases {
            let found = list(&node, &format!("/api/v1/events?{query}")).await;
            let expected: Vec<_> = expected
                .iter()
                .map(|number| ids[*number].as_str())
                .collect();
            assert_eq!(each(&found, "event_id"), expected, "{query}");
            let total = if query.contains("page=") {
                2
            } else {
                expected.len()
            };
            assert_eq!(found["total"].as_u64(), Some(total as u64), "{query}");
        }
        node.stop().await;
    });
}

#[test]
fn wrong_parameters_are_named_all_of_them() {
    run_async(async {
        let test_env = TestEnv::new(&[]);
        let node = test_env.start().await;
        node.send_message("S", "k-1").await;
        let cases: [(&str, &[&str]); 16] = [
            ("/api/v1/events?page=0", &["page"]),
            ("/api/v1/events?page=-1", &["page"]),
            ("/api/v1/events?page=two", &["page"]),
            ("/api/v1/events?page=99999999999999999999", &["page"]),
            ("/api/v1/events?page_size=0", &["page_size"]),
            ("/api/v1/events?page_size=101", &["page_size"]),
            ("/api/v1/events?kind=car", &["kind"]),
            ("/api/v1/events?status=done", &["status"]),
            ("/api/v1/events?since=yesterday", &["since"]),
            ("/api/v1/events?until=2025-12-04", &["until"]),
            ("/api/v1/events?colour=red", &["colour"]),
            ("/api/v1/events?page=1&page=2", &["page"]),
            (
                "/api/v1/events?until=x&since=y&status=z&kind=k&page_size=0&page=0",
                &["kind", "page", "page_size", "since", "status", "until"],
            ),
            ("/api/v1/entities/ticket?status=failed", &["status"]),
            (
                "/api/v1/entities/ticket/S/timeline?page_size=1000",
                &["page_size"],
            ),
            ("/api/v1/entities/ticket/S?page=1", &["page"]),
        ];
        for (path, expected) in cases {
            let answer = node.get(path).await;
            assert_eq!(code(&answer), (400, "validation_failed"), "{path}");
            let errors = answer.body["errors"].as_array().expect("errors");
            let mut fields: Vec<_> = errors
                .iter()
                .map(|error| error["field"].as_str().expect("a name"))
                .collect();
            fields.sort_unstable();
            assert_eq!(fields, expected, "{path}");
            assert_eq!(answer.body["detail"], errors[0]["detail"]);
        }
        for path in [
            "/api/v1/entities/car",
            "/api/v1/entities/car/S",
            "/api/v1/entities/ticket/nobody",
            "/api/v1/entities/ticket/nobody/timeline",
        ] {
            assert_eq!(code(&node.get(path).await), (404, "not_found"), "{path}");
        }
        node.stop().await;
    });
}

#[test]
fn an_answered_event_is_visible_in_every_read() {
    run_async(async {
        let test_env = TestEnv::new(&[]);
        let node = test_env.start().await;
        let mut senders = JoinSet::new();
        for sender in 0..4 {
            let client = node.api.clone();
            senders.spawn(async move {
                let ticket = format!("S-{sender}");
                for number in 1..=25 {
                    let answer = client
                        .send_message(&ticket, &format!("{sender}-{number}"))
                        .await;
                    let (event_id, sequence) = (answer.event_id(), answer.sequence());
                    assert_eq!(sequence, number);
                    let event = client.get(&format!("/api/v1/events/{event_id}")).await;
                    assert_eq!(
                        (event.status, &event.body["status"]),
                        (200, &json!("completed"))
                    );
                    let entity = list(&client, &format!("/api/v1/entities/ticket/{ticket}")).await;
                    assert_eq!(
                        (&entity["sequence"], &entity["last_event"]["event_id"]),
                        (&json!(sequence), &json!(event_id))
                    );
                    assert_eq!(
                        entity["state"]["messages"].as_array().map(Vec::len),
                        Some(number as usize)
                    );
                    let timeline = list(
                        &client,
                        &format!("/api/v1/entities/ticket/{ticket}/timeline?page_size=1"),
                    )
                    .await;
                    assert_eq!(
                        (&timeline["total"], each(&timeline, "event_id")),
                        (&json!(number), vec![json!(event_id)])
                    );
                    let events = list(
                        &client,
                        &format!("/api/v1/events?entity={ticket}&page_size=1"),
                    )
                    .await;
                    assert_eq!(
                        (&events["total"], each(&events, "event_id")),
                        (&json!(number), vec![json!(event_id)])
                    );
                    let entities = list(&client, "/api/v1/entities/ticket").await;
                    assert!(each(&entities, "id").contains(&json!(ticket)));
                }
            });
        }
        expect_soon(senders.join_all()).await;
        node.stop().await;
    });
}

#[test]
fn nothing_is_shown_that_is_not_durable() {
    run_async(async {
        let mut test_env = TestEnv::new(&[]);
        let dam = test_env.with_disk_gate();
        let node = test_env.start().await;
        let first = node.send_message("S", "k-1").await;
        let failed = node
            .send("S", "k-2", "message.deleted", json!({"message_id": "m"}))
            .await
            .event_id();
        let paths = [
            "/api/v1/entities/ticket",
            "/api/v1/entities/ticket/S",
            "/api/v1/entities/ticket/S/timeline",
            "/api/v1/events",
        ];
        let mut before = Vec::new();
        for path in paths {
            before.push(list(&node, path).await);
        }
        dam.close();
        let mut waiting = JoinSet::new();
        let client = node.api.clone();
        waiting.spawn(async move { client.send_message("S", "k-3").await });
        dam.wait_until_held().await;
        // More events are in flight behind the held commit.
        for ticket in ["S", "T"] {
            let client = node.api.clone();
            waiting.spawn(async move { client.send_message(ticket, &format!("k-{ticket}")).await });
        }
        let client = node.api.clone();
        let path = format!("/api/v1/events/{failed}/reprocess");
        waiting.spawn(async move { client.post(&path).await });
        for (path, before) in paths.iter().zip(&before) {
            assert_eq!(list(&node, path).await, *before, "{path}");
        }
        // Only its end differs for sure: the earlier incarnation may begin with the same digit.
        let next = format!(
            "{}_3",
            first
                .event_id()
                .strip_suffix("_1")
                .expect("the first event of a store")
        );
        assert_eq!(
            node.get(&format!("/api/v1/events/{next}")).await.status,
            404
        );
        assert_eq!(node.get("/api/v1/entities/ticket/T").await.status, 404);
        assert_eq!(
            list(&node, &format!("/api/v1/events/{failed}")).await["status"],
            "failed"
        );
        dam.open();
        let answers = expect_soon(waiting.join_all()).await;
        assert!(
            answers.iter().all(|answer| answer.status == 202),
            "{answers:?}"
        );
        assert_eq!(
            list(&node, "/api/v1/entities/ticket/S").await["sequence"],
            3
        );
        assert_eq!(
            node.get(&format!("/api/v1/events/{next}")).await.status,
            200
        );
        assert_eq!(node.get("/api/v1/entities/ticket/T").await.status, 200);
        node.stop().await;
    });
}

#[test]
fn an_event_id_of_another_store_or_of_no_event_is_answered_404() {
    run_async(async {
        let (test_env, other) = (TestEnv::new(&[]), TestEnv::new(&[]));
        let (node, elsewhere) = (test_env.start().await, other.start().await);
        let ours = node.send_message("S", "k-1").await.event_id();
        let theirs = elsewhere.send_message("S", "k-1").await.event_id();
        assert_ne!(ours, theirs, "each store is at position 1");
        let incarnation = ours.strip_suffix("_1").expect("the first event of a store");
        let wrong = [
            theirs,
            format!("{incarnation}_0"),
            format!("{incarnation}_2"),
            format!("{incarnation}_01"),
            format!("{incarnation}_18446744073709551615"),
            format!("{incarnation}_18446744073709551616"),
            incarnation.to_owned(),
            ours.to_uppercase(),
            ours.replace("evt_", ""),
            "1".to_owned(),
            "%2F".to_owned(),
        ];
        for id in wrong {
            assert_eq!(
                code(&node.get(&format!("/api/v1/events/{id}")).await),
                (404, "not_found"),
                "{id}"
            );
            assert_eq!(
                code(&node.post(&format!("/api/v1/events/{id}/reprocess")).await),
                (404, "not_found"),
                "{id}"
            );
        }
        assert_eq!(
            node.get(&format!("/api/v1/events/{ours}")).await.status,
            200
        );
        node.stop().await;
        elsewhere.stop().await;
    });
}

#[test]
fn a_failed_event_is_reprocessed_under_its_own_id_until_it_succeeds() {
    run_async(async {
        let mut test_env = TestEnv::new(&[]);
        let clock = test_env.with_manual_clock();
        let node = test_env.start().await;
        assert_eq!(node.send_message("S", "k-1").await.sequence(), 1);
        let update = json!({"message_id": "m", "text": "after"});
        let failed = node
            .send("S", "k-2", "message.updated", update.clone())
            .await;
        assert_eq!(
            (failed.status, &failed.body["entity"]["sequence"]),
            (202, &Value::Null)
        );
        let id = failed.event_id();
        let (event, reprocess) = (
            format!("/api/v1/events/{id}"),
            format!("/api/v1/events/{id}/reprocess"),
        );

        clock.advance(Duration::from_secs(1));
        let again = node.post(&reprocess).await;
        assert_eq!(
            (again.status, &again.body),
            (202, &failed.body),
            "answered as the first time"
        );
        assert_eq!(
            (
                again.header("x-event-id"),
                again.header("x-entity-sequence")
            ),
            (Some(id.as_str()), None)
        );
        let shown = list(&node, &event).await;
        assert_eq!(
            (&shown["status"], &shown["code"]),
            (&json!("failed"), &json!(404))
        );
        assert_eq!(
            (&shown["received_at"], &shown["processing_at"]),
            (&json!(START), &json!("2025-12-04T10:30:01.000Z"))
        );
        assert_eq!(
            list(&node, "/api/v1/events?status=failed").await["total"],
            1,
            "an attempt is no event"
        );
        assert_eq!(list(&node, "/api/v1/events").await["total"], 2);

        // Older than the update, so the update is still news when it is reprocessed.
        let created = json!({
            "event": "message.created", "support_uid": "S", "timestamp": "2025-12-04T10:00:00Z",
            "data": {"message_id": "m", "text": "before"},
        });
        assert_eq!(
            node.send_request(node.signed_request(&created.to_string(), "k-3"))
                .await
                .sequence(),
            2
        );
        let completed = node.post(&reprocess).await;
        assert_eq!(
            (completed.status, completed.sequence(), completed.event_id()),
            (202, 3, id.clone())
        );
        assert_eq!(completed.header("x-entity-sequence"), Some("3"));
        let shown = list(&node, &event).await;
        assert_eq!(
            (&shown["status"], &shown["code"], &shown["error_message"]),
            (&json!("completed"), &Value::Null, &Value::Null)
        );
        assert_eq!(
            (&shown["entity"]["sequence"], &shown["payload"]["data"]),
            (&json!(3), &update)
        );
        let ticket = list(&node, "/api/v1/entities/ticket/S").await;
        assert_eq!(
            (&ticket["sequence"], &ticket["state"]["messages"][1]["text"]),
            (&json!(3), &json!("after"))
        );
        assert_eq!(ticket["last_event"]["event_id"], id.as_str());
        let timeline = node.fetch_timeline("S").await;
        assert_eq!(timeline.len(), 3);
        assert_eq!(
            (
                &timeline[2]["event_id"],
                &timeline[2]["at"],
                &timeline[2]["late"]
            ),
            (&json!(id), &json!(START), &json!(false))
        );

        assert_eq!(code(&node.post(&reprocess).await), (409, "not_failed"));
        let fine = node.send_message("S", "k-4").await.event_id();
        assert_eq!(
            code(&node.post(&format!("/api/v1/events/{fine}/reprocess")).await),
            (409, "not_failed")
        );
        let duplicate = node.send("S", "k-2", "message.updated", update).await;
        assert_eq!(
            (duplicate.status, duplicate.header("x-event-id")),
            (409, Some(id.as_str()))
        );
        assert_eq!(
            list(&node, "/api/v1/events?status=failed").await["total"],
            0
        );
        node.stop().await;

        let node = test_env.start().await;
        assert_eq!(
            list(&node, &event).await["status"],
            "completed",
            "after a restart too"
        );
        assert_eq!(code(&node.post(&reprocess).await), (409, "not_failed"));
        node.stop().await;
    });
}

#[test]
fn reprocess_requests_at_once_make_one_new_record() {
    run_async(async {
        let mut test_env = TestEnv::new(&[]);
        let dam = test_env.with_disk_gate();
        let node = test_env.start().await;
        let failed = node
            .send("S", "k-1", "message.deleted", json!({"message_id": "m"}))
            .await
            .event_id();
        assert_eq!(node.send_message("S", "m").await.sequence(), 1);
        dam.close();
        let mut waiting = JoinSet::new();
        for _ in 0..8 {
            let (client, path) = (
                node.api.clone(),
                format!("/api/v1/events/{failed}/reprocess"),
            );
            waiting.spawn(async move { client.post(&path).await });
        }
        dam.wait_until_held().await;
        dam.open();
        let answers = expect_soon(waiting.join_all()).await;
        let (accepted, refused): (Vec<_>, Vec<_>) =
            answers.iter().partition(|answer| answer.status == 202);
        assert_eq!(accepted.len(), 1, "{answers:?}");
        assert_eq!(
            (accepted[0].sequence(), accepted[0].event_id()),
            (2, failed.clone())
        );
        // The answer depends on the order of the two requests.
        let known = [(409, "reprocess_in_progress"), (409, "not_failed")];
        assert!(
            refused.iter().all(|answer| known.contains(&code(answer))),
            "{refused:?}"
        );
        assert_eq!(node.fetch_timeline("S").await.len(), 2);
        assert_eq!(node.send_message("S", "k-2").await.sequence(), 3);
        node.stop().await;
    });
}

/// Regression: the event's own time was read again from its payload at each attempt. A time that
/// was too far ahead at receipt was accepted later, and the attempt overwrote newer data.
#[test]
fn an_attempt_at_an_event_makes_it_no_newer_than_it_was() {
    run_async(async {
        let mut test_env = TestEnv::new(&[]);
        let clock = test_env.with_manual_clock();
        let node = test_env.start().await;
        let ahead = json!({
            "event": "message.updated", "support_uid": "S", "timestamp": "2025-12-04T10:36:40Z",
            "data": {"message_id": "m", "text": "older"},
        });
        let failed = node
            .send_request(node.signed_request(&ahead.to_string(), "k-1"))
            .await
            .event_id();
        clock.advance(Duration::from_secs(200));
        let newer = node
            .send(
                "S",
                "k-2",
                "message.created",
                json!({"message_id": "m", "text": "newer"}),
            )
            .await;
        assert_eq!(newer.sequence(), 1);
        assert_eq!(
            node.post(&format!("/api/v1/events/{failed}/reprocess"))
                .await
                .sequence(),
            2
        );
        let entry = node.fetch_timeline("S").await.pop().expect("the attempt");
        assert_eq!(
            (&entry["at"], &entry["late"]),
            (&json!(START), &json!(true))
        );
        let ticket = list(&node, "/api/v1/entities/ticket/S").await;
        assert_eq!(ticket["state"]["messages"][0]["text"], "newer");
        node.stop().await;
    });
}

/// Regression: a sender's key in the form of the node's own claims prevented the reprocessing of
/// its failed event.
#[test]
fn no_senders_key_stands_in_the_way_of_reprocessing() {
    run_async(async {
        let test_env = TestEnv::new(&[]);
        let node = test_env.start().await;
        let failed = node
            .send("S", "k-1", "message.deleted", json!({"message_id": "m"}))
            .await
            .event_id();
        assert_eq!(node.send_message("S", "m").await.sequence(), 1);
        assert_eq!(
            node.send_message("S", &format!("reprocess:{failed}:0"))
                .await
                .sequence(),
            2
        );
        assert_eq!(
            node.post(&format!("/api/v1/events/{failed}/reprocess"))
                .await
                .sequence(),
            3
        );
        node.stop().await;
    });
}

#[test]
fn a_node_says_that_it_lives_and_that_it_is_ready_to_anyone() {
    run_async(async {
        let test_env = TestEnv::new(&[]);
        let node = test_env.start().await;
        for (path, status) in [("/healthz", "ok"), ("/health", "ok"), ("/readyz", "ready")] {
            let url = format!("{}{path}", node.base);
            let answer = node.send_request(node.client.get(&url)).await;
            assert_eq!(
                (answer.status, &answer.body),
                (200, &json!({"status": status})),
                "{path}"
            );
            assert_eq!(answer.header("cache-control"), Some("no-store"));
            let head = node.send_request(node.client.head(&url)).await;
            assert_eq!((head.status, &head.body), (200, &json!("")), "{path}");
        }
        node.stop().await;
    });
}

/// A misspelt name found nothing, as if there were no such events.
#[test]
fn a_filter_by_a_name_that_no_event_has_is_refused_with_the_nearest_one() {
    run_async(async {
        let node = TestEnv::new(&[]).start().await;
        node.send_message("S-1", "k-1").await;
        for (query, field, hint) in [
            (
                "type=mesage.created",
                "type",
                "is no event of this node; did you mean message.created?",
            ),
            ("type=message", "type", "is no event of this node"),
            (
                "source=suport",
                "source",
                "is no source of this node; did you mean support?",
            ),
            ("kind=tickets", "kind", "did you mean ticket?"),
        ] {
            let answer = node.get(&format!("/api/v1/events?{query}")).await;
            assert_eq!(answer.status, 400, "{query}: {}", answer.body);
            let error = &answer.body["errors"][0];
            assert_eq!(error["field"], field, "{query}: {}", answer.body);
            let detail = error["detail"].as_str().expect("text");
            assert!(detail.contains(hint), "{query}: {detail}");
        }
        let known = list(&node, "/api/v1/events?type=lead.created&source=leads").await;
        assert_eq!(known["total"], 0, "known, and none is there: {known}");
        node.stop().await;
    });
}

/// A page of a hundred large events took hundreds of megabytes.
#[test]
fn a_page_holds_a_few_megabytes_of_content_and_names_the_events_without() {
    run_async(async {
        let node = TestEnv::new(&[]).start().await;
        let filler = "x".repeat(900_000);
        for number in 0..7 {
            let body = json!({
                "event": "status.changed", "support_uid": "BIG", "data": {"status": "open"}, "extra": filler,
            });
            let request = node.signed_request(&body.to_string(), &format!("k-{number}"));
            assert_eq!(node.send_request(request).await.status, 202);
        }
        // The fifth of them passes 4 MiB.
        let expect_content = |page: &Value, member: &str| {
            let items = page["items"].as_array().expect("items");
            let has_content = |item: &Value| !item[member].is_null();
            assert_eq!(items.iter().filter(|item| has_content(item)).count(), 5);
            for item in items {
                assert_eq!(item["content_omitted"] == true, !has_content(item));
            }
            items.len()
        };
        let page = node.get("/api/v1/events?page_size=100").await.body;
        assert_eq!(
            (expect_content(&page, "payload"), &page["total"]),
            (7, &json!(7))
        );
        let timeline = "/api/v1/entities/ticket/BIG/timeline?page_size=100";
        assert_eq!(expect_content(&node.get(timeline).await.body, "data"), 7);

        let first = node
            .get("/api/v1/events?after=start&page_size=100")
            .await
            .body;
        assert_eq!(
            (expect_content(&first, "payload"), &first["has_more"]),
            (5, &json!(true))
        );
        let cursor = first["cursor"].as_str().expect("a cursor");
        let rest = format!("/api/v1/events?after={cursor}&page_size=100");
        let rest = node.get(&rest).await.body;
        assert_eq!(rest["items"].as_array().map(Vec::len), Some(2));
        assert!(rest["items"][1]["payload"]["extra"] == filler);

        let export = node
            .client
            .get(format!("{}/api/v1/entities/ticket/BIG/export", node.base));
        let export = export.bearer_auth(TOKEN).send().await.expect("an answer");
        let export = export.text().await.expect("lines");
        assert_eq!(
            export
                .lines()
                .skip(1)
                .filter(|line| line.contains(&filler))
                .count(),
            7
        );
        node.stop().await;
    });
}
