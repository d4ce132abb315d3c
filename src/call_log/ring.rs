//! One ring of blocks, oldest first, with the open block that still takes rows.
//!
//! ```text
//!  evicted <── on the disk ── on the disk ── waiting ── waiting ── open <── push_row
//!  in memory:  summary        summary        + body     + body     + body
//! ```
//!
//! Each sealed block keeps the number of rows before it, so rows are counted without a scan.

use std::collections::VecDeque;

use bytes::Bytes;

use super::block::{BlockBuilder, BlockSummary, CallClass, CallFilter, ClassCounts, FITS_BYTES};

/// Body size at which a block is sealed. Compressed, it is well below one value of the store.
const BLOCK_BYTES: usize = 32 * 1024;
/// Least number of blocks in a full ring, so that evicting one block removes few rows.
const BLOCKS_MIN: u64 = 16;

#[derive(Debug)]
struct RingBlock {
    summary: BlockSummary,
    /// Rows of this ring before this block.
    before: ClassCounts,
    /// Rows of the block until they are on the disk, then `None`.
    body: Option<Bytes>,
}

/// Reference to a block that a reader needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct BlockRef {
    pub(super) ring: u8,
    pub(super) first: u64,
    /// Rows of the block if they are not on the disk yet.
    pub(super) body: Option<Bytes>,
}

/// Block that the disk does not have, or has with fewer rows.
#[derive(Clone, Debug)]
pub(super) struct DirtyBlock {
    pub(super) ring: u8,
    pub(super) summary: BlockSummary,
    pub(super) body: Bytes,
}

#[derive(Debug)]
pub(super) struct BlockRing {
    number: u8,
    rows_max: u64,
    blocks: VecDeque<RingBlock>,
    /// Rows of this ring before the open block.
    before_open: ClassCounts,
    open: BlockBuilder,
    /// Number of rows of the open block that are on the disk.
    open_written: usize,
    /// Bytes of sealed bodies that wait for the disk.
    waiting_bytes: usize,
    /// First ids of evicted blocks that the disk may still have.
    removed_blocks: Vec<u64>,
}

impl BlockRing {
    /// Returns a ring of at most `rows_max` rows that begins with the blocks in `stored`, oldest
    /// first.
    pub(super) fn new(
        number: u8,
        rows_max: u64,
        stored: impl IntoIterator<Item = BlockSummary>,
    ) -> Self {
        let mut ring = Self {
            number,
            rows_max,
            blocks: VecDeque::new(),
            before_open: ClassCounts::default(),
            open: BlockBuilder::new(0, 0),
            open_written: 0,
            waiting_bytes: 0,
            removed_blocks: Vec::new(),
        };
        stored
            .into_iter()
            .for_each(|summary| ring.add_block(summary, None));
        ring.evict_oldest();
        ring
    }

    /// Returns the id after the newest row, or 0 for an empty ring.
    pub(super) fn end_id(&self) -> u64 {
        let newest = if self.open.rows > 0 {
            Some(self.open.summary)
        } else {
            self.blocks.back().map(|b| b.summary)
        };
        newest.map_or(0, |summary| summary.last + 1)
    }

    pub(super) fn push_row(&mut self, id: u64, class: CallClass, row: &[u8]) {
        if self.open.rows == 0 {
            self.open = BlockBuilder::new(id, BLOCK_BYTES / 4);
        }
        self.open.push(id, class, row);

        let block_rows_max = (self.rows_max / BLOCKS_MIN).max(1);
        if self.open.body.len() >= BLOCK_BYTES || self.open.rows as u64 >= block_rows_max {
            self.seal_open_block();
        }
        self.evict_oldest();
    }

    pub(super) fn waiting_bytes(&self) -> usize {
        self.waiting_bytes
    }

    /// Returns the number of rows that pass `filter`.
    pub(super) fn total_rows(&self, filter: CallFilter) -> u64 {
        self.rows_above(0, filter)
    }

    /// Counts the rows that pass `filter` in the blocks that lie entirely at or above `id`.
    pub(super) fn rows_above(&self, id: u64, filter: CallFilter) -> u64 {
        let index = self
            .blocks
            .partition_point(|block| block.summary.first < id);
        let open = self.open.rows > 0 && self.open.summary.first >= id;
        self.rows_since(index, open, filter)
    }

    /// Counts the rows that pass `filter` in the blocks that reach up to `id` or higher.
    pub(super) fn rows_touching(&self, id: u64, filter: CallFilter) -> u64 {
        let index = self.blocks.partition_point(|block| block.summary.last < id);
        let open = self.open.rows > 0 && self.open.summary.last >= id;
        self.rows_since(index, open, filter)
    }

    fn rows_since(&self, index: usize, with_open: bool, filter: CallFilter) -> u64 {
        let sealed = self
            .blocks
            .get(index)
            .map(|block| self.before_open.subtract_counts(block.before))
            .unwrap_or_default();
        let open = if with_open {
            self.open.summary.counts
        } else {
            ClassCounts::default()
        };
        sealed.add_counts(open).count_passing(filter)
    }

    /// Returns the blocks that have an id in `from..to` and rows that pass `filter`, oldest first.
    pub(super) fn blocks_within(&self, from: u64, to: u64, filter: CallFilter) -> Vec<BlockRef> {
        let begin = self
            .blocks
            .partition_point(|block| block.summary.last < from);
        let end = self
            .blocks
            .partition_point(|block| block.summary.first < to);
        let sealed = self
            .blocks
            .range(begin..end.max(begin))
            .filter(|block| block.summary.counts.count_passing(filter) > 0);
        let mut found: Vec<_> = sealed.map(|block| self.block_ref(block)).collect();

        let BlockSummary {
            first,
            last,
            counts,
        } = self.open.summary;
        if self.open.rows > 0 && last >= from && first < to && counts.count_passing(filter) > 0 {
            found.push(BlockRef {
                ring: self.number,
                first,
                body: Some(Bytes::copy_from_slice(&self.open.body)),
            });
        }
        found
    }

    fn block_ref(&self, block: &RingBlock) -> BlockRef {
        BlockRef {
            ring: self.number,
            first: block.summary.first,
            body: block.body.clone(),
        }
    }

    /// Returns the blocks that the disk does not have, oldest first, with a copy of the open block.
    /// Seals the open block before, if it is too large for one value.
    pub(super) fn dirty_blocks(&mut self) -> Vec<DirtyBlock> {
        // The open block is written again when it has grown. It must stay one value under one key,
        // and only a small body is sure to.
        if self.open.body.len() > FITS_BYTES {
            self.seal_open_block();
        }

        // Blocks are written in their order, so the waiting blocks are the newest.
        let sealed = self
            .blocks
            .iter()
            .rev()
            .map_while(|block| Some((block.summary, block.body.clone()?)));
        let mut unwritten: Vec<_> = sealed
            .map(|(summary, body)| DirtyBlock {
                ring: self.number,
                summary,
                body,
            })
            .collect();
        unwritten.reverse();

        if self.open.rows > self.open_written {
            let (summary, body) = (self.open.summary, Bytes::copy_from_slice(&self.open.body));
            unwritten.push(DirtyBlock {
                ring: self.number,
                summary,
                body,
            });
        }
        unwritten
    }

    /// Records that the disk has `block`, which [`BlockRing::dirty_blocks`] returned, in the values
    /// that `parts` summarize.
    pub(super) fn mark_written(&mut self, block: &DirtyBlock, parts: &[BlockSummary]) {
        let first = block.summary.first;

        // The open block keeps its body: more rows may follow.
        if self.open.rows > 0 && self.open.summary.first == first {
            self.open_written =
                usize::try_from(block.summary.counts.count_passing(CallFilter::default()))
                    .unwrap_or(usize::MAX);
            return;
        }

        let index = self
            .blocks
            .partition_point(|block| block.summary.first < first);
        let Some(held) = self
            .blocks
            .get_mut(index)
            .filter(|held| held.summary.first == first)
        else {
            // The block was evicted while it was being written, so its values are garbage.
            self.removed_blocks
                .extend(parts.iter().map(|part| part.first));
            return;
        };
        if held.summary != block.summary {
            // The block was open when it was written, and has grown since.
            return;
        }

        self.waiting_bytes -= held.body.take().map_or(0, |body| body.len());
        if let [_, _, ..] = parts {
            self.split_block(index, parts);
        }
    }

    /// Replaces the block at `index` by the smaller blocks that the disk has of it.
    fn split_block(&mut self, index: usize, parts: &[BlockSummary]) {
        let Some(RingBlock { mut before, .. }) = self.blocks.remove(index) else {
            return;
        };
        for (part_index, part) in (index..).zip(parts) {
            self.blocks.insert(
                part_index,
                RingBlock {
                    summary: *part,
                    before,
                    body: None,
                },
            );
            before = before.add_counts(part.counts);
        }
    }

    /// Tells if evicted blocks have to be removed from the disk.
    pub(super) fn has_removed(&self) -> bool {
        !self.removed_blocks.is_empty()
    }

    /// Takes the first ids of evicted blocks that have to be removed from the disk.
    pub(super) fn take_removed(&mut self) -> Vec<u64> {
        std::mem::take(&mut self.removed_blocks)
    }

    fn seal_open_block(&mut self) {
        let BlockBuilder { summary, body, .. } =
            std::mem::replace(&mut self.open, BlockBuilder::new(0, 0));
        self.open_written = 0;
        self.waiting_bytes += body.len();
        self.add_block(summary, Some(body.into()));
    }

    fn add_block(&mut self, summary: BlockSummary, body: Option<Bytes>) {
        self.blocks.push_back(RingBlock {
            summary,
            before: self.before_open,
            body,
        });
        self.before_open = self.before_open.add_counts(summary.counts);
    }

    fn evict_oldest(&mut self) {
        while self.total_rows(CallFilter::default()) > self.rows_max {
            let Some(oldest) = self.blocks.pop_front() else {
                return;
            };
            self.waiting_bytes -= oldest.body.map_or(0, |body| body.len());
            self.removed_blocks.push(oldest.summary.first);
        }
    }
}
