//! Snapshots of entity states: offers by entities, and the stored form.
//!
//! An entity offers a state before the state's last record is durable. The projection stores the
//! state after it has projected that record.
//!
//! ```text
//! part   format u8 = 1 | flags u8 (1 = last part) | a part of the lz4-compressed state
//! ```

use std::collections::HashMap;

use parking_lot::Mutex;

use super::keys;
use crate::derived::{DerivedStoreError, DerivedTree, VALUE_MAX_BYTES};
use crate::event::EntityKey;

const FORMAT: u8 = 1;
const LAST_PART: u8 = 1;
const HEADER_BYTES: usize = 2;
/// Memory for pending snapshots, in bytes. Offers beyond it are declined, and the entity offers
/// again later.
const OFFERED_MAX_BYTES: usize = 32 * 1024 * 1024;
/// Largest state that is decompressed, in bytes: a guard against corrupt sizes. The collections of
/// a state are bounded, so real states are far smaller.
const STATE_MAX_BYTES: usize = 1024 * 1024 * 1024;

/// Offered states that wait until the projection reaches their last record.
#[derive(Default)]
pub struct PendingSnapshots(Mutex<OfferedStates>);

#[derive(Default)]
struct OfferedStates {
    /// For each entity, the sequence of the state's last record, and the state.
    states: HashMap<EntityKey, (u64, Vec<u8>)>,
    bytes: usize,
}

impl PendingSnapshots {
    /// Returns `false` if an offer for `entity` would be declined now, whatever its size, so that the
    /// state need not be encoded for it.
    #[must_use]
    pub fn has_room_for(&self, entity: &EntityKey) -> bool {
        let offered = self.0.lock();
        offered.bytes < OFFERED_MAX_BYTES && !offered.states.contains_key(entity)
    }

    /// Offers `state`, the state of `entity` after its record `sequence`. Returns `true` if the
    /// offer is accepted.
    ///
    /// Must be called before that record is appended, so that the projection cannot be past it yet.
    pub fn offer(&self, entity: &EntityKey, sequence: u64, state: Vec<u8>) -> bool {
        let mut offered = self.0.lock();

        // A state larger than the bound is accepted when it is the only one, or it would never be.
        let full = offered.bytes > 0 && offered.bytes + state.len() > OFFERED_MAX_BYTES;
        if full || offered.states.contains_key(entity) {
            return false;
        }

        offered.bytes += state.len();
        offered.states.insert(entity.clone(), (sequence, state));
        true
    }

    /// Withdraws the offer for `entity`, because the actor ended before the record was appended.
    pub fn withdraw(&self, entity: &EntityKey) {
        let mut offered = self.0.lock();
        if let Some((_, state)) = offered.states.remove(entity) {
            offered.bytes -= state.len();
        }
    }

    /// Takes the offered state of `entity` if its last record is at most `projected`, the sequence
    /// of the last projected record.
    pub(super) fn take_projected(
        &self,
        entity: &EntityKey,
        projected: u64,
    ) -> Option<(u64, Vec<u8>)> {
        let mut offered = self.0.lock();
        if offered.states.get(entity)?.0 > projected {
            return None;
        }
        let (sequence, state) = offered.states.remove(entity)?;
        offered.bytes -= state.len();
        Some((sequence, state))
    }
}

/// Stores `state`, then removes the entity's older snapshots.
pub(super) fn store_snapshot(
    tree: &DerivedTree,
    entity: &EntityKey,
    sequence: u64,
    state: &[u8],
) -> Result<(), DerivedStoreError> {
    let packed = lz4_flex::compress_prepend_size(state);
    let mut parts = packed
        .chunks(VALUE_MAX_BYTES - HEADER_BYTES)
        .zip(0_u16..)
        .peekable();
    while let Some((part, chunk)) = parts.next() {
        let flags = if parts.peek().is_none() { LAST_PART } else { 0 };
        let mut value = Vec::with_capacity(HEADER_BYTES + part.len());
        value.extend_from_slice(&[FORMAT, flags]);
        value.extend_from_slice(part);
        tree.insert(keys::snapshot_key(entity, sequence, chunk), value)?;
    }
    remove_snapshots_before(tree, entity, sequence)
}

/// Removes all snapshots of `entity` before its newest complete one.
pub(super) fn remove_older_snapshots(
    tree: &DerivedTree,
    entity: &EntityKey,
) -> Result<(), DerivedStoreError> {
    match load_snapshot(tree, entity)? {
        Some((sequence, _)) => remove_snapshots_before(tree, entity, sequence),
        None => Ok(()),
    }
}

fn remove_snapshots_before(
    tree: &DerivedTree,
    entity: &EntityKey,
    sequence: u64,
) -> Result<(), DerivedStoreError> {
    for key in tree
        .range(keys::snapshot_prefix(entity)..keys::snapshot_key(entity, sequence, 0))
        .keys()
    {
        tree.remove(key?)?;
    }
    Ok(())
}

/// Loads the newest complete snapshot of `entity`: the sequence of its last record, and the state.
pub(super) fn load_snapshot(
    tree: &DerivedTree,
    entity: &EntityKey,
) -> Result<Option<(u64, Vec<u8>)>, DerivedStoreError> {
    let mut below = keys::snapshot_key(entity, u64::MAX, u16::MAX);
    loop {
        let Some(row) = tree
            .range(keys::snapshot_prefix(entity)..=below)
            .next_back()
        else {
            return Ok(None);
        };
        let Some(sequence) = keys::snapshot_sequence(&row?.0) else {
            return Ok(None);
        };
        let rows = tree.range(
            keys::snapshot_key(entity, sequence, 0)
                ..=keys::snapshot_key(entity, sequence, u16::MAX),
        );
        let rows = rows.collect::<Result<Vec<_>, _>>()?;
        // A snapshot that is being replaced right now loses its parts from the front.
        let in_order = rows
            .iter()
            .zip(0_u16..)
            .all(|((key, _), part)| *key == keys::snapshot_key(entity, sequence, part));
        let parts: Vec<_> = rows.iter().map(|(_, part)| part).collect();
        let state = if in_order { join_parts(&parts) } else { None };
        if let Some(state) = state {
            return Ok(Some((sequence, state)));
        }

        // A crash left the snapshot incomplete. Try the older one; without any, the journal has all
        // records.
        let Some(earlier) = sequence.checked_sub(1) else {
            return Ok(None);
        };
        below = keys::snapshot_key(entity, earlier, u16::MAX);
    }
}

fn join_parts<V: AsRef<[u8]>>(parts: &[V]) -> Option<Vec<u8>> {
    let mut packed = Vec::new();
    for part in parts {
        let (header, bytes) = part.as_ref().split_first_chunk::<HEADER_BYTES>()?;
        if header[0] != FORMAT {
            return None;
        }
        packed.extend_from_slice(bytes);
    }
    let whole = parts.last()?.as_ref()[1] & LAST_PART != 0;
    let size = u32::from_le_bytes(*packed.first_chunk()?);
    if !whole || usize::try_from(size).ok()? > STATE_MAX_BYTES {
        return None;
    }
    lz4_flex::decompress_size_prepended(&packed).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::derived::open_test_store;
    use crate::event::Kind;

    fn setup() -> (tempfile::TempDir, DerivedTree, EntityKey) {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let tree = open_test_store(folder.path()).tree("t").expect("opens");
        (
            folder,
            tree,
            EntityKey::try_new(Kind::Ticket, "S").expect("valid"),
        )
    }

    fn noise(bytes: usize, seed: u64) -> Vec<u8> {
        let mut state = seed;
        std::iter::repeat_with(|| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 56) as u8
        })
        .take(bytes)
        .collect()
    }

    #[test]
    fn a_large_state_is_stored_in_small_values_and_replaces_the_older_one() {
        let (_folder, tree, entity) = setup();
        store_snapshot(&tree, &entity, 3, &noise(50_000, 1)).expect("stores");
        store_snapshot(&tree, &entity, 9, &noise(40_000, 2)).expect("stores");
        assert_eq!(
            load_snapshot(&tree, &entity).expect("loads"),
            Some((9, noise(40_000, 2)))
        );
        assert!(
            tree.iter()
                .values()
                .all(|value| value.expect("reads").len() <= VALUE_MAX_BYTES)
        );
        assert!(
            tree.iter()
                .keys()
                .all(|key| keys::snapshot_sequence(&key.expect("reads")) == Some(9))
        );
    }

    /// A crash between the parts must not hide the older snapshot.
    #[test]
    fn a_snapshot_without_its_last_part_is_skipped() {
        let (_folder, tree, entity) = setup();
        store_snapshot(&tree, &entity, 3, b"older").expect("stores");
        let older = tree.iter().next().expect("one row").expect("reads");
        store_snapshot(&tree, &entity, 9, &noise(40_000, 2)).expect("stores");
        tree.insert(older.0, older.1).expect("puts");
        tree.remove(keys::snapshot_key(&entity, 9, 3))
            .expect("removes");
        assert_eq!(
            load_snapshot(&tree, &entity).expect("loads"),
            Some((3, b"older".to_vec()))
        );
    }

    #[test]
    fn an_offer_is_taken_only_once_its_record_is_projected() {
        let (_, _, entity) = setup();
        let offers = PendingSnapshots::default();
        assert!(offers.has_room_for(&entity));
        assert!(offers.offer(&entity, 5, vec![1]));
        assert!(!offers.has_room_for(&entity));
        assert!(
            !offers.offer(&entity, 6, vec![2]),
            "one state of an entity waits at a time"
        );
        assert_eq!(offers.take_projected(&entity, 4), None);
        assert_eq!(offers.take_projected(&entity, 5), Some((5, vec![1])));
        assert_eq!(offers.take_projected(&entity, 5), None);
    }
}
