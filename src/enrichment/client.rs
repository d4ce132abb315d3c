//! HTTP client for the enrichment servers: calls are bounded in time and size, redirects are not
//! followed, and errors contain no personal data.

use std::time::Duration;

use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use reqwest::{Client, Response, StatusCode, redirect};

use super::steps::{EnrichmentStep, StepCall};
use crate::config;
use crate::event::Timestamp;
use crate::retry_after::parse_retry_after;

/// Largest answer that is read, in bytes. A person's data is a few KB, and becomes part of the
/// lead's state.
const ANSWER_MAX_BYTES: usize = 64 * 1024;

/// Outcome of one call to a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ServerCallOutcome {
    /// The server answered 2xx with this body.
    Good(Vec<u8>),
    /// The server answered 404 Not Found.
    Missing,
    /// The call failed, but may work later; the server asked for a pause of `after`.
    Transient { reason: String, after: Duration },
    /// The call failed, and repeating it will not help.
    Refused { reason: String },
}

/// HTTP client of the enrichment stage. Cheap to clone.
#[derive(Clone)]
pub(super) struct EnrichmentClient {
    client: Client,
    /// Header with the API key; sent only to the server with the persons' data.
    key: Option<(HeaderName, HeaderValue)>,
}

impl EnrichmentClient {
    /// # Errors
    /// An error of `reqwest` when TLS cannot be set up.
    pub(super) fn new(config: &config::EnrichmentConfig) -> Result<Self, reqwest::Error> {
        let client = Client::builder()
            .redirect(redirect::Policy::none())
            .timeout(config.timeout)
            // Calls go to the configured URLs only, never to a proxy from the environment.
            .no_proxy()
            .user_agent(concat!("Hookyard/", env!("CARGO_PKG_VERSION")))
            .build()?;
        let name = HeaderName::from_bytes(config.key_header.as_bytes()).ok();
        let value = HeaderValue::from_str(config.key.expose())
            .ok()
            .filter(|value| !value.is_empty());
        let key = name.zip(value).map(|(name, mut value)| {
            value.set_sensitive(true);
            (name, value)
        });
        Ok(Self { client, key })
    }

    /// Sends `call` at `now`, and returns its outcome with the HTTP status, if there was an answer.
    ///
    /// A `POST` carries `event_id` as its idempotency key, so that the server can recognise a
    /// repeated call.
    pub(super) async fn send_call(
        &self,
        call: &StepCall,
        event_id: &str,
        now: Timestamp,
    ) -> (ServerCallOutcome, Option<u16>) {
        let mut request = match &call.body {
            None => self.client.get(&call.url),
            Some(body) => {
                let posted = self.client.post(&call.url).body(body.clone());
                posted
                    .header(CONTENT_TYPE, "application/json")
                    .header("idempotency-key", event_id)
            }
        };
        request = request.header(ACCEPT, "application/json");
        if let Some((name, value)) = self
            .key
            .as_ref()
            .filter(|_| call.step == EnrichmentStep::Person)
        {
            request = request.header(name, value);
        }
        match request.send().await {
            Ok(response) => {
                let status = response.status().as_u16();
                (
                    classify_server_response(response, call.step, now).await,
                    Some(status),
                )
            }
            Err(error) => (classify_error(&error), None),
        }
    }
}

async fn classify_server_response(
    response: Response,
    step: EnrichmentStep,
    now: Timestamp,
) -> ServerCallOutcome {
    let status = response.status();
    match classify_server_status(status) {
        // The reply's answer has no content that is needed.
        ServerStatusClass::Good if step == EnrichmentStep::Reply => {
            ServerCallOutcome::Good(Vec::new())
        }
        ServerStatusClass::Good => read_body(response).await,
        ServerStatusClass::Missing => ServerCallOutcome::Missing,
        ServerStatusClass::Transient => ServerCallOutcome::Transient {
            reason: format!("answered {}", status.as_u16()),
            after: requested_pause(response.headers(), now),
        },
        ServerStatusClass::Refused => ServerCallOutcome::Refused {
            reason: format!("answered {}", status.as_u16()),
        },
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ServerStatusClass {
    Good,
    Missing,
    Transient,
    Refused,
}

/// Classifies a status: 2xx is good, and 408, 425, 429 and 5xx are transient. Redirects are
/// refused.
fn classify_server_status(status: StatusCode) -> ServerStatusClass {
    match status.as_u16() {
        200..300 => ServerStatusClass::Good,
        404 => ServerStatusClass::Missing,
        408 | 425 | 429 | 500..600 => ServerStatusClass::Transient,
        _ => ServerStatusClass::Refused,
    }
}

async fn read_body(mut response: Response) -> ServerCallOutcome {
    let mut body = Vec::new();
    loop {
        match response.chunk().await {
            Ok(None) => return ServerCallOutcome::Good(body),
            Ok(Some(piece)) if body.len() + piece.len() <= ANSWER_MAX_BYTES => {
                body.extend_from_slice(&piece)
            }
            Ok(Some(_)) => {
                return ServerCallOutcome::Refused {
                    reason: format!("answered more than {ANSWER_MAX_BYTES} bytes"),
                };
            }
            Err(error) => return classify_error(&error),
        }
    }
}

/// Classifies a call without a complete answer. The error's own text is not used: it contains the
/// URL, and so personal data.
fn classify_error(error: &reqwest::Error) -> ServerCallOutcome {
    if error.is_builder() {
        return ServerCallOutcome::Refused {
            reason: "the configured URL is invalid".into(),
        };
    }
    let reason = match (error.is_timeout(), error.is_connect()) {
        (true, _) => "timed out",
        (false, true) => "connection failed",
        (false, false) => "connection closed early",
    };
    ServerCallOutcome::Transient {
        reason: reason.into(),
        after: Duration::ZERO,
    }
}

/// Returns the pause that the server asks for at `now`, or zero.
fn requested_pause(headers: &HeaderMap, now: Timestamp) -> Duration {
    let value = headers
        .get(RETRY_AFTER)
        .and_then(|value| value.to_str().ok());
    value
        .and_then(|value| parse_retry_after(value, now))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_has_its_class() {
        let class_of =
            |status| classify_server_status(StatusCode::from_u16(status).expect("a status"));
        let table = [
            (ServerStatusClass::Good, &[200, 201, 204][..]),
            (ServerStatusClass::Missing, &[404]),
            (
                ServerStatusClass::Transient,
                &[408, 425, 429, 500, 502, 503, 504, 599],
            ),
            (
                ServerStatusClass::Refused,
                &[300, 301, 307, 400, 401, 403, 409, 410, 422],
            ),
        ];
        for (expected, statuses) in table {
            assert!(
                statuses.iter().all(|status| class_of(*status) == expected),
                "{expected:?}"
            );
        }
    }

    #[test]
    fn a_requested_pause_is_honoured_and_no_request_is_no_pause() {
        let asked = HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from_static("7"))]);
        assert_eq!(
            requested_pause(&asked, Timestamp::default()),
            Duration::from_secs(7)
        );
        assert_eq!(
            requested_pause(&HeaderMap::new(), Timestamp::default()),
            Duration::ZERO
        );
    }
}
