//! Rebuilding the projection from the journal: every read has the same answer as before.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;
use std::time::Duration;

use hookyard::app::{self, RebuildSummary};
use hookyard::clock::{Clock, ManualClock};
use hookyard::config::Secret;
use hookyard::derived::DerivedStore;
use hookyard::edge::support::signature::sign_support_body;
use hookyard::event::Timestamp;
use serde_json::{Value, json};

use crate::crashes::{open_derived, snapshot_rows};
use crate::failures::{incompressible_text, join_all, spawn_all};
use crate::store_opening::run_tool;
use crate::test_node::{SECRET, TestAnswer, TestClient, TestEnv, run_async};

/// Rebuilds the store of `test_env`, on its own thread because the call blocks.
pub fn rebuild(test_env: &TestEnv) -> Result<RebuildSummary, app::NodeError> {
    let config = test_env.config();
    std::thread::spawn(move || app::rebuild_store(&config))
        .join()
        .expect("no panic in it")
}

/// Folder of a stopped node with every kind of record, and the answers of all reads.
struct RecordedStore {
    test_env: TestEnv,
    reads: BTreeMap<String, Value>,
    /// Accepted events by key.
    accepted: Vec<(&'static str, TestAnswer)>,
}

/// More than one page of a list.
const TICKETS: u64 = 130;
/// More than one block of events, and several snapshots.
const LONG: u64 = 600;
/// Other records, see [`send_history`].
const OTHERS: u64 = 9;

impl RecordedStore {
    fn new() -> Self {
        let mut test_env = TestEnv::new(&[("entity.items_max", "50")]);
        let clock = test_env.with_manual_clock();
        let (reads, accepted) = run_async(async {
            let node = test_env.start().await;
            let accepted = send_history(&node, &clock).await;
            let reads = read_everything(&node).await;
            node.stop().await;
            (reads, accepted)
        });
        assert!(snapshot_rows(&test_env) > 0, "no entity has a snapshot");
        Self {
            test_env,
            reads,
            accepted,
        }
    }

    /// Expected result of a rebuild.
    fn expected_summary(&self) -> RebuildSummary {
        RebuildSummary {
            records: TICKETS + LONG + OTHERS,
            entities: TICKETS + 1,
        }
    }

    /// Starts a node and compares its reads and known keys with the recorded ones.
    fn assert_unchanged(&self) {
        run_async(async {
            let node = self.test_env.start().await;
            let reads = read_everything(&node).await;
            assert!(
                reads.keys().eq(self.reads.keys()),
                "{:?} became {:?}",
                self.reads.keys(),
                reads.keys()
            );
            for (path, answer) in &reads {
                assert_eq!(*answer, self.reads[path], "at {path}");
            }
            for (key, accepted) in &self.accepted {
                let again = node.send_message("SUP-other", key).await;
                assert_eq!(again.status, 409, "{key}: {again:?}");
                // Another body under the same key is no repetition, and gets no event id.
                if again.body["code"] == "duplicate_event" {
                    assert_eq!(
                        again.header("x-event-id"),
                        accepted.header("x-event-id"),
                        "of {key}"
                    );
                }
            }
            node.stop().await;
        });
    }

    /// Changes the projection's rows while no node runs.
    fn change(&self, change: impl FnOnce(&Arc<DerivedStore>)) {
        let store = open_derived(&self.test_env);
        change(&store);
        store.sync().expect("it syncs");
    }
}

/// Sends many tickets and a long one, with failed, reprocessed and late events.
async fn send_history(client: &TestClient, clock: &ManualClock) -> Vec<(&'static str, TestAnswer)> {
    let accepted = |answer: TestAnswer| {
        assert_eq!(answer.status, 202, "{answer:?}");
        answer
    };
    for number in 1..=TICKETS {
        let (ticket, key) = (format!("SUP-{number}"), format!("status-{number}"));
        accepted(
            client
                .send(
                    &ticket,
                    &key,
                    "status.changed",
                    json!({"status": "pending"}),
                )
                .await,
        );
        clock.advance(Duration::from_millis(300));
    }
    let long = (1..=LONG).map(|number| {
        let (client, key) = (client.clone(), format!("long-{number}"));
        async move {
            let data = json!({"message_id": key, "text": incompressible_text(200)});
            client.send("SUP-long", &key, "message.created", data).await
        }
    });
    join_all(spawn_all(long))
        .await
        .into_iter()
        .for_each(|answer| drop(accepted(answer)));

    let unknown = json!({"message_id": "m-1", "text": "of a message that is not there"});
    let lost = accepted(
        client
            .send("SUP-1", "lost", "message.updated", unknown.clone())
            .await,
    );
    let never = accepted(
        client
            .send("SUP-2", "never", "message.updated", unknown.clone())
            .await,
    );
    let none = accepted(
        client
            .send("SUP-none", "none", "message.updated", unknown)
            .await,
    );
    let reprocess = async |event: &TestAnswer| {
        client
            .post(&format!("/api/v1/events/{}/reprocess", event.event_id()))
            .await
    };
    accepted(reprocess(&lost).await);
    accepted(reprocess(&never).await);
    accepted(client.send_message("SUP-1", "m-1").await);
    clock.advance(Duration::from_secs(60));
    assert_eq!(
        accepted(reprocess(&lost).await).sequence(),
        3,
        "it failed twice and worked at last"
    );
    let late = accepted(sent_late(client, clock, "SUP-3", json!({"status": "closed"})).await);
    assert_eq!(late.sequence(), 2);
    let tags = accepted(
        client
            .send("SUP-3", "tags", "tags.updated", json!({"tags": ["b", "a"]}))
            .await,
    );
    let state = client.get("/api/v1/entities/ticket/SUP-3").await;
    assert_eq!(
        state.body["state"]["status"], "pending",
        "the late event did not count"
    );
    vec![
        ("lost", lost),
        ("never", never),
        ("none", none),
        ("late", late),
        ("tags", tags),
    ]
}

/// Sends a change of status that was signed before the ticket's newest event.
async fn sent_late(
    client: &TestClient,
    clock: &ManualClock,
    ticket: &str,
    data: Value,
) -> TestAnswer {
    let body = json!({"event": "status.changed", "support_uid": ticket, "data": data}).to_string();
    let signed_at = clock
        .wall()
        .saturating_sub(Duration::from_secs(250))
        .to_string();
    let request = client
        .signed_request(&body, "late")
        .build()
        .expect("a request");
    let mut headers = request.headers().clone();
    let signature = sign_support_body(&Secret::new(SECRET), body.as_bytes(), &signed_at);
    headers.insert("x-crm-signature", signature.parse().expect("a header"));
    headers.insert("x-crm-timestamp", signed_at.parse().expect("a header"));
    client
        .send_request(
            client
                .client
                .post(request.url().clone())
                .headers(headers)
                .body(body),
        )
        .await
}

/// Reads all paths and returns the answers by path.
async fn read_everything(client: &TestClient) -> BTreeMap<String, Value> {
    let middle = Timestamp::parse(crate::test_node::START)
        .expect("a time")
        .saturating_add(Duration::from_secs(20));
    let mut reads = BTreeMap::new();
    let lists = [
        "entities/ticket?".to_owned(),
        "events?".to_owned(),
        "events?status=failed&".to_owned(),
        "events?status=completed&".to_owned(),
        "events?type=message.updated&".to_owned(),
        "events?entity=SUP-1&".to_owned(),
        "events?entity=SUP-2&status=failed&".to_owned(),
        "events?source=support&kind=ticket&".to_owned(),
        format!("events?since={middle}&"),
        format!("events?until={middle}&"),
    ];
    for list in lists {
        for page_size in [100, 7] {
            for page in 1.. {
                let path = format!("/api/v1/{list}page={page}&page_size={page_size}");
                let answer = client.get(&path).await;
                assert_eq!(answer.status, 200, "{path}: {answer:?}");
                let pages = answer.body["pages"].as_u64().expect("a number");
                reads.insert(path, answer.body);
                if page >= pages {
                    break;
                }
            }
        }
    }
    let listed = |reads: &BTreeMap<String, Value>, list: &str, id: &str| -> Vec<String> {
        let pages = reads
            .iter()
            .filter(|(path, _)| path.starts_with(list) && path.ends_with("page_size=100"));
        let items = pages.flat_map(|(_, page)| page["items"].as_array().expect("items"));
        items
            .map(|item| item[id].as_str().expect("text").to_owned())
            .collect()
    };
    for ticket in listed(&reads, "/api/v1/entities/ticket?", "id") {
        let path = format!("/api/v1/entities/ticket/{ticket}");
        reads.insert(path.clone(), client.get(&path).await.body);
        reads.insert(
            format!("{path}/timeline"),
            client.fetch_timeline(&ticket).await.into(),
        );
    }
    for event in listed(&reads, "/api/v1/events?page", "event_id") {
        let path = format!("/api/v1/events/{event}");
        reads.insert(path.clone(), client.get(&path).await.body);
    }
    reads
}

#[test]
fn every_read_is_the_same_after_a_rebuild_by_function_and_by_command() {
    let history = RecordedStore::new();
    history.assert_unchanged();
    assert_eq!(
        rebuild(&history.test_env).expect("it rebuilds"),
        history.expected_summary()
    );
    assert_eq!(snapshot_rows(&history.test_env), 0, "it began from nothing");
    history.assert_unchanged();

    let output = run_tool(&history.test_env, &["rebuild"]);
    assert!(output.status.success(), "{output:?}");
    let RebuildSummary { records, entities } = history.expected_summary();
    let reads = String::from_utf8_lossy(&output.stdout);
    assert!(
        reads.contains(&format!(
            "rebuilt from {records} records of {entities} entities"
        )),
        "{reads}"
    );
    history.assert_unchanged();
}

#[test]
fn a_rebuild_replaces_wrong_rows() {
    let history = RecordedStore::new();
    history.change(|store| {
        let tree = store.tree("projection").expect("a tree");
        for row in tree.iter().step_by(3) {
            let (key, value) = row.expect("readable");
            let mut wrong = value.to_vec();
            wrong.reverse();
            tree.insert(key, wrong).expect("writes");
        }
    });
    assert_eq!(
        rebuild(&history.test_env).expect("it rebuilds"),
        history.expected_summary()
    );
    history.assert_unchanged();
}

/// Whoever stops a node may delete the derived data: everything is in the journal.
#[test]
fn after_the_derived_data_is_deleted_or_damaged_every_read_is_as_before() {
    let history = RecordedStore::new();
    let derived = history.test_env.store_path().join("derived");
    fs::remove_dir_all(&derived).expect("there");
    history.assert_unchanged();

    for file in ["db", "conf"] {
        fs::write(derived.join(file), [0xa5; 5_000]).expect("writes");
        history.assert_unchanged();
        fs::remove_file(derived.join(file)).expect("there");
        history.assert_unchanged();
    }
}

/// A crash within a rebuild: the old rows are gone, and some new rows are there.
#[test]
fn a_rebuild_that_was_cut_short_is_finished_by_the_next_start() {
    let history = RecordedStore::new();
    history.change(|store| store.drop_tree("projection").expect("drops"));
    history.assert_unchanged();
    history.change(|store| {
        /// Key of the row that is written last.
        const CURSOR: &[u8] = &[1];
        let tree = store.tree("projection").expect("a tree");
        assert!(tree.get(CURSOR).expect("reads").is_some(), "it was there");
        tree.remove(CURSOR).expect("removes");
        let keys: Vec<_> = tree
            .iter()
            .keys()
            .map(|key| key.expect("readable"))
            .collect();
        keys.iter()
            .step_by(2)
            .for_each(|key| tree.remove(key).expect("removes"));
    });
    history.assert_unchanged();
}

#[test]
fn a_store_in_use_is_not_rebuilt() {
    run_async(async {
        let test_env = TestEnv::new(&[]);
        let node = test_env.start().await;
        assert_eq!(node.send_message("SUP-1", "k-1").await.status, 202);
        assert!(rebuild(&test_env).is_err_and(|error| format!("{error:?}").contains("InUse")));
        let output = run_tool(&test_env, &["rebuild"]);
        assert!(!output.status.success());
        assert!(
            String::from_utf8_lossy(&output.stderr).contains("is in use by another process"),
            "{output:?}"
        );
        assert_eq!(node.send_message("SUP-1", "k-2").await.sequence(), 2);
        node.stop().await;
    });
}
