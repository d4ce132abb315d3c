//! Requests of a cluster's node that does not lead: passed on to the leader, which answers them as if
//! they had come to it.

use actix_http::HttpMessage;
use actix_web::dev::Payload;
use actix_web::{HttpRequest, HttpResponse};

use super::error::ApiError;
use super::request_forwarder::ForwardedOrigin;
use super::server_stream::TlsConnection;
use super::state::Edge;

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
    let origin = forwarder.read_origin(request, edge.clock.wall());
    let is_forwarded = origin.is_some();
    if let Some(origin) = origin {
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
    Some(
        forwarder
            .forward(&leader, request, body, &origin, now)
            .await,
    )
}
