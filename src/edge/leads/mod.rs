//! Leads contract: handlers of `POST /api/v1/webhooks/incoming` and the 16 paths under it, with
//! their checks in order, and the answers.
//!
//! ```text
//! size ─> signature ─> rate limit ─> JSON, fields ─> duplicate ─> entity ─> stored ─> 200
//!  413       401          429         415, 400       200, 409    404, 409    503
//! ```
//!
//! The rate limit comes after the signature, so that a stranger at the sender's address cannot use
//! it up. If the source has no secrets, no signature is checked and the rate limit comes first.
//!
//! A request with a repeated `Idempotency-Key` gets the answer of the first request; the entity
//! does not see it.

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse};
use bytes::Bytes;
use serde::Serialize;
use serde_json::value::RawValue;

use super::call::IncomingCall;
use super::context::RequestContext;
use super::error::ApiError;
use super::gate::NodeCore;
use super::proof_headers::RequestOrigin;
use super::{answer, body, browser_guard, client_address, idempotency, proof_headers, submit};
use crate::config::LeadSignatureLayout;
use crate::entity::{Command, RejectionPolicy};
use crate::event::{EntityKey, Kind, Position, SignedRequest, SignedRequestTag};
use crate::provider::parse_moment;
use crate::router::Refusal;

mod catalogue;
mod data;
mod decode;
mod email;
pub mod signature;
pub(super) mod source;
pub(super) mod spec;
mod values;

pub use super::source::LEADS as SOURCE;
pub use catalogue::{BASE_PATH, LEAD_EVENTS, LeadEvent, LeadEventSubject};
pub use decode::{DecodedLeadEvent, LeadEventTarget, LeadRequestContext, decode_lead_event};

const SIGNATURE_HEADER: &str = "x-webhook-signature";
const TIMESTAMP_HEADER: &str = "x-webhook-timestamp";

/// Random bytes in a generated customer code: 64 bits, so that two of a billion codes do not
/// collide.
const CODE_BYTES: usize = 8;

/// Receives one event: `event`, or any event if the path accepts all.
pub(super) async fn receive(
    event: Option<&'static LeadEvent>,
    context: &mut RequestContext,
) -> Result<HttpResponse, ApiError> {
    let RequestContext {
        request,
        payload,
        edge,
        call,
        quota,
    } = context;
    let (headers, leads) = (request.headers(), edge.leads());
    let caller = client_address::client_network(edge.client_address(request));
    let admit = || {
        leads
            .client_limiter
            .admit(caller, edge.clock.monotonic())
            .map_err(ApiError::RateLimited)
    };

    let is_signed = !leads.verifier.is_empty();
    if !is_signed {
        browser_guard::refuse_foreign_origin(headers)?;
        *quota = admit()?;
    }

    body::check_declared_length(request, edge.body_limits())?;
    if is_signed && !headers.contains_key(SIGNATURE_HEADER) {
        // Refuse before reading the body: an unsigned request must not cost memory.
        return Err(edge.count_auth_failure(request, ApiError::InvalidBodySignature));
    }
    let timestamp = match leads.signed {
        LeadSignatureLayout::TimePathBody if is_signed => {
            let time = proof_headers::find_single_header(headers, TIMESTAMP_HEADER)?;
            let missing = || edge.count_auth_failure(request, ApiError::InvalidBodySignature);
            Some(time.ok_or_else(missing)?)
        }
        LeadSignatureLayout::TimePathBody | LeadSignatureLayout::Body => None,
    };
    let body = edge.read_body(request, payload, edge.body_limits()).await?;
    let head = timestamp.map(|time| signature::signed_head(time, request.path()));
    let head = head.unwrap_or_default();
    let signatures = proof_headers::signature_lines(headers, SIGNATURE_HEADER);
    let body = signature::verify_lead_body(&leads.verifier, &head, body, signatures);
    let body =
        body.ok_or_else(|| edge.count_auth_failure(request, ApiError::InvalidBodySignature))?;
    let signed_request = timestamp.map(|time| {
        let at = std::str::from_utf8(time).ok().and_then(parse_moment);
        let is_fresh = at.is_some_and(|at| at.distance(edge.clock.wall()) <= leads.tolerance);
        let signed = [&head[..], body.bytes()];
        let tag = || SignedRequestTag::new(SOURCE.as_str().as_bytes(), signed);
        is_fresh.then(|| SignedRequest::taken_once(tag()))
    });
    if signed_request == Some(None) {
        return Err(edge.count_auth_failure(request, ApiError::StaleTimestamp));
    }
    if is_signed {
        edge.note_proof(request);
        *quota = admit()?;
    }

    body::check_json_content_type(headers)?;
    edge.check_nesting(body.bytes())?;
    let id = event.map_or(Ok(None), |event| parse_path_id(request, event))?;
    let idempotency_key = idempotency::parse_idempotency_key(headers)?;
    let decoded = decode_lead_event(
        &body,
        LeadRequestContext {
            event,
            id,
            new_customer_code,
        },
    )?;

    let core = edge.core()?;
    let entity = resolve_entity(&core, &decoded).await?;
    let event = decoded.event;
    let origin = RequestOrigin::read(headers);
    let command = Command {
        at: decoded.at,
        idempotency_key,
        request_hash: Some(idempotency::request_fingerprint(request, body.bytes())),
        may_create: matches!(decoded.target, LeadEventTarget::New(_)),
        on_rejection: RejectionPolicy::Answer,
        unique_key: decoded.unique_key,
        // The idempotency key stands in a header, which is not signed.
        signed_request: signed_request.flatten(),
        hops: origin.hops,
        trace: origin.trace,
        span: call.span().clone(),
        ..Command::new(
            SOURCE,
            entity,
            decoded.action,
            event.event_type,
            body.bytes().clone(),
        )
    };
    submit_lead_event(&core, command, event, call).await
}

/// Parses the entity's id in the path; an id that cannot exist is a 404.
fn parse_path_id(request: &HttpRequest, event: &LeadEvent) -> Result<Option<u64>, ApiError> {
    let LeadEventSubject::Known(kind) = event.subject else {
        return Ok(None);
    };
    let id = request
        .match_info()
        .get(event.id_name())
        .unwrap_or_default();
    let is_number = !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_digit());
    let number = is_number.then(|| id.parse().ok()).flatten();
    number.map(Some).ok_or_else(|| decode::no_such_entity(kind))
}

/// Resolves the target of `decoded` to an entity: a new one, the named one, or the holder of the
/// code.
async fn resolve_entity(
    core: &NodeCore,
    decoded: &DecodedLeadEvent,
) -> Result<EntityKey, ApiError> {
    match &decoded.target {
        LeadEventTarget::New(kind) => Ok(core.router.allocate_entity_key(*kind)),
        LeadEventTarget::Known(key) => Ok(key.clone()),
        LeadEventTarget::Code(code) => {
            let holder = core.router.find_unique_key_holder(code).await?;
            holder.ok_or_else(|| decode::no_such_entity(Kind::Customer))
        }
    }
}

async fn submit_lead_event(
    core: &NodeCore,
    command: Command,
    event: &LeadEvent,
    call: &IncomingCall,
) -> Result<HttpResponse, ApiError> {
    let (request_hash, message) = (command.request_hash, event.message);
    match core.router.submit_command(command).await {
        Ok(outcome) => {
            let id = submit::public_event_id(core, outcome.position);
            if event.is_conversion() {
                // The entity that a conversion creates has its first record at the next position,
                // in the same commit.
                call.note_events([id, submit::public_event_id(core, outcome.position.plus(1))]);
            }
            let mut response = success_response(message, &outcome.answer)?;
            submit::set_event_headers(&mut response, id, outcome.sequence);
            Ok(response)
        }
        Err(Refusal::AlreadyApplied { answer }) => success_response(message, &answer),
        Err(Refusal::Duplicate { position, .. }) => {
            replay_response(core, position, request_hash, message).await
        }
        Err(refusal) => Err(ApiError::from_refusal(refusal, |position| {
            submit::public_event_id(core, position)
        })),
    }
}

/// Repeats the answer to the request whose record is at `position`, if `request_hash` is the same.
async fn replay_response(
    core: &NodeCore,
    position: Position,
    request_hash: Option<[u8; 32]>,
    message: &'static str,
) -> Result<HttpResponse, ApiError> {
    let first = idempotency::load_first_record(core, position, request_hash).await?;
    let mut response = success_response(message, &first.answer)?;
    submit::set_event_headers(
        &mut response,
        submit::public_event_id(core, position),
        first.sequence,
    );
    idempotency::mark_replay(&mut response);
    Ok(response)
}

fn success_response(message: &'static str, data: &Bytes) -> Result<HttpResponse, ApiError> {
    #[derive(Serialize)]
    struct LeadsSuccessBody<'a> {
        status: &'static str,
        message: &'static str,
        data: &'a RawValue,
    }
    // The entity answers each event of this contract with JSON text.
    let data = serde_json::from_slice(data).map_err(|_| ApiError::Internal)?;
    Ok(answer::json_response(
        StatusCode::OK,
        &LeadsSuccessBody {
            status: "success",
            message,
            data,
        },
    ))
}

/// Generates a customer code; `None` if the system has no randomness.
fn new_customer_code() -> Option<String> {
    let mut bytes = [0; CODE_BYTES];
    getrandom::fill(&mut bytes).ok()?;
    Some(format!("CUST-{}", hex::encode_upper(bytes)))
}
