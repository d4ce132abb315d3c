//! Subscription of the listener at a node: created at the start and removed at the end.
//!
//! A subscription that an earlier listener at the same address left behind is taken over; it would
//! otherwise keep delivering with an unknown secret. It is paused meanwhile, so no delivery signed
//! with the old secret arrives.

use std::time::Duration;

use reqwest::Method;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Value, json};

use crate::cli::admin_client::{AdminCallError, AdminClient};
use crate::config::{Secret, parse_web_url};

/// Description that marks the listener's subscriptions, together with the URL.
const DESCRIPTION: &str = "hookyard listen";

/// Attempts to reach a node that is starting, and the pause between two attempts.
const ATTEMPTS_MAX: u32 = 10;
const RETRY_PAUSE: Duration = Duration::from_millis(500);

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

/// Node that the listener subscribes at.
pub(super) struct ListenerNode(AdminClient);

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

impl ListenerNode {
    pub(super) const fn new(client: AdminClient) -> Self {
        Self(client)
    }

    pub(super) fn base(&self) -> &str {
        self.0.base()
    }

    /// Creates a subscription and returns its secret.
    pub(super) async fn subscribe(
        &self,
        request: &RegistrationRequest<'_>,
    ) -> Result<ListenerRegistration, AdminCallError> {
        self.0.post(&["webhooks"], Some(&request.body())).await
    }

    /// Updates the newest subscription that an earlier listener left, gives it a new secret, leaves
    /// it paused, and removes the others. Returns `None` if there is none. Waits a little for a
    /// node that does not answer yet, and calls `waiting` once.
    pub(super) async fn take_over(
        &self,
        request: &RegistrationRequest<'_>,
        on_wait: impl FnOnce(),
    ) -> Result<Option<ListenerRegistration>, AdminCallError> {
        let left_over = self.list_left_over(request.url, on_wait).await?;
        let Some((newest, others)) = left_over.split_first() else {
            return Ok(None);
        };
        let id = newest.to_string();
        let _: IgnoredAny = self.0.post(&["webhooks", &id, "pause"], None).await?;

        let signing = if request.signing.is_empty() {
            Value::Null
        } else {
            request.signing.into()
        };
        let change = json!({"events": request.events, "signing": signing});
        let url = self.0.url(&["webhooks", &id], &[])?;
        self.0.call(Method::PUT, url, Some(&change)).await?;

        let mut rotation = json!({"overlap_h": 0});
        if let Some(secret) = request.secret {
            rotation["secret"] = secret.expose().into();
        }
        let rotate = ["webhooks", &id, "rotate-secret"];
        let registration = self.0.post(&rotate, Some(&rotation)).await?;
        for id in others {
            self.unsubscribe(*id).await?;
        }
        Ok(Some(ListenerRegistration {
            is_taken_over: true,
            ..registration
        }))
    }

    /// Resumes the deliveries of a subscription.
    pub(super) async fn resume(&self, id: u64) -> Result<(), AdminCallError> {
        let resume = ["webhooks", &id.to_string(), "resume"];
        let _: IgnoredAny = self.0.post(&resume, None).await?;
        Ok(())
    }

    /// Tells if a subscription has undelivered events.
    pub(super) async fn has_backlog(&self, id: u64) -> Result<bool, AdminCallError> {
        let found = self.0.get(&["webhooks", &id.to_string()], &[]).await?;
        let RemoteSubscriptionDetails { stats } = found;
        Ok(stats.in_flight + stats.waiting + stats.stopped_lanes + stats.behind > 0)
    }

    /// Lists the listeners' subscriptions to `url`, newest first.
    async fn list_left_over(
        &self,
        url: &str,
        on_wait: impl FnOnce(),
    ) -> Result<Vec<u64>, AdminCallError> {
        // The node stores the canonical form.
        let url = parse_web_url(url).map_or_else(|_| url.to_owned(), String::from);
        let all = self.list_once_answered(on_wait).await?;
        let is_own = |listed: &&Value| listed["url"] == url && listed["description"] == DESCRIPTION;
        let own = all.iter().filter(is_own);
        Ok(own.filter_map(|listed| listed["id"].as_u64()).collect())
    }

    /// Lists all subscriptions, once the node answers.
    async fn list_once_answered(
        &self,
        on_wait: impl FnOnce(),
    ) -> Result<Vec<Value>, AdminCallError> {
        let mut on_wait = Some(on_wait);
        for _ in 1..ATTEMPTS_MAX {
            match self.0.list_all(&["webhooks"], &[]).await {
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
        self.0.list_all(&["webhooks"], &[]).await
    }

    /// Removes a subscription together with its backlog.
    pub(super) async fn unsubscribe(&self, id: u64) -> Result<(), AdminCallError> {
        let url = self.0.url(&["webhooks", &id.to_string()], &[])?;
        self.0.call(Method::DELETE, url, None).await.map(drop)
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
