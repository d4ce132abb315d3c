//! Enrichment against a real server that is slow, fails, recovers and answers nonsense: each step
//! once, each lead in order.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::c2s::{lead, send, test_env, timeline};
use crate::dead_letters::poll_until;
use crate::erasure::{self, NAME};
use crate::failures::{DiskFailure, FailurePlace};
use crate::retention::wait_until_removed;
use crate::test_node::{TestClient, TestEnv, expect_soon, run_async};

const CPF: &str = "529.982.247-25";

/// Request as the server received it.
#[derive(Clone, Debug)]
struct ServerRequest {
    method: String,
    path: String,
    headers: HashMap<String, String>,
    body: String,
}

/// Reaction of the server to a request.
#[derive(Clone, Debug)]
enum ServerReply {
    Full(u16, &'static str, String),
    /// Starts an answer and never ends it.
    Drip,
    /// Answers when the test releases it.
    Hold,
}

fn ok(body: &Value) -> ServerReply {
    ServerReply::Full(200, "", body.to_string())
}

fn status(status: u16) -> ServerReply {
    ServerReply::Full(status, "", String::new())
}

type ServerScript = Box<dyn Fn(&ServerRequest, usize) -> ServerReply + Send>;

/// Server whose answers a test decides.
#[derive(Clone)]
struct ScriptedServer {
    base: String,
    asked: watch::Sender<Vec<ServerRequest>>,
    script: Arc<Mutex<Option<ServerScript>>>,
    released: watch::Sender<bool>,
}

impl ScriptedServer {
    async fn start(script: impl Fn(&ServerRequest, usize) -> ServerReply + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let base = format!("http://{}", listener.local_addr().expect("bound"));
        let server = Self {
            base,
            asked: watch::Sender::default(),
            script: Arc::new(Mutex::new(Some(Box::new(script)))),
            released: watch::Sender::default(),
        };
        let serving = server.clone();
        actix_rt::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let server = serving.clone();
                // Ignored: a caller that disconnects is part of the test.
                actix_rt::spawn(async move { drop(server.serve(stream).await) });
            }
        });
        server
    }

    /// Starts a server that finds the person and accepts every posted message.
    async fn start_friendly() -> Self {
        Self::start(|asked, _| match asked.path.as_str() {
            "/reply" => status(204),
            _ => ok(&json!({"name": "Ana Maria", "age": 40})),
        })
        .await
    }

    fn set_script(&self, script: impl Fn(&ServerRequest, usize) -> ServerReply + Send + 'static) {
        *self.script.lock() = Some(Box::new(script));
    }

    async fn serve(&self, stream: TcpStream) -> std::io::Result<()> {
        let mut stream = BufReader::new(stream);
        let mut head = Vec::new();
        loop {
            let mut line = String::new();
            stream.read_line(&mut line).await?;
            if line.trim().is_empty() {
                break;
            }
            head.push(line.trim().to_owned());
        }
        let mut words = head[0].split(' ').map(str::to_owned);
        let (method, path) = (
            words.next().expect("a method"),
            words.next().expect("a path"),
        );
        let headers = head[1..].iter().filter_map(|line| line.split_once(": "));
        let headers: HashMap<_, _> = headers
            .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
            .collect();
        let length = headers
            .get("content-length")
            .map_or(0, |length| length.parse().expect("a length"));
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await?;
        let asked = ServerRequest {
            method,
            path,
            headers,
            body: String::from_utf8(body).expect("text"),
        };
        // Number of earlier requests for this path.
        let before = self.count(&asked.path);
        let reply = self.script.lock().as_ref().expect("a script")(&asked, before);
        self.asked.send_modify(|all| all.push(asked));
        let mut reply = match reply {
            ServerReply::Full(status, header, body) => {
                let length = body.len();
                format!(
                    "HTTP/1.1 {status} X\r\n{header}connection: close\r\ncontent-length: {length}\r\n\r\n{body}"
                )
            }
            ServerReply::Drip => "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{".to_owned(),
            ServerReply::Hold => String::new(),
        };
        if !reply.ends_with("\r\n\r\n{") && !reply.is_empty() {
            return stream.write_all(reply.as_bytes()).await;
        }
        stream.write_all(reply.as_bytes()).await?;
        let mut released = self.released.subscribe();
        let _ = released.wait_for(|released| *released).await;
        reply = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{}".to_owned();
        stream.write_all(reply.as_bytes()).await
    }

    fn count(&self, path: &str) -> usize {
        self.asked
            .borrow()
            .iter()
            .filter(|asked| asked.path == path)
            .count()
    }

    fn paths(&self) -> Vec<String> {
        self.asked
            .borrow()
            .iter()
            .map(|asked| asked.path.clone())
            .collect()
    }

    /// Waits until `path` was requested `count` times.
    async fn wait_for_requests(&self, path: &str, count: usize) {
        let mut asked = self.asked.subscribe();
        let enough = |all: &Vec<ServerRequest>| {
            all.iter().filter(|asked| asked.path == path).count() >= count
        };
        expect_soon(asked.wait_for(enough))
            .await
            .expect("the sender is our own");
    }

    /// Environment whose events are enriched by this server, with only the retries in `keys`.
    fn test_env(&self, keys: &[(&str, &str)]) -> TestEnv {
        let mut test_env = test_env(&[]);
        for (key, value) in [
            ("enabled", "true"),
            (
                "lookup_url",
                &format!("{}/lookup?email={{email}}&phone={{phone}}", self.base),
            ),
            ("person_url", &format!("{}/person/{{cpf}}", self.base)),
            ("reply_url", &format!("{}/reply", self.base)),
            ("key", "person-key"),
            ("message_template", "{customer.name} is {person.name}"),
            ("retry_schedule_s", ""),
        ] {
            test_env.set(&format!("sources.c2s.enrichment.{key}"), value);
        }
        keys.iter()
            .for_each(|(key, value)| test_env.set(&format!("sources.c2s.enrichment.{key}"), value));
        test_env
    }
}

const PERSON: &str = "/person/52998224725";

fn event(lead_id: &str, minute: u32, customer: &Value) -> Value {
    json!({"lead_id": lead_id, "updated_at": format!("2025-01-20T10:{minute:02}:00Z"), "customer": customer})
}

fn with_cpf(lead_id: &str, minute: u32) -> Value {
    event(lead_id, minute, &json!({"name": "Ana", "cpf": CPF}))
}

/// Sends an event and returns its id.
async fn send_accepted(client: &TestClient, event: &Value) -> String {
    let answer = send(client, event).await;
    assert_eq!(answer.body["processed"], 1, "{answer:?}");
    answer
        .header("x-event-id")
        .expect("it is the only one")
        .to_owned()
}

async fn show_lead(client: &TestClient, id: &str) -> Value {
    client.get(&format!("/api/v1/events/{id}")).await.body
}

/// Waits until the event is no longer processing, and returns it.
async fn wait_until_settled(client: &TestClient, id: &str) -> Value {
    expect_soon(async {
        loop {
            let event = show_lead(client, id).await;
            if event["status"] != "processing" {
                return event;
            }
        }
    })
    .await
}

fn outcome(event: &Value) -> (&str, &str) {
    (
        event["status"].as_str().expect("a status"),
        event["error_message"].as_str().unwrap_or_default(),
    )
}

#[test]
fn an_event_with_a_cpf_is_enriched_and_replied_to() {
    run_async(async {
        let server = ScriptedServer::start_friendly().await;
        let mut test_env = server.test_env(&[("key_header", "X-Person-Key")]);
        let clock = test_env.with_manual_clock();
        let node = test_env.start().await;
        let id = send_accepted(&node, &with_cpf("7", 0)).await;
        clock.advance(Duration::from_secs(60));
        let event = wait_until_settled(&node, &id).await;
        assert_eq!(outcome(&event), ("completed", ""));
        assert_eq!(
            (&event["entity"]["sequence"], &event["type"]),
            (&json!(1), &json!("c2s_lead.received"))
        );
        assert_eq!(event["processing_at"], event["received_at"]);
        assert!(event["processed_at"].as_str() >= event["processing_at"].as_str());
        assert_eq!(
            lead(&node, "7").await["state"]["enriched"],
            json!({"name": "Ana Maria", "age": 40})
        );
        let items = timeline(&node, "7").await;
        let told: Vec<_> = items
            .iter()
            .map(|item| (item["type"].as_str(), item["summary"].as_str()))
            .collect();
        let expected = [
            ("c2s_lead.received", "event received, 3 fields set"),
            ("c2s_lead.enriched", "enriched"),
        ];
        assert_eq!(
            told,
            expected.map(|(kind, summary)| (Some(kind), Some(summary)))
        );
        let data = json!({
            "lead_id": "7", "updated_at": "2025-01-20T10:00:00.000Z", "enriched": {"name": "Ana Maria", "age": 40},
        });
        assert_eq!(items[1]["data"], data);
        assert_eq!(server.paths(), [PERSON, "/reply"]);
        let asked = server.asked.borrow().clone();
        assert_eq!(
            (
                asked[0].method.as_str(),
                asked[0].headers.get("x-person-key").map(String::as_str)
            ),
            ("GET", Some("person-key"))
        );
        assert_eq!(
            (
                asked[1].method.as_str(),
                asked[1].headers.get("x-person-key")
            ),
            ("POST", None),
            "a key for one only"
        );
        assert_eq!(asked[1].headers["idempotency-key"], id);
        let body: Value = serde_json::from_str(&asked[1].body).expect("JSON");
        assert_eq!(body, json!({"lead_id": "7", "message": "Ana is Ana Maria"}));
        node.stop().await;
    });
}

#[test]
fn the_call_log_names_each_call_and_not_whom_it_was_about() {
    run_async(async {
        let server = ScriptedServer::start(|asked, before| match (asked.path.as_str(), before) {
            ("/reply", 0) => status(503),
            ("/reply", _) => status(201),
            _ => ok(&json!({"cpf": CPF, "name": "Ana"})),
        })
        .await;
        let node = server
            .test_env(&[("retry_schedule_s", "0.001")])
            .start()
            .await;
        let customer = json!({"name": "Ana", "email": "ana@example.com"});
        let id = send_accepted(&node, &event("7", 0, &customer)).await;
        assert_eq!(
            outcome(&wait_until_settled(&node, &id).await),
            ("completed", "")
        );
        let rows = node
            .get("/api/v1/webhooks/logs?direction=outgoing")
            .await
            .body;
        let rows = rows["items"].as_array().expect("a list");
        let told: Vec<_> = rows
            .iter()
            .rev()
            .map(|row| (&row["method"], &row["path"], &row["status"], &row["code"]))
            .collect();
        let expected = [
            ("GET", "/lookup", 200, None),
            ("GET", "/person/{cpf}", 200, None),
            ("POST", "/reply", 503, Some("status")),
            ("POST", "/reply", 201, None),
        ];
        assert_eq!(told.len(), expected.len(), "{told:?}");
        for (told, (method, path, status, code)) in told.iter().zip(expected) {
            assert_eq!(
                *told,
                (&json!(method), &json!(path), &json!(status), &json!(code))
            );
        }
        assert!(
            rows.iter()
                .all(|row| row["source"] == "c2s" && row["event_ids"] == json!([id])),
            "{rows:?}"
        );
        let whole = node
            .get(&format!("/api/v1/webhooks/logs/{}", rows[2]["id"]))
            .await
            .body
            .to_string();
        assert!(
            !whole.contains("52998224725") && !whole.contains("ana@") && !whole.contains(CPF),
            "{whole}"
        );
        node.stop().await;
    });
}

#[test]
fn a_cpf_is_looked_up_by_e_mail_then_by_phone_and_without_a_cpf_no_person_is_found() {
    run_async(async {
        let server = ScriptedServer::start(|asked, _| match asked.path.as_str() {
            "/lookup?email=known%40example.com&phone=" => ok(&json!({"cpf": CPF})),
            "/lookup?email=null%40example.com&phone=" => ok(&json!(null)),
            "/lookup?email=&phone=%2B5511" => ok(&json!({"cpf": 52_998_224_725_u64})),
            path if path.starts_with("/lookup") => status(404),
            "/reply" => status(200),
            _ => ok(&json!({"found": true})),
        })
        .await;
        let node = server.test_env(&[]).start().await;
        let cases = [
            (
                json!({"email": "known@example.com", "phone": "+5511"}),
                json!({"found": true}),
                3,
            ),
            (
                json!({"email": "null@example.com", "phone": "+5511"}),
                json!({"found": true}),
                4,
            ),
            (
                json!({"email": "unknown@example.com", "phone": "+1"}),
                json!(null),
                2,
            ),
            (json!({"cpf": "529.982.247-24"}), json!(null), 0),
            (json!(null), json!(null), 0),
        ];
        for (number, (customer, enriched, calls)) in (0..).zip(cases) {
            let before = server.asked.borrow().len();
            let lead_id = format!("{number}");
            let id = send_accepted(&node, &event(&lead_id, 0, &customer)).await;
            assert_eq!(
                outcome(&wait_until_settled(&node, &id).await),
                ("completed", ""),
                "case {number}"
            );
            assert_eq!(
                lead(&node, &lead_id).await["state"]["enriched"],
                enriched,
                "case {number}"
            );
            assert_eq!(
                server.asked.borrow().len() - before,
                calls,
                "case {number}: {:?}",
                server.paths()
            );
            assert_eq!(
                timeline(&node, &lead_id).await[1]["data"]["enriched"],
                enriched,
                "case {number}"
            );
        }
        node.stop().await;
    });
}

#[test]
fn temporary_failures_are_retried_and_permanent_ones_name_the_step() {
    run_async(async {
        let server = ScriptedServer::start(|asked, before| match (asked.path.as_str(), before) {
            (PERSON, 0) => status(503),
            (PERSON, 1) => ServerReply::Full(429, "retry-after: 0\r\n", String::new()),
            ("/reply", 0..3) => status(408),
            ("/reply", _) => status(201),
            _ => ok(&json!({"n": 1})),
        })
        .await;
        let node = server
            .test_env(&[("retry_schedule_s", "0.001, 0.001, 0.001")])
            .start()
            .await;
        let id = send_accepted(&node, &with_cpf("7", 0)).await;
        assert_eq!(
            outcome(&wait_until_settled(&node, &id).await),
            ("completed", "")
        );
        let expected = [
            PERSON, PERSON, PERSON, "/reply", "/reply", "/reply", "/reply",
        ];
        assert_eq!(server.paths(), expected, "each step has the whole schedule");
        let table = [
            (status(503), "person: answered 503, tried 4 times"),
            (status(403), "person: answered 403"),
            (status(404), "person: answered 404"),
            (
                ServerReply::Full(302, "location: /elsewhere\r\n", String::new()),
                "person: answered 302",
            ),
            (ok(&json!([1])), "person: answered no JSON object"),
            (
                ServerReply::Full(200, "", "x".repeat(70_000)),
                "person: answered more than 65536 bytes",
            ),
        ];
        for (number, (reply, reason)) in (1..).zip(table) {
            server.set_script(move |_, _| reply.clone());
            let id = send_accepted(&node, &with_cpf("7", number)).await;
            let event = wait_until_settled(&node, &id).await;
            assert_eq!(
                (outcome(&event), &event["code"]),
                (("failed", reason), &json!(502))
            );
        }
        assert_eq!(server.count("/elsewhere"), 0);
        let last = timeline(&node, "7").await.pop().expect("the last one");
        let failed = (
            json!("c2s_lead.failed"),
            json!("enrichment failed at person"),
        );
        assert_eq!((&last["type"], &last["summary"]), (&failed.0, &failed.1));
        let own = show_lead(&node, last["event_id"].as_str().expect("an id")).await;
        assert_eq!(
            (outcome(&own), &own["code"]),
            (("completed", ""), &json!(null)),
            "that it failed has happened"
        );
        assert_eq!(
            own["payload"]["error_message"],
            "person: answered more than 65536 bytes"
        );
        assert_eq!(
            node.get("/api/v1/events?status=failed").await.body["total"],
            6
        );
        assert_eq!(
            lead(&node, "7").await["state"]["enriched"],
            json!({"n": 1}),
            "what was found before stays"
        );
        node.stop().await;
    });
}

#[test]
fn a_server_that_does_not_answer_in_time_or_is_not_there_fails_the_step() {
    run_async(async {
        let server = ScriptedServer::start(|asked, _| {
            if asked.path == "/reply" {
                ServerReply::Hold
            } else {
                ServerReply::Drip
            }
        })
        .await;
        let mut test_env = server.test_env(&[("timeout_s", "0.1")]);
        let node = test_env.start().await;
        let id = send_accepted(&node, &with_cpf("7", 0)).await;
        assert_eq!(
            outcome(&wait_until_settled(&node, &id).await),
            ("failed", "person: timed out")
        );
        server.set_script(|asked, _| {
            if asked.path == "/reply" {
                ServerReply::Hold
            } else {
                ok(&json!({"n": 2}))
            }
        });
        let id = send_accepted(&node, &with_cpf("7", 1)).await;
        assert_eq!(
            outcome(&wait_until_settled(&node, &id).await),
            ("failed", "reply: timed out")
        );
        assert_eq!(
            lead(&node, "7").await["state"]["enriched"],
            json!({"n": 2}),
            "found before the step that failed"
        );
        node.stop().await;
        test_env.set(
            "sources.c2s.enrichment.person_url",
            "http://127.0.0.1:1/{cpf}",
        );
        let node = test_env.start().await;
        let id = send_accepted(&node, &with_cpf("7", 2)).await;
        assert_eq!(
            outcome(&wait_until_settled(&node, &id).await),
            ("failed", "person: connection failed")
        );
        node.stop().await;
    });
}

#[test]
fn a_failed_event_is_run_again_on_request_and_any_other_is_not() {
    run_async(async {
        let server = ScriptedServer::start(|_, _| status(400)).await;
        let mut test_env = server.test_env(&[]);
        let node = test_env.start().await;
        let id = send_accepted(&node, &with_cpf("7", 0)).await;
        let reprocess = format!("/api/v1/events/{id}/reprocess");
        for round in 1..=3 {
            assert_eq!(
                outcome(&wait_until_settled(&node, &id).await),
                ("failed", "person: answered 400")
            );
            assert_eq!(server.count(PERSON), round);
            let answer = node.post(&reprocess).await;
            let entity = json!({"kind": "c2s_lead", "id": "7", "sequence": 1});
            assert_eq!(
                answer.body,
                json!({"status": "accepted", "event_id": id, "entity": entity}),
                "{answer:?}"
            );
            assert_eq!(answer.status, 202);
        }
        assert_eq!(outcome(&wait_until_settled(&node, &id).await).0, "failed");
        server.set_script(|_, _| ok(&json!({"found": true})));
        assert_eq!(node.post(&reprocess).await.status, 202);
        assert_eq!(
            outcome(&wait_until_settled(&node, &id).await),
            ("completed", "")
        );
        let again = node.post(&reprocess).await;
        assert_eq!(
            (again.status, &again.body["code"]),
            (409, &json!("not_failed"))
        );
        assert_eq!(
            lead(&node, "7").await["state"]["enriched"],
            json!({"found": true})
        );
        let types: Vec<_> = timeline(&node, "7")
            .await
            .iter()
            .map(|item| item["type"].clone())
            .collect();
        let failed = "c2s_lead.failed";
        assert_eq!(
            types,
            [
                "c2s_lead.received",
                failed,
                failed,
                failed,
                failed,
                "c2s_lead.enriched"
            ]
        );

        server.set_script(|_, _| status(400));
        let id = send_accepted(&node, &with_cpf("7", 1)).await;
        assert_eq!(outcome(&wait_until_settled(&node, &id).await).0, "failed");
        node.stop().await;
        test_env.set("sources.c2s.enrichment.enabled", "false");
        let node = test_env.start().await;
        assert_eq!(
            node.post(&format!("/api/v1/events/{id}/reprocess"))
                .await
                .status,
            202
        );
        assert_eq!(
            outcome(&show_lead(&node, &id).await),
            ("completed", ""),
            "without enrichment there is nothing to do"
        );
        node.stop().await;
    });
}

#[test]
fn events_of_one_lead_are_enriched_in_order_and_no_other_lead_waits() {
    run_async(async {
        let server = ScriptedServer::start(|asked, before| match asked.path.as_str() {
            PERSON if before == 0 => ServerReply::Hold,
            "/reply" => status(200),
            _ => ok(&json!({"later": true})),
        })
        .await;
        let node = server.test_env(&[]).start().await;
        let slow = send_accepted(&node, &with_cpf("7", 0)).await;
        server.wait_for_requests(PERSON, 1).await;
        let behind = send_accepted(&node, &with_cpf("7", 1)).await;
        let other = send_accepted(&node, &event("8", 0, &json!({"cpf": "111.444.777-35"}))).await;
        assert_eq!(
            outcome(&wait_until_settled(&node, &other).await),
            ("completed", "")
        );
        assert_eq!(outcome(&show_lead(&node, &slow).await), ("processing", ""));
        assert_eq!(
            outcome(&show_lead(&node, &behind).await),
            ("processing", "")
        );
        assert_eq!(show_lead(&node, &behind).await["processed_at"], json!(null));
        assert_eq!(
            server.count(PERSON),
            1,
            "the second event of the lead has not begun"
        );
        server.released.send_replace(true);
        assert_eq!(
            outcome(&wait_until_settled(&node, &behind).await),
            ("completed", "")
        );
        assert_eq!(
            outcome(&show_lead(&node, &slow).await),
            ("completed", ""),
            "before the one behind it"
        );
        assert_eq!(
            lead(&node, "7").await["state"]["enriched"],
            json!({"later": true})
        );
        node.stop().await;
    });
}

#[test]
fn while_a_breaker_is_open_nothing_is_tried_and_nothing_counted() {
    run_async(async {
        let server = ScriptedServer::start(|_, _| status(500)).await;
        let keys = [
            ("breaker_failures", "2"),
            ("breaker_open_s", "0.05"),
            ("retry_schedule_s", "0.001, 0.001"),
        ];
        let mut test_env = server.test_env(&keys);
        let clock = test_env.with_manual_clock();
        let node = test_env.start().await;
        let id = send_accepted(&node, &with_cpf("7", 0)).await;
        // Moves the clock, which otherwise stands still, past the pause before the second attempt.
        expect_soon(async {
            while server.count(PERSON) < 2 {
                assert_eq!(outcome(&show_lead(&node, &id).await), ("processing", ""));
                clock.advance(Duration::from_millis(1));
            }
        })
        .await;
        let other = send_accepted(&node, &event("8", 0, &json!({"cpf": "111.444.777-35"}))).await;
        for _ in 0..200 {
            assert_eq!(outcome(&show_lead(&node, &other).await), ("processing", ""));
        }
        assert_eq!(server.asked.borrow().len(), 2, "{:?}", server.paths());
        server.set_script(|asked, _| {
            if asked.path == "/reply" {
                status(200)
            } else {
                ok(&json!({}))
            }
        });
        expect_soon(async {
            while outcome(&show_lead(&node, &other).await).0 == "processing" {
                clock.advance(Duration::from_millis(50));
            }
        })
        .await;
        expect_soon(async {
            while outcome(&show_lead(&node, &id).await).0 == "processing" {
                clock.advance(Duration::from_millis(50));
            }
        })
        .await;
        assert_eq!(
            outcome(&show_lead(&node, &id).await),
            ("completed", ""),
            "its tries were not used up meanwhile"
        );
        node.stop().await;
    });
}

#[test]
fn a_killed_node_goes_on_with_the_step_that_was_not_done() {
    run_async(async {
        let server = ScriptedServer::start(|asked, _| match asked.path.as_str() {
            "/reply" => ServerReply::Hold,
            path if path.starts_with("/lookup") => ok(&json!({"cpf": CPF})),
            _ => ok(&json!({"text": "x".repeat(40_000)})),
        })
        .await;
        let test_env = server.test_env(&[]);
        let mut process = test_env.start_process().await;
        let customer = json!({"name": "Ana", "email": "ana@example.com"});
        let id = send_accepted(&process, &event("7", 0, &customer)).await;
        send_accepted(&process, &event("7", 1, &json!({}))).await;
        server.wait_for_requests("/reply", 1).await;
        process.kill();
        let mut process = test_env.start_process().await;
        server.wait_for_requests("/reply", 2).await;
        assert_eq!(outcome(&show_lead(&process, &id).await), ("processing", ""));
        process.kill();
        server.set_script(|_, _| status(200));
        let node = test_env.start().await;
        assert_eq!(
            outcome(&wait_until_settled(&node, &id).await),
            ("completed", "")
        );
        let lookup = "/lookup?email=ana%40example.com&phone=";
        assert_eq!(
            server.paths(),
            [lookup, PERSON, "/reply", "/reply", "/reply"],
            "no step that was done is made again"
        );
        let keys: Vec<_> = server.asked.borrow()[2..]
            .iter()
            .map(|asked| asked.headers["idempotency-key"].clone())
            .collect();
        assert_eq!(
            keys,
            [id.clone(), id.clone(), id],
            "so that the other side can tell"
        );
        let text = lead(&node, "7").await["state"]["enriched"]["text"]
            .as_str()
            .map(str::len);
        assert_eq!(text, Some(40_000));
        node.stop().await;
        assert_eq!(crate::test_node::count_blobs(&test_env.store_path()), 0);
    });
}

#[test]
fn a_store_that_fails_under_an_enrichment_is_opened_again_and_the_event_completed() {
    run_async(async {
        let server = ScriptedServer::start(|asked, _| match asked.path.as_str() {
            PERSON => ServerReply::Hold,
            _ => status(200),
        })
        .await;
        let mut test_env = server.test_env(&[]);
        let disk_failure = DiskFailure::install(&mut test_env);
        let node = test_env.start().await;
        let id = send_accepted(&node, &with_cpf("7", 0)).await;
        server.wait_for_requests(PERSON, 1).await;
        disk_failure.fail(FailurePlace::Sync, 2);
        server.released.send_replace(true);
        disk_failure.until_played(2).await;
        expect_soon(async {
            while node.get("/readyz").await.status != 200
                || show_lead(&node, &id).await["status"] != "completed"
            {}
        })
        .await;
        assert_eq!(server.count("/reply"), 1);
        assert_eq!(lead(&node, "7").await["state"]["enriched"], json!({}));
        node.stop().await;
    });
}

/// Its person was found before, and the reply is on its way.
#[test]
fn an_erased_lead_is_enriched_no_more_and_nothing_of_its_person_is_left() {
    run_async(async {
        let server = ScriptedServer::start(|asked, _| match asked.path.as_str() {
            "/reply" => ServerReply::Hold,
            _ => ok(&json!({"name": NAME})),
        })
        .await;
        let test_env = server.test_env(&[]);
        let node = test_env.start().await;
        let customer = json!({"name": NAME, "cpf": CPF});
        let id = send_accepted(&node, &event("7", 0, &customer)).await;
        server.wait_for_requests("/reply", 1).await;
        let erased = erasure::erase(&node, "c2s_lead", "7").await;
        assert_eq!(erased.status, 202, "{erased:?}");
        assert_eq!(outcome(&show_lead(&node, &id).await), ("completed", ""));

        server.released.send_replace(true);
        erasure::wait_until_done(&node, 1).await;
        let types: Vec<_> = timeline(&node, "7")
            .await
            .iter()
            .map(|item| item["type"].clone())
            .collect();
        assert_eq!(types, ["c2s_lead.received", "c2s_lead.erased"]);
        node.stop().await;
        erasure::assert_gone(&test_env);
    });
}

/// Such an event kept its content for ever, and what came after it.
#[test]
fn an_event_that_is_pending_for_longer_than_it_is_held_fails_without_its_content() {
    run_async(async {
        let server = ScriptedServer::start_friendly().await;
        let mut test_env = server.test_env(&[("timeout_s", "0.1"), ("retry_schedule_s", "60")]);
        test_env.set("sources.c2s.retention_days", "3");
        test_env.set("delivery.hold_days", "1");
        let clock = test_env.with_manual_clock();
        server.set_script(|_, _| ServerReply::Hold);
        let node = test_env.start().await;
        let pending = send_accepted(&node, &with_cpf("2", 0)).await;
        server.wait_for_requests(PERSON, 1).await;
        node.stop().await;

        test_env.set("sources.c2s.enrichment.enabled", "false");
        let node = test_env.start().await;
        clock.advance(Duration::from_secs(4 * 24 * 3_600 + 1));
        wait_until_removed(&node, &pending).await;
        node.stop().await;

        test_env.set("sources.c2s.enrichment.enabled", "true");
        let node = test_env.start().await;
        let path = "/api/v1/events?type=c2s_lead.failed";
        let failed = poll_until(&node, path, |events| {
            events["items"]
                .as_array()
                .is_some_and(|events| !events.is_empty())
        })
        .await;
        let id = failed["items"][0]["event_id"].as_str().expect("an id");
        let payload = show_lead(&node, id).await["payload"].clone();
        assert_eq!(payload["lead_id"], "2", "{payload}");
        let reason = "person: the content of the event was removed by retention";
        assert_eq!(payload["error_message"], reason, "{payload}");
        node.stop().await;
    });
}

/// Pending events were resolved without a person when their content had gone.
#[test]
fn a_pending_event_keeps_its_content_beyond_the_days_of_its_source() {
    run_async(async {
        let server = ScriptedServer::start(|_, before| match before {
            0 => ok(&json!({"name": "Ana Maria"})),
            _ => ServerReply::Hold,
        })
        .await;
        let mut test_env = server.test_env(&[("reply_url", "")]);
        test_env.set("sources.c2s.retention_days", "3");
        test_env.set("delivery.hold_days", "5");
        let clock = test_env.with_manual_clock();
        let node = test_env.start().await;
        let done = send_accepted(&node, &with_cpf("1", 0)).await;
        assert_eq!(
            wait_until_settled(&node, &done).await["status"],
            "completed"
        );
        let pending = send_accepted(&node, &with_cpf("2", 0)).await;
        server.wait_for_requests(PERSON, 2).await;

        clock.advance(Duration::from_secs(4 * 24 * 3_600 + 1));
        wait_until_removed(&node, &done).await;
        let answer = node.get(&format!("/api/v1/events/{pending}")).await;
        assert_eq!(answer.body["status"], "processing", "{answer:?}");
        assert!(answer.text.contains(CPF), "{answer:?}");
        node.stop().await;
    });
}

#[test]
fn pending_enrichment_waits_while_it_is_switched_off() {
    run_async(async {
        let server = ScriptedServer::start_friendly().await;
        let mut test_env = server.test_env(&[("timeout_s", "0.1"), ("retry_schedule_s", "60")]);
        server.set_script(|_, _| ServerReply::Hold);
        let node = test_env.start().await;
        let id = send_accepted(&node, &with_cpf("7", 0)).await;
        server.wait_for_requests(PERSON, 1).await;
        node.stop().await;
        test_env.set("sources.c2s.enrichment.enabled", "false");
        let node = test_env.start().await;
        assert_eq!(outcome(&show_lead(&node, &id).await), ("processing", ""));
        let other = send_accepted(&node, &with_cpf("7", 1)).await;
        assert_eq!(
            outcome(&show_lead(&node, &other).await),
            ("completed", ""),
            "at once"
        );
        node.stop().await;
        test_env.set("sources.c2s.enrichment.enabled", "true");
        server.set_script(|_, _| ok(&json!({"n": 1})));
        let node = test_env.start().await;
        assert_eq!(
            outcome(&wait_until_settled(&node, &id).await),
            ("completed", "")
        );
        node.stop().await;
    });
}

#[test]
fn many_leads_at_once_are_all_enriched_once_each_in_its_order() {
    run_async(async {
        let known = Mutex::new(HashSet::new());
        let server = ScriptedServer::start(move |asked, before| match asked.path.as_str() {
            // The first attempt of each event fails.
            "/reply"
                if known
                    .lock()
                    .insert(asked.headers["idempotency-key"].clone()) =>
            {
                status(503)
            }
            "/reply" => status(200),
            _ => ok(&json!({"n": before})),
        })
        .await;
        let keys = [("retry_schedule_s", "0.001"), ("breaker_failures", "1000")];
        let node = server.test_env(&keys).start().await;
        let list: Vec<_> = (0..10)
            .flat_map(|minute| (0..12).map(move |n| with_cpf(&format!("{n}"), minute)))
            .collect();
        let answer = send(&node, &json!(list)).await;
        assert_eq!(
            (answer.status, &answer.body["processed"]),
            (200, &json!(120))
        );
        expect_soon(async {
            while node
                .get("/api/v1/events?status=processing&page_size=1")
                .await
                .body["total"]
                != 0
            {}
        })
        .await;
        let failed = node.get("/api/v1/events?status=failed").await.body;
        assert_eq!(failed["total"], 0, "{failed}");
        assert_eq!(
            (server.count(PERSON), server.count("/reply")),
            (120, 240),
            "no step that was done is made again"
        );
        for number in 0..12 {
            let items = timeline(&node, &number.to_string()).await;
            let enriched = items
                .iter()
                .filter(|item| item["type"] == "c2s_lead.enriched");
            let times: Vec<_> = enriched
                .map(|item| item["data"]["updated_at"].clone())
                .collect();
            let expected: Vec<_> = (0..10)
                .map(|minute| json!(format!("2025-01-20T10:{minute:02}:00.000Z")))
                .collect();
            assert_eq!(times, expected, "lead {number}");
        }
        node.stop().await;
    });
}
