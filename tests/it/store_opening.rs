//! Opening a data folder: damage of the journal is refused before anything is changed.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use hookyard::app::Node;

use crate::crashes::open_derived;
use crate::failures::{check_timeline, expect_in_time};
use crate::test_node::{TOKEN, TestClient, TestEnv, run_async};

/// Folder of a stopped node with the tickets SUP-1 and SUP-2, and `events` messages of each.
fn filled_env(events: u64) -> TestEnv {
    let test_env = TestEnv::new(&[]);
    add(&test_env, 1, events);
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
pub fn refusal(test_env: &TestEnv) -> String {
    run_async(async {
        match expect_in_time(Node::start(test_env.config(), test_env.deps.clone())).await {
            Ok(_) => panic!("the node started"),
            Err(error) => chain(&error),
        }
    })
}

/// Returns the texts of `error` and its sources, outermost first.
pub fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

/// Returns every file under `folder` with its bytes, except the lock file and the derived data,
/// which hold nothing that could be lost.
fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.ends_with("derived") {
            continue;
        }
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

fn flip_byte(file: &Path, offset: u64) {
    let file = fs::File::options()
        .read(true)
        .write(true)
        .open(file)
        .expect("there");
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).expect("reads");
    file.write_all_at(&[byte[0] ^ 0x10], offset)
        .expect("writes");
}

fn segment(test_env: &TestEnv, number: u64) -> PathBuf {
    let name = format!("{number:010}.segment");
    test_env.store_path().join("journal").join(name)
}

#[test]
fn a_store_of_a_newer_format_is_refused() {
    let test_env = filled_env(3);
    let file = test_env.store_path().join("FORMAT");
    let format = fs::read_to_string(&file).expect("text");
    let newer = format.replace("hookyard-store-format = 2", "hookyard-store-format = 3");
    assert_ne!(format, newer);
    fs::write(&file, newer).expect("writes");
    assert_refused(
        &test_env,
        &[
            "FORMAT",
            "format 3",
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
    let garbage: [&[u8]; 7] = [
        b"",
        b"\xff\xfe garbage \x00",
        &whole[..whole.len() / 2],
        b"hookyard-store-format = one\nincarnation = 00000001\nchecksum-seed = 00000001\n",
        b"hookyard-store-format = 2\nincarnation = none\nchecksum-seed = 00000001\n",
        b"hookyard-store-format = 2\nincarnation = 00000001\nchecksum-seed = none\n",
        b"hookyard-store-format = 2\nincarnation = 00000001\n",
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
fn a_missing_format_file_beside_a_journal_is_refused() {
    let test_env = filled_env(1);
    fs::remove_file(test_env.store_path().join("FORMAT")).expect("there");
    assert_refused(
        &test_env,
        &[
            "FORMAT is missing although there are events",
            "restore it from a backup",
        ],
    );
}

#[test]
fn a_store_without_its_journal_is_refused() {
    let test_env = filled_env(1);
    let journal = test_env.store_path().join("journal");
    for entry in fs::read_dir(&journal).expect("a folder") {
        fs::remove_file(entry.expect("an entry").path()).expect("there");
    }
    assert_refused(
        &test_env,
        &["journal holds no journal", "restore the data folder"],
    );
    fs::remove_dir(&journal).expect("empty");
    assert_refused(&test_env, &["journal holds no journal"]);
}

#[test]
fn a_segment_with_a_changed_byte_is_refused_and_named() {
    let test_env = filled_env(20);
    let file = segment(&test_env, 1);
    let used = fs::read(&file).expect("readable");
    let used = used.iter().rposition(|byte| *byte != 0).expect("content") as u64;
    // Header, first block, somewhere in the middle. The last block says only that all others are
    // there.
    for offset in [3, 40, 64, 70, 100, used / 3, used / 2, used - 150] {
        flip_byte(&file, offset);
        assert_refused(
            &test_env,
            &["0000000001.segment", "damaged", "restore it from a backup"],
        );
        flip_byte(&file, offset);
    }
    run_async(async {
        let node = test_env.start().await;
        all_are_there(&node, 20).await;
        node.stop().await;
    });
}

#[test]
fn the_journal_of_another_store_is_refused() {
    let (test_env, other) = (filled_env(10), filled_env(20));
    let (ours, theirs) = (segment(&test_env, 1), segment(&other, 1));
    let (our_bytes, their_bytes) = (
        fs::read(&ours).expect("readable"),
        fs::read(&theirs).expect("readable"),
    );
    fs::write(&ours, their_bytes).expect("writes");
    fs::write(&theirs, our_bytes).expect("writes");
    for test_env in [&test_env, &other] {
        assert_refused(
            test_env,
            &[
                "0000000001.segment belongs to another store",
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
        .env("HOOKYARD_ADMIN__TOKEN", TOKEN)
        .output()
        .expect("the binary runs")
}

#[test]
fn a_refused_store_ends_the_command_with_an_error_that_says_what_to_do() {
    let test_env = filled_env(1);
    fs::write(
        test_env.store_path().join("FORMAT"),
        "hookyard-store-format = 9\nincarnation = 1\nchecksum-seed = 1\n",
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
            // Cursor beyond the journal's end.
            let store = open_derived(&test_env);
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
        let store = open_derived(&test_env);
        let tree = store.tree("exchange").expect("a tree");
        assert!(tree.iter().next().is_some(), "there were calls");
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
