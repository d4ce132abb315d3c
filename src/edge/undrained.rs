//! Unread rest of a chunked body, held until the answer is sent so that the server then closes the
//! connection.
//!
//! A chunked body has no known end. If the payload is dropped unread, actix-http 3 keeps reading
//! for the end without a timer: a sender that stops in the middle would hold its connection for
//! ever. While the payload is held, the body counts as unfinished, and actix-http closes the
//! connection after the answer.

use std::error::Error as StdError;
use std::pin::Pin;
use std::task::{Context, Poll};

use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::dev::Payload;
use actix_web::http::header::TRANSFER_ENCODING;
use actix_web::{HttpRequest, HttpResponse};
use bytes::Bytes;

/// Attaches `payload`, the unread rest of `request`, to `response` if the request is chunked.
#[must_use]
pub(super) fn hold_undrained(
    request: &HttpRequest,
    payload: Payload,
    response: HttpResponse,
) -> HttpResponse {
    if !request.headers().contains_key(TRANSFER_ENCODING) {
        return response;
    }
    response.map_body(|_, body| {
        BoxBody::new(UndrainedBody {
            body,
            _payload: payload,
        })
    })
}

struct UndrainedBody {
    body: BoxBody,
    _payload: Payload,
}

impl MessageBody for UndrainedBody {
    type Error = Box<dyn StdError>;

    fn size(&self) -> BodySize {
        self.body.size()
    }

    fn poll_next(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Self::Error>>> {
        self.body.as_pin_mut().poll_next(context)
    }
}
