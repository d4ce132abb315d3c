//! What the subscribers keep in the store: their own records, which no rebuild ever touches.
//!
//! | tag | key after the tag | value after the format byte |
//! |---|---|---|
//! | 1 | – | the dispatcher's cursor: position u64 |
//! | 2 | subscriber | where it is: 0 live, or 1 and the position u64 from which it reads for itself |
//! | 3 | subscriber, lane | a stopped lane: see `lanes` |
//! | 4 | id u64, or 0 u64 | a dead letter, or the number that the next one gets |
//! | 5 | job u64, or 0 u64 | a job, or the number that the next one gets |
//! | 5 | job u64, subscriber | what the job has done there |
//! | 6 | subscriber | what is counted of it: see `counters` |
//!
//! Every key ends with the number u16 of a part, and every value begins with a byte of flags (1 =
//! last part): no value of a tree may be large, and a dead letter may be. Integers are big-endian.
//! A text is written with 0 as `0, 255` and ended by `0, 1`, so that no key is the beginning of
//! another's.

mod counters;
pub(super) mod dead_letters;
pub(super) mod jobs;
mod lanes;
pub(super) mod read_states;

use std::sync::Arc;

pub(super) use counters::SubscriberCounters;
pub(super) use lanes::{encode_lane, lane_key};
pub(super) use read_states::ReadStateRow;

use super::SubscriberId;
use crate::journal::{DataStore, StoreWriteError, VALUE_MAX_BYTES};

/// The tree of all these rows.
const TREE: &str = "deliveries";

/// The flag of a value's last part.
const LAST_CHUNK_FLAG: u8 = 1;
const CHUNK_FLAGS_BYTES: usize = 1;
const CHUNK_NUMBER_BYTES: usize = 2;

/// What a row is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum TableTag {
    /// The dispatcher's cursor.
    DispatcherCursor = 1,
    /// Where a subscriber is.
    ReadState = 2,
    /// A stopped lane.
    Lane = 3,
    /// A dead letter.
    DeadLetter = 4,
    /// A job.
    Job = 5,
    /// What is counted of a subscriber.
    Counters = 6,
}

/// The key of a row, without the number of a part. Keys sort as their bytes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RowKey(Vec<u8>);

impl RowKey {
    /// The beginning of all keys of `tag`.
    #[must_use]
    pub fn from_tag(tag: TableTag) -> Self {
        Self(vec![tag as u8])
    }

    /// The beginning of all keys of `tag` that are about `subscriber`.
    #[must_use]
    pub fn for_subscriber(tag: TableTag, subscriber: &SubscriberId) -> Self {
        Self::from_tag(tag).text(&subscriber.to_string())
    }

    /// This, then a text.
    #[must_use]
    pub fn text(mut self, text: &str) -> Self {
        for byte in text.bytes() {
            self.0.push(byte);
            if byte == 0 {
                self.0.push(255);
            }
        }
        self.0.extend_from_slice(&[0, 1]);
        self
    }

    /// This, then a byte.
    #[must_use]
    pub fn with_byte(mut self, byte: u8) -> Self {
        self.0.push(byte);
        self
    }

    /// This, then a number.
    #[must_use]
    pub fn number(mut self, number: u64) -> Self {
        self.0.extend_from_slice(&number.to_be_bytes());
        self
    }

    /// The subscriber that it is about, if its tag is one of those that are about one.
    #[must_use]
    pub fn subscriber(&self) -> Option<SubscriberId> {
        let mut rest = RowDecoder::new(&self.0);
        rest.read_byte()?;
        SubscriberId::parse(&rest.text()?)
    }

    /// Its bytes, from the tag on.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Whether it is `prefix` and more, or `prefix` itself.
    #[must_use]
    pub fn has_prefix(&self, prefix: &Self) -> bool {
        self.0.starts_with(&prefix.0)
    }

    fn to_chunk_key(&self, part: u16) -> Vec<u8> {
        [self.0.as_slice(), &part.to_be_bytes()].concat()
    }
}

/// Takes texts and numbers off a key again, or fields off a value.
#[derive(Clone, Copy, Debug)]
pub struct RowDecoder<'a>(&'a [u8]);

impl<'a> RowDecoder<'a> {
    /// What is to be taken apart.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// The next byte.
    pub fn read_byte(&mut self) -> Option<u8> {
        let (byte, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*byte)
    }

    /// The next number.
    pub fn number(&mut self) -> Option<u64> {
        let (number, rest) = self.0.split_first_chunk::<8>()?;
        self.0 = rest;
        Some(u64::from_be_bytes(*number))
    }

    /// The next text, as [`Key::text`] writes it.
    pub fn text(&mut self) -> Option<String> {
        let mut bytes = Vec::new();
        loop {
            match (self.read_byte()?, bytes.len()) {
                (0, _) => match self.read_byte()? {
                    255 => bytes.push(0),
                    1 => return String::from_utf8(bytes).ok(),
                    _ => return None,
                },
                (byte, _) => bytes.push(byte),
            }
        }
    }

    /// All that is left.
    #[must_use]
    pub const fn remaining(self) -> &'a [u8] {
        self.0
    }
}

/// The rows of one opening of the store. Cheap to clone. Everything here blocks.
#[derive(Clone)]
pub struct DeliveryTables {
    tree: sled::Tree,
    store: Arc<DataStore>,
}

impl DeliveryTables {
    /// The rows in `store`.
    ///
    /// # Errors
    /// Those of the store.
    pub fn open(store: Arc<DataStore>) -> Result<Self, StoreWriteError> {
        Ok(Self {
            tree: store.tree(TREE)?,
            store,
        })
    }

    /// The value under `key`.
    ///
    /// # Errors
    /// Those of the store.
    pub fn get(&self, key: &RowKey) -> Result<Option<Vec<u8>>, StoreWriteError> {
        let rows = self.scan(key, None, 1)?;
        Ok(rows
            .into_iter()
            .find(|(found, _)| found == key)
            .map(|(_, value)| value))
    }

    /// The first `limit` rows whose keys begin with `prefix` and come after `after`, in the order
    /// of their keys.
    ///
    /// # Errors
    /// Those of the store.
    pub fn scan(
        &self,
        prefix: &RowKey,
        after: Option<&RowKey>,
        limit: usize,
    ) -> Result<Vec<(RowKey, Vec<u8>)>, StoreWriteError> {
        let from = match after {
            Some(key) => key.to_chunk_key(u16::MAX),
            None => prefix.0.clone(),
        };
        let mut whole: Vec<(RowKey, Vec<u8>)> = Vec::new();
        let mut begun: Option<(RowKey, Vec<u8>)> = None;
        for row in self.tree.range(from..) {
            let (key, value) = row?;
            if whole.len() == limit || !key.starts_with(&prefix.0) {
                break;
            }
            let (key, part) = split_chunk_key(&key)?;
            let (flags, bytes) = value.split_first().ok_or_else(malformed_row)?;
            if part == 0 {
                begun = Some((key.clone(), Vec::new()));
            }
            // Parts behind the last one are what a longer value left.
            let Some((_, value)) = begun.as_mut().filter(|(begun, _)| *begun == key) else {
                continue;
            };
            value.extend_from_slice(bytes);
            if flags & LAST_CHUNK_FLAG != 0 {
                whole.extend(begun.take());
            }
        }
        Ok(whole)
    }

    /// Puts `value` under `key`, in place of what was there. Nothing is synced.
    pub(super) fn put(&self, key: &RowKey, value: &[u8]) -> Result<(), StoreWriteError> {
        let parts = value.chunks(VALUE_MAX_BYTES - CHUNK_FLAGS_BYTES);
        // What is empty has a part too.
        let mut parts = parts
            .chain(value.is_empty().then_some(&[][..]))
            .zip(0_u16..)
            .peekable();
        let mut next = 0;
        while let Some((part, number)) = parts.next() {
            let flags = if parts.peek().is_none() {
                LAST_CHUNK_FLAG
            } else {
                0
            };
            self.tree
                .insert(key.to_chunk_key(number), [&[flags], part].concat())?;
            next = number + 1;
        }
        self.remove_chunks(key, next)
    }

    /// Removes what is under `key`. Nothing is synced.
    pub(super) fn remove(&self, key: &RowKey) -> Result<(), StoreWriteError> {
        self.remove_chunks(key, 0)
    }

    /// Removes everything that begins with `prefix` but what is to `stay`. Nothing is synced.
    pub(super) fn remove_prefix(
        &self,
        prefix: &RowKey,
        stay: impl Fn(&RowKey) -> bool,
    ) -> Result<(), StoreWriteError> {
        for key in self.tree.scan_prefix(&prefix.0).keys() {
            let key = key?;
            if !stay(&split_chunk_key(&key)?.0) {
                self.tree.remove(key)?;
            }
        }
        Ok(())
    }

    /// Returns when all that was put and removed is on the disk.
    pub(super) fn sync(&self) -> Result<(), StoreWriteError> {
        self.store.sync()
    }

    fn remove_chunks(&self, key: &RowKey, from: u16) -> Result<(), StoreWriteError> {
        let rows = self
            .tree
            .range(key.to_chunk_key(from)..=key.to_chunk_key(u16::MAX));
        rows.keys()
            .try_for_each(|key| self.tree.remove(key?).map(drop))
    }
}

fn split_chunk_key(bytes: &[u8]) -> Result<(RowKey, u16), StoreWriteError> {
    let (key, part) = bytes
        .split_last_chunk::<CHUNK_NUMBER_BYTES>()
        .ok_or_else(malformed_row)?;
    Ok((RowKey(key.to_vec()), u16::from_be_bytes(*part)))
}

/// A row that none of ours can be.
#[must_use]
pub fn malformed_row() -> StoreWriteError {
    StoreWriteError::ReportableBug("a row of a subscriber is malformed".into())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::event::{EntityKey, Kind, Position, Timestamp};
    use crate::failpoints::NoFailures;
    use crate::subscriber::delivery::{LaneKey, LaneRow};

    const NOW: Timestamp = Timestamp::from_micros(1_000_000);

    fn rows() -> (tempfile::TempDir, DeliveryTables) {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let store = DataStore::open(folder.path(), 1 << 20, Arc::new(NoFailures)).expect("opens");
        (folder, DeliveryTables::open(store).expect("opens"))
    }

    fn lane(key: LaneKey) -> LaneRow {
        LaneRow {
            key,
            position: Position::new(7),
            sequence: 3,
            attempts: 2,
            counted_time: Duration::from_secs(5),
            wait: Duration::from_millis(1),
            is_halted: true,
            last_failure: Some((Some(503), "status".into())),
        }
    }

    fn ticket(id: &str) -> LaneKey {
        LaneKey::Entity(EntityKey::try_new(Kind::Ticket, id).expect("an id"))
    }

    #[test]
    fn what_is_put_is_read_back_whatever_its_length_and_what_was_there_before() {
        let (_folder, rows) = rows();
        let key = |number| RowKey::from_tag(TableTag::DeadLetter).number(number);
        let long = |byte| vec![byte; 2 * VALUE_MAX_BYTES + 7];
        for value in [Vec::new(), long(1), vec![2], long(3)] {
            rows.put(&key(1), &value).expect("puts");
            assert_eq!(rows.get(&key(1)).expect("reads"), Some(value));
        }
        assert!(
            rows.tree
                .iter()
                .values()
                .all(|value| value.expect("reads").len() <= VALUE_MAX_BYTES)
        );
        rows.put(&key(2), b"two").expect("puts");
        let all = rows
            .scan(&RowKey::from_tag(TableTag::DeadLetter), None, 9)
            .expect("reads");
        assert_eq!(all, [(key(1), long(3)), (key(2), b"two".to_vec())]);
        assert_eq!(
            rows.scan(&RowKey::from_tag(TableTag::DeadLetter), Some(&key(1)), 9)
                .expect("reads")
                .len(),
            1
        );
        rows.remove(&key(1)).expect("removes");
        assert_eq!(rows.get(&key(1)).expect("reads"), None);
        assert_eq!(rows.tree.len(), 1);
    }

    #[test]
    fn a_value_whose_end_was_lost_with_a_crash_is_none() {
        let (_folder, rows) = rows();
        let key = RowKey::from_tag(TableTag::DeadLetter).number(1);
        rows.put(&key, &vec![1; 2 * VALUE_MAX_BYTES]).expect("puts");
        rows.tree.remove(key.to_chunk_key(2)).expect("removes");
        assert_eq!(rows.get(&key).expect("reads"), None);
    }

    #[test]
    fn lanes_are_read_back_by_their_owner_with_the_time_that_is_left() {
        let (_folder, rows) = rows();
        let owner = |number| SubscriberId::Webhook(number);
        let lanes = [
            lane(ticket("a")),
            lane(ticket("a/b")),
            lane(LaneKey::Record(Position::new(7))),
        ];
        for lane in &lanes {
            rows.put(&lane_key(&owner(1), &lane.key), &encode_lane(lane, NOW))
                .expect("puts");
        }
        rows.put(
            &lane_key(&owner(10), &lanes[0].key),
            &encode_lane(&lanes[0], NOW),
        )
        .expect("puts");
        assert_eq!(rows.lane_rows(&owner(1), NOW).expect("reads"), lanes);
        let later = NOW.saturating_add(Duration::from_secs(1));
        assert_eq!(
            rows.lane_rows(&owner(10), later).expect("reads")[0].wait,
            Duration::ZERO
        );
        assert_eq!(
            rows.lane_owners()
                .expect("reads")
                .into_iter()
                .collect::<Vec<_>>(),
            [owner(1), owner(10)]
        );
        rows.remove_prefix(&RowKey::for_subscriber(TableTag::Lane, &owner(1)), |key| {
            *key == lane_key(&owner(1), &ticket("a"))
        })
        .expect("removes");
        assert_eq!(rows.lane_rows(&owner(1), NOW).expect("reads"), lanes[..1]);
        assert_eq!(rows.lane_rows(&owner(10), NOW).expect("reads").len(), 1);
    }

    #[test]
    fn the_bytes_of_rows_never_change() {
        let (_folder, rows) = rows();
        let four = SubscriberId::Webhook(4);
        let lanes = [
            lane(ticket("a")),
            LaneRow {
                is_halted: false,
                last_failure: None,
                ..lane(LaneKey::Record(Position::new(9)))
            },
        ];
        rows.put(
            &RowKey::from_tag(TableTag::DispatcherCursor),
            &read_states::encode_cursor(Position::new(258)),
        )
        .expect("puts");
        rows.put(
            &RowKey::for_subscriber(TableTag::ReadState, &four),
            &ReadStateRow::Behind(Position::new(3)).encode(),
        )
        .expect("puts");
        rows.put(
            &RowKey::for_subscriber(TableTag::ReadState, &SubscriberId::AutoReply),
            &ReadStateRow::Live.encode(),
        )
        .expect("puts");
        for lane in &lanes {
            rows.put(&lane_key(&four, &lane.key), &encode_lane(lane, NOW))
                .expect("puts");
        }
        let counters = SubscriberCounters {
            delivered: 1,
            failed: 2,
            dropped: 3,
            last_success_at: Some(NOW),
            failing_since: None,
        };
        rows.put(
            &RowKey::for_subscriber(TableTag::Counters, &four),
            &counters.encode(),
        )
        .expect("puts");
        let row = |row: Result<(sled::IVec, sled::IVec), _>| {
            row.map(|(key, value)| (hex::encode(key), hex::encode(value)))
        };
        let found: Vec<_> = rows
            .tree
            .iter()
            .map(|found| row(found).expect("reads"))
            .collect();
        let found: Vec<_> = found
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_str()))
            .collect();
        let expected = [
            ("010000", "01010000000000000102"),
            ("026175746f5f7265706c7900010000", "010100"),
            ("02776562686f6f6b3a3400010000", "0101010000000000000003"),
            (
                "03776562686f6f6b3a340001017469636b657400016100010000",
                "010100000000000000070000000000000003000000000000000200000000004c4b4000000000000f46280700000000000001f7737461747573",
            ),
            (
                "03776562686f6f6b3a3400010200000000000000090000",
                "010100000000000000070000000000000003000000000000000200000000004c4b4000000000000f4628000000000000000000",
            ),
            (
                "06776562686f6f6b3a3400010000",
                "010100000000000000010000000000000002000000000000000300000000000f42400000000000000000",
            ),
        ];
        assert_eq!(found, expected);
        assert_eq!(rows.cursor().expect("reads"), Some(Position::new(258)));
        let places = [
            (SubscriberId::AutoReply, ReadStateRow::Live),
            (four.clone(), ReadStateRow::Behind(Position::new(3))),
        ];
        assert_eq!(rows.read_states().expect("reads"), places);
        assert_eq!(rows.counters().expect("reads"), [(four, counters)]);
    }
}
