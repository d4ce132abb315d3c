//! Configured sources: `POST /in/{name}`, its checks in their order, and its answers.
//!
//! ```text
//! size ─> signature, time ─> rate limit ─> type ─> handshake? ─> fields ─> duplicate? ─> stored ─> 200
//!  413          401             429      415, 400      200         400        200         503
//! ```
//!
//! The limit is counted after the signature, so that nobody who shares a sender's address can use it up.

use actix_web::http::StatusCode;
use actix_web::http::header::{CONTENT_TYPE, HOST, HeaderValue};
use actix_web::{HttpRequest, HttpResponse};
use serde::Serialize;

use super::context::RequestContext;
use super::error::Error;
use super::state::Edge;
use super::{address, answer, body, intake};
use crate::entity::Command;
use crate::provider::{Refusal as Refused, Reply, Request, subscribe};
use crate::router::Refusal;

pub(super) mod custom;
mod decode;
pub(super) mod spec;

use custom::Configured;

/// Paths of the sources, each with its own name.
pub(super) const PATH: &str = "/in/{name}";

/// Takes one event of the source at `index` in, or shakes hands.
pub(super) async fn receive(index: usize, context: &mut RequestContext) -> Result<HttpResponse, Error> {
    let RequestContext { request, payload, edge, call, quota } = context;
    let Configured { custom, limiter, concealed: _ } = &edge.configured[index];
    body::check_declared(request, edge.bounds())?;
    let url = url(request, edge.config.server.public_url.as_deref());
    if custom.source.signing.is_missing(&view(request, &url, b"")) {
        // What shows no signature is not worth the memory of its body.
        return Err(edge.count_failure(request, Error::Unverified(Refused::InvalidSignature)));
    }
    let body = body::read(request, payload, edge.bounds()).await?;
    let view = view(request, &url, &body);
    let verified = custom.source.verify(&view, edge.clock.wall());
    let verified = verified.map_err(|refusal| edge.count_failure(request, Error::Unverified(refusal)))?;
    let client = address::network(edge.client(request));
    *quota = limiter.admit(client, edge.clock.monotonic()).map_err(Error::RateLimited)?;
    let document = verified.document().map_err(Error::Undecodable)?;
    if let Some(reply) = custom.source.handshake(&document) {
        return Ok(shake(reply));
    }
    let command = decode::decode(custom, &verified, &document, body.clone(), call.span().clone())?;
    submit(edge, command).await
}

/// Answers a subscription to the source at `index` with its challenge.
pub(super) async fn subscription(index: usize, context: &mut RequestContext) -> Result<HttpResponse, Error> {
    let verify_token = context.edge.configured[index].custom.verify_token.expose();
    let challenge = subscribe(context.request.query_string(), verify_token);
    challenge.map(plain).map_err(|wrong| context.count_failure(Error::NotSubscribed(wrong)))
}

/// Sends `command` on its way, and answers when it, or the one that it repeats, is durable.
async fn submit(edge: &Edge, command: Command) -> Result<HttpResponse, Error> {
    let core = edge.core()?;
    let entity = command.entity.clone();
    let event_id = |position| intake::event_id(&core, position);
    match core.router.submit(command).await {
        Ok(done) => Ok(intake::accepted(StatusCode::OK, "accepted", event_id(done.position), &entity, done.sequence)),
        Err(Refusal::Duplicate { position, sequence }) => {
            // The first event with this key may have been another entity's.
            let first = core.reads.record(position).await?.map_or(entity, |first| first.record.entity);
            Ok(intake::accepted(StatusCode::OK, "duplicate", event_id(position), &first, sequence))
        }
        Err(refusal) => Err(Error::from_refusal(refusal, event_id)),
    }
}

/// The URL that the sender called: `public_url`, or else what the request itself says, and the path as it was received.
fn url(request: &HttpRequest, public_url: Option<&str>) -> String {
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    if let Some(base) = public_url {
        return format!("{base}{path}");
    }
    // Not the connection info, which believes X-Forwarded-Host of anyone.
    let scheme = if request.app_config().secure() { "https" } else { "http" };
    let host = request.headers().get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    format!("{scheme}://{host}{path}")
}

fn view<'r>(request: &'r HttpRequest, url: &'r str, body: &'r [u8]) -> Request<'r> {
    let headers = request.headers().iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
    Request { method: request.method().as_str(), url, headers, body }
}

#[derive(Serialize)]
struct Pong {
    status: &'static str,
}

fn shake(reply: Reply) -> HttpResponse {
    match reply {
        Reply::Challenge(challenge) => plain(challenge),
        Reply::Pong => answer::json(StatusCode::OK, &Pong { status: "pong" }),
    }
}

fn plain(text: String) -> HttpResponse {
    let mut response = HttpResponse::with_body(StatusCode::OK, text).map_into_boxed_body();
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}
