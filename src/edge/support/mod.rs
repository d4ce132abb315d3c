//! Support contract: handler of `POST /api/v0/crm/webhooks/support/`, with its checks in order, and
//! the answers.
//!
//! ```text
//! size ─> API key ─> signature ─> timestamp ─> rate limit ─┐
//!  413      401         401          401          429       │
//!   ┌───────────────────────────────────────────────────────┘
//!   └─> JSON, fields ─> duplicate ─> stored ─> 202
//!         415, 400         409         503
//! ```

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::http::header::HeaderValue;

use super::context::RequestContext;
use super::error::ApiError;
use super::proof_headers::RequestOrigin;
use super::{body, submit};
use crate::entity::Command;

mod data;
mod decode;
pub mod samples;
pub mod signature;
pub(super) mod source;
pub(super) mod spec;

pub use super::source::SUPPORT as SOURCE;
pub use decode::{SupportRequestContext, decode_support_event};

const IDEMPOTENCY_KEYS: [&str; 2] = ["idempotency-key", "x-idempotency-key"];

/// Receives one event of a ticket.
pub(super) async fn receive(context: &mut RequestContext) -> Result<HttpResponse, ApiError> {
    let RequestContext {
        request,
        payload,
        edge,
        call,
        quota,
    } = context;
    let headers = request.headers();
    let support = edge.support();

    // Check the API key before reading the body: a stranger's request must not cost memory.
    body::check_declared_length(request, edge.body_limits())?;
    let key = support
        .check_api_key(headers)
        .map_err(|error| edge.count_auth_failure(request, error))?;
    let body = edge.read_body(request, payload, edge.body_limits()).await?;
    let authentic = support.authenticate(key, headers, body, edge.clock.wall());
    let authentic = authentic.map_err(|error| edge.count_auth_failure(request, error))?;
    edge.note_proof(request);
    // Only authentic requests use up the sender's rate limit.
    *quota = support.admit(authentic.key, edge.clock.monotonic())?;

    body::check_json_content_type(headers)?;
    edge.check_nesting(authentic.body.bytes())?;
    let context = SupportRequestContext {
        idempotency_key: IDEMPOTENCY_KEYS
            .iter()
            .find_map(|name| headers.get(*name))
            .map(HeaderValue::as_bytes),
        at: Some(authentic.at),
        unknown_entity: support.unknown_entity(),
    };
    let command = decode_support_event(&authentic.body, context, call.span().clone())?;
    let origin = RequestOrigin::read(headers);
    let command = Command {
        credential: Some(support.credential(authentic.key)),
        hops: origin.hops,
        trace: origin.trace,
        // The key may stand in a header, which is not signed.
        signed_request: Some(authentic.request),
        ..command
    };
    submit::submit_command(edge, command, StatusCode::ACCEPTED).await
}
