//! The CRM's event bus: `POST /api/v1/events`, one event or a list of them, from publishers with a bearer token.
//!
//! ```text
//! size ─> token ─> JSON, fields ─> duplicate ─> stored ─> 202
//!  413     401      415, 400         409          503
//! ```

use actix_web::http::StatusCode;
use actix_web::http::header::HeaderValue;
use actix_web::web::{Data, Payload};
use actix_web::{HttpRequest, HttpResponse, dev};

use super::call::Call;
use super::error::Error;
use super::{Edge, admin, body, intake};
use crate::event::{Name, catalogue};

mod batch;
mod decode;
pub(super) mod spec;

pub use batch::EVENTS_MAX;
pub use decode::{Catalogue, decode};

/// The source's name, in records and logs.
pub const SOURCE: Name = Name::from_static(catalogue::CRM);

const IDEMPOTENCY_KEYS: [&str; 2] = ["idempotency-key", "x-idempotency-key"];

/// Takes one event in, or a list of them.
pub async fn publish(request: HttpRequest, payload: Payload, edge: Data<Edge>) -> HttpResponse {
    let mut payload = payload.into_inner();
    let call = Call::begin(&request, SOURCE.as_str());
    let result = answer(&request, &mut payload, &edge, &call).await;
    call.end(&request, payload, &edge, result)
}

async fn answer(
    request: &HttpRequest,
    payload: &mut dev::Payload,
    edge: &Edge,
    call: &Call,
) -> Result<HttpResponse, Error> {
    let headers = request.headers();
    body::check_declared(request, edge.bounds())?;
    // Known publishers only: nobody else's body is worth memory.
    admin::authorize_any(request, edge, &edge.config.sources.crm.tokens)?;
    let body = body::read(request, payload, edge.bounds()).await?;
    body::check_is_json(headers)?;
    let key = IDEMPOTENCY_KEYS.iter().find_map(|name| headers.get(*name)).map(HeaderValue::as_bytes);
    let text = body::text(&body)?;
    if text.trim_ascii_start().starts_with('[') {
        return batch::publish(edge, &body, text, key, call).await;
    }
    let command = decode(edge.published(), &body, text, key, call.span().clone())?;
    intake::submit(edge, command, StatusCode::ACCEPTED).await
}
