//! `/api/v1/jobs`: what is delivered again and how far that is; and the two kinds of it that are about one subscription. For
//! the admin.

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use tracing::info;

use super::answer;
use super::context::RequestContext;
use super::dead_letters::filter::webhook_id;
use super::error::Error;
use super::list::List;
use crate::entity::Rejection;
use crate::subscriber::jobs::{Job, Refused, State};

pub(super) mod again;
pub(super) mod spec;
mod view;

use view::View;

const PARAMETERS: [&str; 4] = ["state", "webhook_id", "page", "page_size"];

/// `GET /api/v1/jobs`
pub(super) async fn list(context: &mut RequestContext) -> Result<HttpResponse, Error> {
    let mut parameters = context.parameters(&PARAMETERS);
    let page = parameters.page();
    let state = parameters.one_of("state", &State::NAMES.map(|name| (name, name)));
    let subscriber = webhook_id(&mut parameters);
    let (state, subscriber, page) = parameters.finish((state, subscriber, page))?;
    let jobs = context.edge.core()?.subscribers.jobs().list(|job| {
        state.is_none_or(|state| state == job.state.as_str())
            && subscriber.as_ref().is_none_or(|subscriber| job.subscriber.as_ref() == Some(subscriber))
    });
    let items = page.select(&jobs).map(View::new).collect();
    Ok(answer::uncached(StatusCode::OK, &List::new(items, jobs.len() as u64, page)))
}

/// `GET /api/v1/jobs/{job_id}`
pub(super) async fn show(context: &mut RequestContext) -> Result<HttpResponse, Error> {
    let id: String = context.parse_path()?;
    context.refuse_parameters()?;
    let job = context.edge.core()?.subscribers.jobs().get(number(&id)?).ok_or_else(|| refused(Refused::NotFound))?;
    Ok(answer::uncached(StatusCode::OK, &View::new(&job)))
}

/// `POST /api/v1/jobs/{job_id}/cancel`
pub(super) async fn cancel(context: &mut RequestContext) -> Result<HttpResponse, Error> {
    let id: String = context.parse_path()?;
    let job = context.edge.core()?.subscribers.jobs().cancel(number(&id)?).await.map_err(refused)?;
    info!(job = job.id, "job cancelled");
    Ok(answer::uncached(StatusCode::OK, &View::new(&job)))
}

/// The number in a path. One number has one spelling: `007` is none.
fn number(id: &str) -> Result<u64, Error> {
    let number = id.parse::<u64>().ok().filter(|number| number.to_string() == id);
    number.ok_or_else(|| refused(Refused::NotFound))
}

/// The answer that `job` was taken on.
pub(super) fn accepted(job: &Job) -> HttpResponse {
    answer::uncached(StatusCode::ACCEPTED, &View::new(job))
}

pub(super) fn refused(refused: Refused) -> Error {
    let message = refused.to_string();
    match refused {
        Refused::NoDeadLetter | Refused::NotFound => Error::NotFound(message),
        Refused::Over => Error::Rejected(Rejection::conflict("job_is_over", message)),
        Refused::TooMany(_) => Error::Rejected(Rejection::conflict("too_many_jobs", message)),
        Refused::Unavailable(unavailable) => unavailable.into(),
        Refused::Journal(error) => {
            tracing::warn!(error = &error as &dyn std::error::Error, "journal could not be read");
            Error::Unavailable
        }
    }
}
