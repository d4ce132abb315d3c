//! Accepted events reach their subscribers: in each entity's order, across crashes, and also when a
//! subscriber is behind.

use std::collections::{BTreeMap, HashSet};

use hookyard::event::EventId;
use serde_json::{Value, json};

use crate::failures::{DiskFailure, FailurePlace, send_until_known, until_readyz_is};
use crate::receiver::{ReceiverEvent, ReceiverReply, TestReceiver};
use crate::test_node::{TOKEN, TestClient, TestEnv, expect_soon, run_async, run_together};

/// Environment whose nodes may call receivers on this machine and retry soon.
pub fn test_env(keys: &[(&str, &str)]) -> TestEnv {
    let mut test_env = TestEnv::new(&[
        ("delivery.allow_targets", "127.0.0.0/8"),
        (
            "delivery.retry_schedule_s",
            "0.05,0.05,0.05,0.05,0.05,0.05,0.05,0.05,0.05,0.05",
        ),
        ("delivery.breaker.consecutive", "0"),
        ("delivery.breaker.failure_rate", "0"),
    ]);
    keys.iter()
        .for_each(|(key, value)| test_env.set(key, value));
    test_env
}

/// Subscribes `url` to the events of tickets, with the members `more`, and returns the
/// subscription.
pub async fn subscribe(client: &TestClient, url: String, more: Value) -> Value {
    let mut definition = json!({"url": url, "events": ["ticket:*"]});
    definition
        .as_object_mut()
        .expect("an object")
        .extend(more.as_object().cloned().unwrap_or_default());
    let request = client
        .client
        .post(format!("{}/api/v1/webhooks", client.base))
        .bearer_auth(TOKEN);
    let request = request
        .header("content-type", "application/json")
        .body(definition.to_string());
    let answer = client.send_request(request).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.body
}

/// Sends `count` messages of each of `tickets`, numbered from `from`; those of one ticket in order.
pub async fn send(client: &TestClient, tickets: &[&str], from: u64, count: u64) {
    let each = tickets.iter().map(|ticket| {
        let (client, ticket) = (client.clone(), (*ticket).to_owned());
        async move {
            for number in from..from + count {
                let answer = client
                    .send_message(&ticket, &format!("{ticket}-{number}"))
                    .await;
                assert_eq!(
                    (answer.status, answer.sequence()),
                    (202, number),
                    "{answer:?}"
                );
            }
        }
    });
    run_together(each.collect::<Vec<_>>()).await;
}

fn expected(tickets: &[&str], last: u64) -> BTreeMap<String, u64> {
    tickets
        .iter()
        .map(|ticket| (format!("ticket/{ticket}"), last))
        .collect()
}

const TICKETS: [&str; 4] = ["A", "B", "C", "D"];

#[test]
fn events_accepted_after_a_subscription_are_delivered_once_and_in_each_entitys_order() {
    run_async(async {
        let node = test_env(&[]).start().await;
        send(&node, &["before"], 1, 1).await;
        let receiver = TestReceiver::accept_all().await;
        subscribe(&node, receiver.url("/hook"), json!({})).await;
        send(&node, &TICKETS, 1, 25).await;
        receiver.wait_for_accepted(100).await;
        assert_eq!(receiver.log().check_complete(&expected(&TICKETS, 25)), 0);
        node.stop().await;
    });
}

#[test]
fn a_record_that_fails_holds_back_only_its_own_entity() {
    run_async(async {
        let node = test_env(&[]).start().await;
        let receiver = TestReceiver::start(|arrival| {
            let fails = arrival.entity() == "ticket/A" && arrival.before < 3;
            ReceiverReply::Status(if fails { 500 } else { 200 })
        })
        .await;
        subscribe(&node, receiver.url("/hook"), json!({})).await;
        send(&node, &TICKETS, 1, 10).await;
        receiver.wait_for_accepted(40).await;
        assert_eq!(receiver.log().check_complete(&expected(&TICKETS, 10)), 0);
        node.stop().await;
    });
}

#[test]
fn one_order_for_all_events_holds_while_attempts_fail_and_the_node_restarts() {
    run_async(async {
        let test_env = test_env(&[]);
        let node = test_env.start().await;
        let receiver = TestReceiver::start(|arrival| {
            let fails = arrival.before < 2 && arrival.sequence().is_multiple_of(4);
            ReceiverReply::Status(if fails { 500 } else { 200 })
        })
        .await;
        let ordered = json!({"ordering": "subscription", "concurrency": 8});
        subscribe(&node, receiver.url("/hook"), ordered).await;
        send(&node, &TICKETS, 1, 12).await;
        receiver.wait_for_accepted(20).await;
        node.stop().await;
        let node = test_env.start().await;
        receiver.wait_for_accepted(48).await;
        assert_eq!(receiver.log().check_complete(&expected(&TICKETS, 12)), 0);

        let log = receiver.log();
        let accepted = log.happened.iter().filter_map(|event| match event {
            ReceiverEvent::Answered(number, 200) => Some(log.arrivals[*number].id()),
            ReceiverEvent::Answered(..) | ReceiverEvent::Arrived(_) => None,
        });
        let position = |id| EventId::parse(id).expect("an id").position();
        let order: Vec<_> = accepted.map(position).collect();
        assert!(order.is_sorted(), "{order:?}");
        drop(log);
        node.stop().await;
    });
}

#[test]
fn deliveries_go_on_where_they_were_when_the_node_stops_in_order() {
    run_async(async {
        let test_env = test_env(&[]);
        let node = test_env.start().await;
        let receiver = TestReceiver::accept_all().await;
        subscribe(&node, receiver.url("/hook"), json!({})).await;
        send(&node, &TICKETS, 1, 10).await;
        receiver.wait_for_accepted(40).await;
        // Events without a reachable subscriber form a backlog.
        receiver.stop().await;
        send(&node, &TICKETS, 11, 10).await;
        node.stop().await;
        receiver.restart().await;
        let node = test_env.start().await;
        receiver.wait_for_accepted(80).await;
        assert_eq!(receiver.log().check_complete(&expected(&TICKETS, 20)), 0);
        node.stop().await;
    });
}

/// A kill repeats at most the deliveries since the last checkpoint, with the same ids, and loses
/// nothing.
#[test]
fn a_killed_node_loses_nothing_and_repeats_little() {
    run_async(async {
        let test_env = test_env(&[]);
        let receiver = TestReceiver::accept_all().await;
        let mut process = test_env.start_process().await;
        subscribe(&process, receiver.url("/hook"), json!({})).await;
        for life in 0..3 {
            send(&process, &TICKETS, life * 20 + 1, 20).await;
            process.kill();
            process = test_env.start_process().await;
        }
        receiver.wait_for_accepted(240).await;
        receiver.log().check_complete(&expected(&TICKETS, 60));
        process.kill();
    });
}

/// Checkpoints fail with the store, and unrecorded deliveries are repeated.
#[test]
fn a_store_that_fails_while_things_are_delivered_loses_nothing() {
    run_async(async {
        let mut test_env = test_env(&[]);
        let disk_failure = DiskFailure::install(&mut test_env);
        let node = test_env.start().await;
        let receiver = TestReceiver::accept_all().await;
        subscribe(&node, receiver.url("/hook"), json!({})).await;
        send(&node, &TICKETS, 1, 10).await;
        receiver.wait_for_accepted(40).await;
        for life in 1..=3 {
            disk_failure.fail(FailurePlace::Sync, 2);
            disk_failure.until_played(2 * life).await;
            // The failure is noticed a little later than it happens.
            until_readyz_is(&node, 503).await;
            until_readyz_is(&node, 200).await;
        }
        for number in 11..=20 {
            for ticket in TICKETS {
                send_until_known(&node, ticket, &format!("{ticket}-{number}")).await;
            }
        }
        receiver.wait_for_accepted(80).await;
        receiver.log().check_complete(&expected(&TICKETS, 20));
        node.stop().await;
    });
}

/// A subscriber that was behind gets everything exactly once, even at the moment at which it
/// catches up while more events arrive.
#[test]
fn a_subscriber_that_was_behind_misses_and_repeats_nothing_when_it_joins() {
    run_async(async {
        let node = test_env(&[("delivery.window_events", "8")]).start().await;
        let receiver = TestReceiver::accept_all().await;
        let paused = subscribe(&node, receiver.url("/hook"), json!({})).await;
        let id = &paused["id"];
        assert_eq!(
            node.post(&format!("/api/v1/webhooks/{id}/pause"))
                .await
                .status,
            200
        );
        send(&node, &TICKETS, 1, 50).await;
        assert!(receiver.arrivals().is_empty());
        let client = node.api.clone();
        let sending = actix_rt::spawn(async move { send(&client, &TICKETS, 51, 50).await });
        assert_eq!(
            node.post(&format!("/api/v1/webhooks/{id}/resume"))
                .await
                .status,
            200
        );
        expect_soon(sending).await.expect("no panic");
        receiver.wait_for_accepted(400).await;
        assert_eq!(receiver.log().check_complete(&expected(&TICKETS, 100)), 0);
        node.stop().await;
    });
}

#[test]
fn the_backlog_of_a_deleted_subscription_is_gone() {
    run_async(async {
        let test_env = test_env(&[]);
        let node = test_env.start().await;
        let receiver = TestReceiver::start(|_| ReceiverReply::Status(500)).await;
        let id = subscribe(&node, receiver.url("/hook"), json!({})).await["id"].clone();
        send(&node, &TICKETS, 1, 2).await;
        receiver.wait_for_requests(4).await;
        let path = format!("{}/api/v1/webhooks/{id}", node.base);
        assert_eq!(
            node.send_request(node.client.delete(path).bearer_auth(TOKEN))
                .await
                .status,
            204
        );
        receiver.set_script(|_| ReceiverReply::Status(200));
        let other = TestReceiver::accept_all().await;
        subscribe(&node, other.url("/hook"), json!({})).await;
        send(&node, &TICKETS, 3, 2).await;
        other.wait_for_accepted(8).await;
        node.stop().await;
        let node = test_env.start().await;
        send(&node, &TICKETS, 5, 1).await;
        other.wait_for_accepted(12).await;
        assert!(receiver.log().accepted.is_empty());
        node.stop().await;
    });
}

/// 410 Gone disables the subscriber: its backlog becomes one dead letter, and later events are not
/// delivered.
#[test]
fn a_subscriber_that_answers_410_is_disabled_and_its_backlog_becomes_one_dead_letter() {
    run_async(async {
        let node = test_env(&[]).start().await;
        let receiver = TestReceiver::start(|_| ReceiverReply::Status(410)).await;
        let news = TestReceiver::accept_all().await;
        subscribe(
            &node,
            news.url("/hook"),
            json!({"events": ["subscriber.disabled"]}),
        )
        .await;
        let id =
            subscribe(&node, receiver.url("/hook"), json!({"concurrency": 1})).await["id"].clone();
        send(&node, &["A"], 1, 1).await;
        news.wait_for_accepted(1).await;
        let told = news.arrivals()[0].json();
        assert_eq!(
            (&told["event"], &told["data"]["subscriber"]),
            (&json!("subscriber.disabled"), &id)
        );
        let disabled = node.get(&format!("/api/v1/webhooks/{id}")).await.body;
        assert_eq!(disabled["state"], "disabled", "{disabled}");
        let acts = node.get("/api/v1/audit?who=node").await.body;
        let act = [
            "operation",
            "object",
            "outcome",
            "channel",
            "client_address",
        ]
        .map(|member| acts["items"][0][member].clone());
        assert_eq!(
            json!(act),
            json!(["webhooks.disable", id.to_string(), "ok", "node", null])
        );
        send(&node, &["A"], 2, 3).await;
        let letters = node
            .get(&format!("/api/v1/dead-letters?webhook_id={id}"))
            .await
            .body;
        assert!(letters["total"].as_u64() >= Some(1), "{letters}");
        assert_eq!(receiver.arrivals().len(), 1);
        node.stop().await;
    });
}

#[test]
fn an_event_that_fails_for_good_is_announced_but_never_the_delivery_of_that_news() {
    run_async(async {
        let node = test_env(&[("delivery.retry_schedule_s", "0.05")])
            .start()
            .await;
        let receiver = TestReceiver::start(|_| ReceiverReply::Status(500)).await;
        let news = TestReceiver::accept_all().await;
        subscribe(
            &node,
            receiver.url("/hook"),
            json!({"events": ["ticket:*", "delivery.*"]}),
        )
        .await;
        subscribe(
            &node,
            news.url("/hook"),
            json!({"events": ["delivery.exhausted"]}),
        )
        .await;
        send(&node, &["A"], 1, 1).await;
        // The ticket's event and the event about its failure, each attempted twice.
        receiver.wait_for_requests(4).await;
        send(&node, &["B"], 1, 1).await;
        receiver.wait_for_requests(8).await;
        news.wait_for_accepted(2).await;
        let events: HashSet<String> = news
            .arrivals()
            .iter()
            .map(|told| told.json()["data"]["event"].to_string())
            .collect();
        assert_eq!(events, HashSet::from([r#""message.created""#.to_owned()]));
        let data = &news.arrivals()[0].json()["data"];
        let letter = node
            .get(&format!("/api/v1/dead-letters/{}", data["dead_letter_id"]))
            .await
            .body;
        for member in [
            "event", "event_id", "entity", "attempts", "reason", "status",
        ] {
            assert!(
                data[member] == letter[member] && !data[member].is_null(),
                "{member} of {data} and {letter}"
            );
        }
        node.stop().await;
    });
}

/// All deliveries are on the wire before this returns.
#[test]
fn stopping_waits_for_attempts_that_are_under_way() {
    run_async(async {
        let test_env = test_env(&[]);
        let node = test_env.start().await;
        let latch = crate::receiver::ReplyLatch::default();
        let held = latch.clone();
        let receiver =
            TestReceiver::start(move |_| ReceiverReply::Status(200).held_by(&held)).await;
        subscribe(&node, receiver.url("/hook"), json!({})).await;
        send(&node, &["A"], 1, 1).await;
        receiver.wait_for_requests(1).await;
        let stopping = actix_rt::spawn(node.stop());
        latch.open();
        expect_soon(stopping).await.expect("no panic");
        let node = test_env.start().await;
        send(&node, &["A"], 2, 1).await;
        receiver.wait_for_accepted(2).await;
        assert_eq!(receiver.log().check_complete(&expected(&["A"], 2)), 0);
        node.stop().await;
    });
}

/// A node without descriptors had counted failures of its subscribers, and paused and disabled them.
#[test]
fn a_node_without_descriptors_delivers_later_and_blames_nobody() {
    run_async(async {
        let test_env = test_env(&[]);
        let node = test_env.start_process().await;
        let receiver = TestReceiver::accept_all().await;
        let subscription = subscribe(&node, receiver.url("/hook"), json!({})).await;
        let limit_to = |current| {
            let pid = rustix::process::Pid::from_child(&node.child);
            let maximum = rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum;
            let limit = rustix::process::Rlimit { current, maximum };
            rustix::process::prlimit(Some(pid), rustix::process::Resource::Nofile, limit)
                .expect("the process is a child");
            maximum
        };

        // The client's connection is open already, and nothing else can be opened.
        let maximum = limit_to(Some(4));
        send(&node, &["A"], 1, 3).await;
        node.wait_for_log("deliveries wait: no attempt can leave this node")
            .await;
        limit_to(maximum);
        receiver.wait_for_accepted(3).await;
        node.wait_for_log("deliveries go on").await;

        let path = format!("/api/v1/webhooks/{}", subscription["id"]);
        let stats = node.get(&path).await.body["stats"].clone();
        assert_eq!(stats["failed_attempts"], 0, "{stats}");
        assert_eq!(receiver.log().check_complete(&expected(&["A"], 3)), 0);
    });
}

/// A subscription to everything at one of the node's own sources had delivered for ever.
#[test]
fn a_loop_of_subscriptions_ends_as_a_dead_letter() {
    run_async(async {
        let mut test_env = test_env(&[]);
        test_env.write_file(
            "[[sources.custom]]\nname = \"own\"\npreset = \"standard\"\nsecrets = [\"whsec_aHVzaGh1c2hodXNoaHVzaGh1c2g=\"]\n\
             entity = \"/entity/id\"\nevent = \"/event\"\n",
        );
        let node = test_env.start().await;
        let receiver = TestReceiver::accept_all().await;
        subscribe(&node, receiver.url("/hook"), json!({"events": ["*"]})).await;
        let own = format!("{}/in/own", node.base);
        subscribe(
            &node,
            own,
            json!({"events": ["*"], "secret": "whsec_aHVzaGh1c2hodXNoaHVzaGh1c2g="}),
        )
        .await;

        send(&node, &["A"], 1, 1).await;
        // The first event, and what came back of it after each of eight deliveries but the last.
        receiver.wait_for_accepted(8).await;
        let letters = expect_soon(async {
            loop {
                let letters = node.get("/api/v1/dead-letters").await.body;
                if letters["total"] == 2 {
                    break letters;
                }
                tokio::task::yield_now().await;
            }
        })
        .await;
        for letter in letters["items"].as_array().expect("a list") {
            assert_eq!(letter["code"], "too_many_hops", "{letters}");
        }
        let hops: Vec<_> = receiver
            .arrivals()
            .iter()
            .map(|arrival| arrival.header("x-hookyard-hops").map(str::to_owned))
            .collect();
        let expected: Vec<_> = (1..=8).map(|hops: u32| Some(hops.to_string())).collect();
        assert_eq!(hops, expected);
        node.stop().await;
    });
}
