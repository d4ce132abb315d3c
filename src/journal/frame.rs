//! Frames: records of one commit that are stored in one block of a segment.
//!
//! ```text
//! body   committed_at i64 BE µs | count u32 BE | count × entry
//! entry  received_at i64 BE µs | length u32 BE | record
//! ```

use bytes::{Buf, BufMut, Bytes};

use crate::event::{Position, Timestamp};

/// Target size of a frame's body, in bytes: a read of one record decompresses one frame.
const BODY_TARGET_BYTES: usize = 24 * 1024;

const ENTRY_HEADER_BYTES: usize = 12;

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

    pub(super) fn encode_body(&self) -> Vec<u8> {
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

    /// Decodes the body of the frame that begins at `first`; `None` if it is malformed. Bodies of
    /// format 1 have the same layout.
    #[must_use]
    pub fn from_body(first: Position, mut body: Bytes) -> Option<Self> {
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::damaged_samples::{CHEAP, damage_cases, damaged};

    fn entry(size: usize, seed: u8) -> FrameEntry {
        FrameEntry {
            received_at: Timestamp::from_micros(i64::from(seed)),
            bytes: vec![seed; size].into(),
        }
    }

    #[test]
    fn the_bytes_of_a_frame_never_change() {
        let frame = JournalFrame {
            first: Position::new(7),
            committed_at: Timestamp::from_micros(2),
            entries: vec![entry(3, 0x20)],
        };
        let golden = "000000000000000200000001000000000000002000000003202020";
        assert_eq!(hex::encode(frame.encode_body()), golden);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn the_records_of_a_commit_are_read_back_in_frames_of_bounded_size(
            sizes in prop::collection::vec(prop_oneof![0_usize..2_000, 0_usize..60_000], 1..60),
            first in 1_u64..u64::MAX / 2,
        ) {
            let numbered = sizes.iter().enumerate();
            let entries: Vec<FrameEntry> =
                numbered.map(|(i, size)| entry(*size, i as u8)).collect();
            let frames =
                gather_frames(Position::new(first), Timestamp::from_micros(5), entries.clone());
            let all: Vec<FrameEntry> =
                frames.iter().flat_map(|frame| frame.entries.clone()).collect();
            prop_assert_eq!(all, entries);
            prop_assert!(frames.windows(2).all(|pair| pair[0].end() == pair[1].first));
            for frame in frames {
                let body = frame.encode_body();
                prop_assert!(frame.entries.len() == 1 || body.len() < 2 * BODY_TARGET_BYTES);
                prop_assert_eq!(JournalFrame::from_body(frame.first, body.into()), Some(frame));
            }
        }

    }

    proptest! {
        #![proptest_config(damage_cases(CHEAP))]

        #[test]
        fn any_frame_is_read_or_refused(body in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..60),
            damaged(&[hex::decode("000000000000000200000001000000000000002000000003202020").expect("hex")]),
        ]) {
            let _ = JournalFrame::from_body(Position::FIRST, body.into());
        }
    }
}
