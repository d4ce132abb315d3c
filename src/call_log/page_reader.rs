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

    // The blocks of the rings overlap, so the rows are sorted before they are counted.
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
    let search = DeliverySearch {
        tree,
        tallies,
        source: source.as_bytes(),
        source_hash: SourceHash::from_source(source.as_bytes()),
        filter,
    };
    let all_outcomes = CallFilter {
        is_successful: None,
        ..filter
    };
    let rings = shared.with_rings(|rings| rings.blocks_by_ring(all_outcomes));
    let rings: Vec<_> = rings.into_iter().filter(|ring| !ring.is_empty()).collect();
    let oldest = rings.iter().flatten().map(|block| block.first).min();

    // Only within one ring newer blocks have newer rows. With rows in several, the newest of each
    // are merged.
    let mut found = Vec::new();
    for ring in rings {
        let (total, _) = search.find_rows(&ring, 0..0)?;
        if total > 0 {
            found.push((ring, total));
        }
    }
    let total = found.iter().map(|(_, total)| total).sum();
    let items = match &found[..] {
        [(ring, _)] => search.find_rows(ring, places)?.1,
        rings => {
            let mut newest = Vec::new();
            for (ring, _) in rings {
                newest.extend(search.find_rows(ring, 0..places.end)?.1);
            }
            newest.sort_unstable_by_key(|row: &CallRow| Reverse(row.id));
            items_at(places, newest)
        }
    };

    if let Some(oldest) = oldest {
        tallies.forget_before(oldest);
    }
    Ok(CallPage { items, total })
}

fn items_at(places: Range<u64>, rows: Vec<CallRow>) -> Vec<CallRow> {
    let place = |place| usize::try_from(place).unwrap_or(usize::MAX);
    let count = place(places.end.saturating_sub(places.start));
    rows.into_iter()
        .skip(place(places.start))
        .take(count)
        .collect()
}

/// Search for the rows of one subscriber.
struct DeliverySearch<'a> {
    tree: &'a DerivedTree,
    tallies: &'a TallyCache,
    source: &'a [u8],
    source_hash: SourceHash,
    filter: CallFilter,
}

impl DeliverySearch<'_> {
    /// Returns the number of rows in `blocks`, which are those of one ring, newest first, and the
    /// rows at `places`.
    fn find_rows(
        &self,
        blocks: &[BlockRef],
        places: Range<u64>,
    ) -> Result<(u64, Vec<CallRow>), CallReadError> {
        let (mut total, mut items) = (0, Vec::new());
        for block_ref in blocks {
            // A block in memory may still grow; only blocks on the disk have a tally.
            let is_on_disk = block_ref.body.is_none();
            let tally = self
                .tallies
                .count_passing(block_ref.first, self.source_hash, self.filter)
                .filter(|_| is_on_disk);
            if let Some(passing) = tally
                && (passing == 0 || total >= places.end || total + passing <= places.start)
            {
                total += passing;
                continue;
            }

            for (first, body) in read_bodies(self.tree, vec![block_ref.clone()])? {
                let rows = block::split_rows(first, &body).ok_or(CallReadError::Corrupt(first))?;
                if is_on_disk && tally.is_none() {
                    self.tallies.insert(first, &rows);
                }
                let passing = rows
                    .iter()
                    .rev()
                    .filter(|row| self.filter.passes(row.class));
                for row in passing.filter(|row| row::peek_source(row.row) == Some(self.source)) {
                    if places.contains(&total) {
                        items.push(decode_found_row(row)?);
                    }
                    total += 1;
                }
            }
        }
        Ok((total, items))
    }
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
pub(super) fn read_bodies(
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

pub(super) fn decode_found_row(row: &EncodedRow<'_>) -> Result<CallRow, CallReadError> {
    row::decode_row(row.id, row.class.direction(), row.row).ok_or(CallReadError::Corrupt(row.id))
}
