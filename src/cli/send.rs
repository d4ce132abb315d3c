//! `hookyard send`: signs a sample event as a CRM would, and sends it to a running node.

use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::PossibleValuesParser;
use reqwest::StatusCode;
use serde_json::{Map, Value, json};

use super::{dev, secret};
use crate::causes;
use crate::clock::{Clock, SystemClock};
use crate::config::{Config, Draft, Purpose, Secret};
use crate::edge::support::{samples, signature};
use crate::entity::ticket::EVENTS;
use crate::event::Timestamp;

/// The ticket of a sample event that names no other.
pub(super) const SAMPLE_TICKET: &str = "SUP-1042";

const PATH: &str = "/api/v0/crm/webhooks/support/";

/// Longer than a node takes to read a request and refuse it.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Sign a sample event and send it to a running node
///
/// Signs with the first API key and secret of the configuration, or with those that `hookyard serve --dev` made.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:\n  hookyard send\n  \
    hookyard send status.changed --entity SUP-7 --data '{\"status\": \"closed\"}'")]
pub(super) struct Send {
    /// Event to send
    #[arg(default_value = EVENTS[0], value_parser = PossibleValuesParser::new(EVENTS))]
    event: String,
    /// Ticket it is for
    #[arg(long, value_name = "ID", default_value = SAMPLE_TICKET)]
    entity: String,
    /// Configuration file of the node, for its address and secrets
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Node to send to, such as https://hooks.example.com [default: server.bind of the configuration]
    #[arg(long, value_parser = parse_url)]
    url: Option<String>,
    /// Idempotency key [default: a random one]
    #[arg(long)]
    key: Option<String>,
    /// The event's data, a JSON object [default: a sample]
    #[arg(long, value_name = "JSON", value_parser = parse_object)]
    data: Option<Map<String, Value>>,
    /// The event's own time [default: now]
    #[arg(long, value_name = "RFC3339", value_parser = parse_time)]
    at: Option<String>,
}

/// Why an event did not get through.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error(
        "there is no API key or no signing secret to sign with; start `hookyard serve --dev` in this folder first, \
         name the node's configuration with --config, or set HOOKYARD_SOURCES__SUPPORT__API_KEYS and \
         HOOKYARD_SOURCES__SUPPORT__SECRETS"
    )]
    NoSecrets,
    #[error("no node answers at {url}; start one with `hookyard serve --dev`, or name another with --url")]
    Unreachable { url: String, source: reqwest::Error },
    #[error("something answers at {url}, but it does not speak TLS; try http://")]
    NoTls { url: String, source: reqwest::Error },
    #[error("the event could not be sent, or its answer not be read; it may have been accepted")]
    Broken(#[from] reqwest::Error),
    #[error("the node answered {0}")]
    Refused(StatusCode),
    #[error("the asynchronous runtime cannot be started")]
    Runtime(#[source] io::Error),
}

/// What the node said.
struct Answer {
    status: StatusCode,
    event_id: Option<String>,
    body: String,
}

/// A request that is ready to go.
struct Signed {
    url: String,
    api_key: Secret,
    signature: String,
    timestamp: String,
    key: String,
    body: Vec<u8>,
}

impl Send {
    pub(super) fn run(self, out: &mut impl Write) -> Result<(), super::Error> {
        let mut draft = Draft::read(self.config.as_deref(), std::env::vars_os());
        if let Some(secrets) = dev::read(&draft.store_path())? {
            draft.fill_secrets(&secrets);
        }
        let config = draft.finish(Purpose::Tool)?;
        let random = hex::encode(&secret::random()?[..16]);
        let signed = self.sign(&config, SystemClock::default().wall(), random)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Error::Runtime)?;
        runtime.block_on(post(signed))?.report(out)
    }

    /// The request as the CRM would make it at `now`, with the idempotency key `random` if none is given.
    fn sign(self, config: &Config, now: Timestamp, random: String) -> Result<Signed, Error> {
        let support = &config.sources.support;
        let (Some(api_key), Some(secret)) = (support.api_keys.first(), support.secrets.first()) else {
            return Err(Error::NoSecrets);
        };
        let timestamp = now.to_string();
        let data = self.data.map(Value::Object).or_else(|| samples::data(&self.event));
        let body = json!({
            "event": self.event,
            "support_uid": self.entity,
            "timestamp": self.at.as_ref().unwrap_or(&timestamp),
            "data": data,
            "actor": {"id": "cli", "name": "hookyard send"},
        });
        let body = body.to_string().into_bytes();
        let base = self.url.unwrap_or_else(|| base_url(&config.server.bind));
        Ok(Signed {
            url: format!("{}{PATH}", base.trim_end_matches('/')),
            api_key: api_key.clone(),
            signature: signature::sign(secret, &body, &timestamp),
            timestamp,
            key: self.key.unwrap_or(random),
            body,
        })
    }
}

impl Answer {
    /// Shows the answer and what it means; an error unless the event is stored now.
    fn report(&self, out: &mut impl Write) -> Result<(), super::Error> {
        writeln!(out, "{}\n{}", self.status, self.body)?;
        match (&self.event_id, self.status) {
            (Some(event_id), StatusCode::CONFLICT) => {
                writeln!(out, "X-Event-Id: {event_id}\nan event with this idempotency key was stored before")?;
                Ok(())
            }
            (_, StatusCode::ACCEPTED) if self.is_not_applied() => {
                writeln!(out, "stored, but not applied to the ticket: see the event")?;
                Ok(())
            }
            (_, status) if status.is_success() => Ok(()),
            (_, status) => Err(Error::Refused(status).into()),
        }
    }

    /// Whether the event has no place among those of its entity.
    fn is_not_applied(&self) -> bool {
        let body: Value = serde_json::from_str(&self.body).unwrap_or_default();
        body.pointer("/entity/sequence").is_some_and(Value::is_null)
    }
}

async fn post(signed: Signed) -> Result<Answer, Error> {
    // A node is reached directly: a proxy of the environment is for the outside.
    let client = reqwest::Client::builder().timeout(TIMEOUT).no_proxy().build()?;
    let request = client
        .post(&signed.url)
        .header("Content-Type", "application/json")
        .header("X-CRM-API-Key", signed.api_key.expose())
        .header("X-CRM-Signature", signed.signature)
        .header("X-CRM-Timestamp", signed.timestamp)
        .header("Idempotency-Key", signed.key)
        .body(signed.body);
    let answer = request.send().await.map_err(|error| match error.is_connect() {
        true if lacks_tls(&error) => Error::NoTls { url: signed.url, source: error.without_url() },
        true => Error::Unreachable { url: signed.url, source: error.without_url() },
        false => Error::Broken(error),
    })?;
    let event_id = answer.headers().get("X-Event-Id").and_then(|id| id.to_str().ok()).map(str::to_owned);
    Ok(Answer { status: answer.status(), event_id, body: answer.text().await? })
}

/// Whether the other side answered a TLS handshake with something else, or by hanging up.
fn lacks_tls(error: &reqwest::Error) -> bool {
    // rustls is reqwest's own matter, so its errors are known by their text only.
    let text = causes::in_one_line(error);
    text.contains("corrupt message") || text.contains("tls handshake eof")
}

/// Where a node that listens on `bind` is reached from this machine.
pub(super) fn base_url(bind: &str) -> String {
    let Ok(address) = bind.parse::<SocketAddr>() else { return format!("http://{bind}") };
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    format!("http://{}", SocketAddr::new(ip, address.port()))
}

fn parse_object(text: &str) -> Result<Map<String, Value>, String> {
    match serde_json::from_str(text) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err("expected a JSON object".to_owned()),
        // It ends with the line and the column.
        Err(error) => Err(format!("is not JSON: {error}")),
    }
}

fn parse_url(text: &str) -> Result<String, String> {
    let is_http = reqwest::Url::parse(text).is_ok_and(|url| matches!(url.scheme(), "http" | "https"));
    let expected = || "expected a URL that begins with http:// or https://".to_owned();
    is_http.then(|| text.to_owned()).ok_or_else(expected)
}

fn parse_time(text: &str) -> Result<String, String> {
    let expected = || "expected an RFC 3339 time such as 2025-12-04T10:30:00Z".to_owned();
    Timestamp::parse(text).map(|_| text.to_owned()).ok_or_else(expected)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        send: Send,
    }

    const ENV: [(&str, &str); 2] =
        [("HOOKYARD_SOURCES__SUPPORT__API_KEYS", "test-key"), ("HOOKYARD_SOURCES__SUPPORT__SECRETS", "test-secret")];

    fn sign(words: &[&str], env: &[(&str, &str)]) -> Result<Signed, Error> {
        let line = Line::try_parse_from([&["send"], words].concat()).unwrap_or_else(|error| panic!("{error}"));
        let config = Draft::read(None, env.iter().copied()).finish(Purpose::Tool).expect("valid");
        let now = Timestamp::parse("2025-12-04T10:30:00Z").expect("a time");
        line.send.sign(&config, now, "random".into())
    }

    #[test]
    fn a_plain_send_is_the_first_sample_signed_now() {
        let signed = sign(&[], &ENV).expect("secrets are there");
        assert_eq!(signed.url, "http://127.0.0.1:8080/api/v0/crm/webhooks/support/");
        assert_eq!((signed.timestamp.as_str(), signed.key.as_str()), ("2025-12-04T10:30:00.000Z", "random"));
        assert_eq!(signed.signature, signature::sign(&Secret::new("test-secret"), &signed.body, &signed.timestamp));
        let body: Value = serde_json::from_slice(&signed.body).expect("JSON");
        assert_eq!((&body["event"], &body["support_uid"]), (&json!("message.created"), &json!("SUP-1042")));
        assert_eq!((&body["data"]["message_id"], &body["timestamp"]), (&json!("msg-1"), &json!(signed.timestamp)));
    }

    #[test]
    fn every_part_of_an_event_can_be_given() {
        let at = "2020-01-01T00:00:00+02:00";
        let words = [
            "status.changed",
            "--entity",
            "T",
            "--url",
            "https://h/",
            "--key",
            "k",
            "--data",
            r#"{"a":1}"#,
            "--at",
            at,
        ];
        let signed = sign(&words, &ENV).expect("secrets are there");
        assert_eq!(signed.url, "https://h/api/v0/crm/webhooks/support/");
        assert_eq!((signed.timestamp.as_str(), signed.key.as_str()), ("2025-12-04T10:30:00.000Z", "k"));
        let body: Value = serde_json::from_slice(&signed.body).expect("JSON");
        assert_eq!(
            (&body["data"], &body["timestamp"], &body["support_uid"]),
            (&json!({"a": 1}), &json!(at), &json!("T"))
        );
    }

    #[test]
    fn wrong_words_are_refused_with_what_is_right() {
        let refused =
            |words: &[&str]| Line::try_parse_from([&["send"], words].concat()).err().expect("wrong").to_string();
        let unknown = refused(&["message.creatd"]);
        assert!(EVENTS.iter().all(|event| unknown.contains(event)), "{unknown}");
        assert!(refused(&["--data", "[]"]).contains("expected a JSON object"));
        let not_json = refused(&["--data", "notjson"]);
        assert!(not_json.contains("is not JSON: ") && not_json.contains("line 1 column 2"), "{not_json}");
        for url in ["ftp://h", "localhost:8080", "127.0.0.1:8080", ""] {
            assert!(refused(&["--url", url]).contains("begins with http:// or https://"), "{url}");
        }
        assert!(refused(&["--at", "noon"]).contains("expected an RFC 3339 time"));
    }

    fn report(status: StatusCode, event_id: Option<&str>, body: &str) -> (String, bool) {
        let answer = Answer { status, event_id: event_id.map(str::to_owned), body: body.to_owned() };
        let mut out = Vec::new();
        let is_ok = answer.report(&mut out).is_ok();
        (String::from_utf8(out).expect("text"), is_ok)
    }

    #[test]
    fn an_answer_is_shown_with_what_it_means() {
        let (text, is_ok) = report(StatusCode::CONFLICT, Some("evt_1_2"), "{}");
        assert!(is_ok && text.ends_with("X-Event-Id: evt_1_2\nan event with this idempotency key was stored before\n"));
        let (text, is_ok) = report(StatusCode::ACCEPTED, Some("evt_1_2"), r#"{"entity":{"sequence":null}}"#);
        assert!(is_ok && text.ends_with("stored, but not applied to the ticket: see the event\n"), "{text}");
        let (text, is_ok) = report(StatusCode::ACCEPTED, Some("evt_1_2"), r#"{"entity":{"sequence":1}}"#);
        assert!(is_ok && text.ends_with("}}\n"), "{text}");
        assert!(!report(StatusCode::UNAUTHORIZED, None, "{}").1);
        assert!(!report(StatusCode::CONFLICT, None, "a proxy's own").1);
    }

    #[tokio::test]
    async fn a_node_without_tls_is_told_from_none() {
        use tokio::io::AsyncWriteExt;
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let base = format!("https://{}", listener.local_addr().expect("bound"));
        let plain = async {
            let (mut stream, _) = listener.accept().await.expect("a client");
            stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.expect("it listens");
        };
        let signed = Signed { url: base, ..sign(&[], &ENV).expect("secrets are there") };
        let (answer, ()) = tokio::join!(post(signed), plain);
        let error = answer.err().expect("no TLS").to_string();
        assert!(error.contains("it does not speak TLS; try http://"), "{error}");
    }

    #[test]
    fn without_secrets_it_says_where_to_get_them() {
        let error = sign(&[], &ENV[..1]).err().expect("no secret").to_string();
        assert!(error.contains("hookyard serve --dev") && error.contains("--config"), "{error}");
    }

    #[test]
    fn a_node_that_listens_everywhere_is_reached_on_loopback() {
        assert_eq!(base_url("0.0.0.0:80"), "http://127.0.0.1:80");
        assert_eq!(base_url("[::]:80"), "http://[::1]:80");
        assert_eq!(base_url("192.0.2.1:80"), "http://192.0.2.1:80");
    }
}
