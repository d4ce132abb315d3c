//! The listener's own subscription at a node: made at the start, so that nothing else needs to be set up, and removed at the end.

use std::time::Duration;

use reqwest::{Client, Method, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::config::Secret;

/// Longer than a node takes to keep or remove a subscription.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Why there is no subscription, or why it is still there.
#[derive(Debug, thiserror::Error)]
pub(in crate::cli) enum Error {
    #[error("no node answers at {url}; start one with `hookyard serve --dev`, or name another with --subscribe")]
    Unreachable { url: String, source: reqwest::Error },
    #[error("the node answered {status}: {detail}")]
    Refused { status: StatusCode, detail: String },
    /// Without the reason, which may quote the answer and so the secret.
    #[error("what the node answered is no subscription")]
    NoSubscription,
    #[error("the node's answer breaks off")]
    Broken(#[source] reqwest::Error),
    #[error("the client cannot be set up")]
    Client(#[source] reqwest::Error),
}

/// What is subscribed to.
#[derive(Debug)]
pub(super) struct Wanted<'a> {
    /// Where the node reaches the listener.
    pub(super) url: &'a str,
    pub(super) events: &'a [String],
    /// The styles of signing; those of the node's own choice if there are none.
    pub(super) signing: &'a [String],
    /// The secret that is given; the node makes one if there is none.
    pub(super) secret: Option<&'a Secret>,
}

/// A node and the token of its admin.
#[derive(Debug)]
pub(super) struct Node {
    base: String,
    token: Secret,
    client: Client,
}

/// A subscription as the node answers it.
#[derive(Debug, Deserialize)]
pub(super) struct Registration {
    pub(super) id: u64,
    #[serde(default, deserialize_with = "secret")]
    pub(super) secret: Secret,
    #[serde(default)]
    pub(super) public_key: Option<String>,
}

impl Node {
    pub(super) fn try_new(base: &str, token: Secret) -> Result<Self, Error> {
        // A node is reached directly: a proxy of the environment is for the outside.
        let client = Client::builder().timeout(TIMEOUT).no_proxy().build().map_err(Error::Client)?;
        Ok(Self { base: base.trim_end_matches('/').to_owned(), token, client })
    }

    pub(super) fn base(&self) -> &str {
        &self.base
    }

    /// Subscribes.
    pub(super) async fn subscribe(&self, wanted: &Wanted<'_>) -> Result<Registration, Error> {
        let answer = self.call(Method::POST, "/api/v1/webhooks", Some(&wanted.body())).await?;
        let body = Zeroizing::new(answer.bytes().await.map_err(Error::Broken)?.to_vec());
        serde_json::from_slice(&body).map_err(|_| Error::NoSubscription)
    }

    /// Removes a subscription, and what is owed to it.
    pub(super) async fn unsubscribe(&self, id: u64) -> Result<(), Error> {
        self.call(Method::DELETE, &format!("/api/v1/webhooks/{id}"), None).await.map(drop)
    }

    async fn call(&self, method: Method, path: &str, body: Option<&Value>) -> Result<reqwest::Response, Error> {
        let url = format!("{}{path}", self.base);
        let mut request = self.client.request(method, &url).bearer_auth(self.token.expose());
        if let Some(body) = body {
            request = request.header("Content-Type", "application/json").body(body.to_string());
        }
        let answer = request.send().await;
        let answer =
            answer.map_err(|error| Error::Unreachable { url: self.base.clone(), source: error.without_url() })?;
        let status = answer.status();
        if status.is_success() {
            return Ok(answer);
        }
        // What is no answer of a node's has no detail.
        let body = answer.text().await.unwrap_or_default();
        let detail =
            serde_json::from_str::<Value>(&body).ok().and_then(|body| Some(body["detail"].as_str()?.to_owned()));
        Err(Error::Refused { status, detail: detail.unwrap_or_else(|| "it does not say why".to_owned()) })
    }
}

impl Wanted<'_> {
    fn body(&self) -> Value {
        let mut body = json!({"url": self.url, "events": self.events, "description": "hookyard listen"});
        if let Some(secret) = self.secret {
            body["secret"] = secret.expose().into();
        }
        if !self.signing.is_empty() {
            body["signing"] = self.signing.into();
        }
        body
    }
}

fn secret<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Secret, D::Error> {
    String::deserialize(deserializer).map(Secret::new)
}
