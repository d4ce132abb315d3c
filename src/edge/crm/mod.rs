//! Event bus of the CRM: handler of `POST /api/v1/events`, for one event or a list, from publishers
//! with a bearer token.
//!
//! ```text
//! size ─> token ─> JSON, fields ─> duplicate ─> stored ─> 202
//!  413     401      415, 400         409          503
//! ```

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::http::header::HeaderValue;

use super::context::RequestContext;
use super::error::ApiError;
use super::proof_headers::RequestOrigin;
use super::{access, body, submit};
use crate::entity::Command;

mod batch;
pub(super) mod decode;
pub(super) mod spec;

pub use super::source::CRM as SOURCE;
use batch::BatchPublisher;

pub use batch::PUBLISHED_EVENTS_MAX;
pub use decode::{BusEventCatalogue, decode_bus_event};

const IDEMPOTENCY_KEYS: [&str; 2] = ["idempotency-key", "x-idempotency-key"];

/// Receives one event or a list of events.
pub(super) async fn publish(context: &mut RequestContext) -> Result<HttpResponse, ApiError> {
    let RequestContext {
        request,
        payload,
        edge,
        call,
        quota: _,
    } = context;
    let headers = request.headers();

    // The shell has checked the token before: a stranger's request must not cost memory.
    let caller = call.caller().ok_or(ApiError::Unauthorized)?;
    let credential = access::tag_of_token(request);
    let body = edge.read_body(request, payload, edge.body_limits()).await?;
    let body = body::strip_byte_order_mark(body);
    body::check_json_content_type(headers)?;
    edge.check_nesting(&body)?;

    let key = IDEMPOTENCY_KEYS
        .iter()
        .find_map(|name| headers.get(*name))
        .map(HeaderValue::as_bytes);
    let origin = RequestOrigin::read(headers);
    let text = body::body_text(&body)?;
    if text.trim_ascii_start().starts_with('[') {
        let publisher = BatchPublisher {
            caller: &caller,
            credential,
            origin,
        };
        return batch::publish_batch(edge, &body, text, key, publisher, call).await;
    }
    let command = decode_bus_event(edge.bus_events(), &body, text, key, call.span().clone())?;
    caller.check_scope(&SOURCE, command.entity.kind().as_str())?;
    let mut command = Command {
        credential: Some(credential),
        token: Some(caller.name),
        ..command
    };
    origin.note_in(&mut command);
    submit::submit_command(edge, command, StatusCode::ACCEPTED).await
}
