//! `/api/v1/webhooks`: the subscriptions, that is, who gets which events. For the admin.

use std::sync::Arc;

use actix_web::http::StatusCode;
use actix_web::web::{Data, Path, Payload};
use actix_web::{HttpRequest, HttpResponse, dev};
use tokio::task::spawn_blocking;
use tracing::{error, info};

use super::call::Call;
use super::error::Error;
use super::query::Parameters;
use super::reads::List;
use super::{Core, Edge, admin, answer, body};
use crate::entity::Rejection;
use crate::event::Position;
use crate::subscription::{Entry, Id, Refused, Shared, State, Subscription};

pub(super) mod actions;
pub(super) mod attempts;
mod headers;
mod members;
pub(super) mod spec;
mod stats;
mod view;

use members::{Members, Rules};
use stats::Stats;
use view::View;

/// What `is_active` asks for.
const ACTIVITY: [(&str, bool); 2] = [("true", true), ("false", false)];

/// `GET /api/v1/webhooks`
pub(super) async fn list(request: HttpRequest, payload: Payload, edge: Data<Edge>) -> HttpResponse {
    let call = Call::begin(&request, admin::SOURCE);
    let result = list_of(&request, &edge).await;
    call.end(&request, payload.into_inner(), &edge, result)
}

/// `POST /api/v1/webhooks`
pub(super) async fn create(request: HttpRequest, payload: Payload, edge: Data<Edge>) -> HttpResponse {
    let mut payload = payload.into_inner();
    let call = Call::begin(&request, admin::SOURCE);
    let result = create_of(&request, &mut payload, &edge).await;
    call.end(&request, payload, &edge, result)
}

/// `GET /api/v1/webhooks/{id}`
pub(super) async fn show(request: HttpRequest, payload: Payload, id: Path<String>, edge: Data<Edge>) -> HttpResponse {
    let call = Call::begin(&request, admin::SOURCE);
    let result = show_of(&request, &id, &edge).await;
    call.end(&request, payload.into_inner(), &edge, result)
}

/// `PUT /api/v1/webhooks/{id}`
pub(super) async fn change(request: HttpRequest, payload: Payload, id: Path<String>, edge: Data<Edge>) -> HttpResponse {
    let mut payload = payload.into_inner();
    let call = Call::begin(&request, admin::SOURCE);
    let result = change_of(&request, &mut payload, &id, &edge).await;
    call.end(&request, payload, &edge, result)
}

/// `DELETE /api/v1/webhooks/{id}`
pub(super) async fn remove(request: HttpRequest, payload: Payload, id: Path<String>, edge: Data<Edge>) -> HttpResponse {
    let call = Call::begin(&request, admin::SOURCE);
    let result = remove_of(&request, &id, &edge).await;
    call.end(&request, payload.into_inner(), &edge, result)
}

async fn list_of(request: &HttpRequest, edge: &Edge) -> Result<HttpResponse, Error> {
    admin::authorize(request, edge)?;
    let mut parameters = Parameters::parse(request.query_string(), &["is_active", "page", "page_size"]);
    let page = parameters.page();
    let activity = parameters.one_of("is_active", &ACTIVITY);
    let (activity, page) = parameters.finish((activity, page))?;
    let core = edge.core()?;
    let known = core.subscriptions.known();
    let wanted = |entry: &&Arc<Entry>| activity.is_none_or(|wanted| wanted == is_active(&entry.subscription));
    let wanted: Vec<_> = known.newest_first().filter(wanted).collect();
    let place = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
    let of_page = wanted.iter().skip(place((page.page - 1).saturating_mul(page.page_size))).take(place(page.page_size));
    let (mut items, now) = (Vec::new(), edge.clock.wall());
    for entry in of_page {
        let stats = Stats::of(entry.subscription.id, &core).await;
        items.push(View::new(&entry.subscription, stats, now));
    }
    Ok(answer::uncached(StatusCode::OK, &List::new(items, wanted.len() as u64, page)))
}

async fn create_of(request: &HttpRequest, payload: &mut dev::Payload, edge: &Edge) -> Result<HttpResponse, Error> {
    let body = given(request, payload, edge).await?;
    let members = Members::read(body::text(&body)?, None, Rules::new(edge))?;
    let (core, now) = (edge.core()?, edge.clock.wall());
    let from = core.reads.end().await?;
    let made = move |core: &Core| core.subscriptions.create(|id| members.into_subscription(id, from, now));
    let made = at_work(Arc::clone(&core), made).await?;
    info!(subscription = made.id, "subscription made");
    let stats = Stats::of(made.id, &core).await;
    Ok(answer::uncached(StatusCode::OK, &View::new(&made, stats, now).with_secret()))
}

async fn show_of(request: &HttpRequest, id: &str, edge: &Edge) -> Result<HttpResponse, Error> {
    admin::authorize(request, edge)?;
    Parameters::parse(request.query_string(), &[]).finish(())?;
    let core = edge.core()?;
    let subscription = find(&core, id)?;
    Ok(shown(&subscription, &core, edge).await)
}

async fn change_of(
    request: &HttpRequest,
    payload: &mut dev::Payload,
    id: &str,
    edge: &Edge,
) -> Result<HttpResponse, Error> {
    let body = given(request, payload, edge).await?;
    let (core, now) = (edge.core()?, edge.clock.wall());
    let known = find(&core, id)?;
    let members = Members::read(body::text(&body)?, Some(&known), Rules::new(edge))?;
    let from = if members.activates() { core.reads.end().await? } else { known.from };
    let id = known.id;
    let change = move |core: &Core| core.subscriptions.change(id, |known| members.change(known, from, now));
    let changed = at_work(Arc::clone(&core), change).await?;
    info!(subscription = id, "subscription changed");
    Ok(shown(&changed, &core, edge).await)
}

async fn remove_of(request: &HttpRequest, id: &str, edge: &Edge) -> Result<HttpResponse, Error> {
    admin::authorize(request, edge)?;
    let core = edge.core()?;
    let id = find(&core, id)?.id;
    at_work(core, move |core| core.subscriptions.remove(id)).await?;
    info!(subscription = id, "subscription removed");
    Ok(HttpResponse::new(StatusCode::NO_CONTENT))
}

/// The body of a request of the admin.
pub(super) async fn given(
    request: &HttpRequest,
    payload: &mut dev::Payload,
    edge: &Edge,
) -> Result<bytes::Bytes, Error> {
    body::check_declared(request, edge.bounds())?;
    admin::authorize(request, edge)?;
    let body = body::read(request, payload, edge.bounds()).await?;
    if !body.is_empty() {
        body::check_is_json(request.headers())?;
    }
    Ok(body)
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

fn is_active(subscription: &Subscription) -> bool {
    subscription.state == State::Active
}

/// Keeps what is owed from now on. One that is disabled owes nothing and stays so.
fn pause(subscription: &mut Subscription) {
    match subscription.state {
        State::Active => subscription.state = State::Paused { reason: None },
        State::Paused { .. } | State::Disabled { .. } => {}
    }
}

/// Delivers again: what was owed, or to one that was disabled what comes from `from` on.
fn resume(subscription: &mut Subscription, from: Position) {
    match subscription.state {
        State::Active => return,
        State::Paused { .. } => {}
        State::Disabled { .. } => subscription.from = from,
    }
    subscription.state = State::Active;
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
