//! Deliveries of a node: events a second from the request to the subscriber, the time between the
//! two, and the backlog.
//!
//! `cargo bench --bench deliver`. The bare handler of `accept`, the node, and the receiver run as
//! processes of their own. A round ends when the last event has reached every subscriber, so a
//! backlog counts. The ratio within a run is the result.
#![expect(
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a program that measures time and prints what it measured"
)]

mod load;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use actix_web::{App, HttpResponse, HttpServer, web};
use hookyard::clock::{Clock, SystemClock};
use load::{
    ADMIN, BenchError, BenchLoad, BenchServer, LatencySummary, PUBLISHER, announce, call_api,
    drive_load, serve_bare,
};
use parking_lot::Mutex;
use tokio::net::TcpStream;

const WARM_UP: Duration = Duration::from_secs(1);
const ROUND: Duration = Duration::from_secs(4);
const ROUNDS: usize = 3;
/// Longest wait for the last deliveries of a round.
const PATIENCE: Duration = Duration::from_secs(120);
const POLL: Duration = Duration::from_millis(5);

/// Subscribers that follow another event than the one that is sent.
const BYSTANDERS: u64 = 9_999;
/// Backlog of a subscriber that is down, in deliveries.
const OWED: u64 = 1_000_000;
const LIST_EVENTS: u64 = 1_000;

fn main() -> ExitCode {
    // cargo passes `--bench`; the program passes itself a role.
    let has = |role: &str| std::env::args().any(|argument| argument == role);
    let outcome = match (has("bare"), has("receiver")) {
        (true, _) => serve_bare(),
        (_, true) => serve_receiver(),
        (false, false) => measure(),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn measure() -> Result<(), BenchError> {
    measure_throughput()?;
    measure_latency()?;
    measure_bystanders()?;
    measure_backlog()
}

/// Measures events a second to one subscriber, and deliveries a second to five.
fn measure_throughput() -> Result<(), BenchError> {
    let load = BenchLoad {
        connections: 32,
        entities: 1_000,
        warm_up: WARM_UP,
        time: ROUND,
        rate: None,
    };
    let mut rounds = Vec::new();
    for _ in 0..ROUNDS {
        let ceiling = LatencySummary::new(
            drive_load(BenchServer::start_bare()?.port, load)?,
            load.time,
        )
        .per_second;
        rounds.push((
            ceiling,
            delivered_per_second(load, 1)?,
            delivered_per_second(load, 5)?,
        ));
    }
    // Median round, by its ratio.
    rounds.sort_by(|a, b| (a.1 / a.0).total_cmp(&(b.1 / b.0)));
    let (ceiling, one, five) = rounds[ROUNDS / 2];
    println!("bare handler, c=32:      {ceiling:>8.0} /s");
    println!(
        "one subscriber:          {one:>8.0} /s end to end, {:.3} of the bare handler",
        one / ceiling
    );
    println!(
        "five subscribers:        {five:>8.0} deliveries/s, {:.2} of one",
        five / one
    );
    Ok(())
}

/// Measures deliveries a second, from the first request to the last delivery.
fn delivered_per_second(load: BenchLoad, subscribers: u64) -> Result<f64, BenchError> {
    let (node, receiver) = (
        BenchServer::start_node()?,
        BenchServer::start_role("receiver")?,
    );
    for _ in 0..subscribers {
        subscribe(&node, &receiver_url(&receiver), &["ticket:*"])?;
    }
    let began = Instant::now();
    drive_load(node.port, load)?;
    // All accepted events, not only those that count as a latency.
    let accepted = count_events(&node)?;
    let got = wait_for(&receiver, accepted * subscribers)?;
    Ok(got.count as f64 / began.elapsed().as_secs_f64())
}

/// Measures the time from signing a request to its delivery, at a moderate rate.
fn measure_latency() -> Result<(), BenchError> {
    let load = BenchLoad {
        connections: 8,
        entities: 1_000,
        warm_up: WARM_UP,
        time: ROUND * 2,
        rate: Some(300.0),
    };
    let (node, receiver) = (
        BenchServer::start_node()?,
        BenchServer::start_role("receiver")?,
    );
    subscribe(&node, &receiver_url(&receiver), &["*"])?;
    drive_load(node.port, load)?;
    let got = wait_for(&receiver, count_events(&node)?)?;
    println!(
        "request to delivery at 300/s: {:.2?} {:.2?} (p50, p99)",
        got.p50, got.p99
    );
    Ok(())
}

/// Measures accepts a second with 10,000 subscribers of which one follows the sent event, compared
/// with that subscriber alone.
fn measure_bystanders() -> Result<(), BenchError> {
    let load = BenchLoad {
        connections: 32,
        entities: 1_000,
        warm_up: WARM_UP,
        time: ROUND,
        rate: None,
    };
    let accepted = |bystanders: u64| {
        let (node, receiver) = (
            BenchServer::start_node()?,
            BenchServer::start_role("receiver")?,
        );
        subscribe(&node, &receiver_url(&receiver), &["ticket:*"])?;
        subscribe_many(&node, bystanders, &receiver_url(&receiver))?;
        Ok::<_, BenchError>(LatencySummary::new(drive_load(node.port, load)?, load.time).per_second)
    };
    let (alone, among) = (accepted(0)?, accepted(BYSTANDERS)?);
    println!(
        "accepted among {BYSTANDERS} bystanders: {among:>8.0} /s, {:.2} of {alone:.0} /s",
        among / alone
    );
    Ok(())
}

/// Measures the memory with a backlog of a million deliveries, and the time of a restart after
/// `kill -9`.
fn measure_backlog() -> Result<(), BenchError> {
    let node = BenchServer::start_node()?;
    let idle = node.resident_bytes()?;
    // Nobody listens at port 9.
    subscribe(&node, "http://127.0.0.1:9/", &["*"])?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let mut stream = TcpStream::connect(("127.0.0.1", node.port)).await?;
        for list in 0..OWED / LIST_EVENTS {
            let event = |number: u64| {
                let id = (list * LIST_EVENTS + number) % 10_000;
                format!(r#"{{"event":"organisation.updated","data":{{"organisation_id":{id},"list":{list}}}}}"#)
            };
            let body = format!("[{}]", (0..LIST_EVENTS).map(event).collect::<Vec<_>>().join(","));
            call_api(&mut stream, "POST", "/api/v1/events", PUBLISHER, &body).await?;
        }
        Ok::<_, std::io::Error>(())
    })?;
    let full = node.resident_bytes()?;
    let (_node, start) = node.restart_after_kill()?;
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    println!(
        "memory: {:.0} MiB idle, {:.0} MiB with {OWED} deliveries owed",
        mib(idle),
        mib(full)
    );
    println!("ready again after kill -9 with all of them owed: {start:.2?}");
    Ok(())
}

fn receiver_url(receiver: &BenchServer) -> String {
    format!("http://127.0.0.1:{}/", receiver.port)
}

fn subscribe(node: &BenchServer, url: &str, events: &[&str]) -> Result<(), BenchError> {
    let body = serde_json::json!({ "url": url, "events": events }).to_string();
    call_admin_api(node.port, "POST", "/api/v1/webhooks", &body).map(drop)
}

fn subscribe_many(node: &BenchServer, count: u64, url: &str) -> Result<(), BenchError> {
    let body =
        serde_json::json!({ "url": url, "events": ["lead.*", "c2s_lead.received"] }).to_string();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    Ok(runtime.block_on(async {
        let mut stream = TcpStream::connect(("127.0.0.1", node.port)).await?;
        for _ in 0..count {
            call_api(&mut stream, "POST", "/api/v1/webhooks", ADMIN, &body).await?;
        }
        Ok::<_, std::io::Error>(())
    })?)
}

/// Returns the number of events that the node accepted.
fn count_events(node: &BenchServer) -> Result<u64, BenchError> {
    let list: serde_json::Value = serde_json::from_str(&call_admin_api(
        node.port,
        "GET",
        "/api/v1/events?page_size=1",
        "",
    )?)?;
    Ok(list["total"].as_u64().ok_or("no total")?)
}

fn call_admin_api(port: u16, method: &str, path: &str, body: &str) -> Result<String, BenchError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    Ok(runtime.block_on(async {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
        call_api(&mut stream, method, path, ADMIN, body).await
    })?)
}

/// Latencies of the deliveries that a receiver got so far.
#[derive(serde::Serialize, serde::Deserialize)]
struct DeliveredLatencies {
    count: u64,
    p50: Duration,
    p99: Duration,
}

fn wait_for(receiver: &BenchServer, count: u64) -> Result<DeliveredLatencies, BenchError> {
    let until = Instant::now() + PATIENCE;
    loop {
        let got: u64 = call_admin_api(receiver.port, "GET", "/count", "")?.parse()?;
        if got >= count {
            return Ok(serde_json::from_str(&call_admin_api(
                receiver.port,
                "GET",
                "/",
                "",
            )?)?);
        }
        if Instant::now() > until {
            return Err(format!("{got} of {count} deliveries came").into());
        }
        std::thread::sleep(POLL);
    }
}

/// Runs a subscriber that accepts everything at once and records the latency of each event.
fn serve_receiver() -> Result<(), BenchError> {
    actix_rt::System::new().block_on(async {
        let latencies = web::Data::new(Mutex::new(Vec::<Duration>::new()));
        let app = move || {
            App::new()
                .app_data(latencies.clone())
                .app_data(web::PayloadConfig::new(1 << 20))
                .route("/", web::post().to(record_delivery))
                .route("/", web::get().to(answer_latencies))
                .route("/count", web::get().to(answer_count))
        };
        let server = HttpServer::new(app).workers(1).bind("127.0.0.1:0")?;
        announce(server.addrs()[0].port())?;
        Ok(server.run().await?)
    })
}

async fn record_delivery(
    body: web::Bytes,
    latencies: web::Data<Mutex<Vec<Duration>>>,
) -> HttpResponse {
    const MARK: &[u8] = b"\"sent_at\":";
    let sent_at = body
        .windows(MARK.len())
        .position(|window| window == MARK)
        .map(|at| {
            let digits = body[at + MARK.len()..]
                .iter()
                .take_while(|byte| byte.is_ascii_digit());
            digits.fold(0_i64, |number, digit| number * 10 + i64::from(digit - b'0'))
        });
    let latency = SystemClock::default().wall().as_micros() - sent_at.unwrap_or_default();
    let latency = Duration::from_micros(u64::try_from(latency).unwrap_or_default());
    latencies.lock().push(latency);
    HttpResponse::Ok().finish()
}

async fn answer_count(latencies: web::Data<Mutex<Vec<Duration>>>) -> HttpResponse {
    HttpResponse::Ok().body(latencies.lock().len().to_string())
}

async fn answer_latencies(latencies: web::Data<Mutex<Vec<Duration>>>) -> HttpResponse {
    let latencies = latencies.lock().clone();
    let count = latencies.len() as u64;
    let LatencySummary { p50, p99, .. } = LatencySummary::new(latencies, ROUND);
    HttpResponse::Ok().json(DeliveredLatencies { count, p50, p99 })
}
