//! Durable accepts a second, compared with a bare actix-web handler that only reads the body and
//! verifies its signature.
//!
//! `cargo bench --bench accept`. Each round runs both servers, one after the other, as processes of
//! their own under the same load: keep-alive connections whose client signs every request. The
//! ratio within a round is the result. `cpu` is the server's processor time for one event, and `disk`
//! the bytes that one event made the system write. The last measurement is the time until one list of 1,000
//! events is answered, that is, until all of it is on disk.
#![expect(
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a program that measures time and prints what it measured"
)]

mod load;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use load::{
    BenchError, BenchLoad, BenchServer, LatencySummary, PUBLISHER, call_api, drive_load, serve_bare,
};
use tokio::net::TcpStream;

const ROUND: Duration = Duration::from_secs(4);
const WARM_UP: Duration = Duration::from_secs(1);
const ROUNDS: usize = 3;

const LIST_EVENTS: u64 = 1_000;
const LISTS: u64 = 50;

fn main() -> ExitCode {
    // cargo passes `--bench`; the program passes itself `bare`.
    let outcome = if std::env::args().any(|argument| argument == "bare") {
        serve_bare()
    } else {
        measure()
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
    println!(
        "{:>24} {:>9} {:>9} {:>6} {:>9} {:>9} {:>6} {:>9} {:>19} {:>19}",
        "load",
        "bare /s",
        "node /s",
        "ratio",
        "bare cpu",
        "node cpu",
        "ratio",
        "disk",
        "bare p50/p99",
        "node p50/p99"
    );
    for (connections, entities) in [
        (1, 1_000),
        (32, 1_000),
        (128, 1_000),
        (128, 1),
        (128, 100_000),
    ] {
        let load = BenchLoad {
            connections,
            entities,
            warm_up: WARM_UP,
            time: ROUND,
            rate: None,
        };
        let mut rounds = Vec::new();
        for _ in 0..ROUNDS {
            let bare = measure_events(&BenchServer::start_bare()?, load)?;
            let node = measure_events(&BenchServer::start_node()?, load)?;
            rounds.push((bare, node));
        }
        // Median round, by its ratio.
        rounds.sort_by(|a, b| ratio(a).total_cmp(&ratio(b)));
        let middle = &rounds[ROUNDS / 2];
        let (bare, node) = middle;
        let name = format!("c={connections}, {entities} entities");
        println!(
            "{name:>24} {:>9.0} {:>9.0} {:>6.2} {:>9.1?} {:>9.1?} {:>6.2} {:>7} B {:>19} {:>19}",
            bare.per_second,
            node.per_second,
            ratio(middle),
            bare.cpu,
            node.cpu,
            node.cpu.as_secs_f64() / bare.cpu.as_secs_f64(),
            node.disk_bytes,
            bare.format_times(),
            node.format_times()
        );
    }
    let lists = measure_lists(&BenchServer::start_node()?)?;
    println!(
        "one list of {LIST_EVENTS} events: {} (p50, p99 of {LISTS})",
        lists.format_times()
    );
    Ok(())
}

fn ratio((bare, node): &(LatencySummary, LatencySummary)) -> f64 {
    node.per_second / bare.per_second
}

fn measure_events(server: &BenchServer, load: BenchLoad) -> Result<LatencySummary, BenchError> {
    let before = server.usage()?;
    let mut summary = LatencySummary::new(drive_load(server.port, load)?, load.time);
    let after = server.usage()?;

    // The warm-up used its share.
    let events = summary.per_second * (load.warm_up + load.time).as_secs_f64();
    summary.cpu = (after.cpu - before.cpu).div_f64(events);
    summary.disk_bytes = ((after.disk_bytes - before.disk_bytes) as f64 / events) as u64;
    Ok(summary)
}

/// Sends one list of events after the other on one connection.
fn measure_lists(server: &BenchServer) -> Result<LatencySummary, BenchError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let began = Instant::now();
    let latencies = runtime.block_on(async {
        let mut stream = TcpStream::connect(("127.0.0.1", server.port)).await?;
        stream.set_nodelay(true)?;
        let mut latencies = Vec::new();
        for list in 0..LISTS {
            let event = |number| {
                let id = number % 200;
                format!(
                    r#"{{"event":"organisation.updated","user_id":12,"data":{{"organisation_id":{id},"list":{list}}}}}"#
                )
            };
            let body = format!("[{}]", (0..LIST_EVENTS).map(event).collect::<Vec<_>>().join(","));
            let sent = Instant::now();
            call_api(&mut stream, "POST", "/api/v1/events", PUBLISHER, &body).await?;
            latencies.push(sent.elapsed());
        }
        Ok::<_, std::io::Error>(latencies)
    })?;
    Ok(LatencySummary::new(latencies, began.elapsed()))
}
