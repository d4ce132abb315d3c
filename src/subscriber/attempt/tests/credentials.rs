//! Client certificates and access tokens for servers that ask who calls.

use std::fs;
use std::net::SocketAddr;

use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use tempfile::TempDir;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio_rustls::rustls::pki_types::CertificateDer;

use super::tls_receiver::{CA, TlsReceiver};
use super::*;

/// Reads a configuration whose `delivery.credentials_file` has `text`.
fn config_with(folder: &TempDir, text: &str) -> config::DeliveryConfig {
    let file = folder.path().join("credentials.toml");
    fs::write(&file, text).expect("written");
    let file = file.to_str().expect("a path of UTF-8");
    let keys = [
        ("HOOKYARD_ADMIN__TOKEN", "t"),
        ("HOOKYARD_DELIVERY__ALLOW_TARGETS", "127.0.0.0/8"),
        ("HOOKYARD_DELIVERY__CA_FILES", CA),
        ("HOOKYARD_DELIVERY__CREDENTIALS_FILE", file),
    ];
    load_config(None, keys).expect("a configuration").delivery
}

/// Looks every name up as loopback.
fn loopback() -> ScriptedLookup {
    ScriptedLookup::giving(&[&[[127, 0, 0, 1]][..]; 16])
}

fn token_answer(token: &str, life_s: u32) -> ReceiverAction {
    ReceiverAction::Answer(token_body(token, life_s))
}

fn token_body(token: &str, life_s: u32) -> String {
    let body =
        format!(r#"{{"access_token":"{token}","token_type":"Bearer","expires_in":{life_s}}}"#);
    let length = body.len();
    format!("HTTP/1.1 200 X\r\ncontent-length: {length}\r\n\r\n{body}")
}

fn oauth2_table(receiver: &TlsReceiver, address: SocketAddr) -> String {
    let port = receiver.port;
    format!(
        "[[server]]\norigin = \"https://crm.example:{port}\"\n[server.oauth2]\n\
         token_url = \"http://{address}/token\"\nclient_id = \"a b\"\nclient_secret = \"hush:%\"\n\
         scope = \"hooks\"\n"
    )
}

/// Returns the value of the header `authorization` of each request.
fn authorizations(requests: &[String]) -> Vec<&str> {
    let value = |request: &'_ String| -> Option<String> {
        let line = request.lines().find(|line| {
            let (name, _) = line.split_once(':').unwrap_or_default();
            name.eq_ignore_ascii_case("authorization")
        });
        line.map(str::to_owned)
    };
    requests
        .iter()
        .map(|request| match value(request) {
            None => "",
            Some(line) => {
                let at = request.find(&line).expect("it was found");
                request[at..at + line.len()]
                    .split_once(": ")
                    .map_or("", |(_, value)| value)
            }
        })
        .collect()
}

#[tokio::test]
async fn a_server_gets_the_certificate_that_it_asks_for_and_no_other_server_does() {
    let authority_key = KeyPair::generate().expect("a key");
    let mut authority = CertificateParams::new(Vec::new()).expect("no names");
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = authority.self_signed(&authority_key).expect("signed");
    let key = KeyPair::generate().expect("a key");
    let mut client = CertificateParams::new(vec!["hookyard".to_owned()]).expect("a name");
    client.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let client = client.signed_by(&key, &authority, &authority_key);
    let client = client.expect("signed");

    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("client.pem"), client.pem()).expect("written");
    fs::write(folder.path().join("client.key"), key.serialize_pem()).expect("written");
    let clients = CertificateDer::from(authority.der().to_vec());
    let named = TlsReceiver::start(Some(clients.clone()), &[200]).await;
    let unnamed = TlsReceiver::start(Some(clients), &[200]).await;
    let table = format!(
        "[[server]]\norigin = \"https://crm.example:{}\"\ncertificate = \"client.pem\"\n\
         key = \"client.key\"\n",
        named.port
    );
    let sender = sender_from_config(&config_with(&folder, &table), loopback());

    let made = sender.send_ping(&webhook(&named.url(), AMPLE)).await;
    assert_eq!(made.outcome, AttemptOutcome::Accepted);
    let made = sender.send_ping(&webhook(&unnamed.url(), AMPLE)).await;
    assert_eq!(summary_of(&made.outcome).0, "failed");
    assert!(unnamed.requests().is_empty());
    // A server that asks for nothing gets its deliveries as before.
    let open = TlsReceiver::start(None, &[200]).await;
    let made = sender.send_ping(&webhook(&open.url(), AMPLE)).await;
    assert_eq!(made.outcome, AttemptOutcome::Accepted);
}

#[tokio::test]
async fn a_token_is_asked_for_once_and_again_when_the_server_refuses_it() {
    // The third request is refused although the token has not ended.
    let receiver = TlsReceiver::start(None, &[200, 200, 401, 200]).await;
    let tokens =
        AttemptReceiver::start(&[token_answer("one", 3_600), token_answer("two", 3_600)]).await;
    let folder = tempfile::tempdir().expect("a folder");
    let config = config_with(&folder, &oauth2_table(&receiver, tokens.address));
    let (sender, clock) = sender_with_clock(&config, loopback());
    let policy = webhook(&receiver.url(), AMPLE);
    for number in 1..=3 {
        let made = sender.send_delivery(&policy, &item(), number).await;
        assert_eq!(made.outcome, AttemptOutcome::Accepted, "{number}");
        clock.advance(Duration::from_secs(20));
    }

    let requests = receiver.requests();
    assert_eq!(
        authorizations(&requests),
        ["Bearer one", "Bearer one", "Bearer one", "Bearer two"]
    );
    let asked = tokens.requests();
    assert_eq!(asked.len(), 2);
    // RFC 6749, section 2.3.1: id and secret are encoded as in a form, before Base64.
    assert_eq!(authorizations(&asked)[0], "Basic YStiOmh1c2glM0ElMjU=");
    let body = asked[0].split("\r\n\r\n").nth(1);
    assert_eq!(body, Some("grant_type=client_credentials&scope=hooks"));
}

#[tokio::test]
async fn a_new_token_that_is_refused_at_once_is_not_replaced_and_the_attempt_is_repeated_later() {
    let receiver = TlsReceiver::start(None, &[401]).await;
    let tokens = AttemptReceiver::start(&[token_answer("one", 3_600)]).await;
    let folder = tempfile::tempdir().expect("a folder");
    let config = config_with(&folder, &oauth2_table(&receiver, tokens.address));
    let made = sender_from_config(&config, loopback())
        .send_delivery(&webhook(&receiver.url(), AMPLE), &item(), 1)
        .await;
    assert_eq!(summary_of(&made.outcome), ("failed", Some(401), "status"));
    assert_eq!(receiver.requests().len(), 1);
}

#[tokio::test]
async fn without_a_token_nothing_is_sent_and_the_attempt_is_repeated_later() {
    let receiver = TlsReceiver::start(None, &[200]).await;
    let refusal = r#"{"error":"invalid_client","error_description":"hush:% is wrong"}"#;
    let length = refusal.len();
    let refusal = format!("HTTP/1.1 401 X\r\ncontent-length: {length}\r\n\r\n{refusal}");
    let tokens = AttemptReceiver::start(&[ReceiverAction::Answer(refusal)]).await;
    let folder = tempfile::tempdir().expect("a folder");
    let config = config_with(&folder, &oauth2_table(&receiver, tokens.address));
    let sender = sender_from_config(&config, loopback());
    let policy = webhook(&receiver.url(), AMPLE);
    for number in 1..=2 {
        let made = sender.send_delivery(&policy, &item(), number).await;
        let failure = made.outcome.failure().expect("no token");
        assert_eq!(summary_of(&made.outcome), ("failed", None, "authorization"));
        let expected = "the authorization server answered 401: invalid_client";
        assert_eq!(failure.detail, expected);
    }
    // The second attempt came within a second of the refusal.
    assert_eq!(tokens.requests().len(), 1);
    assert!(receiver.requests().is_empty());
}

#[tokio::test]
async fn a_reload_changes_the_client_and_a_header_of_the_subscription_goes_first() {
    let receiver = TlsReceiver::start(None, &[200]).await;
    let tokens = AttemptReceiver::start(&[token_answer("one", 3_600)]).await;
    let folder = tempfile::tempdir().expect("a folder");
    let sender = sender_from_config(&config_with(&folder, ""), loopback());
    let policy = webhook(&receiver.url(), AMPLE);
    sender.send_ping(&policy).await;

    let renewed = config_with(&folder, &oauth2_table(&receiver, tokens.address));
    sender.0.client.set_credentials(&renewed);
    sender.send_ping(&policy).await;
    let mut own = subscription(&receiver.url());
    own.id = 5;
    own.headers = vec![("Authorization".into(), Secret::new("Basic own"))];
    let mut own_policy = self::policy(DeliveryTarget::Webhook(Arc::new(own)), AMPLE);
    Arc::make_mut(&mut own_policy).id = SubscriberId::Webhook(5);
    sender.send_ping(&own_policy).await;
    assert_eq!(
        authorizations(&receiver.requests()),
        ["", "Bearer one", "Basic own"]
    );
}

/// The request for a token was made by an attempt, which took it along when its time was over.
#[tokio::test]
async fn a_token_that_comes_after_the_time_of_its_attempt_is_kept() {
    let receiver = TlsReceiver::start(None, &[200]).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let folder = tempfile::tempdir().expect("a folder");
    let config = config_with(&folder, &oauth2_table(&receiver, address));
    let sender = sender_from_config(&config, loopback());

    let hurried = webhook(&receiver.url(), SHORT);
    let made = sender.send_delivery(&hurried, &item(), 1).await;
    assert_eq!(summary_of(&made.outcome).2, "timeout");
    let (mut stream, _) = listener.accept().await.expect("the request for a token");
    let answer = token_body("late", 60);
    stream.write_all(answer.as_bytes()).await.expect("it waits");
    let policy = webhook(&receiver.url(), AMPLE);
    let made = sender.send_delivery(&policy, &item(), 2).await;
    assert_eq!(made.outcome, AttemptOutcome::Accepted);
    assert_eq!(authorizations(&receiver.requests()), ["Bearer late"]);
}
