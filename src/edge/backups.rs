//! `GET /api/v1/backup`: an archive of the store, sent while the node goes on.
//!
//! ```text
//!  journal ──image──> thread: read, compress ──a few chunks──> body of the answer
//! ```

use std::io::{self, Write};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::thread;

use actix_web::HttpResponse;
use actix_web::body::{BodySize, MessageBody};
use actix_web::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tracing::{info, warn};

use super::blocking::run_blocking;
use super::context::RequestContext;
use super::docs::endpoint::{EndpointAccess, EndpointDoc};
use super::error::ApiError;
use super::query::parse_number;
use crate::error_chain;
use crate::event::Position;
use crate::journal::{ArchiveHeader, BackupStart, LogPlace, StoreImage, StoreImageError};

pub(super) const TAG: &str = "Store";

/// Backups that may be sent at once: each reads the whole journal, beside the node's own work.
const BACKUPS_MAX: usize = 2;

/// Chunks that wait for the network. A chunk has some 100 KB.
const CHUNKS_WAITING: usize = 4;

const MEDIA_TYPE: &str = "application/octet-stream";

/// Permits of the backups that are being sent, and the end of all of them.
#[derive(Debug)]
pub(super) struct BackupStreams {
    permits: Arc<Semaphore>,
    is_stopping: Arc<AtomicBool>,
}

impl Default for BackupStreams {
    fn default() -> Self {
        Self {
            permits: Arc::new(Semaphore::new(BACKUPS_MAX)),
            is_stopping: Arc::default(),
        }
    }
}

impl BackupStreams {
    /// Ends all backups that are being sent, so that they do not hold up the stop of the node.
    pub(super) fn end(&self) {
        self.is_stopping.store(true, Ordering::Relaxed);
    }
}

/// Handles `GET /api/v1/backup`: sends an archive of everything that is durable now.
pub(super) async fn send(context: &mut RequestContext) -> Result<HttpResponse, ApiError> {
    let start = parse_start(context)?;
    let core = context.edge.core()?;
    let streams = &context.edge.backups;
    let permit = Arc::clone(&streams.permits).try_acquire_owned();
    let permit = permit.map_err(|_| ApiError::TooManyBackups)?;

    let created_at = context.edge.clock.wall();
    let (image, header) = run_blocking(core, move |core| {
        let image = core.journal.take_image()?;
        let header = image.header_from(start, created_at)?;
        Ok::<_, StoreImageError>((image, header))
    })
    .await?;

    let (sender, receiver) = mpsc::channel(CHUNKS_WAITING);
    let writer = ChunkSender {
        sender,
        is_stopping: Arc::clone(&streams.is_stopping),
        _permit: permit,
    };
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
        .body(ArchiveBody { receiver }))
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
            warn!(error, "backup ended early");
            // Without a receiver, the client has gone.
            let _ = writer.sender.blocking_send(Err(io::Error::other(error)));
        }
    }
}

/// Sink of the archive: sends each chunk to the body.
struct ChunkSender {
    sender: mpsc::Sender<io::Result<Bytes>>,
    is_stopping: Arc<AtomicBool>,
    _permit: OwnedSemaphorePermit,
}

impl Write for ChunkSender {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.is_stopping.load(Ordering::Relaxed) {
            return Err(io::Error::other("the node is stopping"));
        }
        self.sender
            .blocking_send(Ok(Bytes::copy_from_slice(bytes)))
            .map_err(|_| io::Error::new(io::ErrorKind::BrokenPipe, "the client has gone"))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Body of the answer, chunk by chunk.
struct ArchiveBody {
    receiver: mpsc::Receiver<io::Result<Bytes>>,
}

impl MessageBody for ArchiveBody {
    type Error = io::Error;

    fn size(&self) -> BodySize {
        BodySize::Stream
    }

    fn poll_next(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Bytes>>> {
        self.receiver.poll_recv(context)
    }
}

impl From<StoreImageError> for ApiError {
    fn from(error: StoreImageError) -> Self {
        if let StoreImageError::StartAfterEnd { end, .. } = error {
            return Self::wrong_field("since", format!("since must be at most {end}"));
        }
        warn!(error = &error as &dyn std::error::Error, "backup not begun");
        Self::Unavailable
    }
}

/// Describes the endpoint for the OpenAPI description.
pub(super) fn describe() -> EndpointDoc {
    EndpointDoc::new(TAG, "Back up the store of the running node")
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
            1,
        )
        .query(
            "since_change",
            "With `since`: number of the first group of table changes of the increment.",
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
