//! What a person asks to be erased is in no read at once, and soon in no file; everything else stays
//! as it is.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use hookyard::clock::SystemClock;
use hookyard::event::Record;
use hookyard::journal::{BaseRow, DataFolder, Journal, JournalLimits, LocalDisk, SegmentJournal};
use reqwest::Method;
use serde_json::{Value, json};

use crate::dead_letters::{poll_until, wait_for_letters};
use crate::deliveries::{send, subscribe, test_env};
use crate::leads;
use crate::receiver::{ReceiverReply, ReceiverRequest, TestReceiver};
use crate::retention::{accepted, bounded_env, segment_files, send_round, wait_for_metric};
use crate::test_node::{TOKEN, TestAnswer, TestClient, TestEnv, message_text, run_async};

/// Name of the person. No part of it occurs elsewhere, so compressed files hold it as it is.
pub const NAME: &str = "Qzxvjkwpfh";

pub async fn erase(client: &TestClient, kind: &str, id: &str) -> TestAnswer {
    let url = format!("{}/api/v1/entities/{kind}/{id}", client.base);
    let request = client.client.request(Method::DELETE, url);
    let request = request.query(&[("erase", "true")]).bearer_auth(TOKEN);
    client.send_request(request).await
}

/// Erases an entity, waits until that is done, and returns the number of the erasure.
pub async fn erase_and_wait(client: &TestClient, kind: &str, id: &str) -> u64 {
    let answer = erase(client, kind, id).await;
    assert_eq!(answer.status, 202, "{answer:?}");
    let id = answer.body["id"].as_u64().expect("an id");
    wait_until_done(client, id).await;
    id
}

/// Waits for the end of the erasure `id`. The node answers 503 while it opens its store again.
pub async fn wait_until_done(client: &TestClient, id: u64) {
    let path = format!("/api/v1/erasures/{id}");
    poll_until(client, &path, |erasure| erasure["state"] == "done").await;
}

async fn send_name(client: &TestClient, ticket: &str, key: &str) -> TestAnswer {
    let data = json!({"message_id": format!("{key}-{NAME}"), "text": format!("I am {NAME}")});
    let key = format!("{key}-{NAME}");
    client.send(ticket, &key, "message.created", data).await
}

/// Answers of all reads that could show the content of `ticket`.
async fn reads_of(client: &TestClient, ticket: &str) -> Vec<(String, TestAnswer)> {
    let mut paths = vec![
        format!("/api/v1/entities/ticket/{ticket}"),
        format!("/api/v1/entities/ticket/{ticket}/timeline?page_size=100"),
        format!("/api/v1/entities/ticket/{ticket}/export"),
        format!("/api/v1/events?entity={ticket}&page_size=100"),
        "/api/v1/dead-letters?page_size=100".to_owned(),
        "/api/v1/webhooks/1/deliveries?page_size=100".to_owned(),
    ];
    let logs = client.get("/api/v1/webhooks/logs?page_size=100").await;
    for log in logs.body["items"].as_array().expect("a list") {
        paths.push(format!("/api/v1/webhooks/logs/{}", log["id"]));
    }
    let mut answers = Vec::new();
    for path in paths {
        let answer = client.get(&path).await;
        answers.push((path, answer));
    }
    answers
}

/// Stable reads of a ticket: those that no other ticket changes.
async fn own_reads(client: &TestClient, ticket: &str) -> Vec<(u16, String)> {
    let mut answers = Vec::new();
    for path in [
        format!("/api/v1/entities/ticket/{ticket}"),
        format!("/api/v1/entities/ticket/{ticket}/timeline?page_size=100"),
        format!("/api/v1/entities/ticket/{ticket}/export"),
        format!("/api/v1/events?entity={ticket}&page_size=100"),
    ] {
        let answer = client.get(&path).await;
        answers.push((answer.status, answer.text));
    }
    answers
}

/// Returns the files under `folder` that hold `text`.
pub fn files_with(folder: &Path, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("readable") {
        let path = entry.expect("readable").path();
        if path.is_dir() {
            found.extend(files_with(&path, text));
            continue;
        }
        let bytes = fs::read(&path).expect("readable");
        let mut parts = bytes.windows(text.len());
        if parts.any(|part| part == text.as_bytes()) {
            found.push(path.display().to_string());
        }
    }
    found
}

/// Returns a row of the base file, with its value decompressed if it is a part of a snapshot.
fn unpacked(row: BaseRow) -> Vec<u8> {
    let packed = row.value.get(2..).unwrap_or_default();
    let state = match row.key.first() {
        Some(3) => lz4_flex::decompress_size_prepended(packed).unwrap_or_default(),
        _ => Vec::new(),
    };
    [row.key, row.value, state].concat()
}

/// Returns everything in the journal of a node that does not run, decompressed.
fn journal_content(folder: &Path) -> Vec<u8> {
    let data = DataFolder::open(folder).expect("opens");
    let limits = JournalLimits {
        queue: 1,
        commit_records: 1,
        commit_bytes: 1,
        sync_interval: None,
        segment_bytes: 1 << 20,
    };
    let clock = Arc::new(SystemClock::default());
    let journal = SegmentJournal::open(
        &data,
        Arc::new(LocalDisk),
        limits,
        clock,
        <_>::default(),
        None,
    )
    .expect("opens");
    let end = *journal.durable_end().borrow();
    let start = journal.start();
    let (mut content, mut position) = (Vec::new(), start.position);
    while position < end {
        let frame = journal.read_frame_at(position).expect("reads");
        let frame = frame.expect("is there");
        for entry in &frame.entries {
            Record::decode(&entry.bytes).expect("is a record");
            content.extend_from_slice(&entry.bytes);
        }
        position = frame.end();
    }
    journal
        .read_changes(start.change, &mut |_, changes| {
            content.extend_from_slice(format!("{changes:?}").as_bytes());
            for change in changes.changes {
                if let hookyard::journal::TableChange::Put { value, .. } = change {
                    content.extend(value);
                }
            }
        })
        .expect("reads");
    if let Some(mut base) = journal.read_base().expect("reads") {
        while let Some(rows) = base.read_rows().expect("reads") {
            for row in rows {
                content.extend(unpacked(row));
            }
        }
    }
    journal.close();
    content
}

pub fn assert_gone(test_env: &TestEnv) {
    let path = test_env.store_path();
    assert_eq!(files_with(&path, NAME), Vec::<String>::new());
    let content = journal_content(&path);
    let mut parts = content.windows(NAME.len());
    assert!(!parts.any(|part| part == NAME.as_bytes()), "in the journal");
}

#[test]
fn erased_content_is_in_no_read_at_once_and_then_in_no_file_and_nothing_else_changes() {
    run_async(async {
        let mut test_env = test_env(&[("delivery.retry_schedule_s", "0.01")]);
        test_env.set("store.segment_bytes", "1048576");
        let node = test_env.start().await;
        let refuses = |request: &ReceiverRequest| match request.entity().as_str() {
            "ticket/SUP-1" if request.sequence() <= 5 => {
                ReceiverReply::Full(400, Vec::new(), format!("no {NAME} here"))
            }
            _ => ReceiverReply::Status(200),
        };
        let receiver = TestReceiver::start(refuses).await;
        subscribe(&node, receiver.url("/hook"), json!({})).await;
        let paused = TestReceiver::accept_all().await;
        let is_active = json!({"is_active": false});
        let owed = subscribe(&node, paused.url("/owed"), is_active).await["id"].clone();

        // Events, a failed one, dead letters, rows of the call log, and a backlog.
        for number in 1..=5 {
            let answer = send_name(&node, "SUP-1", &format!("a{number}")).await;
            assert_eq!(answer.status, 202, "{answer:?}");
        }
        node.send_message("SUP-1", "plain").await;
        let unknown = json!({"message_id": NAME});
        node.send("SUP-1", "failing", "message.deleted", unknown)
            .await;
        send(&node, &["SUP-2"], 1, 3).await;
        wait_for_letters(&node, 5).await;
        receiver
            .wait_until(|log| log.accepted_sequences().contains_key("ticket/SUP-2"))
            .await;
        let others = own_reads(&node, "SUP-2").await;
        for (path, answer) in &reads_of(&node, "SUP-1").await[..6] {
            assert!(answer.text.contains(NAME), "{path}: {}", answer.text);
        }

        let erased = erase(&node, "ticket", "SUP-1").await;
        assert_eq!(erased.status, 202, "{erased:?}");
        for (path, answer) in reads_of(&node, "SUP-1").await {
            assert!(!answer.text.contains(NAME), "{path}: {}", answer.text);
        }
        let id = erased.body["id"].as_u64().expect("an id");
        wait_until_done(&node, id).await;

        // The names and places of the events are still there, and those of others unchanged.
        assert_eq!(own_reads(&node, "SUP-2").await, others);
        let timeline = node.fetch_timeline("SUP-1").await;
        let summaries: Vec<_> = timeline
            .iter()
            .map(|event| (event["sequence"].as_u64(), event["type"].as_str()))
            .collect();
        let message = |sequence| (Some(sequence), Some("message.created"));
        let mut expected: Vec<_> = (1..=6).map(message).collect();
        expected.push((Some(7), Some("ticket.erased")));
        assert_eq!(summaries, expected);
        assert!(timeline[..6].iter().all(|event| event["data"].is_null()));

        // The event is still known by its key; the entity begins from nothing.
        let repeated = node.send_message("SUP-1", "plain").await;
        assert_eq!(repeated.status, 409, "{repeated:?}");
        let anew = node.send_message("SUP-1", "anew").await;
        assert_eq!((anew.status, anew.sequence()), (202, 8), "{anew:?}");
        let entity = node.get("/api/v1/entities/ticket/SUP-1").await.body;
        let messages = entity["state"]["messages"].as_array().expect("a list");
        assert_eq!(messages.len(), 1, "{entity}");

        // Of the backlog, what is erased is dropped.
        node.post(&format!("/api/v1/webhooks/{owed}/resume")).await;
        paused.wait_for_accepted(5).await;
        let delivered: Vec<_> = paused
            .arrivals()
            .iter()
            .filter(|request| request.entity() == "ticket/SUP-1")
            .map(|request| (request.sequence(), request.event()))
            .collect();
        let expected = [(7, "ticket.erased"), (8, "message.created")];
        assert_eq!(
            delivered,
            expected.map(|(sequence, event)| (sequence, event.to_owned()))
        );

        let before = own_reads(&node, "SUP-1").await;
        node.stop().await;
        assert_gone(&test_env);
        fs::remove_dir_all(test_env.store_path().join("derived")).expect("is there");
        let node = test_env.start().await;
        assert_eq!(own_reads(&node, "SUP-1").await, before);
        assert_eq!(own_reads(&node, "SUP-2").await, others);
        node.stop().await;
    });
}

#[test]
fn an_erasure_needs_an_entity_and_a_clear_word_and_can_be_repeated() {
    run_async(async {
        let test_env = TestEnv::new(&[]);
        let node = test_env.start().await;
        send_name(&node, "SUP-1", "a").await;
        let missing = erase(&node, "ticket", "SUP-2").await;
        assert_eq!(
            (missing.status, &missing.body["code"]),
            (404, &json!("not_found"))
        );
        for query in ["", "?erase=false", "?erase=True"] {
            let url = format!("{}/api/v1/entities/ticket/SUP-1{query}", node.base);
            let request = node.client.request(Method::DELETE, url).bearer_auth(TOKEN);
            let answer = node.send_request(request).await;
            assert_eq!(answer.status, 400, "{query}: {answer:?}");
            assert!(answer.text.contains("erase must be true"), "{answer:?}");
        }
        let unknown = node.get("/api/v1/erasures/1").await;
        assert_eq!(unknown.status, 404);

        assert_eq!(erase_and_wait(&node, "ticket", "SUP-1").await, 1);
        send_name(&node, "SUP-1", "b").await;
        assert_eq!(erase_and_wait(&node, "ticket", "SUP-1").await, 2);
        let timeline = node.fetch_timeline("SUP-1").await;
        let types: Vec<_> = timeline.iter().map(|event| event["type"].clone()).collect();
        let erased = "ticket.erased";
        assert_eq!(
            types,
            ["message.created", erased, "message.created", erased]
        );
        node.stop().await;
        assert_gone(&test_env);
    });
}

/// Such an entity was answered 404, and the content of its failed events stayed.
#[test]
fn an_entity_that_only_failed_events_name_is_erased_too() {
    run_async(async {
        let test_env = TestEnv::new(&[]);
        let node = test_env.start().await;
        let data = json!({"message_id": NAME, "text": NAME});
        let failed = node.send("SUP-1", NAME, "message.updated", data).await;
        let path = format!("/api/v1/events/{}", failed.event_id());
        assert_eq!(node.get(&path).await.body["status"], "failed");
        let absent = node.get("/api/v1/entities/ticket/SUP-1").await;
        assert_eq!(absent.status, 404, "{absent:?}");
        erase_and_wait(&node, "ticket", "SUP-1").await;
        let shown = node.get(&path).await;
        assert_eq!(shown.body["status"], "failed", "{shown:?}");
        assert!(!shown.text.contains(NAME), "{shown:?}");
        node.stop().await;
        assert_gone(&test_env);
    });
}

/// One damaged block of others ended the erasure stage, and the node opened its store again and again.
#[test]
fn a_damaged_segment_delays_an_erasure_and_nothing_else() {
    let (test_env, clock) = bounded_env(0);
    run_async(async {
        let node = test_env.start().await;
        send_name(&node, "SUP-9", "a").await;
        for round in 0..4 {
            send_round(&node, round).await;
        }
        // A start reads the records within the idempotency windows again.
        clock.advance(Duration::from_secs(3 * 24 * 3_600));
        node.stop().await;
        let segments = segment_files(&test_env);
        let mut bytes = fs::read(&segments[1]).expect("reads");
        bytes[5_000] ^= 1;
        fs::write(&segments[1], bytes).expect("writes");

        let node = test_env.start().await;
        let answer = erase(&node, "ticket", "SUP-9").await;
        assert_eq!(answer.status, 202, "{answer:?}");
        wait_for_metric(&node, "hookyard_erasure_failures_total", "1").await;
        let path = format!("/api/v1/erasures/{}", answer.body["id"]);
        assert_eq!(node.get(&path).await.body["state"], "rewriting");
        accepted(send_name(&node, "SUP-8", "b").await);
        node.stop().await;
        let mut bytes = fs::read(&segments[0]).expect("reads");
        let mut parts = bytes.windows(NAME.len());
        assert!(!parts.any(|part| part == NAME.as_bytes()));

        // Nor is a damaged record of the entity itself a reason not to start.
        bytes[120] ^= 1;
        fs::write(&segments[0], bytes).expect("writes");
        let node = test_env.start().await;
        accepted(send_name(&node, "SUP-8", "c").await);
        node.stop().await;
    });
}

/// A code of a customer can be the name of a person.
#[test]
fn a_unique_key_is_in_no_file_and_free_again_after_its_holder_is_erased() {
    run_async(async {
        let test_env = leads::test_env(&[]);
        let node = test_env.start().await;
        let lead = json!({"first_name": NAME, "phone": "1", "lead_status": "won"});
        let made = leads::send(&node, "lead/create", "new_lead", lead.clone()).await;
        let lead_id = leads::data(&made)["lead_id"].as_u64().expect("a number");
        let convert = || {
            let path = format!("lead/{lead_id}/convert");
            let body = leads::body("lead_convert", &json!({"customer_code": NAME}));
            leads::request(&node, &path, &body).header("idempotency-key", "key")
        };
        let converted = node.send_request(convert()).await;
        let customer = leads::data(&converted)["customer_id"].to_string();

        erase_and_wait(&node, "lead", &lead_id.to_string()).await;
        erase_and_wait(&node, "customer", &customer).await;
        let repeated = node.send_request(convert()).await;
        assert_eq!(leads::refusal(&repeated).0, 410, "{repeated:?}");
        node.stop().await;
        assert_gone(&test_env);

        let node = test_env.start().await;
        leads::new_customer(&node, NAME).await;
        node.stop().await;
    });
}

/// The process dies right after the answer, and again while it goes on.
#[test]
fn an_erasure_survives_kill_9_at_any_moment() {
    run_async(async {
        let test_env = TestEnv::new(&[("store.segment_bytes", "1048576")]);
        let mut process = test_env.start_process().await;
        for number in 1..=20 {
            send_name(&process, "SUP-1", &format!("a{number}")).await;
        }
        assert_eq!(erase(&process, "ticket", "SUP-1").await.status, 202);
        process.kill();

        for wanted in ["rewriting", "copying", "done"] {
            let mut process = test_env.start_process().await;
            let state = process.get("/api/v1/entities/ticket/SUP-1").await;
            assert!(!state.text.contains(NAME), "{state:?}");
            poll_until(&process, "/api/v1/erasures/1", |erasure| {
                erasure["state"] == wanted || erasure["state"] == "done"
            })
            .await;
            process.kill();
        }
        let process = test_env.start_process().await;
        wait_until_done(&process, 1).await;
        assert_eq!(process.fetch_timeline("SUP-1").await.len(), 21);
        drop(process);
        assert_gone(&test_env);
    });
}

#[test]
fn an_entity_is_erased_while_its_events_keep_coming() {
    run_async(async {
        let test_env = TestEnv::new(&[]);
        let node = test_env.start().await;
        send_name(&node, "SUP-1", "first").await;
        let client = node.api.clone();
        let sending = actix_rt::spawn(async move {
            let mut accepted = 0;
            let mut tries = tokio::time::interval(Duration::from_millis(2));
            for number in 0..400 {
                tries.tick().await;
                // The node answers 503 while it opens its store again.
                let answer = client.send_message("SUP-1", &format!("k{number}")).await;
                accepted += usize::from(answer.status == 202);
            }
            accepted
        });
        erase_and_wait(&node, "ticket", "SUP-1").await;
        let accepted = sending.await.expect("no panic");
        let timeline = node.fetch_timeline("SUP-1").await;
        assert_eq!(timeline.len(), 1 + accepted + 1);
        let at = timeline
            .iter()
            .position(|event| event["type"] == "ticket.erased")
            .expect("is there");
        for (index, event) in timeline.iter().enumerate() {
            assert_eq!(event["sequence"], json!(index + 1));
            assert_eq!(event["data"].is_null(), index < at, "{event}");
        }
        node.stop().await;
        assert_gone(&test_env);
    });
}

#[test]
fn an_export_has_the_state_and_every_event_and_the_command_writes_it_to_a_file() {
    run_async(async {
        let test_env = TestEnv::new(&[]);
        let process = test_env.start_process().await;
        for number in 1..=200 {
            process.send_message("SUP-1", &format!("m{number}")).await;
        }
        let unknown = json!({"message_id": "nothing"});
        process
            .send("SUP-1", "failing", "message.deleted", unknown)
            .await;
        process.send_message("SUP-2", "other").await;

        let file = test_env.folder.path().join("ticket.jsonl");
        let hookyard = |words: &[&str]| {
            let mut command = Command::new(env!("CARGO_BIN_EXE_hookyard"));
            command.arg("entity").args(words);
            command.args(["--url", &process.base, "--token", TOKEN]);
            command
        };
        let run = |mut command: Command| async {
            let output = actix_rt::task::spawn_blocking(move || command.output());
            let output = output.await.expect("no panic").expect("runs");
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            let error = String::from_utf8_lossy(&output.stderr).into_owned();
            (output.status.code(), text, error)
        };
        // An earlier version wrote to `ticket.part` first, through a link too, and left it behind.
        let precious = test_env.folder.path().join("precious");
        fs::write(&precious, "not to be touched").expect("writes");
        let neighbour = test_env.folder.path().join("ticket.part");
        std::os::unix::fs::symlink(&precious, &neighbour).expect("links");
        let path = file.to_str().expect("text");
        let exported = run(hookyard(&["export", "ticket", "SUP-1", "--output", path])).await;
        assert_eq!(exported.0, Some(0), "{exported:?}");
        assert_eq!(exported.1, format!("ticket SUP-1: exported to {path}\n"));
        let kept = fs::read_to_string(&neighbour).expect("still there");
        assert_eq!(kept, "not to be touched");
        let mode = fs::metadata(&file).expect("written").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let folder_path = test_env.folder.path().join("taken.jsonl");
        fs::create_dir(&folder_path).expect("a folder");
        let taken = folder_path.to_str().expect("text");
        let refused = run(hookyard(&["export", "ticket", "SUP-1", "--output", taken])).await;
        assert_eq!(refused.0, Some(1), "{refused:?}");
        let left = fs::read_dir(test_env.folder.path()).expect("listed");
        let names = left.map(|entry| entry.expect("an entry").file_name());
        let is_left = |name: &std::ffi::OsString| {
            let name = name.to_string_lossy();
            name.ends_with(".unfinished") || name == "taken.part"
        };
        assert_eq!(
            names.filter(is_left).count(),
            0,
            "a broken export is removed"
        );
        let text = fs::read_to_string(&file).expect("written");
        let lines: Vec<Value> = text
            .lines()
            .map(|line| serde_json::from_str(line).expect("JSON"))
            .collect();
        assert_eq!(lines.len(), 1 + 201);
        let entity = process.get("/api/v1/entities/ticket/SUP-1").await.body;
        assert_eq!(lines[0], entity);
        for (number, line) in (1..=200).zip(&lines[1..]) {
            let key = format!("m{number}");
            let message = json!({"message_id": key, "text": message_text(&key)});
            assert_eq!(
                (&line["sequence"], &line["data"]),
                (&json!(number), &message)
            );
        }
        assert_eq!(lines[201]["failure"]["code"], 404, "{}", lines[201]);
        let printed = run(hookyard(&["export", "ticket", "SUP-1"])).await;
        assert_eq!(printed.1, text);

        let erased = run(hookyard(&["erase", "ticket", "SUP-1"])).await;
        assert_eq!(erased.0, Some(0), "{erased:?}");
        assert!(
            erased.1.ends_with("erased from all files of the store\n"),
            "{erased:?}"
        );
        let missing = run(hookyard(&["erase", "ticket", "SUP-3"])).await;
        assert_eq!(missing.0, Some(1));
        assert!(missing.2.contains("there is no such entity"), "{missing:?}");
    });
}
