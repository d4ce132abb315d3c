//! `/api/v1/webhooks`: the subscriptions, that is, who gets which events. For the admin.

use std::sync::Arc;

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use tokio::task::spawn_blocking;
use tracing::{error, info};

use super::context::RequestContext;
use super::error::Error;
use super::gate::Core;
use super::list::List;
use super::state::Edge;
use super::{answer, body};
use crate::entity::Rejection;
use crate::subscription::{Entry, Id, Refused, Shared, Subscription};

pub(super) mod actions;
mod activity;
pub(super) mod attempts;
mod headers;
mod members;
pub(super) mod spec;
mod stats;
mod view;

use activity::is_active;
use members::{Members, Rules};
use stats::Stats;
use view::View;

/// What `is_active` asks for.
const ACTIVITY: [(&str, bool); 2] = [("true", true), ("false", false)];

/// `GET /api/v1/webhooks`
pub(super) async fn list(context: &mut RequestContext) -> Result<HttpResponse, Error> {
    let mut parameters = context.parameters(&["is_active", "page", "page_size"]);
    let page = parameters.page();
    let activity = parameters.one_of("is_active", &ACTIVITY);
    let (activity, page) = parameters.finish((activity, page))?;
    let core = context.edge.core()?;
    let known = core.subscriptions.known();
    let wanted = |entry: &&Arc<Entry>| activity.is_none_or(|wanted| wanted == is_active(&entry.subscription));
    let wanted: Vec<_> = known.newest_first().filter(wanted).collect();
    let (mut items, now) = (Vec::new(), context.edge.clock.wall());
    for entry in page.select(&wanted) {
        let stats = Stats::of(entry.subscription.id, &core).await;
        items.push(View::new(&entry.subscription, stats, now));
    }
    Ok(answer::uncached(StatusCode::OK, &List::new(items, wanted.len() as u64, page)))
}

/// `POST /api/v1/webhooks`
pub(super) async fn create(context: &mut RequestContext) -> Result<HttpResponse, Error> {
    let body = context.read_json().await?;
    let members = Members::read(body::text(&body)?, None, Rules::new(&context.edge))?;
    let (core, now) = (context.edge.core()?, context.edge.clock.wall());
    let from = core.reads.end().await?;
    let made = move |core: &Core| core.subscriptions.create(|id| members.into_subscription(id, from, now));
    let made = at_work(Arc::clone(&core), made).await?;
    info!(subscription = made.id, "subscription made");
    let stats = Stats::of(made.id, &core).await;
    Ok(answer::uncached(StatusCode::OK, &View::new(&made, stats, now).with_secret()))
}

/// `GET /api/v1/webhooks/{id}`
pub(super) async fn show(context: &mut RequestContext) -> Result<HttpResponse, Error> {
    let id: String = context.parse_path()?;
    context.refuse_parameters()?;
    let core = context.edge.core()?;
    let subscription = find(&core, &id)?;
    Ok(shown(&subscription, &core, &context.edge).await)
}

/// `PUT /api/v1/webhooks/{id}`
pub(super) async fn change(context: &mut RequestContext) -> Result<HttpResponse, Error> {
    let id: String = context.parse_path()?;
    let body = context.read_json().await?;
    let (core, now) = (context.edge.core()?, context.edge.clock.wall());
    let known = find(&core, &id)?;
    let members = Members::read(body::text(&body)?, Some(&known), Rules::new(&context.edge))?;
    let from = if members.activates() { core.reads.end().await? } else { known.from };
    let id = known.id;
    let change = move |core: &Core| core.subscriptions.change(id, |known| members.change(known, from, now));
    let changed = at_work(Arc::clone(&core), change).await?;
    info!(subscription = id, "subscription changed");
    Ok(shown(&changed, &core, &context.edge).await)
}

/// `DELETE /api/v1/webhooks/{id}`
pub(super) async fn remove(context: &mut RequestContext) -> Result<HttpResponse, Error> {
    let id: String = context.parse_path()?;
    let core = context.edge.core()?;
    let id = find(&core, &id)?.id;
    at_work(core, move |core| core.subscriptions.remove(id)).await?;
    info!(subscription = id, "subscription removed");
    Ok(HttpResponse::new(StatusCode::NO_CONTENT))
}

/// The subscription whose number `id` is in the path. One number has one spelling: `007` is none.
pub(super) fn find(core: &Core, id: &str) -> Result<Shared, Error> {
    let number = id.parse::<Id>().ok().filter(|number| number.to_string() == id);
    let known = core.subscriptions.known();
    let entry = number.and_then(|number| known.find(number)).ok_or_else(|| refused(Refused::NotFound))?;
    Ok(Arc::clone(&entry.subscription))
}

async fn shown(subscription: &Subscription, core: &Core, edge: &Edge) -> HttpResponse {
    let stats = Stats::of(subscription.id, core).await;
    answer::uncached(StatusCode::OK, &View::new(subscription, stats, edge.clock.wall()))
}

/// Does what waits for the disk where waiting disturbs nobody.
async fn at_work<T: Send + 'static>(
    core: Arc<Core>,
    work: impl FnOnce(&Core) -> Result<T, Refused> + Send + 'static,
) -> Result<T, Error> {
    let done = spawn_blocking(move || work(&core)).await;
    done.map_err(|_| Error::Internal)?.map_err(refused)
}

fn refused(refused: Refused) -> Error {
    let message = refused.to_string();
    match refused {
        Refused::NotFound => Error::NotFound(message),
        Refused::TooMany(_) => Error::Rejected(Rejection::conflict("too_many_subscriptions", message)),
        Refused::TooLarge { .. } => {
            Error::Rejected(Rejection { status: 400, code: "subscription_too_large", message, member: None })
        }
        Refused::Unknown(error) => {
            error!(error = &error as &dyn std::error::Error, "subscription could not be written");
            Error::Rejected(Rejection { status: 503, code: "unavailable", message, member: None })
        }
    }
}
