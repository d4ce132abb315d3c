//! Removal of the rows of some events from a call log that nobody uses.

use std::sync::Arc;

use super::block::{self, BlockBuilder, EncodedRow};
use super::ring_set::RingKind;
use super::{CallLogOpenError, TREE, row};
use crate::derived::{DerivedBatch, DerivedStore, DerivedTree};
use crate::event::EventId;

/// Removes all rows from the call log in `store` that belong to an event for which `is_erased`
/// holds.
///
/// # Errors
/// [`CallLogOpenError`] when the store fails or the call log is damaged.
pub fn erase_calls(
    store: &Arc<DerivedStore>,
    is_erased: &dyn Fn(&EventId) -> bool,
) -> Result<(), CallLogOpenError> {
    let tree = store.tree(TREE)?;
    for ring in RingKind::ALL.map(RingKind::number) {
        for row in tree.scan_prefix(block::block_prefix(ring)) {
            let (key, value) = row?;
            let first = block::parse_first_id(&key).unwrap_or_default();
            let corrupt = || CallLogOpenError::Corrupt(first);
            let body = block::decode_body(&value).ok_or_else(corrupt)?;
            let rows = block::split_rows(first, &body).ok_or_else(corrupt)?;

            let mut kept = Vec::with_capacity(rows.len());
            for encoded in &rows {
                let direction = encoded.class.direction();
                let decoded =
                    row::decode_row(encoded.id, direction, encoded.row).ok_or_else(corrupt)?;
                if !decoded.event_ids.iter().any(is_erased) {
                    kept.push(*encoded);
                }
            }
            if kept.len() < rows.len() {
                replace_block(&tree, ring, first, &kept)?;
            }
        }
    }
    Ok(())
}

/// Puts blocks with the rows `kept` in the place of the block that begins with the id `first`.
fn replace_block(
    tree: &DerivedTree,
    ring: u8,
    first: u64,
    kept: &[EncodedRow<'_>],
) -> Result<(), CallLogOpenError> {
    let mut batch = DerivedBatch::default();
    batch.remove(block::block_key(ring, first));
    batch.remove(block::summary_key(ring, first));
    if let Some(oldest) = kept.first() {
        let mut builder = BlockBuilder::new(oldest.id, 0);
        for row in kept {
            builder.push(row.id, row.class, row.row);
        }
        for (summary, value) in block::encode_blocks(builder.summary, &builder.body) {
            batch.insert(block::block_key(ring, summary.first), value);
            batch.insert(block::summary_key(ring, summary.first), summary.encode());
        }
    }
    Ok(tree.apply_batch(batch)?)
}
