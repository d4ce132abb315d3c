//! Order of each entity: numbers without gaps, and late events that overwrite nothing newer.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use hookyard::clock::Clock;
use hookyard::event::{EventId, Timestamp};
use serde_json::{Value, json};

use crate::test_node::{
    START, TestAnswer, TestClient, TestEnv, message_text, run_async, run_together,
};

/// Accepted event, with the moments of sending and answering on the test's own counter.
struct AcceptedMessage {
    ticket: String,
    key: String,
    sequence: u64,
    event_id: String,
    sent: u64,
    answered: u64,
}

/// Senders of messages that record the order of sending and answering.
#[derive(Clone)]
struct MessageSenders {
    api: TestClient,
    moments: Rc<Cell<u64>>,
}

impl MessageSenders {
    fn new(client: &TestClient) -> Self {
        Self {
            api: client.clone(),
            moments: Rc::default(),
        }
    }

    /// Returns senders with the same counter, for a restarted node.
    fn at_node(&self, client: &TestClient) -> Self {
        Self {
            api: client.clone(),
            moments: Rc::clone(&self.moments),
        }
    }

    fn next_moment(&self) -> u64 {
        self.moments.set(self.moments.get() + 1);
        self.moments.get()
    }

    async fn send(&self, ticket: String, key: String) -> AcceptedMessage {
        let sent = self.next_moment();
        let answer = self.api.send_message(&ticket, &key).await;
        assert_eq!(answer.status, 202, "{key} to {ticket}: {answer:?}");
        let (sequence, event_id) = (answer.sequence(), answer.event_id());
        AcceptedMessage {
            ticket,
            key,
            sequence,
            event_id,
            sent,
            answered: self.next_moment(),
        }
    }

    /// Runs `connections` senders at once, each of which sends `events` one after another to
    /// `tickets` tickets in turn.
    async fn send_all(
        &self,
        name: &str,
        connections: usize,
        events: usize,
        tickets: usize,
    ) -> Vec<AcceptedMessage> {
        let senders = (0..connections).map(|connection| {
            let (senders, name) = (self.clone(), name.to_owned());
            async move {
                let mut accepted = Vec::new();
                for event in 0..events {
                    // Each sender starts at another ticket, so every ticket has several senders at
                    // any time.
                    let ticket = format!("SUP-{}", (connection + event) % tickets);
                    accepted.push(
                        senders
                            .send(ticket, format!("{name}-{connection}-{event}"))
                            .await,
                    );
                }
                accepted
            }
        });
        run_together(senders).await.into_iter().flatten().collect()
    }
}

/// Asserts that each ticket's events are numbered 1, 2, 3 …, that no two events that did not
/// overlap were swapped, and that the timelines agree with the answers.
async fn assert_in_order(client: &TestClient, accepted: &[AcceptedMessage]) {
    let mut tickets: BTreeMap<&str, Vec<&AcceptedMessage>> = BTreeMap::new();
    for event in accepted {
        tickets.entry(&event.ticket).or_default().push(event);
    }
    for (ticket, mut events) in tickets {
        events.sort_by_key(|event| event.sequence);
        let numbers: Vec<_> = events.iter().map(|event| event.sequence).collect();
        assert_eq!(
            numbers,
            (1..=events.len() as u64).collect::<Vec<_>>(),
            "{ticket}"
        );
        let mut latest_sent = 0;
        for event in &events {
            assert!(
                latest_sent < event.answered,
                "{ticket}: {} has a later event before it",
                event.key
            );
            latest_sent = latest_sent.max(event.sent);
        }
        let positions: Vec<_> = events
            .iter()
            .map(|event| position(&event.event_id))
            .collect();
        assert!(
            positions.is_sorted_by(|earlier, later| earlier < later),
            "{ticket}: {positions:?}"
        );

        let told: Vec<_> = events
            .iter()
            .map(|event| json!([event.sequence, event.event_id, event.key]))
            .collect();
        let shown = client.fetch_timeline(ticket).await;
        let shown: Vec<_> = shown
            .iter()
            .map(|item| {
                json!([
                    item["sequence"],
                    item["event_id"],
                    item["data"]["message_id"]
                ])
            })
            .collect();
        assert_eq!(shown, told, "{ticket}");
    }
}

fn position(event_id: &str) -> u64 {
    EventId::parse(event_id)
        .expect("an event id")
        .position()
        .get()
}

fn dense_from_eight_connections(keys: &[(&str, &str)]) {
    run_async(async {
        let test_env = TestEnv::new(keys);
        let node = test_env.start().await;
        let senders = MessageSenders::new(&node);
        let accepted = senders.send_all("k", 8, 30, 5).await;
        assert_in_order(&node, &accepted).await;
        node.stop().await;
    });
}

#[test]
fn events_of_eight_connections_over_five_tickets_are_numbered_without_gaps() {
    dense_from_eight_connections(&[]);
}

#[test]
fn events_of_eight_connections_are_numbered_without_gaps_on_three_shards() {
    dense_from_eight_connections(&[("router.shards", "3")]);
}

#[test]
fn a_hot_ticket_is_numbered_without_gaps() {
    run_async(async {
        let test_env = TestEnv::new(&[]);
        let node = test_env.start().await;
        let accepted = MessageSenders::new(&node).send_all("k", 48, 6, 1).await;
        assert_in_order(&node, &accepted).await;
        let ticket = node.get("/api/v1/entities/ticket/SUP-0").await;
        assert_eq!(
            ticket.body["state"]["messages"].as_array().map(Vec::len),
            Some(48 * 6)
        );
        node.stop().await;
    });
}

/// Regression: a new actor's mailbox had 16 places until its first poll, so the rest of a burst was
/// answered with 503.
#[test]
fn a_burst_at_a_ticket_that_is_being_loaded_is_taken_whole() {
    run_async(async {
        let test_env = TestEnv::new(&[]);
        let node = test_env.start().await;
        let senders = MessageSenders::new(&node);
        for ticket in 0..8 {
            let burst = (0..64).map(|n| {
                let senders = senders.clone();
                async move {
                    senders
                        .send(format!("NEW-{ticket}"), format!("{ticket}-{n}"))
                        .await
                }
            });
            assert_in_order(&node, &run_together(burst).await).await;
        }
        node.stop().await;
    });
}

#[test]
fn events_of_one_entity_stay_in_order_across_a_restart() {
    run_async(async {
        let test_env = TestEnv::new(&[]);
        let node = test_env.start().await;
        let senders = MessageSenders::new(&node);
        let mut accepted = senders.send_all("before", 4, 12, 3).await;
        node.stop().await;

        let node = test_env.start().await;
        assert_in_order(&node, &accepted).await;
        accepted.extend(senders.at_node(&node).send_all("after", 4, 12, 3).await);
        assert_in_order(&node, &accepted).await;
        node.stop().await;
    });
}

/// With room for one entity, each event of one ticket evicts the other.
#[test]
fn a_passivated_entity_resumes_with_its_state() {
    run_async(async {
        let test_env = TestEnv::new(&[("router.shards", "1"), ("router.live_entities_max", "1")]);
        let node = test_env.start().await;
        for n in 1..=12 {
            for ticket in ["A", "B"] {
                let key = format!("{ticket}-{n}");
                assert_eq!(
                    message_when_there_is_room(&node, ticket, &key)
                        .await
                        .sequence(),
                    n
                );
            }
        }
        for ticket in ["A", "B"] {
            let shown = node.get(&format!("/api/v1/entities/ticket/{ticket}")).await;
            let texts: Vec<_> = shown.body["state"]["messages"]
                .as_array()
                .expect("messages")
                .iter()
                .map(|m| m["text"].clone())
                .collect();
            assert_eq!(
                texts,
                (1..=12)
                    .map(|n| json!(message_text(&format!("{ticket}-{n}"))))
                    .collect::<Vec<_>>()
            );
        }
        node.stop().await;
    });
}

/// Reads, which waits until all durable records are projected and their entity can be passivated;
/// then sends. The entity may still be busy: then the answer is 503 and the message is sent again.
async fn message_when_there_is_room(client: &TestClient, ticket: &str, key: &str) -> TestAnswer {
    loop {
        client.get("/api/v1/entities/ticket").await;
        let answer = client.send_message(ticket, key).await;
        if answer.body["code"] != "overloaded" {
            return answer;
        }
    }
}

async fn event_at(client: &TestClient, ticket: &str, event: &str, data: Value, at: &str) {
    // Every difference between two events makes another key.
    let key = format!("{ticket} {event} {data} {at}");
    let body =
        json!({"event": event, "support_uid": ticket, "timestamp": at, "data": data}).to_string();
    let answer = client
        .send_request(client.signed_request(&body, &key))
        .await;
    assert_eq!(answer.status, 202, "{answer:?}");
}

/// Returns the `late` flag of the newest event of `ticket`, and its own time from the timeline.
async fn newest(client: &TestClient, ticket: &str) -> (bool, String) {
    let timeline = client.fetch_timeline(ticket).await;
    let item = timeline.last().expect("an event");
    (
        item["late"].as_bool().expect("a flag"),
        item["at"].as_str().expect("a time").to_owned(),
    )
}

async fn state(client: &TestClient, ticket: &str) -> Value {
    client
        .get(&format!("/api/v1/entities/ticket/{ticket}"))
        .await
        .body["state"]
        .clone()
}

/// Creates the data of an event that sets the field to this value.
type FieldEventData = fn(&str) -> Value;

/// Event of each field, position of the field in the state, and three values.
const FIELDS: [(&str, FieldEventData, &str, [&str; 3]); 8] = [
    (
        "status.changed",
        |value| json!({"status": value}),
        "/status",
        ["open", "pending", "closed"],
    ),
    (
        "priority.changed",
        |value| json!({"priority": value}),
        "/priority",
        ["high", "low", "urgent"],
    ),
    (
        "category.changed",
        |value| json!({"category": value}),
        "/category",
        ["billing", "returns", "delivery"],
    ),
    (
        "agent.assigned",
        |value| json!({"agent_id": value}),
        "/assignee/agent_id",
        ["a-1", "a-2", "a-3"],
    ),
    (
        "tags.updated",
        |value| json!({"tags": [value]}),
        "/tags/0",
        ["vip", "spam", "new"],
    ),
    (
        "rating.submitted",
        |value| json!({"score": 3, "comment": value}),
        "/rating/comment",
        ["x", "y", "z"],
    ),
    (
        "message.created",
        |value| json!({"message_id": "m", "text": value}),
        "/messages/0/text",
        ["x", "y", "z"],
    ),
    (
        "attachment.added",
        |value| json!({"attachment_id": "f", "file_name": value}),
        "/attachments/0/file_name",
        ["x", "y", "z"],
    ),
];

#[test]
fn an_event_older_than_its_field_is_recorded_late_and_rolls_nothing_back() {
    run_async(async {
        let mut test_env = TestEnv::new(&[]);
        test_env.with_manual_clock();
        let node = test_env.start().await;
        for (n, (event, gives, path, [first, older, equal])) in FIELDS.into_iter().enumerate() {
            // The times of each field are before those of all earlier fields: only the field's own
            // time makes an event late.
            let (at, before) = (
                format!("2025-12-04T10:{:02}:30.000Z", 20 - n),
                format!("2025-12-04T10:{:02}:29.999Z", 20 - n),
            );
            for (value, at, late, shown) in [
                (first, &at, false, first),
                (older, &before, true, first),
                (equal, &at, false, equal),
            ] {
                event_at(&node, "T", event, gives(value), at).await;
                assert_eq!(
                    newest(&node, "T").await,
                    (late, at.clone()),
                    "{event} {value}"
                );
                assert_eq!(
                    state(&node, "T").await.pointer(path),
                    Some(&json!(shown)),
                    "{event} {value}"
                );
            }
        }
        let sequences: Vec<_> = node
            .fetch_timeline("T")
            .await
            .iter()
            .map(|item| item["sequence"].as_u64())
            .collect();
        assert_eq!(
            sequences,
            (1..=24).map(Some).collect::<Vec<_>>(),
            "a late event has its number like any other"
        );
        node.stop().await;

        let node = test_env.start().await;
        event_at(
            &node,
            "T",
            "status.changed",
            json!({"status": "new"}),
            "2025-12-04T10:20:00.000Z",
        )
        .await;
        assert!(
            newest(&node, "T").await.0,
            "what is newest is known after a restart"
        );
        assert_eq!(state(&node, "T").await["status"], "closed");
        node.stop().await;
    });
}

#[test]
fn an_event_more_than_300_s_ahead_counts_as_sent_when_it_was_received() {
    run_async(async {
        let mut test_env = TestEnv::new(&[]);
        test_env.with_manual_clock();
        let node = test_env.start().await;
        let (limit, beyond, between) = (
            "2025-12-04T10:35:00.000Z",
            "2025-12-04T10:35:00.001Z",
            "2025-12-04T10:31:00.000Z",
        );
        for (ticket, at, counts_as, next_is_late) in
            [("NEAR", limit, limit, true), ("FAR", beyond, START, false)]
        {
            event_at(
                &node,
                ticket,
                "status.changed",
                json!({"status": "open"}),
                at,
            )
            .await;
            assert_eq!(
                newest(&node, ticket).await,
                (false, counts_as.to_owned()),
                "{ticket}"
            );
            event_at(
                &node,
                ticket,
                "status.changed",
                json!({"status": "closed"}),
                between,
            )
            .await;
            assert_eq!(
                newest(&node, ticket).await,
                (next_is_late, between.to_owned()),
                "{ticket}"
            );
        }
        node.stop().await;
    });
}

/// Clock that a test can set, backwards too.
struct SettableClock(AtomicI64);

impl SettableClock {
    fn install(test_env: &mut TestEnv) -> Arc<Self> {
        let clock = Arc::new(Self(AtomicI64::new(0)));
        test_env.deps.clock = Arc::clone(&clock) as Arc<dyn Clock>;
        clock
    }

    /// Sets the clock to `seconds` after [`START`].
    fn set_seconds(&self, seconds: i64) {
        self.0.store(seconds, Ordering::SeqCst);
    }
}

/// Returns the moment `seconds` after [`START`].
fn moment(seconds: i64) -> Timestamp {
    let start = Timestamp::parse(START).expect("a time");
    Timestamp::from_micros(start.as_micros() + seconds * 1_000_000)
}

impl Clock for SettableClock {
    fn wall(&self) -> Timestamp {
        moment(self.0.load(Ordering::SeqCst))
    }

    fn monotonic(&self) -> Duration {
        Duration::ZERO
    }
}

/// Returns the time of receipt of each event, in the journal's order.
async fn received(client: &TestClient) -> Vec<Timestamp> {
    let mut times = Vec::new();
    for page in 1.. {
        let list = client
            .get(&format!("/api/v1/events?page={page}&page_size=100"))
            .await;
        let items = list.body["items"].as_array().expect("items");
        times.extend(items.iter().map(|item| {
            item["received_at"]
                .as_str()
                .and_then(Timestamp::parse)
                .expect("a time")
        }));
        if page >= list.body["pages"].as_u64().expect("pages") {
            break;
        }
    }
    times.reverse();
    times
}

#[test]
fn a_clock_that_jumps_back_takes_no_receive_time_with_it() {
    run_async(async {
        let mut test_env = TestEnv::new(&[]);
        let clock = SettableClock::install(&mut test_env);
        let node = test_env.start().await;
        // Clock at each event, and the greatest value so far.
        for (n, seconds) in [0, 20, -100, 5].into_iter().enumerate() {
            clock.set_seconds(seconds);
            node.send_message(&format!("T-{n}"), &format!("k-{n}"))
                .await;
        }
        assert_eq!(received(&node).await, [0, 20, 20, 20].map(moment));
        node.stop().await;

        let node = test_env.start().await;
        for (n, seconds) in [-250, 21, 3].into_iter().enumerate() {
            clock.set_seconds(seconds);
            // One ticket without the later time, and one with it.
            for ticket in ["NEW", "T-1"] {
                node.send_message(ticket, &format!("{ticket}-{n}")).await;
            }
        }
        assert_eq!(
            received(&node).await,
            [0, 20, 20, 20, 20, 20, 21, 21, 21, 21].map(moment)
        );
        node.stop().await;
    });
}

#[test]
fn receive_times_never_go_back_while_the_clock_wanders_under_many_senders() {
    run_async(async {
        let mut test_env = TestEnv::new(&[("router.shards", "3")]);
        let clock = SettableClock::install(&mut test_env);
        let node = test_env.start().await;
        let senders = (0..8).map(|sender| {
            let (client, clock) = (node.api.clone(), Arc::clone(&clock));
            async move {
                for event in 0..20 {
                    clock.set_seconds((sender * 20 + event) * 37 % 200);
                    let answer = client
                        .send_message(
                            &format!("T-{}", (sender + event) % 6),
                            &format!("{sender}-{event}"),
                        )
                        .await;
                    assert_eq!(answer.status, 202, "{answer:?}");
                }
            }
        });
        run_together(senders).await;
        let times = received(&node).await;
        assert_eq!(times.len(), 160);
        assert!(times.is_sorted(), "{times:?}");
        assert!(times.first() < times.last(), "the clock did wander");
        node.stop().await;
    });
}
