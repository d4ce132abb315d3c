//! `/api/v1/webhooks`: the admin's interface to subscriptions.

use std::sync::Arc;

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use tracing::{error, info};

use super::blocking::run_blocking;
use super::context::RequestContext;
use super::error::ApiError;
use super::gate::NodeCore;
use super::list::ListPage;
use super::query::parse_number;
use super::state::Edge;
use super::{answer, body};
use crate::entity::Rejection;
use crate::subscription::{
    SharedSubscription, Subscription, SubscriptionChangeError, SubscriptionEntry,
};

pub(super) mod actions;
mod activity;
pub(super) mod attempts;
mod headers;
mod input;
pub(super) mod spec;
mod stats;
mod view;

use activity::is_active;
use input::{SubscriptionInput, SubscriptionRules};
use stats::SubscriptionStatsView;
use view::SubscriptionView;

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
    for entry in page.select(&found) {
        let stats = SubscriptionStatsView::load(entry.subscription.id, &core).await;
        items.push(SubscriptionView::new(&entry.subscription, stats, now));
    }
    Ok(answer::ok_json(&ListPage::new(
        items,
        found.len() as u64,
        page,
    )))
}

/// Handles `POST /api/v1/webhooks`: creates a subscription.
pub(super) async fn create(context: &mut RequestContext) -> Result<HttpResponse, ApiError> {
    let body = context.read_json().await?;
    let input = SubscriptionInput::parse(
        body::body_text(&body)?,
        None,
        SubscriptionRules::new(&context.edge),
    )?;
    let (core, now) = (context.edge.core()?, context.edge.clock.wall());
    let from = core.reads.answered_end().await?;
    let create = move |core: &NodeCore| {
        core.subscriptions
            .create(|id| input.into_subscription(id, from, now))
    };
    let created = run_blocking(Arc::clone(&core), create).await?;
    info!(subscription = created.id, "subscription created");
    let stats = SubscriptionStatsView::load(created.id, &core).await;
    Ok(answer::ok_json(
        &SubscriptionView::new(&created, stats, now).with_secret(),
    ))
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
    let (core, now) = (context.edge.core()?, context.edge.clock.wall());
    let known = find_subscription(&core, &id)?;
    let input = SubscriptionInput::parse(
        body::body_text(&body)?,
        Some(&known),
        SubscriptionRules::new(&context.edge),
    )?;
    let from = if input.activates() {
        core.reads.answered_end().await?
    } else {
        known.from
    };
    let id = known.id;
    let change = move |core: &NodeCore| {
        core.subscriptions
            .change(id, |known| input.apply_to(known, from, now))
    };
    let changed = run_blocking(Arc::clone(&core), change).await?;
    info!(subscription = id, "subscription changed");
    Ok(subscription_response(&changed, &core, &context.edge).await)
}

/// Handles `DELETE /api/v1/webhooks/{id}`: deletes a subscription.
pub(super) async fn remove(context: &mut RequestContext) -> Result<HttpResponse, ApiError> {
    let id: String = context.parse_path()?;
    let core = context.edge.core()?;
    let id = find_subscription(&core, &id)?.id;
    run_blocking(core, move |core| core.subscriptions.remove(id)).await?;
    info!(subscription = id, "subscription deleted");
    Ok(HttpResponse::new(StatusCode::NO_CONTENT))
}

/// Returns the subscription with the number `id`.
pub(super) fn find_subscription(core: &NodeCore, id: &str) -> Result<SharedSubscription, ApiError> {
    let known = core.subscriptions.snapshot();
    let entry = parse_number(id)
        .and_then(|number| known.get(number))
        .ok_or(SubscriptionChangeError::NotFound)?;
    Ok(Arc::clone(&entry.subscription))
}

async fn subscription_response(
    subscription: &Subscription,
    core: &NodeCore,
    edge: &Edge,
) -> HttpResponse {
    let stats = SubscriptionStatsView::load(subscription.id, core).await;
    answer::ok_json(&SubscriptionView::new(
        subscription,
        stats,
        edge.clock.wall(),
    ))
}

impl From<SubscriptionChangeError> for ApiError {
    fn from(error: SubscriptionChangeError) -> Self {
        let message = error.to_string();
        match error {
            SubscriptionChangeError::NotFound => ApiError::NotFound(message),
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
