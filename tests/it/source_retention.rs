//! Retention of one source: the content of its events goes, and order, numbers, states and what is owed
//! stay, also when the derived data is lost.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use hookyard::clock::ManualClock;
use hookyard::journal::{Disk, DiskFile, LocalDisk};
use serde_json::{Value, json};
use tokio::time::interval;

use crate::dead_letters::{poll_until, post, wait_for_letters};
use crate::deliveries::{subscribe, test_env};
use crate::erasure::{NAME, erase_and_wait, files_with};
use crate::failures::incompressible_text;
use crate::leads;
use crate::rebuild::rebuild;
use crate::receiver::{ReceiverReply, TestReceiver};
use crate::retention::{accepted, segment_files, wait_for_metric, wait_until_removed};
use crate::store_opening::run_tool;
use crate::test_node::{TestAnswer, TestClient, TestEnv, expect_soon, message_text, run_async};

const DAY: Duration = Duration::from_secs(24 * 3_600);
/// Days of the source in these tests, and the day within which content goes after them.
const GONE_AFTER: Duration = Duration::from_secs(4 * 24 * 3_600);

/// Tickets whose content is kept for three days, beside leads without days of their own.
fn short_env(more: &[(&str, &str)]) -> (TestEnv, Arc<ManualClock>) {
    let mut test_env = test_env(&[
        ("sources.support.retention_days", "3"),
        ("sources.leads.enabled", "true"),
        ("store.segment_bytes", "65536"),
        ("entity.items_max", "2"),
    ]);
    more.iter()
        .for_each(|(key, value)| test_env.set(key, value));
    let clock = test_env.with_manual_clock();
    (test_env, clock)
}

async fn send_name(client: &TestClient, ticket: &str, key: &str) -> TestAnswer {
    let data = json!({"message_id": key, "text": format!("I am {NAME}")});
    accepted(client.send(ticket, key, "message.created", data).await)
}

/// Answers of all reads that do not change with the derived data.
async fn read_everything(client: &TestClient) -> Vec<(String, String)> {
    let mut reads = Vec::new();
    for path in [
        "entities/ticket?page_size=100",
        "entities/ticket/SUP-1",
        "entities/ticket/SUP-1/timeline?page_size=100",
        "entities/ticket/SUP-1/export",
        "entities/ticket/SUP-2",
        "entities/pre_lead?page_size=100",
        "events?page_size=100",
        "events?page_size=100&status=failed",
    ] {
        let answer = client.get(&format!("/api/v1/{path}")).await;
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
        reads.push((path.to_owned(), answer.text));
    }
    reads
}

fn assert_not_in_journal(test_env: &TestEnv) {
    let files = files_with(&test_env.store_path().join("journal"), NAME);
    assert!(files.is_empty(), "{files:?}");
}

/// Checks the files of events alone: the state of a ticket keeps its newest messages.
fn assert_not_in_segments(test_env: &TestEnv) {
    let files = files_with(&test_env.store_path().join("journal"), NAME);
    let mut files = files.iter();
    assert!(files.all(|file| file.ends_with("BASE")), "{files:?}");
}

#[test]
fn the_content_of_a_source_goes_after_its_days_and_all_else_stays() {
    let (test_env, clock) = short_env(&[]);
    let expected = run_async(async {
        let receiver = TestReceiver::accept_all().await;
        let node = test_env.start().await;
        subscribe(&node, receiver.url("/all"), json!({})).await;
        leads::new_pre_lead(&node).await;
        let leads = node.get("/api/v1/events?source=leads").await.body;

        let named = send_name(&node, "SUP-1", "named").await.event_id();
        let unknown = json!({"message_id": format!("no {NAME}"), "text": NAME});
        let failed = node.send("SUP-1", "failed", "message.updated", unknown);
        let failed = accepted(failed.await).event_id();
        // Two later messages displace the first one in the state.
        for key in ["second", "third"] {
            accepted(node.send_message("SUP-1", key).await);
        }
        let state_path = "/api/v1/entities/ticket/SUP-1";
        let state = node.get(state_path).await.body["state"].clone();
        expect_soon(receiver.wait_for_requests(3)).await;

        clock.advance(GONE_AFTER + Duration::from_secs(1));
        let fresh = accepted(node.send_message("SUP-2", "fresh").await).event_id();
        let removed = wait_until_removed(&node, &named).await;
        assert!(removed["removed_at"].is_string(), "{removed}");
        wait_until_removed(&node, &failed).await;
        let again = node
            .post(&format!("/api/v1/events/{failed}/reprocess"))
            .await;
        assert_eq!(
            (again.status, &again.body["code"]),
            (410, &json!("removed_by_retention"))
        );

        let kept = node.get(&format!("/api/v1/events/{fresh}")).await;
        assert_eq!(kept.body["payload"]["data"]["text"], message_text("fresh"));
        assert_eq!(node.get("/api/v1/events?source=leads").await.body, leads);

        // The outline of each event is left, in its place.
        let timeline = node.fetch_timeline("SUP-1").await;
        let outlines: Vec<_> = timeline
            .iter()
            .map(|entry| (entry["sequence"].as_u64(), entry["data"].is_null()))
            .collect();
        assert_eq!(outlines, [1, 2, 3].map(|sequence| (Some(sequence), true)));
        let failures = node.get("/api/v1/events?status=failed").await.body;
        assert_eq!(failures["items"][0]["event_id"], json!(failed));
        assert!(failures["items"][0]["removed_at"].is_string(), "{failures}");

        assert_eq!(node.get(state_path).await.body["state"], state);
        let next = accepted(node.send_message("SUP-1", "next").await);
        assert_eq!(next.sequence(), 4);
        let replay = json!({"since": "2020-01-01T00:00:00Z"});
        let job = post(&node, "/api/v1/webhooks/1/replay", replay).await;
        let path = format!("/api/v1/jobs/{}", job.body["id"]);
        let job = poll_until(&node, &path, |job| job["state"] == "completed").await;
        assert_eq!(job["delivered"], 2, "{job}");

        let reads = read_everything(&node).await;
        node.stop().await;
        reads
    });
    assert_not_in_journal(&test_env);

    let check = |test_env: &TestEnv, place: &str| {
        run_async(async {
            let node = test_env.start().await;
            let found = read_everything(&node).await;
            for ((path, answer), (_, expected)) in found.iter().zip(&expected) {
                assert_eq!(answer, expected, "{place}: {path}");
            }
            node.stop().await;
        });
    };
    check(&test_env, "after a restart");
    fs::remove_dir_all(test_env.store_path().join("derived")).expect("removes");
    check(&test_env, "from the base file");
    rebuild(&test_env).expect("rebuilds");
    check(&test_env, "after a rebuild");

    let archive = test_env.folder.path().join("archive");
    let archive = archive.to_str().expect("a readable path");
    let refused = run_tool(&test_env, &["backup", archive, "--since", "2"]);
    let told = String::from_utf8_lossy(&refused.stderr);
    assert!(told.contains("make a full backup"), "{told}");
    let (restored, restored_clock) = short_env(&[]);
    restored_clock.advance(GONE_AFTER + Duration::from_secs(1));
    for (test_env, arguments) in [
        (&test_env, &["backup", archive][..]),
        (&test_env, &["verify"]),
        (&restored, &["restore", archive]),
        (&restored, &["verify"]),
    ] {
        let output = run_tool(test_env, arguments);
        assert!(output.status.success(), "{arguments:?}: {output:?}");
    }
    run_async(async {
        let node = restored.start().await;
        let next = accepted(node.send_message("SUP-1", "restored").await);
        assert_eq!(next.sequence(), 5);
        let state = node.get("/api/v1/entities/ticket/SUP-1").await.body["state"].clone();
        let texts = state["messages"].as_array().expect("a list").iter();
        let texts: Vec<_> = texts.map(|message| message["text"].clone()).collect();
        assert_eq!(texts, ["next", "restored"].map(message_text));
        node.stop().await;
    });
}

#[test]
fn what_a_subscriber_is_owed_keeps_its_content_until_it_is_delivered_or_expires() {
    let (test_env, clock) = short_env(&[("delivery.hold_days", "10")]);
    run_async(async {
        let receiver = TestReceiver::accept_all().await;
        let node = test_env.start().await;
        let subscription = subscribe(&node, receiver.url("/all"), json!({})).await;
        let path = format!("/api/v1/webhooks/{}", subscription["id"]);
        let pause = async |is_paused: bool| {
            let word = if is_paused { "pause" } else { "resume" };
            let answer = post(&node, &format!("{path}/{word}"), json!({})).await;
            assert!(answer.status < 300, "{answer:?}");
        };
        let delivered = send_name(&node, "SUP-1", "delivered").await.event_id();
        expect_soon(receiver.wait_for_requests(1)).await;
        pause(true).await;
        let owed = send_name(&node, "SUP-1", "owed").await.event_id();

        // What is owed comes later in the journal than what goes.
        clock.advance(GONE_AFTER + Duration::from_secs(1));
        wait_until_removed(&node, &delivered).await;
        let owed_path = format!("/api/v1/events/{owed}");
        assert_eq!(node.get(&owed_path).await.status, 200);
        pause(false).await;
        expect_soon(receiver.wait_for_requests(2)).await;
        let arrivals = receiver.arrivals();
        assert!(String::from_utf8_lossy(&arrivals[1].body).contains(NAME));
        clock.advance(DAY);
        wait_until_removed(&node, &owed).await;

        // Nothing is held for ever.
        pause(true).await;
        let expired = send_name(&node, "SUP-1", "expired").await.event_id();
        clock.advance(10 * DAY + Duration::from_secs(1));
        wait_until_removed(&node, &expired).await;
        let letters = wait_for_letters(&node, 1).await;
        assert_eq!(letters[0]["reason"], "expired", "{letters:?}");
        node.stop().await;
    });
    assert_not_in_segments(&test_env);
}

#[test]
fn a_dead_letter_of_such_an_event_stays_without_its_content() {
    let (test_env, clock) = short_env(&[("delivery.hold_days", "1")]);
    run_async(async {
        // The answer of the receiver, which the dead letter shows, quotes the event.
        let receiver = TestReceiver::start(|request| match request.sequence() {
            1 => ReceiverReply::Full(400, Vec::new(), format!("no {NAME} here")),
            _ => ReceiverReply::Status(200),
        })
        .await;
        let node = test_env.start().await;
        subscribe(&node, receiver.url("/all"), json!({})).await;
        let dead = send_name(&node, "SUP-1", "dead").await.event_id();
        let letters = wait_for_letters(&node, 1).await;
        let path = format!("/api/v1/dead-letters/{}", letters[0]["id"]);
        let quoted = node.get(&path).await;
        assert!(quoted.text.contains(&format!("no {NAME}")), "{quoted:?}");
        // Two later messages displace the first one in the state.
        for key in ["second", "third"] {
            accepted(node.send_message("SUP-1", key).await);
        }
        clock.advance(GONE_AFTER + Duration::from_secs(1));
        wait_until_removed(&node, &dead).await;
        let acts = poll_until(&node, "/api/v1/audit?operation=content.remove", |acts| {
            acts["items"]
                .as_array()
                .is_some_and(|acts| !acts.is_empty())
        })
        .await;
        assert_eq!(acts["items"][0]["who"], "node", "{acts}");

        let shown = node.get(&path).await;
        assert_eq!((shown.status, &shown.body["payload"]), (200, &Value::Null));
        assert!(!shown.text.contains(NAME), "{shown:?}");
        assert_eq!(shown.body["status"], quoted.body["status"]);
        let retried = post(&node, &format!("{path}/retry"), json!({})).await;
        assert_eq!(
            (retried.status, &retried.body["code"]),
            (410, &json!("removed_by_retention"))
        );
        let all = post(&node, "/api/v1/dead-letters/retry", json!({})).await;
        let path = format!("/api/v1/jobs/{}", all.body["id"]);
        let job = poll_until(&node, &path, |job| job["state"] == "completed").await;
        assert_eq!(job["delivered"], 0, "{job}");
        node.stop().await;
    });
    assert_not_in_journal(&test_env);
}

#[test]
fn what_retention_has_left_of_an_event_can_be_erased() {
    let (test_env, clock) = short_env(&[]);
    run_async(async {
        let node = test_env.start().await;
        let data = json!({"message_id": "m", "text": "none"});
        let named_key = format!("k-{NAME}");
        let sent = node.send("SUP-1", &named_key, "message.created", data);
        let removed = accepted(sent.await).event_id();
        clock.advance(GONE_AFTER + Duration::from_secs(1));
        wait_until_removed(&node, &removed).await;
        erase_and_wait(&node, "ticket", "SUP-1").await;
        let shown = node.get(&format!("/api/v1/events/{removed}")).await;
        assert_eq!((shown.status, &shown.body["erased"]), (200, &json!(true)));
        node.stop().await;
    });
    assert_not_in_journal(&test_env);
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("creates");
    for entry in fs::read_dir(from).expect("reads") {
        let entry = entry.expect("reads");
        let target = to.join(entry.file_name());
        if entry.file_type().expect("reads").is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).expect("copies");
        }
    }
}

/// An older copy of the derived data lacks the states that were stored before the content went.
#[test]
fn an_older_copy_of_the_derived_data_is_replaced_by_the_base_file() {
    let (test_env, clock) = short_env(&[]);
    let derived = test_env.store_path().join("derived");
    let copy = test_env.folder.path().join("copy");
    let named = run_async(async {
        let node = test_env.start().await;
        let named = send_name(&node, "SUP-1", "named").await.event_id();
        accepted(node.send_message("SUP-1", "second").await);
        node.stop().await;
        named
    });
    copy_folder(&derived, &copy);
    let state = run_async(async {
        let node = test_env.start().await;
        let state = node.get("/api/v1/entities/ticket/SUP-1").await.text;
        clock.advance(GONE_AFTER + Duration::from_secs(1));
        wait_until_removed(&node, &named).await;
        node.stop().await;
        state
    });

    fs::remove_dir_all(&derived).expect("removes");
    copy_folder(&copy, &derived);
    run_async(async {
        let node = test_env.start().await;
        let found = node.get("/api/v1/entities/ticket/SUP-1").await.text;
        assert_eq!(found, state);
        node.stop().await;
    });
}

/// Disk that has no room for some files of the journal.
struct CrowdedDisk {
    /// End of their names.
    name: &'static str,
    /// Number of such files for which there is room.
    room: u32,
    /// Number of such files that were to be created.
    asked: Arc<AtomicU32>,
}

impl CrowdedDisk {
    fn new(name: &'static str, room: u32) -> Self {
        Self {
            name,
            room,
            asked: Arc::default(),
        }
    }
}

impl Disk for CrowdedDisk {
    fn create_folder(&self, folder: &Path) -> io::Result<()> {
        LocalDisk.create_folder(folder)
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<String>> {
        LocalDisk.list(folder)
    }

    fn create(&self, path: &Path, bytes: u64) -> io::Result<Arc<dyn DiskFile>> {
        let is_concerned = path.to_string_lossy().ends_with(self.name);
        if is_concerned && self.asked.fetch_add(1, Ordering::Relaxed) >= self.room {
            return Err(io::ErrorKind::StorageFull.into());
        }
        LocalDisk.create(path, bytes)
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        LocalDisk.open(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        LocalDisk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        LocalDisk.remove(path)
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        LocalDisk.sync_folder(folder)
    }
}

async fn wait_until(is_reached: impl Fn() -> bool) {
    let mut polls = interval(Duration::from_millis(20));
    expect_soon(async {
        while !is_reached() {
            polls.tick().await;
        }
    })
    .await;
}

/// The second base file of a removal never came if the node stopped before it.
#[test]
fn quotes_go_from_the_base_file_after_a_removal_that_was_interrupted_before_it() {
    let (mut test_env, clock) = short_env(&[("delivery.hold_days", "1")]);
    let disk = CrowdedDisk::new("BASE.new", 1);
    let asked = Arc::clone(&disk.asked);
    test_env.deps.disk = Arc::new(disk);
    run_async(async {
        let receiver = TestReceiver::start(|request| match request.sequence() {
            1 => ReceiverReply::Full(400, Vec::new(), format!("no {NAME} here")),
            _ => ReceiverReply::Status(200),
        })
        .await;
        let node = test_env.start().await;
        subscribe(&node, receiver.url("/all"), json!({})).await;
        send_name(&node, "SUP-1", "dead").await;
        wait_for_letters(&node, 1).await;
        for key in ["second", "third"] {
            accepted(node.send_message("SUP-1", key).await);
        }
        clock.advance(GONE_AFTER + Duration::from_secs(1));
        wait_until(|| asked.load(Ordering::Relaxed) > 1).await;
        wait_for_metric(&node, "hookyard_retention_failures_total", "1").await;
        node.stop().await;
    });
    let journal = test_env.store_path().join("journal");
    assert!(!files_with(&journal, NAME).is_empty(), "it was interrupted");

    test_env.deps.disk = Arc::new(LocalDisk);
    run_async(async {
        let node = test_env.start().await;
        let has_name = |bytes: Vec<u8>| {
            let mut parts = bytes.windows(NAME.len());
            parts.any(|part| part == NAME.as_bytes())
        };
        wait_until(|| !has_name(fs::read(journal.join("BASE")).expect("is there"))).await;
        node.stop().await;
    });
    assert_not_in_journal(&test_env);
}

/// A cut that failed was tried every five seconds, and no content went.
#[test]
fn content_goes_although_segments_cannot_be_removed() {
    let (test_env, clock) = short_env(&[("store.retention_days", "5")]);
    let old = run_async(async {
        let node = test_env.start().await;
        for number in 0..40 {
            let data =
                json!({"message_id": number.to_string(), "text": incompressible_text(4_000)});
            let key = format!("old-{number}");
            accepted(node.send("SUP-2", &key, "message.created", data).await);
        }
        let old = send_name(&node, "SUP-1", "old").await.event_id();
        node.stop().await;
        old
    });
    run_async(async {
        let node = test_env.start().await;
        clock.advance(GONE_AFTER + Duration::from_secs(1));
        wait_until_removed(&node, &old).await;
        // The first record, which only a cut reads.
        let segment = &segment_files(&test_env)[0];
        let mut bytes = fs::read(segment).expect("reads");
        bytes[120] ^= 1;
        fs::write(segment, bytes).expect("writes");
        let named = send_name(&node, "SUP-1", "named").await.event_id();
        clock.advance(GONE_AFTER + Duration::from_secs(1));
        wait_until_removed(&node, &named).await;
        wait_for_metric(&node, "hookyard_retention_failures_total", "1").await;
        node.stop().await;
    });
}

#[test]
fn a_removal_that_was_interrupted_is_finished_after_the_next_start() {
    let (mut test_env, clock) = short_env(&[]);
    test_env.deps.disk = Arc::new(CrowdedDisk::new(".rewrite", 0));
    let (named, state) = run_async(async {
        let node = test_env.start().await;
        let named = send_name(&node, "SUP-1", "named").await.event_id();
        for key in ["second", "third"] {
            accepted(node.send_message("SUP-1", key).await);
        }
        let state = node.get("/api/v1/entities/ticket/SUP-1").await.text;
        clock.advance(GONE_AFTER + Duration::from_secs(1));
        let base = test_env.store_path().join("journal/BASE");
        wait_until(|| base.exists()).await;
        let shown = node.get(&format!("/api/v1/events/{named}")).await;
        assert_eq!(shown.status, 200, "{shown:?}");
        node.stop().await;
        (named, state)
    });

    test_env.deps.disk = Arc::new(LocalDisk);
    fs::remove_dir_all(test_env.store_path().join("derived")).expect("removes");
    run_async(async {
        let node = test_env.start().await;
        wait_until_removed(&node, &named).await;
        let found = node.get("/api/v1/entities/ticket/SUP-1").await.text;
        assert_eq!(found, state);
        node.stop().await;
    });
    assert_not_in_journal(&test_env);
}
