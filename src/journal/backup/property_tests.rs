//! Property tests of what reads files: damaged archives, segments and base files are refused or
//! reported, without a panic.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use proptest::prelude::*;
use proptest::sample::Index;

use super::chunk::{ChunkKind, ChunkReader, ChunkWriter};
use super::{ArchiveReader, BackupStart};
use crate::clock::SystemClock;
use crate::damaged_samples::{damage_cases, damaged};
use crate::event::{EntityKey, Kind, Record, Timestamp};
use crate::journal::{
    ContentCipher, Journal, JournalSubmission, RecordDraft, TableChange, VerifiedPart,
    verify_journal,
};
use crate::retention;
use crate::table_store::{JournaledTableId, TestStore};

/// Files of a store with records, changes and a base file, by their paths in its folder; and its
/// archive.
struct SampleStore {
    files: Vec<(PathBuf, Vec<u8>)>,
    archive: Vec<u8>,
}

static SAMPLE: LazyLock<SampleStore> = LazyLock::new(|| {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let store = TestStore::open(folder.path(), Arc::new(SystemClock::default()));
    let at = Timestamp::from_micros(1_764_374_400_000_000);
    for sequence in 1..4 {
        let entity = EntityKey::try_new(Kind::Ticket, "SUP-1").expect("an id");
        let record = Record {
            payload: r#"{"data": {"text": "hello"}}"#.into(),
            sequence: Some(sequence),
            ..Record::new("support", entity.clone(), "message.created", at)
        };
        let draft = RecordDraft {
            entity,
            sequence: Some(sequence),
            received_at: at,
            bytes: record.encode(),
        };
        let submission = JournalSubmission {
            drafts: vec![draft],
            settle: Box::new(|_| ()),
        };
        store.journal.append(submission).expect("open");
        let change = TableChange::Put {
            key: vec![0, 1],
            value: vec![7; 40],
        };
        let table = store.tables.table(JournaledTableId::Audit);
        table.write(vec![change]).expect("written");
    }
    store.tables.close().expect("applied");
    retention::renew_base(&store.journal, &store.derived).expect("written");

    let image = store.journal.take_image().expect("an image");
    let header = image.header_from(BackupStart::Everything, at);
    let mut archive = Vec::new();
    image
        .write_archive(&header.expect("a header"), &mut archive, &mut |_| ())
        .expect("written");
    let mut files = Vec::new();
    list_files(folder.path(), Path::new(""), &mut files);
    SampleStore { files, archive }
});

/// Lists the files of `root` but those of the derived store, which another library reads.
fn list_files(root: &Path, within: &Path, files: &mut Vec<(PathBuf, Vec<u8>)>) {
    for entry in fs::read_dir(root.join(within)).expect("a folder") {
        let path = within.join(entry.expect("an entry").file_name());
        if root.join(&path).is_dir() {
            if !path.starts_with("derived") {
                list_files(root, &path, files);
            }
        } else {
            files.push((path.clone(), fs::read(root.join(&path)).expect("read")));
        }
    }
}

fn read_archive(bytes: &[u8]) -> bool {
    ArchiveReader::open(bytes, &ContentCipher::default())
        .and_then(|mut reader| reader.check_to_end(&mut |_| ()))
        .is_ok()
}

/// Chunks of the sample archive, each with its kind.
fn sample_chunks() -> Vec<(ChunkKind, Vec<u8>)> {
    let mut reader = ChunkReader::begin(&SAMPLE.archive[..], ContentCipher::default())
        .expect("the sample is whole");
    let mut chunks = Vec::new();
    loop {
        let chunk = reader.read_chunk().expect("the sample is whole");
        chunks.push((chunk.kind, chunk.body.to_vec()));
        if chunk.kind == ChunkKind::Totals {
            return chunks;
        }
    }
}

proptest! {
    #![proptest_config(damage_cases(200))]

    #[test]
    fn a_damaged_archive_is_read_or_refused(bytes in damaged(&[&SAMPLE.archive])) {
        prop_assert_eq!(read_archive(&bytes), bytes == SAMPLE.archive);
    }

    /// Damage with the right checksum reaches the readers of headers, base files and blocks.
    #[test]
    fn an_archive_with_any_content_is_read_or_refused(
        at in any::<Index>(),
        body in damaged(&sample_chunks().into_iter().map(|(_, body)| body).collect::<Vec<_>>()),
    ) {
        let mut chunks = sample_chunks();
        at.get_mut(&mut chunks).1 = body;
        let mut writer = ChunkWriter::begin(Vec::new(), ContentCipher::default())?;
        for (kind, body) in chunks {
            writer.write_chunk(kind, &body)?;
        }
        read_archive(&writer.finish()?);
    }
}

proptest! {
    #![proptest_config(damage_cases(60))]

    #[test]
    fn a_store_with_a_damaged_file_is_read_or_refused(
        at in any::<Index>(),
        bytes in damaged(&SAMPLE.files.iter().map(|(_, bytes)| &bytes[..bytes.len().min(4_096)]).collect::<Vec<_>>()),
    ) {
        let folder = tempfile::tempdir()?;
        let (damaged, _) = at.get(&SAMPLE.files);
        for (path, whole) in &SAMPLE.files {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().expect("within the folder"))?;
            fs::write(path, whole)?;
        }
        fs::write(folder.path().join(damaged), bytes)?;
        let cipher = ContentCipher::default();
        let _ = verify_journal(folder.path(), &cipher, VerifiedPart::Everything);
    }
}
