//! Entities that crash, are passivated, and come back: alone, with their state, and with their next
//! number.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use hookyard::derived::DerivedStore;
use hookyard::failpoints::NoFailures;
use hookyard::journal::DataFolder;
use serde_json::{Value, json};

use crate::failures::{DiskFailure, check_timeline, expect_in_time, join_all, run_all, spawn_all};
use crate::rebuild::rebuild;
use crate::test_node::{TestAnswer, TestClient, TestEnv, run_async};

/// Message ids, which are also idempotency keys.
fn keys(ticket: &str, numbers: RangeInclusive<u64>) -> Vec<String> {
    numbers.map(|number| format!("{ticket}-{number}")).collect()
}

/// Message that is sent in a task of its own.
fn message(
    client: &TestClient,
    ticket: &str,
    key: &str,
) -> impl Future<Output = TestAnswer> + Send + use<> {
    let (client, ticket, key) = (client.clone(), ticket.to_owned(), key.to_owned());
    async move { client.send_message(&ticket, &key).await }
}

async fn state(client: &TestClient, ticket: &str) -> TestAnswer {
    expect_in_time(client.get(&format!("/api/v1/entities/ticket/{ticket}"))).await
}

fn class(answer: &TestAnswer) -> (u16, &Value) {
    (answer.status, &answer.body["code"])
}

#[test]
fn an_entity_that_crashes_comes_back_with_its_state_its_next_number_and_its_key_free_again() {
    run_async(async {
        let mut test_env = TestEnv::new(&[]);
        let disk_failure = DiskFailure::install(&mut test_env);
        let node = test_env.start().await;
        let mut accepted = Vec::new();
        for key in keys("SUP-1", 1..=3) {
            accepted.push(node.send_message("SUP-1", &key).await);
        }
        disk_failure.crash_entity("SUP-1", 1);
        let crashed = expect_in_time(node.send_message("SUP-1", "SUP-1-4")).await;
        assert_eq!(class(&crashed), (503, &json!("unavailable")));
        assert_eq!(crashed.header("retry-after"), Some("1"));

        let retried = expect_in_time(node.send_message("SUP-1", "SUP-1-4")).await;
        assert_eq!(
            (retried.status, retried.sequence()),
            (202, 4),
            "{retried:?}"
        );
        accepted.push(retried);
        check_timeline(&node, "SUP-1", &keys("SUP-1", 1..=4), &accepted).await;
        node.stop().await;
    });
}

#[test]
fn a_crash_before_the_first_record_of_an_entity_leaves_no_entity() {
    run_async(async {
        let mut test_env = TestEnv::new(&[]);
        let disk_failure = DiskFailure::install(&mut test_env);
        let node = test_env.start().await;
        disk_failure.crash_entity("SUP-1", 1);
        assert_eq!(
            expect_in_time(node.send_message("SUP-1", "SUP-1-1"))
                .await
                .status,
            503
        );
        assert_eq!(state(&node, "SUP-1").await.status, 404);
        assert_eq!(
            expect_in_time(node.send_message("SUP-1", "SUP-1-1"))
                .await
                .sequence(),
            1
        );
        node.stop().await;
    });
}

#[test]
fn other_entities_do_not_notice_a_crash() {
    run_async(async {
        let mut test_env = TestEnv::new(&[("router.restarts_max", "1000")]);
        let disk_failure = DiskFailure::install(&mut test_env);
        let node = test_env.start().await;
        disk_failure.crash_entity("SUP-bad", u32::MAX);
        let bad = keys("SUP-bad", 1..=20);
        let tickets: Vec<String> = (1..=8).map(|n| format!("SUP-{n}")).collect();
        let good = tickets.iter().flat_map(|ticket| {
            keys(ticket, 1..=10)
                .into_iter()
                .map(move |key| (ticket, key))
        });
        let crashing = bad.iter().map(|key| message(&node, "SUP-bad", key));
        let working = good.map(|(ticket, key)| message(&node, ticket, &key));
        let (crashed, accepted) = tokio::join!(run_all(crashing), run_all(working));
        assert!(
            crashed.iter().all(|answer| answer.status == 503),
            "{crashed:?}"
        );
        let refused: Vec<_> = accepted
            .iter()
            .filter(|answer| answer.status != 202)
            .collect();
        assert!(refused.is_empty(), "{refused:?}");
        for (ticket, accepted) in tickets.iter().zip(accepted.chunks(10)) {
            check_timeline(&node, ticket, &keys(ticket, 1..=10), accepted).await;
        }
        node.stop().await;
    });
}

/// The successor may load only after the crashed entity's submitted records are durable.
#[test]
fn a_crash_with_records_on_their_way_loses_and_repeats_no_number() {
    run_async(async {
        let mut test_env = TestEnv::new(&[]);
        let disk_failure = DiskFailure::install(&mut test_env);
        let node = test_env.start().await;
        let mut accepted = vec![node.send_message("SUP-1", "SUP-1-1").await];
        disk_failure.hold_syncs();
        let mut on_their_way = Vec::new();
        for number in 2..=6 {
            on_their_way.push(tokio::spawn(message(
                &node,
                "SUP-1",
                &format!("SUP-1-{number}"),
            )));
            disk_failure.wait_until_decided("SUP-1", number).await;
        }
        disk_failure.crash_entity("SUP-1", 1);
        assert_eq!(
            expect_in_time(node.send_message("SUP-1", "SUP-1-7"))
                .await
                .status,
            503
        );
        let successors =
            spawn_all([7, 8, 9].map(|n| message(&node, "SUP-1", &format!("SUP-1-{n}"))));
        // An accepted event of another ticket proves that the requests before it were routed.
        let other = tokio::spawn(message(&node, "SUP-2", "SUP-2-1"));
        disk_failure.wait_until_decided("SUP-2", 1).await;
        disk_failure.release_syncs();
        for (request, number) in on_their_way.into_iter().zip(2..) {
            let answer = expect_in_time(request).await.expect("no panic in it");
            assert_eq!(
                (answer.status, answer.sequence()),
                (202, number),
                "{answer:?}"
            );
            accepted.push(answer);
        }
        let successors = join_all(successors).await;
        assert!(
            successors.iter().all(|answer| answer.status == 202),
            "{successors:?}"
        );
        accepted.extend(successors);
        assert_eq!(
            expect_in_time(other).await.expect("no panic in it").status,
            202
        );
        check_timeline(&node, "SUP-1", &keys("SUP-1", 1..=9), &accepted).await;
        node.stop().await;
    });
}

/// Requests in the mailbox at a crash are answered 503 and sent again; large texts trigger
/// snapshots meanwhile.
#[test]
fn crashes_under_load_lose_and_repeat_nothing() {
    run_async(async {
        let mut test_env = TestEnv::new(&[("router.restarts_max", "1000")]);
        let disk_failure = DiskFailure::install(&mut test_env);
        let node = test_env.start().await;
        let tickets = ["SUP-1", "SUP-2", "SUP-3"];
        let senders = tickets
            .into_iter()
            .flat_map(|ticket| (0..4).map(move |sender| (ticket, sender)));
        let work = senders.map(|(ticket, sender)| {
            let (client, disk_failure) = (node.api.clone(), Arc::clone(&disk_failure));
            async move {
                let mut accepted = Vec::new();
                for key in keys(ticket, sender * 15 + 1..=sender * 15 + 15) {
                    if key.ends_with('5') {
                        disk_failure.crash_entity(ticket, 1);
                    }
                    let text = format!("{key}{}", " a long story".repeat(60));
                    accepted.push(send_until_accepted(&client, ticket, &key, &text).await);
                }
                accepted
            }
        });
        let accepted = run_all(work).await;
        for (ticket, accepted) in tickets.into_iter().zip(accepted.chunks(4)) {
            let accepted: Vec<_> = accepted.iter().flatten().collect();
            assert_eq!(accepted.len(), 60);
            check_timeline(&node, ticket, &keys(ticket, 1..=60), accepted).await;
        }
        node.stop().await;
    });
}

/// Sends a message until it is accepted; a crash stores nothing, so there is never a 409.
async fn send_until_accepted(
    client: &TestClient,
    ticket: &str,
    key: &str,
    text: &str,
) -> TestAnswer {
    loop {
        let data = json!({"message_id": key, "text": text});
        let answer = expect_in_time(client.send(ticket, key, "message.created", data)).await;
        if answer.status == 202 {
            return answer;
        }
        assert_eq!(class(&answer), (503, &json!("unavailable")));
    }
}

#[test]
fn an_entity_that_crashes_too_often_rests_alone_and_then_works_again() {
    run_async(async {
        let mut test_env =
            TestEnv::new(&[("router.restarts_max", "2"), ("router.quarantine_s", "60")]);
        let clock = test_env.with_manual_clock();
        let disk_failure = DiskFailure::install(&mut test_env);
        let node = test_env.start().await;
        let mut accepted = vec![node.send_message("SUP-1", "SUP-1-1").await];
        disk_failure.crash_entity("SUP-1", 3);
        for _ in 0..3 {
            assert_eq!(
                class(&expect_in_time(node.send_message("SUP-1", "SUP-1-2")).await),
                (503, &json!("unavailable"))
            );
        }
        for (advance, retry_after) in [(0, "60"), (20, "40"), (39, "1")] {
            clock.advance(Duration::from_secs(advance));
            let resting = expect_in_time(node.send_message("SUP-1", "SUP-1-2")).await;
            assert_eq!(class(&resting), (503, &json!("entity_quarantined")));
            assert_eq!(resting.header("retry-after"), Some(retry_after));
            assert_eq!(
                expect_in_time(node.send_message("SUP-2", &format!("SUP-2-{advance}")))
                    .await
                    .status,
                202
            );
        }
        assert_eq!(
            state(&node, "SUP-1").await.body["sequence"],
            1,
            "it can be read meanwhile"
        );
        clock.advance(Duration::from_secs(1));
        for number in 2..=3 {
            let answer =
                expect_in_time(node.send_message("SUP-1", &format!("SUP-1-{number}"))).await;
            assert_eq!(
                (answer.status, answer.sequence()),
                (202, number),
                "{answer:?}"
            );
            accepted.push(answer);
        }
        check_timeline(&node, "SUP-1", &keys("SUP-1", 1..=3), &accepted).await;
        node.stop().await;
    });
}

#[test]
fn crashes_that_lie_a_window_apart_never_end_in_quarantine() {
    run_async(async {
        let mut test_env = TestEnv::new(&[
            ("router.restarts_max", "1"),
            ("router.restart_window_s", "10"),
        ]);
        let clock = test_env.with_manual_clock();
        let disk_failure = DiskFailure::install(&mut test_env);
        let node = test_env.start().await;
        for number in 1..=4 {
            let key = format!("SUP-1-{number}");
            disk_failure.crash_entity("SUP-1", 1);
            assert_eq!(
                class(&expect_in_time(node.send_message("SUP-1", &key)).await),
                (503, &json!("unavailable"))
            );
            assert_eq!(
                expect_in_time(node.send_message("SUP-1", &key))
                    .await
                    .sequence(),
                number
            );
            clock.advance(Duration::from_secs(10));
        }
        node.stop().await;
    });
}

#[test]
fn an_entity_with_records_on_their_way_is_not_let_go_and_a_new_one_finds_no_place() {
    run_async(async {
        let mut test_env = TestEnv::new(&[
            ("router.live_entities_max", "4"),
            ("router.idle_timeout_s", "0.01"),
        ]);
        let disk_failure = DiskFailure::install(&mut test_env);
        let node = test_env.start().await;
        let tickets = ["SUP-1", "SUP-2", "SUP-3", "SUP-4"];
        disk_failure.hold_syncs();
        let mut requests = Vec::new();
        for number in 1..=3 {
            for ticket in tickets {
                requests.push((
                    ticket,
                    number,
                    tokio::spawn(message(&node, ticket, &format!("{ticket}-{number}"))),
                ));
                disk_failure.wait_until_decided(ticket, number).await;
            }
            let refused = expect_in_time(node.send_message("SUP-5", "SUP-5-1")).await;
            assert_eq!(class(&refused), (503, &json!("overloaded")));
            assert_eq!(refused.header("retry-after"), Some("1"));
        }
        disk_failure.release_syncs();
        for (ticket, number, request) in requests {
            let answer = expect_in_time(request).await.expect("no panic in it");
            assert_eq!(
                (answer.status, answer.sequence()),
                (202, number),
                "of {ticket}: {answer:?}"
            );
        }
        // A read returns when the projection has passed all records, so the entities can be
        // passivated.
        assert_eq!(state(&node, "SUP-1").await.status, 200);
        assert_eq!(
            expect_in_time(node.send_message("SUP-5", "SUP-5-1"))
                .await
                .sequence(),
            1
        );
        for ticket in tickets {
            assert_eq!(state(&node, ticket).await.status, 200);
            assert_eq!(
                expect_in_time(node.send_message(ticket, &format!("{ticket}-4")))
                    .await
                    .sequence(),
                4
            );
            check_timeline(&node, ticket, &keys(ticket, 1..=4), &[]).await;
        }
        node.stop().await;
    });
}

/// Entities are passivated as soon as possible. One sender tests loading right after the last
/// record; several senders test loads that run at the same time.
#[test]
fn entities_that_come_and_go_all_the_time_lose_and_repeat_no_number() {
    for (senders, live_max) in [(1, "1"), (6, "3")] {
        run_async(async {
            let test_env = TestEnv::new(&[
                ("router.live_entities_max", live_max),
                ("router.idle_timeout_s", "0.001"),
            ]);
            let node = test_env.start().await;
            let work = (0..senders).map(|sender| {
                let client = node.api.clone();
                async move {
                    for number in 1..=12 {
                        send_when_there_is_room(&client, &format!("SUP-{sender}-a"), number).await;
                        send_when_there_is_room(&client, &format!("SUP-{sender}-b"), number).await;
                    }
                }
            });
            run_all(work).await;
            for ticket in
                (0..senders).flat_map(|sender| ["a", "b"].map(|end| format!("SUP-{sender}-{end}")))
            {
                check_timeline(&node, &ticket, &keys(&ticket, 1..=12), &[]).await;
            }
            node.stop().await;
        });
    }
}

/// Sends message `number`; only a lack of room may refuse it.
async fn send_when_there_is_room(client: &TestClient, ticket: &str, number: u64) {
    loop {
        let answer =
            expect_in_time(client.send_message(ticket, &format!("{ticket}-{number}"))).await;
        if answer.status == 202 {
            return assert_eq!(answer.sequence(), number, "of {ticket}");
        }
        assert_eq!(class(&answer), (503, &json!("overloaded")), "of {ticket}");
        // Durable records are projected when this returns, so the entity can be passivated.
        state(client, ticket).await;
    }
}

/// Regression: the router looked at 64 entities, all used since the last look, and refused the new
/// one.
#[test]
fn a_new_entity_finds_a_place_although_all_live_ones_were_used_lately() {
    run_async(async {
        let test_env = TestEnv::new(&[("router.live_entities_max", "150")]);
        let node = test_env.start().await;
        let tickets: Vec<String> = (1..=150).map(|n| format!("SUP-{n}")).collect();
        let answers = run_all(tickets.iter().map(|ticket| message(&node, ticket, ticket))).await;
        assert!(answers.iter().all(|answer| answer.status == 202));
        for n in 151..=310 {
            let ticket = format!("SUP-{n}");
            state(&node, "SUP-1").await;
            let answer = expect_in_time(node.send_message(&ticket, &ticket)).await;
            assert_eq!(answer.status, 202, "of {ticket}: {answer:?}");
        }
        let listed = node.get("/api/v1/entities/ticket").await;
        assert_eq!(listed.body["total"], 310);
        node.stop().await;
    });
}

#[test]
fn an_entity_with_snapshots_is_the_same_after_it_was_let_go_after_a_restart_and_after_a_rebuild() {
    run_async(async {
        let test_env = TestEnv::new(&[
            ("router.live_entities_max", "1"),
            ("entity.items_max", "20"),
        ]);
        let node = test_env.start().await;
        for number in 1..=100 {
            let (text, key) = (
                format!("{number} {}", "words ".repeat(200)),
                format!("SUP-1-{number}"),
            );
            let data = json!({"message_id": key, "text": text});
            assert_eq!(
                node.send("SUP-1", &key, "message.created", data)
                    .await
                    .sequence(),
                number
            );
        }
        let before = state(&node, "SUP-1").await.body;
        assert_eq!(
            before["state"]["messages"].as_array().map(Vec::len),
            Some(20),
            "{before}"
        );

        let make_it_go = async |node: &TestClient, key: &str| {
            state(node, "SUP-2").await;
            assert_eq!(
                expect_in_time(node.send_message("SUP-2", key)).await.status,
                202
            );
            state(node, "SUP-2").await;
        };
        make_it_go(&node, "SUP-2-1").await;
        assert_eq!(state(&node, "SUP-1").await.body, before);
        // Decided from the loaded state: the message is known; with another id the change would
        // fail.
        let data = json!({"message_id": "SUP-1-90", "text": "changed"});
        assert_eq!(
            node.send("SUP-1", "edit-1", "message.updated", data)
                .await
                .sequence(),
            101
        );
        make_it_go(&node, "SUP-2-2").await;
        let data = json!({"message_id": "SUP-1-100"});
        assert_eq!(
            node.send("SUP-1", "edit-2", "message.deleted", data)
                .await
                .sequence(),
            102
        );
        let edited = state(&node, "SUP-1").await.body;
        assert!(edited.to_string().contains("changed"));
        node.stop().await;
        assert!(
            snapshot_rows(&test_env) > 0,
            "no snapshot was taken, so none was tested"
        );

        let node = test_env.start().await;
        assert_eq!(state(&node, "SUP-1").await.body, edited);
        node.stop().await;

        rebuild(&test_env).expect("it rebuilds");
        assert_eq!(snapshot_rows(&test_env), 0, "a rebuild begins from nothing");
        let node = test_env.start().await;
        assert_eq!(state(&node, "SUP-1").await.body, edited);
        let data = json!({"message_id": "SUP-1-99", "text": "changed too"});
        assert_eq!(
            node.send("SUP-1", "edit-3", "message.updated", data)
                .await
                .sequence(),
            103
        );
        node.stop().await;
    });
}

/// Opens the derived data of the stopped node.
pub fn open_derived(test_env: &TestEnv) -> Arc<DerivedStore> {
    let data = DataFolder::open(&test_env.store_path()).expect("the node has stopped");
    DerivedStore::open(&data, 1 << 20, Arc::new(NoFailures)).expect("opens")
}

/// Counts the snapshot parts in the stopped node's store.
pub fn snapshot_rows(test_env: &TestEnv) -> usize {
    /// Tag of snapshot keys.
    const SNAPSHOT: u8 = 3;
    let tree = open_derived(test_env).tree("projection").expect("a tree");
    tree.scan_prefix([SNAPSHOT]).count()
}

/// Regression: each message beyond the first few was refused, because a new entity's mailbox was
/// small until its first poll.
#[test]
fn the_first_events_of_an_entity_may_come_all_at_once() {
    run_async(async {
        let mut test_env = TestEnv::new(&[]);
        let disk_failure = DiskFailure::install(&mut test_env);
        let node = test_env.start().await;
        let new = keys("SUP-1", 1..=100);
        let accepted = run_all(new.iter().map(|key| message(&node, "SUP-1", key))).await;
        let refused: Vec<_> = accepted
            .iter()
            .filter(|answer| answer.status != 202)
            .collect();
        assert!(
            refused.is_empty(),
            "{} refused: {:?}",
            refused.len(),
            refused.first()
        );
        check_timeline(&node, "SUP-1", &new, &accepted).await;

        disk_failure.crash_entity("SUP-1", 1);
        assert_eq!(
            expect_in_time(node.send_message("SUP-1", "SUP-1-101"))
                .await
                .status,
            503
        );
        let more = keys("SUP-1", 101..=200);
        let accepted = run_all(more.iter().map(|key| message(&node, "SUP-1", key))).await;
        assert!(accepted.iter().all(|answer| answer.status == 202));
        check_timeline(&node, "SUP-1", &keys("SUP-1", 1..=200), &accepted).await;
        node.stop().await;
    });
}

/// An event whose sender disconnects is decided all the same, and a retry finds it.
#[test]
fn a_retry_after_a_crash_and_a_lost_connection_is_stored_once() {
    run_async(async {
        let mut test_env = TestEnv::new(&[]);
        let disk_failure = DiskFailure::install(&mut test_env);
        let node = test_env.start().await;
        disk_failure.crash_entity("SUP-1", 1);
        assert_eq!(
            expect_in_time(node.send_message("SUP-1", "SUP-1-1"))
                .await
                .status,
            503
        );
        disk_failure.hold_syncs_at_decision("SUP-1");
        let given_up = tokio::spawn(message(&node, "SUP-1", "SUP-1-1"));
        disk_failure.wait_until_decided("SUP-1", 2).await;
        given_up.abort();
        let retry = tokio::spawn(message(&node, "SUP-1", "SUP-1-1"));
        disk_failure.release_syncs();
        assert_eq!(
            expect_in_time(retry).await.expect("no panic in it").status,
            409
        );
        check_timeline(&node, "SUP-1", &keys("SUP-1", 1..=1), &[]).await;
        node.stop().await;
    });
}
