//! What can be done with a subscription besides changing it: a new secret, pause, resume, and a
//! test of its target.

use std::borrow::Cow;
use std::sync::Arc;

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use serde::Serialize;
use tracing::info;

use super::super::context::RequestContext;
use super::super::error::Error;
use super::super::{answer, body};
use super::activity::{pause, resume};
use super::input::SecretRotation;
use super::stats::SubscriptionStatsView;
use super::view::SubscriptionView;
use super::{find_subscription, run_blocking, subscription_response};
use crate::subscriber::SubscriberId;
use crate::subscriber::attempt::AttemptReport;
use crate::subscriber::delivery_policy::DeliveryPolicy;

/// `POST /api/v1/webhooks/{id}/rotate-secret`
pub(in crate::edge) async fn rotate(context: &mut RequestContext) -> Result<HttpResponse, Error> {
    let id: String = context.parse_path()?;
    let body = context.read_json().await?;
    let (core, now) = (context.edge.core()?, context.edge.clock.wall());
    let id = find_subscription(&core, &id)?.id;
    let SecretRotation { secret, overlap } = SecretRotation::parse(body::text(&body)?)?;
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
        "secret of subscription replaced"
    );
    let stats = SubscriptionStatsView::load(id, &core).await;
    Ok(answer::uncached_json(
        StatusCode::OK,
        &SubscriptionView::new(&rotated, stats, now).with_secret(),
    ))
}

/// `POST /api/v1/webhooks/{id}/pause`
pub(in crate::edge) async fn stop(context: &mut RequestContext) -> Result<HttpResponse, Error> {
    let id: String = context.parse_path()?;
    let (core, now) = (context.edge.core()?, context.edge.clock.wall());
    let id = find_subscription(&core, &id)?.id;
    let paused = run_blocking(Arc::clone(&core), move |core| {
        core.subscriptions.change(id, |subscription| {
            pause(subscription);
            subscription.updated_at = now;
        })
    });
    let paused = paused.await?;
    info!(subscription = id, "subscription paused");
    Ok(subscription_response(&paused, &core, &context.edge).await)
}

/// `POST /api/v1/webhooks/{id}/resume`
pub(in crate::edge) async fn start(context: &mut RequestContext) -> Result<HttpResponse, Error> {
    let id: String = context.parse_path()?;
    let (core, now) = (context.edge.core()?, context.edge.clock.wall());
    let id = find_subscription(&core, &id)?.id;
    let from = core.reads.answered_end().await?;
    let resumed = run_blocking(Arc::clone(&core), move |core| {
        core.subscriptions.change(id, |subscription| {
            resume(subscription, from);
            subscription.updated_at = now;
        })
    });
    let resumed = resumed.await?;
    core.subscribers.probe_breaker(SubscriberId::Webhook(id));
    info!(subscription = id, "subscription resumed");
    Ok(subscription_response(&resumed, &core, &context.edge).await)
}

/// What the target of a subscription said to a ping.
#[derive(Serialize)]
struct PingResult<'a> {
    is_successful: bool,
    status: Option<u16>,
    code: Option<&'static str>,
    detail: Option<&'a str>,
    duration_ms: f64,
    answer: Option<Cow<'a, str>>,
}

/// `POST /api/v1/webhooks/{id}/test` A ping is no delivery and is not tried again; one that is
/// accepted spares a delivery the wait for an open breaker.
pub(in crate::edge) async fn test(context: &mut RequestContext) -> Result<HttpResponse, Error> {
    let id: String = context.parse_path()?;
    let core = context.edge.core()?;
    let subscription = find_subscription(&core, &id)?;
    let profile = DeliveryPolicy::from_subscription(&subscription, &context.edge.config.delivery);
    let AttemptReport { outcome, call } =
        core.subscribers.attempt_sender().send_ping(&profile).await;
    call.append_to_log(&core.exchange, None);
    let failure = outcome.failure();
    if failure.is_none() {
        core.subscribers
            .probe_breaker(SubscriberId::Webhook(subscription.id));
    }
    let tested = PingResult {
        is_successful: failure.is_none(),
        status: call.status(),
        code: failure.map(|failure| failure.code),
        detail: failure.map(|failure| failure.detail.as_str()),
        duration_ms: call.duration().as_micros() as f64 / 1_000.0,
        answer: Some(call.answer())
            .filter(|answer| !answer.is_empty())
            .map(|answer| String::from_utf8_lossy(answer)),
    };
    Ok(answer::uncached_json(StatusCode::OK, &tested))
}
