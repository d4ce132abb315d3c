//! The description of the API: it matches the node, and a person can try it in a browser.

use std::collections::BTreeMap;

use boon::{Compiler, Schemas};
use hookyard::clock::{Clock, SystemClock};
use hookyard::config::Secret;
use hookyard::edge::instagram::signature as instagram;
use hookyard::edge::support::signature::sign_support_body;
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

use crate::receiver::{ReceiverReply, TestReceiver};
use crate::senders::{DESCRIBED, sha256};
use crate::test_node::{API_KEY, SECRET, TOKEN, TestClient, TestEnv, TestNode, run_async};
use crate::{c2s, dead_letters, deliveries, erasure, leads};

/// Values of path parameters, found on the way.
pub type KnownPathParameters = BTreeMap<String, String>;

pub struct DescribedOperation {
    method: Method,
    path: String,
    spec: Value,
}

/// Address that the description has in comparisons with it.
const SPEC_URL: &str = "http://node/openapi.json";

/// Bearer token of a publisher.
pub const PUBLISHER: &str = "test-publisher-of-events";

/// Keys that enable every described source.
pub const ENABLED: [(&str, &str); 8] = [
    ("sources.leads.enabled", "true"),
    ("sources.leads.secrets", SECRET),
    ("sources.leads.rate_per_minute", "0"),
    ("sources.crm.enabled", "true"),
    ("sources.crm.tokens", PUBLISHER),
    ("sources.instagram.enabled", "true"),
    (
        "sources.instagram.app_secrets",
        "test-app-secret-long-enough",
    ),
    ("sources.instagram.verify_token", "my-verify-token"),
];

pub async fn spec_of(node: &TestClient) -> Value {
    node.get("/openapi.json").await.body
}

/// Operations: those that create first, those that delete last.
pub fn operations(spec: &Value) -> Vec<DescribedOperation> {
    let mut operations: Vec<_> = spec["paths"]
        .as_object()
        .expect("paths")
        .iter()
        .flat_map(|(path, item)| {
            item.as_object()
                .into_iter()
                .flatten()
                .map(move |(method, operation)| DescribedOperation {
                    method: method.to_uppercase().parse().expect("a method"),
                    path: path.clone(),
                    spec: operation.clone(),
                })
        })
        .collect();
    operations.sort_by_key(|operation| {
        let (method, is_last) = (&operation.method, operation.path.contains("reprocess"));
        (is_last, method == Method::DELETE, method != Method::POST)
    });
    operations
}

impl DescribedOperation {
    /// Described bodies of the operation; one empty body if it takes none.
    pub fn bodies(&self) -> Vec<Option<Value>> {
        let examples = self
            .spec
            .pointer("/requestBody/content/application~1json/examples")
            .and_then(Value::as_object);
        examples.map_or_else(
            || vec![None],
            |named| {
                named
                    .values()
                    .map(|example| Some(example["value"].clone()))
                    .collect()
            },
        )
    }

    fn url(&self, node: &TestClient, known: &KnownPathParameters) -> String {
        let mut path = self.path.clone();
        let mut query = Vec::new();
        for parameter in self.spec["parameters"].as_array().into_iter().flatten() {
            let name = parameter["name"].as_str().expect("a name");
            let example = match &parameter["example"] {
                Value::String(text) => text.clone(),
                other => other.to_string(),
            };
            match parameter["in"].as_str() {
                Some("path") => {
                    path =
                        path.replace(&format!("{{{name}}}"), known.get(name).unwrap_or(&example));
                }
                Some("query") => query.push((name.to_owned(), example)),
                _ => {}
            }
        }
        let url =
            reqwest::Url::parse_with_params(&format!("{}{path}", node.base), query).expect("a URL");
        url.to_string()
    }

    /// Request with the credentials of its security schemes.
    pub fn request(
        &self,
        node: &TestClient,
        known: &KnownPathParameters,
        body: Option<&Value>,
        number: usize,
    ) -> RequestBuilder {
        let text = body.map(Value::to_string).unwrap_or_default();
        let mut request = node
            .client
            .request(self.method.clone(), self.url(node, known));
        request = request.header("Idempotency-Key", format!("{}-{number}", self.path));
        // Any of the requirements suffices; each is used in turn.
        let alternatives = self.spec["security"]
            .as_array()
            .map(Vec::as_slice)
            .unwrap_or_default();
        let requirement = alternatives
            .get(number % alternatives.len().max(1))
            .and_then(Value::as_object);
        for scheme in requirement.into_iter().flat_map(serde_json::Map::keys) {
            request = match scheme.as_str() {
                "admin_token" => request.bearer_auth(TOKEN),
                "publisher_token" => request.bearer_auth(PUBLISHER),
                "support_api_key" => request.header("X-CRM-API-Key", API_KEY),
                "support_signature" => {
                    let timestamp = SystemClock::default().wall().to_string();
                    let signature =
                        sign_support_body(&Secret::new(SECRET), text.as_bytes(), &timestamp);
                    request
                        .header("X-CRM-Timestamp", timestamp)
                        .header("X-CRM-Signature", signature)
                }
                "leads_signature" => request.header(
                    "X-Webhook-Signature",
                    hex::encode(sha256(SECRET.as_bytes(), &text)),
                ),
                "c2s_token" => request.header("X-Webhook-Token", c2s::C2S_TOKEN),
                "configured_signature" => {
                    let signature = hex::encode(sha256(SECRET.as_bytes(), &text));
                    request.header("X-Hub-Signature-256", format!("sha256={signature}"))
                }
                "instagram_signature" => {
                    let signature = instagram::sign_instagram_body(
                        &Secret::new("test-app-secret-long-enough"),
                        text.as_bytes(),
                    );
                    request.header("X-Hub-Signature-256", signature)
                }
                other => panic!("the test cannot sign as {other}"),
            };
        }
        if body.is_some() {
            request
                .header("Content-Type", "application/json")
                .body(text)
        } else {
            request
        }
    }
}

/// Schemas of a description, for comparing bodies with them.
struct DescribedSchemas {
    schemas: Schemas,
    compiler: Compiler,
}

impl DescribedSchemas {
    fn new(spec: &Value) -> Self {
        let mut compiler = Compiler::new();
        compiler
            .add_resource(SPEC_URL, spec.clone())
            .expect("added");
        Self {
            schemas: Schemas::new(),
            compiler,
        }
    }

    /// Describes how `value` breaks the schema at `steps` of the description; `None` if it fits.
    fn misfit(&mut self, steps: &[&str], value: &Value) -> Option<String> {
        let step = |step: &&str| {
            let pointer = step.replace('~', "~0").replace('/', "~1");
            url::form_urlencoded::byte_serialize(pointer.as_bytes()).collect::<String>()
        };
        let pointer: Vec<_> = steps.iter().map(step).collect();
        let location = format!("{SPEC_URL}#/{}", pointer.join("/"));
        let index = match self.compiler.compile(&location, &mut self.schemas) {
            Ok(index) => index,
            Err(error) => return Some(format!("{location}: {error}")),
        };
        let valid = self.schemas.validate(value, index);
        valid.err().map(|error| format!("{value}: {error:#}"))
    }
}

/// Creates a pre-lead and a won lead, on which each of their operations succeeds once.
async fn fresh_leads(node: &TestNode) -> KnownPathParameters {
    let mut known = KnownPathParameters::new();
    for (name, path, event) in [
        ("pre_lead_id", "pre-lead/create", "new_inquiry"),
        ("lead_id", "lead/create", "new_lead"),
    ] {
        let mut data = json!({"first_name": "Ada", "phone": "1"});
        if name == "lead_id" {
            data["lead_status"] = json!("won");
        }
        let body = json!({"event": event, "source": "crm", "data": data}).to_string();
        let signature = hex::encode(sha256(SECRET.as_bytes(), &body));
        let request = leads::request(node, path, &body).header("X-Webhook-Signature", signature);
        let answer = node.send_request(request).await;
        known.insert(name.to_owned(), answer.body["data"][name].to_string());
    }
    known
}

/// Creates a dead letter of the first subscription, and a job that waits because its subscription
/// is paused.
async fn something_failed(node: &TestNode, receiver: &TestReceiver) -> KnownPathParameters {
    let id = deliveries::subscribe(node, receiver.url("/hook"), json!({})).await["id"].clone();
    assert_eq!(id, json!(1), "the examples are about the first one");
    node.send_message("SUP-1042", "dead letter").await;
    let letters = dead_letters::wait_for_letters(node, 1).await;
    let id = deliveries::subscribe(node, receiver.url("/hook"), json!({"is_active": false})).await
        ["id"]
        .clone();
    let replay = format!("/api/v1/webhooks/{id}/replay");
    let job = dead_letters::post(node, &replay, json!({"since": "2020-01-01T00:00:00Z"})).await;
    assert_eq!(job.status, 202, "{job:?}");
    KnownPathParameters::from([
        ("dead_letter_id".to_owned(), letters[0]["id"].to_string()),
        ("job_id".to_owned(), job.body["id"].to_string()),
    ])
}

#[test]
fn every_operation_answers_its_own_examples_as_described() {
    run_async(async {
        let mut test_env = c2s::test_env(&ENABLED);
        test_env.write_file(DESCRIBED);
        test_env.set("delivery.allow_targets", "127.0.0.0/8");
        // Everything fails and jobs are awaited, so the circuit breaker must not hold deliveries
        // back.
        test_env.set("delivery.breaker.consecutive", "0");
        test_env.set("delivery.breaker.failure_rate", "0");
        let node = test_env.start().await;
        let spec = spec_of(&node).await;
        // A failed event can be shown and reprocessed.
        let failed = node
            .send(
                "SUP-404",
                "failed",
                "message.deleted",
                json!({"message_id": "m"}),
            )
            .await;
        let mut known = KnownPathParameters::from([("event_id".to_owned(), failed.event_id())]);
        let receiver = TestReceiver::start(|_| ReceiverReply::Status(401)).await;
        known.extend(something_failed(&node, &receiver).await);
        node.send_message("SUP-410", "erased").await;
        assert_eq!(erasure::erase_and_wait(&node, "ticket", "SUP-410").await, 1);
        let (mut wrong, mut schemas) = (Vec::new(), DescribedSchemas::new(&spec));
        for operation in operations(&spec) {
            let method = operation.method.as_str().to_lowercase();
            let place = ["paths", &operation.path, &method];
            let mut succeeded = false;
            if operation.method == Method::DELETE {
                // The events that were delivered again above have failed again.
                dead_letters::poll_until(&node, "/api/v1/jobs?state=running", |jobs| {
                    jobs["total"] == json!(0)
                })
                .await;
            }
            known.extend(fresh_leads(&node).await);
            for (number, body) in operation.bodies().iter().enumerate() {
                let name = format!("{} {} #{number}", operation.method, operation.path);
                let sent = node
                    .send_request(operation.request(&node, &known, body.as_ref(), number))
                    .await;
                let media_type = sent
                    .header("content-type")
                    .and_then(|given| given.split(';').next());
                let media_type = media_type.map(str::to_owned);
                let status = sent.status;
                let texts = [
                    "text/plain",
                    "application/openmetrics-text",
                    "application/x-ndjson",
                ];
                let is_text = media_type
                    .as_deref()
                    .is_some_and(|name| texts.contains(&name));
                let answer = if is_text { json!(sent.text) } else { sent.body };
                let code = status.to_string();
                let described = &operation.spec["responses"][&code];
                if described.is_null() {
                    wrong.push(format!("{name}: {status} is not described: {answer}"));
                } else if let Some(media_type) = &media_type {
                    let body = ["responses", &code, "content", media_type, "schema"];
                    let misfit = schemas.misfit(&[&place[..], &body].concat(), &answer);
                    wrong.extend(misfit.map(|misfit| format!("{name}: {misfit}")));
                } else if status != 204 {
                    wrong.push(format!("{name}: {answer} is not described"));
                }
                // The sent body matches the described request.
                let taken = ["requestBody", "content", "application/json", "schema"];
                let misfit = body
                    .as_ref()
                    .and_then(|body| schemas.misfit(&[&place[..], &taken].concat(), body));
                wrong.extend(misfit.map(|misfit| format!("{name}: {misfit}")));
                succeeded |= (200..300).contains(&status);
            }
            if operation.method == Method::DELETE && operation.path.contains("/entities/") {
                erasure::wait_until_done(&node, 2).await;
            }
            // The subscription of the examples is pushed.
            let is_of_another = operation.path == "/api/v1/webhooks/{id}/events";
            if !succeeded && !is_of_another {
                wrong.push(format!(
                    "{} {}: none of its examples succeeds",
                    operation.method, operation.path
                ));
            }
        }
        assert!(wrong.is_empty(), "{wrong:#?}");
        node.stop().await;
    });
}

#[test]
fn a_delivery_has_the_described_headers_and_body() {
    run_async(async {
        let receiver = TestReceiver::start(|_| ReceiverReply::Status(200)).await;
        let mut test_env = TestEnv::new(&[]);
        test_env.set("delivery.allow_targets", "127.0.0.0/8");
        let node = test_env.start().await;
        let spec = spec_of(&node).await;
        let styles = json!({"signing": ["crm", "standard", "hub", "v1a"]});
        deliveries::subscribe(&node, receiver.url("/hook"), styles).await;
        node.send_message("SUP-1042", "hello").await;
        receiver.wait_for_accepted(1).await;
        let delivery = receiver.arrivals().remove(0);

        let place = ["webhooks", "delivery", "post"];
        let described = &spec["webhooks"]["delivery"]["post"]["parameters"];
        let described: Vec<_> = described.as_array().expect("headers").iter().collect();
        let about_replays = "X-Hookyard-Replay";
        for name in described
            .iter()
            .filter_map(|header| header["name"].as_str())
        {
            let is_there = delivery.header(&name.to_lowercase()).is_some();
            let may_be_absent = name == about_replays || name == "traceparent";
            assert!(is_there || may_be_absent, "{name}: {delivery:?}");
        }
        let schema = ["requestBody", "content", "application/json", "schema"];
        let misfit =
            DescribedSchemas::new(&spec).misfit(&[&place[..], &schema].concat(), &delivery.json());
        assert_eq!(misfit, None);
        node.stop().await;
    });
}

#[test]
fn the_command_prints_what_the_node_serves() {
    run_async(async {
        let node = TestEnv::new(&[]).start().await;
        let served = spec_of(&node).await;
        node.stop().await;
        let printed = std::process::Command::new(env!("CARGO_BIN_EXE_hookyard"))
            .arg("openapi")
            .output()
            .expect("runs");
        assert_eq!(
            serde_json::from_slice::<Value>(&printed.stdout).expect("JSON"),
            served
        );
    });
}

#[test]
fn the_page_and_its_files_are_in_the_binary() {
    run_async(async {
        let node = TestEnv::new(&[]).start().await;
        let get = async |path: &str| {
            let answer = reqwest::get(format!("{}{path}", node.base))
                .await
                .expect("answered");
            let media_type = answer.headers()["content-type"]
                .to_str()
                .expect("text")
                .to_owned();
            (
                answer.status().as_u16(),
                media_type,
                answer.text().await.unwrap_or_default(),
            )
        };
        for path in ["/docs", "/docs/"] {
            let (status, media_type, text) = get(path).await;
            assert_eq!(
                (status, media_type.as_str()),
                (200, "text/html; charset=utf-8"),
                "{path}"
            );
            assert!(text.contains("swagger-ui-bundle.js"));
        }
        assert_eq!(
            get("/docs/initializer.js").await.1,
            "text/javascript; charset=utf-8"
        );
        assert!(get("/docs/swagger-ui-bundle.js").await.2.len() > 1_000_000);
        let (status, _, body) = get("/docs/nothing.js").await;
        assert_eq!(
            (
                status,
                serde_json::from_str::<Value>(&body).expect("JSON")["code"].clone()
            ),
            (404, json!("not_found"))
        );
        node.stop().await;
    });
}
