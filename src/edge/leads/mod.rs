//! The leads contract: `POST /api/v1/webhooks/incoming` and the 16 paths under it, their checks in
//! their order, and the answers.
//!
//! ```text
//! size ─> signature ─> rate limit ─> JSON, fields ─> duplicate ─> entity ─> stored ─> 200
//!  413       401          429         415, 400       200, 409    404, 409    503
//! ```
//!
//! The limit is counted after the signature, so that nobody who shares a sender's address can use
//! it up. Without secrets there is none to look at, and the limit comes first.
//!
//! A repeated `Idempotency-Key` is answered as the first request was, without asking the entity
//! again.

use actix_web::http::StatusCode;
use actix_web::http::header::HeaderValue;
use actix_web::{HttpRequest, HttpResponse};
use bytes::Bytes;
use serde::Serialize;
use serde_json::value::RawValue;

use super::call::IncomingCall;
use super::context::RequestContext;
use super::error::ApiError;
use super::gate::NodeCore;
use super::{answer, body, client_address, idempotency, submit};
use crate::entity::{Command, RejectionPolicy};
use crate::event::{EntityKey, Kind, Position};
use crate::router::Refusal;

pub(super) mod callers;
mod catalogue;
mod data;
mod decode;
mod email;
pub mod signature;
pub(super) mod spec;
mod values;

pub use super::source::LEADS as SOURCE;
pub use catalogue::{BASE, EVENTS, LeadEvent, LeadEventSubject};
pub use decode::{DecodedLeadEvent, LeadEventTarget, LeadRequestContext, decode_lead_event};

const SIGNATURE: &str = "x-webhook-signature";

/// Random bytes in the code of a customer that is given none: no two of a billion meet by chance.
const CODE_BYTES: usize = 8;

/// Takes one event in: `event`, or any if the path takes all.
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
            .callers
            .admit(caller, edge.clock.monotonic())
            .map_err(ApiError::RateLimited)
    };
    let is_signed = !leads.verifier.is_empty();
    if !is_signed {
        *quota = admit()?;
    }
    body::check_declared_length(request, edge.body_limits())?;
    let signature = headers.get(SIGNATURE).map(HeaderValue::as_bytes);
    if is_signed && signature.is_none() {
        // What shows no signature is not worth the memory of its body.
        return Err(edge.count_auth_failure(request, ApiError::InvalidBodySignature));
    }
    let body = body::read_body(request, payload, edge.body_limits()).await?;
    let body = signature::verify_lead_body(&leads.verifier, body, signature);
    let body =
        body.ok_or_else(|| edge.count_auth_failure(request, ApiError::InvalidBodySignature))?;
    if is_signed {
        *quota = admit()?;
    }
    body::check_json_content_type(headers)?;
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
    let command = Command {
        at: decoded.at,
        idempotency_key,
        request_hash: Some(idempotency::request_fingerprint(request, body.bytes())),
        may_create: matches!(decoded.target, LeadEventTarget::New(_)),
        on_rejection: RejectionPolicy::Answer,
        unique_key: decoded.unique_key,
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

/// The entity that its path names; a 404 for what cannot be one.
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

/// The entity that `decoded` is for.
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
    let (request, message) = (command.request_hash, event.message);
    match core.router.submit_command(command).await {
        Ok(outcome) => {
            let id = submit::public_event_id(core, outcome.position);
            if event.is_conversion() {
                // The first record of what it made is written together with it, right behind it.
                call.note_events([id, submit::public_event_id(core, outcome.position.plus(1))]);
            }
            let mut response = success_response(message, &outcome.answer)?;
            submit::set_event_headers(&mut response, id, outcome.sequence);
            Ok(response)
        }
        Err(Refusal::AlreadyApplied { answer }) => success_response(message, &answer),
        Err(Refusal::Duplicate { position, .. }) => {
            replay_response(core, position, request, message).await
        }
        Err(refusal) => Err(ApiError::from_refusal(refusal, |position| {
            submit::public_event_id(core, position)
        })),
    }
}

/// The answer that the request of the record at `position` was given, if this one is the same.
async fn replay_response(
    core: &NodeCore,
    position: Position,
    request: Option<[u8; 32]>,
    message: &'static str,
) -> Result<HttpResponse, ApiError> {
    let first = idempotency::load_first_record(core, position, request).await?;
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
    // Each event of this contract is answered by its entity, in JSON.
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

/// A code for a customer that was given none.
fn new_customer_code() -> Option<String> {
    let mut bytes = [0; CODE_BYTES];
    getrandom::fill(&mut bytes).ok()?;
    Some(format!("CUST-{}", hex::encode_upper(bytes)))
}
