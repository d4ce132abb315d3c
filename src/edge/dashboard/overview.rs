//! Overview: the health of the node, what is stuck and why, and its figures.

use std::time::Duration;

use maud::{Markup, html};

use super::elements::{
    ActionButton, StateTone, badge, bytes, counted, duration, empty_state, entity_link, number,
    optional_time, stopped_lanes, subscriber_link,
};
use super::form::FormFields;
use super::layout::{DashboardSection, PageContent, sentence};
use super::node_problem::{NodeProblem, QUARANTINED_MAX, find_problems};
use super::node_situation::{EntitySituation, NodeSituation};
use super::plot::RatePlot;
use super::refused_senders::describe_refused_senders;
use super::visit::{PageReply, PageVisit};
use crate::edge::clock;
use crate::edge::error::ApiError;
use crate::edge::state::Edge;
use crate::edge::storage_sizes::StorageSizes;
use crate::metrics::{HistogramTotals, MetricTotals, RateInterval, resident_bytes};
use crate::plot_lines::format_rate;
use crate::subscriber::DeliveryOverview;
use crate::token::AccessOperation;

/// Subscribers in the table of backlogs.
const BACKLOGS_MAX: usize = 10;

/// Time whose commits and deliveries make the shown latencies, and whose refused calls are a problem.
const LATENCY_WINDOW: Duration = Duration::from_secs(300);

/// Time over which the present rates are averaged.
const RATE_WINDOW: Duration = Duration::from_secs(60);

/// Handles `GET /dashboard`: shows the state of the node.
pub(super) async fn show(visit: &mut PageVisit<'_>) -> Result<PageReply, ApiError> {
    let edge = visit.edge();
    let storage = edge.storage.read_sizes(&edge.config.store.path).await;
    let Ok(core) = visit.core() else {
        return Ok(content(closed_body(visit)).into());
    };

    let situation = NodeSituation::load(&core, visit.now).await;
    let now = edge.clock.monotonic();
    let totals = edge.metrics.totals();
    let rates = edge.dashboard.rates.rates(now, &totals);
    let earlier = edge.dashboard.rates.totals_before(now, LATENCY_WINDOW);
    let mut problems = find_problems(&situation, storage.as_ref(), edge);
    // Before the notes: the list begins with the worst.
    let is_note = |problem: &NodeProblem| problem.tone == StateTone::Neutral;
    let notes = problems.iter().position(is_note).unwrap_or(problems.len());
    problems.splice(
        notes..notes,
        describe_refused_senders(&totals, &earlier, LATENCY_WINDOW),
    );

    Ok(content(html! {
        div id="health" data-live { (render_health(&problems)) }
        div.tiles id="figures" data-live { (render_tiles(&situation, &rates, &totals, &earlier)) }
        div.grid id="plots" data-live { (render_plots(&rates)) }
        div.grid.wide {
            div.stack-panels {
                section.panel id="backlogs" data-live { (render_backlogs(&situation, visit)) }
                section.panel id="entities" data-live { (render_entities(&situation)) }
            }
            section.panel id="storage" data-live {
                (render_storage(&situation, storage.as_ref(), edge))
            }
        }
    })
    .into())
}

fn content(body: Markup) -> PageContent {
    PageContent::new(DashboardSection::Overview, "Overview", body).refreshed_every(5)
}

/// Body of the page while the node accepts no events.
fn closed_body(visit: &PageVisit<'_>) -> Markup {
    let edge = visit.edge();
    let reason = edge.gate.closed_cause().unwrap_or_default();
    let confirm = ActionButton {
        operation: AccessOperation::ClockConfirm,
        path: "/dashboard/confirm-clock",
        label: "The new time is right",
        class: "primary",
        question: Some("Go on with the time that the system's clock shows?"),
    };
    html! {
        div.health.bad id="health" data-live role="status" {
            h2 { "The node accepts no events" }
            p { (sentence(&reason)) }
            @if let Some(jump) = edge.checked_clock.jump() {
                p {
                    "The clock shows " code { (jump.shown) } ", and " code { (jump.expected) }
                    " was expected. Set the clock right, and the node goes on by itself. If the \
                     time shown is right, say so:"
                }
                p { (confirm.render(&visit.session)) }
            } @else {
                p {
                    "Senders get 503 and try again later. The node opens its store again by \
                     itself, with growing pauses; this page shows when it is ready."
                }
            }
        }
    }
}

/// Handles `POST /dashboard/confirm-clock`: believes the system's clock after a jump.
pub(super) async fn confirm_clock(
    visit: &mut PageVisit<'_>,
    _form: &FormFields,
) -> Result<PageReply, ApiError> {
    clock::confirm_jump(visit.edge());
    Ok(visit.done("The node goes on with the time of its clock.", "/dashboard"))
}

fn render_health(problems: &[NodeProblem]) -> Markup {
    let has = |tone| problems.iter().any(|problem| problem.tone == tone);
    let (class, title) = if has(StateTone::Bad) {
        ("bad", "Something needs you")
    } else if has(StateTone::Warning) {
        ("warn", "Working, with something to look at")
    } else {
        ("good", "Healthy")
    };
    html! {
        section.panel aria-label="Health" {
            div class={ "health " (class) } role="status" {
                h2 { (title) }
                p {
                    @if class != "good" {
                        "Events are accepted. Below is what is stuck, why, and what to press."
                    } @else if problems.is_empty() {
                        "Events are accepted and delivered, and nothing needs you."
                    } @else {
                        "Events are accepted and delivered, but for what is noted below."
                    }
                }
            }
            @if !problems.is_empty() {
                ul.problems {
                    @for problem in problems {
                        li {
                            (badge(problem.tone, tone_word(problem.tone)))
                            div {
                                p { strong { (problem.fact) } }
                                p.muted { (problem.explanation) }
                            }
                            @if let Some((label, path)) = problem.remedy {
                                a.button.small href=(path) { (label) }
                            }
                        }
                    }
                }
            }
        }
    }
}

const fn tone_word(tone: StateTone) -> &'static str {
    match tone {
        StateTone::Bad => "act",
        StateTone::Warning => "look",
        StateTone::Neutral => "note",
        StateTone::Good => "good",
    }
}

fn render_tiles(
    situation: &NodeSituation,
    rates: &[RateInterval],
    totals: &MetricTotals,
    earlier: &MetricTotals,
) -> Markup {
    let now =
        |value: fn(&RateInterval) -> f64| format!("{}/s", format_rate(present_rate(rates, value)));
    html! {
        (tile("Accepted", &now(|rate| rate.accepted_events), &format!(
            "{} refused, last minute", now(|rate| rate.refused_calls)
        )))
        (tile("Delivered", &now(|rate| rate.accepted_deliveries), &format!(
            "{} failed, last minute", now(|rate| rate.failed_deliveries)
        )))
        @match &situation.deliveries {
            Ok(deliveries) => (tile("Backlog", &number(deliveries.backlog), &format!(
                "{} in flight, {} for a retry",
                number(deliveries.in_flight as u64),
                counted(
                    deliveries.stopped_lanes as u64,
                    "entity waits",
                    "entities wait"
                ),
            ))),
            Err(silence) => (tile("Backlog", "?", &silence.to_string())),
        }
        (tile("Webhooks", &number(situation.active as u64), &format!(
            "active, {} paused, {} disabled", situation.paused, situation.disabled
        )))
        (tile("Commit", &latency(&totals.commit_times, &earlier.commit_times, 0.5), &format!(
            "median, 99 %: {}", latency(&totals.commit_times, &earlier.commit_times, 0.99)
        )))
        (tile("Delivery", &latency(&totals.delivery_times, &earlier.delivery_times, 0.5), &format!(
            "median, 99 %: {}", latency(&totals.delivery_times, &earlier.delivery_times, 0.99)
        )))
    }
}

fn tile(label: &str, value: &str, note: &str) -> Markup {
    html! {
        section.panel.tile {
            h2.label { (label) }
            p.value { (value) }
            p.note { (note) }
        }
    }
}

/// Averages the rates of the last minute, or of the time since the start if that is shorter.
fn present_rate(rates: &[RateInterval], value: fn(&RateInterval) -> f64) -> f64 {
    let mut newest = rates.iter().rev().peekable();
    let (mut sum, mut count) = (0.0, 0);
    while let Some(interval) = newest.next_if(|interval| interval.age < RATE_WINDOW) {
        sum += value(interval);
        count += 1;
    }
    if count == 0 {
        0.0
    } else {
        sum / f64::from(count)
    }
}

/// Writes a quantile of the last minutes; the buckets of the metrics bound it from above.
fn latency(now: &HistogramTotals, earlier: &HistogramTotals, quantile: f64) -> String {
    match now.quantile_since(earlier, quantile) {
        None => "–".to_owned(),
        Some(seconds) if seconds.is_finite() => format!("≤ {}", fine_duration(seconds)),
        Some(_) => "very long".to_owned(),
    }
}

fn fine_duration(seconds: f64) -> String {
    match seconds {
        seconds if seconds < 0.01 => format!("{:.1} ms", seconds * 1_000.0),
        seconds if seconds < 1.0 => format!("{:.0} ms", seconds * 1_000.0),
        seconds => format!("{seconds:.1} s"),
    }
}

fn render_plots(rates: &[RateInterval]) -> Markup {
    let plots = [
        RatePlot {
            title: "Received",
            usual: ("accepted events", |rate| rate.accepted_events),
            unwanted: ("refused calls", |rate| rate.refused_calls),
        },
        RatePlot {
            title: "Delivered",
            usual: ("accepted deliveries", |rate| rate.accepted_deliveries),
            unwanted: ("failed attempts", |rate| rate.failed_deliveries),
        },
    ];
    html! {
        @for plot in plots {
            section.panel {
                header { h2 { (plot.title) " per second" } }
                div.inside { (plot.render(rates)) }
            }
        }
    }
}

fn render_backlogs(situation: &NodeSituation, visit: &PageVisit<'_>) -> Markup {
    html! {
        header {
            h2 { "Largest backlogs" }
            a href="/dashboard/settings/webhooks" { "All webhooks" }
        }
        @match &situation.deliveries {
            Err(silence) => (empty_state("Nobody knows what waits.", html! {
                (sentence(&silence.to_string()))
            })),
            Ok(deliveries) => (render_backlog_rows(deliveries, situation, visit)),
        }
    }
}

fn render_backlog_rows(
    deliveries: &DeliveryOverview,
    situation: &NodeSituation,
    visit: &PageVisit<'_>,
) -> Markup {
    let backlogs = deliveries.largest_backlogs(BACKLOGS_MAX);
    if backlogs.is_empty() {
        return html! {
            @if situation.active + situation.paused + situation.disabled == 0 {
                (empty_state("No webhook yet.", html! {
                    "Events are kept, but delivered to nobody. "
                    @if visit.may(AccessOperation::WebhooksCreate) {
                        a href="/dashboard/settings/webhooks/new" { "Create a webhook" } "."
                    }
                }))
            } @else {
                (empty_state("Nothing waits.", html! { "Every subscriber has what it is owed." }))
            }
        };
    }
    html! {
        table.cards {
            thead { tr {
                th scope="col" { "Subscriber" }
                th.num scope="col" { "Waiting" }
                th scope="col" { "Breaker" }
                th scope="col" { "Last success" }
            } }
            tbody {
                @for (subscriber, stats) in backlogs {
                    tr {
                        td.first { (subscriber_link(subscriber)) }
                        td.num data-label="Waiting" {
                            span {
                                (number(stats.backlog()))
                                @if stats.stopped_lanes > 0 {
                                    span.sub {
                                        (stopped_lanes(stats.stopped_lanes))
                                    }
                                }
                            }
                        }
                        td data-label="Breaker" { (breaker_badge(stats.breaker)) }
                        td data-label="Last success" {
                            (optional_time(stats.last_success_at, visit.now))
                        }
                    }
                }
            }
        }
    }
}

/// Renders the busiest entities, and those that are quarantined.
fn render_entities(situation: &NodeSituation) -> Markup {
    html! {
        header { h2 { "Busiest entities" } a href="/dashboard/entities" { "All entities" } }
        @match &situation.entities {
            None => (empty_state("The router does not answer.", html! {})),
            Some(entities) => (render_entity_rows(entities)),
        }
    }
}

fn render_entity_rows(entities: &EntitySituation) -> Markup {
    html! {
        @if entities.busiest.is_empty() && entities.quarantined.is_empty() {
            (empty_state("No entity is busy.", html! {
                "Entities that got events within the last minute or so are in memory, and appear here."
            }))
        } @else {
            table.cards {
                thead { tr {
                    th scope="col" { "Entity" }
                    th.num scope="col" { "Events" }
                    th scope="col" { "State" }
                } }
                tbody {
                    @for (entity, left) in entities.quarantined.iter().take(QUARANTINED_MAX) {
                        tr {
                            td.first { (entity_link(entity)) }
                            td.num data-label="Events" { "–" }
                            td data-label="State" {
                                span {
                                    (badge(StateTone::Bad, "quarantined"))
                                    span.sub { "for another " (duration(*left)) }
                                }
                            }
                        }
                    }
                    @for (entity, events) in &entities.busiest {
                        tr {
                            td.first { (entity_link(entity)) }
                            td.num data-label="Events" { (number(*events)) }
                            td data-label="State" { (badge(StateTone::Good, "in memory")) }
                        }
                    }
                }
            }
            p.muted.inside { "Events since the entity was loaded into memory." }
        }
    }
}

/// Renders the state of a circuit breaker; that of a subscriber never called is closed.
pub(super) fn breaker_badge(breaker: &str) -> Markup {
    match breaker {
        "open" => badge(StateTone::Bad, "open"),
        "half_open" => badge(StateTone::Warning, "half-open"),
        _ => badge(StateTone::Good, "closed"),
    }
}

fn render_storage(
    situation: &NodeSituation,
    storage: Option<&StorageSizes>,
    edge: &Edge,
) -> Markup {
    let config = &edge.config;
    let entities = situation.entities.as_ref();
    let live = entities.map(|entities| entities.live as u64);
    html! {
        header { h2 { "Disk and memory" } }
        div.inside {
            @if let Some(storage) = storage {
                @let journal = storage.parts[0].1;
                (bar(
                    "Journal",
                    &bytes(journal),
                    config.store.max_bytes.map(|max| (journal, max, bytes(max))),
                ))
                (bar("Derived data", &bytes(storage.parts[1].1), None))
                @if let Some((free, whole)) = storage.disk {
                    (bar(
                        "Disk",
                        &format!("{} free", bytes(free)),
                        Some((whole - free, whole, bytes(whole))),
                    ))
                }
            }
            @if let Some(live) = live {
                @let max = config.router.live_entities_max as u64;
                (bar("Entities in memory", &number(live), Some((live, max, number(max)))))
            }
            @if let Some(resident) = resident_bytes() {
                (bar("Memory of the process", &bytes(resident), None))
            }
            (bar("Reads behind", &counted(situation.lag, "record", "records"), None))
        }
    }
}

/// Renders a value, with a bar of its share in its bound if it has one.
fn bar(label: &str, value: &str, bound: Option<(u64, u64, String)>) -> Markup {
    html! {
        div.bar-row {
            p {
                span { (label) }
                span {
                    (value) @if let Some((.., bound)) = &bound { span.muted { " of " (bound) } }
                }
            }
            @if let Some((value, max, _)) = bound {
                meter min="0" max=(max) high=(max / 10 * 8) optimum="0" value=(value)
                    aria-label=(label) {}
            }
        }
    }
}
