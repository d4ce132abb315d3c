//! Import of records and table changes from elsewhere into a new journal, with their positions and
//! times.

use std::path::PathBuf;
use std::sync::Arc;

use super::commit_thread::encode_frames;
use super::data_folder::DataFolder;
use super::disk::Disk;
use super::frame::JournalFrame;
use super::open_error::StoreOpenError;
use super::segment::{self, Block, BlockContent, SegmentWriter, SegmentWriterError};
use super::table_changes::TableChanges;
use crate::event::Position;

/// Bytes after which the imported blocks are synced, because they are kept in memory until then.
const SYNC_BYTES: usize = 4 * 1024 * 1024;

/// Error that ends an import.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The journal could not be created.
    #[error(transparent)]
    Create(#[from] StoreOpenError),
    /// The journal could not be written.
    #[error("cannot write the imported journal in {}", folder.display())]
    Write {
        /// Folder of the new journal.
        folder: PathBuf,
        /// Error of the operating system.
        #[source]
        source: std::io::Error,
    },
    /// A frame does not continue the frames before it.
    #[error("the imported frame at position {found} does not follow position {expected}")]
    Gap {
        /// Position after the frames before it.
        expected: Position,
        /// First position of the frame.
        found: Position,
    },
}

/// New journal that is being filled.
pub struct JournalImport {
    folder: PathBuf,
    writer: SegmentWriter,
    unsynced_bytes: usize,
}

impl JournalImport {
    /// Creates a journal with the identity of `data` in `folder`, with segments of `segment_bytes`.
    ///
    /// # Errors
    /// [`ImportError`] when the folder cannot be written or holds events.
    pub fn create(
        data: &DataFolder,
        disk: Arc<dyn Disk>,
        folder: PathBuf,
        segment_bytes: u64,
    ) -> Result<Self, ImportError> {
        let log = segment::create_log(data, disk, folder.clone(), segment_bytes)?;
        Ok(Self {
            folder,
            writer: log.writer,
            unsynced_bytes: 0,
        })
    }

    /// Appends one commit of consecutive frames.
    ///
    /// # Errors
    /// [`ImportError`] when the frames do not continue the earlier ones, or cannot be written.
    pub fn append_frames(&mut self, frames: &[JournalFrame]) -> Result<(), ImportError> {
        let mut expected = self.writer.end_position();
        for frame in frames {
            let found = frame.first;
            if found != expected {
                return Err(ImportError::Gap { expected, found });
            }
            expected = frame.end();
        }
        let blocks = encode_frames(frames, self.writer.cipher());
        self.append_blocks(blocks)
    }

    /// Appends one group of table changes.
    ///
    /// # Errors
    /// [`ImportError`] when it cannot be written.
    pub fn append_changes(&mut self, changes: &TableChanges) -> Result<(), ImportError> {
        let number = self.writer.next_change();
        self.append_blocks(vec![Block::new(
            BlockContent::Changes,
            number,
            1,
            changes.encode(),
            self.writer.cipher(),
        )])
    }

    /// Syncs everything, after which the folder holds a complete journal.
    ///
    /// # Errors
    /// [`ImportError`] when it cannot be synced.
    pub fn finish(mut self) -> Result<(), ImportError> {
        self.sync()
    }

    /// Appends the blocks of one commit.
    ///
    /// # Errors
    /// [`ImportError`] when they cannot be written.
    pub(super) fn append_blocks(&mut self, blocks: Vec<Block>) -> Result<(), ImportError> {
        self.unsynced_bytes += blocks.iter().map(Block::stored_bytes).sum::<usize>();
        self.writer
            .append_commit(blocks)
            .map_err(|error| self.write_error(error))?;
        if self.unsynced_bytes >= SYNC_BYTES {
            self.sync()?;
        }
        Ok(())
    }

    fn sync(&mut self) -> Result<(), ImportError> {
        self.unsynced_bytes = 0;
        self.writer.sync().map_err(|error| self.write_error(error))
    }

    fn write_error(&self, error: SegmentWriterError) -> ImportError {
        ImportError::Write {
            folder: self.folder.clone(),
            source: error.into_io(),
        }
    }
}
