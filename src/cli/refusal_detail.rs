//! Reason that a node gives for a refused call, for every command that calls one.

use reqwest::Response;
use serde_json::Value;

/// Reads the member `detail` of an answer that is no success, and below it the `errors` if there are
/// several. An answer that does not come from a node has none.
pub(super) async fn read_refusal_detail(answer: Response) -> String {
    let body = answer.text().await.unwrap_or_default();
    let body = serde_json::from_str::<Value>(&body).unwrap_or_default();
    let Some(detail) = body["detail"].as_str() else {
        return "no reason given".to_owned();
    };
    let errors = body["errors"].as_array().map_or(&[][..], Vec::as_slice);
    let others = errors.iter().filter_map(|error| error["detail"].as_str());
    let others = others.filter(|other| *other != detail);
    std::iter::once(detail)
        .chain(others)
        .collect::<Vec<_>>()
        .join("\n  ")
}
