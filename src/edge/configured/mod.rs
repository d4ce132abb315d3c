//! Configured sources: handlers of `POST /in/{name}` and its handshake by `GET`, with their checks
//! in order, and the answers.
//!
//! ```text
//! size ─> signature, time ─> rate limit ─> type ─> handshake? ─> fields ─┐
//!  413          401             429      415, 400      200         400    │
//!   ┌─────────────────────────────────────────────────────────────────────┘
//!   └─> duplicate? ─> stored ─> 200
//!           200         503
//! ```
//!
//! The rate limit comes after the signature, so that a stranger at the sender's address cannot use
//! it up.

use actix_web::http::StatusCode;
use actix_web::http::header::{CONTENT_TYPE, HOST, HeaderValue};
use actix_web::{HttpRequest, HttpResponse};
use serde::Serialize;

use super::context::RequestContext;
use super::error::ApiError;
use super::state::Edge;
use super::{answer, body, client_address, submit};
use crate::entity::Command;
use crate::provider::{HandshakeReply, RequestView, VerificationError, verify_subscription};
use crate::router::Refusal;

mod decode;
pub(super) mod source;
pub(super) mod spec;

use source::ConfiguredSource;

/// Path of every configured source, by its name.
pub(super) const PATH: &str = "/in/{name}";

/// Receives one event of the source at `index`, or answers a signed handshake.
pub(super) async fn receive(
    index: usize,
    context: &mut RequestContext,
) -> Result<HttpResponse, ApiError> {
    let RequestContext {
        request,
        payload,
        edge,
        call,
        quota,
    } = context;
    let ConfiguredSource {
        custom,
        client_limiter,
        redacted_header: _,
    } = &edge.configured_sources[index];

    body::check_declared_length(request, edge.body_limits())?;
    let url = request_url(request, edge.config.server.public_url.as_deref());
    if custom
        .source
        .signing
        .is_header_missing(&to_provider_request(request, &url, b""))
    {
        // Refuse before reading the body: an unsigned request must not cost memory.
        return Err(edge.count_auth_failure(
            request,
            ApiError::Unverified(VerificationError::InvalidSignature),
        ));
    }

    let body = body::read_body(request, payload, edge.body_limits()).await?;
    let view = to_provider_request(request, &url, &body);
    let verified = custom.source.verify(&view, edge.clock.wall());
    let verified = verified
        .map_err(|refusal| edge.count_auth_failure(request, ApiError::Unverified(refusal)))?;

    let client = client_address::client_network(edge.client_address(request));
    *quota = client_limiter
        .admit(client, edge.clock.monotonic())
        .map_err(ApiError::RateLimited)?;

    let document = verified.parse_document().map_err(ApiError::Undecodable)?;
    if let Some(reply) = custom.source.answer_handshake(&document) {
        return Ok(handshake_response(reply));
    }

    let command = decode::decode_configured_event(
        custom,
        &verified,
        &document,
        body.clone(),
        call.span().clone(),
    )?;
    submit_configured_event(edge, command).await
}

/// Answers Meta's handshake with the source at `index` by sending the challenge back.
pub(super) async fn subscription(
    index: usize,
    context: &mut RequestContext,
) -> Result<HttpResponse, ApiError> {
    let verify_token = context.edge.configured_sources[index]
        .custom
        .verify_token
        .expose();
    let challenge = verify_subscription(context.request.query_string(), verify_token);
    challenge
        .map(text_response)
        .map_err(|error| context.count_auth_failure(ApiError::WrongVerifyToken(error)))
}

/// Submits `command`, and answers once its event, or the event that it repeats, is durable.
async fn submit_configured_event(edge: &Edge, command: Command) -> Result<HttpResponse, ApiError> {
    let core = edge.core()?;
    let entity = command.entity.clone();
    let event_id = |position| submit::public_event_id(&core, position);
    match core.router.submit_command(command).await {
        Ok(done) => Ok(submit::accepted_response(
            StatusCode::OK,
            "accepted",
            event_id(done.position),
            &entity,
            done.sequence,
        )),
        Err(Refusal::Duplicate { position, sequence }) => {
            // The first event with this key may belong to another entity.
            let first = match core.reads.await_record(position).await {
                Err(error) if error.is_removed() => None,
                found => found?,
            };
            let first = first.map_or(entity, |first| first.record.entity);
            Ok(submit::accepted_response(
                StatusCode::OK,
                "duplicate",
                event_id(position),
                &first,
                sequence,
            ))
        }
        Err(refusal) => Err(ApiError::from_refusal(refusal, event_id)),
    }
}

/// Returns the URL that the sender called: `public_url`, or else scheme and host of the request,
/// and the path and query as they were received.
fn request_url(request: &HttpRequest, public_url: Option<&str>) -> String {
    let path = request
        .uri()
        .path_and_query()
        .map_or("/", |path| path.as_str());
    if let Some(base) = public_url {
        return format!("{base}{path}");
    }
    // Do not use actix's connection info, which trusts X-Forwarded-Host from any client.
    let scheme = if request.app_config().secure() {
        "https"
    } else {
        "http"
    };
    let host = request
        .headers()
        .get(HOST)
        .and_then(|host| host.to_str().ok())
        .unwrap_or_default();
    format!("{scheme}://{host}{path}")
}

fn to_provider_request<'r>(
    request: &'r HttpRequest,
    url: &'r str,
    body: &'r [u8],
) -> RequestView<'r> {
    let headers = request
        .headers()
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_bytes()))
        .collect();
    RequestView {
        method: request.method().as_str(),
        url,
        headers,
        body,
    }
}

#[derive(Serialize)]
struct PongResponse {
    status: &'static str,
}

fn handshake_response(reply: HandshakeReply) -> HttpResponse {
    match reply {
        HandshakeReply::Challenge(challenge) => text_response(challenge),
        HandshakeReply::Pong => {
            answer::json_response(StatusCode::OK, &PongResponse { status: "pong" })
        }
    }
}

fn text_response(text: String) -> HttpResponse {
    let mut response = HttpResponse::with_body(StatusCode::OK, text).map_into_boxed_body();
    response.headers_mut().insert(
        CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    response
}
