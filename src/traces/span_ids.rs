//! Ids of traces and spans, derived from the id of the event that they are about.

use sha2::{Digest, Sha256};

use crate::event::EventId;

/// Derives the id of the trace of `event`, for an event whose sender told none.
pub(super) fn derive_trace_id(event: EventId) -> [u8; 16] {
    first_bytes(event, "trace")
}

/// Derives the id of the span in which `event` was accepted.
pub(super) fn derive_accept_id(event: EventId) -> [u8; 8] {
    first_bytes(event, "accept")
}

/// Derives the id of the span in which `event` was committed.
pub(super) fn derive_commit_id(event: EventId) -> [u8; 8] {
    first_bytes(event, "commit")
}

fn first_bytes<const N: usize>(event: EventId, purpose: &str) -> [u8; N] {
    let digest = Sha256::digest(format!("{event} {purpose}"));
    *digest
        .first_chunk()
        .expect("a digest is longer than any id")
}
