//! Segments: the files of the journal, and the blocks in them.

mod block;
mod header;
mod log_check;
mod log_snapshot;
mod open_log;
mod rewrite;
mod segment_set;
mod spare;
mod unused_bytes;
mod writer;

use super::disk::{Disk, DiskFile};

pub(super) use block::{Block, BlockBodyError, BlockContent, StoredBlock};
pub use log_check::LogDamage;
pub(super) use log_snapshot::{LogBlocks, LogSnapshot};
pub(super) use open_log::{LogFolder, OpenedLog, create_log, open_log};
pub use rewrite::SegmentRewriteError;
pub(super) use rewrite::{needs_rewrite, rewrite_segment};
pub(super) use segment_set::SegmentSet;
pub use segment_set::SegmentSummary;
pub(super) use writer::{SegmentWriter, SegmentWriterError};
