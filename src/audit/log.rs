//! Log of all entries in one opening of the store.
//!
//! | key | value |
//! |---|---|
//! | class u8, id u64 | an entry, see `entry` |
//!
//! Integers are big-endian. Class 0 has what was changed, class 1 what was refused, class 2 what was read
//! or failed. Each class has a bound of its own: whatever strangers and readers try, the entries of what
//! was changed stay. Within a class, the caller who has most entries loses the oldest, so that no token
//! pushes out what others did.

use std::cmp::Reverse;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;

use super::entry::{self, AuditEntry};
use crate::derived::DerivedStoreError;
use crate::event::Timestamp;
use crate::journal::TableChange;
use crate::table_store::{JournaledTable, JournaledTableId, TableStore, TableWriteError};

/// Most entries that one append removes.
const REMOVALS_MAX: usize = 1_000;

/// Failure to load the audit log of a store.
#[derive(Debug, thiserror::Error)]
pub enum AuditOpenError {
    /// The rows cannot be read.
    #[error("cannot read the store")]
    Store(#[from] DerivedStoreError),
    /// A row is malformed, or a later version wrote it.
    #[error(
        "a row of the audit log cannot be read; start the version that wrote it, \
         or restore the data folder from a backup"
    )]
    Malformed,
}

/// Bounds of the audit log.
#[derive(Clone, Copy, Debug)]
pub struct AuditLimits {
    /// Most entries of what was changed, and most of what was read or failed.
    pub entries_max: usize,
    /// Most entries of what was refused.
    pub refused_entries_max: usize,
    /// Age at which entries are removed.
    pub keep_for: Duration,
}

/// Selection of entries; an absent member selects all.
#[derive(Clone, Debug, Default)]
pub struct AuditFilter {
    /// Name of the caller's token, as the entry has it.
    pub who: Option<String>,
    /// Name of the operation, or of its object before the dot, such as `webhooks`.
    pub operation: Option<String>,
    /// Id of the object, as the entry has it.
    pub object: Option<String>,
    /// Earliest time, which is included.
    pub since: Option<Timestamp>,
    /// Latest time, which is excluded.
    pub until: Option<Timestamp>,
}

impl AuditFilter {
    fn selects(&self, entry: &AuditEntry) -> bool {
        let is_operation = |wanted: &String| {
            let rest = entry.operation.strip_prefix(wanted.as_str());
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        self.who
            .as_ref()
            .is_none_or(|who| entry.who.as_ref() == Some(who))
            && self.operation.as_ref().is_none_or(is_operation)
            && self
                .object
                .as_ref()
                .is_none_or(|object| entry.object.as_ref() == Some(object))
            && self.since.is_none_or(|since| since <= entry.at)
            && self.until.is_none_or(|until| entry.at < until)
    }
}

/// Entries of one answer, the newest first, with their ids.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuditPage {
    /// Each entry with its id.
    pub entries: Vec<(u64, AuditEntry)>,
    /// Id before which the next page begins; `None` on the last page.
    pub next: Option<u64>,
}

/// Class of entries with a bound of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum EntryClass {
    /// Change by a caller whose role may make it.
    Changed = 0,
    /// Call that was refused for lack of a token, a role or a scope.
    Refused = 1,
    /// Call of a caller whose role may make it that changed nothing: a read, or a failure.
    Unchanged = 2,
}

impl EntryClass {
    const ALL: [Self; 3] = [Self::Changed, Self::Refused, Self::Unchanged];
}

/// Id and time of an entry.
type EntryMark = (u64, Timestamp);

/// Ids and times of all entries.
#[derive(Debug, Default)]
struct EntryIndex {
    last_id: u64,
    classes: [ClassIndex; EntryClass::ALL.len()],
}

impl EntryIndex {
    fn class(&mut self, class: EntryClass) -> &mut ClassIndex {
        &mut self.classes[class as usize]
    }
}

/// Ids and times of the entries of one class, oldest first, by their callers.
#[derive(Debug, Default)]
struct ClassIndex(BTreeMap<Option<String>, VecDeque<EntryMark>>);

impl ClassIndex {
    fn add(&mut self, who: Option<&String>, mark: EntryMark) {
        self.0.entry(who.cloned()).or_default().push_back(mark);
    }

    fn marks(&self) -> impl Iterator<Item = &EntryMark> {
        self.0.values().flatten()
    }

    /// Takes out one entry that is older than `oldest`, or one that is too many beside `most` others:
    /// the oldest of the caller who has most. Returns its id.
    fn take_surplus(&mut self, most: usize, oldest: Timestamp) -> Option<u64> {
        let first_of = |marks: &VecDeque<EntryMark>| marks.front().copied();
        let is_old =
            |marks: &VecDeque<EntryMark>| first_of(marks).is_some_and(|(_, at)| at < oldest);
        let mut callers = self.0.iter();
        let old = callers.find(|(_, marks)| is_old(marks));
        let is_full = || self.0.values().map(VecDeque::len).sum::<usize>() > most;
        let (who, _) = match old {
            Some(old) => old,
            None if is_full() => self.0.iter().max_by_key(|(_, marks)| {
                let first_id = first_of(marks).map(|(id, _)| id);
                (marks.len(), Reverse(first_id))
            })?,
            None => return None,
        };

        let who = who.clone();
        let marks = self.0.get_mut(&who)?;
        let (id, _) = marks.pop_front()?;
        if marks.is_empty() {
            self.0.remove(&who);
        }
        Some(id)
    }
}

/// Audit log in one opening of the store. All methods block.
pub struct AuditLog {
    table: JournaledTable,
    limits: AuditLimits,
    index: Mutex<EntryIndex>,
    failed: watch::Sender<Option<String>>,
}

impl std::fmt::Debug for AuditLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AuditLog")
    }
}

impl AuditLog {
    /// Loads the index of the log in `tables`.
    ///
    /// # Errors
    /// [`AuditOpenError`] when the rows cannot be read.
    pub fn open(tables: &Arc<TableStore>, limits: AuditLimits) -> Result<Self, AuditOpenError> {
        let table = tables.table(JournaledTableId::Audit);
        let mut index = EntryIndex::default();
        for class in EntryClass::ALL {
            for (key, value) in table.scan(&[class as u8], None, usize::MAX)? {
                let id = key.get(1..).and_then(|id| id.try_into().ok());
                let id = id.map(u64::from_be_bytes);
                let (Some(id), Some(entry)) = (id, entry::decode_entry(&value)) else {
                    return Err(AuditOpenError::Malformed);
                };
                index.class(class).add(entry.who.as_ref(), (id, entry.at));
                index.last_id = index.last_id.max(id);
            }
        }
        Ok(Self {
            table,
            limits,
            index: Mutex::new(index),
            failed: watch::Sender::new(None),
        })
    }

    /// Watches for a failed write: `Some` with the reason. The store must be reopened then.
    #[must_use]
    pub fn watch_failure(&self) -> watch::Receiver<Option<String>> {
        self.failed.subscribe()
    }

    /// Adds `entry` of `class`, removes those that are too old or too many, and returns when that is on the disk.
    ///
    /// # Errors
    /// [`TableWriteError`]; the store must be reopened then.
    pub fn append(&self, class: EntryClass, entry: &AuditEntry) -> Result<(), TableWriteError> {
        let changes = {
            let mut index = self.index.lock();
            index.last_id += 1;
            let id = index.last_id;
            index.class(class).add(entry.who.as_ref(), (id, entry.at));
            let mut changes = vec![TableChange::Put {
                key: row_key(class, id),
                value: entry::encode_entry(entry),
            }];
            changes.extend(self.remove_surplus(&mut index, entry.at));
            changes
        };
        self.table.write(changes).inspect_err(|error| {
            let reason = format!("the audit log could not be written: {error}");
            self.failed.send_replace(Some(reason));
        })
    }

    /// Adds the entry of an act of the node itself, and returns when that is on the disk, or has failed:
    /// then the store is reopened, and the act itself has its log line.
    pub fn append_act(
        &self,
        at: Timestamp,
        operation: &str,
        object: Option<String>,
        outcome: &str,
    ) {
        let entry = AuditEntry::of_node(at, operation, object, outcome);
        // The watcher of failures reports it.
        let _ = self.append(EntryClass::Changed, &entry);
    }

    /// Lists the entries that pass `filter` and are older than `before`, the newest first, at most
    /// `limit`; none that is too old at `now`.
    ///
    /// # Errors
    /// [`DerivedStoreError`] when the rows cannot be read.
    pub fn list(
        &self,
        filter: &AuditFilter,
        before: Option<u64>,
        limit: usize,
        now: Timestamp,
    ) -> Result<AuditPage, DerivedStoreError> {
        let mut page = AuditPage::default();
        for (class, id) in self.newest_first(before, now) {
            // An entry that is not on the disk yet belongs to a call that is not answered yet.
            let Some(value) = self.table.get(&row_key(class, id))? else {
                continue;
            };
            let entry = entry::decode_entry(&value).ok_or_else(malformed_row)?;
            if !filter.selects(&entry) {
                continue;
            }
            if page.entries.len() == limit {
                page.next = page.entries.last().map(|(id, _)| *id);
                break;
            }
            page.entries.push((id, entry));
        }
        Ok(page)
    }

    /// Ids of the entries before `before`, the newest first.
    fn newest_first(&self, before: Option<u64>, now: Timestamp) -> Vec<(EntryClass, u64)> {
        let oldest = now.saturating_sub(self.limits.keep_for);
        let index = self.index.lock();
        let mut ids: Vec<_> = EntryClass::ALL
            .into_iter()
            .flat_map(|class| {
                let marks = index.classes[class as usize].marks();
                let kept = marks.filter(move |(_, at)| *at >= oldest);
                kept.map(move |(id, _)| (class, *id))
            })
            .filter(|(_, id)| before.is_none_or(|before| *id < before))
            .collect();
        ids.sort_unstable_by_key(|(_, id)| std::cmp::Reverse(*id));
        ids
    }

    /// Takes what is too old at `now`, or too many, out of `index`. Returns the removals.
    fn remove_surplus(&self, index: &mut EntryIndex, now: Timestamp) -> Vec<TableChange> {
        let oldest = now.saturating_sub(self.limits.keep_for);
        let mut removals = Vec::new();
        for class in EntryClass::ALL {
            let most = match class {
                EntryClass::Changed | EntryClass::Unchanged => self.limits.entries_max,
                EntryClass::Refused => self.limits.refused_entries_max,
            };
            while removals.len() < REMOVALS_MAX
                && let Some(id) = index.class(class).take_surplus(most, oldest)
            {
                let key = row_key(class, id);
                removals.push(TableChange::Remove { key });
            }
        }
        removals
    }
}

fn row_key(class: EntryClass, id: u64) -> Vec<u8> {
    [&[class as u8][..], &id.to_be_bytes()].concat()
}

fn malformed_row() -> DerivedStoreError {
    DerivedStoreError::malformed_row("a row of the audit log")
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;
    use std::path::Path;

    use super::*;
    use crate::audit::AuditChannel;
    use crate::table_store::open_test_tables;

    const LIMITS: AuditLimits = AuditLimits {
        entries_max: 3,
        refused_entries_max: 2,
        keep_for: Duration::from_secs(100),
    };

    fn open(folder: &Path) -> AuditLog {
        AuditLog::open(&open_test_tables(folder), LIMITS).expect("opens")
    }

    fn second(second: i64) -> Timestamp {
        Timestamp::from_micros(second * 1_000_000)
    }

    fn entry(at: i64, who: Option<&str>, operation: &str) -> AuditEntry {
        AuditEntry {
            at: second(at),
            who: who.map(str::to_owned),
            operation: operation.to_owned(),
            object: Some(at.to_string()),
            outcome: "ok".to_owned(),
            channel: AuditChannel::Api,
            client: Some(IpAddr::from([127, 0, 0, 1])),
            request_id: Some("r".to_owned()),
            left_out: 0,
        }
    }

    fn append(log: &AuditLog, entry: &AuditEntry) {
        let class = match entry.who {
            Some(_) if entry.operation.ends_with("export") => EntryClass::Unchanged,
            Some(_) => EntryClass::Changed,
            None => EntryClass::Refused,
        };
        log.append(class, entry).expect("writes");
    }

    fn list(log: &AuditLog, filter: &AuditFilter, now: i64) -> Vec<i64> {
        let page = log.list(filter, None, 99, second(now)).expect("reads");
        let at = |(_, entry): &(u64, AuditEntry)| entry.at.as_micros() / 1_000_000;
        page.entries.iter().map(at).collect()
    }

    #[test]
    fn strangers_push_out_their_own_entries_only_also_over_a_restart() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let log = open(folder.path());
        for at in 1..=4 {
            append(&log, &entry(at, Some("ci"), "webhooks.pause"));
        }
        for at in 5..=50 {
            append(&log, &entry(at, None, "dashboard.login"));
        }
        let all = AuditFilter::default();
        assert_eq!(list(&log, &all, 50), [50, 49, 4, 3, 2]);
        drop(log);
        let log = open(folder.path());
        append(&log, &entry(51, Some("ci"), "webhooks.pause"));
        assert_eq!(list(&log, &all, 51), [51, 50, 49, 4, 3]);
        assert_eq!(log.table.scan(b"", None, 99).expect("reads").len(), 5);
    }

    /// A token that may only read pushed out all entries by exporting one entity again and again.
    #[test]
    fn no_token_pushes_out_what_others_did() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let log = open(folder.path());
        append(&log, &entry(1, Some("admin"), "webhooks.create"));
        append(&log, &entry(2, Some("auditor"), "entities.export"));
        for at in 3..=30 {
            append(&log, &entry(at, Some("reader"), "entities.export"));
        }
        for at in 31..=50 {
            append(&log, &entry(at, Some("operator"), "webhooks.pause"));
        }
        let all = AuditFilter::default();
        assert_eq!(list(&log, &all, 50), [50, 49, 30, 29, 2, 1]);
        drop(log);
        let log = open(folder.path());
        append(&log, &entry(51, Some("operator"), "webhooks.pause"));
        assert_eq!(list(&log, &all, 51), [51, 50, 30, 29, 2, 1]);
    }

    #[test]
    fn old_entries_are_not_shown_and_then_removed() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let log = open(folder.path());
        for at in [1, 50] {
            append(&log, &entry(at, Some("ci"), "webhooks.pause"));
        }
        assert_eq!(list(&log, &AuditFilter::default(), 102), [50]);
        append(&log, &entry(102, None, "webhooks.pause"));
        assert_eq!(log.table.scan(b"", None, 99).expect("reads").len(), 2);
    }

    #[test]
    fn entries_are_filtered_and_paged() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let log = open(folder.path());
        append(&log, &entry(1, Some("ci"), "webhooks.pause"));
        append(&log, &entry(2, Some("eve"), "webhooks.resume"));
        append(&log, &entry(3, None, "webhooks_else.resume"));
        let text = |text: &str| Some(text.to_owned());
        let filters = [
            (
                AuditFilter {
                    who: text("ci"),
                    ..AuditFilter::default()
                },
                vec![1],
            ),
            (
                AuditFilter {
                    operation: text("webhooks"),
                    ..AuditFilter::default()
                },
                vec![2, 1],
            ),
            (
                AuditFilter {
                    operation: text("webhooks.resume"),
                    ..AuditFilter::default()
                },
                vec![2],
            ),
            (
                AuditFilter {
                    object: text("3"),
                    ..AuditFilter::default()
                },
                vec![3],
            ),
            (
                AuditFilter {
                    since: Some(second(2)),
                    until: Some(second(3)),
                    ..AuditFilter::default()
                },
                vec![2],
            ),
        ];
        for (filter, expected) in filters {
            assert_eq!(list(&log, &filter, 3), expected, "{filter:?}");
        }

        let all = AuditFilter::default();
        let first = log.list(&all, None, 2, second(3)).expect("reads");
        assert_eq!((first.entries.len(), first.next), (2, Some(2)));
        let last = log.list(&all, first.next, 2, second(3)).expect("reads");
        assert_eq!((last.entries.len(), last.next), (1, None));
        assert_eq!(last.entries[0].1, entry(1, Some("ci"), "webhooks.pause"));
    }
}
