//! Instagram contract: the handshake by `GET /webhooks/instagram`, up to 1,000 updates in one
//! `POST`, and the replies to messages.
//!
//! ```text
//! size ─> signature ─> JSON ─> each update stored, or known already ─> 200
//!  413       401     415, 400              503
//! ```
//!
//! After an answer other than 2xx Instagram sends the whole call again, and at last disables the
//! subscription. So no update is refused for its content: an update that cannot be decoded is kept
//! as `message.unknown`.

use actix_web::http::StatusCode;
use actix_web::http::header::{CONTENT_TYPE, HeaderValue};
use actix_web::web::Query;
use actix_web::{HttpRequest, HttpResponse};
use serde::Serialize;
use utoipa::ToSchema;

use super::call::IncomingCall;
use super::context::RequestContext;
use super::error::ApiError;
use super::gate::NodeCore;
use super::proof_headers::RequestOrigin;
use super::{answer, body, proof_headers, submit};
use crate::entity::{CommandOutcome, Rejection};
use crate::event::EventId;
use crate::router::Refusal;

mod decode;
mod item;
mod reply;
pub mod signature;
pub(super) mod source;
pub(super) mod spec;

pub use crate::entity::conversation::SOURCE;
pub use decode::decode_instagram_call;
pub(super) use reply::reply;

const SIGNATURE_HEADER: &str = "x-hub-signature-256";

#[derive(Serialize, ToSchema)]
#[schema(as = InstagramReceipt)]
struct InstagramSummary {
    status: &'static str,
    received: usize,
    accepted: usize,
    duplicates: usize,
}

/// Answers Meta's handshake, which proves that the operator controls this address.
pub(super) async fn verify(context: &mut RequestContext) -> Result<HttpResponse, ApiError> {
    challenge_response(&context.request, context.edge.instagram())
        .map_err(|error| context.count_auth_failure(error))
}

fn challenge_response(
    request: &HttpRequest,
    instagram: &source::InstagramSource,
) -> Result<HttpResponse, ApiError> {
    let parameters = Query::<Vec<(String, String)>>::from_query(request.query_string());
    let parameters = parameters.map(Query::into_inner).unwrap_or_default();
    let find = |name: &str| {
        parameters
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    };

    let expected = &instagram.config.verify_token;
    // An empty token was never configured, and must not match an empty parameter.
    let is_valid_token = find("hub.verify_token")
        .is_some_and(|token| expected.matches(token.as_bytes()))
        && !expected.is_empty();
    let is_subscription = find("hub.mode") == Some("subscribe");
    let challenge = find("hub.challenge").filter(|_| is_valid_token && is_subscription);
    let Some(challenge) = challenge else {
        let message =
            "hub.mode, hub.verify_token or hub.challenge is missing or not valid".to_owned();
        return Err(ApiError::Rejected(Rejection {
            status: 403,
            code: "forbidden",
            message,
            member: None,
        }));
    };

    let mut response =
        HttpResponse::with_body(StatusCode::OK, challenge.to_owned()).map_into_boxed_body();
    response.headers_mut().insert(
        CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    Ok(response)
}

/// Receives one call with its updates.
pub(super) async fn receive(context: &mut RequestContext) -> Result<HttpResponse, ApiError> {
    let RequestContext {
        request,
        payload,
        edge,
        call,
        quota: _,
    } = context;
    let headers = request.headers();
    body::check_declared_length(request, edge.body_limits())?;
    let signatures: Vec<_> = proof_headers::signature_lines(headers, SIGNATURE_HEADER)
        .filter(|line| signature::is_well_formed(line))
        .collect();
    if signatures.is_empty() {
        // Refuse before reading the body: an unsigned request must not cost memory.
        return Err(edge.count_auth_failure(request, signature_error()));
    }
    let body = edge.read_body(request, payload, edge.body_limits()).await?;
    let verifier = &edge.instagram().verifier;
    let body = signatures
        .iter()
        .find_map(|line| signature::verify_instagram_body(verifier, &body, line));
    let body = body.ok_or_else(|| edge.count_auth_failure(request, signature_error()))?;
    edge.note_proof(request);

    body::check_json_content_type(headers)?;
    edge.check_nesting(body.bytes())?;
    let mut commands = decode_instagram_call(&body, call.span())?;
    let origin = RequestOrigin::read(headers);
    for command in &mut commands {
        origin.note_in(command);
    }
    let core = edge.core()?;
    let outcomes = core.router.submit_batch(commands).await;
    summary_response(&core, call, outcomes)
}

fn signature_error() -> ApiError {
    let message = "X-Hub-Signature-256 is missing or does not match this body".to_owned();
    ApiError::Rejected(Rejection {
        status: 401,
        code: "invalid_signature",
        message,
        member: None,
    })
}

/// Answers 200 if every update is durable; else with the first refusal, so that Instagram sends the
/// call again.
fn summary_response(
    core: &NodeCore,
    call: &IncomingCall,
    outcomes: Vec<Result<CommandOutcome, Refusal>>,
) -> Result<HttpResponse, ApiError> {
    // The call log names the stored events also if the call fails.
    call.note_events(
        outcomes
            .iter()
            .flatten()
            .map(|outcome| submit::public_event_id(core, outcome.position)),
    );

    let received = outcomes.len();
    let mut accepted: Vec<(EventId, Option<u64>)> = Vec::new();
    for outcome in outcomes {
        match outcome {
            Ok(outcome) => accepted.push((
                submit::public_event_id(core, outcome.position),
                outcome.sequence,
            )),
            Err(Refusal::Duplicate { .. }) => {}
            Err(refusal) => {
                return Err(ApiError::from_refusal(refusal, |position| {
                    submit::public_event_id(core, position)
                }));
            }
        }
    }

    let duplicates = received - accepted.len();
    let body = InstagramSummary {
        status: "accepted",
        received,
        accepted: accepted.len(),
        duplicates,
    };
    let mut response = answer::json_response(StatusCode::OK, &body);
    if let [(event_id, sequence)] = accepted[..] {
        submit::set_event_headers(&mut response, event_id, sequence);
    }
    Ok(response)
}
