//! Stores of format 1 open as they were: every read answers as before, what was owed is delivered,
//! and a migration that was cut short anywhere ends well.
//!
//! The fixtures are data folders of a node of format 1, each with the answers that this node gave to
//! its reads. Subscription 1 has accepted everything. Subscription 2 has answered 400, so it has
//! dead letters. Subscription 3 was down and is paused, so everything is owed to it. Enrichment of
//! the Contact2Sale event has found the person, and its reply was answered with 503.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Cursor, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use hmac::{Hmac, Mac};
use hookyard::clock::{Clock, ManualClock};
use hookyard::event::Timestamp;
use hookyard::journal::{Disk, DiskFile, LocalDisk};
use serde_json::{Value, json};
use sha2::Sha256;
use zip::ZipArchive;

use crate::dead_letters::{poll_until, post};
use crate::receiver::{ReceiverRequest, TestReceiver};
use crate::store_opening::refusal;
use crate::test_node::{TestClient, TestEnv, TestNode, run_async};
use crate::webhooks::{act, change};

const PLAIN: &[u8] = include_bytes!("../fixtures/format-1/plain.zip");
/// Larger, with a record of several chunks and `store.encryption_key`.
const SEALED: &[u8] = include_bytes!("../fixtures/format-1/sealed.zip");

const ENCRYPTION_KEY: &str = "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=";
/// Secret of all subscriptions.
const SECRET: &str = "whsec_Zm9ybWF0LTEtc2VjcmV0LW9mLTMyLWJ5dGVzLWxvbmc=";

/// Store of format 1 in a folder of its own, and the answers of the node that wrote it.
struct FormerStore {
    test_env: TestEnv,
    clock: Arc<ManualClock>,
    answers: BTreeMap<String, Value>,
}

/// True if `found` is as `expected`. Objects may have members that later versions have added.
fn has_members_of(found: &Value, expected: &Value) -> bool {
    match (found, expected) {
        (Value::Object(found), Value::Object(expected)) => expected.iter().all(|(name, value)| {
            found
                .get(name)
                .is_some_and(|found| has_members_of(found, value))
        }),
        (Value::Array(found), Value::Array(expected)) => {
            let pairs = found.iter().zip(expected);
            found.len() == expected.len()
                && pairs
                    .into_iter()
                    .all(|(found, expected)| has_members_of(found, expected))
        }
        (found, expected) => found == expected,
    }
}

impl FormerStore {
    fn unpack(fixture: &[u8], keys: &[(&str, &str)]) -> Self {
        let own = [
            ("sources.leads.enabled", "true"),
            ("sources.leads.secrets", "test-secret"),
            ("sources.c2s.enabled", "true"),
            ("sources.c2s.tokens", "test-webhook-token"),
            ("sources.instagram.enabled", "true"),
            (
                "sources.instagram.app_secrets",
                "test-app-secret-long-enough",
            ),
            ("sources.instagram.verify_token", "test-verify-token"),
            ("sources.crm.enabled", "true"),
            ("sources.crm.tokens", "test-publisher-of-events"),
            ("delivery.allow_targets", "127.0.0.0/8"),
            ("store.segment_bytes", "1048576"),
        ];
        let mut test_env = TestEnv::new(&[&own, keys].concat());
        if fixture == SEALED {
            test_env.set("store.encryption_key", ENCRYPTION_KEY);
        }

        let mut answers = Value::Null;
        let mut archive = ZipArchive::new(Cursor::new(fixture)).expect("an archive");
        for index in 0..archive.len() {
            let mut member = archive.by_index(index).expect("a member");
            let mut bytes = Vec::new();
            member.read_to_end(&mut bytes).expect("readable");
            let name = member.name().expect("UTF-8").into_owned();
            let path = test_env.folder.path().join(&name);
            if name == "answers.json" {
                answers = serde_json::from_slice(&bytes).expect("JSON");
                continue;
            }
            fs::create_dir_all(path.parent().expect("a folder")).expect("writable");
            fs::write(path, bytes).expect("writable");
        }

        let made_at = answers["made_at"].as_str().expect("a time");
        let made_at = Timestamp::parse(made_at).expect("a time");
        let clock = Arc::new(ManualClock::starting_at(made_at));
        test_env.deps.clock = Arc::clone(&clock) as Arc<dyn Clock>;
        Self {
            test_env,
            clock,
            answers: serde_json::from_value(answers["answers"].take()).expect("answers"),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.test_env.store_path().join(name)
    }

    /// Starts a node and returns the error, with its chain.
    fn refusal(&self) -> String {
        refusal(&self.test_env)
    }

    /// Starts a node, checks that all reads answer as they did, and stops it.
    fn check_reads(&self) {
        run_async(async {
            let node = self.test_env.start().await;
            for (path, expected) in &self.answers {
                let answer = node.get(path).await;
                assert_eq!(
                    json!(answer.status),
                    expected["status"],
                    "{path}: {answer:?}"
                );
                assert!(
                    has_members_of(&answer.body, &expected["body"]),
                    "{path}: {} is not {}",
                    answer.body,
                    expected["body"]
                );
            }
            node.stop().await;
        });
        self.check_files();
    }

    /// Checks that nothing is left of the former store.
    fn check_files(&self) {
        let names: BTreeSet<_> = fs::read_dir(self.test_env.store_path())
            .expect("a folder")
            .map(|entry| entry.expect("an entry").file_name())
            .collect();
        assert_eq!(
            names,
            ["FORMAT", "LOCK", "derived", "journal"]
                .map(Into::into)
                .into()
        );
        let format = fs::read_to_string(self.path("FORMAT")).expect("text");
        assert!(
            format.starts_with("hookyard-store-format = 2\n"),
            "{format}"
        );
    }

    /// Returns the saved items of a list.
    fn items(&self, path: &str) -> &Vec<Value> {
        let list = self
            .answers
            .get(path)
            .unwrap_or_else(|| panic!("no {path}"));
        list["body"]["items"].as_array().expect("a list")
    }

    /// Returns the numbers of each ticket's events.
    fn ticket_sequences(&self) -> BTreeMap<String, Vec<u64>> {
        let tickets = self.items("/api/v1/entities/ticket?page_size=100");
        tickets
            .iter()
            .map(|ticket| {
                let last = ticket["sequence"].as_u64().expect("a number");
                let id = ticket["id"].as_str().expect("an id");
                (format!("ticket/{id}"), (1..=last).collect())
            })
            .collect()
    }
}

/// Returns every file under `folder` with its bytes, except the lock file, and sled's snapshot: a
/// cache of page locations that sled writes whenever it opens its files.
fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.append(&mut files(&path));
        } else if !path.ends_with("LOCK") && !path.to_string_lossy().contains("/snap.") {
            found.insert(path.clone(), fs::read(&path).expect("readable"));
        }
    }
    found
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("writable");
    for entry in fs::read_dir(from).expect("a folder") {
        let entry = entry.expect("an entry");
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).expect("copies");
        }
    }
}

/// Sends the deliveries of a subscription to a new receiver, which accepts everything.
async fn redirect(node: &TestNode, subscription: u64) -> TestReceiver {
    let receiver = TestReceiver::accept_all().await;
    let url = json!({"url": receiver.url("/hook")});
    let changed = change(node, &format!("/{subscription}"), &url).await;
    assert_eq!(changed.status, 200, "{changed:?}");
    receiver
}

async fn set_status(node: &TestClient, ticket: &str, key: &str) -> u64 {
    let data = json!({"status": "closed"});
    node.send(ticket, key, "status.changed", data)
        .await
        .sequence()
}

/// Returns the sequences of each entity, in the order of their arrival.
fn sequences<'a>(
    arrivals: impl IntoIterator<Item = &'a ReceiverRequest>,
) -> BTreeMap<String, Vec<u64>> {
    let mut sequences: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for arrival in arrivals {
        let of_entity = sequences.entry(arrival.entity()).or_default();
        of_entity.push(arrival.sequence());
    }
    sequences
}

fn is_signed(arrival: &ReceiverRequest) -> bool {
    let mut mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).expect("a key");
    mac.update(&arrival.body);
    let expected = hex::encode(mac.finalize().into_bytes());
    arrival.header("x-webhook-signature") == Some(expected.as_str())
}

#[test]
fn every_read_answers_as_before_and_a_second_start_does_not_migrate_again() {
    for fixture in [PLAIN, SEALED] {
        let store = FormerStore::unpack(fixture, &[]);
        store.check_reads();
        let format = fs::read(store.path("FORMAT")).expect("readable");
        store.check_reads();
        assert_eq!(fs::read(store.path("FORMAT")).expect("readable"), format);
    }
}

#[test]
fn what_was_owed_is_delivered_in_order_and_nothing_is_delivered_again() {
    run_async(async {
        let store = FormerStore::unpack(SEALED, &[]);
        let node = store.test_env.start().await;
        let (accepting, refusing) = (redirect(&node, 1).await, redirect(&node, 2).await);
        let owed = redirect(&node, 3).await;
        assert_eq!(act(&node, "/3/resume").await.status, 200);
        let mut expected = store.ticket_sequences();
        let count: usize = expected.values().map(Vec::len).sum();
        // The lanes that were stopped wait for their retry.
        store.clock.advance(Duration::from_secs(120));
        owed.wait_for_accepted(count).await;
        poll_until(&node, "/api/v1/jobs/2", |job| {
            job["state"] == json!("completed")
        })
        .await;

        // An event of each ticket shows what was pending before it.
        for (ticket, sequences) in &mut expected {
            let ticket = ticket.strip_prefix("ticket/").expect("its kind");
            sequences.push(set_status(&node, ticket, &format!("after-{ticket}")).await);
        }
        owed.wait_for_accepted(count + expected.len()).await;
        let is_ticket = |request: &ReceiverRequest| request.entity().starts_with("ticket/");
        let is_enough = |count: usize| {
            move |log: &crate::receiver::ReceiverLog| {
                log.arrivals
                    .iter()
                    .filter(|request| is_ticket(request))
                    .count()
                    >= count
            }
        };
        accepting.wait_until(is_enough(expected.len())).await;
        node.stop().await;

        let (replayed, arrivals): (Vec<_>, Vec<_>) = owed
            .arrivals()
            .into_iter()
            .partition(|request| request.header("x-hookyard-replay").is_some());
        assert_eq!(sequences(&arrivals), expected);
        assert!(arrivals.iter().chain(&replayed).all(is_signed));
        assert!(
            replayed
                .iter()
                .all(|request| request.event() == "tags.updated")
        );
        let tags = arrivals
            .iter()
            .filter(|request| request.event() == "tags.updated");
        assert_eq!(replayed.len(), tags.count());

        let newest = |(ticket, sequences): (&String, &Vec<u64>)| {
            (ticket.clone(), vec![*sequences.last().expect("just added")])
        };
        let newest: BTreeMap<_, _> = expected.iter().map(newest).collect();
        let accepted = accepting.arrivals();
        assert_eq!(
            sequences(accepted.iter().filter(|request| is_ticket(request))),
            newest
        );
        assert!(
            accepted
                .iter()
                .all(|request| !store.has_event(request.id()))
        );
        assert_eq!(refusing.arrivals().len(), 0, "it follows new messages only");
    });
}

impl FormerStore {
    /// Returns `true` if the former store has an event with this id.
    fn has_event(&self, id: &str) -> bool {
        let events = self.items("/api/v1/events?page_size=100&page=1");
        events.iter().any(|event| event["event_id"] == json!(id))
    }
}

#[test]
fn dead_letters_can_be_retried() {
    run_async(async {
        let store = FormerStore::unpack(SEALED, &[]);
        let node = store.test_env.start().await;
        let repaired = redirect(&node, 2).await;
        let letters = store.items("/api/v1/dead-letters?page_size=100");
        let started = post(
            &node,
            "/api/v1/dead-letters/retry",
            json!({"webhook_id": 2}),
        )
        .await;
        assert_eq!(started.body["total"], json!(letters.len()), "{started:?}");
        poll_until(&node, "/api/v1/dead-letters", |list| {
            list["total"] == json!(0)
        })
        .await;
        node.stop().await;

        let arrivals = repaired.arrivals();
        assert!(arrivals.iter().all(is_signed));
        let ids: BTreeSet<_> = arrivals.iter().map(ReceiverRequest::id).collect();
        let letters = letters
            .iter()
            .map(|letter| letter["event_id"].as_str().expect("an id"));
        assert_eq!(ids, letters.collect());
    });
}

#[test]
fn an_account_keeps_its_token() {
    run_async(async {
        let graph = TestReceiver::accept_all().await;
        let url = graph.url("");
        let keys = [("sources.instagram.graph_url", url.as_str())];
        let store = FormerStore::unpack(SEALED, &keys);
        let node = store.test_env.start().await;
        let body = json!({"recipient_id": "42", "text": "After the upgrade"});
        let asked = post(&node, "/api/v1/accounts/acc_xyz789/messages", body).await;
        assert_eq!(asked.status, 202, "{asked:?}");
        graph.wait_for_requests(1).await;
        node.stop().await;

        let arrivals = graph.arrivals();
        assert_eq!(
            arrivals[0].header("authorization"),
            Some("Bearer given-token")
        );
        assert_eq!(arrivals.len(), 1, "the earlier reply was sent before");
    });
}

#[test]
fn enrichment_goes_on_at_the_step_that_was_not_done() {
    for fixture in [PLAIN, SEALED] {
        run_async(async {
            let server = TestReceiver::accept_all().await;
            let keys = [
                ("sources.c2s.enrichment.enabled", "true".to_owned()),
                (
                    "sources.c2s.enrichment.lookup_url",
                    server.url("/lookup?email={email}"),
                ),
                (
                    "sources.c2s.enrichment.person_url",
                    server.url("/person/{cpf}"),
                ),
                ("sources.c2s.enrichment.reply_url", server.url("/reply")),
            ];
            let keys = keys.each_ref().map(|(key, value)| (*key, value.as_str()));
            let store = FormerStore::unpack(fixture, &keys);
            let node = store.test_env.start().await;
            server.wait_for_requests(1).await;
            let event = "/api/v1/events?kind=c2s_lead";
            poll_until(&node, event, |list| {
                list["items"][0]["status"] == json!("completed")
            })
            .await;
            node.stop().await;

            let arrivals = server.arrivals();
            let paths: Vec<_> = arrivals
                .iter()
                .map(|request| request.path.as_str())
                .collect();
            assert_eq!(paths, ["/reply"]);
            let message = arrivals[0].json()["message"].to_string();
            assert!(message.contains("Ana Maria"), "{message}");
            let notes = message.matches("met at the fair").count();
            assert_eq!(notes, 1500, "the person's data spans several values");
        });
    }
}

/// Operation of the journal's disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum DiskOperation {
    CreateFolder,
    Create,
    Write,
    Sync,
    SyncFolder,
    RenameFolder,
}

/// Disk on which one operation fails, as on a full disk, and every later one of its kind.
#[derive(Clone)]
struct FullDisk {
    failing: DiskOperation,
    /// Number of operations of that kind that still work.
    left: Arc<AtomicUsize>,
}

impl FullDisk {
    fn pass(&self, operation: DiskOperation) -> io::Result<()> {
        let is_over = operation == self.failing
            && self
                .left
                .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| {
                    left.checked_sub(1)
                })
                .is_err();
        match is_over {
            // ENOSPC, with the text of the system.
            true => Err(io::Error::from_raw_os_error(28)),
            false => Ok(()),
        }
    }

    fn wrap(&self, file: Arc<dyn DiskFile>) -> Arc<dyn DiskFile> {
        Arc::new(FullDiskFile {
            disk: self.clone(),
            file,
        })
    }
}

impl Disk for FullDisk {
    fn create_folder(&self, folder: &Path) -> io::Result<()> {
        self.pass(DiskOperation::CreateFolder)?;
        LocalDisk.create_folder(folder)
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<String>> {
        LocalDisk.list(folder)
    }

    fn create(&self, path: &Path, bytes: u64) -> io::Result<Arc<dyn DiskFile>> {
        self.pass(DiskOperation::Create)?;
        LocalDisk.create(path, bytes).map(|file| self.wrap(file))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        LocalDisk.open(path).map(|file| self.wrap(file))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        if from.is_dir() {
            self.pass(DiskOperation::RenameFolder)?;
        }
        LocalDisk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        LocalDisk.remove(path)
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        self.pass(DiskOperation::SyncFolder)?;
        LocalDisk.sync_folder(folder)
    }
}

struct FullDiskFile {
    disk: FullDisk,
    file: Arc<dyn DiskFile>,
}

impl DiskFile for FullDiskFile {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(bytes, offset)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.disk.pass(DiskOperation::Write)?;
        self.file.write_all_at(bytes, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.disk.pass(DiskOperation::Sync)?;
        self.file.sync_data()
    }
}

#[test]
fn a_migration_that_a_full_disk_ends_says_so_and_works_once_there_is_room() {
    let failures = [
        (DiskOperation::CreateFolder, 0),
        (DiskOperation::Create, 0),
        (DiskOperation::Write, 0),
        (DiskOperation::Write, 10),
        (DiskOperation::Sync, 0),
        (DiskOperation::Sync, 1),
        (DiskOperation::SyncFolder, 0),
    ];
    for (failing, left) in failures {
        let mut store = FormerStore::unpack(PLAIN, &[]);
        let before = files(&store.test_env.store_path());
        store.test_env.deps.disk = Arc::new(FullDisk {
            failing,
            left: Arc::new(AtomicUsize::new(left)),
        });
        let error = store.refusal();
        for part in [
            "cannot migrate the store to format 2",
            "No space left on device",
        ] {
            assert!(error.contains(part), "{failing:?} {left}: {error}");
        }

        let after = files(&store.test_env.store_path());
        assert!(after == before, "{failing:?} {left}: {:?}", after.keys());

        store.test_env.deps.disk = Arc::new(LocalDisk);
        store.check_reads();
    }
}

#[test]
fn a_migration_that_is_cut_short_after_any_step_ends_well_at_the_next_start() {
    type FolderChange<'a> = &'a dyn Fn(&FormerStore, &FormerStore);
    let keep_format = |store: &FormerStore, done: &FormerStore, name: &str| {
        copy(&done.path("journal"), &store.path(name));
    };
    let half_a_copy = |store: &FormerStore, done: &FormerStore| {
        keep_format(store, done, "journal.new");
        let segment = store.path("journal.new/0000000001.segment");
        let bytes = fs::read(&segment).expect("readable");
        fs::write(&segment, &bytes[..bytes.len() / 2]).expect("writes");
    };
    let a_whole_copy = |store: &FormerStore, done: &FormerStore| {
        keep_format(store, done, "journal.new");
        fs::copy(done.path("FORMAT"), store.path("FORMAT.new")).expect("copies");
    };
    let format_written = |store: &FormerStore, done: &FormerStore| {
        keep_format(store, done, "journal.new");
        fs::copy(done.path("FORMAT"), store.path("FORMAT")).expect("copies");
    };
    let set_aside = |store: &FormerStore, done: &FormerStore| {
        format_written(store, done);
        fs::rename(store.path("log"), store.path("log.migrated")).expect("renames");
    };
    let renamed = |store: &FormerStore, done: &FormerStore| {
        set_aside(store, done);
        fs::rename(store.path("journal.new"), store.path("journal")).expect("renames");
    };
    let half_removed = |store: &FormerStore, done: &FormerStore| {
        renamed(store, done);
        fs::remove_file(store.path("log.migrated/db")).expect("there");
    };
    let states: [FolderChange<'_>; 6] = [
        &half_a_copy,
        &a_whole_copy,
        &format_written,
        &set_aside,
        &renamed,
        &half_removed,
    ];

    let done = FormerStore::unpack(PLAIN, &[]);
    done.check_reads();
    for change in states {
        let store = FormerStore::unpack(PLAIN, &[]);
        change(&store, &done);
        store.check_reads();
    }
}

#[test]
fn a_rename_that_fails_is_repeated() {
    let mut store = FormerStore::unpack(PLAIN, &[]);
    store.test_env.deps.disk = Arc::new(FullDisk {
        failing: DiskOperation::RenameFolder,
        left: Arc::new(AtomicUsize::new(0)),
    });
    let error = store.refusal();
    assert!(error.contains("journal.new"), "{error}");
    assert!(store.path("log.migrated/db").is_file());

    store.test_env.deps.disk = Arc::new(LocalDisk);
    store.check_reads();
}

#[test]
fn a_damaged_store_of_format_1_is_refused_and_unchanged() {
    type StoreDamage<'a> = (&'a str, &'a dyn Fn(&FormerStore));
    let replace_format = |from: &'static str, to: &'static str| {
        move |store: &FormerStore| {
            let text = fs::read_to_string(store.path("FORMAT")).expect("text");
            let line = text
                .lines()
                .find(|line| line.starts_with(from))
                .expect("there");
            fs::write(store.path("FORMAT"), text.replace(line, to)).expect("writes");
        }
    };
    let remove = |name: &'static str| {
        move |store: &FormerStore| fs::remove_file(store.path(name)).expect("there")
    };
    let (no_db, no_conf, no_format) = (remove("log/db"), remove("log/conf"), remove("FORMAT"));
    let no_log = |store: &FormerStore| fs::remove_dir_all(store.path("log")).expect("there");
    let emptied = |store: &FormerStore| fs::write(store.path("log/db"), b"").expect("writes");
    let garbled = |store: &FormerStore| {
        let mut bytes = fs::read(store.path("log/db")).expect("readable");
        bytes[4] ^= 1;
        fs::write(store.path("log/db"), bytes).expect("writes");
    };
    let a_blob = |store: &FormerStore| {
        fs::create_dir_all(store.path("log/blobs")).expect("writable");
        fs::write(store.path("log/blobs/1234"), b"a blob").expect("writes");
    };
    let a_journal = |store: &FormerStore| fs::create_dir(store.path("journal")).expect("writes");
    let of_another = replace_format("incarnation", "incarnation = 00000001");
    let perhaps = replace_format("log-begun", "log-begun = perhaps");
    let damages: [StoreDamage<'_>; 10] = [
        ("db is missing", &no_db),
        ("conf is missing", &no_conf),
        ("FORMAT is missing although there is a log", &no_format),
        ("conf is missing", &no_log),
        ("db is empty", &emptied),
        ("no segment of a store at byte 0", &garbled),
        ("blob files", &a_blob),
        ("a journal of format 2 although FORMAT says 1", &a_journal),
        ("does not hold the log that FORMAT names", &of_another),
        ("is not a format file of a store", &perhaps),
    ];
    for (expected, damage) in damages {
        let store = FormerStore::unpack(PLAIN, &[]);
        damage(&store);
        let before = files(&store.test_env.store_path());
        for attempt in 1..=2 {
            let error = store.refusal();
            assert!(
                error.contains(expected),
                "attempt {attempt}: {expected:?} in {error:?}"
            );
            let after = files(&store.test_env.store_path());
            assert!(
                after == before,
                "{expected}: {:?}, {:?}",
                before.keys(),
                after.keys()
            );
        }
    }
}

#[test]
fn a_store_of_format_1_that_was_never_used_becomes_an_empty_one() {
    let store = FormerStore::unpack(PLAIN, &[]);
    let format = fs::read_to_string(store.path("FORMAT")).expect("text");
    let unused = format.replace("log-begun = true", "log-begun = false");
    fs::write(store.path("FORMAT"), unused).expect("writes");
    fs::remove_dir_all(store.path("log")).expect("there");
    run_async(async {
        let node = store.test_env.start().await;
        assert_eq!(node.get("/api/v1/events").await.body["total"], 0);
        assert_eq!(set_status(&node, "SUP-1", "first").await, 1);
        node.stop().await;
    });
    store.check_files();
}

#[test]
fn events_after_the_migration_continue_the_numbers_and_keep_the_old_keys() {
    run_async(async {
        let store = FormerStore::unpack(PLAIN, &[]);
        let node = store.test_env.start().await;
        let last = store.ticket_sequences()["ticket/SUP-1"].len() as u64;
        assert_eq!(node.send_message("SUP-1", "k1").await.status, 409);
        assert_eq!(set_status(&node, "SUP-1", "new").await, last + 1);
        node.stop().await;
    });
}
