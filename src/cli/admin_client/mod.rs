//! Client of a running node's admin API, for every command that uses one.

use std::collections::HashSet;
use std::time::Duration;

use reqwest::{Client, Method, Response, Url};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use zeroize::Zeroizing;

use super::node_url::client_builder;
use super::selected_node::SelectedNode;

mod error;

pub(super) use error::AdminCallError;

/// Longest wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Longest silence of the node. The whole of an answer, such as a backup, may take hours.
const SILENCE_MAX: Duration = Duration::from_secs(60);

/// Items of each page that [`AdminClient::list`] asks for: the most that a node gives.
pub(super) const PAGE_SIZE: usize = 100;

/// Client of a node's admin API.
pub(super) struct AdminClient {
    node: SelectedNode,
    client: Client,
}

/// Page of a list, as every list of the API answers.
#[derive(Deserialize)]
pub(super) struct RemotePage {
    pub(super) items: Vec<Value>,
    pub(super) pages: u64,
    pub(super) total: u64,
}

impl AdminClient {
    pub(super) fn try_new(node: SelectedNode) -> Result<Self, AdminCallError> {
        let client = client_builder(node.is_own)
            .connect_timeout(CONNECT_TIMEOUT)
            .read_timeout(SILENCE_MAX)
            .build()
            .map_err(AdminCallError::Client)?;
        Ok(Self { node, client })
    }

    /// Returns the address of the node, without a slash at its end.
    pub(super) fn base(&self) -> &str {
        &self.node.base
    }

    /// Returns the URL of `segments` below `/api/v1`, with the parameters of `query`.
    pub(super) fn url(
        &self,
        segments: &[&str],
        query: &[(&str, &str)],
    ) -> Result<Url, AdminCallError> {
        let mut url = Url::parse(&self.node.base).map_err(|_| self.no_node())?;
        url.path_segments_mut()
            .map_err(|()| self.no_node())?
            .pop_if_empty()
            .extend(["api", "v1"].iter().chain(segments));
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        Ok(url)
    }

    /// Makes a call and returns its answer, if that is a success.
    pub(super) async fn call(
        &self,
        method: Method,
        url: Url,
        body: Option<&Value>,
    ) -> Result<Response, AdminCallError> {
        let mut request = self.client.request(method, url);
        if let Some(body) = body {
            request = request
                .header("Content-Type", "application/json")
                .body(body.to_string());
        }
        let answer = request.bearer_auth(self.node.token.expose()).send().await;
        let answer = answer.map_err(|error| AdminCallError::Unreachable {
            base: self.node.base.clone(),
            source: error.without_url(),
        })?;
        let status = answer.status();
        if status.is_success() {
            return Ok(answer);
        }
        Err(match read_refusal_detail(answer).await {
            Some(detail) => AdminCallError::Refused { status, detail },
            // A proxy answers so while its node is away.
            None if matches!(status.as_u16(), 502..=504) => AdminCallError::Refused {
                status,
                detail: "no reason given".to_owned(),
            },
            None => AdminCallError::NoNode {
                base: self.node.base.clone(),
            },
        })
    }

    /// Reads an answer. Its text is wiped from memory, because it may hold a secret.
    pub(super) async fn read<T: DeserializeOwned>(
        &self,
        answer: Response,
    ) -> Result<T, AdminCallError> {
        let body = answer.bytes().await.map_err(AdminCallError::Broken)?;
        let body = Zeroizing::new(body.to_vec());
        serde_json::from_slice(&body).map_err(|_| self.no_node())
    }

    /// Reads what is at `segments`.
    pub(super) async fn get<T: DeserializeOwned>(
        &self,
        segments: &[&str],
        query: &[(&str, &str)],
    ) -> Result<T, AdminCallError> {
        let url = self.url(segments, query)?;
        self.read(self.call(Method::GET, url, None).await?).await
    }

    /// Posts `body` to `segments` and reads the answer.
    pub(super) async fn post<T: DeserializeOwned>(
        &self,
        segments: &[&str],
        body: Option<&Value>,
    ) -> Result<T, AdminCallError> {
        let url = self.url(segments, &[])?;
        self.read(self.call(Method::POST, url, body).await?).await
    }

    /// Reads one page of a list, from 1.
    pub(super) async fn list_page(
        &self,
        segments: &[&str],
        filter: &[(&str, &str)],
        number: u64,
    ) -> Result<RemotePage, AdminCallError> {
        let (number, size) = (number.to_string(), PAGE_SIZE.to_string());
        let place = [("page", number.as_str()), ("page_size", size.as_str())];
        self.get(segments, &[filter, &place].concat()).await
    }

    /// Reads all pages of a list. Items that move to another page meanwhile, because new ones came or
    /// others went, are neither repeated nor left out. Each page is a step forward, however many go.
    pub(super) async fn list_all(
        &self,
        segments: &[&str],
        filter: &[(&str, &str)],
    ) -> Result<Vec<Value>, AdminCallError> {
        let (mut all, mut known) = (Vec::new(), HashSet::new());
        let mut keep_new = |items: Vec<Value>| -> Vec<Value> {
            let items = items.into_iter();
            items
                .filter(|item| known.insert(item_key(item).to_string()))
                .collect()
        };
        let (mut number, mut last_total) = (1, 0);
        loop {
            let page = self.list_page(segments, filter, number).await?;

            // Items went: later ones moved up by as many places at most, some perhaps past this page.
            // They are before it. Those that go meanwhile move them on, so the way back grows.
            let mut moved_up = Vec::new();
            let (mut before, mut lowest_total) = (number - 1, page.total);
            while before > 0 && is_moved_past(last_total, lowest_total, number - 1 - before) {
                let earlier = self.list_page(segments, filter, before).await?;
                lowest_total = lowest_total.min(earlier.total);
                moved_up.splice(0..0, keep_new(earlier.items));
                before -= 1;
            }

            all.extend(moved_up);
            all.extend(keep_new(page.items));
            if number >= page.pages {
                return Ok(all);
            }
            (number, last_total) = (number + 1, page.total);
        }
    }

    fn no_node(&self) -> AdminCallError {
        AdminCallError::NoNode {
            base: self.node.base.clone(),
        }
    }
}

/// Tells if items may have moved up past `pages_read` pages when a list shrank to `total`.
const fn is_moved_past(last_total: u64, total: u64, pages_read: u64) -> bool {
    last_total.saturating_sub(total) > pages_read * PAGE_SIZE as u64
}

/// Member by which an item of a list is known: its id, or the name of a token.
fn item_key(item: &Value) -> &Value {
    item.get("id").unwrap_or(&item["name"])
}

/// Keeps the filters that are given, as parameters of a query.
pub(super) fn given_filters<'a, const N: usize>(
    filters: [(&'a str, Option<&'a str>); N],
) -> Vec<(&'a str, &'a str)> {
    let given = filters.into_iter();
    given
        .filter_map(|(name, value)| Some((name, value?)))
        .collect()
}

/// Reads the member `detail` of an answer that is no success, and below it the `errors` if there are
/// several. An answer that does not come from a node has none.
async fn read_refusal_detail(answer: Response) -> Option<String> {
    let body = answer.text().await.unwrap_or_default();
    let body = serde_json::from_str::<Value>(&body).unwrap_or_default();
    let detail = body["detail"].as_str()?;
    let errors = body["errors"].as_array().map_or(&[][..], Vec::as_slice);
    let others = errors.iter().filter_map(|error| error["detail"].as_str());
    let others = others.filter(|other| *other != detail);
    let details: Vec<_> = std::iter::once(detail).chain(others).collect();
    Some(details.join("\n  "))
}
