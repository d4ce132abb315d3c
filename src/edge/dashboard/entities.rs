//! Entities: list of a kind, and one entity with its state and its story.

use std::sync::Arc;

use actix_web::http::header::{CONTENT_DISPOSITION, HeaderValue};
use maud::{Markup, html};

use super::elements::{
    StateTone, badge, counted, csrf_field, empty_state, entity_link, entity_path, event_link,
    json_block, number, pager, time,
};
use super::events::known_kinds;
use super::filter_form::FilterForm;
use super::form::FormFields;
use super::layout::{DashboardSection, PageContent};
use super::visit::{PageReply, PageVisit};
use crate::edge::blocking::run_blocking;
use crate::edge::erasures::erase_entity;
use crate::edge::error::ApiError;
use crate::edge::gate::NodeCore;
use crate::edge::reads::entities::{
    no_such_entity, parse_entity_key, parse_kind, render_state, summarize_record,
};
use crate::edge::reads::{export, stored_event_id};
use crate::event::Kind;
use crate::projection::StoredRecord;
use crate::token::AccessOperation;

const LIST_PATH: &str = "/dashboard/entities";

/// Handles `GET /dashboard/entities`: lists the entities of a kind, or opens one by its id.
pub(super) async fn show(visit: &mut PageVisit<'_>) -> Result<PageReply, ApiError> {
    let query = visit.query();
    let kind = match query.text("kind") {
        "" => Kind::Ticket,
        name => parse_kind(name)?,
    };
    let id = query.text("id");
    if !id.is_empty() {
        let key = parse_entity_key(kind.as_str(), id)?;
        return Ok(PageReply::SeeOther(entity_path(&key)));
    }
    let mut parameters = visit.parameters(&["kind", "page", "page_size"]);
    let page = parameters.page_request();
    let page = parameters.finish(page)?;
    let core = visit.core()?;

    let found = core.reads.entities(kind, page).await?;
    let mut rows = Vec::with_capacity(found.items.len());
    for key in &found.items {
        // An entity that was removed between the two reads is left out.
        if let Some((first, last)) = core.reads.first_and_last(key).await? {
            rows.push(html! {
                tr {
                    td.first { span.strong-link { (entity_link(key)) } }
                    td.num data-label="Events" {
                        (number(last.record.sequence.unwrap_or_default()))
                    }
                    td data-label="Last event" {
                        (event_link(
                            stored_event_id(core.reads.incarnations(), &last),
                            &last.record.event_type,
                        ))
                    }
                    td data-label="Last received" { (time(last.received_at, visit.now)) }
                    td data-label="First received" { (time(first.received_at, visit.now)) }
                }
            });
        }
    }
    let kind_query = query.clone().with("kind", kind.as_str());
    let body = html! {
        div.panel {
            (render_filter(&kind_query, visit))
            div id="entity-rows" data-live {
                @if rows.is_empty() {
                    (empty_state(&format!("No {} yet.", kind.as_str()), html! {
                        "An entity begins with its first event. Choose another kind above, or see \
                         how to "
                        a href="/dashboard/sources" { "send events" } "."
                    }))
                } @else { (render_table(&rows)) }
                (pager(LIST_PATH, &kind_query, page, found.total))
            }
        }
    };
    let lead = html! {
        "Tickets, leads, customers, conversations … each with its events in strict order. The \
         newest first."
    };
    Ok(
        PageContent::new(DashboardSection::Entities, "Entities", body)
            .lead(lead)
            .refreshed_every(10)
            .into(),
    )
}

/// Handles `GET /dashboard/entities/{kind}/{id}`: tells the story of an entity.
pub(super) async fn show_one(visit: &mut PageVisit<'_>) -> Result<PageReply, ApiError> {
    let (kind, id): (String, String) = visit.path()?;
    let key = parse_entity_key(&kind, &id)?;
    let query = visit.query();
    let mut parameters = visit.parameters(&["page", "page_size"]);
    let page = parameters.page_request();
    let page = parameters.finish(page)?;
    let core = visit.core()?;
    let history = core.reads.history(&key).await?.ok_or_else(no_such_entity)?;
    let (shown, edge) = (key.clone(), visit.context.edge.clone());
    let rendered = run_blocking(Arc::clone(&core), move |core| {
        let state = render_state(&shown, &history, &edge, core)?;
        Ok::<_, ApiError>((state, history))
    });
    let (state, history) = rendered.await?;
    let timeline = core
        .reads
        .timeline(&key, page)
        .await?
        .ok_or_else(no_such_entity)?;

    let path = entity_path(&key);
    let last = history.last.record.sequence.unwrap_or_default();
    let body = html! {
        div.grid.wide {
            section.panel id="story" data-live {
                header {
                    h2 { "Story" }
                    span.muted.small { (counted(last, "event", "events")) ", the newest first" }
                }
                div.inside {
                    ol.story reversed {
                        @for stored in &timeline.page.items {
                            (render_chapter(stored, &core, visit))
                        }
                    }
                    @if timeline.first_sequence > 1 {
                        p.muted {
                            "Events before number " (timeline.first_sequence)
                            " were removed, because they are older than events are kept."
                        }
                    }
                }
                (pager(&path, &query, page, timeline.page.total))
            }
            section.panel id="state" data-live {
                header { h2 { "State" } span.muted.small { "after event " (last) } }
                div.inside { (json_block(state.get())) }
            }
        }
    };
    let export = html! { a.button href={ (path) "/export" } download { "Export" } };
    let body = html! { (body) (render_erasure(&path, visit)) };
    Ok(PageContent::new(DashboardSection::Entities, key.id(), body)
        .under("Entities", LIST_PATH)
        .under(
            key.kind().as_str(),
            format!(
                "{LIST_PATH}?{}",
                FormFields::default()
                    .with("kind", key.kind().as_str())
                    .to_query()
            ),
        )
        .lead(html! {
            "Began " (time(history.first.received_at, visit.now)) ", last event "
            (time(history.last.received_at, visit.now)) "."
        })
        .actions(export)
        .refreshed_every(5)
        .into())
}

/// Handles `GET /dashboard/entities/{kind}/{id}/export`: sends all that is stored of an entity.
pub(super) async fn export(visit: &mut PageVisit<'_>) -> Result<PageReply, ApiError> {
    let mut response = export::export(visit.context).await?;
    let attachment = HeaderValue::from_static("attachment; filename=\"entity.jsonl\"");
    response
        .headers_mut()
        .insert(CONTENT_DISPOSITION, attachment);
    Ok(PageReply::Other(response))
}

/// Handles `POST /dashboard/entities/{kind}/{id}/erase`, which the person confirmed by the id.
pub(super) async fn erase(
    visit: &mut PageVisit<'_>,
    form: &FormFields,
) -> Result<PageReply, ApiError> {
    let (kind, id): (String, String) = visit.path()?;
    let key = parse_entity_key(&kind, &id)?;
    if form.text("confirmed") != key.id().trim() {
        let problem = "write the id of the entity to say that you mean it".to_owned();
        return Err(ApiError::wrong_field("confirmed", problem));
    }
    let erasure = erase_entity(visit.edge(), &key).await?;
    let message = format!(
        "No page and no answer shows the content any more. Erasure {} cleans the files.",
        erasure.id
    );
    Ok(visit.done(message, entity_path(&key)))
}

fn render_erasure(path: &str, visit: &PageVisit<'_>) -> Markup {
    if !visit.may(AccessOperation::EntitiesErase) {
        return html! {};
    }
    html! {
        section.panel {
            details {
                summary.section-title { "Erase" }
                form.stack.inside method="post" action={ (path) "/erase" } {
                    (csrf_field(&visit.session))
                    p {
                        "Erases the content of all events of this entity so far, for a person who asks \
                         for it. This is final. Backups made before still hold it."
                    }
                    div.field {
                        label for="confirmed" { "Id of the entity" }
                        input type="text" id="confirmed" name="confirmed" required autocomplete="off"
                            spellcheck="false";
                    }
                    div { button.danger type="submit" { "Erase for good" } }
                }
            }
        }
    }
}

fn render_filter(query: &FormFields, visit: &PageVisit<'_>) -> Markup {
    let kinds = known_kinds(visit.edge());
    let kinds = kinds.iter().map(|kind| (kind.as_str(), kind.as_str()));
    FilterForm::new(LIST_PATH, query)
        .choice("kind", "Kind", kinds)
        .example("id", "Open by id", "SUP-1042")
        .button("Show")
        .render()
}

fn render_table(rows: &[Markup]) -> Markup {
    html! {
        table.cards {
            thead { tr {
                th scope="col" { "Entity" }
                th.num scope="col" { "Events" }
                th scope="col" { "Last event" }
                th scope="col" { "Last received" }
                th scope="col" { "First received" }
            } }
            tbody { @for row in rows { (row) } }
        }
    }
}

/// Renders one event of the entity as a part of its story.
fn render_chapter(stored: &StoredRecord, core: &NodeCore, visit: &PageVisit<'_>) -> Markup {
    let record = &stored.record;
    let actor = record.envelope_member("actor");
    html! {
        li class=[record.late.then_some("late")] {
            p.what {
                (summarize_record(record))
                @if record.late { " " (badge(StateTone::Warning, "late")) }
            }
            p.muted.small {
                @if let Some(sequence) = record.sequence { "#" (sequence) " · " }
                (event_link(stored_event_id(core.reads.incarnations(), stored), &record.event_type))
                " · " (time(record.at, visit.now)) " · " (record.source)
            }
            @if record.data().is_some() || actor.is_some() {
                details {
                    summary { "Data" }
                    @if let Some(actor) = actor { p.small { "By " code { (actor.get()) } } }
                    @if let Some(data) = record.data() { (json_block(data.get())) }
                }
            }
        }
    }
}
