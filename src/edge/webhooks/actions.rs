//! Actions on a subscription: secret rotation, pause, resume, and a test of its target.

use std::borrow::Cow;
use std::sync::Arc;

use actix_web::HttpResponse;
use serde::Serialize;
use tracing::info;

use super::super::blocking::run_blocking;
use super::super::context::RequestContext;
use super::super::error::ApiError;
use super::super::{answer, body};
use super::activity::{pause_subscription, resume_subscription};
use super::input::SecretRotation;
use super::stats::SubscriptionStatsView;
use super::view::SubscriptionView;
use super::{find_subscription, subscription_response};
use crate::entity::Rejection;
use crate::subscriber::SubscriberId;
use crate::subscriber::attempt::AttemptReport;
use crate::subscriber::delivery_policy::DeliveryPolicy;
use crate::subscription::DeliveryMode;

/// Handles `POST /api/v1/webhooks/{id}/rotate-secret`: replaces the signing secret.
pub(in crate::edge) async fn rotate(
    context: &mut RequestContext,
) -> Result<HttpResponse, ApiError> {
    let id: String = context.parse_path()?;
    let body = context.read_json().await?;
    let (core, now) = (context.edge.core()?, context.edge.clock.wall());
    let id = find_subscription(&core, &id)?.id;
    let SecretRotation { secret, overlap } = SecretRotation::parse(body::body_text(&body)?)?;

    let rotated = run_blocking(Arc::clone(&core), move |core| {
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

    let stats = SubscriptionStatsView::load(id, &core).await;
    Ok(answer::ok_json(
        &SubscriptionView::new(&rotated, stats, now).with_secret(),
    ))
}

/// Handles `POST /api/v1/webhooks/{id}/pause`: keeps events until the subscription is resumed.
pub(in crate::edge) async fn pause(context: &mut RequestContext) -> Result<HttpResponse, ApiError> {
    let id: String = context.parse_path()?;
    let (core, now) = (context.edge.core()?, context.edge.clock.wall());
    let id = find_subscription(&core, &id)?.id;

    let paused = run_blocking(Arc::clone(&core), move |core| {
        core.subscriptions.change(id, |subscription| {
            pause_subscription(subscription);
            subscription.updated_at = now;
        })
    });
    let paused = paused.await?;
    info!(subscription = id, "subscription paused");
    Ok(subscription_response(&paused, &core, &context.edge).await)
}

/// Handles `POST /api/v1/webhooks/{id}/resume`: delivers again.
pub(in crate::edge) async fn resume(
    context: &mut RequestContext,
) -> Result<HttpResponse, ApiError> {
    let id: String = context.parse_path()?;
    let (core, now) = (context.edge.core()?, context.edge.clock.wall());
    let id = find_subscription(&core, &id)?.id;
    let from = core.reads.answered_end().await?;

    let resumed = run_blocking(Arc::clone(&core), move |core| {
        core.subscriptions.change(id, |subscription| {
            resume_subscription(subscription, from);
            subscription.updated_at = now;
        })
    });
    let resumed = resumed.await?;
    core.subscribers.notice_repair(SubscriberId::Webhook(id));
    info!(subscription = id, "subscription resumed");
    Ok(subscription_response(&resumed, &core, &context.edge).await)
}

/// Answer of a subscription's target to a ping.
#[derive(Serialize)]
struct PingResult<'a> {
    is_successful: bool,
    status: Option<u16>,
    code: Option<&'static str>,
    detail: Option<&'a str>,
    duration_ms: f64,
    answer: Option<Cow<'a, str>>,
}

/// Handles `POST /api/v1/webhooks/{id}/test`: sends a ping, which is not retried. An accepted ping
/// lets an open circuit breaker try a delivery at once.
pub(in crate::edge) async fn test(context: &mut RequestContext) -> Result<HttpResponse, ApiError> {
    let id: String = context.parse_path()?;
    let core = context.edge.core()?;
    let subscription = find_subscription(&core, &id)?;
    if subscription.delivery == DeliveryMode::Pull {
        let message = "the subscriber reads its events itself; there is no url to test";
        return Err(ApiError::Rejected(Rejection::conflict(
            "not_delivered",
            message,
        )));
    }
    let policy = DeliveryPolicy::from_subscription(&subscription, &context.edge.config.delivery);
    let AttemptReport { outcome, call } =
        core.subscribers.attempt_sender().send_ping(&policy).await;
    call.append_to_log(&core.call_log, None);

    let failure = outcome.failure();
    if failure.is_none() {
        core.subscribers
            .notice_repair(SubscriberId::Webhook(subscription.id));
    }

    let result = PingResult {
        is_successful: failure.is_none(),
        status: call.status(),
        code: failure.map(|failure| failure.code),
        detail: failure.map(|failure| failure.detail.as_str()),
        duration_ms: answer::as_milliseconds(call.duration()),
        answer: Some(call.answer())
            .filter(|answer| !answer.is_empty())
            .map(|answer| String::from_utf8_lossy(answer)),
    };
    Ok(answer::ok_json(&result))
}
