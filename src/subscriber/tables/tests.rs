//! Rows that are written and read back, and their golden bytes.

use std::time::Duration;

use super::*;
use crate::event::{EntityKey, Kind, Position, Timestamp};
use crate::journal::TableChange;
use crate::subscriber::SubscriberId;
use crate::subscriber::delivery::{LaneKey, LaneRow};
use crate::table_store::{JournaledTableId, open_test_tables};

const NOW: Timestamp = Timestamp::from_micros(1_000_000);

fn open_tables() -> (tempfile::TempDir, DeliveryTables) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let table = open_test_tables(folder.path()).table(JournaledTableId::Deliveries);
    (folder, DeliveryTables::new(table))
}

fn put(tables: &DeliveryTables, key: &RowKey, value: &[u8]) {
    let (key, value) = (key.as_bytes().to_vec(), value.to_vec());
    tables
        .write(vec![TableChange::Put { key, value }])
        .expect("writes");
}

fn lane(key: LaneKey) -> LaneRow {
    LaneRow {
        key,
        entity: None,
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
fn lanes_are_read_back_by_their_owner_with_the_time_that_is_left() {
    let (_folder, tables) = open_tables();
    let owner = |number| SubscriberId::Webhook(number);
    let lanes = [
        lane(ticket("a")),
        lane(ticket("a/b")),
        lane(LaneKey::Record(Position::new(7))),
    ];
    for lane in &lanes {
        put(
            &tables,
            &lane_key(&owner(1), &lane.key),
            &encode_lane(lane, NOW),
        );
    }
    put(
        &tables,
        &lane_key(&owner(10), &lanes[0].key),
        &encode_lane(&lanes[0], NOW),
    );
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
    let prefix = RowKey::for_subscriber(TableTag::Lane, &owner(1))
        .as_bytes()
        .to_vec();
    tables
        .write(vec![TableChange::RemovePrefix { prefix }])
        .expect("writes");
    assert_eq!(tables.lane_rows(&owner(1), NOW).expect("reads"), []);
    assert_eq!(tables.lane_rows(&owner(10), NOW).expect("reads").len(), 1);
}

#[test]
fn the_bytes_of_rows_never_change() {
    let (_folder, tables) = open_tables();
    let four = SubscriberId::Webhook(4);
    let lanes = [
        lane(ticket("a")),
        LaneRow {
            entity: Some(EntityKey::from_number(Kind::Ticket, 4)),
            is_halted: false,
            last_failure: None,
            ..lane(LaneKey::Record(Position::new(9)))
        },
    ];
    put(
        &tables,
        &RowKey::from_tag(TableTag::DispatcherCursor),
        &encode_cursor(Position::new(258)),
    );
    put(
        &tables,
        &RowKey::for_subscriber(TableTag::ReadState, &four),
        &ReadState::Behind(Position::new(3)).encode(),
    );
    put(
        &tables,
        &RowKey::for_subscriber(TableTag::ReadState, &SubscriberId::AutoReply),
        &ReadState::Live.encode(),
    );
    for lane in &lanes {
        put(
            &tables,
            &lane_key(&four, &lane.key),
            &encode_lane(lane, NOW),
        );
    }
    let counters = SubscriberCounters {
        delivered: 1,
        failed: 2,
        dropped: 3,
        last_success_at: Some(NOW),
        failing_since: None,
        failing_for: Duration::from_secs(6),
    };
    put(
        &tables,
        &RowKey::for_subscriber(TableTag::Counters, &four),
        &counters.encode(),
    );
    let found = [
        TableTag::DispatcherCursor,
        TableTag::ReadState,
        TableTag::Lane,
        TableTag::Counters,
    ]
    .map(|tag| {
        tables
            .scan(&RowKey::from_tag(tag), None, usize::MAX)
            .expect("reads")
    })
    .concat();
    let found: Vec<_> = found
        .iter()
        .map(|(key, value)| (hex::encode(key.as_bytes()), hex::encode(value)))
        .collect();
    let found: Vec<_> = found
        .iter()
        .map(|(key, value)| (key.as_str(), value.as_str()))
        .collect();
    let expected = [
        ("01", "010000000000000102"),
        ("026175746f5f7265706c790001", "0100"),
        ("02776562686f6f6b3a340001", "01010000000000000003"),
        (
            "03776562686f6f6b3a340001017469636b65740001610001",
            "0100000000000000070000000000000003000000000000000200000000004c4b4000000000000f46280700000000000001f7737461747573",
        ),
        (
            "03776562686f6f6b3a340001020000000000000009",
            "0100000000000000070000000000000003000000000000000200000000004c4b4000000000000f46280800000000000000007469636b65740001340001",
        ),
        (
            "06776562686f6f6b3a340001",
            "0100000000000000010000000000000002000000000000000300000000000f4240000000000000000000000000005b8d80",
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

#[test]
fn counters_of_an_earlier_version_are_read() {
    let (_folder, tables) = open_tables();
    let key = RowKey::for_subscriber(TableTag::Counters, &SubscriberId::Webhook(4));
    let earlier = SubscriberCounters {
        delivered: 1,
        ..SubscriberCounters::default()
    };
    let mut value = earlier.encode();
    value.truncate(value.len() - 8);
    put(&tables, &key, &value);
    assert_eq!(
        tables.counters().expect("reads"),
        [(SubscriberId::Webhook(4), earlier)]
    );
}
