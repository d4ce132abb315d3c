//! Retention: the oldest events go, and everything that is still needed stays readable, also when the
//! derived data is lost.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use hookyard::clock::ManualClock;
use hookyard::event::{EntityKey, Kind, Record};
use hookyard::journal::{
    DataFolder, Journal, JournalLimits, JournalSubmission, LocalDisk, RecordDraft, SegmentJournal,
};
use serde_json::{Value, json};
use tokio::time::interval;

use crate::dead_letters::{poll_until, post, wait_for_letters};
use crate::deliveries::{subscribe, test_env};
use crate::erasure::{NAME, assert_gone, erase_and_wait};
use crate::failures::incompressible_text;
use crate::rebuild::rebuild;
use crate::receiver::{ReceiverReply, TestReceiver};
use crate::store_opening::run_tool;
use crate::test_node::{TestAnswer, TestClient, TestEnv, expect_soon, run_async};

const SEGMENT_BYTES: u64 = 64 * 1024;
pub const MAX_BYTES: u64 = 4 * SEGMENT_BYTES;
/// Size of the journal that the test allows: the bound, the segment in use, the one that is
/// allocated ahead, and what a removal must free to be worth its base file.
const TOLERATED_BYTES: u64 = 2 * MAX_BYTES;

const TICKETS: u64 = 4;
/// Ticket with a single event, the first of all.
pub const QUIET: &str = "SUP-quiet";
/// Events of a ticket in one round, with [`MESSAGE_BYTES`] each: about a segment in all.
const ROUND_EVENTS: u64 = 4;
const MESSAGE_BYTES: usize = 4_000;
/// Ten times as much as is retained.
const ROUNDS: u64 = 40;
/// Half of the longest idempotency window, within which no event is removed.
pub const ROUND_TIME: Duration = Duration::from_secs(12 * 3_600);

pub fn bounded_env(max_bytes: u64) -> (TestEnv, Arc<ManualClock>) {
    let mut test_env = test_env(&[
        ("store.segment_bytes", &SEGMENT_BYTES.to_string()),
        ("store.max_bytes", &max_bytes.to_string()),
        ("sources.support.idempotency_window_h", "0.5"),
        ("entity.items_max", "2"),
    ]);
    let clock = test_env.with_manual_clock();
    (test_env, clock)
}

pub fn accepted(answer: TestAnswer) -> TestAnswer {
    assert_eq!(answer.status, 202, "{answer:?}");
    answer
}

/// Sends the messages of one round.
pub async fn send_round(client: &TestClient, round: u64) -> Vec<TestAnswer> {
    let mut answers = Vec::new();
    for number in 0..ROUND_EVENTS {
        for ticket in 1..=TICKETS {
            let key = format!("{ticket}-{round}-{number}");
            let data = json!({"message_id": key, "text": incompressible_text(MESSAGE_BYTES)});
            let ticket = format!("SUP-{ticket}");
            let answer = client.send(&ticket, &key, "message.created", data).await;
            answers.push(accepted(answer));
        }
    }
    answers
}

fn journal_bytes(test_env: &TestEnv) -> u64 {
    let files = fs::read_dir(test_env.store_path().join("journal")).expect("a folder");
    let sizes = files.map(|file| file.and_then(|file| file.metadata()));
    // A file may go between the two calls.
    sizes.filter_map(Result::ok).map(|file| file.len()).sum()
}

async fn wait_until_bounded(test_env: &TestEnv) -> u64 {
    let mut polls = interval(Duration::from_millis(20));
    expect_soon(async {
        loop {
            polls.tick().await;
            let bytes = journal_bytes(test_env);
            if bytes <= TOLERATED_BYTES {
                return bytes;
            }
        }
    })
    .await
}

pub async fn wait_until_removed(client: &TestClient, event_id: &str) -> Value {
    let path = format!("/api/v1/events/{event_id}");
    poll_until(client, &path, |body| body["code"] == "removed_by_retention").await
}

/// Waits until the metric `name` without labels has `value`.
pub async fn wait_for_metric(client: &TestClient, name: &str, value: &str) {
    let line = format!("{name} {value}");
    let mut polls = interval(Duration::from_millis(20));
    expect_soon(async {
        loop {
            polls.tick().await;
            let metrics = client.get("/metrics").await.text;
            if metrics.lines().any(|found| found == line) {
                return;
            }
        }
    })
    .await;
}

/// Files of the journal's segments, oldest first.
pub fn segment_files(test_env: &TestEnv) -> Vec<PathBuf> {
    let files = fs::read_dir(test_env.store_path().join("journal")).expect("a folder");
    let paths = files.map(|file| file.expect("reads").path());
    let mut segments: Vec<_> = paths
        .filter(|path| path.extension().is_some_and(|name| name == "segment"))
        .collect();
    segments.sort();
    segments
}

/// Answers of all reads, without the incarnation in event ids.
pub async fn read_everything(client: &TestClient) -> BTreeMap<String, String> {
    let mut paths = vec![
        "entities/ticket?page_size=100".to_owned(),
        "events?page_size=100".to_owned(),
        "events?page_size=100&status=failed".to_owned(),
    ];
    paths.push(format!("entities/ticket/{QUIET}"));
    for ticket in 1..=TICKETS {
        paths.push(format!("entities/ticket/SUP-{ticket}"));
        paths.push(format!(
            "entities/ticket/SUP-{ticket}/timeline?page_size=100"
        ));
    }
    let mut reads = BTreeMap::new();
    for path in paths {
        let answer = client.get(&format!("/api/v1/{path}")).await;
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
        reads.insert(path, without_incarnation(&answer.text));
    }
    reads
}

fn without_incarnation(text: &str) -> String {
    let mut parts = text.split("evt_");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |joined, part| {
        joined + "evt_" + part.get("01234567".len()..).unwrap_or_default()
    })
}

fn assert_same(found: &BTreeMap<String, String>, expected: &BTreeMap<String, String>, place: &str) {
    for (path, answer) in found {
        assert_eq!(*answer, expected[path], "{place}: {path}");
    }
}

#[test]
fn the_journal_stays_small_and_every_read_of_what_is_kept_stays_the_same() {
    let (mut bounded, bounded_clock) = bounded_env(MAX_BYTES);
    let (endless, endless_clock) = bounded_env(0);

    let whole_reads = run_async(async {
        let receiver = TestReceiver::accept_all().await;
        let node = bounded.start().await;
        let control = endless.start().await;
        let subscription = subscribe(&node, receiver.url("/all"), json!({})).await;

        // An entity whose only record goes.
        for client in [&*node, &*control] {
            let data = json!({"status": "pending"});
            accepted(client.send(QUIET, "quiet", "status.changed", data).await);
        }

        let mut sizes = Vec::new();
        let mut first_event = None;
        for round in 0..ROUNDS {
            let answers = send_round(&node, round).await;
            send_round(&control, round).await;
            bounded_clock.advance(ROUND_TIME);
            endless_clock.advance(ROUND_TIME);
            first_event.get_or_insert(answers[0].event_id());
            if round % 4 == 3 {
                sizes.push(wait_until_bounded(&bounded).await);
            }
        }
        let whole = journal_bytes(&endless);
        eprintln!("sizes of the journal: {sizes:?}; without a bound: {whole}");
        assert!(whole >= 8 * MAX_BYTES, "{whole}");

        // All deliveries arrived before their records were removed.
        let all = (1 + TICKETS * ROUND_EVENTS * ROUNDS) as usize;
        expect_soon(receiver.wait_for_requests(all)).await;

        let removed = wait_until_removed(&node, &first_event.expect("an event")).await;
        assert!(removed["kept_from"].is_string(), "{removed}");
        let acts = node.get("/api/v1/audit?operation=events.remove").await.body;
        let act = ["who", "outcome", "request_id"].map(|member| &acts["items"][0][member]);
        assert_eq!(json!(act), json!(["node", "ok", null]), "{acts}");
        let detail = removed["detail"].as_str().expect("a text");
        assert!(detail.contains("events are kept from"), "{detail}");

        let timeline = node
            .get("/api/v1/entities/ticket/SUP-1/timeline")
            .await
            .body;
        let first_sequence = timeline["first_sequence"].as_u64().expect("a number");
        let last_sequence = ROUND_EVENTS * ROUNDS;
        assert_eq!(timeline["total"], last_sequence - first_sequence + 1);

        let path = format!("/api/v1/entities/ticket/{QUIET}/timeline");
        let quiet = node.get(&path).await.body;
        assert_eq!(
            (&quiet["total"], &quiet["first_sequence"]),
            (&json!(0), &json!(2))
        );

        let replay = format!("/api/v1/webhooks/{}/replay", subscription["id"]);
        let removed_time =
            json!({"since": "2020-01-01T00:00:00Z", "until": "2025-12-05T00:00:00Z"});
        let refused = post(&node, &replay, removed_time).await;
        assert_eq!(
            (refused.status, &refused.body["code"]),
            (410, &json!("removed_by_retention"))
        );
        let job = post(&node, &replay, json!({"since": "2020-01-01T00:00:00Z"})).await;
        assert_eq!(job.status, 202, "{job:?}");
        let path = format!("/api/v1/jobs/{}", job.body["id"]);
        let job = poll_until(&node, &path, |job| job["state"] == "completed").await;
        let left = node.get("/api/v1/events?kind=ticket").await.body["total"].clone();
        assert!(job["delivered"].as_u64() >= left.as_u64(), "{job}, {left}");

        // The keys of the last half hour are refused.
        send_round(&node, ROUNDS).await;
        send_round(&control, ROUNDS).await;
        let again = node.send_message("SUP-1", &format!("1-{ROUNDS}-0")).await;
        // The event of that key has another text.
        assert_eq!(again.body["code"], "idempotency_key_reused", "{again:?}");

        let whole_reads = read_everything(&control).await;
        node.stop().await;
        control.stop().await;
        whole_reads
    });

    // Nothing more goes while answers are compared.
    bounded.set("store.max_bytes", "0");
    let expected = run_async(async {
        let node = bounded.start().await;
        let reads = read_everything(&node).await;
        node.stop().await;
        reads
    });
    let is_state = |path: &String| !path.contains("timeline") && !path.starts_with("events");
    let mut states = expected.clone();
    states.retain(|path, _| is_state(path));
    assert_same(&states, &whole_reads, "from the whole journal");
    assert_eq!(states.len() as u64, TICKETS + 2);

    let check = |place: &str| {
        run_async(async {
            let node = bounded.start().await;
            assert_same(&read_everything(&node).await, &expected, place);
            let again = node.send_message("SUP-1", &format!("1-{ROUNDS}-0")).await;
            assert_eq!(again.status, 409, "{place}: {again:?}");
            node.stop().await;
        });
    };
    let check_quiet_entity = || {
        run_async(async {
            let node = bounded.start().await;
            let data = json!({"tags": ["a"]});
            let next = accepted(node.send(QUIET, "next", "tags.updated", data).await);
            assert_eq!(next.sequence(), 2);
            let path = format!("/api/v1/entities/ticket/{QUIET}");
            let state = node.get(&path).await.body["state"].clone();
            assert_eq!(
                (&state["status"], &state["tags"]),
                (&json!("pending"), &json!(["a"]))
            );
            node.stop().await;
        });
    };
    check("after a restart");
    fs::remove_dir_all(bounded.store_path().join("derived")).expect("removes");
    check("from the base file");
    let summary = rebuild(&bounded).expect("rebuilds");
    assert_eq!(summary.entities, TICKETS + 1);
    check("after a rebuild");

    // Without the base file, a restored store would lack what was derived from removed events.
    let archive = bounded.folder.path().join("archive");
    let archive = archive.to_str().expect("a readable path");
    let (mut restored, restored_clock) = bounded_env(MAX_BYTES);
    restored.set("store.max_bytes", "0");
    restored_clock.advance(ROUND_TIME * u32::try_from(ROUNDS).expect("a small number"));
    let increment = ["backup", archive, "--since", "1"];
    let refused = run_tool(&bounded, &increment);
    let told = String::from_utf8_lossy(&refused.stderr);
    assert!(told.contains("make a full backup"), "{told}");
    for (test_env, arguments) in [
        (&bounded, &["backup", archive][..]),
        (&restored, &["restore", archive]),
        (&restored, &["verify"]),
        (&restored, &["verify", archive]),
    ] {
        let output = run_tool(test_env, arguments);
        assert!(output.status.success(), "{arguments:?}: {output:?}");
    }
    run_async(async {
        let node = restored.start().await;
        assert_same(&read_everything(&node).await, &expected, "restored");
        let again = node.send_message("SUP-1", &format!("1-{ROUNDS}-0")).await;
        assert_eq!(again.status, 409, "{again:?}");
        node.stop().await;
    });
    check_quiet_entity();
}

/// Ticket whose state no version of the node restores.
const BROKEN: &str = "SUP-broken";

/// Appends the first event of [`BROKEN`], whose change cannot be decoded, to the journal of a stopped
/// node.
fn append_broken_event(test_env: &TestEnv) {
    let data = DataFolder::open(&test_env.store_path()).expect("opens");
    let limits = JournalLimits {
        queue: 8,
        commit_records: 8,
        commit_bytes: 1 << 20,
        sync_interval: None,
        segment_bytes: SEGMENT_BYTES,
    };
    let clock = Arc::clone(&test_env.deps.clock);
    let now = clock.wall();
    let disk = Arc::new(LocalDisk);
    let journal = SegmentJournal::open(&data, disk, limits, clock, <_>::default(), None);
    let journal = journal.expect("opens");
    let entity = EntityKey::try_new(Kind::Ticket, BROKEN).expect("an id");
    let record = Record {
        sequence: Some(1),
        payload: "{}".into(),
        change: "no change of a ticket".into(),
        ..Record::new("support", entity.clone(), "message.created", now)
    };
    let draft = RecordDraft {
        entity,
        sequence: Some(1),
        received_at: now,
        bytes: record.encode(),
    };
    let submission = JournalSubmission {
        drafts: vec![draft],
        settle: Box::new(|_| ()),
    };
    journal.append(submission).expect("open");
    journal.close();
}

/// One such entity kept all segments for ever.
#[test]
fn an_entity_that_cannot_be_restored_keeps_its_own_records_and_no_segment() {
    let (test_env, clock) = bounded_env(MAX_BYTES);
    run_async(async {
        let node = test_env.start().await;
        let first = send_round(&node, 0).await[0].event_id();
        node.stop().await;
        append_broken_event(&test_env);
        let broken = event_after(&first, ROUND_EVENTS * TICKETS);

        let node = test_env.start().await;
        let path = format!("/api/v1/events/{broken}");
        assert_eq!(node.get(&path).await.status, 200);
        for round in 1..12 {
            clock.advance(ROUND_TIME);
            send_round(&node, round).await;
        }
        wait_until_removed(&node, &first).await;
        wait_for_metric(&node, "hookyard_retention_held_entities", "1").await;
        // A later removal holds it too.
        let later = send_round(&node, 12).await[0].event_id();
        for round in 13..24 {
            clock.advance(ROUND_TIME);
            send_round(&node, round).await;
        }
        wait_until_removed(&node, &later).await;
        wait_for_metric(&node, "hookyard_retention_held_entities", "1").await;
        wait_until_bounded(&test_env).await;
        let kept = node.get(&path).await;
        assert_eq!(kept.status, 200, "{kept:?}");
        node.stop().await;

        fs::remove_dir_all(test_env.store_path().join("derived")).expect("removes");
        let node = test_env.start().await;
        assert_eq!(node.get(&path).await.text, kept.text);
        let timeline = format!("/api/v1/entities/ticket/{BROKEN}/timeline");
        assert_eq!(node.get(&timeline).await.status, 200);
        node.stop().await;
    });
}

/// Id of the event `count` places behind the event `id`.
fn event_after(id: &str, count: u64) -> String {
    let (store, position) = id.rsplit_once('_').expect("two parts");
    let position: u64 = position.parse().expect("a number");
    format!("{store}_{}", position + count)
}

#[test]
fn a_failed_event_and_a_dead_letter_outlive_their_segments() {
    let (test_env, clock) = bounded_env(MAX_BYTES);
    run_async(async {
        let receiver = TestReceiver::start(|request| {
            let is_refused = request.event() == "status.changed" && request.before == 0;
            ReceiverReply::Status(if is_refused { 400 } else { 200 })
        })
        .await;
        let node = test_env.start().await;
        subscribe(&node, receiver.url("/all"), json!({})).await;
        let unknown = json!({"message_id": "none", "text": "of a message that is not there"});
        let failed = accepted(node.send("SUP-1", "f", "message.updated", unknown).await);
        let dead = json!({"status": "pending"});
        accepted(node.send("SUP-2", "d", "status.changed", dead).await);
        let letters = wait_for_letters(&node, 1).await;
        let first = send_round(&node, 0).await;
        for round in 1..12 {
            clock.advance(ROUND_TIME);
            send_round(&node, round).await;
        }
        wait_until_removed(&node, &first[0].event_id()).await;
        node.stop().await;
        let (failed, letter) = (failed.event_id(), letters[0]["id"].clone());
        fs::remove_dir_all(test_env.store_path().join("derived")).expect("removes");

        let node = test_env.start().await;
        let path = format!("/api/v1/events/{failed}");
        let event = node.get(&path).await;
        assert_eq!(event.body["status"], "failed", "{event:?}");
        assert_eq!(event.body["payload"]["data"]["message_id"], "none");
        let listed = node.get("/api/v1/events?status=failed").await;
        assert_eq!(listed.body["total"], 1, "{listed:?}");
        let again = node.post(&format!("{path}/reprocess")).await;
        assert_eq!(again.status, 202, "{again:?}");

        let path = format!("/api/v1/dead-letters/{letter}");
        let shown = node.get(&path).await;
        assert_eq!(
            shown.body["payload"]["event"], "status.changed",
            "{shown:?}"
        );
        let retried = post(&node, &format!("{path}/retry"), json!({})).await;
        assert_eq!(retried.status, 202, "{retried:?}");
        wait_for_letters(&node, 0).await;
        node.stop().await;
    });
}

/// A reader that was away for longer than events are kept got the rest, and knew nothing of the gap.
#[test]
fn a_cursor_before_the_first_kept_event_is_refused_and_start_begins_there() {
    let (test_env, clock) = bounded_env(MAX_BYTES);
    run_async(async {
        let node = test_env.start().await;
        let unknown = json!({"message_id": "none", "text": "of a message that is not there"});
        let failed = accepted(node.send("SUP-1", "f", "message.updated", unknown).await);
        let first = send_round(&node, 0).await;
        let mut last = String::new();
        for round in 1..12 {
            clock.advance(ROUND_TIME);
            last = send_round(&node, round).await[0].event_id();
        }
        wait_until_removed(&node, &first[0].event_id()).await;

        // The event that failed is kept, those after it are not.
        for id in [failed.event_id(), first[0].event_id()] {
            for filter in ["", "&entity=SUP-2", "&status=failed"] {
                let path = format!("/api/v1/events?after={id}{filter}");
                let refused = node.get(&path).await;
                assert_eq!(refused.status, 410, "{path}: {refused:?}");
                assert_eq!(refused.body["code"], "removed_by_retention");
                assert!(refused.body["kept_from"].is_string(), "{refused:?}");
            }
        }
        let path = format!("/api/v1/events?after={last}");
        let rest = node.get(&path).await;
        assert_eq!(rest.body["items"].as_array().map(Vec::len), Some(15));

        let all = node.get("/api/v1/events?status=completed").await.body["total"].clone();
        let (mut found, mut cursor) = (0, "start".to_owned());
        loop {
            let page = node.get(&format!("/api/v1/events?after={cursor}")).await;
            assert_eq!(page.status, 200, "{cursor}: {page:?}");
            found += page.body["items"].as_array().map_or(0, Vec::len);
            cursor = page.body["cursor"].as_str().expect("a cursor").to_owned();
            if page.body["has_more"] == false {
                break;
            }
        }
        assert_eq!(json!(found), all, "all that are kept, in place");
        node.stop().await;
    });
}

/// A record that is kept is in a table, in the changes of that table, and in the base file.
#[test]
fn what_is_kept_of_removed_segments_is_erased_from_every_file_too() {
    let (test_env, clock) = bounded_env(MAX_BYTES);
    run_async(async {
        let receiver = TestReceiver::start(|request| {
            let is_refused =
                request.entity() == "ticket/SUP-9" && request.event() == "message.created";
            ReceiverReply::Status(if is_refused { 400 } else { 200 })
        })
        .await;
        let node = test_env.start().await;
        subscribe(&node, receiver.url("/all"), json!({})).await;
        let data = json!({"message_id": NAME, "text": NAME});
        let (dead, failed) = (format!("d-{NAME}"), format!("f-{NAME}"));
        accepted(node.send("SUP-9", &dead, "message.created", data).await);
        let unknown = json!({"message_id": format!("no {NAME}"), "text": "none"});
        let failed = node.send("SUP-9", &failed, "message.updated", unknown);
        let failed = accepted(failed.await).event_id();
        wait_for_letters(&node, 1).await;
        let first = send_round(&node, 0).await;
        for round in 1..12 {
            clock.advance(ROUND_TIME);
            send_round(&node, round).await;
        }
        wait_until_removed(&node, &first[0].event_id()).await;
        let base = test_env.store_path().join("journal/BASE");
        let holds_name = |bytes: Vec<u8>| {
            let mut parts = bytes.windows(NAME.len());
            parts.any(|part| part == NAME.as_bytes())
        };
        assert!(holds_name(fs::read(&base).expect("is there")));
        let path = format!("/api/v1/events/{failed}");
        assert!(node.get(&path).await.text.contains(NAME));
        let of_others = node.get("/api/v1/entities/ticket/SUP-1").await.text;

        erase_and_wait(&node, "ticket", "SUP-9").await;
        let erased = node.get(&path).await;
        assert_eq!(erased.body["status"], "failed", "{erased:?}");
        assert!(!erased.text.contains(NAME), "{erased:?}");
        wait_for_letters(&node, 0).await;
        let own = node.get("/api/v1/entities/ticket/SUP-9").await.text;
        node.stop().await;
        assert_gone(&test_env);

        fs::remove_dir_all(test_env.store_path().join("derived")).expect("removes");
        let node = test_env.start().await;
        assert_eq!(node.get(&path).await.text, erased.text);
        for (id, expected) in [("SUP-9", own), ("SUP-1", of_others)] {
            let read = node.get(&format!("/api/v1/entities/ticket/{id}")).await;
            assert_eq!(read.text, expected);
        }
        node.stop().await;
    });
}

#[test]
fn a_paused_subscriber_keeps_what_it_is_owed_until_it_expires() {
    let (test_env, clock) = bounded_env(MAX_BYTES);
    run_async(async {
        let receiver = TestReceiver::accept_all().await;
        let node = test_env.start().await;
        let subscription = subscribe(&node, receiver.url("/all"), json!({})).await;
        let path = format!("/api/v1/webhooks/{}", subscription["id"]);
        let paused = post(&node, &format!("{path}/pause"), json!({})).await;
        assert!(paused.status < 300, "{paused:?}");

        let mut first = None;
        for round in 0..12 {
            let answers = send_round(&node, round).await;
            clock.advance(ROUND_TIME);
            first.get_or_insert(answers[0].event_id());
        }
        let first = first.expect("an event");
        assert!(journal_bytes(&test_env) > TOLERATED_BYTES);
        let kept = node.get(&format!("/api/v1/events/{first}")).await;
        assert_eq!(kept.status, 200, "{kept:?}");

        clock.advance(Duration::from_secs(8 * 24 * 3_600));
        wait_until_removed(&node, &first).await;
        let letters = wait_for_letters(&node, 1).await;
        assert_eq!(letters[0]["reason"], "expired");
        let range = &letters[0]["range"];
        assert_eq!(range["first_event_id"], first);
        let expired = range["count"].as_u64().expect("a number");

        // What is left is delivered, or expires when it is read.
        accepted(node.send_message("SUP-1", "after").await);
        let resumed = post(&node, &format!("{path}/resume"), json!({})).await;
        assert!(resumed.status < 300, "{resumed:?}");
        expect_soon(receiver.wait_for_requests(1)).await;
        let letters = poll_until(&node, "/api/v1/dead-letters", |listed| {
            let items = listed["items"].as_array();
            let counts = items.into_iter().flatten();
            let all = 12 * TICKETS * ROUND_EVENTS;
            counts
                .filter_map(|one| one["range"]["count"].as_u64())
                .sum::<u64>()
                == all
        })
        .await;
        assert!(expired > 0, "{letters}");
        node.stop().await;
    });
    assert!(Path::new(&test_env.store_path().join("journal/BASE")).exists());
}
