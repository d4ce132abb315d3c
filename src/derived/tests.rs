//! Derived stores that are opened again, whole and damaged.

use std::fs;
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use super::*;
use crate::failpoints::{FailureInjector, NoFailures};
use crate::journal::DataFolder;

/// Opens the derived store of the data folder at `path`.
pub(crate) fn open_test_store(path: &Path) -> Arc<DerivedStore> {
    open_failing_store(path, Arc::new(NoFailures)).expect("opens")
}

/// Opens the derived store of the data folder at `path`, whose failpoints are those of `injector`.
pub(crate) fn open_failing_store(
    path: &Path,
    injector: Arc<dyn FailureInjector>,
) -> Result<Arc<DerivedStore>, DerivedStoreError> {
    let folder = DataFolder::open(path).expect("opens");
    // The incarnation stays the same from here on.
    folder.mark_initialized().expect("writes");
    DerivedStore::open(&folder, 1 << 20, injector)
}

/// Data folder whose derived store has a synced row in the tree `rows`.
fn filled_folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let store = open_test_store(folder.path());
    let rows = store.tree("rows").expect("opens");
    rows.insert("key", "value").expect("writes");
    store.sync().expect("syncs");
    folder
}

fn stored_rows(store: &Arc<DerivedStore>) -> Vec<DerivedRow> {
    let rows = store.tree("rows").expect("opens");
    rows.iter().map(|row| row.expect("reads")).collect()
}

fn overwrite(file: &Path, offset: u64, bytes: &[u8]) {
    let mut file = fs::File::options().write(true).open(file).expect("there");
    file.seek(SeekFrom::Start(offset)).expect("seeks");
    file.write_all(bytes).expect("writes");
}

#[test]
fn rows_are_there_again_after_opening_and_only_for_the_owner() {
    let folder = filled_folder();
    // The first opening of a log with content writes a snapshot.
    for _ in 0..2 {
        let store = open_test_store(folder.path());
        assert_eq!(stored_rows(&store), [(b"key".to_vec(), b"value".to_vec())]);
    }
    let mode = fs::metadata(folder.path().join("derived")).expect("there");
    assert_eq!(mode.permissions().mode() & 0o777, 0o700);
}

#[test]
fn damaged_files_lead_to_an_empty_store_that_keeps_new_rows() {
    type Damage = fn(&Path);
    let damages: [(&str, Damage); 12] = [
        ("no db", |path| {
            fs::remove_file(path.join("db")).expect("there")
        }),
        ("no conf", |path| {
            fs::remove_file(path.join("conf")).expect("there")
        }),
        ("no files", |path| {
            fs::remove_dir_all(path).expect("there");
            fs::create_dir(path).expect("creates");
            fs::write(path.join("stray"), "").expect("writes");
        }),
        ("empty db", |path| {
            fs::write(path.join("db"), "").expect("writes")
        }),
        ("db of zeros", |path| {
            fs::write(path.join("db"), vec![0; 2 << 20]).expect("writes")
        }),
        ("db of garbage", |path| {
            fs::write(path.join("db"), vec![0xa5; 2 << 20]).expect("writes")
        }),
        ("garbage in the header", |path| {
            overwrite(&path.join("db"), 4, &[1])
        }),
        ("garbage after the header", |path| {
            overwrite(&path.join("db"), 20, &[0xa5; 4096])
        }),
        ("garbage in conf", |path| {
            fs::write(path.join("conf"), b"\x07 none \xff\n").expect("writes")
        }),
        ("blob", |path| {
            fs::write(path.join("blobs/1234"), "a blob").expect("writes")
        }),
        ("folder in place of db", |path| {
            fs::remove_file(path.join("db")).expect("there");
            fs::create_dir(path.join("db")).expect("creates");
        }),
        ("mark", |path| {
            fs::write(path.join("UNUSABLE"), "").expect("writes")
        }),
    ];
    for (name, damage) in damages {
        let folder = filled_folder();
        damage(&folder.path().join("derived"));
        let store = open_test_store(folder.path());
        assert_eq!(stored_rows(&store), [], "{name}");
        store
            .tree("rows")
            .expect("opens")
            .insert("new", "row")
            .expect("writes");
        store.sync().expect("syncs");
        drop(store);
        let store = open_test_store(folder.path());
        assert_eq!(
            stored_rows(&store),
            [(b"new".to_vec(), b"row".to_vec())],
            "{name}"
        );
    }
}

/// With a snapshot, sled had opened such files and never come back from a read.
#[test]
fn a_damaged_segment_leaves_no_row_or_those_of_an_earlier_time() {
    let damages = [
        (2 << 20, vec![0xa5; 20]),
        (2 << 20, vec![0; 1 << 20]),
        ((2 << 20) + 5000, vec![0xa5; 4096]),
        ((2 << 20) + 5000, vec![0; 4096]),
    ];
    for (offset, bytes) in damages {
        let folder = filled_folder();
        let store = open_test_store(folder.path());
        let rows = store.tree("rows").expect("opens");
        for number in 0..400_u32 {
            let value = [7; VALUE_MAX_BYTES];
            rows.insert(number.to_be_bytes(), value).expect("writes");
        }
        store.sync().expect("syncs");
        drop((rows, store));
        // sled writes a snapshot whenever it opens a log with content.
        drop(open_test_store(folder.path()));

        overwrite(&folder.path().join("derived/db"), offset, &bytes);
        // Rows of an earlier time are as good as none: the cursors are of that time too.
        let found = stored_rows(&open_test_store(folder.path()));
        let keys: Vec<_> = found.into_iter().map(|(key, _)| key).collect();
        let numbers = (0..).map(|number: u32| number.to_be_bytes().to_vec());
        let mut earlier: Vec<_> = numbers.take(keys.len().saturating_sub(1)).collect();
        earlier.extend((!keys.is_empty()).then(|| b"key".to_vec()));
        assert_eq!(keys, earlier, "{offset}");
    }
}

#[test]
fn the_derived_store_of_another_data_folder_is_not_used() {
    let (ours, theirs) = (filled_folder(), filled_folder());
    fs::remove_dir_all(ours.path().join("derived")).expect("there");
    fs::rename(theirs.path().join("derived"), ours.path().join("derived")).expect("renames");
    assert_eq!(stored_rows(&open_test_store(ours.path())), []);
}

#[test]
fn a_damaged_snapshot_costs_no_row() {
    let folder = filled_folder();
    let damaged = folder.path().join("derived/snap.00000000ffffffff");
    fs::write(&damaged, [0xa5; 64]).expect("writes");
    let store = open_test_store(folder.path());
    assert_eq!(stored_rows(&store).len(), 1);
}

#[test]
fn an_error_of_the_operating_system_is_returned_and_removes_nothing() {
    // A file in place of a folder: of the derived store, and of sled's blobs.
    for place in ["derived", "derived/blobs"] {
        let folder = filled_folder();
        let place = folder.path().join(place);
        fs::remove_dir_all(&place).expect("there");
        fs::write(&place, "a file").expect("writes");
        let opened = open_failing_store(folder.path(), Arc::new(NoFailures));
        let error = opened.err().expect("a file is no folder");
        assert!(error.to_string().contains("cannot use"), "{error}");
        assert_eq!(fs::read(&place).expect("there"), b"a file");
        assert!(!place.ends_with("blobs") || folder.path().join("derived/db").exists());
    }
}

#[test]
fn errors_of_sled_are_told_apart_from_errors_of_the_system() {
    use std::io::{Error, ErrorKind};

    let system_errors = [
        sled::Error::Io(Error::from_raw_os_error(5)),
        sled::Error::Io(Error::from_raw_os_error(24)),
        sled::Error::Io(Error::from_raw_os_error(28)),
        sled::Error::Io(Error::from_raw_os_error(30)),
        sled::Error::Io(ErrorKind::PermissionDenied.into()),
        sled::Error::Io(Error::other("could not acquire lock on \"db\"")),
        // sled copies an error in this way when it reports it again.
        sled::Error::Io(Error::from_raw_os_error(5)).clone(),
    ];
    for error in system_errors {
        assert!(
            !DerivedStoreError::from(error.clone()).is_damage(),
            "{error:?}"
        );
    }
    let damage = [
        sled::Error::Io(ErrorKind::UnexpectedEof.into()),
        sled::Error::Io(Error::other("encountered torn segment")),
        sled::Error::ReportableBug("a bug".into()),
        sled::Error::Unsupported("another size".into()),
    ];
    for error in damage {
        assert!(
            DerivedStoreError::from(error.clone()).is_damage(),
            "{error:?}"
        );
    }
    let panic = |text: &str| DerivedStoreError::from_panic(text.into()).is_damage();
    assert!(panic("assertion failed"));
    assert!(!panic(
        "called `Result::unwrap()`: Io(Os { code: 28, kind: StorageFull })"
    ));
}

/// Otherwise the node would meet the damage again after each opening.
#[test]
fn damage_that_is_found_while_the_store_is_used_empties_it_at_the_next_opening() {
    let folder = filled_folder();
    let store = open_test_store(folder.path());
    let failed = store.guard(|| Err::<(), _>(sled::Error::ReportableBug("a bug".into())));
    assert!(failed.is_err());
    drop(store);
    assert_eq!(stored_rows(&open_test_store(folder.path())), []);
    assert_eq!(
        stored_rows(&open_test_store(filled_folder().path())).len(),
        1
    );
}

fn files_hold(folder: &Path, wanted: &[u8]) -> bool {
    let entries = fs::read_dir(folder).expect("readable");
    entries
        .map(|entry| entry.expect("readable").path())
        .any(|path| {
            if path.is_dir() {
                return files_hold(&path, wanted);
            }
            let bytes = fs::read(&path).expect("readable");
            bytes.windows(wanted.len()).any(|part| part == wanted)
        })
}

#[test]
fn a_copy_has_all_live_rows_and_nothing_of_removed_ones() {
    let folder = filled_folder();
    let data = DataFolder::open(folder.path()).expect("opens");
    let store = DerivedStore::open(&data, 1 << 20, Arc::new(NoFailures)).expect("opens");
    let gone = store.tree("gone").expect("opens");
    gone.insert("row", "Ada Lovelace").expect("writes");
    store.sync().expect("syncs");
    gone.remove("row").expect("removes");
    store.sync().expect("syncs");
    assert!(files_hold(folder.path(), b"Ada Lovelace"), "sled keeps it");

    store.copy_rows(&data, 1 << 20).expect("copies");
    drop((gone, store));
    adopt_copy(&data).expect("renames");
    drop(data);
    assert!(!files_hold(folder.path(), b"Ada Lovelace"));
    let store = open_test_store(folder.path());
    assert_eq!(stored_rows(&store), [(b"key".to_vec(), b"value".to_vec())]);
}

/// A crash between any two steps of a copy.
#[test]
fn an_interrupted_copy_leaves_the_old_files_or_the_new_ones() {
    for steps in 0..3 {
        let folder = filled_folder();
        let data = DataFolder::open(folder.path()).expect("opens");
        let store = DerivedStore::open(&data, 1 << 20, Arc::new(NoFailures)).expect("opens");
        store.copy_rows(&data, 1 << 20).expect("copies");
        drop(store);
        let path = |name: &str| folder.path().join(name);
        let renames = [("derived", "derived.old"), ("derived.new", "derived")];
        for (from, to) in &renames[..steps] {
            fs::rename(path(from), path(to)).expect("renames");
        }
        drop(data);

        let store = open_test_store(folder.path());
        let expected = [(b"key".to_vec(), b"value".to_vec())];
        assert_eq!(stored_rows(&store), expected, "after {steps} steps");
        assert!(!path("derived.old").exists() && !path("derived.new").exists());
    }
}
