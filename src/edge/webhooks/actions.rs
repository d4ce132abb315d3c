//! What can be done with a subscription besides changing it: a new secret, pause, resume, and a test of its target.

use std::borrow::Cow;
use std::sync::Arc;

use actix_web::http::StatusCode;
use actix_web::web::{Data, Path, Payload};
use actix_web::{HttpRequest, HttpResponse, dev};
use serde::Serialize;
use tracing::info;

use super::super::call::Call;
use super::super::error::Error;
use super::super::{Edge, admin, answer, body};
use super::members::Rotation;
use super::stats::Stats;
use super::view::View;
use super::{at_work, find, given, pause, resume, shown};
use crate::subscriber::SubscriberId;
use crate::subscriber::attempt::Made;
use crate::subscriber::profile::Profile;

/// `POST /api/v1/webhooks/{id}/rotate-secret`
pub(in crate::edge) async fn rotate(
    request: HttpRequest,
    payload: Payload,
    id: Path<String>,
    edge: Data<Edge>,
) -> HttpResponse {
    let mut payload = payload.into_inner();
    let call = Call::begin(&request, admin::SOURCE);
    let result = rotate_of(&request, &mut payload, &id, &edge).await;
    call.end(&request, payload, &edge, result)
}

/// `POST /api/v1/webhooks/{id}/pause`
pub(in crate::edge) async fn stop(
    request: HttpRequest,
    payload: Payload,
    id: Path<String>,
    edge: Data<Edge>,
) -> HttpResponse {
    let call = Call::begin(&request, admin::SOURCE);
    let result = stop_of(&request, &id, &edge).await;
    call.end(&request, payload.into_inner(), &edge, result)
}

/// `POST /api/v1/webhooks/{id}/resume`
pub(in crate::edge) async fn start(
    request: HttpRequest,
    payload: Payload,
    id: Path<String>,
    edge: Data<Edge>,
) -> HttpResponse {
    let call = Call::begin(&request, admin::SOURCE);
    let result = start_of(&request, &id, &edge).await;
    call.end(&request, payload.into_inner(), &edge, result)
}

/// `POST /api/v1/webhooks/{id}/test`
pub(in crate::edge) async fn test(
    request: HttpRequest,
    payload: Payload,
    id: Path<String>,
    edge: Data<Edge>,
) -> HttpResponse {
    let call = Call::begin(&request, admin::SOURCE);
    let result = test_of(&request, &id, &edge).await;
    call.end(&request, payload.into_inner(), &edge, result)
}

async fn rotate_of(
    request: &HttpRequest,
    payload: &mut dev::Payload,
    id: &str,
    edge: &Edge,
) -> Result<HttpResponse, Error> {
    let body = given(request, payload, edge).await?;
    let (core, now) = (edge.core()?, edge.clock.wall());
    let id = find(&core, id)?.id;
    let Rotation { secret, overlap } = Rotation::read(body::text(&body)?)?;
    let rotated = at_work(Arc::clone(&core), move |core| {
        core.subscriptions.change(id, |subscription| {
            subscription.secrets.rotate(secret, now, overlap);
            subscription.updated_at = now;
        })
    });
    let rotated = rotated.await?;
    info!(subscription = id, overlap_s = overlap.as_secs(), "secret of subscription replaced");
    let stats = Stats::of(id, &core).await;
    Ok(answer::uncached(StatusCode::OK, &View::new(&rotated, stats, now).with_secret()))
}

async fn stop_of(request: &HttpRequest, id: &str, edge: &Edge) -> Result<HttpResponse, Error> {
    admin::authorize(request, edge)?;
    let (core, now) = (edge.core()?, edge.clock.wall());
    let id = find(&core, id)?.id;
    let paused = at_work(Arc::clone(&core), move |core| {
        core.subscriptions.change(id, |subscription| {
            pause(subscription);
            subscription.updated_at = now;
        })
    });
    let paused = paused.await?;
    info!(subscription = id, "subscription paused");
    Ok(shown(&paused, &core, edge).await)
}

async fn start_of(request: &HttpRequest, id: &str, edge: &Edge) -> Result<HttpResponse, Error> {
    admin::authorize(request, edge)?;
    let (core, now) = (edge.core()?, edge.clock.wall());
    let id = find(&core, id)?.id;
    let from = core.reads.end().await?;
    let resumed = at_work(Arc::clone(&core), move |core| {
        core.subscriptions.change(id, |subscription| {
            resume(subscription, from);
            subscription.updated_at = now;
        })
    });
    let resumed = resumed.await?;
    core.subscribers.probe(SubscriberId::Webhook(id));
    info!(subscription = id, "subscription resumed");
    Ok(shown(&resumed, &core, edge).await)
}

/// What the target of a subscription said to a ping.
#[derive(Serialize)]
struct Tested<'a> {
    is_successful: bool,
    status: Option<u16>,
    code: Option<&'static str>,
    detail: Option<&'a str>,
    duration_ms: f64,
    answer: Option<Cow<'a, str>>,
}

/// A ping is no delivery and is not tried again; one that is accepted spares a delivery the wait for an open breaker.
async fn test_of(request: &HttpRequest, id: &str, edge: &Edge) -> Result<HttpResponse, Error> {
    admin::authorize(request, edge)?;
    let core = edge.core()?;
    let subscription = find(&core, id)?;
    let profile = Profile::of_subscription(&subscription, &edge.config.delivery);
    let Made { outcome, call } = core.subscribers.caller().test(&profile).await;
    call.append(&core.exchange, None);
    let failure = outcome.failure();
    if failure.is_none() {
        core.subscribers.probe(SubscriberId::Webhook(subscription.id));
    }
    let tested = Tested {
        is_successful: failure.is_none(),
        status: call.status(),
        code: failure.map(|failure| failure.code),
        detail: failure.map(|failure| failure.detail.as_str()),
        duration_ms: call.duration().as_micros() as f64 / 1_000.0,
        answer: Some(call.answer()).filter(|answer| !answer.is_empty()).map(|answer| String::from_utf8_lossy(answer)),
    };
    Ok(answer::uncached(StatusCode::OK, &tested))
}
