//! `/api/v1/dead-letters`: the admin's interface to dead letters: list, retry, discard.

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use serde::Serialize;
use tracing::info;
use utoipa::ToSchema;

use super::context::RequestContext;
use super::error::ApiError;
use super::gate::NodeCore;
use super::jobs::{accepted_job_response, job_error};
use super::list::ListPage;
use super::query::parse_number;
use super::state::Edge;
use super::{answer, body};
use crate::entity::Rejection;
use crate::subscriber::dead_letters::{DeadLetterFilter, DiscardOutcome, ListedDeadLetter};
use crate::subscriber::jobs::{JobKind, RedeliveryJob};

pub(super) mod filter;
pub(super) mod spec;
pub(in crate::edge) mod view;

use view::DeadLetterView;

/// Handles `GET /api/v1/dead-letters`: lists dead letters, newest first.
pub(super) async fn list(context: &mut RequestContext) -> Result<HttpResponse, ApiError> {
    let mut parameters = context.parameters(&filter::LIST_PARAMETERS);
    let page = parameters.page_request();
    let filter = filter::filter_from_query(&mut parameters);
    let (filter, page) = parameters.finish((filter, page))?;
    let core = context.edge.core()?;
    filter::check_names(&filter, &context.edge, &core)?;

    let found = core
        .subscribers
        .dead_letters()
        .list(filter, page.places())
        .await?;
    let items = found
        .items
        .iter()
        .map(|found| DeadLetterView::new(found, core.reads.incarnations()))
        .collect();
    Ok(answer::ok_json(&ListPage::new(items, found.total, page)))
}

/// Handles `GET /api/v1/dead-letters/{dead_letter_id}`: shows a dead letter.
pub(super) async fn show(context: &mut RequestContext) -> Result<HttpResponse, ApiError> {
    let id: String = context.parse_path()?;
    context.refuse_parameters()?;
    let core = context.edge.core()?;
    let found = find_dead_letter(&core, &id).await?;
    let payload = view::render_payload(&found, &core).await?;
    Ok(answer::ok_json(
        &DeadLetterView::new(&found, core.reads.incarnations()).with_payload(payload),
    ))
}

/// Handles `POST /api/v1/dead-letters/{dead_letter_id}/retry`: delivers a dead letter again.
pub(super) async fn retry(context: &mut RequestContext) -> Result<HttpResponse, ApiError> {
    let id: String = context.parse_path()?;
    Ok(accepted_job_response(
        &start_retry(&context.edge, &id).await?,
    ))
}

/// Starts a job that delivers the dead letter with the number `id` again.
///
/// # Errors
/// [`ApiError::NotFound`], and the errors of starting a job.
pub(in crate::edge) async fn start_retry(edge: &Edge, id: &str) -> Result<RedeliveryJob, ApiError> {
    let core = edge.core()?;
    let retrying = core
        .subscribers
        .jobs()
        .retry_dead_letter(parse_dead_letter_id(id)?);
    let job = retrying.await.map_err(job_error)?;
    info!(dead_letter = id, job = job.id, "dead letter retry started");
    Ok(job)
}

/// Handles `POST /api/v1/dead-letters/retry`: delivers the matching dead letters again.
pub(super) async fn retry_all(context: &mut RequestContext) -> Result<HttpResponse, ApiError> {
    let body = context.read_json().await?;
    let filter = filter::filter_from_body(body::body_text(&body)?)?;
    Ok(accepted_job_response(
        &start_bulk_retry(&context.edge, filter).await?,
    ))
}

/// Starts a job that delivers the dead letters that match `filter` again.
///
/// # Errors
/// The errors of starting a job.
pub(in crate::edge) async fn start_bulk_retry(
    edge: &Edge,
    filter: DeadLetterFilter,
) -> Result<RedeliveryJob, ApiError> {
    let core = edge.core()?;
    filter::check_names(&filter, edge, &core)?;
    let retrying = core
        .subscribers
        .jobs()
        .retry_dead_letters(JobKind::Retry, filter);
    let job = retrying.await.map_err(job_error)?;
    info!(
        job = job.id,
        total = job.total_records(),
        "dead letter retry started"
    );
    Ok(job)
}

/// Handles `DELETE /api/v1/dead-letters/{dead_letter_id}`: discards a dead letter.
pub(super) async fn discard(context: &mut RequestContext) -> Result<HttpResponse, ApiError> {
    let id: String = context.parse_path()?;
    discard_letter(&context.edge, &id).await?;
    Ok(HttpResponse::new(StatusCode::NO_CONTENT))
}

/// Discards the dead letter with the number `id`: it is never delivered.
///
/// # Errors
/// [`ApiError::NotFound`], and [`ApiError::Rejected`] while a job delivers it again.
pub(in crate::edge) async fn discard_letter(edge: &Edge, id: &str) -> Result<(), ApiError> {
    let core = edge.core()?;
    match core
        .subscribers
        .dead_letters()
        .discard(parse_dead_letter_id(id)?)
        .await?
    {
        DiscardOutcome::Gone => {
            info!(dead_letter = id, "dead letter discarded");
            Ok(())
        }
        DiscardOutcome::NotFound => Err(no_such_dead_letter()),
        DiscardOutcome::InJob(job) => {
            let message =
                format!("job {job} is delivering it again; cancel the job first, or wait for it");
            Err(ApiError::Rejected(Rejection::conflict(
                "retry_in_progress",
                message,
            )))
        }
    }
}

/// Answer to the removal of many dead letters.
#[derive(Serialize, ToSchema)]
struct DiscardReport {
    discarded: u64,
}

/// Handles `DELETE /api/v1/dead-letters`: discards the matching dead letters.
pub(super) async fn discard_all(context: &mut RequestContext) -> Result<HttpResponse, ApiError> {
    let mut parameters = context.parameters(&filter::DISCARD_PARAMETERS);
    let is_all = parameters.one_of("all", &[("true", true)]).is_some();
    let filter = filter::filter_from_query(&mut parameters);
    if filter == DeadLetterFilter::default() && !is_all {
        parameters.add_error("all", "must be true if no other parameter is given");
    }
    let filter = parameters.finish(filter)?;

    let discarded = discard_letters(&context.edge, filter).await?;
    Ok(answer::ok_json(&DiscardReport { discarded }))
}

/// Discards the dead letters that match `filter`, and returns their number.
///
/// # Errors
/// [`ApiError::Unavailable`] when the store fails.
pub(in crate::edge) async fn discard_letters(
    edge: &Edge,
    filter: DeadLetterFilter,
) -> Result<u64, ApiError> {
    let core = edge.core()?;
    filter::check_names(&filter, edge, &core)?;
    let discarding = core.subscribers.dead_letters().discard_matching(filter);
    let discarded = discarding.await?;
    info!(discarded, "dead letters discarded");
    Ok(discarded)
}

/// Finds the dead letter with the number `id`.
///
/// # Errors
/// [`ApiError::NotFound`] and [`ApiError::Unavailable`].
pub(in crate::edge) async fn find_dead_letter(
    core: &NodeCore,
    id: &str,
) -> Result<ListedDeadLetter, ApiError> {
    core.subscribers
        .dead_letters()
        .get(parse_dead_letter_id(id)?)
        .await?
        .ok_or_else(no_such_dead_letter)
}

fn parse_dead_letter_id(id: &str) -> Result<u64, ApiError> {
    parse_number(id).ok_or_else(no_such_dead_letter)
}

fn no_such_dead_letter() -> ApiError {
    ApiError::not_found("there is no such dead letter")
}
