//! Page of one webhook: its state and figures, its settings, its deliveries, and all buttons.

use std::time::Duration;

use maud::{Markup, html};

use super::super::elements::{
    ActionButton, counted, csrf_field, duration, elapsed, empty_state, entity_link, event_link,
    excerpt, number, optional_time, pager, select_option, status_badge, stopped_lanes, time,
};
use super::super::form::FormFields;
use super::super::jobs::render_jobs;
use super::super::layout::{DashboardSection, PageContent, sentence};
use super::super::visit::{PageReply, PageVisit};
use super::actions::field_time;
use super::state::{LIST_PATH, state_badges, success_rate, webhook_path, webhook_title};
use crate::call_log::{CallFilter, CallRow};
use crate::config::ExhaustionPolicy;
use crate::edge::error::ApiError;
use crate::edge::gate::NodeCore;
use crate::edge::webhooks;
use crate::edge::webhooks::attempts::list_attempts;
use crate::edge::webhooks::stats::SubscriptionStatsView;
use crate::projection::{PageRequest, StoredRecord};
use crate::subscriber::jobs::RedeliveryJob;
use crate::subscriber::{StatsError, SubscriberId};
use crate::subscription::secrets::redact_secret;
use crate::subscription::{
    DeliveryMode, DeliveryOrdering, EventNamePattern, Pattern, SigningStyle, Subscription,
    SubscriptionState,
};
use crate::token::AccessOperation;

/// Jobs of the webhook that its page shows, the newest.
const JOBS_SHOWN: usize = 3;

/// Handles `GET /dashboard/settings/webhooks/{id}`: shows a webhook with its deliveries.
pub(in crate::edge::dashboard) async fn show(
    visit: &mut PageVisit<'_>,
) -> Result<PageReply, ApiError> {
    let id: String = visit.path()?;
    let query = visit.query();
    let mut parameters = visit.parameters(&["is_successful", "page", "page_size"]);
    let page = parameters.page_request();
    let is_successful = parameters.one_of("is_successful", &[("true", true), ("false", false)]);
    let (page, is_successful) = parameters.finish((page, is_successful))?;
    let core = visit.core()?;
    let subscription = webhooks::find_subscription(&core, &id)?;

    let stats = SubscriptionStatsView::load(subscription.id, &core).await;
    let filter = CallFilter {
        is_successful,
        ..CallFilter::default()
    };
    let subscriber = SubscriberId::Webhook(subscription.id);
    let (attempts, total) = list_attempts(&core, &subscriber, filter, page).await?;
    let jobs = jobs_of(&core, &subscriber);

    let view = WebhookView {
        visit,
        subscription: &subscription,
        stats: stats.as_ref(),
    };
    let body = html! {
        (view.state())
        div.tiles id="figures" data-live { (view.tiles()) }
        @if !jobs.is_empty() {
            section.panel id="jobs" data-live {
                header {
                    h2 { "Jobs" }
                    a href={ "/dashboard/jobs?webhook_id=" (subscription.id) } {
                        "All jobs of this webhook"
                    }
                }
                (render_jobs(&jobs, visit))
            }
        }
        (view.deliveries(&query, &attempts, page, total))
        div.grid {
            section.panel {
                header {
                    h2 { "Settings" }
                    @if visit.may(AccessOperation::WebhooksChange) {
                        a.button.small href={ (webhook_path(subscription.id)) "/edit" } { "Edit" }
                    }
                }
                div.inside { (view.settings()) }
            }
            div.stack-panels {
                (view.secret())
                @if view.is_push() && visit.may(AccessOperation::WebhooksReplay) {
                    (view.redelivery())
                }
                @if visit.may(AccessOperation::WebhooksDelete) { (view.deletion()) }
            }
        }
    };
    Ok(PageContent::new(
        DashboardSection::Webhooks,
        webhook_title(&subscription),
        body,
    )
    .under("Webhooks", LIST_PATH)
    .actions(view.buttons())
    .refreshed_every(5)
    .into())
}

fn jobs_of(core: &NodeCore, subscriber: &SubscriberId) -> Vec<RedeliveryJob> {
    let jobs = core.subscribers.jobs();
    let mut found = jobs.list_jobs(|job| job.subscriber.as_ref() == Some(subscriber));
    found.truncate(JOBS_SHOWN);
    found
}

/// Webhook with its figures, as its page shows it.
struct WebhookView<'a> {
    visit: &'a PageVisit<'a>,
    subscription: &'a Subscription,
    /// Figures of the webhook; `None` if the delivery stage does not answer.
    stats: Option<&'a SubscriptionStatsView>,
}

impl WebhookView<'_> {
    fn is_push(&self) -> bool {
        self.subscription.delivery == DeliveryMode::Push
    }

    fn path(&self, action: &str) -> String {
        format!("{}/{action}", webhook_path(self.subscription.id))
    }

    fn button(&self, operation: AccessOperation, action: &str, label: &str, class: &str) -> Markup {
        let button = ActionButton {
            operation,
            path: &self.path(action),
            label,
            class,
            question: None,
        };
        button.render(&self.visit.session)
    }

    fn buttons(&self) -> Markup {
        html! {
            @if self.is_push() { (self.button(AccessOperation::WebhooksTest, "test", "Send test", "primary")) }
            @match self.subscription.state {
                SubscriptionState::Active => (self.button(AccessOperation::WebhooksPause, "pause", "Pause", "")),
                SubscriptionState::Paused { .. } | SubscriptionState::Disabled { .. } => {
                    (self.button(AccessOperation::WebhooksResume, "resume", "Resume", ""))
                }
            }
            @if self.visit.may(AccessOperation::WebhooksChange) {
                a.button href=(self.path("edit")) { "Edit" }
            }
        }
    }

    /// State in one line, with the reason if it is not the usual one.
    fn state(&self) -> Markup {
        html! {
            div.row id="state" data-live {
                (state_badges(&self.subscription.state, self.stats))
                @if let Some(description) = &self.subscription.description {
                    span { (description) }
                }
                @if let Some(reason) = self.reason() { span.muted { (reason) } }
                @if let Some(since) = self.stats.and_then(|stats| stats.failing_since) {
                    span.muted { "Failing for " (elapsed(since, self.visit.now)) "." }
                }
            }
        }
    }

    /// Reason for an unusual state, and what follows from it.
    fn reason(&self) -> Option<String> {
        const LANES: &str = "Deliveries of some entities failed and are tried again; later events of \
            these entities wait behind them.";
        const RETRIES: &str = "The last attempts failed; failed deliveries are tried again.";
        const PROBES: &str = "The target fails, so deliveries wait, in order. The node probes it; \
            a successful test tries at once.";
        match &self.subscription.state {
            SubscriptionState::Active => {
                let Some(stats) = self.stats else {
                    return Some(sentence(&StatsError::NoAnswer.to_string()));
                };
                match (stats.breaker, stats.failing_since) {
                    ("closed", None) if stats.stopped_lanes == 0 => None,
                    ("closed", None) => Some(LANES.to_owned()),
                    ("closed", Some(_)) => Some(RETRIES.to_owned()),
                    _ => Some(PROBES.to_owned()),
                }
            }
            SubscriptionState::Paused { reason } => {
                let hold = duration(self.visit.edge().config.delivery.hold);
                let kept = format!("Events are kept for {hold} and go out on resume.");
                Some(match reason {
                    Some(reason) => format!("{} {kept}", sentence(reason)),
                    None => kept,
                })
            }
            SubscriptionState::Disabled { reason } => {
                let reason = sentence(reason);
                Some(format!(
                    "{reason} Events are not kept. Resume, then replay what was missed."
                ))
            }
        }
    }

    fn tiles(&self) -> Markup {
        let Some(stats) = self.stats else {
            return html! {};
        };
        let waiting = stats.backlog();
        html! {
            (tile(
                "Delivered",
                &number(stats.delivered),
                html! { "last success: " (optional_time(stats.last_success_at, self.visit.now)) },
            ))
            (tile(
                "Success",
                &success_rate(stats),
                html! { (number(stats.failed_attempts)) " failed attempts" },
            ))
            (tile(
                "Waiting",
                &number(waiting),
                html! {
                    (stats.in_flight) " in flight, " (stopped_lanes(stats.stopped_lanes))
                    @if let Some(oldest) = stats.oldest_owed_at {
                        ", oldest " (time(oldest, self.visit.now))
                    }
                },
            ))
            (tile("Dead letters", &number(stats.dead_letters), html! {
                @if stats.dead_letters > 0 {
                    a href={ "/dashboard/dead-letters?webhook_id=" (self.subscription.id) } {
                        "Inspect and retry"
                    }
                }
                @else { (number(stats.dropped)) " dropped" }
            }))
        }
    }

    fn deliveries(
        &self,
        query: &FormFields,
        attempts: &[(CallRow, Option<StoredRecord>)],
        page: PageRequest,
        total: u64,
    ) -> Markup {
        let path = webhook_path(self.subscription.id);
        html! {
            section.panel {
                header {
                    h2 { "Deliveries" }
                    form.row method="get" action=(path) {
                        label.muted.small for="is_successful" { "Show" }
                        select.small id="is_successful" name="is_successful" {
                            @for (value, label) in [
                                ("", "all attempts"),
                                ("true", "successful"),
                                ("false", "failed"),
                            ] {
                                (select_option(value, label, query.text("is_successful")))
                            }
                        }
                        button.small type="submit" { "Filter" }
                    }
                }
                div id="attempts" data-live {
                    @if attempts.is_empty() {
                        @if self.is_push() {
                            (empty_state("No delivery attempt yet.", html! {
                                "The next event that this webhook follows appears here. Press “Send \
                                 test” to call the target now."
                            }))
                        } @else {
                            (empty_state("The subscriber reads its events itself.", html! {
                                "It gets them by " code {
                                    "GET /api/v1/webhooks/" (self.subscription.id) "/events"
                                } ". Above is how many wait."
                            }))
                        }
                    } @else { (self.attempt_table(attempts)) }
                    (pager(&path, query, page, total))
                }
            }
        }
    }

    fn attempt_table(&self, attempts: &[(CallRow, Option<StoredRecord>)]) -> Markup {
        html! {
            table.cards {
                thead { tr {
                    th scope="col" { "Answer" }
                    th scope="col" { "Event" }
                    th scope="col" { "Entity" }
                    th.num scope="col" { "Attempt" }
                    th.num scope="col" { "Took" }
                    th scope="col" { "At" }
                    th scope="col" { "Next attempt" }
                } }
                tbody {
                    @for (index, (row, stored)) in attempts.iter().enumerate() {
                        (self.attempt_row(row, stored.as_ref(), has_later(&attempts[..index], row)))
                    }
                }
            }
        }
    }

    fn attempt_row(
        &self,
        row: &CallRow,
        stored: Option<&StoredRecord>,
        is_superseded: bool,
    ) -> Markup {
        let entity = stored.map(|stored| &stored.record.entity);
        let answer = row.answer.as_deref().filter(|answer| !answer.is_empty());
        html! {
            tr {
                td.first {
                    (status_badge(row.status, row.code.as_deref(), row.is_successful()))
                    @if let Some(code) = row.code.as_ref().filter(|code| *code != "status") {
                        " " code { (code) }
                    }
                    @if let Some(answer) = answer.filter(|_| !row.is_successful()) {
                        span.sub { (excerpt(&String::from_utf8_lossy(answer))) }
                    }
                }
                td data-label="Event" {
                    @match (row.event_ids.first(), row.event_type.as_deref()) {
                        (Some(id), Some(name)) => (event_link(id, name)),
                        (_, name) => { (name.unwrap_or("test")) }
                    }
                }
                td data-label="Entity" {
                    @match entity {
                        Some(entity) => (entity_link(entity)),
                        None => span.muted { "–" }
                    }
                }
                td.num data-label="Attempt" {
                    @match row.attempt { Some(attempt) => (attempt), None => "–" }
                }
                td.num data-label="Took" { (duration(row.duration)) }
                td data-label="At" {
                    a href={ "/dashboard/calls/" (row.id) } { (time(row.at, self.visit.now)) }
                }
                td data-label="Next attempt" {
                    @match row.next_attempt_at.filter(|_| !is_superseded) {
                        Some(at) if at > self.visit.now => (time(at, self.visit.now)),
                        Some(_) if self.is_held() => span.muted { "when the breaker closes" },
                        Some(_) | None => span.muted { "–" }
                    }
                }
            }
        }
    }

    /// Tells if the circuit breaker holds back what is due.
    fn is_held(&self) -> bool {
        self.stats.is_some_and(|stats| stats.breaker != "closed")
    }

    fn settings(&self) -> Markup {
        let subscription = self.subscription;
        let delivery = &self.visit.edge().config.delivery;
        let by_default = |text: String| html! { (text) " " span.muted { "by default" } };
        html! {
            dl.facts {
                dt { "Events" }
                dd {
                    span.tags {
                        @for pattern in &subscription.events {
                            span.tag { (pattern.as_str()) }
                            (self.matched(pattern))
                        }
                    }
                }
                dt { "Order" }
                dd { @match subscription.ordering {
                    DeliveryOrdering::Entity => "strict for each entity",
                    DeliveryOrdering::Subscription => "strict for everything",
                    DeliveryOrdering::None => "each event as soon as possible",
                } }
                dt { "Signatures" }
                dd {
                    span.tags {
                        @for style in &subscription.signing { span.tag { (style_name(*style)) } }
                    }
                }
                @if !subscription.headers.is_empty() {
                    dt { "Headers" }
                    dd {
                        span.tags {
                            @for (name, _) in &subscription.headers { span.tag { (name) ": …" } }
                        }
                    }
                }
                dt { "Timeout" }
                dd {
                    @match subscription.timeout {
                        Some(timeout) => (duration(timeout)),
                        None => (by_default(duration(delivery.timeout)))
                    }
                }
                dt { "Attempts at once" }
                dd {
                    @match subscription.concurrency {
                        Some(count) => (count),
                        None => (by_default(delivery.concurrency.to_string()))
                    }
                }
                dt { "Rate limit" }
                dd {
                    @match subscription.rate_limit {
                        Some(limit) => { (limit) " per second" },
                        None => "none"
                    }
                }
                dt { "Retries after" }
                dd { @match &subscription.retry_schedule {
                    Some(pauses) => (schedule(pauses)),
                    None => (by_default(schedule(&delivery.retry_schedule))),
                } }
                dt { "After the last retry" }
                dd { @match subscription.on_exhausted.unwrap_or(delivery.on_exhausted) {
                    ExhaustionPolicy::Skip => "a dead letter, and the entity's next event",
                    ExhaustionPolicy::Halt => "a dead letter, and the entity halts",
                } }
                dt { "Created" }
                dd { (time(subscription.created_at, self.visit.now)) }
                dt { "Changed" }
                dd { (time(subscription.updated_at, self.visit.now)) }
            }
            @if let Some(filter) = &subscription.filter {
                h3 { "Filter" } pre { code { (filter.text()) } }
            }
            @if let Some(transform) = &subscription.transform {
                h3 { "Transform" } pre { code { (transform.text()) } }
            }
        }
    }

    /// Renders the number of events that a pattern for several matches.
    fn matched(&self, pattern: &Pattern) -> Markup {
        let events = pattern.name_pattern();
        let vocabulary = self.visit.edge().vocabulary();
        let count = match events {
            EventNamePattern::Exact(_) => 0,
            EventNamePattern::All | EventNamePattern::Prefix(_) => {
                vocabulary.count_names(pattern.kind(), events)
            }
        };
        html! {
            // None is known of a configured source, and of a bare * it is clear.
            @if count > 0 && pattern.as_str() != "*" {
                span.muted.small { (counted(count as u64, "event", "events")) }
            }
        }
    }

    fn secret(&self) -> Markup {
        let secrets = &self.subscription.secrets;
        let previous = secrets
            .previous
            .as_ref()
            .map(|(_, until)| *until)
            .filter(|until| self.visit.now < *until);
        let public_key = secrets
            .public_key()
            .filter(|_| self.subscription.signing.contains(&SigningStyle::V1a));
        html! {
            section.panel {
                header { h2 { "Secret" } }
                div.inside {
                    p { code { (redact_secret(&secrets.current)) } }
                    @if let Some(until) = previous {
                        p.muted {
                            "Deliveries are signed with the previous secret too, until "
                            (time(until, self.visit.now)) "."
                        }
                    }
                    @if let Some(key) = public_key { p { "Public key: " code { (key) } } }
                    @if self.visit.may(AccessOperation::WebhooksRotateSecret) { form.row method="post" action=(self.path("rotate-secret"))
                        data-confirm="Make a new secret?" {
                        (csrf_field(&self.visit.session))
                        label for="overlap_h" { "Keep the old one for" }
                        select.small id="overlap_h" name="overlap_h" {
                            @for (value, label) in [
                                ("24", "a day"),
                                ("1", "an hour"),
                                ("168", "a week"),
                                ("0", "no time"),
                            ] {
                                (select_option(value, label, "24"))
                            }
                        }
                        button.small type="submit" { "Rotate secret" }
                    } }
                }
            }
        }
    }

    fn redelivery(&self) -> Markup {
        let yesterday = field_time(self.visit.now, Duration::from_secs(24 * 3_600));
        html! {
            section.panel {
                header { h2 { "Deliver again" } }
                div.inside {
                    details {
                        summary { "Recover what failed" }
                        form.stack method="post" action=(self.path("recover")) {
                            (csrf_field(&self.visit.session))
                            p.hint {
                                "Delivers the dead letters of the events received in this time \
                                 again."
                            }
                            div.two {
                                (time_field(
                                    "recover-since",
                                    "since",
                                    "From (UTC)",
                                    &yesterday,
                                    true,
                                ))
                                (time_field("recover-until", "until", "To (UTC)", "", false))
                            }
                            div { button type="submit" { "Recover" } }
                        }
                    }
                    details {
                        summary { "Replay everything" }
                        form.stack method="post" action=(self.path("replay"))
                            data-confirm="Deliver all events of this time again?" {
                            (csrf_field(&self.visit.session))
                            p.hint {
                                "Delivers every event received in this time again, those that \
                                 were accepted too, with their first ids."
                            }
                            div.two {
                                (time_field(
                                    "replay-since",
                                    "since",
                                    "From (UTC)",
                                    &yesterday,
                                    true,
                                ))
                                (time_field("replay-until", "until", "To (UTC)", "", false))
                            }
                            div.field {
                                label for="replay-events" { "Only these events" }
                                input type="text" id="replay-events" name="events"
                                    placeholder="lead.*, ticket:*";
                            }
                            div { button type="submit" { "Replay" } }
                        }
                    }
                }
            }
        }
    }

    fn deletion(&self) -> Markup {
        html! {
            section.panel {
                header { h2 { "Delete" } }
                div.inside {
                    details {
                        summary { "Delete this webhook" }
                        form.stack method="post" action=(self.path("delete")) {
                            (csrf_field(&self.visit.session))
                            p {
                                "What it is still owed is not delivered, and its dead letters go. \
                                 To stop deliveries for a while, pause it."
                            }
                            label.check {
                                input type="checkbox" name="confirmed" required;
                                span { "Delete webhook " (self.subscription.id) " for good" }
                            }
                            div { button.danger type="submit" { "Delete webhook" } }
                        }
                    }
                }
            }
        }
    }
}

/// Tells if one of the `newer` calls is a later attempt of the delivery of `row`.
fn has_later(newer: &[(CallRow, Option<StoredRecord>)], row: &CallRow) -> bool {
    let mut newer = newer.iter();
    newer.any(|(newer, _)| !row.event_ids.is_empty() && newer.event_ids == row.event_ids)
}

fn tile(label: &str, value: &str, note: Markup) -> Markup {
    html! { section.panel.tile { h2.label { (label) } p.value { (value) } p.note { (note) } } }
}

fn time_field(id: &str, name: &str, label: &str, value: &str, is_required: bool) -> Markup {
    html! {
        div.field {
            label for=(id) { (label) }
            input type="datetime-local" id=(id) name=(name) value=(value) required[is_required];
        }
    }
}

fn schedule(pauses: &[Duration]) -> String {
    pauses
        .iter()
        .copied()
        .map(duration)
        .collect::<Vec<_>>()
        .join(", ")
}

fn style_name(style: SigningStyle) -> &'static str {
    let found = SigningStyle::NAMED
        .into_iter()
        .find(|(_, named)| *named == style);
    found.map_or("", |(name, _)| name)
}
