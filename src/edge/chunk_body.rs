//! Body of an answer that is made or fetched elsewhere, chunk by chunk.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use actix_web::body::{BodySize, MessageBody};
use bytes::Bytes;
use tokio::sync::mpsc;

/// Body whose chunks come over a channel. An error breaks the answer off, so that no part of it looks
/// whole.
pub(super) struct ChunkBody {
    receiver: mpsc::Receiver<io::Result<Bytes>>,
    size: BodySize,
}

impl ChunkBody {
    /// Makes the body of `receiver`'s chunks, which are `length` bytes in all, if that is known.
    pub(super) fn new(receiver: mpsc::Receiver<io::Result<Bytes>>, length: Option<u64>) -> Self {
        Self {
            receiver,
            size: length.map_or(BodySize::Stream, BodySize::Sized),
        }
    }
}

impl MessageBody for ChunkBody {
    type Error = io::Error;

    fn size(&self) -> BodySize {
        self.size
    }

    fn poll_next(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Bytes>>> {
        self.receiver.poll_recv(context)
    }
}
