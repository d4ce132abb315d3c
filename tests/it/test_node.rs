//! Node under test: in this process with the test's own clock and failures, or as the real binary.

use std::future::Future;
use std::io::{self, BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use hookyard::app::{Node, NodeDeps};
use hookyard::clock::{Clock, ManualClock};
use hookyard::config::{Config, ConfigDraft, LiveConfig, Secret, load_config};
use hookyard::edge::support::signature::sign_support_body;
use hookyard::event::Timestamp;
use parking_lot::{Condvar, Mutex};
use reqwest::{Client, RequestBuilder, Response};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::watch;

use crate::hooked_disk::{DiskHooks, HookedDisk};
use crate::logged_secrets::{MESSAGE_TEXT, OwnLogWatch, TestSecrets};

pub const API_KEY: &str = "test-key-long-enough-for-any-node";
pub const SECRET: &str = "test-secret-long-enough-for-any-node";
pub const TOKEN: &str = "test-token-long-enough-for-any-node";
pub const SUPPORT: &str = "/api/v0/crm/webhooks/support/";

/// Start of a manual clock.
pub const START: &str = "2025-12-04T10:30:00.000Z";

/// Runs `test` in an actix system, as the binary does.
pub fn run_async<F: Future>(test: F) -> F::Output {
    actix_rt::System::new().block_on(test)
}

/// Data folder and start options of a node; outlives the nodes that use it.
pub struct TestEnv {
    pub folder: Arc<TempDir>,
    pub deps: NodeDeps,
    pub secrets: TestSecrets,
    keys: Vec<(String, String)>,
    file: Option<PathBuf>,
}

impl TestEnv {
    /// Creates an empty folder without rate limits and with the configuration keys given, such as
    /// `("router.idle_timeout_s", "0.1")`.
    pub fn new(keys: &[(&str, &str)]) -> Self {
        let folder = Arc::new(tempfile::tempdir().expect("a temporary folder"));
        let mut test_env = Self {
            folder,
            deps: NodeDeps::default(),
            secrets: TestSecrets::new(),
            keys: Vec::new(),
            file: None,
        };
        test_env.set("server.bind", "127.0.0.1:0");
        test_env.set("server.workers", "2");
        test_env.set("admin.token", TOKEN);
        test_env.set("sources.support.enabled", "true");
        test_env.set("sources.support.api_keys", API_KEY);
        test_env.set("sources.support.secrets", SECRET);
        test_env.set("sources.support.rate_per_minute", "0");
        test_env.set(
            "store.path",
            test_env
                .store_path()
                .to_str()
                .expect("a readable path")
                .to_owned()
                .as_str(),
        );
        keys.iter()
            .for_each(|(key, value)| test_env.set(key, value));
        test_env
    }

    pub fn set(&mut self, key: &str, value: &str) {
        let name = format!("HOOKYARD_{}", key.replace('.', "__").to_uppercase());
        self.secrets.note_variable(&name, value);
        self.keys.push((name, value.to_owned()));
    }

    /// Removes a key, so that the configuration file decides about it.
    pub fn unset(&mut self, key: &str) {
        let name = format!("HOOKYARD_{}", key.replace('.', "__").to_uppercase());
        self.keys.retain(|(known, _)| *known != name);
    }

    /// Adds a configuration file with this text; the keys that are set override it.
    pub fn write_file(&mut self, text: &str) {
        self.secrets.note_file(text);
        let path = self.folder.path().join("hookyard.toml");
        std::fs::write(&path, text).expect("writable");
        let own = std::fs::Permissions::from_mode(0o600);
        std::fs::set_permissions(&path, own).expect("its owner");
        self.file = Some(path);
    }

    /// Stops the node's clock at [`START`] until a test moves it.
    pub fn with_manual_clock(&mut self) -> Arc<ManualClock> {
        let clock = Arc::new(ManualClock::starting_at(
            Timestamp::parse(START).expect("a time"),
        ));
        self.deps.clock = Arc::clone(&clock) as Arc<dyn Clock>;
        clock
    }

    /// Installs a gate before the disk, open at first.
    pub fn with_disk_gate(&mut self) -> Arc<DiskGate> {
        let dam = Arc::new(DiskGate::default());
        self.deps.disk = Arc::new(HookedDisk(Arc::clone(&dam) as Arc<dyn DiskHooks>));
        dam
    }

    pub fn store_path(&self) -> PathBuf {
        self.folder.path().join("store")
    }

    pub fn config(&self) -> Config {
        load_config(self.file.as_deref(), self.keys.clone()).expect("a valid configuration")
    }

    pub async fn start(&self) -> TestNode {
        let (file, keys) = (self.file.clone(), self.keys.clone());
        let read_again = move || ConfigDraft::from_toml(file.as_deref(), keys.clone());
        let live_config = LiveConfig::new(self.config(), read_again);
        let log_watch = OwnLogWatch::start(&self.secrets);
        let node = Node::start_live(live_config, self.deps.clone())
            .await
            .expect("the node starts");
        TestNode {
            api: self.client_of(format!("http://{}", node.address())),
            inner: node,
            _log_watch: log_watch,
            _folder: Arc::clone(&self.folder),
        }
    }

    /// Client of the node at `base`, whose secrets are those of this test.
    fn client_of(&self, base: String) -> TestClient {
        TestClient {
            secrets: self.secrets.clone(),
            ..TestClient::new(base, Arc::clone(&self.deps.clock))
        }
    }

    /// Variables of the environment that configure a process on this folder.
    pub fn variables(&self) -> Vec<(String, String)> {
        self.keys.clone()
    }

    /// Command that starts the real binary on this folder, at `port`.
    pub fn serve_command(&self, port: u16) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hookyard"));
        command
            .arg("serve")
            .args(
                self.file
                    .iter()
                    .flat_map(|file| [Path::new("--config"), file.as_path()]),
            )
            .env("HOOKYARD_TELEMETRY__LEVEL", "info")
            .envs(self.keys.clone())
            .env("HOOKYARD_SERVER__BIND", format!("127.0.0.1:{port}"))
            .stdout(Stdio::null());
        command
    }

    /// Starts the real binary on this folder and waits until it is ready.
    pub async fn start_process(&self) -> NodeProcess {
        let port = free_port();
        self.wait_for_process(self.serve_command(port), port)
    }

    /// Waits until the node of `command` is ready at `port`.
    pub fn wait_for_process(&self, mut command: Command, port: u16) -> NodeProcess {
        self.secrets.note_variables(&command);
        let (output, input) = io::pipe().expect("a pipe");
        let both = [input.try_clone().expect("a descriptor"), input];
        let [stdout, stderr] = both.map(Stdio::from);
        let child = command
            .stdout(stdout)
            .stderr(stderr)
            .spawn()
            .expect("the binary starts");
        // The output ends with the process, if nobody else could write to it.
        drop(command);
        let mut lines = BufReader::new(output)
            .lines()
            .map(|line| line.expect("text"));
        let mut seen = Vec::new();
        // Stops reading after that line: the next line may never come.
        while !seen
            .last()
            .is_some_and(|line: &String| line.contains("node ready"))
        {
            seen.push(
                lines
                    .next()
                    .unwrap_or_else(|| panic!("not ready: {seen:#?}")),
            );
        }
        // The pipe is read for as long as the process lives; a full pipe would block the process.
        let (sender, log) = watch::channel(seen);
        thread::spawn(move || {
            for line in lines {
                sender.send_modify(|seen| seen.push(line));
            }
        });
        NodeProcess {
            api: self.client_of(format!("http://127.0.0.1:{port}")),
            child,
            log,
        }
    }
}

pub fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("bound").port()
}

/// Runs all `tasks` at once and returns their results in order.
pub async fn run_together<T: Future + 'static>(tasks: impl IntoIterator<Item = T>) -> Vec<T::Output>
where
    T::Output: 'static,
{
    let running: Vec<_> = tasks.into_iter().map(actix_rt::spawn).collect();
    let mut outputs = Vec::new();
    for task in running {
        outputs.push(task.await.expect("a task that does not panic"));
    }
    outputs
}

/// Waits for an expected result; a broken promise fails the test instead of blocking it for ever.
pub async fn expect_soon<F: Future>(what: F) -> F::Output {
    const PATIENCE: Duration = Duration::from_secs(60);
    tokio::time::timeout(PATIENCE, what)
        .await
        .expect("it never came")
}

/// Returns the text of the message that [`TestClient::send_message`] sends under `key`.
pub fn message_text(key: &str) -> String {
    format!("{key} {MESSAGE_TEXT}")
}

/// Percent-encodes `id` for a path.
pub fn encode_id(id: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    id.bytes()
        .map(|byte| {
            if plain(byte) {
                char::from(byte).to_string()
            } else {
                format!("%{byte:02X}")
            }
        })
        .collect()
}

/// Disk that hangs: while the gate is shut, no commit gets past its sync.
#[derive(Default)]
pub struct DiskGate {
    is_shut: Mutex<bool>,
    opened: Condvar,
    held: watch::Sender<u32>,
    /// Number of commits that were about to be written.
    writes: watch::Sender<u64>,
}

impl DiskGate {
    pub fn close(&self) {
        *self.is_shut.lock() = true;
    }

    pub fn open(&self) {
        *self.is_shut.lock() = false;
        self.opened.notify_all();
    }

    /// Shuts the gate, sends `request`, and returns the running request when its event is about to
    /// be written.
    pub async fn hold_request<T: 'static>(
        &self,
        request: impl Future<Output = T> + 'static,
    ) -> actix_rt::task::JoinHandle<T> {
        self.close();
        let mut writes = self.writes.subscribe();
        writes.borrow_and_update();
        let running = actix_rt::spawn(request);
        expect_soon(writes.changed())
            .await
            .expect("the sender is our own");
        running
    }

    /// Waits until a commit is being held.
    pub async fn wait_until_held(&self) {
        expect_soon(self.held.subscribe().wait_for(|held| *held > 0))
            .await
            .expect("the sender is our own");
    }
}

impl DiskHooks for DiskGate {
    fn before_write(&self) -> io::Result<()> {
        self.writes.send_modify(|writes| *writes += 1);
        Ok(())
    }

    fn before_sync(&self) -> io::Result<()> {
        let mut is_shut = self.is_shut.lock();
        if *is_shut {
            self.held.send_modify(|held| *held += 1);
            self.opened.wait_while(&mut is_shut, |is_shut| *is_shut);
            self.held.send_modify(|held| *held -= 1);
        }
        Ok(())
    }
}

/// Node in this process, with the test's own clock and failures.
pub struct TestNode {
    pub api: TestClient,
    pub inner: Node,
    _log_watch: OwnLogWatch,
    /// Removed after the node has stopped.
    _folder: Arc<TempDir>,
}

impl TestNode {
    pub async fn stop(self) {
        self.inner.stop().await.expect("the node stops in order");
    }
}

impl std::ops::Deref for TestNode {
    type Target = TestClient;

    fn deref(&self) -> &TestClient {
        &self.api
    }
}

/// Node in a process of its own; killed when dropped.
pub struct NodeProcess {
    pub api: TestClient,
    pub child: Child,
    /// Closed when the process has ended.
    log: watch::Receiver<Vec<String>>,
}

impl NodeProcess {
    /// Kills the process with SIGKILL.
    pub fn kill(&mut self) {
        self.child.kill().expect("it was running");
        self.child.wait().expect("it was a child");
    }

    /// Kills the process and returns its log lines.
    pub fn kill_and_read_log(mut self) -> Vec<String> {
        self.kill();
        self.read_whole_log()
    }

    /// Returns the lines of a process that has ended.
    fn read_whole_log(&self) -> Vec<String> {
        while self.log.has_changed().is_ok() {
            thread::yield_now();
        }
        self.log.borrow().clone()
    }

    /// Waits until a line of the log contains `text`.
    pub async fn wait_for_log(&self, text: &str) {
        let mut log = self.log.clone();
        let is_there = |lines: &Vec<String>| lines.iter().any(|line| line.contains(text));
        expect_soon(log.wait_for(is_there))
            .await
            .expect("the process runs");
    }
}

impl Drop for NodeProcess {
    fn drop(&mut self) {
        // Ignored: the process may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let log = self.read_whole_log().join("\n");
        if thread::panicking() {
            eprintln!("log of {}:\n{log}", self.api.base);
        }
        self.api.secrets.assert_not_in(&log);
    }
}

impl std::ops::Deref for NodeProcess {
    type Target = TestClient;

    fn deref(&self) -> &TestClient {
        &self.api
    }
}

/// Client of a running node, in the roles of its senders and its admin. Cheap to clone.
#[derive(Clone)]
pub struct TestClient {
    pub base: String,
    pub client: Client,
    /// Secrets of the test, which its requests and answers add to.
    pub secrets: TestSecrets,
    clock: Arc<dyn Clock>,
}

/// Answer that was read completely.
#[derive(Debug)]
pub struct TestAnswer {
    pub status: u16,
    pub headers: reqwest::header::HeaderMap,
    /// Body as received.
    pub text: String,
    pub body: Value,
}

impl TestAnswer {
    async fn read(response: Response) -> Self {
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let text = response.text().await.expect("a body");
        let body = serde_json::from_str(&text).unwrap_or_else(|_| Value::String(text.clone()));
        Self {
            status,
            headers,
            text,
            body,
        }
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .get(name)
            .map(|value| value.to_str().expect("text"))
    }

    pub fn sequence(&self) -> u64 {
        self.body["entity"]["sequence"]
            .as_u64()
            .unwrap_or_else(|| panic!("no sequence in {self:?}"))
    }

    pub fn event_id(&self) -> String {
        self.body["event_id"]
            .as_str()
            .unwrap_or_else(|| panic!("no event id in {self:?}"))
            .to_owned()
    }
}

impl TestClient {
    pub fn new(base: String, clock: Arc<dyn Clock>) -> Self {
        let client = Client::builder().no_proxy().build().expect("a client");
        Self {
            base,
            client,
            secrets: TestSecrets::new(),
            clock,
        }
    }

    /// Signed request with this body and the headers of the contract.
    pub fn signed_request(&self, body: &str, key: &str) -> RequestBuilder {
        let timestamp = self.clock.wall().to_string();
        self.client
            .post(format!("{}{SUPPORT}", self.base))
            .header("content-type", "application/json")
            .header("x-crm-api-key", API_KEY)
            .header(
                "x-crm-signature",
                sign_support_body(&Secret::new(SECRET), body.as_bytes(), &timestamp),
            )
            .header("x-crm-timestamp", timestamp)
            .header("idempotency-key", key)
            .body(body.to_owned())
    }

    /// Sends one event; fails when there was no answer.
    pub async fn try_send(
        &self,
        ticket: &str,
        key: &str,
        event: &str,
        data: Value,
    ) -> reqwest::Result<TestAnswer> {
        let body = json!({"event": event, "support_uid": ticket, "data": data}).to_string();
        self.try_send_request(self.signed_request(&body, key)).await
    }

    pub async fn send(&self, ticket: &str, key: &str, event: &str, data: Value) -> TestAnswer {
        self.try_send(ticket, key, event, data)
            .await
            .expect("an answer")
    }

    /// Sends a message whose id is its key.
    pub async fn send_message(&self, ticket: &str, key: &str) -> TestAnswer {
        let data = json!({"message_id": key, "text": message_text(key)});
        self.send(ticket, key, "message.created", data).await
    }

    pub async fn send_request(&self, request: RequestBuilder) -> TestAnswer {
        self.try_send_request(request).await.expect("an answer")
    }

    /// Sends a request and notes the secrets of request and answer; fails when there was no answer.
    async fn try_send_request(&self, request: RequestBuilder) -> reqwest::Result<TestAnswer> {
        let (client, request) = request.build_split();
        let request = request?;
        self.secrets.note_request(&request);
        let answer = TestAnswer::read(client.execute(request).await?).await;
        self.secrets.note_json("answer", &answer.body);
        Ok(answer)
    }

    pub async fn get(&self, path: &str) -> TestAnswer {
        self.send_request(
            self.client
                .get(format!("{}{path}", self.base))
                .bearer_auth(TOKEN),
        )
        .await
    }

    pub async fn post(&self, path: &str) -> TestAnswer {
        self.send_request(
            self.client
                .post(format!("{}{path}", self.base))
                .bearer_auth(TOKEN),
        )
        .await
    }

    /// Returns the whole timeline of a ticket, oldest first.
    pub async fn fetch_timeline(&self, ticket: &str) -> Vec<Value> {
        let mut items = Vec::new();
        for page in 1_u64.. {
            let path =
                format!("/api/v1/entities/ticket/{ticket}/timeline?page={page}&page_size=100");
            let answer = self.get(&path).await;
            if answer.status == 404 {
                break;
            }
            assert_eq!(answer.status, 200, "{answer:?}");
            for (index, item) in (0..).zip(answer.body["items"].as_array().expect("items")) {
                // The page had no room for its content, which a page of its own has.
                let item = match item["content_omitted"] == true {
                    true => {
                        let alone = (page - 1) * 100 + index + 1;
                        let path = format!(
                            "/api/v1/entities/ticket/{ticket}/timeline?page={alone}&page_size=1"
                        );
                        self.get(&path).await.body["items"][0].clone()
                    }
                    false => item.clone(),
                };
                items.push(item);
            }
            if page >= answer.body["pages"].as_u64().expect("pages") {
                break;
            }
        }
        items.reverse();
        items
    }
}

/// Counts the blobs that sled put beside the log under `folder`; a store must have none.
pub fn count_blobs(folder: &Path) -> usize {
    std::fs::read_dir(folder.join("log/blobs")).map_or(0, Iterator::count)
}
