//! `/api/v1/webhooks`: the admin's interface to subscriptions.

use std::sync::Arc;

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use tracing::{error, info};

use super::blocking::run_blocking;
use super::context::RequestContext;
use super::error::{ApiError, CHANGED_SINCE};
use super::gate::NodeCore;
use super::list::ListPage;
use super::query::parse_number;
use super::state::Edge;
use super::{answer, body, idempotency};
use crate::entity::Rejection;
use crate::event::Timestamp;
use crate::subscription::limits::is_valid_uid;
use crate::subscription::{
    CreationRequest, DeliveryMode, SharedSubscription, Subscription, SubscriptionChangeError,
    SubscriptionEntry,
};

pub(super) mod actions;
mod activity;
pub(super) mod attempts;
mod headers;
pub(in crate::edge) mod input;
pub(super) mod pull;
mod request_schema;
pub(super) mod spec;
pub(in crate::edge) mod stats;
mod view;

use activity::is_active;
use input::{SubscriptionInput, SubscriptionRules};
use stats::SubscriptionStatsView;
use view::SubscriptionView;

/// Code of the refusal to create a second subscription with a `uid`.
const UID_TAKEN: &str = "uid_taken";

/// Values of the parameter `is_active`.
const ACTIVITY: [(&str, bool); 2] = [("true", true), ("false", false)];

/// Handles `GET /api/v1/webhooks`: lists subscriptions, newest first.
pub(super) async fn list(context: &mut RequestContext) -> Result<HttpResponse, ApiError> {
    let mut parameters = context.parameters(&["is_active", "page", "page_size"]);
    let page = parameters.page_request();
    let activity = parameters.one_of("is_active", &ACTIVITY);
    let (activity, page) = parameters.finish((activity, page))?;
    let core = context.edge.core()?;

    let known = core.subscriptions.snapshot();
    let matches = |entry: &&Arc<SubscriptionEntry>| {
        activity.is_none_or(|activity| activity == is_active(&entry.subscription))
    };
    let found: Vec<_> = known.newest_first().filter(matches).collect();

    let (mut items, now) = (Vec::new(), context.edge.clock.wall());
    let selected: Vec<_> = page.select(&found).collect();
    let ids: Vec<_> = selected.iter().map(|entry| entry.subscription.id).collect();
    let known_stats = SubscriptionStatsView::load_all(&ids, &core).await;
    let mut known_stats = known_stats.unwrap_or_default();
    for entry in selected {
        let stats = known_stats.remove(&entry.subscription.id);
        items.push(SubscriptionView::new(&entry.subscription, stats, now));
    }
    Ok(answer::ok_json(&ListPage::new(
        items,
        found.len() as u64,
        page,
    )))
}

/// Handles `POST /api/v1/webhooks`: creates a subscription. A repetition with the same idempotency
/// key is answered with the same one.
pub(super) async fn create(context: &mut RequestContext) -> Result<HttpResponse, ApiError> {
    let body = context.read_json().await?;
    let rules = SubscriptionRules::new(&context.edge);
    let input = SubscriptionInput::parse(body::body_text(&body)?, None, rules)?;
    let key = idempotency::parse_idempotency_key(context.request.headers())?;
    let creation = key.map(|key| CreationRequest {
        key,
        hash: idempotency::request_fingerprint(&context.request, &body),
    });
    let core = context.edge.core()?;
    let created = create_subscription(&core, &context.edge, input, creation).await?;
    context.call.note_object(created.id);
    Ok(created_response(&created, &core, &context.edge).await)
}

/// Handles `PUT /api/v1/webhooks/by-uid/{uid}`: creates the subscription that its client calls so,
/// or changes it.
pub(super) async fn put_by_uid(context: &mut RequestContext) -> Result<HttpResponse, ApiError> {
    let uid: String = context.parse_path()?;
    let body = context.read_json().await?;
    let (text, core) = (body::body_text(&body)?, context.edge.core()?);
    if !is_valid_uid(&uid) {
        return Err(ApiError::nothing_here());
    }
    let rules = SubscriptionRules::new(&context.edge).for_uid(&uid);
    loop {
        // The registry holds its names while it writes.
        let of_uid = uid.clone();
        let find =
            move |core: &NodeCore| Ok::<_, ApiError>(core.subscriptions.find_by_uid(&of_uid));
        if let Some(known) = run_blocking(Arc::clone(&core), find).await? {
            let input = SubscriptionInput::parse(text, Some(&known), rules)?;
            let changed = change_subscription(&core, &context.edge, &known, input, None).await?;
            context.call.note_object(changed.id);
            return Ok(subscription_response(&changed, &core, &context.edge).await);
        }
        let input = SubscriptionInput::parse(text, None, rules)?;
        match create_subscription(&core, &context.edge, input, None).await {
            // Another request created it meanwhile, so this one changes it.
            Err(ApiError::Rejected(rejection)) if rejection.code == UID_TAKEN => {}
            created => {
                let created = created?;
                context.call.note_object(created.id);
                return Ok(created_response(&created, &core, &context.edge).await);
            }
        }
    }
}

/// Creates the subscription that `json` defines, for a caller without an idempotency key.
///
/// # Errors
/// As for [`SubscriptionInput::parse`], and as for a write of definitions.
pub(in crate::edge) async fn create_from_json(
    edge: &Edge,
    json: &str,
) -> Result<SharedSubscription, ApiError> {
    let input = SubscriptionInput::parse(json, None, SubscriptionRules::new(edge))?;
    create_subscription(&edge.core()?, edge, input, None).await
}

async fn create_subscription(
    core: &Arc<NodeCore>,
    edge: &Edge,
    input: SubscriptionInput,
    creation: Option<CreationRequest>,
) -> Result<SharedSubscription, ApiError> {
    let now = edge.clock.wall();
    let from = core.reads.answered_end().await?;
    let create = move |core: &NodeCore| {
        core.subscriptions.create(|id| Subscription {
            creation,
            ..input.into_subscription(id, from, now)
        })
    };
    let created = run_blocking(Arc::clone(core), create).await?;
    // An earlier time is that of a repeated request.
    if created.created_at == now {
        info!(subscription = created.id, "subscription created");
    }
    Ok(created)
}

async fn change_subscription(
    core: &Arc<NodeCore>,
    edge: &Edge,
    known: &Subscription,
    input: SubscriptionInput,
    seen: Option<Timestamp>,
) -> Result<SharedSubscription, ApiError> {
    let (id, now) = (known.id, edge.clock.wall());
    let from = if input.activates() {
        core.reads.answered_end().await?
    } else {
        known.from
    };
    let change = move |core: &NodeCore| {
        core.subscriptions
            .change_unless_newer(id, seen, |known| input.apply_to(known, from, now))
    };
    let changed = run_blocking(Arc::clone(core), change).await?;
    info!(subscription = id, "subscription changed");
    Ok(changed)
}

/// Handles `GET /api/v1/webhooks/{id}`: shows a subscription.
pub(super) async fn show(context: &mut RequestContext) -> Result<HttpResponse, ApiError> {
    let id: String = context.parse_path()?;
    context.refuse_parameters()?;
    let core = context.edge.core()?;
    let subscription = find_subscription(&core, &id)?;
    Ok(subscription_response(&subscription, &core, &context.edge).await)
}

/// Handles `PUT /api/v1/webhooks/{id}`: changes a subscription.
pub(super) async fn change(context: &mut RequestContext) -> Result<HttpResponse, ApiError> {
    let id: String = context.parse_path()?;
    let body = context.read_json().await?;
    let core = context.edge.core()?;
    let changed = change_from_json(&context.edge, &id, body::body_text(&body)?, None).await?;
    Ok(subscription_response(&changed, &core, &context.edge).await)
}

/// Applies the members in `json` to the subscription with the number `id`, unless it was changed
/// after `seen`, the time of the last change that the caller knows.
///
/// # Errors
/// As for [`create_from_json`], [`ApiError::NotFound`], and [`ApiError::Rejected`] with the code
/// [`CHANGED_SINCE`].
pub(in crate::edge) async fn change_from_json(
    edge: &Edge,
    id: &str,
    json: &str,
    seen: Option<Timestamp>,
) -> Result<SharedSubscription, ApiError> {
    let core = edge.core()?;
    let known = find_subscription(&core, id)?;
    let input = SubscriptionInput::parse(json, Some(&known), SubscriptionRules::new(edge))?;
    change_subscription(&core, edge, &known, input, seen).await
}

/// Handles `DELETE /api/v1/webhooks/{id}`: deletes a subscription.
pub(super) async fn remove(context: &mut RequestContext) -> Result<HttpResponse, ApiError> {
    let id: String = context.parse_path()?;
    delete_subscription(&context.edge, &id).await?;
    Ok(HttpResponse::new(StatusCode::NO_CONTENT))
}

/// Deletes the subscription with the number `id`, and ends what was owed to it.
///
/// # Errors
/// [`ApiError::NotFound`], and as for a write of definitions.
pub(in crate::edge) async fn delete_subscription(edge: &Edge, id: &str) -> Result<(), ApiError> {
    let core = edge.core()?;
    let id = find_subscription(&core, id)?.id;
    run_blocking(core, move |core| core.subscriptions.remove(id)).await?;
    info!(subscription = id, "subscription deleted");
    Ok(())
}

/// Returns the subscription with the number `id`.
pub(in crate::edge) fn find_subscription(
    core: &NodeCore,
    id: &str,
) -> Result<SharedSubscription, ApiError> {
    let known = core.subscriptions.snapshot();
    let entry = parse_number(id)
        .and_then(|number| known.get(number))
        .ok_or(SubscriptionChangeError::NotFound)?;
    Ok(Arc::clone(&entry.subscription))
}

/// Returns the subscription with the number `id`, to whose URL the node delivers.
///
/// # Errors
/// As for [`find_subscription`], and [`ApiError::Rejected`] with the code `not_delivered` for a
/// subscription whose subscriber reads its events itself.
pub(in crate::edge) fn find_push_subscription(
    core: &NodeCore,
    id: &str,
) -> Result<SharedSubscription, ApiError> {
    let subscription = find_subscription(core, id)?;
    match subscription.delivery {
        DeliveryMode::Push => Ok(subscription),
        DeliveryMode::Pull => {
            let message = "the subscriber reads its events itself; there is no url to deliver to";
            Err(ApiError::Rejected(Rejection::conflict(
                "not_delivered",
                message,
            )))
        }
    }
}

/// Shows a subscription to its creator, with the secret.
async fn created_response(
    created: &Subscription,
    core: &Arc<NodeCore>,
    edge: &Edge,
) -> HttpResponse {
    let now = edge.clock.wall();
    let stats = SubscriptionStatsView::load(created.id, core).await;
    answer::ok_json(&SubscriptionView::new(created, stats, now).with_secret())
}

async fn subscription_response(
    subscription: &Subscription,
    core: &Arc<NodeCore>,
    edge: &Edge,
) -> HttpResponse {
    let now = edge.clock.wall();
    let stats = SubscriptionStatsView::load(subscription.id, core).await;
    answer::ok_json(&SubscriptionView::new(subscription, stats, now))
}

impl From<SubscriptionChangeError> for ApiError {
    fn from(error: SubscriptionChangeError) -> Self {
        let message = error.to_string();
        match error {
            SubscriptionChangeError::NotFound => ApiError::NotFound(message),
            SubscriptionChangeError::ChangedSince(_) => {
                ApiError::Rejected(Rejection::conflict(CHANGED_SINCE, message))
            }
            SubscriptionChangeError::UidTaken(_) => {
                ApiError::Rejected(Rejection::conflict(UID_TAKEN, message))
            }
            SubscriptionChangeError::KeyReused(_) => ApiError::IdempotencyKeyReused,
            SubscriptionChangeError::TooMany(_) => {
                ApiError::Rejected(Rejection::conflict("too_many_subscriptions", message))
            }
            SubscriptionChangeError::TooLarge { .. } => ApiError::Rejected(Rejection {
                status: 400,
                code: "subscription_too_large",
                message,
                member: None,
            }),
            SubscriptionChangeError::OutcomeUnknown(source) => {
                error!(
                    error = &source as &dyn std::error::Error,
                    "subscription write failed"
                );
                ApiError::Rejected(Rejection {
                    status: 503,
                    code: "unavailable",
                    message,
                    member: None,
                })
            }
        }
    }
}
