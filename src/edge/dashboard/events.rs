//! Events: list with a filter, search, one event with its outcome and its content, reprocessing.

use maud::{Markup, html};

use super::elements::{
    ActionButton, StateTone, badge, counted_pager, empty_state, entity_link, entity_path,
    event_link, exact_time, json_block, time,
};
use super::filter_form::FilterForm;
use super::form::FormFields;
use super::layout::{DashboardSection, PageContent, sentence};
use super::receivers::render_receivers;
use super::visit::{PageReply, PageVisit};
use crate::edge::error::ApiError;
use crate::edge::gate::NodeCore;
use crate::edge::reads::events::{
    PARAMETERS, check_known_names, find_event, parse_event_filter, source_names,
};
use crate::edge::reads::reprocess::reprocess_event;
use crate::edge::reads::stored_event_id;
use crate::edge::state::Edge;
use crate::event::{EventId, Kind};
use crate::projection::{EventStatus, EventView, ProjectionPage, StoredRecord};
use crate::token::AccessOperation;

const LIST_PATH: &str = "/dashboard/events";

/// Events behind the page that are counted. Counting all would read a row for each thousand events.
const COUNTED_AHEAD: u64 = 1_000;

/// Handles `GET /dashboard/events`: lists events.
pub(super) async fn show(visit: &mut PageVisit<'_>) -> Result<PageReply, ApiError> {
    match list(visit).await {
        Err(error) if !error.field_errors().is_empty() => {
            let query = visit.query();
            let place = (DashboardSection::Events, "Events");
            Ok(filter_form(&query, visit.edge()).refuse(visit, place, &error))
        }
        reply => reply,
    }
}

async fn list(visit: &mut PageVisit<'_>) -> Result<PageReply, ApiError> {
    let query = visit.query();
    let (filter, page) = parse_event_filter(visit.parameters(&PARAMETERS))?;
    let core = visit.core()?;
    let found = match filter {
        Some(filter) => {
            let found = core
                .reads
                .newest_events(filter.clone(), page, COUNTED_AHEAD);
            let found = found.await?;
            check_known_names(visit.edge(), &core, &filter, found.total).await?;
            found
        }
        None => ProjectionPage {
            items: Vec::new(),
            total: 0,
        },
    };

    let is_filtered = query.iter().any(|(name, _)| name != "page");
    let body = html! {
        (render_search())
        div.panel {
            (filter_form(&query, visit.edge()).render())
            div id="event-rows" data-live {
                @if found.items.is_empty() { (render_empty(is_filtered)) }
                @else { (render_table(&found.items, &core, visit)) }
                (counted_pager(LIST_PATH, &query, page, (found.total, COUNTED_AHEAD)))
            }
        }
    };
    let lead = html! { "Everything that was accepted, the newest first." };
    Ok(PageContent::new(DashboardSection::Events, "Events", body)
        .lead(lead)
        .refreshed_every(5)
        .into())
}

/// Handles `GET /dashboard/events/find`: leads to the event with an id or an idempotency key, or to
/// the events of an entity.
pub(super) async fn find(visit: &mut PageVisit<'_>) -> Result<PageReply, ApiError> {
    let query = visit.query();
    let wanted = query.text("text");
    let core = visit.core()?;
    if EventId::parse(wanted).is_some() {
        let (id, _) = find_event(&core, wanted).await?;
        return Ok(PageReply::SeeOther(format!("{LIST_PATH}/{id}")));
    }

    let mut with_key = Vec::new();
    if !wanted.is_empty() {
        for source in source_names(visit.edge()) {
            with_key.extend(core.router.find_events_by_key(source, wanted).await?);
        }
    }
    if let [only] = with_key.as_slice() {
        let id = stored_event_id(core.reads.incarnations(), only);
        return Ok(PageReply::SeeOther(format!("{LIST_PATH}/{id}")));
    }
    if with_key.is_empty() {
        // As the command line prints an entity.
        let named = wanted
            .split_once('/')
            .filter(|(kind, _)| Kind::parse(kind).is_some());
        let of_entity = match named {
            Some((kind, id)) => FormFields::default().with("kind", kind).with("entity", id),
            None => FormFields::default().with("entity", wanted),
        };
        let of_entity = of_entity.to_query();
        return Ok(PageReply::SeeOther(format!("{LIST_PATH}?{of_entity}")));
    }

    let body = html! {
        (render_search())
        div.panel { (render_key_table(&with_key, &core, visit)) }
    };
    let title = format!("Events with the key {wanted}");
    Ok(PageContent::new(DashboardSection::Events, title, body)
        .under("Events", LIST_PATH)
        .into())
}

/// Handles `GET /dashboard/events/{event_id}`: shows an event with its content.
pub(super) async fn show_one(visit: &mut PageVisit<'_>) -> Result<PageReply, ApiError> {
    let id: String = visit.path()?;
    let core = visit.core()?;
    let (id, view) = find_event(&core, &id).await?;
    let record = &view.event.record;

    let receivers = render_receivers(visit, id, &view).await?;
    let payload = record.payload_json();
    let call_body = String::from_utf8_lossy(&record.call_body);
    let body = html! {
        div.row {
            (status_word(view.status))
            @if record.late { (badge(StateTone::Warning, "late")) }
            @if record.is_erased() { (badge(StateTone::Neutral, "erased")) }
            @if record.content_expired_at().is_some() { (badge(StateTone::Neutral, "removed")) }
            @if let Some(failure) = failure_of(&view) { span { (sentence(failure)) } }
        }
        section.panel { header { h2 { "Event" } } div.inside { (render_facts(&view, id, visit)) } }
        section.panel id="receivers" data-live {
            header { h2 { "Receivers" } }
            (receivers)
        }
        section.panel {
            header { h2 { "Content" } span.muted.small { "as it was received" } }
            div.inside {
                @match &payload {
                    Some(payload) => (json_block(payload.get())),
                    None => p.muted {
                        @match record.content_expired_at() {
                            Some(at) => { "The content was removed by the retention of its source at " (at) "." }
                            None => { "The content was erased." }
                        }
                    },
                }
                @if !call_body.is_empty() {
                    details { summary { "Body of the whole call" } (json_block(&call_body)) }
                }
            }
        }
    };
    let button = ActionButton {
        operation: AccessOperation::EventsReprocess,
        path: &format!("{LIST_PATH}/{id}/reprocess"),
        label: "Reprocess",
        class: "primary",
        question: None,
    };
    let is_failed = view.status == EventStatus::Failed && record.has_content();
    Ok(
        PageContent::new(DashboardSection::Events, record.event_type.clone(), body)
            .under("Events", LIST_PATH)
            .actions(html! { @if is_failed { (button.render(&visit.session)) } })
            .refreshed_every(5)
            .into(),
    )
}

/// Handles `POST /dashboard/events/{event_id}/reprocess`: tries a failed event again.
pub(super) async fn reprocess(
    visit: &mut PageVisit<'_>,
    _form: &FormFields,
) -> Result<PageReply, ApiError> {
    let id: String = visit.path()?;
    let span = visit.context.call.span().clone();
    reprocess_event(visit.edge(), &id, span).await?;
    Ok(visit.done(
        "The event was processed again.",
        format!("{LIST_PATH}/{id}"),
    ))
}

fn render_search() -> Markup {
    html! {
        form.searchbar method="get" action={ (LIST_PATH) "/find" } role="search" {
            input type="search" name="text" required
                aria-label="Event id, entity id or idempotency key"
                placeholder="Event id, entity id or idempotency key";
            button type="submit" { "Find" }
        }
    }
}

fn filter_form<'a>(query: &'a FormFields, edge: &Edge) -> FilterForm<'a> {
    let kinds = known_kinds(edge);
    let kinds = kinds.iter().map(|kind| (kind.as_str(), kind.as_str()));
    let sources = source_names(edge).map(|name| (name, name));
    FilterForm::new(LIST_PATH, query)
        .choice(
            "status",
            "Status",
            [
                ("", "All"),
                ("completed", "Completed"),
                ("processing", "Processing"),
                ("failed", "Failed"),
            ],
        )
        .choice(
            "has_warnings",
            "Warnings",
            [
                ("", "All"),
                ("true", "With a warning"),
                ("false", "Without"),
            ],
        )
        .choice("source", "Source", [("", "All")].into_iter().chain(sources))
        .example("type", "Event", "lead.created")
        .choice(
            "kind",
            "Kind of entity",
            [("", "All")].into_iter().chain(kinds),
        )
        .text("entity", "Entity id")
        .times()
}

/// Kinds of entities that the configuration allows.
pub(super) fn known_kinds(edge: &Edge) -> Vec<Kind> {
    let sources = &edge.config.sources;
    let custom = sources.custom.iter().map(|custom| custom.kind);
    let declared = sources.crm.events.iter().map(|event| event.kind);
    let mut kinds = Kind::BUILT_IN.to_vec();
    for kind in custom.chain(declared) {
        if !kinds.contains(&kind) {
            kinds.push(kind);
        }
    }
    kinds
}

fn render_empty(is_filtered: bool) -> Markup {
    if is_filtered {
        empty_state(
            "No event matches the filter.",
            html! { a href=(LIST_PATH) { "Show all events" } "." },
        )
    } else {
        empty_state(
            "No event yet.",
            html! {
                "The page "
                a href="/dashboard/sources" { "Sources" }
                " shows how to send one."
            },
        )
    }
}

fn render_table(events: &[EventView], core: &NodeCore, visit: &PageVisit<'_>) -> Markup {
    html! {
        table.cards {
            thead { tr {
                th scope="col" { "Event" }
                th scope="col" { "Entity" }
                th.num scope="col" { "Number" }
                th scope="col" { "Source" }
                th scope="col" { "Status" }
                th scope="col" { "Received" }
            } }
            tbody {
                @for view in events {
                    @let record = &view.event.record;
                    tr {
                        td.first {
                            span.strong-link {
                                (event_link(
                                    stored_event_id(core.reads.incarnations(), &view.event),
                                    &record.event_type,
                                ))
                            }
                        }
                        td data-label="Entity" { (entity_link(&record.entity)) }
                        td.num data-label="Number" {
                            @match sequence_of(view) { Some(number) => (number), None => "–" }
                        }
                        td data-label="Source" { (record.source) }
                        td data-label="Status" {
                            span {
                                (status_word(view.status))
                                @if record.late { " " (badge(StateTone::Warning, "late")) }
                                @if !record.warnings.is_empty() { " " (badge(StateTone::Warning, "warning")) }
                                @if let Some(failure) = failure_of(view) { span.sub { (failure) } }
                            }
                        }
                        td data-label="Received" { (time(view.event.received_at, visit.now)) }
                    }
                }
            }
        }
    }
}

fn render_key_table(events: &[StoredRecord], core: &NodeCore, visit: &PageVisit<'_>) -> Markup {
    html! {
        table.cards {
            thead {
                tr {
                    th scope="col" { "Event" }
                    th scope="col" { "Entity" }
                    th scope="col" { "Source" }
                    th scope="col" { "Received" }
                }
            }
            tbody {
                @for stored in events {
                    tr {
                        td.first {
                            (event_link(
                                stored_event_id(core.reads.incarnations(), stored),
                                &stored.record.event_type,
                            ))
                        }
                        td data-label="Entity" { (entity_link(&stored.record.entity)) }
                        td data-label="Source" { (stored.record.source) }
                        td data-label="Received" { (time(stored.received_at, visit.now)) }
                    }
                }
            }
        }
    }
}

fn render_facts(view: &EventView, id: EventId, visit: &PageVisit<'_>) -> Markup {
    let record = &view.event.record;
    html! {
        dl.facts {
            dt { "Id" } dd { code { (id) } }
            dt { "Entity" }
            dd {
                (entity_link(&record.entity))
                @if let Some(number) = sequence_of(view) { ", event number " (number) }
                ". " a href=(entity_path(&record.entity)) { "Read its story" }
            }
            dt { "Source" } dd { (record.source) }
            dt { "Happened" } dd { (exact_time(record.at, visit.now)) }
            dt { "Received" } dd { (exact_time(view.event.received_at, visit.now)) }
            dt { "On the disk" } dd { (exact_time(view.event.committed_at, visit.now)) }
            @if let Some(key) = &record.idempotency_key {
                dt { "Idempotency key" } dd { code { (key) } }
            }
            @if let Some(trace) = &record.trace {
                dt { "Trace" } dd { code { (trace) } }
            }
            @if view.later_records > 0 {
                dt { "Attempts" } dd { (view.later_records) " more after the first" }
            }
            @for warning in &record.warnings { dt { "Warning" } dd { (sentence(warning)) } }
            @if record.late {
                dt { "Late" }
                dd {
                    "It happened before what its entity had already seen, so it rolled nothing \
                     back."
                }
            }
        }
    }
}

fn sequence_of(view: &EventView) -> Option<u64> {
    let decided = view.resolution.as_ref().unwrap_or(&view.event);
    view.event.record.sequence.or(decided.record.sequence)
}

fn failure_of(view: &EventView) -> Option<&str> {
    let decided = view.resolution.as_ref().unwrap_or(&view.event);
    let failure = decided.record.failure.as_ref();
    failure
        .filter(|_| view.status == EventStatus::Failed)
        .map(|failure| failure.message.as_str())
}

fn status_word(status: EventStatus) -> Markup {
    match status {
        EventStatus::Processing => badge(StateTone::Neutral, "processing"),
        EventStatus::Completed => badge(StateTone::Good, "completed"),
        EventStatus::Failed => badge(StateTone::Bad, "failed"),
    }
}
