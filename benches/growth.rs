//! Costs that grow with what a node holds: many subscribers of something else, a backlog, and one
//! list of many events. `hookyard bench` sends the load; it measures everything else.
//!
//! `cargo bench --bench growth`. `HOOKYARD_BENCH_DIR` names the folder for the stores.
#![expect(
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a program that measures time and prints what it measured"
)]

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Subscribers that follow another event than the one that is sent.
const BYSTANDERS: u64 = 9_999;
/// Backlog of a subscriber that is down, in deliveries.
const OWED: u64 = 1_000_000;
const LIST_EVENTS: u64 = 1_000;
const LISTS: usize = 50;

const ADMIN: &str = "bench-token-of-the-administrator";
const PUBLISHER: &str = "bench-publisher-of-all-events";

const BINARY: &str = env!("CARGO_BIN_EXE_hookyard");

type BenchError = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    match measure() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn measure() -> Result<(), BenchError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        measure_lists().await?;
        measure_bystanders().await?;
        measure_backlog().await
    })
}

/// Measures the time until one list of events is answered, that is, until all of it is on disk.
async fn measure_lists() -> Result<(), BenchError> {
    let node = BenchNode::start()?;
    let mut api = node.connect().await?;
    let mut times = Vec::new();
    for list in 0..LISTS {
        let sent = Instant::now();
        send_list(&mut api, list as u64, 200).await?;
        times.push(sent.elapsed());
    }
    times.sort_unstable();
    println!(
        "one list of {LIST_EVENTS} events: {:.2?} p50, {:.2?} at most, of {LISTS}",
        times[LISTS / 2],
        times[LISTS - 1]
    );
    Ok(())
}

/// Measures accepts a second with 10,000 subscribers of which one follows the sent event, compared
/// with that subscriber alone.
async fn measure_bystanders() -> Result<(), BenchError> {
    let mut rates = Vec::new();
    for bystanders in [0, BYSTANDERS] {
        let node = BenchNode::start()?;
        let mut api = node.connect().await?;
        let subscription =
            r#"{"url":"http://127.0.0.1:9/","events":["lead.*","c2s_lead.received"]}"#;
        for _ in 0..bystanders {
            call_api(&mut api, "POST", "/api/v1/webhooks", ADMIN, subscription).await?;
        }
        rates.push(node.bench_accepts()?);
    }
    println!(
        "accepted beside {BYSTANDERS} subscribers of something else: {:.0} /s, {:.2} of the {:.0} /s \
         without them",
        rates[1],
        rates[1] / rates[0],
        rates[0]
    );
    Ok(())
}

/// Measures the memory with a backlog of a million deliveries, and the time of a restart after
/// `kill -9`.
async fn measure_backlog() -> Result<(), BenchError> {
    let node = BenchNode::start()?;
    let idle = node.resident_mib()?;
    let mut api = node.connect().await?;
    // Nobody listens at port 9.
    let subscription = r#"{"url":"http://127.0.0.1:9/","events":["*"]}"#;
    call_api(&mut api, "POST", "/api/v1/webhooks", ADMIN, subscription).await?;
    for list in 0..OWED / LIST_EVENTS {
        send_list(&mut api, list, 10_000).await?;
    }
    println!(
        "memory: {idle:.0} MiB idle, {:.0} MiB with {OWED} deliveries owed",
        node.resident_mib()?
    );
    let start = node.restart_after_kill()?;
    println!("ready again after kill -9 with all of them owed: {start:.2?}");
    Ok(())
}

/// Sends one list of events of the bus, about so many organisations.
async fn send_list(api: &mut TcpStream, list: u64, organisations: u64) -> Result<(), BenchError> {
    let event = |number: u64| {
        let id = (list * LIST_EVENTS + number) % organisations;
        format!(
            r#"{{"event":"organisation.updated","data":{{"organisation_id":{id},"list":{list}}}}}"#
        )
    };
    let events: Vec<_> = (0..LIST_EVENTS).map(event).collect();
    let body = format!("[{}]", events.join(","));
    call_api(api, "POST", "/api/v1/events", PUBLISHER, &body).await
}

/// Node in a process of its own, which is killed when dropped.
struct BenchNode {
    child: Child,
    port: u16,
    // Dropped after the process; the node's store is in this folder.
    folder: tempfile::TempDir,
}

impl BenchNode {
    /// Starts a node with an empty store.
    fn start() -> Result<Self, BenchError> {
        let parent = std::env::var("HOOKYARD_BENCH_DIR").unwrap_or_else(|_| "target".into());
        let folder = tempfile::tempdir_in(parent)?;
        let free = std::net::TcpListener::bind("127.0.0.1:0")?;
        let port = free.local_addr()?.port();
        drop(free);
        let child = spawn_node(port, &folder)?;
        Ok(Self {
            child,
            port,
            folder,
        })
    }

    async fn connect(&self) -> Result<TcpStream, BenchError> {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    /// Returns the accepts a second that `hookyard bench` finds with one subscriber.
    fn bench_accepts(&self) -> Result<f64, BenchError> {
        let file = self.folder.path().join("report.json");
        let ended = configure(Command::new(BINARY).arg("bench"), self.port, &self.folder)
            .args(["--target", &format!("http://127.0.0.1:{}", self.port)])
            .arg("--json")
            .arg(&file)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()?;
        if !ended.success() {
            return Err(format!("hookyard bench: {ended}").into());
        }
        let report: serde_json::Value = serde_json::from_slice(&std::fs::read(file)?)?;
        let rate = report["accept"]["per_second"].as_f64();
        Ok(rate.ok_or("no rate")?)
    }

    /// Kills the node with `kill -9` and starts it again on its store. Returns the duration of the
    /// start.
    fn restart_after_kill(mut self) -> Result<Duration, BenchError> {
        self.child.kill()?;
        self.child.wait()?;
        let began = Instant::now();
        self.child = spawn_node(self.port, &self.folder)?;
        Ok(began.elapsed())
    }

    /// Resident memory of the process (Linux).
    fn resident_mib(&self) -> Result<f64, BenchError> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .ok_or("no VmRSS")?;
        Ok(line.trim().trim_end_matches(" kB").parse::<f64>()? / 1024.0)
    }
}

impl Drop for BenchNode {
    fn drop(&mut self) {
        // Ignored: the process may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Starts a node and waits until it is ready.
fn spawn_node(port: u16, folder: &tempfile::TempDir) -> Result<Child, BenchError> {
    let mut child = configure(Command::new(BINARY).arg("serve"), port, folder)
        .stderr(Stdio::piped())
        .spawn()?;
    let mut log = BufReader::new(child.stderr.take().ok_or("no log")?).lines();
    while !log.next().ok_or("the node ended")??.contains("node ready") {}
    std::thread::spawn(move || log.for_each(drop));
    Ok(child)
}

/// Gives `command` the configuration of the node.
fn configure<'c>(
    command: &'c mut Command,
    port: u16,
    folder: &tempfile::TempDir,
) -> &'c mut Command {
    command
        .env("HOOKYARD_SERVER__BIND", format!("127.0.0.1:{port}"))
        .env("HOOKYARD_STORE__PATH", folder.path().join("data"))
        .env("HOOKYARD_ADMIN__TOKEN", ADMIN)
        .env("HOOKYARD_DELIVERY__ALLOW_TARGETS", "127.0.0.0/8")
        .env("HOOKYARD_SOURCES__SUPPORT__ENABLED", "true")
        .env(
            "HOOKYARD_SOURCES__SUPPORT__API_KEYS",
            "bench-key-of-the-support-source",
        )
        .env(
            "HOOKYARD_SOURCES__SUPPORT__SECRETS",
            "bench-secret-of-the-support-source",
        )
        .env("HOOKYARD_SOURCES__SUPPORT__RATE_PER_MINUTE", "0")
        .env("HOOKYARD_SOURCES__CRM__ENABLED", "true")
        .env("HOOKYARD_SOURCES__CRM__TOKENS", PUBLISHER)
}

/// Sends a request with a bearer token on `stream`, and reads its answer, which must be a success.
async fn call_api(
    stream: &mut TcpStream,
    method: &str,
    path: &str,
    token: &str,
    body: &str,
) -> Result<(), BenchError> {
    let request = format!(
        "{method} {path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n\
         authorization: Bearer {token}\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    loop {
        if stream.read_buf(&mut answer).await? == 0 {
            return Err("the node closed the connection".into());
        }
        let Some(head) = answer.windows(4).position(|window| window == b"\r\n\r\n") else {
            continue;
        };
        let text = String::from_utf8_lossy(&answer[..head]).to_lowercase();
        if !text.starts_with("http/1.1 20") {
            return Err(String::from_utf8_lossy(&answer).into());
        }
        let length = text
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "))
            .and_then(|length| length.parse::<usize>().ok());
        if answer.len() >= head + 4 + length.unwrap_or(0) {
            return Ok(());
        }
    }
}
