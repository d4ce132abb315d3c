//! The listener's own subscription at a node: made at the start, so that nothing else needs to be
//! set up, and removed at the end.
//!
//! One that an earlier listener at the same address left, killed or asked to, is taken over: it
//! would go on to deliver there, signed with a secret that nobody knows any more. While it changes
//! hands it is paused, so that nothing arrives that is signed with the old one.

use std::time::Duration;

use reqwest::{Client, Method, StatusCode};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::config::Secret;

/// Longer than a node takes to keep or remove a subscription.
const TIMEOUT: Duration = Duration::from_secs(10);

/// What the listener's own subscriptions are known by, beside their address.
const DESCRIPTION: &str = "hookyard listen";

const ALL: &str = "/api/v1/webhooks";

/// How often a node is looked for that does not answer yet, and the pause between.
const TRIES: u32 = 10;
const PAUSE: Duration = Duration::from_millis(500);

/// Why there is no subscription, or why it is still there.
#[derive(Debug, thiserror::Error)]
pub(in crate::cli) enum RegistrationError {
    #[error(
        "no node answers at {url}; start one with `hookyard serve --dev`, or name another with --subscribe"
    )]
    Unreachable { url: String, source: reqwest::Error },
    #[error("the node answered {status}: {detail}")]
    Refused { status: StatusCode, detail: String },
    /// Without the reason, which may quote the answer and so the secret.
    #[error("what {url} answered is no subscription; name a node's address with --subscribe")]
    NoSubscription { url: String },
    #[error("the node's answer breaks off")]
    Broken(#[source] reqwest::Error),
    #[error("the client cannot be set up")]
    Client(#[source] reqwest::Error),
}

impl RegistrationError {
    /// Whether the node is only about to start.
    fn is_temporary(&self) -> bool {
        match self {
            Self::Unreachable { source, .. } => source.is_connect(),
            Self::Refused { status, .. } => *status == StatusCode::SERVICE_UNAVAILABLE,
            Self::NoSubscription { .. } | Self::Broken(_) | Self::Client(_) => false,
        }
    }
}

/// What is subscribed to.
#[derive(Debug)]
pub(super) struct RegistrationRequest<'a> {
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
pub(super) struct NodeClient {
    base: String,
    token: Secret,
    client: Client,
}

/// A subscription as the node answers it.
#[derive(Debug, Deserialize)]
pub(super) struct ListenerRegistration {
    pub(super) id: u64,
    #[serde(default, deserialize_with = "secret")]
    pub(super) secret: Secret,
    #[serde(default)]
    pub(super) public_key: Option<String>,
    /// Whether an earlier listener left it.
    #[serde(skip)]
    pub(super) is_taken_over: bool,
}

/// Subscriptions as a node lists them.
#[derive(Deserialize)]
struct RemoteSubscriptionPage {
    items: Vec<RemoteSubscription>,
    pages: u64,
}

#[derive(Deserialize)]
struct RemoteSubscription {
    id: u64,
    url: String,
    description: Option<String>,
}

/// How much is owed to a subscription.
#[derive(Deserialize)]
struct RemoteSubscriptionDetails {
    stats: RemoteBacklog,
}

#[derive(Deserialize)]
struct RemoteBacklog {
    in_flight: u64,
    waiting: u64,
    stopped_lanes: u64,
    behind: u64,
}

impl NodeClient {
    pub(super) fn try_new(base: &str, token: Secret) -> Result<Self, RegistrationError> {
        // A node is reached directly: a proxy of the environment is for the outside.
        let client = Client::builder()
            .timeout(TIMEOUT)
            .no_proxy()
            .build()
            .map_err(RegistrationError::Client)?;
        Ok(Self {
            base: base.trim_end_matches('/').to_owned(),
            token,
            client,
        })
    }

    pub(super) fn base(&self) -> &str {
        &self.base
    }

    /// Subscribes.
    pub(super) async fn subscribe(
        &self,
        wanted: &RegistrationRequest<'_>,
    ) -> Result<ListenerRegistration, RegistrationError> {
        let answer = self.call(Method::POST, ALL, Some(&wanted.body())).await?;
        self.read(answer).await
    }

    /// Makes the newest subscription that earlier listeners left the wanted one, with a new secret
    /// and paused, and removes the others. None if none was left. A node that does not answer yet
    /// is waited for a little, with `waiting` called once.
    pub(super) async fn take_over(
        &self,
        wanted: &RegistrationRequest<'_>,
        waiting: impl FnOnce(),
    ) -> Result<Option<ListenerRegistration>, RegistrationError> {
        let left = self.list_left_over(wanted.url, waiting).await?;
        let Some((newest, others)) = left.split_first() else {
            return Ok(None);
        };
        let path = format!("{ALL}/{newest}");
        self.call(Method::POST, &format!("{path}/pause"), None)
            .await?;
        let signing = if wanted.signing.is_empty() {
            Value::Null
        } else {
            wanted.signing.into()
        };
        self.call(
            Method::PUT,
            &path,
            Some(&json!({"events": wanted.events, "signing": signing})),
        )
        .await?;
        let mut rotation = json!({"overlap_h": 0});
        if let Some(secret) = wanted.secret {
            rotation["secret"] = secret.expose().into();
        }
        let rotated = self
            .call(
                Method::POST,
                &format!("{path}/rotate-secret"),
                Some(&rotation),
            )
            .await?;
        let registration = self.read(rotated).await?;
        for id in others {
            self.unsubscribe(*id).await?;
        }
        Ok(Some(ListenerRegistration {
            is_taken_over: true,
            ..registration
        }))
    }

    /// Has deliveries to a subscription go on.
    pub(super) async fn resume(&self, id: u64) -> Result<(), RegistrationError> {
        self.call(Method::POST, &format!("{ALL}/{id}/resume"), None)
            .await
            .map(drop)
    }

    /// Whether something is owed to a subscription.
    pub(super) async fn has_backlog(&self, id: u64) -> Result<bool, RegistrationError> {
        let answer = self.call(Method::GET, &format!("{ALL}/{id}"), None).await?;
        let RemoteSubscriptionDetails { stats } = self.read(answer).await?;
        Ok(stats.in_flight + stats.waiting + stats.stopped_lanes + stats.behind > 0)
    }

    /// The listeners' own subscriptions to `url`, newest first.
    async fn list_left_over(
        &self,
        url: &str,
        waiting: impl FnOnce(),
    ) -> Result<Vec<u64>, RegistrationError> {
        let (mut left, mut number, mut pages) = (Vec::new(), 1, 1);
        let mut first = Some(self.wait_for_first_page(waiting).await?);
        while number <= pages {
            let page = match first.take() {
                Some(page) => page,
                None => self.fetch_page(number).await?,
            };
            pages = page.pages;
            let is_own = |listed: &RemoteSubscription| {
                listed.url == url && listed.description.as_deref() == Some(DESCRIPTION)
            };
            left.extend(
                page.items
                    .into_iter()
                    .filter(is_own)
                    .map(|listed| listed.id),
            );
            number += 1;
        }
        Ok(left)
    }

    /// The first page of subscriptions, once the node answers.
    async fn wait_for_first_page(
        &self,
        waiting: impl FnOnce(),
    ) -> Result<RemoteSubscriptionPage, RegistrationError> {
        let mut waiting = Some(waiting);
        for _ in 1..TRIES {
            match self.fetch_page(1).await {
                Err(error) if error.is_temporary() => {
                    waiting.take().into_iter().for_each(|waiting| waiting())
                }
                other => return other,
            }
            #[expect(
                clippy::disallowed_methods,
                reason = "nothing says when a node is up: it is asked now and then"
            )]
            tokio::time::sleep(PAUSE).await;
        }
        self.fetch_page(1).await
    }

    async fn fetch_page(&self, number: u64) -> Result<RemoteSubscriptionPage, RegistrationError> {
        let answer = self
            .call(
                Method::GET,
                &format!("{ALL}?page={number}&page_size=100"),
                None,
            )
            .await?;
        self.read(answer).await
    }

    async fn read<T: DeserializeOwned>(
        &self,
        answer: reqwest::Response,
    ) -> Result<T, RegistrationError> {
        let body = Zeroizing::new(
            answer
                .bytes()
                .await
                .map_err(RegistrationError::Broken)?
                .to_vec(),
        );
        serde_json::from_slice(&body).map_err(|_| RegistrationError::NoSubscription {
            url: self.base.clone(),
        })
    }

    /// Removes a subscription, and what is owed to it.
    pub(super) async fn unsubscribe(&self, id: u64) -> Result<(), RegistrationError> {
        self.call(Method::DELETE, &format!("{ALL}/{id}"), None)
            .await
            .map(drop)
    }

    async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<reqwest::Response, RegistrationError> {
        let url = format!("{}{path}", self.base);
        let mut request = self
            .client
            .request(method, &url)
            .bearer_auth(self.token.expose());
        if let Some(body) = body {
            request = request
                .header("Content-Type", "application/json")
                .body(body.to_string());
        }
        let answer = request.send().await;
        let answer = answer.map_err(|error| RegistrationError::Unreachable {
            url: self.base.clone(),
            source: error.without_url(),
        })?;
        let status = answer.status();
        if status.is_success() {
            return Ok(answer);
        }
        // What is no answer of a node's has no detail.
        let body = answer.text().await.unwrap_or_default();
        let detail = serde_json::from_str::<Value>(&body)
            .ok()
            .and_then(|body| Some(body["detail"].as_str()?.to_owned()));
        Err(RegistrationError::Refused {
            status,
            detail: detail.unwrap_or_else(|| "it does not say why".to_owned()),
        })
    }
}

impl RegistrationRequest<'_> {
    fn body(&self) -> Value {
        let mut body = json!({"url": self.url, "events": self.events, "description": DESCRIPTION});
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
