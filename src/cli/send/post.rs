//! Posts the request to the node and explains the answer.

use std::io::Write;
use std::time::Duration;

use reqwest::header::{HeaderMap, HeaderValue};
use reqwest::{Client, StatusCode};
use serde_json::Value;

use super::error::SendCommandError;
use super::request::SignedEventRequest;
use crate::cli::error::CliError;
use crate::cli::node_url::client_builder;
use crate::error_chain;

/// Limit of the whole call; a node refuses a slow request sooner.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Answer of the node to a sent event.
pub(in crate::cli) struct NodeAnswer {
    pub(in crate::cli) status: StatusCode,
    pub(in crate::cli) event_id: Option<String>,
    /// True if the event has a sequence, so it is applied to its entity.
    pub(in crate::cli) has_sequence: bool,
    /// True if the node repeats the answer to an earlier request.
    pub(in crate::cli) is_replay: bool,
    pub(in crate::cli) body: String,
}

/// Makes a client for calls of senders, to the node of the configuration if `is_own`.
pub(super) fn build_client(is_own: bool) -> reqwest::Result<Client> {
    client_builder(is_own).timeout(TIMEOUT).build()
}

/// Sends `request` to the node at `base` and waits for the answer.
pub(super) async fn post_event(
    client: &Client,
    base: &str,
    request: SignedEventRequest,
) -> Result<NodeAnswer, SendCommandError> {
    let url = format!("{}{}", base.trim_end_matches('/'), request.path);
    let with_type = client.post(&url).header("Content-Type", "application/json");
    let with_all = request
        .headers
        .iter()
        .fold(with_type, |post, (name, value)| {
            post.header(*name, value.expose())
        });
    let answer =
        with_all
            .body(request.body)
            .send()
            .await
            .map_err(|error| match error.is_connect() {
                true if lacks_tls(&error) => SendCommandError::NoTls {
                    url,
                    source: error.without_url(),
                },
                true => SendCommandError::Unreachable {
                    url,
                    source: error.without_url(),
                },
                false => SendCommandError::Broken(error),
            })?;

    let text = |headers: &HeaderMap, name: &str| {
        let value = headers.get(name).map(HeaderValue::to_str)?;
        value.ok().map(str::to_owned)
    };
    Ok(NodeAnswer {
        status: answer.status(),
        event_id: text(answer.headers(), "X-Event-Id"),
        has_sequence: answer.headers().contains_key("X-Entity-Sequence"),
        is_replay: answer.headers().contains_key("Idempotent-Replay"),
        body: answer.text().await?,
    })
}

impl NodeAnswer {
    /// Prints the answer and its meaning.
    ///
    /// # Errors
    /// Fails unless the event is stored.
    pub(super) fn report(
        &self,
        source: &'static str,
        out: &mut impl Write,
    ) -> Result<(), CliError> {
        writeln!(out, "{}\n{}", self.status, self.body)?;
        let body: Value = serde_json::from_str(&self.body).unwrap_or_default();
        let is_known = self.status == StatusCode::CONFLICT && self.event_id.is_some();
        if !self.status.is_success() && !is_known {
            return Err(self.to_error(source, &body).into());
        }

        if let Some(event_id) = self
            .event_id
            .as_ref()
            .filter(|event_id| !self.body.contains(*event_id) || is_known)
        {
            writeln!(out, "X-Event-Id: {event_id}")?;
        }
        if let Some(meaning) = self.describe_meaning(is_known, &body) {
            writeln!(out, "{meaning}")?;
        }
        Ok(())
    }

    /// Explains a success whose body leaves the outcome open.
    fn describe_meaning(&self, is_known: bool, body: &Value) -> Option<String> {
        if is_known || self.is_replay {
            return Some("an event with this idempotency key was stored before".to_owned());
        }
        if body["duplicates"].as_u64() > Some(0) {
            return Some("this event was stored before".to_owned());
        }
        if self.event_id.is_none() {
            return Some("nothing is stored: this was counted before".to_owned());
        }
        let entity = body["entity"]["kind"].as_str().unwrap_or("entity");
        (!self.has_sequence)
            .then(|| format!("stored, but not applied to the {entity}: see the event"))
    }

    fn to_error(&self, source_name: &'static str, body: &Value) -> SendCommandError {
        let is_nowhere = body["detail"] == "there is nothing at this path"
            || self.status == StatusCode::METHOD_NOT_ALLOWED;
        match is_nowhere {
            true => SendCommandError::Closed {
                status: self.status,
                source_name,
            },
            false => SendCommandError::Refused(self.status),
        }
    }
}

/// Tells if the server answered the TLS handshake with other bytes or by closing the connection.
fn lacks_tls(error: &reqwest::Error) -> bool {
    // reqwest does not expose the errors of rustls, so only their text identifies them.
    let text = error_chain::format_error_chain(error);
    text.contains("corrupt message") || text.contains("tls handshake eof")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(body: &str) -> NodeAnswer {
        let event_id = Some("evt_1_2".to_owned());
        NodeAnswer {
            status: StatusCode::ACCEPTED,
            event_id,
            has_sequence: true,
            is_replay: false,
            body: body.to_owned(),
        }
    }

    /// Returns the lines after status and body, or the error.
    fn report(answer: &NodeAnswer) -> Result<String, String> {
        let mut out = Vec::new();
        answer
            .report("crm", &mut out)
            .map_err(|error| error.to_string())?;
        let text = String::from_utf8(out).expect("text");
        let answered = format!("{}\n{}\n", answer.status, answer.body);
        Ok(text
            .strip_prefix(&answered)
            .expect("the answer itself")
            .to_owned())
    }

    #[test]
    fn an_answer_is_shown_with_what_it_means() {
        let named = r#"{"event_id":"evt_1_2","entity":{"kind":"ticket"}}"#;
        assert_eq!(
            report(&stored(named)),
            Ok(String::new()),
            "it says all there is to say"
        );
        assert_eq!(
            report(&stored("{}")),
            Ok("X-Event-Id: evt_1_2\n".to_owned())
        );
        let unapplied = NodeAnswer {
            has_sequence: false,
            ..stored(named)
        };
        assert_eq!(
            report(&unapplied),
            Ok("stored, but not applied to the ticket: see the event\n".to_owned())
        );
        let known = "X-Event-Id: evt_1_2\nan event with this idempotency key was stored before\n";
        assert_eq!(
            report(&NodeAnswer {
                status: StatusCode::CONFLICT,
                ..stored("{}")
            }),
            Ok(known.to_owned())
        );
        assert_eq!(
            report(&NodeAnswer {
                is_replay: true,
                ..stored("{}")
            }),
            Ok(known.to_owned())
        );
        let counted = NodeAnswer {
            event_id: None,
            ..stored(r#"{"duplicates": 1}"#)
        };
        assert_eq!(
            report(&counted),
            Ok("this event was stored before\n".to_owned())
        );
        let paid = NodeAnswer {
            event_id: None,
            ..stored(r#"{"data": {"customer_id": 1}}"#)
        };
        assert_eq!(
            report(&paid),
            Ok("nothing is stored: this was counted before\n".to_owned())
        );
    }

    #[test]
    fn the_error_of_a_refusal_tells_if_the_source_is_disabled() {
        let refused = |status, body: &str| {
            report(&NodeAnswer {
                status,
                event_id: None,
                has_sequence: false,
                ..stored(body)
            })
            .expect_err("refused")
        };
        assert_eq!(
            refused(StatusCode::UNAUTHORIZED, "{}"),
            "the node answered 401 Unauthorized"
        );
        assert_eq!(
            refused(StatusCode::CONFLICT, "a proxy's own"),
            "the node answered 409 Conflict"
        );
        assert_eq!(
            refused(StatusCode::NOT_FOUND, r#"{"detail": "Lead not found"}"#),
            "the node answered 404 Not Found"
        );
        let closed = "it has no endpoint for events of crm; is sources.crm.enabled set?";
        assert!(
            refused(
                StatusCode::NOT_FOUND,
                r#"{"detail": "there is nothing at this path"}"#
            )
            .ends_with(closed)
        );
        assert!(refused(StatusCode::METHOD_NOT_ALLOWED, "{}").ends_with(closed));
    }

    #[tokio::test]
    async fn a_server_without_tls_is_told_apart_from_no_server() {
        use tokio::io::AsyncWriteExt;
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
            .await
            .expect("a free port");
        let base = format!("https://{}", listener.local_addr().expect("bound"));
        let client = build_client(false).expect("a client");
        let plain = async {
            let (mut stream, _) = listener.accept().await.expect("a client");
            stream
                .write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                .await
                .expect("it listens");
        };
        let request = SignedEventRequest {
            path: "/".into(),
            headers: Vec::new(),
            body: Vec::new(),
        };
        let (answer, ()) = tokio::join!(post_event(&client, &base, request), plain);
        let error = answer.err().expect("no TLS").to_string();
        assert!(error.contains("does not speak TLS; try http://"), "{error}");
    }
}
