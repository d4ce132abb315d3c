//! Reading rows back, which blocks: on a thread for that, and without the lock that appending
//! takes.

use std::cmp::Reverse;
use std::ops::Range;

use bytes::Bytes;

use super::block::{self, CallFilter, EncodedRow};
use super::ring::BlockRef;
use super::ring_pair::RingPair;
use super::row::{self, CallDirection, CallRow};
use super::tally_cache::{SourceHash, TallyCache};
use super::writer::CallBuffer;

/// A part of a list.
#[derive(Clone, Debug)]
pub struct CallPage {
    /// The part asked for, newest first.
    pub items: Vec<CallRow>,
    /// How many rows the whole list has.
    pub total: u64,
}

/// The log could not be read; the store is being opened anew.
#[derive(Debug, thiserror::Error)]
pub enum CallReadError {
    /// The writer ended before it reached what the reader waits for.
    #[error("the exchange log ended")]
    Ended,
    /// The tree failed.
    #[error("cannot read the exchange log")]
    Store(#[from] sled::Error),
    /// A block is not as it was written.
    #[error("the block of the exchange log that begins with row {0} is corrupt")]
    Corrupt(u64),
    /// The blocking pool is gone: the process is stopping.
    #[error("reading was cancelled")]
    Cancelled,
}

/// Rows that pass `filter`: those at `places`, at least one, newest first.
pub(super) fn read_page(
    shared: &CallBuffer,
    tree: &sled::Tree,
    filter: CallFilter,
    places: Range<u64>,
) -> Result<CallPage, CallReadError> {
    let count = places.end.saturating_sub(places.start).max(1);
    let plan = shared.with_rings(|rings| rings.plan_page(filter, places.start, count));
    let bodies = read_bodies(tree, plan.blocks)?;
    let mut found: Vec<EncodedRow<'_>> = Vec::new();
    for (first, body) in &bodies {
        let slots = block::split_rows(*first, body).ok_or(CallReadError::Corrupt(*first))?;
        found.extend(slots.into_iter().filter(|slot| filter.passes(slot.class)));
    }
    found.sort_unstable_by_key(|slot| Reverse(slot.id));
    let skipped = usize::try_from(plan.skipped).unwrap_or(usize::MAX);
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    let items = found
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

/// Deliveries to `source` that pass `filter`: the rows at `places`, newest first. Of blocks whose
/// tally is known only those are read that the page lies in; no summary says whose rows a block
/// has, so that all others are read once.
pub(super) fn read_delivery_page(
    shared: &CallBuffer,
    tree: &sled::Tree,
    tallies: &TallyCache,
    source: &str,
    filter: CallFilter,
    places: Range<u64>,
) -> Result<CallPage, CallReadError> {
    let filter = CallFilter {
        direction: Some(CallDirection::Outgoing),
        ..filter
    };
    let source = row::truncate_source(source);
    let name = SourceHash::from_source(source.as_bytes());
    let mut page = CallPage {
        items: Vec::new(),
        total: 0,
    };
    // Deliveries are all in one ring, in which newer blocks have newer rows.
    let blocks = shared.with_rings(|rings| {
        rings.all_blocks(CallFilter {
            is_successful: None,
            ..filter
        })
    });
    let oldest = blocks.last().map(|block| block.first);
    for wanted in blocks {
        let is_final = wanted.body.is_none();
        let known = tallies
            .count_passing(wanted.first, name, filter)
            .filter(|_| is_final);
        if let Some(passing) = known
            && (passing == 0 || page.total >= places.end || page.total + passing <= places.start)
        {
            page.total += passing;
            continue;
        }
        for (first, body) in read_bodies(tree, vec![wanted])? {
            let slots = block::split_rows(first, &body).ok_or(CallReadError::Corrupt(first))?;
            if is_final && known.is_none() {
                tallies.insert(first, &slots);
            }
            let passing = slots.iter().rev().filter(|slot| filter.passes(slot.class));
            for slot in passing.filter(|slot| row::peek_source(slot.row) == Some(source.as_bytes()))
            {
                if places.contains(&page.total) {
                    page.items.push(decode_found_row(slot)?);
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

/// The row `id`; `None` if there is none or no more.
pub(super) fn read_row(
    shared: &CallBuffer,
    tree: &sled::Tree,
    id: u64,
) -> Result<Option<CallRow>, CallReadError> {
    for (first, body) in read_bodies(
        tree,
        shared.with_rings(|rings: &RingPair| rings.blocks_holding(id)),
    )? {
        let slots = block::split_rows(first, &body).ok_or(CallReadError::Corrupt(first))?;
        if let Some(slot) = slots.iter().find(|slot| slot.id == id) {
            return decode_found_row(slot).map(Some);
        }
    }
    Ok(None)
}

/// The rows of `blocks`, each with its first id. One that was removed since is left out: it was the
/// oldest.
fn read_bodies(
    tree: &sled::Tree,
    blocks: Vec<BlockRef>,
) -> Result<Vec<(u64, Bytes)>, CallReadError> {
    let mut bodies = Vec::with_capacity(blocks.len());
    for BlockRef { ring, first, body } in blocks {
        if let Some(body) = body {
            bodies.push((first, body));
        } else if let Some(value) = tree.get(block::block_key(ring, first))? {
            bodies.push((
                first,
                block::decode_body(&value)
                    .ok_or(CallReadError::Corrupt(first))?
                    .into(),
            ));
        }
    }
    Ok(bodies)
}

fn decode_found_row(slot: &EncodedRow<'_>) -> Result<CallRow, CallReadError> {
    row::decode_row(slot.id, slot.class.direction(), slot.row)
        .ok_or(CallReadError::Corrupt(slot.id))
}
