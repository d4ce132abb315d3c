//! Requests through all of the edge, to a node whose store is not open: what is refused, in which
//! order, and with what.

use std::collections::BTreeSet;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use actix_web::App;
use actix_web::http::{Method, header::HeaderMap};
use actix_web::test::{TestRequest, call_service, init_service, read_body};
use actix_web::web::Data;
use serde_json::{Value, json};

use super::source::CallSource;
use super::support::signature::sign_support_body;
use super::{CoreGate, Edge, ListenerRole, LiveEdge, api, routes, serve};
use crate::clock::CheckedClock;
use crate::clock::ManualClock;
use crate::config::{self, Config, LiveConfig, Secret};
use crate::event::Timestamp;

const WEBHOOK: &str = "/api/v0/crm/webhooks/support/";
const NOW: &str = "2025-12-04T10:30:00Z";
const BODY: &str =
    r#"{"event":"status.changed","support_uid":"S","idempotency_key":"k","data":{"status":"new"}}"#;

struct EdgeTestBench {
    edge: Data<Edge>,
    clock: Arc<ManualClock>,
}

struct EdgeTestResponse {
    status: u16,
    headers: HeaderMap,
    body: Value,
}

impl EdgeTestBench {
    fn new(settings: &[(&str, &str)]) -> Self {
        Self::with_config(settings, |_| {})
    }

    /// Bench whose configuration is `changed` after it was read.
    fn with_config(settings: &[(&str, &str)], change: impl FnOnce(&mut Config)) -> Self {
        let secrets = [
            ("HOOKYARD_ADMIN__TOKEN", "test-token"),
            ("HOOKYARD_SOURCES__SUPPORT__ENABLED", "true"),
            ("HOOKYARD_SOURCES__SUPPORT__API_KEYS", "test-key,other-key"),
            (
                "HOOKYARD_SOURCES__SUPPORT__SECRETS",
                "new-secret,old-secret",
            ),
        ];
        let loaded = config::load_config(None, [&secrets, settings].concat());
        let mut config = loaded.expect("valid");
        change(&mut config);
        let clock = Arc::new(ManualClock::starting_at(
            Timestamp::parse(NOW).expect("valid"),
        ));
        let gate = CoreGate::closed("the store is being opened");
        Self {
            edge: Data::new(Edge::new(
                LiveConfig::fixed(config),
                Arc::new(CheckedClock::new(Arc::clone(&clock) as _)),
                <_>::default(),
                gate,
            )),
            clock,
        }
    }

    async fn send(&self, request: TestRequest) -> EdgeTestResponse {
        let app = App::new()
            .app_data(self.edge.clone())
            .configure(|service| routes::configure(service, &self.edge.config, ListenerRole::Whole))
            .default_service(routes::not_found());
        let request = request
            .peer_addr("203.0.113.9:4711".parse().expect("an address"))
            .to_request();
        let response = call_service(&init_service(app).await, request).await;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let body = serde_json::from_slice(&read_body(response).await).unwrap_or_default();
        EdgeTestResponse {
            status,
            headers,
            body,
        }
    }
}

impl EdgeTestResponse {
    fn code(&self) -> (u16, &str) {
        (self.status, self.body["code"].as_str().unwrap_or_default())
    }

    fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
    }
}

fn post(body: &str) -> TestRequest {
    TestRequest::post()
        .uri(WEBHOOK)
        .set_payload(body.to_owned())
}

fn signed(body: &str, key: &str, secret: &str, timestamp: &str) -> TestRequest {
    post(body)
        .insert_header(("x-crm-api-key", key))
        .insert_header((
            "x-crm-signature",
            sign_support_body(&Secret::new(secret), body.as_bytes(), timestamp),
        ))
        .insert_header(("x-crm-timestamp", timestamp))
}

fn get(path: &str) -> TestRequest {
    TestRequest::get()
        .uri(path)
        .insert_header(("authorization", "Bearer test-token"))
}

#[tokio::test]
async fn the_documentation_can_be_switched_off() {
    for (docs, status) in [("true", 200), ("false", 404)] {
        let bench = EdgeTestBench::new(&[("HOOKYARD_SERVER__DOCS", docs)]);
        for path in ["/docs/", "/docs/guide/receive", "/openapi.json"] {
            let answer = bench.send(TestRequest::get().uri(path)).await;
            assert_eq!(answer.status, status, "{path}");
        }
    }
}

/// A page of another site reaches what its reader reaches, and had events stored in their name.
#[tokio::test]
async fn a_page_of_another_site_sends_no_unsigned_event() {
    let bench = EdgeTestBench::new(&[("HOOKYARD_SOURCES__LEADS__ENABLED", "true")]);
    let send = async |name: &'static str, value: &'static str| {
        let lead = TestRequest::post().uri("/api/v1/webhooks/incoming");
        let lead = lead
            .set_payload("{}")
            .insert_header(("host", "node.example"));
        bench.send(lead.insert_header((name, value))).await
    };
    for (name, value) in [
        ("origin", "https://elsewhere.example"),
        ("sec-fetch-site", "cross-site"),
    ] {
        let refused = send(name, value).await;
        assert_eq!(refused.code(), (403, "forbidden"), "{name}");
    }
    let own = send("origin", "https://node.example").await;
    assert_eq!(own.code(), (400, "validation_failed"));
}

/// A page can let a name of its own lead to the loopback address, and then counts as of the same origin.
#[tokio::test]
async fn a_node_of_development_answers_to_names_of_this_machine_only() {
    for (is_development, host, status) in [
        (true, "elsewhere.example", 403),
        (true, "localhost:8080", 503),
        (false, "elsewhere.example", 503),
    ] {
        let bench = EdgeTestBench::with_config(&[], |config| {
            config.server.is_development = is_development;
        });
        let request = get("/api/v1/events").insert_header(("host", host));
        assert_eq!(bench.send(request).await.status, status, "{host}");
    }
}

#[tokio::test]
async fn checks_are_made_in_their_order() {
    let bench = EdgeTestBench::new(&[("HOOKYARD_SERVER__BODY_LIMIT_BYTES", "1024")]);
    let (large, stale) = ("x".repeat(1025), "2025-12-04T10:24:59Z");
    let text = |request: TestRequest| request.insert_header(("content-type", "text/plain"));
    let cases = [
        (post(&large), 413, "body_too_large"),
        (post("{"), 401, "invalid_api_key"),
        (
            signed("{", "wrong", "new-secret", NOW),
            401,
            "invalid_api_key",
        ),
        (signed("{", "", "new-secret", NOW), 401, "invalid_api_key"),
        (
            post("{").insert_header(("x-crm-api-key", "test-key")),
            401,
            "invalid_signature",
        ),
        (
            signed("{", "test-key", "wrong", stale),
            401,
            "invalid_signature",
        ),
        (
            signed("{", "test-key", "new-secret", "now"),
            401,
            "stale_timestamp",
        ),
        (
            signed("{", "test-key", "new-secret", stale),
            401,
            "stale_timestamp",
        ),
        (
            signed("{", "test-key", "new-secret", "2025-12-04T10:35:01Z"),
            401,
            "stale_timestamp",
        ),
        (
            text(signed("{", "test-key", "new-secret", NOW)),
            415,
            "unsupported_media_type",
        ),
        (
            signed("{", "test-key", "new-secret", NOW),
            400,
            "invalid_json",
        ),
        (
            signed("{}", "test-key", "new-secret", NOW),
            400,
            "validation_failed",
        ),
        (
            signed(r#"{"event": "x"}"#, "test-key", "new-secret", NOW),
            400,
            "unknown_event",
        ),
        (
            signed(BODY, "test-key", "new-secret", NOW),
            503,
            "unavailable",
        ),
        (
            signed(BODY, "other-key", "old-secret", "2025-12-04T10:25:00Z"),
            503,
            "unavailable",
        ),
    ];
    for (number, (request, status, code)) in (1..).zip(cases) {
        assert_eq!(
            bench.send(request).await.code(),
            (status, code),
            "case {number}"
        );
    }
}

#[tokio::test]
async fn the_timestamp_may_stand_in_the_body_instead() {
    let bench = EdgeTestBench::new(&[]);
    let without_header = |body: &str, timestamp: &str| {
        let signature = sign_support_body(&Secret::new("new-secret"), body.as_bytes(), timestamp);
        post(body)
            .insert_header(("x-crm-api-key", "test-key"))
            .insert_header(("x-crm-signature", signature))
    };
    let body = |timestamp: Value| {
        let mut body: Value = serde_json::from_str(BODY).expect("JSON");
        body["timestamp"] = timestamp;
        body.to_string()
    };
    let cases = [
        (without_header(&body(json!(NOW)), NOW), 503, "unavailable"),
        (
            without_header(&body(json!("today")), "today"),
            401,
            "stale_timestamp",
        ),
        (
            without_header(&body(json!(NOW)), "2025-12-04T10:30:01Z"),
            401,
            "invalid_signature",
        ),
        (without_header(BODY, ""), 401, "invalid_signature"),
        (
            without_header(&body(json!(7)), "7"),
            401,
            "invalid_signature",
        ),
        (without_header("nonsense", NOW), 401, "invalid_signature"),
        // The header is what was signed, but the body's own time still has to be one.
        (
            signed(&body(json!("today")), "test-key", "new-secret", NOW),
            400,
            "validation_failed",
        ),
    ];
    for (number, (request, status, code)) in (1..).zip(cases) {
        assert_eq!(
            bench.send(request).await.code(),
            (status, code),
            "case {number}"
        );
    }
}

#[tokio::test]
async fn json_has_several_names() {
    let bench = EdgeTestBench::new(&[]);
    for (name, status) in [
        ("application/json", 503),
        ("Application/JSON; charset=utf-8", 503),
        ("application/vnd.crm.v2+json", 503),
        ("application/x-www-form-urlencoded", 415),
        ("application/jsonp", 415),
        ("", 415),
    ] {
        let request =
            signed(BODY, "test-key", "new-secret", NOW).insert_header(("content-type", name));
        assert_eq!(bench.send(request).await.status, status, "{name}");
    }
}

#[tokio::test]
async fn each_api_key_has_a_window_of_its_own() {
    let bench = EdgeTestBench::new(&[("HOOKYARD_SOURCES__SUPPORT__RATE_PER_MINUTE", "2")]);
    let first = bench
        .send(signed(BODY, "test-key", "new-secret", NOW))
        .await;
    assert_eq!(
        (
            first.header("ratelimit-limit"),
            first.header("ratelimit-remaining")
        ),
        ("2", "1")
    );
    bench.clock.advance(Duration::from_millis(20_500));
    assert_eq!(
        bench
            .send(signed("{", "test-key", "new-secret", NOW))
            .await
            .header("ratelimit-remaining"),
        "0"
    );
    let refused = bench
        .send(signed(BODY, "test-key", "new-secret", NOW))
        .await;
    assert_eq!(refused.code(), (429, "rate_limited"));
    assert_eq!(
        (
            refused.header("retry-after"),
            refused.header("ratelimit-reset")
        ),
        ("40", "40")
    );
    assert_eq!(
        bench
            .send(signed(BODY, "other-key", "new-secret", NOW))
            .await
            .status,
        503
    );
    bench.clock.advance(Duration::from_secs(40));
    assert_eq!(
        bench
            .send(signed(BODY, "test-key", "new-secret", NOW))
            .await
            .status,
        503
    );
}

#[tokio::test]
async fn a_failing_caller_is_slowed_down_and_an_authentic_request_never() {
    let bench = EdgeTestBench::new(&[("HOOKYARD_SERVER__AUTH_FAILURES_PER_MINUTE", "2")]);
    assert_eq!(
        bench
            .send(signed(BODY, "test-key", "wrong", NOW))
            .await
            .code(),
        (401, "invalid_signature")
    );
    assert_eq!(
        bench
            .send(TestRequest::get().uri("/api/v1/events"))
            .await
            .code(),
        (401, "unauthorized")
    );
    for request in [
        signed(BODY, "wrong", "new-secret", NOW),
        TestRequest::get().uri("/api/v1/events"),
    ] {
        let refused = bench.send(request).await;
        assert_eq!(refused.code(), (429, "rate_limited"));
        assert_eq!(
            (
                refused.header("retry-after"),
                refused.header("ratelimit-limit")
            ),
            ("60", "2")
        );
    }
    assert_eq!(
        bench
            .send(signed(BODY, "test-key", "new-secret", NOW))
            .await
            .code(),
        (503, "unavailable")
    );
    assert_eq!(
        bench.send(get("/api/v1/events")).await.code(),
        (503, "unavailable")
    );
}

#[tokio::test]
async fn every_known_path_says_which_methods_it_takes() {
    let bench = EdgeTestBench::new(&[]);
    let reprocess = "/api/v1/events/evt_00000007_9/reprocess";
    let paths = [
        (WEBHOOK, "HEAD, POST"),
        ("/api/v0/crm/webhooks/support", "HEAD, POST"),
        (reprocess, "POST"),
        ("/healthz", "GET, HEAD"),
        ("/readyz", "GET, HEAD"),
        ("/api/v1/entities/ticket", "GET, HEAD"),
        ("/api/v1/entities/ticket/", "GET, HEAD"),
        ("/api/v1/entities/ticket/S/timeline", "GET, HEAD"),
        ("/api/v1/entities/ticket/a%2Fb/timeline/", "GET, HEAD"),
        ("/api/v1/events/evt_00000007_9", "GET, HEAD"),
        ("/api/v1/webhooks/logs", "GET, HEAD"),
        ("/api/v1/webhooks/logs/7/", "GET, HEAD"),
    ];
    for (path, allow) in paths {
        let answer = bench
            .send(TestRequest::default().method(Method::DELETE).uri(path))
            .await;
        assert_eq!(
            (answer.code(), answer.header("allow")),
            ((405, "method_not_allowed"), allow),
            "{path}"
        );
    }
    for path in [
        "/",
        "/api/v1",
        "/api/v1/entities/ticket/a/b",
        "/api/v0/crm/webhooks/supports/",
    ] {
        assert_eq!(
            bench.send(get(path)).await.code(),
            (404, "not_found"),
            "{path}"
        );
    }
}

#[tokio::test]
async fn each_path_of_the_table_has_two_spellings_and_those_of_the_admin_ask_for_the_token() {
    let bench = EdgeTestBench::new(&[
        ("HOOKYARD_SERVER__AUTH_FAILURES_PER_MINUTE", "0"),
        ("HOOKYARD_SOURCES__INSTAGRAM__ENABLED", "true"),
        ("HOOKYARD_SOURCES__INSTAGRAM__APP_SECRETS", "app-secret"),
        ("HOOKYARD_SOURCES__INSTAGRAM__VERIFY_TOKEN", "verify-token"),
        ("HOOKYARD_SOURCES__LEADS__ENABLED", "true"),
        ("HOOKYARD_SOURCES__LEADS__SECRETS", "lead-secret"),
    ]);
    let (mut paths, mut guarded) = (BTreeSet::new(), 0);
    for endpoint in api::endpoints(&[]) {
        assert!(
            paths.insert(endpoint.documented_path()),
            "{} is there twice",
            endpoint.documented_path()
        );
        let operations: Vec<_> = endpoint
            .routes(&bench.edge.config, ListenerRole::Whole)
            .into_iter()
            .map(|(operation, _)| operation)
            .collect();
        if operations.is_empty() || !endpoint.is_enabled(&bench.edge.config) {
            continue;
        }
        for path in endpoint.spellings() {
            let path = format!("{}{path}", endpoint.scope);
            let path = path
                .split('{')
                .map(|part| part.split_once('}').map_or(part, |(_, rest)| rest));
            let path = path.collect::<Vec<_>>().join("7");
            let other = bench
                .send(TestRequest::default().method(Method::PATCH).uri(&path))
                .await;
            assert_eq!(other.code(), (405, "method_not_allowed"), "{path}");
            for operation in operations
                .iter()
                .filter(|operation| operation.source == CallSource::Admin)
            {
                let method: Method = operation
                    .methods
                    .to_string()
                    .split(',')
                    .next()
                    .expect("one")
                    .parse()
                    .expect("a method");
                let answer = bench
                    .send(TestRequest::default().method(method.clone()).uri(&path))
                    .await;
                assert_eq!(answer.code(), (401, "unauthorized"), "{method} {path}");
                guarded += 1;
            }
        }
    }
    assert!(guarded > 0, "the admin has operations");
}

#[tokio::test]
async fn a_source_that_is_not_enabled_does_not_exist() {
    let bench = EdgeTestBench::new(&[("HOOKYARD_SOURCES__SUPPORT__ENABLED", "false")]);
    assert_eq!(
        bench
            .send(signed(BODY, "test-key", "new-secret", NOW))
            .await
            .code(),
        (404, "not_found")
    );
}

#[tokio::test]
async fn readers_are_told_what_they_asked_wrongly() {
    let bench = EdgeTestBench::new(&[]);
    let kind = bench.send(get("/api/v1/entities/car")).await;
    assert_eq!(kind.code(), (404, "not_found"));
    assert!(
        kind.body["detail"]
            .as_str()
            .is_some_and(|detail| detail.contains("ticket"))
    );
    let query = "page=0&since=now&kind=car&status=done&colour=red";
    let events = bench.send(get(&format!("/api/v1/events?{query}"))).await;
    assert_eq!(events.code(), (400, "validation_failed"));
    let fields: Vec<_> = events.body["errors"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|e| &e["field"])
        .collect();
    assert_eq!(fields, ["colour", "page", "status", "kind", "since"]);
    assert_eq!(
        bench
            .send(get("/api/v1/entities/ticket/S?verbose=1"))
            .await
            .code(),
        (400, "validation_failed")
    );
}

#[tokio::test]
async fn health_needs_no_store_and_readiness_does() {
    let bench = EdgeTestBench::new(&[]);
    for path in ["/healthz", "/health"] {
        assert_eq!(
            bench.send(TestRequest::get().uri(path)).await.body,
            json!({"status": "ok"})
        );
    }
    let ready = bench.send(TestRequest::get().uri("/readyz")).await;
    assert_eq!((ready.status, ready.header("retry-after")), (503, "1"));
    assert_eq!(
        ready.body,
        json!({"status": "not_ready", "reason": "the store is being opened"})
    );
}

#[tokio::test]
async fn every_answer_carries_the_id_of_its_request() {
    let bench = EdgeTestBench::new(&[]);
    let given = bench
        .send(get("/nothing").insert_header(("x-request-id", "abc-1")))
        .await;
    assert_eq!(
        (
            given.header("x-request-id"),
            given.header("x-content-type-options")
        ),
        ("abc-1", "nosniff")
    );
    assert_eq!(
        bench.send(post("{}")).await.header("x-request-id").len(),
        16
    );
}

/// The server waited without a timer for the end of a chunked body that nobody reads: one stalled
/// sender, one connection gone.
#[test]
fn a_chunked_body_that_stops_in_the_middle_does_not_hold_its_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("bound");
    let edge = EdgeTestBench::new(&[("HOOKYARD_SERVER__REQUEST_TIMEOUT_S", "0.2")])
        .edge
        .into_inner();
    let answers = actix_rt::System::new().block_on(async move {
        let server =
            serve(&LiveEdge::fixed(edge), listener, ListenerRole::Whole, 64).expect("a listener");
        let handle = server.handle();
        actix_rt::spawn(server);
        let paths = [(WEBHOOK, "408"), ("/nothing", "404"), ("/healthz", "405")];
        let answers = paths.map(|(path, status)| {
            (
                status,
                actix_rt::task::spawn_blocking(move || stall(address, path)),
            )
        });
        let mut received = Vec::new();
        for (status, answer) in answers {
            received.push((status, answer.await.expect("no panic")));
        }
        handle.stop(false).await;
        received
    });
    for (status, answer) in answers {
        let answer = answer.expect("the server ends the connection");
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{answer}"
        );
    }
}

/// Sends the beginning of a chunked request and no more; gives what comes until the server ends the
/// connection.
fn stall(address: SocketAddr, path: &str) -> io::Result<String> {
    let mut connection = TcpStream::connect(address)?;
    connection.set_read_timeout(Some(Duration::from_secs(10)))?;
    write!(
        connection,
        "POST {path} HTTP/1.1\r\nHost: x\r\nX-CRM-API-Key: test-key\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab"
    )?;
    let mut answer = String::new();
    connection.read_to_string(&mut answer)?;
    Ok(answer)
}
