//! The binary's commands, run as a person would run them.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::thread::{self, JoinHandle};

use reqwest::Client;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::failures::DiskFailure;
use crate::logged_secrets::TestSecrets;
use crate::test_node::{SUPPORT, TOKEN, TestClient, TestEnv, expect_soon, free_port, run_async};

pub const BINARY: &str = env!("CARGO_BIN_EXE_hookyard");

/// Command for `program` as started in `folder` from a terminal with an empty environment.
pub fn command_in(program: impl AsRef<Path>, folder: &Path) -> Command {
    let mut command = Command::new(program.as_ref());
    command
        .current_dir(folder)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command
}

pub fn hookyard(folder: &Path, words: &[&str]) -> Command {
    let mut command = command_in(BINARY, folder);
    command.args(words);
    command
}

/// Returns exit code, standard output and standard error.
pub fn output_of(command: &mut Command) -> (Option<i32>, String, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = command.output().expect("it starts");
    (
        status.code(),
        String::from_utf8(stdout).expect("text"),
        String::from_utf8(stderr).expect("text"),
    )
}

pub fn send_signal(child: &Child, name: &str) {
    let sent = Command::new("kill")
        .args([format!("-{name}"), child.id().to_string()])
        .status()
        .expect("kill starts");
    assert!(sent.success(), "kill -{name}: {sent}");
}

pub fn folder() -> TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

/// A core dump would hold every secret. The kernel gives the files of a process that leaves none to root.
#[test]
fn a_node_leaves_no_core_dump() {
    const NOBODY: u32 = 65_534;
    let test_env = TestEnv::new(&[]);
    let port = free_port();
    let mut command = test_env.serve_command(port);
    if fs::metadata("/proc/self").expect("Linux").uid() == 0 {
        chown(test_env.folder.path(), Some(NOBODY), Some(NOBODY)).expect("root may");
        command.uid(NOBODY).gid(NOBODY);
    }
    let mut node = test_env.wait_for_process(command, port);
    let environment = fs::metadata(format!("/proc/{}/environ", node.child.id()));
    assert_eq!(environment.expect("it runs").uid(), 0);
    node.kill();
}

#[test]
fn the_help_of_every_command_has_an_example() {
    let folder = folder();
    let commands: [&[&str]; 19] = [
        &[],
        &["serve"],
        &["check"],
        &["send"],
        &["listen"],
        &["entity"],
        &["entity", "erase"],
        &["entity", "export"],
        &["secret"],
        &["secret", "new"],
        &["backup"],
        &["restore"],
        &["verify"],
        &["doctor"],
        &["rebuild"],
        &["bench"],
        &["guide"],
        &["jobs", "show"],
        &["webhooks", "edit"],
    ];
    for words in commands {
        let (code, help, error) = output_of(hookyard(folder.path(), words).arg("--help"));
        assert_eq!((code, error.as_str()), (Some(0), ""), "{words:?}");
        let example = help
            .lines()
            .rev()
            .find(|line| line.contains("hookyard "))
            .unwrap_or_default();
        assert!(
            example.starts_with("  ") && example.contains(words.first().unwrap_or(&"serve --dev")),
            "{help}"
        );
    }
    let (code, output, error) = output_of(&mut hookyard(folder.path(), &["sreve"]));
    assert_eq!((code, output.as_str()), (Some(2), ""));
    assert!(error.contains("serve"), "{error}");
    assert_eq!(
        fs::read_dir(folder.path()).expect("it is there").count(),
        0,
        "no command makes a file by being asked"
    );
}

#[test]
fn check_reports_every_problem_with_its_place_and_the_nearest_key() {
    let folder = folder();
    let text = "[server]\nbnid = \"127.0.0.1:1\"\nworkers = \"many\"\nbind = \"localhost\"\n\n[sorces.support]\nenabled = true\n\n\
                [store]\nsync = \"never\"\n\n[router]\nbody_limit_bytes = 5\n\n[sources.support]\nenabled = true\n";
    fs::write(folder.path().join("bad.toml"), text).expect("writable");
    let mut command = hookyard(folder.path(), &["check", "--config", "bad.toml"]);
    let (code, output, error) = output_of(command.env("HOOKYARD_SERVER__WORKRES", "2"));
    assert_eq!((code, output.as_str()), (Some(1), ""));
    let places = [
        "bad.toml:2: unknown key `server.bnid`; the nearest is `server.bind`",
        "bad.toml:3: server.workers: expected a whole number, found a string",
        "bad.toml:4: server.bind: expected an IP address and a port",
        "bad.toml:6: unknown section `sorces`; the nearest is `sources`",
        "bad.toml:10: store.sync: expected \"commit\" or \"interval\", found \"never\"",
        "bad.toml:13: unknown key `router.body_limit_bytes`; the nearest is `server.body_limit_bytes`",
        "bad.toml: admin.token: missing",
        "bad.toml:16: sources.support.api_keys: missing",
        "bad.toml:16: sources.support.secrets: missing",
        "HOOKYARD_SERVER__WORKRES: sets the unknown key `server.workres`; the nearest is `server.workers`",
    ];
    for place in places {
        assert!(
            error
                .lines()
                .any(|line| line.trim_start().starts_with(place)),
            "no {place} in\n{error}"
        );
    }
    assert!(error.contains("10 problems"), "{error}");
}

#[test]
fn check_sums_up_a_good_file_and_shows_no_secret() {
    let folder = folder();
    let text = "[admin]\ntoken = \"hunter2hunter2hunter2hunter2\"\n[sources.support]\nenabled = true\napi_keys = [\"hunter2hunter2hunter2hunter2\"]\nsecrets = [\"hunter2hunter2hunter2hunter2\"]\n";
    fs::write(folder.path().join("good.toml"), text).expect("writable");
    let (code, output, error) = output_of(&mut hookyard(
        folder.path(),
        &["check", "--config", "good.toml"],
    ));
    assert_eq!((code, error.as_str()), (Some(0), ""));
    assert!(
        output.contains("valid")
            && output.contains("127.0.0.1:8080")
            && !output.contains("hunter2"),
        "{output}"
    );
    assert!(
        !folder.path().join("hookyard-data").exists(),
        "nothing is made by checking"
    );
    let (code, _, error) = output_of(&mut hookyard(
        folder.path(),
        &["check", "--config", "none.toml"],
    ));
    assert_eq!(code, Some(1));
    assert!(error.contains("none.toml: cannot be read"), "{error}");
}

#[test]
fn serve_without_secrets_names_each_key_and_its_variable() {
    let folder = folder();
    let mut command = hookyard(folder.path(), &["serve"]);
    let (code, output, error) =
        output_of(command.env("HOOKYARD_SOURCES__SUPPORT__ENABLED", "true"));
    assert_eq!((code, output.as_str()), (Some(1), ""));
    for (key, variable) in [
        ("admin.token", "HOOKYARD_ADMIN__TOKEN"),
        (
            "sources.support.api_keys",
            "HOOKYARD_SOURCES__SUPPORT__API_KEYS",
        ),
        (
            "sources.support.secrets",
            "HOOKYARD_SOURCES__SUPPORT__SECRETS",
        ),
    ] {
        let names_both =
            |line: &str| line.contains(&format!("{key}: missing")) && line.contains(variable);
        assert!(error.lines().any(names_both), "no {key} in\n{error}");
    }
    assert!(error.contains("hookyard secret new"), "{error}");
    assert!(!folder.path().join("hookyard-data").exists());
}

/// Development node with the two lines that it printed to paste; killed when dropped.
pub struct DevNode {
    child: Child,
    pub send: String,
    read: String,
    secrets: TestSecrets,
    log: Option<JoinHandle<String>>,
}

impl DevNode {
    pub fn start(command: &mut Command) -> Self {
        let command = command
            .env("HOOKYARD_SERVER__BIND", "127.0.0.1:0")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let secrets = TestSecrets::new();
        secrets.note_variables(command);
        let mut child = command.spawn().expect("it starts");
        let mut errors = child.stderr.take().expect("a pipe");
        let log = thread::spawn(move || {
            let mut log = String::new();
            errors.read_to_string(&mut log).expect("text");
            log
        });
        let output = BufReader::new(child.stdout.take().expect("a pipe"));
        let (mut send, mut read) = (None, None);
        for line in output.lines().map(|line| line.expect("text")) {
            let line = line.trim_start();
            if line.contains(" send message.created ") {
                send = Some(line.to_owned());
            } else if line.starts_with("curl ") {
                read = Some(line.to_owned());
                break;
            }
        }
        let folder = command.get_current_dir().expect("a folder");
        let made = fs::read_to_string(folder.join("hookyard-data/dev-secrets.toml"));
        secrets.note_file(&made.unwrap_or_default());
        Self {
            child,
            send: send.expect("a line that sends"),
            read: read.expect("a line that reads"),
            secrets,
            log: Some(log),
        }
    }

    /// Reads the ticket with the printed line, or with a client where there is no curl.
    async fn ticket(&self, folder: &Path) -> Value {
        let has_curl =
            output_of(command_in("sh", folder).args(["-c", "command -v curl"])).0 == Some(0);
        if has_curl {
            let (code, output, error) =
                output_of(command_in("sh", folder).args(["-c", &self.read]));
            assert_eq!(code, Some(0), "{}: {error}", self.read);
            return serde_json::from_str(&output).unwrap_or_else(|_| panic!("no JSON: {output}"));
        }
        let (_, token, _) = output_of(command_in("sh", folder).args([
            "-c",
            &format!("echo \"{}\"", between(&self.read, "Bearer ", "\" http")),
        ]));
        let url = &self.read[self.read.rfind("http").expect("an address")..];
        let client = Client::builder().no_proxy().build().expect("a client");
        let answer = client
            .get(url)
            .bearer_auth(token.trim())
            .send()
            .await
            .expect("an answer");
        serde_json::from_str(&answer.text().await.expect("a body")).expect("JSON")
    }
}

impl Drop for DevNode {
    fn drop(&mut self) {
        // Ignored: the node may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(Ok(log)) = self.log.take().map(JoinHandle::join) {
            self.secrets.assert_not_in(&log);
        }
    }
}

fn between<'a>(text: &'a str, start: &str, end: &str) -> &'a str {
    let (_, text) = text.split_once(start).expect("its start");
    text.rsplit_once(end).expect("its end").0
}

#[test]
fn the_first_development_start_makes_secrets_and_prints_lines_that_work() {
    run_async(async {
        let folder = folder();
        let mut dev = DevNode::start(&mut hookyard(folder.path(), &["serve", "--dev"]));
        let secrets = folder.path().join("hookyard-data/dev-secrets.toml");
        let mode = |path: &Path| {
            fs::metadata(path)
                .expect("it was made")
                .permissions()
                .mode()
                & 0o777
        };
        assert_eq!(
            (mode(&secrets), mode(&folder.path().join("hookyard-data"))),
            (0o600, 0o700)
        );
        let made = fs::read_to_string(&secrets).expect("readable");
        let token = between(&made, "token = \"", "\"\n\n[sources");
        assert!(
            !dev.send.contains(token) && !dev.read.contains(token),
            "a secret is on the terminal"
        );

        let (code, output, error) =
            output_of(command_in("sh", folder.path()).args(["-c", &dev.send]));
        assert_eq!(code, Some(0), "{}: {error}", dev.send);
        assert!(
            output.contains("202") && output.contains("SUP-1042"),
            "{output}"
        );
        let ticket = dev.ticket(folder.path()).await;
        assert_eq!(
            (&ticket["id"], &ticket["sequence"]),
            (&json!("SUP-1042"), &json!(1))
        );
        send_signal(&dev.child, "TERM");
        assert_eq!(dev.child.wait().expect("a child").code(), Some(0));

        let dev = DevNode::start(&mut hookyard(folder.path(), &["serve", "--dev"]));
        assert_eq!(
            fs::read_to_string(&secrets).expect("readable"),
            made,
            "the same secrets at the next start"
        );
        assert_eq!(dev.ticket(folder.path()).await, ticket);
    });
}

/// Regression: the program's own path was printed unquoted, so the line failed in a folder with a
/// space in its name.
#[test]
fn the_printed_lines_work_in_folders_with_any_name() {
    run_async(async {
        let folder = folder();
        let tools = folder.path().join("my tools");
        fs::create_dir(&tools).expect("writable");
        symlink(BINARY, tools.join("it's hookyard")).expect("writable");
        fs::write(
            folder.path().join("it's mine.toml"),
            "[entity]\nitems_max = 10\n",
        )
        .expect("writable");
        let mut serve = command_in(tools.join("it's hookyard"), folder.path());
        serve
            .args(["serve", "--dev", "--config", "it's mine.toml"])
            .env("HOOKYARD_STORE__PATH", "$HOME & 'data'");
        let dev = DevNode::start(&mut serve);
        assert!(
            folder
                .path()
                .join("$HOME & 'data'/dev-secrets.toml")
                .exists()
        );
        let (code, output, error) =
            output_of(command_in("sh", folder.path()).args(["-c", &dev.send]));
        assert_eq!(code, Some(0), "{}: {output}{error}", dev.send);
        assert_eq!(dev.ticket(folder.path()).await["sequence"], 1);
    });
}

#[test]
fn development_is_for_this_machine_only() {
    let folder = folder();
    let mut command = hookyard(folder.path(), &["serve", "--dev"]);
    let (code, output, error) = output_of(command.env("HOOKYARD_SERVER__BIND", "0.0.0.0:0"));
    assert_eq!((code, output.as_str()), (Some(1), ""));
    assert!(
        error.contains("server.bind is 0.0.0.0:0") && error.contains("127.0.0.1"),
        "{error}"
    );
    assert!(!folder.path().join("hookyard-data").exists());
}

/// Sends messages to a ticket, one after another, until one is not accepted.
async fn send_until_it_ends(
    client: TestClient,
    ticket: String,
    accepted: mpsc::UnboundedSender<(String, String)>,
) {
    for number in 0.. {
        let key = format!("{ticket}-{number}");
        let data = json!({"message_id": key, "text": key});
        match client
            .try_send(&ticket, &key, "message.created", data)
            .await
        {
            Ok(answer) if answer.status == 202 => accepted
                .send((ticket.clone(), answer.event_id()))
                .expect("it listens"),
            Ok(_) | Err(_) => return,
        }
    }
}

async fn all_that_was_answered_is_there_after(signal_name: &str) {
    let test_env = TestEnv::new(&[]);
    let mut process = test_env.start_process().await;
    let (sender, mut accepted) = mpsc::unbounded_channel();
    let mut load = JoinSet::new();
    for number in 0..8 {
        load.spawn(send_until_it_ends(
            process.api.clone(),
            format!("S-{number}"),
            sender.clone(),
        ));
    }
    drop(sender);
    let mut events = Vec::new();
    while events.len() < 100 {
        events.push(
            expect_soon(accepted.recv())
                .await
                .expect("all of them send"),
        );
    }
    send_signal(&process.child, signal_name);
    while let Some(event) = expect_soon(accepted.recv()).await {
        events.push(event);
    }
    expect_soon(load.join_all()).await;
    assert_eq!(
        process.child.wait().expect("a child").code(),
        Some(0),
        "{signal_name}"
    );

    let node = test_env.start().await;
    for number in 0..8 {
        let ticket = format!("S-{number}");
        let timeline = node.fetch_timeline(&ticket).await;
        let stored: Vec<_> = timeline
            .iter()
            .map(|entry| entry["event_id"].as_str().expect("an id"))
            .collect();
        let answered: Vec<_> = events
            .iter()
            .filter(|(of, _)| *of == ticket)
            .map(|(_, id)| id.as_str())
            .collect();
        assert_eq!(stored[..answered.len()], answered, "{ticket}");
        assert!(
            stored.len() <= answered.len() + 1,
            "{ticket}: one of them may have been on its way"
        );
    }
    node.stop().await;
}

#[test]
fn a_node_that_is_terminated_under_load_ends_in_order_and_keeps_all_that_it_answered() {
    run_async(all_that_was_answered_is_there_after("TERM"));
}

#[test]
fn a_node_that_is_interrupted_under_load_ends_in_order_and_keeps_all_that_it_answered() {
    run_async(all_that_was_answered_is_there_after("INT"));
}

#[test]
fn requests_in_flight_when_a_node_stops_are_answered() {
    run_async(async {
        let mut test_env = TestEnv::new(&[]);
        let disk_failure = DiskFailure::install(&mut test_env);
        let node = test_env.start().await;
        disk_failure.hold_syncs();
        let client = node.api.clone();
        let waiting = actix_rt::spawn(async move { client.send_message("S", "k-1").await });
        disk_failure.wait_until_decided("S", 1).await;
        let address = node.inner.address();
        let stopping = actix_rt::spawn(node.stop());
        // The stop has begun when connections are refused.
        expect_soon(async { while TcpStream::connect(address).await.is_ok() {} }).await;
        disk_failure.release_syncs();
        assert_eq!(expect_soon(waiting).await.expect("no panic").sequence(), 1);
        stopping.await.expect("it stops in order");

        let node = test_env.start().await;
        assert_eq!(node.fetch_timeline("S").await.len(), 1);
        node.stop().await;
    });
}

#[test]
fn an_idle_and_a_half_sent_request_do_not_keep_a_node_from_ending() {
    run_async(async {
        use std::io::Write;
        let test_env = TestEnv::new(&[
            ("server.request_timeout_s", "2"),
            ("server.shutdown_grace_s", "30"),
        ]);
        let mut process = test_env.start_process().await;
        assert_eq!(
            process.send_message("S", "k-1").await.sequence(),
            1,
            "its connection stays open"
        );
        let address = process.base.trim_start_matches("http://").to_owned();
        let mut half = std::net::TcpStream::connect(address).expect("it listens");
        half.write_all(
            format!("POST {SUPPORT} HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\n{{").as_bytes(),
        )
        .expect("sent");
        send_signal(&process.child, "TERM");
        assert_eq!(process.child.wait().expect("a child").code(), Some(0));
    });
}

#[test]
fn a_new_secret_is_unlike_the_last_and_fit_for_every_key() {
    run_async(async {
        let folder = folder();
        let secret = || {
            let (code, output, error) = output_of(&mut hookyard(folder.path(), &["secret", "new"]));
            assert_eq!(
                (code, error.as_str(), output.lines().count()),
                (Some(0), "", 1)
            );
            output.trim_end().to_owned()
        };
        let (token, api_key, signing) = (secret(), secret(), secret());
        assert!(token != api_key && api_key != signing && signing != token);
        assert!(
            [&token, &api_key, &signing]
                .iter()
                .all(|made| made.starts_with("whsec_") && made.len() == 50)
        );
        let mut test_env = TestEnv::new(&[]);
        test_env.set("admin.token", &token);
        test_env.set("sources.support.api_keys", &api_key);
        test_env.set("sources.support.secrets", &signing);
        let process = test_env.start_process().await;
        let mut send = hookyard(folder.path(), &["send", "--url", &process.base]);
        send.env("HOOKYARD_SOURCES__SUPPORT__API_KEYS", &api_key)
            .env("HOOKYARD_SOURCES__SUPPORT__SECRETS", &signing);
        let (code, output, error) = output_of(&mut send);
        assert_eq!(code, Some(0), "{output}{error}");
        let events = process
            .client
            .get(format!("{}/api/v1/events", process.base))
            .bearer_auth(&token);
        assert_eq!(process.send_request(events).await.body["total"], 1);
    });
}

#[test]
fn a_second_node_on_one_store_is_refused_and_disturbs_the_first_in_nothing() {
    run_async(async {
        let test_env = TestEnv::new(&[]);
        let process = test_env.start_process().await;
        assert_eq!(process.send_message("S", "k-1").await.sequence(), 1);
        let store = test_env.store_path();
        for command in ["serve", "rebuild"] {
            let mut second = hookyard(test_env.folder.path(), &[command]);
            second
                .env("HOOKYARD_SERVER__BIND", "127.0.0.1:0")
                .env("HOOKYARD_ADMIN__TOKEN", TOKEN);
            let (code, output, error) = output_of(second.env("HOOKYARD_STORE__PATH", &store));
            assert_eq!((code, output.as_str()), (Some(1), ""), "{command}");
            let last = error.lines().last().unwrap_or_default();
            assert!(
                last.starts_with("error: ")
                    && last.contains(&format!("{} is in use", store.display())),
                "{error}"
            );
        }
        let (code, _, error) = {
            let mut second = hookyard(test_env.folder.path(), &["serve"]);
            second.env(
                "HOOKYARD_SERVER__BIND",
                process.base.trim_start_matches("http://"),
            );
            output_of(second.env("HOOKYARD_ADMIN__TOKEN", TOKEN))
        };
        assert_eq!(code, Some(1));
        assert!(
            error.contains("cannot listen on") && error.contains("server.bind"),
            "{error}"
        );
        assert_eq!(process.send_message("S", "k-2").await.sequence(), 2);
        assert_eq!(process.fetch_timeline("S").await.len(), 2);
    });
}
