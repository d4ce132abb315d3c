//! The commands against a running node, and those that look at its surroundings: `events`,
//! `webhooks`, `dead-letters`, `health`, `config print`, `completions`, `man`.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::net::UnixDatagram;
use std::process::{Child, Stdio};

use serde_json::{Value, json};

use crate::commands::{command_in, folder, hookyard, output_of, send_signal};
use crate::dead_letters::wait_for_letters;
use crate::deliveries::test_env;
use crate::receiver::{ReceiverReply, TestReceiver};
use crate::test_node::{NodeProcess, TOKEN, TestEnv, message_text, run_async};

/// Result of a command: exit code, standard output, standard error.
type CommandOutput = (Option<i32>, String, String);

/// Runs a command against `node`, while this thread serves receivers.
async fn run(node: &NodeProcess, words: &[&str]) -> CommandOutput {
    run_at(&node.api.base, words).await
}

async fn run_at(url: &str, words: &[&str]) -> CommandOutput {
    let folder = folder();
    let mut command = hookyard(folder.path(), words);
    command.args(["--url", url, "--token", TOKEN]);
    let output = actix_rt::task::spawn_blocking(move || output_of(&mut command));
    output.await.expect("no panic")
}

async fn run_well(node: &NodeProcess, words: &[&str]) -> String {
    let (code, output, error) = run(node, words).await;
    assert_eq!((code, error.as_str()), (Some(0), ""), "{words:?}: {output}");
    output
}

async fn run_json(node: &NodeProcess, words: &[&str]) -> Vec<Value> {
    let output = run_well(node, &[words, &["--json"]].concat()).await;
    let parse = |line| serde_json::from_str(line).expect("JSON");
    output.lines().map(parse).collect()
}

/// Command that runs until it is dropped.
struct KilledChild(Child);

impl Drop for KilledChild {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn events_are_shown_followed_and_filtered() {
    run_async(async {
        let test_env = TestEnv::new(&[]);
        let node = test_env.start_process().await;
        for number in 1..=12 {
            node.api.send_message("SUP-1", &format!("m{number}")).await;
        }
        let other = node.api.send_message("SUP-2", "other").await.event_id();

        let newest = run_json(&node, &["events", "tail", "--no-follow", "--last", "2"]).await;
        let ids: Vec<_> = newest.iter().map(|event| &event["entity"]["id"]).collect();
        assert_eq!(ids, ["SUP-1", "SUP-2"], "oldest first");
        let of_entity = [
            "events",
            "tail",
            "--no-follow",
            "--kind",
            "ticket",
            "--entity",
            "SUP-2",
        ];
        let line = run_well(&node, &of_entity).await;
        assert!(
            line.contains(&other) && line.contains("ticket/SUP-2 #1") && line.lines().count() == 1,
            "{line}"
        );
        let none = ["events", "tail", "--no-follow", "--event", "status.changed"];
        assert_eq!(run_well(&node, &none).await, "");

        let shown = run_json(&node, &["events", "show", &other]).await;
        assert_eq!(shown[0]["payload"]["support_uid"], "SUP-2", "{shown:?}");
        let text = run_well(&node, &["events", "show", &other]).await;
        assert!(text.contains("status           completed"), "{text}");
        let (code, _, error) = run(&node, &["events", "show", "evt_0_1"]).await;
        assert_eq!(code, Some(1));
        assert!(
            error.contains("404") && error.contains("there is no such event"),
            "{error}"
        );

        let words = [
            "events",
            "tail",
            "--last",
            "0",
            "--json",
            "--url",
            &node.api.base,
        ];
        let folder = folder();
        let mut tail = hookyard(folder.path(), &[&words[..], &["--token", TOKEN]].concat());
        let tail = tail.stdout(Stdio::piped()).spawn().expect("it starts");
        let mut tail = KilledChild(tail);
        let lines = BufReader::new(tail.0.stdout.take().expect("a pipe")).lines();
        // The tail begins at some moment: events are sent until it has shown three of them.
        let reading = actix_rt::task::spawn_blocking(move || {
            let parse = |line: std::io::Result<String>| -> Value {
                serde_json::from_str(&line.expect("text")).expect("JSON")
            };
            lines.take(3).map(parse).collect::<Vec<_>>()
        });
        let mut sent = 0;
        while !reading.is_finished() {
            sent += 1;
            node.api.send_message("SUP-3", &format!("t{sent}")).await;
        }
        let followed = reading.await.expect("no panic");
        let sequences: Vec<_> = followed
            .iter()
            .map(|event| event["entity"]["sequence"].as_u64().expect("a number"))
            .collect();
        assert_eq!(sequences[1], sequences[0] + 1, "{sequences:?}");
        assert_eq!(sequences[2], sequences[0] + 2, "{sequences:?}");
    });
}

#[test]
fn subscriptions_are_made_tested_paused_and_deleted() {
    run_async(async {
        let test_env = test_env(&[]);
        let node = test_env.start_process().await;
        let receiver = TestReceiver::accept_all().await;
        let empty = run_well(&node, &["webhooks", "list"]).await;
        assert!(empty.contains("hookyard webhooks create"), "{empty}");

        let target = receiver.url("/");
        let create = ["webhooks", "create", &target, "--events", "ticket:*,lead.*"];
        let text = run_well(&node, &create).await;
        assert!(
            text.starts_with("subscription 1 created: ticket:*,lead.* to ")
                && text.contains("not shown again: whsec_"),
            "{text}"
        );
        let more = [
            "--description",
            "second",
            "--uid",
            "two",
            "--signing",
            "standard",
        ];
        let second = run_json(&node, &[&create[..3], &more].concat()).await;
        assert_eq!(
            (
                &second[0]["uid"],
                &second[0]["events"],
                &second[0]["signing"]
            ),
            (&json!("two"), &json!(["*"]), &json!(["standard"]))
        );
        let list = run_well(&node, &["webhooks", "list"]).await;
        assert!(
            list.starts_with("ID  STATE   BREAKER  BACKLOG  DEAD LETTERS  EVENTS ")
                && list.contains("\n2   active  closed   0        0             * ")
                && list.contains("\n1   active  closed   0        0             ticket:*,lead.*  "),
            "{list}"
        );

        assert_eq!(
            run_well(&node, &["webhooks", "pause", "1"]).await,
            "subscription 1: paused\n"
        );
        let active = run_json(&node, &["webhooks", "list", "--active"]).await;
        assert_eq!((active.len(), &active[0]["id"]), (1, &json!(2)));
        assert_eq!(
            run_well(&node, &["webhooks", "resume", "1"]).await,
            "subscription 1: active\n"
        );
        let ping = run_json(&node, &["webhooks", "test", "1"]).await;
        assert_eq!(ping[0]["is_successful"], true);
        receiver.set_script(|_| ReceiverReply::Status(500));
        let (code, output, error) = run(&node, &["webhooks", "test", "1"]).await;
        assert_eq!(code, Some(1), "{output}");
        assert!(error.contains("did not accept the ping"), "{error}");
        let shown = run_well(&node, &["webhooks", "show", "1"]).await;
        assert!(shown.contains("\"breaker\": \"closed\""), "{shown}");

        assert_eq!(
            run_well(&node, &["webhooks", "delete", "1"]).await,
            "subscription 1: deleted\n"
        );
        let (code, _, error) = run(&node, &["webhooks", "show", "1"]).await;
        assert_eq!(code, Some(1));
        assert!(error.contains("there is no such subscription"), "{error}");
        let (code, _, error) = run(
            &node,
            &[&create[..3], &["--events", "lead.creatd"]].concat(),
        )
        .await;
        assert_eq!(code, Some(1));
        assert!(error.contains("did you mean \"lead.created\""), "{error}");
        for constant in ["'lead.created'", "1 == 1", "false"] {
            let words = [&create[..3], &["--filter", constant]].concat();
            let (code, _, error) = run(&node, &words).await;
            assert_eq!(code, Some(1));
            assert!(error.contains("reads no member of the event"), "{error}");
        }

        let pulled = ["webhooks", "create", "--pull", "--events", "ticket:*"];
        let text = run_well(&node, &pulled).await;
        assert!(
            text.starts_with("subscription 3 created: ticket:* to whoever reads them"),
            "{text}"
        );
        for number in 1..=3 {
            node.api.send_message("SUP-1", &format!("m{number}")).await;
        }
        // The command that was printed reads them.
        let command = text.lines().find(|line| line.starts_with("  curl "));
        let mut curl = command_in("sh", test_env.folder.path());
        curl.args(["-c", command.expect("a command")]);
        curl.env("TOKEN", TOKEN);
        let (code, page, error) = output_of(&mut curl);
        assert_eq!(code, Some(0), "{error}");
        let page: Value = serde_json::from_str(&page).expect("JSON");
        let read: Vec<_> = page["items"].as_array().expect("a list").iter().collect();
        assert_eq!(read.len(), 3, "{page}");
        assert_eq!(read[2]["entity"]["sequence"], 3);
        let list = run_well(&node, &["webhooks", "list"]).await;
        assert!(
            list.contains("\n3   active  closed   3        0 "),
            "{list}"
        );
        let (code, _, error) = run(&node, &["webhooks", "create", "--events", "*"]).await;
        assert_eq!(code, Some(2), "{error}");
        let (code, ..) = run(&node, &["webhooks", "create", "--pull", &target]).await;
        assert_eq!(code, Some(2));
    });
}

#[test]
fn an_entity_is_shown() {
    run_async(async {
        let test_env = TestEnv::new(&[]);
        let node = test_env.start_process().await;
        node.api.send_message("SUP-1", "m1").await;
        let words = ["entity", "show", "ticket", "SUP-1"];
        let shown = run_json(&node, &words).await;
        assert_eq!(shown[0]["sequence"], 1, "{shown:?}");
        let messages = &shown[0]["state"]["messages"];
        assert_eq!(messages[0]["text"], message_text("m1"), "{shown:?}");
        let text = run_well(&node, &words).await;
        assert!(text.contains("id           SUP-1"), "{text}");
        // As `events tail` and `dead-letters list` print it.
        assert_eq!(
            run_well(&node, &["entity", "show", "ticket/SUP-1"]).await,
            text
        );
        let unnamed = actix_rt::task::spawn_blocking(|| {
            let folder = folder();
            std::fs::write(folder.path().join("hookyard.toml"), "").expect("a file");
            let words = ["reload", "--config", "hookyard.toml"];
            output_of(&mut hookyard(folder.path(), &words))
        });
        let (_, _, error) = unnamed.await.expect("no panic");
        // It said to name the configuration, which was named.
        let reason = "hookyard.toml has no admin.token: set HOOKYARD_ADMIN__TOKEN in this shell";
        assert!(error.contains(reason), "{error}");
        let (code, _, error) = run(&node, &["entity", "show", "SUP-1"]).await;
        assert_eq!(code, Some(2));
        assert!(error.contains("ticket/SUP-1042"), "{error}");
        let (code, _, error) = run(&node, &["entity", "show", "ticket", "SUP-2"]).await;
        assert_eq!(code, Some(1));
        assert!(error.contains("404"), "{error}");
    });
}

#[test]
fn dead_letters_are_listed_retried_and_discarded() {
    run_async(async {
        let test_env = test_env(&[]);
        let node = test_env.start_process().await;
        let none = run_well(&node, &["dead-letters", "list"]).await;
        assert_eq!(none, "there are no such dead letters\n");

        let receiver = TestReceiver::accept_all().await;
        receiver.set_script(|_| ReceiverReply::Full(422, Vec::new(), "it is broken".to_owned()));
        run_well(&node, &["webhooks", "create", &receiver.url("/")]).await;
        for ticket in ["SUP-1", "SUP-2", "SUP-3"] {
            node.api.send_message(ticket, ticket).await;
        }
        wait_for_letters(&node.api, 3).await;
        let of_one = [
            "dead-letters",
            "list",
            "--kind",
            "ticket",
            "--entity",
            "SUP-2",
        ];
        let letters = run_json(&node, &of_one).await;
        assert_eq!(
            (letters.len(), &letters[0]["reason"]),
            (1, &json!("refused"))
        );
        let id = letters[0]["id"].to_string();
        let list = run_well(&node, &["dead-letters", "list"]).await;
        assert!(
            list.contains("refused  message.created  ticket/SUP-2 #1") && list.lines().count() == 4,
            "{list}"
        );
        assert!(
            list.contains("SINCE") && list.contains("it is broken"),
            "{list}"
        );
        let shown = run_well(&node, &["dead-letters", "show", &id]).await;
        assert!(shown.contains("status           422"), "{shown}");

        assert_eq!(
            run_well(&node, &["dead-letters", "discard", &id]).await,
            "1 dead letter discarded\n"
        );
        receiver.set_script(|_| ReceiverReply::Status(200));
        let retried = run_well(&node, &["dead-letters", "retry", "--webhook", "webhook:1"]).await;
        assert!(
            retried.starts_with("job 1 delivers 2 events again; `hookyard jobs show 1 --wait`"),
            "{retried}"
        );
        wait_for_letters(&node.api, 0).await;
        let discarded = run_json(&node, &["dead-letters", "discard", "--all"]).await;
        assert_eq!(discarded, [json!({"discarded": 0})]);

        let (code, _, error) = run(&node, &["dead-letters", "retry"]).await;
        assert_eq!(code, Some(2), "{error}");
        assert!(error.contains("--webhook <ID>|"), "{error}");
        let both = ["dead-letters", "discard", "--all", "--event", "x"];
        assert_eq!(run(&node, &both).await.0, Some(2));
    });
}

/// A retry named an endpoint that no command reads, and knew the filter of the list in part only.
#[test]
fn jobs_are_awaited_and_dead_letters_chosen_by_any_filter() {
    run_async(async {
        let test_env = test_env(&[]);
        let node = test_env.start_process().await;
        let none = run_well(&node, &["jobs", "list"]).await;
        assert_eq!(none, "there are no such jobs\n");
        let receiver = TestReceiver::accept_all().await;
        receiver.set_script(|_| ReceiverReply::Status(422));
        run_well(&node, &["webhooks", "create", &receiver.url("/")]).await;
        for ticket in ["SUP-1", "SUP-2", "SUP-3"] {
            node.api.send_message(ticket, ticket).await;
        }
        wait_for_letters(&node.api, 3).await;

        let of_one = [
            "dead-letters",
            "retry",
            "--webhook",
            "1",
            "--entity",
            "SUP-2",
            "--wait",
        ];
        let (code, output, error) = run(&node, &of_one).await;
        assert_eq!(code, Some(1), "{output}");
        let ended = "job 1 completed: 0 delivered, 1 failed again, 0 skipped\n";
        assert_eq!(output, ended);
        assert!(error.contains("has not delivered everything"), "{error}");
        receiver.set_script(|_| ReceiverReply::Status(200));
        let again = run_well(&node, &of_one).await;
        assert_eq!(
            again,
            "job 2 completed: 1 delivered, 0 failed again, 0 skipped\n"
        );
        let others = [
            "dead-letters",
            "discard",
            "--reason",
            "refused",
            "--kind",
            "ticket",
        ];
        let none = [&others[..], &["--since", "2099-01-01T00:00:00Z"]].concat();
        assert_eq!(run_well(&node, &none).await, "0 dead letters discarded\n");
        assert_eq!(run_well(&node, &others).await, "2 dead letters discarded\n");

        let jobs = run_json(&node, &["jobs", "list", "--webhook", "1"]).await;
        assert_eq!(jobs.len(), 2, "{jobs:?}");
        let list = run_well(&node, &["jobs", "list"]).await;
        assert!(
            list.contains("\n2   retry  completed  webhook:1   1     1"),
            "{list}"
        );
        let shown = run_json(&node, &["jobs", "show", "2", "--wait"]).await;
        assert_eq!(shown[0]["delivered"], 1);
        let (code, _, error) = run(&node, &["jobs", "cancel", "2"]).await;
        assert_eq!(code, Some(1));
        assert!(error.contains("409"), "{error}");
    });
}

/// Each page beyond the first was thrown away while letters went: the list began anew a hundred times.
#[test]
fn a_list_is_read_whole_and_in_order_while_its_items_go() {
    run_async(async {
        // Before each answer, the letters with the highest ids are delivered.
        let mut newest = 400_u64;
        let node = TestReceiver::start(move |request| {
            let query = request.path.split_once('?').expect("a query").1;
            let page = query.split('&').find_map(|pair| pair.strip_prefix("page="));
            let page: u64 = page.expect("a page").parse().expect("a number");
            newest = newest.saturating_sub(30);
            let ids = (1..=newest).rev().skip(100 * (page as usize - 1));
            let items: Vec<_> = ids.take(100).map(|id| json!({"id": id})).collect();
            let pages = newest.div_ceil(100);
            let list = json!({"items": items, "total": newest, "pages": pages});
            ReceiverReply::Full(200, vec![], list.to_string())
        })
        .await;

        let words = ["dead-letters", "list", "--json"];
        let (code, output, error) = run_at(&node.url(""), &words).await;
        assert_eq!((code, error.as_str()), (Some(0), ""));
        let expected: Vec<_> = (1..=370).rev().map(|id| json!({"id": id})).collect();
        let found = output.lines().map(serde_json::from_str::<Value>);
        let found: Vec<_> = found.map(|item| item.expect("JSON")).collect();
        assert_eq!(found, expected);
        assert_eq!(node.arrivals().len(), 5, "three pages, two of them twice");
    });
}

/// The command said nothing while the node was away, perhaps for ever.
#[test]
fn a_wait_for_a_job_says_that_the_node_is_away() {
    run_async(async {
        let states = ["pending", "", "", "running", "", "completed"];
        let mut states = states.into_iter();
        let node = TestReceiver::start(move |_| match states.next() {
            Some("") => ReceiverReply::Status(503),
            state => {
                let job = json!({"id": 1, "state": state, "delivered": 2, "skipped": 1});
                ReceiverReply::Full(200, vec![], job.to_string())
            }
        })
        .await;
        let words = ["jobs", "show", "1", "--wait"];
        let (code, output, error) = run_at(&node.url(""), &words).await;
        assert_eq!(code, Some(0), "{error}");
        let ended = "job 1 completed: 2 delivered, 0 failed again, 1 skipped\n";
        assert_eq!(
            output, ended,
            "what needs no delivery any more is no failure"
        );
        let notices = error.matches("waiting: the node answered 503").count();
        assert_eq!((notices, error.lines().count()), (2, 2), "{error}");
    });
}

/// Only the dashboard and the API could change a subscription or deliver a time again.
#[test]
fn a_subscription_is_edited_its_secret_replaced_and_its_deliveries_shown_and_repeated() {
    run_async(async {
        let test_env = test_env(&[]);
        let node = test_env.start_process().await;
        let receiver = TestReceiver::accept_all().await;
        let create = [
            "webhooks",
            "create",
            &receiver.url("/a"),
            "--filter",
            "entity.id != 'X'",
        ];
        run_well(&node, &create).await;
        let target = receiver.url("/b");
        let edit = [
            "webhooks", "edit", "1", "--target", &target, "--events", "ticket:*",
        ];
        let edit = [&edit[..], &["--filter", "", "--description", "b"]].concat();
        assert_eq!(run_well(&node, &edit).await, "subscription 1: changed\n");
        let stored = node.api.get("/api/v1/webhooks/1").await.body;
        let members = ["url", "events", "filter", "description"].map(|name| &stored[name]);
        let expected = [json!(target), json!(["ticket:*"]), Value::Null, json!("b")];
        assert_eq!(members, expected.each_ref());
        let (code, ..) = run(&node, &["webhooks", "edit", "1"]).await;
        assert_eq!(code, Some(2));

        let rotate = ["webhooks", "rotate-secret", "1", "--overlap-h", "1"];
        let rotated = run_well(&node, &rotate).await;
        assert!(rotated.contains("not shown again: whsec_"), "{rotated}");

        let none = run_well(&node, &["webhooks", "deliveries", "1"]).await;
        assert_eq!(none, "there are no such attempts\n");
        node.api.send_message("SUP-1", "one").await;
        receiver.wait_for_accepted(1).await;
        let since = ["1", "--since", "2020-01-01T00:00:00Z", "--wait"];
        let recovered = run_well(&node, &[&["webhooks", "recover"], &since[..]].concat()).await;
        assert!(
            recovered.starts_with("job 1 completed: 0 delivered"),
            "{recovered}"
        );
        let words = [
            &["webhooks", "replay"],
            &since[..],
            &["--events", "message.*"],
        ]
        .concat();
        let replayed = run_well(&node, &words).await;
        assert!(
            replayed.starts_with("job 2 completed: 1 delivered"),
            "{replayed}"
        );
        let attempts = run_json(&node, &["webhooks", "deliveries", "1"]).await;
        assert_eq!(attempts.len(), 2, "{attempts:?}");
        let table = run_well(&node, &["webhooks", "deliveries", "1", "--last", "1"]).await;
        assert!(
            table.contains("message.created  ticket/SUP-1 #1"),
            "{table}"
        );
        let failed = run_json(&node, &["webhooks", "deliveries", "1", "--failed"]).await;
        assert_eq!(failed.len(), 0);
    });
}

/// While a job removed dead letters, those that moved up to the page before were left out.
#[test]
fn a_list_that_shrinks_while_it_is_read_is_listed_whole() {
    run_async(async {
        // Newest first: after the first page 150 of 250 items are gone, all of them older ones.
        let mut calls = 0;
        let receiver = TestReceiver::start(move |request| {
            calls += 1;
            let ids: Vec<u64> = match calls {
                1 => (1..=250).rev().collect(),
                _ => (1..=60).chain(211..=250).rev().collect(),
            };
            let number = request.path.split("page=").nth(1).expect("a page");
            let number: usize = number.split('&').next().unwrap_or_default().parse().expect("one");
            let items = ids.iter().skip((number - 1) * 100).take(100);
            let items: Vec<_> = items.map(|id| json!({"id": id, "detail": null})).collect();
            let (total, pages) = (ids.len(), ids.len().div_ceil(100));
            let body = json!({"items": items, "total": total, "page": number, "page_size": 100, "pages": pages});
            let json = vec![("content-type", "application/json".to_owned())];
            ReceiverReply::Full(200, json, body.to_string())
        })
        .await;
        let folder = folder();
        let words = ["dead-letters", "list", "--json", "--token", TOKEN, "--url"];
        let mut command = hookyard(folder.path(), &words);
        command.arg(receiver.url(""));
        let output = actix_rt::task::spawn_blocking(move || output_of(&mut command));
        let (code, output, error) = output.await.expect("no panic");
        assert_eq!((code, error.as_str()), (Some(0), ""));
        let found: Vec<_> = output
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).expect("JSON")["id"].as_u64())
            .map(|id| id.expect("a number"))
            .collect();
        for id in (1..=60).chain(211..=250) {
            assert!(found.contains(&id), "{id} in {found:?}");
        }

        // It was "501 Not Implemented: no reason given".
        receiver.set_script(|_| ReceiverReply::Status(501));
        let mut command = hookyard(folder.path(), &words);
        command.arg(receiver.url(""));
        let output = actix_rt::task::spawn_blocking(move || output_of(&mut command));
        let (_, _, error) = output.await.expect("no panic");
        assert!(error.contains("is not that of a node"), "{error}");
    });
}

#[test]
fn health_tells_if_a_node_accepts_events() {
    run_async(async {
        let test_env = TestEnv::new(&[]);
        let mut node = test_env.start_process().await;
        let folder = folder();
        let base = node.api.base.clone();
        let health = |words: &[&str]| {
            let words = [&["health"], words].concat();
            let mut command = hookyard(folder.path(), &words);
            let bind = base.trim_start_matches("http://");
            output_of(command.env("HOOKYARD_SERVER__BIND", bind))
        };
        assert_eq!(health(&[]), (Some(0), "ready\n".to_owned(), String::new()));
        assert_eq!(health(&["--live"]).1, "ok\n");
        assert_eq!(health(&["--dev"]).1, "ready\n");
        node.kill();
        let (code, _, error) = health(&["--url", &base]);
        assert_eq!(code, Some(1));
        assert!(
            error.contains(&format!("no node answers at {base}")),
            "{error}"
        );
    });
}

#[test]
fn the_service_manager_hears_when_a_node_is_ready_is_alive_and_stops() {
    let folder = folder();
    let socket = folder.path().join("notify");
    let manager = UnixDatagram::bind(&socket).expect("a free name");
    let receive = || {
        let mut message = [0; 64];
        let length = manager.recv(&mut message).expect("a message");
        String::from_utf8_lossy(&message[..length]).into_owned()
    };
    let mut node = hookyard(folder.path(), &["serve", "--dev"]);
    let node = node
        .env("HOOKYARD_SERVER__BIND", "127.0.0.1:0")
        .env("NOTIFY_SOCKET", &socket)
        .env("WATCHDOG_USEC", "5000000")
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let mut node = KilledChild(node.spawn().expect("it starts"));
    assert_eq!(receive(), "READY=1");
    assert_eq!([receive(), receive()], ["WATCHDOG=1", "WATCHDOG=1"]);
    send_signal(&node.0, "TERM");
    let message = std::iter::repeat_with(receive).find(|message| message != "WATCHDOG=1");
    assert_eq!(message.as_deref(), Some("STOPPING=1"));
    assert!(node.0.wait().expect("it ends").success());
}

#[test]
fn the_configuration_is_printed_with_its_origins_and_no_secret() {
    let folder = folder();
    let text = "[admin]\ntoken = \"hunter2hunter2hunter2\"\n[server]\nworkers = 3\n\
                [[sources.custom]]\nname = \"shop\"\npreset = \"shopify\"\nsecrets = [\"hunter2hunter2\"]\n";
    fs::write(folder.path().join("h.toml"), text).expect("writable");
    let print = |words: &[&str]| {
        let words = [&["config", "print", "--config", "h.toml"], words].concat();
        let mut command = hookyard(folder.path(), &words);
        output_of(command.env("HOOKYARD_STORE__PATH", "elsewhere"))
    };
    let (code, output, error) = print(&["--changed"]);
    assert_eq!((code, error.as_str()), (Some(0), ""));
    let expected = "admin.token = …    # h.toml:2\n\
                    server.workers = 3    # h.toml:4; needs a restart\n\
                    sources.custom.shop.preset = shopify    # h.toml:7\n\
                    sources.custom.shop.secrets = …    # h.toml:8\n\
                    store.path = elsewhere    # HOOKYARD_STORE__PATH; needs a restart\n";
    assert_eq!(output, expected);

    let (_, all, _) = print(&["--json"]);
    let bind = all.lines().find(|line| line.contains("server.bind"));
    let bind: Value = serde_json::from_str(bind.expect("every key")).expect("JSON");
    assert_eq!(
        bind,
        json!({"key": "server.bind", "value": "127.0.0.1:8080", "origin": "default", "is_default": true, "needs_restart": true})
    );
    assert!(!all.contains("hunter2"), "{all}");

    let (_, dev, _) = print(&["--changed", "--dev"]);
    for line in [
        "admin.token = …    # h.toml:2",
        "sources.leads.enabled = true    # dev",
        "sources.support.secrets = …    # dev",
        "delivery.allow_targets = 127.0.0.0/8, ::1/128    # dev",
    ] {
        assert!(dev.lines().any(|found| found == line), "{line}: {dev}");
    }
}

#[test]
fn completions_and_manual_pages_know_every_command() {
    let folder = folder();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let (code, output, error) =
            output_of(&mut hookyard(folder.path(), &["completions", shell]));
        assert_eq!((code, error.as_str()), (Some(0), ""));
        assert!(
            output.contains("dead-letters") && output.contains("retry"),
            "{shell}"
        );
    }
    let (code, _, error) = output_of(&mut hookyard(folder.path(), &["man", "pages/man1"]));
    assert_eq!((code, error.as_str()), (Some(0), ""));
    let pages = folder.path().join("pages/man1");
    for page in [
        "hookyard.1",
        "hookyard-serve.1",
        "hookyard-dead-letters-retry.1",
    ] {
        let text = fs::read_to_string(pages.join(page)).expect(page);
        assert!(text.contains(".SH SYNOPSIS"), "{text}");
    }
    fs::write(folder.path().join("file"), "").expect("writable");
    let (code, _, error) = output_of(&mut hookyard(folder.path(), &["man", "file"]));
    assert_eq!(code, Some(1));
    assert!(
        error.contains("cannot write the manual pages to file"),
        "{error}"
    );
}

#[test]
fn every_key_is_printed_with_its_reason() {
    let folder = folder();
    let (code, text, _) = output_of(&mut hookyard(folder.path(), &["config", "default"]));
    assert_eq!(code, Some(0));
    assert!(
        text == include_str!("../../config/default.toml"),
        "as it is written"
    );
    let (code, guide, _) = output_of(&mut hookyard(folder.path(), &["guide", "config"]));
    assert!(code == Some(0) && guide.contains(&text), "{guide}");
}
