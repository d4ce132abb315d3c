//! Opening a data folder: damage is refused before anything is changed, and repairable states are
//! repaired.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;

use hookyard::app::Node;
use hookyard::failpoints::NoFailures;
use hookyard::journal::DataStore;
use serde_json::json;

use crate::failures::{check_timeline, expect_in_time, incompressible_text};
use crate::test_node::{TestClient, TestEnv, run_async};

/// Folder of a stopped node with the tickets SUP-1 and SUP-2, `events` messages of each, and a
/// snapshot of its log.
fn filled_env(events: u64) -> TestEnv {
    let test_env = TestEnv::new(&[]);
    add(&test_env, 1, events);
    // sled writes a snapshot whenever it opens a log with content.
    run_async(async { test_env.start().await.stop().await });
    test_env
}

/// Starts a node, sends the messages from number `first` to `last` of both tickets, and stops it.
fn add(test_env: &TestEnv, first: u64, last: u64) {
    run_async(async {
        let node = test_env.start().await;
        for number in first..=last {
            for ticket in ["SUP-1", "SUP-2"] {
                let answer = node
                    .send_message(ticket, &format!("{ticket}-{number}"))
                    .await;
                assert_eq!((answer.status, answer.sequence()), (202, number));
            }
        }
        node.stop().await;
    });
}

/// Checks the messages of [`add`], up to number `last`.
async fn all_are_there(client: &TestClient, last: u64) {
    for ticket in ["SUP-1", "SUP-2"] {
        let keys: Vec<_> = (1..=last)
            .map(|number| format!("{ticket}-{number}"))
            .collect();
        check_timeline(client, ticket, &keys, &[]).await;
        assert_eq!(client.send_message(ticket, &keys[0]).await.status, 409);
    }
}

/// Returns the error of starting a node on `test_env`, with its chain.
fn refusal(test_env: &TestEnv) -> String {
    run_async(async {
        match expect_in_time(Node::start(test_env.config(), test_env.deps.clone())).await {
            Ok(_) => panic!("the node started"),
            Err(error) => chain(&error),
        }
    })
}

fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

/// Returns every file under `folder` with its bytes, except our lock file, which is not part of the
/// store.
fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.append(&mut files(&path));
        } else if !path.ends_with("LOCK") {
            found.insert(path.clone(), fs::read(&path).expect("readable"));
        }
    }
    found
}

/// Checks that starting on the folder of `test_env` fails twice with an error that contains all of
/// `told`, and that the folder is unchanged.
fn assert_refused(test_env: &TestEnv, expected_texts: &[&str]) {
    let before = files(&test_env.store_path());
    for attempt in 1..=2 {
        let error = refusal(test_env);
        for part in expected_texts {
            assert!(
                error.contains(part),
                "attempt {attempt}: {part:?} is not in {error:?}"
            );
        }
        let after = files(&test_env.store_path());
        assert!(
            before.keys().eq(after.keys()),
            "{:?} became {:?}",
            before.keys(),
            after.keys()
        );
        let changed: Vec<_> = before
            .keys()
            .filter(|path| before[*path] != after[*path])
            .collect();
        assert!(changed.is_empty(), "attempt {attempt} changed {changed:?}");
    }
}

fn overwrite(file: &Path, offset: u64, bytes: &[u8]) {
    let mut file = fs::File::options().write(true).open(file).expect("there");
    file.seek(SeekFrom::Start(offset)).expect("seeks");
    file.write_all(bytes).expect("writes");
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder");
    for entry in fs::read_dir(from).expect("a folder") {
        let path = entry.expect("an entry").path();
        let target = to.join(path.file_name().expect("a name"));
        if path.is_dir() {
            copy(&path, &target);
        } else {
            fs::copy(&path, &target).expect("copies");
        }
    }
}

/// Returns the snapshot files of the log in the data folder `store`.
fn snapshots(store: &Path) -> Vec<PathBuf> {
    let log = fs::read_dir(store.join("log")).expect("a folder");
    let paths = log.map(|entry| entry.expect("an entry").path());
    paths
        .filter(|path| {
            path.file_name()
                .is_some_and(|name| name.to_string_lossy().starts_with("snap."))
        })
        .collect()
}

#[test]
fn a_store_of_a_newer_format_is_refused() {
    let test_env = filled_env(3);
    let file = test_env.store_path().join("FORMAT");
    let format = fs::read_to_string(&file).expect("text");
    let newer = format.replace("hookyard-store-format = 1", "hookyard-store-format = 2");
    assert_ne!(format, newer);
    fs::write(&file, newer).expect("writes");
    assert_refused(
        &test_env,
        &[
            "FORMAT",
            "format 2",
            "start the newer hookyard that wrote it",
        ],
    );

    fs::write(&file, format).expect("writes");
    run_async(async {
        let node = test_env.start().await;
        all_are_there(&node, 3).await;
        node.stop().await;
    });
}

#[test]
fn a_format_file_that_is_none_is_refused() {
    let test_env = filled_env(1);
    let file = test_env.store_path().join("FORMAT");
    let whole = fs::read(&file).expect("readable");
    let garbage: [&[u8]; 6] = [
        b"",
        b"\xff\xfe garbage \x00",
        &whole[..whole.len() / 2],
        b"hookyard-store-format = one\nincarnation = 00000001\nlog-begun = true\n",
        b"hookyard-store-format = 1\nincarnation = none\nlog-begun = true\n",
        b"hookyard-store-format = 1\nincarnation = 00000001\nlog-begun = perhaps\n",
    ];
    for bytes in garbage {
        fs::write(&file, bytes).expect("writes");
        assert_refused(
            &test_env,
            &[
                "FORMAT",
                "is not a format file of a store",
                "restore it from a backup",
            ],
        );
    }
}

#[test]
fn a_missing_format_file_beside_a_log_is_refused() {
    let test_env = filled_env(1);
    fs::remove_file(test_env.store_path().join("FORMAT")).expect("there");
    assert_refused(
        &test_env,
        &[
            "FORMAT is missing although there is a log beside it",
            "restore it from a backup",
        ],
    );
}

#[test]
fn a_log_without_one_of_its_files_is_refused() {
    for missing in ["db", "conf"] {
        let test_env = filled_env(1);
        fs::remove_file(test_env.store_path().join("log").join(missing)).expect("there");
        assert_refused(
            &test_env,
            &[
                &format!("log/{missing} is missing"),
                "restore the data folder from a backup",
            ],
        );
    }
    let test_env = filled_env(1);
    fs::remove_dir_all(test_env.store_path().join("log")).expect("there");
    assert_refused(
        &test_env,
        &[
            "log/conf is missing",
            "restore the data folder from a backup",
        ],
    );
}

#[test]
fn a_log_with_emptied_or_overwritten_files_is_refused() {
    let empty_db = |log: &Path| fs::write(log.join("db"), b"").expect("writes");
    let zero_db = |log: &Path| fs::write(log.join("db"), vec![0; 2 << 20]).expect("writes");
    let garbage_conf = |log: &Path| {
        fs::write(log.join("conf"), b"\x07 not a configuration \xff\n").expect("writes")
    };
    type StoreDamage<'a> = (&'a str, &'a dyn Fn(&Path));
    let damages: [StoreDamage<'_>; 3] = [
        ("log/db", &empty_db),
        ("log/db", &zero_db),
        ("log", &garbage_conf),
    ];
    for (named, damage) in damages {
        let test_env = filled_env(1);
        damage(&test_env.store_path().join("log"));
        assert_refused(&test_env, &[named, "restore"]);
    }
}

/// The file's only content is known anyway when the store is opened.
#[test]
fn an_emptied_conf_is_written_again() {
    let test_env = filled_env(2);
    let conf = test_env.store_path().join("log/conf");
    let whole = fs::read(&conf).expect("readable");
    fs::write(&conf, b"").expect("writes");
    run_async(async {
        let node = test_env.start().await;
        all_are_there(&node, 2).await;
        node.stop().await;
    });
    assert_eq!(fs::read(&conf).expect("readable"), whole);
}

#[test]
fn a_segment_that_is_none_is_refused() {
    let test_env = filled_env(20);
    let db = test_env.store_path().join("log/db");
    let whole = fs::read(&db).expect("readable");
    for (offset, bytes) in [(0, [0xa5; 20].as_slice()), (4, &[1]), (19, &[9])] {
        overwrite(&db, offset, bytes);
        assert_refused(
            &test_env,
            &[
                "log/db",
                "the segment at byte 0 is not a segment",
                "restore the data folder",
            ],
        );
        fs::write(&db, &whole).expect("writes");
    }
    run_async(async {
        let node = test_env.start().await;
        all_are_there(&node, 20).await;
        node.stop().await;
    });
}

#[test]
fn a_blob_file_is_refused() {
    let test_env = filled_env(1);
    let blobs = test_env.store_path().join("log/blobs");
    fs::create_dir_all(&blobs).expect("a folder");
    fs::write(blobs.join("1234"), b"a blob").expect("writes");
    assert_refused(
        &test_env,
        &["log/blobs/1234", "restore the data folder from a backup"],
    );
}

#[test]
fn the_log_of_another_store_is_refused() {
    // Ten and twenty, so that each is the longer one once.
    let (test_env, other) = (filled_env(10), filled_env(20));
    let (ours, theirs) = (
        test_env.store_path().join("log"),
        other.store_path().join("log"),
    );
    let aside = test_env.store_path().join("ours");
    fs::rename(&ours, &aside).expect("renames");
    fs::rename(&theirs, &ours).expect("renames");
    fs::rename(&aside, &theirs).expect("renames");
    for test_env in [&test_env, &other] {
        assert_refused(
            test_env,
            &[
                "log",
                "does not hold the log that FORMAT names",
                "restore the data folder from a backup",
            ],
        );
    }
}

#[test]
fn a_store_in_use_is_refused_to_others_and_goes_on() {
    run_async(async {
        let test_env = TestEnv::new(&[]);
        let node = test_env.start().await;
        let accepted = node.send_message("SUP-1", "SUP-1-1").await;
        let Err(error) = Node::start(test_env.config(), test_env.deps.clone()).await else {
            panic!("the node started")
        };
        let text = chain(&error);
        assert!(
            text.contains("is in use by another process") && text.contains("store.path"),
            "{text}"
        );
        let second = run_tool(&test_env, &["serve"]);
        assert!(!second.status.success());
        assert!(
            String::from_utf8_lossy(&second.stderr).contains("is in use by another process"),
            "{second:?}"
        );
        assert_eq!(node.send_message("SUP-1", "SUP-1-2").await.sequence(), 2);
        check_timeline(
            &node,
            "SUP-1",
            &["SUP-1-1", "SUP-1-2"].map(String::from),
            &[accepted],
        )
        .await;
        node.stop().await;
        test_env.start().await.stop().await;
    });
}

/// Runs a command of the binary on the store of `test_env`.
pub fn run_tool(test_env: &TestEnv, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_hookyard"))
        .args(arguments)
        .env("HOOKYARD_STORE__PATH", test_env.store_path())
        .env("HOOKYARD_SERVER__BIND", "127.0.0.1:0")
        .env("HOOKYARD_ADMIN__TOKEN", "test-token")
        .output()
        .expect("the binary runs")
}

#[test]
fn a_refused_store_ends_the_command_with_an_error_that_says_what_to_do() {
    let test_env = filled_env(1);
    fs::write(
        test_env.store_path().join("FORMAT"),
        "hookyard-store-format = 9\nincarnation = 1\nlog-begun = true\n",
    )
    .expect("writes");
    for command in ["serve", "rebuild"] {
        let output = run_tool(&test_env, &[command]);
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{command}");
        assert!(
            told.contains("FORMAT says format 9") && told.contains("start the newer hookyard"),
            "{command}: {told}"
        );
    }
}

#[test]
fn a_snapshot_of_the_log_that_cannot_be_used_is_set_aside_and_all_events_are_there() {
    let truncate = |snapshot: &Path| {
        let bytes = fs::read(snapshot).expect("readable");
        fs::write(snapshot, &bytes[..bytes.len() / 2]).expect("writes");
    };
    let empty = |snapshot: &Path| fs::write(snapshot, b"").expect("writes");
    let garble = |snapshot: &Path| {
        let middle = fs::metadata(snapshot).expect("there").len() / 2;
        overwrite(snapshot, middle, b"garbage");
    };
    let damages: [&dyn Fn(&Path); 3] = [&truncate, &empty, &garble];
    for damage in damages {
        let test_env = filled_env(20);
        let snapshot = snapshots(&test_env.store_path())
            .pop()
            .expect("a started node writes a snapshot");
        damage(&snapshot);
        let damaged = fs::read(&snapshot).expect("readable");
        run_async(async {
            let node = test_env.start().await;
            all_are_there(&node, 20).await;
            assert_eq!(node.send_message("SUP-1", "more").await.sequence(), 21);
            node.stop().await;
        });
        let aside = test_env
            .store_path()
            .join("set-aside")
            .join(snapshot.file_name().expect("a name"));
        assert_eq!(fs::read(aside).expect("set aside"), damaged);
        run_async(async {
            let node = test_env.start().await;
            assert_eq!(node.send_message("SUP-1", "more").await.status, 409);
            node.stop().await;
        });
    }
}

/// An abrupt stop of a machine can leave this state: the snapshot reached the disk, the end of the
/// log did not.
#[test]
fn a_snapshot_that_is_ahead_of_its_log_is_set_aside_and_the_log_counts() {
    // Large events before and after the state that the log returns to; 25 fill a segment.
    for (before, after) in [(0, 3), (0, 100), (80, 3), (80, 80)] {
        let test_env = filled_env(5);
        add_large(&test_env, 1, before);
        let older = test_env.folder.path().join("older");
        copy(&test_env.store_path(), &older);
        add_large(&test_env, before + 1, before + after);
        run_async(async { test_env.start().await.stop().await });
        let ahead = snapshots(&test_env.store_path())
            .pop()
            .expect("a started node writes a snapshot");
        for own in snapshots(&older) {
            fs::remove_file(own).expect("there");
        }
        let name = ahead.file_name().expect("a name").to_owned();
        fs::copy(&ahead, older.join("log").join(&name)).expect("copies");
        fs::remove_dir_all(test_env.store_path()).expect("there");
        fs::rename(&older, test_env.store_path()).expect("renames");

        run_async(async {
            let node = test_env.start().await;
            all_are_there(&node, 5).await;
            let listed = node.get("/api/v1/events?entity=SUP-large").await;
            assert_eq!(
                listed.body["total"], before,
                "{before} before, {after} after"
            );
            assert_eq!(node.fetch_timeline("SUP-large").await.len() as u64, before);
            assert_eq!(
                node.send_message("SUP-large", "next").await.sequence(),
                before + 1
            );
            node.stop().await;
        });
        assert!(
            test_env.store_path().join("set-aside").join(name).is_file(),
            "{before} before, {after} after"
        );
    }
}

/// Sends the events from number `first` to `last` of a ticket with large events.
fn add_large(test_env: &TestEnv, first: u64, last: u64) {
    run_async(async {
        let node = test_env.start().await;
        for number in first..=last {
            let data = json!({"message_id": "large", "text": incompressible_text(40_000)});
            let answer = node
                .send(
                    "SUP-large",
                    &format!("large-{number}"),
                    "message.created",
                    data,
                )
                .await;
            assert_eq!((answer.status, answer.sequence()), (202, number));
        }
        node.stop().await;
    });
}

#[test]
fn a_folder_without_a_log_is_initialized_again() {
    let test_env = TestEnv::new(&[]);
    drop(DataStore::open(&test_env.store_path(), 1 << 20, Arc::new(NoFailures)).expect("opens"));
    let file = test_env.store_path().join("FORMAT");
    let begun = fs::read_to_string(&file).expect("text");
    assert!(begun.contains("log-begun = true"), "{begun}");
    // State after a crash between the first FORMAT and the first sync.
    fs::write(
        &file,
        begun.replace("log-begun = true", "log-begun = false"),
    )
    .expect("writes");
    fs::remove_dir_all(test_env.store_path().join("log")).expect("there");
    add(&test_env, 1, 2);
    assert_eq!(
        fs::read_to_string(&file).expect("text"),
        begun,
        "it is the same store"
    );
}

#[test]
fn only_the_owner_can_read_the_data_folder() {
    let test_env = filled_env(1);
    let mode = |path: &Path| fs::metadata(path).expect("there").permissions().mode() & 0o777;
    assert_eq!(mode(&test_env.store_path()), 0o700);
}

/// Regression: the started threads kept the store open, so the next start found it in use.
#[test]
fn a_start_that_fails_leaves_nothing_running() {
    let test_env = filled_env(1);
    run_async(async {
        {
            let store = DataStore::open(&test_env.store_path(), 1 << 20, Arc::new(NoFailures))
                .expect("opens");
            // Cursor beyond the journal's end.
            let tree = store.tree("projection").expect("a tree");
            tree.insert([1_u8], &br#"{"position": 999, "births": {}}"#[..])
                .expect("puts");
            store.sync().expect("syncs");
        }
        for attempt in 0..2 {
            let Err(error) = Node::start(test_env.config(), test_env.deps.clone()).await else {
                panic!("damaged")
            };
            assert!(
                matches!(error, hookyard::app::NodeError::Projection(_)),
                "attempt {attempt}: {error:?}"
            );
        }
    });
}

#[test]
fn a_damaged_call_log_is_begun_anew_and_keeps_no_event_from_being_served() {
    let test_env = filled_env(1);
    {
        let store =
            DataStore::open(&test_env.store_path(), 1 << 20, Arc::new(NoFailures)).expect("opens");
        let tree = store.tree("exchange").expect("a tree");
        assert!(!tree.is_empty(), "there were calls");
        // Damaged summary of a block.
        tree.insert([2_u8, 0, 0, 0, 0, 0, 0, 0, 0, 9], &b"?"[..])
            .expect("puts");
        store.sync().expect("syncs");
    }
    run_async(async {
        let node = test_env.start().await;
        assert_eq!(node.get("/api/v1/webhooks/logs").await.body["total"], 0);
        assert_eq!(node.send_message("SUP-1", "next").await.sequence(), 2);
        assert_eq!(node.get("/api/v1/webhooks/logs").await.body["total"], 1);
        node.stop().await;
    });
}
