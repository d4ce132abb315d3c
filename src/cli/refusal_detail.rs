//! Reason that a node gives for a refused call, for every command that calls one.

use reqwest::Response;
use serde_json::Value;

/// Reads the member `detail` of an answer that is no success. An answer that does not come from a
/// node has none.
pub(super) async fn read_refusal_detail(answer: Response) -> String {
    let body = answer.text().await.unwrap_or_default();
    let detail = serde_json::from_str::<Value>(&body)
        .ok()
        .and_then(|body| Some(body["detail"].as_str()?.to_owned()));
    detail.unwrap_or_else(|| "no reason given".to_owned())
}
