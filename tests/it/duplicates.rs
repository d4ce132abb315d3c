//! Idempotency: one source and idempotency key is accepted once within its window.

use std::sync::Arc;
use std::time::Duration;

use hookyard::entity::{
    self, DecisionContext, DecisionIds, EntityAction, EntityDecision, EntityState, IdAllocator,
    ticket,
};
use hookyard::event::{EntityKey, InternedName, Kind, Position, Record, Timestamp};
use hookyard::journal::{
    DataFolder, Journal, JournalLimits, JournalSubmission, LocalDisk, RecordDraft, SegmentJournal,
};
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::test_node::{TestAnswer, TestClient, TestEnv, message_text, run_async, run_together};

/// Default time for which a key is remembered.
const WINDOW: Duration = Duration::from_secs(24 * 60 * 60);
const SECOND: Duration = Duration::from_secs(1);

/// Asserts that all of `answers` but one are duplicates of that one, and returns its event id.
fn one_accepted(answers: &[TestAnswer]) -> String {
    let (accepted, refused): (Vec<_>, Vec<_>) =
        answers.iter().partition(|answer| answer.status == 202);
    assert_eq!(accepted.len(), 1, "{answers:#?}");
    let first = accepted[0].event_id();
    refused
        .into_iter()
        .for_each(|answer| assert_duplicate(answer, &first));
    first
}

fn assert_duplicate(answer: &TestAnswer, first: &str) {
    assert_eq!(
        (answer.status, answer.body["code"].as_str()),
        (409, Some("duplicate_event")),
        "{answer:?}"
    );
    assert_eq!(answer.header("x-event-id"), Some(first));
    assert_eq!(
        answer.header("location"),
        Some(format!("/api/v1/events/{first}").as_str())
    );
}

fn later_message(
    client: &TestClient,
    ticket: &str,
    key: &str,
) -> impl Future<Output = TestAnswer> + 'static {
    let (client, ticket, key) = (client.clone(), ticket.to_owned(), key.to_owned());
    async move { client.send_message(&ticket, &key).await }
}

/// Returns the number of all events.
async fn events(client: &TestClient) -> u64 {
    client.get("/api/v1/events").await.body["total"]
        .as_u64()
        .expect("a total")
}

#[test]
fn of_32_concurrent_duplicates_one_is_accepted_and_31_name_it() {
    run_async(async {
        let test_env = TestEnv::new(&[]);
        let node = test_env.start().await;
        for round in 0..6 {
            let key = format!("k-{round}");
            let answers = run_together((0..32).map(|_| later_message(&node, "T", &key))).await;
            let first = one_accepted(&answers);
            assert_duplicate(&node.send_message("T", &key).await, &first);
        }
        assert_eq!(node.fetch_timeline("T").await.len(), 6);
        node.stop().await;
    });
}

#[test]
fn a_key_that_comes_with_two_tickets_at_once_is_accepted_once() {
    run_async(async {
        let test_env = TestEnv::new(&[("router.shards", "2")]);
        let node = test_env.start().await;
        for round in 0..60 {
            let key = format!("k-{round}");
            let answers =
                run_together(["A", "B"].map(|ticket| later_message(&node, ticket, &key))).await;
            let codes = answers
                .iter()
                .filter_map(|answer| answer.body["code"].as_str());
            // The two have other bodies, so the second one is no repetition.
            assert_eq!(codes.collect::<Vec<_>>(), ["idempotency_key_reused"]);
        }
        assert_eq!(
            node.fetch_timeline("A").await.len() + node.fetch_timeline("B").await.len(),
            60
        );
        node.stop().await;
    });
}

/// The key may stand in a header, which is not signed: with another key, a captured request was
/// accepted again.
#[test]
fn a_captured_request_is_taken_once_whatever_key_it_comes_with() {
    run_async(async {
        let mut test_env = TestEnv::new(&[]);
        let clock = test_env.with_manual_clock();
        let mut node = test_env.start().await;
        let body = json!({"event": "agent.unassigned", "support_uid": "T"}).to_string();
        // The clock stands still, so that the signature is the same each time.
        let send = async |client: &TestClient, key: &str| {
            client.send_request(client.signed_request(&body, key)).await
        };

        let first = send(&node, "k-0").await.event_id();
        for key in ["k-1", "k-2", "k-0"] {
            assert_duplicate(&send(&node, key).await, &first);
        }
        node.stop().await;

        node = test_env.start().await;
        assert_duplicate(&send(&node, "k-9").await, &first);
        assert_eq!(events(&node).await, 1);

        clock.advance(SECOND);
        let anew = node.send_request(node.signed_request(&body, "k-9")).await;
        assert_eq!(
            anew.status, 202,
            "the key of a refused request is free: {anew:?}"
        );
        let again = node.send_request(node.signed_request(&body, "k-9")).await;
        assert_duplicate(&again, &anew.event_id());
        node.stop().await;
    });
}

/// The API key is not signed: under another one of the source, a captured request was accepted again.
#[test]
fn a_captured_request_is_taken_once_whatever_api_key_it_comes_with() {
    run_async(async {
        let other = "another-api-key-of-the-same-source";
        let mut test_env = TestEnv::new(&[]);
        test_env.set(
            "sources.support.api_keys",
            &format!("{},{other}", crate::test_node::API_KEY),
        );
        test_env.with_manual_clock();
        let node = test_env.start().await;
        let body = json!({"event": "agent.unassigned", "support_uid": "T"}).to_string();
        let first = node.send_request(node.signed_request(&body, "k-0")).await;
        let mut request = node
            .signed_request(&body, "k-1")
            .build()
            .expect("a request");
        let api_key = other.parse().expect("a header");
        request.headers_mut().insert("x-crm-api-key", api_key);
        let (client, request) = (node.client.clone(), request);
        let again = client.execute(request).await.expect("an answer");
        assert_eq!(again.status().as_u16(), 409);
        assert_eq!(
            again
                .headers()
                .get("x-event-id")
                .map(|id| id.to_str().expect("text").to_owned()),
            Some(first.event_id())
        );
        node.stop().await;
    });
}

#[test]
fn of_one_captured_request_with_many_keys_at_once_one_is_accepted() {
    run_async(async {
        let mut test_env = TestEnv::new(&[]);
        let _clock = test_env.with_manual_clock();
        let node = test_env.start().await;
        for round in 0..6 {
            let body = json!({"event": "agent.unassigned", "support_uid": format!("T-{round}")});
            let body = body.to_string();
            let send = |key: u32| {
                let request = node.signed_request(&body, &format!("{round}-{key}"));
                let client = TestClient::clone(&node);
                async move { client.send_request(request).await }
            };
            one_accepted(&run_together((0..16).map(send)).await);
        }
        assert_eq!(events(&node).await, 6);
        node.stop().await;
    });
}

#[test]
fn a_key_is_the_same_wherever_in_the_request_it_stands() {
    run_async(async {
        let test_env = TestEnv::new(&[]);
        let node = test_env.start().await;
        let mut body = json!({"event": "agent.unassigned", "support_uid": "T"});
        let first = node
            .send_request(node.signed_request(&body.to_string(), "k"))
            .await;
        let first = first.event_id();
        body["idempotency_key"] = "k".into();
        let body = body.to_string();
        for other_header in [None, Some("k")] {
            let mut request = node.signed_request(&body, "k").build().expect("a request");
            request.headers_mut().remove("idempotency-key");
            if let Some(key) = other_header {
                request
                    .headers_mut()
                    .insert("x-idempotency-key", key.parse().expect("a header"));
            }
            let request = reqwest::RequestBuilder::from_parts(node.client.clone(), request);
            assert_duplicate(&node.send_request(request).await, &first);
        }
        node.stop().await;
    });
}

#[test]
fn a_duplicate_is_known_after_a_restart() {
    run_async(async {
        let test_env = TestEnv::new(&[]);
        let node = test_env.start().await;
        let first = node.send_message("T", "k").await.event_id();
        node.stop().await;

        let node = test_env.start().await;
        let answers = run_together((0..8).map(|_| later_message(&node, "T", "k"))).await;
        answers
            .iter()
            .for_each(|answer| assert_duplicate(answer, &first));
        assert_eq!(node.fetch_timeline("T").await.len(), 1);
        node.stop().await;
    });
}

/// Appends `count` events with the keys `k-1`, `k-2` … to the journal of `test_env`, as a node
/// would, but without HTTP.
fn fill(test_env: &TestEnv, count: u64) -> impl Fn(u64) -> String + use<> {
    let data = DataFolder::open(&test_env.store_path()).expect("opens");
    let limits = JournalLimits {
        queue: count as usize,
        commit_records: 1024,
        commit_bytes: 4 << 20,
        sync_interval: None,
        segment_bytes: 16 << 20,
    };
    let clock = Arc::clone(&test_env.deps.clock);
    let log = SegmentJournal::open(
        &data,
        Arc::new(LocalDisk),
        limits,
        clock,
        <_>::default(),
        None,
    )
    .expect("opens");
    let now = test_env.deps.clock.wall();
    let incarnations = log.incarnations().clone();
    for n in 1..=count {
        let entity =
            EntityKey::try_new(Kind::Ticket, &format!("T-{}", (n - 1) / 100)).expect("an id");
        let record = status_changed(entity.clone(), (n - 1) % 100 + 1, format!("k-{n}"), now);
        let draft = RecordDraft {
            entity,
            sequence: record.sequence,
            received_at: now,
            bytes: record.encode(),
        };
        log.append(JournalSubmission {
            drafts: vec![draft],
            settle: Box::new(|_| ()),
        })
        .expect("open");
    }
    log.close();
    move |n| incarnations.event_id(Position::new(n)).to_string()
}

fn status_changed(entity: EntityKey, sequence: u64, key: String, at: Timestamp) -> Record {
    let action = EntityAction::Ticket(ticket::TicketAction::StatusChanged {
        status: "open".into(),
        reason: None,
    });
    let (ids, limits) = (
        IdAllocator::starting_after(0),
        entity::StateLimits { items_max: 10 },
    );
    let source = InternedName::from_static("support");
    let context = DecisionContext {
        key: &entity,
        source,
        at,
        received_at: at,
        unique_key_is_free: true,
        limits,
        ids: DecisionIds::new(&ids),
    };
    let decided = EntityState::new(Kind::Ticket).decide(&action, &context);
    let Ok(EntityDecision::Accept(accepted)) = decided else {
        panic!("taken: {decided:?}")
    };
    Record {
        sequence: Some(sequence),
        idempotency_key: Some(key),
        payload: "{}".into(),
        change: accepted.change.encode().into(),
        ..Record::new("support", entity, "status.changed", at)
    }
}

/// 65,536 keys make a block, which leaves memory for the store.
#[test]
fn a_duplicate_is_known_when_its_key_has_left_memory() {
    run_async(async {
        let mut test_env = TestEnv::new(&[]);
        let clock = test_env.with_manual_clock();
        let id = fill(&test_env, 66_000);
        for _restart in 0..2 {
            let node = test_env.start().await;
            for n in [1, 40_000, 65_536, 65_537, 66_000] {
                assert_duplicate(&node.send_message("T", &format!("k-{n}")).await, &id(n));
            }
            node.stop().await;
        }
        let node = test_env.start().await;
        assert_eq!(
            node.send_message("T", "k-66001").await.event_id(),
            id(66_001)
        );
        clock.advance(WINDOW);
        for n in [1, 65_536, 66_000] {
            assert_eq!(node.send_message("T", &format!("k-{n}")).await.status, 202);
        }
        node.stop().await;
    });
}

#[test]
fn a_key_is_free_again_when_its_window_ends() {
    run_async(async {
        let mut test_env = TestEnv::new(&[]);
        let clock = test_env.with_manual_clock();
        let node = test_env.start().await;
        let first = node.send_message("T", "k").await.event_id();
        clock.advance(WINDOW - SECOND);
        assert_duplicate(&node.send_message("T", "k").await, &first);
        clock.advance(2 * SECOND);
        let second = node.send_message("T", "k").await.event_id();
        assert_ne!(second, first);
        clock.advance(WINDOW - SECOND);
        assert_duplicate(&node.send_message("T", "k").await, &second);
        assert_eq!(node.fetch_timeline("T").await.len(), 2);
        node.stop().await;
    });
}

#[test]
fn a_window_goes_on_across_restarts() {
    run_async(async {
        let mut test_env = TestEnv::new(&[]);
        let clock = test_env.with_manual_clock();
        let node = test_env.start().await;
        let first = node.send_message("T", "k").await.event_id();
        node.stop().await;

        clock.advance(WINDOW - SECOND);
        let node = test_env.start().await;
        assert_duplicate(&node.send_message("T", "k").await, &first);
        node.stop().await;

        clock.advance(2 * SECOND);
        let node = test_env.start().await;
        let second = node.send_message("T", "k").await.event_id();
        assert_ne!(second, first);
        node.stop().await;

        // Both events with this key are in the store now; the newer one counts.
        let node = test_env.start().await;
        assert_duplicate(&node.send_message("T", "k").await, &second);
        node.stop().await;
    });
}

#[test]
fn keys_whose_fingerprints_collide_are_no_duplicates() {
    run_async(async {
        let mut test_env = TestEnv::new(&[]);
        test_env.deps.fingerprint = |_, _| 7;
        let node = test_env.start().await;
        let mut first = Vec::new();
        for n in 0..5 {
            let answer = node.send_message("T", &format!("one-{n}")).await;
            assert_eq!(answer.status, 202, "{answer:?}");
            first.push((format!("one-{n}"), answer.event_id()));
        }
        // Twelve keys at once, each of them three times.
        let keys: Vec<_> = (0..12).map(|n| format!("many-{n}")).collect();
        let threes = keys
            .iter()
            .map(|key| run_together([(); 3].map(|()| later_message(&node, "T", key))));
        let threes = run_together(threes.collect::<Vec<_>>()).await;
        first.extend(
            keys.into_iter()
                .zip(threes)
                .map(|(key, answers)| (key, one_accepted(&answers))),
        );
        node.stop().await;

        let node = test_env.start().await;
        for (key, event_id) in &first {
            assert_duplicate(&node.send_message("T", key).await, event_id);
        }
        assert_eq!(node.send_message("T", "another").await.status, 202);
        assert_eq!(events(&node).await, 18);
        node.stop().await;
    });
}

#[test]
fn an_event_that_failed_holds_its_key() {
    run_async(async {
        let test_env = TestEnv::new(&[("sources.support.unknown_entity", "reject")]);
        let node = test_env.start().await;
        let failed = node.send_message("T", "k").await;
        assert_eq!(
            (failed.status, failed.body["entity"]["sequence"].as_u64()),
            (202, None)
        );
        assert_duplicate(&node.send_message("T", "k").await, &failed.event_id());
        node.stop().await;

        let node = test_env.start().await;
        assert_duplicate(&node.send_message("T", "k").await, &failed.event_id());
        assert_eq!(events(&node).await, 1);
        node.stop().await;
    });
}

/// Environment with one HTTP worker: an answer proves that all requests sent before were read.
fn env_with_one_worker() -> TestEnv {
    TestEnv::new(&[("server.workers", "1")])
}

#[test]
fn a_duplicate_of_a_pending_event_waits_for_its_outcome() {
    run_async(async {
        let mut test_env = env_with_one_worker();
        let dam = test_env.with_disk_gate();
        let node = test_env.start().await;
        let first = dam.hold_request(later_message(&node, "T", "k")).await;
        let duplicates =
            ["T", "T"].map(|ticket| actix_rt::spawn(later_message(&node, ticket, "k")));
        assert_eq!(node.get("/healthz").await.status, 200);
        assert!(
            !first.is_finished() && duplicates.iter().all(|duplicate| !duplicate.is_finished())
        );
        dam.open();
        let accepted = first.await.expect("runs");
        assert_eq!(accepted.status, 202, "{accepted:?}");
        for duplicate in duplicates {
            assert_duplicate(&duplicate.await.expect("runs"), &accepted.event_id());
        }
        assert_eq!(events(&node).await, 1);
        node.stop().await;
    });
}

#[test]
fn an_event_of_an_aborted_request_keeps_its_key_and_is_stored_once() {
    run_async(async {
        let mut test_env = env_with_one_worker();
        let dam = test_env.with_disk_gate();
        let node = test_env.start().await;
        for round in 0..5 {
            let key = format!("k-{round}");
            let request = node
                .signed_request(&message(&key), &key)
                .build()
                .expect("a request");
            let connection = dam
                .hold_request(connection_with(raw(&node, request)))
                .await
                .await
                .expect("runs");
            // A reset, which makes the server drop its work for this connection.
            connection.set_zero_linger().expect("a connected socket");
            drop(connection);
            assert_eq!(node.get("/healthz").await.status, 200);
            let meanwhile = actix_rt::spawn(later_message(&node, "T", &key));
            assert_eq!(node.get("/healthz").await.status, 200);
            dam.open();
            let meanwhile = meanwhile.await.expect("runs");
            let first = meanwhile
                .header("x-event-id")
                .expect("an event id")
                .to_owned();
            assert_duplicate(&meanwhile, &first);
            assert_duplicate(&node.send_message("T", &key).await, &first);
            assert_eq!(node.fetch_timeline("T").await.len(), round + 1);
            assert_eq!(node.fetch_timeline("T").await[round]["event_id"], first);
        }
        node.stop().await;
    });
}

fn message(key: &str) -> String {
    json!({"event": "message.created", "support_uid": "T", "data": {"message_id": key, "text": message_text(key)}}).to_string()
}

/// Connects and sends, without reading an answer.
async fn connection_with((address, bytes): (String, Vec<u8>)) -> TcpStream {
    let mut connection = TcpStream::connect(address).await.expect("connects");
    connection.write_all(&bytes).await.expect("is written");
    connection
}

/// Address of `request` and its bytes on the wire.
fn raw(client: &TestClient, request: reqwest::Request) -> (String, Vec<u8>) {
    let address = client
        .base
        .strip_prefix("http://")
        .expect("an http address")
        .to_owned();
    let body = request
        .body()
        .and_then(reqwest::Body::as_bytes)
        .expect("a body");
    let mut bytes = format!(
        "POST {} HTTP/1.1\r\nhost: {address}\r\ncontent-length: {}\r\n",
        request.url().path(),
        body.len()
    );
    for (name, value) in request.headers() {
        bytes += &format!("{name}: {}\r\n", value.to_str().expect("text"));
    }
    bytes += "\r\n";
    (address, [bytes.as_bytes(), body].concat())
}
