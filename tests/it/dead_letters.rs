//! Deliveries that failed for good are listed with their reason, and one command delivers them
//! after a repair.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use crate::deliveries::{send, subscribe, test_env};
use crate::receiver::{ReceiverReply, ReceiverRequest, ReplyLatch, TestReceiver};
use crate::test_node::{TOKEN, TestAnswer, TestClient, TestEnv, expect_soon, run_async};

const LETTERS: &str = "/api/v1/dead-letters";

/// Environment in which a delivery fails for good after three attempts.
fn impatient_env() -> TestEnv {
    test_env(&[("delivery.retry_schedule_s", "0.01,0.01")])
}

async fn ask(client: &TestClient, method: Method, path: &str, body: Option<Value>) -> TestAnswer {
    let request = client
        .client
        .request(method, format!("{}{path}", client.base))
        .bearer_auth(TOKEN);
    let request = match body {
        Some(body) => request
            .header("content-type", "application/json")
            .body(body.to_string()),
        None => request,
    };
    client.send_request(request).await
}

pub async fn post(client: &TestClient, path: &str, body: Value) -> TestAnswer {
    ask(client, Method::POST, path, Some(body)).await
}

/// Polls `path` until the answer satisfies the condition, and returns it.
pub async fn poll_until(
    client: &TestClient,
    path: &str,
    is_enough: impl Fn(&Value) -> bool,
) -> Value {
    let mut polls = tokio::time::interval(Duration::from_millis(5));
    expect_soon(async {
        loop {
            polls.tick().await;
            let body = client.get(path).await.body;
            if is_enough(&body) {
                return body;
            }
        }
    })
    .await
}

pub async fn wait_for_letters(client: &TestClient, count: usize) -> Vec<Value> {
    let listed = poll_until(client, LETTERS, |listed| listed["total"] == json!(count)).await;
    listed["items"].as_array().expect("a list").clone()
}

/// Waits for the end of the job in `answer`, and returns the job.
async fn wait_for_job(client: &TestClient, answer: &TestAnswer) -> Value {
    assert_eq!(answer.status, 202, "{answer:?}");
    let path = format!("/api/v1/jobs/{}", answer.body["id"]);
    poll_until(client, &path, |job| {
        job["state"] != "pending" && job["state"] != "running"
    })
    .await
}

fn counts(job: &Value) -> [&Value; 5] {
    ["state", "total", "delivered", "failed", "skipped"].map(|name| &job[name])
}

/// Sequences of one entity's deliveries, accepted or not.
fn sequences(receiver: &TestReceiver, entity: &str) -> Vec<u64> {
    receiver
        .arrivals()
        .iter()
        .filter(|arrival| arrival.entity() == entity)
        .map(ReceiverRequest::sequence)
        .collect()
}

fn failing_for(
    entity: &'static str,
) -> impl FnMut(&ReceiverRequest) -> ReceiverReply + Send + 'static {
    move |arrival| ReceiverReply::Status(if arrival.entity() == entity { 500 } else { 200 })
}

#[test]
fn dead_letters_are_listed_with_their_reason_and_delivered_by_one_command_after_a_repair() {
    run_async(async {
        let node = impatient_env().start().await;
        let broken = |_: &ReceiverRequest| {
            ReceiverReply::Full(503, Vec::new(), "down for maintenance".into())
        };
        let receiver = TestReceiver::start(broken).await;
        let id = subscribe(&node, receiver.url("/hook"), json!({})).await["id"].clone();
        send(&node, &["A", "B"], 1, 1).await;
        let listed = wait_for_letters(&node, 2).await;
        assert_eq!(receiver.arrivals().len(), 6);
        for letter in &listed {
            assert_eq!(
                (&letter["webhook_id"], &letter["subscriber"]),
                (&id, &json!(format!("webhook:{id}")))
            );
            let said = ["reason", "status", "code", "attempts", "answer"].map(|name| &letter[name]);
            assert_eq!(
                said,
                [
                    &json!("exhausted"),
                    &json!(503),
                    &json!("status"),
                    &json!(3),
                    &json!("down for maintenance")
                ]
            );
            assert_eq!(
                (&letter["halts"], &letter["job_id"]),
                (&json!(false), &Value::Null)
            );
        }
        assert!(
            listed[0]["id"].as_u64() > listed[1]["id"].as_u64(),
            "newest first"
        );
        let one = &listed[1];
        let shown = node.get(&format!("{LETTERS}/{}", one["id"])).await.body;
        let came = receiver
            .arrivals()
            .into_iter()
            .find(|arrival| json!(arrival.id()) == one["event_id"]);
        assert_eq!(shown["payload"], came.expect("it was tried").json());

        receiver.set_script(|_| ReceiverReply::Status(200));
        let job = wait_for_job(
            &node,
            &post(
                &node,
                &format!("{LETTERS}/retry"),
                json!({"webhook_id": id}),
            )
            .await,
        )
        .await;
        assert_eq!(
            counts(&job),
            [
                &json!("completed"),
                &json!(2),
                &json!(2),
                &json!(0),
                &json!(0)
            ]
        );
        wait_for_letters(&node, 0).await;
        let arrivals = receiver.arrivals();
        for last in &arrivals[6..] {
            assert!(
                arrivals[..6].iter().any(|first| first.id() == last.id()),
                "the id stays the same"
            );
        }
        assert_eq!(
            node.get(&format!("{LETTERS}/{}", one["id"])).await.status,
            404
        );
        node.stop().await;
    });
}

#[test]
fn a_dead_letter_that_fails_again_stays_with_all_its_attempts() {
    run_async(async {
        let node = impatient_env().start().await;
        let receiver = TestReceiver::start(|_| ReceiverReply::Status(500)).await;
        subscribe(&node, receiver.url("/hook"), json!({})).await;
        send(&node, &["A"], 1, 1).await;
        let letter = wait_for_letters(&node, 1).await.remove(0);
        let again = format!("{LETTERS}/{}/retry", letter["id"]);
        let job = wait_for_job(&node, &ask(&node, Method::POST, &again, None).await).await;
        assert_eq!(
            counts(&job),
            [
                &json!("completed"),
                &json!(1),
                &json!(0),
                &json!(1),
                &json!(0)
            ]
        );
        let renewed = wait_for_letters(&node, 1).await.remove(0);
        assert_eq!(
            (&renewed["id"], &renewed["at"], &renewed["attempts"]),
            (&letter["id"], &letter["at"], &json!(6))
        );
        node.stop().await;
    });
}

#[test]
fn an_entity_goes_on_past_its_dead_letter_or_waits_for_it_as_its_subscriber_wishes() {
    run_async(async {
        let node = impatient_env().start().await;
        let skips = TestReceiver::start(failing_for("ticket/A")).await;
        let halts = TestReceiver::start(failing_for("ticket/A")).await;
        subscribe(&node, skips.url("/hook"), json!({})).await;
        subscribe(&node, halts.url("/hook"), json!({"on_exhausted": "halt"})).await;
        send(&node, &["A", "B"], 1, 3).await;
        wait_for_letters(&node, 4).await;
        halts.wait_for_accepted(3).await;
        assert_eq!(sequences(&skips, "ticket/A"), [1, 1, 1, 2, 2, 2, 3, 3, 3]);
        assert_eq!(
            sequences(&halts, "ticket/A"),
            [1, 1, 1],
            "the first one holds the others back"
        );

        halts.set_script(|_| ReceiverReply::Status(200));
        let halting = node.get(&format!("{LETTERS}?webhook_id=2")).await.body["items"][0].clone();
        assert_eq!(halting["halts"], json!(true));
        let again = format!("{LETTERS}/{}/retry", halting["id"]);
        wait_for_job(&node, &ask(&node, Method::POST, &again, None).await).await;
        halts.wait_for_accepted(6).await;
        assert_eq!(sequences(&halts, "ticket/A"), [1, 1, 1, 1, 2, 3]);
        node.stop().await;
    });
}

#[test]
fn a_discarded_dead_letter_lets_its_entity_go_on_also_after_a_restart() {
    run_async(async {
        let test_env = impatient_env();
        let node = test_env.start().await;
        let receiver = TestReceiver::start(|_| ReceiverReply::Status(500)).await;
        let id = subscribe(
            &node,
            receiver.url("/hook"),
            json!({"on_exhausted": "halt"}),
        )
        .await["id"]
            .clone();
        send(&node, &["A"], 1, 3).await;
        let first = wait_for_letters(&node, 1).await.remove(0);
        node.stop().await;

        let node = test_env.start().await;
        let path = format!("{LETTERS}/{}", first["id"]);
        assert_eq!(ask(&node, Method::DELETE, &path, None).await.status, 204);
        assert_eq!(ask(&node, Method::DELETE, &path, None).await.status, 404);
        let second =
            poll_until(&node, LETTERS, |listed| listed["total"] == json!(1)).await["items"][0]
                .clone();
        assert_eq!(
            (&second["entity"]["sequence"], &second["id"]),
            (&json!(2), &json!(2))
        );

        // A paused subscriber gets no message about it and must notice at the next start.
        ask(
            &node,
            Method::POST,
            &format!("/api/v1/webhooks/{id}/pause"),
            None,
        )
        .await;
        receiver.set_script(|_| ReceiverReply::Status(200));
        node.stop().await;
        let node = test_env.start().await;
        let all = ask(
            &node,
            Method::DELETE,
            &format!("{LETTERS}?webhook_id={id}"),
            None,
        )
        .await;
        assert_eq!((all.status, &all.body), (200, &json!({"discarded": 1})));
        ask(
            &node,
            Method::POST,
            &format!("/api/v1/webhooks/{id}/resume"),
            None,
        )
        .await;
        receiver.wait_for_accepted(1).await;
        assert_eq!(sequences(&receiver, "ticket/A"), [1, 1, 1, 2, 2, 2, 3]);
        node.stop().await;
    });
}

/// The answer confirms the discarded dead letter; a crash follows before the entity's release is
/// persisted.
#[test]
fn an_entity_does_not_wait_for_a_dead_letter_that_a_crash_left_discarded() {
    run_async(async {
        let test_env = impatient_env();
        let mut process = test_env.start_process().await;
        let receiver = TestReceiver::start(|_| ReceiverReply::Status(500)).await;
        subscribe(
            &process,
            receiver.url("/hook"),
            json!({"on_exhausted": "halt"}),
        )
        .await;
        send(&process, &["A"], 1, 2).await;
        let first = wait_for_letters(&process, 1).await.remove(0);
        // The store then says that the entity waits.
        poll_until(&process, "/api/v1/webhooks/1", |shown| {
            shown["stats"]["stopped_lanes"] == json!(1)
        })
        .await;
        receiver.set_script(|_| ReceiverReply::Status(200));
        let path = format!("{LETTERS}/{}", first["id"]);
        assert_eq!(ask(&process, Method::DELETE, &path, None).await.status, 204);
        process.kill();
        let mut process = test_env.start_process().await;
        receiver.wait_for_accepted(1).await;
        assert_eq!(receiver.arrivals().last().expect("it came").sequence(), 2);
        process.kill();
    });
}

#[test]
fn a_permanent_failure_is_a_dead_letter_at_once() {
    run_async(async {
        let node = impatient_env().start().await;
        let receiver = TestReceiver::start(|_| ReceiverReply::Status(401)).await;
        subscribe(
            &node,
            receiver.url("/hook"),
            json!({"events": ["message.created"]}),
        )
        .await;
        let never = json!({"events": ["message.created"], "filter": "data.nothing == 1"});
        subscribe(&node, receiver.url("/filter"), never).await;
        let no_body = json!({"events": ["message.created"], "transform": "{'a': data.nothing}"});
        subscribe(&node, receiver.url("/transform"), no_body).await;
        send(&node, &["A"], 1, 1).await;
        wait_for_letters(&node, 3).await;
        assert_eq!(receiver.arrivals().len(), 1);
        let of = async |id: u64| {
            let listed = node.get(&format!("{LETTERS}?webhook_id={id}")).await.body;
            ["reason", "code", "status", "attempts"].map(|name| listed["items"][0][name].clone())
        };
        assert_eq!(
            of(1).await,
            [json!("refused"), json!("status"), json!(401), json!(1)]
        );
        assert_eq!(
            of(2).await[..2],
            [json!("expression"), json!("filter_failed")]
        );
        assert_eq!(
            of(3).await[..2],
            [json!("expression"), json!("transform_failed")]
        );
        let refused = node
            .get(&format!(
                "{LETTERS}?reason=refused&event=message.created&kind=ticket&entity=A"
            ))
            .await
            .body;
        assert_eq!(
            (&refused["total"], &refused["items"][0]["webhook_id"]),
            (&json!(1), &json!(1))
        );
        assert_eq!(
            node.get(&format!("{LETTERS}?kind=lead")).await.body["total"],
            json!(0)
        );
        node.stop().await;
    });
}

#[test]
fn a_cancelled_job_leaves_its_unstarted_deliveries() {
    run_async(async {
        let node = impatient_env().start().await;
        let receiver = TestReceiver::start(|_| ReceiverReply::Status(500)).await;
        // One attempt at a time, so the other deliveries have not started.
        subscribe(&node, receiver.url("/hook"), json!({"concurrency": 1})).await;
        send(&node, &["A", "B", "C"], 1, 1).await;
        wait_for_letters(&node, 3).await;
        let latch = ReplyLatch::default();
        let held = latch.clone();
        receiver.set_script(move |_| ReceiverReply::Status(200).held_by(&held));
        let job = post(&node, &format!("{LETTERS}/retry"), json!({})).await;
        receiver.wait_for_requests(10).await;
        let taken = node.get(LETTERS).await.body["items"][0].clone();
        assert_eq!(taken["job_id"], job.body["id"]);
        let path = format!("{LETTERS}/{}", taken["id"]);
        let refused = ask(&node, Method::DELETE, &path, None).await;
        assert_eq!(
            (refused.status, &refused.body["code"]),
            (409, &json!("retry_in_progress"))
        );
        let joined = ask(&node, Method::POST, &format!("{path}/retry"), None).await;
        assert_eq!(
            (joined.status, &joined.body["id"]),
            (202, &job.body["id"]),
            "a job has it already"
        );

        let cancel = format!("/api/v1/jobs/{}/cancel", job.body["id"]);
        let cancelled = ask(&node, Method::POST, &cancel, None).await;
        assert_eq!(
            (cancelled.status, &cancelled.body["state"]),
            (200, &json!("cancelled"))
        );
        let again = ask(&node, Method::POST, &cancel, None).await;
        assert_eq!(
            (again.status, &again.body["code"]),
            (409, &json!("job_is_over"))
        );
        latch.open();
        wait_for_letters(&node, 2).await;
        // Further deliveries would come after those that the job left.
        send(&node, &["D"], 1, 1).await;
        receiver.wait_for_accepted(2).await;
        assert_eq!(receiver.arrivals().len(), 11);
        node.stop().await;
    });
}

/// The process is killed while a job runs: the job continues with the unsettled deliveries, and no
/// dead letter remains.
#[test]
fn a_job_goes_on_after_the_node_was_killed() {
    run_async(async {
        let test_env = impatient_env();
        let mut process = test_env.start_process().await;
        let receiver = TestReceiver::start(|_| ReceiverReply::Status(500)).await;
        subscribe(&process, receiver.url("/hook"), json!({})).await;
        let tickets: Vec<String> = (0..30).map(|number| format!("T-{number}")).collect();
        let tickets: Vec<&str> = tickets.iter().map(String::as_str).collect();
        send(&process, &tickets, 1, 1).await;
        poll_until(&process, LETTERS, |listed| listed["total"] == json!(30)).await;
        let latch = ReplyLatch::default();
        let held = latch.clone();
        let failed = receiver.arrivals().len();
        receiver.set_script(move |arrival| match arrival.entity().as_str() {
            "ticket/T-7" => ReceiverReply::Status(200).held_by(&held),
            _ => ReceiverReply::Status(200),
        });
        let job = post(&process, &format!("{LETTERS}/retry"), json!({})).await;
        receiver.wait_for_requests(failed + 30).await;
        process.kill();
        latch.open();

        let mut process = test_env.start_process().await;
        let job = wait_for_job(&process, &job).await;
        assert_eq!(
            counts(&job),
            [
                &json!("completed"),
                &json!(30),
                &json!(30),
                &json!(0),
                &json!(0)
            ]
        );
        wait_for_letters(&process, 0).await;
        process.kill();
    });
}

#[test]
fn recover_delivers_the_failed_events_of_a_time_and_nothing_else() {
    run_async(async {
        let mut test_env = impatient_env();
        let clock = test_env.with_manual_clock();
        let node = test_env.start().await;
        let receiver = TestReceiver::start(failing_for("ticket/A")).await;
        // Fails at once: with this clock nothing is ever retried.
        receiver.set_script(|arrival| {
            ReceiverReply::Status(if arrival.entity() == "ticket/B" {
                200
            } else {
                401
            })
        });
        let id = subscribe(&node, receiver.url("/hook"), json!({})).await["id"].clone();
        for number in 1..=3 {
            send(&node, &["A", "B"], number, 1).await;
            clock.advance(Duration::from_secs(60));
        }
        wait_for_letters(&node, 3).await;
        receiver.set_script(|_| ReceiverReply::Status(200));
        let time = json!({"since": "2025-12-04T10:31:00Z", "until": "2025-12-04T10:32:00Z"});
        let job = wait_for_job(
            &node,
            &post(&node, &format!("/api/v1/webhooks/{id}/recover"), time).await,
        )
        .await;
        assert_eq!(
            (&job["kind"], counts(&job)[2]),
            (&json!("recover"), &json!(1))
        );
        assert_eq!(sequences(&receiver, "ticket/A"), [1, 2, 3, 2]);
        wait_for_letters(&node, 2).await;
        node.stop().await;
    });
}

#[test]
fn everything_of_a_time_is_replayed_to_a_subscription_that_was_made_later() {
    run_async(async {
        let mut test_env = impatient_env();
        let clock = test_env.with_manual_clock();
        let node = test_env.start().await;
        send(&node, &["A", "B"], 1, 1).await;
        node.send(
            "A",
            "status",
            "status.changed",
            json!({"status": "pending"}),
        )
        .await;
        clock.advance(Duration::from_secs(60));
        node.send(
            "C",
            "c",
            "message.created",
            json!({"message_id": "c", "message": "later"}),
        )
        .await;
        let receiver = TestReceiver::accept_all().await;
        let id = subscribe(&node, receiver.url("/hook"), json!({})).await["id"].clone();
        let replay = format!("/api/v1/webhooks/{id}/replay");
        let time = json!({"since": "2025-12-04T10:30:00Z", "until": "2025-12-04T10:31:00Z"});
        let job = wait_for_job(&node, &post(&node, &replay, time.clone()).await).await;
        assert_eq!(
            counts(&job),
            [
                &json!("completed"),
                &json!(3),
                &json!(3),
                &json!(0),
                &json!(0)
            ]
        );
        assert_eq!(
            (
                sequences(&receiver, "ticket/A"),
                sequences(&receiver, "ticket/B")
            ),
            (vec![1, 2], vec![1])
        );
        assert!(sequences(&receiver, "ticket/C").is_empty());

        let mut narrow = time;
        narrow["events"] = json!(["status.*"]);
        let job = wait_for_job(&node, &post(&node, &replay, narrow).await).await;
        assert_eq!(counts(&job)[2], &json!(1));
        assert_eq!(sequences(&receiver, "ticket/A"), [1, 2, 2]);
        let wrong = post(
            &node,
            &replay,
            json!({"until": "2025-12-04T10:31:00Z", "events": ["no.such"]}),
        )
        .await;
        let fields: Vec<_> = wrong.body["errors"]
            .as_array()
            .expect("errors")
            .iter()
            .map(|one| &one["field"])
            .collect();
        assert_eq!(
            (wrong.status, fields),
            (400, vec![&json!("since"), &json!("events[0]")])
        );
        node.stop().await;
    });
}

#[test]
fn a_job_waits_for_a_subscriber_that_is_paused_and_ends_with_one_that_is_deleted() {
    run_async(async {
        let node = impatient_env().start().await;
        let receiver = TestReceiver::start(|_| ReceiverReply::Status(401)).await;
        let id = subscribe(&node, receiver.url("/hook"), json!({})).await["id"].clone();
        send(&node, &["A"], 1, 1).await;
        wait_for_letters(&node, 1).await;
        let webhook = format!("/api/v1/webhooks/{id}");
        ask(&node, Method::POST, &format!("{webhook}/pause"), None).await;
        receiver.set_script(|_| ReceiverReply::Status(200));
        let job = post(
            &node,
            &format!("{LETTERS}/retry"),
            json!({"webhook_id": id}),
        )
        .await;
        assert_eq!(
            (&job.body["state"], receiver.arrivals().len()),
            (&json!("pending"), 1)
        );
        ask(&node, Method::POST, &format!("{webhook}/resume"), None).await;
        assert_eq!(counts(&wait_for_job(&node, &job).await)[2], &json!(1));

        receiver.set_script(|_| ReceiverReply::Status(401));
        send(&node, &["B"], 1, 1).await;
        wait_for_letters(&node, 1).await;
        ask(&node, Method::POST, &format!("{webhook}/pause"), None).await;
        let job = post(&node, &format!("{LETTERS}/retry"), json!({})).await;
        assert_eq!(ask(&node, Method::DELETE, &webhook, None).await.status, 204);
        let job = wait_for_job(&node, &job).await;
        assert_eq!(
            (&job["state"], &job["reason"]),
            (&json!("cancelled"), &json!("the subscriber was deleted"))
        );
        wait_for_letters(&node, 0).await;
        let states = node.get("/api/v1/jobs?state=completed").await.body;
        assert_eq!(
            (&states["total"], &states["items"][0]["kind"]),
            (&json!(1), &json!("retry"))
        );
        node.stop().await;
    });
}

#[test]
fn wishes_that_name_nothing_are_refused() {
    run_async(async {
        let node = impatient_env().start().await;
        let receiver = TestReceiver::start(failing_for("ticket/A")).await;
        let id = subscribe(&node, receiver.url("/hook"), json!({})).await["id"].clone();
        send(&node, &["A"], 1, 1).await;
        wait_for_letters(&node, 1).await;
        let not_there = [
            (Method::GET, format!("{LETTERS}/7"), None),
            (Method::GET, format!("{LETTERS}/007"), None),
            // Regression: letters are numbered from 1, and the store keeps the next number under 0;
            // reading it was a 503.
            (Method::GET, format!("{LETTERS}/0"), None),
            (Method::DELETE, format!("{LETTERS}/0"), None),
            (Method::POST, format!("{LETTERS}/0/retry"), None),
            (Method::DELETE, format!("{LETTERS}/7"), None),
            (Method::POST, format!("{LETTERS}/7/retry"), None),
            (Method::GET, "/api/v1/jobs/7".into(), None),
            (Method::POST, "/api/v1/jobs/7/cancel".into(), None),
            (
                Method::POST,
                "/api/v1/webhooks/7/replay".into(),
                Some(json!({"since": "2025-12-04T10:31:00Z"})),
            ),
            (
                Method::POST,
                "/api/v1/webhooks/7/recover".into(),
                Some(json!({"since": "2025-12-04T10:31:00Z"})),
            ),
        ];
        for (method, path, body) in not_there {
            assert_eq!(ask(&node, method, &path, body).await.status, 404, "{path}");
        }
        // An ignored member would widen the request: everything until now, or all events.
        for (what, member) in [
            ("replay", "untill"),
            ("replay", "event"),
            ("recover", "events"),
            ("recover", "to"),
        ] {
            let wish = json!({"since": "2025-01-01T00:00:00Z", member: []});
            let answer = post(&node, &format!("/api/v1/webhooks/{id}/{what}"), wish).await;
            assert_eq!(
                (answer.status, &answer.body["errors"][0]["field"]),
                (400, &json!(member)),
                "{what}"
            );
        }
        assert_eq!(node.get("/api/v1/jobs").await.body["total"], json!(0));
        let everything = ask(&node, Method::DELETE, LETTERS, None).await;
        assert_eq!(
            (everything.status, &everything.body["errors"][0]["field"]),
            (400, &json!("all"))
        );
        assert_eq!(
            ask(&node, Method::DELETE, &format!("{LETTERS}?all=true"), None)
                .await
                .body,
            json!({"discarded": 1})
        );
        for (method, path) in [
            (Method::GET, LETTERS),
            (Method::DELETE, LETTERS),
            (Method::GET, "/api/v1/jobs"),
        ] {
            let request = node.client.request(method, format!("{}{path}", node.base));
            assert_eq!(node.send_request(request).await.status, 401, "{path}");
        }
        node.stop().await;
    });
}

#[test]
fn dead_letters_of_a_subscriber_that_there_is_not_are_not_found() {
    run_async(async {
        let node = impatient_env().start().await;
        let receiver = TestReceiver::accept_all().await;
        let id = subscribe(&node, receiver.url("/hook"), json!({})).await["id"].clone();
        let known = node.get(&format!("{LETTERS}?webhook_id={id}")).await;
        assert_eq!((known.status, &known.body["total"]), (200, &json!(0)));
        for query in [
            "webhook_id=99",
            "subscriber=webhook:99",
            "subscriber=forward:nobody",
        ] {
            let path = format!("{LETTERS}?{query}");
            assert_eq!(node.get(&path).await.status, 404, "{query}");
            let discarded = ask(&node, Method::DELETE, &path, None).await;
            assert_eq!(discarded.status, 404, "{query}");
        }
        let retried = post(
            &node,
            &format!("{LETTERS}/retry"),
            json!({"webhook_id": 99}),
        )
        .await;
        assert_eq!(retried.status, 404, "{}", retried.body);
        let misspelt = node.get(&format!("{LETTERS}?event=mesage.created")).await;
        assert_eq!(misspelt.status, 400, "{}", misspelt.body);
        node.stop().await;
    });
}
