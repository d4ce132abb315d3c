//! Health checks: the process is alive (`/healthz`), and the node accepts events (`/readyz`).

use actix_web::http::StatusCode;
use actix_web::http::header::{AUTHORIZATION, RETRY_AFTER};
use actix_web::web::{Data, Payload};
use actix_web::{HttpRequest, HttpResponse};
use serde::Serialize;
use serde_json::json;
use utoipa::ToSchema;
use utoipa::openapi::schema::Schema;

use super::docs::endpoint::EndpointDoc;
use super::docs::schemas;
use super::state::Edge;
use super::{access, answer, undrained};

const TAG: &str = "Node";

#[derive(Serialize, ToSchema)]
struct HealthReport<'a> {
    #[schema(schema_with = statuses)]
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    reason: Option<&'a str>,
}

fn statuses() -> Schema {
    schemas::one_of(["ok", "ready", "not_ready"])
}

/// Handles `/healthz`: answers 200 in any state of the store.
pub(super) async fn alive(request: HttpRequest, payload: Payload) -> HttpResponse {
    let response = answer::ok_json(&HealthReport {
        status: "ok",
        reason: None,
    });
    undrained::hold_undrained(&request, payload.into_inner(), response)
}

/// Handles `/readyz`: answers 200 if events are accepted, otherwise 503 with the reason. Those with a
/// token see the error behind it, which may name paths.
pub(super) async fn ready(
    request: HttpRequest,
    payload: Payload,
    edge: Data<Edge>,
) -> HttpResponse {
    let response = readiness_response(&request, &edge);
    undrained::hold_undrained(&request, payload.into_inner(), response)
}

fn readiness_response(request: &HttpRequest, edge: &Edge) -> HttpResponse {
    let may_know = || {
        request.headers().contains_key(AUTHORIZATION) && access::authenticate(request, edge).is_ok()
    };
    let reason = match edge.gate.closed_reason() {
        Some(_) if may_know() => edge.gate.closed_cause(),
        reason => reason,
    };
    // A node that passes requests on to the leader is as good as the leader.
    let Some(reason) = reason.filter(|_| edge.gate.leader().is_none()) else {
        return answer::ok_json(&HealthReport {
            status: "ready",
            reason: None,
        });
    };
    // Everybody may ask, so the answer does not tell where the store is.
    let folder = edge.config.store.path.display().to_string();
    let reason = reason.replace(&folder, "store.path");
    let health = HealthReport {
        status: "not_ready",
        reason: Some(&reason),
    };
    let mut response = answer::uncached_json(StatusCode::SERVICE_UNAVAILABLE, &health);
    response.headers_mut().insert(RETRY_AFTER, 1_u32.into());
    response
}

/// Describes `/healthz` for the OpenAPI description.
pub(super) fn describe_alive() -> EndpointDoc {
    let endpoint = EndpointDoc::new(TAG, "checkAlive", "Check that the process is alive")
        .about("Also at `/health`.");
    endpoint.answers::<HealthReport<'_>>(200, "The process is alive.", json!({"status": "ok"}))
}

/// Describes `/readyz` for the OpenAPI description.
pub(super) fn describe_ready() -> EndpointDoc {
    let not_ready = json!({"status": "not_ready", "reason": "the store is being opened"});
    EndpointDoc::new(TAG, "checkReady", "Check that the node accepts events")
        .answers::<HealthReport<'_>>(200, "The node accepts events.", json!({"status": "ready"}))
        .answers::<HealthReport<'_>>(
            503,
            "The node accepts no events, for the reason given. With a token, the reason of a failed store is its error.",
            not_ready,
        )
}
