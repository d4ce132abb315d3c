//! `GET /api/v1/entities/{kind}/{id}/export`: everything that is stored of an entity, as JSON lines.
//!
//! ```text
//!  first line   the entity with its state, as GET /api/v1/entities/{kind}/{id} answers it
//!  each other   one event, in the order of acceptance, the failed ones too
//! ```

use std::borrow::Cow;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use actix_web::HttpResponse;
use actix_web::body::{BodySize, MessageBody};
use actix_web::http::header::CACHE_CONTROL;
use bytes::Bytes;
use serde::Serialize;
use serde_json::value::RawValue;
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;

use super::super::answer::JSON_LINES;
use super::super::blocking::run_blocking;
use super::super::context::RequestContext;
use super::super::error::ApiError;
use super::entities::{entity_with_state, no_such_entity, parse_entity_key};
use super::stored_event_id;
use crate::event::{IncarnationHistory, Position, Timestamp};
use crate::projection::{ProjectionReadError, ProjectionReader, StoredRecord};

/// Events that are read at once at most; fewer if their content is large.
const PAGE_EVENTS: usize = 64;

/// Pages that wait for a slow reader.
const PAGES_WAITING: usize = 2;

/// Event in one line of an export.
#[derive(Serialize)]
struct ExportedEvent<'a> {
    sequence: Option<u64>,
    event_id: String,
    source: &'a str,
    r#type: &'a str,
    at: Timestamp,
    received_at: Timestamp,
    late: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    failure: Option<ExportedFailure<'a>>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    erased: bool,
    /// Time at which retention removed the content.
    #[serde(skip_serializing_if = "Option::is_none")]
    removed_at: Option<Timestamp>,
    data: Option<Cow<'a, RawValue>>,
    payload: Option<Cow<'a, RawValue>>,
}

/// Failure of an event that its entity did not apply.
#[derive(Serialize)]
struct ExportedFailure<'a> {
    code: u16,
    message: &'a str,
}

/// Handles `GET /api/v1/entities/{kind}/{id}/export`: writes out all that is stored of an entity.
pub(in crate::edge) async fn export(
    context: &mut RequestContext,
) -> Result<HttpResponse, ApiError> {
    let (kind, id): (String, String) = context.parse_path()?;
    let key = parse_entity_key(&kind, &id)?;
    context.refuse_parameters()?;
    let core = context.edge.core()?;
    let end = core.reads.answered_end().await?;
    let history = core.reads.history(&key).await?.ok_or_else(no_such_entity)?;
    let positions = core.reads.record_positions(&key, end).await?;

    let edge = context.edge.clone();
    let first = run_blocking(Arc::clone(&core), move |core| {
        let mut line = Vec::new();
        add_line(&mut line, &entity_with_state(&key, &history, &edge, core)?);
        Ok::<_, ApiError>(line)
    });
    let first = first.await?;
    let (sender, lines) = mpsc::channel(PAGES_WAITING);
    let reads = core.reads.clone();
    actix_rt::spawn(async move {
        if sender.send(Ok(first.into())).await.is_ok() {
            send_events(&reads, positions, &sender).await;
        }
    });
    Ok(HttpResponse::Ok()
        .content_type(JSON_LINES)
        .insert_header((CACHE_CONTROL, "no-store"))
        .body(LineBody(lines)))
}

/// Sends the events at `positions`, until all are sent or nobody reads them.
async fn send_events(
    reads: &ProjectionReader,
    positions: Vec<Position>,
    sender: &mpsc::Sender<Result<Bytes, ProjectionReadError>>,
) {
    let mut left = &positions[..];
    while !left.is_empty() {
        let page = read_lines(reads, left).await.map(|(lines, read)| {
            left = &left[read..];
            lines
        });
        let has_failed = page.is_err();
        // The reader has gone, or the connection breaks off, by which it notices the failure.
        if sender.send(page).await.is_err() || has_failed {
            return;
        }
    }
}

/// Returns the lines of the first events at `positions`, and the number of positions that were read.
async fn read_lines(
    reads: &ProjectionReader,
    positions: &[Position],
) -> Result<(Bytes, usize), ProjectionReadError> {
    let page = positions.iter().copied().take(PAGE_EVENTS).collect();
    let (records, read) = reads.first_kept_records(page).await?;
    let reads = reads.clone();
    let lines = spawn_blocking(move || {
        let mut lines = Vec::new();
        for stored in &records {
            add_line(&mut lines, &exported_event(reads.incarnations(), stored));
        }
        Bytes::from(lines)
    });
    let lines = lines.await.map_err(|_| ProjectionReadError::Cancelled)?;
    Ok((lines, read))
}

fn exported_event<'a>(
    incarnations: &IncarnationHistory,
    stored: &'a StoredRecord,
) -> ExportedEvent<'a> {
    let record = &stored.record;
    ExportedEvent {
        sequence: record.sequence,
        event_id: stored_event_id(incarnations, stored).to_string(),
        source: &record.source,
        r#type: &record.event_type,
        at: record.at,
        received_at: stored.received_at,
        late: record.late,
        failure: record.failure.as_ref().map(|failure| ExportedFailure {
            code: failure.code,
            message: &failure.message,
        }),
        erased: record.is_erased(),
        removed_at: record.content_expired_at(),
        data: record.data(),
        payload: record.payload_json(),
    }
}

/// Adds `value` as one line of JSON. Sources may send JSON of several lines.
fn add_line(lines: &mut Vec<u8>, value: &impl Serialize) {
    let mut line = serde_json::to_vec(value).unwrap_or_default();
    // JSON has line breaks only between its tokens.
    for byte in &mut line {
        if matches!(*byte, b'\n' | b'\r') {
            *byte = b' ';
        }
    }
    lines.append(&mut line);
    lines.push(b'\n');
}

/// Body of an answer that is made while it is sent.
struct LineBody(mpsc::Receiver<Result<Bytes, ProjectionReadError>>);

impl MessageBody for LineBody {
    type Error = Box<dyn std::error::Error>;

    fn size(&self) -> BodySize {
        BodySize::Stream
    }

    fn poll_next(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Self::Error>>> {
        let next = self.0.poll_recv(context);
        next.map(|page| page.map(|page| page.map_err(Into::into)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_of_several_lines_becomes_one_line() {
        let mut lines = Vec::new();
        let value: Box<RawValue> =
            serde_json::from_str("{\n  \"text\": \"a\\nb\"\r\n}").expect("JSON");
        add_line(&mut lines, &value);
        assert_eq!(lines, b"{   \"text\": \"a\\nb\"  }\n");
    }
}
