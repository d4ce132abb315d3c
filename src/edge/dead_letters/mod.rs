//! `/api/v1/dead-letters`: what could not be delivered, to look at, to deliver again and to discard. For the admin.

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use serde_json::json;
use tracing::info;

use super::context::RequestContext;
use super::error::Error;
use super::gate::Core;
use super::jobs::{accepted, refused};
use super::list::List;
use super::{answer, body};
use crate::entity::Rejection;
use crate::subscriber::dead_letters::{Discarded, Filter, Found};

pub(super) mod filter;
pub(super) mod spec;
mod view;

use view::View;

/// `GET /api/v1/dead-letters`
pub(super) async fn list(context: &mut RequestContext) -> Result<HttpResponse, Error> {
    let mut parameters = context.parameters(&filter::LISTED);
    let page = parameters.page();
    let filter = filter::of_query(&mut parameters);
    let (filter, page) = parameters.finish((filter, page))?;
    let core = context.edge.core()?;
    let found = core.subscribers.dead_letters().list(filter, page.places()).await?;
    let items = found.items.iter().map(|found| View::new(found, core.reads.incarnation())).collect();
    Ok(answer::uncached(StatusCode::OK, &List::new(items, found.total, page)))
}

/// `GET /api/v1/dead-letters/{dead_letter_id}`
pub(super) async fn show(context: &mut RequestContext) -> Result<HttpResponse, Error> {
    let id: String = context.parse_path()?;
    context.refuse_parameters()?;
    let core = context.edge.core()?;
    let found = find(&core, &id).await?;
    let payload = view::payload(&found, &core).await?;
    Ok(answer::uncached(StatusCode::OK, &View::new(&found, core.reads.incarnation()).with_payload(payload)))
}

/// `POST /api/v1/dead-letters/{dead_letter_id}/retry`
pub(super) async fn retry(context: &mut RequestContext) -> Result<HttpResponse, Error> {
    let id: String = context.parse_path()?;
    let core = context.edge.core()?;
    let job = core.subscribers.jobs().retry(number(&id)?).await.map_err(refused)?;
    info!(dead_letter = id, job = job.id, "dead letter is delivered again");
    Ok(accepted(&job))
}

/// `POST /api/v1/dead-letters/retry`
pub(super) async fn retry_all(context: &mut RequestContext) -> Result<HttpResponse, Error> {
    let body = context.read_json().await?;
    let filter = filter::of_body(body::text(&body)?)?;
    let job = context.edge.core()?.subscribers.jobs().retry_all(filter).await.map_err(refused)?;
    info!(job = job.id, total = job.total(), "dead letters are delivered again");
    Ok(accepted(&job))
}

/// `DELETE /api/v1/dead-letters/{dead_letter_id}`
pub(super) async fn discard(context: &mut RequestContext) -> Result<HttpResponse, Error> {
    let id: String = context.parse_path()?;
    let core = context.edge.core()?;
    match core.subscribers.dead_letters().discard(number(&id)?).await? {
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

/// `DELETE /api/v1/dead-letters`
pub(super) async fn discard_all(context: &mut RequestContext) -> Result<HttpResponse, Error> {
    let mut parameters = context.parameters(&filter::DISCARDED);
    let is_all = parameters.one_of("all", &[("true", true)]).is_some();
    let filter = filter::of_query(&mut parameters);
    if filter == Filter::default() && !is_all {
        parameters.fault("all", "must be true where nothing else says which");
    }
    let filter = parameters.finish(filter)?;
    let discarded = context.edge.core()?.subscribers.dead_letters().discard_all(filter).await?;
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
