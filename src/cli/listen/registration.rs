//! Subscription of the listener at a node: created at the start and removed at the end.
//!
//! A subscription that an earlier listener at the same address left behind is taken over; it would
//! otherwise keep delivering with an unknown secret. It is paused meanwhile, so no delivery signed
//! with the old secret arrives.

use std::time::Duration;

use reqwest::{Client, Method, StatusCode};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::cli::node_args::SelectedNode;
use crate::cli::node_url::client_builder;
use crate::cli::refusal_detail::read_refusal_detail;
use crate::config::{Secret, parse_web_url};

/// Limit of one call; a node creates or removes a subscription faster.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Description that marks the listener's subscriptions, together with the URL.
const DESCRIPTION: &str = "hookyard listen";

const SUBSCRIPTIONS_PATH: &str = "/api/v1/webhooks";

/// Attempts to reach a node that is starting, and the pause between two attempts.
const ATTEMPTS_MAX: u32 = 10;
const RETRY_PAUSE: Duration = Duration::from_millis(500);

/// Errors of creating, updating or removing the subscription.
#[derive(Debug, thiserror::Error)]
pub(in crate::cli) enum RegistrationError {
    #[error(
        "no node answers at {url}; start one with `hookyard serve --dev`, or name another with \
         --subscribe"
    )]
    Unreachable { url: String, source: reqwest::Error },
    #[error("the node answered {status}: {detail}")]
    Refused { status: StatusCode, detail: String },
    /// The parse error is left out, because it may quote the answer with its secret.
    #[error("the answer of {url} is not a subscription; name a node's URL with --subscribe")]
    NoSubscription { url: String },
    #[error("the connection broke before the end of the node's answer")]
    Broken(#[source] reqwest::Error),
    #[error("cannot set up the HTTP client")]
    Client(#[source] reqwest::Error),
}

impl RegistrationError {
    /// Tells if the node may just be starting.
    fn is_temporary(&self) -> bool {
        match self {
            Self::Unreachable { source, .. } => source.is_connect(),
            Self::Refused { status, .. } => *status == StatusCode::SERVICE_UNAVAILABLE,
            Self::NoSubscription { .. } | Self::Broken(_) | Self::Client(_) => false,
        }
    }
}

/// Subscription to create or update.
#[derive(Debug)]
pub(super) struct RegistrationRequest<'a> {
    /// URL at which the node reaches the listener.
    pub(super) url: &'a str,
    pub(super) events: &'a [String],
    /// Signature styles; empty means the node's default.
    pub(super) signing: &'a [String],
    /// Secret of the subscription; the node generates one for `None`.
    pub(super) secret: Option<&'a Secret>,
}

/// Client of a node's admin API.
#[derive(Debug)]
pub(super) struct NodeClient {
    base: String,
    token: Secret,
    client: Client,
}

/// Subscription as returned by the node.
#[derive(Debug, Deserialize)]
pub(super) struct ListenerRegistration {
    pub(super) id: u64,
    #[serde(default, deserialize_with = "secret")]
    pub(super) secret: Secret,
    #[serde(default)]
    pub(super) public_key: Option<String>,
    /// True if an earlier listener created the subscription.
    #[serde(skip)]
    pub(super) is_taken_over: bool,
}

/// Page of the node's subscriptions.
#[derive(Deserialize)]
struct RemoteSubscriptionPage {
    items: Vec<RemoteSubscription>,
    pages: u64,
}

#[derive(Deserialize)]
struct RemoteSubscription {
    id: u64,
    /// Absent if the subscriber reads its events itself.
    url: Option<String>,
    description: Option<String>,
}

/// Subscription with the size of its backlog.
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
    pub(super) fn try_new(node: SelectedNode) -> Result<Self, RegistrationError> {
        let client = client_builder(node.is_own)
            .timeout(TIMEOUT)
            .build()
            .map_err(RegistrationError::Client)?;
        Ok(Self {
            base: node.base.trim_end_matches('/').to_owned(),
            token: node.token,
            client,
        })
    }

    pub(super) fn base(&self) -> &str {
        &self.base
    }

    /// Creates a subscription and returns its secret.
    pub(super) async fn subscribe(
        &self,
        request: &RegistrationRequest<'_>,
    ) -> Result<ListenerRegistration, RegistrationError> {
        let answer = self
            .call(Method::POST, SUBSCRIPTIONS_PATH, Some(&request.body()))
            .await?;
        self.read(answer).await
    }

    /// Updates the newest subscription that an earlier listener left, gives it a new secret, leaves
    /// it paused, and removes the others. Returns `None` if there is none. Waits a little for a
    /// node that does not answer yet, and calls `waiting` once.
    pub(super) async fn take_over(
        &self,
        request: &RegistrationRequest<'_>,
        on_wait: impl FnOnce(),
    ) -> Result<Option<ListenerRegistration>, RegistrationError> {
        let left_over = self.list_left_over(request.url, on_wait).await?;
        let Some((newest, others)) = left_over.split_first() else {
            return Ok(None);
        };
        let path = format!("{SUBSCRIPTIONS_PATH}/{newest}");
        self.call(Method::POST, &format!("{path}/pause"), None)
            .await?;
        let signing = if request.signing.is_empty() {
            Value::Null
        } else {
            request.signing.into()
        };
        self.call(
            Method::PUT,
            &path,
            Some(&json!({"events": request.events, "signing": signing})),
        )
        .await?;
        let mut rotation = json!({"overlap_h": 0});
        if let Some(secret) = request.secret {
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

    /// Resumes the deliveries of a subscription.
    pub(super) async fn resume(&self, id: u64) -> Result<(), RegistrationError> {
        self.call(
            Method::POST,
            &format!("{SUBSCRIPTIONS_PATH}/{id}/resume"),
            None,
        )
        .await
        .map(drop)
    }

    /// Tells if a subscription has undelivered events.
    pub(super) async fn has_backlog(&self, id: u64) -> Result<bool, RegistrationError> {
        let answer = self
            .call(Method::GET, &format!("{SUBSCRIPTIONS_PATH}/{id}"), None)
            .await?;
        let RemoteSubscriptionDetails { stats } = self.read(answer).await?;
        Ok(stats.in_flight + stats.waiting + stats.stopped_lanes + stats.behind > 0)
    }

    /// Lists the listeners' subscriptions to `url`, newest first.
    async fn list_left_over(
        &self,
        url: &str,
        on_wait: impl FnOnce(),
    ) -> Result<Vec<u64>, RegistrationError> {
        // The node stores the canonical form.
        let url = parse_web_url(url).map_or_else(|_| url.to_owned(), String::from);
        let (mut left_over, mut number, mut pages) = (Vec::new(), 1, 1);
        let mut first = Some(self.wait_for_first_page(on_wait).await?);
        while number <= pages {
            let page = match first.take() {
                Some(page) => page,
                None => self.fetch_page(number).await?,
            };
            pages = page.pages;
            let is_own = |listed: &RemoteSubscription| {
                listed.url.as_deref() == Some(&url)
                    && listed.description.as_deref() == Some(DESCRIPTION)
            };
            left_over.extend(
                page.items
                    .into_iter()
                    .filter(is_own)
                    .map(|listed| listed.id),
            );
            number += 1;
        }
        Ok(left_over)
    }

    /// Returns the first page of subscriptions, once the node answers.
    async fn wait_for_first_page(
        &self,
        on_wait: impl FnOnce(),
    ) -> Result<RemoteSubscriptionPage, RegistrationError> {
        let mut on_wait = Some(on_wait);
        for _ in 1..ATTEMPTS_MAX {
            match self.fetch_page(1).await {
                Err(error) if error.is_temporary() => {
                    on_wait.take().into_iter().for_each(|on_wait| on_wait())
                }
                other => return other,
            }
            #[expect(
                clippy::disallowed_methods,
                reason = "nothing says when a node is up: it is asked now and then"
            )]
            tokio::time::sleep(RETRY_PAUSE).await;
        }
        self.fetch_page(1).await
    }

    async fn fetch_page(&self, number: u64) -> Result<RemoteSubscriptionPage, RegistrationError> {
        let answer = self
            .call(
                Method::GET,
                &format!("{SUBSCRIPTIONS_PATH}?page={number}&page_size=100"),
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

    /// Removes a subscription together with its backlog.
    pub(super) async fn unsubscribe(&self, id: u64) -> Result<(), RegistrationError> {
        self.call(Method::DELETE, &format!("{SUBSCRIPTIONS_PATH}/{id}"), None)
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
        Err(RegistrationError::Refused {
            status,
            detail: read_refusal_detail(answer).await,
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
