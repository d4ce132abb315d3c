//! Durable accept without loss: the real binary, killed at any moment.

use std::collections::BTreeMap;
use std::rc::Rc;

use serde_json::{Value, json};
use tokio::sync::watch;

use crate::test_node::{
    NodeProcess, TOKEN, TestAnswer, TestClient, TestEnv, count_blobs, run_async, run_together,
};

/// Position of an event, from its answer or the timeline.
#[derive(Clone, Debug, PartialEq)]
struct DurableEventPlace {
    ticket: String,
    sequence: u64,
    event_id: String,
}

/// Knowledge of the senders about their events.
#[derive(Default)]
struct DurabilityLedger {
    /// Acknowledged events by key.
    acknowledged: BTreeMap<String, DurableEventPlace>,
    /// Sent events without an answer, because the connection ended: ticket by key.
    unanswered: BTreeMap<String, String>,
}

impl DurabilityLedger {
    fn extend(&mut self, other: Self) {
        self.acknowledged.extend(other.acknowledged);
        self.unanswered.extend(other.unanswered);
    }
}

/// Size and number of the events to send.
#[derive(Clone, Copy)]
struct LoadProfile {
    senders: usize,
    /// Events of each sender in each life of the process.
    events: usize,
    tickets: usize,
    /// Interval at which an event of 300 KB is sent.
    large_each: Option<usize>,
}

impl LoadProfile {
    fn ticket(self, number: usize) -> String {
        format!("SUP-{}", number % self.tickets)
    }

    fn event(self, number: usize, key: &str) -> Value {
        let large = self
            .large_each
            .is_some_and(|each| number.is_multiple_of(each));
        let text = if large {
            incompressible_text(300_000, number as u64)
        } else {
            key.to_owned()
        };
        json!({"message_id": key, "text": text})
    }

    /// Sends until the process is gone or everything was sent; `count` rises with each
    /// acknowledgement.
    async fn send(
        self,
        client: TestClient,
        life: usize,
        sender: usize,
        count: Rc<watch::Sender<usize>>,
    ) -> DurabilityLedger {
        let mut ledger = DurabilityLedger::default();
        for number in 0..self.events {
            let (key, ticket) = (
                format!("{life}-{sender}-{number}"),
                self.ticket(life + sender + number),
            );
            match send_acknowledged(&client, &ticket, &key, self.event(sender + number, &key)).await
            {
                Some(place) => ledger.acknowledged.insert(key, place),
                None => {
                    ledger.unanswered.insert(key, ticket);
                    break;
                }
            };
            count.send_modify(|count| *count += 1);
        }
        ledger
    }

    /// Runs all senders, and kills `process` as soon as it has acknowledged `after` events.
    async fn kill_under_load(
        self,
        mut process: NodeProcess,
        life: usize,
        after: usize,
    ) -> DurabilityLedger {
        let count = Rc::new(watch::Sender::new(0));
        let senders = (0..self.senders)
            .map(|sender| self.send(process.api.clone(), life, sender, Rc::clone(&count)));
        let senders = actix_rt::spawn(run_together(senders.collect::<Vec<_>>()));
        let mut acknowledged = count.subscribe();
        drop(count);
        // An error means that all senders ended before, which is checked below.
        let _ = acknowledged.wait_for(|count| *count >= after).await;
        process.kill();
        let mut ledger = DurabilityLedger::default();
        senders
            .await
            .expect("runs")
            .into_iter()
            .for_each(|known| ledger.extend(known));
        assert!(
            !ledger.unanswered.is_empty(),
            "the kill came after the load"
        );
        ledger
    }
}

/// Hexadecimal digits that do not compress well.
fn incompressible_text(bytes: usize, seed: u64) -> String {
    let mut state = seed;
    let mut text = String::with_capacity(bytes + 16);
    while text.len() < bytes {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        text += &format!("{:016x}", state ^ (state >> 29));
    }
    text
}

/// Sends an event and returns its position; `None` when the process ended first.
async fn send_acknowledged(
    client: &TestClient,
    ticket: &str,
    key: &str,
    data: Value,
) -> Option<DurableEventPlace> {
    let body = json!({"event": "message.created", "support_uid": ticket, "data": data}).to_string();
    loop {
        let response = client.signed_request(&body, key).send().await.ok()?;
        if response.status() == 503 {
            let refusal = response.text().await.ok()?;
            assert!(refusal.contains("overloaded"), "{key}: {refusal}");
            // No room for another entity: one can be passivated when the projection has caught up.
            let list = client
                .client
                .get(format!("{}/api/v1/entities/ticket", client.base));
            list.bearer_auth(TOKEN).send().await.ok()?;
            continue;
        }
        assert_eq!(response.status(), 202, "{key}: {response:?}");
        // Only status and headers are the promise: the kill may cut off the body.
        let header = |name: &str| response.headers()[name].to_str().expect("text").to_owned();
        let sequence = header("x-entity-sequence").parse().expect("a number");
        let place = DurableEventPlace {
            ticket: ticket.to_owned(),
            sequence,
            event_id: header("x-event-id"),
        };
        // Read to its end, so that the connection can be reused.
        let _ = response.bytes().await;
        return Some(place);
    }
}

/// Returns every stored event by key, after checking that each ticket's numbers have no gap and no
/// key occurs twice.
async fn read_stored_events(
    client: &TestClient,
    load: LoadProfile,
) -> BTreeMap<String, DurableEventPlace> {
    let mut stored = BTreeMap::new();
    for number in 0..load.tickets {
        let ticket = load.ticket(number);
        for (item, sequence) in client.fetch_timeline(&ticket).await.iter().zip(1..) {
            assert_eq!(item["sequence"], sequence, "{ticket}");
            let text = |value: &Value| value.as_str().expect("text").to_owned();
            let place = DurableEventPlace {
                ticket: ticket.clone(),
                sequence,
                event_id: text(&item["event_id"]),
            };
            let double = stored.insert(text(&item["data"]["message_id"]), place);
            assert_eq!(
                double, None,
                "stored twice, the second time in {ticket} as {item}"
            );
        }
    }
    stored
}

fn assert_duplicate(answer: &TestAnswer, key: &str, place: &DurableEventPlace) {
    assert_eq!(answer.status, 409, "{key}: {answer:?}");
    // A key whose event had a larger text is known too, but this is no repetition of that event.
    if answer.body["code"] != "idempotency_key_reused" {
        assert_eq!(
            answer.header("x-event-id"),
            Some(place.event_id.as_str()),
            "{key}"
        );
    }
}

/// Sends every unanswered event again, which stores the event if it was not stored, and returns all
/// positions.
async fn resend_unanswered(
    client: &TestClient,
    load: LoadProfile,
    stored: &BTreeMap<String, DurableEventPlace>,
    unanswered: BTreeMap<String, String>,
) -> DurabilityLedger {
    let mut ledger = DurabilityLedger::default();
    for (key, ticket) in unanswered {
        let place = match stored.get(&key) {
            Some(place) => {
                assert_duplicate(&client.send_message(&ticket, &key).await, &key, place);
                place.clone()
            }
            None => send_acknowledged(client, &ticket, &key, load.event(1, &key))
                .await
                .expect("the process lives"),
        };
        ledger.acknowledged.insert(key, place);
    }
    ledger
}

async fn assert_all_duplicates(client: &TestClient, known: &BTreeMap<String, DurableEventPlace>) {
    for (key, place) in known {
        assert_duplicate(&client.send_message(&place.ticket, key).await, key, place);
    }
}

/// Kills a process once for each of `kills`, after that many acknowledgements. Checks after each
/// restart that every event acknowledged in any life has the position of its answer.
fn assert_nothing_lost(keys: &[(&str, &str)], load: LoadProfile, kills: &[usize]) {
    run_async(async {
        let test_env = TestEnv::new(keys);
        let mut known = DurabilityLedger::default();
        for (life, after) in kills.iter().enumerate() {
            let process = test_env.start_process().await;
            let found = read_stored_events(&process, load).await;
            for (key, place) in &known.acknowledged {
                assert_eq!(
                    found.get(key),
                    Some(place),
                    "{key} was acknowledged before kill {life}"
                );
            }
            let settled = resend_unanswered(
                &process,
                load,
                &found,
                std::mem::take(&mut known.unanswered),
            )
            .await;
            assert_all_duplicates(&process, &settled.acknowledged).await;
            known.extend(settled);
            let acknowledged = load.kill_under_load(process, life, *after).await;
            known.extend(acknowledged);
            assert_eq!(count_blobs(&test_env.store_path()), 0);
        }
        let process = test_env.start_process().await;
        let found = read_stored_events(&process, load).await;
        let settled = resend_unanswered(
            &process,
            load,
            &found,
            std::mem::take(&mut known.unanswered),
        )
        .await;
        known.extend(settled);
        assert_eq!(
            read_stored_events(&process, load).await,
            known.acknowledged,
            "all that was sent, once, and nothing else"
        );
        assert_all_duplicates(&process, &known.acknowledged).await;
        drop(process);
        assert_eq!(count_blobs(&test_env.store_path()), 0);
    });
}

#[test]
fn an_answer_leaves_only_after_its_event_was_synced() {
    run_async(async {
        // One HTTP worker: an answer proves that all requests sent before were read.
        let mut test_env = TestEnv::new(&[("server.workers", "1")]);
        let dam = test_env.with_disk_gate();
        let node = test_env.start().await;
        assert_eq!(node.send_message("T", "before").await.status, 202);
        let client = node.api.clone();
        let held = dam
            .hold_request(async move { client.send_message("T", "held").await })
            .await;
        for _ in 0..20 {
            assert_eq!(node.fetch_timeline("OTHER").await.len(), 0);
        }
        assert!(!held.is_finished(), "answered before the sync");
        dam.open();
        assert_eq!(held.await.expect("runs").sequence(), 2);
        assert_eq!(node.fetch_timeline("T").await.len(), 2);
        node.stop().await;
    });
}

#[test]
fn nothing_acknowledged_is_lost_in_ten_kills_under_load() {
    let load = LoadProfile {
        senders: 8,
        events: 150,
        tickets: 7,
        large_each: None,
    };
    assert_nothing_lost(&[], load, &[40, 0, 1, 190, 7, 450, 23, 800, 60, 320]);
}

#[test]
fn nothing_acknowledged_is_lost_while_entities_come_and_go() {
    let load = LoadProfile {
        senders: 6,
        events: 30,
        tickets: 12,
        large_each: None,
    };
    let keys = [
        ("router.live_entities_max", "3"),
        ("router.idle_timeout_s", "0.05"),
        ("router.shards", "1"),
    ];
    assert_nothing_lost(&keys, load, &[30, 75, 10, 120]);
}

#[test]
fn nothing_acknowledged_is_lost_among_large_bodies() {
    let load = LoadProfile {
        senders: 6,
        events: 40,
        tickets: 4,
        large_each: Some(7),
    };
    assert_nothing_lost(&[], load, &[20, 75, 5, 130]);
}

/// Events acknowledged in the last moments may be lost, but only from the end, and the rest is
/// whole.
#[test]
fn a_kill_leaves_no_gap_when_syncs_are_made_at_intervals() {
    run_async(async {
        let test_env = TestEnv::new(&[
            ("store.sync", "interval"),
            ("store.sync_interval_s", "0.02"),
        ]);
        let load = LoadProfile {
            senders: 6,
            events: 100,
            tickets: 5,
            large_each: None,
        };
        let mut kept: BTreeMap<String, DurableEventPlace> = BTreeMap::new();
        for (life, after) in [30, 180, 350, 5].into_iter().enumerate() {
            let process = test_env.start_process().await;
            let sent = load.kill_under_load(process, life, after).await;
            assert_eq!(count_blobs(&test_env.store_path()), 0);

            let process = test_env.start_process().await;
            let found = read_stored_events(&process, load).await;
            for (key, place) in &kept {
                assert_eq!(
                    found.get(key),
                    Some(place),
                    "{key} had survived a kill already"
                );
            }
            for (key, place) in &sent.acknowledged {
                let length = found
                    .values()
                    .filter(|other| other.ticket == place.ticket)
                    .count() as u64;
                let expected = (place.sequence <= length).then_some(place);
                assert_eq!(found.get(key), expected, "{key} in a ticket of {length}");
            }
            assert_all_duplicates(&process, &found).await;
            kept = found;
        }
    });
}
