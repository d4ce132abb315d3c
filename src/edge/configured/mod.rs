//! Configured sources: `POST /in/{name}`, its checks in their order, and its answers.
//!
//! ```text
//! size ─> signature, time ─> rate limit ─> type ─> handshake? ─> fields ─> duplicate? ─> stored ─> 200
//!  413          401             429      415, 400      200         400        200         503
//! ```
//!
//! The limit is counted after the signature, so that nobody who shares a sender's address can use it up.

use std::future::ready;
use std::net::IpAddr;

use actix_web::http::StatusCode;
use actix_web::http::header::{CONTENT_TYPE, HOST, HeaderName, HeaderValue};
use actix_web::web::{self, Data, Payload, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse, dev, guard};
use serde::Serialize;
use tracing::Span;

use super::call::Call;
use super::error::Error;
use super::limit::Quota;
use super::limiter::Limiter;
use super::{Edge, address, answer, body, intake};
use crate::config::Custom;
use crate::entity::Command;
use crate::provider::{Handshake, Refusal as Refused, Reply, Request, subscribe};
use crate::router::Refusal;

mod decode;
mod spec;

pub(in crate::edge) use spec::endpoints;

/// One configured source, ready to take requests.
#[derive(Debug)]
pub(super) struct Configured {
    custom: Custom,
    limiter: Limiter<IpAddr>,
    /// A header that may hold a secret without its name saying so.
    concealed: Option<HeaderName>,
}

impl Configured {
    /// What `custom` asks for.
    pub(super) fn new(custom: &Custom) -> Self {
        let concealed =
            custom.source.signing.own_header().and_then(|name| HeaderName::from_bytes(name.as_bytes()).ok());
        Self { custom: custom.clone(), limiter: Limiter::new(custom.rate_per_minute), concealed }
    }

    /// Begins a call of this source. Whatever comes of it, the header that may hold a secret stays out of the log.
    fn begin(&self, request: &HttpRequest) -> Call {
        let call = Call::begin(request, self.custom.name.as_str());
        self.concealed.iter().for_each(|name| call.conceal(name.clone()));
        call
    }

    fn subscribes(custom: &Custom) -> bool {
        let knows = matches!(custom.source.signing.handshake(), Handshake::Subscription);
        knows && !custom.verify_token.is_empty()
    }
}

/// Adds the paths of the enabled sources among `sources`.
pub(super) fn configure(service: &mut ServiceConfig, sources: &[Custom]) {
    for (index, custom) in sources.iter().enumerate().filter(|(_, custom)| custom.enabled) {
        for end in ["", "/"] {
            let post = move |request, payload, edge| receive(index, request, payload, edge);
            let mut resource = web::resource(format!("/in/{}{end}", custom.name)).route(web::post().to(post));
            let mut allow = "POST";
            if Configured::subscribes(custom) {
                let get = move |request, payload, edge| subscription(index, request, payload, edge);
                resource = resource.route(web::route().guard(guard::Get()).to(get));
                allow = "GET, POST";
            }
            let other = move |request, payload, edge| ready(not_allowed(index, allow, request, payload, edge));
            service.service(resource.default_service(web::route().to(other)));
        }
    }
}

/// Answers for a method that the source does not take.
fn not_allowed(
    index: usize,
    allow: &'static str,
    request: HttpRequest,
    payload: Payload,
    edge: Data<Edge>,
) -> HttpResponse {
    let call = edge.configured[index].begin(&request);
    call.end(&request, payload.into_inner(), &edge, Err(Error::MethodNotAllowed { allow }))
}

/// Takes one event in, or shakes hands.
async fn receive(index: usize, request: HttpRequest, payload: Payload, edge: Data<Edge>) -> HttpResponse {
    let mut payload = payload.into_inner();
    let source = &edge.configured[index];
    let call = source.begin(&request);
    let mut quota = None;
    let result = answer(&request, &mut payload, &edge, source, call.span(), &mut quota).await;
    call.end_limited(&request, payload, &edge, result, quota)
}

/// Answers a subscription with its challenge.
async fn subscription(index: usize, request: HttpRequest, payload: Payload, edge: Data<Edge>) -> HttpResponse {
    let source = &edge.configured[index];
    let call = source.begin(&request);
    let challenge = subscribe(request.query_string(), source.custom.verify_token.expose());
    let result = challenge.map(plain).map_err(|wrong| edge.count_failure(&request, Error::NotSubscribed(wrong)));
    call.end(&request, payload.into_inner(), &edge, result)
}

/// The checks in their order; `quota` is what the sender has left, once it is known to be that.
async fn answer(
    request: &HttpRequest,
    payload: &mut dev::Payload,
    edge: &Edge,
    source: &Configured,
    span: &Span,
    quota: &mut Option<Quota>,
) -> Result<HttpResponse, Error> {
    let Configured { custom, limiter, concealed: _ } = source;
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
    let command = decode::decode(custom, &verified, &document, body.clone(), span.clone())?;
    submit(edge, command).await
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
