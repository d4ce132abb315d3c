//! Buttons of a webhook's page: test, pause, resume, rotation of the secret, redelivery, deletion.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::super::form::{FormFields, as_utc};
use super::super::notice::{SessionNotice, VERIFIES};
use super::super::visit::{PageReply, PageVisit};
use super::state::LIST_PATH;
use crate::edge::error::ApiError;
use crate::edge::jobs::redelivery;
use crate::edge::webhooks;
use crate::edge::webhooks::actions;
use crate::event::Timestamp;

/// Handles `POST …/{id}/test`: calls the target with a ping and shows its answer.
pub(in crate::edge::dashboard) async fn test(
    visit: &mut PageVisit<'_>,
    _form: &FormFields,
) -> Result<PageReply, ApiError> {
    let id: String = visit.path()?;
    let ping = actions::ping_target(visit.edge(), &id).await?;
    let status = ping.status.map_or_else(
        || "no answer".to_owned(),
        |status| format!("status {status}"),
    );
    let reason = ping
        .detail
        .map(|detail| format!(": {detail}"))
        .unwrap_or_default();
    visit.notify(SessionNotice::Ping {
        is_successful: ping.is_successful,
        summary: format!("{status} in {:.0} ms{reason}.", ping.duration_ms),
        answer: ping.answer,
    });
    Ok(back(&id))
}

/// Handles `POST …/{id}/pause`: keeps events from now on.
pub(in crate::edge::dashboard) async fn pause(
    visit: &mut PageVisit<'_>,
    _form: &FormFields,
) -> Result<PageReply, ApiError> {
    let id: String = visit.path()?;
    actions::pause_deliveries(visit.edge(), &id).await?;
    Ok(visit.done(
        "Paused. Events are kept until you resume the webhook.",
        path(&id),
    ))
}

/// Handles `POST …/{id}/resume`: delivers again.
pub(in crate::edge::dashboard) async fn resume(
    visit: &mut PageVisit<'_>,
    _form: &FormFields,
) -> Result<PageReply, ApiError> {
    let id: String = visit.path()?;
    actions::resume_deliveries(visit.edge(), &id).await?;
    Ok(visit.done("Resumed. Waiting events go out now.", path(&id)))
}

/// Handles `POST …/{id}/rotate-secret`, and shows the new secret once.
pub(in crate::edge::dashboard) async fn rotate(
    visit: &mut PageVisit<'_>,
    form: &FormFields,
) -> Result<PageReply, ApiError> {
    let id: String = visit.path()?;
    let overlap = form.text("overlap_h").parse::<f64>();
    let request = overlap.map_or_else(|_| json!({}), |hours| json!({ "overlap_h": hours }));
    let rotated = actions::rotate_secret(visit.edge(), &id, &request.to_string()).await?;
    visit.notify(SessionNotice::NewSecret {
        owner: format!("webhook {}", rotated.id),
        purpose: VERIFIES,
        secret: rotated.secrets.current.clone(),
    });
    Ok(back(&id))
}

/// Handles `POST …/{id}/recover`: delivers the dead letters of a time range again.
pub(in crate::edge::dashboard) async fn recover(
    visit: &mut PageVisit<'_>,
    form: &FormFields,
) -> Result<PageReply, ApiError> {
    let id: String = visit.path()?;
    let request = Value::Object(time_range(form)).to_string();
    let job = redelivery::start_recovery(visit.edge(), &id, &request).await?;
    Ok(visit.done(format!("Job {} recovers what failed.", job.id), path(&id)))
}

/// Handles `POST …/{id}/replay`: delivers all events of a time range again.
pub(in crate::edge::dashboard) async fn replay(
    visit: &mut PageVisit<'_>,
    form: &FormFields,
) -> Result<PageReply, ApiError> {
    let id: String = visit.path()?;
    let mut request = time_range(form);
    let patterns: Vec<_> = form
        .text("events")
        .split([',', ' ', '\n'])
        .filter(|pattern| !pattern.is_empty())
        .collect();
    if !patterns.is_empty() {
        request.insert("events".to_owned(), json!(patterns));
    }
    let request = Value::Object(request).to_string();
    let job = redelivery::start_replay(visit.edge(), &id, &request).await?;
    Ok(visit.done(
        format!("Job {} delivers the events again.", job.id),
        path(&id),
    ))
}

/// Handles `POST …/{id}/delete`, which the person has confirmed by a tick.
pub(in crate::edge::dashboard) async fn delete(
    visit: &mut PageVisit<'_>,
    form: &FormFields,
) -> Result<PageReply, ApiError> {
    let id: String = visit.path()?;
    if !form.has("confirmed") {
        let problem = "tick the box to say that you mean it".to_owned();
        return Err(ApiError::wrong_field("confirmed", problem));
    }
    webhooks::delete_subscription(visit.edge(), &id).await?;
    Ok(visit.done(format!("Webhook {id} was deleted."), LIST_PATH))
}

fn path(id: &str) -> String {
    format!("{LIST_PATH}/{id}")
}

fn back(id: &str) -> PageReply {
    PageReply::SeeOther(path(id))
}

/// Reads the members `since` and `until` of a redelivery from fields without a time zone, in UTC.
fn time_range(form: &FormFields) -> Map<String, Value> {
    let mut members = Map::new();
    for name in ["since", "until"] {
        let text = form.text(name);
        if !text.is_empty() {
            members.insert(name.to_owned(), json!(as_utc(text)));
        }
    }
    members
}

/// Writes the time `ago` before `now` for a field of a form, in UTC to the minute.
pub(super) fn field_time(now: Timestamp, ago: Duration) -> String {
    now.saturating_sub(ago)
        .to_string()
        .chars()
        .take(16)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_before_now_is_written_to_the_minute() {
        let now = Timestamp::parse("2026-01-31T10:30:15Z").expect("a time");
        assert_eq!(field_time(now, Duration::from_secs(60)), "2026-01-31T10:29");
    }
}
