//! Archive of idempotency claims: the positions at which each key was used, for the length of the
//! idempotency window.
//!
//! New claims are in a map in memory, the open block. 65,536 claims become a stored block, sorted
//! by fingerprint, in parts of at most 12 KiB. A Bloom filter in memory for each block saves the
//! read for nearly all new keys. Expired blocks are removed as a whole.
//!
//! A block's first part is written last and removed first, so a block with a first part is
//! complete. The parts of an incomplete block are removed, and its claims are read from the journal
//! again.
//!
//! ```text
//! part   format u8 = 1 | newest receive time i64 BE µs | n × claim
//! claim  fingerprint u64 BE | position u64 BE
//! ```

use std::collections::HashMap;
use std::mem;

use parking_lot::{RwLock, RwLockReadGuard};

use super::bloom::BloomFilter;
use super::keys;
use crate::derived::{DerivedStoreError, DerivedTree, VALUE_MAX_BYTES};
use crate::event::{Position, Timestamp};

/// Number of claims in a block: so many that ten million claims need only 150 filters, which are
/// cheap to check.
const BLOCK_CLAIMS: usize = 64 * 1024;

const FORMAT: u8 = 1;
const HEADER_BYTES: usize = 9;
const CLAIM_BYTES: usize = 16;
const PART_CLAIMS: usize = (VALUE_MAX_BYTES - HEADER_BYTES) / CLAIM_BYTES;

/// Claims of all records that the projection has processed.
pub struct ClaimArchive {
    tree: DerivedTree,
    /// Number of claims at which the open block is stored.
    block_claims: usize,
    state: RwLock<ArchiveState>,
}

#[derive(Default)]
struct ArchiveState {
    /// End of the archive: it holds the claims of all records before this position, and no others.
    end: Option<Position>,
    /// Positions of the open block's claims, by fingerprint.
    open: HashMap<u64, Vec<Position>>,
    open_count: usize,
    /// Receive time of the newest claim in the open block.
    open_newest: Timestamp,
    blocks: Vec<ClaimBlock>,
}

struct ClaimBlock {
    last: Position,
    newest: Timestamp,
    /// First fingerprint of each part.
    parts: Vec<u64>,
    filter: BloomFilter,
}

impl ClaimArchive {
    /// Opens the archive, and builds the filters of all stored blocks.
    pub(super) fn open(tree: DerivedTree) -> Result<Self, DerivedStoreError> {
        Self::with_block_size(tree, BLOCK_CLAIMS)
    }

    fn with_block_size(tree: DerivedTree, block_claims: usize) -> Result<Self, DerivedStoreError> {
        let mut blocks: Vec<ClaimBlock> = Vec::new();
        for row in tree.scan_prefix([keys::CLAIMS]) {
            let (key, part) = row?;
            let (Some(last), Some(newest), Some(first)) = (
                keys::claims_last(&key),
                part_newest(&part),
                part_claims(&part).next(),
            ) else {
                return Err(DerivedStoreError::malformed_row("a part of a claims block"));
            };
            if blocks.last().is_none_or(|block| block.last != last) {
                // Without its first part the block is incomplete, so its other parts go too.
                if keys::claims_part(&key) != Some(0) {
                    tree.remove(key)?;
                    continue;
                }
                blocks.push(ClaimBlock {
                    last,
                    newest,
                    parts: Vec::new(),
                    filter: BloomFilter::with_item_capacity(block_claims),
                });
            }
            let block = blocks
                .last_mut()
                .expect("the block of this part was pushed with its first part");
            block.parts.push(first.0);
            part_claims(&part).for_each(|(fingerprint, _)| block.filter.insert(fingerprint));
        }

        let end = blocks.last().map(|block| block.last.plus(1));
        let state = ArchiveState {
            end,
            blocks,
            ..ArchiveState::default()
        };
        Ok(Self {
            tree,
            block_claims,
            state: RwLock::new(state),
        })
    }

    /// Returns the position before which all claims are in the archive.
    #[must_use]
    pub fn end(&self) -> Position {
        self.lock_state().end.unwrap_or(Position::FIRST)
    }

    /// Looks `fingerprint` up without reading the store. Returns `Some` with the positions of all
    /// claims with this fingerprint (mostly none), or `None` if only
    /// [`ClaimArchive::find_positions`] can answer.
    #[must_use]
    pub fn find_in_memory(&self, fingerprint: u64) -> Option<Vec<Position>> {
        let state = self.lock_state();
        let may_be_stored = state
            .blocks
            .iter()
            .any(|block| block.filter.may_contain(fingerprint));
        (!may_be_stored).then(|| state.open.get(&fingerprint).cloned().unwrap_or_default())
    }

    /// Returns the positions of all claims with this fingerprint, oldest first. Blocks to read the
    /// store, so it must not run on an async thread.
    ///
    /// # Errors
    /// [`DerivedStoreError`] when the store fails.
    pub fn find_positions(&self, fingerprint: u64) -> Result<Vec<Position>, DerivedStoreError> {
        // Collect the keys of the parts first, so that the lock is not held during disk reads.
        let (parts, open) = {
            let state = self.lock_state();
            let candidates = state
                .blocks
                .iter()
                .filter(|block| block.filter.may_contain(fingerprint));
            let parts: Vec<_> = candidates
                .flat_map(|block| block.part_keys(fingerprint))
                .collect();
            (
                parts,
                state.open.get(&fingerprint).cloned().unwrap_or_default(),
            )
        };

        let mut found = Vec::new();
        for key in parts {
            // A missing part belonged to a block that has expired meanwhile.
            let Some(part) = self.tree.get(key)? else {
                continue;
            };
            found.extend(
                part_claims(&part)
                    .filter(|(claimed, _)| *claimed == fingerprint)
                    .map(|(_, position)| position),
            );
        }
        found.extend(open);
        Ok(found)
    }

    /// Adds the record at `position` with the fingerprints of its claims. Records must be added in
    /// order of their positions.
    pub(super) fn add_record(
        &self,
        position: Position,
        received_at: Timestamp,
        claims: impl IntoIterator<Item = u64>,
    ) -> Result<(), DerivedStoreError> {
        let is_full = {
            let mut state = self.state.write();
            for fingerprint in claims {
                state.open.entry(fingerprint).or_default().push(position);
                state.open_count += 1;
                state.open_newest = state.open_newest.max(received_at);
            }
            state.end = Some(position.plus(1));
            state.open_count >= self.block_claims
        };
        if is_full {
            self.close_block(position)
        } else {
            Ok(())
        }
    }

    /// Removes the blocks whose newest claim was received before `horizon`.
    pub(super) fn expire_claims(&self, horizon: Timestamp) -> Result<(), DerivedStoreError> {
        let expired: Vec<ClaimBlock> = {
            let mut state = self.state.write();
            let (kept, expired) = mem::take(&mut state.blocks)
                .into_iter()
                .partition(|block| block.newest >= horizon);
            state.blocks = kept;
            expired
        };

        for block in expired {
            for chunk in 0..block.parts.len() {
                self.tree
                    .remove(keys::claims_key(block.last, part_number(chunk)))?;
            }
        }
        Ok(())
    }

    /// Stores the open block, whose last claim is at position `last`, and starts a new one.
    fn close_block(&self, last: Position) -> Result<(), DerivedStoreError> {
        // Only the projection's thread modifies the archive, so the state does not change between
        // this lock and the next.
        let (mut sorted, newest) = {
            let state = self.lock_state();
            let all = state
                .open
                .iter()
                .flat_map(|(fingerprint, at)| at.iter().map(|position| (*fingerprint, *position)));
            (all.collect::<Vec<_>>(), state.open_newest)
        };
        sorted.sort_unstable();

        let mut block = ClaimBlock {
            last,
            newest,
            parts: Vec::new(),
            filter: BloomFilter::with_item_capacity(sorted.len()),
        };
        block.parts = sorted.chunks(PART_CLAIMS).map(|part| part[0].0).collect();

        // In reverse order: the first part, written last, marks the block as complete.
        for (number, part) in sorted.chunks(PART_CLAIMS).enumerate().rev() {
            self.tree.insert(
                keys::claims_key(last, part_number(number)),
                encode_part(newest, part),
            )?;
        }
        sorted
            .iter()
            .for_each(|(fingerprint, _)| block.filter.insert(*fingerprint));

        let mut state = self.state.write();
        state.blocks.push(block);
        state.open = HashMap::new();
        state.open_count = 0;
        Ok(())
    }

    fn lock_state(&self) -> RwLockReadGuard<'_, ArchiveState> {
        self.state.read()
    }
}

impl ClaimBlock {
    /// Returns the keys of the parts that can contain `fingerprint`. There are several if its
    /// claims are too many for one part.
    fn part_keys(&self, fingerprint: u64) -> Vec<[u8; 11]> {
        let begin = self
            .parts
            .partition_point(|first| *first < fingerprint)
            .saturating_sub(1);
        let end = self.parts.partition_point(|first| *first <= fingerprint);
        (begin..end)
            .map(|chunk| keys::claims_key(self.last, part_number(chunk)))
            .collect()
    }
}

fn part_number(chunk: usize) -> u16 {
    u16::try_from(chunk).expect("a block has under a hundred parts")
}

fn encode_part(newest: Timestamp, part: &[(u64, Position)]) -> Vec<u8> {
    let mut value = Vec::with_capacity(HEADER_BYTES + part.len() * CLAIM_BYTES);
    value.push(FORMAT);
    value.extend_from_slice(&newest.as_micros().to_be_bytes());
    for (fingerprint, position) in part {
        value.extend_from_slice(&fingerprint.to_be_bytes());
        value.extend_from_slice(&position.get().to_be_bytes());
    }
    value
}

fn part_newest(part: &[u8]) -> Option<Timestamp> {
    let micros = part.get(1..HEADER_BYTES)?.first_chunk()?;
    (part[0] == FORMAT).then(|| Timestamp::from_micros(i64::from_be_bytes(*micros)))
}

fn part_claims(part: &[u8]) -> impl Iterator<Item = (u64, Position)> {
    let (claims, _) = part
        .get(HEADER_BYTES..)
        .unwrap_or_default()
        .as_chunks::<CLAIM_BYTES>();
    claims.iter().map(|claim| {
        let number = |at: usize| {
            u64::from_be_bytes(*claim[at..].first_chunk().expect("a claim has 16 bytes"))
        };
        (number(0), Position::new(number(8)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::derived::open_test_store;

    fn open_tree() -> (tempfile::TempDir, DerivedTree) {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let tree = open_test_store(folder.path())
            .tree("claims")
            .expect("opens");
        (folder, tree)
    }

    fn filled(tree: &DerivedTree, fingerprints: impl IntoIterator<Item = u64>) -> ClaimArchive {
        let archive = ClaimArchive::with_block_size(tree.clone(), 100).expect("opens");
        for (fingerprint, position) in fingerprints.into_iter().zip(1..) {
            let received_at = Timestamp::from_micros(position);
            archive
                .add_record(Position::new(position as u64), received_at, [fingerprint])
                .expect("passes");
        }
        archive
    }

    /// Spreads small numbers like a hash function.
    fn spread(n: u64) -> u64 {
        n.wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }

    #[test]
    fn every_claim_is_found_in_blocks_and_in_the_open_map_and_after_reopening() {
        let (_folder, tree) = open_tree();
        let archive = filled(&tree, (1..=250).map(spread));
        assert_eq!(archive.end(), Position::new(251));
        for n in 1..=250 {
            assert_eq!(
                archive.find_positions(spread(n)).expect("reads"),
                [Position::new(n)]
            );
        }
        assert_eq!(
            archive.find_in_memory(spread(250)),
            Some(vec![Position::new(250)])
        );
        assert_eq!(
            archive.find_in_memory(spread(1)),
            None,
            "a stored claim has to be looked up"
        );
        assert!(
            archive
                .find_positions(spread(251))
                .expect("reads")
                .is_empty()
        );

        let reopened = ClaimArchive::with_block_size(tree, 100).expect("opens");
        assert_eq!(
            reopened.end(),
            Position::new(201),
            "the claims of the open block are read from the journal again"
        );
        assert_eq!(
            reopened.find_positions(spread(200)).expect("reads"),
            [Position::new(200)]
        );
    }

    /// A crash between the parts must not hide the claims of the parts that were not written.
    #[test]
    fn a_block_without_its_first_part_is_dropped_whole() {
        let (_folder, tree) = open_tree();
        // Each block has two parts.
        let claims = (1..=2_000).map(spread);
        let archive = ClaimArchive::with_block_size(tree.clone(), 1_000).expect("opens");
        for (fingerprint, position) in claims.zip(1..) {
            archive
                .add_record(
                    Position::new(position),
                    Timestamp::from_micros(1),
                    [fingerprint],
                )
                .expect("passes");
        }
        tree.remove(keys::claims_key(Position::new(2_000), 0))
            .expect("removes");
        let reopened = ClaimArchive::with_block_size(tree.clone(), 1_000).expect("opens");
        assert_eq!(reopened.end(), Position::new(1_001));
        assert_eq!(
            reopened.find_positions(spread(1_000)).expect("reads"),
            [Position::new(1_000)]
        );
        assert_eq!(
            tree.iter().count(),
            2,
            "nothing of the broken block is left"
        );
    }

    #[test]
    fn a_fingerprint_that_was_claimed_often_is_found_every_time() {
        let (_folder, tree) = open_tree();
        let archive = filled(&tree, [7; 1_000]);
        assert_eq!(archive.find_positions(7).expect("reads").len(), 1_000);
    }

    #[test]
    fn blocks_go_when_their_newest_claim_is_too_old() {
        let (_folder, tree) = open_tree();
        let archive = filled(&tree, (1..=250).map(spread));
        archive
            .expire_claims(Timestamp::from_micros(150))
            .expect("expires");
        assert!(
            archive
                .find_positions(spread(100))
                .expect("reads")
                .is_empty()
        );
        assert_eq!(
            archive.find_positions(spread(101)).expect("reads"),
            [Position::new(101)]
        );
        archive
            .expire_claims(Timestamp::from_micros(1_000))
            .expect("expires");
        assert!(tree.is_empty());
    }
}
