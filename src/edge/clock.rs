//! `/api/v1/clock`: the node's time, and the confirmation of a jump.

use actix_web::HttpResponse;
use serde::Serialize;
use serde_json::json;
use tracing::warn;
use utoipa::ToSchema;

use super::answer;
use super::context::RequestContext;
use super::docs::endpoint::{EndpointAccess, EndpointDoc};
use super::error::ApiError;
use super::state::Edge;
use crate::clock::Clock;
use crate::event::Timestamp;

const TAG: &str = "Node";

/// State of the clock. The two times differ while the clock has jumped.
#[derive(Serialize, ToSchema)]
#[schema(as = Clock)]
struct ClockReport {
    /// Time that the node uses.
    time: Timestamp,
    /// Time that the system's clock shows.
    system_time: Timestamp,
    has_jumped: bool,
}

/// Handles `GET /api/v1/clock`: shows the time that the node uses.
pub(super) async fn show(context: &mut RequestContext) -> Result<HttpResponse, ApiError> {
    context.refuse_parameters()?;
    Ok(clock_response(context))
}

/// Handles `POST /api/v1/clock/confirm`: believes the system's clock from now on.
pub(super) async fn confirm(context: &mut RequestContext) -> Result<HttpResponse, ApiError> {
    context.refuse_parameters()?;
    confirm_jump(&context.edge);
    Ok(clock_response(context))
}

/// Believes the system's clock from now on, if it has jumped.
pub(super) fn confirm_jump(edge: &Edge) {
    if let Some(jump) = edge.checked_clock.jump() {
        warn!(shown = %jump.shown, expected = %jump.expected, "jump of the clock confirmed");
        edge.checked_clock.confirm();
        edge.gate.resume();
    }
}

fn clock_response(context: &RequestContext) -> HttpResponse {
    let clock = &context.edge.checked_clock;
    let time = clock.wall();
    let jump = clock.jump();
    answer::ok_json(&ClockReport {
        time,
        system_time: jump.map_or(time, |jump| jump.shown),
        has_jumped: jump.is_some(),
    })
}

fn clock_example(has_jumped: bool) -> serde_json::Value {
    let time = "2026-03-01T09:30:00.000Z";
    let system_time = if has_jumped {
        "2036-02-07T06:28:15.000Z"
    } else {
        time
    };
    json!({"time": time, "system_time": system_time, "has_jumped": has_jumped})
}

pub(super) fn describe() -> EndpointDoc {
    EndpointDoc::new(TAG, "getClock", "Show the time that the node uses")
        .access(EndpointAccess::Admin)
        .about(
            "The system's clock has jumped if it differs by more than five minutes from what monotonic time, or \
             the last time of the journal, let expect. The node then takes no events.",
        )
        .answers::<ClockReport>(200, "The clock.", clock_example(true))
}

pub(super) fn describe_confirm() -> EndpointDoc {
    EndpointDoc::new(TAG, "confirmClock", "Confirm a jump of the clock")
        .access(EndpointAccess::Admin)
        .about("The node believes the system's clock from now on, and takes events again.")
        .answers::<ClockReport>(200, "The clock.", clock_example(false))
}
