//! `GET /api/v1/backup`: an archive of the store, sent while the node goes on.
//!
//! ```text
//!  journal ──image──> thread: read, compress ──a few chunks──> body of the answer
//! ```

use std::thread;

use actix_web::HttpResponse;
use actix_web::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use tracing::{info, warn};

use super::backup_streams::ChunkSender;
use super::blocking::run_blocking;
use super::context::RequestContext;
use super::docs::endpoint::{EndpointAccess, EndpointDoc};
use super::docs::schemas;
use super::error::ApiError;
use super::query::parse_number;
use crate::error_chain;
use crate::event::Position;
use crate::journal::{ArchiveHeader, BackupStart, LogPlace, StoreImage, StoreImageError};

pub(super) const TAG: &str = "Store";

const MEDIA_TYPE: &str = "application/octet-stream";

/// Handles `GET /api/v1/backup`: sends an archive of everything that is durable now.
pub(super) async fn send(context: &mut RequestContext) -> Result<HttpResponse, ApiError> {
    let start = parse_start(context)?;
    let core = context.edge.core()?;
    let stream = context.edge.backups.try_begin();
    let (writer, body) = stream.ok_or(ApiError::TooManyBackups)?;

    let created_at = context.edge.clock.wall();
    let (image, header) = run_blocking(core, move |core| {
        let image = core.journal.take_image()?;
        let header = image.header_from(start, created_at)?;
        Ok::<_, StoreImageError>((image, header))
    })
    .await?;

    // A thread of its own: a backup may take long, and reads must not wait for it.
    thread::Builder::new()
        .name("backup".into())
        .spawn(move || write_image(&image, &header, writer))
        .map_err(|error| {
            warn!(error = &error as &dyn std::error::Error, "backup not begun");
            ApiError::Unavailable
        })?;
    Ok(HttpResponse::Ok()
        .insert_header((CONTENT_TYPE, MEDIA_TYPE))
        .insert_header((CACHE_CONTROL, "no-store"))
        .body(body))
}

fn parse_start(context: &RequestContext) -> Result<BackupStart, ApiError> {
    let mut parameters = context.parameters(&["since", "since_change"]);
    let mut number = |name: &'static str| {
        let text = parameters.take_text(name)?;
        let number = parse_number(&text).filter(|number| *number > 0);
        if number.is_none() {
            parameters.add_error(name, "must be a whole number from 1 on");
        }
        number
    };
    let (position, change) = (number("since"), number("since_change"));
    if change.is_some() && position.is_none() {
        parameters.add_error("since_change", "must come with since");
    }
    let start = match (position.map(Position::new), change) {
        (None, _) => BackupStart::Everything,
        (Some(position), None) => BackupStart::Position(position),
        (Some(position), Some(change)) => BackupStart::Place(LogPlace { position, change }),
    };
    parameters.finish(start)
}

/// Writes the archive. An error ends the answer before its end, so that no part of an archive looks
/// whole.
fn write_image(image: &StoreImage, header: &ArchiveHeader, mut writer: ChunkSender) {
    match image.write_archive(header, &mut writer, &mut |_| ()) {
        Ok(summary) => {
            let end = header.end.position.get();
            info!(records = summary.records, end, "backup sent");
        }
        Err(failure) => {
            let error = error_chain::format_error_chain(&failure);
            warn!(%error, "backup ended early");
            writer.break_off(error);
        }
    }
}

impl From<StoreImageError> for ApiError {
    fn from(error: StoreImageError) -> Self {
        if let StoreImageError::StartAfterEnd { end, .. } = error {
            return Self::wrong_field("since", format!("since must be at most {end}"));
        }
        if let StoreImageError::Removed { begin, .. } = error {
            let detail =
                format!("must be at least {begin}: earlier events were removed by retention");
            return Self::wrong_field("since", detail);
        }
        warn!(error = &error as &dyn std::error::Error, "backup not begun");
        Self::Unavailable
    }
}

/// Describes the endpoint for the OpenAPI description.
pub(super) fn describe() -> EndpointDoc {
    EndpointDoc::new(
        TAG,
        "downloadBackup",
        "Back up the store of the running node",
    )
    .about(
        "Sends an archive of all events, definitions, dead letters and cursors that are \
             durable now; `hookyard backup` saves it and `hookyard restore` reads it. The archive \
             holds secrets. An answer that ends early is no archive: its last part is missing, \
             which a restore notices. At most 2 backups are sent at once.",
    )
    .access(EndpointAccess::Admin)
    .query(
        "since",
        "Only what came from this position on: an increment of an earlier backup.",
        schemas::integer(1, u64::MAX),
        1,
    )
    .query(
        "since_change",
        "With `since`: number of the first group of table changes of the increment.",
        schemas::integer(1, u64::MAX),
        1,
    )
    .answers_bytes(200, "The archive.")
    .refuses_field("since", "since must be at most 1042")
    .refuses(
        429,
        "too_many_backups",
        "2 backups are being sent already, retry later",
    )
    .refuses_when_not_ready()
}
