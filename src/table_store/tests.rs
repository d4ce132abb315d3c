//! Tables on a real journal and a real derived store.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::thread;

use super::*;
use crate::clock::SystemClock;
use crate::derived::{DerivedStoreError, VALUE_MAX_BYTES, open_test_store};
use crate::journal::{Journal, TableChange, TableChanges};

fn open_store(folder: &Path) -> TestStore {
    TestStore::open(folder, Arc::new(SystemClock::default()))
}

fn stored_cursor(store: &TestStore) -> u64 {
    let rows = applied_rows::AppliedRows::open(&store.derived).expect("opens");
    rows.load_cursor().expect("reads")
}

fn put(key: &str, value: impl Into<Vec<u8>>) -> TableChange {
    TableChange::Put {
        key: key.into(),
        value: value.into(),
    }
}

fn remove(key: &str) -> TableChange {
    TableChange::Remove { key: key.into() }
}

fn remove_prefix(prefix: &str) -> TableChange {
    TableChange::RemovePrefix {
        prefix: prefix.into(),
    }
}

fn scan_all(table: &JournaledTable) -> Vec<(String, Vec<u8>)> {
    let rows = table.scan(b"", None, usize::MAX).expect("reads");
    rows.into_iter()
        .map(|(key, value)| (String::from_utf8(key).expect("text"), value))
        .collect()
}

fn keys(rows: &[(Vec<u8>, Vec<u8>)]) -> Vec<&str> {
    rows.iter()
        .map(|(key, _)| str::from_utf8(key).expect("text"))
        .collect()
}

#[test]
fn values_of_any_length_are_read_back_and_replaced_in_small_rows() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let store = open_store(folder.path());
    let table = store.tables.table(JournaledTableId::Deliveries);
    let long = |byte| vec![byte; 2 * VALUE_MAX_BYTES + 7];
    for value in [
        Vec::new(),
        long(1),
        vec![2],
        long(3),
        vec![4; VALUE_MAX_BYTES - 1],
    ] {
        table.write(vec![put("a", value.clone())]).expect("writes");
        assert_eq!(table.get(b"a").expect("reads"), Some(value));
    }
    table
        .write(vec![put("a", long(5)), put("b", "two")])
        .expect("writes");
    assert_eq!(
        scan_all(&table),
        [("a".into(), long(5)), ("b".into(), b"two".to_vec())]
    );

    let stored = store.derived.tree("tables").expect("opens");
    assert!(
        stored
            .iter()
            .values()
            .all(|value| value.expect("reads").len() <= VALUE_MAX_BYTES)
    );
    table.write(vec![remove("a")]).expect("writes");
    assert_eq!(table.get(b"a").expect("reads"), None);
    assert_eq!(
        stored.iter().count(),
        1,
        "no chunk of the removed value is left"
    );
}

/// A key may be the beginning of another key, and end like a chunk number.
#[test]
fn keys_that_begin_alike_are_told_apart() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let table = open_test_tables(folder.path()).table(JournaledTableId::Deliveries);
    let all = ["1", "1\0", "1\0\0", "1\0\0\0\x01", "1\0\x01", "10", "2"];
    let long = vec![7; 3 * VALUE_MAX_BYTES];
    table
        .write(all.map(|key| put(key, long.clone())).into())
        .expect("writes");

    let rows = table.scan(b"", None, usize::MAX).expect("reads");
    assert_eq!(keys(&rows), all);
    assert!(rows.iter().all(|(_, value)| *value == long));
    for (number, key) in all.iter().enumerate() {
        let rows = table.scan(b"", Some(key.as_bytes()), 2).expect("reads");
        assert_eq!(
            keys(&rows),
            all[number + 1..]
                .iter()
                .take(2)
                .copied()
                .collect::<Vec<_>>()
        );
    }
    let rows = table.scan(b"1\0", None, usize::MAX).expect("reads");
    assert_eq!(keys(&rows), all[1..5]);

    table
        .write(vec![put("1", "short"), remove("1\0\0")])
        .expect("writes");
    let rows = table.scan(b"", None, usize::MAX).expect("reads");
    assert_eq!(
        keys(&rows),
        ["1", "1\0", "1\0\0\0\x01", "1\0\x01", "10", "2"]
    );
    table.write(vec![remove_prefix("1\0")]).expect("writes");
    let rows = table.scan(b"", None, usize::MAX).expect("reads");
    assert_eq!(keys(&rows), ["1", "10", "2"]);
}

#[test]
fn changes_are_made_in_order_and_in_their_own_table() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let tables = open_test_tables(folder.path());
    let table = tables.table(JournaledTableId::Deliveries);
    let other = tables.table(JournaledTableId::Enrichment);
    other.write(vec![put("a1", "other")]).expect("writes");
    table
        .write(vec![put("a1", "old"), put("b", "kept")])
        .expect("writes");
    table
        .write(vec![
            remove_prefix("a"),
            put("a2", "new"),
            put("c", ""),
            remove("c"),
        ])
        .expect("writes");
    assert_eq!(
        scan_all(&table),
        [
            ("a2".into(), b"new".to_vec()),
            ("b".into(), b"kept".to_vec())
        ]
    );
    table.write(vec![remove_prefix("")]).expect("writes");
    assert_eq!(scan_all(&table), []);
    assert_eq!(scan_all(&other), [("a1".into(), b"other".to_vec())]);
}

#[test]
fn all_rows_are_there_again_after_reopening_and_after_the_loss_of_the_derived_store() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let table = |id| open_test_tables(folder.path()).table(id);
    let deliveries = table(JournaledTableId::Deliveries);
    let long = vec![9; 100_000];
    deliveries
        .write(vec![put("a", "1"), put("b", long.clone())])
        .expect("writes");
    deliveries
        .write(vec![put("c", "3"), remove("a")])
        .expect("writes");
    drop(deliveries);
    table(JournaledTableId::Enrichment)
        .write(vec![put("a", "4")])
        .expect("writes");

    let expected = [("b".to_owned(), long), ("c".to_owned(), b"3".to_vec())];
    for is_lost in [false, true] {
        if is_lost {
            fs::remove_dir_all(folder.path().join("derived")).expect("there");
        }
        assert_eq!(scan_all(&table(JournaledTableId::Deliveries)), expected);
        let enrichment = scan_all(&table(JournaledTableId::Enrichment));
        assert_eq!(enrichment, [("a".to_owned(), b"4".to_vec())]);
    }
}

/// The log of an endless store grew with each checkpoint of deliveries.
#[test]
fn superseded_changes_go_from_the_log_and_the_rows_stay_the_same() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let store = open_store(folder.path());
    let table = store.tables.table(JournaledTableId::Deliveries);
    let old = vec![7; 1_000];
    for changes in [
        vec![put("a", old.clone()), put("b", "kept")],
        vec![put("a", old.clone()), put("gone", old.clone())],
        vec![remove("gone"), put("c1", old.clone())],
        vec![remove_prefix("c"), put("a", "new"), put("c2", "new")],
    ] {
        table.write(changes).expect("writes");
    }
    let rows = scan_all(&table);
    let put_changes = |store: &TestStore| {
        let mut puts = Vec::new();
        let collect = &mut |number, group: TableChanges| {
            let kept = group.changes.into_iter();
            puts.extend(kept.map(|change| (number, change)));
        };
        store.journal.read_changes(1, collect).expect("reads");
        puts.retain(|(_, change)| matches!(change, TableChange::Put { .. }));
        puts
    };

    let rewrite = |drops_changes| {
        let filter = SupersededChanges::new(Arc::clone(&store.tables), drops_changes);
        let numbers = store.journal.segment_numbers().into_iter();
        let rewritten = numbers.map(|number| store.journal.rewrite_segment(number, &filter));
        rewritten.map(|result| result.expect("rewrites")).collect()
    };
    let before = put_changes(&store);
    let rewritten: Vec<bool> = rewrite(false);
    assert_eq!((rewritten, put_changes(&store)), (vec![false], before));
    let rewritten: Vec<bool> = rewrite(true);
    assert_eq!(rewritten, [true]);
    let rewritten: Vec<bool> = rewrite(true);
    assert_eq!(rewritten, [false, false], "nothing to do twice");
    let left = [
        (1, put("b", "kept")),
        (4, put("a", "new")),
        (4, put("c2", "new")),
    ];
    assert_eq!(put_changes(&store), left);

    store.journal.close();
    drop((table, store));
    fs::remove_dir_all(folder.path().join("derived")).expect("there");
    let tables = open_test_tables(folder.path());
    assert_eq!(scan_all(&tables.table(JournaledTableId::Deliveries)), rows);
}

#[test]
fn the_cursor_row_is_written_at_the_end_and_names_the_next_change() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let store = open_store(folder.path());
    let tables = Arc::clone(&store.tables);
    let table = tables.table(JournaledTableId::Deliveries);
    for number in 0..3 {
        table.write(vec![put("a", [number])]).expect("writes");
    }
    assert_eq!(stored_cursor(&store), 1, "no cursor is written that soon");
    tables.close().expect("syncs");
    assert_eq!(stored_cursor(&store), 4);
}

/// Two threads may get their changes back from the journal in the wrong order.
#[test]
fn writers_at_the_same_time_leave_the_rows_of_the_last_durable_change() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let store = open_store(folder.path());
    let tables = Arc::clone(&store.tables);
    let write = |writer: u8| {
        let table = tables.table(JournaledTableId::Deliveries);
        move || {
            for number in 0..100 {
                let own = put(&format!("{writer}"), [number]);
                table
                    .write(vec![put("shared", [writer, number]), own])
                    .expect("writes");
                let seen = table.get(format!("{writer}").as_bytes()).expect("reads");
                assert_eq!(seen, Some(vec![number]), "a write is visible to its writer");
            }
        }
    };
    let writers = [1, 2].map(|writer| thread::spawn(write(writer)));
    for writer in writers {
        writer.join().expect("writes");
    }

    let mut expected = BTreeMap::new();
    let next = store.journal.read_changes(1, &mut |_, changes| {
        for change in changes.changes {
            if let TableChange::Put { key, value } = change {
                expected.insert(String::from_utf8(key).expect("text"), value);
            }
        }
    });
    let rows = scan_all(&tables.table(JournaledTableId::Deliveries));
    assert_eq!(rows, expected.into_iter().collect::<Vec<_>>());
    tables.close().expect("syncs");
    assert_eq!(stored_cursor(&store), next.expect("reads"));
}

#[test]
fn applying_changes_again_from_any_of_them_on_leads_to_the_same_rows() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let store = open_store(folder.path());
    let table = store.tables.table(JournaledTableId::Deliveries);
    let writes = [
        vec![put("a", vec![1; 40_000]), put("ab", "2")],
        vec![put("a", "3"), remove("ab")],
        vec![remove_prefix("a"), put("ab", vec![4; 20_000])],
        vec![put("b", ""), put("ab", "5")],
    ];
    for changes in &writes {
        table.write(changes.clone()).expect("writes");
    }

    let stored = store.derived.tree("tables").expect("opens");
    let all_rows = || {
        stored
            .iter()
            .map(|row| row.expect("reads"))
            .collect::<Vec<_>>()
    };
    let expected = all_rows();
    let rows = applied_rows::AppliedRows::open(&store.derived).expect("opens");
    for first in 0..writes.len() {
        for changes in &writes[first..] {
            let (table, changes) = (JournaledTableId::Deliveries as u8, changes.clone());
            rows.apply(&TableChanges { table, changes })
                .expect("applies");
        }
        assert_eq!(all_rows(), expected, "from {first} on");
    }
}

#[test]
fn rows_ahead_of_the_journal_are_refused() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let store = open_store(folder.path());
    let rows = applied_rows::AppliedRows::open(&store.derived).expect("opens");
    rows.store_cursor(9).expect("writes");
    let journal = Arc::clone(&store.journal) as Arc<dyn Journal>;
    let error = TableStore::open(journal, Arc::clone(&store.derived))
        .err()
        .expect("ahead");
    assert!(
        matches!(error, TableStoreError::AheadOfJournal(8)),
        "{error}"
    );
}

#[test]
fn the_bytes_of_rows_never_change() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let store = open_store(folder.path());
    let tables = Arc::clone(&store.tables);
    let write = |id, key, value: &[u8]| {
        tables
            .table(id)
            .write(vec![put(key, value)])
            .expect("writes")
    };
    write(JournaledTableId::Subscriptions, "1", b"s");
    write(JournaledTableId::Accounts, "a", b"");
    write(JournaledTableId::Deliveries, "d", &[7; VALUE_MAX_BYTES]);
    write(JournaledTableId::Enrichment, "e", b"e");
    tables.close().expect("syncs");
    let hex = |tree: &str| {
        let rows = store.derived.tree(tree).expect("opens");
        let rows = rows.iter().map(|row| row.expect("reads"));
        rows.map(|(key, value)| {
            let start = &value[..value.len().min(3)];
            (hex::encode(key), hex::encode(start), value.len())
        })
        .collect::<Vec<_>>()
    };
    let row = |key: &str, value: &str, length| (key.to_owned(), value.to_owned(), length);
    let expected = [
        row("01310000", "0173", 2),
        row("02610000", "01", 1),
        row("03640000", "000707", VALUE_MAX_BYTES),
        row("03640001", "0107", 2),
        row("04650000", "0165", 2),
    ];
    assert_eq!(hex("tables"), expected);
    assert_eq!(hex("tables.cursor"), [row("6e657874", "010000", 9)]);
}

/// The base file is written while changes go on, so it mixes versions of rows and of their chunks.
#[test]
fn an_image_that_is_taken_during_changes_leads_to_the_same_rows() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let store = open_store(folder.path());
    let table = store.tables.table(JournaledTableId::Deliveries);
    let change = |number: u64| {
        let draw = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
        let key = vec![b'k'; 1 + (draw % 5) as usize];
        match draw / 8 % 8 {
            0 => TableChange::Remove { key },
            1 => TableChange::RemovePrefix { prefix: key },
            size => TableChange::Put {
                key,
                value: vec![number as u8; size as usize * 9_000],
            },
        }
    };
    let write = |numbers: std::ops::Range<u64>| {
        numbers.for_each(|number| table.write(vec![change(number)]).expect("writes"));
    };
    write(0..50);
    for round in 1..4_u64 {
        let cursor = store.tables.write_cursor().expect("writes");
        let image = TableImage::begin(&store.derived).expect("reads");
        assert_eq!(image.next_change(), cursor);
        let mut rows = Vec::new();
        thread::scope(|scope| {
            scope.spawn(|| write(round * 100..round * 100 + 60));
            image
                .visit_rows::<DerivedStoreError>(&mut |row| {
                    rows.push(row);
                    thread::yield_now();
                    Ok(())
                })
                .expect("reads");
        });

        let other = tempfile::tempdir().expect("a temporary folder");
        let derived = open_test_store(other.path());
        let mut loader = TableImageLoader::begin(&derived).expect("begins");
        loader.load_rows(&rows).expect("loads");
        assert!(loader.finish().expect("loads"), "there is a cursor");
        let journal = Arc::clone(&store.journal) as Arc<dyn Journal>;
        let loaded = TableStore::open(journal, derived).expect("opens");
        let loaded = loaded.table(JournaledTableId::Deliveries);
        assert_eq!(
            loaded.scan(&[], None, usize::MAX).expect("reads"),
            table.scan(&[], None, usize::MAX).expect("reads")
        );
    }
}
