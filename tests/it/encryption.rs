//! Encryption of what is stored: with a key, no file holds what an event said, and keys can be set,
//! changed and removed while everything stays readable.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::dead_letters::wait_for_letters;
use crate::deliveries::subscribe;
use crate::erasure::{NAME, files_with};
use crate::receiver::{ReceiverReply, TestReceiver};
use crate::retention::{
    MAX_BYTES, QUIET, ROUND_TIME, accepted, bounded_env, read_everything, send_round,
    wait_until_removed,
};
use crate::test_node::{TOKEN, TestEnv, run_async};

fn key(byte: u8) -> String {
    STANDARD.encode([byte; 32])
}

/// Store whose base file, segments, derived rows and call log hold the content of events.
struct FilledStore {
    test_env: TestEnv,
    reads: BTreeMap<String, String>,
}

impl FilledStore {
    /// Fills a store that is encrypted with `key` unless it is empty.
    fn new(key: &str) -> Self {
        let (mut test_env, clock) = bounded_env(MAX_BYTES);
        test_env.set("store.encryption_key", key);
        let reads = run_async(async {
            let receiver = TestReceiver::start(|request| {
                let is_refused =
                    request.event() == "message.created" && request.entity().ends_with("9");
                ReceiverReply::Status(if is_refused { 400 } else { 200 })
            })
            .await;
            let node = test_env.start().await;
            subscribe(&node, receiver.url("/all"), json!({})).await;
            let data = json!({"message_id": "dead", "text": format!("I am {NAME}")});
            accepted(node.send("SUP-9", "dead", "message.created", data).await);
            let unknown = json!({"message_id": format!("no {NAME}"), "text": "none"});
            accepted(
                node.send("SUP-9", "failed", "message.updated", unknown)
                    .await,
            );
            wait_for_letters(&node, 1).await;
            let first = send_round(&node, 0).await;
            for round in 1..12 {
                clock.advance(ROUND_TIME);
                send_round(&node, round).await;
            }
            wait_until_removed(&node, &first[0].event_id()).await;
            let data = json!({"message_id": "late", "text": format!("I am still {NAME}")});
            accepted(node.send(QUIET, "late", "message.created", data).await);
            let reads = reads_of(&node).await;
            node.stop().await;
            reads
        });
        assert!(test_env.store_path().join("journal/BASE").exists());
        Self { test_env, reads }
    }

    /// Sets the key and the former keys of the next starts and commands.
    fn set_keys(&mut self, key: &str, former: &str) {
        self.test_env.set("store.encryption_key", key);
        self.test_env.set("store.former_encryption_keys", former);
    }

    fn files_with_content(&self) -> Vec<String> {
        files_with(&self.test_env.store_path(), NAME)
    }

    /// Starts a node and compares its reads with the recorded ones.
    fn assert_unchanged(&self, place: &str) {
        run_async(async {
            let node = self.test_env.start().await;
            let reads = reads_of(&node).await;
            for (path, answer) in &self.reads {
                assert_eq!(reads[path], *answer, "{place}: {path}");
            }
            node.stop().await;
        });
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let config = self.test_env.config().store;
        let keys = [
            &config.encryption_key.into_iter().collect(),
            &config.former_encryption_keys,
        ];
        let [current, former] = keys.map(|keys: &Vec<_>| {
            let keys: Vec<_> = keys
                .iter()
                .map(|key| STANDARD.encode(key.expose()))
                .collect();
            keys.join(",")
        });
        Command::new(env!("CARGO_BIN_EXE_hookyard"))
            .args(arguments)
            .env("HOOKYARD_STORE__PATH", config.path)
            .env("HOOKYARD_STORE__ENCRYPTION_KEY", current)
            .env("HOOKYARD_STORE__FORMER_ENCRYPTION_KEYS", former)
            .env("HOOKYARD_SERVER__BIND", "127.0.0.1:0")
            .env("HOOKYARD_ADMIN__TOKEN", TOKEN)
            .output()
            .expect("the binary runs")
    }

    fn succeed(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8(output.stdout).expect("text")
    }

    fn fail(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {output:?}");
        String::from_utf8(output.stderr).expect("text")
    }
}

/// Answers of all reads that do not change by themselves.
async fn reads_of(client: &crate::test_node::TestClient) -> BTreeMap<String, String> {
    let mut reads = read_everything(client).await;
    for path in [
        "entities/ticket/SUP-9",
        "entities/ticket/SUP-quiet",
        "dead-letters/1",
    ] {
        let answer = client.get(&format!("/api/v1/{path}")).await;
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
        assert!(answer.text.contains(NAME), "{path}: {answer:?}");
        reads.insert(path.to_owned(), answer.text);
    }
    reads
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a readable path")
}

#[test]
fn with_a_key_no_file_holds_what_events_said_and_every_read_is_the_same() {
    let plain = FilledStore::new("");
    assert!(
        !plain.files_with_content().is_empty(),
        "this test could not fail"
    );

    let encrypted = FilledStore::new(&key(7));
    assert_eq!(encrypted.files_with_content(), Vec::<String>::new());
    encrypted.assert_unchanged("after a restart");
    fs::remove_dir_all(encrypted.test_env.store_path().join("derived")).expect("removes");
    encrypted.assert_unchanged("derived again");
    assert_eq!(encrypted.files_with_content(), Vec::<String>::new());
}

#[test]
fn a_key_is_set_changed_and_removed_later_and_compact_leaves_nothing_of_the_former_state() {
    let mut store = FilledStore::new("");
    store.set_keys(&key(7), "");
    store.assert_unchanged("a key was set");
    assert!(!store.files_with_content().is_empty(), "not compacted yet");
    let told = store.succeed(&["compact"]);
    assert!(told.contains("everything stored is encrypted"), "{told}");
    assert_eq!(store.files_with_content(), Vec::<String>::new());
    store.assert_unchanged("compacted");
    let report: Value = serde_json::from_str(&store.succeed(&["verify", "--json"])).expect("JSON");
    assert_eq!(report["outdated_blocks"], json!(0), "{report}");

    store.set_keys(&key(8), "");
    let told = store.fail(&["compact"]);
    assert!(
        told.contains("set the key that it was encrypted with"),
        "{told}"
    );
    // The content is whole, and the key can still be set.
    let report: Value = serde_json::from_str(&store.succeed(&["verify", "--json"])).expect("JSON");
    assert_eq!(report["is_whole"], json!(true), "{report}");
    assert!(report["encrypted_parts"].as_u64() > Some(1), "{report}");
    let output = store.run(&["doctor"]);
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(
        told.contains("encrypted with a key that is not configured"),
        "{told}"
    );
    assert!(!told.contains("damaged"), "{told}");
    store.set_keys(&key(8), &key(7));
    store.assert_unchanged("another key was set");
    store.succeed(&["compact"]);
    store.set_keys(&key(8), "");
    store.assert_unchanged("with the new key alone");
    assert!(
        store.succeed(&["compact"]).starts_with("0 of "),
        "nothing to do twice"
    );

    store.set_keys("", "");
    let told = store.fail(&["rebuild"]);
    assert!(told.contains("store.encryption_key is not set"), "{told}");
    store.set_keys("", &key(8));
    store.succeed(&["compact"]);
    assert!(!store.files_with_content().is_empty(), "it is plain again");
    store.set_keys("", "");
    store.assert_unchanged("without a key");
}

#[test]
fn a_backup_of_an_encrypted_store_is_encrypted_and_its_checksums_need_no_key() {
    let mut store = FilledStore::new(&key(7));
    let folder = tempfile::tempdir().expect("a folder");
    let (archive, restored) = (
        folder.path().join("a.backup"),
        folder.path().join("restored"),
    );
    store.succeed(&["backup", text(&archive)]);
    assert_eq!(files_with(folder.path(), NAME), Vec::<String>::new());

    store.set_keys("", "");
    let report = store.succeed(&["verify", "--json", text(&archive)]);
    let report: Value = serde_json::from_str(&report).expect("JSON");
    assert_eq!(report["is_whole"], json!(true), "{report}");
    assert_eq!(report["is_content_checked"], json!(false), "{report}");
    let told = store.fail(&["restore", text(&archive), "--data", text(&restored)]);
    assert!(told.contains("store.encryption_key is not set"), "{told}");

    store.set_keys(&key(8), &key(7));
    store.succeed(&["restore", text(&archive), "--data", text(&restored)]);
    assert_eq!(files_with(folder.path(), NAME), Vec::<String>::new());

    // The base file is restored as it was in the backup.
    store.test_env.set("store.path", text(&restored));
    store.succeed(&["verify"]);
    store.succeed(&["compact"]);
    store.set_keys(&key(8), "");
    store.succeed(&["verify"]);
    store.assert_unchanged("restored");
}
