//! Dead letters: list with a filter, one letter with its cause, retry and discard of one or many.

use maud::{Markup, html};

use super::elements::{
    ActionButton, StateTone, badge, counted, csrf_field, empty_state, entity_link, event_link,
    exact_time, excerpt, json_block, number, pager, status_badge, subscriber_link, time,
};
use super::filter_form::FilterForm;
use super::form::FormFields;
use super::jobs::job_path;
use super::layout::{DashboardSection, PageContent, sentence};
use super::visit::{PageReply, PageVisit};
use crate::edge::dead_letters::filter::{DISCARD_PARAMETERS, LIST_PARAMETERS, filter_from_query};
use crate::edge::dead_letters::view::render_payload;
use crate::edge::dead_letters::{
    discard_letter, discard_letters, find_dead_letter, start_bulk_retry, start_retry,
};
use crate::edge::error::ApiError;
use crate::edge::gate::NodeCore;
use crate::edge::query::QueryParameters;
use crate::subscriber::dead_letters::{
    DeadLetterCause, DeadLetterFilter, DeadLetterPage, DeadLetterSubject, ListedDeadLetter,
};
use crate::token::AccessOperation;

const LIST_PATH: &str = "/dashboard/dead-letters";

/// Handles `GET /dashboard/dead-letters`: lists dead letters.
pub(super) async fn show(visit: &mut PageVisit<'_>) -> Result<PageReply, ApiError> {
    match list(visit).await {
        Err(error) if !error.field_errors().is_empty() => {
            let query = visit.query();
            let place = (DashboardSection::DeadLetters, "Dead letters");
            Ok(filter_form(&query).refuse(visit, place, &error))
        }
        reply => reply,
    }
}

async fn list(visit: &mut PageVisit<'_>) -> Result<PageReply, ApiError> {
    let query = visit.query();
    let mut parameters = visit.parameters(&LIST_PARAMETERS);
    let page = parameters.page_request();
    let filter = filter_from_query(&mut parameters);
    let (filter, page) = parameters.finish((filter, page))?;
    let core = visit.core()?;
    let is_filtered = filter != DeadLetterFilter::default();
    let found = core
        .subscribers
        .dead_letters()
        .list(filter, page.places())
        .await?;

    let criteria = query.clone().only(&DISCARD_PARAMETERS);
    let body = html! {
        div.panel {
            (filter_form(&query).render())
            @if found.items.is_empty() {
                (render_empty(is_filtered))
            } @else {
                (render_bulk(visit, &criteria, &found, is_filtered))
                (render_table(&found.items, &core, visit))
                (pager(LIST_PATH, &query, page, found.total))
            }
        }
    };
    let lead = html! {
        "Deliveries that were given up. Mend the cause, then retry them: a retry keeps the id of the \
         delivery, so a receiver that remembers ids ignores it if it had it."
    };
    Ok(
        PageContent::new(DashboardSection::DeadLetters, "Dead letters", body)
            .lead(lead)
            .into(),
    )
}

/// Handles `GET /dashboard/dead-letters/{dead_letter_id}`: shows one with its cause.
pub(super) async fn show_one(visit: &mut PageVisit<'_>) -> Result<PageReply, ApiError> {
    let id: String = visit.path()?;
    let core = visit.core()?;
    let found = find_dead_letter(&core, &id).await?;
    let payload = render_payload(&found, &core).await?;
    let letter = &found.letter;

    let body = html! {
        div.row {
            (badge(StateTone::Bad, cause_word(letter.cause)))
            span.muted { (cause_hint(letter.cause)) }
        }
        @if let Some(job) = found.job {
            div.notice.good role="status" {
                p { a href=(job_path(job)) { "Job " (job) } " is delivering it again." }
            }
        }
        section.panel {
            header { h2 { "Delivery" } }
            div.inside { (render_facts(&found, &core, visit)) }
        }
        section.panel {
            header { h2 { "Body that a retry delivers now" } }
            div.inside {
                @match &payload {
                    Some(payload) => (json_block(payload.get())),
                    None => p.muted {
                        "There is no single body: the letter covers several events, or the \
                         transform fails on this one."
                    },
                }
            }
        }
    };
    Ok(PageContent::new(
        DashboardSection::DeadLetters,
        format!("Dead letter {id}"),
        body,
    )
    .under("Dead letters", LIST_PATH)
    .actions(render_buttons(&found, visit))
    .into())
}

/// Handles `POST /dashboard/dead-letters/{dead_letter_id}/retry`: delivers one again.
pub(super) async fn retry(
    visit: &mut PageVisit<'_>,
    _form: &FormFields,
) -> Result<PageReply, ApiError> {
    let id: String = visit.path()?;
    let job = start_retry(visit.edge(), &id).await?;
    Ok(visit.done(
        format!("Job {} delivers dead letter {id} again.", job.id),
        job_path(job.id),
    ))
}

/// Handles `POST /dashboard/dead-letters/{dead_letter_id}/discard`: discards one for good.
pub(super) async fn discard(
    visit: &mut PageVisit<'_>,
    _form: &FormFields,
) -> Result<PageReply, ApiError> {
    let id: String = visit.path()?;
    discard_letter(visit.edge(), &id).await?;
    Ok(visit.done(format!("Dead letter {id} was discarded."), LIST_PATH))
}

/// Handles `POST /dashboard/dead-letters/retry-matching`: delivers all that match again.
pub(super) async fn retry_matching(
    visit: &mut PageVisit<'_>,
    form: &FormFields,
) -> Result<PageReply, ApiError> {
    let filter = sent_filter(form)?;
    let job = start_bulk_retry(visit.edge(), filter.clone()).await?;
    let message = format!("Job {} delivers the dead letters again.", job.id);
    let later = describe_later(count_later(visit, filter).await);
    Ok(visit.done(message + &later, job_path(job.id)))
}

/// Handles `POST /dashboard/dead-letters/discard-matching`, which the person confirmed by a tick.
pub(super) async fn discard_matching(
    visit: &mut PageVisit<'_>,
    form: &FormFields,
) -> Result<PageReply, ApiError> {
    if !form.has("confirmed") {
        let problem = "tick the box to say that you mean it".to_owned();
        return Err(ApiError::wrong_field("confirmed", problem));
    }
    let filter = sent_filter(form)?;
    let discarded = discard_letters(visit.edge(), filter.clone()).await?;
    let message = format!(
        "{} discarded.",
        counted(discarded, "dead letter was", "dead letters were")
    );
    let later = describe_later(count_later(visit, filter).await);
    Ok(visit.done(message + &later, LIST_PATH))
}

/// Counts the dead letters that match `filter` but for its bound of ids: they came after the page was
/// loaded, so the person did not mean them.
async fn count_later(visit: &PageVisit<'_>, filter: DeadLetterFilter) -> Result<u64, ApiError> {
    let core = visit.core()?;
    let letters = core.subscribers.dead_letters();
    let of_page = letters.list(filter.clone(), 0..0).await?.total;
    let unbounded = DeadLetterFilter {
        before_id: None,
        ..filter
    };
    let all = letters.list(unbounded, 0..0).await?.total;
    Ok(all.saturating_sub(of_page))
}

/// Describes the dead letters that came after the page was loaded. If they could not be counted, the
/// sentence is left out: the action is done, and must not be reported as failed.
fn describe_later(later: Result<u64, ApiError>) -> String {
    match later {
        Ok(0) | Err(_) => String::new(),
        Ok(later) => format!(
            " {} since the page was loaded, and stayed.",
            counted(later, "dead letter came", "dead letters came")
        ),
    }
}

/// Reads the filter that a form for many dead letters carries.
///
/// # Errors
/// [`ApiError::InvalidFields`], also for a form without the bound of what its page had.
fn sent_filter(form: &FormFields) -> Result<DeadLetterFilter, ApiError> {
    let criteria = form.clone().without_empty().only(&DISCARD_PARAMETERS);
    let mut parameters = QueryParameters::parse(&criteria.to_query(), &DISCARD_PARAMETERS);
    let filter = filter_from_query(&mut parameters);
    if filter.before_id.is_none() {
        parameters.add_error("before_id", "must be given: load the list again");
    }
    parameters.finish(filter)
}

fn filter_form(query: &FormFields) -> FilterForm<'_> {
    let causes = DeadLetterCause::NAMED.map(|(name, cause)| (name, cause_word(cause)));
    FilterForm::new(LIST_PATH, query)
        .example("webhook_id", "Number of the webhook", "4")
        .text("event", "Event")
        .text("entity", "Entity id")
        .choice("reason", "Reason", [("", "All")].into_iter().chain(causes))
        .times()
}

fn render_empty(is_filtered: bool) -> Markup {
    if is_filtered {
        empty_state(
            "No dead letter matches the filter.",
            html! { a href=(LIST_PATH) { "Show all dead letters" } "." },
        )
    } else {
        empty_state(
            "No dead letters.",
            html! {
                "A delivery comes here when its last retry failed, or when its target refused it. \
                 Nothing for you to do."
            },
        )
    }
}

fn render_bulk(
    visit: &PageVisit<'_>,
    criteria: &FormFields,
    found: &DeadLetterPage,
    is_filtered: bool,
) -> Markup {
    // Both actions have the same roles.
    if !visit.may(AccessOperation::DeadLettersRetry) {
        return html! {};
    }
    let total = found.total;
    // Letters that come while the person decides are not part of what was shown.
    let criteria = criteria
        .clone()
        .with("before_id", &found.end_id.to_string());
    let scope = if is_filtered { "matching" } else { "all" };
    let hidden = html! {
        (csrf_field(&visit.session))
        @for (name, value) in criteria.iter() { input type="hidden" name=(name) value=(value); }
    };
    html! {
        div.filters {
            form.inline method="post" action={ (LIST_PATH) "/retry-matching" }
                data-confirm={ "Deliver " (number(total)) " dead letters again?" } {
                (hidden)
                button.primary type="submit" { "Retry " (scope) " " (number(total)) }
            }
            details {
                summary { "Discard " (scope) }
                form.row method="post" action={ (LIST_PATH) "/discard-matching" } {
                    (hidden)
                    label.check {
                        input type="checkbox" name="confirmed" required;
                        span { "Never deliver these " (number(total)) }
                    }
                    button.danger.small type="submit" { "Discard" }
                }
            }
        }
    }
}

fn render_table(letters: &[ListedDeadLetter], core: &NodeCore, visit: &PageVisit<'_>) -> Markup {
    html! {
        table.cards {
            thead { tr {
                th scope="col" { "Letter" }
                th scope="col" { "Event" }
                th scope="col" { "Entity" }
                th scope="col" { "Subscriber" }
                th scope="col" { "Last answer" }
                th scope="col" { "Since" }
                th scope="col" { span.hidden-text { "Action" } }
            } }
            tbody { @for found in letters { (render_row(found, core, visit)) } }
        }
    }
}

fn render_row(found: &ListedDeadLetter, core: &NodeCore, visit: &PageVisit<'_>) -> Markup {
    let letter = &found.letter;
    let path = format!("{LIST_PATH}/{}", letter.id);
    html! {
        tr {
            td.first {
                a.strong-link href=(path) { (letter.id) } " "
                (badge(StateTone::Bad, cause_word(letter.cause)))
                @if let Some(job) = found.job { span.sub { "in job " (job) } }
            }
            @match &letter.subject {
                DeadLetterSubject::Event(failed) => {
                    td data-label="Event" {
                        (event_link(
                            core.reads.incarnations().event_id(failed.event),
                            &failed.event_type,
                        ))
                    }
                    td data-label="Entity" { (entity_link(&failed.entity)) }
                }
                DeadLetterSubject::Range(missed) => {
                    td data-label="Event" { (counted(missed.count(), "event", "events")) }
                    td data-label="Entity" { span.muted { "several" } }
                }
            }
            td data-label="Subscriber" { (subscriber_link(&letter.subscriber)) }
            td data-label="Last answer" {
                @match &letter.subject {
                    DeadLetterSubject::Event(failed) => {
                        (status_badge(failed.status, Some(&failed.code), false))
                        @match (failed.status, failed.answer.as_str()) {
                            // The badge says that already.
                            (Some(_), "") => {}
                            (Some(_), answer) => span.sub { (excerpt(answer)) },
                            (None, _) => span.sub { (failed.detail) },
                        }
                    }
                    DeadLetterSubject::Range(_) => span.muted { "never attempted" },
                }
            }
            td data-label="Since" { (time(letter.at, visit.now)) }
            td.shrink {
                @if found.job.is_none() {
                    (ActionButton {
                        operation: AccessOperation::DeadLettersRetry,
                        path: &format!("{path}/retry"),
                        label: "Retry",
                        class: "small",
                        question: None,
                    }.render(&visit.session))
                }
            }
        }
    }
}

fn render_facts(found: &ListedDeadLetter, core: &NodeCore, visit: &PageVisit<'_>) -> Markup {
    let letter = &found.letter;
    let event_id = |position| core.reads.incarnations().event_id(position);
    html! {
        dl.facts {
            dt { "Subscriber" } dd { (subscriber_link(&letter.subscriber)) }
            dt { "Dead since" } dd { (exact_time(letter.at, visit.now)) }
            @match &letter.subject {
                DeadLetterSubject::Event(failed) => {
                    dt { "Event" } dd { (event_link(event_id(failed.event), &failed.event_type)) }
                    dt { "Entity" }
                    dd { (entity_link(&failed.entity)) ", event number " (failed.sequence) }
                    dt { "Received" } dd { (exact_time(failed.received_at, visit.now)) }
                    dt { "Attempts" }
                    dd {
                        (failed.attempts)
                        @if failed.attempts > 0 { ", the last " (exact_time(failed.last_at, visit.now)) }
                    }
                    dt { "Last answer" }
                    dd {
                        (status_badge(failed.status, Some(&failed.code), false)) " " code { (failed.code) } br;
                        (sentence(&failed.detail))
                    }
                    @if !failed.answer.is_empty() {
                        dt { "It said" } dd { pre { (failed.answer) } }
                    }
                    @if failed.is_halting {
                        dt { "Order" }
                        dd {
                            "The entity's later events wait until this letter is delivered or \
                             discarded."
                        }
                    }
                }
                DeadLetterSubject::Range(missed) => {
                    dt { "Events" }
                    dd {
                        "at most " (number(missed.count()))
                        @if let Some((first, last)) = missed.bounds() {
                            ", from " (event_link(event_id(first), event_id(first))) " to "
                            (event_link(event_id(last), event_id(last)))
                        }
                    }
                }
            }
        }
    }
}

fn render_buttons(found: &ListedDeadLetter, visit: &PageVisit<'_>) -> Markup {
    if found.job.is_some() {
        return html! {};
    }
    let path = format!("{LIST_PATH}/{}", found.letter.id);
    html! {
        (ActionButton {
            operation: AccessOperation::DeadLettersRetry,
                        path: &format!("{path}/retry"),
            label: "Retry",
            class: "primary",
            question: None,
        }.render(&visit.session))
        (ActionButton {
            operation: AccessOperation::DeadLettersDiscard,
            path: &format!("{path}/discard"),
            label: "Discard",
            class: "danger",
            question: Some("Discard this dead letter? It is never delivered then."),
        }.render(&visit.session))
    }
}

const fn cause_word(cause: DeadLetterCause) -> &'static str {
    match cause {
        DeadLetterCause::Exhausted => "retries used up",
        DeadLetterCause::TooOld => "too old",
        DeadLetterCause::Refused => "refused",
        DeadLetterCause::Expression => "expression failed",
        DeadLetterCause::Expired => "held too long",
        DeadLetterCause::Disabled => "webhook disabled",
    }
}

const fn cause_hint(cause: DeadLetterCause) -> &'static str {
    match cause {
        DeadLetterCause::Exhausted => "All retries of the schedule failed.",
        DeadLetterCause::TooOld => "The time for retries is over.",
        DeadLetterCause::Refused => {
            "The target refused it for good, so no retry was made. Mend the target or the \
             webhook, then retry."
        }
        DeadLetterCause::Expression => {
            "The filter or the transform fails on this event. Correct it, then retry."
        }
        DeadLetterCause::Expired => "It waited for longer than deliveries are held.",
        DeadLetterCause::Disabled => "The webhook was disabled while it was owed.",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A discard that was done was reported as failed, because what came later could not be counted.
    #[test]
    fn letters_that_cannot_be_counted_are_left_out_of_the_notice() {
        let stopped = ApiError::NotFound("the store has closed".to_owned());
        assert_eq!(describe_later(Err(stopped)), "");
        assert_eq!(describe_later(Ok(0)), "");
        let one = " 1 dead letter came since the page was loaded, and stayed.";
        assert_eq!(describe_later(Ok(1)), one);
    }
}
