//! Filter of the journal's content: decides what is read in place of a record or a table change.
//! Rewriting makes the decisions lasting.

use bytes::Bytes;

use super::frame::{FrameEntry, JournalFrame};
use super::table_changes::{TableChange, TableChanges};
use crate::event::{EntityKey, Position, Timestamp};

/// Decision about one table change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChangeVerdict {
    /// The change stays as it is.
    Keep,
    /// Another change takes its place.
    Replace(TableChange),
    /// The change goes. Its group keeps its number.
    Drop,
}

/// Rule that says which records and table changes are replaced.
///
/// A record is never dropped: its position, and its number in the sequence of its entity, stay in
/// use. The same content must always get the same decision, because a rewriting that was
/// interrupted is done again.
pub trait ContentFilter: Send + Sync + 'static {
    /// Returns the encoded record that takes the place of `record`; `None` keeps it.
    fn replace_record(&self, position: Position, record: &Bytes) -> Option<Bytes>;

    /// Returns `true` if the filter replaces the record of `entity` at `position`.
    fn hides_record(&self, position: Position, entity: &EntityKey) -> bool;

    /// Decides about `change`, which belongs to the table with the number `table`.
    fn judge_change(&self, table: u8, change: &TableChange) -> ChangeVerdict;

    /// Returns the time that takes the place of each later time of receipt and commit; `None` keeps
    /// all. Times that never go backwards still do not.
    fn latest_time(&self) -> Option<Timestamp> {
        None
    }
}

/// Returns `frame` with the replaced records and times; `None` if `filter` keeps all.
pub(super) fn filter_frame(
    frame: &JournalFrame,
    filter: &dyn ContentFilter,
) -> Option<JournalFrame> {
    let mut filtered = limit_times(frame, filter.latest_time());
    for (index, entry) in frame.entries.iter().enumerate() {
        let position = frame.first.plus(index as u64);
        if let Some(bytes) = filter.replace_record(position, &entry.bytes) {
            let filtered: &mut JournalFrame = filtered.get_or_insert_with(|| frame.clone());
            let received_at = filtered.entries[index].received_at;
            filtered.entries[index] = FrameEntry { received_at, bytes };
        }
    }
    filtered
}

/// Returns `frame` with `latest` in place of each later time; `None` if it has none.
fn limit_times(frame: &JournalFrame, latest: Option<Timestamp>) -> Option<JournalFrame> {
    let latest = latest?;
    let received = frame.entries.iter().map(|entry| entry.received_at);
    if received.chain([frame.committed_at]).max()? <= latest {
        return None;
    }
    let mut limited = frame.clone();
    limited.committed_at = limited.committed_at.min(latest);
    for entry in &mut limited.entries {
        entry.received_at = entry.received_at.min(latest);
    }
    Some(limited)
}

/// Returns `group` without the dropped changes and with the replaced ones; `None` if `filter` keeps
/// all.
pub(super) fn filter_changes(
    group: &TableChanges,
    filter: &dyn ContentFilter,
) -> Option<TableChanges> {
    let mut is_changed = false;
    let mut changes = Vec::with_capacity(group.changes.len());
    for change in &group.changes {
        match filter.judge_change(group.table, change) {
            ChangeVerdict::Keep => changes.push(change.clone()),
            ChangeVerdict::Replace(other) => {
                is_changed = true;
                changes.push(other);
            }
            ChangeVerdict::Drop => is_changed = true,
        }
    }
    is_changed.then_some(TableChanges {
        table: group.table,
        changes,
    })
}
