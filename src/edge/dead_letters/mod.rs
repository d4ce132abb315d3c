//! `/api/v1/dead-letters`: the admin's interface to dead letters: list, retry, discard.

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use serde_json::json;
use tracing::info;

use super::context::RequestContext;
use super::error::ApiError;
use super::gate::NodeCore;
use super::jobs::{accepted_job_response, job_error};
use super::list::ListPage;
use super::query::parse_number;
use super::{answer, body};
use crate::entity::Rejection;
use crate::subscriber::dead_letters::{DeadLetterFilter, DiscardOutcome, ListedDeadLetter};

pub(super) mod filter;
pub(super) mod spec;
mod view;

use view::DeadLetterView;

/// Handles `GET /api/v1/dead-letters`: lists dead letters, newest first.
pub(super) async fn list(context: &mut RequestContext) -> Result<HttpResponse, ApiError> {
    let mut parameters = context.parameters(&filter::LIST_PARAMETERS);
    let page = parameters.page_request();
    let filter = filter::filter_from_query(&mut parameters);
    let (filter, page) = parameters.finish((filter, page))?;
    let core = context.edge.core()?;

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
    let core = context.edge.core()?;
    let job = core
        .subscribers
        .jobs()
        .retry_dead_letter(parse_dead_letter_id(&id)?)
        .await
        .map_err(job_error)?;
    info!(dead_letter = id, job = job.id, "dead letter retry started");
    Ok(accepted_job_response(&job))
}

/// Handles `POST /api/v1/dead-letters/retry`: delivers the matching dead letters again.
pub(super) async fn retry_all(context: &mut RequestContext) -> Result<HttpResponse, ApiError> {
    let body = context.read_json().await?;
    let filter = filter::filter_from_body(body::body_text(&body)?)?;
    let job = context
        .edge
        .core()?
        .subscribers
        .jobs()
        .retry_dead_letters(filter)
        .await
        .map_err(job_error)?;
    info!(
        job = job.id,
        total = job.total_records(),
        "dead letter retry started"
    );
    Ok(accepted_job_response(&job))
}

/// Handles `DELETE /api/v1/dead-letters/{dead_letter_id}`: discards a dead letter.
pub(super) async fn discard(context: &mut RequestContext) -> Result<HttpResponse, ApiError> {
    let id: String = context.parse_path()?;
    let core = context.edge.core()?;
    match core
        .subscribers
        .dead_letters()
        .discard(parse_dead_letter_id(&id)?)
        .await?
    {
        DiscardOutcome::Gone => {
            info!(dead_letter = id, "dead letter discarded");
            Ok(HttpResponse::new(StatusCode::NO_CONTENT))
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

/// Handles `DELETE /api/v1/dead-letters`: discards the matching dead letters.
pub(super) async fn discard_all(context: &mut RequestContext) -> Result<HttpResponse, ApiError> {
    let mut parameters = context.parameters(&filter::DISCARD_PARAMETERS);
    let is_all = parameters.one_of("all", &[("true", true)]).is_some();
    let filter = filter::filter_from_query(&mut parameters);
    if filter == DeadLetterFilter::default() && !is_all {
        parameters.add_error("all", "must be true if no other parameter is given");
    }
    let filter = parameters.finish(filter)?;

    let discarded = context
        .edge
        .core()?
        .subscribers
        .dead_letters()
        .discard_matching(filter)
        .await?;
    info!(discarded, "dead letters discarded");
    Ok(answer::ok_json(&json!({"discarded": discarded})))
}

async fn find_dead_letter(core: &NodeCore, id: &str) -> Result<ListedDeadLetter, ApiError> {
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
