//! `/api/v1/jobs`: the admin's interface to redelivery jobs and their progress.

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use tracing::info;

use super::answer;
use super::context::RequestContext;
use super::dead_letters::filter::parse_webhook_id;
use super::error::ApiError;
use super::gate::NodeCore;
use super::list::ListPage;
use super::query::parse_number;
use super::state::Edge;
use crate::entity::Rejection;
use crate::journal::JournalReadError;
use crate::subscriber::jobs::{JobError, JobState, RedeliveryJob};

pub(super) mod redelivery;
pub(super) mod spec;
mod view;

use view::JobView;

const PARAMETERS: [&str; 4] = ["state", "webhook_id", "page", "page_size"];

/// Handles `GET /api/v1/jobs`: lists jobs, newest first.
pub(super) async fn list(context: &mut RequestContext) -> Result<HttpResponse, ApiError> {
    let mut parameters = context.parameters(&PARAMETERS);
    let page = parameters.page_request();
    let state = parameters.one_of("state", &JobState::NAMES.map(|name| (name, name)));
    let subscriber = parse_webhook_id(&mut parameters);
    let (state, subscriber, page) = parameters.finish((state, subscriber, page))?;

    let jobs = context.edge.core()?.subscribers.jobs().list_jobs(|job| {
        state.is_none_or(|state| state == job.state.as_str())
            && subscriber
                .as_ref()
                .is_none_or(|subscriber| job.subscriber.as_ref() == Some(subscriber))
    });
    let items = page.select(&jobs).map(JobView::new).collect();
    Ok(answer::ok_json(&ListPage::new(
        items,
        jobs.len() as u64,
        page,
    )))
}

/// Handles `GET /api/v1/jobs/{job_id}`: shows a job.
pub(super) async fn show(context: &mut RequestContext) -> Result<HttpResponse, ApiError> {
    let id: String = context.parse_path()?;
    context.refuse_parameters()?;
    let job = find_job(&*context.edge.core()?, &id)?;
    Ok(answer::ok_json(&JobView::new(&job)))
}

/// Finds the job with the number `id`.
///
/// # Errors
/// [`ApiError::NotFound`] without such a job.
pub(in crate::edge) fn find_job(core: &NodeCore, id: &str) -> Result<RedeliveryJob, ApiError> {
    let found = core.subscribers.jobs().get(parse_job_id(id)?);
    found.ok_or_else(|| job_error(JobError::NotFound))
}

/// Handles `POST /api/v1/jobs/{job_id}/cancel`: cancels a job.
pub(super) async fn cancel(context: &mut RequestContext) -> Result<HttpResponse, ApiError> {
    let id: String = context.parse_path()?;
    let job = cancel_job(&context.edge, &id).await?;
    Ok(answer::ok_json(&JobView::new(&job)))
}

/// Cancels the job with the number `id`.
///
/// # Errors
/// [`ApiError::NotFound`], and [`ApiError::Rejected`] for a job that is over.
pub(in crate::edge) async fn cancel_job(edge: &Edge, id: &str) -> Result<RedeliveryJob, ApiError> {
    let core = edge.core()?;
    let cancelling = core.subscribers.jobs().cancel(parse_job_id(id)?);
    let job = cancelling.await.map_err(job_error)?;
    info!(job = job.id, "job cancelled");
    Ok(job)
}

fn parse_job_id(id: &str) -> Result<u64, ApiError> {
    parse_number(id).ok_or_else(|| job_error(JobError::NotFound))
}

/// Builds the answer 202 for a job that was started.
pub(super) fn accepted_job_response(job: &RedeliveryJob) -> HttpResponse {
    answer::uncached_json(StatusCode::ACCEPTED, &JobView::new(job))
}

pub(super) fn job_error(error: JobError) -> ApiError {
    let message = error.to_string();
    match error {
        JobError::NoDeadLetter | JobError::NotFound => ApiError::NotFound(message),
        JobError::Finished => ApiError::Rejected(Rejection::conflict("job_is_over", message)),
        JobError::TooMany(_) => ApiError::Rejected(Rejection::conflict("too_many_jobs", message)),
        JobError::Unavailable(unavailable) => unavailable.into(),
        JobError::ContentRemoved(removed_at) => ApiError::ContentRemoved { removed_at },
        JobError::Journal(JournalReadError::Removed { start, .. }) => ApiError::Removed {
            kept_from: start.received_at,
        },
        JobError::Journal(source) => {
            tracing::warn!(
                error = &source as &dyn std::error::Error,
                "journal read failed"
            );
            ApiError::Unavailable
        }
    }
}
