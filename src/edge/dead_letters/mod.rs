//! `/api/v1/dead-letters`: what could not be delivered, to look at, to deliver again and to discard. For the admin.

use actix_web::http::StatusCode;
use actix_web::web::{Data, Path, Payload};
use actix_web::{HttpRequest, HttpResponse, dev};
use serde_json::json;
use tracing::info;

use super::call::Call;
use super::error::Error;
use super::jobs::{accepted, refused};
use super::query::Parameters;
use super::reads::List;
use super::{Core, Edge, admin, answer, body, webhooks};
use crate::entity::Rejection;
use crate::subscriber::dead_letters::{Discarded, Filter, Found};

mod filter;
pub(super) mod spec;
mod view;

pub(super) use filter::webhook_id;
use view::View;

/// `GET /api/v1/dead-letters`
pub(super) async fn list(request: HttpRequest, payload: Payload, edge: Data<Edge>) -> HttpResponse {
    let call = Call::begin(&request, admin::SOURCE);
    let result = list_of(&request, &edge).await;
    call.end(&request, payload.into_inner(), &edge, result)
}

/// `GET /api/v1/dead-letters/{dead_letter_id}`
pub(super) async fn show(request: HttpRequest, payload: Payload, id: Path<String>, edge: Data<Edge>) -> HttpResponse {
    let call = Call::begin(&request, admin::SOURCE);
    let result = show_of(&request, &id, &edge).await;
    call.end(&request, payload.into_inner(), &edge, result)
}

/// `POST /api/v1/dead-letters/{dead_letter_id}/retry`
pub(super) async fn retry(request: HttpRequest, payload: Payload, id: Path<String>, edge: Data<Edge>) -> HttpResponse {
    let call = Call::begin(&request, admin::SOURCE);
    let result = retry_of(&request, &id, &edge).await;
    call.end(&request, payload.into_inner(), &edge, result)
}

/// `POST /api/v1/dead-letters/retry`
pub(super) async fn retry_all(request: HttpRequest, payload: Payload, edge: Data<Edge>) -> HttpResponse {
    let mut payload = payload.into_inner();
    let call = Call::begin(&request, admin::SOURCE);
    let result = retry_all_of(&request, &mut payload, &edge).await;
    call.end(&request, payload, &edge, result)
}

/// `DELETE /api/v1/dead-letters/{dead_letter_id}`
pub(super) async fn discard(
    request: HttpRequest,
    payload: Payload,
    id: Path<String>,
    edge: Data<Edge>,
) -> HttpResponse {
    let call = Call::begin(&request, admin::SOURCE);
    let result = discard_of(&request, &id, &edge).await;
    call.end(&request, payload.into_inner(), &edge, result)
}

/// `DELETE /api/v1/dead-letters`
pub(super) async fn discard_all(request: HttpRequest, payload: Payload, edge: Data<Edge>) -> HttpResponse {
    let call = Call::begin(&request, admin::SOURCE);
    let result = discard_all_of(&request, &edge).await;
    call.end(&request, payload.into_inner(), &edge, result)
}

async fn list_of(request: &HttpRequest, edge: &Edge) -> Result<HttpResponse, Error> {
    admin::authorize(request, edge)?;
    let mut parameters = Parameters::parse(request.query_string(), &filter::LISTED);
    let page = parameters.page();
    let filter = filter::of_query(&mut parameters);
    let (filter, page) = parameters.finish((filter, page))?;
    let core = edge.core()?;
    let skipped = (page.page - 1).saturating_mul(page.page_size);
    let found = core.subscribers.dead_letters().list(filter, skipped, page.page_size).await?;
    let items = found.items.iter().map(|found| View::new(found, core.reads.incarnation())).collect();
    Ok(answer::uncached(StatusCode::OK, &List::new(items, found.total, page)))
}

async fn show_of(request: &HttpRequest, id: &str, edge: &Edge) -> Result<HttpResponse, Error> {
    admin::authorize(request, edge)?;
    Parameters::parse(request.query_string(), &[]).finish(())?;
    let core = edge.core()?;
    let found = find(&core, id).await?;
    let payload = view::payload(&found, &core).await?;
    Ok(answer::uncached(StatusCode::OK, &View::new(&found, core.reads.incarnation()).with_payload(payload)))
}

async fn retry_of(request: &HttpRequest, id: &str, edge: &Edge) -> Result<HttpResponse, Error> {
    admin::authorize(request, edge)?;
    let core = edge.core()?;
    let job = core.subscribers.jobs().retry(number(id)?).await.map_err(refused)?;
    info!(dead_letter = id, job = job.id, "dead letter is delivered again");
    Ok(accepted(&job))
}

async fn retry_all_of(request: &HttpRequest, payload: &mut dev::Payload, edge: &Edge) -> Result<HttpResponse, Error> {
    let body = webhooks::given(request, payload, edge).await?;
    let filter = filter::of_body(body::text(&body)?)?;
    let job = edge.core()?.subscribers.jobs().retry_all(filter).await.map_err(refused)?;
    info!(job = job.id, total = job.total(), "dead letters are delivered again");
    Ok(accepted(&job))
}

async fn discard_of(request: &HttpRequest, id: &str, edge: &Edge) -> Result<HttpResponse, Error> {
    admin::authorize(request, edge)?;
    let core = edge.core()?;
    match core.subscribers.dead_letters().discard(number(id)?).await? {
        Discarded::Gone => {
            info!(dead_letter = id, "dead letter discarded");
            Ok(HttpResponse::new(StatusCode::NO_CONTENT))
        }
        Discarded::NotFound => Err(not_found()),
        Discarded::InJob(job) => {
            let message = format!("job {job} is delivering it again; cancel the job first, or wait for it");
            Err(Error::Rejected(Rejection::conflict("retry_in_progress", message)))
        }
    }
}

async fn discard_all_of(request: &HttpRequest, edge: &Edge) -> Result<HttpResponse, Error> {
    admin::authorize(request, edge)?;
    let mut parameters = Parameters::parse(request.query_string(), &filter::DISCARDED);
    let is_all = parameters.one_of("all", &[("true", true)]).is_some();
    let filter = filter::of_query(&mut parameters);
    if filter == Filter::default() && !is_all {
        parameters.fault("all", "must be true where nothing else says which");
    }
    let filter = parameters.finish(filter)?;
    let discarded = edge.core()?.subscribers.dead_letters().discard_all(filter).await?;
    info!(discarded, "dead letters discarded");
    Ok(answer::uncached(StatusCode::OK, &json!({"discarded": discarded})))
}

async fn find(core: &Core, id: &str) -> Result<Found, Error> {
    core.subscribers.dead_letters().get(number(id)?).await?.ok_or_else(not_found)
}

/// The number in a path. One number has one spelling: `007` is none.
fn number(id: &str) -> Result<u64, Error> {
    id.parse::<u64>().ok().filter(|number| number.to_string() == id).ok_or_else(not_found)
}

fn not_found() -> Error {
    Error::not_found("there is no such dead letter")
}
