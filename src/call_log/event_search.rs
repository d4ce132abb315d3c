//! Search for the calls that carried one event, from the time on at which it was received.
//!
//! ```text
//!  blocks of a ring, oldest first   │ older than the event │ searched, a bounded number │ not searched │
//!                                   └──── found by the time of each block's first row ────┘
//! ```

use std::time::Duration;

use super::block::{self, CallFilter};
use super::page_reader::{CallReadError, decode_found_row, read_bodies};
use super::ring::BlockRef;
use super::row::{self, CallDirection, CallRow};
use super::writer::CallBuffer;
use crate::derived::DerivedTree;
use crate::event::{EventId, Timestamp};

/// Blocks of each ring that one search reads: some ten thousand calls. The first attempts come right
/// after the event, so more would seldom find more.
const BLOCKS_MAX: usize = 128;

/// Time by which a row may stand behind others that began later: the longest timeout of a call.
const DISORDER: Duration = Duration::from_secs(120);

/// Deliveries of one event that are in the call log.
#[derive(Clone, Debug, Default)]
pub struct EventCalls {
    /// Attempts to deliver the event, oldest first.
    pub items: Vec<CallRow>,
    /// True if the call log begins after the event was received: earlier rows were removed.
    pub is_cut: bool,
    /// True if calls were made later than those that were searched.
    pub has_more: bool,
}

/// Returns the deliveries of `event`, which was received at `received_at`.
pub(super) fn find_event_calls(
    shared: &CallBuffer,
    tree: &DerivedTree,
    event: EventId,
    received_at: Timestamp,
) -> Result<EventCalls, CallReadError> {
    let filter = CallFilter {
        direction: Some(CallDirection::Outgoing),
        is_successful: None,
    };
    let (rings, all) = shared.with_rings(|rings| {
        let all = rings.blocks_by_ring(CallFilter::default());
        (rings.blocks_by_ring(filter), all)
    });
    let wanted = row::encode_event_ids(&[event]);
    let since = received_at.saturating_sub(DISORDER);

    let mut found = EventCalls {
        is_cut: !reaches_back(tree, &all, received_at)?,
        ..EventCalls::default()
    };
    for mut blocks in rings {
        blocks.reverse();
        let begin = find_begin(tree, &blocks, since)?;
        found.has_more |= blocks.len() - begin > BLOCKS_MAX;
        let searched = blocks.into_iter().skip(begin).take(BLOCKS_MAX).collect();
        for (first, body) in read_bodies(tree, searched)? {
            let rows = block::split_rows(first, &body).ok_or(CallReadError::Corrupt(first))?;
            for row in rows.iter().filter(|row| filter.passes(row.class)) {
                if row::peek_event_ids(row.row) == Some(&wanted) {
                    found.items.push(decode_found_row(row)?);
                }
            }
        }
    }
    found.items.sort_by_key(|row| row.id);
    Ok(found)
}

/// Returns the index of the first of `blocks`, oldest first, that may hold a call made after `since`.
fn find_begin(
    tree: &DerivedTree,
    blocks: &[BlockRef],
    since: Timestamp,
) -> Result<usize, CallReadError> {
    let (mut begin, mut end) = (0, blocks.len());
    while begin < end {
        let middle = begin.midpoint(end);
        // A block that was evicted meanwhile was older than all others.
        let is_older = first_time(tree, &blocks[middle])?.is_none_or(|first| first < since);
        if is_older {
            begin = middle + 1;
        } else {
            end = middle;
        }
    }
    // The last block that begins before may end behind.
    Ok(begin.saturating_sub(1))
}

/// Returns true if a row of `rings`, each with its blocks newest first, is from `moment` or before.
fn reaches_back(
    tree: &DerivedTree,
    rings: &[Vec<BlockRef>],
    moment: Timestamp,
) -> Result<bool, CallReadError> {
    for oldest in rings.iter().filter_map(|blocks| blocks.last()) {
        if first_time(tree, oldest)?.is_none_or(|first| first <= moment) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Time of the first row of a block; `None` if the block was evicted.
fn first_time(tree: &DerivedTree, block: &BlockRef) -> Result<Option<Timestamp>, CallReadError> {
    let bodies = read_bodies(tree, vec![block.clone()])?;
    let Some((first, body)) = bodies.first() else {
        return Ok(None);
    };
    let rows = block::split_rows(*first, body).ok_or(CallReadError::Corrupt(*first))?;
    rows.first()
        .map(|row| decode_found_row(row).map(|row| row.at))
        .transpose()
}
