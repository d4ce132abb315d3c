//! `hookyard send`: every event of the catalogue that comes from outside, sent to a real node by
//! the real binary.

use std::fs;

use hookyard::entity::ticket::EVENT_NAMES;
use hookyard::event::catalogue;
use serde_json::{Value, json};

use crate::commands::{folder, hookyard, output_of};
use crate::test_node::{NodeProcess, TestEnv, run_async};

/// Sources beside support, as configured for the node and the sender.
const SOURCES: &str = "\
[sources.leads]
enabled = true
secrets = [\"test-lead-secret\"]
rate_per_minute = 0
[sources.c2s]
enabled = true
tokens = [\"test-c2s-token-long-enough\"]
[sources.instagram]
enabled = true
app_secrets = [\"test-app-secret-long-enough\"]
verify_token = \"test-verify\"
[sources.crm]
enabled = true
tokens = [\"test-publisher-of-events\"]
events = [\"invoice.paid\"]
";

/// Events of the catalogue that the node itself creates.
const OWN: [&str; 21] = [
    "customer.created",
    "message.reply",
    "c2s_lead.enriched",
    "c2s_lead.failed",
    "subscriber.disabled",
    "delivery.exhausted",
    "breaker.opened",
    "breaker.closed",
    "alert.raised",
    "alert.cleared",
    "ticket.erased",
    "pre_lead.erased",
    "lead.erased",
    "customer.erased",
    "c2s_lead.erased",
    "conversation.erased",
    "organisation.erased",
    "person.erased",
    "task.erased",
    "mandat.erased",
    "interaction.erased",
];

/// Node that accepts events of every source, and its sender.
struct SendFixture {
    test_env: TestEnv,
    process: NodeProcess,
}

/// Output of the command.
struct CommandOutput {
    code: Option<i32>,
    output: String,
    error: String,
}

impl SendFixture {
    async fn start() -> Self {
        let mut test_env = TestEnv::new(&[]);
        test_env.write_file(SOURCES);
        let process = test_env.start_process().await;
        let support = "[sources.support]\napi_keys = [\"test-key-long-enough-for-any-node\"]\nsecrets = [\"test-secret-long-enough-for-any-node\"]\n";
        fs::write(
            test_env.folder.path().join("sender.toml"),
            format!("{SOURCES}{support}"),
        )
        .expect("writable");
        Self { test_env, process }
    }

    fn send(&self, words: &[&str]) -> CommandOutput {
        let base = [
            "send",
            "--config",
            "sender.toml",
            "--url",
            &self.process.base,
        ];
        let (code, output, error) = output_of(&mut hookyard(
            self.test_env.folder.path(),
            &[&base, words].concat(),
        ));
        CommandOutput {
            code,
            output,
            error,
        }
    }

    /// Sends an event that must be stored, and returns the body of the answer.
    fn stored(&self, words: &[&str]) -> Value {
        let CommandOutput {
            code,
            output,
            error,
        } = self.send(words);
        assert_eq!((code, error.as_str()), (Some(0), ""), "{words:?}: {output}");
        let mut lines = output.lines();
        let (status, body) = (
            lines.next().expect("a status"),
            lines.next().expect("a body"),
        );
        assert!(
            status.starts_with("20") && output.contains("evt_"),
            "{words:?}: {output}"
        );
        assert!(
            lines.all(|line| line.starts_with("X-Event-Id: evt_")),
            "{words:?}: {output}"
        );
        serde_json::from_str(body).expect("JSON")
    }

    async fn types(&self) -> Vec<String> {
        let events = self.process.get("/api/v1/events?page_size=100").await.body;
        let types = events["items"].as_array().expect("items").iter().rev();
        types
            .map(|event| event["type"].as_str().expect("text").to_owned())
            .collect()
    }
}

#[test]
fn every_event_that_comes_from_outside_is_sent_and_accepted() {
    run_async(async {
        let sender = SendFixture::start().await;
        let mut expected = Vec::new();
        let all: Vec<_> = catalogue::all_entries()
            .filter(|entry| !OWN.contains(&entry.name))
            .map(|entry| entry.name)
            .collect();
        assert_eq!(all.len(), 12 + 18 + 1 + 7 + 13);
        for event in all.iter().copied().chain(["invoice.paid"]) {
            // Each event gets a lead of its own, because some events close or convert the lead.
            let made = match event {
                "pre_lead.created" | "lead.created" => None,
                _ if event.starts_with("pre_lead.") => Some(("pre_lead.created", "pre_lead_id")),
                _ if event.starts_with("lead.") => Some(("lead.created", "lead_id")),
                _ => None,
            };
            let id = made.map(|(first, id)| {
                expected.push(first);
                sender.stored(&[first])["data"][id].to_string()
            });
            if event == "lead.converted" {
                let id = id.as_ref().expect("a lead's");
                sender.stored(&[
                    "lead.status_changed",
                    "--entity",
                    id,
                    "--data",
                    r#"{"lead_status": "won"}"#,
                ]);
                expected.push("lead.status_changed");
            }
            let entity = id.iter().flat_map(|id| ["--entity", id]);
            let answer = sender.stored(&[event].into_iter().chain(entity).collect::<Vec<_>>());
            assert!(
                answer.pointer("/entity/sequence").is_none_or(Value::is_u64),
                "{event} is applied: {answer}"
            );
            expected.push(event);
            match event {
                "pre_lead.converted" => expected.push("lead.created"),
                "lead.converted" => expected.push("customer.created"),
                _ => {}
            }
        }
        assert_eq!(sender.types().await, expected);
        assert_eq!(
            sender
                .process
                .get("/api/v1/events?status=failed")
                .await
                .body["total"],
            0
        );
        for own in OWN {
            let result = sender.send(&[own]);
            assert_eq!(result.code, Some(2), "{}", result.output);
            assert!(
                result.error.contains(&format!("`{own}` cannot be sent")),
                "{}",
                result.error
            );
        }
    });
}

#[test]
fn a_repeated_event_is_reported_as_known() {
    run_async(async {
        let sender = SendFixture::start().await;
        let at = ["--at", "2025-01-20T10:00:00Z"];
        let known = "an event with this idempotency key was stored before";
        let cases: [(&[&str], &str, &str); 4] = [
            (
                &["lead.created", "--key", "k", at[0], at[1]],
                known,
                "200 OK",
            ),
            (
                &["c2s_lead.received", at[0], at[1]],
                "this event was stored before",
                "200 OK",
            ),
            (
                &["message.received", "--key", "mid_1"],
                "this event was stored before",
                "200 OK",
            ),
            (&["task.created", "--key", "k"], known, "409 Conflict"),
        ];
        for (words, meaning, status) in cases {
            sender.stored(words);
            let CommandOutput {
                code,
                output,
                error,
            } = sender.send(words);
            assert_eq!((code, error.as_str()), (Some(0), ""), "{words:?}: {output}");
            assert!(
                output.starts_with(status) && output.ends_with(&format!("{meaning}\n")),
                "{words:?}: {output}"
            );
            sender.stored(&words[..1]);
        }
        assert_eq!(
            sender.types().await.len(),
            2 * cases.len(),
            "a fresh key each time, unless it is given"
        );
    });
}

#[test]
fn entity_and_data_of_an_event_can_be_given() {
    run_async(async {
        let sender = SendFixture::start().await;
        sender.stored(&[
            "c2s_lead.received",
            "--entity",
            "77",
            "--data",
            r#"{"hook_action": "lead.won"}"#,
        ]);
        let lead = sender
            .process
            .get("/api/v1/entities/c2s_lead/77")
            .await
            .body;
        assert_eq!(lead["last_event"]["type"], "c2s_lead.received");
        sender.stored(&[
            "message.received",
            "--entity",
            "42",
            "--data",
            r#"{"message": {"text": "hi"}}"#,
        ]);
        let talk = sender
            .process
            .get("/api/v1/entities/conversation/conv_42_0987654321")
            .await;
        assert_eq!((talk.status, &talk.body["sequence"]), (200, &json!(1)));
        sender.stored(&[
            "mandat.updated",
            "--entity",
            "9",
            "--data",
            r#"{"amount": 50000.00}"#,
        ]);
        let mandat = sender
            .process
            .client
            .get(format!("{}/api/v1/entities/mandat/9", sender.process.base));
        let mandat = mandat
            .bearer_auth(crate::test_node::TOKEN)
            .send()
            .await
            .expect("an answer")
            .text()
            .await
            .expect("a body");
        assert!(mandat.contains("50000.00"), "its digits are kept: {mandat}");
        sender.stored(&["lead.created"]);
        let lead = sender.stored(&[
            "lead.updated",
            "--entity",
            "1",
            "--data",
            r#"{"city": "Lyon"}"#,
        ]);
        assert_eq!(lead["data"], json!({"lead_id": 1}));
        let result = sender.send(&["lead.updated", "--entity", "9"]);
        assert_eq!(result.code, Some(1));
        assert!(
            result.output.contains("Lead not found") && result.error.contains("404 Not Found"),
            "{}",
            result.error
        );
    });
}

#[test]
fn a_missing_signing_secret_is_named_with_its_variable() {
    let folder = folder();
    let table: [(&str, &[&str]); 4] = [
        (
            "message.created",
            &["sources.support.api_keys", "sources.support.secrets"],
        ),
        ("c2s_lead.received", &["sources.c2s.tokens"]),
        ("message.received", &["sources.instagram.app_secrets"]),
        ("person.created", &["sources.crm.tokens"]),
    ];
    for (event, keys) in table {
        let (code, output, error) = output_of(&mut hookyard(folder.path(), &["send", event]));
        assert_eq!((code, output.as_str()), (Some(1), ""), "{event}");
        for key in keys {
            let variable = format!("HOOKYARD_{}", key.replace('.', "__").to_uppercase());
            assert!(
                error.contains(key) && error.contains(&variable),
                "{event}: {error}"
            );
        }
    }
}

#[test]
fn a_disabled_source_is_told_apart_from_a_wrong_event() {
    run_async(async {
        let test_env = TestEnv::new(&[]);
        let process = test_env.start_process().await;
        for (event, source) in [
            ("lead.created", "leads"),
            ("task.created", "crm"),
            ("message.received", "instagram"),
        ] {
            let mut send = hookyard(
                test_env.folder.path(),
                &["send", event, "--url", &process.base],
            );
            send.env("HOOKYARD_SOURCES__CRM__TOKENS", "t")
                .env("HOOKYARD_SOURCES__INSTAGRAM__APP_SECRETS", "s");
            let (code, _, error) = output_of(&mut send);
            assert_eq!(code, Some(1), "{event}");
            assert!(
                error.contains(&format!("is sources.{source}.enabled set?")),
                "{event}: {error}"
            );
        }
    });
}

#[test]
fn the_help_explains_every_event_that_can_be_sent() {
    let folder = folder();
    let (_, help, _) = output_of(&mut hookyard(folder.path(), &["send", "--help"]));
    for entry in catalogue::all_entries() {
        let line = help
            .lines()
            .find(|line| line.split_whitespace().next() == Some(entry.name));
        assert_eq!(line.is_none(), OWN.contains(&entry.name), "{}", entry.name);
        assert!(
            line.is_none_or(|line| line.ends_with(entry.description)),
            "{}",
            entry.name
        );
    }
}

#[test]
fn every_sample_of_a_ticket_is_accepted_and_applied() {
    run_async(async {
        let test_env = TestEnv::new(&[]);
        let process = test_env.start_process().await;
        let secrets = "[sources.support]\napi_keys = [\"test-key-long-enough-for-any-node\"]\nsecrets = [\"test-secret-long-enough-for-any-node\"]\n";
        fs::write(test_env.folder.path().join("sender.toml"), secrets).expect("writable");
        let send = |words: &[&str]| {
            let base = ["send", "--config", "sender.toml", "--url", &process.base];
            output_of(&mut hookyard(
                test_env.folder.path(),
                &[&base, words].concat(),
            ))
        };
        for (sequence, event) in (1..).zip(EVENT_NAMES) {
            let (code, output, error) = send(&[event]);
            assert_eq!(code, Some(0), "{event}: {output}{error}");
            let answer: Value =
                serde_json::from_str(output.split_once('\n').expect("a status, then a body").1)
                    .expect("JSON");
            assert_eq!(
                answer["entity"],
                json!({"kind": "ticket", "id": "SUP-1042", "sequence": sequence}),
                "{event}"
            );
        }
        let types: Vec<_> = process
            .fetch_timeline("SUP-1042")
            .await
            .iter()
            .map(|entry| entry["type"].clone())
            .collect();
        assert_eq!(types, EVENT_NAMES);
        assert_eq!(
            process.get("/api/v1/events?status=failed").await.body["total"],
            0
        );

        let own = [
            "status.changed",
            "--entity",
            "S/1",
            "--key",
            "k-1",
            "--at",
            "2025-12-04T10:30:00Z",
            "--data",
            r#"{"status": "closed"}"#,
        ];
        assert_eq!(send(&own).0, Some(0));
        let ticket = process.get("/api/v1/entities/ticket/S%2F1").await.body;
        assert_eq!(
            (&ticket["state"]["status"], &ticket["last_event"]["at"]),
            (&json!("closed"), &json!("2025-12-04T10:30:00.000Z"))
        );
        let (code, output, error) = send(&own);
        assert_eq!(
            code,
            Some(0),
            "it was sent before, which is as good: {error}"
        );
        assert!(
            output.contains("409 Conflict") && output.contains("duplicate_event"),
            "{output}"
        );
    });
}

#[test]
fn send_names_the_missing_node_or_secret() {
    let folder = folder();
    let (code, output, error) = output_of(&mut hookyard(folder.path(), &["send"]));
    assert_eq!((code, output.as_str()), (Some(1), ""));
    assert!(
        error.contains("hookyard serve --dev")
            && error.contains("HOOKYARD_SOURCES__SUPPORT__SECRETS"),
        "{error}"
    );

    // Bound by this test and not listened on.
    let taken = std::net::UdpSocket::bind("127.0.0.1:0")
        .expect("a free port")
        .local_addr()
        .expect("bound")
        .port();
    let url = format!("http://127.0.0.1:{taken}");
    let mut command = hookyard(folder.path(), &["send", "--url", &url]);
    command
        .env("HOOKYARD_SOURCES__SUPPORT__API_KEYS", "key")
        .env("HOOKYARD_SOURCES__SUPPORT__SECRETS", "hunter2");
    let (code, output, error) = output_of(&mut command);
    assert_eq!((code, output.as_str()), (Some(1), ""));
    assert!(
        error.contains("no node answers at") && error.contains(&url) && error.contains("--url"),
        "{error}"
    );
    assert!(!error.contains("hunter2"), "{error}");

    let (code, output, error) =
        output_of(&mut hookyard(folder.path(), &["send", "message.creatd"]));
    assert_eq!((code, output.as_str()), (Some(2), ""));
    assert!(
        error.contains("the nearest is `message.created`"),
        "{error}"
    );
    let (code, _, error) = output_of(&mut hookyard(folder.path(), &["send", "customer.created"]));
    assert_eq!(code, Some(2));
    assert!(
        error.contains("`customer.created` cannot be sent"),
        "{error}"
    );
}
