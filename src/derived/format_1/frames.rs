//! Frames of the journal as format 1 stored them: a commit, cut into small values.
//!
//! ```text
//! key    first position u64 BE | chunk u16 BE
//! value  format u8 = 1 | flags u8 | a chunk of the body
//! flags  1 = body is lz4 (u32 LE size first), 2 = last chunk of the frame, 4 = last of the commit
//! body   committed_at i64 BE µs | count u32 BE | count × entry
//! entry  received_at i64 BE µs | length u32 BE | record
//! ```

use super::error::FormerStoreError;
use super::joined_rows::FormerRow;
use crate::event::Position;
use crate::journal::JournalFrame;

/// Largest body that is decompressed, in bytes: a guard against corrupt sizes. Real bodies are far
/// smaller.
const BODY_MAX_BYTES: usize = 256 * 1024 * 1024;

const FORMAT: u8 = 1;
const HEADER_BYTES: usize = 2;

mod flag {
    pub(super) const LZ4: u8 = 1;
    pub(super) const FRAME_END: u8 = 2;
    pub(super) const COMMIT_END: u8 = 4;
}

/// Iterator over the commits in the stored rows of the journal.
pub(super) struct CommitReader<R> {
    rows: R,
    /// Position at which the next commit must begin; `None` before the first one.
    next: Option<Position>,
}

impl<R> CommitReader<R> {
    pub(super) fn new(rows: R) -> Self {
        Self { rows, next: None }
    }
}

impl<R: Iterator<Item = Result<FormerRow, FormerStoreError>>> Iterator for CommitReader<R> {
    type Item = Result<Vec<JournalFrame>, FormerStoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut chunks = Vec::new();
        loop {
            // The rows end inside a commit only if a crash cut it off.
            let row = match self.rows.next()? {
                Ok(row) => row,
                Err(error) => return Some(Err(error)),
            };
            let is_end = row
                .1
                .get(1)
                .is_some_and(|flags| flags & flag::COMMIT_END != 0);
            chunks.push(row);
            if is_end {
                return Some(self.decode_commit(&chunks));
            }
        }
    }
}

impl<R> CommitReader<R> {
    fn decode_commit(
        &mut self,
        chunks: &[FormerRow],
    ) -> Result<Vec<JournalFrame>, FormerStoreError> {
        let mut frames = Vec::new();
        for chunks in chunks.chunk_by(|a, b| first_position(&a.0) == first_position(&b.0)) {
            let first =
                first_position(&chunks[0].0).ok_or(FormerStoreError::MalformedRow("journal"))?;
            let frame = decode_frame(first, chunks.iter().map(|(_, value)| value.as_slice()))
                .filter(|_| first == self.next.unwrap_or(Position::FIRST))
                .ok_or(FormerStoreError::Broken(first.get()))?;
            self.next = Some(frame.end());
            frames.push(frame);
        }
        Ok(frames)
    }
}

/// Returns the first position from the key of a chunk; `None` if the key is malformed.
pub(super) fn first_position(key: &[u8]) -> Option<Position> {
    let (first, chunk) = key.split_first_chunk::<8>()?;
    (chunk.len() == 2).then(|| Position::new(u64::from_be_bytes(*first)))
}

/// Decodes a frame from its chunks in order; returns `None` if they are not one complete frame.
fn decode_frame<'c>(
    first: Position,
    chunks: impl IntoIterator<Item = &'c [u8]>,
) -> Option<JournalFrame> {
    let mut bytes = Vec::new();
    let mut flags = 0;
    for chunk in chunks {
        if flags & flag::FRAME_END != 0 || *chunk.first()? != FORMAT {
            return None;
        }
        flags = *chunk.get(1)?;
        bytes.extend_from_slice(&chunk[HEADER_BYTES..]);
    }

    if flags & flag::FRAME_END == 0 {
        return None;
    }
    if flags & flag::LZ4 != 0 {
        let size = u32::from_le_bytes(*bytes.first_chunk()?);
        if usize::try_from(size).ok()? > BODY_MAX_BYTES {
            return None;
        }
        bytes = lz4_flex::decompress_size_prepended(&bytes).ok()?;
    }
    JournalFrame::from_body(first, bytes.into())
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::event::Timestamp;
    use crate::journal::FrameEntry;

    type StoredRow = Result<FormerRow, FormerStoreError>;

    const PLAIN: &str = "010600000000000000020000000100000000000000010000000301203f";
    const PACKED: &str = "01071b000000120001005202000000010b009000010000000301203f";
    /// [`PLAIN`] as a frame that is not the last one of its commit.
    const NOT_LAST: &str = "010200000000000000020000000100000000000000010000000301203f";

    /// Row with a chunk of the frame that begins at `first`.
    fn row(first: u64, chunk: u16, value: &str) -> StoredRow {
        let key = [&first.to_be_bytes()[..], &chunk.to_be_bytes()].concat();
        Ok((key, hex::decode(value).expect("hex")))
    }

    /// Reads all commits; returns the first positions of the frames of each.
    fn read(rows: Vec<StoredRow>) -> Result<Vec<Vec<u64>>, String> {
        CommitReader::new(rows.into_iter())
            .map(|commit| {
                let frames = commit.map_err(|error| error.to_string())?;
                Ok(frames.iter().map(|frame| frame.first.get()).collect())
            })
            .collect()
    }

    #[test]
    fn frames_that_were_written_stay_readable() {
        let (begin, end) = PLAIN[4..].split_at(20);
        let forms = [
            vec![row(1, 0, PLAIN)],
            vec![row(1, 0, PACKED)],
            vec![
                row(1, 0, &format!("0100{begin}")),
                row(1, 1, &format!("0106{end}")),
            ],
        ];
        let expected = JournalFrame {
            first: Position::FIRST,
            committed_at: Timestamp::from_micros(2),
            entries: vec![FrameEntry {
                received_at: Timestamp::from_micros(1),
                bytes: Bytes::from_static(&[0x01, 0x20, 0x3f]),
            }],
        };
        for rows in forms {
            let commits: Result<Vec<_>, _> = CommitReader::new(rows.into_iter()).collect();
            assert_eq!(commits.expect("whole"), [vec![expected.clone()]]);
        }
    }

    #[test]
    fn a_commit_that_a_crash_cut_off_is_left_out() {
        let whole = || vec![row(1, 0, PLAIN), row(2, 0, NOT_LAST), row(3, 0, PLAIN)];
        assert_eq!(read(whole()), Ok(vec![vec![1], vec![2, 3]]));
        let begun_frame = row(5, 0, "0100000000");
        let ends = [
            vec![],
            vec![row(4, 0, NOT_LAST)],
            vec![row(4, 0, NOT_LAST), begun_frame],
        ];
        for end in ends {
            let rows = whole().into_iter().chain(end).collect();
            assert_eq!(read(rows), Ok(vec![vec![1], vec![2, 3]]));
        }
    }

    #[test]
    fn a_frame_that_is_missing_or_damaged_is_an_error() {
        let damages = [
            (2, vec![row(2, 0, PLAIN)]),
            (3, vec![row(1, 0, PLAIN), row(3, 0, PLAIN)]),
            (2, vec![row(1, 0, PLAIN), row(2, 0, &PLAIN[..40])]),
            (
                2,
                vec![row(1, 0, PLAIN), row(2, 0, NOT_LAST), row(2, 1, PLAIN)],
            ),
            (1, vec![row(1, 0, &PLAIN.replacen("01", "02", 1))]),
            (
                1,
                vec![row(1, 0, &PACKED.replacen("1b000000", "ffffffff", 1))],
            ),
        ];
        for (position, rows) in damages {
            let error = read(rows).expect_err("damaged");
            assert!(
                error.contains(&format!("broken at position {position};")),
                "{error}"
            );
        }
    }
}
