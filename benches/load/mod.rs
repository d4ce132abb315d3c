//! Shared parts of the HTTP benchmarks: the servers, each a process of its own, and their load.
#![expect(
    clippy::disallowed_methods,
    reason = "part of programs that measure time"
)]
// Each benchmark uses a part of it.
#![allow(dead_code, reason = "no benchmark uses all of it")]

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use hookyard::clock::{Clock, SystemClock};
use hookyard::config::Secret;
use hookyard::edge::signature::SignatureVerifier;
use hookyard::edge::support::signature::sign_support_body;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const SECRET: &str = "bench-secret-of-the-support-source";
const API_KEY: &str = "bench-key-of-the-support-source";
const PATH: &str = "/api/v0/crm/webhooks/support/";
/// Bearer token of the publishers.
pub(crate) const PUBLISHER: &str = "bench-publisher-of-all-events";
/// Bearer token of the admin API.
pub(crate) const ADMIN: &str = "bench-token-of-the-administrator";

pub(crate) type BenchError = Box<dyn std::error::Error>;

/// Runs the baseline: actix-web alone with the same requests.
pub(crate) fn serve_bare() -> Result<(), BenchError> {
    actix_rt::System::new().block_on(async {
        let verifier = web::Data::new(SignatureVerifier::new(&[Secret::new(SECRET)]));
        let app = move || {
            App::new()
                .app_data(verifier.clone())
                .route(PATH, web::post().to(answer_bare))
        };
        let server = HttpServer::new(app).workers(cores()).bind("127.0.0.1:0")?;
        announce(server.addrs()[0].port())?;
        Ok(server.run().await?)
    })
}

async fn answer_bare(
    request: HttpRequest,
    body: web::Bytes,
    verifier: web::Data<SignatureVerifier>,
) -> HttpResponse {
    let header = |name: &str| {
        request
            .headers()
            .get(name)
            .map(|value| value.as_bytes())
            .unwrap_or_default()
    };
    match verifier.verify(&body, header("x-crm-timestamp"), header("x-crm-signature")) {
        Some(_) => HttpResponse::Accepted()
            .content_type("application/json")
            .body("{\"status\":\"accepted\"}"),
        None => HttpResponse::Unauthorized().finish(),
    }
}

/// Prints the port for the parent process.
pub(crate) fn announce(port: u16) -> std::io::Result<()> {
    let mut out = std::io::stdout();
    writeln!(out, "{port}")?;
    out.flush()
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Server process, which is killed when dropped.
pub(crate) struct BenchServer {
    child: Child,
    pub(crate) port: u16,
    // Dropped after the process; the node's store is in this folder.
    folder: Option<tempfile::TempDir>,
}

impl BenchServer {
    /// Starts the bare handler as a process.
    pub(crate) fn start_bare() -> Result<Self, BenchError> {
        Self::start_role("bare")
    }

    /// Starts this program in another role and waits for its port.
    pub(crate) fn start_role(role: &str) -> Result<Self, BenchError> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg(role)
            .stdout(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().ok_or("no output")?).read_line(&mut line)?;
        Ok(Self {
            child,
            port: line.trim().parse()?,
            folder: None,
        })
    }

    /// Starts a node with an empty store.
    pub(crate) fn start_node() -> Result<Self, BenchError> {
        let folder = tempfile::tempdir_in(
            std::env::var("HOOKYARD_BENCH_DIR").unwrap_or_else(|_| "target".into()),
        )?;
        Self::start_node_in(folder)
    }

    fn start_node_in(folder: tempfile::TempDir) -> Result<Self, BenchError> {
        let port = std::net::TcpListener::bind("127.0.0.1:0")?
            .local_addr()?
            .port();
        let mut child = Command::new(env!("CARGO_BIN_EXE_hookyard"))
            .arg("serve")
            .env("HOOKYARD_SERVER__BIND", format!("127.0.0.1:{port}"))
            .env("HOOKYARD_STORE__PATH", folder.path())
            .env("HOOKYARD_ADMIN__TOKEN", ADMIN)
            .env("HOOKYARD_DELIVERY__ALLOW_TARGETS", "127.0.0.0/8")
            .env("HOOKYARD_SOURCES__SUPPORT__ENABLED", "true")
            .env("HOOKYARD_SOURCES__SUPPORT__API_KEYS", API_KEY)
            .env("HOOKYARD_SOURCES__SUPPORT__SECRETS", SECRET)
            .env("HOOKYARD_SOURCES__SUPPORT__RATE_PER_MINUTE", "0")
            .env("HOOKYARD_SOURCES__CRM__ENABLED", "true")
            .env("HOOKYARD_SOURCES__CRM__TOKENS", PUBLISHER)
            .stderr(Stdio::piped())
            .spawn()?;
        let mut log = BufReader::new(child.stderr.take().ok_or("no log")?).lines();
        while !log.next().ok_or("the node ended")??.contains("node ready") {}
        std::thread::spawn(move || log.for_each(drop));
        Ok(Self {
            child,
            port,
            folder: Some(folder),
        })
    }

    /// Kills the node with `kill -9` and starts it again on its store. Returns the duration of the
    /// start.
    pub(crate) fn restart_after_kill(mut self) -> Result<(Self, Duration), BenchError> {
        self.child.kill()?;
        self.child.wait()?;
        let folder = self.folder.take().ok_or("not a node")?;
        let began = Instant::now();
        let node = Self::start_node_in(folder)?;
        Ok((node, began.elapsed()))
    }

    /// Resident memory of the process, in bytes (Linux).
    pub(crate) fn resident_bytes(&self) -> Result<u64, BenchError> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .ok_or("no VmRSS")?;
        Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? * 1024)
    }
}

/// What a process has used so far.
#[derive(Clone, Copy)]
pub(crate) struct ProcessUsage {
    /// Time on a processor, over all threads.
    pub(crate) cpu: Duration,
    /// Bytes that it made the system write to the disk, in whole pages.
    pub(crate) disk_bytes: u64,
}

impl BenchServer {
    /// Returns what the process has used so far (Linux).
    pub(crate) fn usage(&self) -> Result<ProcessUsage, BenchError> {
        /// Ticks a second in `/proc`, the same on all Linux systems in use.
        const TICKS: u64 = 100;
        let folder = format!("/proc/{}", self.child.id());
        let stat = std::fs::read_to_string(format!("{folder}/stat"))?;
        // The fields after the name, which may contain spaces; the first one is the third of all.
        let fields = stat.rsplit(") ").next().ok_or("no fields")?;
        let fields: Vec<&str> = fields.split(' ').collect();
        let ticks = fields[11].parse::<u64>()? + fields[12].parse::<u64>()?;

        let io = std::fs::read_to_string(format!("{folder}/io"))?;
        let written = io
            .lines()
            .find_map(|line| line.strip_prefix("write_bytes: "))
            .ok_or("no write_bytes")?;
        Ok(ProcessUsage {
            cpu: Duration::from_millis(ticks * 1000 / TICKS),
            disk_bytes: written.parse()?,
        })
    }
}

impl Drop for BenchServer {
    fn drop(&mut self) {
        // Ignored: the process may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Result of one round.
pub(crate) struct LatencySummary {
    /// Processor time of the server for one event.
    pub(crate) cpu: Duration,
    /// Bytes written to the disk for one event.
    pub(crate) disk_bytes: u64,
    /// Requests or events a second.
    pub(crate) per_second: f64,
    pub(crate) p50: Duration,
    pub(crate) p99: Duration,
}

impl LatencySummary {
    /// Summarizes `latencies` that were measured within `time`.
    pub(crate) fn new(mut latencies: Vec<Duration>, time: Duration) -> Self {
        latencies.sort_unstable();
        let at = |share: f64| {
            latencies
                .get((latencies.len() as f64 * share) as usize)
                .copied()
                .unwrap_or_default()
        };
        Self {
            cpu: Duration::ZERO,
            disk_bytes: 0,
            per_second: latencies.len() as f64 / time.as_secs_f64(),
            p50: at(0.5),
            p99: at(0.99),
        }
    }

    /// Formats the median and the 99th percentile.
    pub(crate) fn format_times(&self) -> String {
        format!("{:.2?} {:.2?}", self.p50, self.p99)
    }
}

/// Load of the clients in one round.
#[derive(Clone, Copy)]
pub(crate) struct BenchLoad {
    pub(crate) connections: usize,
    pub(crate) entities: u64,
    /// Time before the measurement starts.
    pub(crate) warm_up: Duration,
    /// Duration of the measurement.
    pub(crate) time: Duration,
    /// Events a second over all connections; `None` sends as fast as answers arrive.
    pub(crate) rate: Option<f64>,
}

/// Sends signed events over keep-alive connections and returns the latencies after the warm-up.
pub(crate) fn drive_load(port: u16, load: BenchLoad) -> Result<Vec<Duration>, BenchError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let until = Instant::now() + load.warm_up + load.time;
    runtime.block_on(async {
        let clients = (0..load.connections)
            .map(|client| tokio::task::spawn(send_events(port, client, load, until)));
        let clients: Vec<_> = clients.collect();
        let mut latencies = Vec::new();
        for client in clients {
            latencies.extend(
                client
                    .await
                    .map_err(|_| "a client panicked")?
                    .map_err(|error| error.to_string())?,
            );
        }
        Ok(latencies)
    })
}

/// Sends on one connection until the time is over.
async fn send_events(
    port: u16,
    client: usize,
    load: BenchLoad,
    until: Instant,
) -> std::io::Result<Vec<Duration>> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    stream.set_nodelay(true)?;
    let (secret, clock) = (Secret::new(SECRET), SystemClock::default());
    let filler = "The parcel has not arrived although it was sent ten days ago. ".repeat(5);
    let (mut latencies, mut answer) = (Vec::new(), Vec::new());
    let mut random = client as u64 + 1;
    let pause = load
        .rate
        .map(|rate| Duration::from_secs_f64(load.connections as f64 / rate));
    let mut ticks = pause.map(tokio::time::interval);
    for number in 0_u64.. {
        if let Some(ticks) = &mut ticks {
            ticks.tick().await;
        }
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let ticket = (random >> 33) % load.entities;
        let timestamp = clock.wall();
        let sent_at = timestamp.as_micros();
        let timestamp = timestamp.to_string();
        let body = format!(
            r#"{{"event":"message.created","support_uid":"SUP-{ticket}","data":{{"message_id":"m-{client}-{number}","sent_at":{sent_at},"text":"{filler}","author":"Ada"}},"actor":{{"id":"op-7","name":"Grace"}}}}"#
        );
        let signature = sign_support_body(&secret, body.as_bytes(), &timestamp);
        let request = format!(
            "POST {PATH} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\
             x-crm-api-key: {API_KEY}\r\nx-crm-timestamp: {timestamp}\r\nx-crm-signature: {signature}\r\n\
             idempotency-key: {client}-{number}\r\n\r\n{body}",
            body.len()
        );
        let sent = Instant::now();
        if sent >= until {
            break;
        }
        stream.write_all(request.as_bytes()).await?;
        read_answer(&mut stream, &mut answer).await?;
        if sent + load.time >= until {
            latencies.push(sent.elapsed());
        }
    }
    Ok(latencies)
}

/// Sends a request with a bearer token on `stream` and returns the body of the answer.
pub(crate) async fn call_api(
    stream: &mut TcpStream,
    method: &str,
    path: &str,
    token: &str,
    body: &str,
) -> std::io::Result<String> {
    let request = format!(
        "{method} {path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n\
         authorization: Bearer {token}\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    let head = read_answer(stream, &mut answer).await?;
    Ok(String::from_utf8_lossy(&answer[head..]).into_owned())
}

/// Reads one answer, which must be a success, and returns the offset of its body.
async fn read_answer(stream: &mut TcpStream, answer: &mut Vec<u8>) -> std::io::Result<usize> {
    answer.clear();
    loop {
        if stream.read_buf(answer).await? == 0 {
            return Err(std::io::Error::other("the server closed the connection"));
        }
        let Some(head) = answer.windows(4).position(|window| window == b"\r\n\r\n") else {
            continue;
        };
        let text = String::from_utf8_lossy(&answer[..head]).to_lowercase();
        if !text.starts_with("http/1.1 20") {
            return Err(std::io::Error::other(
                String::from_utf8_lossy(answer).into_owned(),
            ));
        }
        let length = text
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "))
            .and_then(|n| n.parse::<usize>().ok());
        if answer.len() >= head + 4 + length.unwrap_or(0) {
            return Ok(head + 4);
        }
    }
}
