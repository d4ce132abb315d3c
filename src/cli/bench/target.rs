//! Target of the events: builds the request of each event, and judges the answers.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{CONTENT_TYPE, HOST, HeaderName, HeaderValue};
use hyper::{Method, Request, StatusCode};
use reqwest::Url;

use super::error::BenchError;
use super::template::{RequestTemplate, TemplateValues};
use super::traffic::{PlannedEvent, TrafficShape, write_payload};
use crate::clock::{Clock, SystemClock};
use crate::config::Secret;
use crate::edge::support::signature::sign_support_body;

/// Path of the source `support`, which the benchmark of a node uses.
pub(super) const SUPPORT_PATH: &str = "/api/v0/crm/webhooks/support/";

/// Body of an event of the source `support`.
const SUPPORT_BODY: &str = r#"{"event":"message.created","support_uid":"{entity}","data":{"message_id":"m-{number}","number":{number},"text":"{payload}","author":"bench"},"actor":{"id":"bench","name":"hookyard bench"}}"#;

/// Statuses after which a sender tries again: the target is busy, restarts, or is not reached.
const RETRY_STATUSES: [u16; 7] = [408, 425, 429, 500, 502, 503, 504];

/// Server that the events are sent to.
#[derive(Clone, Debug)]
pub(super) struct EventTarget {
    pub(super) server: ServerAddress,
    pub(super) method: Method,
    /// Path of the URL, with its query.
    pub(super) path: RequestTemplate,
    pub(super) headers: Vec<(HeaderName, RequestTemplate)>,
    pub(super) body: RequestTemplate,
    /// Statuses that acknowledge an event; empty for every 2xx.
    pub(super) accepted: Vec<u16>,
    /// Statuses that acknowledge the repetition of an event.
    pub(super) repeated: Vec<u16>,
    pub(super) signer: Option<SupportSigner>,
    /// Begin of the ids of all entities, which tells the runs apart.
    pub(super) label: String,
}

/// Host and port to connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ServerAddress {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) is_tls: bool,
    /// Value of the header `Host`.
    authority: HeaderValue,
}

/// Credentials of a sender of support tickets.
#[derive(Clone, Debug)]
pub(super) struct SupportSigner {
    pub(super) api_key: Secret,
    pub(super) secret: Secret,
}

/// Meaning of an answer for the sender.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum AnswerMeaning {
    /// The event is acknowledged by this answer.
    Accepted,
    /// The event was acknowledged before, by an answer that did not arrive.
    KnownAlready,
    /// The same event has to be sent again, after a pause.
    Retry,
    /// The key is taken although it was sent for the first time.
    KeyInUse,
    /// Another try would be answered the same.
    Refused,
}

impl ServerAddress {
    /// Takes host and port out of `url`; returns them with the path and query.
    pub(super) fn split_url(url: &str) -> Result<(Self, String), BenchError> {
        let error = || BenchError::NoServer {
            url: url.to_owned(),
        };
        let (scheme, rest) = url.split_once("://").ok_or_else(error)?;
        let path_at = rest.find(['/', '?']).unwrap_or(rest.len());
        let origin =
            Url::parse(&format!("{scheme}://{}", &rest[..path_at])).map_err(|_| error())?;
        if !matches!(scheme, "http" | "https") {
            return Err(error());
        }
        let host = origin.host_str().ok_or_else(error)?;
        let address = Self {
            host: host.trim_matches(['[', ']']).to_owned(),
            port: origin.port_or_known_default().ok_or_else(error)?,
            is_tls: scheme == "https",
            authority: HeaderValue::from_str(&rest[..path_at]).map_err(|_| error())?,
        };
        let path = match &rest[path_at..] {
            path if path.starts_with('/') => path.to_owned(),
            query => format!("/{query}"),
        };
        Ok((address, path))
    }
}

impl EventTarget {
    /// Returns the endpoint for tickets of the node at `base`.
    pub(super) fn for_node(
        base: &str,
        signer: SupportSigner,
        label: &str,
    ) -> Result<Self, BenchError> {
        let url = format!("{}{SUPPORT_PATH}", base.trim_end_matches('/'));
        let (server, path) = ServerAddress::split_url(&url)?;
        let template = |text: &str| {
            let template = RequestTemplate::parse(text, |_| None);
            template.expect("no text of this file names a variable")
        };
        Ok(Self {
            server,
            method: Method::POST,
            path: template(&path),
            headers: vec![
                (CONTENT_TYPE, template("application/json")),
                (
                    HeaderName::from_static("idempotency-key"),
                    template("{key}"),
                ),
            ],
            body: template(SUPPORT_BODY),
            accepted: Vec::new(),
            repeated: vec![StatusCode::CONFLICT.as_u16()],
            signer: Some(signer),
            label: label.to_owned(),
        })
    }

    /// Returns the idempotency key of `event`, the same for every request with it.
    pub(super) fn event_key(&self, event: PlannedEvent) -> String {
        format!("{}-{}-{}", self.label, event.entity, event.number)
    }

    /// Builds a request with `event`. Requests with one event differ in the time of the signature
    /// only.
    pub(super) fn build_request(
        &self,
        event: PlannedEvent,
        shape: &TrafficShape,
        clock: &SystemClock,
    ) -> Result<Request<Full<Bytes>>, BenchError> {
        let mut payload = String::with_capacity(shape.payload_bytes);
        write_payload(shape, event.index, &mut payload);
        let (entity, key) = (
            format!("{}-{}", self.label, event.entity),
            self.event_key(event),
        );
        let values = TemplateValues {
            entity: &entity,
            number: event.number,
            key: &key,
            payload: &payload,
            receiver_url: "",
        };
        let mut body = String::with_capacity(shape.payload_bytes + 256);
        self.body.render(&values, &mut body);

        let mut request = Request::builder()
            .method(self.method.clone())
            .uri(self.path.to_text(&values))
            .header(HOST, self.server.authority.clone());
        for (name, value) in &self.headers {
            request = request.header(name, value.to_text(&values));
        }
        if let Some(signer) = &self.signer {
            let signed_at = clock.wall().to_string();
            let signature = sign_support_body(&signer.secret, body.as_bytes(), &signed_at);
            request = request
                .header("x-crm-api-key", signer.api_key.expose())
                .header("x-crm-timestamp", signed_at)
                .header("x-crm-signature", signature);
        }
        let request = request.body(Full::new(Bytes::from(body)));
        request.map_err(|_| BenchError::Header {
            name: "a header or the path of the adapter".to_owned(),
        })
    }

    /// Judges the answer to a request. `is_repeated` tells if the event was sent before.
    pub(super) fn judge_answer(&self, status: StatusCode, is_repeated: bool) -> AnswerMeaning {
        let code = status.as_u16();
        let is_accepted = match self.accepted.is_empty() {
            true => status.is_success(),
            false => self.accepted.contains(&code),
        };
        match () {
            () if is_accepted => AnswerMeaning::Accepted,
            () if self.repeated.contains(&code) && is_repeated => AnswerMeaning::KnownAlready,
            () if self.repeated.contains(&code) => AnswerMeaning::KeyInUse,
            () if RETRY_STATUSES.contains(&code) => AnswerMeaning::Retry,
            () => AnswerMeaning::Refused,
        }
    }
}

/// Finds the entity in its id, as it comes back in deliveries.
pub(super) fn parse_entity_id(id: &str, label: &str) -> Option<u32> {
    id.strip_prefix(label)?.strip_prefix('-')?.parse().ok()
}

/// Longest pause between two requests with one event, unless the target asks for more.
const PAUSE_MAX: Duration = Duration::from_millis(500);

/// Longest pause that a target's `Retry-After` may ask for: a benchmark has to go on.
const ASKED_PAUSE_MAX: Duration = Duration::from_secs(5);

/// Returns the pause before the next request, after `failures` failed ones.
pub(super) fn choose_pause(failures: u32, asked: Option<Duration>) -> Duration {
    let own = Duration::from_millis(10) * 2_u32.pow(failures.min(6).saturating_sub(1));
    let asked = asked.unwrap_or_default().min(ASKED_PAUSE_MAX);
    own.min(PAUSE_MAX).max(asked)
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    const SHAPE: TrafficShape = TrafficShape {
        seed: 1,
        entities: 10,
        events: 10,
        skew: 0.0,
        payload_bytes: 40,
    };

    fn node_target() -> EventTarget {
        let signer = SupportSigner {
            api_key: Secret::new("a"),
            secret: Secret::new("s"),
        };
        EventTarget::for_node("http://localhost:8080/", signer, "b").expect("a URL")
    }

    #[test]
    fn a_request_for_a_node_is_signed_json_with_the_key_of_the_event() {
        let event = PlannedEvent {
            index: 4,
            entity: 3,
            number: 2,
        };
        let request = node_target()
            .build_request(event, &SHAPE, &SystemClock::default())
            .expect("valid headers");
        assert_eq!(request.uri(), SUPPORT_PATH);
        assert_eq!(request.headers()["host"], "localhost:8080");
        assert_eq!(request.headers()["idempotency-key"], "b-3-2");
        assert_eq!(request.headers()["x-crm-signature"].len(), 64);

        let body = request.into_body().collect();
        let body = futures_now(body).to_bytes();
        let body: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
        assert_eq!(body["support_uid"], "b-3");
        assert_eq!(body["data"]["number"], 2);
        assert_eq!(body["data"]["text"].as_str().map(str::len), Some(40));
        assert_eq!(parse_entity_id("b-3", "b"), Some(3));
        assert_eq!(parse_entity_id("c-3", "b"), None);
    }

    /// Result of a body in memory, which never waits.
    fn futures_now<T, E: std::fmt::Debug>(future: impl Future<Output = Result<T, E>>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        runtime
            .expect("a runtime")
            .block_on(future)
            .expect("no failure")
    }

    #[test]
    fn answers_are_judged_as_a_sender_judges_them() {
        let target = node_target();
        for (status, is_repeated, meaning) in [
            (202, false, AnswerMeaning::Accepted),
            (409, true, AnswerMeaning::KnownAlready),
            (409, false, AnswerMeaning::KeyInUse),
            (503, false, AnswerMeaning::Retry),
            (429, true, AnswerMeaning::Retry),
            (401, false, AnswerMeaning::Refused),
            (404, true, AnswerMeaning::Refused),
        ] {
            let status = StatusCode::from_u16(status).expect("a status");
            assert_eq!(
                target.judge_answer(status, is_repeated),
                meaning,
                "{status}"
            );
        }
    }

    #[test]
    fn pauses_grow_to_a_bound_and_follow_the_target() {
        let millis = Duration::from_millis;
        assert_eq!(choose_pause(1, None), millis(10));
        assert_eq!(choose_pause(3, None), millis(40));
        assert_eq!(choose_pause(100, None), millis(320));
        assert_eq!(choose_pause(1, Some(millis(1000))), millis(1000));
        assert_eq!(choose_pause(1, Some(millis(60_000))), ASKED_PAUSE_MAX);
    }

    #[test]
    fn urls_are_split_into_server_and_path() {
        let split = |url| {
            ServerAddress::split_url(url)
                .map(|(server, path)| (server.host, server.port, server.is_tls, path))
        };
        assert_eq!(
            split("http://[::1]:8080").expect("a URL"),
            ("::1".to_owned(), 8080, false, "/".to_owned())
        );
        assert_eq!(
            split("https://hooks.example/in/{entity}?a=b").expect("a URL"),
            (
                "hooks.example".to_owned(),
                443,
                true,
                "/in/{entity}?a=b".to_owned()
            )
        );
        for wrong in ["ftp://a/", "localhost:80", "http://"] {
            assert!(split(wrong).is_err(), "{wrong}");
        }
    }
}
