//! For those who watch the process: alive (`/healthz`) and able to take events (`/readyz`).

use actix_web::http::StatusCode;
use actix_web::http::header::RETRY_AFTER;
use actix_web::web::{Data, Payload};
use actix_web::{HttpRequest, HttpResponse};
use serde::Serialize;
use serde_json::json;

use super::docs::endpoint::EndpointDoc;
use super::state::Edge;
use super::{answer, undrained};

const TAG: &str = "Node";

#[derive(Serialize)]
struct HealthReport<'a> {
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
}

/// Says that the process answers, whatever state its store is in.
pub(super) async fn alive(request: HttpRequest, payload: Payload) -> HttpResponse {
    let response = answer::ok_json(&HealthReport {
        status: "ok",
        reason: None,
    });
    undrained::hold_undrained(&request, payload.into_inner(), response)
}

/// Says whether events are taken, and if not, why.
pub(super) async fn ready(
    request: HttpRequest,
    payload: Payload,
    edge: Data<Edge>,
) -> HttpResponse {
    undrained::hold_undrained(&request, payload.into_inner(), readiness_response(&edge))
}

fn readiness_response(edge: &Edge) -> HttpResponse {
    let Some(reason) = edge.gate.closed_reason() else {
        return answer::ok_json(&HealthReport {
            status: "ready",
            reason: None,
        });
    };
    let health = HealthReport {
        status: "not_ready",
        reason: Some(&reason),
    };
    let mut response = answer::uncached_json(StatusCode::SERVICE_UNAVAILABLE, &health);
    response.headers_mut().insert(RETRY_AFTER, 1_u32.into());
    response
}

/// Description of `/healthz`.
pub(super) fn describe_alive() -> EndpointDoc {
    let about = EndpointDoc::new(TAG, "Is the process alive?").about("Also at `/health`.");
    about.answers(200, "It is.", json!({"status": "ok"}))
}

/// Description of `/readyz`.
pub(super) fn describe_ready() -> EndpointDoc {
    let not_ready = json!({"status": "not_ready", "reason": "the store is being opened"});
    EndpointDoc::new(TAG, "Does the node take events?")
        .answers(200, "It does.", json!({"status": "ready"}))
        .answers(503, "It does not, and says why.", not_ready)
}
