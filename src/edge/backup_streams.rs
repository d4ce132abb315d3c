//! Streams of backups: permits for a few at once, and the way of each from its thread to the answer.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::chunk_body::ChunkBody;

/// Backups that may be sent at once: each reads the whole journal, beside the node's own work.
const BACKUPS_MAX: usize = 2;

/// Chunks that wait for the network. A chunk has some 100 KB.
const CHUNKS_WAITING: usize = 4;

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

/// Pause before the next attempt to send a chunk that the client has no room for.
const STALL_WAIT: Duration = Duration::from_millis(20);
/// Number of attempts before a client that reads nothing is given up: a minute in all.
const STALL_WAITS_MAX: u32 = 3_000;

impl BackupStreams {
    /// Begins a stream; `None` while as many as allowed are being sent.
    pub(super) fn try_begin(&self) -> Option<(ChunkSender, ChunkBody)> {
        let permit = Arc::clone(&self.permits).try_acquire_owned().ok()?;
        let (sender, receiver) = mpsc::channel(CHUNKS_WAITING);
        let writer = ChunkSender {
            sender,
            is_stopping: Arc::clone(&self.is_stopping),
            _permit: permit,
        };
        Some((writer, ChunkBody::new(receiver, None)))
    }

    /// Ends all backups that are being sent, so that they do not hold up the stop of the node.
    pub(super) fn end(&self) {
        self.is_stopping.store(true, Ordering::Relaxed);
    }
}

/// Sink of an archive, which sends each chunk to the body.
pub(super) struct ChunkSender {
    sender: mpsc::Sender<io::Result<Bytes>>,
    is_stopping: Arc<AtomicBool>,
    _permit: OwnedSemaphorePermit,
}

impl ChunkSender {
    /// Ends the answer before its end, so that no part of an archive looks whole.
    pub(super) fn break_off(self, reason: String) {
        // A client that reads nothing or has gone misses the last part of the archive anyway.
        let _ = self.sender.try_send(Err(io::Error::other(reason)));
    }
}

impl Write for ChunkSender {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.is_stopping.load(Ordering::Relaxed) {
            return Err(io::Error::other("the node is stopping"));
        }
        let mut chunk = Ok(Bytes::copy_from_slice(bytes));
        for _ in 0..STALL_WAITS_MAX {
            match self.sender.try_send(chunk) {
                Ok(()) => return Ok(bytes.len()),
                Err(TrySendError::Closed(_)) => {
                    let gone = "the client has gone";
                    return Err(io::Error::new(io::ErrorKind::BrokenPipe, gone));
                }
                Err(TrySendError::Full(back)) => chunk = back,
            }
            if self.is_stopping.load(Ordering::Relaxed) {
                return Err(io::Error::other("the node is stopping"));
            }
            thread::park_timeout(STALL_WAIT);
        }
        // Retention waits for backups, so none may last for ever.
        let stalled = "the client has read nothing for a minute";
        Err(io::Error::new(io::ErrorKind::TimedOut, stalled))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
