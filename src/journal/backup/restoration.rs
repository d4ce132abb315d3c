//! Restore: writes the log of a new store from a full archive and its increments.
//!
//! ```text
//!  FORMAT            –              –                 new incarnation from the end on
//!  journal/          –              grows             whole
//!  after a crash     empty folder   refused by all    a store
//! ```

use std::fs;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use super::archive_header::ArchiveHeader;
use super::archive_reader::ArchiveReader;
use super::error::{ArchiveError, RestoreError};
use crate::event::IncarnationHistory;
use crate::journal::base_file::{BaseFileCopy, BaseReadError, open_base_file};
use crate::journal::content_cipher::ContentCipher;
use crate::journal::data_folder::DataFolder;
use crate::journal::disk::{Disk, LocalDisk};
use crate::journal::import::JournalImport;
use crate::journal::log_place::LogPlace;
use crate::journal::open_error::StoreOpenError;

/// Archive to restore from, under the name that the operator gave.
pub struct ArchiveInput {
    /// Name for errors, such as the path of a file.
    pub name: String,
    /// Bytes of the archive, read once.
    pub input: Box<dyn Read>,
}

/// Description of the store that was restored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestoreSummary {
    /// Place in the log at which the restored store goes on.
    pub end: LogPlace,
    /// Incarnations of the restored store; the newest one began with the restore.
    pub incarnations: IncarnationHistory,
}

struct NamedArchive {
    name: String,
    reader: ArchiveReader<Box<dyn Read>>,
}

/// Creates a store in `folder`, which must be empty or absent, from a full archive and its
/// increments, in order. `cipher` decrypts them and encrypts the store. Calls `on_progress` with the position after each written commit.
///
/// # Errors
/// [`RestoreError`]; the folder holds no store then.
pub fn restore_store(
    folder: &Path,
    archives: Vec<ArchiveInput>,
    cipher: &ContentCipher,
    segment_bytes: u64,
    on_progress: &mut dyn FnMut(u64),
) -> Result<RestoreSummary, RestoreError> {
    // All headers first: a wrong chain is refused before anything is written.
    let mut archives = open_archives(archives, cipher)?;
    let last = check_chain(&archives)?;
    let identity = last.identity.restored_at(last.end.position);
    let end = last.end;

    let data = DataFolder::create(folder, identity, cipher.clone())?;
    let restored = write_journal(&data, &mut archives, segment_bytes, on_progress)
        .and_then(|()| Ok(data.mark_initialized()?));
    if let Err(error) = restored {
        // A part of a journal must not look like a store. The first error is the one to report.
        let _ = fs::remove_dir_all(data.journal_path());
        return Err(error);
    }
    Ok(RestoreSummary {
        end,
        incarnations: data.incarnations().clone(),
    })
}

fn open_archives(
    archives: Vec<ArchiveInput>,
    cipher: &ContentCipher,
) -> Result<Vec<NamedArchive>, RestoreError> {
    let opened =
        archives.into_iter().map(|ArchiveInput { name, input }| {
            match ArchiveReader::open(input, cipher) {
                Ok(reader) => Ok(NamedArchive { name, reader }),
                Err(source) => Err(RestoreError::Archive {
                    archive: name,
                    source,
                }),
            }
        });
    opened.collect()
}

/// Checks that each archive continues the ones before it, and returns the header of the last.
fn check_chain(archives: &[NamedArchive]) -> Result<ArchiveHeader, RestoreError> {
    let mut before: Option<&ArchiveHeader> = None;
    for NamedArchive { name, reader } in archives {
        let header = reader.header();
        let archive = || name.clone();
        let expected = match before {
            None if !header.is_full => {
                return Err(RestoreError::NotFull {
                    archive: archive(),
                    first: header.first.position,
                });
            }
            // A full archive begins where its log does.
            None => header.first,
            Some(before) if !before.is_continued_by(header) => {
                return Err(RestoreError::OtherStore { archive: archive() });
            }
            Some(before) => before.end,
        };
        // An archive may hold again what is there, but nothing may be missing before it.
        if !header.first.is_reached_by(&expected) || !expected.is_reached_by(&header.end) {
            return Err(RestoreError::Gap {
                archive: archive(),
                expected: expected.position,
                found: header.first.position,
            });
        }
        before = Some(header);
    }
    Ok(before.expect("at least one archive is named").clone())
}

/// Error of a base file that is copied from an archive.
enum BaseCopyError {
    Archive(ArchiveError),
    Folder(StoreOpenError),
}

/// Writes the base file that the archive of `reader` holds, if it holds one. Returns the place at
/// which the log begins.
fn write_base(
    data: &DataFolder,
    reader: &mut ArchiveReader<Box<dyn Read>>,
) -> Result<LogPlace, BaseCopyError> {
    let folder = data.journal_path();
    let io = |source| {
        BaseCopyError::Folder(StoreOpenError::Io {
            path: folder.clone(),
            source,
        })
    };
    LocalDisk.create_folder(&folder).map_err(io)?;
    let mut copy = None;
    while let Some(part) = reader.next_base_part().map_err(BaseCopyError::Archive)? {
        if copy.is_none() {
            copy = Some(BaseFileCopy::create(&LocalDisk, &folder).map_err(io)?);
        }
        if let Some(copy) = &mut copy {
            copy.append(&part).map_err(io)?;
        }
    }
    if let Some(copy) = copy {
        copy.finish().map_err(io)?;
    }

    // Without the base file, what was derived from removed events would be missing.
    let identity = data.identity();
    let log_identity = (identity.incarnations.newest(), identity.checksum_seed);
    let base = open_base_file(&LocalDisk, &folder, log_identity).map_err(BaseCopyError::Folder)?;
    if let Some(base) = &base {
        let checked = base.check(identity.checksum_seed, data.cipher());
        checked.map_err(|error| {
            BaseCopyError::Archive(match error {
                BaseReadError::Encrypted(error) => error.into(),
                BaseReadError::Io { .. } | BaseReadError::Corrupt { .. } => {
                    ArchiveError::Damaged { offset: 0 }
                }
            })
        })?;
    }
    let begin = base.map_or(LogPlace::START, |base| base.start.place());
    match begin == reader.header().first {
        true => Ok(begin),
        false => Err(BaseCopyError::Archive(ArchiveError::Damaged { offset: 0 })),
    }
}

fn write_journal(
    data: &Arc<DataFolder>,
    archives: &mut [NamedArchive],
    segment_bytes: u64,
    on_progress: &mut dyn FnMut(u64),
) -> Result<(), RestoreError> {
    let disk = Arc::new(LocalDisk);
    let mut place = LogPlace::START;
    if let Some(NamedArchive { name, reader }) = archives.first_mut() {
        place = write_base(data, reader).map_err(|error| match error {
            BaseCopyError::Archive(source) => RestoreError::Archive {
                archive: name.clone(),
                source,
            },
            BaseCopyError::Folder(error) => error.into(),
        })?;
    }
    let mut import = JournalImport::create(data, disk, data.journal_path(), segment_bytes)?;
    for NamedArchive { name, reader } in archives {
        let error = |source| RestoreError::Archive {
            archive: name.clone(),
            source,
        };
        let mut commit = Vec::new();
        while let Some(block) = reader.next_block().map_err(error)? {
            let expected = block.number_at(&place);
            if block.next_number() <= expected {
                continue;
            }
            // Each archive ends between two commits, so no block is there in part.
            if block.number != expected {
                return Err(error(ArchiveError::Damaged { offset: 0 }));
            }
            block.advance_place(&mut place);
            let ends_commit = block.ends_commit;
            commit.push(block);
            if ends_commit {
                import.append_blocks(std::mem::take(&mut commit))?;
                on_progress(place.position.get());
            }
        }
        import.append_blocks(commit)?;
    }
    import.finish()?;
    Ok(())
}
