//! Schedule of an entity's snapshots: each one costs its bytes, and each record since the last one is
//! read again when the entity is loaded.

/// Bytes of changes for each byte of the last snapshot until the next one is due. At 4, snapshots cost
/// a quarter of the changes' bytes at most.
const CHANGES_PER_SNAPSHOT: usize = 4;

/// Size in bytes that a smaller snapshot counts as.
const SNAPSHOT_MIN_BYTES: usize = 16 * 1024;

/// Records since the last snapshot after which the next one is due. A load reads them one after
/// another, at about 50 µs each if no cache has them.
const TAIL_MAX_RECORDS: usize = 150;

/// Changes of one entity since its last snapshot.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct SnapshotSchedule {
    snapshot_bytes: usize,
    bytes_since: usize,
    records_since: usize,
}

impl SnapshotSchedule {
    /// Creates the schedule of an entity with a snapshot of `snapshot_bytes`, or 0 without one.
    pub(super) const fn new(snapshot_bytes: usize) -> Self {
        Self {
            snapshot_bytes,
            bytes_since: 0,
            records_since: 0,
        }
    }

    /// Creates the schedule of an entity that was just erased: its next record brings a snapshot,
    /// because one that waited was withdrawn.
    pub(super) const fn erased() -> Self {
        Self {
            snapshot_bytes: 0,
            bytes_since: 0,
            records_since: TAIL_MAX_RECORDS,
        }
    }

    /// Counts a record with a change of `change_bytes`.
    pub(super) const fn note_record(&mut self, change_bytes: usize) {
        self.bytes_since += change_bytes;
        self.records_since += 1;
    }

    /// Returns `true` if the changes since the last snapshot outweigh the next one, or are too many to
    /// be read at once.
    pub(super) fn is_due(&self) -> bool {
        let weight = self.snapshot_bytes.max(SNAPSHOT_MIN_BYTES);
        self.bytes_since > CHANGES_PER_SNAPSHOT * weight || self.records_since >= TAIL_MAX_RECORDS
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Returns the numbers of the records that bring a snapshot of `snapshot_bytes`.
    fn snapshots(changes: &[usize], snapshot_bytes: usize) -> Vec<usize> {
        let mut schedule = SnapshotSchedule::new(0);
        let mut due = Vec::new();
        for (number, change) in changes.iter().enumerate() {
            schedule.note_record(*change);
            if schedule.is_due() {
                due.push(number + 1);
                schedule = SnapshotSchedule::new(snapshot_bytes);
            }
        }
        due
    }

    /// A ticket with events of 600 bytes had a snapshot of 16 KiB every 28 records, which were more
    /// bytes than all its other rows.
    #[test]
    fn a_live_entity_with_small_events_has_few_snapshots() {
        assert_eq!(snapshots(&[600; 400], 16 * 1024), [110, 220, 330]);
        assert_eq!(snapshots(&[60; 400], 400), [150, 300]);
        let large = snapshots(&[40_000; 40], 100_000);
        assert_eq!(large, [2, 13, 24, 35], "as the first one shows its size");
    }

    #[test]
    fn the_first_record_after_an_erasure_brings_a_snapshot() {
        let mut schedule = SnapshotSchedule::erased();
        schedule.note_record(1);
        assert!(schedule.is_due());
    }

    proptest! {
        #[test]
        fn a_load_never_reads_more_records_than_the_bound(
            changes in prop::collection::vec(0_usize..5_000, 1..1_000),
            snapshot_bytes in 0_usize..1_000_000,
        ) {
            let due = snapshots(&changes, snapshot_bytes);
            let ends = due.iter().copied().chain([changes.len()]);
            let starts = [0].into_iter().chain(due.iter().copied());
            for (start, end) in starts.zip(ends) {
                prop_assert!(end - start <= TAIL_MAX_RECORDS);
            }
        }
    }
}
