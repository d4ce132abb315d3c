//! Actions on a subscription: secret rotation, pause, resume, and a test of its target.

use std::sync::Arc;

use actix_web::HttpResponse;
use serde::Serialize;
use tracing::info;
use utoipa::ToSchema;

use super::super::blocking::run_blocking;
use super::super::context::RequestContext;
use super::super::error::ApiError;
use super::super::state::Edge;
use super::super::{answer, body};
use super::activity::{pause_subscription, resume_subscription};
use super::input::SecretRotation;
use super::{created_response, find_push_subscription, find_subscription, subscription_response};
use crate::subscriber::SubscriberId;
use crate::subscriber::attempt::AttemptReport;
use crate::subscriber::delivery_policy::DeliveryPolicy;
use crate::subscription::SharedSubscription;

/// Handles `POST /api/v1/webhooks/{id}/rotate-secret`: replaces the signing secret.
pub(in crate::edge) async fn rotate(
    context: &mut RequestContext,
) -> Result<HttpResponse, ApiError> {
    let id: String = context.parse_path()?;
    let body = context.read_json().await?;
    let rotated = rotate_secret(&context.edge, &id, body::body_text(&body)?).await?;
    Ok(created_response(&rotated, &context.edge.core()?, &context.edge).await)
}

/// Replaces the signing secret of the subscription with the number `id`, as `json` says.
///
/// # Errors
/// As for [`SecretRotation::parse`] and for [`super::change_from_json`].
pub(in crate::edge) async fn rotate_secret(
    edge: &Edge,
    id: &str,
    json: &str,
) -> Result<SharedSubscription, ApiError> {
    let (core, now) = (edge.core()?, edge.clock.wall());
    let id = find_subscription(&core, id)?.id;
    let SecretRotation { secret, overlap } = SecretRotation::parse(json)?;

    let rotated = run_blocking(core, move |core| {
        core.subscriptions.change(id, |subscription| {
            subscription.secrets.rotate(secret, now, overlap);
            subscription.updated_at = now;
        })
    });
    let rotated = rotated.await?;
    info!(
        subscription = id,
        overlap_s = overlap.as_secs(),
        "subscription secret rotated"
    );
    Ok(rotated)
}

/// Handles `POST /api/v1/webhooks/{id}/pause`: keeps events until the subscription is resumed.
pub(in crate::edge) async fn pause(context: &mut RequestContext) -> Result<HttpResponse, ApiError> {
    let id: String = context.parse_path()?;
    let paused = pause_deliveries(&context.edge, &id).await?;
    Ok(subscription_response(&paused, &context.edge.core()?, &context.edge).await)
}

/// Pauses the subscription with the number `id`; its events are kept from now on.
///
/// # Errors
/// As for [`super::change_from_json`].
pub(in crate::edge) async fn pause_deliveries(
    edge: &Edge,
    id: &str,
) -> Result<SharedSubscription, ApiError> {
    let (core, now) = (edge.core()?, edge.clock.wall());
    let id = find_subscription(&core, id)?.id;

    let paused = run_blocking(core, move |core| {
        core.subscriptions.change(id, |subscription| {
            pause_subscription(subscription);
            subscription.updated_at = now;
        })
    });
    let paused = paused.await?;
    info!(subscription = id, "subscription paused");
    Ok(paused)
}

/// Handles `POST /api/v1/webhooks/{id}/resume`: delivers again.
pub(in crate::edge) async fn resume(
    context: &mut RequestContext,
) -> Result<HttpResponse, ApiError> {
    let id: String = context.parse_path()?;
    let resumed = resume_deliveries(&context.edge, &id).await?;
    Ok(subscription_response(&resumed, &context.edge.core()?, &context.edge).await)
}

/// Resumes the subscription with the number `id`, and probes its circuit breaker.
///
/// # Errors
/// As for [`super::change_from_json`].
pub(in crate::edge) async fn resume_deliveries(
    edge: &Edge,
    id: &str,
) -> Result<SharedSubscription, ApiError> {
    let (core, now) = (edge.core()?, edge.clock.wall());
    let id = find_subscription(&core, id)?.id;
    let from = core.reads.answered_end().await?;

    let resumed = run_blocking(core.clone(), move |core| {
        core.subscriptions.change(id, |subscription| {
            resume_subscription(subscription, from);
            subscription.updated_at = now;
        })
    });
    let resumed = resumed.await?;
    core.subscribers.notice_repair(SubscriberId::Webhook(id));
    info!(subscription = id, "subscription resumed");
    Ok(resumed)
}

/// Answer of a subscription's target to a ping.
#[derive(Serialize, ToSchema)]
pub(in crate::edge) struct PingResult {
    pub(in crate::edge) is_successful: bool,
    pub(in crate::edge) status: Option<u16>,
    pub(in crate::edge) code: Option<&'static str>,
    pub(in crate::edge) detail: Option<String>,
    pub(in crate::edge) duration_ms: f64,
    pub(in crate::edge) answer: Option<String>,
}

/// Handles `POST /api/v1/webhooks/{id}/test`: sends a ping, which is not retried.
pub(in crate::edge) async fn test(context: &mut RequestContext) -> Result<HttpResponse, ApiError> {
    let id: String = context.parse_path()?;
    Ok(answer::ok_json(&ping_target(&context.edge, &id).await?))
}

/// Sends a ping to the target of the subscription with the number `id`. An accepted ping lets an
/// open circuit breaker try a delivery at once.
///
/// # Errors
/// [`ApiError::NotFound`] and [`ApiError::Unavailable`]; a failed ping is no error.
pub(in crate::edge) async fn ping_target(edge: &Edge, id: &str) -> Result<PingResult, ApiError> {
    let core = edge.core()?;
    let subscription = find_push_subscription(&core, id)?;
    let policy = DeliveryPolicy::from_subscription(&subscription, &edge.config.delivery);
    let policy = Arc::new(policy);
    let AttemptReport { outcome, call } =
        core.subscribers.attempt_sender().send_ping(&policy).await;
    call.append_to_log(&core.call_log, None);

    let failure = outcome.failure();
    if failure.is_none() {
        core.subscribers
            .notice_repair(SubscriberId::Webhook(subscription.id));
    }

    Ok(PingResult {
        is_successful: failure.is_none(),
        status: call.status(),
        code: failure.map(|failure| failure.code),
        detail: failure.map(|failure| failure.detail.clone()),
        duration_ms: answer::as_milliseconds(call.duration()),
        answer: Some(call.answer())
            .filter(|answer| !answer.is_empty())
            .map(|answer| String::from_utf8_lossy(answer).into_owned()),
    })
}
