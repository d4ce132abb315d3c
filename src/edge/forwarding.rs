//! Requests of a cluster's node that does not lead: passed on to the leader, which answers them as if
//! they had come to it.

use std::time::Duration;

use actix_http::HttpMessage;
use actix_web::dev::Payload;
use actix_web::{HttpRequest, HttpResponse};
use tokio::time::{Instant, sleep_until};
use tracing::warn;

use super::client_address::client_network;
use super::error::ApiError;
use super::request_forwarder::{ForwardedOrigin, ORIGIN};
use super::server_stream::TlsConnection;
use super::state::Edge;

/// Pause between two looks if the leader has changed while it answers.
const LEADER_CHECK_INTERVAL: Duration = Duration::from_millis(100);

/// Paths that each node answers for itself.
const OWN_PATHS: [&str; 4] = ["/healthz", "/health", "/readyz", "/metrics"];

/// Notes the origin of a request that another node has passed on. Passes it on itself if another node
/// leads; `None` if this node has to answer it.
pub(super) async fn answer_as_follower(
    edge: &Edge,
    request: &HttpRequest,
    payload: &mut Payload,
) -> Option<Result<HttpResponse, ApiError>> {
    let forwarder = edge.forwarder.as_ref()?;
    let is_forwarded = request.headers().contains_key(ORIGIN);
    if is_forwarded {
        let Some(origin) = forwarder.read_origin(request, edge.clock.wall()) else {
            // Anybody can send the header, so the lines are limited as those of refused calls are.
            let peer = edge.client_address(request);
            let (network, now) = (client_network(peer), edge.clock.monotonic());
            if let Some(left_out) = edge.refusal_lines.admit(ORIGIN, network, now) {
                warn!(
                    node = %peer,
                    left_out,
                    "request of another node refused: its proof is wrong or old"
                );
            }
            return Some(Err(ApiError::Unavailable));
        };
        request.extensions_mut().insert(origin);
    }
    if OWN_PATHS.contains(&request.path()) {
        return None;
    }
    let leader = edge.gate.leader()?;
    // The lead has changed since: two nodes must not send a request to and fro.
    if is_forwarded {
        return Some(Err(ApiError::Unavailable));
    }
    let limits = edge.largest_body_limits();
    let body = match edge.read_encoded_body(request, payload, limits).await {
        Ok(body) => body,
        Err(error) => return Some(Err(error)),
    };
    let tls = request.conn_data::<TlsConnection>();
    let origin = ForwardedOrigin {
        client: edge.client_address(request),
        is_tls: tls.is_some(),
        certificate: tls.and_then(|tls| tls.client.clone()),
    };
    let now = edge.clock.wall();
    // A leader that hangs would keep the caller until the caller's own time limit.
    let changed = async {
        while edge.gate.leader().as_ref() == Some(&leader) {
            sleep_until(Instant::now() + LEADER_CHECK_INTERVAL).await;
        }
    };
    tokio::select! {
        answer = forwarder.forward(&leader, request, body, &origin, now) => Some(answer),
        () = changed => Some(Err(ApiError::OutcomeUnknown)),
    }
}
