//! Trial of a form's filter and transform on the newest event that its patterns admit.

use maud::{Markup, html};

use super::super::elements::{StateTone, badge, entity_link, event_link, json_block, time};
use super::super::form::FormFields;
use super::super::layout::sentence;
use super::super::visit::PageVisit;
use super::fields::patterns_of;
use crate::edge::error::ApiError;
use crate::edge::reads::stored_event_id;
use crate::event::Record;
use crate::projection::{EventFilter, PageRequest, StoredRecord};
use crate::subscription::pattern::is_internal_record;
use crate::subscription::{FilterExpression, Pattern, TransformExpression, envelope};

/// Newest events among which one is sought.
const EVENTS_SEARCHED: u64 = 100;

/// Tries the expressions of `form` and renders the result.
///
/// # Errors
/// [`ApiError::Unavailable`] when the store fails.
pub(super) async fn try_expressions(
    visit: &PageVisit<'_>,
    form: &FormFields,
) -> Result<Markup, ApiError> {
    let core = visit.core()?;
    let Some(stored) = find_event(visit, form).await? else {
        return Ok(html! {
            div.notice.bad role="status" {
                p {
                    "None of the last " (EVENTS_SEARCHED)
                    " events is one that this webhook follows, so there is nothing to try on."
                }
            }
        });
    };

    let record = &stored.record;
    let id = stored_event_id(core.reads.incarnations(), &stored);
    Ok(html! {
        section.panel role="status" aria-label="Trial" {
            header {
                h2 { "Tried on the newest event" }
                span {
                    (event_link(id, &record.event_type)) " of " (entity_link(&record.entity)) ", "
                    (time(stored.received_at, visit.now))
                }
            }
            div.inside {
                (render_filter(form.text("filter"), record))
                (render_transform(form.text("transform"), record))
            }
        }
    })
}

/// Finds the newest event that the patterns of `form` admit; any event if there are none.
async fn find_event(
    visit: &PageVisit<'_>,
    form: &FormFields,
) -> Result<Option<StoredRecord>, ApiError> {
    let vocabulary = visit.edge().vocabulary();
    let patterns: Vec<_> = patterns_of(form)
        .filter_map(|pattern| Pattern::parse(pattern, vocabulary).ok())
        .collect();
    let admits = |record: &Record| {
        let is_internal = is_internal_record(record);
        let admits = |pattern: &Pattern| {
            pattern.admits(record.entity.kind(), &record.event_type, is_internal)
        };
        patterns.is_empty() && !is_internal || patterns.iter().any(admits)
    };

    let page = PageRequest {
        page: 1,
        page_size: EVENTS_SEARCHED,
    };
    let newest = visit
        .core()?
        .reads
        .newest_events(EventFilter::default(), page, 0)
        .await?;
    let mut events = newest.items.into_iter().map(|view| view.event);
    Ok(events.find(|stored| {
        let record = &stored.record;
        let is_whole = record.has_content() && !stored.omits_content;
        record.sequence.is_some() && is_whole && admits(record)
    }))
}

fn render_filter(text: &str, record: &Record) -> Markup {
    if text.is_empty() {
        return html! { p { (badge(StateTone::Good, "delivered")) " There is no filter." } };
    }
    let result = FilterExpression::compile(text)
        .map_err(|error| error.to_string())
        .and_then(|filter| filter.admits(record).map_err(|error| error.to_string()));
    match result {
        Ok(true) => html! { p { (badge(StateTone::Good, "delivered")) " The filter is true." } },
        Ok(false) => {
            html! { p { (badge(StateTone::Neutral, "not delivered")) " The filter is false." } }
        }
        Err(error) => {
            html! { p { (badge(StateTone::Bad, "filter fails")) " " (sentence(&error)) } }
        }
    }
}

fn render_transform(text: &str, record: &Record) -> Markup {
    let body = if text.is_empty() {
        Ok(envelope::encode_envelope(record))
    } else {
        TransformExpression::compile(text)
            .map_err(|error| error.to_string())
            .and_then(|transform| {
                transform
                    .render_body(record)
                    .map_err(|error| error.to_string())
            })
    };
    match body {
        Ok(body) => html! { h3 { "Body" } (json_block(&String::from_utf8_lossy(&body))) },
        Err(error) => {
            html! { p { (badge(StateTone::Bad, "transform fails")) " " (sentence(&error)) } }
        }
    }
}
