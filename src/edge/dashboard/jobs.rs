//! Jobs that deliver events again, with their progress.

use maud::{Markup, html};

use super::elements::{
    ActionButton, StateTone, badge, empty_state, number, pager, subscriber_link, time,
};
use super::filter_form::FilterForm;
use super::form::FormFields;
use super::layout::{DashboardSection, PageContent};
use super::visit::{PageReply, PageVisit};
use crate::edge::dead_letters::filter::parse_webhook_id;
use crate::edge::error::ApiError;
use crate::edge::jobs::{cancel_job, find_job};
use crate::subscriber::jobs::{JobKind, JobState, RedeliveryJob};
use crate::token::AccessOperation;

const LIST_PATH: &str = "/dashboard/jobs";

/// Handles `GET /dashboard/jobs`: lists jobs, newest first.
pub(super) async fn show(visit: &mut PageVisit<'_>) -> Result<PageReply, ApiError> {
    match list(visit).await {
        Err(error) if !error.field_errors().is_empty() => {
            let query = visit.query();
            let place = (DashboardSection::Jobs, "Jobs");
            Ok(filter_form(&query).refuse(visit, place, &error))
        }
        reply => reply,
    }
}

async fn list(visit: &mut PageVisit<'_>) -> Result<PageReply, ApiError> {
    let query = visit.query();
    let mut parameters = visit.parameters(&["state", "webhook_id", "page", "page_size"]);
    let page = parameters.page_request();
    let state = parameters.one_of("state", &JobState::NAMES.map(|name| (name, name)));
    let subscriber = parse_webhook_id(&mut parameters);
    let (state, subscriber, page) = parameters.finish((state, subscriber, page))?;

    let found = visit.core()?.subscribers.jobs().list_jobs(|job| {
        state.is_none_or(|state| state == job.state.as_str())
            && (subscriber.is_none() || job.subscriber == subscriber)
    });
    let shown: Vec<_> = page.select(&found).cloned().collect();
    let body = html! {
        div.panel {
            (filter_form(&query).render())
            div id="job-rows" data-live {
                @if shown.is_empty() {
                    (empty_state("No job here.", html! {
                        "A job delivers events again: retry "
                        a href="/dashboard/dead-letters" { "dead letters" }
                        ", or recover and replay from the page of a "
                        a href="/dashboard/settings/webhooks" { "webhook" } "."
                    }))
                } @else { (render_jobs(&shown, visit)) }
                (pager(LIST_PATH, &query, page, found.len() as u64))
            }
        }
    };
    let lead = html! {
        "Jobs deliver events again, in the order of each entity, beside the deliveries of new \
         events."
    };
    Ok(PageContent::new(DashboardSection::Jobs, "Jobs", body)
        .lead(lead)
        .refreshed_every(3)
        .into())
}

/// Handles `GET /dashboard/jobs/{job_id}`: shows a job and its progress.
pub(super) async fn show_one(visit: &mut PageVisit<'_>) -> Result<PageReply, ApiError> {
    let id: String = visit.path()?;
    let job = find_job(&*visit.core()?, &id)?;
    let letters = job.total_counts().failed;
    let body = html! {
        div.panel id="job-rows" data-live { (render_jobs(&[job], visit)) }
        @if letters > 0 {
            p { "What failed is among the " a href="/dashboard/dead-letters" { "dead letters" } "." }
        }
    };
    Ok(
        PageContent::new(DashboardSection::Jobs, format!("Job {id}"), body)
            .under("Jobs", LIST_PATH)
            .refreshed_every(2)
            .into(),
    )
}

fn filter_form(query: &FormFields) -> FilterForm<'_> {
    let states = JobState::NAMES.map(|name| (name, name));
    FilterForm::new(LIST_PATH, query)
        .choice("state", "State", [("", "All")].into_iter().chain(states))
        .text("webhook_id", "Webhook")
}

/// Path of the page of the job `id`.
pub(super) fn job_path(id: u64) -> String {
    format!("{LIST_PATH}/{id}")
}

/// Handles `POST /dashboard/jobs/{job_id}/cancel`: cancels a job.
pub(super) async fn cancel(
    visit: &mut PageVisit<'_>,
    _form: &FormFields,
) -> Result<PageReply, ApiError> {
    let id: String = visit.path()?;
    let job = cancel_job(visit.edge(), &id).await?;
    Ok(visit.done(format!("Job {} was cancelled.", job.id), job_path(job.id)))
}

/// Renders a table of `jobs`.
pub(super) fn render_jobs(jobs: &[RedeliveryJob], visit: &PageVisit<'_>) -> Markup {
    html! {
        table.cards {
            thead { tr {
                th scope="col" { "Job" }
                th scope="col" { "For" }
                th scope="col" { "State" }
                th scope="col" { "Progress" }
                th.num scope="col" { "Delivered" }
                th.num scope="col" { "Failed" }
                th scope="col" { "Started" }
                th scope="col" { span.hidden-text { "Action" } }
            } }
            tbody { @for job in jobs { (render_job(job, visit)) } }
        }
    }
}

fn render_job(job: &RedeliveryJob, visit: &PageVisit<'_>) -> Markup {
    let counts = job.total_counts();
    let kind = match job.kind {
        JobKind::Retry => "Retry",
        JobKind::Recover => "Recover",
        JobKind::Replay => "Replay",
    };
    html! {
        tr {
            td.first { a.strong-link href=(job_path(job.id)) { (kind) " " (job.id) } }
            td data-label="For" {
                @match &job.subscriber {
                    Some(subscriber) => (subscriber_link(subscriber)),
                    None => "several subscribers"
                }
            }
            td data-label="State" {
                span {
                    (job_badge(&job.state))
                    @if let JobState::Cancelled { reason: Some(reason) }
                    = &job.state { span.sub { (reason) } }
                }
            }
            td data-label="Progress" { (progress(counts.settled_total(), job.total_records())) }
            td.num data-label="Delivered" { (number(counts.delivered)) }
            td.num data-label="Failed" { (number(counts.failed)) }
            td data-label="Started" { (time(job.created_at, visit.now)) }
            td.shrink {
                @if !job.state.is_finished() {
                    (ActionButton {
                        operation: AccessOperation::JobsCancel,
                        path: &format!("{LIST_PATH}/{}/cancel", job.id),
                        label: "Cancel",
                        class: "small",
                        question: Some("Cancel this job?"),
                    }.render(&visit.session))
                }
            }
        }
    }
}

fn job_badge(state: &JobState) -> Markup {
    let tone = match state {
        JobState::Pending => StateTone::Neutral,
        JobState::Running => StateTone::Warning,
        JobState::Completed => StateTone::Good,
        JobState::Cancelled { .. } => StateTone::Bad,
    };
    badge(tone, state.as_str())
}

fn progress(done: u64, total: Option<u64>) -> Markup {
    html! {
        @match total {
            Some(total) => {
                span.nowrap { (number(done)) " of " (number(total)) }
                progress max=(total.max(1)) value=(if total == 0 { 1 } else { done })
                    aria-label="Progress" {}
            }
            None => span.nowrap { (number(done)) " so far" },
        }
    }
}
