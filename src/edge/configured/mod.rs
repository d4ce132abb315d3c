//! Configured sources: `POST /in/{name}`, its checks in their order, and its answers.
//!
//! ```text
//! size ─> signature, time ─> rate limit ─> type ─> handshake? ─> fields ─> duplicate? ─> stored ─> 200
//!  413          401             429      415, 400      200         400        200         503
//! ```
//!
//! The limit is counted after the signature, so that nobody who shares a sender's address can use
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
use crate::provider::{Reply, RequestView, VerificationError as Refused, subscribe};
use crate::router::Refusal;

pub(super) mod custom;
mod decode;
pub(super) mod spec;

use custom::Configured;

/// Paths of the sources, each with its own name.
pub(super) const PATH: &str = "/in/{name}";

/// Takes one event of the source at `index` in, or shakes hands.
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
    let Configured {
        custom,
        limiter,
        redacted_header: _,
    } = &edge.configured_sources[index];
    body::check_declared_length(request, edge.body_limits())?;
    let url = request_url(request, edge.config.server.public_url.as_deref());
    if custom
        .source
        .signing
        .is_header_missing(&to_provider_request(request, &url, b""))
    {
        // What shows no signature is not worth the memory of its body.
        return Err(
            edge.count_auth_failure(request, ApiError::Unverified(Refused::InvalidSignature))
        );
    }
    let body = body::read_body(request, payload, edge.body_limits()).await?;
    let view = to_provider_request(request, &url, &body);
    let verified = custom.source.verify(&view, edge.clock.wall());
    let verified = verified
        .map_err(|refusal| edge.count_auth_failure(request, ApiError::Unverified(refusal)))?;
    let client = client_address::client_network(edge.client_address(request));
    *quota = limiter
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

/// Answers a subscription to the source at `index` with its challenge.
pub(super) async fn subscription(
    index: usize,
    context: &mut RequestContext,
) -> Result<HttpResponse, ApiError> {
    let verify_token = context.edge.configured_sources[index]
        .custom
        .verify_token
        .expose();
    let challenge = subscribe(context.request.query_string(), verify_token);
    challenge
        .map(text_response)
        .map_err(|wrong| context.count_auth_failure(ApiError::WrongVerifyToken(wrong)))
}

/// Sends `command` on its way, and answers when it, or the one that it repeats, is durable.
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
            // The first event with this key may have been another entity's.
            let first = core
                .reads
                .await_record(position)
                .await?
                .map_or(entity, |first| first.record.entity);
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

/// The URL that the sender called: `public_url`, or else what the request itself says, and the path
/// as it was received.
fn request_url(request: &HttpRequest, public_url: Option<&str>) -> String {
    let path = request
        .uri()
        .path_and_query()
        .map_or("/", |path| path.as_str());
    if let Some(base) = public_url {
        return format!("{base}{path}");
    }
    // Not the connection info, which believes X-Forwarded-Host of anyone.
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

fn handshake_response(reply: Reply) -> HttpResponse {
    match reply {
        Reply::Challenge(challenge) => text_response(challenge),
        Reply::Pong => answer::json_response(StatusCode::OK, &PongResponse { status: "pong" }),
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
