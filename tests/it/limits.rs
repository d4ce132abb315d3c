//! Limits, and the answers to overload.

use std::process::{Command, Stdio};
use std::time::Duration;

use reqwest::RequestBuilder;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::failures::incompressible_text;
use crate::test_node::{
    API_KEY, SUPPORT, TOKEN, TestAnswer, TestClient, TestEnv, TestNode, expect_soon, free_port,
    run_async,
};

fn code(answer: &TestAnswer) -> (u16, &str) {
    (
        answer.status,
        answer.body["code"].as_str().unwrap_or_default(),
    )
}

/// Returns `Retry-After`, the limit, its remainder and the time of its reset.
fn quota(answer: &TestAnswer) -> [Option<&str>; 4] {
    [
        "retry-after",
        "ratelimit-limit",
        "ratelimit-remaining",
        "ratelimit-reset",
    ]
    .map(|name| answer.header(name))
}

/// Request with `header` set to `value`.
fn with(
    request: RequestBuilder,
    client: &TestClient,
    header: &'static str,
    value: &str,
) -> RequestBuilder {
    let mut request = request.build().expect("a request");
    request
        .headers_mut()
        .insert(header, value.parse().expect("a header's value"));
    RequestBuilder::from_parts(client.client.clone(), request)
}

fn body(ticket: &str) -> String {
    json!({"event": "status.changed", "support_uid": ticket, "data": {"status": "open"}})
        .to_string()
}

/// Reads the node's count of its open descriptors, on the kept connection.
async fn open_descriptors(client: &TestClient) -> u64 {
    let request = client.client.get(format!("{}/metrics", client.base));
    let metrics = request.send().await.expect("an answer").text().await;
    let metrics = metrics.expect("text");
    let line = metrics
        .lines()
        .find(|line| line.contains("process_open_fds ") && !line.starts_with('#'));
    let value = line.and_then(|line| line.split_whitespace().nth(1));
    let value = value.and_then(|value| value.parse::<f64>().ok());
    value.expect("a number") as u64
}

/// Connections took all descriptors, and the next segment of the journal could not be created.
#[test]
fn connections_leave_the_store_its_descriptors_although_the_limit_is_low() {
    run_async(async {
        let test_env = TestEnv::new(&[
            ("server.trusted_proxies", "127.0.0.1/32"),
            ("delivery.attempts_max", "32"),
            ("store.segment_bytes", "1048576"),
        ]);
        let port = free_port();
        let serve = test_env.serve_command(port);
        let mut command = Command::new("sh");
        command
            .args(["-c", "ulimit -n 420; exec \"$0\" \"$@\""])
            .arg(serve.get_program())
            .args(serve.get_args())
            .stdout(Stdio::null());
        for (name, value) in serve.get_envs() {
            command.env(name, value.expect("each has a value"));
        }
        let node = test_env.wait_for_process(command, port);
        assert_eq!(node.send_message("S", "first").await.status, 202);

        let before = open_descriptors(&node).await;
        let mut held = Vec::new();
        for _ in 0..200 {
            held.push(
                TcpStream::connect(("127.0.0.1", port))
                    .await
                    .expect("taken"),
            );
        }
        // 420, without 256 for the node and 32 for attempts: the others wait.
        let mut polls = tokio::time::interval(Duration::from_millis(5));
        expect_soon(async {
            while open_descriptors(&node).await < before + 125 {
                polls.tick().await;
            }
        })
        .await;
        // The kept connection of the first message is used again.
        for number in 0..5 {
            let key = number.to_string();
            let data = json!({"message_id": key, "text": incompressible_text(800_000)});
            let sent = node.send("S", &key, "message.created", data).await;
            assert_eq!(sent.status, 202, "{sent:?}");
        }
        let after = open_descriptors(&node).await;
        assert!(after < before + 150, "{before} {after}");
        drop(held);
        let lines = node.kill_and_read_log().join("\n");
        assert!(lines.contains("fewer connections are accepted"), "{lines}");
    });
}

/// Request that fails authentication.
fn forged(client: &TestClient) -> RequestBuilder {
    with(
        client.signed_request(&body("S"), "forged"),
        client,
        "x-crm-signature",
        "00",
    )
}

#[test]
fn the_window_of_an_api_key_slides_over_a_minute() {
    run_async(async {
        let mut test_env = TestEnv::new(&[("sources.support.rate_per_minute", "100")]);
        let clock = test_env.with_manual_clock();
        let node = test_env.start().await;
        let first = node.send_message("S", "k-0").await;
        assert_eq!(
            (first.status, quota(&first)),
            (202, [None, Some("100"), Some("99"), Some("60")])
        );
        clock.advance(Duration::from_millis(10_500));
        for number in 1..100 {
            let answer = node.send_message("S", &format!("k-{number}")).await;
            let remaining = (99 - number).to_string();
            assert_eq!(
                (answer.status, quota(&answer)),
                (
                    202,
                    [None, Some("100"), Some(remaining.as_str()), Some("50")]
                )
            );
        }
        let refused = node.send_message("S", "k-100").await;
        assert_eq!(code(&refused), (429, "rate_limited"));
        assert_eq!(
            quota(&refused),
            [Some("50"), Some("100"), Some("0"), Some("50")]
        );
        clock.advance(Duration::from_millis(49_499));
        assert_eq!(
            code(&node.send_message("S", "k-100").await),
            (429, "rate_limited"),
            "a millisecond too early"
        );
        clock.advance(Duration::from_millis(1));
        assert_eq!(
            node.send_message("S", "k-100").await.sequence(),
            101,
            "the first has left, and refusals counted as nothing"
        );
        let refused = node.send_message("S", "k-101").await;
        assert_eq!(
            (code(&refused), quota(&refused)[0]),
            ((429, "rate_limited"), Some("11"))
        );
        clock.advance(Duration::from_secs(11));
        assert_eq!(node.send_message("S", "k-101").await.sequence(), 102);
        node.stop().await;
    });
}

#[test]
fn each_api_key_has_a_window_of_its_own_and_every_authentic_request_counts() {
    run_async(async {
        let mut test_env = TestEnv::new(&[("sources.support.rate_per_minute", "3")]);
        test_env.set(
            "sources.support.api_keys",
            &format!("{API_KEY},second-api-key"),
        );
        test_env.with_manual_clock();
        let node = test_env.start().await;
        assert_eq!(node.send_message("S", "k-1").await.status, 202);
        let duplicate = node.send_message("S", "k-1").await;
        assert_eq!(
            (duplicate.status, quota(&duplicate)),
            (409, [None, Some("3"), Some("1"), Some("60")])
        );
        let malformed = node.send_request(node.signed_request("{", "k-2")).await;
        assert_eq!((malformed.status, quota(&malformed)[2]), (400, Some("0")));
        assert_eq!(node.send_message("S", "k-2").await.status, 429);
        let second = node
            .send_request(with(
                node.signed_request(&body("S"), "k-2"),
                &node,
                "x-crm-api-key",
                "second-api-key",
            ))
            .await;
        assert_eq!((second.status, quota(&second)[2]), (202, Some("2")));
        node.stop().await;
    });
}

#[test]
fn failed_authentications_do_not_use_up_the_senders_window() {
    run_async(async {
        let mut test_env = TestEnv::new(&[
            ("sources.support.rate_per_minute", "2"),
            ("server.auth_failures_per_minute", "0"),
        ]);
        test_env.with_manual_clock();
        let node = test_env.start().await;
        for _ in 0..150 {
            let answer = node.send_request(forged(&node)).await;
            assert_eq!(
                (code(&answer), quota(&answer)),
                ((401, "invalid_signature"), [None; 4])
            );
        }
        assert_eq!(quota(&node.send_message("S", "k-1").await)[2], Some("1"));
        node.stop().await;
    });
}

#[test]
fn a_caller_that_keeps_failing_is_answered_429_and_an_authentic_request_never() {
    run_async(async {
        let mut test_env = TestEnv::new(&[("server.auth_failures_per_minute", "3")]);
        let clock = test_env.with_manual_clock();
        let node = test_env.start().await;
        let wrong_key = with(
            node.signed_request(&body("S"), "k"),
            &node,
            "x-crm-api-key",
            "guess",
        );
        assert_eq!(
            code(&node.send_request(wrong_key).await),
            (401, "invalid_api_key")
        );
        assert_eq!(
            code(&node.send_request(forged(&node)).await),
            (401, "invalid_signature")
        );
        clock.advance(Duration::from_secs(20));
        let reader = || {
            node.client
                .get(format!("{}/api/v1/events", node.base))
                .bearer_auth("guess")
        };
        assert_eq!(
            code(&node.send_request(reader()).await),
            (401, "unauthorized"),
            "readers are counted with senders"
        );
        for request in [forged(&node), reader()] {
            let refused = node.send_request(request).await;
            assert_eq!(code(&refused), (429, "rate_limited"));
            assert_eq!(
                quota(&refused),
                [Some("40"), Some("3"), Some("0"), Some("40")]
            );
        }
        assert_eq!(node.send_message("S", "k-1").await.sequence(), 1);
        assert_eq!(node.get("/api/v1/events").await.status, 200);
        clock.advance(Duration::from_secs(40));
        assert_eq!(
            code(&node.send_request(forged(&node)).await),
            (401, "invalid_signature")
        );
        node.stop().await;
    });
}

#[test]
fn behind_a_trusted_proxy_failures_are_counted_for_the_client_it_names() {
    run_async(async {
        let limit = ("server.auth_failures_per_minute", "1");
        let through =
            |node: &TestNode, addresses: &str| forged(node).header("x-forwarded-for", addresses);
        let mut test_env =
            TestEnv::new(&[limit, ("server.trusted_proxies", "127.0.0.0/8,10.0.0.0/8")]);
        test_env.with_manual_clock();
        let node = test_env.start().await;
        let cases = [
            ("203.0.113.9", 401),
            ("203.0.113.9", 429),
            ("203.0.113.10", 401),
            // Left of the client's address are its own claims, right of it the proxies.
            ("203.0.113.77, 203.0.113.9, 10.0.0.2", 429),
            ("203.0.113.9, 203.0.113.11", 401),
            ("2001:db8::1", 401),
            ("2001:db8::2", 429),
        ];
        for (addresses, status) in cases {
            assert_eq!(
                node.send_request(through(&node, addresses)).await.status,
                status,
                "{addresses}"
            );
        }
        let authentic = node
            .signed_request(&body("S"), "k-1")
            .header("x-forwarded-for", "203.0.113.9");
        assert_eq!(node.send_request(authentic).await.sequence(), 1);
        node.stop().await;

        let mut test_env = TestEnv::new(&[limit]);
        test_env.with_manual_clock();
        let node = test_env.start().await;
        assert_eq!(
            node.send_request(through(&node, "203.0.113.9"))
                .await
                .status,
            401
        );
        assert_eq!(
            node.send_request(through(&node, "203.0.113.10"))
                .await
                .status,
            429,
            "anyone can send that header"
        );
        node.stop().await;
    });
}

#[test]
fn without_the_admins_token_nothing_is_read() {
    run_async(async {
        let test_env = TestEnv::new(&[("server.auth_failures_per_minute", "0")]);
        let node = test_env.start().await;
        let event = format!(
            "/api/v1/events/{}",
            node.send_message("S", "k-1").await.event_id()
        );
        let reprocess = format!("{event}/reprocess");
        let paths = [
            "/api/v1/entities/ticket",
            "/api/v1/entities/ticket/S",
            "/api/v1/entities/ticket/nobody",
            "/api/v1/entities/ticket/S/timeline",
            "/api/v1/events",
            "/api/v1/events?page=wrong",
            &event,
        ];
        let url = |path: &str| format!("{}{path}", node.base);
        let mut requests: Vec<_> = paths
            .iter()
            .map(|path| node.client.get(url(path)))
            .collect();
        requests.push(node.client.post(url(&reprocess)));
        for request in requests {
            let tries = [
                None,
                Some("Bearer"),
                Some("Bearer "),
                Some("Bearer test-toke"),
                Some("Basic test-token-long-enough-for-any-node"),
                Some("test-token-long-enough-for-any-node"),
            ];
            for authorization in tries {
                let request = request.try_clone().expect("no stream");
                let request = authorization.into_iter().fold(request, |request, value| {
                    request.header("authorization", value)
                });
                let answer = node.send_request(request).await;
                assert_eq!(code(&answer), (401, "unauthorized"), "{authorization:?}");
                assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
            }
        }
        node.stop().await;
    });
}

/// Sends events at once until `refused` of them were refused. Returns those, and the others, which
/// are still in flight.
async fn send_until_refused(
    client: &TestClient,
    events: impl IntoIterator<Item = (String, String)>,
    refused: usize,
) -> (
    Vec<(String, String)>,
    JoinSet<((String, String), TestAnswer)>,
) {
    let mut waiting = JoinSet::new();
    for (ticket, key) in events {
        let client = client.clone();
        waiting.spawn(async move {
            let answer = client
                .send(
                    &ticket,
                    &key,
                    "status.changed",
                    json!({"status": "open", "reason": key}),
                )
                .await;
            ((ticket, key), answer)
        });
    }
    let mut without_room = Vec::new();
    while without_room.len() < refused {
        let (event, answer) = expect_soon(waiting.join_next())
            .await
            .expect("more are on their way")
            .expect("no panic");
        assert_eq!(
            (code(&answer), quota(&answer)[0]),
            ((503, "overloaded"), Some("1")),
            "{event:?}: {answer:?}"
        );
        without_room.push(event);
    }
    (without_room, waiting)
}

/// Waits for the admitted events.
async fn accepted(waiting: JoinSet<((String, String), TestAnswer)>) -> Vec<(String, String)> {
    let answers = expect_soon(waiting.join_all()).await;
    answers
        .into_iter()
        .map(|(event, answer)| {
            (answer.status == 202)
                .then_some(event)
                .expect("it was taken")
        })
        .collect()
}

fn to_many_tickets(count: usize) -> impl Iterator<Item = (String, String)> {
    (1..=count).map(|number| (format!("S-{number}"), format!("k-{number}")))
}

#[test]
fn events_without_room_are_refused_and_leave_no_trace() {
    run_async(async {
        let mut test_env = TestEnv::new(&[("router.in_flight_events_max", "16")]);
        let dam = test_env.with_disk_gate();
        let node = test_env.start().await;
        dam.close();
        let (refused, waiting) = send_until_refused(&node, to_many_tickets(24), 8).await;
        dam.wait_until_held().await;
        assert_eq!(
            node.get("/api/v1/events").await.body["total"],
            0,
            "none of them is durable"
        );
        dam.open();
        assert_eq!(accepted(waiting).await.len(), 16);
        assert_eq!(node.get("/api/v1/events").await.body["total"], 16);
        for (ticket, key) in refused {
            assert_eq!(
                node.get(&format!("/api/v1/entities/ticket/{ticket}"))
                    .await
                    .status,
                404,
                "{ticket}"
            );
            assert_eq!(
                expect_soon(node.send_message(&ticket, &key))
                    .await
                    .sequence(),
                1,
                "{key} is free again"
            );
        }
        node.stop().await;
    });
}

#[test]
fn one_entity_holds_at_most_a_quarter_of_the_room() {
    run_async(async {
        let mut test_env = TestEnv::new(&[("router.in_flight_events_max", "16")]);
        let dam = test_env.with_disk_gate();
        let node = test_env.start().await;
        assert_eq!(
            node.send_message("busy", "k").await.sequence(),
            1,
            "it is in memory"
        );
        dam.close();
        let busy = (0..16).map(|number| ("busy".to_owned(), format!("busy-{number}")));
        let (refused, few) = send_until_refused(&node, busy, 12).await;
        // All but a quarter is available for the other entities.
        let (_, many) = send_until_refused(&node, to_many_tickets(20), 8).await;
        dam.open();
        assert_eq!(
            (accepted(few).await.len(), accepted(many).await.len()),
            (4, 12)
        );
        let mut sequences: Vec<_> = node
            .fetch_timeline("busy")
            .await
            .iter()
            .map(|entry| entry["sequence"].as_u64())
            .collect();
        assert_eq!(
            sequences.split_off(1),
            [2, 3, 4, 5].map(Some),
            "nothing of the others"
        );
        let (_, key) = &refused[0];
        assert_eq!(
            expect_soon(node.send_message("busy", key)).await.sequence(),
            6
        );
        node.stop().await;
    });
}

#[test]
fn an_entity_that_is_being_loaded_holds_no_more() {
    run_async(async {
        let mut test_env = TestEnv::new(&[("router.in_flight_events_max", "16")]);
        let dam = test_env.with_disk_gate();
        let node = test_env.start().await;
        dam.close();
        let fresh = (0..16).map(|number| ("fresh".to_owned(), format!("k-{number}")));
        let (_, few) = send_until_refused(&node, fresh, 12).await;
        dam.open();
        assert_eq!(accepted(few).await.len(), 4);
        assert_eq!(node.fetch_timeline("fresh").await.len(), 4);
        node.stop().await;
    });
}

#[test]
fn the_bytes_on_their_way_are_bounded_too() {
    run_async(async {
        let mut test_env = TestEnv::new(&[
            ("server.body_limit_bytes", "1024"),
            ("router.in_flight_bytes_max", "4096"),
        ]);
        let clock = test_env.with_manual_clock();
        let dam = test_env.with_disk_gate();
        let node = test_env.start().await;
        dam.close();
        let mut waiting = JoinSet::new();
        for number in 0..10 {
            let text = "x".repeat(1000 - body("S-0").len());
            let body = body(&format!("S-{number}")).replace(
                "{\"status\"",
                &format!("{{\"reason\":\"{text}\",\"status\""),
            );
            let request = node.signed_request(&body[..], &number.to_string());
            waiting
                .spawn(async move { request.send().await.expect("an answer").status().as_u16() });
        }
        for _ in 0..6 {
            assert_eq!(
                expect_soon(waiting.join_next())
                    .await
                    .expect("10 were sent")
                    .expect("no panic"),
                503
            );
        }
        // A request that fails authentication takes no room and is answered 401.
        clock.advance(Duration::from_secs(1));
        assert_eq!(
            expect_soon(node.send_request(forged(&node))).await.status,
            401
        );
        dam.open();
        assert_eq!(expect_soon(waiting.join_all()).await, [202; 4]);
        assert_eq!(node.send_message("S", "k").await.sequence(), 1);
        node.stop().await;
    });
}

#[test]
fn a_sender_that_gives_up_frees_its_room_only_when_its_event_is_settled() {
    run_async(async {
        let mut test_env = TestEnv::new(&[("router.in_flight_events_max", "16")]);
        let dam = test_env.with_disk_gate();
        let node = test_env.start().await;
        dam.close();
        let (_, mut waiting) = send_until_refused(&node, to_many_tickets(24), 8).await;
        waiting.shutdown().await;
        let late = expect_soon(node.send_message("late", "late")).await;
        assert_eq!(
            code(&late),
            (503, "overloaded"),
            "what was given up is still on its way"
        );
        dam.open();
        // A stop ends when all admitted events are settled.
        node.stop().await;
        let node = test_env.start().await;
        assert_eq!(
            node.get("/api/v1/events").await.body["total"],
            16,
            "all that had room were stored"
        );
        for (ticket, key) in to_many_tickets(24) {
            let answer = node.send_message(&ticket, &key).await;
            assert!([202, 409].contains(&answer.status), "{answer:?}");
            assert_eq!(node.fetch_timeline(&ticket).await.len(), 1, "{ticket}");
        }
        node.stop().await;
    });
}

/// Forty connections with one whole request, and a single byte of the next, locked out everybody.
#[test]
fn nobody_holds_connections_by_a_byte_of_the_next_request() {
    run_async(async {
        let test_env = TestEnv::new(&[
            ("server.connections_max", "40"),
            ("server.workers", "1"),
            ("server.request_timeout_s", "0.5"),
            ("server.keep_alive_s", "0.5"),
        ]);
        let node = test_env.start().await;
        let address = node.base.trim_start_matches("http://").to_owned();
        let mut held = Vec::new();
        for _ in 0..13 {
            let mut stream = TcpStream::connect(&address).await.expect("connects");
            let request = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\nG";
            stream.write_all(request).await.expect("sent");
            let mut head = [0; 12];
            stream.read_exact(&mut head).await.expect("an answer");
            assert_eq!(&head, b"HTTP/1.1 200");
            held.push(stream);
        }
        let mut more = TcpStream::connect(&address).await.expect("connects");
        assert_closed(&mut more, "an address has a third of the connections").await;

        for stream in &mut held {
            assert_closed(stream, "the next head does not come").await;
        }
        assert_eq!(node.send_message("S", "k").await.status, 202);
        node.stop().await;
    });
}

/// A byte now and then held a connection, and the memory of its body, for the whole request timeout.
#[test]
fn a_body_slower_than_its_lowest_rate_is_ended_and_the_connection_closed() {
    run_async(async {
        let test_env = TestEnv::new(&[
            ("server.request_timeout_s", "600"),
            ("server.body_grace_s", "0.2"),
            ("server.body_bytes_per_s_min", "1000"),
            ("sources.leads.enabled", "true"),
        ]);
        let node = test_env.start().await;
        let address = node.base.trim_start_matches("http://").to_owned();
        let mut slow = TcpStream::connect(&address).await.expect("connects");
        let head = "POST /api/v1/webhooks/incoming HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n\
                    Content-Length: 9000\r\n\r\n";
        slow.write_all(head.as_bytes()).await.expect("sent");
        let (mut reader, mut writer) = slow.into_split();
        let drip = actix_rt::spawn(async move {
            let mut ticks = tokio::time::interval(Duration::from_millis(20));
            while writer.write_all(b" ").await.is_ok() {
                ticks.tick().await;
            }
        });
        let mut answer = Vec::new();
        // A reset after the answer is an end too.
        let _ = expect_soon(reader.read_to_end(&mut answer)).await;
        let answer = String::from_utf8_lossy(&answer).to_lowercase();
        assert!(answer.starts_with("http/1.1 408 "), "{answer}");
        assert!(answer.contains("connection: close"), "{answer}");
        drop(reader);
        drip.await.expect("no panic");
        assert_eq!(node.send_message("S", "k").await.status, 202);
        node.stop().await;
    });
}

/// A reader that takes nothing of its answer held its connection and the answer's memory.
#[test]
fn an_answer_that_nobody_takes_is_given_up() {
    run_async(async {
        let test_env = TestEnv::new(&[
            ("server.request_timeout_s", "0.5"),
            ("server.connections_max", "9"),
            ("server.workers", "1"),
        ]);
        let node = test_env.start().await;
        let address = node.base.trim_start_matches("http://").to_owned();
        let mut held = Vec::new();
        for _ in 0..3 {
            let mut stream = TcpStream::connect(&address).await.expect("connects");
            let request = b"GET /docs/swagger-ui-bundle.js HTTP/1.1\r\nHost: x\r\n\r\n";
            // More answers than all buffers of a connection hold.
            stream.write_all(&request.repeat(16)).await.expect("sent");
            held.push(stream);
        }
        // The address has a third of the connections; there is room once the node gives one up.
        expect_soon(async {
            loop {
                let answer = node.client.get(format!("{}/healthz", node.base)).send();
                if answer.await.is_ok() {
                    return;
                }
                tokio::task::yield_now().await;
            }
        })
        .await;
        drop(held);
        node.stop().await;
    });
}

/// A stranger that is refused keeps no connection.
#[test]
fn a_refusal_for_lack_of_authentication_closes_the_connection() {
    run_async(async {
        let test_env = TestEnv::new(&[("server.auth_failures_per_minute", "2")]);
        let node = test_env.start().await;
        let unproven = || "GET /api/v1/events HTTP/1.1\r\nHost: x\r\n\r\n".to_owned();
        let login = "POST /dashboard/login HTTP/1.1\r\nHost: x\r\nContent-Length: 7\r\n\r\ntoken=x";
        for (request, status, is_closed) in [
            (junk_request(SUPPORT), 401, true),
            (unproven(), 401, true),
            // After too many failures the answer is another one, and kept the connection.
            (unproven(), 429, true),
            (login.to_owned(), 401, true),
            (
                "GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(),
                404,
                false,
            ),
        ] {
            let address = node.base.trim_start_matches("http://");
            let mut stream = TcpStream::connect(address).await.expect("connects");
            stream.write_all(request.as_bytes()).await.expect("sent");
            let mut answer = [0; 2048];
            let count = stream.read(&mut answer).await.expect("an answer");
            let answer = String::from_utf8_lossy(&answer[..count]).to_lowercase();
            assert!(
                answer.starts_with(&format!("http/1.1 {status} ")),
                "{answer}"
            );
            assert_eq!(answer.contains("connection: close"), is_closed, "{answer}");
            if is_closed {
                assert_closed(&mut stream, &request).await;
            }
        }
        node.stop().await;
    });
}

fn junk_request(path: &str) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nHost: x\r\nX-CRM-API-Key: guess\r\nContent-Length: 2\r\n\r\n{{}}"
    )
}

async fn assert_closed(stream: &mut TcpStream, why: &str) {
    let mut rest = Vec::new();
    // A reset is an end too.
    let _ = expect_soon(stream.read_to_end(&mut rest)).await;
    assert!(rest.len() < 8192, "{why}");
}

/// The deepest nesting was a constant: a subscriber whose parser gives up sooner could not be spared.
#[test]
fn the_nesting_of_events_is_bounded_by_the_configuration() {
    run_async(async {
        let mut test_env = TestEnv::new(&[("server.nesting_max", "12")]);
        test_env.write_file(
            "[[sources.custom]]\nname = \"plain\"\nsecrets = [\"a-secret-of-the-plain-sender\"]\nentity = \"/id\"\n\
             event = \"/type\"\nscheme = { header = \"X-Token\", algorithm = \"token\" }\n",
        );
        let node = test_env.start().await;
        for (levels, is_admitted) in [(12, true), (13, false)] {
            let deep = format!("{}{}", "[".repeat(levels - 1), "]".repeat(levels - 1));
            let ticket =
                format!(r#"{{"event":"agent.unassigned","support_uid":"S","extra":{deep}}}"#);
            let custom = format!(r#"{{"id": "7", "type": "made", "extra": {deep}}}"#);
            let custom = node
                .client
                .post(format!("{}/in/plain", node.base))
                .header("x-token", "a-secret-of-the-plain-sender")
                .header("content-type", "application/json")
                .body(custom);
            let key = format!("k-{levels}");
            for request in [node.signed_request(&ticket, &key), custom] {
                let answer = node.send_request(request).await;
                assert_eq!(answer.status < 300, is_admitted, "{answer:?}");
                if !is_admitted {
                    assert_eq!(code(&answer), (400, "invalid_json"));
                    assert_eq!(answer.body["detail"], "body nests deeper than 12 levels");
                }
            }
        }
        node.stop().await;
    });
}

/// Strangers who announced large bodies and sent them slowly filled the memory. Later those who only
/// announced them took all of it.
#[test]
fn bodies_of_strangers_have_a_share_of_memory() {
    run_async(async {
        let mut test_env = TestEnv::new(&[
            ("server.body_limit_bytes", "100000"),
            ("server.unproven_bytes_max", "400000"),
        ]);
        test_env.write_file(
            "[[sources.custom]]\nname = \"repo\"\npreset = \"github\"\nsecrets = [\"hush-hush-hush\"]\n",
        );
        let node = test_env.start().await;
        let address = node.base.trim_start_matches("http://").to_owned();
        let head = |length: usize| {
            format!(
                "POST /in/repo HTTP/1.1\r\nHost: x\r\nX-Hub-Signature-256: sha256=00\r\n\
                 Content-Length: {length}\r\n\r\n"
            )
        };
        let mut held = Vec::new();
        for _ in 0..4 {
            let mut idle = TcpStream::connect(&address).await.expect("connects");
            idle.write_all(head(90_000).as_bytes()).await.expect("sent");
            held.push(idle);
            let mut stranger = TcpStream::connect(&address).await.expect("connects");
            let request = format!("{}{}", head(20_000), " ".repeat(20_000));
            stranger.write_all(request.as_bytes()).await.expect("sent");
            let answer = read_start(&mut stranger).await;
            assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
        }
        let head = head(90_000);
        let slow = hold_bodies(&address, &head, 89_000, &mut held);
        let answer = expect_soon(slow).await;
        assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
        assert!(answer.to_lowercase().contains("retry-after: 1"), "{answer}");
        assert!(answer.to_lowercase().contains("connection: close"));
        drop(held);
        assert_eq!(
            node.send_message("S", "k").await.status,
            202,
            "who sends all at once is not held up"
        );
        node.stop().await;
    });
}

/// The form of the login, and bodies behind a token or a key, had no share: strangers held 256 KB with
/// each of 2,500 connections.
#[test]
fn forms_and_bodies_behind_a_key_have_a_share_of_memory_too() {
    run_async(async {
        let test_env = TestEnv::new(&[
            ("server.body_limit_bytes", "300000"),
            ("server.unproven_bytes_max", "400000"),
        ]);
        let node = test_env.start().await;
        let address = node.base.trim_start_matches("http://").to_owned();
        let key = format!("X-CRM-API-Key: {API_KEY}");
        let bearer = format!("Authorization: Bearer {TOKEN}");
        for (path, header) in [
            ("/dashboard/login", "Sec-Fetch-Site: same-origin"),
            (SUPPORT, &key),
            ("/api/v1/webhooks", &bearer),
        ] {
            let head = format!(
                "POST {path} HTTP/1.1\r\nHost: x\r\n{header}\r\nContent-Length: 260000\r\n\r\n"
            );
            let mut held = Vec::new();
            let slow = hold_bodies(&address, &head, 259_000, &mut held);
            let answer = expect_soon(slow).await;
            assert!(answer.starts_with("HTTP/1.1 503 "), "{path}: {answer}");
            drop(held);
        }
        node.stop().await;
    });
}

/// Sends bodies of which the end is missing to `address` until one is answered; returns that answer. The
/// first has `bytes` bytes, and the others a few.
async fn hold_bodies(address: &str, head: &str, bytes: usize, held: &mut Vec<TcpStream>) -> String {
    let mut first = TcpStream::connect(address).await.expect("connects");
    first.write_all(head.as_bytes()).await.expect("sent");
    first.write_all(&vec![b' '; bytes]).await.expect("sent");
    held.push(first);
    loop {
        // The first body may not have arrived; while there is room this one waits for its end.
        let mut next = TcpStream::connect(address).await.expect("connects");
        let request = format!("{head}{}", " ".repeat(20_000));
        next.write_all(request.as_bytes()).await.expect("sent");
        let answer = tokio::time::timeout(Duration::from_millis(500), read_start(&mut next)).await;
        if let Ok(answer) = answer {
            return answer;
        }
        held.push(next);
    }
}

async fn read_start(stream: &mut TcpStream) -> String {
    let mut start = [0; 512];
    let count = stream.read(&mut start).await.expect("an answer");
    String::from_utf8_lossy(&start[..count]).into_owned()
}
