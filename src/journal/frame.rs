//! Frames: the encoding of a commit, cut into values so small that sled never puts them into blob
//! files.
//!
//! ```text
//! key    first position u64 BE | chunk u16 BE
//! value  format u8 = 1 | flags u8 | a chunk of the body, at most 12 KiB in all
//! flags  1 = body is lz4 (u32 LE size first), 2 = last chunk of the frame, 4 = last of the commit
//! body   committed_at i64 BE µs | count u32 BE | count × entry
//! entry  received_at i64 BE µs | length u32 BE | record
//! ```
//!
//! A commit is one or more frames at increasing positions. A commit without its last chunk was
//! never acknowledged.

use bytes::{Buf, BufMut, Bytes};

use crate::event::{Position, Timestamp};

/// Largest value in any tree, in bytes. sled moves page images larger than a quarter of a segment
/// into blob files, which it never syncs. Pages split by item count, so only small values keep
/// pages small.
pub const VALUE_MAX_BYTES: usize = 12 * 1024;

/// Target size of a frame's body, in bytes. Compressed, that is about one value.
const BODY_TARGET_BYTES: usize = 24 * 1024;

/// Largest body that is decompressed, in bytes: a guard against corrupt sizes. A record contains at
/// most a request body and the decision on it, so real bodies are far smaller.
const BODY_MAX_BYTES: usize = 256 * 1024 * 1024;

const FORMAT: u8 = 1;
const HEADER_BYTES: usize = 2;
const ENTRY_HEADER_BYTES: usize = 12;

mod flag {
    pub(super) const LZ4: u8 = 1;
    pub(super) const FRAME_END: u8 = 2;
    pub(super) const COMMIT_END: u8 = 4;
}

/// Encoded record of a frame, with its receive time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FrameEntry {
    /// Receive time of the event's request; never goes backwards along the journal.
    pub received_at: Timestamp,
    /// Encoded form of a [`Record`](crate::event::Record).
    pub bytes: Bytes,
}

/// Consecutive records of one commit that are stored together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JournalFrame {
    /// Position of the first record.
    pub first: Position,
    /// Time at which the commit was written.
    pub committed_at: Timestamp,
    /// Records in order; at least one.
    pub entries: Vec<FrameEntry>,
}

impl JournalFrame {
    /// Returns the position after the last record.
    #[must_use]
    pub fn end(&self) -> Position {
        self.first.plus(self.entries.len() as u64)
    }

    /// Returns the record at `position`, if this frame contains it.
    #[must_use]
    pub fn entry(&self, position: Position) -> Option<&FrameEntry> {
        let index = position.get().checked_sub(self.first.get())?;
        self.entries.get(usize::try_from(index).ok()?)
    }

    /// Returns the approximate memory use of the frame, in bytes.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.entries
            .iter()
            .map(|entry| entry.bytes.len() + 64)
            .sum()
    }

    fn encode_body(&self) -> Vec<u8> {
        let size: usize = self
            .entries
            .iter()
            .map(|entry| ENTRY_HEADER_BYTES + entry.bytes.len())
            .sum();
        let mut body = Vec::with_capacity(size + ENTRY_HEADER_BYTES);
        body.put_i64(self.committed_at.as_micros());
        body.put_u32(
            u32::try_from(self.entries.len()).expect("a commit holds far fewer than 2^32 records"),
        );
        for entry in &self.entries {
            body.put_i64(entry.received_at.as_micros());
            body.put_u32(
                u32::try_from(entry.bytes.len()).expect("a record is bounded by the request body"),
            );
            body.put_slice(&entry.bytes);
        }
        body
    }

    fn from_body(first: Position, mut body: Bytes) -> Option<Self> {
        let committed_at = Timestamp::from_micros(body.try_get_i64().ok()?);
        let count = body.try_get_u32().ok()?;
        let mut entries = Vec::new();
        for _ in 0..count {
            let received_at = Timestamp::from_micros(body.try_get_i64().ok()?);
            let length = usize::try_from(body.try_get_u32().ok()?).ok()?;
            if length > body.len() {
                return None;
            }
            entries.push(FrameEntry {
                received_at,
                bytes: body.split_to(length),
            });
        }
        (body.is_empty() && !entries.is_empty()).then_some(Self {
            first,
            committed_at,
            entries,
        })
    }
}

/// Returns the key of chunk number `chunk` of the frame that begins at `first`.
pub(super) fn chunk_key(first: Position, chunk: u16) -> [u8; 10] {
    let mut key = [0; 10];
    key[..8].copy_from_slice(&first.get().to_be_bytes());
    key[8..].copy_from_slice(&chunk.to_be_bytes());
    key
}

/// Returns the first position from a key of [`chunk_key`]; `None` if the key is malformed.
pub(super) fn first_position(key: &[u8]) -> Option<Position> {
    let (first, chunk) = key.split_first_chunk::<8>()?;
    (chunk.len() == 2).then(|| Position::new(u64::from_be_bytes(*first)))
}

/// Returns `true` if the value is the last chunk of its commit.
pub(super) fn ends_commit(value: &[u8]) -> bool {
    value
        .get(1)
        .is_some_and(|flags| flags & flag::COMMIT_END != 0)
}

/// Groups the records of one commit into frames.
pub(super) fn gather_frames(
    first: Position,
    committed_at: Timestamp,
    entries: Vec<FrameEntry>,
) -> Vec<JournalFrame> {
    let mut frames: Vec<JournalFrame> = Vec::new();
    let mut room = 0;
    let mut next = first;
    for entry in entries {
        let size = ENTRY_HEADER_BYTES + entry.bytes.len();
        match frames.last_mut() {
            Some(frame) if size <= room => {
                room -= size;
                frame.entries.push(entry);
            }
            _ => {
                room = BODY_TARGET_BYTES.saturating_sub(size);
                frames.push(JournalFrame {
                    first: next,
                    committed_at,
                    entries: vec![entry],
                });
            }
        }
        next = next.plus(1);
    }
    frames
}

/// Encodes `frames`, which are one whole commit, as keys and values.
pub(super) fn encode_frames(frames: &[JournalFrame]) -> Vec<([u8; 10], Vec<u8>)> {
    let mut values = Vec::new();
    for frame in frames {
        let body = frame.encode_body();
        let packed = lz4_flex::compress_prepend_size(&body);
        let (bytes, lz4) = if packed.len() < body.len() {
            (packed, flag::LZ4)
        } else {
            (body, 0)
        };
        let mut chunks = bytes
            .chunks(VALUE_MAX_BYTES - HEADER_BYTES)
            .zip(0_u16..)
            .peekable();
        while let Some((part, chunk)) = chunks.next() {
            let end = if chunks.peek().is_none() {
                flag::FRAME_END
            } else {
                0
            };
            let mut value = Vec::with_capacity(HEADER_BYTES + part.len());
            value.extend_from_slice(&[FORMAT, lz4 | end]);
            value.extend_from_slice(part);
            values.push((chunk_key(frame.first, chunk), value));
        }
    }
    if let Some((_, value)) = values.last_mut() {
        value[1] |= flag::COMMIT_END;
    }
    values
}

/// Decodes a frame from its chunks in order; returns `None` if they are not one complete frame.
pub(super) fn decode_frame<V: AsRef<[u8]>>(
    first: Position,
    chunks: impl IntoIterator<Item = V>,
) -> Option<JournalFrame> {
    let mut bytes = Vec::new();
    let mut flags = 0;
    for chunk in chunks {
        let chunk = chunk.as_ref();
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
    use proptest::prelude::*;

    use super::*;

    fn entry(size: usize, seed: u8) -> FrameEntry {
        // A cheap generator: the bytes must differ by position, so that a lost chunk is noticed.
        let bytes: Vec<u8> = (0..size)
            .map(|i| (i as u8).wrapping_mul(31).wrapping_add(seed) ^ (i >> 7) as u8)
            .collect();
        FrameEntry {
            received_at: Timestamp::from_micros(i64::from(seed)),
            bytes: bytes.into(),
        }
    }

    fn read_back(values: &[([u8; 10], Vec<u8>)]) -> Vec<JournalFrame> {
        values
            .chunk_by(|a, b| a.0[..8] == b.0[..8])
            .map(|group| {
                let first = first_position(&group[0].0).expect("a frame's key");
                decode_frame(first, group.iter().map(|(_, value)| value)).expect("a whole frame")
            })
            .collect()
    }

    /// Only reading is tested: another version of lz4 may compress the same body differently.
    #[test]
    fn frames_that_were_written_stay_readable() {
        let frames = gather_frames(
            Position::new(7),
            Timestamp::from_micros(2),
            vec![entry(3, 1)],
        );
        assert_eq!(
            hex::encode(encode_frames(&frames)[0].0),
            "00000000000000070000"
        );
        let plain = "010600000000000000020000000100000000000000010000000301203f";
        let packed = "01071b000000120001005202000000010b009000010000000301203f";
        for stored in [plain, packed] {
            let value = hex::decode(stored).expect("hex");
            assert_eq!(
                decode_frame(Position::new(7), [value]).as_ref(),
                frames.first(),
                "{stored}"
            );
        }
    }

    #[test]
    fn a_frame_without_its_last_chunk_is_not_read() {
        let frames = gather_frames(
            Position::FIRST,
            Timestamp::default(),
            vec![entry(100_000, 3)],
        );
        let values = encode_frames(&frames);
        assert!(values.len() > 1, "the record spans several values");
        assert_eq!(
            decode_frame(
                Position::FIRST,
                values[..values.len() - 1].iter().map(|(_, value)| value)
            ),
            None
        );
        assert!(ends_commit(&values[values.len() - 1].1));
        assert!(
            values[..values.len() - 1]
                .iter()
                .all(|(_, value)| !ends_commit(value))
        );
    }

    #[test]
    fn keys_sort_as_their_positions_do() {
        let keys = [
            chunk_key(Position::new(1), 0),
            chunk_key(Position::new(1), 9),
            chunk_key(Position::new(2), 0),
            chunk_key(Position::new(300), 0),
        ];
        assert!(keys.is_sorted());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn a_commit_is_read_back_as_it_was_and_no_value_is_too_large(
            sizes in prop::collection::vec(prop_oneof![0_usize..2_000, 0_usize..60_000], 1..60),
            first in 1_u64..u64::MAX / 2,
        ) {
            let numbered = sizes.iter().enumerate();
            let entries: Vec<FrameEntry> =
                numbered.map(|(i, size)| entry(*size, i as u8)).collect();
            let committed_at = Timestamp::from_micros(5);
            let frames = gather_frames(Position::new(first), committed_at, entries.clone());
            let values = encode_frames(&frames);
            prop_assert!(values.iter().all(|(_, value)| value.len() <= VALUE_MAX_BYTES));
            prop_assert!(values.is_sorted_by(|a, b| a.0 < b.0));
            prop_assert_eq!(read_back(&values), frames.clone());
            let all: Vec<FrameEntry> =
                frames.iter().flat_map(|frame| frame.entries.clone()).collect();
            prop_assert_eq!(all, entries);
            prop_assert!(frames.windows(2).all(|pair| pair[0].end() == pair[1].first));
        }

        #[test]
        fn arbitrary_bytes_never_panic(
            chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..60), 0..4),
        ) {
            let _ = decode_frame(Position::FIRST, chunks);
        }
    }
}
