//! Backup, restore and verification, with the real binary: what was durable at the backup is there
//! after a restore, and no damaged or foreign archive is taken for a good one.

use std::fs;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use hookyard::event::EventId;
use serde_json::{Value, json};
use tokio::task::spawn_blocking;

use crate::failures::incompressible_text;
use crate::receiver::{ReceiverReply, TestReceiver};
use crate::store_opening::run_tool;
use crate::test_node::{TOKEN, TestAnswer, TestClient, TestEnv, run_async};
use crate::{dead_letters, deliveries};

const TICKETS: [&str; 4] = ["SUP-1", "SUP-2", "SUP-3", "SUP-4"];
const LARGE: &str = "SUP-large";

/// Smallest segments that are allowed, of which [`send_large`] fills one and more.
const SMALL_SEGMENTS: (&str, &str) = ("store.segment_bytes", "1048576");

/// Returns the path of a file beside the store of `test_env`.
fn file(test_env: &TestEnv, name: &str) -> PathBuf {
    test_env.folder.path().join(name)
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a readable path")
}

/// Runs the binary on the store of `test_env`; returns its standard output, which must be good.
fn succeed(test_env: &TestEnv, arguments: &[&str]) -> String {
    let output = run_tool(test_env, arguments);
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).expect("text")
}

/// Runs the binary on the store of `test_env`, which must fail; returns its standard error.
fn fail(test_env: &TestEnv, arguments: &[&str]) -> String {
    let output = run_tool(test_env, arguments);
    assert_eq!(output.status.code(), Some(1), "{arguments:?}: {output:?}");
    String::from_utf8(output.stderr).expect("text")
}

fn as_json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| panic!("no JSON: {text}"))
}

/// Runs the binary while a node in this process goes on.
async fn run_beside(test_env: &TestEnv, arguments: &[&str]) -> Output {
    let path = test_env.store_path();
    let arguments: Vec<_> = arguments.iter().map(ToString::to_string).collect();
    let run = move || {
        std::process::Command::new(env!("CARGO_BIN_EXE_hookyard"))
            .args(arguments)
            .env("HOOKYARD_STORE__PATH", path)
            .env("HOOKYARD_ADMIN__TOKEN", TOKEN)
            .output()
            .expect("the binary runs")
    };
    spawn_blocking(run).await.expect("no panic")
}

/// Sends four large messages, which do not compress, with keys of their own.
async fn send_large(client: &TestClient, name: &str) {
    for number in 0..4 {
        let key = format!("{name}-{number}");
        let data = json!({"message_id": key, "text": incompressible_text(400_000)});
        let answer = client.send(LARGE, &key, "message.created", data).await;
        assert_eq!(answer.status, 202, "{answer:?}");
    }
}

/// Sends four large messages, and `count` messages of each ticket, numbered from `from`, to a node
/// that then stops.
fn add_messages(test_env: &TestEnv, from: u64, count: u64) {
    run_async(async {
        let node = test_env.start().await;
        send_large(&node, &format!("large-{from}")).await;
        deliveries::send(&node, &TICKETS, from, count).await;
        node.stop().await;
    });
}

/// Reads states, timelines and events of all tickets before the position `end`.
async fn read_before(client: &TestClient, end: u64) -> Vec<Value> {
    let mut found = Vec::new();
    for ticket in TICKETS.into_iter().chain([LARGE]) {
        for entry in client.fetch_timeline(ticket).await {
            let id = entry["event_id"].as_str().expect("an id");
            if EventId::parse(id).expect("an id").position().get() >= end {
                continue;
            }
            let event = client.get(&format!("/api/v1/events/{id}")).await;
            assert_eq!(event.status, 200, "{id}: {event:?}");
            found.extend([entry, event.body]);
        }
    }
    found
}

fn read_stopped(test_env: &TestEnv) -> Vec<Value> {
    run_async(async {
        let node = test_env.start().await;
        let found = read_before(&node, u64::MAX).await;
        node.stop().await;
        found
    })
}

fn restore(archives: &[&Path]) -> TestEnv {
    let restored = TestEnv::new(&[]);
    let words: Vec<_> = ["restore"]
        .into_iter()
        .chain(archives.iter().map(|path| text(path)))
        .collect();
    succeed(&restored, &words);
    restored
}

fn has_store(test_env: &TestEnv) -> bool {
    let path = test_env.store_path();
    path.join("FORMAT").exists() || path.join("journal").exists()
}

#[test]
fn a_backup_of_a_node_under_load_restores_to_the_same_answers_under_the_same_ids() {
    run_async(async {
        let test_env = TestEnv::new(&[SMALL_SEGMENTS]);
        let original = test_env.start_process().await;
        send_large(&original.api, "large").await;
        deliveries::send(&original.api, &TICKETS, 1, 40).await;

        // Writers go on while the backup is made.
        let is_over = Arc::new(AtomicBool::new(false));
        let writers: Vec<_> = TICKETS
            .iter()
            .map(|ticket| {
                let (client, is_over) = (original.api.clone(), Arc::clone(&is_over));
                actix_rt::spawn(async move {
                    let mut sent = 41;
                    while !is_over.load(Ordering::Relaxed) {
                        client
                            .send_message(ticket, &format!("{ticket}-{sent}"))
                            .await;
                        sent += 1;
                    }
                    sent
                })
            })
            .collect();
        let archive = file(&test_env, "running.backup");
        let words = [
            "backup",
            text(&archive),
            "--json",
            "--url",
            &original.api.base,
        ];
        let output = run_beside(&test_env, &words).await;
        assert!(output.status.success(), "{output:?}");
        is_over.store(true, Ordering::Relaxed);
        let mut sent = 4;
        for writer in writers {
            sent += writer.await.expect("no panic") - 1;
        }

        let summary = as_json(&String::from_utf8_lossy(&output.stdout));
        let end = summary["end_position"].as_u64().expect("a number");
        assert_eq!(summary["records"].as_u64(), Some(end - 1), "{summary}");
        assert!((164..=sent).contains(&(end - 1)), "{end} of {sent}");
        let mode = fs::metadata(&archive).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);

        let restored_env = restore(&[&archive]);
        let restored = restored_env.start_process().await;
        let events = restored.get("/api/v1/events?page_size=1").await;
        assert_eq!(events.body["total"].as_u64(), Some(end - 1));
        let expected = read_before(&original.api, end).await;
        assert_eq!(read_before(&restored.api, u64::MAX).await, expected);

        // Both nodes go on with the same position, and the ids differ.
        let old_id = original.send_message("SUP-9", "next").await.event_id();
        let new = restored.send_message("SUP-9", "next").await;
        let new_id = EventId::parse(&new.event_id()).expect("an id");
        assert_eq!(new_id.position().get(), end);
        let of_original = EventId::parse(&old_id).expect("an id").incarnation();
        assert_ne!(new_id.incarnation(), of_original);
        let same_position = EventId::new(of_original, new_id.position()).to_string();
        for (id, status) in [(new_id.to_string(), 200), (same_position, 404)] {
            let answer = restored.get(&format!("/api/v1/events/{id}")).await;
            assert_eq!(answer.status, status, "{id}");
        }
    });
}

#[test]
fn increments_continue_a_backup_and_none_may_be_missing() {
    let test_env = TestEnv::new(&[SMALL_SEGMENTS]);
    let [full, second, third, late] =
        ["full", "second", "third", "late"].map(|name| file(&test_env, &format!("{name}.backup")));
    add_messages(&test_env, 1, 10);
    let summary = succeed(&test_env, &["backup", text(&full), "--json"]);
    assert_eq!(as_json(&summary)["is_full"], json!(true));
    add_messages(&test_env, 11, 30);
    let words = ["backup", text(&second), "--since", text(&full), "--json"];
    let summary = as_json(&succeed(&test_env, &words));
    assert_eq!(summary["records"], json!(124), "{summary}");
    assert_eq!(summary["first_position"], json!(45), "{summary}");
    add_messages(&test_env, 41, 10);
    succeed(
        &test_env,
        &["backup", text(&third), "--since", text(&second)],
    );
    succeed(&test_env, &["backup", text(&late), "--since", "33"]);

    let expected = read_stopped(&test_env);
    for chain in [
        &[&full, &second, &third][..],
        &[&full, &late],
        &[&full, &second, &late],
    ] {
        let paths: Vec<_> = chain.iter().map(|path| path.as_path()).collect();
        assert_eq!(read_stopped(&restore(&paths)), expected, "{chain:?}");
    }

    let target = TestEnv::new(&[]);
    let missing = fail(&target, &["restore", text(&full), text(&third)]);
    assert!(
        missing.contains("third.backup begins at position 169"),
        "{missing}"
    );
    assert!(missing.contains("end at 45"), "{missing}");
    let increment = fail(&target, &["restore", text(&second)]);
    assert!(
        increment.contains("name the backup before it first"),
        "{increment}"
    );
    assert!(!has_store(&target));
}

#[test]
fn a_restored_store_goes_on_with_increments_of_its_own() {
    let original = TestEnv::new(&[]);
    let (full, more) = (file(&original, "full"), file(&original, "more"));
    add_messages(&original, 1, 5);
    succeed(&original, &["backup", text(&full)]);
    let restored = restore(&[&full]);
    add_messages(&restored, 6, 5);
    succeed(&restored, &["backup", text(&more), "--since", text(&full)]);
    let expected = read_stopped(&restored);
    assert_eq!(read_stopped(&restore(&[&full, &more])), expected);

    // The original went another way from the same position on.
    add_messages(&original, 6, 3);
    let longer = file(&original, "longer");
    succeed(&original, &["backup", text(&longer)]);
    let target = TestEnv::new(&[]);
    let refused = fail(&target, &["restore", text(&longer), text(&more)]);
    assert!(
        refused.contains("more is a backup of another store"),
        "{refused}"
    );
    let refused = fail(&restored, &["backup", "x", "--since", text(&longer)]);
    assert!(refused.contains("another store"), "{refused}");
    assert!(!Path::new("x").exists());
    assert!(!has_store(&target));
}

#[test]
fn a_changed_or_shortened_archive_is_named_and_nothing_is_restored_from_it() {
    let test_env = TestEnv::new(&[]);
    add_messages(&test_env, 1, 20);
    let archive = file(&test_env, "good.backup");
    succeed(&test_env, &["backup", text(&archive)]);
    let whole = succeed(&test_env, &["verify", text(&archive)]);
    assert!(
        whole.contains("is whole: full backup of positions 1 to before 85"),
        "{whole}"
    );

    let bytes = fs::read(&archive).expect("readable");
    let mut changed = bytes.clone();
    changed[bytes.len() / 2] ^= 1;
    let shortened = bytes[..bytes.len() - 1].to_vec();
    let target = TestEnv::new(&[]);
    for (name, content, problem) in [
        (
            "changed.backup",
            changed,
            "is damaged in the part that begins at byte",
        ),
        ("shortened.backup", shortened, "ends early"),
        (
            "other.backup",
            b"PK".repeat(100),
            "is not a backup of a store",
        ),
        ("empty.backup", Vec::new(), "is not a backup of a store"),
    ] {
        let path = file(&test_env, name);
        fs::write(&path, content).expect("writable");
        for words in [["verify", text(&path)], ["restore", text(&path)]] {
            let error = fail(&target, &words);
            assert!(error.contains(name) && error.contains(problem), "{error}");
        }
        let report = run_tool(&target, &["verify", text(&path), "--json"]);
        let report = as_json(&String::from_utf8_lossy(&report.stdout));
        assert_eq!(report["is_whole"], json!(false), "{report}");
        assert!(!has_store(&target), "{name}");
    }
    succeed(&target, &["restore", text(&archive)]);
}

#[test]
fn a_restore_into_a_used_folder_changes_nothing() {
    let test_env = TestEnv::new(&[]);
    add_messages(&test_env, 1, 3);
    let archive = file(&test_env, "a.backup");
    succeed(&test_env, &["backup", text(&archive)]);
    add_messages(&test_env, 4, 3);
    let before = read_stopped(&test_env);
    let error = fail(&test_env, &["restore", text(&archive)]);
    assert!(
        error.contains("is not empty") && error.contains("move this one away"),
        "{error}"
    );
    assert_eq!(read_stopped(&test_env), before);

    let other = TestEnv::new(&[]);
    fs::create_dir(other.store_path()).expect("writable");
    fs::write(other.store_path().join("letters.txt"), "x").expect("writable");
    let error = fail(&other, &["restore", text(&archive)]);
    assert!(error.contains("it holds letters.txt"), "{error}");
    assert_eq!(fs::read_dir(other.store_path()).expect("there").count(), 1);
}

#[test]
fn deliveries_that_were_owed_at_the_backup_go_on_after_a_restore() {
    run_async(async {
        // Long enough for the backup and the restore between two attempts.
        let schedule = ["0.5"; 50].join(",");
        let keys = [
            ("delivery.allow_targets", "127.0.0.0/8"),
            ("delivery.retry_schedule_s", schedule.as_str()),
            ("delivery.breaker.consecutive", "0"),
            ("delivery.breaker.failure_rate", "0"),
        ];
        let test_env = TestEnv::new(&keys);
        let receiver = TestReceiver::start(|_| ReceiverReply::Status(401)).await;
        let node = test_env.start().await;
        deliveries::subscribe(&node, receiver.url("/dead"), json!({})).await;
        let dead = node.send_message("SUP-0", "dead").await;
        dead_letters::wait_for_letters(&node, 1).await;
        receiver.stop().await;
        deliveries::send(&node, &["SUP-1", "SUP-2"], 1, 5).await;
        let archive = file(&test_env, "owed.backup");
        let words = ["backup", text(&archive), "--url", &node.base];
        let output = run_beside(&test_env, &words).await;
        assert!(output.status.success(), "{output:?}");
        let letters = node.get("/api/v1/dead-letters").await.body;
        node.stop().await;

        let restored_env = TestEnv::new(&keys);
        let words = ["restore", text(&archive)];
        assert!(run_beside(&restored_env, &words).await.status.success());
        receiver.set_script(|_| ReceiverReply::Status(200));
        receiver.restart().await;
        let restored = restored_env.start().await;
        assert_eq!(restored.get("/api/v1/dead-letters").await.body, letters);
        let first = letters["items"][0]["event_id"].as_str();
        assert_eq!(first, Some(dead.event_id().as_str()));
        receiver.wait_for_accepted(10).await;
        let accepted = receiver.log().accepted_sequences();
        for ticket in ["ticket/SUP-1", "ticket/SUP-2"] {
            assert_eq!(accepted[ticket], [1, 2, 3, 4, 5], "{ticket}");
        }
        restored.stop().await;
    });
}

#[test]
fn a_third_backup_at_once_is_told_to_wait() {
    run_async(async {
        let test_env = TestEnv::new(&[]);
        let node = test_env.start().await;
        // More than the buffers of two connections hold.
        for number in 0..40 {
            let data =
                json!({"message_id": number.to_string(), "text": incompressible_text(900_000)});
            let answer = node
                .send("SUP-1", &format!("k-{number}"), "message.created", data)
                .await;
            assert_eq!(answer.status, 202, "{answer:?}");
        }
        let request = |query: &str| {
            let url = format!("{}/api/v1/backup{query}", node.base);
            node.client.get(url).bearer_auth(TOKEN)
        };
        let first = request("").send().await.expect("an answer");
        let second = request("").send().await.expect("an answer");
        assert_eq!(
            (first.status().as_u16(), second.status().as_u16()),
            (200, 200)
        );
        let third: TestAnswer = node.send_request(request("")).await;
        assert_eq!(third.status, 429, "{third:?}");
        assert_eq!(third.body["code"], json!("too_many_backups"));
        assert_eq!(third.header("retry-after"), Some("30"));

        drop((first, second));
        let mut later = node.send_request(request("?since=41")).await;
        while later.status == 429 {
            later = node.send_request(request("?since=41")).await;
        }
        assert_eq!(later.status, 200);
        for query in [
            "?since=0",
            "?since=x",
            "?since=99",
            "?since_change=3",
            "?from=1",
        ] {
            let refused = node.send_request(request(query)).await;
            assert_eq!(refused.status, 400, "{query}: {refused:?}");
            assert_eq!(refused.body["code"], json!("validation_failed"));
        }
        let url = format!("{}/api/v1/backup", node.base);
        assert_eq!(node.send_request(node.client.get(url)).await.status, 401);
        node.stop().await;
    });
}

#[test]
fn verify_names_file_byte_and_position_of_a_changed_byte() {
    let test_env = TestEnv::new(&[SMALL_SEGMENTS]);
    add_messages(&test_env, 1, 40);
    let whole = succeed(&test_env, &["verify"]);
    assert!(whole.contains("is whole: read 164 events"), "{whole}");

    /// Length of a segment's header, behind which its first block begins.
    const HEADER: u64 = 64;
    let segment = test_env.store_path().join("journal/0000000001.segment");
    flip(&segment, HEADER + 40);
    let output = run_tool(&test_env, &["verify"]);
    assert_eq!(output.status.code(), Some(1));
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(
        told.contains("0000000001.segment, byte 64: a block is damaged; events from position 1 "),
        "{told}"
    );
    assert!(told.contains("restore a backup"), "{told}");
    let output = run_tool(&test_env, &["verify", "--json"]);
    let report = as_json(&String::from_utf8_lossy(&output.stdout));
    assert_eq!(report["damage"][0]["byte"], json!(64), "{report}");
    assert_eq!(report["damage"][0]["position"], json!(1), "{report}");

    // Neither is a damaged journal backed up.
    let archive = file(&test_env, "a.backup");
    let error = fail(&test_env, &["backup", text(&archive)]);
    assert!(
        error.contains("0000000001.segment") && error.contains("byte 64"),
        "{error}"
    );
    assert!(!archive.exists());
    assert_eq!(
        fs::read_dir(test_env.folder.path()).expect("there").count(),
        1
    );

    flip(&segment, HEADER + 40);
    succeed(&test_env, &["verify"]);
    succeed(&test_env, &["backup", text(&archive)]);
}

#[test]
fn a_running_node_is_verified_and_backed_up_beside_its_writes() {
    run_async(async {
        let test_env = TestEnv::new(&[SMALL_SEGMENTS]);
        let node = test_env.start_process().await;
        let (client, is_over) = (node.api.clone(), Arc::new(AtomicBool::new(false)));
        let is_stopping = Arc::clone(&is_over);
        let writer = actix_rt::spawn(async move {
            let mut number = 1;
            while !is_stopping.load(Ordering::Relaxed) {
                deliveries::send(&client, &TICKETS, number, 1).await;
                number += 1;
            }
        });
        for _ in 0..10 {
            let output = run_beside(&test_env, &["verify"]).await;
            assert!(output.status.success(), "{output:?}");
        }
        is_over.store(true, Ordering::Relaxed);
        writer.await.expect("no panic");

        // Without a URL, the store in use leads to its node.
        let archive = file(&test_env, "a.backup");
        let bind = node.api.base.trim_start_matches("http://").to_owned();
        let config = file(&test_env, "node.toml");
        fs::write(&config, format!("[server]\nbind = \"{bind}\"\n")).expect("writable");
        let words = ["backup", text(&archive), "--config", text(&config)];
        let output = run_beside(&test_env, &words).await;
        assert!(output.status.success(), "{output:?}");
        let words = [
            "backup",
            text(&archive),
            "--data",
            text(&test_env.store_path()),
        ]
        .map(str::to_owned);
        let words: Vec<_> = words.iter().map(String::as_str).collect();
        let output = run_beside(&test_env, &words).await;
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(error.contains("is in use by another process"), "{error}");
    });
}

fn flip(file: &Path, offset: u64) {
    let file = fs::File::options()
        .read(true)
        .write(true)
        .open(file)
        .expect("there");
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).expect("reads");
    file.write_all_at(&[byte[0] ^ 1], offset).expect("writes");
}
