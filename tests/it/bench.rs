//! `hookyard bench`: its verdicts on the own node, under kills and faults, and on a target that
//! breaks the order on purpose.

use std::collections::BTreeSet;
use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::mpsc;

use actix_web::web::{self, Data};
use actix_web::{App, HttpResponse, HttpServer};
use parking_lot::Mutex;
use reqwest::Client;
use serde_json::Value;

use crate::commands::{DevNode, folder, hookyard, output_of, send_signal};

/// Runs `hookyard bench` in `folder` and returns its exit code, the JSON report, and its output.
fn bench(folder: &Path, words: &str) -> (Option<i32>, Value, String) {
    let mut command = hookyard(folder, &["bench", "--json", "report.json"]);
    command.args(words.split(' ')).env("TMPDIR", folder);
    let (code, output, error) = output_of(&mut command);
    let report = fs::read_to_string(folder.join("report.json")).unwrap_or_default();
    let report = serde_json::from_str(&report).unwrap_or(Value::Null);
    (code, report, format!("{output}\n{error}"))
}

#[test]
fn a_run_against_an_own_node_is_clean_and_reported_in_every_form() {
    let folder = folder();
    let words = "--events 300 --entities 20 --connections 4 --subscribers 2 --seed 5 --baseline \
                 --html report.html";
    let (code, report, output) = bench(folder.path(), words);
    assert_eq!(code, Some(0), "{output}");

    assert!(
        output.contains("clean: every acknowledged event"),
        "{output}"
    );
    for row in [
        "accepted",
        "delivered, end to end",
        "bare handler",
        "store",
        "subscriber 2",
    ] {
        assert!(
            output.lines().any(|line| line.starts_with(row)),
            "{row}: {output}"
        );
    }
    assert_eq!(report["accept"]["events"], 300);
    assert_eq!(report["delivery"]["events"], 600);
    assert_eq!(report["verdict"]["is_clean"], true);
    for judged in [
        &report["verdict"]["store"],
        &report["verdict"]["subscribers"][1],
    ] {
        assert_eq!(judged["events"], 300, "{report}");
        for fault in ["swaps", "gaps", "doubles", "losses", "foreign"] {
            assert_eq!(judged[fault], 0, "{fault}: {report}");
        }
    }
    assert!(report["accept"]["latency"]["p999_ms"].as_f64() > Some(0.0));
    assert!(report["baseline"]["accept_ratio"].as_f64() > Some(0.0));
    let command = report["command"].as_str().unwrap_or_default();
    assert!(
        command.starts_with("hookyard bench --entities 20"),
        "{command}"
    );

    let page = fs::read_to_string(folder.path().join("report.html")).expect("written");
    assert_eq!(page.matches("<svg").count(), 4, "four plots");
    assert_eq!(page.matches("<path").count(), 9, "and their lines");
    assert!(page.contains(command) && page.contains("clean: every"));
    assert!(
        !page.contains("://") && !page.contains("<script"),
        "nothing from elsewhere"
    );
    let left = fs::read_dir(folder.path()).expect("there").count();
    assert_eq!(left, 2, "the reports, and no store");
}

#[test]
fn kills_and_failing_subscribers_leave_the_order_whole() {
    let folder = folder();
    // The rate makes the run long enough for kills, however fast the machine is.
    let words = "--events 300 --entities 10 --connections 4 --rate 150 --kill-every 0.5 \
                 --faults fail,restart --html report.html";
    let (code, report, output) = bench(folder.path(), words);
    assert_eq!(code, Some(0), "{output}");
    assert!(report["kills"]["kills"].as_u64() >= Some(1), "{report}");
    assert_eq!(report["verdict"]["is_clean"], true);
    assert_eq!(report["delivery"]["events"], 900);
    assert!(
        report["retries"]["unanswered"].as_u64() > Some(0),
        "senders saw the kills: {report}"
    );
    let page = fs::read_to_string(folder.path().join("report.html")).expect("written");
    assert!(page.contains("<rect class=\"kill\""), "kills are drawn");
}

#[test]
fn ctrl_c_ends_a_run_early_with_its_report() {
    let folder = folder();
    let mut command = hookyard(
        folder.path(),
        &["bench", "--rate", "100", "--adapter", "a.toml"],
    );
    command
        .env("TMPDIR", folder.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let target = OtherSystem::start(&[]);
    fs::write(folder.path().join("a.toml"), target.registering_adapter()).expect("writable");
    let mut child = command.spawn().expect("it starts");
    target.wait_for_an_event();
    send_signal(&child, "INT");
    let mut output = String::new();
    let mut pipe = child.stdout.take().expect("a pipe");
    pipe.read_to_string(&mut output).expect("text");
    assert!(output.contains("in order (ended early)"), "{output}");
    assert_eq!(child.wait().expect("it ends").code(), Some(0), "{output}");
}

#[test]
fn without_a_way_to_register_the_url_of_the_receiver_is_printed() {
    let folder = folder();
    let target = OtherSystem::start(&[]);
    fs::write(folder.path().join("a.toml"), target.adapter("")).expect("writable");
    let words = "--events 20 --wait 0.2 --adapter a.toml --bind 127.0.0.1:0";
    let (code, report, output) = bench(folder.path(), words);
    assert_eq!(code, Some(1), "nothing was delivered: {output}");
    let line = output.lines().next().unwrap_or_default();
    assert!(
        line.starts_with("the target has to deliver to http://127.0.0.1:") && line.ends_with("/0"),
        "{output}"
    );
    assert_eq!(
        report["verdict"]["subscribers"][0]["losses"], 20,
        "{report}"
    );
}

/// Disturbance of the deliveries, by entity and number.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Disturbance {
    /// Delivers the event after the next one of its entity.
    Swap(u32, u64),
    Drop(u32, u64),
    /// Delivers the event again under another id.
    Double(u32, u64),
    /// Delivers the event again under the same id.
    Redeliver(u32, u64),
}

/// Other system, for an adapter: it takes events in memory and delivers them one after the other.
struct OtherSystem {
    port: u16,
    system: actix_rt::System,
    state: Arc<SystemState>,
    events: Mutex<mpsc::Receiver<()>>,
}

#[derive(Default)]
struct SystemState {
    receivers: Mutex<Vec<String>>,
    bodies: Mutex<Vec<Value>>,
}

impl OtherSystem {
    fn start(disturbances: &[Disturbance]) -> Self {
        let (disturbances, state) = (disturbances.to_vec(), Arc::<SystemState>::default());
        let (started, start) = mpsc::channel();
        let (arrived, events) = mpsc::channel();
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            let system = actix_rt::System::new();
            system.block_on(async {
                let (queue, queued) = tokio::sync::mpsc::unbounded_channel::<Value>();
                actix_rt::spawn(deliver(queued, Arc::clone(&shared), disturbances));
                let app = move || {
                    App::new()
                        .app_data(Data::new(queue.clone()))
                        .app_data(Data::new(arrived.clone()))
                        .app_data(Data::from(Arc::clone(&shared)))
                        .route("/events", web::post().to(accept))
                        .route("/receivers", web::post().to(register))
                };
                let server = HttpServer::new(app).workers(1).disable_signals();
                let server = server.bind("127.0.0.1:0").expect("a free port");
                let port = server.addrs()[0].port();
                started
                    .send((port, actix_rt::System::current()))
                    .expect("it waits");
                server.run().await.expect("it runs");
            });
        });
        let (port, system) = start.recv().expect("it starts");
        Self {
            port,
            system,
            state,
            events: Mutex::new(events),
        }
    }

    /// Adapter for this system; `register` is its section about receivers.
    fn adapter(&self, register: &str) -> String {
        let base = format!("http://127.0.0.1:{}", self.port);
        format!(
            r#"
name = "other"

[send]
url = "{base}/events"
headers = {{ Content-Type = "application/json", Idempotency-Key = "{{key}}" }}
body = '{{"entity": "{{entity}}", "number": {{number}}, "text": "{{payload}}"}}'
accepted = [202]

[deliver]
entity = "/entity"
number = "/number"
id_header = "webhook-id"
{register}"#
        )
    }

    fn registering_adapter(&self) -> String {
        self.adapter(&format!(
            r#"
[register]
url = "http://127.0.0.1:{}/receivers"
headers = {{ Content-Type = "application/json" }}
body = '{{"url": "{{receiver_url}}"}}'
"#,
            self.port
        ))
    }

    fn wait_for_an_event(&self) {
        self.events.lock().recv().expect("an event");
    }

    /// Bodies of all events without the label of the run, in the order of entity and number.
    fn traffic(&self) -> BTreeSet<(u32, u64, String)> {
        let bodies = self.state.bodies.lock();
        let parts = bodies.iter().map(|body| {
            let (entity, number) = parse_event(body);
            (entity, number, body["text"].to_string())
        });
        parts.collect()
    }
}

impl Drop for OtherSystem {
    fn drop(&mut self) {
        self.system.stop();
    }
}

fn parse_event(body: &Value) -> (u32, u64) {
    let entity = body["entity"].as_str().unwrap_or_default();
    let entity = entity.rsplit('-').next().and_then(|text| text.parse().ok());
    (
        entity.expect("an entity"),
        body["number"].as_u64().expect("a number"),
    )
}

async fn accept(
    body: web::Json<Value>,
    queue: Data<tokio::sync::mpsc::UnboundedSender<Value>>,
    arrived: Data<mpsc::Sender<()>>,
    state: Data<SystemState>,
) -> HttpResponse {
    // Only one test waits for events.
    let _ = arrived.send(());
    state.bodies.lock().push(body.clone());
    queue.send(body.into_inner()).expect("it delivers");
    HttpResponse::Accepted().finish()
}

async fn register(body: web::Json<Value>, state: Data<SystemState>) -> HttpResponse {
    let url = body["url"].as_str().expect("a URL").to_owned();
    state.receivers.lock().push(url);
    HttpResponse::Created().finish()
}

async fn deliver(
    mut queued: tokio::sync::mpsc::UnboundedReceiver<Value>,
    state: Arc<SystemState>,
    disturbances: Vec<Disturbance>,
) {
    let client = Client::builder().no_proxy().build().expect("a client");
    let post = async |body: &Value, id: &str| {
        let receivers = state.receivers.lock().clone();
        for url in receivers {
            let request = client.post(url).header("webhook-id", id);
            // The benchmark may have ended.
            let _ = request.body(body.to_string()).send().await;
        }
    };
    let mut held: Option<Value> = None;
    while let Some(body) = queued.recv().await {
        let (entity, number) = parse_event(&body);
        let id = format!("{entity}-{number}");
        if disturbances.contains(&Disturbance::Swap(entity, number)) {
            held = Some(body);
            continue;
        }
        if disturbances.contains(&Disturbance::Drop(entity, number)) {
            continue;
        }
        post(&body, &id).await;
        if disturbances.contains(&Disturbance::Double(entity, number)) {
            post(&body, &format!("{id}-again")).await;
        }
        if disturbances.contains(&Disturbance::Redeliver(entity, number)) {
            post(&body, &id).await;
        }
        if let Some(late) = held.take_if(|held| parse_event(held) == (entity, number - 1)) {
            post(&late, &format!("{entity}-{}", number - 1)).await;
        }
    }
}

#[test]
fn a_target_that_breaks_the_order_is_found_out() {
    let folder = folder();
    let target = OtherSystem::start(&[
        Disturbance::Swap(0, 2),
        Disturbance::Drop(1, 3),
        Disturbance::Double(2, 2),
        Disturbance::Redeliver(3, 1),
    ]);
    fs::write(folder.path().join("a.toml"), target.registering_adapter()).expect("writable");
    let words = "--events 200 --entities 10 --connections 4 --wait 1 --adapter a.toml";
    let (code, report, output) = bench(folder.path(), words);
    assert_eq!(code, Some(1), "{output}");
    assert!(
        output.contains("NOT CLEAN: 1 swap, 1 gap, 1 double, 1 loss"),
        "{output}"
    );
    assert!(
        output.contains("error: 1 swap, 1 gap, 1 double, 1 loss"),
        "{output}"
    );
    let verdict = &report["verdict"];
    assert_eq!(verdict["store"], Value::Null, "it cannot be read");
    let found = &verdict["subscribers"][0];
    for (fault, count) in [
        ("swaps", 1),
        ("gaps", 1),
        ("doubles", 1),
        ("losses", 1),
        ("repetitions", 1),
        ("foreign", 0),
        ("events", 199),
    ] {
        assert_eq!(found[fault], count, "{fault}: {report}");
    }
}

#[test]
fn the_same_seed_gives_another_system_the_same_traffic() {
    let folder = folder();
    let run = |seed: u32| {
        let target = OtherSystem::start(&[]);
        fs::write(folder.path().join("a.toml"), target.registering_adapter()).expect("writable");
        let words =
            format!("--events 100 --entities 7 --connections 3 --adapter a.toml --seed {seed}");
        let (code, _, output) = bench(folder.path(), &words);
        assert_eq!(code, Some(0), "{output}");
        target.traffic()
    };
    let first = run(3);
    assert_eq!(first.len(), 100);
    assert_eq!(first, run(3), "whatever the connections did");
    assert_ne!(first, run(4));
}

#[test]
fn a_running_node_is_measured_and_keeps_no_subscription() {
    let folder = folder();
    let mut serve = hookyard(folder.path(), &["serve", "--dev"]);
    let node = DevNode::start(serve.env("HOOKYARD_SOURCES__SUPPORT__RATE_PER_MINUTE", "0"));
    let url = node.send.rsplit(' ').next().expect("a URL").to_owned();
    for _ in 0..2 {
        // The second run meets the events of the first one.
        let words = format!("--events 100 --entities 5 --connections 2 --target {url} --dev");
        let (code, report, output) = bench(folder.path(), &words);
        assert_eq!(code, Some(0), "{output}");
        assert_eq!(report["verdict"]["store"]["events"], 100, "{report}");
    }
    let mut list = hookyard(
        folder.path(),
        &["webhooks", "list", "--json", "--url", &url],
    );
    let (code, listed, error) = output_of(list.arg("--dev"));
    assert_eq!(code, Some(0), "{error}");
    assert_eq!(listed.lines().count(), 0, "{listed}");
}

#[test]
fn a_target_that_is_not_there_or_not_meant_is_named() {
    let folder = folder();
    let (code, _, output) = bench(folder.path(), "--events 5 --target http://192.0.2.1:9");
    assert_eq!(code, Some(1));
    assert!(output.contains("give --yes"), "{output}");

    let adapter = "name = 'x'\n[send]\nurl = 'http://127.0.0.1:9/'\n[deliver]\nentity = '/e'\nnumber = '/n'\n";
    fs::write(folder.path().join("a.toml"), adapter).expect("writable");
    let words = "--events 5 --subscribers 0 --wait 0.1 --adapter a.toml";
    let (code, _, output) = bench(folder.path(), words);
    assert_eq!(code, Some(1));
    assert!(output.contains("accepted no event"), "{output}");

    let (code, _, output) = bench(folder.path(), "--adapter none.toml");
    assert_eq!(code, Some(1));
    assert!(
        output.contains("cannot read the adapter none.toml"),
        "{output}"
    );
    let (code, _, _) = bench(folder.path(), "--adapter a.toml --kill-every 1");
    assert_eq!(code, Some(2), "only the own node can be killed");
}
