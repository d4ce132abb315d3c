//! Senders that sign claims about a call (JSON Web Tokens) or components of it (HTTP message
//! signatures): each request is taken once, for its own body, and its credential stays secret.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use hookyard::clock::{Clock, ManualClock};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::senders::{SenderHeaders, hash, sha256};
use crate::test_node::{TestAnswer, TestClient, TestEnv, run_async};

const SECRET: &str = "test-secret-long-enough-for-any-node";
const BODY: &str = r#"{"id":"m1","type":"made"}"#;

const SOURCES: &str = r#"
[[sources.custom]]
name = "tokens"
secrets = ["test-secret-long-enough-for-any-node"]
entity = "/id"
event = "/type"
scheme = { format = "jwt", algorithm = "hmac-sha256", header = "Authorization", prefix = "Bearer ", body_hash = "payload_hash", issuer = "crm" }

[[sources.custom]]
name = "identities"
secrets = ["test-secret-long-enough-for-any-node"]
entity = "/id"
event = "/type"
scheme = { format = "jwt", algorithm = "hmac-sha256", header = "Authorization", prefix = "Bearer ", audience = "https://hooks.example.com" }

[[sources.custom]]
name = "messages"
secrets = ["test-secret-long-enough-for-any-node"]
entity = "/id"
event = "/type"
scheme = { format = "message-signature", algorithm = "hmac-sha256", covers = ["@method", "@target-uri"] }
"#;

fn now_s(clock: &dyn Clock) -> i64 {
    clock.wall().as_micros() / 1_000_000
}

fn token(claims: &Value) -> SenderHeaders {
    let header = URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256"}"#);
    let signed = format!("{header}.{}", URL_SAFE_NO_PAD.encode(claims.to_string()));
    let tag = URL_SAFE_NO_PAD.encode(sha256(SECRET.as_bytes(), &signed));
    vec![("Authorization", format!("Bearer {signed}.{tag}"))]
}

fn message_signature(url: &str, body: &str, created: i64) -> SenderHeaders {
    let digest = format!("sha-256=:{}:", STANDARD.encode(Sha256::digest(body)));
    let input = format!(r#"("@method" "@target-uri" "content-digest");created={created}"#);
    let base = format!(
        "\"@method\": POST\n\"@target-uri\": {url}\n\"content-digest\": {digest}\n\
         \"@signature-params\": {input}"
    );
    let tag = STANDARD.encode(sha256(SECRET.as_bytes(), &base));
    vec![
        ("Content-Digest", digest),
        ("Signature-Input", format!("sig1={input}")),
        ("Signature", format!("sig1=:{tag}:")),
    ]
}

async fn post(
    client: &TestClient,
    path: &str,
    headers: &SenderHeaders,
    body: &'static str,
) -> TestAnswer {
    let mut request = client
        .client
        .post(format!("{}{path}", client.base))
        .body(body);
    for (name, value) in headers {
        request = request.header(*name, value);
    }
    client.send_request(request).await
}

fn outcome(answer: &TestAnswer) -> (u16, Value) {
    let member = if answer.status == 200 {
        "status"
    } else {
        "code"
    };
    (answer.status, answer.body[member].clone())
}

fn env_with_clock() -> (TestEnv, std::sync::Arc<ManualClock>) {
    let mut test_env = TestEnv::new(&[]);
    let clock = test_env.with_manual_clock();
    test_env.write_file(SOURCES);
    (test_env, clock)
}

#[test]
fn a_token_is_taken_once_for_its_own_body() {
    run_async(async {
        let (test_env, clock) = env_with_clock();
        let node = test_env.start().await;
        let now = now_s(&*clock);
        let claims = json!({"iss": "crm", "iat": now, "payload_hash": hash(BODY)});
        let headers = token(&claims);
        let first = post(&node, "/in/tokens", &headers, BODY).await;
        assert_eq!(outcome(&first), (200, json!("accepted")), "{first:?}");
        let again = post(&node, "/in/tokens", &headers, BODY).await;
        assert_eq!(outcome(&again), (200, json!("duplicate")));

        let other = post(
            &node,
            "/in/tokens",
            &headers,
            r#"{"id":"m2","type":"made"}"#,
        )
        .await;
        assert_eq!(outcome(&other), (401, json!("invalid_signature")));
        let stale = token(&json!({"iss": "crm", "iat": now - 301, "payload_hash": hash(BODY)}));
        let stale = post(&node, "/in/tokens", &stale, BODY).await;
        assert_eq!(outcome(&stale), (401, json!("stale_timestamp")));
        let unhashed = token(&json!({"iss": "crm", "iat": now}));
        let unhashed = post(&node, "/in/tokens", &unhashed, BODY).await;
        assert_eq!(outcome(&unhashed), (401, json!("invalid_signature")));

        let row = node.get("/api/v1/webhooks/logs?page_size=20").await.body;
        let signature = headers[0].1.rsplit('.').next().expect("a signature");
        for item in row["items"].as_array().expect("calls") {
            let path = format!("/api/v1/webhooks/logs/{}", item["id"]);
            let call = node.get(&path).await.body.to_string();
            assert!(!call.contains(signature), "{call}");
        }
        node.stop().await;
    });
}

/// A token that proves only who calls comes with many events, so it makes none of them a duplicate.
#[test]
fn a_token_without_the_hash_of_a_body_comes_with_many_events() {
    run_async(async {
        let (test_env, clock) = env_with_clock();
        let node = test_env.start().await;
        let now = now_s(&*clock);
        let audience = "https://hooks.example.com";
        let headers = token(&json!({"aud": audience, "iat": now - 3_000, "exp": now + 600}));
        for sequence in 1..=2 {
            let answer = post(&node, "/in/identities", &headers, BODY).await;
            assert_eq!(outcome(&answer), (200, json!("accepted")));
            assert_eq!(answer.body["entity"]["sequence"], sequence);
        }
        let ended = token(&json!({"aud": audience, "iat": now - 3_000, "exp": now - 1}));
        let ended = post(&node, "/in/identities", &ended, BODY).await;
        assert_eq!(outcome(&ended), (401, json!("stale_timestamp")));
        let elsewhere = token(&json!({"aud": "https://other.example.com", "exp": now + 600}));
        let elsewhere = post(&node, "/in/identities", &elsewhere, BODY).await;
        assert_eq!(outcome(&elsewhere), (401, json!("invalid_signature")));
        node.stop().await;
    });
}

#[test]
fn a_message_signature_holds_for_its_url_and_body() {
    run_async(async {
        let (test_env, clock) = env_with_clock();
        let node = test_env.start().await;
        let now = now_s(&*clock);
        let url = |query: &str| format!("{}/in/messages{query}", node.base);
        let headers = message_signature(&url("?a=1"), BODY, now);
        let first = post(&node, "/in/messages?a=1", &headers, BODY).await;
        assert_eq!(outcome(&first), (200, json!("accepted")), "{first:?}");
        let again = post(&node, "/in/messages?a=1", &headers, BODY).await;
        assert_eq!(outcome(&again), (200, json!("duplicate")));

        let elsewhere = post(&node, "/in/messages?a=2", &headers, BODY).await;
        assert_eq!(outcome(&elsewhere), (401, json!("invalid_signature")));
        let other = r#"{"id":"m2","type":"made"}"#;
        let changed = post(&node, "/in/messages?a=1", &headers, other).await;
        assert_eq!(outcome(&changed), (401, json!("invalid_signature")));
        let stale = message_signature(&url(""), BODY, now - 301);
        let stale = post(&node, "/in/messages", &stale, BODY).await;
        assert_eq!(outcome(&stale), (401, json!("stale_timestamp")));
        let unsigned = post(&node, "/in/messages", &Vec::new(), BODY).await;
        assert_eq!(outcome(&unsigned), (401, json!("invalid_signature")));
        node.stop().await;
    });
}
