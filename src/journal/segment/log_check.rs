//! Check of a log in its files, by reading only: reports each damaged place and changes nothing.

use std::path::PathBuf;
use std::sync::Arc;

use super::block::{BlockReader, StoredBlock};
use super::header::{HEADER_BYTES, SegmentHeader};
use super::log_snapshot::SegmentWalk;
use super::open_log::{LogFolder, TailScan};
use super::segment_set::{Segment, SegmentSet};
use super::unused_bytes::has_content;
use crate::event::Position;
use crate::journal::StoreOpenError;
use crate::journal::log_place::LogPlace;
use crate::journal::submission::JournalReadError;

/// Number of times that the end of a log is read again because a node is writing to it.
const TAIL_READS: u32 = 20;

/// Place in a file of the journal that is not what was written there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogDamage {
    /// Path of the damaged segment.
    pub file: PathBuf,
    /// Offset of the first damaged bytes.
    pub offset: u64,
    /// Position of the first record that cannot be read.
    pub position: Position,
    /// First position behind the damage that can be read again; `None` if there is none.
    pub readable_from: Option<Position>,
    /// Problem in words, such as `a block is damaged`.
    pub problem: &'static str,
}

/// Result of reading a log.
pub(in crate::journal) struct LogCheck {
    pub(in crate::journal) segments: Arc<SegmentSet>,
    pub(in crate::journal) damage: Vec<LogDamage>,
    /// Place after the last whole commit.
    pub(in crate::journal) end: LogPlace,
    /// Offset of an incomplete commit in the newest segment.
    pub(in crate::journal) torn_tail: Option<(PathBuf, u64)>,
}

impl LogFolder {
    /// Checks the newest segment, and each earlier one if `reads_all`. Calls `visit` with each
    /// block that was read; it returns a problem if the content of the block has none of the forms
    /// that this program writes.
    ///
    /// # Errors
    /// [`StoreOpenError`] when the list of segments is not whole.
    pub(in crate::journal) fn check(
        &self,
        reads_all: bool,
        visit: &mut dyn FnMut(&StoredBlock) -> Option<&'static str>,
    ) -> Result<LogCheck, StoreOpenError> {
        let (headers, _) = self.read_headers(None, self.read_start()?)?;
        let last = *headers.last().ok_or_else(|| self.no_journal())?;
        let (scan, is_damaged) = self.read_tail(&last)?;

        let ends = headers.iter().skip(1).map(|next| next.previous_end);
        let ends = ends.chain([scan.end.offset]);
        let segments = headers.iter().zip(ends).map(|(header, end)| {
            let is_newest = header.number == last.number;
            let end = if is_newest {
                end
            } else {
                self.segment_end(header, end)?
            };
            Ok(self.segment(*header, end))
        });
        let segments = segments.collect::<Result<Vec<_>, StoreOpenError>>()?;
        let set = SegmentSet::new(
            Arc::clone(&self.disk),
            self.seed,
            self.cipher.clone(),
            segments.clone(),
        );

        let mut damage = Vec::new();
        // An empty newest segment says nothing about the content.
        let is_empty = scan.end.offset == HEADER_BYTES;
        let newest = segments.len() - 1;
        let first = match reads_all {
            true => 0,
            false => newest.saturating_sub(usize::from(is_empty)),
        };
        for (index, segment) in segments.iter().enumerate().skip(first) {
            let next = headers.get(index + 1);
            damage.extend(check_segment(&set, segment, next, visit)?);
        }
        if is_damaged {
            damage.push(LogDamage {
                file: segments[segments.len() - 1].path().to_owned(),
                offset: scan.torn_at,
                position: scan.torn_position,
                readable_from: None,
                problem: "a block is damaged that was synced before later ones",
            });
        }

        let newest = &segments[segments.len() - 1];
        let file = self.open_file(last.number)?;
        let is_torn = !is_damaged
            && has_content(file.as_ref(), scan.end.offset)
                .map_err(|source| self.io_error(newest.path(), source))?;
        Ok(LogCheck {
            segments: Arc::new(set),
            damage,
            end: LogPlace {
                position: scan.end.position,
                change: scan.end.change,
            },
            torn_tail: is_torn.then(|| (newest.path().to_owned(), scan.end.offset)),
        })
    }

    /// Reads the newest segment to its end. Returns `true` if the end is damaged, not torn.
    fn read_tail(&self, header: &SegmentHeader) -> Result<(TailScan, bool), StoreOpenError> {
        let file = self.open_file(header.number)?;
        let path = self.segment(*header, HEADER_BYTES).path().to_owned();
        let io = |source| self.io_error(&path, source);
        let mut scan = self.scan_tail(&file, header, None).map_err(io)?;
        for _ in 1..TAIL_READS {
            let mut reader = BlockReader::new(Arc::clone(&file), self.seed);
            if !reader.has_later_synced_block(scan.torn_at).map_err(io)? {
                return Ok((scan, false));
            }
            // A running node may have completed the block since it was read.
            let again = self.scan_tail(&file, header, None).map_err(io)?;
            if again.torn_at == scan.torn_at {
                return Ok((again, true));
            }
            scan = again;
        }
        Ok((scan, false))
    }
}

/// Reads `segment` up to the first damage, and compares its end with the header of the `next` one.
fn check_segment(
    set: &SegmentSet,
    segment: &Arc<Segment>,
    next: Option<&SegmentHeader>,
    visit: &mut dyn FnMut(&StoredBlock) -> Option<&'static str>,
) -> Result<Option<LogDamage>, StoreOpenError> {
    let damage = |offset, position, problem| LogDamage {
        file: segment.path().to_owned(),
        offset,
        position,
        readable_from: next.map(|next| next.first_position),
        problem,
    };
    let mut walk = match SegmentWalk::open(set, segment.header()) {
        Ok(walk) => walk,
        Err(error) => return Ok(Some(damage_of(error, damage)?)),
    };
    loop {
        match walk.next_block() {
            Ok(Some(stored)) => {
                if let Some(problem) = visit(&stored) {
                    let position = Position::new(stored.block.number);
                    return Ok(Some(damage(stored.offset, position, problem)));
                }
            }
            Ok(None) => break,
            Err(error) => return Ok(Some(damage_of(error, damage)?)),
        }
    }

    let Some(next) = next else { return Ok(None) };
    let place = walk.place();
    let is_continued = next.first_position == place.position
        && next.first_change == place.change
        // The next header names the checksum of the original, not of a rewritten segment.
        && (segment.header().generation > 0 || next.previous_checksum == walk.checksum());
    Ok((!is_continued).then(|| {
        let problem = "the next segment does not continue this one";
        damage(walk.offset(), place.position, problem)
    }))
}

/// Tells damage from an error of the operating system.
fn damage_of(
    error: JournalReadError,
    damage: impl FnOnce(u64, Position, &'static str) -> LogDamage,
) -> Result<LogDamage, StoreOpenError> {
    match error {
        JournalReadError::Corrupt {
            offset, position, ..
        } => Ok(damage(offset, position, "a block is damaged")),
        other => Err(other.into()),
    }
}
