//! Durable accepts a second, next to a bare actix-web handler that only reads the body and verifies its signature.
//!
//! `cargo bench --bench accept`. Both servers run as processes of their own, one after the other in each round, under the
//! same load: keep-alive connections whose client signs every request. What counts is the ratio within a round. Last comes
//! how long one list of 1,000 events takes until it is answered, that is, until all of it is on the disk.
#![expect(
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a program that measures time and prints what it measured"
)]

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use hookyard::clock::{Clock, SystemClock};
use hookyard::config::Secret;
use hookyard::edge::signature::Verifier;
use hookyard::edge::support::signature::sign;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const SECRET: &str = "bench-secret";
const API_KEY: &str = "bench-key";
const PATH: &str = "/api/v0/crm/webhooks/support/";
const ROUND: Duration = Duration::from_secs(4);
const WARM_UP: Duration = Duration::from_secs(1);
const ROUNDS: usize = 3;

const PUBLISHER: &str = "bench-publisher";
const LIST_EVENTS: u64 = 1_000;
const LISTS: u64 = 50;

type Failure = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    // cargo passes `--bench`; the program passes itself `bare`.
    let outcome = if std::env::args().any(|argument| argument == "bare") { serve_bare() } else { measure() };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The ceiling: what actix-web itself does with the same requests.
fn serve_bare() -> Result<(), Failure> {
    actix_rt::System::new().block_on(async {
        let verifier = web::Data::new(Verifier::new(&[Secret::new(SECRET)]));
        let app = move || App::new().app_data(verifier.clone()).route(PATH, web::post().to(bare));
        let server = HttpServer::new(app).workers(cores()).bind("127.0.0.1:0")?;
        announce(server.addrs()[0].port())?;
        Ok(server.run().await?)
    })
}

async fn bare(request: HttpRequest, body: web::Bytes, verifier: web::Data<Verifier>) -> HttpResponse {
    let header = |name: &str| request.headers().get(name).map(|value| value.as_bytes()).unwrap_or_default();
    match verifier.verify(&body, header("x-crm-timestamp"), header("x-crm-signature")) {
        Some(_) => HttpResponse::Accepted().content_type("application/json").body("{\"status\":\"accepted\"}"),
        None => HttpResponse::Unauthorized().finish(),
    }
}

fn announce(port: u16) -> std::io::Result<()> {
    let mut out = std::io::stdout();
    writeln!(out, "{port}")?;
    out.flush()
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// A server process; killed when dropped.
struct Server {
    child: Child,
    port: u16,
    // The node's store goes with it.
    _folder: Option<tempfile::TempDir>,
}

impl Server {
    fn bare() -> Result<Self, Failure> {
        let mut child = Command::new(std::env::current_exe()?).arg("bare").stdout(Stdio::piped()).spawn()?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().ok_or("no output")?).read_line(&mut line)?;
        Ok(Self { child, port: line.trim().parse()?, _folder: None })
    }

    fn node() -> Result<Self, Failure> {
        let folder = tempfile::tempdir_in(std::env::var("HOOKYARD_BENCH_DIR").unwrap_or_else(|_| "target".into()))?;
        let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let mut child = Command::new(env!("CARGO_BIN_EXE_hookyard"))
            .arg("serve")
            .env("HOOKYARD_SERVER__BIND", format!("127.0.0.1:{port}"))
            .env("HOOKYARD_STORE__PATH", folder.path())
            .env("HOOKYARD_ADMIN__TOKEN", "bench-token")
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
        Ok(Self { child, port, _folder: Some(folder) })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What one round under one load came to.
struct Measured {
    per_second: f64,
    p50: Duration,
    p99: Duration,
}

impl Measured {
    fn new(mut latencies: Vec<Duration>) -> Self {
        latencies.sort_unstable();
        let at = |share: f64| latencies.get((latencies.len() as f64 * share) as usize).copied().unwrap_or_default();
        Self { per_second: latencies.len() as f64 / ROUND.as_secs_f64(), p50: at(0.5), p99: at(0.99) }
    }
}

#[derive(Clone, Copy)]
struct Load {
    connections: usize,
    entities: u64,
}

fn measure() -> Result<(), Failure> {
    println!(
        "{:>24} {:>12} {:>12} {:>7} {:>20} {:>20}",
        "load", "bare /s", "node /s", "ratio", "bare p50/p99", "node p50/p99"
    );
    for (connections, entities) in [(1, 1_000), (32, 1_000), (128, 1_000), (128, 1), (128, 100_000)] {
        let load = Load { connections, entities };
        let mut rounds = Vec::new();
        for _ in 0..ROUNDS {
            let bare = round(&Server::bare()?, load)?;
            let node = round(&Server::node()?, load)?;
            rounds.push((bare, node));
        }
        // The round in the middle, by its ratio.
        rounds.sort_by(|a, b| ratio(a).total_cmp(&ratio(b)));
        let middle = &rounds[ROUNDS / 2];
        let (bare, node) = middle;
        let name = format!("c={connections}, {entities} entities");
        println!(
            "{name:>24} {:>12.0} {:>12.0} {:>7.2} {:>20} {:>20}",
            bare.per_second,
            node.per_second,
            ratio(middle),
            times(bare),
            times(node)
        );
    }
    let lists = lists(&Server::node()?)?;
    println!("one list of {LIST_EVENTS} events: {} (p50, p99 of {LISTS})", times(&lists));
    Ok(())
}

/// One list of events after the other, on one connection.
fn lists(server: &Server) -> Result<Measured, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let latencies = runtime.block_on(async {
        let mut stream = TcpStream::connect(("127.0.0.1", server.port)).await?;
        stream.set_nodelay(true)?;
        let (mut latencies, mut answer) = (Vec::new(), Vec::new());
        for list in 0..LISTS {
            let event = |number| {
                let id = number % 200;
                format!(
                    r#"{{"event":"organisation.updated","user_id":12,"data":{{"organisation_id":{id},"list":{list}}}}}"#
                )
            };
            let body = format!("[{}]", (0..LIST_EVENTS).map(event).collect::<Vec<_>>().join(","));
            let request = format!(
                "POST /api/v1/events HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n\
                 authorization: Bearer {PUBLISHER}\r\ncontent-length: {}\r\n\r\n{body}",
                body.len()
            );
            let sent = Instant::now();
            stream.write_all(request.as_bytes()).await?;
            read_answer(&mut stream, &mut answer).await?;
            latencies.push(sent.elapsed());
        }
        Ok::<_, std::io::Error>(latencies)
    })?;
    Ok(Measured::new(latencies))
}

fn ratio((bare, node): &(Measured, Measured)) -> f64 {
    node.per_second / bare.per_second
}

fn times(measured: &Measured) -> String {
    format!("{:.2?} {:.2?}", measured.p50, measured.p99)
}

fn round(server: &Server, load: Load) -> Result<Measured, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let until = Instant::now() + WARM_UP + ROUND;
    let latencies: Vec<Duration> = runtime.block_on(async {
        let clients = (0..load.connections).map(|client| tokio::task::spawn(send(server.port, client, load, until)));
        let clients: Vec<_> = clients.collect();
        let mut latencies = Vec::new();
        for client in clients {
            latencies.extend(client.await.map_err(|_| "a client panicked")?.map_err(|error| error.to_string())?);
        }
        Ok::<_, Failure>(latencies)
    })?;
    Ok(Measured::new(latencies))
}

/// Sends signed events on one connection until the time is over; the latencies after the warm-up.
async fn send(port: u16, client: usize, load: Load, until: Instant) -> std::io::Result<Vec<Duration>> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    stream.set_nodelay(true)?;
    let (secret, clock) = (Secret::new(SECRET), SystemClock::default());
    let filler = "The parcel has not arrived although it was sent ten days ago. ".repeat(5);
    let (mut latencies, mut answer) = (Vec::new(), Vec::new());
    let mut random = client as u64 + 1;
    for number in 0_u64.. {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let ticket = (random >> 33) % load.entities;
        let body = format!(
            r#"{{"event":"message.created","support_uid":"SUP-{ticket}","data":{{"message_id":"m-{client}-{number}","text":"{filler}","author":"Ada"}},"actor":{{"id":"op-7","name":"Grace"}}}}"#
        );
        let timestamp = clock.wall().to_string();
        let signature = sign(&secret, body.as_bytes(), &timestamp);
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
        if sent + ROUND >= until {
            latencies.push(sent.elapsed());
        }
    }
    Ok(latencies)
}

/// Reads one answer, which must be 202.
async fn read_answer(stream: &mut TcpStream, answer: &mut Vec<u8>) -> std::io::Result<()> {
    answer.clear();
    loop {
        if stream.read_buf(answer).await? == 0 {
            return Err(std::io::Error::other("the server closed the connection"));
        }
        let Some(head) = answer.windows(4).position(|window| window == b"\r\n\r\n") else { continue };
        let text = String::from_utf8_lossy(&answer[..head]).to_lowercase();
        if !text.starts_with("http/1.1 202") {
            return Err(std::io::Error::other(String::from_utf8_lossy(answer).into_owned()));
        }
        let length =
            text.lines().find_map(|line| line.strip_prefix("content-length: ")).and_then(|n| n.parse::<usize>().ok());
        if answer.len() >= head + 4 + length.unwrap_or(0) {
            return Ok(());
        }
    }
}
