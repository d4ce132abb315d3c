//! Reads rows back. Runs on a blocking thread and without the lock that appending takes.

use std::cmp::Reverse;
use std::ops::Range;

use bytes::Bytes;

use super::block::{self, CallFilter, EncodedRow};
use super::ring::BlockRef;
use super::ring_set::RingSet;
use super::row::{self, CallDirection, CallRow};
use super::tally_cache::{SourceHash, TallyCache};
use super::writer::CallBuffer;
use crate::derived::{DerivedStoreError, DerivedTree};

/// One page of a list of calls.
#[derive(Clone, Debug)]
pub struct CallPage {
    /// Rows of the page, newest first.
    pub items: Vec<CallRow>,
    /// Number of rows in the whole list.
    pub total: u64,
}

/// Failure to read the call log; the store is being reopened.
#[derive(Debug, thiserror::Error)]
pub enum CallReadError {
    /// The writer thread ended before it wrote the rows that the reader waits for.
    #[error("the call log ended")]
    Ended,
    /// The store failed while blocks were read.
    #[error("cannot read the call log")]
    Store(#[from] DerivedStoreError),
    /// The bytes of a block are malformed.
    #[error("the block of the call log that begins with row {0} is corrupt")]
    Corrupt(u64),
    /// The blocking pool is gone because the process is stopping.
    #[error("reading was cancelled")]
    Cancelled,
}

/// Returns the rows at `places` of those that pass `filter`, newest first; at least one place.
pub(super) fn read_page(
    shared: &CallBuffer,
    tree: &DerivedTree,
    filter: CallFilter,
    places: Range<u64>,
) -> Result<CallPage, CallReadError> {
    let count = places.end.saturating_sub(places.start).max(1);
    let plan = shared.with_rings(|rings| rings.plan_page(filter, places.start, count));

    // The blocks of the two rings overlap, so the rows are sorted before they are counted.
    let bodies = read_bodies(tree, plan.blocks)?;
    let mut passing: Vec<EncodedRow<'_>> = Vec::new();
    for (first, body) in &bodies {
        let rows = block::split_rows(*first, body).ok_or(CallReadError::Corrupt(*first))?;
        passing.extend(rows.into_iter().filter(|row| filter.passes(row.class)));
    }
    passing.sort_unstable_by_key(|row| Reverse(row.id));

    let skipped = usize::try_from(plan.skipped).unwrap_or(usize::MAX);
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    let items = passing
        .iter()
        .skip(skipped)
        .take(count)
        .map(decode_found_row)
        .collect::<Result<_, _>>()?;
    Ok(CallPage {
        items,
        total: plan.total,
    })
}

/// Returns the rows at `places` of the deliveries to `subscriber` that pass `filter`, newest first.
///
/// A block whose tally is known is read only if the page lies in it. Summaries do not name
/// subscribers, so every other block is read once, and its tally is kept.
pub(super) fn read_delivery_page(
    shared: &CallBuffer,
    tree: &DerivedTree,
    tallies: &TallyCache,
    subscriber: &str,
    filter: CallFilter,
    places: Range<u64>,
) -> Result<CallPage, CallReadError> {
    let filter = CallFilter {
        direction: Some(CallDirection::Outgoing),
        ..filter
    };
    let source = row::truncate_source(subscriber);
    let source_hash = SourceHash::from_source(source.as_bytes());
    let mut page = CallPage {
        items: Vec::new(),
        total: 0,
    };

    // Deliveries are all in the kept ring, in which newer blocks have newer rows.
    let blocks = shared.with_rings(|rings| {
        rings.all_blocks(CallFilter {
            is_successful: None,
            ..filter
        })
    });
    let oldest = blocks.last().map(|block| block.first);
    for block_ref in blocks {
        // A block in memory may still grow; only blocks on the disk have a tally.
        let is_on_disk = block_ref.body.is_none();
        let tally = tallies
            .count_passing(block_ref.first, source_hash, filter)
            .filter(|_| is_on_disk);
        if let Some(passing) = tally
            && (passing == 0 || page.total >= places.end || page.total + passing <= places.start)
        {
            page.total += passing;
            continue;
        }

        for (first, body) in read_bodies(tree, vec![block_ref])? {
            let rows = block::split_rows(first, &body).ok_or(CallReadError::Corrupt(first))?;
            if is_on_disk && tally.is_none() {
                tallies.insert(first, &rows);
            }
            let passing = rows.iter().rev().filter(|row| filter.passes(row.class));
            for row in passing.filter(|row| row::peek_source(row.row) == Some(source.as_bytes())) {
                if places.contains(&page.total) {
                    page.items.push(decode_found_row(row)?);
                }
                page.total += 1;
            }
        }
    }

    if let Some(oldest) = oldest {
        tallies.forget_before(oldest);
    }
    Ok(page)
}

/// Returns the row `id`, or `None` if there is no such row, or no longer.
pub(super) fn read_row(
    shared: &CallBuffer,
    tree: &DerivedTree,
    id: u64,
) -> Result<Option<CallRow>, CallReadError> {
    let blocks = shared.with_rings(|rings: &RingSet| rings.blocks_holding(id));
    for (first, body) in read_bodies(tree, blocks)? {
        let rows = block::split_rows(first, &body).ok_or(CallReadError::Corrupt(first))?;
        if let Some(row) = rows.iter().find(|row| row.id == id) {
            return decode_found_row(row).map(Some);
        }
    }
    Ok(None)
}

/// Reads the bodies of `blocks`, each with its first id. Leaves out a block that was evicted
/// meanwhile: it was the oldest of its ring.
fn read_bodies(
    tree: &DerivedTree,
    blocks: Vec<BlockRef>,
) -> Result<Vec<(u64, Bytes)>, CallReadError> {
    let mut bodies = Vec::with_capacity(blocks.len());
    for BlockRef { ring, first, body } in blocks {
        if let Some(body) = body {
            bodies.push((first, body));
        } else if let Some(value) = tree.get(block::block_key(ring, first))? {
            let body = block::decode_body(&value).ok_or(CallReadError::Corrupt(first))?;
            bodies.push((first, body.into()));
        }
    }
    Ok(bodies)
}

fn decode_found_row(row: &EncodedRow<'_>) -> Result<CallRow, CallReadError> {
    row::decode_row(row.id, row.class.direction(), row.row).ok_or(CallReadError::Corrupt(row.id))
}
