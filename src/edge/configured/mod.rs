//! Configured sources: handlers of `POST /in/{name}`, its handshake by `GET` and signed events by
//! `GET`, with their checks in order, and the answers.
//!
//! ```text
//! size ─> signature, time ─> rate limit ─> type ─> handshake? ─> fields ─┐
//!  413          401             429      415, 400      200                │
//!   ┌─────────────────────────────────────────────────────────────────────┘
//!   └─> duplicate? ─> stored ─> 200
//!           200         503
//! ```
//!
//! An authentic event is never refused for a missing field: it is kept with a warning.
//!
//! The rate limit comes after the signature, so that a stranger at the sender's address cannot use
//! it up.

use actix_web::dev::Payload;
use actix_web::http::header::{CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderValue};
use actix_web::http::{Method, StatusCode};
use actix_web::{HttpRequest, HttpResponse};
use bytes::Bytes;
use serde::Serialize;
use utoipa::ToSchema;

use super::call::IncomingCall;
use super::context::RequestContext;
use super::error::ApiError;
use super::gate::NodeCore;
use super::methods::MethodSet;
use super::proof_headers::RequestOrigin;
use super::server_stream::TlsConnection;
use super::state::Edge;
use super::{answer, body, client_address, request_forwarder, submit};
use crate::config::CustomSourceConfig;
use crate::entity::{Command, CommandOutcome, KEY_REUSED};
use crate::provider::{
    ClaimError, HandshakeReply, PresetAnswer, ProviderHandshake, RequestView, VerificationError,
    decompress_gzip, find_validation_token, verify_subscription,
};
use crate::router::Refusal;

mod decode;
pub(super) mod source;
pub(super) mod spec;

use decode::DecodedCall;
pub(super) use decode::hash_item;
use source::ConfiguredSource;

/// Largest body of an unsigned handshake: a name and a number.
const UNSIGNED_HANDSHAKE_MAX_BYTES: usize = 64;

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
    if matches!(custom.source.signing.answer(), PresetAnswer::Empty(_)) {
        call.empty_refusals();
    }

    let limits = edge.body_limits_of(custom);
    body::check_declared_length(request, limits)?;
    let url = request_url(request, edge.config.server.public_url.as_deref());
    let head = to_provider_request(request, &url, b"");
    if let Some(error) = custom.source.signing.find_header_error(&head) {
        if let ClaimError::Repeated(name) = error {
            return Err(edge.count_auth_failure(request, ApiError::repeated_header(name)));
        }
        if let Some(token) = find_validation_token(request.query_string())
            .filter(|_| custom.answers_validation_token)
        {
            call.note_unproven();
            return Ok(text_response(token));
        }
        if is_unsigned_handshake(custom, request, payload, edge).await? {
            call.note_unproven();
            return Ok(empty_response(200));
        }
        // Refuse before reading the body: an unsigned request must not cost memory.
        call.note_warnings(&[error.to_string()]);
        return Err(edge.count_auth_failure(
            request,
            ApiError::Unverified(VerificationError::InvalidSignature),
        ));
    }

    let is_gzip = custom.source.layout.decompress && has_gzip_body(request)?;
    let sent = match is_gzip {
        true => edge.read_encoded_body(request, payload, limits).await?,
        false => edge.read_body(request, payload, limits).await?,
    };
    let body = match is_gzip {
        true => decompress_gzip(&sent, limits.bytes_max).map(Bytes::from),
        false => Ok(sent.clone()),
    };
    let sent_view = to_provider_request(request, &url, &sent);
    let plain_view = to_provider_request(request, &url, body.as_deref().unwrap_or_default());
    let (now, source) = (edge.clock.wall(), &custom.source);
    let verified = match is_gzip && body.is_ok() {
        true => source.verify_compressed(&sent_view, &plain_view, now),
        false => source.verify(&sent_view, now),
    };
    let verified = verified.map_err(|refusal| {
        call.note_warnings(&[source.describe_refusal(&sent_view, refusal)]);
        edge.count_auth_failure(request, ApiError::Unverified(refusal))
    })?;
    edge.note_proof(request);
    let body = body
        .as_ref()
        .map_err(|wrong| ApiError::Undecompressible(*wrong))?;

    let client = client_address::client_network(edge.client_address(request));
    *quota = client_limiter
        .admit(client, edge.clock.monotonic())
        .map_err(ApiError::RateLimited)?;

    let document = verified.parse_document().map_err(ApiError::Undecodable)?;
    edge.check_nesting(document.json().get().as_bytes())?;
    if let Some(reply) = source.answer_handshake(&document) {
        return Ok(handshake_response(reply));
    }

    let mut decoded =
        decode::decode_configured_call(custom, &verified, &document, body, call.span())?;
    let origin = RequestOrigin::read(request.headers());
    for command in &mut decoded.commands {
        origin.note_in(command);
    }
    let response = submit_decoded_call(edge, decoded, call).await?;
    Ok(shape_answer(response, custom.source.signing.answer()))
}

/// Tells if the body of `request` is compressed with gzip.
///
/// # Errors
/// [`ApiError::EncodedBody`] for another encoding.
fn has_gzip_body(request: &HttpRequest) -> Result<bool, ApiError> {
    match body::content_encoding(request.headers()) {
        None => Ok(false),
        Some(name) if name.eq_ignore_ascii_case(b"gzip") => Ok(true),
        Some(_) => Err(ApiError::EncodedBody {
            accepted: "gzip, identity",
        }),
    }
}

/// Says what the address of the source at `index` is for. Some senders validate an address by a
/// `HEAD` before they send. A `GET` with a signature is an event, where the provider sends events so,
/// and else refused.
pub(super) async fn describe(
    index: usize,
    context: &mut RequestContext,
) -> Result<HttpResponse, ApiError> {
    let RequestContext {
        request,
        edge,
        call,
        ..
    } = &mut *context;
    let custom = &edge.configured_sources[index].custom;
    let url = request_url(request, edge.config.server.public_url.as_deref());
    let signing = &custom.source.signing;
    let head_error = signing.find_header_error(&to_provider_request(request, &url, b""));
    let is_signed = !matches!(head_error, Some(ClaimError::NoHeader(_)));
    if request.method() == Method::GET && is_signed {
        if signing.sends_by_get() {
            return receive(index, context).await;
        }
        // A plain 200 would tell the sender that its event is stored.
        call.note_unproven();
        let allow = MethodSet::HEAD.union(MethodSet::POST);
        return Err(ApiError::MethodNotAllowed { allow });
    }
    call.leave_out();
    let name = custom.name;
    Ok(text_response(format!(
        "This address takes the events of {name}, by POST and signed by their sender.\n"
    )))
}

/// Returns true if the request is an unsigned handshake of the provider. Only a body of a few bytes
/// is read for it.
async fn is_unsigned_handshake(
    custom: &CustomSourceConfig,
    request: &HttpRequest,
    payload: &mut Payload,
    edge: &Edge,
) -> Result<bool, ApiError> {
    let handshake = custom.source.signing.handshake();
    let length = request.headers().get(CONTENT_LENGTH);
    let length = length.and_then(|length| length.to_str().ok()?.parse().ok());
    let is_small = length.is_some_and(|bytes: usize| bytes <= UNSIGNED_HANDSHAKE_MAX_BYTES);
    if !is_small || !matches!(handshake, ProviderHandshake::UnsignedNumber(_)) {
        return Ok(false);
    }
    let limits = edge.body_limits_of(custom);
    let body = edge.read_body(request, payload, limits).await?;
    Ok(handshake.is_unsigned_body(&body))
}

/// Answers Meta's handshake with the source at `index` by sending the challenge back.
pub(super) async fn subscription(
    index: usize,
    context: &mut RequestContext,
) -> Result<HttpResponse, ApiError> {
    if context.request.query_string().is_empty() {
        return describe(index, context).await;
    }
    let verify_token = context.edge.configured_sources[index]
        .custom
        .verify_token
        .expose();
    let challenge = verify_subscription(context.request.query_string(), verify_token);
    challenge
        .map(text_response)
        .map_err(|error| context.count_auth_failure(ApiError::WrongVerifyToken(error)))
}

/// Submits the events of a call, and answers once all of them, or the events that they repeat, are
/// durable.
async fn submit_decoded_call(
    edge: &Edge,
    decoded: DecodedCall,
    call: &IncomingCall,
) -> Result<HttpResponse, ApiError> {
    let DecodedCall { commands, is_batch } = decoded;
    for command in &commands {
        call.note_warnings(&command.warnings);
    }
    let core = edge.core()?;
    if is_batch {
        let outcomes = core.router.submit_batch(commands).await;
        return batch_response(&core, outcomes, call);
    }
    let [command] = <[Command; 1]>::try_from(commands).map_err(|_| ApiError::Internal)?;
    submit_configured_event(&core, command, call).await
}

/// Submits `command`, and answers once its event, or the event that it repeats, is durable.
async fn submit_configured_event(
    core: &NodeCore,
    command: Command,
    call: &IncomingCall,
) -> Result<HttpResponse, ApiError> {
    let entity = command.entity.clone();
    let event_id = |position| submit::public_event_id(core, position);
    match core.router.submit_command(command).await {
        Ok(done) => {
            note_reused_key(&done, call);
            Ok(submit::accepted_response(
                StatusCode::OK,
                "accepted",
                event_id(done.position),
                &entity,
                done.sequence,
            ))
        }
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

/// Records in the call log that an event is kept apart from an earlier one with its key.
fn note_reused_key(outcome: &CommandOutcome, call: &IncomingCall) {
    if outcome.is_key_reused {
        call.note_warnings(&[KEY_REUSED.to_owned()]);
    }
}

/// Answer to a call with several events; `event_ids` has the id of each in the order of the body,
/// for a duplicate that of the first event.
#[derive(Serialize, ToSchema)]
#[schema(as = ReceivedEvents)]
struct BatchSummary {
    status: &'static str,
    received: usize,
    accepted: usize,
    duplicates: usize,
    event_ids: Vec<String>,
}

/// Builds the answer to a call with several events. If one of them was not stored, the call fails
/// as a whole: the sender repeats it, and the stored events then count as duplicates.
fn batch_response(
    core: &NodeCore,
    outcomes: Vec<Result<CommandOutcome, Refusal>>,
    call: &IncomingCall,
) -> Result<HttpResponse, ApiError> {
    let event_id = |position| submit::public_event_id(core, position);
    let (mut events, mut accepted, mut failure) = (Vec::new(), Vec::new(), None);
    let received = outcomes.len();
    for (index, outcome) in outcomes.into_iter().enumerate() {
        match outcome {
            Ok(outcome) => {
                note_reused_key(&outcome, call);
                events.push(event_id(outcome.position));
                accepted.push((event_id(outcome.position), outcome.sequence));
            }
            Err(Refusal::Duplicate { position, .. }) => events.push(event_id(position)),
            Err(Refusal::KeyReused { key, position }) => {
                failure.get_or_insert_with(|| ApiError::KeyReused {
                    item: Some(index),
                    key: shown_key(&key),
                    first: event_id(position),
                });
            }
            Err(refusal) => {
                failure.get_or_insert_with(|| ApiError::from_refusal(refusal, event_id));
            }
        }
    }
    // The call log names the stored events also if the call fails.
    call.note_events(events.iter().copied());
    if let Some(error) = failure {
        return Err(error);
    }

    let summary = BatchSummary {
        status: "accepted",
        received,
        accepted: accepted.len(),
        duplicates: received - accepted.len(),
        event_ids: events.iter().map(ToString::to_string).collect(),
    };
    let mut response = answer::json_response(StatusCode::OK, &summary);
    if let [(event_id, sequence)] = accepted[..] {
        submit::set_event_headers(&mut response, event_id, sequence);
    }
    Ok(response)
}

/// Returns the key of a call with several events as its sender knows it, without the number of the
/// item.
fn shown_key(key: &str) -> String {
    let (shared, _) = key.split_once('\u{1}').unwrap_or((key, ""));
    shared.to_owned()
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
    let is_tls = request_forwarder::forwarded_origin(request).map_or_else(
        || request.conn_data::<TlsConnection>().is_some(),
        |origin| origin.is_tls,
    );
    let scheme = if is_tls { "https" } else { "http" };
    let host = request
        .headers()
        .get(HOST)
        .and_then(|host| host.to_str().ok())
        // A path in it could move the end of a signed URL into the body.
        .filter(|host| host.bytes().all(is_host_byte))
        .unwrap_or_default();
    format!("{scheme}://{host}{path}")
}

const fn is_host_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b':' | b'[' | b']')
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

fn handshake_response(reply: HandshakeReply) -> HttpResponse {
    match reply {
        HandshakeReply::Challenge(challenge) => text_response(challenge),
        HandshakeReply::Json(text) => {
            let mut response = HttpResponse::with_body(StatusCode::OK, text).map_into_boxed_body();
            let json = HeaderValue::from_static("application/json");
            response.headers_mut().insert(CONTENT_TYPE, json);
            response
        }
        HandshakeReply::Empty(status) => empty_response(status),
    }
}

/// Returns a response without a body. `status` is one of a preset; another would be 200.
fn empty_response(status: u16) -> HttpResponse {
    HttpResponse::new(StatusCode::from_u16(status).unwrap_or(StatusCode::OK))
}

/// Gives an answer to an accepted event the form that the provider expects.
fn shape_answer(response: HttpResponse, answer: PresetAnswer) -> HttpResponse {
    match answer {
        PresetAnswer::Event => response,
        PresetAnswer::Empty(status) => keep_headers(empty_response(status), &response),
        PresetAnswer::Document(content_type, text) => {
            let mut document = HttpResponse::with_body(StatusCode::OK, text).map_into_boxed_body();
            let content_type = HeaderValue::from_static(content_type);
            document.headers_mut().insert(CONTENT_TYPE, content_type);
            keep_headers(document, &response)
        }
    }
}

/// Adds the headers of the `original` answer to the `shaped` one, but for its content type.
fn keep_headers(mut shaped: HttpResponse, original: &HttpResponse) -> HttpResponse {
    let kept = original.headers().iter();
    kept.filter(|(name, _)| *name != CONTENT_TYPE)
        .for_each(|(name, value)| shaped.headers_mut().append(name.clone(), value.clone()));
    shaped
}

fn text_response(text: String) -> HttpResponse {
    let mut response = HttpResponse::with_body(StatusCode::OK, text).map_into_boxed_body();
    response.headers_mut().insert(
        CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    response
}
