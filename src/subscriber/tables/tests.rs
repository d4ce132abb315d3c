//! Rows that are written and read back, and their golden bytes.

use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::event::{EntityKey, Kind, Position, Timestamp};
use crate::failpoints::NoFailures;
use crate::journal::{DataStore, VALUE_MAX_BYTES};
use crate::subscriber::SubscriberId;
use crate::subscriber::delivery::{LaneKey, LaneRow};

const NOW: Timestamp = Timestamp::from_micros(1_000_000);

fn open_tables() -> (tempfile::TempDir, DeliveryTables) {
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
    let (_folder, tables) = open_tables();
    let key = |number| RowKey::from_tag(TableTag::DeadLetter).with_number(number);
    let long = |byte| vec![byte; 2 * VALUE_MAX_BYTES + 7];
    for value in [Vec::new(), long(1), vec![2], long(3)] {
        tables.put(&key(1), &value).expect("puts");
        assert_eq!(tables.get(&key(1)).expect("reads"), Some(value));
    }
    assert!(
        tables
            .tree()
            .iter()
            .values()
            .all(|value| value.expect("reads").len() <= VALUE_MAX_BYTES)
    );
    tables.put(&key(2), b"two").expect("puts");
    let all = tables
        .scan(&RowKey::from_tag(TableTag::DeadLetter), None, 9)
        .expect("reads");
    assert_eq!(all, [(key(1), long(3)), (key(2), b"two".to_vec())]);
    assert_eq!(
        tables
            .scan(&RowKey::from_tag(TableTag::DeadLetter), Some(&key(1)), 9)
            .expect("reads")
            .len(),
        1
    );
    tables.remove(&key(1)).expect("removes");
    assert_eq!(tables.get(&key(1)).expect("reads"), None);
    assert_eq!(tables.tree().len(), 1);
}

#[test]
fn a_value_whose_end_was_lost_with_a_crash_is_none() {
    let (_folder, tables) = open_tables();
    let key = RowKey::from_tag(TableTag::DeadLetter).with_number(1);
    tables
        .put(&key, &vec![1; 2 * VALUE_MAX_BYTES])
        .expect("puts");
    tables.tree().remove(key.to_chunk_key(2)).expect("removes");
    assert_eq!(tables.get(&key).expect("reads"), None);
}

#[test]
fn lanes_are_read_back_by_their_owner_with_the_time_that_is_left() {
    let (_folder, tables) = open_tables();
    let owner = |number| SubscriberId::Webhook(number);
    let lanes = [
        lane(ticket("a")),
        lane(ticket("a/b")),
        lane(LaneKey::Record(Position::new(7))),
    ];
    for lane in &lanes {
        tables
            .put(&lane_key(&owner(1), &lane.key), &encode_lane(lane, NOW))
            .expect("puts");
    }
    tables
        .put(
            &lane_key(&owner(10), &lanes[0].key),
            &encode_lane(&lanes[0], NOW),
        )
        .expect("puts");
    assert_eq!(tables.lane_rows(&owner(1), NOW).expect("reads"), lanes);
    let later = NOW.saturating_add(Duration::from_secs(1));
    assert_eq!(
        tables.lane_rows(&owner(10), later).expect("reads")[0].wait,
        Duration::ZERO
    );
    assert_eq!(
        tables
            .lane_owners()
            .expect("reads")
            .into_iter()
            .collect::<Vec<_>>(),
        [owner(1), owner(10)]
    );
    tables
        .remove_prefix(&RowKey::for_subscriber(TableTag::Lane, &owner(1)), |key| {
            *key == lane_key(&owner(1), &ticket("a"))
        })
        .expect("removes");
    assert_eq!(tables.lane_rows(&owner(1), NOW).expect("reads"), lanes[..1]);
    assert_eq!(tables.lane_rows(&owner(10), NOW).expect("reads").len(), 1);
}

#[test]
fn the_bytes_of_rows_never_change() {
    let (_folder, tables) = open_tables();
    let four = SubscriberId::Webhook(4);
    let lanes = [
        lane(ticket("a")),
        LaneRow {
            is_halted: false,
            last_failure: None,
            ..lane(LaneKey::Record(Position::new(9)))
        },
    ];
    tables
        .put(
            &RowKey::from_tag(TableTag::DispatcherCursor),
            &encode_cursor(Position::new(258)),
        )
        .expect("puts");
    tables
        .put(
            &RowKey::for_subscriber(TableTag::ReadState, &four),
            &ReadState::Behind(Position::new(3)).encode(),
        )
        .expect("puts");
    tables
        .put(
            &RowKey::for_subscriber(TableTag::ReadState, &SubscriberId::AutoReply),
            &ReadState::Live.encode(),
        )
        .expect("puts");
    for lane in &lanes {
        tables
            .put(&lane_key(&four, &lane.key), &encode_lane(lane, NOW))
            .expect("puts");
    }
    let counters = SubscriberCounters {
        delivered: 1,
        failed: 2,
        dropped: 3,
        last_success_at: Some(NOW),
        failing_since: None,
    };
    tables
        .put(
            &RowKey::for_subscriber(TableTag::Counters, &four),
            &counters.encode(),
        )
        .expect("puts");
    let row = |row: Result<(sled::IVec, sled::IVec), _>| {
        row.map(|(key, value)| (hex::encode(key), hex::encode(value)))
    };
    let found: Vec<_> = tables
        .tree()
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
    assert_eq!(tables.cursor().expect("reads"), Some(Position::new(258)));
    let expected_states = [
        (SubscriberId::AutoReply, ReadState::Live),
        (four.clone(), ReadState::Behind(Position::new(3))),
    ];
    assert_eq!(tables.read_states().expect("reads"), expected_states);
    assert_eq!(tables.counters().expect("reads"), [(four, counters)]);
}
