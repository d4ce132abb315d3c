//! Damaged requests to a node, and damaged answers of a subscriber to its deliveries: each is answered
//! or refused. No panic follows, contained or not, and no internal error.
//!
//! `src/damaged_samples.rs` says how to run it for longer.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener as StdTcpListener};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use parking_lot::Mutex;
use proptest::strategy::{BoxedStrategy, Strategy, ValueTree};
use proptest::test_runner::TestRunner;
use reqwest::{Method, RequestBuilder};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpSocket;

use crate::c2s;
use crate::damaged_samples::{damage_cases, damaged};
use crate::dashboard::{DashboardVisitor, PAGES};
use crate::deliveries::subscribe;
use crate::docs::{ENABLED, KnownPathParameters, operations, spec_of};
use crate::senders::DESCRIBED;
use crate::test_node::{NodeProcess, TestEnv, free_port, run_async};
use crate::webhooks::act;

/// Longest wait for an answer: some damaged requests are never complete.
const PATIENCE: Duration = Duration::from_millis(300);

/// Forms of the dashboard, with a field or two of each.
const FORMS: [(&str, &[(&str, &str)]); 8] = [
    (
        "/dashboard/settings/webhooks",
        &[
            ("url", "https://crm.example/x"),
            ("events", "*\nlead.*"),
            ("filter", "late"),
        ],
    ),
    (
        "/dashboard/settings/webhooks/1",
        &[
            ("headers", "X-A: b"),
            ("retry_schedule_s", "1, 60"),
            ("version", "1"),
        ],
    ),
    (
        "/dashboard/dead-letters",
        &[("action", "retry"), ("since", "2025-12-04T10:30")],
    ),
    (
        "/dashboard/accounts",
        &[("account_id", "acc_1"), ("cooldown_s", "1.5")],
    ),
    (
        "/dashboard/tokens",
        &[("name", "ci"), ("role", "read"), ("expires_in", "90")],
    ),
    (
        "/dashboard/sources/check",
        &[
            ("source", "billing"),
            ("request", "POST /in/billing HTTP/1.1\r\nHost: h\r\n\r\n{}"),
        ],
    ),
    ("/dashboard/clock/confirm", &[]),
    (
        "/dashboard/login",
        &[
            ("token", "not-a-token-of-this-node"),
            ("next", "/dashboard/events"),
        ],
    ),
];

/// Requests with bytes that no client library writes.
const ODD_REQUESTS: [&str; 3] = [
    "POST /in/billing HTTP/1.1\r\nHost: h\r\nX-Forwarded-For: 203.0.113.9, [::1]:80, 10.0.0.1\r\nContent-Encoding: gzip\r\n\
     Content-Type: application/x-www-form-urlencoded; charset=windows-1252\r\nTransfer-Encoding: chunked\r\n\r\n\
     5;a=b\r\nid=%E\r\n1\r\n4\r\n0\r\nX-T: 1\r\n\r\n",
    "GET /api/v1/entities/ticket/%F0%9F%92%A9%00%2F..?page=1&page=x&a[]=%zz HTTP/1.1\r\nHost: h\r\n\
     Cookie: a=b; hookyard_session=x; =;\r\nIf-None-Match: \"a\", W/\"b\"\r\nAccept-Encoding: gzip;q=0, br, *;q=x\r\n\r\n\
     GET /docs/ HTTP/1.1\r\nHost: h\r\nRange: bytes=0-1,5-\r\n\r\n",
    "OPTIONS * HTTP/1.0\r\nConnection: upgrade\r\nUpgrade: h2c\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\nabc",
];

/// Returns the bytes of `request` as a client sends them.
fn raw(request: RequestBuilder) -> Vec<u8> {
    let request = request.build().expect("a request");
    let url = request.url();
    let target = &url[url::Position::BeforePath..];
    let body = request
        .body()
        .and_then(reqwest::Body::as_bytes)
        .unwrap_or_default();
    let mut bytes = format!("{} {target} HTTP/1.1\r\nHost: h\r\n", request.method()).into_bytes();
    for (name, value) in request.headers() {
        bytes.extend([name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat());
    }
    bytes.extend(format!("Content-Length: {}\r\n\r\n", body.len()).into_bytes());
    bytes.extend(body);
    bytes
}

/// Returns a request of each described operation, page and form.
async fn samples(node: &NodeProcess) -> Vec<Vec<u8>> {
    let mut samples: Vec<_> = ODD_REQUESTS
        .iter()
        .map(|text| text.as_bytes().to_vec())
        .collect();
    for operation in operations(&spec_of(node).await) {
        for (number, body) in operation.bodies().iter().enumerate() {
            let known = KnownPathParameters::new();
            samples.push(raw(operation.request(node, &known, body.as_ref(), number)));
        }
    }
    let visitor = DashboardVisitor::logged_in(node).await;
    samples.extend(PAGES.map(|path| raw(visitor.request(Method::GET, path))));
    samples.extend(FORMS.map(|(path, fields)| raw(visitor.form(path, fields))));
    samples
}

/// Returns the next damaged sample.
fn draw(samples: &BoxedStrategy<Vec<u8>>, runner: &mut TestRunner) -> Vec<u8> {
    let tree = samples.new_tree(runner);
    tree.expect("no sample is filtered out").current()
}

/// Sends `bytes` from the loopback address of the case `number`, and returns the beginning of the
/// answer.
async fn exchange(address: SocketAddr, number: usize, bytes: &[u8]) -> Vec<u8> {
    let socket = TcpSocket::new_v4().expect("a socket");
    // One address has fewer ports than a long run has connections.
    let own = [
        127,
        0,
        1 + (number / 250 % 250) as u8,
        1 + (number % 250) as u8,
    ];
    socket.bind((own, 0).into()).expect("an address");
    let mut stream = socket.connect(address).await.expect("the node listens");
    let mut answer = vec![0; 12];
    let talk = async {
        // Ignored: the node may have refused the request before it came whole.
        let _ = stream.write_all(bytes).await;
        let _ = stream.shutdown().await;
        stream.read_exact(&mut answer).await.is_ok()
    };
    let is_answered = tokio::time::timeout(PATIENCE, talk).await.unwrap_or(false);
    if is_answered { answer } else { Vec::new() }
}

/// Asserts that the node runs, and that its log tells of no panic and no error of the node.
async fn assert_unharmed(mut node: NodeProcess) {
    assert_eq!(node.get("/healthz").await.status, 200);
    assert!(node.child.try_wait().expect("a child").is_none());
    let log = node.kill_and_read_log();
    let told: Vec<_> = log
        .iter()
        .filter(|line| line.contains("ERROR") || line.contains("panic"))
        .collect();
    assert!(told.is_empty(), "{told:#?}");
}

#[test]
fn any_request_is_answered_or_refused() {
    run_async(async {
        let mut test_env = c2s::test_env(&ENABLED);
        test_env.write_file(DESCRIBED);
        test_env.set("server.auth_failures_per_minute", "0");
        test_env.set("server.trusted_proxies", "127.0.0.0/8");
        // Events of damaged requests must not keep the node busy with deliveries.
        test_env.set("delivery.subscriptions_max", "3");
        let node = test_env.start_process().await;
        let address = node
            .base
            .trim_start_matches("http://")
            .parse()
            .expect("an address");
        let samples = damaged(&samples(&node).await);

        let config = damage_cases(512);
        let cases = config.cases;
        let mut runner = TestRunner::new(config);
        let mut answers = 0;
        for number in 0..cases as usize {
            let bytes = draw(&samples, &mut runner);
            let answer = exchange(address, number, &bytes).await;
            let is_internal = answer.ends_with(b" 500");
            assert!(!is_internal, "{}", String::from_utf8_lossy(&bytes));
            answers += u32::from(!answer.is_empty());
        }
        assert!(answers > cases / 2, "{answers} of {cases} were answered");
        assert_unharmed(node).await;
    });
}

/// Answers each connection with the bytes that `next` holds.
fn answer_with(next: Arc<Mutex<Vec<u8>>>) -> u16 {
    let port = free_port();
    let listener = StdTcpListener::bind(("127.0.0.1", port)).expect("a free port");
    thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let mut request = Vec::new();
            let mut buffer = [0; 4_096];
            // The body of a ping is JSON.
            while !request.ends_with(b"}") {
                match stream.read(&mut buffer) {
                    Ok(0) | Err(_) => break,
                    Ok(count) => request.extend_from_slice(&buffer[..count]),
                }
            }
            // Ignored: the node may have closed the connection.
            let _ = stream.write_all(&next.lock());
        }
    });
    port
}

#[test]
fn any_answer_of_a_subscriber_is_judged_or_refused() {
    run_async(async {
        let test_env = TestEnv::new(&[
            ("delivery.allow_targets", "127.0.0.0/8"),
            ("delivery.timeout_s", "1"),
        ]);
        let node = test_env.start_process().await;
        let next = Arc::new(Mutex::new(Vec::new()));
        let port = answer_with(Arc::clone(&next));
        subscribe(
            &node,
            format!("http://127.0.0.1:{port}/"),
            json!({"is_active": false}),
        )
        .await;

        let config = damage_cases(128);
        let cases = config.cases;
        let mut runner = TestRunner::new(config);
        let samples = damaged(&[
            "HTTP/1.1 200 OK\r\nContent-Length: 4\r\nContent-Type: text/plain; charset=x\r\n\r\npong",
            "HTTP/1.1 503 Busy\r\nRetry-After: Fri, 31 Dec 1999 23:59:59 GMT\r\nTransfer-Encoding: chunked\r\n\r\n4\r\npong\r\n0\r\n\r\n",
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 429 \r\nRetry-After: 120\r\nConnection: close\r\n\r\n\u{fffd}",
            "HTTP/1.0 302 Found\r\nLocation: http://169.254.169.254/\r\nSet-Cookie: a=b\r\n\r\n",
            "HTTP/1.1 410 Gone\r\nContent-Encoding: gzip\r\nContent-Length: 99999999999999999999\r\n\r\n",
        ]);
        let mut statuses = 0;
        for _ in 0..cases {
            let bytes = draw(&samples, &mut runner);
            next.lock().clone_from(&bytes);
            let tested = act(&node, "/1/test").await;
            let shown = String::from_utf8_lossy(&bytes).into_owned();
            assert_eq!(tested.status, 200, "{shown:?}: {tested:?}");
            let (status, code) = (&tested.body["status"], &tested.body["code"]);
            let is_judged = status.is_u64() || code.is_string();
            assert!(is_judged, "{shown:?}: {tested:?}");
            statuses += u32::from(status.is_u64());
        }
        assert!(statuses > cases / 4, "{statuses} of {cases} had a status");
        assert_unharmed(node).await;
    });
}
