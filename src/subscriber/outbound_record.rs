//! A record of the journal on its way to a subscriber.

use std::sync::Arc;

use crate::event::{Position, Record, Timestamp};

/// Record on its way to a subscriber.
#[derive(Clone, Debug)]
pub struct OutboundRecord {
    /// Position of the record in the journal.
    pub position: Position,
    /// Number among the records of the same entity.
    pub sequence: u64,
    /// Time at which the sender's request was received.
    pub received_at: Timestamp,
    /// Decoded record, shared by all its recipients.
    pub record: Arc<Record>,
}

impl OutboundRecord {
    /// Estimate of the memory for a record's structs and reference counts, besides its contents.
    const OVERHEAD_BYTES: usize = 512;

    /// Estimates the memory of this record in bytes, for the bounds of queues.
    pub(super) fn memory_bytes(&self) -> usize {
        let record = &self.record;
        Self::OVERHEAD_BYTES + record.payload.len() + record.change.len() + record.answer.len()
    }
}
