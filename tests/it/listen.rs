//! `hookyard listen`: run as a person would run it, and called as by a node.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use hmac::{Hmac, Mac};
use reqwest::Client;
use serde_json::{Value, json};
use sha2::Sha256;
use tokio::sync::mpsc;

use crate::commands::{DevNode, folder, hookyard, output_of, send_signal};
use crate::receiver::{ReceiverReply, TestReceiver};
use crate::test_node::{expect_soon, run_async};

const SECRET: &str = "hush";

const LISTEN: [&str; 4] = ["listen", "--bind", "127.0.0.1:0", "--json"];

/// Listener that prints JSON; killed when dropped.
struct ListenProcess {
    child: Child,
    /// Printed lines, read on a thread of their own because the test serves connections.
    lines: mpsc::UnboundedReceiver<String>,
    /// First printed line of the listener.
    greeting: Value,
    client: Client,
}

impl ListenProcess {
    async fn start(words: &[&str]) -> Self {
        Self::begin(&mut hookyard(
            folder().path(),
            &[&LISTEN[..], words].concat(),
        ))
        .await
    }

    async fn begin(command: &mut Command) -> Self {
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it starts");
        let printed = BufReader::new(child.stdout.take().expect("a pipe"))
            .lines()
            .map(|line| line.expect("text"));
        let (sender, lines) = mpsc::unbounded_channel();
        // Ignored: the test may have ended.
        thread::spawn(move || printed.for_each(|line| drop(sender.send(line))));
        let client = Client::builder().no_proxy().build().expect("a client");
        let mut listener = Self {
            child,
            lines,
            greeting: Value::Null,
            client,
        };
        listener.greeting = listener.line().await;
        listener
    }

    async fn line(&mut self) -> Value {
        let line = expect_soon(self.lines.recv()).await.expect("a line");
        serde_json::from_str(&line).unwrap_or_else(|_| panic!("no JSON: {line}"))
    }

    /// Delivery of an event of ticket T-1, signed with `secret` in the style `crm`.
    fn delivery(&self, sequence: u64, secret: &str) -> reqwest::RequestBuilder {
        let entity = json!({"kind": "ticket", "id": "T-1", "sequence": sequence});
        let body = json!({"event": "message.created", "entity": entity, "late": false}).to_string();
        let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("a key");
        mac.update(body.as_bytes());
        let request = self
            .client
            .post(self.greeting["listening"].as_str().expect("an address"));
        request
            .header("webhook-id", format!("evt_{sequence}"))
            .header("x-entity-sequence", sequence)
            .header(
                "x-webhook-signature",
                hex::encode(mac.finalize().into_bytes()),
            )
            .body(body)
    }

    async fn deliver(&self, sequence: u64) -> u16 {
        self.delivery(sequence, SECRET)
            .send()
            .await
            .expect("an answer")
            .status()
            .as_u16()
    }

    /// Stops the listener with SIGINT, as Ctrl-C does, and returns its last line, exit code and
    /// errors.
    async fn end(mut self) -> (Value, Option<i32>, String) {
        send_signal(&self.child, "INT");
        let summary = self.line().await;
        assert_eq!(
            expect_soon(self.lines.recv()).await,
            None,
            "the summary is the last line"
        );
        let mut error = String::new();
        self.child
            .stderr
            .take()
            .expect("a pipe")
            .read_to_string(&mut error)
            .expect("text");
        (
            summary["summary"].clone(),
            self.child.wait().expect("a child").code(),
            error,
        )
    }
}

impl Drop for ListenProcess {
    fn drop(&mut self) {
        // Ignored: the listener may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn deliveries_in_order_are_verified_printed_and_summed_up() {
    run_async(async {
        let mut listener = ListenProcess::start(&["--secret", SECRET]).await;
        for sequence in [1, 2, 2, 4] {
            assert_eq!(listener.deliver(sequence).await, 200);
        }
        for (sequence, mark) in [
            (1, json!(null)),
            (2, json!(null)),
            (2, json!("repeat")),
            (4, json!("gap")),
        ] {
            let line = listener.line().await;
            let entity = json!({"kind": "ticket", "id": "T-1"});
            assert_eq!(
                (&line["entity"], &line["sequence"], &line["mark"]),
                (&entity, &json!(sequence), &mark)
            );
            assert_eq!(
                (&line["status"], &line["signatures"]),
                (&json!(200), &json!({"crm": "right"}))
            );
        }
        let (summary, code, error) = listener.end().await;
        let expected = json!({
            "deliveries": 4, "events": 3, "entities": 1, "refused": 0, "given_up": 0, "repeats": 1, "again": 0, "gaps": 1, "swaps": 0,
            "wrongly_signed": 0,
        });
        assert_eq!((summary, code, error.as_str()), (expected, Some(0), ""));
    });
}

#[test]
fn a_swap_and_a_wrong_signature_make_it_fail() {
    run_async(async {
        let mut listener = ListenProcess::start(&["--secret", SECRET]).await;
        listener.deliver(2).await;
        listener.deliver(1).await;
        let wrong = listener
            .delivery(3, "other")
            .send()
            .await
            .expect("an answer");
        assert_eq!(wrong.status(), 200, "it only looks on");
        let lines = [
            listener.line().await,
            listener.line().await,
            listener.line().await,
        ];
        assert_eq!(
            (&lines[1]["mark"], &lines[2]["signatures"]["crm"]),
            (&json!("swap"), &json!("wrong"))
        );
        let (summary, code, error) = listener.end().await;
        assert_eq!(
            (&summary["swaps"], &summary["wrongly_signed"], code),
            (&json!(1), &json!(1), Some(1))
        );
        assert!(
            error.contains("3 deliveries: 1 out of order, 1 with a wrong signature or none"),
            "{error}"
        );
    });
}

#[test]
fn the_listener_fails_the_configured_share_and_the_same_attempts_with_the_same_seed() {
    run_async(async {
        let mut runs = Vec::new();
        for seed in ["7", "7", "8"] {
            let listener =
                ListenProcess::start(&["--fail", "0.5", "--status", "204", "--seed", seed]).await;
            let mut answers = Vec::new();
            for sequence in 1..=40 {
                answers.push(listener.deliver(sequence).await);
            }
            assert!(
                answers.iter().all(|status| [204, 500].contains(status)),
                "{answers:?}"
            );
            runs.push(answers);
        }
        assert!(runs[0] == runs[1] && runs[0] != runs[2], "{runs:?}");
    });
}

#[test]
fn a_delivery_whose_sender_disconnects_is_not_accepted() {
    run_async(async {
        let mut listener = ListenProcess::start(&["--delay", "3600"]).await;
        let impatient = listener
            .delivery(1, SECRET)
            .timeout(Duration::from_millis(300));
        assert!(impatient.send().await.expect_err("no answer").is_timeout());
        let line = listener.line().await;
        assert_eq!(
            (&line["status"], &line["signatures"]),
            (&json!(null), &json!({"crm": "unchecked"}))
        );
        let (summary, code, _) = listener.end().await;
        assert_eq!(
            (&summary["given_up"], &summary["events"], code),
            (&json!(1), &json!(0), Some(0))
        );
    });
}

#[test]
fn large_bodies_and_other_methods_are_refused() {
    run_async(async {
        let listener = ListenProcess::start(&[]).await;
        let url = listener.greeting["listening"].as_str().expect("an address");
        let large = listener
            .client
            .post(url)
            .body(vec![b'x'; 3 * 1024 * 1024])
            .send()
            .await;
        assert!(
            large.is_err() || large.is_ok_and(|answer| answer.status() == 413),
            "it may hang up before all is sent"
        );
        assert_eq!(
            listener
                .client
                .get(url)
                .send()
                .await
                .expect("an answer")
                .status(),
            405
        );
        let (summary, code, _) = listener.end().await;
        assert_eq!((&summary["deliveries"], code), (&json!(0), Some(0)));
    });
}

#[test]
fn it_subscribes_takes_the_secret_and_unsubscribes() {
    run_async(async {
        let node = TestReceiver::start(|call| match call.method.as_str() {
            "POST" => ReceiverReply::Full(
                200,
                Vec::new(),
                json!({"id": 4, "secret": SECRET, "public_key": null}).to_string(),
            ),
            "GET" => ReceiverReply::Full(
                200,
                Vec::new(),
                json!({"items": [], "total": 0, "pages": 0}).to_string(),
            ),
            _ => ReceiverReply::Status(204),
        })
        .await;
        let words = [
            "--subscribe",
            &node.url(""),
            "--token",
            "t",
            "--events",
            "ticket:*,lead.*",
            "--signing",
            "crm,hub",
        ];
        let mut listener = ListenProcess::start(&words).await;
        assert_eq!(listener.greeting["subscription"], 4);
        let changes = || {
            node.arrivals()
                .into_iter()
                .filter(|call| call.method != "GET")
                .collect::<Vec<_>>()
        };
        let asked = changes()[0].clone();
        assert_eq!(
            (asked.path.as_str(), asked.header("authorization")),
            ("/api/v1/webhooks", Some("Bearer t"))
        );
        let expected = json!({
            "url": listener.greeting["listening"], "events": ["ticket:*", "lead.*"], "signing": ["crm", "hub"],
            "description": "hookyard listen",
        });
        assert_eq!(asked.json(), expected);
        listener.deliver(1).await;
        assert_eq!(listener.line().await["signatures"]["crm"], "right");
        assert_eq!(listener.end().await.1, Some(0));
        let removed = changes()[1].clone();
        assert_eq!(
            (removed.method.as_str(), removed.path.as_str()),
            ("DELETE", "/api/v1/webhooks/4")
        );

        let listener = ListenProcess::start(&[
            "--subscribe",
            &node.url("/"),
            "--token",
            "t",
            "--keep",
            "--secret",
            "own",
        ])
        .await;
        assert_eq!(changes()[2].json()["secret"], "own");
        assert_eq!(listener.end().await.1, Some(0));
        assert_eq!(changes().len(), 3, "it is kept");

        let listener = ListenProcess::start(&["--subscribe", &node.url(""), "--token", "t"]).await;
        node.stop().await;
        let (_, code, error) = listener.end().await;
        assert_eq!(code, Some(0));
        assert!(
            error.starts_with("subscription 4 of http://127.0.0.1:") && !error.contains(SECRET),
            "{error}"
        );
    });
}

#[test]
fn without_a_node_a_token_or_a_port_the_error_says_what_to_do() {
    run_async(async {
        let node = TestReceiver::start(|_| {
            ReceiverReply::Full(401, Vec::new(), r#"{"detail": "no such token"}"#.to_owned())
        })
        .await;
        let folder = folder();
        let refused = |words: &[&str]| {
            let (code, output, error) =
                output_of(&mut hookyard(folder.path(), &[&["listen"], words].concat()));
            assert_eq!((code, output.as_str()), (Some(1), ""), "{error}");
            error
        };
        let any = ["--bind", "127.0.0.1:0"];
        let error = refused(&[&any[..], &["--subscribe", &node.url(""), "--token", "t"]].concat());
        assert!(error.contains("401 Unauthorized: no such token"), "{error}");
        let error = refused(&[&any[..], &["--dev"]].concat());
        assert!(
            error.contains("start `hookyard serve --dev` in this folder first"),
            "{error}"
        );
        let taken = node.url("").replace("http://", "");
        let error = refused(&["--bind", &taken]);
        assert!(
            error.contains(&format!("cannot listen on {taken}; stop what is using it")),
            "{error}"
        );
        node.stop().await;
        let error = refused(&[&any[..], &["--subscribe", &node.url(""), "--token", "t"]].concat());
        assert!(
            error.contains("no node answers at http://127.0.0.1:"),
            "{error}"
        );
    });
}

#[test]
fn a_node_a_listener_and_a_sender_work_together_without_any_configuration() {
    run_async(async {
        let folder = folder();
        let mut serve = hookyard(folder.path(), &["serve", "--dev"]);
        let dev = DevNode::start(serve.env(
            "HOOKYARD_DELIVERY__RETRY_SCHEDULE_S",
            ["0.05"; 20].join(","),
        ));
        let url = dev.send.split("--url ").nth(1).expect("an address").trim();
        let address = url.trim_start_matches("http://");
        let words = [
            "--dev",
            "--fail",
            "0.4",
            "--seed",
            "7",
            "--signing",
            "crm,standard,hub,v1a",
        ];
        let mut listen = hookyard(folder.path(), &[&LISTEN[..], &words].concat());
        let mut listener = ListenProcess::begin(listen.env("HOOKYARD_SERVER__BIND", address)).await;
        for number in 0..10 {
            let entity = format!("SUP-{}", number % 3);
            let words = ["send", "message.created", "--entity", &entity, "--url", url];
            let (code, output, error) = output_of(&mut hookyard(folder.path(), &words));
            assert_eq!(code, Some(0), "{output}{error}");
        }
        let right = json!({"crm": "right", "standard": "right", "hub": "right", "v1a": "right"});
        let (mut accepted, mut failed) = (0, 0);
        while accepted < 10 {
            let line = listener.line().await;
            assert_eq!(
                (&line["signatures"], &line["mark"]),
                (&right, &json!(null)),
                "{line}"
            );
            if line["status"] == 200 {
                accepted += 1
            } else {
                failed += 1
            }
        }
        assert!(failed > 0, "some of them come a second time");
        let (summary, code, error) = listener.end().await;
        assert_eq!(
            (&summary["events"], &summary["entities"], code),
            (&json!(10), &json!(3), Some(0)),
            "{error}"
        );
        let secrets = fs::read_to_string(folder.path().join("hookyard-data/dev-secrets.toml"))
            .expect("readable");
        let token = secrets
            .lines()
            .find_map(|line| line.strip_prefix("token = "))
            .expect("there")
            .trim_matches('"');
        let client = Client::builder().no_proxy().build().expect("a client");
        let left = client
            .get(format!("{url}/api/v1/webhooks"))
            .bearer_auth(token)
            .send()
            .await
            .expect("an answer");
        let left: Value = serde_json::from_str(&left.text().await.expect("a body")).expect("JSON");
        assert_eq!(left["total"], 0, "it has unsubscribed");
    });
}

#[test]
fn the_next_listener_takes_over_the_subscription_of_a_killed_one() {
    run_async(async {
        let folder = folder();
        let mut serve = hookyard(folder.path(), &["serve", "--dev"]);
        serve.env("HOOKYARD_DELIVERY__RETRY_SCHEDULE_S", ["0.1"; 20].join(","));
        let node = DevNode::start(serve.env("HOOKYARD_DELIVERY__BREAKER__CONSECUTIVE", "0"));
        let url = node
            .send
            .split("--url ")
            .nth(1)
            .expect("an address")
            .trim()
            .to_owned();
        let send = || {
            let words = [
                "send",
                "message.created",
                "--entity",
                "SUP-1",
                "--url",
                &url,
            ];
            let (code, output, error) = output_of(&mut hookyard(folder.path(), &words));
            assert_eq!(code, Some(0), "{output}{error}");
        };
        // A free port, on which nothing listens after the test found it.
        let port = std::net::TcpListener::bind("127.0.0.1:0")
            .and_then(|free| free.local_addr())
            .expect("a port");
        let port = port.to_string();
        let words = [
            "listen",
            "--bind",
            &port,
            "--json",
            "--dev",
            "--signing",
            "crm,standard,hub,v1a",
        ];
        let listen = || {
            let mut command = hookyard(folder.path(), &words);
            command.env("HOOKYARD_SERVER__BIND", url.trim_start_matches("http://"));
            command
        };
        let right = json!({"crm": "right", "standard": "right", "hub": "right", "v1a": "right"});
        let mut number = 0;
        for came in [1, 2, 2] {
            let is_second = came > 1;
            (1..came).for_each(|_| send());
            let mut listener = ListenProcess::begin(&mut listen()).await;
            let greeting = &listener.greeting;
            assert_eq!(
                (&greeting["subscription"], &greeting["taken_over"]),
                (&json!(1), &json!(is_second))
            );
            send();
            // The last delivery may be repeated: a killed listener may not have answered it.
            let (mut next, last) = (None, number + came);
            while next.is_none_or(|next| next <= last) {
                let line = listener.line().await;
                assert_eq!(
                    (&line["signatures"], &line["mark"]),
                    (&right, &json!(null)),
                    "{line}"
                );
                let sequence = line["sequence"].as_u64().expect("a number");
                let is_next = next.map_or((number..=number + 1).contains(&sequence), |next| {
                    next == sequence
                });
                assert!(is_next, "{line} after {number}, {next:?} was next");
                next = Some(sequence + 1);
            }
            number = last;
            // Dropping the listener kills it.
        }
    });
}
